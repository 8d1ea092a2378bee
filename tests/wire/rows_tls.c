/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rows_tls.c - STARTTLS, and what is true under TLS: rows 8 and 10 to 16, and
 * those of 50 and 56 that are about TLS.
 *
 * Each row has a foliod of its own, with certificates and keys that are made
 * once, in the directory of the first.
 */
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/certs.h"
#include "tests/wire/rows.h"
#include "tests/wire/server.h"
#include "tests/wire/tls.h"

#define PSK_HEX_2	"101112131415161718191a1b1c1d1e1f"
#define PSK_HEX		"000102030405060708090a0b0c0d0e0f" PSK_HEX_2

static char ca_file[128], cert_file[128], key_file[128], psk_file[128];

static const struct tls_client anyone = { .ca = ca_file };
static const struct tls_client with_cert = {
	.ca = ca_file, .cert = cert_file, .key = key_file,
};
static const struct tls_client with_key = {
	.psk_user = "alice", .psk_hex = PSK_HEX,
};

static void make_credentials(void)
{
	const char *dir = env.server->dir;
	FILE *f;

	if (ca_file[0])
		return;
	snprintf(cert_file, sizeof(cert_file), "%s/client-cert.pem", dir);
	snprintf(key_file, sizeof(key_file), "%s/client-key.pem", dir);
	snprintf(psk_file, sizeof(psk_file), "%s/keys.psk", dir);
	f = fopen(psk_file, "we");
	if (!f || fprintf(f, "bob:%s\nalice:%s\n", PSK_HEX_2,
			  PSK_HEX) < 0 || fclose(f) ||
	    !certs_make(dir, "conformance"))
		fatal("cannot make certificates");
	snprintf(ca_file, sizeof(ca_file), "%s/ca-cert.pem", dir);
}

/* A foliod with certificates and keys; @extra: two more arguments or NULL. */
static void tls_server(const char *mode, const char *const extra[2])
{
	const char *args[12] = { "--tls-certificates", env.server->dir };
	unsigned int n = 2;

	make_credentials();
	if (strcmp(mode, "verify") == 0) {
		args[n++] = "--tls-verify-peer";
		mode = "require";
	} else {
		args[n++] = "--tls-psk";
		args[n++] = psk_file;
	}
	args[n++] = "--tls";
	args[n++] = mode;
	if (extra) {
		args[n++] = extra[0];
		args[n++] = extra[1];
	}
	args[n++] = "a=@a.img";
	args[n++] = "--default-export";
	args[n++] = "a";
	args[n] = NULL;
	row_server(args);
}

static struct conn *tls_hello(const struct tls_client *how)
{
	struct conn *c = hello();

	tls_upgrade(c, how);
	return c;
}

/* In transmission, with structured replies. */
static struct conn *tls_open(const struct tls_client *how)
{
	struct conn *c = tls_hello(how);

	expect_rep(option(c, OPT_STRUCTURED_REPLY, NULL, 0), REP_ACK);
	c->structured = true;
	expect_rep(option_info(c, OPT_GO, "a"), REP_ACK);
	return c;
}

static void row08_starttls_with_data_is_invalid_and_no_upgrade(void)
{
	static const uint32_t lens[] = { 1, 16, 4096, 65536, 1000000 };
	uint8_t *data = row_alloc(1000000);
	struct conn *c;

	tls_server("on", NULL);
	c = hello();
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		step("STARTTLS with %u bytes", lens[i]);
		expect_rep(option(c, OPT_STARTTLS, data, lens[i]),
			   REP_ERR_INVALID);
		in_sync(c);
	}
	step("STARTTLS without data then");
	tls_upgrade(c, &anyone);
	in_sync(c);
}

static void row08_starttls_with_data_where_it_is_required(void)
{
	uint8_t data[16] = { 0 };
	struct conn *c;

	tls_server("require", NULL);
	c = hello();
	expect_rep(option(c, OPT_STARTTLS, data, sizeof(data)),
		   REP_ERR_INVALID);
	tls_upgrade(c, &anyone);
	in_sync(c);
}

