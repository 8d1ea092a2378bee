/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rows_command.c - commands, their flags, ranges and errors: rows 35 to 45.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/wire/rows.h"
#include "tests/wire/server.h"
#include "tests/wire/wire.h"

/* A WRITE of @len that must fail, be drained, and leave the stream usable. */
static void refused_write(struct conn *c, uint16_t flags, uint64_t off,
			  uint32_t len, uint32_t want)
{
	uint8_t *buf = row_alloc(len);

	/* Were it not drained, this would be read as requests and fail. */
	memset(buf, 0xee, len);
	expect_error(do_write(c, flags, off, len, buf), want);
	alive(c);
}

static void refused(struct conn *c, uint16_t flags, uint16_t type, uint64_t off,
		    uint32_t len, uint32_t want)
{
	expect_error(command(c, flags, type, off, len), want);
	alive(c);
}

static void structured_error(struct conn *c, uint16_t flags, uint64_t off,
			     uint32_t len)
{
	struct request rq = {
		.type = CMD_READ, .flags = flags, .off = off, .len = len,
	};

	step("READ %" PRIu64 "+%u flags %#x", off, len, flags);
	expect_error(perform(c, &rq), WIRE_EINVAL);
	/* A simple reply to READ fails wherever it is received. */
	if (!rq.simple && rq.nr_error == 0)
		fail("no error chunk");
	if (rq.nr_data || rq.nr_hole)
		fail("content came with the error");
	alive(c);
}

static void row35_read_errors_are_structured(void)
{
	struct conn *c = open_default(OPEN_SR);

	need_structured(c);
	structured_error(c, 0, c->size, 4096);
	structured_error(c, 0, c->size - 4096, 8192);
	structured_error(c, 0, 0xfffffffffffff000, 8192);
	structured_error(c, 0x8000, 0, 4096);
	structured_error(c, CF_NO_HOLE, 0, 4096);
	structured_error(c, CF_REQ_ONE, 0, 4096);
}

static void df_read(struct conn *c, uint64_t off, uint32_t len)
{
	struct request rq = {
		.type = CMD_READ, .flags = CF_DF, .off = off, .len = len,
	};
	uint32_t error;

	step("DF READ %" PRIu64 "+%u", off, len);
	error = perform(c, &rq);
	if (error == WIRE_EOVERFLOW && len > 64 * KIB) {
		if (rq.nr_data + rq.nr_hole)
			fail("content came with EOVERFLOW");
		return;
	}
	expect_error(error, 0);
	if (rq.nr_data + rq.nr_hole != 1)
		fail("%u content chunks", rq.nr_data + rq.nr_hole);
}

static void row36_df_read_is_one_chunk(void)
{
	static const uint32_t lens[] = {
		512, 4096, 65535, 65536, 65537, 1 * MIB, 8 * MIB, 32 * MIB,
	};
	struct conn *c = open_default(OPEN_SR);

	need_structured(c);
	if (!(c->tflags & TF_SEND_DF))
		fail("SEND_DF is not advertised with structured replies");
	need_size(c, 40 * MIB);
	/* Data and holes: without DF it would come in pieces. */
	for (uint32_t pos = 0; pos < 64 * KIB; pos += 16 * KIB)
		fill(c, 6 * MIB + pos, 4096, 0x36);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
		if (c->bs_min <= 1 || lens[i] % c->bs_min == 0)
			df_read(c, 6 * MIB, lens[i]);
	expect_bytes(c, 6 * MIB, 4096, 0x36);
	alive(c);
}

static void row36_df_needs_structured_replies(void)
{
	struct conn *c = open_default(OPEN_PLAIN);

	if (c->tflags & TF_SEND_DF)
		fail("SEND_DF is advertised without structured replies");
	refused(c, CF_DF, CMD_READ, 0, 4096, WIRE_EINVAL);
}

/* A disk whose second half, from env.bad_from on, cannot be read. */
static void go_to_bad_disk(void)
{
	static const char *const args[] = { "@bad.img", NULL };

	if (!env.bad_from && !env.server)
		skip("no --bad-from given");
	if (env.bad_from)
		return;
	env.bad_from = 2 * MIB;
	row_server_on_bad_disk(args, env.bad_from);
	env.export[0] = '\0';
}

