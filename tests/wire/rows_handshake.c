/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rows_handshake.c - the greeting and options: rows 1 to 9.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "tests/wire/rows.h"
#include "tests/wire/wire.h"

static void row01_unknown_client_flag_drops(void)
{
	static const uint32_t bad[] = {
		HS_FIXED_NEWSTYLE | 4, HS_FIXED_NEWSTYLE | HS_NO_ZEROES | 8,
		0x80000000, 0x00010000 | HS_FIXED_NEWSTYLE, 0xffffffff,
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct conn *c = conn_connect();

		step("client flags %#x", bad[i]);
		greet(c, bad[i]);
		if (c->hflags & ~(HS_FIXED_NEWSTYLE | HS_NO_ZEROES))
			fail("handshake flags %#x offered", c->hflags);
		expect_close(c);
		conn_close(c);
	}
}

static void row01_no_zeroes_not_offered_drops(void)
{
	struct conn *c = conn_connect();

	greet(c, HS_FIXED_NEWSTYLE | HS_NO_ZEROES);
	if (c->hflags & HS_NO_ZEROES)
		skip("the server always offers NO_ZEROES");
	expect_close(c);
}

static void row02_plain_newstyle_enters_by_export_name(void)
{
	for (uint32_t cflags = 0; cflags <= 3; cflags++) {
		struct conn *c = conn_connect();

		step("EXPORT_NAME with client flags %u", cflags);
		greet(c, cflags);
		option_send(c, OPT_EXPORT_NAME, env.export,
			    strlen(env.export));
		finish_export_name(c, !(cflags & HS_NO_ZEROES));
		conn_close(c);
	}
}

/* Whatever is answered, the option must not be taken. */
static void refused_without_fixed(uint32_t opt, const void *data, uint32_t len)
{
	struct conn *c = conn_connect();
	uint8_t head[20];
	int ret;

	step("option %u without C_FIXED_NEWSTYLE", opt);
	greet(c, 0);
	option_send(c, opt, data, len);
	ret = try_recv(c, head, sizeof(head));
	if (ret < 0 && ret != -ECONNRESET)
		fail("neither an answer nor a close");
	if (ret == 1 && !(get32(head + 12) & REP_ERR))
		fail("got %s", rep_name(get32(head + 12)));
	conn_close(c);
}

static void row02_starttls_is_never_honoured_without_fixed(void)
{
	refused_without_fixed(OPT_STARTTLS, NULL, 0);
}

static void row02_only_export_name_without_fixed(void)
{
	uint8_t data[NAME_MAX_LEN + 8];
	size_t len = info_data(data, env.export, strlen(env.export), NULL, 0);

	refused_without_fixed(OPT_LIST, NULL, 0);
	refused_without_fixed(OPT_STRUCTURED_REPLY, NULL, 0);
	refused_without_fixed(OPT_GO, data, len);
	refused_without_fixed(77, NULL, 0);
}

static void row03_bad_option_magic_disconnects(void)
{
	static const uint64_t bad[] = {
		IHAVEOPT + 1, 0, NBDMAGIC, REQUEST_MAGIC, IHAVEOPT << 8,
	};
	uint8_t buf[16];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct conn *c = hello();

		step("option magic %#" PRIx64, bad[i]);
		put64(buf, bad[i]);
		put32(buf + 8, OPT_LIST);
		put32(buf + 12, 0);
		conn_send(c, buf, sizeof(buf));
		expect_close(c);
		conn_close(c);
	}
}

static void row04_unknown_option_is_consumed(void)
{
	static const uint32_t lens[] = { 0, 1, 16, 1000, 4096, 65535, 65536 };
	static const uint32_t opts[] = {
		0, OPT_PEEK_EXPORT, 12, 99, 0x12345, 0x7fffffff, 0xffffffff,
	};
	uint8_t *data = row_alloc(65536);
	struct conn *c = hello();

	memset(data, 0x49, 65536);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		step("option %#x with %u bytes", opts[i], lens[i]);
		expect_rep(option(c, opts[i], data, lens[i]), REP_ERR_UNSUP);
		in_sync(c);
	}
}

static void row04_data_that_looks_like_an_option_is_not_one(void)
{
	struct conn *c = hello();
	uint8_t data[64];

	for (size_t off = 0; off < sizeof(data); off += 16) {
		put64(data + off, IHAVEOPT);
		put32(data + off + 8, OPT_ABORT);
		put32(data + off + 12, 0);
	}
	expect_rep(option(c, 4711, data, sizeof(data)), REP_ERR_UNSUP);
	in_sync(c);
}

