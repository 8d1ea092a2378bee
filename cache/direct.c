/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * direct.c - modes without a cache: requests go to the device through frames
 * that no index ever knows.
 *
 * A write that covers 4 KiB blocks wholly shares its range with others; one
 * that covers a block in part reads, merges and writes it, exclusively.
 */
#include <errno.h>
#include <string.h>

#include "bdev/bdev.h"
#include "cache/cache_internal.h"

#define DIRECT_BLOCK	FRAME_SIZE

/* One contiguous device request on behalf of [pos, pos + len). */
static int direct_io(enum bdev_op op, const struct iomap *iomap, uint64_t pos,
		     uint64_t len, void *buf, unsigned int flags)
{
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct bdev_req req = {
		.op = op,
		.flags = flags,
		.pos = iomap_addr(iomap, pos),
		.len = len,
		.iov = &iov,
		.nr_iov = 1,
	};

	return bdev_submit_wait(iomap->bdev, &req);
}

/* Read whole blocks [@pos, @pos + @len) (or up to the volume's end). */
static int read_blocks(struct volume *vol, uint64_t pos, uint64_t len,
		       char *buf)
{
	struct iomap_iter iter = {
		.vol = vol, .pos = pos, .len = len, .flags = IOMAP_DIRECT,
	};
	int ret;

	while ((ret = iomap_iter_next(&iter)) > 0) {
		uint64_t n = iomap_iter_length(&iter);
		char *to = buf + (iter.pos - pos);

		if (iter.iomap.type == IOMAP_MAPPED)
			iter.status = direct_io(BDEV_READ, &iter.iomap,
						iter.pos, n, to, 0);
		else
			memset(to, 0, n);
		if (!iter.status)
			iomap_iter_advance(&iter, n);
	}
	return ret;
}

static int write_blocks(struct volume *vol, uint64_t pos, uint64_t len,
			char *buf, unsigned int io_flags)
{
	struct iomap_iter iter = {
		.vol = vol, .pos = pos, .len = len,
		.flags = IOMAP_WRITE | IOMAP_DIRECT | IOMAP_WRITETHROUGH,
	};
	int ret;

	while ((ret = iomap_iter_next(&iter)) > 0) {
		uint64_t n = iomap_iter_length(&iter);

		iter.status = direct_io(BDEV_WRITE, &iter.iomap, iter.pos, n,
					buf + (iter.pos - pos), io_flags);
		if (!iter.status)
			iomap_iter_advance(&iter, n);
	}
	return ret;
}

/* A bounce folio for up to @len bytes; its size in *@sizep.  NULL if there is
 * none and it may not @wait. */
static struct folio *get_bounce(struct volume *vol, uint64_t len,
				uint32_t *sizep, bool wait)
{
	struct pool *pool = &vol->cache->pool;
	unsigned int order = 0;
	uint32_t frame;

	while (order < FOLIO_ORDER_MAX && (FRAME_SIZE << order) < len)
		order++;
	frame = wait ? cache_alloc_wait(vol->cache, order) :
		       cache_alloc(vol->cache, order);
	if (!frame)
		return NULL;
	*sizep = folio_size(pool_folio(pool, frame));
	return pool_folio(pool, frame);
}

/* Hand @folio over to the reader: its unpin frees it. */
static void pin_bounce(struct volume *vol, struct folio *folio, uint32_t off,
		       uint32_t len, struct pinvec *pv)
{
	struct pool *pool = &vol->cache->pool;
	struct pin *pin = &pv->pins[pv->nr++];

	__atomic_store_n(&folio->pins, PINS_DETACHED | 1, __ATOMIC_RELEASE);
	pin->frame = pool_frame(pool, folio);
	pin->base = pool_data(pool, pin->frame) + off;
	pin->len = len;
}

int direct_read(struct volume *vol, uint64_t pos, uint32_t len,
		struct pinvec *pv, bool wait)
{
	struct pool *pool = &vol->cache->pool;
	unsigned int first = pv->nr;

	while (len) {
		uint64_t start = round_down64(pos, DIRECT_BLOCK), whole;
		uint32_t off = (uint32_t)(pos - start);
		uint32_t size, n;
		struct range range;
		struct folio *folio;
		int ret;

		folio = get_bounce(vol, (uint64_t)off + len, &size,
				   wait || pv->nr == first);
		if (!folio)
			return -ENOBUFS;
		n = MIN(len, size - off);
		whole = round_up64(off + n, DIRECT_BLOCK);
		range_lock_shared(&vol->range_lock, &range, start,
				  start + whole);
		ret = volume_holds(vol, pos, n) ?
		      read_blocks(vol, start,
				  MIN(whole, volume_size(vol) - start),
				  pool_data(pool, pool_frame(pool, folio))) :
		      -EINVAL;
		range_unlock(&vol->range_lock, &range);
		if (ret) {
			pool_free(pool, pool_frame(pool, folio));
			return ret;
		}
		pin_bounce(vol, folio, off, n, pv);
		pos += n;
		len -= n;
	}
	return 0;
}

