/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * writeback.h - dirty folios on their way to storage.
 *
 * writeback_iter() walks a volume's dirty folios in index order; for each,
 * the store maps its dirty runs and adds them to ioends (ioend.h).  The
 * flusher is the volume's background writer; volume_flush() runs a pass of its
 * own and so never waits behind a background slice.
 */
#ifndef FOLIOD_CACHE_WRITEBACK_H
#define FOLIOD_CACHE_WRITEBACK_H

#include "cache/iomap.h"
#include "cache/shard.h"
#include "cache/volume.h"

enum writeback_sync {
	WB_SYNC_NONE,	/* background: skip what is in flight, stop at an error */
	WB_SYNC_ALL,	/* integrity: wait, go on to the end, first error */
};

/* One dirty folio found by the tag walk. */
struct wb_tag {
	uint64_t	key;		/* of the folio's head */
};

struct writeback_control {
	/* Set by the caller. */
	enum writeback_sync	sync;
	int64_t			nr_to_write;	/* pages; SYNC_NONE's slice */
	bool			range_cyclic;	/* go on at the volume's cursor */
	uint64_t		start, end;	/* else: bytes, end exclusive */

	/* writeback_iter()'s own. */
	struct wb_tag		*towrite;	/* sorted: the TOWRITE tag */
	size_t			nr_towrite, next;
	int			saved_err;	/* the first error */
	uint64_t		last_key;	/* behind the last folio */
	uint32_t		last_pages;	/* of the folio being written */
	unsigned int		claim;		/* for it, while it is mapped */
	bool			claimed;
	bool			started;
};

/* What a store did with a range of a folio. */
struct wb_range {
	int		error;		/* 0 or -errno: then the rest is void */
	uint32_t	handled;	/* bytes taken care of, 1..len */
	uint32_t	submitted;	/* of these, bytes added to an ioend: the
					 * first ones; what follows is a hole */
};

struct writepage_ctx {
	struct volume			*vol;
	struct writeback_control	*wbc;	/* NULL for a write-through vector */
	struct iomap			iomap;	/* kept between folios; length 0 at
						 * first; revalidate per folio */
	struct ioend			*ioend;	/* being built, or NULL */
	unsigned int			io_flags;	/* BDEV_FUA */
	struct wb_waiter		*waiter;	/* told of every completion */
	bool				needs_sync;	/* a mapping changes with it:
							 * BDEV_FUA is not enough */
};

struct writeback_ops {
	/*
	 * Map the dirty run [@pos, @pos + @len) of @folio (a run of whole
	 * blocks, clipped at the volume's size, already in flight) and add it
	 * with ioend_add_range().  May handle less; called again for the rest.
	 * A HOLE counts as handled and not submitted.  No locks held, in a
	 * coroutine.  Required.
	 */
	struct wb_range (*writeback_range)(struct writepage_ctx *wpc,
					   struct folio *folio, uint64_t pos,
					   uint32_t len);
	/* Submit wpc->ioend (may be NULL); with @error set complete it with
	 * that.  NULL: ioend_submit(). */
	int (*writeback_submit)(struct writepage_ctx *wpc, int error);
	/*
	 * The data of @ioend is on the device: make the mapping so (unwritten
	 * to written, remap).  In a coroutine, before the blocks leave flight;
	 * one call for a run of merged ioends.  0 or -errno.  NULL: nothing to
	 * do, ioends finish inline.
	 */
	int (*end_io)(struct volume *vol, struct ioend *ioend);
	/* writeback_range failed: give back what was promised to the folio from
	 * @pos on.  May be NULL. */
	void (*discard_folio)(struct volume *vol, struct folio *folio,
			      uint64_t pos);
};

/*
 * The next folio to write, with its dirty runs, or false at the end (then
 * wbc->saved_err is the pass's result).  @error is what became of the last
 * one.  The folio's dirty blocks have gone to inflight, and its lock is
 * not held.  Callers do not break out of the loop before it says false.
 */
bool writeback_iter(struct volume *vol, struct writeback_control *wbc,
		    struct folio **foliop, uint64_t *blocksp, int error);

/*
 * Map @blocks of @folio, already in flight, and add them to @wpc's ioends,
 * clipped at the volume's size.  What could not be mapped is dirty again and
 * the error returned; what joined an ioend goes on.  In a coroutine, no locks
 * held.  Serves the passes and the write-through vector.
 */
int writeback_folio(struct writepage_ctx *wpc, struct folio *folio,
		    uint64_t blocks);

/* One pass: all of it, ioends submitted but not waited for.  In a coroutine. */
int writeback_pages(struct volume *vol, struct writeback_control *wbc);

/*
 * Between taking dirty blocks into flight and having them in an ioend they are
 * in no list; a claim makes writeback_wait() see them all the same.  Begin
 * before taking the shard's lock, end (with what begin returned) once
 * writeback_folio() has returned.
 */
unsigned int writeback_claim(struct volume *vol);
void writeback_unclaim(struct volume *vol, unsigned int phase);

/* Start and stop the volume's background writer; stop waits for it. */
int flusher_start(struct volume *vol);
void flusher_stop(struct volume *vol);

/* Somebody crossed a threshold, or wants memory: begin now.  Any thread. */
void flusher_kick(struct volume *vol);

/* Dirty bytes appeared on a clean volume: have them written within the age
 * limit.  Any thread; with a shard's lock held. */
void flusher_tick_on(struct volume *vol);

/* Wait until every ioend that was in flight at the call has finished. */
void writeback_wait(struct volume *vol);

#endif
