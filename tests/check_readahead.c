/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_readahead.c - streams are found, read ahead of and not mixed up; what
 * is random is left alone.  All by counts of device reads.
 */
#include <errno.h>

#include "tests/proof.h"

#define BLOCK	4096u
#define SIZE	MIB(16)

static struct engine *new_engine(uint64_t cache_size)
{
	struct engine_params params = {
		.cache_size = cache_size,
		.vol.sim = { .size = SIZE, .latency_min_ns = 1000,
			     .latency_max_ns = 1000 },
	};

	return engine_start(&params);
}

struct reading {
	struct engine		*engine;
	struct readahead	ra;
	uint64_t		pos;
	uint32_t		len;
	uint64_t		end;		/* read one after the other */
	uint64_t		inline_hits;
};

static void read_one(struct reading *r)
{
	struct pin pins[80];
	struct pinvec pv = { .pins = pins, .max = ARRAY_SIZE(pins) };
	struct volume *vol = r->engine->vol;
	uint64_t pos = r->pos;

	if (!volume_read_inline(vol, r->pos, r->len, &pv, &r->ra))
		r->inline_hits++;
	else
		ck_assert_int_eq(volume_read(vol, r->pos, r->len, &pv, &r->ra),
				 0);
	for (unsigned int i = 0; i < pv.nr; i++) {
		ck_assert(has_pattern(pins[i].base, pins[i].len, pos, 1));
		pos += pins[i].len;
	}
	ck_assert_uint_eq(pos, r->pos + r->len);
	volume_unpin(r->engine->cache, pins, pv.nr);
}

static void sequential_co(void *arg)
{
	struct reading *r = arg;

	for (; r->pos < r->end; r->pos += r->len) {
		read_one(r);
		/* The client takes what it got, meanwhile we read on. */
		coroutine_sleep_ns(5000);
	}
}

static void read_co(void *arg)
{
	read_one(arg);
	coroutine_sleep_ns(NSEC_PER_MSEC);
}

