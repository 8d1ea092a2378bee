/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostile_cve_nbdkit.c - what nbdkit was found vulnerable to, by number; of QEMU
 * and nbd-server in the two files beside this one.
 *
 * Each row sees the right answer, and a good client served then.  Rows without
 * a number are faults that never got one.
 *
 * Where a server lies to its client, a server has nothing to test:
 * CVE-2017-2630 (reply to LIST), CVE-2019-14842 (client goes on without TLS),
 * CVE-2021-20286 (crash in option mode), CVE-2022-0485 (error ignored in a
 * copy), CVE-2023-5215 (negative size), CVE-2023-5871 (64-bit flags),
 * CVE-2024-7383 (certificate not checked).  The copy-on-write corruption of
 * nbd-server (f123be9) needs its copy-on-write mode.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/wire/hostile.h"
#include "tests/wire/server.h"
#include "tests/wire/wire.h"

/* The volume was opened for whoever connected.  Nothing may be, and nothing
 * long be said, before somebody has shown who he is. */
static void cve_2019_14850_nothing_is_opened_before_authentication(void)
{
	struct server *s = psk_server("require");
	unsigned int fds = server_other_fds(s->pid);
	unsigned int sockets = server_sockets(s->pid);
	int64_t answer;
	struct conn *c;

	for (unsigned int i = 0; i < 64; i++) {
		step("connection %u", i);
		c = i % 2 ? connect_tcp() : conn_connect();
		greet(c, HS_FIXED_NEWSTYLE);
		expect_rep(option_info(c, OPT_INFO, "rw"), REP_ERR_TLS_REQD);
	}
	if (server_other_fds(s->pid) > fds)
		fail("%u descriptors are open, %u before",
		     server_other_fds(s->pid), fds);
	if (server_sockets(s->pid) != sockets + 64)
		fail("%u sockets for 64 clients",
		     server_sockets(s->pid) - sockets);
	step("what is said to somebody who only connects");
	c = connect_tcp();
	shutdown(c->fd, SHUT_WR);
	answer = read_to_close(c);
	if (answer != 18)
		fail("%" PRId64 " bytes, not the 18 of the greeting", answer);
	step("EXPORT_NAME");
	c = hello();
	option_send(c, OPT_EXPORT_NAME, "rw", 2);
	expect_close(c);
	good_tls_client();
}

/* Every order of INFO and GO, on several names. */
static void cve_2019_14851_info_then_go_in_any_order(void)
{
	static const char *const names[] = {
		"rw", "other", "no-such", "ro", "", "b4k", "rw",
	};
	const unsigned int nr = sizeof(names) / sizeof(*names);

	for (unsigned int last = 0; last < nr; last++) {
		struct conn *c = hello();
		uint32_t want;

		for (unsigned int i = 0; i < nr; i++) {
			want = strcmp(names[i], "no-such") ? REP_ACK :
							     REP_ERR_UNKNOWN;
			step("INFO \"%s\"", names[i]);
			expect_rep(option_info(c, OPT_INFO, names[i]), want);
			expect_rep(option_info(c, OPT_GO, "no-such"),
				   REP_ERR_UNKNOWN);
			expect_rep(option_info(c, OPT_INFO, names[i]), want);
		}
		step("GO \"%s\"", names[last]);
		want = strcmp(names[last], "no-such") ? REP_ACK :
							REP_ERR_UNKNOWN;
		expect_rep(option_info(c, OPT_GO, names[last]), want);
		if (want == REP_ACK)
			alive(c);
		conn_close(c);
	}
	good_client();
}

/* And 6c5faac6: what was said in the clear, anybody may have said. */
static void cve_2021_3716_nothing_agreed_on_survives_starttls(void)
{
	static const uint32_t opts[] = {
		OPT_STRUCTURED_REPLY, OPT_EXTENDED_HEADERS,
	};
	struct conn *c;

	psk_server("on");
	for (unsigned int i = 0; i < 2; i++) {
		c = hello();
		expect_rep(option(c, opts[i], NULL, 0), REP_ACK);
		c->structured = true;
		expect_rep(set_allocation(c, "rw"), REP_ACK);
		upgrade(c);
		step("SET_META without structured replies, option %u", opts[i]);
		expect_rep(set_allocation(c, "rw"), REP_ERR_INVALID);
		expect_rep(option_info(c, OPT_GO, "rw"), REP_ACK);
		if (c->tflags & (TF_SEND_DF | TF_STATUS_PAYLOAD))
			fail("flags %#x are of structured replies", c->tflags);
		/* It fails on any reply that is not a simple one. */
		alive(c);
		expect_error(command(c, 0, CMD_BLOCK_STATUS, 0, 4096),
			     WIRE_EINVAL);
		expect_error(command(c, CF_DF, CMD_READ, 0, 4096),
			     WIRE_EINVAL);
	}
	good_tls_client();
	good_client();
}

