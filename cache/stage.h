/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stage.h - staged frames as write_iter() uses them.
 */
#ifndef FOLIOD_CACHE_STAGE_H
#define FOLIOD_CACHE_STAGE_H

#include "cache/shard.h"
#include "cache/volume.h"

struct write_ctx;

enum stage_swap {
	STAGE_SWAPPED,	/* ctx->step_len bytes are in the cache, not copied */
	STAGE_COPY,	/* cannot be swapped in: copy */
	STAGE_BUSY,	/* *busyp is locked or in flight */
};

/*
 * If the staged folio that begins at @pos is whole and at most @len long, put
 * it in the place of whatever the index has there.
 */
enum stage_swap stage_swap_locked(struct write_ctx *ctx, struct shard *shard,
				  uint64_t pos, uint32_t len,
				  struct folio **busyp) REQUIRES(&shard->lock);

/* The staged bytes at volume position @pos; *@lenp is cut to what lies there
 * in one piece. */
const char *stage_bytes(const struct stage *stage, uint64_t pos,
			uint32_t *lenp);

#endif
