/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shard.h - one slice of the index from keys to folios, with a lock of its own.
 *
 * All pages of an aligned 256 KiB of a volume lie in one shard, so a folio
 * never spans two and a sequential request locks few.  Every page of a folio
 * is indexed, each by its own frame's struct, so a look-up probes once
 * whatever the sizes.  The lock is held for a copy of at most SHARD_COPY_MAX
 * and never across I/O.
 */
#ifndef FOLIOD_CACHE_SHARD_H
#define FOLIOD_CACHE_SHARD_H

#include "base/base.h"
#include "cache/folio.h"
#include "cache/pool.h"

#define SHARD_UNIT_SHIFT	18	/* 256 KiB */
#define SHARD_UNIT		(UINT64_C(1) << SHARD_UNIT_SHIFT)
#define SHARD_COPY_MAX		16384u
#define SHARD_WAITQS		16u

struct volume;

struct shard {
	struct mutex	lock;		/* RANK_SHARD */
	/* Set by shard_init(), constant after. */
	struct pool	*pool;
	unsigned int	index;		/* in the cache's array */
	uint32_t	mask;		/* heads - 1 */
	uint32_t	*heads;		/* frames, 0: empty chain */
	/* Guarded by lock. */
	struct waitq	waitqs[SHARD_WAITQS];	/* by key of the folio's head */
} __attribute__((aligned(CACHE_LINE)));

int shard_init(struct shard *shard, struct pool *pool, unsigned int index,
	       uint32_t nr_heads);
void shard_fini(struct shard *shard);

/* Where a key hashes to; one value serves to pick the shard and the chain. */
static inline uint64_t key_hash(uint64_t key)
{
	return hash64(key >> (SHARD_UNIT_SHIFT - PAGE_SHIFT_4K));
}

static inline uint32_t shard_slot(const struct shard *shard, uint64_t key,
				  uint64_t hash)
{
	return (uint32_t)((hash >> 16) + (key & 63)) & shard->mask;
}

/* The head of the folio that holds the page @key, or NULL. */
static inline struct folio *shard_lookup_locked(struct shard *shard,
						uint64_t key, uint64_t hash)
	REQUIRES(&shard->lock)
{
	struct pool *pool = shard->pool;
	uint32_t frame = shard->heads[shard_slot(shard, key, hash)];

	while (frame) {
		struct folio *folio = pool_folio(pool, frame);

		if (folio->key == key)
			return folio->flags & FOLIO_TAIL ?
				pool_folio(pool, folio->q_seq) : folio;
		frame = folio->hash_next;
	}
	return NULL;
}

/*
 * Enter @folio (of any order) under @key, which is aligned to its size; none
 * of its pages is in the index.  Sets FOLIO_INDEXED; the eviction queue is the
 * caller's.
 */
void shard_insert_locked(struct shard *shard, struct folio *folio,
			 uint64_t key) REQUIRES(&shard->lock);

/*
 * Take @folio out of the index and off the eviction queue.  It is not dirty
 * and has nothing in flight.  If nobody has it pinned it is freed, else the
 * last unpin frees it.  Waiters are woken.
 */
void shard_remove_locked(struct shard *shard, struct folio *folio)
	REQUIRES(&shard->lock);

/* Put @new (same order) in @old's place, dirty state and queue place with it;
 * @old, which is pinned, is detached. */
void shard_replace_locked(struct shard *shard, struct volume *vol,
			  struct folio *old, struct folio *new)
	REQUIRES(&shard->lock);

/*
 * Mark @blocks of @folio dirty (they are uptodate), putting it on @vol's dirty
 * list if it was clean and counting the bytes.
 */
void shard_dirty_locked(struct shard *shard, struct volume *vol,
			struct folio *folio, uint64_t blocks)
	REQUIRES(&shard->lock);

/* Undo dirty for @blocks (written, or discarded), with the list and counts. */
void shard_clean_locked(struct shard *shard, struct volume *vol,
			struct folio *folio, uint64_t blocks)
	REQUIRES(&shard->lock);

/*
 * A write of @folio failed and its blocks are dirty again: FLUSH fails
 * (vol->nr_failed) until all of it has been written, which is what unfail
 * says, or discarded.  Taking the blocks into flight once more changes nothing.
 */
void shard_fail_locked(struct shard *shard, struct volume *vol,
		       struct folio *folio) REQUIRES(&shard->lock);
void shard_unfail_locked(struct shard *shard, struct volume *vol,
			 struct folio *folio) REQUIRES(&shard->lock);

/* Remove @folio with whatever is dirty in it; nothing is in flight. */
void shard_discard_locked(struct shard *shard, struct volume *vol,
			  struct folio *folio) REQUIRES(&shard->lock);

/* Start and end of writing @blocks; inflight_bytes is counted with them. */
void shard_start_io_locked(struct shard *shard, struct volume *vol,
			   struct folio *folio, uint64_t blocks)
	REQUIRES(&shard->lock);
void shard_end_io_locked(struct shard *shard, struct volume *vol,
			 struct folio *folio, uint64_t blocks)
	REQUIRES(&shard->lock);

/*
 * Sleep, in a coroutine, until the state of @folio changed (or anything else
 * did: look again).  Drops the lock while asleep; @folio may be gone after.
 */
void shard_wait_locked(struct shard *shard, struct folio *folio)
	REQUIRES(&shard->lock);

/* @folio's state changed: wake who waits for it. */
void shard_wake_locked(struct shard *shard, struct folio *folio)
	REQUIRES(&shard->lock);

#endif
