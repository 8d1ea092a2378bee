/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rows_export.c - choosing an export, its name and sizes: rows 17 to 25.
 */
#include <inttypes.h>
#include <string.h>

#include "tests/wire/rows.h"
#include "tests/wire/wire.h"

struct malformed {
	const char	*what;
	uint32_t	namelen;	/* as claimed */
	uint32_t	len;		/* of the option */
	uint16_t	nr_info;	/* as claimed, behind a 2-byte name */
};

static void malformed_info(uint32_t opt, const struct malformed *m)
{
	struct conn *c = hello();
	uint8_t data[32] = { 0 };

	step("%s with %s", opt == OPT_GO ? "GO" : "INFO", m->what);
	put32(data, m->namelen);
	memcpy(data + 4, "rw", 2);
	put16(data + 6, m->nr_info);
	expect_rep(option(c, opt, data, m->len), REP_ERR_INVALID);
	in_sync(c);
	conn_close(c);
}

static void row17_malformed_info_is_invalid(void)
{
	static const struct malformed all[] = {
		{ "no data", 0, 0, 0 },
		{ "1 byte", 0, 1, 0 },
		{ "4 bytes", 0, 4, 0 },
		{ "5 bytes", 0, 5, 0 },
		{ "a name one too long", 3, 8, 0 },
		{ "a name of 1000 in 8 bytes", 1000, 8, 0 },
		{ "a name of 0xffffffff", 0xffffffff, 8, 0 },
		{ "a name of 0xfffffffa", 0xfffffffa, 8, 0 },
		{ "a name of 0x80000000", 0x80000000, 8, 0 },
		{ "one info too few", 2, 8, 1 },
		{ "65535 infos, none there", 2, 8, 0xffff },
		{ "one info too many", 2, 10, 0 },
		{ "half an info", 2, 9, 1 },
		{ "trailing bytes", 2, 32, 1 },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		malformed_info(OPT_INFO, &all[i]);
		malformed_info(OPT_GO, &all[i]);
	}
}

/* INFO or GO for a name of @len 'n's. */
static uint32_t info_long(struct conn *c, uint32_t opt, size_t len, int byte)
{
	uint8_t *data = row_alloc(len + 16);
	uint8_t *name = row_alloc(len + 1);

	memset(name, byte, len);
	return option(c, opt, data, info_data(data, name, len, NULL, 0));
}

static void row18_name_of_4096_is_looked_up(void)
{
	static const size_t lens[] = { 255, 256, 257, 1024, 4095, 4096 };
	struct conn *c = hello();

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		step("INFO for a name of %zu", lens[i]);
		expect_rep(info_long(c, OPT_INFO, lens[i], 'n'),
			   REP_ERR_UNKNOWN);
		step("GO for a name of %zu", lens[i]);
		expect_rep(info_long(c, OPT_GO, lens[i], 'n'),
			   REP_ERR_UNKNOWN);
		in_sync(c);
	}
}

static void row18_name_of_4097_is_invalid(void)
{
	uint8_t *name = row_alloc(5000), *data = row_alloc(6000);
	struct conn *c = hello();

	step("INFO for a name of 4097");
	expect_rep(info_long(c, OPT_INFO, 4097, 'n'), REP_ERR_INVALID);
	in_sync(c);
	step("GO for a name of 4097");
	expect_rep(info_long(c, OPT_GO, 4097, 'n'), REP_ERR_INVALID);
	in_sync(c);
	step("GO for a name of 60000");
	expect_rep(info_long(c, OPT_GO, 60000, 'n'), REP_ERR_INVALID);
	in_sync(c);
	step("SET_META for a name of 4097");
	expect_rep(option(c, OPT_STRUCTURED_REPLY, NULL, 0), REP_ACK);
	memset(name, 'n', 4097);
	expect_rep(option(c, OPT_SET_META_CONTEXT, data,
			  meta_data(data, (char *)name, NULL, 0)),
		   REP_ERR_INVALID);
	in_sync(c);
}

static void row18_export_name_too_long_closes(void)
{
	static const uint32_t lens[] = { 257, 4096, 4097, 8192, 65536 };
	uint8_t *name = row_alloc(65536);

	memset(name, 'n', 65536);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		struct conn *c = hello();

		step("EXPORT_NAME of %u bytes", lens[i]);
		option_send(c, OPT_EXPORT_NAME, name, lens[i]);
		expect_close(c);
		conn_close(c);
	}
}

