/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cache.c - the cache as a whole: its size, its shards, its memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache_internal.h"
#include "cache/prefault.h"
#include "cache/writeback.h"

#define SHARDS_MAX		64u
#define SHARD_PAGES_MIN		4096u	/* 16 MiB: below it, one shard less */
#define RECLAIM_BATCH		32u

static unsigned int choose_shards(const struct cache_params *params)
{
	uint64_t pages = params->size / FRAME_SIZE;
	unsigned int nr = 1;

	if (params->nr_shards)
		return params->nr_shards;
	while (nr < SHARDS_MAX && nr < params->nr_threads * 8 &&
	       pages / (nr * 2) >= SHARD_PAGES_MIN)
		nr *= 2;
	return nr;
}

static int init_shards(struct cache *cache, uint64_t pages)
{
	uint32_t nr_heads = 64;
	unsigned int i;
	int ret;

	while (nr_heads < pages / cache->nr_shards)
		nr_heads *= 2;
	cache->shards = aligned_alloc(CACHE_LINE, cache->nr_shards *
				      sizeof(*cache->shards));
	if (!cache->shards)
		return -ENOMEM;
	for (i = 0; i < cache->nr_shards; i++) {
		ret = shard_init(&cache->shards[i], &cache->pool, i, nr_heads);
		if (ret)
			goto out_fini;
	}
	return 0;

out_fini:
	while (i-- > 0)
		shard_fini(&cache->shards[i]);
	free(cache->shards);
	return ret;
}

int cache_new(const struct cache_params *params, struct cache **cachep)
{
	uint64_t pages = params->size / FRAME_SIZE;
	unsigned int background = params->dirty_background_pct;
	unsigned int hard = params->dirty_hard_pct;
	struct cache *cache;
	int ret;

	if (!is_power_of_2(choose_shards(params)) || pages < 64 ||
	    (params->size < CACHE_SIZE_MIN && params->nr_shards != 1))
		return -EINVAL;
	cache = aligned_alloc(CACHE_LINE, sizeof(*cache));
	if (!cache)
		return -ENOMEM;
	memset(cache, 0, sizeof(*cache));
	cache->size = params->size;
	cache->nr_shards = choose_shards(params);
	ret = pool_init(&cache->pool, pages, params->staging_max / FRAME_SIZE);
	if (ret)
		goto out_free;
	ret = init_shards(cache, pages);
	if (ret)
		goto out_pool;
	throttle_init(&cache->throttle,
		      params->size / 100 * (background ? background : 10),
		      params->size / 100 * (hard ? hard : 20));
	range_lock_init(&cache->starving);
	mutex_init(&cache->volumes_lock, RANK_VOLUME);
	if (params->prefault)
		cache_prefault(cache, params->prefault);
	*cachep = cache;
	return 0;

out_pool:
	pool_fini(&cache->pool);
out_free:
	free(cache);
	return ret;
}

void cache_prefault(struct cache *cache, uint64_t ahead)
{
	prefault_start(&cache->pool, ahead);
}

void cache_free(struct cache *cache)
{
	for (unsigned int i = 0; i < cache->nr_shards; i++)
		shard_fini(&cache->shards[i]);
	free(cache->shards);
	throttle_fini(&cache->throttle);
	range_lock_fini(&cache->starving);
	mutex_fini(&cache->volumes_lock);
	pool_fini(&cache->pool);
	free(cache->volumes);
	free(cache);
}

void cache_get_stats(struct cache *cache, struct cache_stats *stats)
{
	memset(stats, 0, sizeof(*stats));
	for (unsigned int i = 0; i < cache->nr_shards; i++) {
		struct shard *shard = &cache->shards[i];

		stats->metadata_bytes += sizeof(*shard) +
			(shard->mask + 1ul) * sizeof(*shard->heads);
	}
	mutex_lock(&cache->volumes_lock);
	for (unsigned int i = 1; i < cache->volumes_max; i++) {
		struct volume_stats counts;

		if (!cache->volumes[i])
			continue;
		volume_get_stats(cache->volumes[i], &counts);
		stats->hits += counts.hits;
		stats->misses += counts.misses;
	}
	mutex_unlock(&cache->volumes_lock);
	mutex_lock(&cache->pool.lock);
	stats->evictions = cache->pool.evictions;
	stats->cached_bytes = (uint64_t)cache->pool.cached_pages * FRAME_SIZE;
	mutex_unlock(&cache->pool.lock);
	stats->metadata_bytes += pool_metadata_bytes(&cache->pool);
	stats->size_bytes = cache->size;
	stats->dirty_bytes = __atomic_load_n(&cache->throttle.dirty_bytes,
					     __ATOMIC_RELAXED);
	stats->inflight_bytes = __atomic_load_n(&cache->throttle.inflight_bytes,
						__ATOMIC_RELAXED);
	stats->throttled = __atomic_load_n(&cache->throttle.throttled,
					   __ATOMIC_RELAXED);
	stats->readahead_bytes = __atomic_load_n(&cache->readahead_bytes,
						 __ATOMIC_RELAXED);
}