static void read_half_bad(struct conn *c, struct request *rq)
{
	need_size(c, 2ull * env.bad_from);
	expect_error(perform(c, rq), WIRE_EIO);
	note("%u data chunks with %" PRIu64 " bytes, %u error chunks",
	     rq->nr_data, rq->covered, rq->nr_error);
	alive(c);
}

/* That a chunk's length was kept to is what leaves us in sync. */
static void row37_error_after_data_leaves_whole_chunks(void)
{
	struct request rq = { .type = CMD_READ };
	struct conn *c;

	go_to_bad_disk();
	c = open_default(OPEN_SR);
	need_structured(c);
	rq.len = 2ull * env.bad_from;
	read_half_bad(c, &rq);
	if (rq.has_error_off && rq.covered && rq.error_off < rq.top)
		fail("%" PRIu64 " was read well and is told to be bad",
		     rq.error_off);
	if (!env.server)
		return;
	/* foliod tells all that can be read, and where it ends. */
	if (!rq.has_text)
		fail("the error has no text");
	if (!rq.has_error_off || rq.error_off != rq.covered)
		fail("the error is told at %" PRIu64, rq.error_off);
	if (rq.covered < env.bad_from)
		fail("%" PRIu64 " bytes came before it", rq.covered);
}

static void row37_error_in_one_chunk_leaves_it_whole(void)
{
	struct request rq = { .type = CMD_READ, .flags = CF_DF };
	struct conn *c;

	go_to_bad_disk();
	c = open_default(OPEN_SR);
	need_structured(c);
	need_flag(c, TF_SEND_DF, "SEND_DF");
	rq.off = env.bad_from;
	rq.len = 64 * KIB;
	read_half_bad(c, &rq);
}

/* Behind a simple reply's head there is no place for an error. */
static void row37_error_after_simple_reply_disconnects(void)
{
	struct request rq = { .type = CMD_READ };
	uint8_t head[16], page[4 * KIB];
	uint32_t came = 0;
	struct conn *c;
	int ret = 1;

	go_to_bad_disk();
	c = open_default(OPEN_PLAIN);
	need_size(c, 2ull * env.bad_from);
	rq.len = 2ull * env.bad_from;
	request_send(c, &rq);
	conn_recv(c, head, sizeof(head));
	if (get32(head) != SIMPLE_MAGIC || get64(head + 8) != rq.cookie)
		fatal("no simple reply to it");
	if (get32(head + 4)) {
		expect_error(get32(head + 4), WIRE_EIO);
		note("the error came before any data");
		alive(c);
		/* foliod does not read as much ahead of its reply. */
		if (env.server)
			fail("an error instead of a reply's beginning");
		return;
	}
	while (came < rq.len && ret == 1) {
		ret = try_recv(c, page, sizeof(page));
		came += ret == 1 ? sizeof(page) : 0;
	}
	if (ret == -ETIMEDOUT)
		fail("neither the data nor an end came");
	else if (ret == 1)
		fail("all of it came, and no error");
	note("%u KiB came before the end", came / KIB);
	alive(open_default(OPEN_PLAIN));
}

static void unknown_commands(unsigned int how)
{
	static const uint16_t types[] = { CMD_RESIZE, 9, 100, 0x8000, 0xffff };
	struct conn *c = open_default(how);

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		step("command %u, %s replies", types[i],
		     how ? "structured" : "simple");
		/* A length is not a payload: the next header follows. */
		refused(c, 0, types[i], 0, 4096, WIRE_EINVAL);
		refused(c, 0, types[i], 0, 0, WIRE_EINVAL);
	}
}

static void row38_unknown_command_is_einval(void)
{
	unknown_commands(OPEN_PLAIN);
	unknown_commands(OPEN_SR);
}

