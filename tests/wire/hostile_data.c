/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostile_data.c - clients that send half a write, never read, or come in
 * thousands.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/wire/hostile.h"
#include "tests/wire/server.h"
#include "tests/wire/wire.h"

#define HOT_OFF		(16ull << 20)
#define BLOCK		4096u
#define HALF_LEN	(256 * KIB)

/* A header for HALF_LEN bytes at @off and the first @k of them. */
static struct conn *half_write(uint64_t off, uint32_t k, const uint8_t *buf)
{
	struct conn *c = open_export("other", OPEN_PLAIN);
	struct request rq = {
		.type = CMD_WRITE, .off = off, .len = HALF_LEN,
	};

	request_send_header(c, &rq);
	conn_send(c, buf, k);
	return c;
}

static void half_write_then_gone(struct conn *good, uint64_t off, uint32_t k,
				 const uint8_t *buf)
{
	struct conn *c = half_write(off, k, buf);

	step("gone after %u of %u bytes at %" PRIu64, k, HALF_LEN, off);
	/* That the server has closed says that it has seen our end. */
	shutdown(c->fd, SHUT_WR);
	if (read_to_close(c) != 0)
		fail("it was answered, or not closed");
	conn_close(c);
	expect_bytes(good, off, HALF_LEN, T03_BYTE);
}

static void t03_half_received_write_changes_nothing(void)
{
	static const uint32_t starts[] = { 4 * BLOCK, 4 * BLOCK + 1000 };
	struct conn *good = open_export("other", OPEN_SR);
	uint8_t *buf = row_alloc(HALF_LEN);

	memset(buf, 0xbb, HALF_LEN);
	fill(good, T03_OFF, T03_LEN, T03_BYTE);
	for (unsigned int s = 0; s < 2; s++) {
		uint64_t off = T03_OFF + starts[s];
		/* How far the first block edge is into the payload. */
		uint32_t edge = (BLOCK - off % BLOCK) % BLOCK;

		half_write_then_gone(good, off, 0, buf);
		for (; edge <= HALF_LEN; edge += BLOCK)
			for (int64_t k = (int64_t)edge - 1; k <= edge + 1; k++)
				if (k > 0 && k < HALF_LEN)
					half_write_then_gone(good, off, k, buf);
	}
	step("after all of them and a FLUSH");
	expect_error(command(good, 0, CMD_FLUSH, 0, 0), 0);
	expect_bytes(good, T03_OFF, T03_LEN, T03_BYTE);
}

/* The control for the row above, and what a stalled payload may not stop. */
static void t03_stalled_write_blocks_nobody_and_then_counts(void)
{
	struct conn *good = open_export("other", OPEN_SR), *c;
	const uint64_t off = T03_OFF + 5 * BLOCK;
	uint8_t *buf = row_alloc(HALF_LEN);
	uint8_t reply[16];

	memset(buf, 0xbb, HALF_LEN);
	fill(good, T03_OFF, T03_LEN, T03_BYTE);
	c = half_write(off, HALF_LEN - 1, buf);
	for (unsigned int i = 0; i < 20; i++) {
		step("round %u beside a stalled write", i);
		expect_bytes(good, off, HALF_LEN, i ? i : T03_BYTE);
		fill(good, off, HALF_LEN, i + 1);
		expect_error(command(good, 0, CMD_FLUSH, 0, 0), 0);
	}
	step("the last byte");
	expect_bytes(good, off, HALF_LEN, 20);
	conn_send(c, buf + HALF_LEN - 1, 1);
	conn_recv(c, reply, sizeof(reply));
	expect_error(get32(reply + 4), 0);
	expect_bytes(good, off, HALF_LEN, 0xbb);
	expect_bytes(good, off + HALF_LEN, BLOCK, T03_BYTE);
	fill(good, T03_OFF, T03_LEN, T03_BYTE);
}

/* Every block of a read is of one write, whichever. */
static void expect_whole_blocks(const struct request *rq)
{
	for (uint32_t b = 0; b < rq->len; b += BLOCK)
		for (uint32_t i = 1; i < BLOCK; i++)
			if (rq->buf[b + i] != rq->buf[b]) {
				fail("block %u is torn at byte %u", b / BLOCK,
				     i);
				return;
			}
}

#define UNREAD	32

static void reader_that_stops_does_not_stop_a_writer(void)
{
	struct request *rqs = row_alloc(UNREAD * sizeof(*rqs));
	struct conn *a = open_default(OPEN_SR), *b = open_default(OPEN_SR);

	fill(b, HOT_OFF, 1 * MIB, 0x80);
	for (unsigned int i = 0; i < UNREAD; i++) {
		rqs[i].type = CMD_READ;
		rqs[i].off = HOT_OFF;
		rqs[i].len = 1 * MIB;
		request_send(a, &rqs[i]);
	}
	for (unsigned int i = 0; i < 100; i++) {
		step("write %u of what a stopped reader asked for", i);
		fill(b, HOT_OFF, 1 * MIB, i);
		if (i % 10 == 0) {
			expect_bytes(b, HOT_OFF, 1 * MIB, i);
			expect_error(command(b, 0, CMD_FLUSH, 0, 0), 0);
		}
	}
	step("the reader goes on");
	for (unsigned int i = 0; i < UNREAD; i++)
		rqs[i].buf = row_alloc(1 * MIB);
	replies(a, rqs, UNREAD);
	for (unsigned int i = 0; i < UNREAD; i++) {
		expect_error(rqs[i].error, 0);
		expect_whole_blocks(&rqs[i]);
	}
	alive(a);
}

