/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_stage.c - payloads on their way in: how they are laid out, what is
 * swapped into the cache and what is copied, and the budget they live from.
 */
#include <errno.h>

#include "tests/proof.h"

#define BLOCK	4096u

static void receive(struct stage *stage, uint64_t version)
{
	uint64_t pos = stage->pos;

	for (unsigned int i = 0; i < stage->nr_iov; i++) {
		fill_pattern(stage->iov[i].iov_base, stage->iov[i].iov_len,
			     pos, version);
		pos += stage->iov[i].iov_len;
	}
	ck_assert_uint_eq(pos, stage->pos + stage->len);
}

struct staged {
	struct engine	*engine;
	uint64_t	pos;
	uint32_t	len;
	uint64_t	version;
	unsigned int	flags;
	int		ret;
};

static void staged_write_co(void *arg)
{
	struct staged *s = arg;
	struct stage *stage;

	ck_assert_int_eq(stage_alloc_wait(s->engine->vol, s->pos, s->len,
					  &stage), 0);
	receive(stage, s->version);
	s->ret = volume_write_stage(&stage, s->flags);
	ck_assert_ptr_null(stage);
}

static void must_stage(struct engine *engine, uint64_t pos, uint32_t len,
		       uint64_t version, unsigned int flags)
{
	struct staged s = { .engine = engine, .pos = pos, .len = len,
			    .version = version, .flags = flags };

	engine_run(engine, staged_write_co, &s);
	ck_assert_int_eq(s.ret, 0);
}