static void row39_unknown_flag_is_einval(void)
{
	static const uint16_t types[] = {
		CMD_READ, CMD_FLUSH, CMD_TRIM, CMD_CACHE, CMD_WRITE_ZEROES,
		CMD_BLOCK_STATUS,
	};
	struct conn *c = open_default(OPEN_META);

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		for (uint32_t flag = 0x40; flag <= 0x8000; flag <<= 3) {
			step("command %u with flag %#x", types[i], flag);
			refused(c, flag, types[i], 0,
				types[i] == CMD_FLUSH ? 0 : 4096,
				WIRE_EINVAL);
		}
	}
}

static void row39_inapplicable_flag_is_einval(void)
{
	static const struct { uint16_t type, flag; } all[] = {
		{ CMD_READ, CF_NO_HOLE }, { CMD_READ, CF_REQ_ONE },
		{ CMD_READ, CF_FAST_ZERO },
		{ CMD_FLUSH, CF_NO_HOLE }, { CMD_FLUSH, CF_DF },
		{ CMD_TRIM, CF_NO_HOLE }, { CMD_TRIM, CF_DF },
		{ CMD_TRIM, CF_FAST_ZERO },
		{ CMD_WRITE_ZEROES, CF_DF }, { CMD_WRITE_ZEROES, CF_REQ_ONE },
		{ CMD_BLOCK_STATUS, CF_DF }, { CMD_BLOCK_STATUS, CF_NO_HOLE },
		{ CMD_CACHE, CF_DF }, { CMD_CACHE, CF_REQ_ONE },
	};
	struct conn *c = open_default(OPEN_META);

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		step("command %u with flag %#x", all[i].type, all[i].flag);
		refused(c, all[i].flag, all[i].type, 0,
			all[i].type == CMD_FLUSH ? 0 : 4096, WIRE_EINVAL);
	}
}

static void row39_write_with_bad_flag_is_drained(void)
{
	static const uint16_t flags[] = {
		CF_NO_HOLE, CF_DF, CF_REQ_ONE, CF_FAST_ZERO, 0x40, 0x8000,
	};
	struct conn *c = open_default(OPEN_SR);

	need_size(c, 3 * MIB);
	fill(c, 1 * MIB, 128 * KIB, 0x39);
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		step("WRITE with flag %#x", flags[i]);
		refused_write(c, flags[i], 1 * MIB, 4096, WIRE_EINVAL);
		refused_write(c, flags[i], 1 * MIB, 128 * KIB, WIRE_EINVAL);
	}
	step("after the refused writes");
	expect_bytes(c, 1 * MIB, 128 * KIB, 0x39);
}

static void row40_fua_is_accepted_everywhere(void)
{
	struct conn *c = open_default(OPEN_META);
	const struct { uint16_t type, need; } all[] = {
		{ CMD_READ, 0 }, { CMD_FLUSH, TF_SEND_FLUSH },
		{ CMD_TRIM, TF_SEND_TRIM }, { CMD_CACHE, TF_SEND_CACHE },
		{ CMD_WRITE_ZEROES, TF_SEND_WRITE_ZEROES },
		{ CMD_BLOCK_STATUS, 0 },
	};

	need_flag(c, TF_SEND_FUA, "SEND_FUA");
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if ((c->tflags & all[i].need) != all[i].need)
			continue;
		if (all[i].type == CMD_BLOCK_STATUS && !c->has_status)
			continue;
		step("command %u with FUA", all[i].type);
		refused(c, CF_FUA, all[i].type, 0,
			all[i].type == CMD_FLUSH ? 0 : 4096, 0);
	}
	step("WRITE with FUA");
	refused_write(c, CF_FUA, 0, 4096, 0);
	expect_bytes(c, 0, 4096, 0xee);
}

