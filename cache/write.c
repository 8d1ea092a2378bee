/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * write.c - write_iter(): the one loop through which every cached write goes,
 * delayed or write-through, from a buffer or from staged frames, waiting or
 * not.
 *
 * Each step looks at one folio under its shard's lock and either writes, or
 * says what it needs (an idle folio, an old block, a frame); that is then
 * fetched without the lock, and the step begins anew.  Before a step waits, the
 * write-through vector is submitted: nobody waits while others wait for what
 * he holds.
 */
#include <errno.h>
#include <string.h>

#include "cache/cache_internal.h"
#include "cache/ioend.h"
#include "cache/stage.h"
#include "cache/write.h"
#include "cache/writeback.h"

/* What a step came to. */
enum step {
	STEP_DONE,	/* ->step_len bytes were written */
	STEP_STALE,	/* the mapping is not true any more */
	STEP_BUSY,	/* the folio is locked or its blocks are in flight: the
			 * shard's lock was dropped for a wait, or NOWAIT */
	STEP_FILL,	/* ->fill_pos, ->fill_len must be read first */
	STEP_ALLOC,	/* a spare folio of ->spare_order is needed */
};

static void drop_spare(struct write_ctx *ctx)
{
	struct pool *pool = &ctx->vol->cache->pool;

	if (ctx->spare)
		pool_free(pool, pool_frame(pool, ctx->spare));
	ctx->spare = NULL;
}

static struct folio *take_spare(struct write_ctx *ctx)
{
	struct folio *folio = ctx->spare;

	ctx->spare = NULL;
	return folio;
}

/* Sleep until @folio changed, unless the caller will not wait. */
static enum step busy_locked(struct write_ctx *ctx, struct shard *shard,
			     struct folio *folio) REQUIRES(&shard->lock)
{
	if (ctx->nowait)
		return STEP_BUSY;
	if (ctx->wpc && ctx->wpc->ioend) {
		/* What we hold may be what it waits for. */
		ctx->submit_first = true;
		return STEP_BUSY;
	}
	shard_wait_locked(shard, folio);
	return STEP_BUSY;
}

/*
 * The blocks of [@off, @off + @len) that the write covers in part only: first
 * and last, unless the last one ends where the volume does.
 */
static uint64_t partial_blocks(const struct volume *vol,
			       const struct folio *folio, uint32_t off,
			       uint32_t len)
{
	uint32_t mask = (1u << vol->block_shift) - 1;
	uint64_t bits = 0;

	if (off & mask)
		bits |= UINT64_C(1) << (off >> vol->block_shift);
	if (((off + len) & mask) &&
	    key_pos(folio->key) + off + len != volume_size(vol))
		bits |= UINT64_C(1) << ((off + len - 1) >> vol->block_shift);
	return bits;
}

static void copy_in(struct write_ctx *ctx, struct folio *folio, uint32_t off,
		    const char *from, uint32_t len)
{
	struct volume *vol = ctx->vol;
	struct pool *pool = &vol->cache->pool;
	char *to = pool_data(pool, pool_frame(pool, folio)) + off;
	uint32_t rest = -(off + len) & ((1u << vol->block_shift) - 1);

	memcpy(to, from, len);
	/* Beyond the volume's end a new block is zero, on media too. */
	if (rest && key_pos(folio->key) + off + len == volume_size(vol))
		memset(to + len, 0, rest);
}

void written_locked(struct write_ctx *ctx, struct shard *shard,
		    struct folio *folio, uint64_t blocks)
{
	folio->uptodate |= blocks;
	if (!ctx->wpc) {
		shard_dirty_locked(shard, ctx->vol, folio, blocks);
		return;
	}
	shard_clean_locked(shard, ctx->vol, folio, blocks);
	shard_start_io_locked(shard, ctx->vol, folio, blocks);
	ctx->through = folio;
	ctx->through_blocks = blocks;
}

/* Copy under the lock if that is short, else with the folio LOCKED. */
static void copy_locked(struct write_ctx *ctx, struct shard *shard,
			struct folio *folio, uint32_t off, const char *from,
			uint32_t len) REQUIRES(&shard->lock)
{
	if (len <= SHARD_COPY_MAX) {
		copy_in(ctx, folio, off, from, len);
		return;
	}
	folio_set_flags(folio, FOLIO_LOCKED);
	mutex_unlock(&shard->lock);
	copy_in(ctx, folio, off, from, len);
	mutex_lock(&shard->lock);
	folio_clear_flags(folio, FOLIO_LOCKED);
	shard_wake_locked(shard, folio);
}

/*
 * Somebody sends from @folio: put a copy in its place, so that the sender's
 * bytes stay and we need not wait for its socket.
 */
static struct folio *unshare_locked(struct write_ctx *ctx, struct shard *shard,
				    struct folio *folio, uint32_t off,
				    uint32_t len) REQUIRES(&shard->lock)
{
	struct pool *pool = shard->pool;
	struct folio *copy = take_spare(ctx);
	uint32_t size = folio_size(folio);

	if (off != 0 || len != size)
		memcpy(pool_data(pool, pool_frame(pool, copy)),
		       pool_data(pool, pool_frame(pool, folio)), size);
	copy->uptodate = folio->uptodate;
	shard_replace_locked(shard, ctx->vol, folio, copy);
	return copy;
}

