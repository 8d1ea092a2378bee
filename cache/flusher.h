/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * flusher.h - a volume's writeback state: ioends in flight, claims, and the
 * background writer.
 */
#ifndef FOLIOD_CACHE_FLUSHER_H
#define FOLIOD_CACHE_FLUSHER_H

#include "cache/ioend.h"
#include "cache/writeback.h"

TAILQ_HEAD(ioend_list, ioend);

struct flusher {
	struct volume		*vol;

	struct mutex		lock;		/* RANK_BDEV */
	/* Guarded by lock. */
	struct ioend_list	inflight;	/* built or submitted, by seq */
	struct ioend_list	done;		/* wait for end_io */
	uint64_t		next_seq;
	unsigned int		nr_inflight;
	unsigned int		phase;		/* claims count in claims[its
						 * lowest bit] */
	unsigned int		claims[2];
	struct waitq		waiters;	/* for any of the above to change */
	struct ioend		*reserve;	/* for when memory is short; may be
						 * out */
	bool			completing;	/* a coroutine works on done */
	bool			running;	/* the background writer */
	/* Written under lock by the home loop, which reads them without. */
	bool			stopping, stopped;

	/* Of the home loop. */
	struct work		kick_work;
	struct work		tick_work;
	struct work		stop_work;
	struct work		done_work;	/* ioend.c's */
	struct timer		tick;
	bool			again;		/* kicked while running */

	/* Atomic. */
	bool			tick_armed;

	/* The running pass's. */
	uint64_t		cursor;		/* key where the next cyclic pass
						 * goes on */
	errseq_t		logged;		/* errors reported in the log */
};

/* ---- ioend.c's part ---- */

void ioend_init_flusher(struct flusher *flusher);
struct ioend *ioend_new_reserve(void);
/* NULL is fine. */
void ioend_destroy(struct ioend *ioend);

#endif