static void row41_fast_zero(void)
{
	struct conn *c = open_default(OPEN_SR);
	const uint64_t off = 2 * MIB;
	const uint32_t len = 256 * KIB;
	uint32_t error;

	need_size(c, off + len);
	need_flag(c, TF_SEND_WRITE_ZEROES, "SEND_WRITE_ZEROES");
	for (unsigned int hole = 0; hole < 2; hole++) {
		uint16_t no_hole = hole ? 0 : CF_NO_HOLE;

		fill(c, off, len, 0x41);
		step("FAST_ZERO%s", no_hole ? " with NO_HOLE" : "");
		error = command(c, CF_FAST_ZERO | no_hole, CMD_WRITE_ZEROES,
				off, len);
		if (!(c->tflags & TF_SEND_FAST_ZERO))
			expect_error(error, WIRE_EINVAL);
		else if (error)
			expect_error(error, WIRE_ENOTSUP);
		expect_bytes(c, off, len, error ? 0x41 : 0);
		note("FAST_ZERO%s: %s", no_hole ? "|NO_HOLE" : "",
		     wire_errname(error));
		step("ZEROES without FAST_ZERO");
		expect_error(command(c, no_hole, CMD_WRITE_ZEROES, off, len),
			     0);
		expect_bytes(c, off, len, 0);
	}
}

static void past_end(struct conn *c, uint64_t off, uint32_t len)
{
	step("READ %" PRIu64 "+%u of %" PRIu64, off, len, c->size);
	refused(c, 0, CMD_READ, off, len, WIRE_EINVAL);
	step("TRIM %" PRIu64 "+%u of %" PRIu64, off, len, c->size);
	refused(c, 0, CMD_TRIM, off, len, WIRE_EINVAL);
	step("CACHE %" PRIu64 "+%u of %" PRIu64, off, len, c->size);
	refused(c, 0, CMD_CACHE, off, len, WIRE_EINVAL);
	step("BLOCK_STATUS %" PRIu64 "+%u of %" PRIu64, off, len, c->size);
	refused(c, 0, CMD_BLOCK_STATUS, off, len, WIRE_EINVAL);
	step("ZEROES %" PRIu64 "+%u of %" PRIu64, off, len, c->size);
	refused(c, 0, CMD_WRITE_ZEROES, off, len, WIRE_ENOSPC);
	step("WRITE %" PRIu64 "+%u of %" PRIu64, off, len, c->size);
	refused_write(c, 0, off, len, WIRE_ENOSPC);
}

static void row42_past_the_end(void)
{
	struct conn *c = open_default(OPEN_META);

	fill(c, c->size - 64 * KIB, 64 * KIB, 0x42);
	past_end(c, c->size, 4096);
	past_end(c, c->size - 4096, 8192);
	past_end(c, c->size - 64 * KIB, 128 * KIB);
	past_end(c, c->size + (1ull << 40), 4096);
	past_end(c, 0xfffffffffffff000, 4096);
	past_end(c, 0xfffffffffffff000, 8192);
	past_end(c, 0x7ffffffffffff000, 4096);
	step("after them");
	expect_bytes(c, c->size - 64 * KIB, 64 * KIB, 0x42);
}

static void row43_read_only_is_eperm(void)
{
	static const uint32_t lens[] = { 1, 4096, 4097, 65536, 1 * MIB };
	struct conn *c = open_export(env.ro_export, OPEN_SR);
	uint8_t before[4096] = { 1 }, after[4096] = { 2 };

	if (!(c->tflags & TF_READ_ONLY))
		fail("READ_ONLY is not set");
	expect_error(do_read(c, 0, sizeof(before), before), 0);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		step("WRITE of %u", lens[i]);
		refused_write(c, 0, 0, lens[i], WIRE_EPERM);
		refused_write(c, CF_FUA, 0, lens[i], WIRE_EPERM);
		step("TRIM of %u", lens[i]);
		refused(c, 0, CMD_TRIM, 0, lens[i], WIRE_EPERM);
		step("ZEROES of %u", lens[i]);
		refused(c, 0, CMD_WRITE_ZEROES, 0, lens[i], WIRE_EPERM);
		refused(c, CF_NO_HOLE, CMD_WRITE_ZEROES, 0, lens[i],
			WIRE_EPERM);
	}
	step("after them");
	expect_error(do_read(c, 0, sizeof(after), after), 0);
	if (memcmp(before, after, sizeof(before)))
		fail("the data changed");
}

