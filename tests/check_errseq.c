/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_errseq.c - every observer hears of every error once.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "cache/errseq.h"

START_TEST(a_fresh_word_has_no_error)
{
	errseq_t eseq = 0, since = errseq_sample(&eseq);

	ck_assert_int_eq(errseq_check_and_advance(&eseq, &since), 0);
}
END_TEST

START_TEST(t40_each_observer_hears_of_an_error_exactly_once)
{
	errseq_t eseq = 0, since[4];

	for (int i = 0; i < 4; i++)
		since[i] = errseq_sample(&eseq);
	errseq_set(&eseq, -EIO);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(errseq_check_and_advance(&eseq, &since[i]),
				 -EIO);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(errseq_check_and_advance(&eseq, &since[i]), 0);
}
END_TEST

START_TEST(t40_an_observer_from_before_anybody_saw_it_hears_of_it)
{
	errseq_t eseq = 0, early;

	errseq_set(&eseq, -ENOSPC);
	early = errseq_sample(&eseq);
	ck_assert_int_eq(errseq_check_and_advance(&eseq, &early), -ENOSPC);
	ck_assert_int_eq(errseq_check_and_advance(&eseq, &early), 0);
}
END_TEST

START_TEST(t40_an_observer_from_after_somebody_saw_it_does_not)
{
	errseq_t eseq = 0, first = errseq_sample(&eseq), late;

	errseq_set(&eseq, -EIO);
	ck_assert_int_eq(errseq_check_and_advance(&eseq, &first), -EIO);
	late = errseq_sample(&eseq);
	ck_assert_int_eq(errseq_check_and_advance(&eseq, &late), 0);
	/* But of the next one, equal though it is, both hear. */
	errseq_set(&eseq, -EIO);
	ck_assert_int_eq(errseq_check_and_advance(&eseq, &first), -EIO);
	ck_assert_int_eq(errseq_check_and_advance(&eseq, &late), -EIO);
}
END_TEST

START_TEST(t40_who_slept_through_many_hears_once_of_the_newest)
{
	errseq_t eseq = 0, awake = 0, asleep = 0;

	for (int i = 0; i < 100; i++) {
		errseq_set(&eseq, i % 2 ? -EIO : -ENOSPC);
		ck_assert_int_eq(errseq_check_and_advance(&eseq, &awake),
				 i % 2 ? -EIO : -ENOSPC);
	}
	ck_assert_int_eq(errseq_check_and_advance(&eseq, &asleep), -EIO);
	ck_assert_int_eq(errseq_check_and_advance(&eseq, &asleep), 0);
}
END_TEST

START_TEST(unseen_errors_cost_no_counts)
{
	errseq_t eseq = 0, before;

	errseq_set(&eseq, -EIO);
	before = eseq;
	for (int i = 0; i < 1000; i++)
		errseq_set(&eseq, -EIO);
	ck_assert_uint_eq(eseq, before);
	errseq_set(&eseq, -ENOSPC);
	errseq_set(&eseq, -EIO);
	ck_assert_uint_eq(eseq, before);
}
END_TEST

START_TEST(the_largest_errno_fits)
{
	errseq_t eseq = 0, since = 0;

	errseq_set(&eseq, -4095);
	ck_assert_int_eq(errseq_check_and_advance(&eseq, &since), -4095);
	errseq_set(&eseq, -1);
	ck_assert_int_eq(errseq_check_and_advance(&eseq, &since), -1);
}
END_TEST

START_TEST(t40_a_full_turn_of_the_counter_keeps_telling)
{
	errseq_t eseq = 0, since = 0;
	unsigned int wrong = 0;

	/* Two turns of its 19 bits. */
	for (unsigned int i = 0; i < 1u << 20; i++) {
		errseq_set(&eseq, -EIO);
		wrong += errseq_check_and_advance(&eseq, &since) != -EIO;
		wrong += errseq_check_and_advance(&eseq, &since) != 0;
	}
	ck_assert_uint_eq(wrong, 0);
}
END_TEST

/* ---- threads ---- */

#define OBSERVERS	3
#define ERRORS		2000

struct shared {
	errseq_t	eseq;
	unsigned int	heard[OBSERVERS];	/* atomic: errors so far */
};