/* Gather @len bytes of @iov from @skip on into @to. */
static void gather(const struct iovec *iov, uint64_t skip, char *to,
		   uint64_t len)
{
	while (skip >= iov->iov_len)
		skip -= (iov++)->iov_len;
	while (len) {
		uint64_t n = MIN(len, iov->iov_len - skip);

		memcpy(to, (const char *)iov->iov_base + skip, n);
		to += n;
		len -= n;
		skip = 0;
		iov++;
	}
}

/* Blocks of [@pos, @end) that are covered in part need their old bytes. */
static int read_edges(struct volume *vol, uint64_t pos, uint64_t end,
		      uint64_t start, char *buf)
{
	uint64_t last = round_down64(end, DIRECT_BLOCK);
	uint64_t size = volume_size(vol);
	int ret = 0;

	if (pos != start)
		ret = read_blocks(vol, start, MIN((uint64_t)DIRECT_BLOCK,
						  size - start), buf);
	if (!ret && end != last && end != size &&
	    !(last == start && pos != start))
		ret = read_blocks(vol, last, MIN((uint64_t)DIRECT_BLOCK,
						 size - last),
				  buf + (last - start));
	return ret;
}

/* Hold what a write of [@pos, @end) touches; returns where its blocks end, 0 if
 * that is beyond the volume, which holds nothing. */
static uint64_t hold_blocks(struct volume *vol, uint64_t pos, uint64_t end,
			    struct range *range)
{
	uint64_t start = round_down64(pos, DIRECT_BLOCK);
	uint64_t block_end = round_up64(end, DIRECT_BLOCK);

	for (;;) {
		uint64_t size = volume_size(vol);

		if (end > size)
			return 0;
		if (pos == start && end == MIN(block_end, size))
			range_lock_shared(&vol->range_lock, range, start,
					  block_end);
		else
			range_lock_exclusive(&vol->range_lock, range, start,
					     block_end);
		if (size == volume_size(vol))
			return MIN(block_end, size);
		range_unlock(&vol->range_lock, range);
	}
}

/* Write at most one bounce folio's worth from @pos on; bytes or -errno. */
static int64_t write_step(struct volume *vol, uint64_t pos, uint32_t len,
			  const struct iovec *iov, uint64_t skip,
			  unsigned int io_flags)
{
	struct pool *pool = &vol->cache->pool;
	uint64_t start = round_down64(pos, DIRECT_BLOCK);
	uint64_t end, whole_end;
	struct range range;
	struct folio *folio;
	uint32_t size;
	char *buf;
	int ret;

	folio = get_bounce(vol, pos - start + len, &size, true);
	assert(folio);
	buf = pool_data(pool, pool_frame(pool, folio));
	end = MIN(pos + len, start + size);
	whole_end = hold_blocks(vol, pos, end, &range);
	if (!whole_end) {
		pool_free(pool, pool_frame(pool, folio));
		return -ENOSPC;
	}
	ret = read_edges(vol, pos, end, start, buf);
	if (!ret) {
		gather(iov, skip, buf + (pos - start), end - pos);
		ret = write_blocks(vol, start, whole_end - start, buf,
				   io_flags);
	}
	range_unlock(&vol->range_lock, &range);
	pool_free(pool, pool_frame(pool, folio));
	return ret ? ret : (int64_t)(end - pos);
}

int direct_write(struct volume *vol, uint64_t pos, uint32_t len,
		 const struct iovec *iov, unsigned int flags)
{
	bool fua = vol->mode == VOLUME_DIRECTSYNC || (flags & VOLUME_FUA);
	bool by_write = fua && (!vol->store_ops->fua_by_write ||
				vol->store_ops->fua_by_write(vol));
	uint32_t done = 0;

	assert(!vol->read_only);
	if (!volume_holds(vol, pos, len))
		return -ENOSPC;
	while (done < len) {
		int64_t n = write_step(vol, pos + done, len - done, iov, done,
				       by_write ? BDEV_FUA : 0);

		if (n < 0)
			return (int)n;
		done += (uint32_t)n;
	}
	volume_count(vol, writes, 1);
	volume_count(vol, write_bytes, len);
	return fua && !by_write ? volume_sync(vol) : 0;
}
