/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * volume.h - a volume: what the engine sees of an export, and the few calls
 * through which every door reads and writes it.
 *
 * The *_inline calls never wait: they answer 0 or -EAGAIN.  A write that got
 * -EAGAIN may have written a part already, as any write in flight may: it goes
 * on with the waiting form of the same call.  The waiting forms run in a
 * coroutine.
 *
 * A thread that runs no loop may call the *_inline forms of writes and FLUSH,
 * volume_read_foreign() and volume_unpin().
 */
#ifndef FOLIOD_CACHE_VOLUME_H
#define FOLIOD_CACHE_VOLUME_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/base.h"
#include "cache/errseq.h"
#include "cache/iomap.h"
#include "cache/range.h"

struct cache;
struct flusher;
struct folio;
struct ioend;
struct writeback_ops;

/* How writes become stable; the meaning is that of DESIGN's Contracts. */
enum volume_mode {
	VOLUME_WRITEBACK,	/* acked in memory */
	VOLUME_WRITETHROUGH,	/* every write is FUA */
	VOLUME_WRITEOUT,	/* acked when the device has it; stable at FLUSH */
	VOLUME_NONE,		/* no cache, direct */
	VOLUME_DIRECTSYNC,	/* no cache, every write is FUA */
	VOLUME_UNSAFE,		/* FLUSH and FUA do nothing */
};

/* What users call them. */
#define VOLUME_MODE_NAMES { \
	[VOLUME_WRITEBACK]	= "writeback", \
	[VOLUME_WRITETHROUGH]	= "writethrough", \
	[VOLUME_WRITEOUT]	= "writeout", \
	[VOLUME_NONE]		= "none", \
	[VOLUME_DIRECTSYNC]	= "directsync", \
	[VOLUME_UNSAFE]		= "unsafe", \
}

/* Flags of requests. */
#define VOLUME_FUA		(1u << 0)
#define VOLUME_NO_HOLE		(1u << 1)	/* zero: keep the space */
#define VOLUME_FAST_ZERO	(1u << 2)	/* zero: -EOPNOTSUPP if slow */

/* The rest of a store, beside its mappings.  All run in a coroutine. */
struct store_ops {
	/* Unmap whole blocks [@pos, @pos + @len): they read zero (trim).  The
	 * cache holds the range exclusively and has dropped its folios.  A store
	 * that cannot unmap returns -EOPNOTSUPP.  Required. */
	int (*unmap)(struct volume *vol, uint64_t pos, uint64_t len,
		     unsigned int flags);
	/* Make whole blocks read zero without writing data, as ZERO of bdev.h;
	 * @flags: VOLUME_NO_HOLE, VOLUME_FAST_ZERO, VOLUME_FUA is not passed.
	 * -EOPNOTSUPP: the cache writes zeroes itself.  Required. */
	int (*zero)(struct volume *vol, uint64_t pos, uint64_t len,
		    unsigned int flags);
	/* Make all completed writes and mapping changes stable.  Required. */
	int (*flush)(struct volume *vol);
	/* Is a whole-block FUA write to a MAPPED range stable by BDEV_FUA alone?
	 * NULL: yes. */
	bool (*fua_by_write)(struct volume *vol);
	/*
	 * For a volume that may be resized: the size that it should have by
	 * now, or -errno; cheap, from any thread, waits for nothing.  NULL: it
	 * never changes.
	 */
	int64_t (*present_size)(struct volume *vol);
	/*
	 * It has @size from now on; vol->size still is the old one.  The range
	 * from the page that the smaller one ends in is held exclusively, and
	 * nothing is in flight there.  Does not wait.  NULL with present_size.
	 */
	void (*set_size)(struct volume *vol, uint64_t size);
	/* Last call; frees the structure that embeds the volume.  Required. */
	void (*release)(struct volume *vol);
};

