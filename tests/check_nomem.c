/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_nomem.c - one workload, in which the nth allocation fails, for every
 * n: requests are refused or wait, and nothing is lost or leaked.
 *
 * Linked with --wrap, so that the engine's malloc(), calloc() and realloc()
 * come through here.  The disk is one that allocates nothing as it runs.
 */
#include <errno.h>

#include "store/raw.h"
#include "tests/proof.h"

#define BLOCK	4096u
#define SIZE	KIB(512)

void *__real_malloc(size_t size);
void *__real_calloc(size_t nr, size_t size);
void *__real_realloc(void *mem, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t nr, size_t size);
void *__wrap_realloc(void *mem, size_t size);

static uint64_t countdown;	/* 0: none fails */
static uint64_t in_a_row;	/* that many then fail */
static uint64_t failed;
static bool armed;

static bool fails(void)
{
	if (!armed || !countdown)
		return false;
	if (countdown > 1) {
		countdown--;
		return false;
	}
	failed++;
	if (--in_a_row == 0)
		countdown = 0;
	return true;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t nr, size_t size)
{
	return fails() ? NULL : __real_calloc(nr, size);
}

void *__wrap_realloc(void *mem, size_t size)
{
	return fails() ? NULL : __real_realloc(mem, size);
}

static void arm(uint64_t nth, uint64_t row)
{
	countdown = nth;
	in_a_row = row;
	failed = 0;
	armed = true;
}

/* As ck_assert(), which would allocate. */
#define must(cond) do { \
	if (!(cond)) { \
		armed = false; \
		ck_abort_msg("%s", #cond); \
	} \
} while (0)

struct work_state {
	struct engine	*engine;
	struct readahead ra;
	char		buf[KIB(128)];
};

static void write_one(struct work_state *w, uint64_t pos, uint32_t len,
		      unsigned int flags)
{
	int ret;

	/* Plain writes wait for memory, if they need any. */
	fill_pattern(w->buf, len, pos, 2);
	ret = volume_write(w->engine->vol, pos, len, w->buf, flags);
	must(ret == 0);
}

static void stage_one(struct work_state *w, uint64_t pos, uint32_t len)
{
	struct stage *stage;
	uint64_t at = pos;
	int ret;

	/* A payload without frames is refused, and may come again. */
	while ((ret = stage_alloc_wait(w->engine->vol, pos, len, &stage)))
		must(ret == -ENOMEM);
	for (unsigned int i = 0; i < stage->nr_iov; i++) {
		fill_pattern(stage->iov[i].iov_base, stage->iov[i].iov_len, at,
			     2);
		at += stage->iov[i].iov_len;
	}
	must(volume_write_stage(&stage, 0) == 0);
}

static void read_sequential(struct work_state *w)
{
	for (uint64_t pos = KIB(256); pos < KIB(320); pos += BLOCK) {
		struct pin pins[4];
		struct pinvec pv = { .pins = pins, .max = 4 };

		must(volume_read(w->engine->vol, pos, BLOCK, &pv, &w->ra) == 0);
		must(has_pattern(pins[0].base, pins[0].len, pos, 1));
		volume_unpin(w->engine->cache, pins, pv.nr);
	}
}

static void workload_co(void *arg)
{
	struct work_state *w = arg;

	write_one(w, 100, 10, 0);
	write_one(w, KIB(8), KIB(100), 0);
	stage_one(w, KIB(128), KIB(70));
	write_one(w, KIB(4) - 1, 2, VOLUME_FUA);
	read_sequential(w);
	must(volume_flush(w->engine->vol) == 0);
	/* Many folios, so that an ioend has to grow. */
	for (uint64_t pos = KIB(320); pos < SIZE; pos += BLOCK)
		write_one(w, pos, BLOCK, 0);
	must(volume_trim(w->engine->vol, KIB(32) + 5, KIB(20), 0) == 0);
	stage_one(w, KIB(30), KIB(33) + 3);
	must(volume_prefetch(w->engine->vol, 0, KIB(64)) == 0);
	must(volume_flush(w->engine->vol) == 0);
}

