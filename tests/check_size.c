/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_size.c - sizes and numbers as users write them.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>

#include "base/random.h"
#include "base/size.h"
#include "base/util.h"

#define KIB	UINT64_C(1024)
#define MIB	(1024 * KIB)
#define GIB	(1024 * MIB)
#define TIB	(1024 * GIB)

START_TEST(sizes_are_parsed)
{
	static const struct {
		const char	*text;
		uint64_t	size;
	} cases[] = {
		{ "0", 0 }, { "4096", 4096 }, { "512B", 512 }, { "0k", 0 },
		{ "64k", 64 * KIB }, { "64K", 64 * KIB }, { "1M", MIB },
		{ "2G", 2 * GIB }, { "1T", TIB }, { "512KiB", 512 * KIB },
		{ "1MiB", MIB }, { "3GiB", 3 * GIB }, { "1TiB", TIB },
		{ "007", 7 }, { "9223372036854775807", INT64_MAX },
		{ "8388607T", 8388607 * TIB },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t size = 1;

		ck_assert_msg(size_parse(cases[i].text, &size) == 0, "%s",
			      cases[i].text);
		ck_assert_uint_eq(size, cases[i].size);
	}
}
END_TEST

START_TEST(what_is_no_size_is_refused)
{
	static const char *const cases[] = {
		"", " ", "k", "B", "-1", "+1", " 1", "1 ", "1 k", "1.5M", "0x10",
		"1kB", "1KB", "1kb", "1m", "1g", "1MB", "1Mi", "1kiB", "1KIB",
		"1MiBs", "1P", "1e3", "12_000", "99999999999999999999x", "\n1",
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t size = 77;

		ck_assert_msg(size_parse(cases[i], &size) == -EINVAL, "'%s'",
			      cases[i]);
		ck_assert_uint_eq(size, 77);
	}
}
END_TEST

START_TEST(sizes_beyond_63_bits_are_out_of_range)
{
	static const char *const cases[] = {
		"9223372036854775808", "18446744073709551615",
		"18446744073709551616", "99999999999999999999999999",
		"8388608T", "8388608TiB", "9007199254740992k",
		"99999999999999999999999999G",
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t size = 77;

		ck_assert_msg(size_parse(cases[i], &size) == -ERANGE, "%s",
			      cases[i]);
		ck_assert_uint_eq(size, 77);
	}
}
END_TEST

START_TEST(text_is_the_shortest_exact_form)
{
	static const struct {
		uint64_t	size;
		const char	*text;
	} cases[] = {
		{ 0, "0" }, { 1, "1" }, { 1023, "1023" }, { 1024, "1k" },
		{ 1025, "1025" }, { 4095, "4095" }, { 64 * KIB, "64k" },
		{ 1536 * KIB, "1536k" }, { GIB, "1G" }, { 5 * TIB, "5T" },
		{ 2048 * TIB, "2048T" }, { UINT64_MAX, "18446744073709551615" },
	};
	char buf[32];

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		ck_assert_ptr_eq(size_to_text(cases[i].size, buf, sizeof(buf)),
				 buf);
		ck_assert_str_eq(buf, cases[i].text);
	}
	/* Too small a buffer cuts, and does not overflow. */
	ck_assert_str_eq(size_to_text(12345, buf, 3), "12");
}
END_TEST

START_TEST(text_parses_back)
{
	struct random rnd;
	char buf[32];

	random_init(&rnd, 3);
	for (int i = 0; i < 10000; i++) {
		uint64_t in = random_u64(&rnd) >> (1 + random_below(&rnd, 63));
		uint64_t out;

		in <<= random_below(&rnd, 1 + (unsigned int)
				    __builtin_clzll(in | 1) - 1);
		ck_assert_int_eq(size_parse(size_to_text(in, buf, sizeof(buf)),
					    &out), 0);
		ck_assert_uint_eq(in, out);
	}
}
END_TEST

START_TEST(numbers_are_parsed_within_their_bounds)
{
	uint64_t val = 77;

	ck_assert_int_eq(number_parse("", 0, 9, &val), -EINVAL);
	ck_assert_int_eq(number_parse("-1", 0, 9, &val), -EINVAL);
	ck_assert_int_eq(number_parse("1k", 0, 9, &val), -EINVAL);
	ck_assert_int_eq(number_parse(" 1", 0, 9, &val), -EINVAL);
	ck_assert_int_eq(number_parse("1", 2, 9, &val), -ERANGE);
	ck_assert_int_eq(number_parse("10", 2, 9, &val), -ERANGE);
	ck_assert_int_eq(number_parse("18446744073709551616", 0, UINT64_MAX,
				      &val), -ERANGE);
	ck_assert_uint_eq(val, 77);
	ck_assert_int_eq(number_parse("2", 2, 9, &val), 0);
	ck_assert_uint_eq(val, 2);
	ck_assert_int_eq(number_parse("9", 2, 9, &val), 0);
	ck_assert_uint_eq(val, 9);
	ck_assert_int_eq(number_parse("18446744073709551615", 0, UINT64_MAX,
				      &val), 0);
	ck_assert_uint_eq(val, UINT64_MAX);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("size");
	TCase *tc = tcase_create("size");
	SRunner *runner;
	int nr_failed;

	tcase_add_test(tc, sizes_are_parsed);
	tcase_add_test(tc, what_is_no_size_is_refused);
	tcase_add_test(tc, sizes_beyond_63_bits_are_out_of_range);
	tcase_add_test(tc, text_is_the_shortest_exact_form);
	tcase_add_test(tc, text_parses_back);
	tcase_add_test(tc, numbers_are_parsed_within_their_bounds);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	nr_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return nr_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