/*
 * Counts since the volume's start.  Each thread counts in a slot of its own
 * (as far as there are slots), so that hits on several loops do not fight for
 * a line of the CPU's cache.
 */
struct volume_stats {
	uint64_t	reads, writes, flushes, trims, zeroes;
	uint64_t	hits, misses;	/* pages found; pages entered */
	uint64_t	read_bytes, write_bytes;
	uint64_t	rmw_reads;	/* blocks read because partly written */
	uint64_t	stale_maps;
	uint64_t	ioends, ioend_bytes;
	uint64_t	wb_errors;
	uint64_t	fua_writes;
} __attribute__((aligned(CACHE_LINE)));

#define VOLUME_STATS_SLOTS	16u

/* A page's number has 48 bits in the keys of folios (folio.h). */
#define VOLUME_SIZE_MAX		(UINT64_C(1) << 60)

/* Passes that many requests share, see flush.c. */
struct flush_group {
	struct mutex	lock;			/* RANK_VOLUME */
	/* Guarded by lock. */
	struct waitq	waiters;
	uint64_t	begun, done;		/* passes */
	bool		running;
	int		result;			/* of the last one done */
};

/* Per shard: folios of this volume with dirty blocks, by time of dirtying. */
struct dirty_list {
	uint32_t	head, tail;	/* frame numbers, 0: empty */
	uint32_t	nr;
};

struct volume {
	/* Set by the store before volume_start(), constant after. */
	const char			*name;		/* for messages; store's */
	const struct iomap_ops		*iomap_ops;
	const struct writeback_ops	*wb_ops;
	const struct store_ops		*store_ops;
	uint64_t			size;		/* bytes, exact; atomic,
							 * see volume_resize() */
	unsigned int			block_shift;	/* 9..12: unit of the state bits */
	enum volume_mode		mode;
	bool				read_only;
	bool				rotational;	/* seeks are costly, for clients */
	bool				can_unmap;	/* trim does something */
	bool				can_fast_zero;
	uint64_t			max_io;		/* bytes of one device request */

	/* Set by volume_start(). */
	struct cache			*cache;
	uint16_t			id;		/* in folio keys */
	struct loop			*home;		/* runs the flusher */
	struct flusher			*flusher;	/* writeback.c's */
	struct volume_stats		*stats;		/* [VOLUME_STATS_SLOTS] */
	/* [nr_shards], each guarded by its shard's lock. */
	struct dirty_list		*dirty;

	/* Bumped on every mapping change by the store; atomic. */
	uint64_t			map_seq;

	bool				stopping;	/* guarded by the cache's
							 * volumes_lock */

	struct flush_group		flush_group;	/* FLUSH: data, then store */
	struct flush_group		sync_group;	/* the store alone */

	struct range_lock		range_lock;
	/* Who waits for room in the throttle, one behind the other. */
	struct range_lock		room_queue;

	/* Atomic; far from what a hit looks at. */
	uint64_t			dirty_bytes;
	uint64_t			inflight_bytes;
	uint32_t			nr_background;	/* prefetches under way */
	uint32_t			nr_failed;	/* folios whose write failed,
							 * still dirty */
	uint64_t			failures;	/* writes that failed, so far */
	errseq_t			wb_err;		/* see errseq.h */
};

static inline uint64_t volume_size(const struct volume *vol)
{
	return __atomic_load_n(&vol->size, __ATOMIC_ACQUIRE);
}

/* The sums over all slots, each field exact by itself. */
void volume_get_stats(const struct volume *vol, struct volume_stats *stats);

/* ---- for the cache's own files ---- */

/* Count dirty or in-flight bytes, of the volume and of the cache; wakes the
 * throttled when they fall.  With a shard's lock held. */
void volume_account_dirty(struct volume *vol, int64_t bytes);
void volume_account_inflight(struct volume *vol, int64_t bytes);

/* ---- life ---- */