START_TEST(a_sequential_stream_is_read_ahead_of)
{
	struct engine *engine = new_engine(MIB(16));
	struct reading r = { .engine = engine, .len = BLOCK, .end = SIZE };

	put_on_disk(engine, 0, SIZE, 1);
	engine_run(engine, sequential_co, &r);
	/* Large requests, and hardly one that the client waited for. */
	ck_assert_uint_le(dev_ops(engine, BDEV_READ), SIZE / KIB(128));
	ck_assert_uint_le(dev_bytes(engine, BDEV_READ), SIZE);
	ck_assert_uint_ge(r.inline_hits, SIZE / BLOCK * 95 / 100);
	ck_assert_uint_gt(engine->cache->readahead_bytes, SIZE / 2);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(the_window_doubles_up_to_a_share_of_the_cache)
{
	struct engine *engine = new_engine(MIB(16));
	struct reading r = { .engine = engine, .len = BLOCK };
	uint64_t last, window, most = 0;

	put_on_disk(engine, 0, SIZE, 1);
	engine_run(engine, read_co, &r);
	/* One read is not yet a stream. */
	ck_assert_uint_eq(dev_bytes(engine, BDEV_READ), BLOCK);
	window = KIB(128);
	for (r.pos = BLOCK; r.pos < SIZE / 2; r.pos += BLOCK) {
		last = dev_bytes(engine, BDEV_READ);
		engine_run(engine, read_co, &r);
		last = dev_bytes(engine, BDEV_READ) - last;
		if (!last)
			continue;
		/* The first window comes with the read that starts it. */
		ck_assert_uint_eq(r.pos == BLOCK ? last - BLOCK : last, window);
		most = window;
		window = MIN(2 * window, MIB(16) / 16);
	}
	ck_assert_uint_eq(most, MIB(1));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(random_reads_fetch_nothing_else)
{
	struct engine *engine = new_engine(MIB(16));
	struct reading r = { .engine = engine, .len = BLOCK };
	unsigned int pages[SIZE / MIB(1)];
	struct random rnd;

	put_on_disk(engine, 0, SIZE, 1);
	random_init(&rnd, test_seed("random reads"));
	/* A page of each MiB, in any order. */
	shuffle(&rnd, pages, ARRAY_SIZE(pages));
	for (unsigned int i = 0; i < ARRAY_SIZE(pages); i++) {
		r.pos = pages[i] * MIB(1) + KIB(512);
		engine_run(engine, read_co, &r);
	}
	ck_assert_uint_eq(dev_ops(engine, BDEV_READ), ARRAY_SIZE(pages));
	ck_assert_uint_eq(dev_bytes(engine, BDEV_READ),
			  ARRAY_SIZE(pages) * BLOCK);
	ck_assert_uint_eq(engine->cache->readahead_bytes, 0);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(streams_of_one_connection_are_told_apart)
{
	struct engine *engine = new_engine(MIB(16));
	struct reading r = { .engine = engine, .len = BLOCK };
	uint64_t pos[4] = { 0, MIB(4), MIB(8), MIB(12) };

	put_on_disk(engine, 0, SIZE, 1);
	for (unsigned int i = 0; i < 256; i++) {
		for (unsigned int s = 0; s < 4; s++) {
			r.pos = pos[s];
			engine_run(engine, read_co, &r);
			pos[s] += BLOCK;
		}
	}
	ck_assert_uint_ge(r.inline_hits, 4 * 256 * 95 / 100);
	ck_assert_uint_le(dev_ops(engine, BDEV_READ), 4 * 12);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(nothing_is_read_twice_or_behind_the_end)
{
	struct engine_params params = {
		.cache_size = MIB(16),
		.vol.sim.size = MIB(2) + 1000,
	};
	struct engine *engine = engine_start(&params);
	struct reading r = { .engine = engine, .len = 1000,
			     .end = (MIB(2) + 1000) / 1000 * 1000 };

	put_on_disk(engine, 0, MIB(2) + 1000, 1);
	engine_run(engine, sequential_co, &r);
	ck_assert_uint_le(dev_bytes(engine, BDEV_READ), MIB(2) + 1000);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(without_a_stream_state_nothing_is_read_ahead)
{
	struct engine *engine = new_engine(MIB(16));

	put_on_disk(engine, 0, SIZE, 1);
	for (uint64_t pos = 0; pos < MIB(1); pos += BLOCK)
		ck_assert(reads_pattern(engine, pos, BLOCK, 1));
	ck_assert_uint_eq(dev_bytes(engine, BDEV_READ), MIB(1));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

struct prefetching {
	struct engine	*engine;
	uint64_t	pos, len;
};

static void prefetch_co(void *arg)
{
	struct prefetching *p = arg;

	ck_assert_int_eq(volume_prefetch(p->engine->vol, p->pos, p->len), 0);
}

START_TEST(what_was_prefetched_is_answered_inline)
{
	struct engine *engine = new_engine(MIB(16));
	struct prefetching p = { .engine = engine, .pos = MIB(1) + 100,
				 .len = MIB(1) };
	struct reading r = { .engine = engine, .pos = MIB(1) + 100,
			     .len = KIB(64), .end = MIB(2) };
	uint64_t reads;

	put_on_disk(engine, 0, SIZE, 1);
	engine_run(engine, prefetch_co, &p);
	settle(engine, NSEC_PER_SEC);
	reads = dev_ops(engine, BDEV_READ);
	ck_assert_uint_le(reads, 6);
	memset(&r.ra, 0, sizeof(r.ra));
	engine_run(engine, sequential_co, &r);
	ck_assert_uint_eq(r.inline_hits, 16);
	ck_assert_uint_eq(dev_ops(engine, BDEV_READ), reads);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(a_prefetch_takes_at_most_a_quarter_of_the_cache)
{
	struct engine *engine = new_engine(MIB(4));
	struct prefetching p = { .engine = engine, .len = SIZE };

	put_on_disk(engine, 0, SIZE, 1);
	engine_run(engine, prefetch_co, &p);
	settle(engine, NSEC_PER_SEC);
	ck_assert_uint_eq(dev_bytes(engine, BDEV_READ), MIB(1));
	ck_assert_uint_eq(engine->vol->nr_background, 0);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(prefetches_are_bounded_and_their_errors_are_nobodys)
{
	struct engine *engine = new_engine(MIB(16));
	struct prefetching p = { .engine = engine, .len = BLOCK };

	put_on_disk(engine, 0, SIZE, 1);
	sim_set_stall(engine->bdev, BDEV_READ, true);
	sim_set_fault(engine->bdev, BDEV_READ, 1, UINT64_MAX, EIO, false);
	for (unsigned int i = 0; i < 200; i++) {
		p.pos = i * KIB(64);
		engine_run(engine, prefetch_co, &p);
	}
	settle(engine, 10000);
	ck_assert_uint_eq(engine->vol->nr_background, 64);
	ck_assert_uint_le(sim_in_flight(engine->bdev), 64);
	sim_set_stall(engine->bdev, BDEV_READ, false);
	settle(engine, NSEC_PER_SEC);
	ck_assert_uint_eq(engine->vol->nr_background, 0);
	sim_set_fault(engine->bdev, BDEV_READ, 0, 0, 0, false);
	check_idle(engine);
	ck_assert(reads_pattern(engine, 0, MIB(1), 1));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

static void prefetch_hole_co(void *arg)
{
	struct engine *engine = arg;

	ck_assert_int_eq(volume_prefetch(engine->vol, 0, MIB(1)), 0);
	coroutine_sleep_ns(NSEC_PER_MSEC);
}

START_TEST(holes_are_not_read_ahead_into_memory)
{
	struct engine_params params = {
		.cache_size = MIB(16),
		.vol.sim = { .size = SIZE, .sparse = true },
	};
	struct engine *engine = engine_start(&params);

	must_write(engine, KIB(512), BLOCK, 1, 0);
	go_cold(engine);
	engine_run(engine, prefetch_hole_co, engine);
	ck_assert_uint_eq(engine->cache->pool.cached_pages, 1);
	ck_assert_uint_eq(dev_bytes(engine, BDEV_READ), BLOCK);
	ck_assert(reads_pattern(engine, KIB(512), BLOCK, 1));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

static Suite *readahead_suite(void)
{
	Suite *suite = suite_create("readahead");
	TCase *tc = tcase_create("streams");

	tcase_add_test(tc, a_sequential_stream_is_read_ahead_of);
	tcase_add_test(tc, the_window_doubles_up_to_a_share_of_the_cache);
	tcase_add_test(tc, random_reads_fetch_nothing_else);
	tcase_add_test(tc, streams_of_one_connection_are_told_apart);
	tcase_add_test(tc, nothing_is_read_twice_or_behind_the_end);
	tcase_add_test(tc, without_a_stream_state_nothing_is_read_ahead);
	suite_add_tcase(suite, tc);
	tc = tcase_create("prefetch");
	tcase_add_test(tc, what_was_prefetched_is_answered_inline);
	tcase_add_test(tc, a_prefetch_takes_at_most_a_quarter_of_the_cache);
	tcase_add_test(tc, holes_are_not_read_ahead_into_memory);
	tcase_add_test(tc, prefetches_are_bounded_and_their_errors_are_nobodys);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	return proof_main(readahead_suite());
}
