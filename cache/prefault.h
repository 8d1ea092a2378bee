/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * prefault.h - memory for the cache before it is needed.
 */
#ifndef FOLIOD_CACHE_PREFAULT_H
#define FOLIOD_CACHE_PREFAULT_H

#include <stdint.h>

struct pool;
struct prefault;

/*
 * Keep up to @ahead bytes of never used frames of @pool in memory, by a thread
 * of its own; before anybody uses the pool.  Nothing where the kernel cannot do
 * it, or when the thread cannot be made: it only makes it faster.
 */
void prefault_start(struct pool *pool, uint64_t ahead);

/* End that, before the pool ends. */
void prefault_stop(struct pool *pool);

/* The pool's frames are used up to pool->prefault_at; its lock is held. */
void prefault_more(struct prefault *prefault);

#endif
