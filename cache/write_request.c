/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * write_request.c - a write as a door asks for it: inline or waiting, from a
 * buffer or a stage, delayed or through to the device, within the limits of
 * dirty memory.  The bytes are moved by write_iter().
 */
#include <errno.h>

#include "cache/cache_internal.h"
#include "cache/ioend.h"
#include "cache/stage.h"
#include "cache/write.h"
#include "cache/writeback.h"

/* Does a request with @flags go to the device before its reply? */
static bool writes_through(const struct volume *vol, unsigned int flags)
{
	switch (vol->mode) {
	case VOLUME_UNSAFE:
		return false;
	case VOLUME_WRITETHROUGH:
	case VOLUME_WRITEOUT:
		return true;
	default:
		return flags & VOLUME_FUA;
	}
}

/* And does it have to be stable by then? */
static bool is_fua(const struct volume *vol, unsigned int flags)
{
	return vol->mode == VOLUME_WRITETHROUGH || (flags & VOLUME_FUA);
}

static void count_write(struct volume *vol, uint64_t len, unsigned int flags)
{
	volume_count(vol, writes, 1);
	volume_count(vol, write_bytes, len);
	if (flags & VOLUME_FUA)
		volume_count(vol, fua_writes, 1);
}

static int write_inline(struct write_ctx *ctx, uint64_t pos, uint32_t len,
			unsigned int flags)
{
	struct volume *vol = ctx->vol;
	int ret;

	assert(!vol->read_only);
	if (!volume_holds(vol, pos, len) || volume_is_direct(vol) ||
	    writes_through(vol, flags) || !throttle_open(vol, len))
		return -EAGAIN;
	ctx->nowait = true;
	/* Staged frames are about to become the cache's. */
	if (ctx->stage)
		cache_make_room(vol->cache, len / FRAME_SIZE);
	ret = write_iter(ctx, pos, len);
	if (ret)
		return -EAGAIN;	/* the waiting form tells what is wrong */
	count_write(vol, len, flags);
	return 0;
}

/*
 * Write through: the vector is built and submitted by the loop; its errors are
 * this request's.  A FUA write is enough where the store says so, else a flush
 * follows (iomap-semantics 3.5).
 */
static int write_through(struct write_ctx *ctx, uint64_t pos, uint32_t len,
			 bool fua)
{
	struct volume *vol = ctx->vol;
	bool by_write = fua && (!vol->store_ops->fua_by_write ||
				vol->store_ops->fua_by_write(vol));
	struct wb_waiter waiter;
	struct writepage_ctx wpc = {
		.vol = vol,
		.io_flags = by_write ? BDEV_FUA : 0,
		.waiter = &waiter,
	};
	int ret, err;

	wb_waiter_init(&waiter);
	ctx->wpc = &wpc;
	ret = write_iter(ctx, pos, len);
	/* Data that is in the cache goes out even when the rest failed. */
	ioend_submit(&wpc, 0);
	err = wb_waiter_wait(&waiter);
	ctx->wpc = NULL;
	if (!ret)
		ret = err;
	if (!ret && fua && (!by_write || wpc.needs_sync))
		ret = volume_sync(vol);
	return ret;
}

/* Write what there is room for; the caller holds the range. */
static int write_held(struct write_ctx *ctx, uint64_t pos, uint32_t len,
		      unsigned int flags)
{
	if (writes_through(ctx->vol, flags))
		return write_through(ctx, pos, len, is_fua(ctx->vol, flags));
	return write_iter(ctx, pos, len);
}

static int write_piece(struct write_ctx *ctx, uint64_t pos, uint32_t len,
		       unsigned int flags)
{
	struct volume *vol = ctx->vol;
	struct range range;
	int ret;

	if (!writes_through(vol, flags)) {
		throttle_reserve(vol, len);
		ctx->promised = len;
	}
	if (ctx->stage)
		cache_make_room(vol->cache, len / FRAME_SIZE);
	range_lock_shared(&vol->range_lock, &range,
			  round_down64(pos, FRAME_SIZE),
			  round_up64(pos + len, FRAME_SIZE));
	ret = volume_holds(vol, pos, len) ?
	      write_held(ctx, pos, len, flags) : -ENOSPC;
	range_unlock(&vol->range_lock, &range);
	/* What was not written never becomes dirty. */
	if (ctx->promised)
		throttle_release(vol, ctx->promised);
	ctx->promised = 0;
	return ret;
}

static int write_wait(struct write_ctx *ctx, uint64_t pos, uint32_t len,
		      unsigned int flags)
{
	struct volume *vol = ctx->vol;
	uint32_t done = 0;

	assert(!vol->read_only);
	/* Refused as a whole, if it is known by now. */
	if (!volume_holds(vol, pos, len))
		return -ENOSPC;
	ctx->nowait = false;
	while (done < len) {
		uint32_t n = len - done;
		int ret;

		if (!writes_through(vol, flags))
			n = (uint32_t)throttle_piece(vol, pos + done, n);
		ret = write_piece(ctx, pos + done, n, flags);
		if (ret)
			return ret;
		done += n;
	}
	count_write(vol, len, flags);
	return 0;
}

int volume_write_inline(struct volume *vol, uint64_t pos, uint32_t len,
			const void *buf, unsigned int flags)
{
	struct write_ctx ctx = { .vol = vol, .buf = buf, .pos = pos };

	return write_inline(&ctx, pos, len, flags);
}

int volume_write(struct volume *vol, uint64_t pos, uint32_t len,
		 const void *buf, unsigned int flags)
{
	struct write_ctx ctx = { .vol = vol, .buf = buf, .pos = pos };
	struct iovec iov = {
		.iov_base = (void *)(uintptr_t)buf,
		.iov_len = len,
	};

	if (volume_is_direct(vol))
		return direct_write(vol, pos, len, &iov, flags);
	return write_wait(&ctx, pos, len, flags);
}

int cache_write_held(struct volume *vol, uint64_t pos, uint32_t len,
		     const void *buf, unsigned int flags)
{
	struct write_ctx ctx = { .vol = vol, .buf = buf, .pos = pos };

	assert(!volume_is_direct(vol));
	/* Writers with a promise may wait for the range. */
	if (!writes_through(vol, flags))
		throttle_wait(vol, len);
	return write_held(&ctx, pos, len, flags);
}

int volume_write_stage_inline(struct stage **stagep, unsigned int flags)
{
	struct stage *stage = *stagep;
	struct write_ctx ctx = { .vol = stage->vol, .stage = stage };
	int ret;

	ret = write_inline(&ctx, stage->pos, stage->len, flags);
	if (ret) {
		/* What was swapped in is no longer here: go on behind it. */
		stage->done = (uint32_t)ctx.done;
		return ret;
	}
	stage_free(stage);
	*stagep = NULL;
	return 0;
}

int volume_write_stage(struct stage **stagep, unsigned int flags)
{
	struct stage *stage = *stagep;
	struct write_ctx ctx = { .vol = stage->vol, .stage = stage };
	int ret;

	if (volume_is_direct(stage->vol))
		ret = direct_write(stage->vol, stage->pos, stage->len,
				   stage->iov, flags);
	else
		ret = write_wait(&ctx, stage->pos + stage->done,
				 stage->len - stage->done, flags);
	stage_free(stage);
	*stagep = NULL;
	return ret;
}
