/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_proof_through.c - the proofs about writes that go to the device before
 * they are answered: side by side, by FUA, failing, and unchanged on the way.
 */
#include <errno.h>

#include "bdev/sim_inner.h"
#include "tests/proof.h"
#include "tests/stubstore.h"

#define BLOCK	4096u

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
	check_idle(engine);
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

	for (unsigned int depth = 1; depth <= 64; depth *= 2)
		t31_depth(engine, size, depth, _i % 2 ? VOLUME_FUA : 0, false);
	if (size == BLOCK) {
		/* 64 blocks of one folio. */
		engine_run(engine, drop_co, engine->vol);
		must_write(engine, 0, KIB(256), 1, 0);
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
	check_idle(engine);
	ck_assert_uint_eq(engine->vol->inflight_bytes, 0);
	/* What was not stored is still there, and goes out with the FLUSH. */
	ck_assert(reads_pattern(engine, 0, len, 2));
	ck_assert_int_eq(engine_flush(engine), 0);
	ck_assert(disk_has_pattern(engine, 0, len, 2));
	free(buf);
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

static Suite *through_suite(void)
{
	Suite *suite = suite_create("proofs of writing through");
	TCase *tc = tcase_create("through");

	tcase_add_loop_test(tc, t31_write_throughs_to_distinct_blocks_are_in_flight_together,
			    0, 2 * ARRAY_SIZE(t31_sizes));
	tcase_add_test(tc, t32_fua_overwrite_is_one_device_write_and_no_flush);
	tcase_add_test(tc, t32_fua_waits_for_a_flush_where_a_write_is_not_enough);
	tcase_add_test(tc, t32_fua_on_fresh_space_survives_a_power_cut);
	tcase_add_loop_test(tc, t33_failed_io_fails_the_request_and_nothing_sticks,
			    0, 10);
	tcase_add_test(tc, t35_bytes_at_submit_are_the_bytes_on_the_device);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	return proof_main(through_suite());
}
