/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rows_foliod.c - what foliod promises beyond the protocol: names, limits,
 * sparse reads, requests in flight, and how it takes abuse.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/wire/rows.h"
#include "tests/wire/server.h"
#include "tests/wire/wire.h"

static const struct listed *find_listed(const struct conn *c, const char *name)
{
	const struct listed *found = NULL;

	for (unsigned int i = 0; i < c->nr_servers; i++) {
		if (strcmp(c->servers[i].name, name))
			continue;
		if (found)
			fail("\"%s\" is listed twice", name);
		found = &c->servers[i];
	}
	if (!found)
		fatal("\"%s\" is not listed", name);
	return found;
}

/* As it was asked for, with a UUID behind it. */
static bool is_described(const char *desc)
{
	static const char want[] = "text [uuid ";
	size_t len = strlen(desc);

	return !strncmp(desc, want, sizeof(want) - 1) &&
		len == sizeof(want) - 1 + 36 + 1 && desc[len - 1] == ']';
}

static void list_names_all_exports_and_describes_them(void)
{
	static const char *const names[] = {
		"rw", "other", "ro", "b4k", "big",
	};
	struct conn *c = hello();

	expect_rep(option(c, OPT_LIST, NULL, 0), REP_ACK);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		find_listed(c, names[i]);
	if (!is_described(find_listed(c, "b4k")->desc))
		fail("b4k is described as \"%s\"",
		     find_listed(c, "b4k")->desc);
}

static void names_are_strict(void)
{
	static const char *const unknown[] = {
		"RW", "rw ", " rw", "rw/", "/rw", "r", "rwrw", "rw.img", ".",
	};
	struct conn *c = hello();

	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		step("GO \"%s\"", unknown[i]);
		expect_rep(option_info(c, OPT_GO, unknown[i]),
			   REP_ERR_UNKNOWN);
	}
	step("GO of the empty name, --default-export rw");
	expect_rep(option_info(c, OPT_GO, ""), REP_ACK);
	if (c->size != 256 * MIB)
		fail("it has %" PRIu64 " bytes", c->size);
}

static void empty_name_is_unknown_without_a_default(void)
{
	static const char *const args[] = { "named=@a.img", NULL };
	struct conn *c;

	row_server(args);
	c = hello();
	expect_rep(option_info(c, OPT_INFO, ""), REP_ERR_UNKNOWN);
	expect_rep(option_info(c, OPT_INFO, "a.img"), REP_ERR_UNKNOWN);
	expect_rep(option_info(c, OPT_GO, "named"), REP_ACK);
	c = hello();
	option_send(c, OPT_EXPORT_NAME, "", 0);
	expect_close(c);
}

static void bare_path_answers_to_two_names(void)
{
	static const char *const args[] = { "@a.img", NULL };
	struct conn *c;

	row_server(args);
	c = hello();
	expect_rep(option_info(c, OPT_INFO, ""), REP_ACK);
	expect_rep(option_info(c, OPT_INFO, "a.img"), REP_ACK);
	expect_rep(option_info(c, OPT_INFO, "a"), REP_ERR_UNKNOWN);
}

static void names_and_descriptions_are_told_when_asked(void)
{
	static const uint16_t infos[] = {
		INFO_NAME, INFO_DESCRIPTION, 0x4242, INFO_BLOCK_SIZE,
	};
	struct conn *c = hello();
	uint8_t data[64];

	step("INFO b4k");
	expect_rep(option(c, OPT_INFO, data, info_data(data, "b4k", 3, infos,
						       4)), REP_ACK);
	if (!c->has_name || strcmp(c->name, "b4k"))
		fail("INFO_NAME is \"%s\"", c->name);
	if (!c->has_desc || !is_described(c->desc))
		fail("INFO_DESCRIPTION is \"%s\"", c->desc);
	step("INFO of the empty name");
	expect_rep(option(c, OPT_INFO, data, info_data(data, "", 0, infos, 4)),
		   REP_ACK);
	if (!c->has_name || strcmp(c->name, "rw"))
		fail("INFO_NAME is \"%s\"", c->name);
}

