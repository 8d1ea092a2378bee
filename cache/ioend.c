/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ioend.c - writes on their way: what may join, what may merge, submission and
 * completion.
 */
#include <errno.h>
#include <stdlib.h>

#include "cache/cache_internal.h"
#include "cache/flusher.h"
#include "cache/ioend.h"

#define SEGS_FIRST	32u	/* room of a new ioend; grows to IOEND_FOLIOS_MAX */

/* ---- waiting for a set of ioends ---- */

void wb_waiter_init(struct wb_waiter *waiter)
{
	mutex_init(&waiter->lock, RANK_BDEV);
	waitq_init(&waiter->waiters);
	waiter->pending = 0;
	waiter->error = 0;
}

static void waiter_get(struct wb_waiter *waiter)
{
	if (!waiter)
		return;
	mutex_lock(&waiter->lock);
	waiter->pending++;
	mutex_unlock(&waiter->lock);
}

/* The waiter may be gone as soon as the lock is released. */
static void waiter_put(struct wb_waiter *waiter, int error)
{
	if (!waiter)
		return;
	mutex_lock(&waiter->lock);
	if (!waiter->error)
		waiter->error = error;
	if (--waiter->pending == 0)
		waitq_wake_all(&waiter->waiters);
	mutex_unlock(&waiter->lock);
}

int wb_waiter_wait(struct wb_waiter *waiter)
{
	int error;

	mutex_lock(&waiter->lock);
	while (waiter->pending)
		waitq_wait(&waiter->waiters, &waiter->lock);
	error = waiter->error;
	mutex_unlock(&waiter->lock);
	mutex_fini(&waiter->lock);
	return error;
}

/* ---- the rules ---- */

static unsigned int join_flags(const struct writepage_ctx *wpc,
			       const struct iomap *iomap)
{
	unsigned int flags = 0;

	if (iomap->type == IOMAP_UNWRITTEN)
		flags |= IOEND_UNWRITTEN;
	if (iomap->flags & IOMAP_F_SHARED)
		flags |= IOEND_SHARED;
	if (iomap->flags & IOMAP_F_ANON_WRITE)
		flags |= IOEND_ANON;
	if (wpc->io_flags & BDEV_FUA)
		flags |= IOEND_FUA;
	if (!wpc->wbc)
		flags |= IOEND_THROUGH;
	return flags;
}

bool ioend_can_add(const struct ioend *ioend, const struct writepage_ctx *wpc,
		   const struct iomap *iomap, uint64_t pos, uint32_t len,
		   unsigned int flags)
{
	if (ioend->size + len > ioend->vol->max_io)
		return false;
	if ((iomap->flags & IOMAP_F_BOUNDARY) && pos == iomap->offset)
		return false;
	if ((flags & IOEND_NOMERGE) != (ioend->flags & IOEND_NOMERGE))
		return false;
	if (pos != ioend->offset + ioend->size)
		return false;
	if (!(flags & IOEND_ANON) &&
	    iomap_addr(iomap, pos) != ioend->addr + ioend->size)
		return false;
	if (ioend->nr_segs >= IOEND_FOLIOS_MAX)
		return false;
	if (iomap->bdev != ioend->bdev || iomap->private != ioend->private)
		return false;
	return ioend->vol == wpc->vol && ioend->wpc == wpc;
}

bool ioend_can_merge(const struct ioend *ioend, const struct ioend *next)
{
	if (ioend->error != next->error || ioend->vol != next->vol)
		return false;
	if (next->flags & IOEND_BOUNDARY)
		return false;
	if ((ioend->flags & IOEND_NOMERGE) != (next->flags & IOEND_NOMERGE))
		return false;
	if (ioend->offset + ioend->size != next->offset)
		return false;
	if (ioend->addr + ioend->size != next->addr)
		return false;
	return ioend->bdev == next->bdev && ioend->private == next->private;
}

/* ---- building ---- */

static struct ioend *ioend_new(unsigned int max_segs)
{
	struct ioend *ioend = calloc(1, sizeof(*ioend));

