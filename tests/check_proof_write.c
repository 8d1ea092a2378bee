/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_proof_write.c - the proofs about single writes: what they read, what
 * they send to the device, and what a half-received one leaves.
 */
#include <errno.h>

#include "tests/mapstore.h"
#include "tests/proof.h"
#include "tests/stubstore.h"

static struct volume_stats volume_stats_of(const struct volume *vol)
{
	struct volume_stats stats;

	volume_get_stats(vol, &stats);
	return stats;
}

#define BLOCK	4096u

/* ---- T-02: per-block state ---- */

START_TEST(t02_small_writes_into_large_folios_send_only_what_was_written)
{
	struct engine_params params = {
		.seed = 2, .cache_size = MIB(16), .dirty_hard_pct = 90,
		.dirty_background_pct = 45,
		.vol.sim = { .size = MIB(4), .write_cache = true },
	};
	struct engine *engine = engine_start(&params);
	unsigned int blocks[MIB(4) / BLOCK], nr = ARRAY_SIZE(blocks);
	uint64_t acked = 0, reads;
	struct random rnd;
	void *buf = malloc(KIB(64));

	random_init(&rnd, test_seed("t02"));
	for (uint64_t pos = 0; pos < MIB(4); pos += KIB(64))
		ck_assert_int_eq(engine_read(engine, pos, buf, KIB(64)), 0);
	reads = dev_ops(engine, BDEV_READ);
	for (unsigned int round = 0; round < 4; round++) {
		/* No block twice a round, all over the place. */
		shuffle(&rnd, blocks, nr);
		for (unsigned int i = 0; i < 200; i++) {
			must_write(engine, (uint64_t)blocks[i] * BLOCK, BLOCK,
				   round, 0);
			acked += BLOCK;
		}
		ck_assert_int_eq(engine_flush(engine), 0);
	}
	ck_assert_uint_le(dev_bytes(engine, BDEV_WRITE), acked * 105 / 100);
	ck_assert_uint_ge(dev_bytes(engine, BDEV_WRITE), acked);
	ck_assert_uint_eq(dev_ops(engine, BDEV_READ), reads);
	free(buf);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(t02_only_partly_covered_blocks_are_read)
{
	struct stub_params stub = { .block_shift = 9 };
	struct engine_params params = {
		.vol = { .open = _i ? stub_open : NULL, .open_arg = &stub },
	};
	struct engine *engine = engine_start(&params);
	uint32_t block = 1u << engine->vol->block_shift;

	put_on_disk(engine, 0, ENGINE_SIZE, 1);
	/* Whole blocks, one and many, aligned to nothing larger. */
	must_write(engine, 3 * block, block, 2, 0);
	must_write(engine, KIB(64) + block, 37 * block, 2, 0);
	ck_assert_uint_eq(dev_ops(engine, BDEV_READ), 0);
	/* A part of one block, then of the same once more. */
	must_write(engine, KIB(256) + 5, 7, 2, 0);
	ck_assert_uint_eq(dev_ops(engine, BDEV_READ), 1);
	ck_assert_uint_eq(dev_bytes(engine, BDEV_READ), block);
	must_write(engine, KIB(256) + 100, 7, 2, 0);
	must_write(engine, KIB(64) + block + 1, 7, 2, 0);
	ck_assert_uint_eq(dev_ops(engine, BDEV_READ), 1);
	ck_assert_uint_eq(volume_stats_of(engine->vol).rmw_reads, 1);
	/* Both ends in part, the middle whole. */
	must_write(engine, KIB(512) - 3, 3 * block + 3 + 9, 2, 0);
	ck_assert_uint_eq(dev_bytes(engine, BDEV_READ), 3 * block);
	ck_assert(reads_pattern(engine, KIB(512) - 3, 3 * block + 12, 2));
	ck_assert(reads_pattern(engine, KIB(512) - 100, 97, 1));
	ck_assert(reads_pattern(engine, KIB(512) + 3 * block + 9, 97, 1));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(t02_a_missing_block_of_a_cached_folio_is_read)
{
	struct stub_params stub = { .block_shift = 9 };
	struct engine_params params = {
		.vol = { .open = stub_open, .open_arg = &stub },
	};
	struct engine *engine = engine_start(&params);

	put_on_disk(engine, 0, ENGINE_SIZE, 1);
	/* One block of eight; then parts of the others, and over an edge. */
	must_write(engine, KIB(64), 512, 2, 0);
	must_write(engine, KIB(64) + 600, 10, 2, 0);
	ck_assert_uint_eq(dev_bytes(engine, BDEV_READ), 512);
	must_write(engine, KIB(64) + 2000, 100, 2, 0);
	ck_assert_uint_eq(dev_bytes(engine, BDEV_READ), 3 * 512);
	ck_assert(reads_pattern(engine, KIB(64), 512, 2));
	ck_assert(reads_pattern(engine, KIB(64) + 512, 88, 1));
	ck_assert(reads_pattern(engine, KIB(64) + 600, 10, 2));
	ck_assert(reads_pattern(engine, KIB(64) + 610, 1390, 1));
	ck_assert(reads_pattern(engine, KIB(64) + 2000, 100, 2));
	ck_assert(reads_pattern(engine, KIB(64) + 2100, 1996, 1));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

/* ---- T-03: a payload that never came ---- */

/* Receive the first @k bytes. */
static void receive(const struct stage *stage, uint32_t k)
{
	for (unsigned int i = 0; i < stage->nr_iov && k; i++) {
		uint32_t n = MIN(k, (uint32_t)stage->iov[i].iov_len);

		memset(stage->iov[i].iov_base, 0xee, n);
		k -= n;
	}
}

static void half_receive(struct engine *engine, uint64_t pos, uint32_t len,
			 uint32_t k)
{
	struct stage *stage;

	ck_assert_int_eq(stage_alloc(engine->vol, pos, len, &stage), 0);
	receive(stage, k);
	stage_free(stage);
	ck_assert_uint_eq(engine->cache->pool.staged_pages, 0);
}

START_TEST(t03_half_received_write_changes_nothing)
{
	struct engine_params params = { .seed = 3 };
	struct engine *engine = engine_start(&params);
	uint64_t pos = _i ? KIB(128) + 1000 : KIB(128);
	uint32_t len = KIB(256);

	put_on_disk(engine, 0, ENGINE_SIZE, 1);
	/* A half of it is cached, a part of that dirty, the rest cold. */
	must_write(engine, KIB(192), KIB(32), 1, 0);
	ck_assert(reads_pattern(engine, KIB(128), KIB(128), 1));
	for (uint32_t edge = 0; edge <= len; edge += BLOCK) {
		for (int off = -1; off <= 1; off++) {
			int64_t k = (int64_t)edge + off;

			if (k < 0 || k > len)
				continue;
			half_receive(engine, pos, len, (uint32_t)k);
			ck_assert(reads_pattern(engine, pos + (edge & ~BLOCK),
						BLOCK, 1));
		}
	}
	ck_assert(reads_pattern(engine, 0, ENGINE_SIZE, 1));
	ck_assert_int_eq(engine_flush(engine), 0);
	ck_assert(disk_has_pattern(engine, 0, ENGINE_SIZE, 1));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

/* ---- T-34: two bytes over a block edge ---- */

START_TEST(t34_two_bytes_over_a_block_edge_leave_the_neighbours_intact)
{
	bool sparse = _i & 1;
	unsigned int flags = _i & 2 ? VOLUME_FUA : 0;
	struct engine_params params = { .vol.sim.sparse = sparse };
	struct engine *engine = engine_start(&params);
	uint8_t buf[3 * BLOCK], want[3 * BLOCK] = { 0 };

	if (!sparse) {
		put_on_disk(engine, 0, sizeof(want), 1);
		fill_pattern(want, sizeof(want), 0, 1);
	}
	want[4095] = 0xaa;
	want[4096] = 0xbb;
	ck_assert_int_eq(engine_write(engine, 4095, "\xaa\xbb", 2, flags), 0);
	ck_assert_int_eq(engine_read(engine, 0, buf, sizeof(buf)), 0);
	ck_assert_mem_eq(buf, want, sizeof(want));
	ck_assert_int_eq(engine_flush(engine), 0);
	sim_peek(engine->bdev, 0, buf, sizeof(buf));
	ck_assert_mem_eq(buf, want, sizeof(want));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

static struct mapstore *t34_mapstore;

static int t34_open(struct cache *cache, struct loop *home,
		    struct bdev **bdevp, void *arg, struct volume **volp)
{
	int ret = mapstore_open(cache, home, bdevp, arg, &t34_mapstore);

	if (!ret)
		*volp = &t34_mapstore->vol;
	return ret;
}

/* What the two blocks are before. */
enum t34_before { T34_HOLE, T34_UNWRITTEN, T34_MAPPED, T34_SHARED, T34_NR };

static void t34_put(struct mapstore *ms, uint64_t pos, enum t34_before before,
		    uint8_t *want)
{
	static const enum iomap_type types[] = {
		IOMAP_HOLE, IOMAP_UNWRITTEN, IOMAP_MAPPED, IOMAP_MAPPED,
	};

	mapstore_set(ms, pos, BLOCK, types[before], 0x11);
	if (types[before] == IOMAP_MAPPED)
		memset(want + pos, 0x11, BLOCK);
	if (before == T34_SHARED)
		mapstore_share(ms, pos, BLOCK);
}

START_TEST(t34_two_bytes_over_an_edge_of_any_two_mappings)
{
	enum t34_before first = (unsigned int)_i % T34_NR;
	enum t34_before second = (unsigned int)_i / T34_NR % T34_NR;
	unsigned int flags = _i / (T34_NR * T34_NR) & 1 ? VOLUME_FUA : 0;
	struct mapstore_params map = {
		.size = KIB(64), .block_shift = 12, .scatter = true,
		.delalloc = _i / (T34_NR * T34_NR) & 2,
	};
	struct engine_params params = {
		.vol = { .open = t34_open, .open_arg = &map },
	};
	struct engine *engine = engine_start(&params);
	uint8_t buf[3 * BLOCK], want[3 * BLOCK] = { 0 };

	t34_put(t34_mapstore, 0, first, want);
	t34_put(t34_mapstore, BLOCK, second, want);
	want[4095] = 0xaa;
	want[4096] = 0xbb;
	ck_assert_int_eq(engine_write(engine, 4095, "\xaa\xbb", 2, flags), 0);
	ck_assert_int_eq(engine_read(engine, 0, buf, sizeof(buf)), 0);
	ck_assert_mem_eq(buf, want, sizeof(want));
	ck_assert_int_eq(engine_flush(engine), 0);
	mapstore_peek(t34_mapstore, 0, buf, sizeof(buf));
	ck_assert_mem_eq(buf, want, sizeof(want));
	/* The snapshot is as it was, and nothing is promised any more. */
	ck_assert(mapstore_check(t34_mapstore, true));
	go_cold(engine);
	ck_assert_int_eq(engine_read(engine, 0, buf, sizeof(buf)), 0);
	ck_assert_mem_eq(buf, want, sizeof(want));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

/* ---- T-36: the end of a volume within a block ---- */

static const uint64_t t36_sizes[] = {
	KIB(64) + 1, KIB(64) + 511, KIB(64) + 512, KIB(64) + 4095, 100,
};

START_TEST(t36_write_at_the_end_keeps_the_exact_size)
{
	uint64_t size = t36_sizes[_i];
	struct engine_params params = {
		.vol.sim = { .size = size, .write_cache = true },
	};
	struct engine *engine = engine_start(&params);
	uint32_t len = (uint32_t)MIN(size, UINT64_C(5000));
	char *image = malloc(size);

	put_on_disk(engine, 0, (uint32_t)size, 1);
	/* Up to the end, and the last byte alone. */
	must_write(engine, size - len, len, 2, VOLUME_FUA);
	must_write(engine, size - 1, 1, 3, VOLUME_FUA);
	for (uint64_t seed = 0; seed < 20; seed++) {
		sim_crash_image(engine->bdev, seed, image);
		ck_assert(has_pattern(image, size - len, 0, 1));
		ck_assert(has_pattern(image + size - len, len - 1, size - len,
				      2));
		ck_assert(has_pattern(image + size - 1, 1, size - 1, 3));
	}
	engine_power_cycle(&engine, 9);
	ck_assert_uint_eq(engine->vol->size, size);
	ck_assert_uint_eq(engine->bdev->size, size);
	ck_assert(reads_pattern(engine, size - 1, 1, 3));
	free(image);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

static Suite *write_suite(void)
{
	Suite *suite = suite_create("proofs of writing");
	TCase *tc = tcase_create("write");

	tcase_add_test(tc, t02_small_writes_into_large_folios_send_only_what_was_written);
	tcase_add_loop_test(tc, t02_only_partly_covered_blocks_are_read, 0, 2);
	tcase_add_test(tc, t02_a_missing_block_of_a_cached_folio_is_read);
	tcase_add_loop_test(tc, t03_half_received_write_changes_nothing, 0, 2);
	tcase_add_loop_test(tc, t34_two_bytes_over_a_block_edge_leave_the_neighbours_intact,
			    0, 4);
	tcase_add_loop_test(tc, t34_two_bytes_over_an_edge_of_any_two_mappings,
			    0, 4 * T34_NR * T34_NR);
	tcase_add_loop_test(tc, t36_write_at_the_end_keeps_the_exact_size, 0,
			    ARRAY_SIZE(t36_sizes));
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	return proof_main(write_suite());
}