static void advertises_what_it_can(void)
{
	const uint16_t want = TF_HAS_FLAGS | TF_SEND_FLUSH | TF_SEND_FUA |
		TF_SEND_TRIM | TF_SEND_WRITE_ZEROES | TF_SEND_DF |
		TF_CAN_MULTI_CONN | TF_SEND_CACHE | TF_SEND_FAST_ZERO;
	struct conn *c = open_default(OPEN_SR);

	if ((c->tflags & want) != want)
		fail("flags %#x, %#x missing", c->tflags, want & ~c->tflags);
	if (c->tflags & TF_STATUS_PAYLOAD)
		fail("BLOCK_STATUS_PAYLOAD without a context");
	if (c->tflags & TF_READ_ONLY)
		fail("READ_ONLY on a writable export");
	if (c->bs_min != 1 || c->bs_pref != 4096 || c->bs_max != 32 * MIB)
		fail("block sizes %u/%u/%u", c->bs_min, c->bs_pref, c->bs_max);
	c = open_export("b4k", OPEN_SR);
	if (c->bs_min != 4096 || c->bs_pref != 4096 || c->bs_max != 32 * MIB)
		fail("b4k block sizes %u/%u/%u", c->bs_min, c->bs_pref,
		     c->bs_max);
}

static void reads_to_64_mib_are_served(void)
{
	for (unsigned int sr = 0; sr < 2; sr++) {
		struct conn *c = open_default(sr ? OPEN_SR : OPEN_PLAIN);

		step("READ of 64 MiB, %s", sr ? "structured" : "simple");
		fill(c, 64 * MIB - 4096, 4096, 0x64);
		expect_error(command(c, 0, CMD_READ, 0, 64 * MIB), 0);
		alive(c);
		step("READ of 64 MiB + 1");
		expect_error(command(c, 0, CMD_READ, 0, 64 * MIB + 1),
			     WIRE_EINVAL);
		alive(c);
		step("READ of 200 MiB");
		expect_error(command(c, 0, CMD_READ, 0, 200 * MIB),
			     WIRE_EINVAL);
		alive(c);
	}
}

static void writes_to_64_mib_are_served(void)
{
	struct conn *c = open_default(OPEN_SR);

	step("WRITE of 64 MiB");
	fill(c, 8 * MIB, 64 * MIB, 0x65);
	expect_bytes(c, 8 * MIB, 4096, 0x65);
	expect_bytes(c, 72 * MIB - 4096, 4096, 0x65);
	if (c->extended)
		return;
	step("WRITE of 64 MiB + 1");
	expect_error(do_write(c, 0, 8 * MIB, 64 * MIB + 1, NULL),
		     WIRE_EINVAL);
	alive(c);
	step("WRITE of 128 MiB");
	expect_error(do_write(c, 0, 8 * MIB, 128 * MIB, NULL), WIRE_EINVAL);
	alive(c);
	step("after the refused writes");
	expect_bytes(c, 8 * MIB, 4096, 0x65);
	expect_bytes(c, 72 * MIB - 4096, 4096, 0x65);
}

static void writes_over_128_mib_close(void)
{
	struct request rq = { .type = CMD_WRITE, .len = 128 * MIB + 1 };
	struct conn *c = open_default(OPEN_SR);

	request_send_header(c, &rq);
	if (try_send_zeroes(c, rq.len) == -ETIMEDOUT)
		fail("the server neither reads nor closes");
	if (read_to_close(c) == -ETIMEDOUT)
		fail("the server did not close the connection");
	alive(open_default(OPEN_SR));
}

static void holes_are_read_as_holes(void)
{
	struct conn *c = open_export("big", OPEN_SR);
	struct request rq = { .type = CMD_READ, .off = 1ull << 32 };

	rq.len = 1 * MIB;
	rq.buf = row_alloc(rq.len);
	/* An earlier run may have written there. */
	expect_error(command(c, 0, CMD_TRIM, rq.off, 1 * MIB), 0);
	step("a READ of nothing but hole");
	expect_error(perform(c, &rq), 0);
	if (rq.nr_hole == 0 || rq.nr_data)
		fail("%u hole chunks and %u data chunks", rq.nr_hole,
		     rq.nr_data);
	step("a READ of data within a hole");
	fill(c, (1ull << 32) + 256 * KIB, 64 * KIB, 0x48);
	rq = (struct request){ .type = CMD_READ, .off = 1ull << 32,
			       .len = 1 * MIB, .buf = rq.buf };
	expect_error(perform(c, &rq), 0);
	for (uint32_t i = 0; i < rq.len; i++) {
		bool data = i >= 256 * KIB && i < 320 * KIB;

		if (rq.buf[i] != (data ? 0x48 : 0))
			fatal("byte %u is 0x%02x", i, rq.buf[i]);
	}
	note("%u hole chunks, %u data chunks", rq.nr_hole, rq.nr_data);
	if (rq.nr_hole == 0 || rq.nr_data == 0)
		fail("%u hole chunks and %u data chunks", rq.nr_hole,
		     rq.nr_data);
}

