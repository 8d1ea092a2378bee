/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_proof_write.c - the proofs about single writes: what they read, what
 * they send to the device, and what a half-received or failed one leaves.
 */
#include <errno.h>

#include "bdev/sim_inner.h"
#include "tests/proof.h"
#include "tests/stubstore.h"

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
	ck_assert_uint_eq(engine->vol->stats.rmw_reads, 1);
	/* Both ends in part, the middle whole. */
	must_write(engine, KIB(512) - 3, 3 * block + 3 + 9, 2, 0);
	ck_assert_uint_eq(dev_bytes(engine, BDEV_READ), 3 * block);
	ck_assert(reads_pattern(engine, KIB(512) - 3, 3 * block + 12, 2));
	ck_assert(reads_pattern(engine, KIB(512) - 100, 97, 1));
	ck_assert(reads_pattern(engine, KIB(512) + 3 * block + 9, 97, 1));
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

/* ---- T-31: no serialisation ---- */

static const uint32_t t31_sizes[] = { KIB(4), KIB(16), KIB(64) };

static void t31_depth(struct engine *engine, uint32_t size, unsigned int depth,
		      unsigned int flags, bool one_folio)
{
	struct spawned_write w[64];
	uint64_t base = one_folio ? 0 : MIB(1);

	sim_set_stall(engine->bdev, BDEV_WRITE, true);
	for (unsigned int i = 0; i < depth; i++) {
		w[i] = (struct spawned_write){
			.vol = engine->vol, .pos = base + i * size,
			.len = size, .version = depth, .flags = flags,
		};
		engine_spawn(engine, spawned_write_co, &w[i]);
	}
	settle(engine, NSEC_PER_MSEC);
	/* All of them are with the device, and nobody is answered. */
	ck_assert_uint_eq(sim_in_flight(engine->bdev), depth);
	for (unsigned int i = 0; i < depth; i++)
		ck_assert(!w[i].done);
	sim_set_stall(engine->bdev, BDEV_WRITE, false);
	engine_run_all(engine);
	for (unsigned int i = 0; i < depth; i++)
		ck_assert_int_eq(w[i].ret, 0);
	ck_assert(disk_has_pattern(engine, base, depth * size, depth));
	engine_check(engine, true);
}

