/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * range.h - a lock over byte ranges of a volume.
 *
 * Exclusive for what changes mappings under the cache (trim, zero) and for
 * direct read-modify-write; shared for fills, slow writes and writeback.
 * Inline hits take none: they look at range_lock_quiet() under a shard lock,
 * and an exclusive holder takes each shard lock after announcing itself.
 */
#ifndef FOLIOD_CACHE_RANGE_H
#define FOLIOD_CACHE_RANGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/base.h"

/* One holder; lives on the holder's stack. */
struct range {
	TAILQ_ENTRY(range)	link;
	uint64_t		start, end;	/* bytes, end exclusive */
	bool			exclusive;
	bool			granted;
	struct coroutine	*co;
};

struct range_lock {
	struct mutex		lock;		/* RANK_RANGE */
	TAILQ_HEAD(, range)	queue;		/* exclusive ones, held or waited
						 * for, and shared ones waited
						 * for, as they came */
	TAILQ_HEAD(, range)	shared;		/* held */
	unsigned int		nr_exclusive;	/* atomic: held or waited for */
};

void range_lock_init(struct range_lock *rl);
void range_lock_fini(struct range_lock *rl);

/*
 * Wait, in a coroutine, until [@start, @end) can be held; FIFO against waiting
 * exclusive holders, so that nobody starves.
 */
void range_lock_shared(struct range_lock *rl, struct range *range,
		       uint64_t start, uint64_t end);
void range_lock_exclusive(struct range_lock *rl, struct range *range,
			  uint64_t start, uint64_t end);
void range_unlock(struct range_lock *rl, struct range *range);

/* No exclusive holder and nobody waiting to be one. */
static inline bool range_lock_quiet(const struct range_lock *rl)
{
	return __atomic_load_n(&rl->nr_exclusive, __ATOMIC_ACQUIRE) == 0;
}

#endif