#define DEPTH	256

static void serves_256_in_flight(void)
{
	struct request *rqs = row_alloc(DEPTH * sizeof(*rqs));
	struct conn *c = open_default(OPEN_SR);
	uint8_t *bufs = row_alloc(DEPTH * 4096);

	for (unsigned int i = 0; i < DEPTH; i++)
		fill(c, 16 * MIB + i * 4096, 4096, i);
	for (unsigned int i = 0; i < DEPTH; i++) {
		rqs[i].type = CMD_READ;
		rqs[i].off = 16 * MIB + i * 4096;
		rqs[i].len = 4096;
		rqs[i].buf = bufs + i * 4096;
		request_send(c, &rqs[i]);
	}
	replies(c, rqs, DEPTH);
	for (unsigned int i = 0; i < DEPTH; i++) {
		expect_error(rqs[i].error, 0);
		for (unsigned int k = 0; k < 4096; k++)
			if (rqs[i].buf[k] != (uint8_t)i)
				fatal("read %u has byte 0x%02x", i,
				      rqs[i].buf[k]);
	}
	memset(rqs, 0, DEPTH * sizeof(*rqs));
	for (unsigned int i = 0; i < DEPTH; i++) {
		rqs[i].type = i % 8 == 7 ? CMD_FLUSH : CMD_WRITE;
		rqs[i].off = i % 8 == 7 ? 0 : 16 * MIB + i * 4096;
		rqs[i].len = i % 8 == 7 ? 0 : 4096;
		request_send(c, &rqs[i]);
	}
	replies(c, rqs, DEPTH);
	for (unsigned int i = 0; i < DEPTH; i++)
		expect_error(rqs[i].error, 0);
	alive(c);
}

static void cache_is_a_prefetch(void)
{
	struct conn *c = open_export("ro", OPEN_SR);

	need_flag(c, TF_SEND_CACHE, "SEND_CACHE");
	expect_error(command(c, 0, CMD_CACHE, 0, c->size), 0);
	expect_error(command(c, 0, CMD_CACHE, 1, 4095), 0);
	expect_bytes(c, 0, 1 * MIB, 0x52);
	step("CACHE of more than a read may ask for");
	c = open_default(OPEN_SR);
	expect_error(command(c, 0, CMD_CACHE, 0, 200 * MIB), 0);
	alive(c);
}

static void flood_of_options_is_cut_off(void)
{
	struct conn *c = hello();
	unsigned int sent;
	uint8_t head[20], text[NAME_MAX_LEN];
	int ret = 1;

	for (sent = 0; sent < 5000 && ret == 1; sent++) {
		uint8_t opt[16];

		put64(opt, IHAVEOPT);
		put32(opt + 8, 4711);
		put32(opt + 12, 0);
		if (try_send(c, opt, sizeof(opt)))
			break;
		ret = try_recv(c, head, sizeof(head));
		if (ret == 1 && get32(head + 16) <= sizeof(text))
			ret = try_recv(c, text, get32(head + 16));
	}
	if (sent == 5000)
		fail("5000 options were answered");
	else if (sent < 32)
		fail("cut off after only %u options", sent);
	note("cut off after %u options", sent);
	in_sync(hello());
}

static void bad_request_magic_closes(void)
{
	const uint32_t bad[] = {
		0, REQUEST_MAGIC + 1, SIMPLE_MAGIC, CHUNK_MAGIC, 0xffffffff,
		env.extended ? REQUEST_MAGIC : EXT_REQUEST_MAGIC,
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct conn *c = open_default(OPEN_SR);
		uint8_t buf[REQUEST_MAX];
		size_t n;

		step("request magic %#x", bad[i]);
		n = put_header(c, buf, 0, CMD_READ, 1, 0, 512);
		put32(buf, bad[i]);
		conn_send(c, buf, n);
		expect_close(c);
		conn_close(c);
	}
	alive(open_default(OPEN_SR));
}

