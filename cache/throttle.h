/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * throttle.h - how much may be dirty or in flight, and who waits when it is.
 *
 * Below the background limit nothing happens; above it the flushers write.
 * Up to half way between it and the hard limit writers run free; from there on
 * each is delayed more, and at the hard limit waits (iomap-semantics 5.1).
 * Delays are late replies: nobody is refused.
 */
#ifndef FOLIOD_CACHE_THROTTLE_H
#define FOLIOD_CACHE_THROTTLE_H

#include "base/base.h"

struct volume;

struct throttle {
	/* Set by throttle_init(), constant after. */
	uint64_t	background, hard;	/* bytes */

	/* Atomic, over all volumes; not in a line that a hit looks at. */
	uint64_t	dirty_bytes __attribute__((aligned(CACHE_LINE)));
	uint64_t	inflight_bytes;
	uint64_t	promised_bytes;		/* let in, not yet dirty */
	unsigned int	nr_waiting;

	struct mutex	lock;			/* RANK_THROTTLE */
	struct waitq	waiters;		/* guarded by lock */

	/* Relaxed atomic. */
	uint64_t	throttled;		/* writes that waited or slept */
};

void throttle_init(struct throttle *throttle, uint64_t background,
		   uint64_t hard);
void throttle_fini(struct throttle *throttle);

/* May @len more bytes of @vol become dirty without any delay? */
bool throttle_open(const struct volume *vol, uint64_t len);

/*
 * How much of a write of @len bytes at @pos to make dirty at once: no more than
 * each volume finds room for, whatever the others have dirty.
 */
uint64_t throttle_piece(const struct volume *vol, uint64_t pos, uint64_t len);

/*
 * Wait, in a coroutine, until they may; kicks the flusher.  Returns with room
 * for @len, or with nothing dirty or in flight if @len alone exceeds the limit.
 * Writers of a volume are let in as they came.
 *
 * The room is kept for the caller, so that those who are let in one after the
 * other do not exceed the limit together: he says throttle_release() for what
 * has become dirty, and in the end for all that will not.
 */
void throttle_reserve(struct volume *vol, uint64_t len);
void throttle_release(struct volume *vol, uint64_t len);

/*
 * The same without a promise and regardless of others': for those who hold
 * something that the owners of promises may wait for.
 */
void throttle_wait(struct volume *vol, uint64_t len);

/* Bytes became clean or left flight: let those in who now have room.  May be
 * called with a shard's lock held; costs one load when nobody waits. */
void throttle_wake(struct throttle *throttle);

#endif