/* The other half of it: bytes that somebody put behind STARTTLS. */
static void cve_2021_3716_injected_plaintext_is_no_option(void)
{
	uint8_t bytes[32];
	int64_t answer;
	struct conn *c;

	psk_server("on");
	put64(bytes, IHAVEOPT);
	put32(bytes + 8, OPT_STARTTLS);
	put32(bytes + 12, 0);
	put64(bytes + 16, IHAVEOPT);
	put32(bytes + 24, OPT_STRUCTURED_REPLY);
	put32(bytes + 28, 0);
	for (size_t n = 17; n <= sizeof(bytes); n++) {
		step("%zu bytes behind STARTTLS", n - 16);
		c = hello();
		conn_send(c, bytes, n);
		/* The reply to STARTTLS, and not one to the other. */
		answer = read_to_close(c);
		if (answer < 0 || answer > 20)
			fail("it went on: %" PRId64 " bytes", answer);
		conn_close(c);
	}
	good_tls_client();
	good_client();
}

static void nbdkit_2022_unknown_option_before_starttls_is_consumed(void)
{
	static const uint32_t lens[] = { 0, 1, 4095, 65535, 65536, 200000 };
	uint8_t *data = row_alloc(200000);
	struct conn *c;

	psk_server("require");
	memset(data, 0xee, 200000);
	for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
		step("option of %u bytes", lens[i]);
		c = hello();
		expect_rep(option(c, 4711, data, lens[i]), REP_ERR_TLS_REQD);
		expect_rep(option(c, OPT_LIST, data, lens[i]),
			   REP_ERR_TLS_REQD);
		upgrade(c);
		expect_rep(option(c, 4711, data, lens[i]), REP_ERR_UNSUP);
		expect_rep(option_info(c, OPT_GO, "rw"), REP_ACK);
		alive(c);
		conn_close(c);
	}
	good_tls_client();
}

/* 9d82aa4f: an assertion in the middle of sending. */
static void nbdkit_2023_client_hangs_up_while_it_is_sent_to(void)
{
	struct conn *c;

	psk_server("on");
	for (unsigned int i = 0; i < 40; i++) {
		step("round %u", i);
		c = i & 1 ? psk_hello() : hello();
		expect_rep(option_info(c, OPT_GO, "rw"), REP_ACK);
		for (unsigned int k = 0; k < 24; k++) {
			struct request rq = {
				.type = CMD_READ, .len = 1 * MIB,
			};

			request_send(c, &rq);
		}
		wait_readable(c);
		if (i & 2)
			shutdown(c->fd, SHUT_RD);
		if (i & 4)
			conn_reset(c);
		else
			conn_close(c);
	}
	good_tls_client();
	good_client();
}

/* Peers of another kind than a rule is about were let in, and denied ones saw
 * the list of exports. */
static void ip_filter_of_nbdkit_a_denied_peer_sees_nothing(void)
{
	static const char *const args[] = {
		"-b", "127.0.0.1:0",
		"--export", "name=rw,path=@a.img,allow=any",
		"--export", "name=far,path=@b.img,allow=192.0.2.0/24,"
			    "description=secret",
		NULL
	};
	struct conn *c;

	row_server(args);
	for (unsigned int i = 0; i < 2; i++) {
		step("by %s", i ? "TCP" : "unix socket");
		c = i ? connect_tcp() : conn_connect();
		greet(c, HS_FIXED_NEWSTYLE | HS_NO_ZEROES);
		expect_rep(option(c, OPT_LIST, NULL, 0), REP_ACK);
		if (c->nr_servers != 1 || strcmp(c->servers[0].name, "rw"))
			fail("%u exports are listed", c->nr_servers);
		expect_rep(option_info(c, OPT_INFO, "far"), REP_ERR_UNKNOWN);
		expect_rep(option_info(c, OPT_GO, "far"), REP_ERR_UNKNOWN);
		expect_rep(option(c, OPT_STRUCTURED_REPLY, NULL, 0), REP_ACK);
		expect_rep(set_allocation(c, "far"), REP_ERR_UNKNOWN);
		option_send(c, OPT_EXPORT_NAME, "far", 3);
		expect_close(c);
	}
	good_client();
}

/* An extent that is longer than what was asked about. */
static void cve_2025_47711_status_near_4_gib(void)
{
	struct conn *c = open_export("big", OPEN_META);

	need_size(c, 6ull << 30);
	for (uint64_t off = 0; off < 3; off++) {
		for (unsigned int i = 0; i < 4; i++) {
			uint32_t len = 0xfffffffc + i;

			step("BLOCK_STATUS %" PRIu64 "+%#x", off, len);
			expect_error(command(c, 0, CMD_BLOCK_STATUS, off, len),
				     0);
			expect_error(command(c, CF_REQ_ONE, CMD_BLOCK_STATUS,
					     off, len), 0);
		}
	}
	good_client();
}