static void row10_all_options_need_tls_first(void)
{
	static const uint32_t opts[] = {
		OPT_LIST, OPT_PEEK_EXPORT, OPT_STRUCTURED_REPLY,
		OPT_EXTENDED_HEADERS, 0, 77, 0xffffffff,
	};
	static const uint32_t with_data[] = {
		OPT_INFO, OPT_GO, OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT,
		4711, OPT_LIST,
	};
	uint8_t *data = row_alloc(100000);
	struct conn *c;

	tls_server("require", NULL);
	c = hello();
	for (size_t i = 0; i < sizeof(opts) / sizeof(opts[0]); i++) {
		step("option %u", opts[i]);
		expect_rep(option(c, opts[i], NULL, 0), REP_ERR_TLS_REQD);
	}
	for (size_t i = 0; i < sizeof(with_data) / sizeof(with_data[0]); i++) {
		step("option %u with garbage", with_data[i]);
		expect_rep(option(c, with_data[i], data, 100000),
			   REP_ERR_TLS_REQD);
		expect_rep(option(c, with_data[i], data, 7), REP_ERR_TLS_REQD);
	}
	step("INFO, for an export and for none");
	expect_rep(option_info(c, OPT_INFO, "a"), REP_ERR_TLS_REQD);
	expect_rep(option_info(c, OPT_INFO, "nosuch"), REP_ERR_TLS_REQD);
	step("GO");
	expect_rep(option_info(c, OPT_GO, "a"), REP_ERR_TLS_REQD);
	step("STARTTLS then");
	tls_upgrade(c, &anyone);
	expect_rep(option_info(c, OPT_INFO, "nosuch"), REP_ERR_UNKNOWN);
	expect_rep(option_info(c, OPT_GO, "a"), REP_ACK);
	alive(c);
}

static void row11_export_name_without_tls_ends_the_session(void)
{
	static const char *const names[] = { "a", "", "nosuch" };

	tls_server("require", NULL);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct conn *c = hello();

		step("EXPORT_NAME '%s'", names[i]);
		option_send(c, OPT_EXPORT_NAME, names[i], strlen(names[i]));
		expect_close(c);
		conn_close(c);
	}
}

static void row12_abort_needs_no_tls(void)
{
	struct conn *c;

	tls_server("require", NULL);
	c = hello();
	expect_rep(option(c, OPT_ABORT, NULL, 0), REP_ACK);
	expect_close(c);
}

static void row13_starttls_under_tls_is_invalid(void)
{
	uint8_t data[16] = { 0 };
	struct conn *c;

	tls_server("on", NULL);
	c = tls_hello(&anyone);
	expect_rep(option(c, OPT_STARTTLS, NULL, 0), REP_ERR_INVALID);
	in_sync(c);
	expect_rep(option(c, OPT_STARTTLS, data, sizeof(data)),
		   REP_ERR_INVALID);
	in_sync(c);
}

static void row14_structured_replies_are_forgotten_at_starttls(void)
{
	struct request rq = { .type = CMD_READ, .off = 0, .len = 512 };
	struct conn *c;

	tls_server("on", NULL);
	c = hello();
	expect_rep(option(c, OPT_STRUCTURED_REPLY, NULL, 0), REP_ACK);
	tls_upgrade(c, &anyone);
	step("meta contexts need structured replies");
	expect_rep(set_allocation(c, "a"), REP_ERR_INVALID);
	step("GO");
	expect_rep(option_info(c, OPT_GO, "a"), REP_ACK);
	if (c->tflags & TF_SEND_DF)
		fail("SEND_DF without structured replies");
	expect_error(perform(c, &rq), 0);
	if (!rq.simple)
		fail("a structured reply to who has not asked under TLS");
}

static void row14_meta_contexts_are_forgotten_at_starttls(void)
{
	struct conn *c;

	tls_server("on", NULL);
	c = hello();
	expect_rep(option(c, OPT_STRUCTURED_REPLY, NULL, 0), REP_ACK);
	expect_rep(set_allocation(c, "a"), REP_ACK);
	tls_upgrade(c, &anyone);
	expect_rep(option(c, OPT_STRUCTURED_REPLY, NULL, 0), REP_ACK);
	c->structured = true;
	c->has_status = false;
	expect_rep(option_info(c, OPT_GO, "a"), REP_ACK);
	step("BLOCK_STATUS");
	expect_error(command(c, 0, CMD_BLOCK_STATUS, 0, 4096), WIRE_EINVAL);
	alive(c);
}

