/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * discard.c - TRIM and WRITE_ZEROES: the cache lets go of a range, then the
 * store does.
 *
 * The order is mandatory: the range is held exclusively, its folios are
 * dropped, dirty ones too, then the store unmaps; a fill or a write meanwhile
 * waits for the range (iomap-semantics 1.6).
 */
#include <errno.h>
#include <string.h>

#include "cache/cache_internal.h"
#include "cache/writeback.h"

#define PROBE_SIZE	(UINT64_C(1) << 20)
#define RELAX_PAGES	4096u	/* looked at in a row, before others run */

/* ---- dropping folios ---- */

enum drop {
	DROP_DONE,
	DROP_BUSY,	/* the shard's lock was dropped for a wait: look again */
	DROP_ALLOC,	/* a copy is needed: get a spare of the folio's order */
};

/* What drop_at() has at hand for a folio that somebody sends from. */
struct drop_copy {
	struct folio	*spare;		/* to be copied into, or NULL */
	bool		none;		/* memory is in pieces: there will be none */
	uint64_t	lost;		/* dirty bytes dropped, out */
};

/* A copy in the place of @folio, whose reader keeps it. */
static struct folio *unshare_locked(struct volume *vol, struct shard *shard,
				    struct folio *folio, struct folio *copy)
	REQUIRES(&shard->lock)
{
	struct pool *pool = shard->pool;

	memcpy(pool_data(pool, pool_frame(pool, copy)),
	       pool_data(pool, pool_frame(pool, folio)), folio_size(folio));
	copy->uptodate = folio->uptodate;
	shard_replace_locked(shard, vol, folio, copy);
	return copy;
}

/*
 * Only a part of @folio goes: its blocks are forgotten.  Somebody who sends
 * from it keeps his bytes, since a later fill must not overwrite them.
 */
static enum drop drop_part_locked(struct volume *vol, struct shard *shard,
				  struct folio *folio, uint64_t blocks,
				  struct drop_copy *copy)
	REQUIRES(&shard->lock)
{
	bool pinned = __atomic_load_n(&folio->pins, __ATOMIC_ACQUIRE);

	if (pinned && folio->inflight) {
		shard_wait_locked(shard, folio);
		return DROP_BUSY;
	}
	if (pinned && copy->spare && copy->spare->order == folio->order) {
		folio = unshare_locked(vol, shard, folio, copy->spare);
		copy->spare = NULL;
	} else if (pinned && (!copy->none || (folio->dirty & ~blocks))) {
		return DROP_ALLOC;
	} else if (pinned) {
		/* Of the rest the disk has the same bytes. */
		shard_discard_locked(shard, vol, folio);
		return DROP_DONE;
	}
	shard_clean_locked(shard, vol, folio, blocks);
	if (!folio->dirty && !folio->inflight)
		shard_unfail_locked(shard, vol, folio);
	folio->uptodate &= ~blocks;
	return DROP_DONE;
}

static enum drop drop_folio_locked(struct volume *vol, struct shard *shard,
				   struct folio *folio, uint64_t start,
				   uint64_t end, struct drop_copy *copy)
	REQUIRES(&shard->lock)
{
	uint64_t pos = key_pos(folio->key);
	uint64_t from = MAX(start, pos);
	uint64_t to = MIN(end, pos + folio_size(folio));
	uint64_t blocks = folio_blocks((uint32_t)(from - pos),
				       (uint32_t)(to - from),
				       vol->block_shift);
	enum drop drop = DROP_DONE;
	uint64_t dirty;

	if ((folio->flags & FOLIO_LOCKED) || (folio->inflight & blocks)) {
		shard_wait_locked(shard, folio);
		return DROP_BUSY;
	}
	dirty = (uint64_t)__builtin_popcountll(folio->dirty & blocks) <<
		vol->block_shift;
	if (folio->inflight || (folio->uptodate & ~blocks))
		drop = drop_part_locked(vol, shard, folio, blocks, copy);
	else
		shard_discard_locked(shard, vol, folio);
	if (drop == DROP_DONE)
		copy->lost += dirty;
	return drop;
}

static void free_spare(struct pool *pool, struct drop_copy *copy)
{
	if (copy->spare)
		pool_free(pool, pool_frame(pool, copy->spare));
	copy->spare = NULL;
}

/*
 * A folio of exactly @order to copy into, if memory is not in pieces.  Without
 * a copy the folio can go once it is clean: do not wait for who sends from it.
 */
static void get_spare(struct volume *vol, unsigned int order,
		      struct drop_copy *copy)
{
	struct cache *cache = vol->cache;

