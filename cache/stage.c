/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stage.c - payloads on their way in: received into fresh frames that no index
 * knows, so that a half-received request changes nothing, and swapped into the
 * cache without a copy where they cover whole folios.
 */
#include <errno.h>
#include <stdlib.h>

#include "cache/cache_internal.h"
#include "cache/stage.h"
#include "cache/write.h"

/* One allocation for the stage and its arrays. */
static struct stage *stage_new(struct volume *vol, uint64_t pos, uint32_t len)
{
	size_t max = len / FRAME_SIZE + 2;
	struct stage *stage;

	stage = malloc(sizeof(*stage) + max * sizeof(*stage->iov) +
		       max * sizeof(*stage->frames));
	if (!stage)
		return NULL;
	*stage = (struct stage){ .vol = vol, .pos = pos, .len = len };
	stage->iov = (struct iovec *)(stage + 1);
	stage->frames = (uint32_t *)(stage->iov + max);
	return stage;
}

/* Add the piece that begins at @pos; its bytes, or 0 without memory. */
static uint32_t add_piece(struct stage *stage, uint64_t pos, uint32_t len)
{
	struct pool *pool = &stage->vol->cache->pool;
	unsigned int order = folio_order_max(stage->vol->block_shift);
	uint32_t off = (uint32_t)(pos & (FRAME_SIZE - 1));
	uint32_t frame;

	while (order && (!is_aligned64(pos, FRAME_SIZE << order) ||
			 (FRAME_SIZE << order) > len))
		order--;
	frame = pool_alloc(pool, POOL_STAGING, order, true);
	if (!frame)
		return 0;
	len = MIN(len, folio_size(pool_folio(pool, frame)) - off);
	stage->frames[stage->nr_iov] = frame;
	stage->iov[stage->nr_iov].iov_base = pool_data(pool, frame) + off;
	stage->iov[stage->nr_iov].iov_len = len;
	stage->nr_iov++;
	return len;
}

/*
 * A payload takes half of what is left at most, unless there is no other: a few
 * that are large and do not come must not keep out all the small ones.
 */
static bool is_fair(const struct pool *pool, uint32_t len)
{
	uint32_t staged = __atomic_load_n(&pool->staged_pages,
					  __ATOMIC_RELAXED);
	uint32_t left = pool->staging_pages - MIN(staged, pool->staging_pages);

	return !staged || len / FRAME_SIZE <= left / 2;
}

int stage_alloc(struct volume *vol, uint64_t pos, uint32_t len,
		struct stage **stagep)
{
	struct stage *stage;
	uint32_t done = 0;

	assert(len);
	if (len / FRAME_SIZE + 2 > vol->cache->pool.staging_pages)
		return -ENOMEM;
	if (!is_fair(&vol->cache->pool, len))
		return -EAGAIN;
	stage = stage_new(vol, pos, len);
	if (!stage)
		return -ENOMEM;
	/* The cache may sit in our frames: it was over its limit with payloads
	 * that it adopted while nothing could go. */
	cache_make_room(vol->cache, 0);
	while (done < len) {
		uint32_t n = add_piece(stage, pos + done, len - done);

		if (!n) {
			stage_free(stage);
			return -EAGAIN;
		}
		done += n;
	}
	*stagep = stage;
	return 0;
}

int stage_alloc_wait(struct volume *vol, uint64_t pos, uint32_t len,
		     struct stage **stagep)
{
	uint64_t pause_ns = 100 * NSEC_PER_USEC;
	int ret;

	/* The budget comes back as other payloads complete. */
	while ((ret = stage_alloc(vol, pos, len, stagep)) == -EAGAIN) {
		coroutine_sleep_ns(pause_ns);
		pause_ns = MIN(pause_ns * 2, 5 * NSEC_PER_MSEC);
	}
	return ret;
}

void stage_free(struct stage *stage)
{
	if (!stage)
		return;
	for (unsigned int i = 0; i < stage->nr_iov; i++) {
		if (stage->frames[i])
			pool_free(&stage->vol->cache->pool, stage->frames[i]);
	}
	free(stage);
}

/*
 * The piece at volume position @pos, and where it begins.  Pieces before the
 * last are whole frames, so a guess by size is at most a few off; but they
 * differ in size, hence the search.
 */
