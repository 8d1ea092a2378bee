/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rows_extended.c - extended headers: row 27, and what only they can say of
 * rows 33, 42, 47 and 48.
 *
 * That all replies are extended and echo the offset is checked where they are
 * received.  The other rows of the transmission phase run with extended headers
 * a second time.
 */
#include <inttypes.h>
#include <string.h>

#include "tests/wire/rows.h"
#include "tests/wire/wire.h"

#define GIB	(1024ull * MIB)
#define TIB	(1024ull * GIB)

/* Connected, extended headers on, still haggling. */
static struct conn *hello_extended(void)
{
	struct conn *c = hello();
	uint32_t type = option(c, OPT_EXTENDED_HEADERS, NULL, 0);

	if (type != REP_ACK && !env.server)
		skip("the server has no extended headers");
	if (type != REP_ACK)
		fatal("EXTENDED_HEADERS got %s", rep_name(type));
	return c;
}

static void go(struct conn *c)
{
	uint32_t type = option_info(c, OPT_GO, env.export);

	if (type != REP_ACK)
		fatal("GO got %s", rep_name(type));
}

static void row27_extended_headers_then_structured(void)
{
	struct conn *c = hello_extended();

	step("STRUCTURED_REPLY after EXTENDED_HEADERS");
	expect_rep(option(c, OPT_STRUCTURED_REPLY, NULL, 0),
		   REP_ERR_EXT_HEADER_REQD);
	in_sync(c);
	step("EXTENDED_HEADERS again");
	expect_rep_or(option(c, OPT_EXTENDED_HEADERS, NULL, 0), REP_ACK,
		      REP_ERR_INVALID);
	step("SET_META with nothing but EXTENDED_HEADERS");
	expect_rep(set_allocation(c, env.export), REP_ACK);
	go(c);
	alive(c);
	expect_error(command(c, 0, CMD_BLOCK_STATUS, 0, 4096), 0);
	expect_error(do_write(c, 0, 0, 4096, NULL), 0);
}

static void row27_structured_then_extended_headers(void)
{
	struct conn *c = hello();

	expect_rep(option(c, OPT_STRUCTURED_REPLY, NULL, 0), REP_ACK);
	if (option(c, OPT_EXTENDED_HEADERS, NULL, 0) != REP_ACK) {
		if (env.server)
			fatal("EXTENDED_HEADERS was refused");
		skip("the server has no extended headers");
	}
	go(c);
	alive(c);
}

static void row27_extended_headers_with_data_is_invalid(void)
{
	struct conn *c = hello_extended();
	uint8_t data[8] = { 0 };

	conn_close(c);
	c = hello();
	expect_rep(option(c, OPT_EXTENDED_HEADERS, data, sizeof(data)),
		   REP_ERR_INVALID);
	in_sync(c);
	/* Not taken: headers are compact, which alive() checks. */
	go(c);
	alive(c);
}

static void row27_export_name_closes(void)
{
	struct conn *c = hello_extended();

	option_send(c, OPT_EXPORT_NAME, env.export, strlen(env.export));
	expect_close(c);
}

/* The export that has terabytes, if there is one. */
static struct conn *open_large(unsigned int how)
{
	struct conn *c = open_export(env.server ? "huge" : env.export,
				     how | OPEN_EXT);

	if (!env.server && c->size <= 4 * GIB)
		skip("the export has only %" PRIu64 " bytes", c->size);
	return c;
}

/* Effects that a 32-bit length cannot have, on a client that waits. */
static void large_effect(struct conn *c, uint16_t flags, uint16_t type)
{
	const uint64_t marks[] = { 0, c->size / 2 + 4096, c->size - 4096 };
	struct request rq = {
		.type = type, .flags = flags, .len = c->size,
	};
	struct conn *other = open_default(OPEN_SR);

	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
		fill(c, marks[i], 4096, 0x47);
	request_send(c, &rq);
	/* Others are served meanwhile. */
	for (int i = 0; i < 32; i++)
		alive(other);
	replies(c, &rq, 1);
	if ((flags & CF_FAST_ZERO) && rq.error == WIRE_ENOTSUP)
		return;
	if (rq.error) {
		if (env.server)
			fail("got %s", wire_errname(rq.error));
		else if (rq.error != WIRE_EOVERFLOW)
			expect_error(rq.error, WIRE_EINVAL);
		return;
	}
	if (type == CMD_CACHE)
		return;
	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
		expect_bytes(c, marks[i], 4096, 0);
}

