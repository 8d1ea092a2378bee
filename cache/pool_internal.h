/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pool_internal.h - what pool.c and evict.c share.
 */
#ifndef FOLIOD_CACHE_POOL_INTERNAL_H
#define FOLIOD_CACHE_POOL_INTERNAL_H

#include "cache/pool.h"

/* Lists are pushed at the head and taken from the tail; the pool's lock is
 * held. */
void frame_list_push(struct pool *pool, struct frame_list *list,
		     struct folio *folio);
void frame_list_del(struct pool *pool, struct frame_list *list,
		    struct folio *folio);

/* Take @folio off the eviction queue it is on, if any; queue becomes NONE. */
void queue_remove_locked(struct pool *pool, struct folio *folio)
	REQUIRES(&pool->lock);

#endif
