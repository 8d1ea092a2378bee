/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rows_meta.c - structured replies and metadata contexts: rows 26 to 34.
 */
#include <inttypes.h>
#include <string.h>

#include "tests/wire/rows.h"
#include "tests/wire/wire.h"

static const char *const allocation[] = { "base:allocation" };

/* Connected, structured replies on, still haggling. */
static struct conn *hello_sr(void)
{
	struct conn *c = hello();

	if (option(c, OPT_STRUCTURED_REPLY, NULL, 0) != REP_ACK)
		fatal("the server has no structured replies");
	return c;
}

static void go(struct conn *c, const char *name)
{
	uint32_t type = option_info(c, OPT_GO, name);

	if (type != REP_ACK)
		fatal("GO \"%s\" got %s", name, rep_name(type));
}

static void status_is_einval(struct conn *c)
{
	expect_error(command(c, 0, CMD_BLOCK_STATUS, 0, 4096), WIRE_EINVAL);
	alive(c);
}

static void row26_structured_reply_twice_stays_on(void)
{
	struct conn *c = hello();

	expect_rep(option(c, OPT_STRUCTURED_REPLY, NULL, 0), REP_ACK);
	step("the second");
	expect_rep_or(option(c, OPT_STRUCTURED_REPLY, NULL, 0), REP_ACK,
		      REP_ERR_INVALID);
	in_sync(c);
	go(c, env.export);
	alive(c);
}

static void row26_structured_reply_with_data_is_invalid(void)
{
	uint8_t data[8] = { 0 };
	struct conn *c = hello();

	expect_rep(option(c, OPT_STRUCTURED_REPLY, data, sizeof(data)),
		   REP_ERR_INVALID);
	in_sync(c);
	/* Not taken: replies are simple, which alive() checks. */
	go(c, env.export);
	alive(c);
}

static void row28_set_meta_before_structured_is_invalid(void)
{
	struct conn *c = hello();

	step("SET_META");
	expect_rep(set_allocation(c, env.export), REP_ERR_INVALID);
	in_sync(c);
	step("LIST_META");
	expect_rep_or(option_meta(c, OPT_LIST_META_CONTEXT, env.export,
				  allocation, 1), REP_ERR_INVALID, REP_ACK);
	in_sync(c);
	step("SET_META again, structured replies on");
	expect_rep(option(c, OPT_STRUCTURED_REPLY, NULL, 0), REP_ACK);
	expect_rep(set_allocation(c, env.export), REP_ACK);
}

static void row29_queries_that_select_nothing(void)
{
	static const char *const none[] = {
		"base:", "base:nonexistent", "base:allocation2",
		"x-unknown:foo", "x-unknown:", "qemu:dirty-bitmap:none",
		"Base:allocation", "x-base:allocation",
	};
	struct conn *c = hello_sr();
	uint32_t type;

	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		step("SET_META \"%s\"", none[i]);
		expect_rep(option_meta(c, OPT_SET_META_CONTEXT, env.export,
				       &none[i], 1), REP_ACK);
		if (c->nr_meta)
			fail("%u contexts selected", c->nr_meta);
	}
	step("SET_META without queries");
	expect_rep(option_meta(c, OPT_SET_META_CONTEXT, env.export, NULL, 0),
		   REP_ACK);
	if (c->nr_meta)
		fail("%u contexts selected", c->nr_meta);
	step("SET_META with a query that has no colon");
	type = option_meta(c, OPT_SET_META_CONTEXT, env.export,
			   (const char *const[]){ "allocation" }, 1);
	expect_rep_or(type, REP_ACK, REP_ERR_INVALID);
	if (type == REP_ACK && c->nr_meta)
		fail("%u contexts selected", c->nr_meta);
	in_sync(c);
	go(c, env.export);
	status_is_einval(c);
}