static void row18_name_with_nul_is_refused(void)
{
	struct conn *c = hello();
	uint8_t data[64], name[32] = { 0 };
	size_t len = strlen(env.export);

	if (len + 2 > sizeof(name))
		skip("the export's name is too long for this");
	memcpy(name, env.export, len);
	/* The name and a NUL: an export only to who cuts it there. */
	expect_rep_or(option(c, OPT_INFO, data,
			     info_data(data, name, len + 1, NULL, 0)),
		      REP_ERR_INVALID, REP_ERR_UNKNOWN);
	in_sync(c);
}

static bool is_utf8(const char *s)
{
	for (const uint8_t *p = (const uint8_t *)s; *p; p++) {
		int more = *p < 0x80 ? 0 : (*p & 0xe0) == 0xc0 ? 1 :
			   (*p & 0xf0) == 0xe0 ? 2 : (*p & 0xf8) == 0xf0 ? 3 : -1;

		if (more < 0)
			return false;
		while (more--)
			if ((*++p & 0xc0) != 0x80)
				return false;
	}
	return true;
}

static void row19_error_text_has_a_bound(void)
{
	struct conn *c = hello();

	/* The bound itself is checked wherever an error is received. */
	for (size_t len = 4000; len <= 4096; len += 32) {
		step("GO for a name of %zu", len);
		if (info_long(c, OPT_GO, len, 'n') == REP_ACK)
			skip("any export name is accepted");
		if (c->err_len > NAME_MAX_LEN)
			fail("error text of %u bytes", c->err_len);
	}
	step("GO for a name that is not UTF-8");
	info_long(c, OPT_GO, 100, 0xff);
	if (!is_utf8(c->err_text))
		fail("the error text is not UTF-8");
	in_sync(c);
}

static void row20_failed_go_leaves_the_client_haggling(void)
{
	uint16_t infos[] = { 0, 1, 2, 3, 4, 5, 0x1234, 0xffff };
	uint8_t *data = row_alloc(NAME_MAX_LEN + 64);
	struct conn *c = hello();
	char *name = row_alloc(NAME_MAX_LEN + 1);

	memset(name, 'x', NAME_MAX_LEN);
	step("GO for a long unknown name with eight infos");
	expect_rep(option(c, OPT_GO, data,
			  info_data(data, name, NAME_MAX_LEN, infos, 8)),
		   REP_ERR_UNKNOWN);
	in_sync(c);
	step("GO for an unknown name");
	expect_rep(option_info(c, OPT_GO, "no-such-export"), REP_ERR_UNKNOWN);
	expect_rep(option(c, OPT_STRUCTURED_REPLY, NULL, 0), REP_ACK);
	step("GO for the real one");
	expect_rep(option_info(c, OPT_GO, env.export), REP_ACK);
	alive(c);
}

static void info_equals_go(const char *name, bool sr)
{
	struct conn *c = hello();
	struct conn seen;

	step("INFO then GO of \"%s\"%s", name, sr ? ", structured" : "");
	if (sr)
		option(c, OPT_STRUCTURED_REPLY, NULL, 0);
	expect_rep(option_info(c, OPT_INFO, name), REP_ACK);
	if (!c->has_export)
		fatal("INFO without INFO_EXPORT");
	seen = *c;
	c->has_export = c->has_block_size = false;
	expect_rep(option_info(c, OPT_GO, name), REP_ACK);
	if (c->size != seen.size)
		fail("size %" PRIu64 " became %" PRIu64, seen.size, c->size);
	if (c->tflags != seen.tflags)
		fail("flags %#x became %#x", seen.tflags, c->tflags);
	if (c->has_block_size != seen.has_block_size ||
	    c->bs_min != seen.bs_min || c->bs_pref != seen.bs_pref ||
	    c->bs_max != seen.bs_max)
		fail("block sizes %u/%u/%u became %u/%u/%u", seen.bs_min,
		     seen.bs_pref, seen.bs_max, c->bs_min, c->bs_pref,
		     c->bs_max);
	alive(c);
	conn_close(c);
}

static void row21_info_and_go_say_the_same(void)
{
	info_equals_go(env.export, false);
	info_equals_go(env.export, true);
	if (env.ro_export)
		info_equals_go(env.ro_export, true);
	if (env.b4k_export)
		info_equals_go(env.b4k_export, false);
}

static void row22_go_sends_info_export_and_no_padding(void)
{
	uint8_t data[NAME_MAX_LEN + 8];

	for (uint32_t cflags = HS_FIXED_NEWSTYLE; cflags <= 3; cflags += 2) {
		struct conn *c = conn_connect();
		size_t len = info_data(data, env.export, strlen(env.export),
				       NULL, 0);

		step("GO with client flags %u", cflags);
		greet(c, cflags);
		expect_rep(option(c, OPT_GO, data, len), REP_ACK);
		if (!c->has_export)
			fail("no INFO_EXPORT");
		expect_silence(c, 50);
		alive(c);
		conn_close(c);
	}
}

