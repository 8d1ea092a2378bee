/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_mapstore.c - the test store does what its tests rely on, and the
 * engine above it believes no mapping that is no longer true (T-13).
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bdev/bdev.h"
#include "bdev/sim.h"
#include "tests/corun.h"
#include "tests/mapstore.h"

#define KIB	UINT64_C(1024)
#define BLOCK	4096u

struct fixture {
	struct mapstore_params	params;
	uint64_t		seed;
	uint64_t		places;		/* bytes of the bdev; 0: 1 MiB */
	struct cache		*cache;
	struct mapstore		*ms;
	struct volume		*vol;
};

static void fixture_open(struct fixture *fx)
{
	struct cache_params cache = {
		.size = 512 * KIB,
		.staging_max = 256 * KIB,
		.nr_threads = 1,
		.nr_shards = 1,
	};
	struct sim_params sim = {
		.seed = fx->seed,
		.size = fx->places ? fx->places : 1024 * KIB,
		.block_size = 512,
		.latency_max_ns = 1000,
		.write_cache = true,
	};
	struct bdev *bdev;

	if (!fx->params.size)
		fx->params.size = 256 * KIB;
	if (!fx->params.block_shift)
		fx->params.block_shift = 12;
	ck_assert_int_eq(cache_new(&cache, &fx->cache), 0);
	ck_assert_int_eq(sim_new(&sim, NULL, &bdev), 0);
	ck_assert_int_eq(mapstore_open(fx->cache, loop_current(), &bdev,
				       &fx->params, &fx->ms), 0);
	fx->vol = &fx->ms->vol;
}

static void fixture_close(struct fixture *fx)
{
	ck_assert_int_eq(volume_flush(fx->vol), 0);
	ck_assert(mapstore_check(fx->ms, true));
	ck_assert_uint_eq(fx->ms->begins, fx->ms->ends);
	ck_assert_uint_eq(fx->ms->bad_end_ios, 0);
	ck_assert_int_eq(volume_stop(fx->vol), 0);
	cache_free(fx->cache);
}

static int put(struct volume *vol, uint64_t pos, uint32_t len, int c)
{
	char *buf = malloc(len);
	int ret;

	memset(buf, c, len);
	ret = volume_write_inline(vol, pos, len, buf, 0);
	if (ret == -EAGAIN)
		ret = volume_write(vol, pos, len, buf, 0);
	free(buf);
	return ret;
}

static bool all(const char *buf, uint64_t len, int c)
{
	for (uint64_t i = 0; i < len; i++)
		if (buf[i] != (char)c)
			return false;
	return true;
}

static bool holds(struct volume *vol, uint64_t pos, uint32_t len, int c)
{
	char *buf = malloc(len);
	bool same = volume_pread(vol, buf, len, pos) == 0 && all(buf, len, c);

	free(buf);
	return same;
}

static bool stored(struct mapstore *ms, uint64_t pos, uint32_t len, int c)
{
	char *buf = malloc(len);
	bool same;

	mapstore_peek(ms, pos, buf, len);
	same = all(buf, len, c);
	free(buf);
	return same;
}

