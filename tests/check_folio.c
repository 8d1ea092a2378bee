/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_folio.c - the arithmetic of keys and block bits, each against the
 * plainest way to say it.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "cache/folio.h"
#include "tests/corun.h"

static uint64_t mask_bit_by_bit(unsigned int first, unsigned int last)
{
	uint64_t mask = 0;

	for (unsigned int i = first; i <= last; i++)
		mask |= UINT64_C(1) << i;
	return mask;
}

START_TEST(a_key_keeps_volume_and_page)
{
	static const uint64_t positions[] = {
		0, 1, 4095, 4096, 4097, UINT64_C(1) << 40,
		(UINT64_C(1) << 59) - 1,
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(positions); i++) {
		uint64_t pos = positions[i];
		uint64_t key = folio_key(65535, pos);

		ck_assert_uint_eq(key_volume(key), 65535);
		ck_assert_uint_eq(key_pos(key), round_down64(pos, FRAME_SIZE));
		ck_assert_uint_eq(folio_key(65535, pos + FRAME_SIZE), key + 1);
	}
}
END_TEST

START_TEST(block_mask_sets_first_to_last)
{
	for (unsigned int first = 0; first < 64; first++)
		for (unsigned int last = first; last < 64; last++)
			ck_assert_uint_eq(block_mask(first, last),
					  mask_bit_by_bit(first, last));
}
END_TEST

START_TEST(folio_blocks_are_those_that_a_range_touches)
{
	struct random rnd;

	random_init(&rnd, test_seed("folio_blocks"));
	for (unsigned int i = 0; i < 5000; i++) {
		unsigned int shift = 9 + (unsigned int)random_below(&rnd, 4);
		uint32_t size = 64u << shift;
		uint32_t off = (uint32_t)random_below(&rnd, size);
		uint32_t len = 1 + (uint32_t)random_below(&rnd, size - off);
		uint64_t want = 0;

		for (unsigned int b = 0; b < 64; b++) {
			uint64_t start = (uint64_t)b << shift;

			if (start < (uint64_t)off + len &&
			    start + (1u << shift) > off)
				want |= UINT64_C(1) << b;
		}
		ck_assert_uint_eq(folio_blocks(off, len, shift), want);
	}
}
END_TEST

START_TEST(runs_of_blocks_make_up_the_bits)
{
	struct random rnd;

	random_init(&rnd, test_seed("block_run"));
	for (unsigned int i = 0; i < 2000; i++) {
		uint64_t bits = random_u64(&rnd), seen = 0;
		unsigned int first, nr, end = 0;

		if (i % 4 == 0)
			bits = UINT64_MAX << (i % 64);
		while (block_run(bits & ~seen, &first, &nr)) {
			/* In order, and apart by a hole at least. */
			ck_assert(!seen || first > end);
			ck_assert_uint_ge(nr, 1);
			end = first + nr;
			ck_assert_uint_le(end, 64);
			seen |= mask_bit_by_bit(first, end - 1);
			ck_assert_uint_eq(seen & ~bits, 0);
		}
		ck_assert_uint_eq(seen, bits);
	}
}
END_TEST

START_TEST(no_folio_has_more_than_64_blocks)
{
	for (unsigned int shift = 9; shift <= 12; shift++) {
		unsigned int max = folio_order_max(shift);

		ck_assert_uint_le(max, FOLIO_ORDER_MAX);
		ck_assert_uint_le((FRAME_SIZE << max) >> shift, 64);
		ck_assert(max == FOLIO_ORDER_MAX ||
			  (FRAME_SIZE << (max + 1)) >> shift > 64);
		for (unsigned int order = 0; order <= max; order++)
			ck_assert_int_eq(__builtin_popcountll(
					 folio_all_blocks(order, shift)),
					 (int)((FRAME_SIZE << order) >> shift));
	}
}
END_TEST

START_TEST(a_sound_folio_passes_its_check)
{
	struct folio folio = {
		.uptodate = 0xf0, .dirty = 0x30, .inflight = 0xc0,
		.order = 3, .flags = FOLIO_INDEXED | FOLIO_FAILED,
		.key = folio_key(7, 8 * FRAME_SIZE), .pins = 2,
	};
	char text[256];

	folio_check(&folio, 12);
	folio_to_text(&folio, text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "volume 7 pos 32768 size 32768"));
	ck_assert_ptr_nonnull(strstr(text, "failed"));
	ck_assert_ptr_nonnull(strstr(text, "dirty 30"));
}
END_TEST

/* Each of these breaks one invariant, and the check aborts. */
static const struct folio broken[] = {
	/* I1: dirty or in flight, not uptodate */
	{ .uptodate = 1, .dirty = 2, .order = 1, .flags = FOLIO_INDEXED },
	{ .uptodate = 1, .inflight = 2, .order = 1, .flags = FOLIO_INDEXED },
	/* I2: both */
	{ .uptodate = 3, .dirty = 1, .inflight = 1, .order = 1,
	  .flags = FOLIO_INDEXED },
	/* a block beyond its end */
	{ .uptodate = 4, .order = 1, .flags = FOLIO_INDEXED },
	/* failed, but nothing to be written again */
	{ .uptodate = 1, .order = 1, .flags = FOLIO_INDEXED | FOLIO_FAILED },
	/* dirty, and no pass will find it */
	{ .uptodate = 1, .dirty = 1, .order = 1 },
	{ .flags = FOLIO_TAIL },
};

START_TEST(a_broken_folio_does_not)
{
	folio_check(&broken[_i], 12);
}
END_TEST

static Suite *folio_suite(void)
{
	Suite *suite = suite_create("folio");
	TCase *tc = tcase_create("bits");

	tcase_add_test(tc, a_key_keeps_volume_and_page);
	tcase_add_test(tc, block_mask_sets_first_to_last);
	tcase_add_test(tc, folio_blocks_are_those_that_a_range_touches);
	tcase_add_test(tc, runs_of_blocks_make_up_the_bits);
	tcase_add_test(tc, no_folio_has_more_than_64_blocks);
	suite_add_tcase(suite, tc);
	tc = tcase_create("check");
	tcase_add_test(tc, a_sound_folio_passes_its_check);
	tcase_add_loop_test_raise_signal(tc, a_broken_folio_does_not, 6, 0,
					 (int)ARRAY_SIZE(broken));
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	SRunner *runner = srunner_create(folio_suite());
	int failed;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