static void row14_extended_headers_are_forgotten_at_starttls(void)
{
	struct request rq = { .type = CMD_READ, .off = 0, .len = 512 };
	struct conn *c;

	tls_server("on", NULL);
	c = hello();
	if (option(c, OPT_EXTENDED_HEADERS, NULL, 0) != REP_ACK)
		skip("there are no extended headers");
	tls_upgrade(c, &anyone);
	step("structured replies, which extended headers exclude");
	expect_rep(option(c, OPT_STRUCTURED_REPLY, NULL, 0), REP_ACK);
	c->structured = true;
	step("EXPORT_NAME, which they exclude too");
	option_send(c, OPT_EXPORT_NAME, "a", 1);
	finish_export_name(c, false);
	expect_error(perform(c, &rq), 0);
}

/* STARTTLS and @len bytes behind it in one segment: nothing but the answer to
 * STARTTLS may come, then the end. */
static void pipelined(const char *mode, const void *data, size_t len)
{
	uint8_t *buf = row_alloc(16 + len);
	int64_t got;
	struct conn *c = hello();

	put64(buf, IHAVEOPT);
	put32(buf + 8, OPT_STARTTLS);
	put32(buf + 12, 0);
	memcpy(buf + 16, data, len);
	conn_send(c, buf, 16 + len);
	got = read_to_close(c);
	if (got < 0)
		fail("%s: the server did not close", mode);
	else if (got != 0 && got != 20)
		fail("%s: %lld bytes were answered", mode, (long long)got);
	conn_close(c);
}

static void row15_bytes_behind_starttls_fail_the_handshake(void)
{
	static const char *const modes[] = { "on", "require" };
	uint8_t list[16], hello_record[64] = { 22, 3, 1, 0, 59, 1, 0, 0, 55 };

	put64(list, IHAVEOPT);
	put32(list + 8, OPT_LIST);
	put32(list + 12, 0);
	for (size_t i = 0; i < 2; i++) {
		tls_server(modes[i], NULL);
		step("LIST behind STARTTLS");
		pipelined(modes[i], list, sizeof(list));
		step("its first byte");
		pipelined(modes[i], list, 1);
		step("STARTTLS twice");
		put32(list + 8, OPT_STARTTLS);
		pipelined(modes[i], list, sizeof(list));
		put32(list + 8, OPT_LIST);
		step("what may be TLS");
		pipelined(modes[i], hello_record, sizeof(hello_record));
	}
}

static void row15_plain_bytes_instead_of_tls_end_it(void)
{
	struct conn *c;
	int64_t got;

	tls_server("on", NULL);
	c = hello();
	expect_rep(option(c, OPT_STARTTLS, NULL, 0), REP_ACK);
	option_send(c, OPT_LIST, NULL, 0);
	got = read_to_close(c);
	/* An alert may come, which is seven bytes. */
	if (got < 0 || got > 7)
		fail("%lld bytes, or no end", (long long)got);
	step("others are served");
	alive(tls_open(&anyone));
}

static bool is_listed(struct conn *c, const char *name)
{
	expect_rep(option(c, OPT_LIST, NULL, 0), REP_ACK);
	for (unsigned int i = 0; i < c->nr_servers; i++)
		if (strcmp(c->servers[i].name, name) == 0)
			return true;
	return false;
}

static void selective_server(const char *mode)
{
	char export[256];

	server_file(env.server, "secret.img", 1u * MIB, 0, 0);
	snprintf(export, sizeof(export),
		 "name=secret,path=%s/secret.img,tls=require",
		 env.server->dir);
	tls_server(mode, (const char *const[2]){ "--export", export });
}

