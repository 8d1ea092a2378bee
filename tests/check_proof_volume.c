/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_proof_volume.c - the proofs about many requests at once: trims against
 * writers, errors and FLUSH on several connections, the hard limit, kill -9.
 */
#include <errno.h>

#include "tests/proof.h"

static struct volume_stats volume_stats_of(const struct volume *vol)
{
	struct volume_stats stats;

	volume_get_stats(vol, &stats);
	return stats;
}

#define BLOCK	4096u

/* ---- T-12: trims among writers ---- */

#define T12_BLOCKS	64u
#define T12_OPS		8000u

/* What was done to a block, and between which moments. */
struct t12_op {
	unsigned int	first, nr;	/* blocks */
	uint64_t	start, end;	/* ticks of t12.clock */
	uint64_t	version;	/* 0: zeroes */
};

struct t12 {
	struct engine	*engine;
	struct random	rnd;
	uint64_t	clock;
	unsigned int	nr_ops;
	struct t12_op	ops[T12_OPS];
	unsigned int	writers;	/* still at work */
};

static struct t12_op *t12_begin(struct t12 *t, unsigned int first,
				unsigned int nr, bool zero)
{
	struct t12_op *op = &t->ops[t->nr_ops++];

	ck_assert_uint_le(t->nr_ops, T12_OPS);
	*op = (struct t12_op){
		.first = first, .nr = nr, .start = ++t->clock,
		.version = zero ? 0 : t->nr_ops,
	};
	return op;
}

static int t12_write(struct t12 *t, uint64_t pos, uint32_t len,
		     const void *buf)
{
	struct volume *vol = t->engine->vol;

	if (random_one_in(&t->rnd, 2) &&
	    !volume_write_inline(vol, pos, len, buf, 0))
		return 0;
	return volume_write(vol, pos, len, buf,
			    random_one_in(&t->rnd, 4) ? VOLUME_FUA : 0);
}

static void t12_writer_co(void *arg)
{
	struct t12 *t = arg;
	char buf[3 * BLOCK];

	for (unsigned int i = 0; i < 50; i++) {
		unsigned int nr = 1 + (unsigned int)random_below(&t->rnd, 3);
		unsigned int first = (unsigned int)random_below(&t->rnd,
						T12_BLOCKS - nr + 1);
		struct t12_op *op = t12_begin(t, first, nr, false);

		fill_pattern(buf, nr * BLOCK, first * BLOCK, op->version);
		ck_assert_int_eq(t12_write(t, first * BLOCK, nr * BLOCK, buf),
				 0);
		op->end = ++t->clock;
		coroutine_sleep_ns(random_below(&t->rnd, 4) * 5000);
	}
	t->writers--;
}

static void t12_trimmer_co(void *arg)
{
	struct t12 *t = arg;
	struct volume *vol = t->engine->vol;

	while (t->writers) {
		unsigned int nr = 1 + (unsigned int)random_below(&t->rnd, 12);
		unsigned int first = (unsigned int)random_below(&t->rnd,
						T12_BLOCKS - nr + 1);
		uint64_t pos = first * BLOCK, len = nr * BLOCK;
		struct t12_op *op = t12_begin(t, first, nr, true);
		int ret;

		if (random_one_in(&t->rnd, 2))
			ret = volume_trim(vol, pos, len, 0);
		else
			ret = volume_zero(vol, pos, len,
					  random_one_in(&t->rnd, 2) ?
					  VOLUME_NO_HOLE : 0);
		ck_assert_int_eq(ret, 0);
		op->end = ++t->clock;
		coroutine_sleep_ns(random_below(&t->rnd, 4) * 20000);
	}
}

static bool t12_touches(const struct t12_op *op, unsigned int block)
{
	return block >= op->first && block < op->first + op->nr;
}

