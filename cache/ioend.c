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
	waiter->co = coroutine_self();
	waiter->pending = 1;
	waiter->error = 0;
}

static void waiter_get(struct wb_waiter *waiter)
{
	if (waiter)
		__atomic_add_fetch(&waiter->pending, 1, __ATOMIC_RELAXED);
}

/* Pairs with wb_waiter_wait(): the error is seen by whom the last put wakes. */
static void waiter_put(struct wb_waiter *waiter, int error)
{
	struct coroutine *co;
	int none = 0;

	if (!waiter)
		return;
	if (error)
		__atomic_compare_exchange_n(&waiter->error, &none, error, false,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	/* The waiter is gone as soon as it sees the count at zero. */
	co = waiter->co;
	if (__atomic_sub_fetch(&waiter->pending, 1, __ATOMIC_ACQ_REL) == 0)
		coroutine_wake(co);
}

int wb_waiter_wait(struct wb_waiter *waiter)
{
	if (__atomic_sub_fetch(&waiter->pending, 1, __ATOMIC_ACQ_REL)) {
		do
			coroutine_yield();
		while (__atomic_load_n(&waiter->pending, __ATOMIC_ACQUIRE));
	}
	return __atomic_load_n(&waiter->error, __ATOMIC_RELAXED);
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

static void ioend_put(struct flusher *flusher, struct ioend *ioend)
{
	bool keep;

	mutex_lock(&flusher->lock);
	keep = !flusher->reserve;
	if (keep)
		flusher->reserve = ioend;
	mutex_unlock(&flusher->lock);
	if (!keep)
		ioend_destroy(ioend);
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
 * The blocks of @ioend leave flight; after an error they are dirty again, so
 * that what was acknowledged in them is not taken for stored.  A write-through
 * request has been told; of others every FLUSH is told until they are written.
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
	if (!(ioend->flags & IOEND_THROUGH))
		shard_fail_locked(shard, vol, folio);
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
	stat_add(&vol->stats.ioends, 1);
	if (ioend->error) {
		stat_add(&vol->stats.wb_errors, 1);
		errseq_set(&vol->wb_err, ioend->error);
	} else {
		stat_add(&vol->stats.ioend_bytes, ioend->size);
	}
	waiter_put(ioend->waiter, ioend->error);
	mutex_lock(&flusher->lock);
	TAILQ_REMOVE(&flusher->inflight, ioend, link);
	flusher->nr_inflight--;
	waitq_wake_all(&flusher->waiters);
	mutex_unlock(&flusher->lock);
	ioend_put(flusher, ioend);
}

static int cmp_offset(const void *a, const void *b)
{
	const struct ioend *x = *(struct ioend *const *)a;
	const struct ioend *y = *(struct ioend *const *)b;

	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/*
 * Sorted ioends: one call of the store for each run that merges, then its
 * members finish (iomap-semantics 1.5, 2.2).
 */
static void end_io_runs(struct volume *vol, struct ioend **list, size_t nr)
{
	size_t i = 0;

	while (i < nr) {
		struct ioend merged = *list[i];
		size_t first = i++;
		int ret;

		while (i < nr && ioend_can_merge(&merged, list[i]))
			merged.size += list[i++]->size;
		ret = merged.error;
		if (!ret)
			ret = vol->wb_ops->end_io(vol, &merged);
		for (; first < i; first++) {
			if (!list[first]->error)
				list[first]->error = ret;
			ioend_finish(list[first]);
		}
		coroutine_relax();
	}
}

#define END_IO_BATCH	256u

/* Work off what has completed, in a coroutine of the home loop. */
static void end_io_co(void *arg)
{
	struct flusher *flusher = arg;
	struct ioend *batch[END_IO_BATCH];
	size_t nr;

	do {
		nr = 0;
		mutex_lock(&flusher->lock);
		while (nr < END_IO_BATCH && !TAILQ_EMPTY(&flusher->done)) {
			struct ioend *ioend = TAILQ_FIRST(&flusher->done);

			TAILQ_REMOVE(&flusher->done, ioend, done_link);
			batch[nr++] = ioend;
		}
		if (!nr) {
			flusher->completing = false;
			waitq_wake_all(&flusher->waiters);
		}
		mutex_unlock(&flusher->lock);
		qsort(batch, nr, sizeof(batch[0]), cmp_offset);
		end_io_runs(flusher->vol, batch, nr);
	} while (nr);
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
	wpc->nr_ioends++;
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