static enum step need_spare(struct write_ctx *ctx, unsigned int order,
			    bool exact)
{
	ctx->spare_order = order;
	ctx->spare_exact = exact;
	return STEP_ALLOC;
}

static enum step need_fill(struct write_ctx *ctx, const struct folio *folio,
			   uint64_t blocks)
{
	unsigned int first = __builtin_ctzll(blocks);

	ctx->fill_pos = key_pos(folio->key) +
			((uint64_t)first << ctx->vol->block_shift);
	ctx->fill_len = 1u << ctx->vol->block_shift;
	return STEP_FILL;
}

static enum step write_existing_locked(struct write_ctx *ctx,
				       struct shard *shard,
				       struct folio *folio, uint64_t pos,
				       uint32_t len, const char *from)
	REQUIRES(&shard->lock)
{
	uint32_t off = (uint32_t)(pos - key_pos(folio->key));
	uint64_t blocks, partial;

	len = MIN(len, folio_size(folio) - off);
	blocks = folio_blocks(off, len, ctx->vol->block_shift);
	if ((folio->flags & FOLIO_LOCKED) || (folio->inflight & blocks))
		return busy_locked(ctx, shard, folio);
	partial = partial_blocks(ctx->vol, folio, off, len) & ~folio->uptodate;
	if (partial)
		return need_fill(ctx, folio, partial);
	if (__atomic_load_n(&folio->pins, __ATOMIC_ACQUIRE)) {
		if (folio->inflight)
			return busy_locked(ctx, shard, folio);
		if (!ctx->spare || ctx->spare->order != folio->order) {
			if (!ctx->no_copy || folio->dirty)
				return need_spare(ctx, folio->order, true);
			/* The disk has the same bytes. */
			shard_remove_locked(shard, folio);
			return STEP_BUSY;
		}
		folio = unshare_locked(ctx, shard, folio, off, len);
	}
	pool_hit(shard->pool, folio);
	volume_count(ctx->vol, hits, (len + FRAME_SIZE - 1) / FRAME_SIZE);
	copy_locked(ctx, shard, folio, off, from, len);
	written_locked(ctx, shard, folio, blocks);
	ctx->step_len = len;
	return STEP_DONE;
}

/* The largest aligned folio at @key that the write covers wholly and whose
 * pages are all absent; order 0 covers in part too. */
static unsigned int fresh_order_locked(struct write_ctx *ctx,
				       struct shard *shard, uint64_t pos,
				       uint32_t len) REQUIRES(&shard->lock)
{
	unsigned int order = folio_order_max(ctx->vol->block_shift);
	uint64_t key = folio_key(ctx->vol->id, pos);
	uint64_t hash = key_hash(key);
	uint32_t absent = 1;

	while (order && (!is_aligned64(pos, FRAME_SIZE << order) ||
			 (FRAME_SIZE << order) > len))
		order--;
	while (absent < (1u << order) &&
	       !shard_lookup_locked(shard, key + absent, hash))
		absent++;
	return MIN(order, ilog2(absent));
}

static enum step write_fresh_locked(struct write_ctx *ctx, struct shard *shard,
				    uint64_t pos, uint32_t len,
				    const char *from) REQUIRES(&shard->lock)
{
	unsigned int order = fresh_order_locked(ctx, shard, pos, len);
	uint32_t off = (uint32_t)(pos & (FRAME_SIZE - 1));
	struct folio probe = { .key = folio_key(ctx->vol->id, pos) };
	struct folio *folio;
	uint64_t partial;

	len = MIN(len, (FRAME_SIZE << order) - off);
	partial = partial_blocks(ctx->vol, &probe, off, len);
	if (partial)
		return need_fill(ctx, &probe, partial);
	if (!ctx->spare || ctx->spare->order > order)
		return need_spare(ctx, order, false);
	folio = take_spare(ctx);
	len = MIN(len, folio_size(folio) - off);
	shard_insert_locked(shard, folio, probe.key);
	pool_enqueue(shard->pool, folio);
	volume_count(ctx->vol, misses, folio_pages(folio));
	copy_locked(ctx, shard, folio, off, from, len);
	written_locked(ctx, shard, folio,
		       folio_blocks(off, len, ctx->vol->block_shift));
	ctx->step_len = len;
	return STEP_DONE;
}