static void row16_only_go_and_info_of_such_exports_need_tls(void)
{
	struct conn *c;

	selective_server("on");
	c = hello();
	if (!is_listed(c, "a") || is_listed(c, "secret"))
		fail("LIST without TLS must name the one and not the other");
	step("INFO and GO");
	expect_rep(option_info(c, OPT_INFO, "secret"), REP_ERR_TLS_REQD);
	expect_rep(option_info(c, OPT_GO, "secret"), REP_ERR_TLS_REQD);
	step("names that nobody has");
	expect_rep_or(option_info(c, OPT_INFO, "nosuch"), REP_ERR_UNKNOWN,
		      REP_ERR_TLS_REQD);
	step("other options");
	in_sync(c);
	expect_rep(option(c, OPT_STRUCTURED_REPLY, NULL, 0), REP_ACK);
	c->structured = true;
	if (set_allocation(c, "secret") == REP_ACK)
		fail("contexts of an export that needs TLS");
	step("the other export");
	expect_rep(option_info(c, OPT_INFO, "a"), REP_ACK);
	expect_rep(option_info(c, OPT_GO, "a"), REP_ACK);
	alive(c);
	step("EXPORT_NAME");
	c = hello();
	option_send(c, OPT_EXPORT_NAME, "secret", 6);
	expect_close(c);
	step("under TLS");
	c = tls_hello(&anyone);
	if (!is_listed(c, "a") || !is_listed(c, "secret"))
		fail("LIST under TLS must name both");
	expect_rep(option_info(c, OPT_INFO, "a"), REP_ACK);
	expect_rep(option_info(c, OPT_GO, "secret"), REP_ACK);
}

static void row16_an_export_without_tls_is_not_under_it(void)
{
	struct conn *c;

	selective_server("off");
	c = tls_hello(&anyone);
	if (is_listed(c, "a") || !is_listed(c, "secret"))
		fail("LIST under TLS must name the one and not the other");
	expect_rep(option_info(c, OPT_GO, "a"), REP_ERR_POLICY);
	expect_rep(option_info(c, OPT_GO, "secret"), REP_ACK);
	step("without TLS");
	c = hello();
	expect_rep(option_info(c, OPT_GO, "a"), REP_ACK);
	alive(c);
}

static void row50_disc_under_tls_is_answered_and_said_goodbye(void)
{
	enum { NR = 16, LEN = 256 * KIB };
	struct request *rqs = row_alloc(NR * sizeof(*rqs));
	uint8_t byte;
	struct conn *c;

	tls_server("require", NULL);
	c = tls_open(&with_key);
	for (unsigned int i = 0; i < NR; i++) {
		rqs[i] = (struct request) {
			.type = CMD_READ, .off = (uint64_t)i * LEN, .len = LEN,
			.buf = row_alloc(LEN),
		};
		request_send(c, &rqs[i]);
	}
	disconnect(c);
	replies(c, rqs, NR);
	for (unsigned int i = 0; i < NR; i++) {
		expect_error(rqs[i].error, 0);
		for (uint32_t j = 0; j < LEN; j++)
			if (rqs[i].buf[j] != (i < MIB / LEN ? 0x61 : 0))
				fatal("request %u: byte %u is wrong", i, j);
	}
	if (try_recv(c, &byte, 1) != 0)
		fail("no orderly end");
	if (!tls_said_bye(c))
		fail("no close_notify");
}

static void row56_versions(void)
{
	static const struct {
		int		version;
		bool		wanted;
	} versions[] = {
		{ TLS1_VERSION, false }, { TLS1_1_VERSION, false },
		{ TLS1_2_VERSION, true }, { TLS1_3_VERSION, true },
	};
	const struct tls_client *kinds[] = { &anyone, &with_cert, &with_key };

	tls_server("require", NULL);
	for (size_t i = 0; i < 4; i++) {
		for (size_t j = 0; j < 3; j++) {
			struct tls_client how = *kinds[j];
			struct conn *c = hello();
			int ret;

			step("TLS version %#x, credentials %zu",
			     versions[i].version, j);
			how.max_version = versions[i].version;
			expect_rep(option(c, OPT_STARTTLS, NULL, 0), REP_ACK);
			ret = tls_start(c, &how);
			if ((ret == 0) != versions[i].wanted)
				fail("it is%s spoken", ret ? " not" : "");
			if (ret == 0) {
				if (SSL_version(c->tls) != versions[i].version)
					fail("another version was chosen");
				expect_rep(option_info(c, OPT_GO, "a"),
					   REP_ACK);
				alive(c);
			}
			conn_close(c);
		}
	}
}

/* Under TLS 1.3 the client learns last that it was refused. */
static void must_be_refused(const struct tls_client *how)
{
	struct conn *c = hello();
	uint8_t byte;

	expect_rep(option(c, OPT_STARTTLS, NULL, 0), REP_ACK);
	if (tls_start(c, how) == 0 && try_recv(c, &byte, 1) == 1)
		fail("it was let in");
	conn_close(c);
}

