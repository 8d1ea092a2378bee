/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fill.c - from the device into folios: what a read finds missing.
 *
 * A run of folios is LOCKED, read with one request and published together.
 * Whoever holds LOCKED folios waits for nothing but that request: not for
 * memory, not for another folio.  So no order among folios is needed.
 */
#include <errno.h>
#include <string.h>

#include "bdev/bdev.h"
#include "cache/cache_internal.h"

#define FILL_SEGS_MAX	64u

/* A run of blocks of one folio that the request fills. */
struct fill_seg {
	struct folio	*folio;
	uint64_t	blocks;
	uint64_t	pos;		/* volume position of the first block */
	uint32_t	len;		/* bytes, whole blocks */
};

struct fill {
	struct volume		*vol;
	struct iomap_iter	*iter;
	uint64_t		start, end;	/* bytes covered by segs */
	struct folio		*spare;		/* allocated, not yet used */
	bool			wait;		/* for memory */
	bool			starved;	/* there was none without waiting */
	unsigned int		nr;
	struct fill_seg		segs[FILL_SEGS_MAX];
	struct iovec		iov[FILL_SEGS_MAX];
};

/* ---- pinning ---- */

static void add_pin(struct volume *vol, struct folio *folio, uint32_t off,
		    uint32_t len, struct pinvec *pv)
{
	struct pool *pool = &vol->cache->pool;
	uint32_t frame = pool_frame(pool, folio);
	struct pin *pin = &pv->pins[pv->nr++];

	__atomic_fetch_add(&folio->pins, 1, __ATOMIC_RELAXED);
	pin->base = pool_data(pool, frame) + off;
	pin->len = len;
	pin->frame = frame;
}

/*
 * A page is pinned in one piece or not yet: its blocks may come one by one, and
 * the folio may change in between, but readers count on one pin a page.  How
 * much of @n bytes from @off on that leaves, if @want are wanted.
 */
static uint32_t whole_pages(uint32_t off, uint32_t n, uint32_t want)
{
	uint32_t end = off + n;

	if (n >= want)
		return want;
	end &= ~(FRAME_SIZE - 1);
	return end > off ? end - off : 0;
}

/* How many bytes from @off on are uptodate, up to the folio's end. */
static uint32_t uptodate_bytes(const struct volume *vol,
			       const struct folio *folio, uint32_t off)
{
	unsigned int first = off >> vol->block_shift;
	uint64_t missing = ~(folio->uptodate >> first);
	uint32_t end = folio_size(folio);

	if (missing)
		end = MIN(end, (first + (uint32_t)__builtin_ctzll(missing)) <<
			       vol->block_shift);
	return end > off ? end - off : 0;
}

/* The same as pin_cached(), within one shard. */
static uint32_t pin_unit(struct volume *vol, uint64_t pos, uint32_t len,
			 struct pinvec *pv, bool *markedp)
{
	uint64_t key = folio_key(vol->id, pos);
	uint64_t hash = key_hash(key);
	struct shard *shard = cache_shard(vol->cache, hash);
	uint32_t done = 0;

	mutex_lock(&shard->lock);
	while (done < len && pv->nr < pv->max) {
		struct folio *folio;
		uint32_t off, n;

		folio = shard_lookup_locked(shard, folio_key(vol->id,
							     pos + done), hash);
		if (!folio || (folio->flags & FOLIO_LOCKED))
			break;
		off = (uint32_t)(pos + done - key_pos(folio->key));
		n = whole_pages(off, uptodate_bytes(vol, folio, off),
				len - done);
		if (!n)
			break;
		add_pin(vol, folio, off, n, pv);
		if (unlikely(folio->flags & FOLIO_AHEAD)) {
			folio_clear_flags(folio, FOLIO_AHEAD);
			*markedp = true;
		}
		done += n;
	}
	mutex_unlock(&shard->lock);
	return done;
}

uint32_t pin_cached(struct volume *vol, uint64_t pos, uint32_t len,
		    struct pinvec *pv, bool *markedp)
{
	uint32_t done = 0;

