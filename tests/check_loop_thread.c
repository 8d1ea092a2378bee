/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_loop_thread.c - threads that run loops: loop_thread.h.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/loop_thread.h"

#define NR	3

static struct loop_thread threads[NR];
static unsigned int nr_opened, nr_closed;	/* atomic */
static int open_ret;
static sigset_t mask_in_open;

static int open_one(struct loop_thread *lt)
{
	ck_assert_ptr_eq(loop_current(), lt->loop);
	pthread_sigmask(SIG_SETMASK, NULL, &mask_in_open);
	if (open_ret)
		return open_ret;
	__atomic_add_fetch(&nr_opened, 1, __ATOMIC_RELAXED);
	return 0;
}

static void close_one(struct loop_thread *lt)
{
	ck_assert_ptr_eq(loop_current(), lt->loop);
	__atomic_add_fetch(&nr_closed, 1, __ATOMIC_RELAXED);
}

static const struct loop_thread_ops ops = {
	.open	= open_one,
	.close	= close_one,
};

static void setup(void)
{
	nr_opened = nr_closed = 0;
	open_ret = 0;
	for (unsigned int i = 0; i < NR; i++)
		loop_thread_init(&threads[i], i, &ops);
}

static void start_all(void)
{
	for (unsigned int i = 0; i < NR; i++) {
		ck_assert_int_eq(loop_thread_start(&threads[i]), 0);
		ck_assert_ptr_nonnull(threads[i].loop);
	}
}

static void end_all(void)
{
	for (unsigned int i = 0; i < NR; i++)
		loop_thread_stop(&threads[i]);
	for (unsigned int i = 0; i < NR; i++)
		loop_thread_free(&threads[i]);
}

/* Work that says where it was done. */
struct visit {
	struct work	work;
	pthread_t	thread;
	struct loop	*loop;
	char		name[16];
	sem_t		done;
};

static void visited(struct work *work)
{
	struct visit *visit = container_of(work, struct visit, work);

	visit->thread = pthread_self();
	visit->loop = loop_current();
	pthread_getname_np(pthread_self(), visit->name, sizeof(visit->name));
	sem_post(&visit->done);
}

static void visit_all(void)
{
	for (unsigned int i = 0; i < NR; i++) {
		struct visit visit = { .work.fn = visited };
		char name[16];

		sem_init(&visit.done, 0, 0);
		loop_post(threads[i].loop, &visit.work);
		sem_wait(&visit.done);
		ck_assert(pthread_equal(visit.thread, threads[i].thread));
		ck_assert_ptr_eq(visit.loop, threads[i].loop);
		snprintf(name, sizeof(name), "foliod-%u", i);
		ck_assert_str_eq(visit.name, name);
		sem_destroy(&visit.done);
	}
}

START_TEST(each_runs_its_loop_until_it_is_stopped)
{
	start_all();
	ck_assert_uint_eq(nr_opened, NR);
	visit_all();
	ck_assert_uint_eq(nr_closed, 0);
	end_all();
	ck_assert_uint_eq(nr_closed, NR);
	/* There is nothing to stop now, and they can be started again. */
	end_all();
	ck_assert_uint_eq(nr_closed, NR);
	start_all();
	visit_all();
	end_all();
	ck_assert_uint_eq(nr_closed, 2 * NR);
}
END_TEST

START_TEST(one_that_cannot_open_leaves_nothing)
{
	ck_assert_int_eq(loop_thread_start(&threads[0]), 0);
	open_ret = -ENOSPC;
	ck_assert_int_eq(loop_thread_start(&threads[1]), -ENOSPC);
	ck_assert_ptr_null(threads[1].loop);
	ck_assert_int_eq(loop_thread_open(&threads[2]), -ENOSPC);
	ck_assert_ptr_null(threads[2].loop);
	loop_thread_close(&threads[2]);
	end_all();
	ck_assert_uint_eq(nr_opened, 1);
	ck_assert_uint_eq(nr_closed, 1);
	open_ret = 0;
	ck_assert_int_eq(loop_thread_start(&threads[1]), 0);
	end_all();
	ck_assert_uint_eq(nr_closed, 2);
}
END_TEST

static void stop_first(struct work *work)
{
	(void)work;
	loop_stop(threads[0].loop);
}

START_TEST(a_loop_can_do_without_a_thread)
{
	struct work work = { .fn = stop_first };

	ck_assert_int_eq(loop_thread_open(&threads[0]), 0);
	ck_assert_ptr_null(loop_current());
	ck_assert_uint_eq(nr_opened, 1);
	loop_post(threads[0].loop, &work);
	loop_thread_run(&threads[0]);
	loop_thread_stop(&threads[0]);
	ck_assert_uint_eq(nr_closed, 0);
	loop_thread_close(&threads[0]);
	ck_assert_uint_eq(nr_closed, 1);
	loop_thread_free(&threads[0]);
	ck_assert_ptr_null(threads[0].loop);
}
END_TEST

START_TEST(signals_are_for_other_threads)
{
	sigset_t before, after;

	pthread_sigmask(SIG_SETMASK, NULL, &before);
	ck_assert_int_eq(loop_thread_start(&threads[0]), 0);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	ck_assert_int_eq(sigismember(&mask_in_open, SIGTERM), 1);
	ck_assert_int_eq(sigismember(&mask_in_open, SIGALRM), 1);
	ck_assert_int_eq(sigismember(&mask_in_open, SIGSEGV), 0);
	for (int signo = 1; signo < 32; signo++)
		ck_assert_int_eq(sigismember(&before, signo),
				 sigismember(&after, signo));
	end_all();
}
END_TEST

/* Sent from loop to loop, round and round. */
struct ball {
	struct work	work;
	unsigned int	at;
	unsigned int	nr_passes;	/* atomic */
};

static void pass_on(struct work *work)
{
	struct ball *ball = container_of(work, struct ball, work);

	__atomic_add_fetch(&ball->nr_passes, 1, __ATOMIC_RELAXED);
	ball->at = (ball->at + 1) % NR;
	loop_post(threads[ball->at].loop, &ball->work);
}

START_TEST(those_that_still_run_may_wake_those_that_do_not)
{
	struct ball balls[16] = { 0 };

	start_all();
	for (unsigned int i = 0; i < ARRAY_SIZE(balls); i++) {
		balls[i].work.fn = pass_on;
		balls[i].at = i % NR;
		loop_post(threads[i % NR].loop, &balls[i].work);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(balls); i++)
		while (__atomic_load_n(&balls[i].nr_passes,
				       __ATOMIC_RELAXED) < 10)
			sched_yield();
	end_all();
	ck_assert_uint_eq(nr_closed, NR);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("loop_thread");
	TCase *tcase = tcase_create("loop_thread");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, NULL);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, each_runs_its_loop_until_it_is_stopped);
	tcase_add_test(tcase, one_that_cannot_open_leaves_nothing);
	tcase_add_test(tcase, a_loop_can_do_without_a_thread);
	tcase_add_test(tcase, signals_are_for_other_threads);
	tcase_add_test(tcase, those_that_still_run_may_wake_those_that_do_not);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
