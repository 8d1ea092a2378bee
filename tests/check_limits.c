/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_limits.c - the engine at its limits: all memory pinned, in flight or
 * staged at once, and volumes of sizes that hardly fit.  Nobody waits for ever.
 */
#include <errno.h>

#include "tests/proof.h"

#define BLOCK		4096u
#define NR_READERS	32u

/* ---- memory ---- */

struct staged {
	struct engine	*engine;
	uint64_t	pos;
	uint32_t	len;
	int		ret;
};

static void staged_write_co(void *arg)
{
	struct staged *s = arg;
	struct stage *stage;

	ck_assert_int_eq(stage_alloc_wait(s->engine->vol, s->pos, s->len,
					  &stage), 0);
	for (unsigned int i = 0, off = 0; i < stage->nr_iov;
	     off += (unsigned int)stage->iov[i++].iov_len)
		fill_pattern(stage->iov[i].iov_base, stage->iov[i].iov_len,
			     s->pos + off, 4);
	s->ret = volume_write_stage(&stage, 0);
}

/* Payloads are adopted though nothing can be evicted for them; then nothing is
 * left for payloads but what the cache has to give back. */
START_TEST(payloads_come_in_after_the_cache_took_their_memory)
{
	struct engine_params params = {
		.cache_size = MIB(1), .staging_max = KIB(512),
		.vol.sim.size = MIB(4), .vol.mode = VOLUME_WRITEOUT,
	};
	struct engine *engine = engine_start(&params);
	const struct pool *pool = &engine->cache->pool;
	struct staged s[8];

	sim_set_stall(engine->bdev, BDEV_WRITE, true);
	for (unsigned int i = 0; i < ARRAY_SIZE(s); i++) {
		s[i] = (struct staged){ .engine = engine, .len = KIB(256),
					.pos = i * KIB(256), .ret = 1 };
		engine_spawn(engine, staged_write_co, &s[i]);
		settle(engine, NSEC_PER_MSEC);
	}
	ck_assert_uint_eq(pool->cached_pages + pool->staged_pages,
			  (MIB(1) + KIB(512)) / BLOCK);
	ck_assert_int_lt(pool_cache_room(pool), 0);
	sim_set_stall(engine->bdev, BDEV_WRITE, false);
	settle(engine, NSEC_PER_SEC);
	ck_assert_uint_eq(engine->nr_running, 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(s); i++) {
		ck_assert_int_eq(s[i].ret, 0);
		ck_assert(reads_pattern(engine, s[i].pos, s[i].len, 4));
	}
	ck_assert_int_ge(pool_cache_room(pool), 0);
	check_idle(engine);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

struct reader {
	struct engine	*engine;
	uint64_t	pos;
	uint32_t	len;
	bool		done;
};

static void reader_co(void *arg)
{
	struct reader *r = arg;
	unsigned int max = volume_pins_max(r->len);
	struct pinvec pv = { .pins = calloc(max, sizeof(*pv.pins)),
			     .max = max };
	uint64_t pos = r->pos;

	ck_assert_int_eq(volume_read(r->engine->vol, r->pos, r->len, &pv, NULL),
			 0);
	for (unsigned int i = 0; i < pv.nr; i++) {
		ck_assert(has_pattern(pv.pins[i].base, pv.pins[i].len, pos, 1));
		pos += pv.pins[i].len;
	}
	ck_assert_uint_eq(pos, r->pos + r->len);
	volume_unpin(r->engine->cache, pv.pins, pv.nr);
	free(pv.pins);
	r->done = true;
}

/* Each pins piece by piece what it reads: together more than there is. */
START_TEST(readers_who_want_all_memory_do_not_wait_for_each_other)
{
	struct engine_params params = {
		.cache_size = MIB(1), .staging_max = KIB(64),
		.vol = {
			.mode = _i & 1 ? VOLUME_NONE : VOLUME_WRITEBACK,
			.max_io = KIB(256),
			.sim = { .size = NR_READERS * MIB(1),
				 .latency_max_ns = 100000 },
		},
	};
	struct engine *engine;
	struct reader r[NR_READERS];
	unsigned int nr_done = 0;

	params.seed = test_seed("readers");
	engine = engine_start(&params);
	put_on_disk(engine, 0, (uint32_t)engine->vol->size, 1);
	for (unsigned int i = 0; i < NR_READERS; i++) {
		r[i] = (struct reader){ .engine = engine, .len = KIB(600),
					.pos = i * MIB(1) + BLOCK };
		engine_spawn(engine, reader_co, &r[i]);
	}
	settle(engine, 10 * NSEC_PER_SEC);
	for (unsigned int i = 0; i < NR_READERS; i++)
		nr_done += r[i].done;
	ck_assert_uint_eq(nr_done, NR_READERS);
	check_idle(engine);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

/* ---- sizes ---- */

START_TEST(a_volume_whose_pages_have_no_number_is_refused)
{
	struct engine_params params = { 0 };
	struct engine *engine = engine_start(&params);
	struct volume vol = *engine->vol;

	vol.size = VOLUME_SIZE_MAX + 1;
	ck_assert_int_eq(volume_start(&vol, engine->cache, engine->loop),
			 -EFBIG);
	vol.size = INT64_MAX;
	ck_assert_int_eq(volume_start(&vol, engine->cache, engine->loop),
			 -EFBIG);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

/* Not a multiple of anything, and less than one block. */
START_TEST(small_and_odd_sizes_are_served_to_the_byte)
{
	static const uint64_t sizes[] = { 1, 511, 513, 4095, 4097, 12289,
					  KIB(256) + 1 };
	uint64_t size = sizes[_i / 3];
	static const enum volume_mode modes[] = {
		VOLUME_WRITEBACK, VOLUME_WRITETHROUGH, VOLUME_NONE,
	};
	struct engine_params params = {
		.vol = { .mode = modes[_i % 3], .sim.size = size },
	};
	struct engine *engine = engine_start(&params);
	uint32_t len = (uint32_t)size, half = len / 2;
	struct volume_extent ext[4];
	char *buf = calloc(1, len);

	must_write(engine, 0, len, 2, 0);
	must_write(engine, size - 1, 1, 2, 0);
	ck_assert(reads_pattern(engine, 0, len, 2));
	ck_assert_int_eq(engine_flush(engine), 0);
	ck_assert(disk_has_pattern(engine, 0, len, 2));
	ck_assert_int_eq(engine_trim(engine, half, len - half, 0), 0);
	ck_assert_int_eq(engine_read(engine, half, buf, len - half), 0);
	ck_assert(is_zero(buf, len - half));
	ck_assert(!half || reads_pattern(engine, 0, half, 2));
	ck_assert_int_eq(engine_zero(engine, 0, len, VOLUME_FUA), 0);
	ck_assert_int_eq(engine_read(engine, 0, buf, len), 0);
	ck_assert(is_zero(buf, len));
	for (unsigned int nr = 4, i = 0; i == 0; i++) {
		ck_assert_int_eq(volume_extents(engine->vol, 0, size, ext, &nr),
				 0);
		ck_assert_uint_eq(nr, 1);
		ck_assert_uint_eq(ext[0].len, size);
	}
	check_idle(engine);
	free(buf);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(an_empty_volume_can_be_flushed_and_stopped)
{
	struct engine_params params = { 0 };
	struct engine *engine = engine_start(&params);

	engine->vol->size = 0;
	ck_assert_int_eq(engine_flush(engine), 0);
	ck_assert_int_eq(engine_trim(engine, 0, 0, 0), 0);
	ck_assert_int_eq(engine_write(engine, 0, "", 0, VOLUME_FUA), 0);
	check_idle(engine);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

static Suite *limits_suite(void)
{
	Suite *suite = suite_create("limits");
	TCase *tc = tcase_create("memory");

	tcase_add_test(tc, payloads_come_in_after_the_cache_took_their_memory);
	tcase_add_loop_test(tc, readers_who_want_all_memory_do_not_wait_for_each_other,
			    0, 4);
	suite_add_tcase(suite, tc);
	tc = tcase_create("sizes");
	tcase_add_test(tc, a_volume_whose_pages_have_no_number_is_refused);
	tcase_add_loop_test(tc, small_and_odd_sizes_are_served_to_the_byte, 0,
			    7 * 3);
	tcase_add_test(tc, an_empty_volume_can_be_flushed_and_stopped);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	return proof_main(limits_suite());
}