static void half_sent_request_changes_nothing(void)
{
	struct conn *good = open_default(OPEN_SR);
	uint8_t *buf = row_alloc(64 * KIB);

	memset(buf, 0xbb, 64 * KIB);
	fill(good, 1 * MIB, 64 * KIB, 0xaa);
	for (unsigned int i = 0; i <= 3; i++) {
		struct request rq = {
			.type = CMD_WRITE, .off = 1 * MIB, .len = 64 * KIB,
		};
		struct conn *c = open_default(OPEN_SR);

		request_send_header(c, &rq);
		conn_send(c, buf, i * 16 * KIB + 1);
		/* While it hangs, and after it is gone. */
		expect_bytes(good, 1 * MIB, 64 * KIB, 0xaa);
		conn_close(c);
		expect_bytes(good, 1 * MIB, 64 * KIB, 0xaa);
	}
	fill(good, 1 * MIB, 64 * KIB, 0xcc);
	expect_bytes(good, 1 * MIB, 64 * KIB, 0xcc);
}

static void tcp_serves_the_same_data(void)
{
	struct conn *c = open_default(OPEN_SR);

	if (!env.tcp_port[0])
		fatal("no TCP address was reported");
	fill(c, 3 * MIB, 4096, 0x54);
	env.tcp = true;
	strcpy(env.host, "127.0.0.1");
	strcpy(env.port, env.tcp_port);
	c = open_default(OPEN_SR);
	expect_bytes(c, 3 * MIB, 4096, 0x54);
	expect_error(do_write(c, 0, 3 * MIB, 8 * MIB, NULL), 0);
	expect_bytes(c, 3 * MIB, 8 * MIB, 0);
}

static void unaligned_io_touches_its_bytes_only(void)
{
	struct conn *c = open_default(OPEN_SR);

	fill(c, 2 * MIB, 16 * KIB, 0x11);
	fill(c, 2 * MIB + 4095, 2, 0x22);
	fill(c, 2 * MIB + 8193, 511, 0x33);
	expect_error(command(c, 0, CMD_WRITE_ZEROES, 2 * MIB + 12287, 3), 0);
	expect_bytes(c, 2 * MIB, 4095, 0x11);
	expect_bytes(c, 2 * MIB + 4095, 2, 0x22);
	expect_bytes(c, 2 * MIB + 4097, 4096, 0x11);
	expect_bytes(c, 2 * MIB + 8193, 511, 0x33);
	expect_bytes(c, 2 * MIB + 8704, 3583, 0x11);
	expect_bytes(c, 2 * MIB + 12287, 3, 0);
	expect_bytes(c, 2 * MIB + 12290, 4094, 0x11);
}

const struct row rows_foliod[] = {
	ROW(200, list_names_all_exports_and_describes_them,
	    NEEDS_FOLIOD | ONLY_COMPACT),
	ROW(201, names_are_strict, NEEDS_FOLIOD | ONLY_COMPACT),
	ROW(202, empty_name_is_unknown_without_a_default,
	    NEEDS_FOLIOD | ONLY_COMPACT),
	ROW(203, bare_path_answers_to_two_names, NEEDS_FOLIOD | ONLY_COMPACT),
	ROW(204, names_and_descriptions_are_told_when_asked,
	    NEEDS_FOLIOD | ONLY_COMPACT),
	ROW(205, advertises_what_it_can, NEEDS_FOLIOD),
	ROW(206, reads_to_64_mib_are_served, NEEDS_FOLIOD),
	ROW(207, writes_to_64_mib_are_served, NEEDS_FOLIOD),
	ROW(208, writes_over_128_mib_close, NEEDS_FOLIOD),
	ROW(209, holes_are_read_as_holes, NEEDS_FOLIOD),
	ROW(210, serves_256_in_flight, NEEDS_FOLIOD),
	ROW(211, cache_is_a_prefetch, NEEDS_FOLIOD),
	ROW(212, flood_of_options_is_cut_off, NEEDS_FOLIOD | ONLY_COMPACT),
	ROW(213, bad_request_magic_closes, NEEDS_FOLIOD),
	ROW(214, half_sent_request_changes_nothing, NEEDS_FOLIOD),
	ROW(215, tcp_serves_the_same_data, NEEDS_FOLIOD),
	ROW(216, unaligned_io_touches_its_bytes_only, NEEDS_FOLIOD),
	ROW_END
};
