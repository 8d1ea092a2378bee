/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_waitq.c - waiting in a row, and being woken from any thread.
 */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

static struct loop *loop;
static struct mutex lock;
static struct waitq waiters;
static char trace[64];			/* who got through, in order */

static void setup(void)
{
	ck_assert_int_eq(loop_new(&loop), 0);
	loop_enter(loop);
	mutex_init(&lock, RANK_VOLUME);
	waitq_init(&waiters);
	memset(trace, 0, sizeof(trace));
}

static void teardown(void)
{
	ck_assert_uint_eq(coroutine_count(), 0);
	ck_assert(!waitq_active(&waiters));
	mutex_fini(&lock);
	loop_free(loop);
}

static void run_turn(void)
{
	loop_stop(loop);
	ck_assert_int_eq(loop_run(loop), 0);
}

struct named {
	struct coroutine	*co;
	char			name;
};

static void wait_once(void *arg)
{
	struct named *named = arg;

	named->co = coroutine_self();
	mutex_lock(&lock);
	waitq_wait(&waiters, &lock);
	mutex_assert_held(&lock);
	trace[strlen(trace)] = named->name;
	mutex_unlock(&lock);
}

static void start_waiters(struct named *named, int n)
{
	for (int i = 0; i < n; i++) {
		named[i].name = (char)('a' + i);
		ck_assert_int_eq(coroutine_start(wait_once, &named[i]), 0);
		/* The mutex is free while they wait. */
		mutex_lock(&lock);
		ck_assert(waitq_active(&waiters));
		mutex_unlock(&lock);
	}
}

static void wake(void (*fn)(struct waitq *wq))
{
	mutex_lock(&lock);
	fn(&waiters);
	mutex_unlock(&lock);
}

START_TEST(one_wake_lets_the_first_through)
{
	struct named named[3];

	ck_assert(!waitq_active(&waiters));
	start_waiters(named, 3);
	run_turn();
	ck_assert_str_eq(trace, "");
	wake(waitq_wake_one);
	ck_assert_str_eq(trace, "");
	run_turn();
	ck_assert_str_eq(trace, "a");
	wake(waitq_wake_one);
	wake(waitq_wake_one);
	ck_assert(!waitq_active(&waiters));
	run_turn();
	ck_assert_str_eq(trace, "abc");
}
END_TEST

START_TEST(wake_all_lets_all_through_in_order)
{
	struct named named[5];

	start_waiters(named, 5);
	wake(waitq_wake_all);
	ck_assert(!waitq_active(&waiters));
	run_turn();
	ck_assert_str_eq(trace, "abcde");
}
END_TEST

START_TEST(a_wake_without_waiters_is_not_kept)
{
	struct named named[1];

	wake(waitq_wake_one);
	wake(waitq_wake_all);
	start_waiters(named, 1);
	run_turn();
	ck_assert_str_eq(trace, "");
	wake(waitq_wake_one);
	run_turn();
	ck_assert_str_eq(trace, "a");
}
END_TEST

START_TEST(a_wake_for_something_else_keeps_the_place)
{
	struct named named[3];

	start_waiters(named, 3);
	coroutine_wake(named[0].co);
	coroutine_wake(named[1].co);
	run_turn();
	ck_assert_str_eq(trace, "");
	wake(waitq_wake_one);
	run_turn();
	ck_assert_str_eq(trace, "a");
	wake(waitq_wake_all);
	run_turn();
	ck_assert_str_eq(trace, "abc");
}
END_TEST

#define NR_TAKERS	6
#define NR_ITEMS	4000

/* Coroutines of two threads put items in and take them out; 4 fit. */
struct store {
	struct mutex	lock;
	struct waitq	nonempty, nonfull;
	unsigned int	nr_items, nr_made, nr_taken;	/* guarded by lock */
	unsigned int	nr_takers;			/* guarded by lock */
	struct loop	*loops[2];
};

static struct store store;

static void maker(void *arg)
{
	bool more = true;

	(void)arg;
	while (more) {
		mutex_lock(&store.lock);
		while (store.nr_items == 4)
			waitq_wait(&store.nonfull, &store.lock);
		if (store.nr_made < NR_ITEMS) {
			store.nr_made++;
			store.nr_items++;
			waitq_wake_one(&store.nonempty);
		}
		more = store.nr_made < NR_ITEMS;
		if (!more)
			waitq_wake_all(&store.nonempty);
		mutex_unlock(&store.lock);
	}
}

static void taker(void *arg)
{
	bool more = true;

	(void)arg;
	while (more) {
		mutex_lock(&store.lock);
		while (!store.nr_items && store.nr_made < NR_ITEMS)
			waitq_wait(&store.nonempty, &store.lock);
		ck_assert_uint_le(store.nr_items, 4);
		more = store.nr_items > 0;
		if (more) {
			store.nr_items--;
			store.nr_taken++;
			waitq_wake_one(&store.nonfull);
		} else if (--store.nr_takers == 0) {
			waitq_wake_all(&store.nonfull);
			loop_stop(store.loops[0]);
			loop_stop(store.loops[1]);
		}
		mutex_unlock(&store.lock);
	}
}

static void *run_store(void *arg)
{
	struct loop *own = arg;

	loop_enter(own);
	for (int i = 0; i < NR_TAKERS / 2; i++) {
		ck_assert_int_eq(coroutine_start(taker, NULL), 0);
		ck_assert_int_eq(coroutine_start(maker, NULL), 0);
	}
	ck_assert_int_eq(loop_run(own), 0);
	/* Those woken last may have been left for another turn. */
	while (coroutine_count()) {
		loop_stop(own);
		ck_assert_int_eq(loop_run(own), 0);
	}
	loop_enter(NULL);
	return NULL;
}

START_TEST(nothing_is_lost_between_coroutines_of_two_threads)
{
	pthread_t threads[2];

	mutex_init(&store.lock, RANK_STORE);
	waitq_init(&store.nonempty);
	waitq_init(&store.nonfull);
	store.nr_takers = NR_TAKERS;
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(loop_new(&store.loops[i]), 0);
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, run_store, store.loops[i]);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 2; i++)
		loop_free(store.loops[i]);
	ck_assert_uint_eq(store.nr_made, NR_ITEMS);
	ck_assert_uint_eq(store.nr_taken, NR_ITEMS);
	ck_assert_uint_eq(store.nr_items, 0);
	mutex_fini(&store.lock);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("waitq");
	TCase *tc = tcase_create("waitq");
	SRunner *runner;
	int nr_failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, one_wake_lets_the_first_through);
	tcase_add_test(tc, wake_all_lets_all_through_in_order);
	tcase_add_test(tc, a_wake_without_waiters_is_not_kept);
	tcase_add_test(tc, a_wake_for_something_else_keeps_the_place);
	tcase_add_test(tc, nothing_is_lost_between_coroutines_of_two_threads);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	nr_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return nr_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