static void row220_who_proves_nothing_is_refused(void)
{
	struct tls_client how = with_key;

	tls_server("verify", NULL);
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION;
	     version++) {
		how = anyone;
		how.max_version = version;
		step("no certificate, version %#x", version);
		must_be_refused(&how);
		step("a key where none are known, version %#x", version);
		how = with_key;
		how.max_version = version;
		must_be_refused(&how);
		step("a certificate, version %#x", version);
		how = with_cert;
		how.max_version = version;
		alive(tls_open(&how));
	}
	tls_server("require", NULL);
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION;
	     version++) {
		step("another's key, version %#x", version);
		how = with_key;
		how.max_version = version;
		how.psk_hex = PSK_HEX_2;
		must_be_refused(&how);
		step("an unknown user, version %#x", version);
		how.psk_user = "carol";
		how.psk_hex = PSK_HEX;
		must_be_refused(&how);
		step("the right key, version %#x", version);
		how.psk_user = "alice";
		alive(tls_open(&how));
	}
}

static void row221_payloads_of_all_sizes_under_tls(void)
{
	static const uint32_t lens[] = {
		1, 511, 4096, 16384, 16385, 32768, 40000, 65536, 65537,
		1 * MIB, 3 * MIB + 17, 8 * MIB,
	};
	uint8_t *out = row_alloc(8 * MIB), *in = row_alloc(8 * MIB);
	uint64_t seed = test_seed();
	struct conn *c;

	tls_server("require", NULL);
	c = tls_open(&anyone);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		uint64_t off = test_random(&seed) % (4 * MIB);

		step("%u bytes at %llu", lens[i], (unsigned long long)off);
		for (uint32_t j = 0; j < lens[i]; j++)
			out[j] = test_random(&seed);
		expect_error(do_write(c, 0, off, lens[i], out), 0);
		expect_error(do_read(c, off, lens[i], in), 0);
		if (memcmp(in, out, lens[i]))
			fail("other bytes came back");
	}
	step("many writes without waiting");
	for (uint32_t i = 0; i < 64; i++) {
		struct request rq = {
			.type = CMD_WRITE, .off = i * 40000, .len = 40000,
			.buf = out + i * 40000,
		};

		request_send(c, &rq);
		replies(c, &rq, 1);
	}
	expect_error(do_read(c, 0, 64 * 40000, in), 0);
	if (memcmp(in, out, 64 * 40000))
		fail("other bytes came back");
}

const struct row rows_tls[] = {
	ROW(8, row08_starttls_with_data_is_invalid_and_no_upgrade,
	    NEEDS_FOLIOD),
	ROW(8, row08_starttls_with_data_where_it_is_required, NEEDS_FOLIOD),
	ROW(10, row10_all_options_need_tls_first, NEEDS_FOLIOD),
	ROW(11, row11_export_name_without_tls_ends_the_session, NEEDS_FOLIOD),
	ROW(12, row12_abort_needs_no_tls, NEEDS_FOLIOD),
	ROW(13, row13_starttls_under_tls_is_invalid, NEEDS_FOLIOD),
	ROW(14, row14_structured_replies_are_forgotten_at_starttls,
	    NEEDS_FOLIOD),
	ROW(14, row14_meta_contexts_are_forgotten_at_starttls, NEEDS_FOLIOD),
	ROW(14, row14_extended_headers_are_forgotten_at_starttls, NEEDS_FOLIOD),
	ROW(15, row15_bytes_behind_starttls_fail_the_handshake, NEEDS_FOLIOD),
	ROW(15, row15_plain_bytes_instead_of_tls_end_it, NEEDS_FOLIOD),
	ROW(16, row16_only_go_and_info_of_such_exports_need_tls, NEEDS_FOLIOD),
	ROW(16, row16_an_export_without_tls_is_not_under_it, NEEDS_FOLIOD),
	ROW(50, row50_disc_under_tls_is_answered_and_said_goodbye,
	    NEEDS_FOLIOD),
	ROW(56, row56_versions, NEEDS_FOLIOD),
	ROW(FOLIOD_ROWS + 20, row220_who_proves_nothing_is_refused,
	    NEEDS_FOLIOD),
	ROW(FOLIOD_ROWS + 21, row221_payloads_of_all_sizes_under_tls,
	    NEEDS_FOLIOD),
	ROW_END
};