	free_spare(&cache->pool, copy);
	copy->spare = pool_folio(&cache->pool, cache_alloc_wait(cache, order));
	if (copy->spare->order != order) {
		free_spare(&cache->pool, copy);
		copy->none = true;
		flusher_kick(vol);
		coroutine_sleep_ns(200 * NSEC_PER_USEC);
	}
}

/* Drop what the index has at @pos; returns the position behind it and adds to
 * *@lostp. */
static uint64_t drop_at(struct volume *vol, uint64_t pos, uint64_t start,
			uint64_t end, uint64_t *lostp)
{
	struct shard *shard = volume_shard(vol, pos);
	uint64_t key = folio_key(vol->id, pos);
	uint64_t next = round_down64(pos, FRAME_SIZE) + FRAME_SIZE;
	struct drop_copy copy = { 0 };
	enum drop drop = DROP_BUSY;

	while (drop != DROP_DONE) {
		unsigned int order = 0;
		struct folio *folio;

		mutex_lock(&shard->lock);
		folio = shard_lookup_locked(shard, key, key_hash(key));
		if (folio) {
			order = folio->order;
			next = key_pos(folio->key) + folio_size(folio);
			drop = drop_folio_locked(vol, shard, folio, start, end,
						 &copy);
		} else {
			drop = DROP_DONE;
		}
		mutex_unlock(&shard->lock);
		if (drop == DROP_ALLOC)
			get_spare(vol, order, &copy);
	}
	free_spare(&vol->cache->pool, &copy);
	*lostp += copy.lost;
	return next;
}

/* Walk all frames instead of all pages: for ranges larger than the cache. */
static void drop_by_frames(struct volume *vol, uint64_t start, uint64_t end,
			   uint64_t *lostp)
{
	struct cache *cache = vol->cache;
	struct pool *pool = &cache->pool;
	uint32_t fresh;

	/* Whoever found the range quiet has entered his folio by then. */
	for (unsigned int i = 0; i < cache->nr_shards; i++) {
		mutex_lock(&cache->shards[i].lock);
		mutex_unlock(&cache->shards[i].lock);
	}
	/* What is taken from beyond it from now on is not ours to drop: its
	 * writer waits for the range. */
	fresh = __atomic_load_n(&pool->fresh, __ATOMIC_ACQUIRE);
	for (uint32_t frame = 1; frame < fresh; frame++) {
		uint64_t key, pos;

		if (frame % RELAX_PAGES == 0)
			coroutine_relax();
		/* A hint; drop_at() looks under the lock. */
		key = __atomic_load_n(&pool->folios[frame].key,
				      __ATOMIC_RELAXED);
		pos = key_pos(key);
		if (key == KEY_NONE || key_volume(key) != vol->id)
			continue;
		if (pos < end && pos + FRAME_SIZE > start)
			drop_at(vol, MAX(pos, start), start, end, lostp);
	}
	/* A folio that reaches beyond the range may have been replaced behind
	 * our back, by who writes to its other part. */
	drop_at(vol, start, start, end, lostp);
	drop_at(vol, end - 1, start, end, lostp);
}

uint64_t cache_drop_range(struct volume *vol, uint64_t start, uint64_t end)
{
	uint64_t pos = start, lost = 0;
	unsigned int nr = 0;

	if ((end - start) / FRAME_SIZE > vol->cache->pool.nr_frames / 4) {
		drop_by_frames(vol, start, end, &lost);
		return lost;
	}
	while (pos < end) {
		if (++nr % RELAX_PAGES == 0)
			coroutine_relax();
		pos = drop_at(vol, pos, start, end, &lost);
	}
	return lost;
}

/* ---- zeroes as data ---- */

typedef int (*write_fn)(struct volume *vol, uint64_t pos, uint32_t len,
			const void *buf, unsigned int flags);

/*
 * With @write: volume_write(), or cache_write_held(); the latter goes on after
 * an error, lest what was dropped from the cache be read as the device has it.
 */
static int write_zeroes(struct volume *vol, uint64_t pos, uint64_t len,
			unsigned int flags, write_fn write)
{
	int err = 0;

	while (len && (!err || write == cache_write_held)) {
		uint32_t n = (uint32_t)MIN(len, (uint64_t)VOLUME_ZERO_MAX);
		int ret = write(vol, pos, n, volume_zeroes,
				flags & VOLUME_FUA);

		if (!err)
			err = ret;
		pos += n;
		len -= n;
	}
	return err;
}

/* ---- the two requests ---- */

typedef int (*store_range_fn)(struct volume *vol, uint64_t pos, uint64_t len,
			      unsigned int flags);

/*
 * Whole blocks [@start, @end): out of the cache, then @fn of the store.  If it
 * cannot (*@datap is set), zeroes come as data, fast or not, before anybody
 * sees what the folios covered.  1: the volume got another size, look again.
 */