	if (!ioend)
		return NULL;
	ioend->segs = malloc(max_segs * sizeof(*ioend->segs));
	ioend->iov = malloc(max_segs * sizeof(*ioend->iov));
	if (!ioend->segs || !ioend->iov) {
		ioend_destroy(ioend);
		return NULL;
	}
	ioend->max_segs = max_segs;
	return ioend;
}

void ioend_destroy(struct ioend *ioend)
{
	if (!ioend)
		return;
	free(ioend->segs);
	free(ioend->iov);
	free(ioend);
}

struct ioend *ioend_new_reserve(void)
{
	return ioend_new(SEGS_FIRST);
}

/* Memory, or the reserve, or wait until somebody brings the reserve back. */
static struct ioend *ioend_get(struct flusher *flusher)
{
	struct ioend *ioend = ioend_new(SEGS_FIRST);

	while (!ioend) {
		mutex_lock(&flusher->lock);
		ioend = flusher->reserve;
		flusher->reserve = NULL;
		mutex_unlock(&flusher->lock);
		if (ioend)
			break;
		coroutine_sleep_ns(NSEC_PER_MSEC);
		ioend = ioend_new(SEGS_FIRST);
	}
	return ioend;
}

/* A new ioend at @pos, known to writeback_wait() from here on. */
static struct ioend *ioend_begin(struct writepage_ctx *wpc, uint64_t pos,
				 unsigned int flags)
{
	struct flusher *flusher = wpc->vol->flusher;
	struct ioend *ioend = ioend_get(flusher);

	ioend->vol = wpc->vol;
	ioend->wpc = wpc;
	ioend->waiter = wpc->waiter;
	ioend->offset = pos;
	ioend->size = 0;
	ioend->addr = iomap_addr(&wpc->iomap, pos);
	ioend->bdev = wpc->iomap.bdev;
	ioend->private = wpc->iomap.private;
	ioend->flags = flags;
	if ((flags & (IOEND_UNWRITTEN | IOEND_SHARED | IOEND_ANON)) ||
	    (wpc->iomap.flags & (IOMAP_F_NEW | IOMAP_F_DIRTY)))
		wpc->needs_sync = true;
	if ((wpc->iomap.flags & IOMAP_F_BOUNDARY) && pos == wpc->iomap.offset)
		ioend->flags |= IOEND_BOUNDARY;
	ioend->error = 0;
	ioend->nr_segs = 0;
	waiter_get(ioend->waiter);
	mutex_lock(&flusher->lock);
	ioend->seq = flusher->next_seq++;
	TAILQ_INSERT_TAIL(&flusher->inflight, ioend, link);
	flusher->nr_inflight++;
	mutex_unlock(&flusher->lock);
	return ioend;
}

/* Room for one more segment; false means "full" (or no memory: as good). */
static bool ioend_grow(struct ioend *ioend)
{
	unsigned int max = MIN(ioend->max_segs * 4, IOEND_FOLIOS_MAX);
	void *mem;

	if (ioend->nr_segs < ioend->max_segs)
		return true;
	if (ioend->max_segs == max)
		return false;
	mem = realloc(ioend->segs, max * sizeof(*ioend->segs));
	if (!mem)
		return false;
	ioend->segs = mem;
	mem = realloc(ioend->iov, max * sizeof(*ioend->iov));
	if (!mem)
		return false;
	ioend->iov = mem;
	ioend->max_segs = max;
	return true;
}