static void row43_read_only_still_reads(void)
{
	struct conn *c = open_export(env.ro_export, OPEN_META);

	expect_error(command(c, 0, CMD_READ, 0, 65536), 0);
	if (c->has_status)
		expect_error(command(c, 0, CMD_BLOCK_STATUS, 0, 65536), 0);
	if (c->tflags & TF_SEND_FLUSH)
		expect_error(command(c, 0, CMD_FLUSH, 0, 0), 0);
	if (c->tflags & TF_SEND_CACHE)
		expect_error(command(c, 0, CMD_CACHE, 0, 65536), 0);
	alive(c);
}

static void row44_zero_length_is_ok(void)
{
	static const uint16_t types[] = {
		CMD_READ, CMD_WRITE, CMD_TRIM, CMD_WRITE_ZEROES, CMD_CACHE,
		CMD_BLOCK_STATUS,
	};

	for (unsigned int sr = 0; sr < 2; sr++) {
		struct conn *c = open_default(sr ? OPEN_META : OPEN_PLAIN);

		for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
			struct request rq = { .type = types[i] };

			if (types[i] == CMD_BLOCK_STATUS && !c->has_status)
				continue;
			if (types[i] == CMD_CACHE &&
			    !(c->tflags & TF_SEND_CACHE))
				continue;
			step("command %u, length 0, %s replies", types[i],
			     sr ? "structured" : "simple");
			expect_error(perform(c, &rq), 0);
			if (rq.nr_chunks > 1)
				fail("%u chunks", rq.nr_chunks);
			alive(c);
		}
	}
}

static void row45_unaligned_is_einval(void)
{
	static const struct { uint64_t off; uint32_t len; } all[] = {
		{ 512, 4096 }, { 0, 512 }, { 4096, 4097 }, { 1, 1 },
		{ 2048, 2048 }, { 4095, 2 }, { 0, 65535 },
	};
	static const uint16_t types[] = {
		CMD_READ, CMD_TRIM, CMD_WRITE_ZEROES, CMD_CACHE,
		CMD_BLOCK_STATUS,
	};
	struct conn *c = open_export(env.b4k_export, OPEN_META);

	if (c->bs_min != 4096)
		fatal("minimum block size %u, not 4096", c->bs_min);
	fill(c, 0, 128 * KIB, 0x45);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
			step("command %u at %" PRIu64 "+%u", types[t],
			     all[i].off, all[i].len);
			refused(c, 0, types[t], all[i].off, all[i].len,
				WIRE_EINVAL);
		}
		step("WRITE %" PRIu64 "+%u", all[i].off, all[i].len);
		refused_write(c, 0, all[i].off, all[i].len, WIRE_EINVAL);
	}
	step("after them");
	expect_bytes(c, 0, 128 * KIB, 0x45);
}

const struct row rows_command[] = {
	ROW(35, row35_read_errors_are_structured, 0),
	ROW(36, row36_df_read_is_one_chunk, 0),
	ROW(36, row36_df_needs_structured_replies, 0),
	ROW(37, row37_error_after_data_leaves_whole_chunks, 0),
	ROW(37, row37_error_in_one_chunk_leaves_it_whole, 0),
	ROW(37, row37_error_after_simple_reply_disconnects, ONLY_COMPACT),
	ROW(38, row38_unknown_command_is_einval, 0),
	ROW(39, row39_unknown_flag_is_einval, 0),
	ROW(39, row39_inapplicable_flag_is_einval, 0),
	ROW(39, row39_write_with_bad_flag_is_drained, 0),
	ROW(40, row40_fua_is_accepted_everywhere, 0),
	ROW(41, row41_fast_zero, 0),
	ROW(42, row42_past_the_end, 0),
	ROW(43, row43_read_only_is_eperm, NEEDS_RO),
	ROW(43, row43_read_only_still_reads, NEEDS_RO),
	ROW(44, row44_zero_length_is_ok, 0),
	ROW(45, row45_unaligned_is_einval, NEEDS_B4K),
	ROW_END
};