/* Is what @buf holds the outcome of an operation that no other one followed? */
static bool t12_explained(const struct t12 *t, unsigned int block,
			  const void *buf)
{
	uint64_t last_start = 0;
	bool touched = false;

	for (unsigned int i = 0; i < t->nr_ops; i++)
		if (t12_touches(&t->ops[i], block))
			last_start = MAX(last_start, t->ops[i].start);
	for (unsigned int i = 0; i < t->nr_ops; i++) {
		const struct t12_op *op = &t->ops[i];

		if (!t12_touches(op, block))
			continue;
		touched = true;
		if (op->end < last_start)
			continue;
		if (op->version ? has_pattern(buf, BLOCK, block * BLOCK,
					      op->version) :
				  is_zero(buf, BLOCK))
			return true;
	}
	return !touched && is_zero(buf, BLOCK);
}

static void t12_check(struct t12 *t)
{
	char buf[BLOCK], disk[BLOCK];

	for (unsigned int block = 0; block < T12_BLOCKS; block++) {
		uint64_t pos = block * BLOCK;

		ck_assert_int_eq(engine_read(t->engine, pos, buf, BLOCK), 0);
		ck_assert_msg(t12_explained(t, block, buf),
			      "block %u is nobody's", block);
	}
	go_cold(t->engine);
	for (unsigned int block = 0; block < T12_BLOCKS; block++) {
		uint64_t pos = block * BLOCK;

		ck_assert_int_eq(engine_read(t->engine, pos, buf, BLOCK), 0);
		ck_assert(t12_explained(t, block, buf));
		sim_peek(t->engine->bdev, pos, disk, BLOCK);
		ck_assert_mem_eq(buf, disk, BLOCK);
	}
}

START_TEST(t12_trims_among_64_writers_leave_zeroes_or_the_last_write)
{
	uint64_t seed = test_seed("t12") + (uint64_t)_i;
	struct engine_params params = {
		.seed = seed,
		.cache_size = _i & 2 ? KIB(512) : MIB(4),
		.vol.sim = { .seed = seed, .sparse = _i & 1,
			     .latency_min_ns = 1000, .latency_max_ns = 40000 },
	};
	struct t12 *t = calloc(1, sizeof(*t));

	t->engine = engine_start(&params);
	random_init(&t->rnd, seed);
	t->writers = 64;
	for (unsigned int i = 0; i < 64; i++)
		engine_spawn(t->engine, t12_writer_co, t);
	engine_spawn(t->engine, t12_trimmer_co, t);
	engine_spawn(t->engine, t12_trimmer_co, t);
	engine_run_all(t->engine);
	check_idle(t->engine);
	t12_check(t);
	/* Nothing dirty remains over what is trimmed now. */
	ck_assert_int_eq(engine_trim(t->engine, 0, T12_BLOCKS * BLOCK, 0), 0);
	ck_assert_uint_eq(t->engine->vol->dirty_bytes, 0);
	ck_assert_int_eq(engine_stop(&t->engine), 0);
	free(t);
}
END_TEST

/* ---- T-40: FLUSH on four connections ---- */

