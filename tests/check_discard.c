/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_discard.c - trims and zeroes: what they leave of folios that they
 * touch in part, what pinned readers keep, and what the store is asked for.
 */
#include <errno.h>

#include "cache/writeback.h"
#include "tests/proof.h"

#define BLOCK	4096u

/* Pin [@pos, @pos + @len), cached already. */
static void pin(struct engine *engine, uint64_t pos, uint32_t len,
		struct pinvec *pv)
{
	pv->nr = 0;
	loop_enter(engine->loop);
	ck_assert_int_eq(volume_read_inline(engine->vol, pos, len, pv, NULL),
			 0);
	loop_enter(NULL);
}

static void check_pins(const struct pinvec *pv, uint64_t pos, uint64_t version)
{
	for (unsigned int i = 0; i < pv->nr; i++) {
		ck_assert(has_pattern(pv->pins[i].base, pv->pins[i].len, pos,
				      version));
		pos += pv->pins[i].len;
	}
}

static bool reads_zero(struct engine *engine, uint64_t pos, uint32_t len)
{
	char *buf = malloc(len);
	bool zero;

	ck_assert_int_eq(engine_read(engine, pos, buf, len), 0);
	zero = is_zero(buf, len);
	free(buf);
	return zero;
}

/* [0, @size) cached in large folios and on the disk, version 1. */
static void warm_up(struct engine *engine, uint32_t size)
{
	put_on_disk(engine, 0, size, 1);
	ck_assert(reads_pattern(engine, 0, size, 1));
	ck_assert_uint_eq(pool_folio(&engine->cache->pool,
			  engine->cache->pool.small.tail)->order, 6);
}