struct observer {
	pthread_t	thread;
	struct shared	*shared;
	unsigned int	index;
	unsigned int	wrong;		/* not the errno that was set */
};

static int nth_error(unsigned int nth)
{
	return -(int)(1 + nth % 3);
}

static void *observe(void *arg)
{
	struct observer *obs = arg;
	errseq_t since = 0;
	unsigned int nr = 0;

	while (nr < ERRORS) {
		int err = errseq_check_and_advance(&obs->shared->eseq, &since);

		if (!err) {
			sched_yield();
			continue;
		}
		if (err != nth_error(nr))
			obs->wrong++;
		nr++;
		__atomic_store_n(&obs->shared->heard[obs->index], nr,
				 __ATOMIC_RELEASE);
	}
	/* One too many would show here. */
	if (errseq_check_and_advance(&obs->shared->eseq, &since))
		obs->wrong++;
	return NULL;
}

START_TEST(t40_threads_hear_of_every_error_exactly_once)
{
	struct shared shared = { 0 };
	struct observer obs[OBSERVERS];

	for (unsigned int i = 0; i < OBSERVERS; i++) {
		obs[i] = (struct observer){ .shared = &shared, .index = i };
		ck_assert_int_eq(pthread_create(&obs[i].thread, NULL, observe,
						&obs[i]), 0);
	}
	/* The next error comes when all have heard of the last one. */
	for (unsigned int nth = 0; nth < ERRORS; nth++) {
		errseq_set(&shared.eseq, nth_error(nth));
		for (unsigned int i = 0; i < OBSERVERS; i++)
			while (__atomic_load_n(&shared.heard[i],
					       __ATOMIC_ACQUIRE) <= nth)
				sched_yield();
	}
	for (unsigned int i = 0; i < OBSERVERS; i++) {
		pthread_join(obs[i].thread, NULL);
		ck_assert_uint_eq(obs[i].wrong, 0);
		ck_assert_uint_eq(shared.heard[i], ERRORS);
	}
}
END_TEST

/* Errors that come as fast as they can: none may be lost for good. */
struct racer {
	struct shared	*shared;
	unsigned int	done;		/* atomic */
};

static void *race(void *arg)
{
	struct racer *racer = arg;

	for (unsigned int i = 0; i < 20000; i++)
		errseq_set(&racer->shared->eseq, nth_error(i));
	__atomic_store_n(&racer->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

START_TEST(t40_an_error_set_while_others_look_is_not_lost)
{
	struct shared shared = { 0 };
	struct racer racer = { .shared = &shared };
	errseq_t since[2] = { 0 }, late;
	pthread_t thread;
	unsigned int heard = 0;

	ck_assert_int_eq(pthread_create(&thread, NULL, race, &racer), 0);
	while (!__atomic_load_n(&racer.done, __ATOMIC_ACQUIRE))
		for (int i = 0; i < 2; i++)
			if (errseq_check_and_advance(&shared.eseq, &since[i]))
				heard++;
	pthread_join(thread, NULL);
	errseq_set(&shared.eseq, -EDQUOT);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(errseq_check_and_advance(&shared.eseq,
							  &since[i]), -EDQUOT);
		ck_assert_int_eq(errseq_check_and_advance(&shared.eseq,
							  &since[i]), 0);
	}
	late = errseq_sample(&shared.eseq);
	ck_assert_int_eq(errseq_check_and_advance(&shared.eseq, &late), 0);
	ck_assert_uint_le(heard, 40000);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("errseq");
	TCase *tc = tcase_create("errseq");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, a_fresh_word_has_no_error);
	tcase_add_test(tc, t40_each_observer_hears_of_an_error_exactly_once);
	tcase_add_test(tc,
		       t40_an_observer_from_before_anybody_saw_it_hears_of_it);
	tcase_add_test(tc, t40_an_observer_from_after_somebody_saw_it_does_not);
	tcase_add_test(tc, t40_who_slept_through_many_hears_once_of_the_newest);
	tcase_add_test(tc, unseen_errors_cost_no_counts);
	tcase_add_test(tc, the_largest_errno_fits);
	tcase_add_test(tc, t40_a_full_turn_of_the_counter_keeps_telling);
	tcase_add_test(tc, t40_threads_hear_of_every_error_exactly_once);
	tcase_add_test(tc, t40_an_error_set_while_others_look_is_not_lost);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
