/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostile_cve_qemu.c - what QEMU's server was found vulnerable to, by number; see
 * hostile_cve_nbdkit.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/wire/hostile.h"
#include "tests/wire/server.h"
#include "tests/wire/wire.h"

/* Port scanners: they connect, say nothing or something else, and go. */
static void cve_2017_9524_port_scan(void)
{
	static const char *const says[] = {
		"", "GET / HTTP/1.0\r\n\r\n", "\x16\x03\x01\x02",
		"SSH-2.0-scan\r\n", "NBDMAGIC", "\n",
	};
	const size_t nr = sizeof(says) / sizeof(*says);

	for (unsigned int i = 0; i < 300; i++) {
		struct conn *c = connect_tcp();

		step("scan %u", i);
		try_send(c, says[i % nr], strlen(says[i % nr]));
		if (i % 4 == 0)
			conn_reset(c);
		else if (i % 4 == 1)
			conn_close(c);
		else
			shutdown(c->fd, i % 4 == 2 ? SHUT_WR : SHUT_RDWR);
	}
	good_client();
}

/* Data that nobody asked for, while the server waits to be rid of its own. */
static void cve_2017_7539_data_in_the_middle_of_negotiation(void)
{
	uint8_t flood[16 * 64];

	for (unsigned int i = 0; i < 64; i++) {
		put64(flood + 16 * i, IHAVEOPT);
		put32(flood + 16 * i + 8, OPT_LIST);
		put32(flood + 16 * i + 12, 0);
	}
	for (unsigned int i = 0; i < 30; i++) {
		struct conn *c = i % 2 ? connect_tcp() : conn_connect();

		step("round %u", i);
		if (i % 3)
			greet(c, HS_FIXED_NEWSTYLE | HS_NO_ZEROES);
		for (unsigned int k = 0; k < 8; k++)
			if (try_send(c, flood, sizeof(flood) - i))
				break;
		if (i % 4 < 2)
			conn_reset(c);
		else
			conn_close(c);
	}
	good_client();
}

/* Replies to somebody who is gone raise SIGPIPE. */
static void cve_2017_10664_replies_to_a_client_that_is_gone(void)
{
	for (unsigned int i = 0; i < 30; i++) {
		struct conn *c = hello();

		for (unsigned int k = 0; k < 20; k++)
			option_header(c, OPT_LIST, 0);
		conn_close(c);
		c = open_default(i % 2 ? OPEN_SR : OPEN_PLAIN);
		for (unsigned int k = 0; k < 32; k++) {
			struct request rq = {
				.type = CMD_READ, .len = 1 * MIB,
			};

			request_send(c, &rq);
		}
		conn_close(c);
	}
	good_client();
}

/* Names longer than somebody's buffer. */
static void cve_2017_15118_long_names_in_every_option(void)
{
	static const size_t lens[] = {
		255, 256, 257, 511, 512, 1023, 1024, 1025, 2048, 4095, 4096,
		4097, 8192, 60000,
	};
	char *name = row_alloc(60001);
	uint8_t *data = row_alloc(70000);

	memset(name, 'n', 60000);
	for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
		struct conn *c = hello();

		step("names of %zu", lens[i]);
		name[lens[i]] = '\0';
		for (uint32_t opt = OPT_INFO; opt <= OPT_GO; opt++)
			if (option(c, opt, data,
				   info_data(data, name, lens[i], NULL, 0)) ==
			    REP_ACK)
				fail("option %u succeeded", opt);
		option(c, OPT_STRUCTURED_REPLY, NULL, 0);
		for (uint32_t opt = OPT_LIST_META_CONTEXT;
		     opt <= OPT_SET_META_CONTEXT; opt++)
			if (option(c, opt, data,
				   meta_data(data, name, NULL, 0)) == REP_ACK)
				fail("option %u succeeded", opt);
		in_sync(c);
		option_send(c, OPT_EXPORT_NAME, name, lens[i]);
		expect_close(c);
		name[lens[i]] = 'n';
		conn_close(c);
	}
	good_client();
}

