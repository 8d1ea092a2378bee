/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_prefault.c - the arena is in memory ahead of its use, and no further.
 */
#include <check.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cache/pool.h"
#include "cache/prefault.h"

#define MIB		(UINT64_C(1) << 20)
#define CACHE_PAGES	(64 * MIB / FRAME_SIZE)
#define AHEAD		(8 * MIB)
#define AHEAD_FRAMES	((uint32_t)(AHEAD / FRAME_SIZE))
/* A step may begin just below what is wanted, and huge pages round up. */
#define SLACK_FRAMES	1024u

static struct pool pool;

static bool in_memory(uint32_t frame)
{
	unsigned char vec;

	ck_assert_int_eq(mincore(pool_data(&pool, frame), FRAME_SIZE, &vec), 0);
	return vec & 1;
}

/* The thread gets there in its time; if never, the test's time ends. */
static void wait_for(uint32_t frame)
{
	while (!in_memory(frame))
		usleep(1000);
}

static void setup(void)
{
	ck_assert_int_eq(pool_init(&pool, CACHE_PAGES, 0), 0);
}

static void teardown(void)
{
	pool_fini(&pool);
}

START_TEST(without_it_nothing_is_touched)
{
	for (uint32_t frame = 1; frame < pool.nr_frames; frame++)
		ck_assert(!in_memory(frame));
}
END_TEST

START_TEST(what_comes_next_is_in_memory_and_no_more)
{
	prefault_start(&pool, AHEAD);
	ck_assert_ptr_nonnull(pool.prefault);
	wait_for(AHEAD_FRAMES);
	ck_assert(!in_memory(AHEAD_FRAMES + 2 * SLACK_FRAMES));
}
END_TEST

START_TEST(it_goes_on_as_frames_are_used)
{
	uint32_t used = 0;

	prefault_start(&pool, AHEAD);
	wait_for(AHEAD_FRAMES);
	while (used < CACHE_PAGES / 2) {
		ck_assert_uint_ne(pool_alloc(&pool, POOL_CACHE, 0, false), 0);
		used++;
	}
	/* It lags by half of what is wanted at most. */
	wait_for(used + AHEAD_FRAMES / 2);
	ck_assert(!in_memory(used + AHEAD_FRAMES + 2 * SLACK_FRAMES));
}
END_TEST

/* Who takes the last frame calls the thread no more: it must see by itself. */
START_TEST(it_ends_with_the_arena)
{
	for (int i = 0; i < 40; i++) {
		prefault_start(&pool, AHEAD);
		usleep((useconds_t)i * 20);
		while (pool_alloc(&pool, POOL_CACHE, 0, false))
			;
		wait_for(pool.nr_frames - 1);
		pool_fini(&pool);
		ck_assert_int_eq(pool_init(&pool, CACHE_PAGES / 8, 0), 0);
	}
}
END_TEST

START_TEST(it_can_be_stopped_at_any_time)
{
	for (int i = 0; i < 50; i++) {
		prefault_start(&pool, AHEAD);
		usleep((useconds_t)i * 20);
		prefault_stop(&pool);
		ck_assert_ptr_null(pool.prefault);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("prefault");
	TCase *tc = tcase_create("prefault");
	SRunner *runner;
	int nr_failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, without_it_nothing_is_touched);
	tcase_add_test(tc, what_comes_next_is_in_memory_and_no_more);
	tcase_add_test(tc, it_goes_on_as_frames_are_used);
	tcase_add_test(tc, it_ends_with_the_arena);
	tcase_add_test(tc, it_can_be_stopped_at_any_time);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	nr_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return nr_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