struct wb_range ioend_add_range(struct writepage_ctx *wpc, struct folio *folio,
				uint64_t pos, uint32_t len)
{
	struct pool *pool = &wpc->vol->cache->pool;
	const struct iomap *iomap = &wpc->iomap;
	unsigned int flags = join_flags(wpc, iomap);
	uint32_t off = (uint32_t)(pos - key_pos(folio->key));
	struct ioend *ioend;
	unsigned int i;

	assert(iomap_covers(iomap, pos));
	len = (uint32_t)MIN((uint64_t)len,
			    iomap->offset + iomap->length - pos);
	ioend = wpc->ioend;
	if (ioend && (!ioend_can_add(ioend, wpc, iomap, pos, len, flags) ||
		      !ioend_grow(ioend)))
		ioend_submit(wpc, 0);
	if (!wpc->ioend)
		wpc->ioend = ioend_begin(wpc, pos, flags);
	ioend = wpc->ioend;
	i = ioend->nr_segs++;
	ioend->segs[i].frame = pool_frame(pool, folio);
	ioend->segs[i].blocks = folio_blocks(off, len, wpc->vol->block_shift);
	ioend->iov[i].iov_base = pool_data(pool, ioend->segs[i].frame) + off;
	ioend->iov[i].iov_len = len;
	ioend->size += len;
	return (struct wb_range){ .handled = len, .submitted = len };
}

/* ---- completion ---- */

/*
 * The blocks of @ioend leave flight; after an error they are dirty again, and
 * every FLUSH is told until they are written.  So it is with a write-through
 * request, too, though it has been told: what it replaced may have been
 * acknowledged, and a FLUSH that waits for this ioend must not take it for
 * stored.
 */
static void finish_seg_locked(struct ioend *ioend, struct shard *shard,
			      const struct ioend_seg *seg)
	REQUIRES(&shard->lock)
{
	struct volume *vol = ioend->vol;
	struct folio *folio = pool_folio(shard->pool, seg->frame);

	shard_end_io_locked(shard, vol, folio, seg->blocks);
	if (!ioend->error) {
		if (!folio->dirty && !folio->inflight)
			shard_unfail_locked(shard, vol, folio);
		return;
	}
	shard_dirty_locked(shard, vol, folio, seg->blocks);
	shard_fail_locked(shard, vol, folio);
	stat_add(&vol->failures, 1);
}

static void finish_segs(struct ioend *ioend)
{
	struct pool *pool = &ioend->vol->cache->pool;
	unsigned int i = 0;

	/* One lock for all neighbours of a shard. */
	while (i < ioend->nr_segs) {
		struct shard *shard, *next;
		uint64_t pos;

		pos = key_pos(pool_folio(pool, ioend->segs[i].frame)->key);
		shard = next = volume_shard(ioend->vol, pos);
		mutex_lock(&shard->lock);
		while (next == shard) {
			finish_seg_locked(ioend, shard, &ioend->segs[i++]);
			if (i == ioend->nr_segs)
				break;
			pos = key_pos(pool_folio(pool,
						 ioend->segs[i].frame)->key);
			next = volume_shard(ioend->vol, pos);
		}
		mutex_unlock(&shard->lock);
	}
}

static void ioend_finish(struct ioend *ioend)
{
	struct volume *vol = ioend->vol;
	struct flusher *flusher = vol->flusher;

	finish_segs(ioend);
	volume_count(vol, ioends, 1);
	if (ioend->error) {
		volume_count(vol, wb_errors, 1);
		errseq_set(&vol->wb_err, ioend->error);
	} else {
		volume_count(vol, ioend_bytes, ioend->size);
	}
	waiter_put(ioend->waiter, ioend->error);
	mutex_lock(&flusher->lock);
	TAILQ_REMOVE(&flusher->inflight, ioend, link);
	flusher->nr_inflight--;
	if (!flusher->reserve) {
		flusher->reserve = ioend;
		ioend = NULL;
	}
	waitq_wake_all(&flusher->waiters);
	/* Once nothing is in flight the flusher may be freed elsewhere. */
	mutex_unlock(&flusher->lock);
	ioend_destroy(ioend);
}

/* ---- completed ones, by offset ---- */

static struct ioend **next_done(struct ioend *ioend)
{
	return &ioend->done_link.tqe_next;
}

static struct ioend *merge_lists(struct ioend *a, struct ioend *b)
{
	struct ioend *head = NULL, **link = &head;

	while (a && b) {
		struct ioend **from = a->offset <= b->offset ? &a : &b;

		*link = *from;
		link = next_done(*from);
		*from = *link;
	}
	*link = a ? a : b;
	return head;
}