static void row05_absurd_option_length_is_not_waited_for(void)
{
	static const uint32_t opts[] = {
		OPT_EXPORT_NAME, OPT_LIST, OPT_STARTTLS, OPT_INFO, OPT_GO,
		OPT_STRUCTURED_REPLY, OPT_LIST_META_CONTEXT,
		OPT_SET_META_CONTEXT, 4711,
	};
	uint8_t head[20];

	for (size_t i = 0; i < sizeof(opts) / sizeof(opts[0]); i++) {
		struct conn *c = hello();
		int ret;

		step("option %u with a length of 4 GiB", opts[i]);
		option_header(c, opts[i], 0xffffffff);
		ret = try_recv(c, head, sizeof(head));
		if (ret == -ETIMEDOUT)
			fatal("the server waits for the data");
		if (ret == 1 && !(get32(head + 12) & REP_ERR))
			fail("got %s", rep_name(get32(head + 12)));
		conn_close(c);
	}
	step("after that");
	in_sync(hello());
}

static void row06_list_with_data_is_invalid(void)
{
	uint8_t *data = row_alloc(65536);
	struct conn *c = hello();

	for (uint32_t len = 1; len <= 65536; len *= 16) {
		step("LIST with %u bytes", len);
		expect_rep(option(c, OPT_LIST, data, len), REP_ERR_INVALID);
		in_sync(c);
	}
	step("LIST without data then");
	expect_rep(option(c, OPT_LIST, NULL, 0), REP_ACK);
}

static void row07_abort_is_acknowledged_then_closed(void)
{
	static const uint32_t lens[] = { 0, 1, 16, 4096, 65536 };
	uint8_t *data = row_alloc(65536);

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		struct conn *c = hello();

		step("ABORT with %u bytes", lens[i]);
		expect_rep(option(c, OPT_ABORT, data, lens[i]), REP_ACK);
		expect_close(c);
		conn_close(c);
	}
}

static void row09_starttls_without_tls_is_refused(void)
{
	uint8_t data[16] = { 0 };
	struct conn *c = hello();
	uint32_t type;

	expect_rep_or(option(c, OPT_STARTTLS, NULL, 0), REP_ERR_POLICY,
		      REP_ERR_UNSUP);
	in_sync(c);
	step("STARTTLS with data");
	type = option(c, OPT_STARTTLS, data, sizeof(data));
	if (type != REP_ERR_INVALID)
		expect_rep_or(type, REP_ERR_POLICY, REP_ERR_UNSUP);
	in_sync(c);
}

static void row09_no_option_asks_for_tls(void)
{
	struct conn *c = hello();
	uint8_t data[64];

	for (uint32_t opt = OPT_LIST; opt <= 20; opt++) {
		uint32_t len = info_data(data, "nosuch", 6, NULL, 0);

		step("option %u", opt);
		if (option(c, opt, data, len) == REP_ERR_TLS_REQD)
			fail("got ERR_TLS_REQD");
		if (opt == OPT_GO && c->has_export)
			skip("any export name is accepted");
	}
	step("GO");
	expect_rep(option_info(c, OPT_GO, env.export), REP_ACK);
}

const struct row rows_handshake[] = {
	ROW(1, row01_unknown_client_flag_drops, 0),
	ROW(1, row01_no_zeroes_not_offered_drops, 0),
	ROW(2, row02_plain_newstyle_enters_by_export_name, 0),
	ROW(2, row02_starttls_is_never_honoured_without_fixed, 0),
	ROW(2, row02_only_export_name_without_fixed, NEEDS_FOLIOD),
	ROW(3, row03_bad_option_magic_disconnects, 0),
	ROW(4, row04_unknown_option_is_consumed, 0),
	ROW(4, row04_data_that_looks_like_an_option_is_not_one, 0),
	ROW(5, row05_absurd_option_length_is_not_waited_for, 0),
	ROW(6, row06_list_with_data_is_invalid, 0),
	ROW(7, row07_abort_is_acknowledged_then_closed, 0),
	ROW(9, row09_starttls_without_tls_is_refused, 0),
	ROW(9, row09_no_option_asks_for_tls, 0),
	ROW_END
};