START_TEST(t40_every_connection_hears_of_a_failed_write_until_it_is_stored)
{
	struct engine_params params = { .vol.sim.write_cache = true };
	struct engine *engine = engine_start(&params);

	must_write(engine, KIB(64), BLOCK, 2, 0);
	sim_set_fault(engine->bdev, BDEV_WRITE, 1, UINT64_MAX, EIO, false);
	settle(engine, 11 * NSEC_PER_SEC);
	ck_assert_uint_ge(volume_stats_of(engine->vol).wb_errors, 1);
	/* Four connections, and one that came later; twice each. */
	for (unsigned int i = 0; i < 10; i++)
		ck_assert_int_eq(engine_flush(engine), -EIO);
	/* A write elsewhere that succeeds does not make it good. */
	sim_set_fault_range(engine->bdev, BDEV_WRITE, KIB(64), BLOCK);
	must_write(engine, 0, BLOCK, 3, VOLUME_FUA);
	ck_assert_int_eq(engine_flush(engine), -EIO);
	switch (_i) {
	case 0:		/* the device recovers, the block is written again */
		sim_set_fault(engine->bdev, BDEV_WRITE, 0, 0, 0, false);
		must_write(engine, KIB(64), BLOCK, 4, 0);
		break;
	case 1:		/* it recovers, and what was kept is tried again */
		sim_set_fault(engine->bdev, BDEV_WRITE, 0, 0, 0, false);
		break;
	case 2:		/* the block is trimmed */
		ck_assert_int_eq(engine_trim(engine, KIB(64), BLOCK, 0), 0);
		break;
	default:	/* the same as part of a larger one */
		ck_assert_int_eq(engine_zero(engine, KIB(32), KIB(64), 0), 0);
		break;
	}
	for (unsigned int i = 0; i < 5; i++)
		ck_assert_int_eq(engine_flush(engine), 0);
	ck_assert_uint_eq(engine->vol->nr_failed, 0);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(t40_failed_device_flush_is_told_to_all_until_reopened)
{
	struct engine_params params = { .vol.sim.write_cache = true };
	struct engine *engine = engine_start(&params);
	char buf[BLOCK];

	must_write(engine, 0, BLOCK, 2, 0);
	sim_set_fault(engine->bdev, BDEV_FLUSH, 1, 1, EIO, false);
	for (unsigned int i = 0; i < 5; i++) {
		/* No retry that succeeds: what was lost stays lost. */
		ck_assert_int_eq(engine_flush(engine), -EIO);
		fill_pattern(buf, BLOCK, BLOCK, i);
		ck_assert_int_eq(engine_write(engine, BLOCK, buf, BLOCK,
					      VOLUME_FUA), -EIO);
		/* Reads go on, and plain writes. */
		ck_assert(reads_pattern(engine, 0, BLOCK, 2));
		must_write(engine, KIB(64), BLOCK, i, 0);
	}
	ck_assert_int_ne(engine_stop(&engine), 0);
}
END_TEST

/* ---- T-41: one connection's FLUSH covers the other's write ---- */

static const enum volume_mode t41_modes[] = {
	VOLUME_WRITEBACK, VOLUME_WRITEOUT, VOLUME_NONE,
};

struct t41 {
	struct engine	*engine;
	bool		acked, flushed;
};

static void t41_write_co(void *arg)
{
	struct t41 *t = arg;
	struct spawned_write w = {
		.vol = t->engine->vol, .pos = 1000, .len = 50000, .version = 2,
	};

	spawned_write_co(&w);
	ck_assert_int_eq(w.ret, 0);
	t->acked = true;
}

static void t41_flush_co(void *arg)
{
	struct t41 *t = arg;

	while (!t->acked)
		coroutine_sleep_ns(1000);
	ck_assert_int_eq(volume_flush(t->engine->vol), 0);
	t->flushed = true;
}

START_TEST(t41_write_on_one_connection_survives_by_flush_on_another)
{
	struct engine_params params = {
		.vol = { .mode = t41_modes[_i],
			 .sim = { .write_cache = true,
				  .latency_max_ns = 30000 } },
	};
	struct t41 t = { .engine = engine_start(&params) };
	char *image = malloc(ENGINE_SIZE);

	engine_spawn(t.engine, t41_flush_co, &t);
	engine_spawn(t.engine, t41_write_co, &t);
	engine_run_all(t.engine);
	ck_assert(t.flushed);
	for (uint64_t seed = 0; seed < 60; seed++) {
		sim_crash_image(t.engine->bdev, seed, image);
		ck_assert(has_pattern(image + 1000, 50000, 1000, 2));
	}
	free(image);
	ck_assert_int_eq(engine_stop(&t.engine), 0);
}
END_TEST

/* ---- T-42: the hard limit ---- */

#define T42_WRITERS	64u
#define T42_WRITES	60u

struct t42 {
	struct engine	*engine;
	struct random	rnd;
	uint32_t	len;		/* of a write */
	unsigned int	writers;
	uint64_t	most;		/* dirty and in flight */
	uint64_t	longest_ns;	/* until a write was answered */
	uint64_t	longest_read_ns;
	uint64_t	reads;
};

static void t42_watch(struct t42 *t)
{
	struct throttle *throttle = &t->engine->cache->throttle;
	uint64_t used = throttle->dirty_bytes + throttle->inflight_bytes;

	t->most = MAX(t->most, used);
	ck_assert_uint_le(used, throttle->hard / 100 * 105);
}

static void t42_observe(void *arg, const struct bdev_req *req)
{
	(void)req;
	t42_watch(arg);
}

static void t42_writer_co(void *arg)
{
	struct t42 *t = arg;
	struct volume *vol = t->engine->vol;
	char *buf = calloc(1, t->len);

	for (unsigned int i = 0; i < T42_WRITES; i++) {
		uint64_t pos = random_below(&t->rnd, MIB(7) / t->len) * t->len;
		uint64_t before = clock_now_ns();

		if (volume_write_inline(vol, pos, t->len, buf, 0))
			ck_assert_int_eq(volume_write(vol, pos, t->len, buf, 0),
					 0);
		t42_watch(t);
		t->longest_ns = MAX(t->longest_ns, clock_now_ns() - before);
		coroutine_sleep_ns(random_below(&t->rnd, 1000));
	}
	free(buf);
	t->writers--;
}

static void t42_reader_co(void *arg)
{
	struct t42 *t = arg;
	char buf[BLOCK];

	while (t->writers) {
		uint64_t pos = MIB(7) + random_below(&t->rnd, 256) * BLOCK;
		uint64_t before = clock_now_ns();

		ck_assert_int_eq(volume_pread(t->engine->vol, buf, BLOCK, pos),
				 0);
		t->longest_read_ns = MAX(t->longest_read_ns,
					 clock_now_ns() - before);
		t->reads++;
		t42_watch(t);
		coroutine_sleep_ns(100000);
	}
}

START_TEST(t42_64_writers_stay_below_the_hard_limit_and_reads_are_served)
{
	uint64_t seed = test_seed("t42");
	struct engine_params params = {
		.seed = seed, .cache_size = MIB(4),
		.vol.sim = { .seed = seed, .size = MIB(8),
			     .latency_min_ns = 2 * NSEC_PER_MSEC,
			     .latency_max_ns = 8 * NSEC_PER_MSEC },
	};
	struct t42 t = { .engine = engine_start(&params),
			 .writers = T42_WRITERS, .len = _i ? KIB(64) : BLOCK };

	random_init(&t.rnd, seed);
	sim_set_observer(t.engine->bdev, t42_observe, &t);
	for (unsigned int i = 0; i < T42_WRITERS; i++)
		engine_spawn(t.engine, t42_writer_co, &t);
	engine_spawn(t.engine, t42_reader_co, &t);
	engine_run_all(t.engine);
	/* They did come to the limit, and waited for their turn only. */
	ck_assert_uint_gt(t.most, t.engine->cache->throttle.hard / 2);
	ck_assert_uint_gt(t.engine->cache->throttle.throttled, 0);
	ck_assert_uint_lt(t.longest_ns, NSEC_PER_SEC);
	/* A read takes its own I/O and at most one more before it. */
	ck_assert_uint_gt(t.reads, 10);
	ck_assert_uint_le(t.longest_read_ns, 17 * NSEC_PER_MSEC);
	sim_set_observer(t.engine->bdev, NULL, NULL);
	ck_assert_int_eq(engine_stop(&t.engine), 0);
}
END_TEST

/* ---- T-44: kill -9 in the modes that write through ---- */

#define T44_WRITERS	8u
#define T44_BLOCKS	6u	/* of each */

struct t44 {
	struct engine	*engine;
	struct bdev	*bdev;
	struct random	rnd;
	/* By block: the version last acknowledged, and last asked for. */
	uint64_t	acked[T44_WRITERS * T44_BLOCKS];
	uint64_t	asked[T44_WRITERS * T44_BLOCKS];
	bool		dead;
	unsigned int	next_writer;
};

static void t44_writer_co(void *arg)
{
	struct t44 *t = arg;
	unsigned int own = t->next_writer++ * T44_BLOCKS;
	char buf[BLOCK];

	while (!sim_is_cut(t->bdev)) {
		unsigned int block = own + (unsigned int)
				     random_below(&t->rnd, T44_BLOCKS);
		uint64_t version = t->asked[block] + 1;
		int ret;

		if (!t->dead)
			t->asked[block] = version;
		fill_pattern(buf, BLOCK, block * BLOCK, version);
		ret = volume_write(t->engine->vol, block * BLOCK, BLOCK, buf,
				   0);
		if (!t->dead && !ret)
			t->acked[block] = version;
		coroutine_sleep_ns(random_below(&t->rnd, 20000));
	}
}

START_TEST(t44_every_acked_write_is_there_after_kill_9)
{
	uint64_t seed = test_seed("t44") + (uint64_t)_i;
	struct engine_params params = {
		.seed = seed,
		.vol = {
			.mode = _i & 1 ? VOLUME_WRITETHROUGH : VOLUME_WRITEOUT,
			.sim = { .seed = seed, .write_cache = true,
				 .sparse = _i & 2, .latency_max_ns = 50000 },
		},
	};
	struct t44 t = { .engine = engine_start(&params) };
	unsigned int written = 0;
	char buf[BLOCK];

	random_init(&t.rnd, seed);
	t.bdev = t.engine->bdev;
	for (unsigned int i = 0; i < T44_WRITERS; i++)
		engine_spawn(t.engine, t44_writer_co, &t);
	settle(t.engine, NSEC_PER_MSEC + random_below(&t.rnd, NSEC_PER_MSEC));
	t.dead = true;
	engine_kill(&t.engine);
	for (unsigned int i = 0; i < ARRAY_SIZE(t.acked); i++) {
		uint64_t version = t.asked[i];

		ck_assert_int_eq(engine_read(t.engine, i * BLOCK, buf, BLOCK),
				 0);
		while (version > t.acked[i] &&
		       !has_pattern(buf, BLOCK, i * BLOCK, version))
			version--;
		ck_assert(version ? has_pattern(buf, BLOCK, i * BLOCK,
						version) :
				    is_zero(buf, BLOCK));
		written += t.acked[i] > 0;
	}
	ck_assert_uint_gt(written, T44_WRITERS);
	ck_assert_int_eq(engine_stop(&t.engine), 0);
}
END_TEST

static Suite *volume_suite(void)
{
	Suite *suite = suite_create("proofs of volumes");
	TCase *tc = tcase_create("volume");

	tcase_add_loop_test(tc, t12_trims_among_64_writers_leave_zeroes_or_the_last_write,
			    0, 4);
	tcase_add_loop_test(tc, t40_every_connection_hears_of_a_failed_write_until_it_is_stored,
			    0, 4);
	tcase_add_test(tc, t40_failed_device_flush_is_told_to_all_until_reopened);
	tcase_add_loop_test(tc, t41_write_on_one_connection_survives_by_flush_on_another,
			    0, ARRAY_SIZE(t41_modes));
	tcase_add_loop_test(tc, t42_64_writers_stay_below_the_hard_limit_and_reads_are_served,
			    0, 2);
	tcase_add_loop_test(tc, t44_every_acked_write_is_there_after_kill_9, 0,
			    20);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	return proof_main(volume_suite());
}