static void row23_unknown_export_name_closes(void)
{
	struct conn *c = hello();

	option_send(c, OPT_EXPORT_NAME, "no-such-export", 14);
	expect_close(c);
}

static void row23_export_name_keeps_what_was_negotiated(void)
{
	struct conn *c = hello();

	expect_rep(option(c, OPT_STRUCTURED_REPLY, NULL, 0), REP_ACK);
	option_send(c, OPT_EXPORT_NAME, env.export, strlen(env.export));
	/* alive() insists on structured replies from here on. */
	finish_export_name(c, false);
}

static void check_block_sizes(const struct conn *c)
{
	if (!c->has_block_size)
		fatal("no INFO_BLOCK_SIZE though it was asked for");
	if (c->bs_min < 1 || c->bs_min > 64 * KIB ||
	    (c->bs_min & (c->bs_min - 1)))
		fatal("minimum %u", c->bs_min);
	if (c->bs_pref < 512 || c->bs_pref < c->bs_min ||
	    (c->bs_pref & (c->bs_pref - 1)))
		fail("preferred %u with minimum %u", c->bs_pref, c->bs_min);
	if (c->bs_max < c->bs_pref ||
	    (c->bs_max != 0xffffffff && c->bs_max % c->bs_min))
		fail("maximum %u with minimum %u, preferred %u", c->bs_max,
		     c->bs_min, c->bs_pref);
}

static void row24_block_sizes_are_sane(void)
{
	struct conn *c = hello();

	step("INFO");
	expect_rep(option_info(c, OPT_INFO, env.export), REP_ACK);
	check_block_sizes(c);
	step("GO");
	c->has_block_size = false;
	expect_rep(option_info(c, OPT_GO, env.export), REP_ACK);
	check_block_sizes(c);
}

static void row24_an_enforced_minimum_is_sent(void)
{
	struct conn *c = hello();

	expect_rep(option_info(c, OPT_GO, env.b4k_export), REP_ACK);
	check_block_sizes(c);
	if (c->bs_min != 4096)
		fail("minimum %u, not 4096", c->bs_min);
}

static void row25_block_size_reqd_only_if_not_requested(void)
{
	static const uint32_t opts[] = { OPT_INFO, OPT_GO };
	uint8_t data[NAME_MAX_LEN + 8];
	size_t len = info_data(data, env.b4k_export, strlen(env.b4k_export),
			       NULL, 0);

	for (size_t i = 0; i < 2; i++) {
		struct conn *c = hello();
		uint32_t type;

		step("option %u without asking for block sizes", opts[i]);
		type = option(c, opts[i], data, len);
		expect_rep_or(type, REP_ACK, REP_ERR_BLOCK_SIZE_REQD);
		if (type == REP_ERR_BLOCK_SIZE_REQD && !c->has_block_size)
			fail("ERR_BLOCK_SIZE_REQD without the sizes");
		if (type == REP_ACK && opts[i] == OPT_GO) {
			c->has_block_size = true;
			c->bs_min = 4096;
			alive(c);
		} else {
			step("asking for them then");
			expect_rep(option_info(c, opts[i], env.b4k_export),
				   REP_ACK);
		}
		conn_close(c);
	}
}

const struct row rows_export[] = {
	ROW(17, row17_malformed_info_is_invalid, 0),
	ROW(18, row18_name_of_4096_is_looked_up, 0),
	ROW(18, row18_name_of_4097_is_invalid, 0),
	ROW(18, row18_export_name_too_long_closes, 0),
	ROW(18, row18_name_with_nul_is_refused, 0),
	ROW(19, row19_error_text_has_a_bound, 0),
	ROW(20, row20_failed_go_leaves_the_client_haggling, 0),
	ROW(21, row21_info_and_go_say_the_same, 0),
	ROW(22, row22_go_sends_info_export_and_no_padding, 0),
	ROW(23, row23_unknown_export_name_closes, 0),
	ROW(23, row23_export_name_keeps_what_was_negotiated, 0),
	ROW(24, row24_block_sizes_are_sane, 0),
	ROW(24, row24_an_enforced_minimum_is_sent, NEEDS_B4K),
	ROW(25, row25_block_size_reqd_only_if_not_requested, NEEDS_B4K),
	ROW_END
};
