/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_shard.c - the index and the state bits of folios, driven directly on
 * an idle engine whose checker then compares lists, counts and bits.
 */
#include <errno.h>

#include "tests/proof.h"

#define PAGES	512u	/* of the volume's 1 MiB, and some behind it */

static struct engine *engine;
static struct shard *shard;
static struct pool *pool;

static void setup(void)
{
	struct engine_params params = {
		.cache_size = MIB(16), .vol.sim.size = PAGES * FRAME_SIZE,
		.dirty_background_pct = 45, .dirty_hard_pct = 90,
	};

	engine = engine_start(&params);
	shard = &engine->cache->shards[0];
	pool = &engine->cache->pool;
}

static void teardown(void)
{
	ck_assert_int_eq(engine_stop(&engine), 0);
}

static void lock(void) ACQUIRE(&shard->lock)
{
	mutex_lock(&shard->lock);
}

static void unlock(void) RELEASE(&shard->lock)
{
	mutex_unlock(&shard->lock);
}

static uint64_t key_of(uint32_t page)
{
	return folio_key(engine->vol->id, (uint64_t)page * FRAME_SIZE);
}

static struct folio *lookup(uint32_t page) REQUIRES(&shard->lock)
{
	return shard_lookup_locked(shard, key_of(page),
				   key_hash(key_of(page)));
}

static struct folio *insert(uint32_t page, unsigned int order)
	REQUIRES(&shard->lock)
{
	uint32_t frame = pool_alloc(pool, POOL_CACHE, order, false);
	struct folio *folio = pool_folio(pool, frame);

	ck_assert_uint_ne(frame, 0);
	memset(pool_data(pool, frame), 0, folio_size(folio));
	shard_insert_locked(shard, folio, key_of(page));
	pool_enqueue(pool, folio);
	folio->uptodate = folio_all_blocks(order, 12);
	return folio;
}

START_TEST(every_page_of_a_folio_finds_its_head)
{
	struct folio *folio;

	lock();
	for (unsigned int order = 0; order <= FOLIO_ORDER_MAX; order++) {
		folio = insert(64 * order, order);
		for (uint32_t i = 0; i < 64; i++)
			ck_assert_ptr_eq(lookup(64 * order + i),
					 i < (1u << order) ? folio : NULL);
	}
	unlock();
	engine_check(engine, true);
}
END_TEST

/* A folio at @page as large as alignment and neighbours allow, or none. */
static void model_insert(struct folio **model, uint32_t page,
			 unsigned int order) REQUIRES(&shard->lock)
{
	for (uint32_t i = 0; i < (1u << order); i++)
		if (model[page + i])
			return;
	model[page] = insert(page, order);
	for (uint32_t i = 1; i < (1u << order); i++)
		model[page + i] = model[page];
}

static void model_remove(struct folio **model, uint32_t page)
	REQUIRES(&shard->lock)
{
	struct folio *folio = model[page];
	uint32_t first = (uint32_t)(folio->key - key_of(0));
	uint32_t pages = folio_pages(folio);

	shard_discard_locked(shard, engine->vol, folio);
	for (uint32_t i = 0; i < pages; i++)
		model[first + i] = NULL;
}

static void model_replace(struct folio **model, uint32_t page)
	REQUIRES(&shard->lock)
{
	struct folio *old = model[page];
	uint32_t first = (uint32_t)(old->key - key_of(0));
	struct folio *copy;
	uint32_t frame;

	if (old->inflight || pool_cache_room(pool) < folio_pages(old))
		return;
	frame = pool_alloc(pool, POOL_CACHE, old->order, false);
	if (!frame)
		return;
	copy = pool_folio(pool, frame);
	memset(pool_data(pool, frame), 0, folio_size(copy));
	copy->uptodate = old->uptodate;
	shard_replace_locked(shard, engine->vol, old, copy);
	for (uint32_t i = 0; i < folio_pages(copy); i++)
		model[first + i] = copy;
}

/* Change the bits of a folio in one of the legal ways. */
static void model_bits(struct random *rnd, struct folio *folio)
	REQUIRES(&shard->lock)
{
	uint64_t some = random_u64(rnd) & folio->uptodate;
	struct volume *vol = engine->vol;

	switch (random_below(rnd, 4)) {
	case 0:
		shard_dirty_locked(shard, vol, folio, some & ~folio->inflight);
		break;
	case 1:
		some &= folio->dirty;
		shard_clean_locked(shard, vol, folio, some);
		shard_start_io_locked(shard, vol, folio, some);
		break;
	case 2:		/* written */
		some &= folio->inflight;
		shard_end_io_locked(shard, vol, folio, some);
		if (!folio->dirty && !folio->inflight)
			shard_unfail_locked(shard, vol, folio);
		break;
	default:	/* failed */
		some &= folio->inflight;
		shard_end_io_locked(shard, vol, folio, some);
		shard_dirty_locked(shard, vol, folio, some);
		if (some)
			shard_fail_locked(shard, vol, folio);
		break;
	}
}

/* End all writes; all that is dirty goes to the disk at the end. */
static void model_quiesce(struct folio **model)
	REQUIRES(&shard->lock)
{
	for (uint32_t page = 0; page < PAGES; page++)
		if (model[page])
			shard_end_io_locked(shard, engine->vol, model[page],
					    model[page]->inflight);
	for (uint32_t page = 0; page < PAGES; page++)
		if (model[page] && !model[page]->dirty)
			shard_unfail_locked(shard, engine->vol, model[page]);
}

