/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * folio.h - a cached, aligned range of a volume, and its state.
 *
 * The arena is cut into frames of 4 KiB, and each frame has one struct folio
 * of one cache line.  A folio covers 2^order frames: its first frame's struct
 * (the head) holds the state, the others (tails) only say where they hang in
 * the index and which frame is their head.
 *
 *            fill (LOCKED)                write
 *   absent --------------> uptodate ----------------> uptodate | dirty
 *      ^                     |   ^                       |  ^
 *      |  evict, unpinned    |   |  write done           |  | write failed
 *      +---------------------+   +------- inflight <-----+  |
 *                                            |              |
 *                                            +--------------+
 *
 * The three bitmaps have one bit a block (512 B to 4 KiB, the volume's
 * choice), at most 64 of them a folio.  For each block:
 *   I1  dirty implies uptodate; inflight implies uptodate
 *   I2  a block is dirty or inflight or neither; it becomes dirty again while
 *       in flight only by a failed write
 *   I3  a folio is on its shard's dirty list iff any bit of dirty is set
 *   I4  nobody writes to a block's bytes while it is inflight, or while the
 *       folio is pinned
 *   I5  an indexed folio is evicted only when clean, not inflight, not LOCKED
 *       and not pinned
 */
#ifndef FOLIOD_CACHE_FOLIO_H
#define FOLIOD_CACHE_FOLIO_H

#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"

#define PAGE_SHIFT_4K	12
#define FRAME_SIZE	4096u
#define FOLIO_ORDER_MAX	6u		/* 256 KiB */

/*
 * A key names a page of a volume: id in the upper 16 bits, page (4 KiB) number
 * in the lower 48.
 */
#define KEY_PAGE_BITS	48
#define KEY_NONE	UINT64_MAX

/* Guarded by the shard's lock. */
#define FOLIO_LOCKED	(1u << 0)	/* somebody fills it or copies into it */
#define FOLIO_INDEXED	(1u << 1)	/* found by its key */
#define FOLIO_WAITERS	(1u << 2)	/* somebody sleeps until its state changes */
#define FOLIO_FAILED	(1u << 3)	/* its last write failed; dirty */
#define FOLIO_AHEAD	(1u << 4)	/* readahead's mark: a hit reads on */
#define FOLIO_TAIL	(1u << 5)	/* not a head: q_seq is the head's frame */

/* In pins, beside the count. */
#define PINS_DETACHED	(1u << 31)	/* no index knows it: the last unpin frees */

enum folio_queue {
	QUEUE_NONE,		/* allocated for the cache, on no queue (yet) */
	QUEUE_FREE,		/* the head of a free run of 2^order frames */
	QUEUE_STAGED,		/* allocated for staging, counted there */
	QUEUE_SMALL,
	QUEUE_MAIN,
	QUEUE_OUT_SMALL,	/* chosen to go, out of its queue */
	QUEUE_OUT_MAIN,
	QUEUE_LEAVING_SMALL,	/* chosen, but busy: goes as soon as it is idle */
	QUEUE_LEAVING_MAIN,
};

struct folio {
	/* Guarded by the shard's lock; dirty, inflight and flags are stored
	 * atomically, since the pool peeks at them without it. */
	uint64_t	uptodate;
	uint64_t	dirty;
	uint64_t	inflight;
	uint64_t	key;
	uint32_t	hash_next;	/* frame, 0: end of chain */
	uint32_t	d_next, d_prev;	/* dirty list, frames */

	/* Guarded by the pool's lock. */
	uint32_t	q_next, q_prev;	/* eviction queue, or free list */
	uint32_t	q_seq;		/* small queue's clock at entry; atomic.
					 * Of a TAIL: its head's frame */

	uint32_t	pins;		/* atomic */

	uint8_t		order;		/* constant while allocated */
	uint8_t		flags;		/* FOLIO_*; shard's lock */
	uint8_t		freq;		/* hits that count, 0..3; atomic */
	uint8_t		queue;		/* enum folio_queue; pool's lock */
};

static_assert(sizeof(struct folio) == 64, "a folio is one cache line");

/* With the shard's lock held. */
static inline void folio_set_flags(struct folio *folio, uint8_t flags)
{
	__atomic_store_n(&folio->flags, folio->flags | flags, __ATOMIC_RELAXED);
}

static inline void folio_clear_flags(struct folio *folio, uint8_t flags)
{
	__atomic_store_n(&folio->flags, folio->flags & (uint8_t)~flags,
			 __ATOMIC_RELAXED);
}

static inline uint64_t folio_key(uint16_t volume_id, uint64_t pos)
{
	return ((uint64_t)volume_id << KEY_PAGE_BITS) | (pos >> PAGE_SHIFT_4K);
}

/* Byte position of the folio's (or page's) start in its volume. */
static inline uint64_t key_pos(uint64_t key)
{
	return (key & ((UINT64_C(1) << KEY_PAGE_BITS) - 1)) << PAGE_SHIFT_4K;
}

static inline uint16_t key_volume(uint64_t key)
{
	return (uint16_t)(key >> KEY_PAGE_BITS);
}

static inline uint32_t folio_size(const struct folio *folio)
{
	return FRAME_SIZE << folio->order;
}

static inline uint32_t folio_pages(const struct folio *folio)
{
	return 1u << folio->order;
}

/* Bits first..last (both included) set. */
static inline uint64_t block_mask(unsigned int first, unsigned int last)
{
	return (UINT64_MAX >> (63 - (last - first))) << first;
}

/* All blocks touched by [@off, @off + @len) of a folio; @len is not 0. */
static inline uint64_t folio_blocks(uint32_t off, uint32_t len,
				    unsigned int block_shift)
{
	return block_mask(off >> block_shift, (off + len - 1) >> block_shift);
}

/* All blocks of a folio of @order. */
static inline uint64_t folio_all_blocks(unsigned int order,
					unsigned int block_shift)
{
	return block_mask(0, (FRAME_SIZE << order >> block_shift) - 1);
}

/*
 * The first run of set bits in @bits: its first block and its length in
 * blocks; false if there is none.
 */
static inline bool block_run(uint64_t bits, unsigned int *first,
			     unsigned int *nr)
{
	uint64_t rest;

	if (!bits)
		return false;
	*first = __builtin_ctzll(bits);
	rest = bits >> *first;
	*nr = ~rest ? __builtin_ctzll(~rest) : 64;
	return true;
}

/* Largest order whose folios have at most 64 blocks of 2^@block_shift. */
static inline unsigned int folio_order_max(unsigned int block_shift)
{
	return MIN(FOLIO_ORDER_MAX,
		   block_shift + 6 - PAGE_SHIFT_4K);
}

/* The invariants I1, I2, I3 (flags part); with the shard's lock held. */
void folio_check(const struct folio *folio, unsigned int block_shift);

/* One line for logs and status, into @buf. */
const char *folio_to_text(const struct folio *folio, char *buf, unsigned int len);

#endif
