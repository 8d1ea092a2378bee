/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_proof_ioend.c - the proofs about ioends: what may join and merge, how
 * far they grow, and what their completion does to the mapping.
 */
#include <errno.h>

#include "cache/ioend.h"
#include "tests/proof.h"
#include "tests/stubstore.h"

#define BLOCK	4096u

/* ---- T-29: the rules, one attribute at a time ---- */

/* An ioend of two blocks, and what would be its third one. */
struct t29 {
	struct bdev		bdev, other_bdev;
	struct volume		vol, other_vol;
	struct writepage_ctx	wpc, other_wpc;
	struct iomap		iomap;
	struct ioend		ioend;
	/* The question. */
	struct writepage_ctx	*asker;
	uint64_t		pos;
	uint32_t		len;
	unsigned int		flags;
};

static void t29_setup(struct t29 *t)
{
	memset(t, 0, sizeof(*t));
	t->vol.max_io = t->other_vol.max_io = MIB(1);
	t->wpc.vol = t->other_wpc.vol = &t->vol;
	t->iomap = (struct iomap){
		.addr = MIB(8), .offset = 0, .length = MIB(2),
		.type = IOMAP_MAPPED, .bdev = &t->bdev, .private = t,
	};
	t->ioend = (struct ioend){
		.vol = &t->vol, .wpc = &t->wpc, .offset = KIB(64),
		.size = 2 * BLOCK, .addr = MIB(8) + KIB(64), .bdev = &t->bdev,
		.private = t, .nr_segs = 2,
	};
	t->asker = &t->wpc;
	t->pos = KIB(64) + 2 * BLOCK;
	t->len = BLOCK;
}

static bool t29_joins(const struct t29 *t)
{
	return ioend_can_add(&t->ioend, t->asker, &t->iomap, t->pos, t->len,
			     t->flags);
}

static void full_size(struct t29 *t) { t->vol.max_io = 3 * BLOCK - 1; }
static void exact_size(struct t29 *t) { t->vol.max_io = 3 * BLOCK; }
static void behind(struct t29 *t) { t->pos += BLOCK; }
static void before(struct t29 *t) { t->pos -= BLOCK; }
static void other_addr(struct t29 *t) { t->iomap.addr += BLOCK; }
static void other_device(struct t29 *t) { t->iomap.bdev = &t->other_bdev; }
static void other_private(struct t29 *t) { t->iomap.private = NULL; }
static void other_volume(struct t29 *t) { t->wpc.vol = &t->other_vol; }
static void other_pass(struct t29 *t) { t->asker = &t->other_wpc; }
static void unwritten(struct t29 *t) { t->flags |= IOEND_UNWRITTEN; }
static void shared(struct t29 *t) { t->flags |= IOEND_SHARED; }
static void direct(struct t29 *t) { t->flags |= IOEND_DIRECT; }
static void anonymous(struct t29 *t) { t->flags |= IOEND_ANON; }
static void fua(struct t29 *t) { t->flags |= IOEND_FUA; }
static void through(struct t29 *t) { t->flags |= IOEND_THROUGH; }
static void many(struct t29 *t) { t->ioend.nr_segs = IOEND_FOLIOS_MAX; }
static void one_less(struct t29 *t) { t->ioend.nr_segs = IOEND_FOLIOS_MAX - 1; }
static void nothing(struct t29 *t) { (void)t; }

static void boundary(struct t29 *t)
{
	t->iomap.flags |= IOMAP_F_BOUNDARY;
	t->iomap.offset = t->pos;
	t->iomap.addr += t->pos;
}

static void boundary_elsewhere(struct t29 *t)
{
	t->iomap.flags |= IOMAP_F_BOUNDARY;
}

static void both_anonymous(struct t29 *t)
{
	t->flags |= IOEND_ANON;
	t->ioend.flags |= IOEND_ANON;
	t->iomap.addr = IOMAP_NULL_ADDR - MIB(4);
}