static void readers_that_stop_do_not_eat_the_memory(void)
{
	uint64_t before = server_rss_mib(env.pid), after;
	struct conn *good = open_default(OPEN_SR);

	fill(good, HOT_OFF, 1 * MIB, 1);
	for (unsigned int i = 0; i < 64; i++) {
		struct conn *c = open_default(OPEN_SR);

		for (unsigned int k = 0; k < 32; k++) {
			struct request rq = {
				.type = CMD_READ, .off = HOT_OFF,
				.len = 1 * MIB,
			};

			request_send(c, &rq);
		}
		/* Each must keep what it was promised, or be made to wait. */
		fill(good, HOT_OFF, 1 * MIB, i);
	}
	after = server_rss_mib(env.pid);
	note("resident: %" PRIu64 " MiB, then %" PRIu64 " MiB", before, after);
	if (!before || after > before + 1024)
		fail("64 readers that do not read cost %" PRIu64 " MiB",
		     after - before);
	expect_bytes(good, HOT_OFF, 1 * MIB, 63);
	good_client();
}

static void thousand_connections_at_once(void)
{
	struct conn *good = open_default(OPEN_SR);
	unsigned int greeted = 0;
	struct conn *c;
	uint8_t buf[18];

	for (unsigned int i = 0; i < 1000; i++) {
		step("connection %u", i);
		c = conn_connect();
		/* A server may turn some away, but not by silence. */
		if (i % 4 == 0) {
			int ret = try_recv(c, buf, sizeof(buf));

			if (ret == -ETIMEDOUT)
				fatal("neither a greeting nor a close");
			greeted += ret == 1;
		}
		if (i % 100 == 0) {
			fill(good, HOT_OFF, 65536, i / 100);
			expect_bytes(good, HOT_OFF, 65536, i / 100);
		}
	}
	note("%u of 250 were greeted", greeted);
	step("with 1000 connections held");
	alive(good);
	conn_close_all();
	step("after they are gone");
	good_client();
}

/* Whatever is asked, each command gets one well-formed reply. */
static void random_requests(unsigned int how)
{
	static const uint16_t types[] = {
		CMD_READ, CMD_READ, CMD_FLUSH, CMD_TRIM, CMD_CACHE,
		CMD_WRITE_ZEROES, CMD_BLOCK_STATUS, CMD_RESIZE, 9, 0xffff,
		CMD_WRITE,
	};
	uint64_t rnd = test_seed();
	struct conn *c = open_export("big", how);

	for (unsigned int i = 0; i < 1500; i++) {
		struct request rq = { 0 };
		uint64_t r = test_random(&rnd);

		rq.type = types[r % (sizeof(types) / sizeof(*types))];
		rq.flags = r & 0x100 ? 0 : (r >> 16) & (r >> 32) & 0x807f;
		rq.off = test_random(&rnd) >> (r >> 48) % 64;
		rq.len = (uint32_t)test_random(&rnd) >> (r >> 56) % 32;
		if (rq.type == CMD_WRITE)
			rq.len %= 100000;
		if (rq.type == CMD_READ && i % 16)
			rq.len %= 4 * MIB;
		/* Fully provisioned zeroes take real space. */
		if (rq.type == CMD_WRITE_ZEROES)
			rq.len %= rq.flags & CF_NO_HOLE ? 4 * MIB : 512 * MIB;
		/* Effects of all sizes; a flag for a payload needs one. */
		if (c->extended && rq.type != CMD_WRITE)
			rq.flags &= ~CF_PAYLOAD_LEN;
		if (c->extended && r & 0x200 && (rq.type == CMD_TRIM ||
		    rq.type == CMD_CACHE || rq.type == CMD_BLOCK_STATUS))
			rq.len = test_random(&rnd) >> (r >> 40) % 64;
		step("request %u: command %u flags %#x %" PRIu64 "+%" PRIu64,
		     i, rq.type, rq.flags, rq.off, rq.len);
		perform(c, &rq);
	}
	alive(c);
	good_client();
}

static void random_requests_get_proper_replies(void)
{
	random_requests(OPEN_META);
}

static void random_extended_requests_get_proper_replies(void)
{
	random_requests(OPEN_META | OPEN_EXT);
}

const struct row hostile_data[] = {
	ROW(20, reader_that_stops_does_not_stop_a_writer, 0),
	ROW(21, readers_that_stop_do_not_eat_the_memory, 0),
	ROW(22, thousand_connections_at_once, 0),
	ROW(23, random_requests_get_proper_replies, 0),
	ROW(23, random_extended_requests_get_proper_replies, 0),
	ROW(27, t03_stalled_write_blocks_nobody_and_then_counts, 0),
	ROW(28, t03_half_received_write_changes_nothing, 0),
	ROW_END
};
