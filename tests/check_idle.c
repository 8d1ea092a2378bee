/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_idle.c - how long a loop looks on, by a clock that the test moves.
 */
#include <check.h>
#include <stdlib.h>

#include "base/base.h"
#include "base/sched.h"

#define SHORT_NS	(20 * NSEC_PER_USEC)
#define LONG_NS		NSEC_PER_MSEC

static struct loop *loop;

static void setup(void)
{
	ck_assert_int_eq(loop_new_virtual(1, &loop), 0);
	loop_enter(loop);
	loop->now_ns = NSEC_PER_SEC;
}

static void teardown(void)
{
	loop_enter(NULL);
	loop_free(loop);
}

static void sleep_for(uint64_t ns)
{
	uint64_t from = loop->now_ns;

	loop->now_ns += ns;
	idle_slept(loop, from);
}

/* How long it looks on after an event, to the microsecond. */
static uint64_t looks_on_ns(void)
{
	uint64_t from = loop->now_ns;

	loop_had_event();
	while (loop_looks_on()) {
		loop->idle.looks_on = idle_look_on(loop);
		loop->now_ns += NSEC_PER_USEC;
		ck_assert_uint_lt(loop->now_ns - from, NSEC_PER_SEC);
	}
	return loop->now_ns - from;
}

START_TEST(at_first_it_sleeps_at_once)
{
	loop_had_event();
	ck_assert(!loop_looks_on());
	ck_assert(!idle_look_on(loop));
}
END_TEST

START_TEST(long_sleeps_never_make_it_look_on)
{
	for (int i = 0; i < 100; i++)
		sleep_for(LONG_NS);
	ck_assert_uint_eq(looks_on_ns(), 0);
}
END_TEST

START_TEST(short_sleeps_make_it_look_on_up_to_a_limit)
{
	uint64_t before, now = 0;

	for (int i = 0; i < 3; i++) {
		before = now;
		sleep_for(SHORT_NS);
		now = looks_on_ns();
		ck_assert_uint_gt(now, before);
	}
	for (int i = 0; i < 100; i++)
		sleep_for(SHORT_NS);
	now = looks_on_ns();
	ck_assert_uint_ge(now, 64 * NSEC_PER_USEC);
	ck_assert_uint_le(now, 68 * NSEC_PER_USEC);
}
END_TEST

START_TEST(long_sleeps_then_end_it)
{
	for (int i = 0; i < 100; i++)
		sleep_for(SHORT_NS);
	for (int i = 0; i < 5; i++)
		sleep_for(LONG_NS);
	ck_assert_uint_eq(looks_on_ns(), 0);
}
END_TEST

START_TEST(each_event_begins_a_new_window)
{
	for (int i = 0; i < 100; i++)
		sleep_for(SHORT_NS);
	for (int i = 0; i < 100; i++) {
		loop_had_event();
		ck_assert(loop_looks_on());
		ck_assert(idle_look_on(loop));
		loop->now_ns += 50 * NSEC_PER_USEC;
		ck_assert(idle_look_on(loop));
	}
	loop->now_ns += 20 * NSEC_PER_USEC;
	ck_assert(!idle_look_on(loop));
}
END_TEST

/* Yields take no virtual time, so who takes the processor is told to. */
START_TEST(it_does_not_look_on_beside_others_who_compute)
{
	for (int i = 0; i < 100; i++)
		sleep_for(SHORT_NS);
	loop_had_event();
	ck_assert(idle_look_on(loop));
	idle_yielded(loop, 200 * NSEC_PER_USEC);
	ck_assert_uint_eq(looks_on_ns(), 0);
	/* Nor soon after, */
	sleep_for(SHORT_NS);
	ck_assert_uint_eq(looks_on_ns(), 0);
	/* but then it tries again. */
	sleep_for(20 * NSEC_PER_MSEC);
	sleep_for(SHORT_NS);
	ck_assert_uint_gt(looks_on_ns(), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("idle");
	TCase *tc = tcase_create("idle");
	SRunner *runner;
	int nr_failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, at_first_it_sleeps_at_once);
	tcase_add_test(tc, long_sleeps_never_make_it_look_on);
	tcase_add_test(tc, short_sleeps_make_it_look_on_up_to_a_limit);
	tcase_add_test(tc, long_sleeps_then_end_it);
	tcase_add_test(tc, each_event_begins_a_new_window);
	tcase_add_test(tc, it_does_not_look_on_beside_others_who_compute);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	nr_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return nr_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