	while (done < len) {
		uint64_t room = SHARD_UNIT - ((pos + done) & (SHARD_UNIT - 1));
		uint32_t want = (uint32_t)MIN(room, (uint64_t)(len - done));
		uint32_t n = pin_unit(vol, pos + done, want, pv, markedp);

		done += n;
		if (n < want)
			break;
	}
	return done;
}

/* ---- collecting a run ---- */

/*
 * The order for a new folio at @pos: the largest that is aligned there, ends
 * by @end and has all its pages absent.
 */
static unsigned int new_order_locked(struct fill *fill, struct shard *shard,
				     uint64_t key, uint64_t end)
	REQUIRES(&shard->lock)
{
	uint64_t pages = (round_up64(end, FRAME_SIZE) - key_pos(key)) /
			 FRAME_SIZE;
	unsigned int order = folio_order_max(fill->vol->block_shift);
	uint64_t hash = key_hash(key);
	uint32_t absent = 1;

	while (order && (!is_aligned64(key, 1u << order) ||
			 (1u << order) > pages))
		order--;
	while (absent < (1u << order) &&
	       !shard_lookup_locked(shard, key + absent, hash))
		absent++;
	return MIN(order, ilog2(absent));
}

static void drop_spare(struct fill *fill)
{
	struct pool *pool = &fill->vol->cache->pool;

	if (fill->spare)
		pool_free(pool, pool_frame(pool, fill->spare));
	fill->spare = NULL;
}

/* Enter the spare folio at @key, LOCKED. */
static struct folio *insert_spare_locked(struct fill *fill,
					 struct shard *shard, uint64_t key)
	REQUIRES(&shard->lock)
{
	struct folio *folio = fill->spare;

	fill->spare = NULL;
	folio_set_flags(folio, FOLIO_LOCKED);
	shard_insert_locked(shard, folio, key);
	pool_enqueue(shard->pool, folio);
	return folio;
}

/* Note that the request fills the first missing run of @folio's blocks. */
static bool add_seg(struct fill *fill, struct folio *folio, uint64_t missing)
{
	struct volume *vol = fill->vol;
	struct pool *pool = &vol->cache->pool;
	struct fill_seg *seg = &fill->segs[fill->nr];
	struct iovec *iov = &fill->iov[fill->nr];
	unsigned int first, nr;

	assert(missing);
	block_run(missing, &first, &nr);
	seg->folio = folio;
	seg->blocks = block_mask(first, first + nr - 1);
	seg->pos = key_pos(folio->key) + ((uint64_t)first << vol->block_shift);
	seg->len = nr << vol->block_shift;
	if (fill->nr && seg->pos != fill->end)
		return false;
	if (!fill->nr)
		fill->start = seg->pos;
	fill->end = seg->pos + seg->len;
	iov->iov_base = pool_data(pool, pool_frame(pool, folio)) +
			((uint64_t)first << vol->block_shift);
	/* The device ends where the volume does. */
	iov->iov_len = MIN((uint64_t)seg->len, volume_size(vol) - seg->pos);
	fill->nr++;
	return true;
}

enum collect {
	COLLECT_NEXT,	/* one more folio in the run */
	COLLECT_STOP,	/* the run ends here */
	COLLECT_AGAIN,	/* look at the same place once more */
	COLLECT_ALLOC,	/* needs a spare folio of *orderp */
};

