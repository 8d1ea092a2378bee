/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_throttle.c - who may write, who is delayed and who waits, by what is
 * dirty, in flight and promised.
 */
#include <errno.h>

#include "tests/proof.h"

#define BLOCK	4096u

static struct engine *new_engine(void)
{
	struct engine_params params = {
		.cache_size = MIB(4),
		.vol.sim.size = MIB(8),
	};

	return engine_start(&params);
}

static struct throttle *throttle_of(struct engine *engine)
{
	return &engine->cache->throttle;
}

/* Play @bytes dirty; with nothing that could write them. */
static void set_dirty(struct engine *engine, int64_t bytes)
{
	throttle_of(engine)->dirty_bytes += (uint64_t)bytes;
	engine->vol->dirty_bytes += (uint64_t)bytes;
}

START_TEST(background_is_at_most_half_of_hard)
{
	struct throttle throttle;

	throttle_init(&throttle, 100, 1000);
	ck_assert_uint_eq(throttle.background, 100);
	throttle_fini(&throttle);
	throttle_init(&throttle, 900, 1000);
	ck_assert_uint_eq(throttle.background, 500);
	ck_assert_uint_eq(throttle.hard, 1000);
	throttle_fini(&throttle);
}
END_TEST

START_TEST(the_way_is_open_up_to_the_free_run)
{
	struct engine *engine = new_engine();
	struct throttle *throttle = throttle_of(engine);
	uint64_t run = (throttle->background + throttle->hard) / 2;

	ck_assert(throttle_open(engine->vol, run));
	ck_assert(!throttle_open(engine->vol, run + 1));
	set_dirty(engine, (int64_t)(run - BLOCK));
	ck_assert(throttle_open(engine->vol, BLOCK));
	ck_assert(!throttle_open(engine->vol, BLOCK + 1));
	throttle->promised_bytes = 1;
	ck_assert(!throttle_open(engine->vol, BLOCK));
	throttle->promised_bytes = 0;
	set_dirty(engine, -(int64_t)(run - BLOCK));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

struct waiting {
	struct engine	*engine;
	uint64_t	len;
	bool		promise;
	bool		in;
	uint64_t	took_ns;
};

static void waiting_co(void *arg)
{
	struct waiting *w = arg;
	uint64_t before = clock_now_ns();

	if (w->promise)
		throttle_reserve(w->engine->vol, w->len);
	else
		throttle_wait(w->engine->vol, w->len);
	w->took_ns = clock_now_ns() - before;
	w->in = true;
}

static uint64_t delay_at(struct engine *engine, uint64_t used, uint64_t len)
{
	struct waiting w = { .engine = engine, .len = len };

	set_dirty(engine, (int64_t)used);
	engine_run(engine, waiting_co, &w);
	set_dirty(engine, -(int64_t)used);
	return w.took_ns;
}

START_TEST(delays_grow_towards_the_limit)
{
	struct engine *engine = new_engine();
	struct throttle *throttle = throttle_of(engine);
	uint64_t run = (throttle->background + throttle->hard) / 2;
	uint64_t step = (throttle->hard - run) / 16, last = 0;

	ck_assert_uint_eq(delay_at(engine, run - BLOCK, BLOCK), 0);
	/* One volume alone has 7/8 of it. */
	for (uint64_t used = run; used + BLOCK <= throttle->hard / 8 * 7;
	     used += step) {
		uint64_t delay = delay_at(engine, used, BLOCK);

		ck_assert_uint_gt(delay, last);
		ck_assert_uint_le(delay, 200 * NSEC_PER_MSEC);
		last = delay;
	}
	ck_assert_uint_gt(last, 0);
	/* Twice the bytes, at least twice as long. */
	ck_assert_uint_ge(delay_at(engine, run + step, 2 * BLOCK),
			  2 * delay_at(engine, run + step, BLOCK));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(at_the_limit_a_writer_waits_until_bytes_are_stored)
{
	struct engine *engine = new_engine();
	struct waiting w = { .engine = engine, .len = BLOCK };

	set_dirty(engine, (int64_t)throttle_of(engine)->hard);
	engine_spawn(engine, waiting_co, &w);
	settle(engine, NSEC_PER_MSEC);
	ck_assert(!w.in);
	ck_assert_uint_eq(throttle_of(engine)->nr_waiting, 1);
	set_dirty(engine, -(int64_t)throttle_of(engine)->hard);
	loop_enter(engine->loop);
	throttle_wake(throttle_of(engine));
	loop_enter(NULL);
	engine_run_all(engine);
	ck_assert(w.in);
	ck_assert_uint_eq(throttle_of(engine)->nr_waiting, 0);
	ck_assert_uint_eq(throttle_of(engine)->throttled, 1);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

/* Who wants little would never leave enough for who wants much. */
START_TEST(nobody_overtakes_a_waiting_writer_of_the_volume)
{
	struct engine *engine = new_engine();
	struct throttle *throttle = throttle_of(engine);
	struct engine_volume_params other = { .sim.size = MIB(1) };
	struct volume *vol = engine_add_volume(engine, &other, NULL);
	uint64_t dirty = throttle->hard / 2;
	struct waiting large = { .engine = engine, .promise = true,
				 .len = throttle->hard / 8 * 7 };
	struct waiting small = { .engine = engine, .promise = true,
				 .len = BLOCK };

	set_dirty(engine, (int64_t)dirty);
	engine_spawn(engine, waiting_co, &large);
	settle(engine, NSEC_PER_MSEC);
	engine_spawn(engine, waiting_co, &small);
	settle(engine, NSEC_PER_SEC);
	ck_assert(!large.in && !small.in);
	ck_assert(!throttle_open(engine->vol, BLOCK));
	ck_assert(throttle_open(vol, BLOCK));
	set_dirty(engine, -(int64_t)dirty);
	loop_enter(engine->loop);
	throttle_wake(throttle);
	loop_enter(NULL);
	settle(engine, NSEC_PER_SEC);
	ck_assert(large.in && small.in);
	engine_run_all(engine);
	loop_enter(engine->loop);
	throttle_release(engine->vol, throttle->promised_bytes);
	loop_enter(NULL);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

struct rewriter {
	struct engine	*engine;
	uint64_t	pos;
	const bool	*stop;
};

static void rewriter_co(void *arg)
{
	struct rewriter *r = arg;
	struct spawned_write w = { .vol = r->engine->vol, .len = KIB(32) };

	for (unsigned int i = 0; i < 2000 && !*r->stop; i++) {
		w.pos = r->pos + i % 8 * KIB(32);
		spawned_write_co(&w);
		ck_assert_int_eq(w.ret, 0);
		coroutine_relax();
	}
}

START_TEST(a_write_larger_than_the_limit_is_not_starved_by_small_ones)
{
	struct engine_params params = {
		.cache_size = MIB(2),
		.vol.sim = { .size = MIB(16), .latency_min_ns = 100000,
			     .latency_max_ns = 1000000 },
	};
	struct engine *engine = engine_start(&params);
	struct spawned_write large = { .vol = engine->vol, .pos = MIB(8),
				       .len = MIB(1), .version = 5 };
	struct rewriter r[16];

	ck_assert_uint_gt(large.len, throttle_of(engine)->hard);
	for (unsigned int i = 0; i < 16; i++) {
		r[i] = (struct rewriter){ .engine = engine, .stop = &large.done,
					  .pos = i * KIB(256) };
		engine_spawn(engine, rewriter_co, &r[i]);
	}
	settle(engine, 5 * NSEC_PER_MSEC);
	engine_spawn(engine, spawned_write_co, &large);
	/* Long before the others have come to their end. */
	settle(engine, NSEC_PER_SEC);
	ck_assert(large.done);
	engine_run_all(engine);
	ck_assert_int_eq(large.ret, 0);
	ck_assert(reads_pattern(engine, large.pos, large.len, 5));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(more_than_the_limit_goes_alone)
{
	struct engine *engine = new_engine();
	struct waiting w = { .engine = engine,
			     .len = throttle_of(engine)->hard + BLOCK };

	set_dirty(engine, 1);
	engine_spawn(engine, waiting_co, &w);
	settle(engine, NSEC_PER_SEC);
	ck_assert(!w.in);
	set_dirty(engine, -1);
	loop_enter(engine->loop);
	throttle_wake(throttle_of(engine));
	loop_enter(NULL);
	engine_run_all(engine);
	ck_assert(w.in);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(promises_count_until_they_are_released)
{
	struct engine *engine = new_engine();
	struct throttle *throttle = throttle_of(engine);
	struct waiting w[64];
	unsigned int in = 0;

	for (unsigned int i = 0; i < 64; i++) {
		w[i] = (struct waiting){ .engine = engine, .promise = true,
					 .len = KIB(64) };
		engine_spawn(engine, waiting_co, &w[i]);
	}
	settle(engine, NSEC_PER_SEC);
	for (unsigned int i = 0; i < 64; i++)
		in += w[i].in;
	ck_assert_uint_eq(in, throttle->hard / KIB(64));
	ck_assert_uint_le(throttle->promised_bytes, throttle->hard);
	/* Who holds what they may wait for passes them. */
	engine_run(engine, waiting_co,
		   &(struct waiting){ .engine = engine, .len = BLOCK });
	/* One goes for one that comes, in any order. */
	while (in < 64) {
		loop_enter(engine->loop);
		throttle_release(engine->vol, KIB(64));
		loop_enter(NULL);
		settle(engine, NSEC_PER_SEC);
		in = 0;
		for (unsigned int i = 0; i < 64; i++)
			in += w[i].in;
		ck_assert_uint_le(throttle->promised_bytes, throttle->hard);
	}
	engine_run_all(engine);
	loop_enter(engine->loop);
	throttle_release(engine->vol, throttle->promised_bytes);
	loop_enter(NULL);
	ck_assert_uint_eq(throttle->promised_bytes, 0);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

static void write_all_co(void *arg)
{
	struct spawned_write *w = arg;

	/* Whole blocks one after the other, for as long as it takes. */
	for (uint64_t pos = 0; pos + BLOCK <= w->vol->size && !w->done;
	     pos += BLOCK) {
		struct spawned_write one = { .vol = w->vol, .pos = pos,
					     .len = BLOCK };

		spawned_write_co(&one);
		ck_assert_int_eq(one.ret, 0);
		w->version++;
	}
}

START_TEST(a_stuck_device_does_not_stop_the_writers_of_another)
{
	struct engine *engine = new_engine();
	struct engine_volume_params other = { .sim.size = MIB(8) };
	struct spawned_write stuck = { .vol = engine->vol }, good = { 0 };
	uint64_t before;

	good.vol = engine_add_volume(engine, &other, NULL);
	sim_set_stall(engine->bdev, BDEV_WRITE, true);
	engine_spawn(engine, write_all_co, &stuck);
	settle(engine, 30 * NSEC_PER_SEC);
	before = stuck.version;
	engine_spawn(engine, write_all_co, &good);
	settle(engine, 300 * NSEC_PER_SEC);
	/* The one came no further, the other one to its end. */
	ck_assert_uint_eq(stuck.version, before);
	ck_assert_uint_eq(good.version, MIB(8) / BLOCK);
	sim_set_stall(engine->bdev, BDEV_WRITE, false);
	engine_run_all(engine);
	ck_assert_uint_eq(stuck.version, MIB(8) / BLOCK);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

static Suite *throttle_suite(void)
{
	Suite *suite = suite_create("throttle");
	TCase *tc = tcase_create("limits");

	tcase_add_test(tc, background_is_at_most_half_of_hard);
	tcase_add_test(tc, the_way_is_open_up_to_the_free_run);
	tcase_add_test(tc, delays_grow_towards_the_limit);
	tcase_add_test(tc, at_the_limit_a_writer_waits_until_bytes_are_stored);
	tcase_add_test(tc, nobody_overtakes_a_waiting_writer_of_the_volume);
	tcase_add_test(tc, a_write_larger_than_the_limit_is_not_starved_by_small_ones);
	tcase_add_test(tc, more_than_the_limit_goes_alone);
	tcase_add_test(tc, promises_count_until_they_are_released);
	tcase_add_test(tc, a_stuck_device_does_not_stop_the_writers_of_another);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	return proof_main(throttle_suite());
}
