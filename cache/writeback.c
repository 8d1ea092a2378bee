/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * writeback.c - one pass over a volume's dirty folios, in index order.
 *
 * Tagging copies the keys of what is dirty now into an array and sorts it; the
 * pass then works off the array, so what is dirtied behind its back is for the
 * next one, and a FLUSH ends however fast somebody writes.  The array holds
 * keys, not folios: each is looked up again and skipped if it is clean by then.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache_internal.h"
#include "cache/flusher.h"

#define INFLIGHT_NONE	16u	/* ioends of a volume: a background pass waits */
#define INFLIGHT_ALL	128u	/* above that many, an integrity pass too */

/* ---- tagging ---- */

#define SORT_SMALL	64u	/* below that many, counting digits costs more */

static void insertion_sort(struct wb_tag *tags, size_t nr)
{
	for (size_t i = 1; i < nr; i++) {
		struct wb_tag tag = tags[i];
		size_t k = i;

		for (; k > 0 && tags[k - 1].key > tag.key; k--)
			tags[k] = tags[k - 1];
		tags[k] = tag;
	}
}

/*
 * Sort keys by their 48 low bits (they are of one volume), least significant
 * digit first.  A digit that all keys share costs one look.
 */
static void sort_keys(struct wb_tag *tags, struct wb_tag *tmp, size_t nr)
{
	struct wb_tag *from = tags, *to = tmp;

	if (nr <= SORT_SMALL) {
		insertion_sort(tags, nr);
		return;
	}
	for (unsigned int shift = 0; shift < KEY_PAGE_BITS; shift += 12) {
		uint32_t count[4097] = { 0 };
		struct wb_tag *swap = from;

		for (size_t i = 0; i < nr; i++)
			count[((from[i].key >> shift) & 4095) + 1]++;
		if (count[((from[0].key >> shift) & 4095) + 1] == nr)
			continue;
		for (unsigned int d = 0; d < 4096; d++)
			count[d + 1] += count[d];
		for (size_t i = 0; i < nr; i++)
			to[count[(from[i].key >> shift) & 4095]++] = from[i];
		from = to;
		to = swap;
	}
	if (from != tags)
		memcpy(tags, from, nr * sizeof(*tags));
}

/* Room for @more tags; waits for memory, as an integrity pass must not end for
 * want of it. */
static void reserve_tags(struct writeback_control *wbc, size_t *max,
			 size_t more)
{
	struct wb_tag *tags;

	if (wbc->nr_towrite + more <= *max)
		return;
	while (!(tags = realloc(wbc->towrite, (wbc->nr_towrite + more) * 2 *
				sizeof(*tags))))
		coroutine_sleep_ns(NSEC_PER_MSEC);
	wbc->towrite = tags;
	*max = (wbc->nr_towrite + more) * 2;
}

static bool in_range(const struct volume *vol,
		     const struct writeback_control *wbc,
		     const struct folio *folio)
{
	uint64_t pos = key_pos(folio->key);

	if (wbc->range_cyclic)
		return folio->key >= vol->flusher->cursor;
	return pos < wbc->end && pos + folio_size(folio) > wbc->start;
}

static void tag_shard(struct volume *vol, struct writeback_control *wbc,
		      struct shard *shard, size_t *max)
{
	struct dirty_list *list = &vol->dirty[shard->index];
	uint32_t nr;

	for (;;) {
		nr = __atomic_load_n(&list->nr, __ATOMIC_RELAXED);
		if (!nr)
			return;
		reserve_tags(wbc, max, nr);
		mutex_lock(&shard->lock);
		if (wbc->nr_towrite + list->nr <= *max)
			break;
		mutex_unlock(&shard->lock);
	}
	for (uint32_t frame = list->head; frame;) {
		struct folio *folio = pool_folio(shard->pool, frame);

		if (in_range(vol, wbc, folio))
			wbc->towrite[wbc->nr_towrite++].key = folio->key;
		frame = folio->d_next;
	}
	mutex_unlock(&shard->lock);
}

