/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_proof_writeback.c - the proofs about passes over dirty folios: what a
 * pass writes, where it stops, and what its errors leave behind.
 */
#include <errno.h>

#include "cache/flusher.h"
#include "tests/proof.h"
#include "tests/stubstore.h"

#define BLOCK	4096u

/* Dirty every other page from @pos on: each its own folio and its own ioend. */
static void dirty_apart(struct engine *engine, uint64_t pos, unsigned int nr,
			uint64_t version)
{
	for (unsigned int i = 0; i < nr; i++)
		must_write(engine, pos + i * 2 * BLOCK, BLOCK, version, 0);
}

static void reads_apart(struct engine *engine, uint64_t pos, unsigned int nr,
			uint64_t version)
{
	for (unsigned int i = 0; i < nr; i++)
		ck_assert(reads_pattern(engine, pos + i * 2 * BLOCK, BLOCK,
					version));
}

/* ---- T-04: what is dirtied behind a FLUSH is for the next one ---- */

struct t04 {
	struct engine		*engine;
	struct spawned_flush	flush;
	unsigned int		nr;
	uint64_t		dirtied;
};

static void t04_dirtier_co(void *arg)
{
	struct t04 *t = arg;
	char buf[BLOCK] = { 0 };

	while (!t->flush.done) {
		/* Those of the FLUSH, and as many behind them. */
		for (unsigned int i = 0; i < 2 * t->nr && !t->flush.done; i++) {
			t->dirtied++;
			if (volume_write_inline(t->engine->vol,
						(uint64_t)i * 2 * BLOCK, BLOCK,
						buf, 0))
				coroutine_relax();
		}
		coroutine_relax();
	}
}

static void t04_flush_co(void *arg)
{
	struct t04 *t = arg;

	spawned_flush_co(&t->flush);
	/* At this moment: what was dirtied meanwhile comes later. */
	ck_assert_uint_le(dev_bytes(t->engine, BDEV_WRITE), t->nr * BLOCK);
}

START_TEST(t04_flush_ends_though_folios_are_dirtied_at_full_speed)
{
	uint64_t seed = test_seed("t04");
	struct engine_params params = {
		.seed = seed, .cache_size = MIB(16),
		.dirty_background_pct = 45, .dirty_hard_pct = 90,
		.vol.sim = { .seed = seed, .size = MIB(4),
			     .latency_min_ns = 20000,
			     .latency_max_ns = 900000 },
	};
	struct t04 t = { .engine = engine_start(&params), .nr = 200 };

	t.flush.vol = t.engine->vol;
	dirty_apart(t.engine, 0, t.nr, 1);
	engine_spawn(t.engine, t04_flush_co, &t);
	engine_spawn(t.engine, t04_dirtier_co, &t);
	engine_run_all(t.engine);
	ck_assert_int_eq(t.flush.ret, 0);
	ck_assert_uint_gt(t.dirtied, t.nr);
	ck_assert_uint_gt(t.engine->vol->dirty_bytes, 0);
	ck_assert_int_eq(engine_stop(&t.engine), 0);
}
END_TEST

/* ---- T-05: an error in the middle ---- */

static struct engine *stub_engine(struct stub_params *stub, struct stub **stubp)
{
	struct engine_params params = {
		.vol = { .open = stub_open, .open_arg = stub },
	};
	struct engine *engine = engine_start(&params);

	*stubp = to_stub(engine->vol);
	return engine;
}

static void fail_third(struct stub *stub)
{
	stub->answer = STUB_FAIL;
	stub->fail_err = ENOSPC;
	stub->fail_call = stub->nr_range_calls + 3;
}