static void row29_unknown_queries_do_not_hide_known_ones(void)
{
	static const char *const mixed[] = {
		"x-unknown:foo", "base:nonexistent", "base:allocation",
		"base:", "base:allocation",
	};
	struct conn *c = hello_sr();

	expect_rep(option_meta(c, OPT_SET_META_CONTEXT, env.export, mixed, 5),
		   REP_ACK);
	if (c->nr_meta != 1 || strcmp(c->meta[0].name, "base:allocation"))
		fail("%u contexts selected, the first \"%s\"", c->nr_meta,
		     c->meta[0].name);
	go(c, env.export);
	expect_error(command(c, 0, CMD_BLOCK_STATUS, 0, 4096), 0);
}

static unsigned int count_allocation(struct conn *c)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < c->nr_meta; i++) {
		if (c->meta[i].id)
			fail("LIST_META gives context id %u", c->meta[i].id);
		nr += !strcmp(c->meta[i].name, "base:allocation");
	}
	return nr;
}

static void row30_list_meta_lists_all(void)
{
	static const char *const base[] = { "base:" };
	struct conn *c = hello_sr();

	step("LIST_META without queries");
	expect_rep(option_meta(c, OPT_LIST_META_CONTEXT, env.export, NULL, 0),
		   REP_ACK);
	if (count_allocation(c) != 1)
		fail("base:allocation is not listed");
	step("LIST_META base:");
	expect_rep(option_meta(c, OPT_LIST_META_CONTEXT, env.export, base, 1),
		   REP_ACK);
	if (count_allocation(c) != 1 || c->nr_meta != 1)
		fail("%u contexts listed", c->nr_meta);
	step("LIST_META base:allocation");
	expect_rep(option_meta(c, OPT_LIST_META_CONTEXT, env.export,
			       allocation, 1), REP_ACK);
	if (count_allocation(c) != 1)
		fail("base:allocation is not listed");
	step("BLOCK_STATUS after LIST_META only");
	go(c, env.export);
	status_is_einval(c);
}

static void row30_list_meta_of_unknown_export(void)
{
	struct conn *c = hello_sr();

	expect_rep(option_meta(c, OPT_LIST_META_CONTEXT, "no-such-export",
			       NULL, 0), REP_ERR_UNKNOWN);
	in_sync(c);
}

struct malformed {
	const char	*what;
	uint32_t	namelen, nr_queries, qlen;
	uint32_t	len;		/* of the option; all of it is 23 */
};

static void row31_malformed_queries_are_invalid(void)
{
	static const struct malformed all[] = {
		{ "a query one too long", 2, 1, 10, 23 },
		{ "a query of 1000", 2, 1, 1000, 23 },
		{ "a query of 0xffffffff", 2, 1, 0xffffffff, 23 },
		{ "a query of 0xfffffff0", 2, 1, 0xfffffff0, 23 },
		{ "one query too few", 2, 2, 9, 23 },
		{ "0xffffffff queries", 2, 0xffffffff, 9, 23 },
		{ "trailing bytes", 2, 1, 5, 23 },
		{ "a name of 1000", 1000, 1, 9, 23 },
		{ "a name of 0xffffffff", 0xffffffff, 1, 9, 23 },
		{ "a name that takes all", 19, 1, 9, 23 },
		{ "no data", 0, 0, 0, 0 },
		{ "3 bytes", 0, 0, 0, 3 },
		{ "a name alone", 2, 1, 9, 6 },
		{ "a query length cut short", 2, 1, 9, 12 },
	};

	for (uint32_t opt = OPT_LIST_META_CONTEXT;
	     opt <= OPT_SET_META_CONTEXT; opt++) {
		struct conn *c = hello_sr();

		for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
			uint8_t d[23] = { 0 };

			step("option %u with %s", opt, all[i].what);
			put32(d, all[i].namelen);
			memcpy(d + 4, "rw", 2);
			put32(d + 6, all[i].nr_queries);
			put32(d + 10, all[i].qlen);
			memcpy(d + 14, "base:allo", 9);
			expect_rep(option(c, opt, d, all[i].len),
				   REP_ERR_INVALID);
			in_sync(c);
		}
	}
}