static void all_flags_alike(struct t29 *t)
{
	t->flags = t->ioend.flags = IOEND_NOMERGE & ~IOEND_ANON;
}

static const struct t29_row {
	void	(*flip)(struct t29 *t);
	bool	joins;
} t29_add_rows[] = {
	{ nothing, true },
	{ full_size, false }, { exact_size, true },
	{ behind, false }, { before, false },
	{ other_addr, false }, { other_device, false },
	{ other_private, false }, { other_volume, false },
	{ other_pass, false },
	{ unwritten, false }, { shared, false }, { direct, false },
	{ anonymous, false }, { fua, false }, { through, false },
	{ all_flags_alike, true }, { both_anonymous, true },
	{ boundary, false }, { boundary_elsewhere, true },
	{ many, false }, { one_less, true },
};

START_TEST(t29_any_one_difference_keeps_a_range_from_joining)
{
	struct t29 t;

	t29_setup(&t);
	t29_add_rows[_i].flip(&t);
	ck_assert_int_eq(t29_joins(&t), t29_add_rows[_i].joins);
}
END_TEST

/* The second ioend, of which one attribute is flipped. */
static void next_failed(struct ioend *next) { next->error = -EIO; }
static void next_volume(struct ioend *next) { next->vol = NULL; }
static void next_offset(struct ioend *next) { next->offset += BLOCK; }
static void next_addr(struct ioend *next) { next->addr += BLOCK; }
static void next_device(struct ioend *next) { next->bdev = NULL; }
static void next_private(struct ioend *next) { next->private = NULL; }
static void next_unwritten(struct ioend *next) { next->flags = IOEND_UNWRITTEN; }
static void next_shared(struct ioend *next) { next->flags = IOEND_SHARED; }
static void next_direct(struct ioend *next) { next->flags = IOEND_DIRECT; }
static void next_anon(struct ioend *next) { next->flags = IOEND_ANON; }
static void next_fua(struct ioend *next) { next->flags = IOEND_FUA; }
static void next_through(struct ioend *next) { next->flags = IOEND_THROUGH; }
static void next_boundary(struct ioend *next) { next->flags = IOEND_BOUNDARY; }

static void (*const t29_merge_rows[])(struct ioend *next) = {
	next_failed, next_volume, next_offset, next_addr, next_device,
	next_private, next_unwritten, next_shared, next_direct, next_anon,
	next_fua, next_through, next_boundary,
};

static void t29_pair(struct t29 *t, struct ioend *first, struct ioend *next)
{
	t29_setup(t);
	*first = *next = t->ioend;
	next->offset += first->size;
	next->addr += first->size;
}

START_TEST(t29_any_one_difference_keeps_ioends_from_merging)
{
	struct ioend first, next;
	struct t29 t;

	t29_pair(&t, &first, &next);
	ck_assert(ioend_can_merge(&first, &next));
	t29_merge_rows[_i](&next);
	ck_assert(!ioend_can_merge(&first, &next));
}
END_TEST

START_TEST(t29_what_is_equal_merges_and_a_boundary_only_ahead)
{
	struct ioend first, next;
	struct t29 t;

	t29_pair(&t, &first, &next);
	first.flags = IOEND_BOUNDARY;
	ck_assert(ioend_can_merge(&first, &next));
	first.flags = next.flags = IOEND_NOMERGE;
	ck_assert(ioend_can_merge(&first, &next));
	first.error = next.error = -EIO;
	ck_assert(ioend_can_merge(&first, &next));
	/* They may be of any length together. */
	first.size = MIB(64);
	next.offset = first.offset + first.size;
	next.addr = first.addr + first.size;
	ck_assert(ioend_can_merge(&first, &next));
	ck_assert(!ioend_can_merge(&next, &first));
}
END_TEST

/* ---- T-10: completion in any order makes few transactions ---- */