/* What was never advertised must not get further than a check. */
static void withheld_what_is_not_advertised_is_refused(void)
{
	static const uint16_t flags[] = {
		0, CF_FUA, CF_NO_HOLE, CF_FAST_ZERO, CF_NO_HOLE | CF_FAST_ZERO,
		CF_NO_HOLE | CF_FAST_ZERO | CF_FUA, CF_DF, CF_REQ_ONE,
		CF_PAYLOAD_LEN, 0xffff,
	};
	struct conn *c = open_export("ro", OPEN_PLAIN);

	for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++) {
		for (unsigned int type = CMD_TRIM; type <= CMD_RESIZE;
		     type++) {
			if (type == CMD_CACHE)
				continue;
			step("command %u flags %#x on a read-only export",
			     type, flags[i]);
			if (!command(c, flags[i], type, 0, 65536))
				fail("it succeeded");
		}
		step("WRITE flags %#x on a read-only export", flags[i]);
		if (!do_write(c, flags[i], 0, 65536, NULL))
			fail("it succeeded");
	}
	expect_bytes(c, 0, 1 * MIB, 0x52);
	good_client();
}

/* Rounding the end up to blocks went beyond what 32 bits hold. */
static void cve_2025_47712_unaligned_status_of_4_gib(void)
{
	static const uint64_t offs[] = {
		1, 511, 4095, 65537, (2ull << 30) - 1, (6ull << 30) - 4096,
	};
	const uint64_t size = 6ull << 30;

	for (unsigned int ext = 0; ext < 2; ext++) {
		struct conn *c = open_export("big", ext ? OPEN_META | OPEN_EXT :
							  OPEN_META);

		need_size(c, size);
		for (size_t i = 0; i < sizeof(offs) / sizeof(*offs); i++) {
			uint64_t len = size - offs[i];

			if (!ext && len > 0xffffffff)
				len = 0xffffffff;
			step("BLOCK_STATUS %" PRIu64 "+%#" PRIx64, offs[i],
			     len);
			expect_error(command(c, 0, CMD_BLOCK_STATUS, offs[i],
					     len), 0);
			expect_error(command(c, CF_REQ_ONE, CMD_BLOCK_STATUS,
					     offs[i], len), 0);
		}
		alive(c);
	}
	good_client();
}

#define OLD_STEP	(256 * KIB)

/* Zeroes over old data that lies everywhere in 128 MiB from @off on. */
static void zero_over_old_data(struct conn *c, uint16_t flags, uint64_t off,
			       uint32_t len)
{
	uint32_t error;

	for (uint64_t pos = 0; pos + 4096 <= len; pos += OLD_STEP)
		fill(c, off + pos, 4096, 0xdd);
	fill(c, off + len - 4096, 8192, 0xdd);
	step("WRITE_ZEROES flags %#x %" PRIu64 "+%u", flags, off, len);
	error = command(c, flags, CMD_WRITE_ZEROES, off, len);
	if (error && !(flags & CF_FAST_ZERO && error == WIRE_ENOTSUP))
		fail("it got %s", wire_errname(error));
	if (error) {
		expect_bytes(c, off, 4096, 0xdd);
		expect_bytes(c, off + len - 4096, 4096, 0xdd);
		return;
	}
	for (uint32_t pos = 0; pos < len; pos += 32 * MIB)
		expect_bytes(c, off + pos,
			     len - pos < 32 * MIB ? len - pos : 32 * MIB, 0);
	expect_bytes(c, off + len, 4096, 0xdd);
}

/* Anything above 64 MiB was left as it was, and success reported. */
static void nbdkit_1_44_1_zeroes_of_128_mib_leave_no_old_data(void)
{
	static const uint16_t flags[] = { 0, CF_NO_HOLE, CF_FAST_ZERO, CF_FUA };

	for (unsigned int ext = 0; ext < 2; ext++) {
		struct conn *c = open_default(ext ? OPEN_EXT : OPEN_SR);

		need_size(c, 256 * MIB);
		for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++)
			zero_over_old_data(c, flags[i], 64 * MIB, 128 * MIB);
		zero_over_old_data(c, 0, 64 * MIB + 17, 128 * MIB + 3001);
		command(c, 0, CMD_TRIM, 0, 256 * MIB);
		conn_close(c);
	}
	good_client();
}

const struct row hostile_cve_nbdkit[] = {
	ROW(40, cve_2019_14850_nothing_is_opened_before_authentication, 0),
	ROW(41, cve_2019_14851_info_then_go_in_any_order, 0),
	ROW(42, cve_2021_3716_nothing_agreed_on_survives_starttls, 0),
	ROW(43, cve_2021_3716_injected_plaintext_is_no_option, 0),
	ROW(44, nbdkit_2022_unknown_option_before_starttls_is_consumed, 0),
	ROW(45, nbdkit_2023_client_hangs_up_while_it_is_sent_to, 0),
	ROW(46, ip_filter_of_nbdkit_a_denied_peer_sees_nothing, 0),
	ROW(47, cve_2025_47711_status_near_4_gib, 0),
	ROW(48, withheld_what_is_not_advertised_is_refused, 0),
	ROW(49, cve_2025_47712_unaligned_status_of_4_gib, 0),
	ROW(50, nbdkit_1_44_1_zeroes_of_128_mib_leave_no_old_data, 0),
	ROW_END
};