/* ---- memory ---- */

/* Evict the folio that the pool chose, if it is still what it was. */
static uint32_t evict_one(struct cache *cache, const struct victim *victim)
{
	uint64_t hash = key_hash(victim->key);
	struct shard *shard = cache_shard(cache, hash);
	struct folio *folio;
	uint32_t pages = 0;

	mutex_lock(&shard->lock);
	folio = shard_lookup_locked(shard, victim->key, hash);
	if (!folio || pool_frame(&cache->pool, folio) != victim->frame)
		goto out;	/* dropped meanwhile by somebody else */
	if (folio->dirty || folio->inflight || (folio->flags & FOLIO_LOCKED) ||
	    __atomic_load_n(&folio->pins, __ATOMIC_ACQUIRE)) {
		pool_keep(&cache->pool, folio);
		goto out;
	}
	pages = folio_pages(folio);
	pool_evicted(&cache->pool, folio);
	shard_remove_locked(shard, folio);
out:
	mutex_unlock(&shard->lock);
	return pages;
}

uint64_t cache_reclaim(struct cache *cache, uint64_t pages)
{
	struct victim victims[RECLAIM_BATCH];
	uint64_t got = 0;

	while (got < pages) {
		uint64_t before = got;
		unsigned int nr = pool_victims(&cache->pool, pages - got,
					       victims, RECLAIM_BATCH);

		for (unsigned int i = 0; i < nr; i++)
			got += evict_one(cache, &victims[i]);
		if (!nr)
			break;
		/* All busy: what was chosen waits its turn on "leaving". */
		if (got == before && nr < RECLAIM_BATCH)
			break;
	}
	return got;
}

/* Small caches evict one by one, as the policy means it; large ones some more
 * than they must, which spares locking. */
static uint64_t spare_batch(const struct cache *cache)
{
	return MIN(cache->pool.cache_pages / 1024, RECLAIM_BATCH - 1);
}

void cache_make_room(struct cache *cache, uint32_t pages)
{
	int64_t missing = pages - pool_cache_room(&cache->pool);

	if (unlikely(missing > 0))
		cache_reclaim(cache, (uint64_t)missing);
}

uint32_t cache_alloc(struct cache *cache, unsigned int order)
{
	int64_t missing = (1 << order) - pool_cache_room(&cache->pool);
	uint32_t frame;

	if (missing > 0)
		cache_reclaim(cache, (uint64_t)missing + spare_batch(cache));
	frame = pool_alloc(&cache->pool, POOL_CACHE, order, true);
	if (!frame && cache_reclaim(cache, 1 + spare_batch(cache)))
		frame = pool_alloc(&cache->pool, POOL_CACHE, order, true);
	return frame;
}

void cache_kick_flushers(struct cache *cache)
{
	mutex_lock(&cache->volumes_lock);
	for (unsigned int i = 1; i < cache->volumes_max; i++) {
		struct volume *vol = cache->volumes[i];

		if (vol && !vol->stopping &&
		    __atomic_load_n(&vol->dirty_bytes, __ATOMIC_RELAXED))
			flusher_kick(vol);
	}
	mutex_unlock(&cache->volumes_lock);
}

/*
 * Rare: everything is dirty, in flight or pinned.  Polling with a growing
 * pause is simpler than a wake-up from each of the three, and as fair.
 */
uint32_t cache_alloc_wait(struct cache *cache, unsigned int order)
{
	uint64_t pause_ns = 100 * NSEC_PER_USEC;
	uint32_t frame;

	while (!(frame = cache_alloc(cache, order))) {
		cache_kick_flushers(cache);
		coroutine_sleep_ns(pause_ns);
		pause_ns = MIN(pause_ns * 2, 5 * NSEC_PER_MSEC);
	}
	return frame;
}
