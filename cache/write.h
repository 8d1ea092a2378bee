/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * write.h - the state of one cached write, between write.c, which moves the bytes,
 * write_request.c, which begins it, and stage.c.
 */
#ifndef FOLIOD_CACHE_WRITE_H
#define FOLIOD_CACHE_WRITE_H

#include "cache/shard.h"
#include "cache/volume.h"

struct writepage_ctx;

struct write_ctx {
	/* Set by the caller. */
	struct volume		*vol;
	const char		*buf;		/* bytes of volume position pos... */
	uint64_t		pos;
	struct stage		*stage;		/* ...or staged frames */
	bool			nowait;
	struct writepage_ctx	*wpc;		/* write-through vector, or NULL */
	uint64_t		promised;	/* bytes of room, not yet used */

	/* A frame fetched without the lock, and what kind is wanted. */
	struct folio		*spare;
	unsigned int		spare_order;
	bool			spare_exact;
	bool			no_copy;	/* memory is in pieces: let go of
						 * pinned folios instead */

	/* What the last step did or needs. */
	uint32_t		step_len;
	uint64_t		fill_pos;
	uint32_t		fill_len;
	bool			submit_first;	/* the vector, before waiting */
	struct folio		*through;	/* blocks in flight, to be mapped */
	uint64_t		through_blocks;
	uint64_t		done;		/* bytes written, when it ended */
};

/*
 * @blocks of @folio hold new bytes: dirty, or in flight at once when writing
 * through.  In the latter case the loop maps them once the lock is released.
 */
void written_locked(struct write_ctx *ctx, struct shard *shard,
		    struct folio *folio, uint64_t blocks)
	REQUIRES(&shard->lock);

/* Write [@pos, @pos + @len) as @ctx says.  0, -EAGAIN (nowait) or -errno. */
int write_iter(struct write_ctx *ctx, uint64_t pos, uint64_t len);

#endif