static enum collect collect_locked(struct fill *fill, struct shard *shard,
				   uint64_t pos, uint64_t end,
				   unsigned int *orderp)
	REQUIRES(&shard->lock)
{
	uint64_t key = folio_key(fill->vol->id, pos);
	struct folio *folio;
	uint64_t missing, off;

	if (!iomap_iter_valid(fill->iter))
		return COLLECT_STOP;
	folio = shard_lookup_locked(shard, key, key_hash(key));
	if (!folio) {
		*orderp = new_order_locked(fill, shard, key, end);
		if (!fill->spare || fill->spare->order > *orderp)
			return COLLECT_ALLOC;
		folio = insert_spare_locked(fill, shard, key);
		volume_count(fill->vol, misses, folio_pages(folio));
	} else if (folio->flags & FOLIO_LOCKED) {
		if (fill->nr)
			return COLLECT_STOP;
		shard_wait_locked(shard, folio);
		return COLLECT_AGAIN;
	}
	off = pos - key_pos(folio->key);
	missing = folio_blocks((uint32_t)off, (uint32_t)
			       MIN(end - pos, folio_size(folio) - off),
			       fill->vol->block_shift) & ~folio->uptodate;
	if (!missing || !add_seg(fill, folio, missing))
		return COLLECT_STOP;
	folio_set_flags(folio, FOLIO_LOCKED);
	return COLLECT_NEXT;
}

/* A folio for the run: without waiting once the run has begun. */
static bool get_spare(struct fill *fill, unsigned int order)
{
	struct cache *cache = fill->vol->cache;
	uint32_t frame;

	drop_spare(fill);
	frame = fill->wait && !fill->nr ? cache_alloc_wait(cache, order) :
					  cache_alloc(cache, order);
	if (!frame) {
		fill->starved = true;
		return false;
	}
	fill->spare = pool_folio(&cache->pool, frame);
	return true;
}

/* LOCK a run of folios with missing blocks from @pos on, until @end. */
static void collect(struct fill *fill, uint64_t pos, uint64_t end)
{
	end = MIN(end, round_down64(pos, FRAME_SIZE) + fill->vol->max_io);
	while (pos < end && fill->nr < FILL_SEGS_MAX) {
		struct shard *shard = volume_shard(fill->vol, pos);
		unsigned int order = 0;
		enum collect what;

		mutex_lock(&shard->lock);
		what = collect_locked(fill, shard, pos, end, &order);
		mutex_unlock(&shard->lock);
		if (what == COLLECT_STOP || what == COLLECT_AGAIN)
			break;
		if (what == COLLECT_ALLOC && !get_spare(fill, order))
			break;
		if (what == COLLECT_NEXT)
			pos = fill->end;
	}
	drop_spare(fill);
}

/* ---- reading and publishing ---- */

static int read_segs(struct fill *fill)
{
	const struct iomap *iomap = iomap_iter_srcmap(fill->iter);
	struct bdev_req req = {
		.op = BDEV_READ,
		.iov = fill->iov,
		.nr_iov = fill->nr,
	};

	if (iomap->type != IOMAP_MAPPED) {
		/* Promised or unwritten: reads zero until written. */
		for (unsigned int i = 0; i < fill->nr; i++)
			memset(fill->iov[i].iov_base, 0, fill->iov[i].iov_len);
		return 0;
	}
	req.pos = iomap_addr(iomap, fill->start);
	for (unsigned int i = 0; i < fill->nr; i++)
		req.len += fill->iov[i].iov_len;
	return bdev_submit_wait(iomap->bdev, &req);
}

/* The block that straddles the volume's end is zero from there on. */
static void zero_tail(struct fill *fill)
{
	struct fill_seg *seg = &fill->segs[fill->nr - 1];
	struct iovec *iov = &fill->iov[fill->nr - 1];

	if (iov->iov_len < seg->len)
		memset((char *)iov->iov_base + iov->iov_len, 0,
		       seg->len - iov->iov_len);
}

/* Pin of @folio, just filled, what [@pos, @end) wants; the bytes. */
static uint32_t pin_filled(struct fill *fill, struct folio *folio,
			   uint64_t pos, uint64_t end, struct pinvec *pv)
{
	uint64_t start = key_pos(folio->key);
	uint32_t off, n;

	if (pv->nr == pv->max || pos < start ||
	    pos - start >= folio_size(folio))
		return 0;
	off = (uint32_t)(pos - start);
	n = whole_pages(off, uptodate_bytes(fill->vol, folio, off),
			(uint32_t)MIN(end - pos, (uint64_t)UINT32_MAX));
	if (n)
		add_pin(fill->vol, folio, off, n, pv);
	return n;
}

