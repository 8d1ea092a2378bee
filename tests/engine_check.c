/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine_check.c - a walk through the whole cache: do the folios, the index,
 * the dirty lists, the queues and the counts agree?
 */
#include <stdio.h>

#include "cache/cache_internal.h"
#include "tests/engine.h"

/* Sums over the walk, to be compared with what is counted elsewhere. */
struct sums {
	uint64_t	pages;		/* indexed */
	struct {
		uint64_t	dirty, inflight;	/* bytes */
		uint32_t	nr_dirty, nr_failed;	/* folios */
	} volumes[ENGINE_VOLUMES_MAX];
};

static unsigned int volume_nr(const struct engine *engine, uint16_t id)
{
	unsigned int i = 0;

	while (i < engine->nr_volumes && engine->volumes[i]->id != id)
		i++;
	assert(i < engine->nr_volumes);
	return i;
}

static void check_idle(const struct folio *folio)
{
	char text[256];

	if (!folio->inflight && !folio->pins &&
	    !(folio->flags & (FOLIO_LOCKED | FOLIO_WAITERS)))
		return;
	fprintf(stderr, "not idle: %s\n", folio_to_text(folio, text,
							 sizeof(text)));
	abort();
}

static void check_queued(const struct folio *folio)
{
	assert(folio->queue == QUEUE_SMALL || folio->queue == QUEUE_MAIN ||
	       folio->queue == QUEUE_LEAVING_SMALL ||
	       folio->queue == QUEUE_LEAVING_MAIN);
}

static void check_head(struct engine *engine, struct folio *folio, bool idle,
		       struct sums *sums)
{
	unsigned int nr = volume_nr(engine, key_volume(folio->key));
	const struct volume *vol = engine->volumes[nr];
	unsigned int shift = vol->block_shift;

	folio_check(folio, shift);
	assert(folio->flags & FOLIO_INDEXED);
	assert(!(folio->pins & PINS_DETACHED));
	assert(is_aligned64(folio->key, folio_pages(folio)));
	assert(key_pos(folio->key) < vol->size);
	check_queued(folio);
	if (idle)
		check_idle(folio);
	sums->pages += folio_pages(folio);
	sums->volumes[nr].dirty +=
		(uint64_t)__builtin_popcountll(folio->dirty) << shift;
	sums->volumes[nr].inflight +=
		(uint64_t)__builtin_popcountll(folio->inflight) << shift;
	sums->volumes[nr].nr_dirty += folio->dirty != 0;
	sums->volumes[nr].nr_failed += (folio->flags & FOLIO_FAILED) != 0;
}

/* A tail hangs in the index under its own key and knows its head. */
static void check_tail(const struct pool *pool, const struct folio *folio)
{
	const struct folio *head = pool_folio(pool, folio->q_seq);
	uint64_t nr = (uint64_t)(folio - head);

	assert(!(head->flags & FOLIO_TAIL));
	assert(nr > 0 && nr < folio_pages(head));
	assert(folio->key == head->key + nr);
}

static void check_index(struct engine *engine, struct shard *shard, bool idle,
			struct sums *sums)
{
	struct pool *pool = shard->pool;
	uint64_t pages = 0, before = sums->pages;

	for (uint32_t i = 0; i <= shard->mask; i++) {
		for (uint32_t frame = shard->heads[i]; frame;
		     frame = pool_folio(pool, frame)->hash_next) {
			struct folio *folio = pool_folio(pool, frame);
			uint64_t hash = key_hash(folio->key);

			pages++;
			assert(cache_shard(engine->cache, hash) == shard);
			assert(shard_slot(shard, folio->key, hash) == i);
			if (folio->flags & FOLIO_TAIL)
				check_tail(pool, folio);
			else
				check_head(engine, folio, idle, sums);
		}
	}
	/* Each head's pages are all there, and nobody else's. */
	assert(sums->pages - before == pages);
}

static uint32_t check_dirty_list(struct engine *engine, struct shard *shard,
				 const struct volume *vol)
{
	const struct dirty_list *list = &vol->dirty[shard->index];
	uint32_t nr = 0, prev = 0;

	for (uint32_t frame = list->head; frame;) {
		struct folio *folio = pool_folio(&engine->cache->pool, frame);

		assert(folio->dirty && folio->d_prev == prev);
		assert(key_volume(folio->key) == vol->id);
		nr++;
		prev = frame;
		frame = folio->d_next;
	}
	assert(list->tail == prev && list->nr == nr);
	return nr;
}

static void check_volume(struct engine *engine, unsigned int i, bool idle,
			 const struct sums *sums)
{
	struct volume *vol = engine->volumes[i];
	uint32_t nr_dirty = 0;

	for (unsigned int s = 0; s < engine->cache->nr_shards; s++)
		nr_dirty += check_dirty_list(engine, &engine->cache->shards[s],
					     vol);
	assert(nr_dirty == sums->volumes[i].nr_dirty);
	assert(vol->dirty_bytes == sums->volumes[i].dirty);
	assert(vol->inflight_bytes == sums->volumes[i].inflight);
	assert(vol->nr_failed == sums->volumes[i].nr_failed);
	assert(!idle || range_lock_quiet(&vol->range_lock));
}

/* Pages on a list of the pool, which must be well linked. */
static uint64_t check_list(const struct pool *pool,
			   const struct frame_list *list)
{
	uint64_t pages = 0;
	uint32_t prev = 0;

	for (uint32_t frame = list->head; frame;) {
		const struct folio *folio = pool_folio(pool, frame);

		assert(folio->q_prev == prev);
		assert(!(folio->flags & FOLIO_TAIL) ||
		       folio->queue == QUEUE_FREE);
		pages += folio_pages(folio);
		prev = frame;
		frame = folio->q_next;
	}
	assert(list->tail == prev && list->pages == pages);
	return pages;
}

static void check_pool(struct pool *pool, bool idle, const struct sums *sums)
{
	uint64_t nr_free = 0, queued;

	mutex_lock(&pool->lock);
	for (unsigned int i = 0; i <= FOLIO_ORDER_MAX; i++)
		nr_free += check_list(pool, &pool->free[i]);
	queued = check_list(pool, &pool->small) + check_list(pool, &pool->main) +
		 check_list(pool, &pool->leaving);
	assert(queued == sums->pages);
	/* Frame 0 and what was never used are on no list. */
	assert(nr_free + pool->cached_pages + pool->staged_pages + 1 ==
	       pool->fresh);
	if (idle) {
		assert(pool->cached_pages == sums->pages);
		assert(!pool->staged_pages);
	} else {
		assert(pool->cached_pages >= sums->pages);
	}
	mutex_unlock(&pool->lock);
}

void engine_check(struct engine *engine, bool idle)
{
	struct cache *cache = engine->cache;
	struct sums sums = { 0 };
	uint64_t dirty = 0, inflight = 0;

	/* One thread: nothing changes between the locks. */
	for (unsigned int i = 0; i < cache->nr_shards; i++) {
		mutex_lock(&cache->shards[i].lock);
		check_index(engine, &cache->shards[i], idle, &sums);
		mutex_unlock(&cache->shards[i].lock);
	}
	for (unsigned int i = 0; i < engine->nr_volumes; i++) {
		check_volume(engine, i, idle, &sums);
		dirty += sums.volumes[i].dirty;
		inflight += sums.volumes[i].inflight;
	}
	check_pool(&cache->pool, idle, &sums);
	assert(cache->throttle.dirty_bytes == dirty);
	assert(cache->throttle.inflight_bytes == inflight);
	assert(!idle || !inflight);
}