/* DIRTY to TOWRITE: note what is dirty now, in index order. */
static void tag_for_writeback(struct volume *vol, struct writeback_control *wbc)
{
	size_t max = 0;

	for (unsigned int i = 0; i < vol->cache->nr_shards; i++)
		tag_shard(vol, wbc, &vol->cache->shards[i], &max);
	if (wbc->nr_towrite > 1) {
		reserve_tags(wbc, &max, wbc->nr_towrite);
		sort_keys(wbc->towrite, wbc->towrite + wbc->nr_towrite,
			  wbc->nr_towrite);
	}
}

/* ---- the iterator ---- */

/*
 * Take the dirty blocks of the tagged folio at @key into flight.  False if
 * there is nothing (any more) to be written there, or it is locked and the
 * pass does not wait.
 */
static bool take_folio(struct volume *vol, struct writeback_control *wbc,
		       uint64_t key, struct folio **foliop, uint64_t *blocksp)
{
	uint64_t hash = key_hash(key);
	struct shard *shard = cache_shard(vol->cache, hash);
	struct folio *folio;
	bool took = false;

	mutex_lock(&shard->lock);
	while ((folio = shard_lookup_locked(shard, key, hash)) &&
	       (folio->flags & FOLIO_LOCKED) && folio->dirty &&
	       wbc->sync == WB_SYNC_ALL)
		shard_wait_locked(shard, folio);
	if (folio && folio->dirty && !(folio->flags & FOLIO_LOCKED)) {
		*foliop = folio;
		*blocksp = folio->dirty;
		shard_clean_locked(shard, vol, folio, *blocksp);
		shard_start_io_locked(shard, vol, folio, *blocksp);
		wbc->last_pages = folio_pages(folio);
		wbc->last_key = folio->key + folio_pages(folio);
		took = true;
	}
	mutex_unlock(&shard->lock);
	return took;
}

static void iter_start(struct volume *vol, struct writeback_control *wbc)
{
	wbc->towrite = NULL;
	wbc->nr_towrite = wbc->next = 0;
	wbc->saved_err = 0;
	wbc->last_pages = 0;
	wbc->claimed = false;
	wbc->started = true;
	tag_for_writeback(vol, wbc);
}

/* @cursor: the key where the next cyclic pass goes on; 0 from the beginning. */
static bool iter_end(struct volume *vol, struct writeback_control *wbc,
		     uint64_t cursor)
{
	if (wbc->range_cyclic)
		vol->flusher->cursor = cursor;
	free(wbc->towrite);
	wbc->towrite = NULL;
	wbc->started = false;
	return false;
}

static void drop_claim(struct volume *vol, struct writeback_control *wbc)
{
	if (wbc->claimed)
		writeback_unclaim(vol, wbc->claim);
	wbc->claimed = false;
}

bool writeback_iter(struct volume *vol, struct writeback_control *wbc,
		    struct folio **foliop, uint64_t *blocksp, int error)
{
	if (!wbc->started)
		iter_start(vol, wbc);
	drop_claim(vol, wbc);
	if (error && !wbc->saved_err)
		wbc->saved_err = error;
	wbc->nr_to_write -= wbc->last_pages;
	wbc->last_pages = 0;
	if (wbc->sync == WB_SYNC_NONE && (error || wbc->nr_to_write <= 0))
		return iter_end(vol, wbc, wbc->last_key);
	while (wbc->next < wbc->nr_towrite) {
		uint64_t key = wbc->towrite[wbc->next++].key;

		wbc->claim = writeback_claim(vol);
		wbc->claimed = true;
		if (take_folio(vol, wbc, key, foliop, blocksp))
			return true;
		drop_claim(vol, wbc);
	}
	/* No wrap within a pass: the next one begins at the start. */
	return iter_end(vol, wbc, 0);
}

/* ---- mapping a folio's runs ---- */

/* Blocks that go nowhere (a hole) leave flight clean; after an error the rest
 * of the folio's leave it dirty. */
static void leave_flight(struct writepage_ctx *wpc, struct folio *folio,
			 uint64_t blocks, int error)
{
	struct volume *vol = wpc->vol;
	struct shard *shard = volume_shard(vol, key_pos(folio->key));

	mutex_lock(&shard->lock);
	shard_end_io_locked(shard, vol, folio, blocks);
	if (error) {
		shard_dirty_locked(shard, vol, folio, blocks);
		shard_fail_locked(shard, vol, folio);
		stat_add(&vol->failures, 1);
	} else if (!folio->dirty && !folio->inflight) {
		shard_unfail_locked(shard, vol, folio);
	}
	mutex_unlock(&shard->lock);
	if (error && wpc->wbc)
		errseq_set(&vol->wb_err, error);
}

