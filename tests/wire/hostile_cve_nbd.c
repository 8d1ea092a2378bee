/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostile_cve_nbd.c - what nbd-server was found vulnerable to, by number; see
 * hostile_cve_nbdkit.c.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/wire/hostile.h"
#include "tests/wire/server.h"
#include "tests/wire/wire.h"

/* And CVE-2013-7441: negotiation ended the server's parent process. */
static void cve_2011_1925_early_end_or_bad_name_ends_nobody_else(void)
{
	static const char *const names[] = {
		"no-such", "", "../rw", "rw/", "RW", "rw\n", "/etc/passwd",
	};
	const size_t nr = sizeof(names) / sizeof(*names);
	struct conn *good = open_default(OPEN_SR), *c;

	for (unsigned int i = 0; i < 100; i++) {
		const char *name = names[i % nr];

		step("EXPORT_NAME \"%s\"", name);
		c = conn_connect();
		greet(c, i % 2 ? HS_FIXED_NEWSTYLE | HS_NO_ZEROES : 0);
		option_send(c, OPT_EXPORT_NAME, name, strlen(name));
		/* The empty name is that of the default export. */
		if (*name)
			expect_close(c);
		conn_close(c);
		c = conn_connect();
		greet(c, i % 2 ? HS_FIXED_NEWSTYLE : 0);
		if (i % 3)
			conn_send(c, "IHAVEOPT", i % 3 * 3);
		conn_close(c);
	}
	alive(good);
	good_client();
}

/* Is an address that this client has let in to "rw"? */
static bool is_let_in(const char *from)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET,
		.sin_port = htons(strtoul(env.tcp_port, NULL, 10)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	}, me = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct conn *c;
	uint32_t rep;

	inet_pton(AF_INET, from, &me.sin_addr);
	if (fd < 0 || bind(fd, (struct sockaddr *)&me, sizeof(me)) < 0 ||
	    connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		fatal("cannot connect from %s: %s", from, strerror(errno));
	c = conn_adopt(fd);
	greet(c, HS_FIXED_NEWSTYLE | HS_NO_ZEROES);
	rep = option_info(c, OPT_GO, "rw");
	if (rep != REP_ACK && rep != REP_ERR_UNKNOWN)
		fail("GO got %s", rep_name(rep));
	conn_close(c);
	return rep == REP_ACK;
}

/* 127.0.0.1 was a prefix of 127.0.0.10, as text. */
static void cve_2013_6410_addresses_are_not_compared_as_text(void)
{
	static const char *const args[] = {
		"-b", "127.0.0.1:0",
		"--export", "name=rw,path=@a.img,allow=127.0.0.1,"
			    "allow=127.0.1.16/28", NULL
	};
	static const struct {
		const char	*from;
		bool		in;
	} cases[] = {
		{ "127.0.0.1", true }, { "127.0.0.10", false },
		{ "127.0.0.11", false }, { "127.0.0.100", false },
		{ "127.0.1.15", false }, { "127.0.1.16", true },
		{ "127.0.1.31", true }, { "127.0.1.32", false },
		{ "127.0.1.1", false }, { "127.0.1.161", false },
	};

	row_server(args);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		step("a client from %s", cases[i].from);
		if (is_let_in(cases[i].from) != cases[i].in)
			fail("it was %s", cases[i].in ? "kept out" : "let in");
	}
	step("a unix socket");
	expect_rep(option_info(hello(), OPT_GO, "rw"), REP_ERR_UNKNOWN);
}

/* A handler that did what no handler may.  SIGHUP rereads the keys. */
static void cve_2015_0847_a_storm_of_signals_breaks_nothing(void)
{
	struct server *s = psk_server("on");
	struct conn *c = open_default(OPEN_SR);
	int status;

	for (unsigned int i = 0; i < 100; i++) {
		step("round %u", i);
		for (unsigned int k = 0; k < 10; k++)
			kill(s->pid, SIGHUP);
		fill(c, i * 4096, 4096, i);
		expect_bytes(c, i * 4096, 4096, i);
		if (i % 20 == 0)
			good_tls_client();
	}
	good_client();
	for (unsigned int k = 0; k < 50; k++)
		kill(s->pid, SIGHUP);
	conn_close(c);
	status = server_stop(s, true);
	if (status)
		fail("exit status %d", status);
}

/* The length of a name plus one was nothing. */
static void cve_2022_26495_name_of_4_gib(void)
{
	static const uint32_t lens[] = {
		0xffffffff, 0xfffffffe, 0xfffffffa, 0x80000000, 0x7fffffff,
		0x10000, 4097, 11, 7,
	};
	struct conn *c = hello();
	uint8_t data[12];

	memset(data, 'n', sizeof(data));
	expect_rep(option(c, OPT_STRUCTURED_REPLY, NULL, 0), REP_ACK);
	for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
		step("a name of %#x", lens[i]);
		put32(data, lens[i]);
		for (uint32_t opt = OPT_INFO; opt <= OPT_SET_META_CONTEXT;
		     opt++)
			if (opt != OPT_STRUCTURED_REPLY)
				expect_rep(option(c, opt, data, sizeof(data)),
					   REP_ERR_INVALID);
	}
	in_sync(c);
	good_client();
}