#define T10_NR	1000u

struct t10 {
	struct engine		*engine;
	uint64_t		failed;		/* position of the bad block */
	struct spawned_write	writes[T10_NR];
};

static int t10_end_io(void *arg, const struct ioend *ioend)
{
	struct t10 *t = arg;

	ck_assert(t->failed < ioend->offset ||
		  t->failed >= ioend->offset + ioend->size);
	/* Meanwhile all others complete. */
	coroutine_sleep_ns(NSEC_PER_MSEC);
	return 0;
}

START_TEST(t10_adjacent_ioends_in_random_order_make_few_transactions)
{
	struct stub_params stub_params = { .end_io = true,
					   .mode = VOLUME_WRITEOUT };
	struct engine_params params = {
		.cache_size = MIB(16),
		.vol = { .open = stub_open, .open_arg = &stub_params,
			 .sim = { .size = MIB(4), .latency_min_ns = 1000,
				  .latency_max_ns = 1000 } },
	};
	struct t10 *t = calloc(1, sizeof(*t));
	unsigned int order[T10_NR];
	struct random rnd;
	struct stub *stub;

	t->engine = engine_start(&params);
	t->failed = 500 * BLOCK;
	stub = to_stub(t->engine->vol);
	stub->end_io = t10_end_io;
	stub->end_io_arg = t;
	random_init(&rnd, test_seed("t10"));
	shuffle(&rnd, order, T10_NR);
	sim_set_fault_range(t->engine->bdev, BDEV_WRITE, t->failed, BLOCK);
	sim_set_fault(t->engine->bdev, BDEV_WRITE, 1, 1, EIO, false);
	for (unsigned int i = 0; i < T10_NR; i++) {
		struct spawned_write *w = &t->writes[i];

		*w = (struct spawned_write){
			.vol = t->engine->vol, .pos = order[i] * BLOCK,
			.len = BLOCK, .version = 2,
		};
		engine_spawn(t->engine, spawned_write_co, w);
	}
	engine_run_all(t->engine);
	for (unsigned int i = 0; i < T10_NR; i++)
		ck_assert_int_eq(t->writes[i].ret,
				 t->writes[i].pos == t->failed ? -EIO : 0);
	ck_assert_uint_eq(dev_ops(t->engine, BDEV_WRITE), T10_NR);
	ck_assert_uint_eq(stub->end_io_bytes, (T10_NR - 1) * BLOCK);
	/* Two would do: before the bad block and behind it; but the first few
	 * that complete find nobody to merge with. */
	ck_assert_uint_le(stub->nr_end_io, 16);
	check_idle(t->engine);
	/* It is stored at last. */
	t->failed = UINT64_MAX;
	ck_assert_int_eq(engine_stop(&t->engine), 0);
	free(t);
}
END_TEST

/* ---- T-11: nobody is answered before the transaction ---- */

struct t11 {
	struct coroutine	*in_end_io;
	bool			release;
	int			ret;
};

static int t11_end_io(void *arg, const struct ioend *ioend)
{
	struct t11 *t = arg;

	(void)ioend;
	t->in_end_io = coroutine_self();
	while (!t->release)
		coroutine_yield();
	return t->ret;
}

static void t11_release_co(void *arg)
{
	struct t11 *t = arg;

	t->release = true;
	coroutine_wake(t->in_end_io);
}

static struct engine *t11_engine(struct t11 *t)
{
	static struct stub_params stub_params = { .end_io = true };
	struct engine_params params = {
		.vol = { .open = stub_open, .open_arg = &stub_params },
	};
	struct engine *engine = engine_start(&params);

	to_stub(engine->vol)->end_io = t11_end_io;
	to_stub(engine->vol)->end_io_arg = t;
	return engine;
}