static unsigned int find_piece(const struct stage *stage, uint64_t pos,
			       uint64_t *startp)
{
	uint64_t start = stage->pos;
	unsigned int i = 0;

	while (start + stage->iov[i].iov_len <= pos)
		start += stage->iov[i++].iov_len;
	*startp = start;
	return i;
}

const char *stage_bytes(const struct stage *stage, uint64_t pos, uint32_t *lenp)
{
	uint64_t start;
	unsigned int i = find_piece(stage, pos, &start);
	uint32_t off = (uint32_t)(pos - start);

	assert(stage->frames[i]);
	*lenp = MIN(*lenp, (uint32_t)stage->iov[i].iov_len - off);
	return (const char *)stage->iov[i].iov_base + off;
}

/*
 * What the index has over @folio's pages: nothing but idle folios that lie
 * within (then they can go), or something that forbids the swap.
 */
static enum stage_swap examine_locked(struct shard *shard, uint64_t key,
				      uint32_t pages, struct folio **busyp)
	REQUIRES(&shard->lock)
{
	uint64_t hash = key_hash(key);

	for (uint32_t i = 0; i < pages; i++) {
		struct folio *old = shard_lookup_locked(shard, key + i, hash);

		if (!old)
			continue;
		if (old->key < key || old->key + folio_pages(old) > key + pages)
			return STAGE_COPY;
		if ((old->flags & FOLIO_LOCKED) || old->inflight) {
			*busyp = old;
			return STAGE_BUSY;
		}
		i += folio_pages(old) - 1;
	}
	return STAGE_SWAPPED;
}

/* Remove what lies over the pages, dirty or not: it is all overwritten. */
static void remove_old_locked(struct shard *shard, struct volume *vol,
			      uint64_t key, uint32_t pages)
	REQUIRES(&shard->lock)
{
	uint64_t hash = key_hash(key);

	for (uint32_t i = 0; i < pages; i++) {
		struct folio *old = shard_lookup_locked(shard, key + i, hash);

		if (!old)
			continue;
		i += folio_pages(old) - 1;
		shard_discard_locked(shard, vol, old);
	}
}

/* Put @folio, adopted and full of new bytes, into the index. */
static void swap_in_locked(struct write_ctx *ctx, struct shard *shard,
			   struct folio *folio, uint64_t key)
	REQUIRES(&shard->lock)
{
	uint64_t hash = key_hash(key);
	struct folio *old = shard_lookup_locked(shard, key, hash);
	uint64_t all = folio_all_blocks(folio->order, ctx->vol->block_shift);

	folio->uptodate = all;
	if (old && old->key == key && old->order == folio->order) {
		/* The page stays in the cache: it keeps its place there. */
		shard_clean_locked(shard, ctx->vol, old, old->dirty);
		shard_unfail_locked(shard, ctx->vol, old);
		shard_replace_locked(shard, ctx->vol, old, folio);
		pool_hit(shard->pool, folio);
		volume_count(ctx->vol, hits, folio_pages(folio));
	} else {
		remove_old_locked(shard, ctx->vol, key, folio_pages(folio));
		shard_insert_locked(shard, folio, key);
		pool_enqueue(shard->pool, folio);
		volume_count(ctx->vol, misses, folio_pages(folio));
	}
}

enum stage_swap stage_swap_locked(struct write_ctx *ctx, struct shard *shard,
				  uint64_t pos, uint32_t len,
				  struct folio **busyp)
{
	struct stage *stage = ctx->stage;
	struct pool *pool = shard->pool;
	uint64_t key = folio_key(ctx->vol->id, pos);
	enum stage_swap swap;
	struct folio *folio;
	uint64_t start;
	unsigned int i = find_piece(stage, pos, &start);

	folio = pool_folio(pool, stage->frames[i]);
	if (start != pos || len < folio_size(folio) ||
	    stage->iov[i].iov_len != folio_size(folio))
		return STAGE_COPY;
	swap = examine_locked(shard, key, folio_pages(folio), busyp);
	if (swap != STAGE_SWAPPED)
		return swap;
	pool_adopt(pool, folio);
	stage->frames[i] = 0;
	swap_in_locked(ctx, shard, folio, key);
	written_locked(ctx, shard, folio, folio->uptodate);
	ctx->step_len = folio_size(folio);
	return STAGE_SWAPPED;
}