#define MS_TEST(name, ...)						\
static void name##_co(void *arg);					\
START_TEST(name)							\
{									\
	struct fixture fx = { __VA_ARGS__ };				\
	ck_assert_int_eq(corun_virtual(1, name##_co, &fx), 0);		\
}									\
END_TEST								\
static void name##_co(void *arg)

/* ---- the store itself ---- */

MS_TEST(holes_and_unwritten_space_read_zero, .seed = 1)
{
	struct fixture *fx = arg;

	fixture_open(fx);
	mapstore_set(fx->ms, 0, 64 * KIB, IOMAP_UNWRITTEN, 0);
	ck_assert(holds(fx->vol, 0, 128 * KIB, 0));
	/* Part of a block: what is around it was never written. */
	ck_assert_int_eq(put(fx->vol, BLOCK + 7, 10, 'a'), 0);
	ck_assert_int_eq(volume_flush(fx->vol), 0);
	ck_assert(stored(fx->ms, BLOCK, 7, 0));
	ck_assert(stored(fx->ms, BLOCK + 7, 10, 'a'));
	ck_assert(stored(fx->ms, BLOCK + 17, BLOCK - 17, 0));
	ck_assert_int_eq(mapstore_type(fx->ms, BLOCK, NULL), IOMAP_MAPPED);
	ck_assert_int_eq(mapstore_type(fx->ms, 0, NULL), IOMAP_UNWRITTEN);
	ck_assert_uint_eq(fx->ms->converted, 1);
	fixture_close(fx);
}

MS_TEST(a_shared_block_is_copied_and_the_snapshot_stays, .seed = 1)
{
	struct fixture *fx = arg;
	bool shared;

	fixture_open(fx);
	mapstore_set(fx->ms, 0, 64 * KIB, IOMAP_MAPPED, 's');
	mapstore_share(fx->ms, 0, 64 * KIB);
	ck_assert_int_eq(put(fx->vol, 2 * BLOCK + 100, 2 * BLOCK, 'n'), 0);
	ck_assert(holds(fx->vol, 2 * BLOCK, 100, 's'));
	ck_assert_int_eq(volume_flush(fx->vol), 0);
	ck_assert(stored(fx->ms, 0, 2 * BLOCK + 100, 's'));
	ck_assert(stored(fx->ms, 2 * BLOCK + 100, 2 * BLOCK, 'n'));
	ck_assert(stored(fx->ms, 4 * BLOCK + 100, 4096 - 100, 's'));
	ck_assert_uint_eq(fx->ms->remapped, 3);
	mapstore_type(fx->ms, 2 * BLOCK, &shared);
	ck_assert(!shared);
	mapstore_type(fx->ms, 5 * BLOCK, &shared);
	ck_assert(shared);
	fixture_close(fx);
}

MS_TEST(what_is_shared_while_dirty_is_not_overwritten, .seed = 1)
{
	struct fixture *fx = arg;

	fixture_open(fx);
	mapstore_set(fx->ms, 0, 64 * KIB, IOMAP_MAPPED, 's');
	ck_assert_int_eq(put(fx->vol, 0, BLOCK, 'n'), 0);
	mapstore_share(fx->ms, 0, 64 * KIB);
	ck_assert_int_eq(volume_flush(fx->vol), 0);
	ck_assert(stored(fx->ms, 0, BLOCK, 'n'));
	ck_assert_uint_eq(fx->ms->remapped, 1);
	fixture_close(fx);
}

MS_TEST(a_change_of_a_snapshot_is_noticed, .seed = 1)
{
	struct fixture *fx = arg;

	fixture_open(fx);
	mapstore_set(fx->ms, 0, BLOCK, IOMAP_MAPPED, 's');
	mapstore_share(fx->ms, 0, BLOCK);
	ck_assert(mapstore_check(fx->ms, true));
	sim_poke(fx->ms->bdev, 100, "x", 1);
	ck_assert(!mapstore_check(fx->ms, true));
	sim_poke(fx->ms->bdev, 100, "s", 1);
	fixture_close(fx);
}

MS_TEST(delayed_space_is_promised_then_placed_in_one_run,
	.params.delalloc = true, .places = 64 * KIB)
{
	struct fixture *fx = arg;

	fixture_open(fx);
	for (unsigned int i = 0; i < 16; i++)
		ck_assert_int_eq(put(fx->vol, i * BLOCK, BLOCK, 'd'), 0);
	ck_assert_uint_eq(fx->ms->allocs, 0);
	ck_assert_uint_eq(fx->ms->nr_promised, 16);
	ck_assert_int_eq(mapstore_type(fx->ms, 0, NULL), IOMAP_DELALLOC);
	/* All 16 places are promised: no more is accepted. */
	ck_assert_int_eq(put(fx->vol, 16 * BLOCK, 1, 'x'), -ENOSPC);
	ck_assert_int_eq(volume_flush(fx->vol), 0);
	ck_assert_uint_eq(fx->ms->allocs, 1);
	ck_assert_uint_eq(fx->ms->nr_promised, 0);
	ck_assert(stored(fx->ms, 0, 64 * KIB, 'd'));
	ck_assert_int_eq(volume_trim(fx->vol, 0, BLOCK, 0), 0);
	ck_assert_int_eq(put(fx->vol, 16 * BLOCK, 1, 'x'), 0);
	fixture_close(fx);
}

MS_TEST(space_of_a_write_that_did_not_come_is_given_back,
	.params.delalloc = true)
{
	struct fixture *fx = arg;
	struct iomap_iter iter;

	fixture_open(fx);
	for (int through = 0; through < 2; through++) {
		iter = (struct iomap_iter){
			.vol = fx->vol, .pos = 100, .len = 5 * BLOCK,
			.flags = IOMAP_WRITE |
				 (through ? IOMAP_WRITETHROUGH : 0),
		};
		ck_assert_int_eq(iomap_iter_next(&iter), 1);
		ck_assert_int_eq(iter.iomap.type, through ? IOMAP_UNWRITTEN :
							    IOMAP_DELALLOC);
		ck_assert(!mapstore_check(fx->ms, true));
		ck_assert(mapstore_check(fx->ms, false));
		ck_assert_int_eq(iomap_iter_next(&iter), 0);
		ck_assert(mapstore_check(fx->ms, true));
	}
	fixture_close(fx);
}

struct flush_state {
	struct volume	*vol;
	bool		done;
	int		ret;
};

static void flush_co(void *arg)
{
	struct flush_state *state = arg;

	state->ret = volume_flush(state->vol);
	state->done = true;
}

MS_TEST(an_end_io_can_be_held_failed_and_delayed, .seed = 1)
{
	struct fixture *fx = arg;
	struct flush_state state;

	fixture_open(fx);
	state = (struct flush_state){ .vol = fx->vol };
	ck_assert_int_eq(put(fx->vol, 0, BLOCK, 'h'), 0);
	mapstore_hold_end_io(fx->ms, true);
	ck_assert_int_eq(coroutine_start(flush_co, &state), 0);
	coroutine_sleep_ns(NSEC_PER_SEC);
	ck_assert(!state.done);
	ck_assert_int_eq(mapstore_type(fx->ms, 0, NULL), IOMAP_UNWRITTEN);
	mapstore_hold_end_io(fx->ms, false);
	while (!state.done)
		coroutine_sleep_ns(NSEC_PER_MSEC);
	ck_assert_int_eq(state.ret, 0);
	ck_assert_int_eq(mapstore_type(fx->ms, 0, NULL), IOMAP_MAPPED);

	fx->ms->end_io_fail_nth = 1;
	fx->ms->end_io_error = -ENOMEM;
	fx->ms->end_io_delay_ns = NSEC_PER_SEC;
	ck_assert_int_eq(put(fx->vol, BLOCK, BLOCK, 'f'), 0);
	ck_assert_int_ne(volume_flush(fx->vol), 0);
	ck_assert_uint_eq(fx->ms->end_ios, 2);
	ck_assert_int_eq(fx->ms->log[1].ret, -ENOMEM);
	ck_assert_uint_eq(fx->ms->log[1].offset, BLOCK);
	ck_assert(holds(fx->vol, BLOCK, BLOCK, 'f'));
	ck_assert_int_eq(volume_flush(fx->vol), 0);
	ck_assert(stored(fx->ms, BLOCK, BLOCK, 'f'));
	fixture_close(fx);
}

MS_TEST(zeroing_keeps_space_as_unwritten, .seed = 1)
{
	struct fixture *fx = arg;

	fixture_open(fx);
	mapstore_set(fx->ms, 0, 64 * KIB, IOMAP_MAPPED, 'z');
	ck_assert_int_eq(volume_zero(fx->vol, 0, 8192, VOLUME_NO_HOLE), 0);
	ck_assert_int_eq(mapstore_type(fx->ms, 0, NULL), IOMAP_UNWRITTEN);
	ck_assert_int_eq(volume_zero(fx->vol, 8192, 8192, 0), 0);
	ck_assert_int_eq(mapstore_type(fx->ms, 8192, NULL), IOMAP_HOLE);
	fx->ms->no_zero = true;
	ck_assert_int_eq(volume_zero(fx->vol, 16384, 8192, 0), 0);
	ck_assert_int_eq(mapstore_type(fx->ms, 16384, NULL), IOMAP_MAPPED);
	ck_assert(holds(fx->vol, 0, 24 * KIB, 0));
	ck_assert(holds(fx->vol, 24 * KIB, 40 * KIB, 'z'));
	fixture_close(fx);
}

/* ---- T-13 ---- */

/* Once, after a begin that waits: trim, and have the space taken again. */
static void trim_behind_begin(struct mapstore *ms, uint64_t pos,
			      uint64_t length, unsigned int flags)
{
	unsigned int *wanted = ms->arg;

	(void)pos;
	(void)length;
	if ((flags & (IOMAP_WRITE | IOMAP_NOWAIT)) != *wanted)
		return;
	ms->after_begin = NULL;
	ck_assert_int_eq(volume_trim(&ms->vol, 0, 64 * KIB, 0), 0);
}

/* Map for a read, trim, read on: how many bytes are not the zeroes that must
 * be there? */
static unsigned int read_across_trim(struct fixture *fx, bool no_cookie)
{
	unsigned int wanted = 0, wrong = 0;
	uint32_t len = 64 * KIB;
	char *buf = malloc(len);

	fixture_open(fx);
	mapstore_set(fx->ms, 0, 64 * KIB, IOMAP_MAPPED, 'm');
	fx->ms->no_cookie = no_cookie;
	fx->ms->arg = &wanted;
	fx->ms->after_begin = trim_behind_begin;
	ck_assert_int_eq(volume_pread(fx->vol, buf, len, 0), 0);
	ck_assert_ptr_null(fx->ms->after_begin);
	for (unsigned int i = 0; i < len; i++)
		wrong += buf[i] != 0;
	free(buf);
	fixture_close(fx);
	return wrong;
}

static void t13_read_co(void *arg)
{
	struct fixture *fx = arg, copy = *fx;

	ck_assert_uint_eq(read_across_trim(fx, false), 0);
	ck_assert_uint_eq(read_across_trim(&copy, true), 64 * KIB);
}

START_TEST(t13_a_read_believes_no_map_from_before_a_trim)
{
	struct fixture fx = { .seed = 1 };

	ck_assert_int_eq(corun_virtual(1, t13_read_co, &fx), 0);
}
END_TEST

/*
 * Map for an inline write, trim, write on, flush: how many of its bytes are
 * not stored?
 */
static unsigned int write_across_trim(struct fixture *fx, bool no_cookie)
{
	unsigned int wanted = IOMAP_WRITE | IOMAP_NOWAIT, wrong = 0;
	char buf[8192];

	fixture_open(fx);
	mapstore_set(fx->ms, 0, 64 * KIB, IOMAP_MAPPED, 'm');
	fx->ms->no_cookie = no_cookie;
	fx->ms->arg = &wanted;
	fx->ms->after_begin = trim_behind_begin;
	ck_assert_int_eq(put(fx->vol, 8192, sizeof(buf), 'w'), 0);
	ck_assert_ptr_null(fx->ms->after_begin);
	ck_assert_int_eq(volume_flush(fx->vol), 0);
	mapstore_peek(fx->ms, 8192, buf, sizeof(buf));
	for (unsigned int i = 0; i < sizeof(buf); i++)
		wrong += buf[i] != 'w';
	ck_assert_uint_eq(fx->ms->wb_holes > 0, wrong > 0);
	fixture_close(fx);
	return wrong;
}

static void t13_write_co(void *arg)
{
	struct fixture *fx = arg, copy = *fx;

	ck_assert_uint_eq(write_across_trim(fx, false), 0);
	ck_assert_uint_eq(write_across_trim(&copy, true), 8192);
}

START_TEST(t13_a_write_believes_no_map_from_before_a_trim)
{
	struct fixture fx = { .seed = 1 };

	ck_assert_int_eq(corun_virtual(1, t13_write_co, &fx), 0);
}
END_TEST

/*
 * Writeback keeps its mapping from folio to folio.  While the first one is on
 * its way, a block that comes later moves: it must not be written to its old
 * place.
 */
struct move {
	struct mapstore	*ms;
	unsigned int	seen;
};

static void move_the_last(void *arg, const struct bdev_req *req)
{
	struct move *move = arg;

	if (req->op == BDEV_WRITE && move->seen++ == 0)
		mapstore_set(move->ms, 192 * KIB, 64 * KIB, IOMAP_MAPPED, 'o');
}

/* How many of three blocks are not stored where they belong? */
static unsigned int writeback_across_move(struct fixture *fx, bool no_cookie)
{
	static const char what[] = "abc";
	static const uint64_t where[] = { 0, 96 * KIB, 192 * KIB };
	struct move move = { 0 };
	unsigned int wrong = 0;

	fixture_open(fx);
	move.ms = fx->ms;
	mapstore_set(fx->ms, 0, 256 * KIB, IOMAP_MAPPED, 'm');
	/* Three ioends, since they are apart, and one mapping for all. */
	for (unsigned int i = 0; i < 3; i++)
		ck_assert_int_eq(put(fx->vol, where[i], BLOCK, what[i]), 0);
	fx->ms->no_cookie = no_cookie;
	sim_set_observer(fx->ms->bdev, move_the_last, &move);
	ck_assert_int_eq(volume_flush(fx->vol), 0);
	sim_set_observer(fx->ms->bdev, NULL, NULL);
	ck_assert_uint_eq(move.seen, 3);
	for (unsigned int i = 0; i < 3; i++)
		wrong += !stored(fx->ms, where[i], BLOCK, what[i]);
	fixture_close(fx);
	return wrong;
}

static void t13_writeback_co(void *arg)
{
	struct fixture *fx = arg, copy = *fx;

	ck_assert_uint_eq(writeback_across_move(fx, false), 0);
	ck_assert_uint_eq(writeback_across_move(&copy, true), 1);
}

START_TEST(t13_writeback_keeps_no_map_that_changed)
{
	struct fixture fx = { .seed = 1 };

	ck_assert_int_eq(corun_virtual(1, t13_writeback_co, &fx), 0);
}
END_TEST

/* ---- random requests, several at a time ---- */

#define WRITERS		4
#define AREA		(64 * KIB)
#define STEPS		120

struct writer {
	struct fixture	*fx;
	unsigned int	index;
	struct random	rnd;
	unsigned int	*running;
	char		oracle[AREA];
	char		buf[AREA];
	unsigned int	wrong;
};

static int random_write(struct writer *w, uint64_t pos, uint64_t len, int c)
{
	unsigned int flags = random_one_in(&w->rnd, 5) ? VOLUME_FUA : 0;

	if (flags) {
		memset(w->buf, c, len);
		return volume_write(w->fx->vol, w->index * AREA + pos,
				    (uint32_t)len, w->buf, flags);
	}
	return put(w->fx->vol, w->index * AREA + pos, (uint32_t)len, c);
}

static void writer_step(struct writer *w, int step)
{
	struct volume *vol = w->fx->vol;
	uint64_t base = w->index * AREA;
	uint64_t pos = random_below(&w->rnd, AREA);
	uint64_t len = 1 + random_below(&w->rnd, MIN(AREA - pos, 20 * KIB));
	int c = 1 + step % 100;

	switch (random_below(&w->rnd, 8)) {
	case 0:
		c = 0;
		ck_assert_int_eq(volume_trim(vol, base + pos, len, 0), 0);
		break;
	case 1:
		c = 0;
		ck_assert_int_eq(volume_zero(vol, base + pos, len,
					     random_one_in(&w->rnd, 2) ?
					     VOLUME_NO_HOLE : 0), 0);
		break;
	case 2:
		ck_assert_int_eq(volume_flush(vol), 0);
		return;
	case 3:
		ck_assert_int_eq(volume_pread(vol, w->buf, (uint32_t)len,
					      base + pos), 0);
		w->wrong += memcmp(w->buf, w->oracle + pos, len) != 0;
		return;
	default:
		ck_assert_int_eq(random_write(w, pos, len, c), 0);
		break;
	}
	memset(w->oracle + pos, c, len);
}

static void writer_co(void *arg)
{
	struct writer *w = arg;

	for (int step = 0; step < STEPS; step++) {
		writer_step(w, step);
		if (random_one_in(&w->rnd, 3))
			coroutine_sleep_ns(random_below(&w->rnd, 3000));
		if (step == STEPS / 2) {
			/* Nobody else writes here: nothing is in flight. */
			ck_assert_int_eq(volume_flush(w->fx->vol), 0);
			mapstore_share(w->fx->ms, w->index * AREA, AREA);
		}
	}
	(*w->running)--;
}

static void random_co(void *arg)
{
	struct fixture *fx = arg;
	struct writer *writers = calloc(WRITERS, sizeof(*writers));
	unsigned int running = WRITERS;

	fixture_open(fx);
	fx->ms->stale_one_in = 6;
	/* Half of it is a snapshot's at first. */
	for (unsigned int i = 0; i < WRITERS; i++) {
		struct writer *w = &writers[i];

		*w = (struct writer){ .fx = fx, .index = i,
				      .running = &running };
		random_init(&w->rnd, fx->seed * WRITERS + i);
		if (i % 2) {
			mapstore_set(fx->ms, i * AREA, AREA, IOMAP_MAPPED, 'S');
			mapstore_share(fx->ms, i * AREA, AREA);
			memset(w->oracle, 'S', AREA);
		} else {
			mapstore_set(fx->ms, i * AREA, AREA / 2,
				     IOMAP_UNWRITTEN, 0);
		}
	}
	for (unsigned int i = 0; i < WRITERS; i++)
		ck_assert_int_eq(coroutine_start(writer_co, &writers[i]), 0);
	while (running)
		coroutine_sleep_ns(NSEC_PER_USEC);
	ck_assert_int_eq(volume_flush(fx->vol), 0);
	for (unsigned int i = 0; i < WRITERS; i++) {
		struct writer *w = &writers[i];

		ck_assert_uint_eq(w->wrong, 0);
		mapstore_peek(fx->ms, i * AREA, w->buf, AREA);
		ck_assert_int_eq(memcmp(w->buf, w->oracle, AREA), 0);
	}
	ck_assert_uint_eq(fx->ms->wb_holes, 0);
	ck_assert_uint_gt(fx->ms->remapped, 0);
	ck_assert_uint_gt(fx->ms->converted, 0);
	fixture_close(fx);
	free(writers);
}

START_TEST(random_requests_over_changing_maps_match_an_oracle)
{
	uint64_t seed = test_seed("mapstore");

	for (unsigned int i = 0; i < 16; i++) {
		struct fixture fx = {
			.seed = seed + i,
			.places = 2048 * KIB,
			.params = {
				.size = WRITERS * AREA,
				.block_shift = i % 4 == 3 ? 9 : 12,
				.delalloc = i % 2,
				.scatter = i % 3 == 0,
				.trim_seed = i % 5 ? seed + i + 1 : 0,
			},
		};

		ck_assert_int_eq(corun_virtual(seed + i, random_co, &fx), 0);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mapstore");
	TCase *tc = tcase_create("mapstore");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, holes_and_unwritten_space_read_zero);
	tcase_add_test(tc, a_shared_block_is_copied_and_the_snapshot_stays);
	tcase_add_test(tc, what_is_shared_while_dirty_is_not_overwritten);
	tcase_add_test(tc, a_change_of_a_snapshot_is_noticed);
	tcase_add_test(tc, delayed_space_is_promised_then_placed_in_one_run);
	tcase_add_test(tc, space_of_a_write_that_did_not_come_is_given_back);
	tcase_add_test(tc, an_end_io_can_be_held_failed_and_delayed);
	tcase_add_test(tc, zeroing_keeps_space_as_unwritten);
	tcase_add_test(tc, t13_a_read_believes_no_map_from_before_a_trim);
	tcase_add_test(tc, t13_a_write_believes_no_map_from_before_a_trim);
	tcase_add_test(tc, t13_writeback_keeps_no_map_that_changed);
	tcase_add_test(tc, random_requests_over_changing_maps_match_an_oracle);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
