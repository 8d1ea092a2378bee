/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_direct.c - the modes without a cache: nothing stays in memory, and
 * writes of a part of a block exclude each other.
 */
#include <errno.h>

#include "tests/proof.h"

#define BLOCK	4096u

static const enum volume_mode modes[] = { VOLUME_NONE, VOLUME_DIRECTSYNC };

static struct engine *new_engine(enum volume_mode mode, uint64_t size)
{
	struct engine_params params = {
		.vol = { .mode = mode,
			 .sim = { .size = size, .write_cache = true,
				  .latency_min_ns = 1000,
				  .latency_max_ns = 30000 } },
	};

	return engine_start(&params);
}

START_TEST(what_was_written_is_on_the_disk_and_not_in_memory)
{
	struct engine *engine = new_engine(modes[_i], MIB(1));

	put_on_disk(engine, 0, MIB(1), 1);
	must_write(engine, KIB(64), KIB(256), 2, 0);
	ck_assert(disk_has_pattern(engine, KIB(64), KIB(256), 2));
	must_write(engine, KIB(512) + 100, 5000, 3, 0);
	ck_assert(disk_has_pattern(engine, KIB(512) + 100, 5000, 3));
	ck_assert(disk_has_pattern(engine, KIB(512), 100, 1));
	ck_assert(disk_has_pattern(engine, KIB(512) + 5100, 3000, 1));
	ck_assert(reads_pattern(engine, KIB(512) + 100, 5000, 3));
	ck_assert(reads_pattern(engine, KIB(64), KIB(256), 2));
	ck_assert_uint_eq(engine->cache->pool.cached_pages, 0);
	ck_assert_uint_eq(engine->vol->dirty_bytes, 0);
	/* Behind our back: the next read sees it. */
	put_on_disk(engine, KIB(64), BLOCK, 7);
	ck_assert(reads_pattern(engine, KIB(64), BLOCK, 7));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(only_partly_written_blocks_are_read)
{
	struct engine *engine = new_engine(VOLUME_NONE, MIB(1));

	must_write(engine, 0, KIB(64), 2, 0);
	ck_assert_uint_eq(dev_ops(engine, BDEV_READ), 0);
	must_write(engine, BLOCK, 10, 2, 0);
	ck_assert_uint_eq(dev_ops(engine, BDEV_READ), 1);
	must_write(engine, 2 * BLOCK + 10, 10 * BLOCK, 2, 0);
	ck_assert_uint_eq(dev_bytes(engine, BDEV_READ), 3 * BLOCK);
	ck_assert_uint_eq(engine->bdev->stats.fua_writes, 0);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(durability_is_as_the_mode_says)
{
	struct engine *engine = new_engine(modes[_i], MIB(1));
	bool sync = modes[_i] == VOLUME_DIRECTSYNC;
	char *image = malloc(MIB(1));
	unsigned int there = 0;

	must_write(engine, 0, KIB(64), 2, 0);
	ck_assert_uint_eq(engine->bdev->stats.fua_writes > 0, sync);
	for (uint64_t seed = 0; seed < 60; seed++) {
		sim_crash_image(engine->bdev, seed, image);
		there += has_pattern(image, KIB(64), 0, 2);
	}
	ck_assert(sync ? there == 60 : there < 60);
	must_write(engine, KIB(128), BLOCK, 2, VOLUME_FUA);
	for (uint64_t seed = 0; seed < 20; seed++) {
		sim_crash_image(engine->bdev, seed, image);
		ck_assert(has_pattern(image + KIB(128), BLOCK, KIB(128), 2));
	}
	ck_assert_int_eq(engine_flush(engine), 0);
	for (uint64_t seed = 0; seed < 20; seed++) {
		sim_crash_image(engine->bdev, seed, image);
		ck_assert(has_pattern(image, KIB(64), 0, 2));
	}
	free(image);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

/* ---- sub-block writes ---- */

#define NR_PARTS	64u

START_TEST(parts_of_one_block_are_not_lost_between_writers)
{
	struct engine *engine = new_engine(VOLUME_NONE, MIB(1));
	struct spawned_write w[NR_PARTS];

	for (unsigned int round = 2; round < 6; round++) {
		for (unsigned int i = 0; i < NR_PARTS; i++) {
			/* Neighbours, some over the edge of a block. */
			w[i] = (struct spawned_write){
				.vol = engine->vol, .pos = 50 + i * 150,
				.len = 150, .version = round,
			};
			engine_spawn(engine, spawned_write_co, &w[i]);
		}
		engine_run_all(engine);
		for (unsigned int i = 0; i < NR_PARTS; i++)
			ck_assert_int_eq(w[i].ret, 0);
		ck_assert(disk_has_pattern(engine, 50, NR_PARTS * 150, round));
	}
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(whole_blocks_are_written_side_by_side)
{
	struct engine *engine = new_engine(VOLUME_NONE, MIB(1));
	struct spawned_write w[NR_PARTS];

	sim_set_stall(engine->bdev, BDEV_WRITE, true);
	for (unsigned int i = 0; i < NR_PARTS; i++) {
		w[i] = (struct spawned_write){
			.vol = engine->vol, .pos = i * BLOCK, .len = BLOCK,
			.version = 2,
		};
		engine_spawn(engine, spawned_write_co, &w[i]);
	}
	settle(engine, NSEC_PER_MSEC);
	ck_assert_uint_eq(sim_in_flight(engine->bdev), NR_PARTS);
	sim_set_stall(engine->bdev, BDEV_WRITE, false);
	engine_run_all(engine);
	ck_assert(disk_has_pattern(engine, 0, NR_PARTS * BLOCK, 2));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

/* ---- ends and errors ---- */

START_TEST(the_last_bytes_of_an_odd_size_are_read_and_written)
{
	uint64_t size = KIB(64) + 777;
	struct engine *engine = new_engine(modes[_i], size);

	put_on_disk(engine, 0, (uint32_t)size, 1);
	ck_assert(reads_pattern(engine, KIB(60), (uint32_t)(size - KIB(60)),
				1));
	must_write(engine, size - 1, 1, 2, 0);
	must_write(engine, size - 700, 600, 2, 0);
	ck_assert(disk_has_pattern(engine, size - 1, 1, 2));
	ck_assert(disk_has_pattern(engine, size - 700, 600, 2));
	ck_assert(disk_has_pattern(engine, size - 100, 99, 1));
	must_write(engine, size - 5000, 5000, 3, 0);
	ck_assert(reads_pattern(engine, size - 5000, 5000, 3));
	ck_assert(reads_pattern(engine, 0, (uint32_t)size - 5000, 1));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(holes_read_zero_without_the_device)
{
	struct engine_params params = {
		.vol = { .mode = VOLUME_NONE, .sim.sparse = true },
	};
	struct engine *engine = engine_start(&params);
	char *buf = malloc(KIB(256));

	ck_assert_int_eq(engine_read(engine, 100, buf, KIB(200)), 0);
	ck_assert(is_zero(buf, KIB(200)));
	ck_assert_uint_eq(dev_ops(engine, BDEV_READ), 0);
	must_write(engine, KIB(64) + 1, 10, 2, 0);
	ck_assert_int_eq(engine_read(engine, 0, buf, KIB(256)), 0);
	ck_assert(is_zero(buf, KIB(64) + 1));
	ck_assert(has_pattern(buf + KIB(64) + 1, 10, KIB(64) + 1, 2));
	ck_assert(is_zero(buf + KIB(64) + 11, KIB(64)));
	free(buf);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(errors_are_the_requests_own)
{
	struct engine *engine = new_engine(modes[_i], MIB(1));
	char buf[2 * BLOCK] = { 0 };

	put_on_disk(engine, 0, MIB(1), 1);
	sim_set_fault(engine->bdev, BDEV_WRITE, 1, 1, ENOSPC, false);
	ck_assert_int_eq(engine_write(engine, 0, buf, BLOCK, 0), -ENOSPC);
	sim_set_fault(engine->bdev, BDEV_READ, 1, 2, EIO, false);
	ck_assert_int_eq(engine_read(engine, 0, buf, BLOCK), -EIO);
	ck_assert_int_eq(engine_write(engine, 100, buf, 100, 0), -EIO);
	ck_assert(disk_has_pattern(engine, 0, BLOCK, 1));
	ck_assert_int_eq(engine_flush(engine), 0);
	check_idle(engine);
	ck_assert_uint_eq(engine->cache->pool.cached_pages, 0);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

static Suite *direct_suite(void)
{
	Suite *suite = suite_create("direct");
	TCase *tc = tcase_create("direct");

	tcase_add_loop_test(tc, what_was_written_is_on_the_disk_and_not_in_memory,
			    0, 2);
	tcase_add_test(tc, only_partly_written_blocks_are_read);
	tcase_add_loop_test(tc, durability_is_as_the_mode_says, 0, 2);
	tcase_add_test(tc, parts_of_one_block_are_not_lost_between_writers);
	tcase_add_test(tc, whole_blocks_are_written_side_by_side);
	tcase_add_loop_test(tc, the_last_bytes_of_an_odd_size_are_read_and_written,
			    0, 2);
	tcase_add_test(tc, holes_read_zero_without_the_device);
	tcase_add_loop_test(tc, errors_are_the_requests_own, 0, 2);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	return proof_main(direct_suite());
}
