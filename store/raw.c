/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * raw.c - a volume that is a file or block device, byte for byte.
 *
 * The mapping is the identity.  What is to be known beyond it is where a
 * sparse file has holes (raw_map.h): they are read without I/O, and a write
 * allocates before it is accepted, so that a full file system refuses it then
 * and not when it is too late.
 */
#include "store/raw.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "bdev/bdev.h"
#include "cache/cache.h"
#include "cache/ioend.h"
#include "cache/writeback.h"
#include "store/raw_map.h"

struct raw {
	struct volume	vol;
	/* Constant after raw_open_bdev(); owned. */
	struct bdev	*bdev;
	struct raw_map	*map;		/* NULL: all of it is data */
	char		*name;
};

static struct raw *to_raw(struct volume *vol)
{
	return container_of(vol, struct raw, vol);
}

static uint64_t current_cookie(const struct volume *vol)
{
	return __atomic_load_n(&vol->map_seq, __ATOMIC_ACQUIRE);
}

/* ---- mappings ---- */

static void set_mapped(const struct raw *raw, struct iomap *iomap,
		       uint64_t pos, uint64_t len, uint64_t cookie)
{
	iomap->type = IOMAP_MAPPED;
	iomap->bdev = raw->bdev;
	iomap->addr = pos;
	iomap->offset = pos;
	iomap->length = len;
	iomap->cookie = cookie;
}

static void set_hole(struct iomap *iomap, uint64_t pos, uint64_t len,
		     uint64_t cookie)
{
	iomap->type = IOMAP_HOLE;
	iomap->bdev = NULL;
	iomap->addr = IOMAP_NULL_ADDR;
	iomap->offset = pos;
	iomap->length = len;
	iomap->cookie = cookie;
}

/*
 * Provide space for [@pos, @pos + @len) and map it.  Returns 0, -errno, or 1 if
 * the space may be gone already.
 *
 * The mapping is not NEW: another writer's data may have come and gone to the
 * device between this and the time that the folio is looked at, and a partly
 * written block is then read, not zeroed.
 */
static int allocate(struct raw *raw, uint64_t pos, uint64_t len,
		    struct iomap *iomap)
{
	uint64_t start = round_down64(pos, RAW_BLOCK);
	uint64_t end = MIN(round_up64(pos + len, RAW_BLOCK),
			   volume_size(&raw->vol));
	uint32_t gen = raw_map_gen(raw->map, start);
	uint64_t cookie;
	int ret = 0;

	/* Where the file system cannot, ENOSPC may come at writeback. */
	if (raw->bdev->can_allocate)
		ret = bdev_range_op(raw->bdev, BDEV_ALLOCATE, start,
				    end - start, 0);
	if (ret && ret != -EOPNOTSUPP)
		return ret;
	if (!raw_map_allocated(raw->map, start, end - start, gen, &cookie))
		return 1;
	set_mapped(raw, iomap, pos, len, cookie);
	return 0;
}

/* Data and what may be data are read alike: in one piece. */
static uint64_t readable_run(const struct raw *raw, uint64_t pos, uint64_t run,
			     uint64_t len)
{
	while (run < len) {
		enum raw_map_kind kind;
		uint64_t more;

		kind = raw_map_lookup(raw->map, pos + run, len - run, &more);
		if (kind != RAW_MAP_DATA && kind != RAW_MAP_MAYBE)
			break;
		run += more;
	}
	return run;
}

static int map_sparse(struct raw *raw, uint64_t pos, uint64_t len,
		      unsigned int flags, struct iomap *iomap)
{
	int ret = 1;

	while (ret > 0) {
		uint64_t cookie = current_cookie(&raw->vol);
		enum raw_map_kind kind;
		uint64_t run;

		kind = raw_map_lookup(raw->map, pos, len, &run);
		if (likely(kind == RAW_MAP_DATA && (flags & IOMAP_WRITE))) {
			set_mapped(raw, iomap, pos, run, cookie);
			ret = 0;
		} else if (kind == RAW_MAP_UNKNOWN) {
			if (flags & IOMAP_NOWAIT)
				return -EAGAIN;
			ret = raw_map_learn(raw->map, raw->bdev, pos);
			if (!ret)
				ret = 1;
		} else if (kind == RAW_MAP_HOLE &&
			   (!(flags & IOMAP_WRITE) || (flags & IOMAP_ZERO))) {
			set_hole(iomap, pos, run, cookie);
			ret = 0;
		} else if (!(flags & IOMAP_WRITE)) {
			set_mapped(raw, iomap, pos,
				   readable_run(raw, pos, run, len), cookie);
			ret = 0;
		} else if (flags & (IOMAP_NOWAIT | IOMAP_OVERWRITE_ONLY)) {
			return -EAGAIN;
		} else {
			ret = allocate(raw, pos, run, iomap);
		}
	}
	return ret;
}