/* A flood of options as large as is allowed. */
static void cve_2017_15119_flood_of_large_options_is_cut_off(void)
{
	uint8_t *data = row_alloc(16 + 65536);
	struct conn *c = hello();
	unsigned int sent;
	uint8_t reply[20 + NAME_MAX_LEN];

	put64(data, IHAVEOPT);
	put32(data + 8, 4711);
	put32(data + 12, 65536);
	for (sent = 0; sent < 2000; sent++) {
		if (try_send(c, data, 16 + 65536) ||
		    try_recv(c, reply, 20) != 1)
			break;
		if (get32(reply + 16) > NAME_MAX_LEN)
			fatal("error text of %u bytes", get32(reply + 16));
		if (try_recv(c, reply + 20, get32(reply + 16)) < 0)
			break;
	}
	if (sent == 2000)
		fail("2000 options of 64 KiB were taken");
	good_client();
}

/* The client's name came back in an error text longer than one may be. */
static void cve_2020_10761_error_text_is_short_whatever_the_name(void)
{
	static const size_t lens[] = { 1, 255, 3000, 4000, 4095, 4096, 4097 };
	char *name = row_alloc(NAME_MAX_LEN + 2);
	uint8_t *data = row_alloc(2 * NAME_MAX_LEN + 64);
	struct conn *c = hello();

	option(c, OPT_STRUCTURED_REPLY, NULL, 0);
	for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
		for (uint32_t opt = OPT_INFO; opt <= OPT_SET_META_CONTEXT;
		     opt++) {
			size_t len;

			if (opt == OPT_STRUCTURED_REPLY)
				continue;
			memset(name, '%', lens[i]);
			name[lens[i]] = '\0';
			len = opt <= OPT_GO ?
				info_data(data, name, lens[i], NULL, 0) :
				meta_data(data, name, NULL, 0);
			step("option %u, a name of %zu", opt, lens[i]);
			expect_rep_or(option(c, opt, data, len),
				      REP_ERR_UNKNOWN, REP_ERR_INVALID);
			if (c->err_len > NAME_MAX_LEN)
				fail("a text of %u bytes", c->err_len);
		}
	}
	in_sync(c);
	good_client();
}

/* The server is stopped while strangers sit there; and there may only be so
 * many of them.  That they have ten seconds is seen by hostile_crowd.c. */
static void cve_2024_7409_stop_among_clients_that_never_negotiate(void)
{
	static const char *const args[] = {
		"--max-connections", "41",
		"--export", "name=rw,path=@a.img", NULL
	};
	struct server *s = row_server(args);
	struct conn *c, *last = NULL;
	int status;

	for (unsigned int i = 0; i < 40; i++) {
		c = last = conn_connect();
		if (i % 2)
			greet(c, HS_FIXED_NEWSTYLE | HS_NO_ZEROES);
		if (i % 4 == 3)
			conn_send(c, "IHAVE", 5);
	}
	good_client();
	step("one more than there may be");
	c = hello();
	expect_close(conn_connect());
	conn_close(c);
	conn_close(last);
	step("the server is stopped");
	status = server_stop(s, true);
	if (status)
		fail("exit status %d", status);
}

const struct row hostile_cve_qemu[] = {
	ROW(60, cve_2017_9524_port_scan, 0),
	ROW(61, cve_2017_7539_data_in_the_middle_of_negotiation, 0),
	ROW(62, cve_2017_10664_replies_to_a_client_that_is_gone, 0),
	ROW(63, cve_2017_15118_long_names_in_every_option, 0),
	ROW(64, cve_2017_15119_flood_of_large_options_is_cut_off, 0),
	ROW(65, cve_2020_10761_error_text_is_short_whatever_the_name, 0),
	ROW(66, cve_2024_7409_stop_among_clients_that_never_negotiate, 0),
	ROW_END
};
