/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cache.h - the engine as its doors and its stores see it.
 *
 * A door (the NBD server, a plugin) calls the volume_* functions.  A store
 * fills struct store_ops and embeds struct volume.  How folios are kept is
 * nobody else's business: see folio.h, shard.h and pool.h inside.
 *
 * pos and len are bytes in the volume.  The caller has checked them against
 * the volume's size; the engine asserts it.
 */
#ifndef FOLIOD_CACHE_H
#define FOLIOD_CACHE_H

#include "cache/iomap.h"
#include "cache/volume.h"

struct cache;
struct cache_stats;

struct cache_params {
	uint64_t	size;		/* bytes of cached data, a hard limit */
	uint64_t	staging_max;	/* bytes for payloads and direct I/O, on top */
	uint64_t	prefault;	/* bytes in memory ahead of their use; 0:
					 * they are touched as they are used */
	unsigned int	nr_threads;	/* loops that will use it */
	unsigned int	nr_shards;	/* power of two; 0: chosen from the size */
	unsigned int	dirty_background_pct;	/* 0: the default, 10 */
	unsigned int	dirty_hard_pct;		/* 0: the default, 20 */
};

#define CACHE_SIZE_MIN		(UINT64_C(16) << 20)
#define CACHE_SIZE_PER_THREAD	(UINT64_C(4) << 20)
#define CACHE_SIZE_DEFAULT_MAX	(UINT64_C(4) << 30)

/*
 * The size for a machine with @memory bytes where none was asked for: a
 * quarter, at most 4 GiB, but never less than @threads need.
 */
static inline uint64_t cache_default_size(uint64_t memory, unsigned int threads)
{
	uint64_t size = MIN(memory / 4, CACHE_SIZE_DEFAULT_MAX);

	size = MAX(size, CACHE_SIZE_MIN);
	return MAX(size, threads * CACHE_SIZE_PER_THREAD);
}

/*
 * Allocate the arena and the index.  The memory is reserved at once and
 * touched as it is used.  Returns 0, -EINVAL for a size below the minimum
 * (CACHE_SIZE_MIN; tests may ask for less by nr_shards = 1), or -ENOMEM.
 */
int cache_new(const struct cache_params *params, struct cache **cachep);

/* What params.prefault does, for who made the cache before a fork: a thread does
 * it.  Before anybody uses the cache. */
void cache_prefault(struct cache *cache, uint64_t ahead);

/* All volumes are closed already. */
void cache_free(struct cache *cache);

/* Counters summed over shards and volumes, at this moment. */
struct cache_stats {
	uint64_t	hits;		/* 4 KiB pages found */
	uint64_t	misses;		/* pages entered: read, or written anew */
	uint64_t	evictions;	/* pages */
	uint64_t	cached_bytes;
	uint64_t	dirty_bytes;
	uint64_t	inflight_bytes;
	uint64_t	metadata_bytes;	/* index, frame table, ghosts */
	uint64_t	size_bytes;
	uint64_t	throttled;	/* writes that waited */
	uint64_t	readahead_bytes;
};
void cache_get_stats(struct cache *cache, struct cache_stats *stats);

#endif