static void row47_effects_of_terabytes(void)
{
	struct conn *c = open_large(OPEN_SR);

	need_flag(c, TF_SEND_TRIM, "SEND_TRIM");
	need_flag(c, TF_SEND_WRITE_ZEROES, "SEND_WRITE_ZEROES");
	step("TRIM of %" PRIu64, c->size);
	large_effect(c, 0, CMD_TRIM);
	step("WRITE_ZEROES of %" PRIu64, c->size);
	large_effect(c, CF_FUA, CMD_WRITE_ZEROES);
	if (c->tflags & TF_SEND_FAST_ZERO) {
		step("FAST_ZERO of %" PRIu64, c->size);
		large_effect(c, CF_FAST_ZERO, CMD_WRITE_ZEROES);
	}
	if (c->tflags & TF_SEND_CACHE) {
		step("CACHE of %" PRIu64, c->size);
		large_effect(c, 0, CMD_CACHE);
	}
	alive(c);
}

static void row42_long_ranges_past_the_end(void)
{
	static const struct { uint16_t type; uint32_t error; } all[] = {
		{ CMD_TRIM, WIRE_EINVAL }, { CMD_CACHE, WIRE_EINVAL },
		{ CMD_WRITE_ZEROES, WIRE_ENOSPC }, { CMD_READ, WIRE_EINVAL },
		{ CMD_BLOCK_STATUS, WIRE_EINVAL },
	};
	struct conn *c = open_default(OPEN_META | OPEN_EXT);
	const struct { uint64_t off, len; } ranges[] = {
		{ 0, c->size + 4096 }, { 4096, c->size }, { c->size, 1ull << 32 },
		{ 0, (1ull << 32) + c->size }, { 4096, UINT64_MAX - 4095 },
		{ 0, UINT64_MAX - 4095 }, { 0, 1ull << 63 },
		{ UINT64_MAX - 4095, UINT64_MAX - 4095 },
		{ c->size - 4096, UINT64_MAX - 4095 }, { 0, UINT64_MAX },
	};

	fill(c, 0, 4096, 0x42);
	fill(c, c->size - 4096, 4096, 0x42);
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		for (size_t k = 0; k < sizeof(all) / sizeof(all[0]); k++) {
			step("command %u at %" PRIu64 "+%" PRIu64, all[k].type,
			     ranges[i].off, ranges[i].len);
			expect_error(command(c, 0, all[k].type, ranges[i].off,
					     ranges[i].len), all[k].error);
			alive(c);
		}
	}
	step("after them");
	expect_bytes(c, 0, 4096, 0x42);
	expect_bytes(c, c->size - 4096, 4096, 0x42);
}

static void row33_extents_have_64_bits(void)
{
	struct conn *c = open_large(OPEN_META);
	struct request rq = { .type = CMD_BLOCK_STATUS };

	need_status(c);
	if (env.server) {
		expect_error(command(c, 0, CMD_TRIM, 0, c->size), 0);
		fill(c, 6 * GIB, 4096, 0x33);
	}
	for (unsigned int one = 0; one < 2; one++) {
		rq = (struct request){
			.type = CMD_BLOCK_STATUS, .len = c->size,
			.flags = one ? CF_REQ_ONE : 0,
		};
		step("BLOCK_STATUS of %" PRIu64 " REQ_ONE %u", rq.len, one);
		expect_error(perform(c, &rq), 0);
		note("%u extents, the first of %" PRIu64, rq.nr_ext,
		     rq.ext[0].length);
		if (env.server && rq.ext[0].length != 6 * GIB)
			fail("the first extent has %" PRIu64 " bytes",
			     rq.ext[0].length);
	}
	if (!env.server)
		return;
	step("BLOCK_STATUS behind the data");
	rq = (struct request){
		.type = CMD_BLOCK_STATUS, .off = 7 * GIB, .len = c->size -
			7 * GIB,
	};
	expect_error(perform(c, &rq), 0);
	if (rq.nr_ext != 1 || rq.ext[0].length < 1 * TIB)
		fail("%u extents, the first of %" PRIu64, rq.nr_ext,
		     rq.ext[0].length);
}