static void row31_query_of_4097_is_invalid(void)
{
	uint8_t *data = row_alloc(8192);
	char *query = row_alloc(4098);
	const char *queries[] = { query };
	struct conn *c = hello_sr();
	size_t len;

	memset(query, 'a', 4097);
	memcpy(query, "x-y:", 4);
	len = meta_data(data, env.export, queries, 1);
	expect_rep(option(c, OPT_SET_META_CONTEXT, data, len),
		   REP_ERR_INVALID);
	in_sync(c);
}

static void row32_failing_set_meta_wipes_the_contexts(void)
{
	uint8_t bad[] = { 0, 0, 0, 99, 'r', 'w', 0, 0 };
	struct conn *c = hello_sr();

	expect_rep(set_allocation(c, env.export), REP_ACK);
	step("SET_META, malformed");
	expect_rep(option(c, OPT_SET_META_CONTEXT, bad, sizeof(bad)),
		   REP_ERR_INVALID);
	go(c, env.export);
	step("BLOCK_STATUS after a malformed SET_META");
	status_is_einval(c);
}

static void row32_set_meta_of_unknown_export_wipes_the_contexts(void)
{
	struct conn *c = hello_sr();

	expect_rep(set_allocation(c, env.export), REP_ACK);
	step("SET_META for an unknown export");
	expect_rep(set_allocation(c, "no-such-export"), REP_ERR_UNKNOWN);
	go(c, env.export);
	step("BLOCK_STATUS after it");
	status_is_einval(c);
}

static void row32_empty_set_meta_wipes_the_contexts(void)
{
	struct conn *c = hello_sr();

	expect_rep(set_allocation(c, env.export), REP_ACK);
	expect_rep(option_meta(c, OPT_SET_META_CONTEXT, env.export, NULL, 0),
		   REP_ACK);
	go(c, env.export);
	status_is_einval(c);
}

static void row32_contexts_are_of_one_export(void)
{
	struct conn *c = hello_sr();

	expect_rep(set_allocation(c, env.export), REP_ACK);
	step("SET_META for \"%s\", GO for \"%s\"", env.export,
	     env.other_export);
	go(c, env.other_export);
	status_is_einval(c);
	conn_close(c);

	step("SET_META for \"%s\", failed GO, GO for it", env.export);
	c = hello_sr();
	expect_rep(set_allocation(c, env.export), REP_ACK);
	if (option_info(c, OPT_GO, "no-such-export") == REP_ACK)
		skip("any export name is accepted");
	go(c, env.export);
	expect_error(command(c, 0, CMD_BLOCK_STATUS, 0, 4096), 0);
}

static void status(struct conn *c, uint16_t flags, uint64_t off, uint32_t len)
{
	struct request rq = {
		.type = CMD_BLOCK_STATUS, .flags = flags, .off = off,
		.len = len,
	};

	/* What every status reply must satisfy is checked on the way in. */
	step("BLOCK_STATUS %" PRIu64 "+%u%s", off, len,
	     flags & CF_REQ_ONE ? " REQ_ONE" : "");
	expect_error(perform(c, &rq), 0);
}

static void row33_status_is_well_formed(void)
{
	struct conn *c = open_default(OPEN_META);
	uint32_t max = c->size > 0xffffffff ? 0xffffffff : c->size;

	need_status(c);
	for (unsigned int one = 0; one < 2; one++) {
		uint16_t flags = one ? CF_REQ_ONE : 0;

		status(c, flags, 0, 4096);
		status(c, flags, 0, max & ~4095u);
		status(c, flags, c->size - 4096, 4096);
		if (c->bs_min <= 1) {
			status(c, flags, 0, 1);
			status(c, flags, 1, 1023);
			status(c, flags, 4095, 2);
		}
	}
	alive(c);
}

static uint8_t *read_all(struct conn *c, uint64_t off, uint32_t len)
{
	uint8_t *buf = row_alloc(len);
	uint32_t error = do_read(c, off, len, buf);

	if (error)
		fatal("READ got %s", wire_errname(error));
	return buf;
}