/*
 * Enter @vol, filled in by its store, into @cache and start its flusher on
 * @home (a loop that runs or will run; virtual is fine).  0, -ENOMEM, -ENFILE
 * (over 65,535 volumes), -EFBIG (over VOLUME_SIZE_MAX).
 */
int volume_start(struct volume *vol, struct cache *cache, struct loop *home);

/*
 * Flush, stop the flusher, drop all folios, release the store.  In a
 * coroutine; no request is running.  Returns the flush's error: the volume is
 * gone all the same.
 */
int volume_stop(struct volume *vol);

/* ---- resizing ---- */

/*
 * The size that @vol should have by now, as the outside sees it, or -errno.
 * Waits for nothing: who finds it different calls volume_resize().
 */
int64_t volume_present_size(struct volume *vol);

/*
 * Have @vol be of @size, which volume_present_size() answered; in a coroutine,
 * while any requests run.  Those that reach beyond the end by the time they
 * come to it are refused, in all calls below: -EINVAL (reads, trim, extents) or
 * -ENOSPC (writes, zero).  Dirty data beyond it has nowhere to go and is
 * discarded, *@lostp bytes of it.  Bytes that are new are those of the device.
 *
 * 1 if it had another size before, 0 if not, or -errno with the size as it was:
 * -EFBIG, -EOPNOTSUPP, -EAGAIN (the outside has changed its mind), or what kept
 * the block that was the last one from being written.
 */
int volume_resize(struct volume *vol, uint64_t size, uint64_t *lostp);

/* ---- reading ---- */

/* One piece of an answer. */
struct pin {
	void		*base;		/* bytes to send; never written to while pinned */
	uint32_t	len;
	uint32_t	frame;		/* 0: not pinned (zeroes) */
};

/* An answer in pieces; @pins is the caller's array. */
struct pinvec {
	struct pin	*pins;
	unsigned int	nr, max;
};

/* A zero piece points here; at least this long. */
#define VOLUME_ZERO_MAX		(UINT32_C(256) << 10)
extern const char volume_zeroes[VOLUME_ZERO_MAX];

/*
 * Most pins that a read of @len bytes at any pos can need.  Doors serve larger
 * reads in pieces.
 */
static inline unsigned int volume_pins_max(uint32_t len)
{
	return len / 4096 + 2;
}

/*
 * Per-stream state of readahead: one per connection, zeroed at start, used by
 * one loop only.
 */
struct readahead {
	struct ra_stream {
		uint64_t	next_pos;	/* where it would go on */
		uint64_t	ahead_pos;	/* read ahead up to here */
		uint32_t	window;		/* bytes, 0: none read yet */
		uint32_t	hits;		/* sequential requests seen; 0:
						 * unused */
	} streams[8];
	unsigned int	victim;
};

/*
 * Append [@pos, @pos + @len) to @pv if all is cached: 0, else -EAGAIN.
 * @ra may be NULL.
 */
int volume_read_inline(struct volume *vol, uint64_t pos, uint32_t len,
		       struct pinvec *pv, struct readahead *ra);

/*
 * The same on a thread that runs no loop and so cannot read ahead: *@markedp is
 * set if that was due, by volume_read_ahead().
 */
int volume_read_foreign(struct volume *vol, uint64_t pos, uint32_t len,
			struct pinvec *pv, bool *markedp);

/* Go on reading ahead behind [@pos, @pos + @len); on @ra's loop. */
void volume_read_ahead(struct volume *vol, struct readahead *ra, uint64_t pos,
		       uint32_t len);

/*
 * The same, reading what is missing.  0, or -errno with @pv as it was.
 * Holes come as zero pieces (frame 0) without touching the device.
 */
int volume_read(struct volume *vol, uint64_t pos, uint32_t len,
		struct pinvec *pv, struct readahead *ra);

/*
 * Hints that a request at @pos comes soon, for doors that see several at once:
 * first have the index fetched into the CPU's cache, then, some requests later,
 * the folio and the first lines of its data.  They read no state and take no
 * lock; a wrong guess costs a memory access.
 */
