/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ioend.h - one write on its way to a device, and what follows it.
 *
 * Ranges join an ioend by the rules of iomap-semantics 2.1; completed ioends
 * of a volume are sorted, merged by 2.2 and finished together, so that a store
 * with mapping transactions makes few.  Stores without end_io finish inline.
 */
#ifndef FOLIOD_CACHE_IOEND_H
#define FOLIOD_CACHE_IOEND_H

#include "bdev/bdev.h"
#include "cache/writeback.h"

/* What the completion has to do; ranges of different kinds do not join. */
#define IOEND_UNWRITTEN	(1u << 0)
#define IOEND_SHARED	(1u << 1)
#define IOEND_BOUNDARY	(1u << 2)	/* begins at one: joins nothing before it */
#define IOEND_DIRECT	(1u << 3)
#define IOEND_ANON	(1u << 4)
#define IOEND_FUA	(1u << 5)	/* durability class */
#define IOEND_THROUGH	(1u << 6)	/* the error is the writer's */

#define IOEND_NOMERGE	(IOEND_UNWRITTEN | IOEND_SHARED | IOEND_DIRECT | \
			 IOEND_ANON | IOEND_FUA | IOEND_THROUGH)

#define IOEND_FOLIOS_MAX	1024u	/* iovecs too: completion latency */

/* A run of blocks of one folio. */
struct ioend_seg {
	uint32_t	frame;
	uint64_t	blocks;
};

struct ioend {
	TAILQ_ENTRY(ioend)	link;		/* flusher's inflight */
	TAILQ_ENTRY(ioend)	done_link;	/* flusher's done */
	struct volume		*vol;
	struct writepage_ctx	*wpc;		/* while unsubmitted */
	struct wb_waiter	*waiter;
	uint64_t		seq;		/* order of submission, per volume */
	uint64_t		offset;		/* bytes in the volume */
	uint64_t		size;		/* bytes, clipped at the end */
	uint64_t		addr;		/* bytes on bdev */
	struct bdev		*bdev;
	unsigned int		flags;
	int			error;		/* first wins */
	struct bdev_req		req;
	unsigned int		nr_segs, max_segs;
	struct ioend_seg	*segs;
	struct iovec		*iov;
	void			*private;	/* the mapping's */
};

/* Who waits for a set of ioends: a write-through request.  On its stack. */
struct wb_waiter {
	struct mutex		lock;		/* RANK_BDEV */
	/* Guarded by lock. */
	struct waitq		waiters;
	unsigned int		pending;	/* ioends begun and not finished */
	int			error;		/* the first */
};

void wb_waiter_init(struct wb_waiter *waiter);
/* All submitted: wait for the rest, in a coroutine.  The first error, or 0. */
int wb_waiter_wait(struct wb_waiter *waiter);

/*
 * The pure rules, for everyone and for tests: may [@pos, @len) mapped by
 * @iomap with @flags join @ioend?  May @next merge behind @ioend?
 */
bool ioend_can_add(const struct ioend *ioend, const struct writepage_ctx *wpc,
		   const struct iomap *iomap, uint64_t pos, uint32_t len,
		   unsigned int flags);
bool ioend_can_merge(const struct ioend *ioend, const struct ioend *next);

/*
 * Add [@pos, @pos + @len) of @folio, mapped by wpc->iomap, to wpc->ioend; what
 * cannot join causes a submit and a new ioend.  Never fails for memory: each
 * volume holds ioends in reserve and this waits for one.
 */
struct wb_range ioend_add_range(struct writepage_ctx *wpc, struct folio *folio,
				uint64_t pos, uint32_t len);

/* Submit wpc->ioend, if any; with @error complete it with that instead. */
int ioend_submit(struct writepage_ctx *wpc, int error);

#endif