START_TEST(t31_write_throughs_to_distinct_blocks_are_in_flight_together)
{
	struct engine_params params = {
		.cache_size = MIB(32),
		.vol = {
			.mode = _i % 2 ? VOLUME_WRITEBACK : VOLUME_WRITEOUT,
			.sim = { .size = MIB(8) },
		},
	};
	struct engine *engine = engine_start(&params);
	uint32_t size = t31_sizes[_i / 2];
	char buf[KIB(256) / 64];

	for (unsigned int depth = 1; depth <= 64; depth *= 2)
		t31_depth(engine, size, depth, _i % 2 ? VOLUME_FUA : 0, false);
	if (size == BLOCK) {
		/* 64 blocks of one folio. */
		engine_run(engine, drop_co, engine->vol);
		must_write(engine, 0, KIB(256), 1, 0);
		ck_assert_int_eq(engine_read(engine, 0, buf, sizeof(buf)), 0);
		go_cold(engine);
		ck_assert(reads_pattern(engine, 0, KIB(256), 1));
		ck_assert_uint_eq(engine->cache->pool.cached_pages, 64);
		t31_depth(engine, size, 64, _i % 2 ? VOLUME_FUA : 0, true);
	}
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

/* ---- T-32: what a FUA costs ---- */

START_TEST(t32_fua_overwrite_is_one_device_write_and_no_flush)
{
	struct engine_params params = { .vol.sim.write_cache = true };
	struct engine *engine = engine_start(&params);
	void *image = malloc(ENGINE_SIZE);

	put_on_disk(engine, 0, ENGINE_SIZE, 1);
	for (unsigned int i = 0; i < 3; i++) {
		/* Cold, then cached, then dirty. */
		if (i == 2)
			must_write(engine, KIB(64), BLOCK, 7, 0);
		must_write(engine, KIB(64), BLOCK, i + 2, VOLUME_FUA);
		ck_assert_uint_eq(dev_ops(engine, BDEV_WRITE), i + 1);
		ck_assert_uint_eq(engine->bdev->stats.fua_writes, i + 1);
		ck_assert_uint_eq(dev_ops(engine, BDEV_FLUSH), 0);
		for (uint64_t seed = 0; seed < 20; seed++) {
			sim_crash_image(engine->bdev, seed, image);
			ck_assert(has_pattern((char *)image + KIB(64), BLOCK,
					      KIB(64), i + 2));
		}
	}
	free(image);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(t32_fua_waits_for_a_flush_where_a_write_is_not_enough)
{
	struct stub_params stub = { .fua_needs_flush = true };
	struct engine_params params = {
		.vol = { .open = stub_open, .open_arg = &stub,
			 .sim.write_cache = true },
	};
	struct engine *engine = engine_start(&params);
	struct spawned_write w = {
		.vol = engine->vol, .pos = 0, .len = BLOCK, .version = 2,
		.flags = VOLUME_FUA,
	};

	sim_set_stall(engine->bdev, BDEV_FLUSH, true);
	engine_spawn(engine, spawned_write_co, &w);
	settle(engine, NSEC_PER_MSEC);
	ck_assert_uint_eq(dev_ops(engine, BDEV_WRITE), 1);
	ck_assert(!w.done);
	sim_set_stall(engine->bdev, BDEV_FLUSH, false);
	engine_run_all(engine);
	ck_assert(w.done && !w.ret);
	ck_assert_uint_ge(dev_ops(engine, BDEV_FLUSH), 1);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(t32_fua_on_fresh_space_survives_a_power_cut)
{
	struct engine_params params = {
		.vol.sim = { .write_cache = true, .sparse = true },
	};
	struct engine *engine = engine_start(&params);
	void *image = malloc(ENGINE_SIZE);

	must_write(engine, KIB(64), KIB(12), 2, VOLUME_FUA);
	ck_assert_uint_ge(dev_ops(engine, BDEV_ALLOCATE), 1);
	for (uint64_t seed = 0; seed < 50; seed++) {
		sim_crash_image(engine->bdev, seed, image);
		ck_assert(has_pattern((char *)image + KIB(64), KIB(12),
				      KIB(64), 2));
	}
	free(image);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

/* ---- T-33: one of a request's I/Os fails ---- */

START_TEST(t33_failed_io_fails_the_request_and_nothing_sticks)
{
	struct stub_params stub = { .max_io = KIB(256) };
	struct engine_params params = {
		.cache_size = MIB(32),
		.vol = { .open = stub_open, .open_arg = &stub,
			 .mode = VOLUME_WRITEOUT,
			 .sim = { .size = MIB(4), .latency_max_ns = 5000 } },
	};
	struct engine *engine = engine_start(&params);
	uint32_t len = 10 * KIB(256);
	void *buf = malloc(len);

	engine->vol->mode = VOLUME_WRITEOUT;
	fill_pattern(buf, len, 0, 2);
	sim_set_fault(engine->bdev, BDEV_WRITE, (uint64_t)_i + 1, 1, EIO, false);
	ck_assert_int_eq(engine_write(engine, 0, buf, len, 0), -EIO);
	ck_assert_uint_eq(sim_faults_fired(engine->bdev), 1);
	engine_check(engine, true);
	ck_assert_uint_eq(engine->vol->inflight_bytes, 0);
	/* What was not stored is still there, and goes out with the FLUSH. */
	ck_assert(reads_pattern(engine, 0, len, 2));
	ck_assert_int_eq(engine_flush(engine), 0);
	ck_assert(disk_has_pattern(engine, 0, len, 2));
	free(buf);
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

/* ---- T-35: what was submitted is what gets there ---- */

struct t35 {
	struct engine	*engine;
	uint64_t	at_submit[16];	/* hash of each block's last write */
	uint64_t	writes;
	struct random	rnd;
	bool		over;
};

static uint64_t hash_bytes(const void *buf, size_t len)
{
	const uint64_t *words = buf;
	uint64_t hash = 1;

	for (size_t i = 0; i < len / 8; i++)
		hash = hash64(hash ^ words[i]) + i;
	return hash;
}

static void t35_check_block(struct t35 *t, unsigned int block)
{
	char buf[BLOCK];

	if (!t->at_submit[block])
		return;
	sim_peek(t->engine->bdev, (uint64_t)block * BLOCK, buf, BLOCK);
	ck_assert_uint_eq(hash_bytes(buf, BLOCK), t->at_submit[block]);
}

static void t35_observe(void *arg, const struct bdev_req *req)
{
	struct t35 *t = arg;
	unsigned int block = (unsigned int)(req->pos / BLOCK);
	const struct bdev_req *other;

	if (req->op != BDEV_WRITE)
		return;
	/* Never two writes to one block at once. */
	TAILQ_FOREACH(other, &to_sim(req->bdev)->in_flight, link)
		ck_assert(other->op != BDEV_WRITE ||
			  other->pos >= req->pos + req->len ||
			  req->pos >= other->pos + other->len);
	for (unsigned int i = 0; i < req->nr_iov; i++) {
		const char *base = req->iov[i].iov_base;

		for (size_t off = 0; off < req->iov[i].iov_len; off += BLOCK) {
			t35_check_block(t, block);
			t->at_submit[block++] = hash_bytes(base + off, BLOCK);
		}
	}
	t->writes++;
}

static void t35_write(struct t35 *t, unsigned int flags)
{
	char buf[3 * BLOCK];

	for (unsigned int i = 0; i < 300; i++) {
		uint32_t pos = (uint32_t)random_below(&t->rnd, 14) * BLOCK;
		uint32_t len = sizeof(buf);

		memset(buf, (int)random_below(&t->rnd, 256), sizeof(buf));
		if (random_one_in(&t->rnd, 2)) {
			pos += (uint32_t)random_below(&t->rnd, BLOCK);
			len = 1 + (uint32_t)random_below(&t->rnd, 2 * BLOCK);
		}
		len = MIN(len, 16 * BLOCK - pos);
		ck_assert_int_eq(volume_write(t->engine->vol, pos, len, buf,
					      flags), 0);
		coroutine_sleep_ns(random_below(&t->rnd, 3) * 7000);
	}
}

static void t35_through_co(void *arg)
{
	t35_write(arg, VOLUME_FUA);
}

static void t35_cached_co(void *arg)
{
	struct t35 *t = arg;

	t35_write(t, 0);
	t->over = true;
}

static void t35_flush_co(void *arg)
{
	struct t35 *t = arg;

	while (!t->over) {
		ck_assert_int_eq(volume_flush(t->engine->vol), 0);
		coroutine_sleep_ns(random_below(&t->rnd, 50000));
	}
}

START_TEST(t35_bytes_at_submit_are_the_bytes_on_the_device)
{
	uint64_t seed = test_seed("t35");
	struct engine_params params = {
		.seed = seed,
		.vol.sim = { .seed = seed, .latency_min_ns = 1000,
			     .latency_max_ns = 80000, .short_one_in = 4 },
	};
	struct t35 t = { .engine = engine_start(&params) };

	random_init(&t.rnd, seed);
	sim_set_observer(t.engine->bdev, t35_observe, &t);
	engine_spawn(t.engine, t35_through_co, &t);
	engine_spawn(t.engine, t35_through_co, &t);
	engine_spawn(t.engine, t35_cached_co, &t);
	engine_spawn(t.engine, t35_flush_co, &t);
	engine_run_all(t.engine);
	ck_assert_int_eq(engine_flush(t.engine), 0);
	ck_assert_uint_gt(t.writes, 600);
	for (unsigned int i = 0; i < 16; i++)
		t35_check_block(&t, i);
	sim_set_observer(t.engine->bdev, NULL, NULL);
	ck_assert_int_eq(engine_stop(&t.engine), 0);
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
	tcase_add_loop_test(tc, t03_half_received_write_changes_nothing, 0, 2);
	tcase_add_loop_test(tc, t31_write_throughs_to_distinct_blocks_are_in_flight_together,
			    0, 2 * ARRAY_SIZE(t31_sizes));
	tcase_add_test(tc, t32_fua_overwrite_is_one_device_write_and_no_flush);
	tcase_add_test(tc, t32_fua_waits_for_a_flush_where_a_write_is_not_enough);
	tcase_add_test(tc, t32_fua_on_fresh_space_survives_a_power_cut);
	tcase_add_loop_test(tc, t33_failed_io_fails_the_request_and_nothing_sticks,
			    0, 10);
	tcase_add_loop_test(tc, t34_two_bytes_over_a_block_edge_leave_the_neighbours_intact,
			    0, 4);
	tcase_add_test(tc, t35_bytes_at_submit_are_the_bytes_on_the_device);
	tcase_add_loop_test(tc, t36_write_at_the_end_keeps_the_exact_size, 0,
			    ARRAY_SIZE(t36_sizes));
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	return proof_main(write_suite());
}
