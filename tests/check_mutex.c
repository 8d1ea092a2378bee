/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_mutex.c - mutual exclusion, and the watch over it in debug builds.
 */
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/mutex.h"

static struct mutex store, shard, leaf;

static void setup(void)
{
	mutex_init(&store, RANK_STORE);
	mutex_init(&shard, RANK_SHARD);
	mutex_init(&leaf, RANK_LEAF);
}

static void teardown(void)
{
	mutex_fini(&store);
	mutex_fini(&shard);
	mutex_fini(&leaf);
}

START_TEST(rising_ranks_may_be_taken_and_released_in_any_order)
{
	mutex_lock(&store);
	mutex_lock(&shard);
	mutex_lock(&leaf);
	mutex_assert_held(&store);
	mutex_assert_held(&shard);
	mutex_assert_held(&leaf);
	mutex_unlock(&store);
	mutex_unlock(&leaf);
	mutex_assert_held(&shard);
	mutex_lock(&leaf);
	mutex_unlock(&leaf);
	mutex_unlock(&shard);
	mutex_assert_none_held();
	/* Nothing is left of it. */
	mutex_lock(&store);
	mutex_unlock(&store);
}
END_TEST

struct count {
	struct mutex	lock;
	unsigned int	value;		/* guarded by lock */
};

static void *count_up(void *arg)
{
	struct count *count = arg;

	for (int i = 0; i < 20000; i++) {
		mutex_lock(&count->lock);
		count->value++;
		mutex_unlock(&count->lock);
	}
	return NULL;
}

START_TEST(one_thread_at_a_time)
{
	struct count count = { .value = 0 };
	pthread_t threads[4];

	mutex_init(&count.lock, RANK_LEAF);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, count_up,
						&count), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(count.value, 80000);
	mutex_fini(&count.lock);
}
END_TEST

#ifdef FOLIOD_DEBUG
/* What the compiler would object to is what these are about. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wthread-safety-analysis"
#endif
START_TEST(taking_a_lower_rank_aborts)
{
	mutex_lock(&shard);
	mutex_lock(&store);
}
END_TEST

START_TEST(taking_an_equal_rank_aborts)
{
	struct mutex other;

	mutex_init(&other, RANK_SHARD);
	mutex_lock(&shard);
	mutex_lock(&other);
}
END_TEST

START_TEST(the_highest_rank_held_counts_not_the_latest)
{
	struct mutex other;

	mutex_init(&other, RANK_SHARD);
	mutex_lock(&store);
	mutex_lock(&shard);
	mutex_unlock(&store);
	mutex_lock(&other);
}
END_TEST

START_TEST(unlocking_what_is_not_held_aborts)
{
	mutex_lock(&shard);
	mutex_unlock(&store);
}
END_TEST

START_TEST(assert_held_aborts_if_not)
{
	mutex_assert_held(&shard);
}
END_TEST

static void *assert_shard_held(void *arg)
{
	mutex_assert_held(&shard);
	return arg;
}

START_TEST(assert_held_aborts_if_another_thread_holds_it)
{
	pthread_t thread;

	mutex_lock(&shard);
	pthread_create(&thread, NULL, assert_shard_held, NULL);
	pthread_join(thread, NULL);
}
END_TEST

START_TEST(assert_none_held_aborts_if_one_is)
{
	mutex_lock(&leaf);
	mutex_assert_none_held();
}
END_TEST

START_TEST(destroying_a_held_mutex_aborts)
{
	mutex_lock(&leaf);
	mutex_fini(&leaf);
}
END_TEST
#endif

int main(void)
{
	Suite *suite = suite_create("mutex");
	TCase *tc = tcase_create("mutex");
	SRunner *runner;
	int nr_failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, rising_ranks_may_be_taken_and_released_in_any_order);
	tcase_add_test(tc, one_thread_at_a_time);
#ifdef FOLIOD_DEBUG
	tcase_add_test_raise_signal(tc, taking_a_lower_rank_aborts, SIGABRT);
	tcase_add_test_raise_signal(tc, taking_an_equal_rank_aborts, SIGABRT);
	tcase_add_test_raise_signal(tc,
		the_highest_rank_held_counts_not_the_latest, SIGABRT);
	tcase_add_test_raise_signal(tc, unlocking_what_is_not_held_aborts,
				    SIGABRT);
	tcase_add_test_raise_signal(tc, assert_held_aborts_if_not, SIGABRT);
	tcase_add_test_raise_signal(tc,
		assert_held_aborts_if_another_thread_holds_it, SIGABRT);
	tcase_add_test_raise_signal(tc, assert_none_held_aborts_if_one_is,
				    SIGABRT);
	tcase_add_test_raise_signal(tc, destroying_a_held_mutex_aborts,
				    SIGABRT);
#endif
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	nr_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return nr_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