/* Whatever was longer than 1 KiB was on somebody's stack. */
static void cve_2022_26496_long_bodies_of_info_and_go(void)
{
	static const unsigned int nrs[] = {
		500, 509, 510, 511, 512, 2048, 32000, 32700,
	};
	uint16_t *infos = row_alloc(32700 * sizeof(*infos));
	uint8_t *data = row_alloc(70000);
	struct conn *c = hello();

	for (size_t i = 0; i < sizeof(nrs) / sizeof(*nrs); i++) {
		size_t len;

		for (unsigned int k = 0; k < nrs[i]; k++)
			infos[k] = k % 7 ? k : INFO_BLOCK_SIZE;
		len = info_data(data, "rw", 2, infos, nrs[i]);
		step("INFO that asks for %u things", nrs[i]);
		expect_rep(option(c, OPT_INFO, data, len), REP_ACK);
		step("GO with one byte too many");
		expect_rep(option(c, OPT_GO, data, len + 1), REP_ERR_INVALID);
		step("GO of an export that is not there");
		len = info_data(data, "no-such", 7, infos, nrs[i]);
		expect_rep(option(c, OPT_GO, data, len), REP_ERR_UNKNOWN);
		in_sync(c);
	}
	expect_rep(option_info(c, OPT_GO, "rw"), REP_ACK);
	alive(c);
	good_client();
}

/* A client that is gone without a word was read from for ever. */
static void nbd_7a64238_end_of_tls_does_not_spin(void)
{
	struct server *s = psk_server("on");
	unsigned int sockets = server_sockets(s->pid);
	struct request rq = { .type = CMD_READ, .len = 8 * MIB };
	struct conn *c;

	for (unsigned int i = 0; i < 5; i++) {
		step("end at stage %u", i);
		c = hello();
		if (i == 0)
			expect_rep(option(c, OPT_STARTTLS, NULL, 0), REP_ACK);
		else
			upgrade(c);
		if (i > 1)
			expect_rep(option_info(c, OPT_GO, "rw"), REP_ACK);
		/* Half a record, or answers that nobody takes. */
		if (i == 3 && send(c->fd, "\x17\x03\x03\x00", 4, 0) != 4)
			fatal("cannot send");
		if (i == 4)
			request_send(c, &rq);
		shutdown(c->fd, SHUT_WR);
	}
	if (!server_is_idle(s->pid, env.timeout_ms))
		fail("the server uses the CPU for nobody");
	step("the descriptors of those who have ended");
	conn_close_all();
	for (int64_t end = now_ms() + env.timeout_ms;
	     server_sockets(s->pid) > sockets && now_ms() < end;)
		usleep(10000);
	if (server_sockets(s->pid) > sockets)
		fail("%u sockets, %u before", server_sockets(s->pid), sockets);
	good_tls_client();
	good_client();
}

/* A GO that failed left its data to be read as the next option. */
static void nbd_9ca2974_failed_go_leaves_nothing_unread(void)
{
	const char *const args[] = {
		"--export", "name=rw,path=@a.img",
		"--export", "name=tls,path=@b.img,tls=require",
		"--export", "name=far,path=@c.img,allow=192.0.2.1",
		"--tls-psk", psk_file(), NULL
	};
	static const char *const names[] = { "tls", "far", "none" };
	static const uint16_t infos[200] = { INFO_NAME, INFO_BLOCK_SIZE };
	uint8_t data[600];
	struct conn *c;

	row_server(args);
	for (unsigned int i = 0; i < 3; i++) {
		size_t len = info_data(data, names[i], strlen(names[i]),
				       infos, 200);

		c = hello();
		for (unsigned int k = 0; k < 10; k++) {
			step("GO \"%s\"", names[i]);
			expect_rep_or(option(c, OPT_GO, data, len),
				      REP_ERR_TLS_REQD, REP_ERR_UNKNOWN);
			in_sync(c);
		}
		expect_rep(option_info(c, OPT_GO, "rw"), REP_ACK);
		alive(c);
	}
	good_client();
}

/* And CVE-2011-0530: lengths near the top of their type. */
static void cve_2005_3534_lengths_near_the_top(void)
{
	static const uint32_t lens[] = {
		0x7fffffff, 0x80000000, 0xfffffe00, 0xffffffe3, 0xffffffe4,
		0xfffffff0, 0xffffffff,
	};
	static const uint16_t types[] = {
		CMD_READ, CMD_TRIM, CMD_WRITE_ZEROES, CMD_CACHE,
		CMD_BLOCK_STATUS,
	};
	struct conn *c = open_default(OPEN_META);

	for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
		for (size_t t = 0; t < sizeof(types) / sizeof(*types); t++) {
			step("command %u of %#x", types[t], lens[i]);
			if (!command(c, 0, types[t], 0, lens[i]))
				fail("it succeeded past the end");
		}
	}
	for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
		struct request rq = { .type = CMD_WRITE, .len = lens[i] };

		step("WRITE of %#x", lens[i]);
		c = open_default(OPEN_PLAIN);
		request_send_header(c, &rq);
		shutdown(c->fd, SHUT_WR);
		if (read_to_close(c) == -ETIMEDOUT)
			fail("the server keeps a connection that has ended");
	}
	good_client();
}

const struct row hostile_cve_nbd[] = {
	ROW(70, cve_2011_1925_early_end_or_bad_name_ends_nobody_else, 0),
	ROW(71, cve_2013_6410_addresses_are_not_compared_as_text, 0),
	ROW(72, cve_2015_0847_a_storm_of_signals_breaks_nothing, 0),
	ROW(73, cve_2022_26495_name_of_4_gib, 0),
	ROW(74, cve_2022_26496_long_bodies_of_info_and_go, 0),
	ROW(75, nbd_7a64238_end_of_tls_does_not_spin, 0),
	ROW(76, nbd_9ca2974_failed_go_leaves_nothing_unread, 0),
	ROW(77, cve_2005_3534_lengths_near_the_top, 0),
	ROW_END
};