START_TEST(t11_flush_waits_for_the_mapping_transaction)
{
	struct t11 t = { .ret = _i ? -ENOSPC : 0 };
	struct engine *engine = t11_engine(&t);
	struct spawned_flush flush = { .vol = engine->vol };

	must_write(engine, 0, KIB(64), 2, 0);
	engine_spawn(engine, spawned_flush_co, &flush);
	settle(engine, NSEC_PER_SEC);
	/* The data is there, but FLUSH waits. */
	ck_assert(disk_has_pattern(engine, 0, KIB(64), 2));
	ck_assert(t.in_end_io && !flush.done);
	ck_assert_uint_eq(engine->vol->inflight_bytes, KIB(64));
	engine_run(engine, t11_release_co, &t);
	engine_run_all(engine);
	/* A transaction that failed is a failed write. */
	ck_assert_int_eq(flush.ret, _i ? -EIO : 0);
	ck_assert_uint_eq(engine->vol->dirty_bytes, _i ? KIB(64) : 0);
	t.ret = 0;
	ck_assert_int_eq(engine_flush(engine), 0);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(t11_fua_write_waits_for_the_mapping_transaction)
{
	struct t11 t = { .ret = _i ? -ENOSPC : 0 };
	struct engine *engine = t11_engine(&t);
	struct spawned_write write = {
		.vol = engine->vol, .len = KIB(64), .version = 2,
		.flags = VOLUME_FUA,
	};

	engine_spawn(engine, spawned_write_co, &write);
	settle(engine, NSEC_PER_SEC);
	ck_assert(t.in_end_io && !write.done);
	/* Reads do not wait. */
	ck_assert(reads_pattern(engine, 0, KIB(64), 2));
	engine_run(engine, t11_release_co, &t);
	engine_run_all(engine);
	ck_assert_int_eq(write.ret, t.ret);
	t.ret = 0;
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

/* ---- T-28: no limit is passed, and every run is sent once ---- */

struct t28 {
	uint64_t	max_io;
	unsigned int	block_shift;
	uint8_t		sent[MIB(8) >> 9];	/* by block */
	unsigned int	most_iov;
};

static void t28_observe(void *arg, const struct bdev_req *req)
{
	struct t28 *t = arg;
	uint64_t pos = req->pos;

	if (req->op != BDEV_WRITE)
		return;
	ck_assert_uint_le(req->len, t->max_io);
	ck_assert_uint_le(req->nr_iov, IOEND_FOLIOS_MAX);
	t->most_iov = MAX(t->most_iov, req->nr_iov);
	for (; pos < req->pos + req->len; pos += 1u << t->block_shift)
		t->sent[pos >> t->block_shift]++;
}

static void t28_write(struct engine *engine, uint8_t *dirty,
		      unsigned int block_shift, uint32_t block, uint32_t nr)
{
	must_write(engine, (uint64_t)block << block_shift, nr << block_shift, 3,
		   0);
	memset(dirty + block, 1, nr);
}

/* Dirty any runs, of any length, over folios of any size. */
static void t28_dirty(struct engine *engine, struct random *rnd, uint8_t *dirty,
		      unsigned int block_shift)
{
	uint32_t nr_blocks = (uint32_t)(engine->vol->size >> block_shift);

	for (unsigned int i = 0; i < 80; i++) {
		uint32_t nr = 1 + (uint32_t)random_below(rnd,
				(random_one_in(rnd, 8) ? KIB(512) : KIB(16)) >>
				block_shift);
		uint32_t block = (uint32_t)random_below(rnd, nr_blocks - nr);

		t28_write(engine, dirty, block_shift, block, nr);
	}
}

static void t28_round(struct random *rnd)
{
	struct stub_params stub = {
		.block_shift = 9 + (unsigned int)random_below(rnd, 4),
		.max_io = KIB(256) << random_below(rnd, 6),
		.end_io = random_one_in(rnd, 2),
	};
	struct engine_params params = {
		.seed = random_u64(rnd), .cache_size = MIB(24),
		.dirty_background_pct = 45, .dirty_hard_pct = 90,
		.vol = { .open = stub_open, .open_arg = &stub,
			 .sim = { .size = MIB(8), .latency_max_ns = 9000 } },
	};
	struct engine *engine = engine_start(&params);
	struct t28 *t = calloc(1, sizeof(*t));
	uint8_t *dirty = calloc(1, sizeof(t->sent));

	t->max_io = stub.max_io;
	t->block_shift = stub.block_shift;
	if (random_one_in(rnd, 2))
		to_stub(engine->vol)->boundary = KIB(64) <<
						 random_below(rnd, 5);
	to_stub(engine->vol)->step = random_one_in(rnd, 4) ?
				     3u << stub.block_shift : 0;
	sim_set_observer(engine->bdev, t28_observe, t);
	t28_dirty(engine, rnd, dirty, stub.block_shift);
	ck_assert_int_eq(engine_flush(engine), 0);
	ck_assert_mem_eq(t->sent, dirty, sizeof(t->sent));
	check_idle(engine);
	sim_set_observer(engine->bdev, NULL, NULL);
	ck_assert_int_eq(engine_stop(&engine), 0);
	free(dirty);
	free(t);
}

START_TEST(t28_requests_stay_within_their_budgets_and_runs_are_sent_once)
{
	struct random rnd;

	random_init(&rnd, test_seed("t28"));
	for (unsigned int i = 0; i < 60; i++)
		t28_round(&rnd);
}
END_TEST

START_TEST(t28_more_folios_than_an_ioend_holds_go_in_several)
{
	struct engine_params params = {
		.cache_size = MIB(24), .dirty_background_pct = 45,
		.dirty_hard_pct = 90, .vol.sim.size = MIB(8),
	};
	struct engine *engine = engine_start(&params);
	struct t28 *t = calloc(1, sizeof(*t));
	uint32_t nr = 2 * IOEND_FOLIOS_MAX - 1;

	t->max_io = engine->vol->max_io;
	t->block_shift = 12;
	/* One folio a page. */
	for (uint32_t i = 0; i < nr; i++)
		must_write(engine, i * BLOCK, BLOCK, 2, 0);
	sim_set_observer(engine->bdev, t28_observe, t);
	ck_assert_int_eq(engine_flush(engine), 0);
	ck_assert_uint_eq(t->most_iov, IOEND_FOLIOS_MAX);
	ck_assert_uint_eq(dev_ops(engine, BDEV_WRITE), 2);
	ck_assert(disk_has_pattern(engine, 0, nr * BLOCK, 2));
	sim_set_observer(engine->bdev, NULL, NULL);
	ck_assert_int_eq(engine_stop(&engine), 0);
	free(t);
}
END_TEST

static Suite *ioend_suite(void)
{
	Suite *suite = suite_create("proofs of ioends");
	TCase *tc = tcase_create("ioend");

	tcase_add_loop_test(tc, t29_any_one_difference_keeps_a_range_from_joining,
			    0, ARRAY_SIZE(t29_add_rows));
	tcase_add_loop_test(tc, t29_any_one_difference_keeps_ioends_from_merging,
			    0, ARRAY_SIZE(t29_merge_rows));
	tcase_add_test(tc, t29_what_is_equal_merges_and_a_boundary_only_ahead);
	tcase_add_test(tc, t10_adjacent_ioends_in_random_order_make_few_transactions);
	tcase_add_loop_test(tc, t11_flush_waits_for_the_mapping_transaction, 0,
			    2);
	tcase_add_loop_test(tc, t11_fua_write_waits_for_the_mapping_transaction,
			    0, 2);
	tcase_add_test(tc, t28_requests_stay_within_their_budgets_and_runs_are_sent_once);
	tcase_add_test(tc, t28_more_folios_than_an_ioend_holds_go_in_several);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	return proof_main(ioend_suite());
}
