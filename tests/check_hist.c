/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_hist.c - buckets, percentiles and sums of histograms.
 */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/hist.h"
#include "base/random.h"
#include "base/util.h"

/* What a histogram of @value alone says of it. */
static uint64_t bound_of(uint64_t value)
{
	struct hist hist = { 0 };

	hist_add(&hist, value);
	return hist_percentile(&hist, 500);
}

START_TEST(an_empty_histogram_has_no_percentile)
{
	struct hist hist = { 0 };

	ck_assert_uint_eq(hist_percentile(&hist, 0), 0);
	ck_assert_uint_eq(hist_percentile(&hist, 1000), 0);
}
END_TEST

START_TEST(small_values_are_exact)
{
	for (uint64_t value = 0; value < 16; value++)
		ck_assert_uint_eq(bound_of(value), value);
	ck_assert_uint_eq(bound_of(16), 17);
	ck_assert_uint_eq(bound_of(17), 17);
	ck_assert_uint_eq(bound_of(18), 19);
}
END_TEST

START_TEST(the_error_is_below_an_eighth)
{
	struct random rnd;

	random_init(&rnd, 11);
	for (int i = 0; i < 100000; i++) {
		uint64_t value = random_u64(&rnd) >> random_below(&rnd, 64);
		uint64_t bound = bound_of(value);

		ck_assert_uint_ge(bound, value);
		ck_assert_uint_le(bound - value, value / 8);
		/* A bound is the last value of its own bucket. */
		ck_assert_uint_eq(bound_of(bound), bound);
		if (bound != UINT64_MAX)
			ck_assert_uint_gt(bound_of(bound + 1), bound);
	}
	ck_assert_uint_eq(bound_of(UINT64_MAX), UINT64_MAX);
}
END_TEST

START_TEST(percentiles_count_values)
{
	struct hist hist = { 0 };

	/* 990 times 5, nine times 100 and once 10000. */
	for (int i = 0; i < 990; i++)
		hist_add(&hist, 5);
	for (int i = 0; i < 9; i++)
		hist_add(&hist, 100);
	hist_add(&hist, 10000);
	ck_assert_uint_eq(hist.count, 1000);
	ck_assert_uint_eq(hist.sum, 990 * 5 + 900 + 10000);
	ck_assert_uint_eq(hist.max, 10000);
	ck_assert_uint_eq(hist_percentile(&hist, 0), 5);
	ck_assert_uint_eq(hist_percentile(&hist, 990), 5);
	ck_assert_uint_eq(hist_percentile(&hist, 991), bound_of(100));
	ck_assert_uint_eq(hist_percentile(&hist, 999), bound_of(100));
	ck_assert_uint_eq(hist_percentile(&hist, 1000), bound_of(10000));
	ck_assert_uint_eq(hist_percentile(&hist, 5000), bound_of(10000));
}
END_TEST

START_TEST(merging_is_adding_both)
{
	struct hist a = { 0 }, b = { 0 }, both = { 0 };
	struct random rnd;

	random_init(&rnd, 5);
	for (int i = 0; i < 10000; i++) {
		uint64_t value = random_below(&rnd, 1000000);

		hist_add(random_one_in(&rnd, 3) ? &a : &b, value);
		hist_add(&both, value);
	}
	hist_merge(&a, &b);
	ck_assert_mem_eq(&a, &both, sizeof(a));
}
END_TEST

static void *write_values(void *arg)
{
	for (uint64_t i = 0; i < 200000; i++)
		hist_add(arg, i & 15);
	return NULL;
}

START_TEST(another_thread_may_read_meanwhile)
{
	struct hist hist = { 0 }, sum;
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, write_values, &hist), 0);
	for (int i = 0; i < 200; i++) {
		ck_assert_uint_le(hist_percentile(&hist, 999), 15);
		sum = (struct hist){ 0 };
		hist_merge(&sum, &hist);
		ck_assert_uint_le(sum.max, 15);
	}
	pthread_join(thread, NULL);
	ck_assert_uint_eq(hist.count, 200000);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("hist");
	TCase *tc = tcase_create("hist");
	SRunner *runner;
	int nr_failed;

	tcase_add_test(tc, an_empty_histogram_has_no_percentile);
	tcase_add_test(tc, small_values_are_exact);
	tcase_add_test(tc, the_error_is_below_an_eighth);
	tcase_add_test(tc, percentiles_count_values);
	tcase_add_test(tc, merging_is_adding_both);
	tcase_add_test(tc, another_thread_may_read_meanwhile);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	nr_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return nr_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
