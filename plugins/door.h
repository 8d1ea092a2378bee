/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * door.h - a volume for threads that run no loop, and may block.
 *
 * What the cache can answer at once is answered on the calling thread.  The
 * rest is a coroutine on the loop that the door belongs to, while the caller
 * sleeps until it has ended.
 */
#ifndef FOLIOD_PLUGINS_DOOR_H
#define FOLIOD_PLUGINS_DOOR_H

#include <stdint.h>

#include "cache/volume.h"

struct loop;

/* One per connection; used by any number of threads at a time. */
struct door {
	/* Set by its owner, constant after. */
	struct volume		*vol;
	struct loop		*loop;	/* a real one, run by its own thread */
	/* The loop's own; zeroed at start. */
	struct readahead	ra;
};

/*
 * Run @fn(@arg) in a coroutine of @loop, which another thread runs, and wait
 * until it has returned.  Its result, or -ENOMEM having run nothing.
 */
int door_call(struct loop *loop, int (*fn)(void *arg), void *arg);

/*
 * The requests: @pos and @len lie within the volume, and it is not read-only
 * where it is to be changed.  @flags are VOLUME_*.  0 or -errno.
 */
int door_read(struct door *door, void *buf, uint32_t len, uint64_t pos);
int door_write(struct door *door, const void *buf, uint32_t len, uint64_t pos,
	       unsigned int flags);
int door_flush(struct door *door);
int door_trim(struct door *door, uint32_t len, uint64_t pos,
	      unsigned int flags);
int door_zero(struct door *door, uint32_t len, uint64_t pos,
	      unsigned int flags);

/* Have it read in the background. */
int door_prefetch(struct door *door, uint32_t len, uint64_t pos);

/* As volume_extents(). */
int door_extents(struct door *door, uint32_t len, uint64_t pos,
		 struct volume_extent *extents, unsigned int *nrp);

#endif