static int raw_iomap_begin(struct volume *vol, uint64_t pos, uint64_t length,
			   unsigned int flags, struct iomap *iomap,
			   struct iomap *srcmap)
{
	struct raw *raw = to_raw(vol);

	(void)srcmap;
	if (raw->map)
		return map_sparse(raw, pos, length, flags, iomap);
	set_mapped(raw, iomap, 0, VOLUME_SIZE_MAX, current_cookie(vol));
	return 0;
}

static const struct iomap_ops raw_iomap_ops = {
	.iomap_begin	= raw_iomap_begin,
};

/* ---- writeback ---- */

/* Whatever is dirty has its space: the identity never grows stale. */
static struct wb_range raw_writeback_range(struct writepage_ctx *wpc,
					   struct folio *folio, uint64_t pos,
					   uint32_t len)
{
	if (!wpc->iomap.length)
		set_mapped(to_raw(wpc->vol), &wpc->iomap, 0, VOLUME_SIZE_MAX,
			   current_cookie(wpc->vol));
	return ioend_add_range(wpc, folio, pos, len);
}

static const struct writeback_ops raw_wb_ops = {
	.writeback_range	= raw_writeback_range,
};

/* ---- the rest ---- */

static bool can_punch(const struct bdev *bdev)
{
	return bdev->is_file && bdev->can_discard;
}

/* Give the space of [@pos, @pos + @len) back, so that it reads zero; never by
 * writing zeroes. */
static int punch(struct bdev *bdev, uint64_t pos, uint64_t len)
{
	int ret = -EOPNOTSUPP;

	/* A device's discard promises nothing about what is read then; its
	 * zeroing does, and gives the space back where it can. */
	if (can_punch(bdev))
		ret = bdev_range_op(bdev, BDEV_DISCARD, pos, len, 0);
	if (ret == -EOPNOTSUPP && bdev->can_zero)
		ret = bdev_range_op(bdev, BDEV_ZERO, pos, len, BDEV_FAST);
	return ret;
}

static int raw_unmap(struct volume *vol, uint64_t pos, uint64_t len,
		     unsigned int flags)
{
	struct raw *raw = to_raw(vol);
	int ret;

	(void)flags;
	if (!can_punch(raw->bdev) && !raw->bdev->can_zero)
		return -EOPNOTSUPP;
	if (!raw->map)
		return punch(raw->bdev, pos, len);
	/* Twice: a mapping that was made in between is not true either. */
	raw_map_unmap_begin(raw->map, pos, len);
	ret = punch(raw->bdev, pos, len);
	raw_map_unmap_end(raw->map, pos, len, ret == 0);
	return ret;
}

/* [@pos, @pos + @len) got its space by being zeroed. */
static void note_allocated(struct raw *raw, uint64_t pos, uint64_t len,
			   uint32_t gen)
{
	uint64_t cookie;

	/* If the region saw an unmap elsewhere, it is found out later. */
	(void)raw_map_allocated(raw->map, pos, len, gen, &cookie);
}

/* Zero [@pos, @pos + @len), which lies in one region, and keep the space. */
static int zero_keep(struct raw *raw, uint64_t pos, uint64_t len)
{
	uint32_t gen = raw->map ? raw_map_gen(raw->map, pos) : 0;
	int ret;

	ret = bdev_range_op(raw->bdev, BDEV_ZERO, pos, len,
			    BDEV_NO_UNMAP | BDEV_FAST);
	if (!ret && raw->map)
		note_allocated(raw, pos, len, gen);
	return ret;
}

static int raw_zero(struct volume *vol, uint64_t pos, uint64_t len,
		    unsigned int flags)
{
	struct raw *raw = to_raw(vol);
	int ret = 0;

	if (!(flags & VOLUME_NO_HOLE))
		return raw_unmap(vol, pos, len, flags);
	if (!raw->bdev->can_zero_keep)
		return -EOPNOTSUPP;
	if (!raw->map)
		return zero_keep(raw, pos, len);
	while (len && !ret) {
		uint64_t n = MIN(len, RAW_REGION - (pos & (RAW_REGION - 1)));

		ret = zero_keep(raw, pos, n);
		pos += n;
		len -= n;
	}
	return ret;
}