static void check_contents(struct engine *engine)
{
	ck_assert(disk_has_pattern(engine, 100, 10, 2));
	ck_assert(disk_has_pattern(engine, KIB(8), KIB(24), 2));
	ck_assert(disk_has_pattern(engine, KIB(128), KIB(70), 2));
	ck_assert(disk_has_pattern(engine, KIB(4) - 1, 2, 2));
	ck_assert(disk_has_pattern(engine, KIB(30), KIB(33) + 3, 2));
	ck_assert(disk_has_pattern(engine, KIB(320), SIZE - KIB(320), 2));
	ck_assert(disk_has_pattern(engine, KIB(250), KIB(70), 1));
}

static bool run_with(uint64_t nth, uint64_t row, enum volume_mode mode)
{
	struct engine_params params = {
		.seed = nth,
		.vol = { .mode = mode, .sim = { .size = SIZE,
						.latency_max_ns = 20000 } },
	};
	struct work_state *w = calloc(1, sizeof(*w));
	uint64_t hit;

	w->engine = engine_start(&params);
	put_on_disk(w->engine, 0, SIZE, 1);
	arm(nth, row);
	engine_run(w->engine, workload_co, w);
	armed = false;
	hit = failed;
	check_idle(w->engine);
	check_contents(w->engine);
	ck_assert_int_eq(engine_stop(&w->engine), 0);
	free(w);
	return hit > 0;
}

START_TEST(nth_allocation_fails_and_nothing_is_lost)
{
	static const enum volume_mode modes[] = {
		VOLUME_WRITEBACK, VOLUME_WRITETHROUGH, VOLUME_WRITEOUT,
	};
	uint64_t nth = 1;

	test_seed("nomem");
	while (run_with(nth, 1, modes[_i]))
		nth++;
	ck_assert_uint_gt(nth, 5);
	/* The reserve is gone as well. */
	for (nth = 1; run_with(nth, 12, modes[_i]); nth += 7)
		;
}
END_TEST

/* ---- starting ---- */

START_TEST(nth_allocation_fails_as_a_cache_is_made)
{
	struct cache_params params = { .size = MIB(16), .nr_threads = 2 };
	struct cache *cache;
	uint64_t nth = 1;
	int ret;

	do {
		arm(nth++, 1);
		ret = cache_new(&params, &cache);
		armed = false;
		ck_assert(ret == 0 || ret == -ENOMEM);
		ck_assert_int_eq(ret != 0, failed != 0);
	} while (ret);
	cache_free(cache);
}
END_TEST

static struct sim_params sim_params = {
	.size = MIB(1), .block_size = 512, .sparse = true,
};

static void stop_co(void *arg)
{
	ck_assert_int_eq(volume_stop(arg), 0);
}

START_TEST(nth_allocation_fails_as_a_volume_is_opened)
{
	struct engine_params params = { 0 };
	struct engine *engine = engine_start(&params);
	struct raw_params raw = { .mode = VOLUME_WRITEBACK };
	struct bdev *bdev;
	struct volume *vol;
	uint64_t nth = 1;
	int ret;

	ck_assert_int_eq(sim_new(&sim_params, NULL, &bdev), 0);
	do {
		arm(nth++, 1);
		ret = raw_open_bdev(engine->cache, engine->loop, &bdev, "disk",
				    &raw, &vol);
		armed = false;
		ck_assert(ret == 0 || ret == -ENOMEM);
		/* Taken over on success only. */
		ck_assert_int_eq(ret != 0, bdev != NULL);
	} while (ret);
	ck_assert_uint_gt(nth, 4);
	engine_run(engine, stop_co, vol);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

static Suite *nomem_suite(void)
{
	Suite *suite = suite_create("nomem");
	TCase *tc = tcase_create("nth allocation");

	tcase_add_loop_test(tc, nth_allocation_fails_and_nothing_is_lost, 0, 3);
	tcase_add_test(tc, nth_allocation_fails_as_a_cache_is_made);
	tcase_add_test(tc, nth_allocation_fails_as_a_volume_is_opened);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	return proof_main(nomem_suite());
}
