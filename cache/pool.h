/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pool.h - the cache's memory: frames, their allocation, and which folio goes
 * when one is wanted.
 *
 * Frames are handed out in powers of two by a buddy allocator over one arena.
 * Eviction is S3-FIFO with a correlation window (docs/eviction.md has the
 * measurements): a small FIFO of a tenth, a main FIFO with reinsertion, and a
 * ghost table of what left the small one.  A hit writes one counter and moves
 * nothing, so hits never take the pool's lock.
 *
 * The pool knows no index: who evicts asks it for candidates, checks them
 * under their shard's lock, and gives back what could not go.
 */
#ifndef FOLIOD_CACHE_POOL_H
#define FOLIOD_CACHE_POOL_H

#include "base/base.h"
#include "cache/folio.h"

struct frame_list {
	uint32_t	head, tail;
	uint64_t	pages;
};

struct ghost_slot {
	uint32_t	tag;		/* hash of the key */
	uint32_t	time;		/* ghost clock at entry, in pages */
};

struct pool {
	/* Set by pool_init(), constant after. */
	void			*arena_map;
	char			*arena;		/* frame n at arena + n * 4 KiB */
	struct folio		*folios;	/* [nr_frames]; 0 is never used */
	uint32_t		nr_frames;
	uint32_t		cache_pages;	/* limit of cached_pages */
	uint32_t		staging_pages;	/* limit of staged_pages */
	uint32_t		small_target;	/* pages, a tenth */
	uint32_t		ghost_pages;
	uint32_t		ghost_mask;	/* buckets - 1 */
	struct prefault		*prefault;	/* NULL: frames are touched as
						 * they are used */

	struct mutex		lock __attribute__((aligned(CACHE_LINE)));
						/* RANK_POOL */
	/* Guarded by lock. */
	struct frame_list	free[FOLIO_ORDER_MAX + 1];
	uint32_t		fresh;		/* frames from here on were never
						 * used; atomic for readers */
	uint32_t		prefault_at;	/* when fresh is here, more are
						 * wanted in memory */
	struct frame_list	small, main;
	struct frame_list	leaving;	/* chosen to go, but busy */
	struct ghost_slot	(*ghost)[8];
	uint32_t		ghost_clock;
	uint64_t		evictions;	/* pages */

	/* Atomic, written under lock. */
	uint32_t		cached_pages;	/* allocated for the cache */
	uint32_t		staged_pages;	/* allocated for staging */
	uint32_t		small_clock;	/* pages that ever entered small */
	uint32_t		window;		/* pages: hits in the newest that many
						 * of small do not count */
};

/*
 * Reserve an arena for @cache_pages pages of cache and @staging_pages more,
 * huge pages asked for.  0 or -ENOMEM.
 */
int pool_init(struct pool *pool, uint64_t cache_pages, uint64_t staging_pages);
void pool_fini(struct pool *pool);

/* Bytes of frame table and ghosts. */
uint64_t pool_metadata_bytes(const struct pool *pool);

static inline struct folio *pool_folio(const struct pool *pool, uint32_t frame)
{
	return &pool->folios[frame];
}

static inline uint32_t pool_frame(const struct pool *pool,
				  const struct folio *folio)
{
	return (uint32_t)(folio - pool->folios);
}

static inline char *pool_data(const struct pool *pool, uint32_t frame)
{
	return pool->arena + (uint64_t)frame * FRAME_SIZE;
}

/* Which budget a folio is taken from. */
enum pool_use {
	POOL_CACHE,
	POOL_STAGING,
};

/*
 * Take a folio of @order, or with @smaller the largest below it that can be
 * had.  All its state is cleared, key NONE; contents undefined.  Returns its
 * first frame, or 0 when there is none within the budget of @use.
 */
uint32_t pool_alloc(struct pool *pool, enum pool_use use, unsigned int order,
		    bool smaller);

/* A staged folio becomes the cache's: its pages change budgets (the cache may
 * be over its limit until the next reclaim). */
void pool_adopt(struct pool *pool, struct folio *folio);

/* Pages that the cache may still take; less than 0 while it has to give. */
static inline int64_t pool_cache_room(const struct pool *pool)
{
	return (int64_t)pool->cache_pages -
	       __atomic_load_n(&pool->cached_pages, __ATOMIC_RELAXED);
}

/* Give a folio back.  It is in no index, on no queue, not pinned. */
void pool_free(struct pool *pool, uint32_t frame);

/* Enter a folio, indexed under its key, into the eviction queues. */
void pool_enqueue(struct pool *pool, struct folio *folio);

/* Take it out, wherever it is; nothing if on no queue. */
void pool_dequeue(struct pool *pool, struct folio *folio);

/* @new takes over @old's place in the queues and its counts (copied folio). */
void pool_replace(struct pool *pool, struct folio *old, struct folio *new);

/* A hit on @folio, which is pinned or whose shard is locked: one counter at
 * most. */
static inline void pool_hit(struct pool *pool, struct folio *folio)
{
	uint8_t freq = __atomic_load_n(&folio->freq, __ATOMIC_RELAXED);
	uint32_t age;

	if (freq >= 3)
		return;
	if (__atomic_load_n(&folio->queue, __ATOMIC_RELAXED) == QUEUE_SMALL) {
		age = __atomic_load_n(&pool->small_clock, __ATOMIC_RELAXED) -
		      __atomic_load_n(&folio->q_seq, __ATOMIC_RELAXED);
		if (age < __atomic_load_n(&pool->window, __ATOMIC_RELAXED))
			return;
	}
	__atomic_store_n(&folio->freq, freq + 1, __ATOMIC_RELAXED);
}

struct victim {
	uint32_t	frame;
	uint64_t	key;
};

/*
 * Choose up to @max folios to go, about @pages pages of them, in the policy's
 * order; they leave their queues.  For each the caller, under the shard lock
 * of its key, either removes it from the index and frees it (pool_evicted(),
 * pool_free()), or puts it back (pool_keep()).  Returns how many.
 */
unsigned int pool_victims(struct pool *pool, uint64_t pages,
			  struct victim *victims, unsigned int max);

/* It could not go (dirty, pinned, locked): it goes as soon as it is idle. */
void pool_keep(struct pool *pool, struct folio *folio);

/* It went: remember it as a ghost if it came from the small queue. */
void pool_evicted(struct pool *pool, struct folio *folio);

#endif