static int raw_flush(struct volume *vol)
{
	return bdev_flush(to_raw(vol)->bdev);
}

static int64_t raw_present_size(struct volume *vol)
{
	struct bdev *bdev = to_raw(vol)->bdev;

	return bdev->ops->present_size ? bdev->ops->present_size(bdev) :
					 (int64_t)bdev_size(bdev);
}

static void raw_set_size(struct volume *vol, uint64_t size)
{
	struct raw *raw = to_raw(vol);

	raw->bdev->ops->set_size(raw->bdev, size);
	if (raw->map)
		raw_map_resize(raw->map, size);
}

static void raw_free(struct raw *raw)
{
	raw_map_free(raw->map);
	bdev_close(&raw->bdev);
	free(raw->name);
	free(raw);
}

static void raw_release(struct volume *vol)
{
	raw_free(to_raw(vol));
}

static const struct store_ops raw_store_ops = {
	.unmap		= raw_unmap,
	.zero		= raw_zero,
	.flush		= raw_flush,
	.present_size	= raw_present_size,
	.set_size	= raw_set_size,
	.release	= raw_release,
};

/* ---- opening ---- */

static void fill_volume(struct raw *raw, const struct bdev *bdev,
			const struct raw_params *params)
{
	struct volume *vol = &raw->vol;

	vol->name = raw->name;
	vol->iomap_ops = &raw_iomap_ops;
	vol->wb_ops = &raw_wb_ops;
	vol->store_ops = &raw_store_ops;
	vol->size = bdev->size;
	vol->block_shift = RAW_BLOCK_SHIFT;
	vol->mode = params->mode;
	vol->read_only = params->read_only || bdev->read_only;
	vol->max_io = bdev->max_io;
	vol->rotational = bdev->rotational;
	if (vol->read_only)
		return;
	vol->can_unmap = can_punch(bdev) || bdev->can_zero;
	/* Whether the space is to be kept or not. */
	vol->can_fast_zero = vol->can_unmap && bdev->can_zero_keep;
}

static bool has_holes(const struct bdev *bdev)
{
	return bdev->is_file && bdev->ops->seek_data && bdev->ops->seek_hole;
}

int raw_open_bdev(struct cache *cache, struct loop *home, struct bdev **bdevp,
		  const char *name, const struct raw_params *params,
		  struct volume **volp)
{
	uint32_t pages = params->map_pages_max;
	struct bdev *bdev = *bdevp;
	struct raw *raw;
	int ret = -ENOMEM;

	if (bdev->block_size > RAW_BLOCK || RAW_BLOCK % bdev->block_size)
		return -EINVAL;
	raw = calloc(1, sizeof(*raw));
	if (!raw)
		return -ENOMEM;
	raw->name = strdup(name);
	if (!raw->name)
		goto out_free;
	fill_volume(raw, bdev, params);
	if (has_holes(bdev)) {
		ret = raw_map_new(bdev->size,
				  pages ? pages : RAW_MAP_PAGES_MAX,
				  &raw->vol.map_seq, &raw->map);
		if (ret)
			goto out_free;
	}
	raw->bdev = bdev;
	ret = volume_start(&raw->vol, cache, home);
	if (ret)
		goto out_keep_bdev;
	*bdevp = NULL;
	*volp = &raw->vol;
	return 0;

out_keep_bdev:
	raw->bdev = NULL;
out_free:
	raw_free(raw);
	return ret;
}

int raw_open(struct cache *cache, struct loop *home, const char *path,
	     const struct raw_params *params, struct volume **volp, char *msg,
	     unsigned int msglen)
{
	unsigned int flags = params->flags;
	struct bdev *bdev = NULL;
	int ret;

	if (params->read_only)
		flags |= BDEV_OPEN_READ_ONLY;
	ret = bdev_open_file(path, flags, &bdev, msg, msglen);
	if (ret)
		return ret;
	ret = raw_open_bdev(cache, home, &bdev, path, params, volp);
	if (ret) {
		snprintf(msg, msglen, "%s: %s", path, strerror(-ret));
		bdev_close(&bdev);
	}
	return ret;
}