START_TEST(index_lists_and_counts_agree_after_random_changes)
{
	struct folio *model[PAGES] = { NULL };
	struct random rnd;

	random_init(&rnd, test_seed("shard"));
	for (unsigned int i = 0; i < 20000; i++) {
		unsigned int order = (unsigned int)random_below(&rnd, 7);
		uint32_t page = (uint32_t)random_below(&rnd, PAGES);

		loop_enter(engine->loop);
		lock();
		if (!model[page])
			model_insert(model, page & ~((1u << order) - 1),
				     order);
		else if (random_one_in(&rnd, 8) && !model[page]->inflight)
			model_remove(model, page);
		else if (random_one_in(&rnd, 8))
			model_replace(model, page);
		else
			model_bits(&rnd, model[page]);
		page = (uint32_t)random_below(&rnd, PAGES);
		ck_assert_ptr_eq(lookup(page), model[page]);
		unlock();
		loop_enter(NULL);
		if (i % 256 == 0)
			engine_check(engine, false);
	}
	loop_enter(engine->loop);
	lock();
	model_quiesce(model);
	unlock();
	loop_enter(NULL);
	engine_check(engine, true);
	ck_assert_int_eq(engine_flush(engine), 0);
}
END_TEST

static void pin(struct folio *folio, struct pin *out)
{
	__atomic_fetch_add(&folio->pins, 1, __ATOMIC_RELAXED);
	out->frame = pool_frame(pool, folio);
}

START_TEST(a_pinned_folio_is_freed_by_the_last_unpin)
{
	struct pin pins[2];
	struct folio *folio;

	lock();
	folio = insert(0, 3);
	pin(folio, &pins[0]);
	pin(folio, &pins[1]);
	shard_remove_locked(shard, folio);
	ck_assert_ptr_null(lookup(0));
	unlock();
	ck_assert_uint_eq(pool->cached_pages, 8);
	volume_unpin(engine->cache, &pins[0], 1);
	ck_assert_uint_eq(pool->cached_pages, 8);
	volume_unpin(engine->cache, &pins[1], 1);
	ck_assert_uint_eq(pool->cached_pages, 0);
}
END_TEST

START_TEST(an_unpinned_folio_is_freed_at_once)
{
	struct folio *folio;

	lock();
	folio = insert(0, 3);
	shard_remove_locked(shard, folio);
	unlock();
	ck_assert_uint_eq(pool->cached_pages, 0);
	engine_check(engine, true);
}
END_TEST

START_TEST(a_replaced_folio_hands_over_what_is_dirty_and_failed)
{
	struct folio *old, *copy;
	struct pin held;

	loop_enter(engine->loop);
	lock();
	old = insert(0, 2);
	pin(old, &held);
	shard_dirty_locked(shard, engine->vol, old, 6);
	shard_fail_locked(shard, engine->vol, old);
	copy = pool_folio(pool, pool_alloc(pool, POOL_CACHE, 2, false));
	memset(pool_data(pool, pool_frame(pool, copy)), 0, folio_size(copy));
	copy->uptodate = old->uptodate;
	shard_replace_locked(shard, engine->vol, old, copy);
	ck_assert_ptr_eq(lookup(3), copy);
	ck_assert_uint_eq(copy->dirty, 6);
	ck_assert(copy->flags & FOLIO_FAILED);
	ck_assert_uint_eq(old->dirty, 0);
	unlock();
	loop_enter(NULL);
	engine_check(engine, false);
	ck_assert_uint_eq(engine->vol->nr_failed, 1);
	ck_assert_uint_eq(engine->vol->dirty_bytes, 2 * FRAME_SIZE);
	ck_assert_uint_eq(pool->cached_pages, 8);
	volume_unpin(engine->cache, &held, 1);
	ck_assert_uint_eq(pool->cached_pages, 4);
	ck_assert_int_eq(engine_flush(engine), 0);
	ck_assert_uint_eq(engine->vol->nr_failed, 0);
}
END_TEST

/* ---- waiting ---- */

struct sleeper {
	struct folio	*folio;
	bool		woken;
};

static void sleeper_co(void *arg)
{
	struct sleeper *sleeper = arg;

	lock();
	shard_wait_locked(shard, sleeper->folio);
	sleeper->woken = true;
	unlock();
}

START_TEST(the_end_of_a_write_wakes_who_waits_for_it)
{
	struct sleeper sleepers[3];

	loop_enter(engine->loop);
	lock();
	sleepers[0].folio = insert(0, 0);
	shard_start_io_locked(shard, engine->vol, sleepers[0].folio, 1);
	unlock();
	loop_enter(NULL);
	for (unsigned int i = 0; i < 3; i++) {
		sleepers[i] = sleepers[0];
		sleepers[i].woken = false;
		engine_spawn(engine, sleeper_co, &sleepers[i]);
	}
	settle(engine, 1000);
	for (unsigned int i = 0; i < 3; i++)
		ck_assert(!sleepers[i].woken);
	loop_enter(engine->loop);
	lock();
	shard_end_io_locked(shard, engine->vol, sleepers[0].folio, 1);
	unlock();
	loop_enter(NULL);
	engine_run_all(engine);
	for (unsigned int i = 0; i < 3; i++)
		ck_assert(sleepers[i].woken);
	engine_check(engine, true);
}
END_TEST

static Suite *shard_suite(void)
{
	Suite *suite = suite_create("shard");
	TCase *tc = tcase_create("index");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, every_page_of_a_folio_finds_its_head);
	tcase_add_test(tc, index_lists_and_counts_agree_after_random_changes);
	tcase_add_test(tc, a_pinned_folio_is_freed_by_the_last_unpin);
	tcase_add_test(tc, an_unpinned_folio_is_freed_at_once);
	tcase_add_test(tc, a_replaced_folio_hands_over_what_is_dirty_and_failed);
	tcase_add_test(tc, the_end_of_a_write_wakes_who_waits_for_it);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	return proof_main(shard_suite());
}