START_TEST(pieces_are_whole_aligned_folios_but_for_the_ends)
{
	struct engine_params params = { .vol.sim.size = MIB(2) };
	struct engine *engine = engine_start(&params);
	struct random rnd;

	random_init(&rnd, test_seed("stage"));
	for (unsigned int i = 0; i < 500; i++) {
		uint32_t len = 1 + (uint32_t)random_below(&rnd, MIB(1));
		uint64_t pos = random_below(&rnd, MIB(2) - len + 1), at = pos;
		struct stage *stage;

		ck_assert_int_eq(stage_alloc(engine->vol, pos, len, &stage), 0);
		for (unsigned int p = 0; p < stage->nr_iov; p++) {
			struct folio *folio = pool_folio(&engine->cache->pool,
							 stage->frames[p]);
			uint64_t n = stage->iov[p].iov_len;

			ck_assert_uint_le(n, folio_size(folio));
			/* Where nothing is at the edge, all of the folio. */
			ck_assert(n == folio_size(folio) || p == 0 ||
				  p == stage->nr_iov - 1);
			ck_assert_uint_eq((uintptr_t)stage->iov[p].iov_base %
					  BLOCK, at % BLOCK);
			ck_assert(is_aligned64(round_down64(at, BLOCK),
					       folio_size(folio)));
			at += n;
		}
		ck_assert_uint_eq(at, pos + len);
		stage_free(stage);
		ck_assert_uint_eq(engine->cache->pool.staged_pages, 0);
	}
	stage_free(NULL);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(whole_folios_are_swapped_in_without_a_copy)
{
	struct engine_params params = { 0 };
	struct engine *engine = engine_start(&params);
	struct pin pins[8];
	struct pinvec pv = { .pins = pins, .max = 8 };
	struct stage *stage;
	void *base;

	ck_assert_int_eq(stage_alloc(engine->vol, 0, KIB(64), &stage), 0);
	ck_assert_uint_eq(stage->nr_iov, 1);
	receive(stage, 3);
	base = stage->iov[0].iov_base;
	loop_enter(engine->loop);
	ck_assert_int_eq(volume_write_stage_inline(&stage, 0), 0);
	ck_assert_ptr_null(stage);
	ck_assert_int_eq(volume_read_inline(engine->vol, 0, KIB(64), &pv, NULL),
			 0);
	ck_assert_uint_eq(pv.nr, 1);
	ck_assert_ptr_eq(pins[0].base, base);
	volume_unpin(engine->cache, pins, pv.nr);
	loop_enter(NULL);
	ck_assert_uint_eq(engine->cache->pool.staged_pages, 0);
	ck_assert(reads_pattern(engine, 0, KIB(64), 3));
	check_idle(engine);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(a_pinned_folio_is_replaced_and_its_reader_keeps_the_old_bytes)
{
	struct engine_params params = { 0 };
	struct engine *engine = engine_start(&params);
	struct pin pins[8];
	struct pinvec pv = { .pins = pins, .max = 8 };

	must_stage(engine, 0, KIB(64), 2, 0);
	loop_enter(engine->loop);
	ck_assert_int_eq(volume_read_inline(engine->vol, 0, KIB(64), &pv, NULL),
			 0);
	loop_enter(NULL);
	for (unsigned int i = 3; i < 6; i++) {
		/* The first one finds it pinned: by copy, or by swap. */
		if (i % 2 == (unsigned int)_i)
			must_stage(engine, 0, KIB(64), i, 0);
		else
			must_write(engine, 0, KIB(64), i, VOLUME_FUA);
		ck_assert(has_pattern(pins[0].base, pins[0].len, 0, 2));
		ck_assert(reads_pattern(engine, 0, KIB(64), i));
	}
	volume_unpin(engine->cache, pins, pv.nr);
	check_idle(engine);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(the_budget_says_again_and_never)
{
	struct engine_params params = { .staging_max = KIB(256),
					.vol.sim.size = MIB(2) };
	struct engine *engine = engine_start(&params);
	struct stage *first, *second;

	ck_assert_int_eq(stage_alloc(engine->vol, 0, MIB(1), &first), -ENOMEM);
	ck_assert_int_eq(stage_alloc(engine->vol, 0, KIB(200), &first), 0);
	ck_assert_int_eq(stage_alloc(engine->vol, 0, KIB(100), &second),
			 -EAGAIN);
	/* Nothing is held by the one that failed. */
	ck_assert_uint_eq(engine->cache->pool.staged_pages, 50);
	ck_assert_int_eq(stage_alloc(engine->vol, 0, KIB(28), &second), 0);
	stage_free(first);
	stage_free(second);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(large_payloads_leave_room_for_small_ones)
{
	struct engine_params params = { .staging_max = MIB(1),
					.vol.sim.size = MIB(2) };
	struct engine *engine = engine_start(&params);
	struct stage *large[5], *small;
	unsigned int nr = 0;

	while (!stage_alloc(engine->vol, 0, KIB(256), &large[nr]))
		ck_assert_uint_lt(++nr, 4);
	ck_assert_uint_eq(nr, 3);
	ck_assert_int_eq(stage_alloc(engine->vol, 0, KIB(64), &small), 0);
	stage_free(small);
	while (nr)
		stage_free(large[--nr]);
	/* One that is alone may have it all. */
	ck_assert_int_eq(stage_alloc(engine->vol, 0, KIB(1000), &small), 0);
	stage_free(small);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(who_waits_for_the_budget_gets_it)
{
	struct engine_params params = { .staging_max = KIB(256) };
	struct engine *engine = engine_start(&params);
	struct staged s = { .engine = engine, .len = KIB(128), .version = 2,
			    .ret = 1 };
	struct stage *first;

	ck_assert_int_eq(stage_alloc(engine->vol, 0, KIB(200), &first), 0);
	engine_spawn(engine, staged_write_co, &s);
	settle(engine, NSEC_PER_SEC);
	ck_assert_int_eq(s.ret, 1);
	stage_free(first);
	engine_run_all(engine);
	ck_assert_int_eq(s.ret, 0);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

static void finish_stage_co(void *arg)
{
	struct stage **stagep = arg;

	ck_assert_int_eq(volume_write_stage(stagep, 0), 0);
}

START_TEST(an_inline_write_goes_on_where_it_stopped)
{
	struct engine_params params = { 0 };
	struct engine *engine = engine_start(&params);
	struct spawned_write held = { .vol = engine->vol, .pos = KIB(32),
				      .len = BLOCK, .version = 9,
				      .flags = VOLUME_FUA };
	struct stage *stage;

	/* The middle of it is in flight: the inline form stops there. */
	sim_set_stall(engine->bdev, BDEV_WRITE, true);
	engine_spawn(engine, spawned_write_co, &held);
	settle(engine, 1000);
	ck_assert_int_eq(stage_alloc(engine->vol, 4096, KIB(60), &stage), 0);
	receive(stage, 2);
	loop_enter(engine->loop);
	ck_assert_int_eq(volume_write_stage_inline(&stage, 0), -EAGAIN);
	loop_enter(NULL);
	ck_assert_uint_gt(stage->done, 0);
	ck_assert_uint_le(stage->done, KIB(28));
	/* The waiting form of the same call, with what is left. */
	engine_spawn(engine, finish_stage_co, &stage);
	settle(engine, NSEC_PER_MSEC);
	ck_assert_ptr_nonnull(stage);
	sim_set_stall(engine->bdev, BDEV_WRITE, false);
	engine_run_all(engine);
	ck_assert_ptr_null(stage);
	ck_assert(reads_pattern(engine, 4096, KIB(60), 2));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

/* Staged writes of any shape against a flat copy, with reads pinned across. */
START_TEST(random_staged_writes_read_back)
{
	uint64_t seed = test_seed("staged writes");
	struct engine_params params = {
		.seed = seed, .cache_size = _i & 1 ? KIB(512) : MIB(4),
		.vol = {
			.mode = _i & 2 ? VOLUME_WRITEOUT : VOLUME_WRITEBACK,
			.sim = { .seed = seed, .latency_max_ns = 20000,
				 .sparse = _i & 1 },
		},
	};
	struct engine *engine = engine_start(&params);
	char *flat = calloc(1, ENGINE_SIZE), *buf = malloc(ENGINE_SIZE);
	struct random rnd;

	random_init(&rnd, seed);
	for (unsigned int i = 1; i < 400; i++) {
		uint32_t len = 1 + (uint32_t)random_below(&rnd,
				random_one_in(&rnd, 4) ? KIB(300) : 10000);
		uint64_t pos = random_below(&rnd, ENGINE_SIZE - len + 1);

		if (random_one_in(&rnd, 3)) {
			pos = round_down64(pos, BLOCK);
			len = (uint32_t)round_up64(len, BLOCK);
			len = (uint32_t)MIN((uint64_t)len, ENGINE_SIZE - pos);
		}
		if (random_one_in(&rnd, 5))
			must_write(engine, pos, len, i, 0);
		else
			must_stage(engine, pos, len, i, 0);
		fill_pattern(flat + pos, len, pos, i);
		len = 1 + (uint32_t)random_below(&rnd, 30000);
		pos = random_below(&rnd, ENGINE_SIZE - len + 1);
		ck_assert_int_eq(engine_read(engine, pos, buf, len), 0);
		ck_assert_mem_eq(buf, flat + pos, len);
	}
	check_idle(engine);
	go_cold(engine);
	ck_assert_int_eq(engine_read(engine, 0, buf, ENGINE_SIZE), 0);
	ck_assert_mem_eq(buf, flat, ENGINE_SIZE);
	free(flat);
	free(buf);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

/* Payloads that became the cache's are evicted before more come in. */
START_TEST(staged_writes_alone_never_run_out_of_memory)
{
	struct engine_params params = {
		.cache_size = KIB(256), .staging_max = KIB(256),
		.dirty_hard_pct = 90, .dirty_background_pct = 45,
		.vol.sim.size = MIB(4),
	};
	struct engine *engine = engine_start(&params);
	struct staged s[16];

	for (unsigned int round = 0; round < 8; round++) {
		for (unsigned int i = 0; i < 16; i++) {
			s[i] = (struct staged){
				.engine = engine, .len = KIB(64),
				.pos = (round * 16 + i) % 64 * KIB(64),
				.version = round, .ret = 1,
			};
			engine_spawn(engine, staged_write_co, &s[i]);
		}
		engine_run_all(engine);
		for (unsigned int i = 0; i < 16; i++)
			ck_assert_int_eq(s[i].ret, 0);
		ck_assert_uint_le(engine->cache->pool.cached_pages +
				  engine->cache->pool.staged_pages, 128);
	}
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

static Suite *stage_suite(void)
{
	Suite *suite = suite_create("stage");
	TCase *tc = tcase_create("payloads");

	tcase_add_test(tc, pieces_are_whole_aligned_folios_but_for_the_ends);
	tcase_add_test(tc, whole_folios_are_swapped_in_without_a_copy);
	tcase_add_loop_test(tc, a_pinned_folio_is_replaced_and_its_reader_keeps_the_old_bytes,
			    0, 2);
	tcase_add_test(tc, the_budget_says_again_and_never);
	tcase_add_test(tc, large_payloads_leave_room_for_small_ones);
	tcase_add_test(tc, who_waits_for_the_budget_gets_it);
	tcase_add_test(tc, an_inline_write_goes_on_where_it_stopped);
	tcase_add_loop_test(tc, random_staged_writes_read_back, 0, 4);
	tcase_add_test(tc, staged_writes_alone_never_run_out_of_memory);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	return proof_main(stage_suite());
}
