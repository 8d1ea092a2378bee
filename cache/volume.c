/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * volume.c - a volume's life in the cache, and its byte counts.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache_internal.h"
#include "cache/writeback.h"

/* ---- the cache's table of volumes, by id ---- */

static int grow_table_locked(struct cache *cache)
	REQUIRES(&cache->volumes_lock)
{
	unsigned int max = cache->volumes_max ? cache->volumes_max * 2 : 16;
	struct volume **table;

	max = MIN(max, VOLUMES_MAX + 1u);
	if (max == cache->volumes_max)
		return -ENFILE;
	table = realloc(cache->volumes, max * sizeof(*table));
	if (!table)
		return -ENOMEM;
	memset(table + cache->volumes_max, 0,
	       (max - cache->volumes_max) * sizeof(*table));
	cache->volumes = table;
	cache->volumes_max = max;
	return 0;
}

static int enter_volume(struct cache *cache, struct volume *vol)
{
	unsigned int id = 1;
	int ret = 0;

	mutex_lock(&cache->volumes_lock);
	while (id < cache->volumes_max && cache->volumes[id])
		id++;
	if (id >= cache->volumes_max)
		ret = grow_table_locked(cache);
	if (!ret) {
		vol->id = (uint16_t)id;
		cache->volumes[id] = vol;
	}
	mutex_unlock(&cache->volumes_lock);
	return ret;
}

/* From here on nobody who wants memory looks at @vol's flusher. */
static void hide_volume(struct volume *vol)
{
	struct cache *cache = vol->cache;

	mutex_lock(&cache->volumes_lock);
	vol->stopping = true;
	mutex_unlock(&cache->volumes_lock);
}

static void leave_volume(struct volume *vol)
{
	struct cache *cache = vol->cache;

	mutex_lock(&cache->volumes_lock);
	cache->volumes[vol->id] = NULL;
	mutex_unlock(&cache->volumes_lock);
}

/* ---- life ---- */

static int init_volume(struct volume *vol, struct cache *cache)
{
	size_t size = VOLUME_STATS_SLOTS * sizeof(*vol->stats);

	vol->dirty = calloc(cache->nr_shards, sizeof(*vol->dirty));
	if (!vol->dirty)
		return -ENOMEM;
	/* Whoever embeds the volume need not align it to lines. */
	vol->stats = aligned_alloc(CACHE_LINE, size);
	if (!vol->stats) {
		free(vol->dirty);
		return -ENOMEM;
	}
	memset(vol->stats, 0, size);
	flush_group_init(&vol->flush_group);
	flush_group_init(&vol->sync_group);
	range_lock_init(&vol->range_lock);
	range_lock_init(&vol->room_queue);
	return 0;
}

static void fini_volume(struct volume *vol)
{
	range_lock_fini(&vol->room_queue);
	range_lock_fini(&vol->range_lock);
	flush_group_fini(&vol->sync_group);
	flush_group_fini(&vol->flush_group);
	free(vol->stats);
	free(vol->dirty);
}

int volume_start(struct volume *vol, struct cache *cache, struct loop *home)
{
	int ret;

	assert(vol->block_shift >= 9 && vol->block_shift <= PAGE_SHIFT_4K);
	assert(vol->max_io >= FRAME_SIZE << FOLIO_ORDER_MAX);
	if (vol->size > VOLUME_SIZE_MAX)
		return -EFBIG;
	ret = init_volume(vol, cache);
	if (ret)
		return ret;
	vol->cache = cache;
	vol->home = home;
	ret = enter_volume(cache, vol);
	if (ret)
		goto out_fini;
	ret = flusher_start(vol);
	if (ret)
		goto out_leave;
	return 0;

out_leave:
	leave_volume(vol);
out_fini:
	fini_volume(vol);
	return ret;
}

int volume_stop(struct volume *vol)
{
	int ret = 0;

	if (!vol->read_only)
		ret = volume_write_all(vol);
	while (__atomic_load_n(&vol->nr_background, __ATOMIC_ACQUIRE))
		coroutine_sleep_ns(NSEC_PER_MSEC);
	hide_volume(vol);
	flusher_stop(vol);
	cache_drop_range(vol, 0, volume_size(vol));
	leave_volume(vol);
	fini_volume(vol);
	vol->store_ops->release(vol);
	return ret;
}

/* ---- counting ---- */

__thread unsigned int stats_slot;

unsigned int stats_slot_new(void)
{
	static unsigned int nr_threads;

	stats_slot = __atomic_add_fetch(&nr_threads, 1, __ATOMIC_RELAXED);
	return stats_slot;
}

void volume_get_stats(const struct volume *vol, struct volume_stats *stats)
{
	uint64_t *sums = (uint64_t *)stats;

	memset(stats, 0, sizeof(*stats));
	for (unsigned int slot = 0; slot < VOLUME_STATS_SLOTS; slot++) {
		const uint64_t *counts = (const uint64_t *)&vol->stats[slot];

		for (size_t i = 0; i < sizeof(*stats) / sizeof(*sums); i++)
			sums[i] += __atomic_load_n(&counts[i],
						   __ATOMIC_RELAXED);
	}
}

static uint64_t add_signed(uint64_t *counter, int64_t bytes)
{
	/* Ordered before a look at who waits (throttle_wake()). */
	return __atomic_add_fetch(counter, (uint64_t)bytes, __ATOMIC_SEQ_CST);
}

void volume_account_dirty(struct volume *vol, int64_t bytes)
{
	struct throttle *throttle = &vol->cache->throttle;
	uint64_t dirty = add_signed(&throttle->dirty_bytes, bytes);
	uint64_t old = add_signed(&vol->dirty_bytes, bytes) - (uint64_t)bytes;

	if (bytes < 0)
		throttle_wake(throttle);
	else if (old == 0)
		flusher_tick_on(vol);
	if (bytes > 0 && dirty > throttle->background &&
		 dirty - (uint64_t)bytes <= throttle->background)
		flusher_kick(vol);
}

void volume_account_inflight(struct volume *vol, int64_t bytes)
{
	struct throttle *throttle = &vol->cache->throttle;

	add_signed(&throttle->inflight_bytes, bytes);
	add_signed(&vol->inflight_bytes, bytes);
	if (bytes < 0)
		throttle_wake(throttle);
}