void volume_hint_index(const struct volume *vol, uint64_t pos);
void volume_hint_folio(const struct volume *vol, uint64_t pos);

/* Bytes that @pins keep in memory: whole folios, each as often as it is pinned
 * but by neighbours. */
uint64_t volume_pinned_bytes(const struct cache *cache, const struct pin *pins,
			     unsigned int nr);

/* Release pins; from any thread. */
void volume_unpin(struct cache *cache, const struct pin *pins, unsigned int nr);

/* Copying form for callers with a buffer of their own. */
int volume_pread(struct volume *vol, void *buf, uint32_t len, uint64_t pos);

/* Have [@pos, @pos + @len) read into the cache in the background (CACHE). */
int volume_prefetch(struct volume *vol, uint64_t pos, uint64_t len);

/* ---- writing ---- */

/*
 * Write @len bytes (at most 64 KiB) from @buf if that can be acknowledged
 * without waiting: the mode is writeback or unsafe, no FUA, memory at hand, no
 * block to be read first, the throttle open.  0 or -EAGAIN.
 */
int volume_write_inline(struct volume *vol, uint64_t pos, uint32_t len,
			const void *buf, unsigned int flags);

/* The same, waiting for what it takes.  @buf stays valid until it returns. */
int volume_write(struct volume *vol, uint64_t pos, uint32_t len,
		 const void *buf, unsigned int flags);

/*
 * A payload on its way in: frames that no index knows yet, laid out so that
 * whole blocks can be swapped in without a copy.
 */
struct stage {
	struct volume	*vol;
	uint64_t	pos;
	uint32_t	len;
	struct iovec	*iov;		/* where to receive to: len bytes in all */
	unsigned int	nr_iov;
	uint32_t	*frames;	/* one folio per iov, 0: swapped in */
	uint32_t	done;		/* bytes written by the inline form */
};

/*
 * Frames for a write of @len bytes at @pos; @len is not 0.  Returns 0, -EAGAIN
 * if the staging budget is used up for now, of which others leave half of the
 * rest to it (try again from a coroutine with stage_alloc_wait()), or -ENOMEM,
 * also if it could never hold @len.
 */
int stage_alloc(struct volume *vol, uint64_t pos, uint32_t len,
		struct stage **stagep);
int stage_alloc_wait(struct volume *vol, uint64_t pos, uint32_t len,
		     struct stage **stagep);
/* For a payload that never came; NULL is fine. */
void stage_free(struct stage *stage);

/*
 * Write what was received into @*stagep, which is consumed whatever happens,
 * unless the inline form answers -EAGAIN.
 */
int volume_write_stage_inline(struct stage **stagep, unsigned int flags);
int volume_write_stage(struct stage **stagep, unsigned int flags);

/* ---- the rest; all in a coroutine ---- */

/*
 * Everything replied to before this call is stable when it returns 0, on
 * whatever connection it was written (iomap-semantics 5.3).  An error stays
 * until the failed blocks are written or discarded.
 */
int volume_flush(struct volume *vol);

/* Is there nothing to do for a FLUSH, as in mode unsafe?  Then it may be
 * answered at once. */
bool volume_flush_inline(struct volume *vol);

/* Discard: whole blocks are unmapped, the edges written as zeroes. */
int volume_trim(struct volume *vol, uint64_t pos, uint64_t len,
		unsigned int flags);

int volume_zero(struct volume *vol, uint64_t pos, uint64_t len,
		unsigned int flags);

struct volume_extent {
	uint64_t	len;
	bool		hole, zero;
};

/*
 * Describe [@pos, @pos + @len) in at most *@nrp extents, merging equal
 * neighbours; may stop early but covers at least one byte.  *@nrp is how many.
 */
int volume_extents(struct volume *vol, uint64_t pos, uint64_t len,
		   struct volume_extent *extents, unsigned int *nrp);

#endif