static enum step write_step_locked(struct write_ctx *ctx, struct shard *shard,
				   struct iomap_iter *iter, uint32_t len)
	REQUIRES(&shard->lock)
{
	uint64_t key = folio_key(ctx->vol->id, iter->pos);
	struct folio *folio;
	const char *from;

	if (!iomap_iter_valid(iter))
		return STEP_STALE;
	/* A trim is under way, or one that made the volume smaller is over;
	 * those who wait hold the range and are beyond. */
	if (ctx->nowait && (!range_lock_quiet(&ctx->vol->range_lock) ||
			    !volume_holds(ctx->vol, iter->pos, len)))
		return STEP_BUSY;
	if (ctx->stage) {
		enum stage_swap swap;

		swap = stage_swap_locked(ctx, shard, iter->pos, len, &folio);
		if (swap == STAGE_SWAPPED)
			return STEP_DONE;
		if (swap == STAGE_BUSY)
			return busy_locked(ctx, shard, folio);
		from = stage_bytes(ctx->stage, iter->pos, &len);
	} else {
		from = ctx->buf + (iter->pos - ctx->pos);
	}
	folio = shard_lookup_locked(shard, key, key_hash(key));
	if (folio)
		return write_existing_locked(ctx, shard, folio, iter->pos, len,
					     from);
	return write_fresh_locked(ctx, shard, iter->pos, len, from);
}

/* Fetch a spare folio; 0, though an exact one could not be had, or -EAGAIN. */
static int get_spare(struct write_ctx *ctx)
{
	struct cache *cache = ctx->vol->cache;
	uint32_t frame;

	drop_spare(ctx);
	frame = cache_alloc(cache, ctx->spare_order);
	if (!frame) {
		if (ctx->nowait)
			return -EAGAIN;
		if (ctx->wpc)
			ioend_submit(ctx->wpc, 0);
		frame = cache_alloc_wait(cache, ctx->spare_order);
	}
	ctx->spare = pool_folio(&cache->pool, frame);
	if (ctx->spare_exact && ctx->spare->order != ctx->spare_order) {
		if (ctx->nowait)
			return -EAGAIN;
		/*
		 * Do not wait for the sender: without a copy his folio can go
		 * as soon as it is clean.
		 */
		drop_spare(ctx);
		ctx->no_copy = true;
		if (ctx->wpc)
			ioend_submit(ctx->wpc, 0);
		flusher_kick(ctx->vol);
		coroutine_sleep_ns(200 * NSEC_PER_USEC);
	}
	return 0;
}

/* Get what a step asked for.  0: begin the step anew, or -errno. */
static int satisfy(struct write_ctx *ctx, enum step step)
{
	if (step == STEP_ALLOC)
		return get_spare(ctx);
	if (ctx->nowait)
		return -EAGAIN;
	if (ctx->wpc && (step == STEP_FILL || ctx->submit_first)) {
		ctx->submit_first = false;
		ioend_submit(ctx->wpc, 0);
	}
	if (step == STEP_FILL) {
		volume_count(ctx->vol, rmw_reads, 1);
		return fill_range(ctx->vol, ctx->fill_pos, ctx->fill_len,
				  IOMAP_RANGE_HELD);
	}
	return 0;
}

/* Add what the step took into flight to the write-through vector. */
static int map_through(struct write_ctx *ctx, unsigned int claim)
{
	int ret = 0;

	if (ctx->through)
		ret = writeback_folio(ctx->wpc, ctx->through,
				      ctx->through_blocks);
	ctx->through = NULL;
	writeback_unclaim(ctx->vol, claim);
	return ret;
}

/* @len bytes became dirty (or never will): their room is no longer kept. */
static void use_promise(struct write_ctx *ctx, uint64_t len)
{
	len = MIN(len, ctx->promised);
	if (!len)
		return;
	ctx->promised -= len;
	throttle_release(ctx->vol, len);
}

/* Write within one mapping.  0, or -errno with what was done advanced. */
static int write_body(struct write_ctx *ctx, struct iomap_iter *iter)
{
	uint64_t n;

	while ((n = iomap_iter_length(iter)) > 0) {
		struct shard *shard = volume_shard(ctx->vol, iter->pos);
		uint64_t room = SHARD_UNIT - (iter->pos & (SHARD_UNIT - 1));
		unsigned int claim = 0;
		enum step step;
		int ret;

		if (ctx->wpc)
			claim = writeback_claim(ctx->vol);
		mutex_lock(&shard->lock);
		step = write_step_locked(ctx, shard, iter,
					 (uint32_t)MIN(n, room));
		mutex_unlock(&shard->lock);
		if (ctx->wpc) {
			ret = map_through(ctx, claim);
			if (ret)
				return ret;
		}
		if (step == STEP_STALE) {
			volume_count(ctx->vol, stale_maps, 1);
			return 0;
		}
		if (step == STEP_DONE) {
			use_promise(ctx, ctx->step_len);
			iomap_iter_advance(iter, ctx->step_len);
			continue;
		}
		ret = satisfy(ctx, step);
		if (ret)
			return ret;
	}
	return 0;
}

int write_iter(struct write_ctx *ctx, uint64_t pos, uint64_t len)
{
	struct iomap_iter iter = {
		.vol = ctx->vol,
		.pos = pos,
		.len = len,
		.flags = IOMAP_WRITE | (ctx->nowait ? IOMAP_NOWAIT : 0) |
			 (ctx->wpc ? IOMAP_WRITETHROUGH : 0),
	};
	int ret;

	while ((ret = iomap_iter_next(&iter)) > 0)
		iter.status = write_body(ctx, &iter);
	drop_spare(ctx);
	ctx->done = iter.done;
	return ret;
}