START_TEST(a_part_of_a_folio_goes_and_the_rest_stays)
{
	struct engine_params params = { .seed = 1 };
	struct engine *engine = engine_start(&params);
	uint64_t reads;

	warm_up(engine, KIB(256));
	must_write(engine, KIB(16), KIB(64), 2, 0);
	reads = dev_ops(engine, BDEV_READ);
	ck_assert_int_eq(engine_trim(engine, KIB(32), KIB(16), 0), 0);
	/* Dirty on both sides, and not between. */
	ck_assert_uint_eq(engine->vol->dirty_bytes, KIB(48));
	ck_assert(reads_pattern(engine, 0, KIB(16), 1));
	ck_assert(reads_pattern(engine, KIB(16), KIB(16), 2));
	ck_assert(reads_pattern(engine, KIB(48), KIB(32), 2));
	ck_assert(reads_pattern(engine, KIB(80), KIB(176), 1));
	ck_assert_uint_eq(dev_ops(engine, BDEV_READ), reads);
	ck_assert(reads_zero(engine, KIB(32), KIB(16)));
	check_idle(engine);
	go_cold(engine);
	ck_assert(reads_zero(engine, KIB(32), KIB(16)));
	ck_assert(reads_pattern(engine, KIB(48), KIB(32), 2));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(bytes_at_the_edges_are_zeroed_exactly)
{
	struct engine_params params = { .vol.sim.sparse = _i & 1 };
	struct engine *engine = engine_start(&params);
	uint64_t pos = BLOCK - 100, len = 3 * BLOCK + 200;

	put_on_disk(engine, 0, KIB(64), 1);
	if (_i & 2)
		len = 50;	/* within one block */
	if (_i & 4)
		ck_assert_int_eq(engine_zero(engine, pos, len, 0), 0);
	else
		ck_assert_int_eq(engine_trim(engine, pos, len, 0), 0);
	ck_assert(reads_pattern(engine, 0, (uint32_t)pos, 1));
	ck_assert(reads_zero(engine, pos, (uint32_t)len));
	ck_assert(reads_pattern(engine, pos + len, BLOCK, 1));
	go_cold(engine);
	ck_assert(reads_pattern(engine, 0, (uint32_t)pos, 1));
	ck_assert(reads_zero(engine, pos, (uint32_t)len));
	ck_assert(reads_pattern(engine, pos + len, BLOCK, 1));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(readers_keep_the_bytes_that_they_have_pinned)
{
	struct engine_params params = { .seed = 1 };
	struct engine *engine = engine_start(&params);
	struct pin pins[70];
	struct pinvec pv = { .pins = pins, .max = 70 };

	warm_up(engine, KIB(256));
	pin(engine, 0, KIB(256), &pv);
	/* All of a folio, then a part of one. */
	ck_assert_int_eq(engine_trim(engine, _i ? KIB(64) : 0,
				     _i ? KIB(64) : KIB(256), 0), 0);
	check_pins(&pv, 0, 1);
	/* A fill of what was forgotten does not touch them either. */
	ck_assert(reads_zero(engine, KIB(64), KIB(64)));
	must_write(engine, KIB(64), KIB(64), 3, 0);
	check_pins(&pv, 0, 1);
	ck_assert(reads_pattern(engine, KIB(64), KIB(64), 3));
	volume_unpin(engine->cache, pins, pv.nr);
	check_idle(engine);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

/* Hold every other page of the memory: no large folio can be had. */
static unsigned int fragment(struct engine *engine, uint64_t from,
			     struct pin *pins)
{
	unsigned int nr = 0;

	for (uint64_t pos = from; pool_cache_room(&engine->cache->pool) > 2;
	     pos += 2 * BLOCK) {
		struct pinvec pv = { .pins = &pins[nr], .max = 1 };

		ck_assert(reads_pattern(engine, pos, BLOCK, 1));
		if ((pos / BLOCK / 2) % 8 == 0) {
			pin(engine, pos, BLOCK, &pv);
			nr++;
		}
	}
	return nr;
}

START_TEST(nobody_waits_for_a_reader_when_memory_is_in_pieces)
{
	struct engine_params params = {
		.cache_size = MIB(1), .staging_max = KIB(64),
		.vol.sim.size = MIB(8),
	};
	struct engine *engine = engine_start(&params);
	struct pin pins[70], held[512];
	struct pinvec pv = { .pins = pins, .max = 70 };
	struct spawned_write write = {
		.vol = engine->vol, .pos = KIB(64), .len = BLOCK, .version = 5,
	};
	unsigned int nr;

	put_on_disk(engine, 0, MIB(8), 1);
	ck_assert(reads_pattern(engine, 0, KIB(256), 1));
	if (_i & 1)
		must_write(engine, KIB(128), KIB(16), 2, 0);
	pin(engine, 0, KIB(128), &pv);
	nr = fragment(engine, MIB(1), held);
	ck_assert_uint_gt(nr, 20);
	/* He never goes on; a writer and a trim do. */
	engine_spawn(engine, spawned_write_co, &write);
	settle(engine, 20 * NSEC_PER_SEC);
	ck_assert(write.done && !write.ret);
	ck_assert(reads_pattern(engine, KIB(64), BLOCK, 5));
	ck_assert_int_eq(engine_trim(engine, 0, BLOCK, 0), 0);
	check_pins(&pv, 0, 1);
	if (_i & 1)
		ck_assert(reads_pattern(engine, KIB(128), KIB(16), 2));
	volume_unpin(engine->cache, pins, pv.nr);
	volume_unpin(engine->cache, held, nr);
	check_idle(engine);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

struct spawned_trim {
	struct engine	*engine;
	uint64_t	pos, len;
	bool		done;
};

static void spawned_trim_co(void *arg)
{
	struct spawned_trim *t = arg;

	ck_assert_int_eq(volume_trim(t->engine->vol, t->pos, t->len, 0), 0);
	t->done = true;
}

/*
 * While the walk over the frames waits at one, a folio that reaches beyond the
 * range moves from a frame ahead of it to one behind: its other part is written
 * to while somebody sends from it.
 */
START_TEST(a_folio_that_moves_during_the_walk_is_dropped_too)
{
	struct engine_params params = {
		.cache_size = KIB(256), .staging_max = KIB(64),
		.vol.sim.size = MIB(1),
	};
	struct engine *engine = engine_start(&params);
	struct spawned_write write = {
		.vol = engine->vol, .pos = KIB(124), .len = BLOCK, .version = 3,
	};
	struct spawned_trim trim = {
		.engine = engine, .pos = KIB(8), .len = KIB(116),
	};
	struct pin pins[2];
	struct pinvec pv = { .pins = pins, .max = 2 };

	must_write(engine, 0, KIB(8), 1, 0);
	must_write(engine, KIB(8), KIB(8), 1, 0);
	must_write(engine, KIB(120), KIB(8), 1, 0);
	ck_assert_int_eq(engine_flush(engine), 0);
	/* A free frame at the beginning, and one in flight behind it. */
	ck_assert_int_eq(engine_trim(engine, 0, KIB(8), 0), 0);
	must_write(engine, KIB(8), KIB(8), 2, 0);
	sim_set_stall(engine->bdev, BDEV_WRITE, true);
	loop_enter(engine->loop);
	flusher_kick(engine->vol);
	loop_enter(NULL);
	settle(engine, 1000);
	ck_assert_uint_eq(engine->vol->inflight_bytes, KIB(8));
	pin(engine, KIB(120), KIB(8), &pv);
	engine_spawn(engine, spawned_trim_co, &trim);
	settle(engine, 1000);
	engine_spawn(engine, spawned_write_co, &write);
	settle(engine, 1000);
	ck_assert(write.done && !trim.done);
	/* And its old frame is somebody else's by now. */
	volume_unpin(engine->cache, pins, pv.nr);
	must_write(engine, KIB(512), KIB(8), 4, 0);
	sim_set_stall(engine->bdev, BDEV_WRITE, false);
	engine_run_all(engine);
	ck_assert(trim.done);
	ck_assert(reads_zero(engine, KIB(8), KIB(116)));
	ck_assert(reads_pattern(engine, KIB(124), BLOCK, 3));
	ck_assert(reads_pattern(engine, KIB(512), KIB(8), 4));
	check_idle(engine);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(a_range_larger_than_the_cache_is_dropped_frame_by_frame)
{
	struct engine_params params = {
		.cache_size = MIB(1), .staging_max = KIB(256),
		.vol.sim = { .size = MIB(64), .sparse = true },
	};
	struct engine *engine = engine_start(&params);
	struct engine_volume_params other_params = { .sim.size = MIB(1) };
	struct volume *other;
	struct pin pins[4];
	struct pinvec pv = { .pins = pins, .max = 4 };
	uint32_t kept;

	other = engine_add_volume(engine, &other_params, NULL);
	for (uint64_t pos = 0; pos < MIB(64); pos += MIB(4))
		must_write(engine, pos + 3 * BLOCK, 2 * BLOCK, 2, 0);
	pin(engine, 3 * BLOCK, 2 * BLOCK, &pv);
	/* Another volume's folios in between. */
	engine_run(engine, spawned_write_co, &(struct spawned_write){
		   .vol = other, .pos = 0, .len = KIB(64), .version = 9 });
	kept = KIB(64) / BLOCK;
	/* From within a folio to within another one. */
	ck_assert_int_eq(engine_trim(engine, 4 * BLOCK, MIB(60) - BLOCK, 0),
			 0);
	check_pins(&pv, 3 * BLOCK, 2);
	ck_assert_uint_eq(engine->vol->dirty_bytes, 2 * BLOCK);
	volume_unpin(engine->cache, pins, pv.nr);
	check_idle(engine);
	ck_assert_uint_le(engine->cache->pool.cached_pages, kept + 4);
	ck_assert(reads_pattern(engine, 3 * BLOCK, BLOCK, 2));
	ck_assert(reads_zero(engine, 4 * BLOCK, MIB(1)));
	ck_assert(reads_zero(engine, MIB(56), MIB(4) + 3 * BLOCK));
	ck_assert(reads_pattern(engine, MIB(60) + 3 * BLOCK, BLOCK, 2));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(a_store_that_cannot_gets_zeroes_as_data)
{
	struct engine_params params = {
		.vol = { .lacks = ENGINE_NO_DISCARD | ENGINE_NO_ZERO |
				  ENGINE_NO_ZERO_KEEP,
			 .mode = _i & 2 ? VOLUME_NONE : VOLUME_WRITEBACK },
	};
	struct engine *engine = engine_start(&params);

	put_on_disk(engine, 0, MIB(1), 1);
	ck_assert(reads_pattern(engine, 0, MIB(1), 1));
	if (_i & 1)
		ck_assert_int_eq(engine_trim(engine, 100, KIB(512), 0), 0);
	else
		ck_assert_int_eq(engine_zero(engine, 100, KIB(512),
					     VOLUME_NO_HOLE), 0);
	ck_assert(reads_zero(engine, 100, KIB(512)));
	ck_assert(reads_pattern(engine, KIB(512) + 100, BLOCK, 1));
	go_cold(engine);
	ck_assert(reads_zero(engine, 100, KIB(512)));
	ck_assert(reads_pattern(engine, 0, 100, 1));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(a_fast_zero_that_is_not_fast_touches_nothing)
{
	struct engine_params params = {
		.vol.lacks = ENGINE_NO_DISCARD | ENGINE_NO_ZERO |
			     ENGINE_NO_ZERO_KEEP,
	};
	struct engine *engine = engine_start(&params);

	put_on_disk(engine, 0, MIB(1), 1);
	must_write(engine, 0, KIB(64), 2, 0);
	ck_assert_int_eq(engine_zero(engine, 0, MIB(1), VOLUME_FAST_ZERO),
			 -EOPNOTSUPP);
	ck_assert(reads_pattern(engine, 0, KIB(64), 2));
	ck_assert(reads_pattern(engine, KIB(64), KIB(64), 1));
	ck_assert_uint_eq(engine->vol->dirty_bytes, KIB(64));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(a_fua_trim_is_stable_when_it_is_answered)
{
	struct engine_params params = {
		.vol.sim = { .write_cache = true, .sparse = _i & 1 },
	};
	struct engine *engine = engine_start(&params);
	char *image = malloc(ENGINE_SIZE);

	put_on_disk(engine, 0, KIB(256), 1);
	ck_assert_int_eq(engine_trim(engine, 1000, KIB(128), VOLUME_FUA), 0);
	ck_assert_int_eq(engine_zero(engine, KIB(192), KIB(32) + 7,
				     VOLUME_FUA | VOLUME_NO_HOLE), 0);
	for (uint64_t seed = 0; seed < 40; seed++) {
		sim_crash_image(engine->bdev, seed, image);
		ck_assert(is_zero(image + 1000, KIB(128)));
		ck_assert(is_zero(image + KIB(192), KIB(32) + 7));
		ck_assert(has_pattern(image, 1000, 0, 1));
	}
	free(image);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(a_trim_that_fails_says_so)
{
	struct engine_params params = { .vol.sim.sparse = _i & 1 };
	struct engine *engine = engine_start(&params);

	put_on_disk(engine, 0, KIB(256), 1);
	sim_set_fault(engine->bdev, BDEV_DISCARD, 1, UINT64_MAX, EIO, false);
	sim_set_fault(engine->bdev, BDEV_ZERO, 1, UINT64_MAX, EIO, false);
	ck_assert_int_eq(engine_trim(engine, 0, KIB(128), 0), -EIO);
	ck_assert_int_eq(engine_zero(engine, 0, KIB(128), 0), -EIO);
	check_idle(engine);
	ck_assert(reads_pattern(engine, KIB(128), KIB(128), 1));
	sim_set_fault(engine->bdev, BDEV_DISCARD, 0, 0, 0, false);
	sim_set_fault(engine->bdev, BDEV_ZERO, 0, 0, 0, false);
	ck_assert_int_eq(engine_trim(engine, 0, KIB(128), 0), 0);
	ck_assert(reads_zero(engine, 0, KIB(128)));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

static Suite *discard_suite(void)
{
	Suite *suite = suite_create("discard");
	TCase *tc = tcase_create("discard");

	tcase_add_test(tc, a_part_of_a_folio_goes_and_the_rest_stays);
	tcase_add_loop_test(tc, bytes_at_the_edges_are_zeroed_exactly, 0, 8);
	tcase_add_loop_test(tc, readers_keep_the_bytes_that_they_have_pinned,
			    0, 2);
	tcase_add_loop_test(tc, nobody_waits_for_a_reader_when_memory_is_in_pieces,
			    0, 2);
	tcase_add_test(tc, a_range_larger_than_the_cache_is_dropped_frame_by_frame);
	tcase_add_test(tc, a_folio_that_moves_during_the_walk_is_dropped_too);
	tcase_add_loop_test(tc, a_store_that_cannot_gets_zeroes_as_data, 0, 4);
	tcase_add_test(tc, a_fast_zero_that_is_not_fast_touches_nothing);
	tcase_add_loop_test(tc, a_fua_trim_is_stable_when_it_is_answered, 0, 2);
	tcase_add_loop_test(tc, a_trim_that_fails_says_so, 0, 2);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	return proof_main(discard_suite());
}