/* Is what the store answered possible at all?  Its bug is an I/O error. */
static int check_range(const struct volume *vol, const struct wb_range *range,
		       uint32_t len)
{
	uint64_t block = UINT64_C(1) << vol->block_shift;

	if (range->error)
		return range->error;
	if (range->handled == 0 || range->handled > len ||
	    range->submitted > range->handled)
		return -EIO;
	/* Both end with a block, or with the run. */
	if (range->handled < len && !is_aligned64(range->handled, block))
		return -EIO;
	if (range->submitted < range->handled &&
	    !is_aligned64(range->submitted, block))
		return -EIO;
	return 0;
}

/* Map and add one run of blocks; *@donep are its bytes dealt with. */
static int add_run(struct writepage_ctx *wpc, struct folio *folio,
		   uint64_t pos, uint32_t len, uint32_t *donep)
{
	struct volume *vol = wpc->vol;
	uint64_t start = key_pos(folio->key);

	*donep = 0;
	while (*donep < len) {
		uint64_t at = pos + *donep;
		struct wb_range range;
		int ret;

		range = vol->wb_ops->writeback_range(wpc, folio, at,
						     len - *donep);
		ret = check_range(vol, &range, len - *donep);
		if (ret)
			return ret;
		/* What is behind the submitted bytes is a hole. */
		if (range.submitted < range.handled)
			leave_flight(wpc, folio,
				     folio_blocks((uint32_t)(at - start) +
						  range.submitted,
						  range.handled -
						  range.submitted,
						  vol->block_shift), 0);
		*donep += range.handled;
	}
	return 0;
}

int writeback_folio(struct writepage_ctx *wpc, struct folio *folio,
		    uint64_t blocks)
{
	struct volume *vol = wpc->vol;
	uint64_t start = key_pos(folio->key);
	unsigned int first, nr;

	while (block_run(blocks, &first, &nr)) {
		uint64_t pos = start + ((uint64_t)first << vol->block_shift);
		uint32_t len = (uint32_t)MIN((uint64_t)nr << vol->block_shift,
					     volume_size(vol) - pos);
		uint32_t done;
		int ret = add_run(wpc, folio, pos, len, &done);

		if (ret) {
			/* What joined an ioend goes on; the rest stays. */
			if (done)
				blocks &= ~folio_blocks((uint32_t)(pos - start),
							done, vol->block_shift);
			/* Once out of flight the folio may be trimmed away. */
			if (vol->wb_ops->discard_folio)
				vol->wb_ops->discard_folio(vol, folio,
							   pos + done);
			leave_flight(wpc, folio, blocks, ret);
			return ret;
		}
		blocks &= ~block_mask(first, first + nr - 1);
	}
	return 0;
}

/* ---- one pass ---- */

/* Keep the device busy, not flooded; what is being built goes out first. */
static void limit_inflight(struct writepage_ctx *wpc)
{
	struct flusher *flusher = wpc->vol->flusher;
	unsigned int max = wpc->wbc->sync == WB_SYNC_ALL ? INFLIGHT_ALL :
							   INFLIGHT_NONE;

	mutex_lock(&flusher->lock);
	while (flusher->nr_inflight > max) {
		if (wpc->ioend) {
			mutex_unlock(&flusher->lock);
			ioend_submit(wpc, 0);
			mutex_lock(&flusher->lock);
			continue;
		}
		waitq_wait(&flusher->waiters, &flusher->lock);
	}
	mutex_unlock(&flusher->lock);
}

int writeback_pages(struct volume *vol, struct writeback_control *wbc)
{
	struct writepage_ctx wpc = { .vol = vol, .wbc = wbc };
	struct folio *folio;
	uint64_t blocks;
	int err = 0;

	while (writeback_iter(vol, wbc, &folio, &blocks, err)) {
		err = writeback_folio(&wpc, folio, blocks);
		limit_inflight(&wpc);
	}
	if (vol->wb_ops->writeback_submit)
		vol->wb_ops->writeback_submit(&wpc, 0);
	else
		ioend_submit(&wpc, 0);
	return wbc->saved_err;
}