/*
 * Unlock one folio, uptodate or not.  Returns how much of [@pos, @end) is done
 * by that, in order and without a gap: pinned, or (without @pv) uptodate.
 */
static uint32_t publish_seg(struct fill *fill, struct fill_seg *seg, int error,
			    uint64_t pos, uint64_t end, struct pinvec *pv)
{
	struct shard *shard = volume_shard(fill->vol, seg->pos);
	struct folio *folio = seg->folio;
	uint64_t to = MIN(end, seg->pos + seg->len);
	uint32_t done = 0;

	mutex_lock(&shard->lock);
	folio_clear_flags(folio, FOLIO_LOCKED);
	shard_wake_locked(shard, folio);
	if (!error) {
		folio->uptodate |= seg->blocks;
		if (pv)
			done = pin_filled(fill, folio, pos, end, pv);
		else if (seg->pos <= pos && pos < to)
			done = (uint32_t)(to - pos);
	} else if (!folio->uptodate) {
		shard_remove_locked(shard, folio);
	}
	mutex_unlock(&shard->lock);
	return done;
}

int64_t fill_run(struct iomap_iter *iter, uint64_t len, struct pinvec *pv,
		 bool wait)
{
	struct volume *vol = iter->vol;
	uint64_t pos = iter->pos, end = pos + len;
	struct fill fill = { .vol = vol, .iter = iter, .wait = wait };
	struct range range;
	bool held = iter->flags & IOMAP_RANGE_HELD;
	uint64_t done = pos, size;
	int ret = 0;

	if (!held)
		range_lock_shared(&vol->range_lock, &range,
				  round_down64(pos, FRAME_SIZE),
				  round_up64(end, FRAME_SIZE));
	size = volume_size(vol);
	if (pos < size)
		collect(&fill, pos, MIN(end, round_up64(size, FRAME_SIZE)));
	else
		ret = -EINVAL;
	if (fill.nr) {
		ret = read_segs(&fill);
		zero_tail(&fill);
	} else if (fill.starved) {
		ret = -ENOBUFS;
	}
	for (unsigned int i = 0; i < fill.nr; i++)
		done += publish_seg(&fill, &fill.segs[i], ret, done, end, pv);
	if (!held)
		range_unlock(&vol->range_lock, &range);
	return ret ? ret : (int64_t)(done - pos);
}

static int fill_body(struct iomap_iter *iter)
{
	uint64_t n;

	/* Nothing to read ahead; what is to be written into must be there. */
	if (iter->iomap.type == IOMAP_HOLE && !(iter->flags & IOMAP_RANGE_HELD)) {
		iomap_iter_advance(iter, iomap_iter_length(iter));
		return 0;
	}
	while ((n = iomap_iter_length(iter)) > 0) {
		struct pin pins[16];
		struct pinvec pv = { .pins = pins, .max = ARRAY_SIZE(pins) };
		uint32_t want = (uint32_t)MIN(n, UINT64_C(1) << 30);
		bool marked = false;
		int64_t done = pin_cached(iter->vol, iter->pos, want, &pv,
					  &marked);

		volume_unpin(iter->vol->cache, pv.pins, pv.nr);
		if (!done)
			done = fill_run(iter, n, NULL, true);
		if (done < 0)
			return (int)done;
		if (iter->iomap.flags & IOMAP_F_STALE)
			return 0;
		iomap_iter_advance(iter, (uint64_t)done);
	}
	return 0;
}

int fill_range(struct volume *vol, uint64_t pos, uint64_t len,
	       unsigned int flags)
{
	uint64_t block = UINT64_C(1) << vol->block_shift;
	uint64_t start = round_down64(pos, block);
	uint64_t end = MIN(round_up64(pos + len, block), volume_size(vol));
	struct iomap_iter iter = {
		.vol = vol,
		.pos = start,
		.len = MAX(end, start) - start,
		.flags = flags,
	};
	int ret;

	if (start >= end)
		return -EINVAL;
	while ((ret = iomap_iter_next(&iter)) > 0)
		iter.status = fill_body(&iter);
	return ret;
}
