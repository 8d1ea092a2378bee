/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_flush.c - what a FLUSH covers, what it waits for, and which of them
 * share a pass.
 */
#include <errno.h>

#include "cache/writeback.h"
#include "tests/proof.h"
#include "tests/stubstore.h"

static struct volume_stats volume_stats_of(const struct volume *vol)
{
	struct volume_stats stats;

	volume_get_stats(vol, &stats);
	return stats;
}

#define BLOCK	4096u

static struct engine *stub_engine(struct stub **stubp)
{
	struct engine_params params = {
		.vol = { .open = stub_open, .sim.write_cache = true },
	};
	struct engine *engine = engine_start(&params);

	*stubp = to_stub(engine->vol);
	return engine;
}

START_TEST(flushes_that_come_during_a_pass_share_the_next)
{
	struct spawned_flush flushes[20];
	struct stub *stub;
	struct engine *engine = stub_engine(&stub);

	must_write(engine, 0, BLOCK, 2, 0);
	sim_set_stall(engine->bdev, BDEV_WRITE, true);
	for (unsigned int i = 0; i < ARRAY_SIZE(flushes); i++) {
		flushes[i] = (struct spawned_flush){ .vol = engine->vol };
		engine_spawn(engine, spawned_flush_co, &flushes[i]);
	}
	settle(engine, NSEC_PER_MSEC);
	for (unsigned int i = 0; i < ARRAY_SIZE(flushes); i++)
		ck_assert(!flushes[i].done);
	sim_set_stall(engine->bdev, BDEV_WRITE, false);
	engine_run_all(engine);
	for (unsigned int i = 0; i < ARRAY_SIZE(flushes); i++)
		ck_assert_int_eq(flushes[i].ret, 0);
	ck_assert_uint_eq(stub->nr_flushes, 2);
	ck_assert_uint_eq(volume_stats_of(engine->vol).flushes, 20);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(a_write_acked_during_a_pass_is_for_the_flush_behind_it)
{
	struct spawned_flush first, second;
	struct stub *stub;
	struct engine *engine = stub_engine(&stub);
	char *image = malloc(ENGINE_SIZE);

	first = second = (struct spawned_flush){ .vol = engine->vol };
	must_write(engine, 0, BLOCK, 2, 0);
	sim_set_stall(engine->bdev, BDEV_WRITE, true);
	engine_spawn(engine, spawned_flush_co, &first);
	settle(engine, 1000);
	/* The pass has its tags. */
	must_write(engine, KIB(64), BLOCK, 2, 0);
	engine_spawn(engine, spawned_flush_co, &second);
	settle(engine, 1000);
	sim_set_stall(engine->bdev, BDEV_WRITE, false);
	engine_run_all(engine);
	ck_assert(!first.ret && !second.ret);
	for (uint64_t seed = 0; seed < 20; seed++) {
		sim_crash_image(engine->bdev, seed, image);
		ck_assert(has_pattern(image, BLOCK, 0, 2));
		ck_assert(has_pattern(image + KIB(64), BLOCK, KIB(64), 2));
	}
	free(image);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

static void background_co(void *arg)
{
	struct writeback_control wbc = {
		.sync = WB_SYNC_NONE, .range_cyclic = true, .nr_to_write = 100,
	};

	ck_assert_int_eq(writeback_pages(arg, &wbc), 0);
}

START_TEST(what_the_background_writer_has_in_flight_is_waited_for)
{
	struct spawned_flush flush;
	struct stub *stub;
	struct engine *engine = stub_engine(&stub);

	flush = (struct spawned_flush){ .vol = engine->vol };
	must_write(engine, 0, KIB(64), 2, 0);
	sim_set_stall(engine->bdev, BDEV_WRITE, true);
	engine_run(engine, background_co, engine->vol);
	ck_assert_uint_eq(engine->vol->dirty_bytes, 0);
	engine_spawn(engine, spawned_flush_co, &flush);
	settle(engine, NSEC_PER_SEC);
	ck_assert(!flush.done);
	ck_assert_uint_eq(stub->nr_flushes, 0);
	sim_set_stall(engine->bdev, BDEV_WRITE, false);
	engine_run_all(engine);
	ck_assert(flush.done && !flush.ret);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(later_write_throughs_do_not_keep_a_flush)
{
	struct spawned_write early, late;
	struct spawned_flush flush;
	struct stub *stub;
	struct engine *engine = stub_engine(&stub);

	early = (struct spawned_write){ .vol = engine->vol, .len = BLOCK,
					.version = 2, .flags = VOLUME_FUA };
	late = early;
	late.pos = KIB(64);
	flush = (struct spawned_flush){ .vol = engine->vol };
	sim_set_stall(engine->bdev, BDEV_WRITE, true);
	engine_spawn(engine, spawned_write_co, &early);
	settle(engine, 1000);
	engine_spawn(engine, spawned_flush_co, &flush);
	settle(engine, 1000);
	ck_assert(!flush.done);
	/* The device lets the first go, and holds the second one. */
	sim_set_stall(engine->bdev, BDEV_WRITE, false);
	settle(engine, 0);
	sim_set_stall(engine->bdev, BDEV_WRITE, true);
	engine_spawn(engine, spawned_write_co, &late);
	settle(engine, NSEC_PER_MSEC);
	ck_assert(early.done && flush.done && !late.done);
	sim_set_stall(engine->bdev, BDEV_WRITE, false);
	engine_run_all(engine);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(a_claim_is_waited_for_and_a_later_one_is_not)
{
	struct spawned_flush flush;
	struct stub *stub;
	struct engine *engine = stub_engine(&stub);
	unsigned int claims[2];

	flush = (struct spawned_flush){ .vol = engine->vol };
	loop_enter(engine->loop);
	claims[0] = writeback_claim(engine->vol);
	loop_enter(NULL);
	engine_spawn(engine, spawned_flush_co, &flush);
	settle(engine, NSEC_PER_MSEC);
	ck_assert(!flush.done);
	loop_enter(engine->loop);
	claims[1] = writeback_claim(engine->vol);
	ck_assert_uint_ne(claims[0], claims[1]);
	writeback_unclaim(engine->vol, claims[0]);
	loop_enter(NULL);
	engine_run_all(engine);
	ck_assert(flush.done);
	loop_enter(engine->loop);
	writeback_unclaim(engine->vol, claims[1]);
	loop_enter(NULL);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(the_device_is_flushed_only_if_something_was_written)
{
	struct engine_params params = { .vol.sim.write_cache = true };
	struct engine *engine = engine_start(&params);

	/* A FLUSH without need is done by the time that the sim hears of it. */
	ck_assert_int_eq(engine_flush(engine), 0);
	must_write(engine, 0, BLOCK, 2, 0);
	ck_assert_int_eq(engine_flush(engine), 0);
	sim_set_fault(engine->bdev, BDEV_FLUSH, 1, 1, EIO, false);
	for (unsigned int i = 0; i < 3; i++)
		ck_assert_int_eq(engine_flush(engine), 0);
	ck_assert_uint_eq(sim_faults_fired(engine->bdev), 0);
	must_write(engine, 0, BLOCK, 3, 0);
	ck_assert_int_eq(engine_flush(engine), -EIO);
	ck_assert_uint_eq(sim_faults_fired(engine->bdev), 1);
	ck_assert_int_ne(engine_stop(&engine), 0);
}
END_TEST

START_TEST(an_unsafe_volume_flushes_nothing)
{
	struct engine_params params = {
		.vol = { .mode = VOLUME_UNSAFE, .sim.write_cache = true },
	};
	struct engine *engine = engine_start(&params);

	must_write(engine, 0, BLOCK, 2, VOLUME_FUA);
	ck_assert(volume_flush_inline(engine->vol));
	ck_assert_int_eq(engine_flush(engine), 0);
	ck_assert_uint_eq(dev_ops(engine, BDEV_WRITE), 0);
	ck_assert_uint_eq(dev_ops(engine, BDEV_FLUSH), 0);
	ck_assert_uint_eq(engine->vol->dirty_bytes, BLOCK);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(a_flush_retries_what_failed_and_tells_the_truth)
{
	struct engine_params params = { .vol.sim.write_cache = true };
	struct engine *engine = engine_start(&params);

	must_write(engine, 0, BLOCK, 2, 0);
	must_write(engine, KIB(64), BLOCK, 2, 0);
	/* The first fails twice, then is stored. */
	sim_set_fault_range(engine->bdev, BDEV_WRITE, 0, BLOCK);
	sim_set_fault(engine->bdev, BDEV_WRITE, 1, 2, ENOSPC, false);
	ck_assert_int_lt(engine_flush(engine), 0);
	ck_assert(disk_has_pattern(engine, KIB(64), BLOCK, 2));
	ck_assert_int_lt(engine_flush(engine), 0);
	ck_assert_int_eq(engine_flush(engine), 0);
	ck_assert(disk_has_pattern(engine, 0, BLOCK, 2));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

/* Whatever is queued, armed or in flight of the background writer then. */
START_TEST(a_volume_that_cannot_be_stored_still_stops)
{
	uint64_t seed = test_seed("stop");

	for (unsigned int i = 0; i < 60; i++) {
		struct engine_params params = {
			.seed = seed + i, .cache_size = MIB(1),
			.vol.sim = { .seed = seed + i, .size = MIB(2),
				     .latency_max_ns = 100000 },
		};
		struct engine *engine = engine_start(&params);
		struct random rnd;

		random_init(&rnd, seed + i);
		sim_set_fault(engine->bdev, BDEV_WRITE, 1 + i % 3, UINT64_MAX,
			      EIO, false);
		for (unsigned int n = 0; n < 30; n++)
			must_write(engine, n * 2 * BLOCK, BLOCK, 2, 0);
		if (i % 2)
			settle(engine, random_below(&rnd, 6 * NSEC_PER_SEC));
		ck_assert_int_eq(engine_stop(&engine), -EIO);
	}
}
END_TEST

static Suite *flush_suite(void)
{
	Suite *suite = suite_create("flush");
	TCase *tc = tcase_create("flush");

	tcase_add_test(tc, flushes_that_come_during_a_pass_share_the_next);
	tcase_add_test(tc, a_write_acked_during_a_pass_is_for_the_flush_behind_it);
	tcase_add_test(tc, what_the_background_writer_has_in_flight_is_waited_for);
	tcase_add_test(tc, later_write_throughs_do_not_keep_a_flush);
	tcase_add_test(tc, a_claim_is_waited_for_and_a_later_one_is_not);
	tcase_add_test(tc, the_device_is_flushed_only_if_something_was_written);
	tcase_add_test(tc, an_unsafe_volume_flushes_nothing);
	tcase_add_test(tc, a_flush_retries_what_failed_and_tells_the_truth);
	tcase_add_test(tc, a_volume_that_cannot_be_stored_still_stops);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	return proof_main(flush_suite());
}
