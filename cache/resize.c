/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * resize.c - a volume gets another size while it is in use.
 *
 * Everything from the page that the smaller size ends in is held exclusively,
 * so whoever holds a range there sees one size all the time; inline writes
 * look at the size after range_lock_quiet(), under the shard's lock.  Then:
 *
 *	shrink	folios behind the new end are dropped, dirty or not, once what is
 *		in flight of them has landed; the page that straddles it is
 *		LOCKED while the size changes, so that it is written by one size
 *		or the other
 *	grow	the page that straddled the old end is written and dropped: the
 *		bytes behind it are the device's
 *
 * So what lies in a folio behind the end is never seen again, and need not be
 * zeroed.  Writeback takes no range: it is kept off by what is LOCKED or gone.
 */
#include <errno.h>

#include "cache/cache_internal.h"
#include "cache/writeback.h"

int64_t volume_present_size(struct volume *vol)
{
	if (!vol->store_ops->present_size)
		return (int64_t)volume_size(vol);
	return vol->store_ops->present_size(vol);
}

/* The folio over the page at @pos once that page is idle, or NULL. */
static struct folio *idle_folio_locked(struct volume *vol, struct shard *shard,
				       uint64_t pos, uint64_t *blocksp)
	REQUIRES(&shard->lock)
{
	uint64_t key = folio_key(vol->id, pos);
	uint64_t hash = key_hash(key);
	struct folio *folio;

	while ((folio = shard_lookup_locked(shard, key, hash))) {
		*blocksp = folio_blocks((uint32_t)(pos - key_pos(folio->key)),
					FRAME_SIZE, vol->block_shift);
		if (!(folio->flags & FOLIO_LOCKED) &&
		    !(folio->inflight & *blocksp))
			break;
		shard_wait_locked(shard, folio);
	}
	return folio;
}

static bool page_is_dirty(struct volume *vol, uint64_t pos)
{
	struct shard *shard = volume_shard(vol, pos);
	struct folio *folio;
	uint64_t blocks;
	bool dirty;

	mutex_lock(&shard->lock);
	folio = idle_folio_locked(vol, shard, pos, &blocks);
	dirty = folio && (folio->dirty & blocks);
	mutex_unlock(&shard->lock);
	return dirty;
}

/* Out of the cache with the page at @pos, as it is, by the old size. */
static int settle_page(struct volume *vol, uint64_t pos)
{
	struct writeback_control wbc = {
		.sync = WB_SYNC_ALL, .start = pos, .end = pos + FRAME_SIZE,
	};

	if (page_is_dirty(vol, pos)) {
		int ret = writeback_pages(vol, &wbc);

		/* Nobody writes to it: if it is dirty, that has failed. */
		if (page_is_dirty(vol, pos))
			return ret ? ret : -EIO;
	}
	cache_drop_range(vol, pos, pos + FRAME_SIZE);
	return 0;
}

static void set_size(struct volume *vol, uint64_t size)
{
	vol->store_ops->set_size(vol, size);
	__atomic_store_n(&vol->size, size, __ATOMIC_RELEASE);
}

/* The same while nobody takes the page at @pos into flight. */
static void set_size_around(struct volume *vol, uint64_t size, uint64_t pos)
{
	struct shard *shard = volume_shard(vol, pos);
	struct folio *folio;
	uint64_t blocks;

	mutex_lock(&shard->lock);
	folio = idle_folio_locked(vol, shard, pos, &blocks);
	if (folio)
		folio_set_flags(folio, FOLIO_LOCKED);
	mutex_unlock(&shard->lock);
	set_size(vol, size);
	if (!folio)
		return;
	mutex_lock(&shard->lock);
	folio_clear_flags(folio, FOLIO_LOCKED);
	shard_wake_locked(shard, folio);
	mutex_unlock(&shard->lock);
}

static uint64_t shrink(struct volume *vol, uint64_t old, uint64_t size)
{
	uint64_t page = round_down64(size, FRAME_SIZE);
	uint64_t start = round_up64(size, FRAME_SIZE);
	uint64_t end = round_up64(old, FRAME_SIZE), lost = 0;

	if (start < end)
		lost = cache_drop_range(vol, start, end);
	if (page < start)
		set_size_around(vol, size, page);
	else
		set_size(vol, size);
	return lost;
}

static int grow(struct volume *vol, uint64_t old, uint64_t size)
{
	uint64_t page = round_down64(old, FRAME_SIZE);

	if (page != old) {
		int ret = settle_page(vol, page);

		if (ret)
			return ret;
	}
	set_size(vol, size);
	return 1;
}

int volume_resize(struct volume *vol, uint64_t size, uint64_t *lostp)
{
	struct range range;
	uint64_t old;
	int ret = 0;

	*lostp = 0;
	if (!vol->store_ops->set_size)
		return -EOPNOTSUPP;
	if (size > VOLUME_SIZE_MAX)
		return -EFBIG;
	for (;;) {
		old = volume_size(vol);
		range_lock_exclusive(&vol->range_lock, &range,
				     round_down64(MIN(old, size), FRAME_SIZE),
				     UINT64_MAX);
		if (old == volume_size(vol))
			break;
		/* Another one was faster. */
		range_unlock(&vol->range_lock, &range);
	}
	if (size == old)
		goto out_unlock;
	ret = 1;
	if (volume_present_size(vol) != (int64_t)size)
		ret = -EAGAIN;
	else if (size < old)
		*lostp = shrink(vol, old, size);
	else
		ret = grow(vol, old, size);
out_unlock:
	range_unlock(&vol->range_lock, &range);
	return ret;
}