/* Merge sort that needs no memory; bins[n] holds 2^n or none. */
static struct ioend *sort_list(struct ioend *list)
{
	struct ioend *bins[32] = { NULL }, *sorted = NULL;
	unsigned int i;

	while (list) {
		struct ioend *run = list;

		list = *next_done(run);
		*next_done(run) = NULL;
		for (i = 0; i < ARRAY_SIZE(bins) - 1 && bins[i]; i++) {
			run = merge_lists(bins[i], run);
			bins[i] = NULL;
		}
		bins[i] = bins[i] ? merge_lists(bins[i], run) : run;
	}
	for (i = 0; i < ARRAY_SIZE(bins); i++)
		sorted = merge_lists(bins[i], sorted);
	return sorted;
}

/*
 * Sorted ioends: one call of the store for each run that merges, then its
 * members finish (iomap-semantics 1.5, 2.2).
 */
static void end_io_runs(struct volume *vol, struct ioend *list)
{
	while (list) {
		struct ioend merged = *list, *end = *next_done(list);
		int ret = merged.error;

		while (end && ioend_can_merge(&merged, end)) {
			merged.size += end->size;
			end = *next_done(end);
		}
		if (!ret)
			ret = vol->wb_ops->end_io(vol, &merged);
		while (list != end) {
			struct ioend *ioend = list;

			list = *next_done(ioend);
			if (!ioend->error)
				ioend->error = ret;
			ioend_finish(ioend);
		}
		coroutine_relax();
	}
}

/* Work off what has completed, in a coroutine of the home loop. */
static void end_io_co(void *arg)
{
	struct flusher *flusher = arg;
	struct volume *vol = flusher->vol;
	struct ioend *list;

	do {
		mutex_lock(&flusher->lock);
		list = TAILQ_FIRST(&flusher->done);
		TAILQ_INIT(&flusher->done);
		if (!list) {
			flusher->completing = false;
			waitq_wake_all(&flusher->waiters);
		}
		/* Without a list the flusher may be gone from here on. */
		mutex_unlock(&flusher->lock);
		end_io_runs(vol, sort_list(list));
	} while (list);
}

static void end_io_work(struct work *work)
{
	struct flusher *flusher = container_of(work, struct flusher, done_work);

	/* Out of memory for a coroutine: try again next turn. */
	if (coroutine_start(end_io_co, flusher))
		loop_defer(work);
}

/* The write is over, well or not: on to the mapping, or straight to the end. */
static void ioend_complete(struct ioend *ioend, int error)
{
	struct flusher *flusher = ioend->vol->flusher;
	bool start;

	ioend->error = error;
	if (!ioend->vol->wb_ops->end_io) {
		ioend_finish(ioend);
		return;
	}
	mutex_lock(&flusher->lock);
	TAILQ_INSERT_TAIL(&flusher->done, ioend, done_link);
	start = !flusher->completing;
	flusher->completing = true;
	mutex_unlock(&flusher->lock);
	if (start)
		loop_post(ioend->vol->home, &flusher->done_work);
}

static void ioend_req_done(struct bdev_req *req)
{
	struct ioend *ioend = container_of(req, struct ioend, req);

	ioend_complete(ioend, req->ret);
}

int ioend_submit(struct writepage_ctx *wpc, int error)
{
	struct ioend *ioend = wpc->ioend;

	if (!ioend)
		return error;
	wpc->ioend = NULL;
	ioend->wpc = NULL;
	if (error) {
		/* In flight already: it ends the way all end. */
		ioend_complete(ioend, error);
		return error;
	}
	ioend->req = (struct bdev_req){
		.op = BDEV_WRITE,
		.flags = wpc->io_flags,
		.pos = ioend->addr,
		.len = ioend->size,
		.iov = ioend->iov,
		.nr_iov = ioend->nr_segs,
		.done = ioend_req_done,
	};
	bdev_submit(ioend->bdev, &ioend->req);
	return 0;
}

void ioend_init_flusher(struct flusher *flusher)
{
	flusher->done_work.fn = end_io_work;
}
