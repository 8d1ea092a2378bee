/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_random.c - the generator's values, its ranges and its seeds.
 */
#include <check.h>
#include <stdlib.h>

#include "base/random.h"
#include "base/util.h"

/* The first values of the authors' own code, from the state 1, 2, 3, 4. */
START_TEST(values_are_those_of_xoshiro256starstar)
{
	static const uint64_t expected[] = {
		UINT64_C(11520), 0, UINT64_C(1509978240),
		UINT64_C(1215971899390074240), UINT64_C(1216172134540287360),
	};
	struct random rnd = { .s = { 1, 2, 3, 4 } };

	for (unsigned int i = 0; i < ARRAY_SIZE(expected); i++)
		ck_assert_uint_eq(random_u64(&rnd), expected[i]);
}
END_TEST

START_TEST(seeding_is_splitmix64)
{
	struct random rnd;

	random_init(&rnd, 1234567);
	ck_assert_uint_eq(rnd.s[0], UINT64_C(6457827717110365317));
	ck_assert_uint_eq(rnd.s[1], UINT64_C(3203168211198807973));
	ck_assert_uint_eq(rnd.s[2], UINT64_C(9817491932198370423));
	ck_assert_uint_eq(rnd.s[3], UINT64_C(4593380528125082431));
}
END_TEST

START_TEST(same_seed_same_sequence_and_other_seed_another)
{
	struct random a, b, c;
	unsigned int equal = 0;

	random_init(&a, 0);
	random_init(&b, 0);
	random_init(&c, 1);
	for (int i = 0; i < 1000; i++) {
		uint64_t value = random_u64(&a);

		ck_assert_uint_eq(value, random_u64(&b));
		equal += value == random_u64(&c);
	}
	ck_assert_uint_eq(equal, 0);
}
END_TEST

START_TEST(below_stays_below_and_reaches_all)
{
	static const uint64_t bounds[] = {
		1, 2, 3, 7, 1000, UINT64_C(1) << 32, (UINT64_C(1) << 63) + 1,
		UINT64_MAX,
	};
	unsigned int count[7] = { 0 };
	struct random rnd;

	random_init(&rnd, 42);
	for (unsigned int i = 0; i < ARRAY_SIZE(bounds); i++)
		for (int n = 0; n < 1000; n++)
			ck_assert_uint_lt(random_below(&rnd, bounds[i]),
					  bounds[i]);
	for (int n = 0; n < 70000; n++)
		count[random_below(&rnd, 7)]++;
	for (unsigned int i = 0; i < 7; i++) {
		ck_assert_uint_gt(count[i], 9500);
		ck_assert_uint_lt(count[i], 10500);
	}
}
END_TEST

START_TEST(one_in_n_is_true_that_often)
{
	unsigned int hits = 0;
	struct random rnd;

	random_init(&rnd, 7);
	for (int n = 0; n < 100000; n++)
		hits += random_one_in(&rnd, 10);
	ck_assert_uint_gt(hits, 9500);
	ck_assert_uint_lt(hits, 10500);
	for (int n = 0; n < 100; n++)
		ck_assert(random_one_in(&rnd, 1));
}
END_TEST

START_TEST(seed_comes_from_the_environment_if_it_is_a_number)
{
	uint64_t a, b;

	setenv("CHECK_RANDOM_SEED", "18446744073709551615", 1);
	ck_assert_uint_eq(random_seed_from_env("CHECK_RANDOM_SEED"),
			  UINT64_MAX);
	setenv("CHECK_RANDOM_SEED", "5", 1);
	ck_assert_uint_eq(random_seed_from_env("CHECK_RANDOM_SEED"), 5);

	/* Else it is drawn: two equal ones would be a one in 2^64 chance. */
	setenv("CHECK_RANDOM_SEED", "5x", 1);
	a = random_seed_from_env("CHECK_RANDOM_SEED");
	b = random_seed_from_env("CHECK_RANDOM_SEED");
	ck_assert_uint_ne(a, b);
	unsetenv("CHECK_RANDOM_SEED");
	a = random_seed_from_env("CHECK_RANDOM_SEED");
	ck_assert_uint_ne(a, b);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("random");
	TCase *tc = tcase_create("random");
	SRunner *runner;
	int nr_failed;

	tcase_add_test(tc, values_are_those_of_xoshiro256starstar);
	tcase_add_test(tc, seeding_is_splitmix64);
	tcase_add_test(tc, same_seed_same_sequence_and_other_seed_another);
	tcase_add_test(tc, below_stays_below_and_reaches_all);
	tcase_add_test(tc, one_in_n_is_true_that_often);
	tcase_add_test(tc, seed_comes_from_the_environment_if_it_is_a_number);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	nr_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return nr_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