/* Any command, with @len bytes that it should not have. */
static void with_payload(struct conn *c, uint16_t type, uint32_t len)
{
	struct request rq = {
		.type = type, .flags = CF_PAYLOAD_LEN, .len = len,
	};
	uint8_t *buf = row_alloc(len + 1);

	step("command %u with a payload of %u", type, len);
	/* Were it not drained, this would be read as requests and fail. */
	memset(buf, 0xee, len);
	request_send_header(c, &rq);
	conn_send(c, buf, len);
	replies(c, &rq, 1);
	expect_error(rq.error, WIRE_EINVAL);
	alive(c);
}

static void row48_payloads_nobody_wants_are_drained(void)
{
	static const uint16_t types[] = {
		CMD_READ, CMD_FLUSH, CMD_TRIM, CMD_CACHE, CMD_WRITE_ZEROES,
		CMD_BLOCK_STATUS, CMD_RESIZE, 0xffff,
	};
	static const uint32_t lens[] = { 1, 12, 31, 4096, 65537, 1 * MIB };
	struct conn *c = open_default(OPEN_EXT);

	fill(c, 0, 64 * KIB, 0x48);
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		/* Somebody else's server may not be ready for that. */
		if (types[i] == CMD_BLOCK_STATUS && !env.server)
			continue;
		for (size_t k = 0; k < sizeof(lens) / sizeof(lens[0]); k++)
			with_payload(c, types[i], lens[k]);
	}
	with_payload(c, CMD_CACHE, 32 * MIB);
	step("after them");
	expect_bytes(c, 0, 64 * KIB, 0x48);
}

/*
 * It ought to be EINVAL, but QEMU's client leaves the flag out and its server
 * takes that.  What matters is that the payload is not read as requests.
 */
static void row48_write_without_the_flag(void)
{
	static const uint32_t lens[] = { 512, 4096, 65536, 300 * KIB };
	struct conn *c = open_default(OPEN_EXT);
	uint8_t *buf = row_alloc(300 * KIB);

	memset(buf, 0xee, 300 * KIB);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		struct request rq = {
			.type = CMD_WRITE, .len = lens[i], .buf = buf,
			.bare = true,
		};

		step("WRITE of %u without PAYLOAD_LEN", lens[i]);
		fill(c, 0, 300 * KIB, 0x48);
		if (perform(c, &rq))
			expect_error(rq.error, WIRE_EINVAL);
		alive(c);
		expect_bytes(c, 0, lens[i], rq.error ? 0x48 : 0xee);
		if (rq.error)
			note("WRITE of %u is refused", lens[i]);
	}
}

static void row48_payload_over_the_maximum_disconnects(void)
{
	static const struct { uint16_t type; uint64_t len; } all[] = {
		{ CMD_CACHE, 129ull * MIB }, { CMD_READ, 1ull << 32 },
		{ CMD_BLOCK_STATUS, (1ull << 32) + 12 },
		{ CMD_WRITE, (1ull << 32) + 4096 }, { CMD_WRITE, UINT64_MAX },
		{ 77, 1ull << 63 },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct conn *c = open_default(OPEN_META | OPEN_EXT);
		struct request rq = {
			.type = all[i].type, .flags = CF_PAYLOAD_LEN,
			.len = all[i].len,
		};

		step("command %u with a payload of %" PRIu64, rq.type, rq.len);
		request_send_header(c, &rq);
		/* There may be an answer first. */
		if (read_to_close(c) < 0)
			fail("the server did not close the connection");
		conn_close(c);
	}
	alive(open_default(OPEN_SR));
}

