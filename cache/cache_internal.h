/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cache_internal.h - struct cache, and what its own files share.
 */
#ifndef FOLIOD_CACHE_INTERNAL_H
#define FOLIOD_CACHE_INTERNAL_H

#include "cache/cache.h"
#include "cache/pool.h"
#include "cache/shard.h"
#include "cache/throttle.h"

#define VOLUMES_MAX	65535

struct cache {
	/* Set by cache_new(), constant after. */
	struct shard		*shards;
	unsigned int		nr_shards;	/* power of two */
	uint64_t		size;

	struct pool		pool;
	struct throttle		throttle;

	/* Held by the one read that waits for memory with folios pinned. */
	struct range_lock	starving;

	struct mutex		volumes_lock;	/* RANK_VOLUME */
	/* Guarded by volumes_lock; by id, 0 is never used. */
	struct volume		**volumes;
	unsigned int		volumes_max;

	/* Relaxed atomics. */
	uint64_t		readahead_bytes;
};

static inline struct shard *cache_shard(struct cache *cache, uint64_t hash)
{
	return &cache->shards[hash & (cache->nr_shards - 1)];
}

static inline struct shard *volume_shard(const struct volume *vol, uint64_t pos)
{
	return cache_shard(vol->cache, key_hash(folio_key(vol->id, pos)));
}

/*
 * Evict clean, idle folios of about @pages pages.  Never waits for I/O; no
 * shard's lock is held.  Returns the pages that went.
 */
uint64_t cache_reclaim(struct cache *cache, uint64_t pages);

/*
 * Have the cache within its limit with @pages more, as far as folios can go
 * without waiting.  No shard's lock is held.
 */
void cache_make_room(struct cache *cache, uint32_t pages);

/*
 * A folio for the cache of at most @order, evicting what it takes.  Its frame,
 * or 0 when nothing can go without waiting.  No shard's lock is held.
 */
uint32_t cache_alloc(struct cache *cache, unsigned int order);

/* The same in a coroutine, waiting for writeback where it must. */
uint32_t cache_alloc_wait(struct cache *cache, unsigned int order);

/*
 * Does [@pos, @pos + @len) lie in @vol?  Once it does, that stays true as long
 * as a range lock over it is held.
 */
static inline bool volume_holds(const struct volume *vol, uint64_t pos,
				uint64_t len)
{
	return likely(range_within(pos, len, volume_size(vol)));
}

/* Have every volume with dirty data written back. */
void cache_kick_flushers(struct cache *cache);

/*
 * Drop @vol's folios over whole blocks [@start, @end), dirty or not, waiting
 * for those locked or in flight.  In a coroutine, with the range held
 * exclusively.  Returns how many dirty bytes that were.
 */
uint64_t cache_drop_range(struct volume *vol, uint64_t start, uint64_t end);

/* volume_write() for a caller who holds the range exclusively; in modes with a
 * cache. */
int cache_write_held(struct volume *vol, uint64_t pos, uint32_t len,
		     const void *buf, unsigned int flags);

/* ---- fill.c ---- */

/* Pin the longest cached prefix of [@pos, @pos + @len), as far as @pv has
 * room; its bytes.  *@markedp is set when readahead's mark was met. */
uint32_t pin_cached(struct volume *vol, uint64_t pos, uint32_t len,
		    struct pinvec *pv, bool *markedp);

/*
 * Read what is missing at @iter's position, for up to @len bytes of its
 * mapping, and pin it as pin_cached() would (unless @pv is NULL).  Returns how
 * far it came: 0 means "look again" (somebody else was faster, or the mapping
 * is stale and marked so), or -errno; without @wait that is -ENOBUFS where it
 * would have to wait for memory.  In a coroutine.
 */
int64_t fill_run(struct iomap_iter *iter, uint64_t len, struct pinvec *pv,
		 bool wait);

/* Make all blocks that [@pos, @pos + @len) touches uptodate.  @flags is 0, or
 * IOMAP_RANGE_HELD if the caller holds the range.  0 or -errno. */
int fill_range(struct volume *vol, uint64_t pos, uint64_t len,
	       unsigned int flags);

/* ---- flush.c ---- */

void flush_group_init(struct flush_group *group);
void flush_group_fini(struct flush_group *group);

/* Flush the store, sharing the flush with who else wants one.  What was
 * written before the call is stable when it returns 0.  In a coroutine. */
int volume_sync(struct volume *vol);

/* What FLUSH does, whatever the mode: for the end of a volume. */
int volume_write_all(struct volume *vol);

/* ---- direct.c: modes none and directsync ---- */

/* Pins what it reads; -ENOBUFS if it may not @wait for memory, but must. */
int direct_read(struct volume *vol, uint64_t pos, uint32_t len,
		struct pinvec *pv, bool wait);
int direct_write(struct volume *vol, uint64_t pos, uint32_t len,
		 const struct iovec *iov, unsigned int flags);

static inline bool volume_is_direct(const struct volume *vol)
{
	return vol->mode == VOLUME_NONE || vol->mode == VOLUME_DIRECTSYNC;
}

/* ---- readahead.c ---- */

/* A read of [@pos, @pos + @len) missed the cache, or met the mark.  Never
 * waits; starts coroutines.  @ra may be NULL. */
void readahead_miss(struct volume *vol, struct readahead *ra, uint64_t pos,
		    uint32_t len);
void readahead_marked(struct volume *vol, struct readahead *ra, uint64_t pos,
		      uint32_t len);

/* The calling thread's slot of a volume's counts; given out as threads come. */
extern __thread unsigned int stats_slot;	/* 1-based, 0: none yet */
unsigned int stats_slot_new(void);

/* Count @n more of @field of @vol's statistics. */
#define volume_count(vol, field, n) \
	stat_add(&volume_slot(vol)->field, n)

static inline struct volume_stats *volume_slot(struct volume *vol)
{
	unsigned int slot = stats_slot;

	if (unlikely(!slot))
		slot = stats_slot_new();
	return &vol->stats[slot % VOLUME_STATS_SLOTS];
}

static inline void stat_add(uint64_t *counter, uint64_t n)
{
	__atomic_add_fetch(counter, n, __ATOMIC_RELAXED);
}

#endif