/* Extents that claim zero must read as zero, however finely cut. */
static void row33_zero_extents_read_as_zero(void)
{
	struct conn *c = open_default(OPEN_META);
	const uint64_t base = 4 * MIB;
	const uint32_t len = 1 * MIB;
	struct request rq = {
		.type = CMD_BLOCK_STATUS, .off = base, .len = len,
	};
	uint64_t off = 0;
	uint8_t *buf;

	need_status(c);
	need_size(c, base + len);
	for (uint32_t pos = 0; pos < len; pos += 16 * KIB)
		fill(c, base + pos, 4096, 0x33);
	expect_error(perform(c, &rq), 0);
	buf = read_all(c, base, len);
	for (unsigned int i = 0; i < rq.nr_ext && off < len; i++) {
		uint64_t end = off + rq.ext[i].length;

		for (; off < end && off < len; off++)
			if ((rq.ext[i].flags & 2) && buf[off])
				fatal("extent %u is said to be zero, byte %"
				      PRIu64 " is 0x%02x", i, off, buf[off]);
	}
	note("%u extents over 64 runs of data", rq.nr_ext);
}

static void row33_status_of_4_gib_does_not_wrap(void)
{
	struct conn *c = open_export("big", OPEN_META);

	need_size(c, 6ull << 30);
	status(c, 0, 0, 0xffffffff);
	status(c, 0, 0, 0xfffff000);
	status(c, 0, 1, 0xffffffff);
	status(c, 0, 4096, 0xffffffff);
	status(c, 0, 0x80000000, 0xffffffff);
	status(c, 0, (4ull << 30) - 1, 2);
	status(c, CF_REQ_ONE, 0, 0xffffffff);
	status(c, CF_REQ_ONE, c->size - 0xffffffff, 0xffffffff);
	alive(c);
}

static void row34_status_not_negotiated_is_einval(void)
{
	step("without structured replies");
	status_is_einval(open_default(OPEN_PLAIN));
	step("without contexts");
	status_is_einval(open_default(OPEN_SR));
}

static void row34_status_beyond_the_end_is_einval(void)
{
	struct conn *c = open_default(OPEN_META);
	const struct { uint64_t off; uint32_t len; } all[] = {
		{ c->size, 4096 }, { c->size - 4096, 8192 },
		{ c->size + 4096, 4096 }, { 0xfffffffffffff000, 8192 },
		{ 0x8000000000000000, 4096 }, { c->size - 4096, 0xfffff000 },
	};

	need_status(c);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		step("BLOCK_STATUS %" PRIu64 "+%u of %" PRIu64, all[i].off,
		     all[i].len, c->size);
		expect_error(command(c, 0, CMD_BLOCK_STATUS, all[i].off,
				     all[i].len), WIRE_EINVAL);
		alive(c);
	}
}

const struct row rows_meta[] = {
	ROW(26, row26_structured_reply_twice_stays_on, 0),
	ROW(26, row26_structured_reply_with_data_is_invalid, 0),
	ROW(28, row28_set_meta_before_structured_is_invalid, 0),
	ROW(29, row29_queries_that_select_nothing, 0),
	ROW(29, row29_unknown_queries_do_not_hide_known_ones, 0),
	ROW(30, row30_list_meta_lists_all, 0),
	ROW(30, row30_list_meta_of_unknown_export, 0),
	ROW(31, row31_malformed_queries_are_invalid, 0),
	ROW(31, row31_query_of_4097_is_invalid, 0),
	ROW(32, row32_failing_set_meta_wipes_the_contexts, 0),
	ROW(32, row32_set_meta_of_unknown_export_wipes_the_contexts, 0),
	ROW(32, row32_empty_set_meta_wipes_the_contexts, 0),
	ROW(32, row32_contexts_are_of_one_export, NEEDS_OTHER),
	ROW(33, row33_status_is_well_formed, 0),
	ROW(33, row33_zero_extents_read_as_zero, 0),
	ROW(33, row33_status_of_4_gib_does_not_wrap, NEEDS_FOLIOD),
	ROW(34, row34_status_not_negotiated_is_einval, 0),
	ROW(34, row34_status_beyond_the_end_is_einval, 0),
	ROW_END
};