START_TEST(t05_sync_all_writes_the_other_nine)
{
	struct stub_params params = { 0 };
	struct stub *stub;
	struct engine *engine = stub_engine(&params, &stub);

	dirty_apart(engine, 0, 10, 2);
	fail_third(stub);
	ck_assert_int_eq(engine_flush(engine), -ENOSPC);
	ck_assert_uint_eq(dev_ops(engine, BDEV_WRITE), 9);
	ck_assert_uint_eq(engine->vol->dirty_bytes, BLOCK);
	ck_assert_uint_eq(engine->vol->nr_failed, 1);
	ck_assert_uint_eq(stub->nr_discards, 1);
	check_idle(engine);
	for (unsigned int i = 0; i < 10; i++)
		ck_assert(disk_has_pattern(engine, i * 2 * BLOCK, BLOCK, 2) ==
			  (i != 2));
	/* It is tried again. */
	ck_assert_int_eq(engine_flush(engine), 0);
	ck_assert_uint_eq(dev_ops(engine, BDEV_WRITE), 10);
	ck_assert(disk_has_pattern(engine, 2 * 2 * BLOCK, BLOCK, 2));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

struct pass {
	struct engine	*engine;
	int		ret;
};

static void cyclic_pass_co(void *arg)
{
	struct pass *pass = arg;
	struct writeback_control wbc = {
		.sync = WB_SYNC_NONE, .range_cyclic = true, .nr_to_write = 1000,
	};

	pass->ret = writeback_pages(pass->engine->vol, &wbc);
	writeback_wait(pass->engine->vol);
}

START_TEST(t05_sync_none_stops_and_the_next_pass_goes_on_behind)
{
	struct stub_params params = { 0 };
	struct stub *stub;
	struct engine *engine = stub_engine(&params, &stub);
	struct pass pass = { .engine = engine };

	dirty_apart(engine, 0, 10, 2);
	fail_third(stub);
	engine_run(engine, cyclic_pass_co, &pass);
	ck_assert_int_eq(pass.ret, -ENOSPC);
	ck_assert_uint_eq(dev_ops(engine, BDEV_WRITE), 2);
	/* Behind the third, which lies on page 4. */
	ck_assert_uint_eq(engine->vol->flusher->cursor,
			  folio_key(engine->vol->id, 5 * BLOCK));
	engine_run(engine, cyclic_pass_co, &pass);
	ck_assert_int_eq(pass.ret, 0);
	ck_assert_uint_eq(dev_ops(engine, BDEV_WRITE), 9);
	ck_assert_uint_eq(engine->vol->dirty_bytes, BLOCK);
	ck_assert_uint_eq(engine->vol->flusher->cursor, 0);
	engine_run(engine, cyclic_pass_co, &pass);
	ck_assert_uint_eq(dev_ops(engine, BDEV_WRITE), 10);
	ck_assert_uint_eq(engine->vol->nr_failed, 0);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(t05_sync_none_writes_its_slice_and_remembers_where)
{
	struct stub_params params = { 0 };
	struct stub *stub;
	struct engine *engine = stub_engine(&params, &stub);
	struct writeback_control wbc = {
		.sync = WB_SYNC_NONE, .range_cyclic = true,
	};
	struct folio *folio;
	uint64_t blocks;

	dirty_apart(engine, 0, 10, 2);
	wbc.nr_to_write = 4;
	for (unsigned int i = 0; i < 4; i++) {
		ck_assert(writeback_iter(engine->vol, &wbc, &folio, &blocks,
					 0));
		ck_assert_uint_eq(folio->key, folio_key(engine->vol->id,
							i * 2 * BLOCK));
		ck_assert_uint_eq(blocks, 1);
		/* As if a write had ended. */
		mutex_lock(&engine->cache->shards[0].lock);
		shard_end_io_locked(&engine->cache->shards[0], engine->vol,
				    folio, blocks);
		mutex_unlock(&engine->cache->shards[0].lock);
	}
	ck_assert(!writeback_iter(engine->vol, &wbc, &folio, &blocks, 0));
	ck_assert_uint_eq(engine->vol->flusher->cursor,
			  folio_key(engine->vol->id, 7 * BLOCK));
	ck_assert_uint_eq(engine->vol->dirty_bytes, 6 * BLOCK);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

/* ---- T-06: passes that meet ---- */

START_TEST(t06_two_cyclic_passes_and_a_holder_of_folios_end)
{
	uint64_t seed = test_seed("t06");
	struct engine_params params = { .seed = seed };
	struct engine *engine = engine_start(&params);
	struct pass passes[2] = { { .engine = engine }, { .engine = engine } };
	struct spawned_write held[4];
	struct spawned_flush flush = { .vol = engine->vol };

	dirty_apart(engine, 0, 60, 2);
	sim_set_stall(engine->bdev, BDEV_WRITE, true);
	/* Folios that the passes come to are in flight already. */
	for (unsigned int i = 0; i < 4; i++) {
		held[i] = (struct spawned_write){
			.vol = engine->vol, .pos = i * 20 * BLOCK,
			.len = BLOCK, .version = 3, .flags = VOLUME_FUA,
		};
		engine_spawn(engine, spawned_write_co, &held[i]);
	}
	settle(engine, 1000);
	engine_spawn(engine, cyclic_pass_co, &passes[0]);
	engine_spawn(engine, cyclic_pass_co, &passes[1]);
	engine_spawn(engine, spawned_flush_co, &flush);
	settle(engine, NSEC_PER_MSEC);
	ck_assert(!flush.done);
	/* All but those that the passes hold can be written meanwhile. */
	must_write(engine, KIB(900), BLOCK, 4, 0);
	sim_set_stall(engine->bdev, BDEV_WRITE, false);
	engine_run_all(engine);
	ck_assert_int_eq(flush.ret, 0);
	ck_assert_int_eq(passes[0].ret, 0);
	ck_assert_int_eq(passes[1].ret, 0);
	for (unsigned int i = 0; i < 60; i++)
		ck_assert(disk_has_pattern(engine, i * 2 * BLOCK, BLOCK,
					   i % 10 || i >= 40 ? 2 : 3));
	check_idle(engine);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

/* ---- T-07: a failed background write loses nothing ---- */

START_TEST(t07_kth_write_fails_and_nothing_is_lost_or_stuck)
{
	struct engine_params params = {
		.vol.sim = { .latency_max_ns = 50000 },
	};
	struct engine *engine = engine_start(&params);

	put_on_disk(engine, 0, ENGINE_SIZE, 1);
	dirty_apart(engine, 0, 12, 2);
	sim_set_fault(engine->bdev, BDEV_WRITE, (uint64_t)_i + 1, 1, EIO, true);
	ck_assert_int_eq(engine_flush(engine), -EIO);
	ck_assert_uint_eq(engine->vol->inflight_bytes, 0);
	ck_assert_uint_eq(engine->vol->dirty_bytes, BLOCK);
	check_idle(engine);
	reads_apart(engine, 0, 12, 2);
	ck_assert_int_eq(engine_flush(engine), 0);
	for (unsigned int i = 0; i < 12; i++)
		ck_assert(disk_has_pattern(engine, i * 2 * BLOCK, BLOCK, 2));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(t07_old_bytes_never_come_back_under_memory_pressure)
{
	struct engine_params params = {
		.cache_size = MIB(1), .vol.sim.size = MIB(8),
	};
	struct engine *engine = engine_start(&params);

	put_on_disk(engine, 0, MIB(8), 1);
	dirty_apart(engine, 0, 12, 2);
	sim_set_fault(engine->bdev, BDEV_WRITE, 1, UINT64_MAX, EIO, false);
	for (unsigned int i = 0; i < 3; i++) {
		/* On every connection, every time. */
		ck_assert_int_eq(engine_flush(engine), -EIO);
		for (uint64_t pos = MIB(1); pos < MIB(8); pos += KIB(64))
			ck_assert(reads_pattern(engine, pos, KIB(64), 1));
		reads_apart(engine, 0, 12, 2);
		settle(engine, 20 * NSEC_PER_SEC);
	}
	sim_set_fault(engine->bdev, BDEV_WRITE, 0, 0, 0, false);
	ck_assert_int_eq(engine_flush(engine), 0);
	go_cold(engine);
	reads_apart(engine, 0, 12, 2);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

/* ---- T-08: beyond the end ---- */

/* Frames that were used before hold anything. */
static void soil_memory(struct engine *engine)
{
	struct pool *pool = &engine->cache->pool;
	uint32_t frames[300], nr = 0;

	while (nr < 300 && (frames[nr] = pool_alloc(pool, POOL_STAGING, 0,
						    false)))
		memset(pool_data(pool, frames[nr++]), 0xee, FRAME_SIZE);
	while (nr)
		pool_free(pool, frames[--nr]);
}

static void staged_write_co(void *arg)
{
	struct engine *engine = arg;
	uint64_t pos = engine->vol->size - 6000;
	struct stage *stage;

	ck_assert_int_eq(stage_alloc(engine->vol, pos, 6000, &stage), 0);
	for (unsigned int i = 0; i < stage->nr_iov; i++)
		memset(stage->iov[i].iov_base, 0x77, stage->iov[i].iov_len);
	ck_assert_int_eq(volume_write_stage(&stage, 0), 0);
}

static void t08_check(struct engine *engine)
{
	uint64_t size = engine->vol->size;
	uint8_t tail[BLOCK];
	uint64_t len = round_up64(size, 1u << engine->vol->block_shift) - size;

	ck_assert_int_eq(engine_flush(engine), 0);
	sim_peek(engine->bdev, size, tail, len);
	ck_assert(is_zero(tail, len));
	/* And nothing further on was touched. */
	sim_peek(engine->bdev, size + len, tail, BLOCK);
	for (unsigned int i = 0; i < BLOCK; i++)
		ck_assert_uint_eq(tail[i], 0xff);
}

START_TEST(t08_bytes_beyond_the_end_are_zero_after_each_pass)
{
	struct stub_params stub = {
		.size = KIB(64) + 512 * (1 + (uint64_t)_i % 7),
		.block_shift = 12 - (unsigned int)_i / 7 * 2,
	};
	struct engine_params params = {
		.vol = { .open = stub_open, .open_arg = &stub },
	};
	struct engine *engine = engine_start(&params);
	uint64_t size = engine->vol->size;
	char *ones = malloc(ENGINE_SIZE);

	memset(ones, 0xff, ENGINE_SIZE);
	sim_poke(engine->bdev, size, ones, ENGINE_SIZE - size);
	soil_memory(engine);
	/* A part of the last block, so that the rest is read. */
	must_write(engine, size - 5, 3, 2, 0);
	t08_check(engine);
	/* All of it, up to the end. */
	engine_run(engine, drop_co, engine->vol);
	soil_memory(engine);
	must_write(engine, size - 600, 600, 2, 0);
	t08_check(engine);
	must_write(engine, size - 1, 1, 3, VOLUME_FUA);
	t08_check(engine);
	/* Received into frames of its own. */
	soil_memory(engine);
	engine_run(engine, staged_write_co, engine);
	t08_check(engine);
	engine_run(engine, drop_co, engine->vol);
	soil_memory(engine);
	engine_run(engine, staged_write_co, engine);
	t08_check(engine);
	free(ones);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

/* ---- T-09: stores that answer oddly ---- */

START_TEST(t09_impossible_answer_is_an_io_error)
{
	struct stub_params params = { 0 };
	struct stub *stub;
	struct engine *engine = stub_engine(&params, &stub);

	must_write(engine, 0, 3 * BLOCK, 2, 0);
	stub->answer = _i ? STUB_TOO_MUCH : STUB_NOTHING;
	ck_assert_int_eq(engine_flush(engine), -EIO);
	ck_assert_int_eq(engine_flush(engine), -EIO);
	ck_assert_uint_eq(dev_ops(engine, BDEV_WRITE), 0);
	check_idle(engine);
	ck_assert_uint_eq(engine->vol->dirty_bytes, 3 * BLOCK);
	stub->answer = STUB_ADD;
	ck_assert_int_eq(engine_flush(engine), 0);
	ck_assert(disk_has_pattern(engine, 0, 3 * BLOCK, 2));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(t09_single_block_steps_make_up_the_run)
{
	struct stub_params params = { .block_shift = 12 - (unsigned int)_i };
	struct stub *stub;
	struct engine *engine = stub_engine(&params, &stub);
	uint32_t len = 37u << params.block_shift;

	stub->step = 1u << params.block_shift;
	must_write(engine, BLOCK, len, 2, 0);
	ck_assert_int_eq(engine_flush(engine), 0);
	ck_assert_uint_eq(stub->nr_range_calls, 37);
	ck_assert_uint_eq(dev_ops(engine, BDEV_WRITE), 1);
	ck_assert(disk_has_pattern(engine, BLOCK, len, 2));
	check_idle(engine);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(t09_hole_means_no_io_and_no_stuck_folio)
{
	struct stub_params params = { 0 };
	struct stub *stub;
	struct engine *engine = stub_engine(&params, &stub);

	must_write(engine, 0, KIB(64), 2, 0);
	stub->answer = STUB_HOLE;
	stub->step = _i ? BLOCK : 0;
	ck_assert_int_eq(engine_flush(engine), 0);
	ck_assert_uint_eq(dev_ops(engine, BDEV_WRITE), 0);
	ck_assert_uint_eq(engine->vol->dirty_bytes, 0);
	check_idle(engine);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(t09_hole_behind_data_in_one_answer_is_not_stuck)
{
	struct stub_params params = { 0 };
	struct stub *stub;
	struct engine *engine = stub_engine(&params, &stub);

	must_write(engine, 0, KIB(64), 2, 0);
	stub->answer = STUB_HALF_HOLE;
	ck_assert_int_eq(engine_flush(engine), 0);
	ck_assert_uint_eq(dev_bytes(engine, BDEV_WRITE), BLOCK);
	check_idle(engine);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

static Suite *writeback_suite(void)
{
	Suite *suite = suite_create("proofs of writeback");
	TCase *tc = tcase_create("writeback");

	tcase_add_test(tc, t04_flush_ends_though_folios_are_dirtied_at_full_speed);
	tcase_add_test(tc, t05_sync_all_writes_the_other_nine);
	tcase_add_test(tc, t05_sync_none_stops_and_the_next_pass_goes_on_behind);
	tcase_add_test(tc, t05_sync_none_writes_its_slice_and_remembers_where);
	tcase_add_test(tc, t06_two_cyclic_passes_and_a_holder_of_folios_end);
	tcase_add_loop_test(tc, t07_kth_write_fails_and_nothing_is_lost_or_stuck,
			    0, 12);
	tcase_add_test(tc, t07_old_bytes_never_come_back_under_memory_pressure);
	tcase_add_loop_test(tc, t08_bytes_beyond_the_end_are_zero_after_each_pass,
			    0, 14);
	tcase_add_loop_test(tc, t09_impossible_answer_is_an_io_error, 0, 2);
	tcase_add_loop_test(tc, t09_single_block_steps_make_up_the_run, 0, 4);
	tcase_add_loop_test(tc, t09_hole_means_no_io_and_no_stuck_folio, 0, 2);
	tcase_add_test(tc, t09_hole_behind_data_in_one_answer_is_not_stuck);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	return proof_main(writeback_suite());
}