/* BLOCK_STATUS for the @nr contexts of @ids, with @extra bytes too many. */
static uint32_t filtered(struct conn *c, uint64_t off, uint64_t effect,
			 const uint32_t *ids, unsigned int nr, int extra)
{
	struct request rq = {
		.type = CMD_BLOCK_STATUS, .flags = CF_PAYLOAD_LEN, .off = off,
		.len = 8 + 4 * nr + extra, .effect = effect,
	};
	uint8_t buf[64] = { 0 };

	put64(buf, effect);
	for (unsigned int i = 0; i < nr; i++)
		put32(buf + 8 + 4 * i, ids[i]);
	request_send_header(c, &rq);
	/* In two parts, as it may well come. */
	conn_send(c, buf, 5);
	alive(open_default(OPEN_SR));
	conn_send(c, buf + 5, rq.len - 5);
	replies(c, &rq, 1);
	if (!rq.error && rq.nr_status != 1)
		fail("%u status chunks", rq.nr_status);
	return rq.error;
}

static void row48_status_payload_filters(void)
{
	struct conn *c = open_default(OPEN_EXT);
	uint32_t ids[4];

	if (c->tflags & TF_STATUS_PAYLOAD)
		fail("BLOCK_STATUS_PAYLOAD without a context");
	c = open_default(OPEN_META | OPEN_EXT);
	need_status(c);
	need_flag(c, TF_STATUS_PAYLOAD, "BLOCK_STATUS_PAYLOAD");
	for (int i = 0; i < 4; i++)
		ids[i] = c->meta[0].id;
	step("the one context");
	expect_error(filtered(c, 4096, 64 * KIB, ids, 1, 0), 0);
	alive(c);
	step("all of the export");
	expect_error(filtered(c, 0, c->size, ids, 1, 0), 0);
	step("no context");
	expect_error(filtered(c, 0, 4096, ids, 0, 0), WIRE_EINVAL);
	alive(c);
	step("the same one twice");
	expect_error(filtered(c, 0, 4096, ids, 2, 0), WIRE_EINVAL);
	alive(c);
	step("four times");
	expect_error(filtered(c, 0, 4096, ids, 4, 0), WIRE_EINVAL);
	alive(c);
	step("a list that is not of whole numbers");
	expect_error(filtered(c, 0, 4096, ids, 1, 1), WIRE_EINVAL);
	expect_error(filtered(c, 0, 4096, ids, 1, -1), WIRE_EINVAL);
	alive(c);
	step("beyond the end");
	expect_error(filtered(c, c->size, 4096, ids, 1, 0), WIRE_EINVAL);
	expect_error(filtered(c, 4096, c->size, ids, 1, 0), WIRE_EINVAL);
	expect_error(filtered(c, 4096, UINT64_MAX - 4095, ids, 1, 0),
		     WIRE_EINVAL);
	alive(c);
	step("an unknown context");
	ids[0]++;
	expect_error(filtered(c, 0, 4096, ids, 1, 0), WIRE_EINVAL);
	alive(c);
	step("without a payload");
	expect_error(command(c, 0, CMD_BLOCK_STATUS, 0, 4096), 0);
}

static void row48_flag_is_not_offered_to_others(void)
{
	struct conn *c = open_default(OPEN_META);

	if (c->tflags & TF_STATUS_PAYLOAD)
		fail("BLOCK_STATUS_PAYLOAD without extended headers");
}

const struct row rows_extended[] = {
	ROW(27, row27_extended_headers_then_structured, 0),
	ROW(27, row27_structured_then_extended_headers, 0),
	ROW(27, row27_extended_headers_with_data_is_invalid, 0),
	ROW(27, row27_export_name_closes, 0),
	ROW(33, row33_extents_have_64_bits, 0),
	ROW(42, row42_long_ranges_past_the_end, 0),
	ROW(47, row47_effects_of_terabytes, 0),
	ROW(48, row48_payloads_nobody_wants_are_drained, 0),
	ROW(48, row48_write_without_the_flag, 0),
	ROW(48, row48_payload_over_the_maximum_disconnects, 0),
	ROW(48, row48_status_payload_filters, 0),
	ROW(48, row48_flag_is_not_offered_to_others, 0),
	ROW_END
};