static int drop_and_call(struct volume *vol, uint64_t start, uint64_t end,
			 unsigned int flags, store_range_fn fn, bool *datap)
{
	struct range range;
	int ret;

	*datap = false;
	range_lock_exclusive(&vol->range_lock, &range, start, end);
	if (!volume_holds(vol, start, end - start) ||
	    (!is_aligned64(end, FRAME_SIZE) && end != volume_size(vol))) {
		range_unlock(&vol->range_lock, &range);
		return 1;
	}
	cache_drop_range(vol, start, end);
	ret = fn(vol, start, end - start, flags);
	*datap = ret == -EOPNOTSUPP;
	if (*datap && !volume_is_direct(vol))
		ret = write_zeroes(vol, start, end - start, flags,
				   cache_write_held);
	range_unlock(&vol->range_lock, &range);
	if (*datap && volume_is_direct(vol))
		ret = write_zeroes(vol, start, end - start, flags,
				   volume_write);
	return ret;
}

/*
 * A store that may not be able to is asked with a small piece first: the range
 * is then not held, nor a FLUSH kept waiting, while zeroes are written to all
 * of it.
 */
static int discard_blocks(struct volume *vol, uint64_t start, uint64_t end,
			  unsigned int flags, store_range_fn fn)
{
	uint64_t first = end;
	bool data = false;
	int ret;

	if (!vol->can_unmap || (flags & VOLUME_NO_HOLE))
		first = MIN(end, start + PROBE_SIZE);
	ret = drop_and_call(vol, start, first, flags, fn, &data);
	if (ret || first == end)
		return ret;
	if (data)
		return write_zeroes(vol, first, end - first, flags,
				    volume_write);
	return drop_and_call(vol, first, end, flags, fn, &data);
}

/* Does @flags (or the mode) want it stable before the reply? */
static bool wants_sync(const struct volume *vol, unsigned int flags)
{
	if (vol->mode == VOLUME_UNSAFE)
		return false;
	return (flags & VOLUME_FUA) || vol->mode == VOLUME_WRITETHROUGH ||
	       vol->mode == VOLUME_DIRECTSYNC;
}

/* Blocks within [@pos, @pos + @len); the volume's last may be short. */
static void whole_blocks(const struct volume *vol, uint64_t pos, uint64_t len,
			 uint64_t *startp, uint64_t *endp)
{
	uint64_t end = pos + len;

	*startp = round_up64(pos, FRAME_SIZE);
	*endp = end == volume_size(vol) ? end : round_down64(end, FRAME_SIZE);
	if (*startp >= *endp)
		*startp = *endp = pos + len;
}

/* @error: of what reaches beyond the end. */
static int discard_range(struct volume *vol, uint64_t pos, uint64_t len,
			 unsigned int flags, store_range_fn fn, int error)
{
	uint64_t start, end;
	int ret = 0;

	assert(!vol->read_only);
	/* Again if the size has changed meanwhile. */
	do {
		if (!volume_holds(vol, pos, len))
			return error;
		whole_blocks(vol, pos, len, &start, &end);
		if (start < end)
			ret = discard_blocks(vol, start, end, flags, fn);
	} while (ret > 0);
	if (ret)
		return ret;
	if (pos < start)
		ret = write_zeroes(vol, pos, start - pos, flags, volume_write);
	if (!ret && end > start && end < pos + len)
		ret = write_zeroes(vol, end, pos + len - end, flags,
				   volume_write);
	if (!ret && start < end && wants_sync(vol, flags))
		ret = volume_sync(vol);
	return ret;
}

/* The store's trim, or else its zeroing: reads are zero at once either way. */
static int unmap_or_zero(struct volume *vol, uint64_t pos, uint64_t len,
			 unsigned int flags)
{
	int ret = vol->store_ops->unmap(vol, pos, len, flags);

	if (ret == -EOPNOTSUPP)
		ret = vol->store_ops->zero(vol, pos, len, 0);
	return ret;
}

int volume_trim(struct volume *vol, uint64_t pos, uint64_t len,
		unsigned int flags)
{
	int ret = discard_range(vol, pos, len, flags & VOLUME_FUA,
				unmap_or_zero, -EINVAL);

	if (!ret)
		volume_count(vol, trims, 1);
	return ret;
}

int volume_zero(struct volume *vol, uint64_t pos, uint64_t len,
		unsigned int flags)
{
	int ret;

	/* Refused before anything is touched. */
	if ((flags & VOLUME_FAST_ZERO) && !vol->can_fast_zero)
		return -EOPNOTSUPP;
	ret = discard_range(vol, pos, len, flags, vol->store_ops->zero,
			    -ENOSPC);
	if (!ret)
		volume_count(vol, zeroes, 1);
	return ret;
}
