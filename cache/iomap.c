/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * iomap.c - the loop over a range's mappings.
 *
 * Knows when to begin, when to end and when to stop; what is done with a
 * mapping is the body's business, and what a mapping is the store's.
 */
#include "cache/iomap.h"

#include <string.h>

#include "base/util.h"
#include "cache/volume.h"

/* Bytes from @pos to the end of @iomap, which covers it. */
static uint64_t iomap_rest(const struct iomap *iomap, uint64_t pos)
{
	return iomap->length - (pos - iomap->offset);
}

/* What a store may hand out. */
static void iomap_check(const struct iomap *iomap, uint64_t pos)
{
	assert(iomap_covers(iomap, pos));
	assert(iomap->offset + iomap->length > iomap->offset);
	assert(!(iomap->flags & IOMAP_F_STALE));
}

static int iter_begin(struct iomap_iter *iter)
{
	struct volume *vol = iter->vol;
	int ret;

	memset(&iter->iomap, 0, sizeof(iter->iomap));
	memset(&iter->srcmap, 0, sizeof(iter->srcmap));
	/* The store may put a later one, if it looked under its lock. */
	iter->iomap.cookie = __atomic_load_n(&vol->map_seq, __ATOMIC_ACQUIRE);
	iter->iter_start = iter->pos;
	iter->status = 0;
	ret = vol->iomap_ops->iomap_begin(vol, iter->pos, iter->len,
					  iter->flags, &iter->iomap,
					  &iter->srcmap);
	if (ret)
		return ret;
	iomap_check(&iter->iomap, iter->pos);
	if (iter->srcmap.length)
		iomap_check(&iter->srcmap, iter->pos);
	iter->mapped = true;
	return 1;
}

/*
 * End the present mapping.  The store hears of all that it may have reserved,
 * also of what a short srcmap put out of the body's reach.  Returns 1 if the
 * loop goes on.
 */
static int iter_end(struct iomap_iter *iter)
{
	struct volume *vol = iter->vol;
	uint64_t written = iter->pos - iter->iter_start;
	uint64_t length = MIN(iomap_rest(&iter->iomap, iter->iter_start),
			      written + iter->len);
	int ret = 0;

	iter->mapped = false;
	if (vol->iomap_ops->iomap_end)
		ret = vol->iomap_ops->iomap_end(vol, iter->iter_start, length,
						written, iter->flags,
						&iter->iomap);
	if (iter->status)
		return iter->status;
	/* It failed to undo the rest: what was written stands all the same. */
	if (ret && !written)
		return ret;
	if (!iter->len)
		return 0;
	/* A body that can do nothing with a good mapping never will. */
	if (!written && !(iter->iomap.flags & IOMAP_F_STALE))
		return 0;
	return 1;
}

int iomap_iter_next(struct iomap_iter *iter)
{
	if (iter->mapped) {
		int ret = iter_end(iter);

		if (ret <= 0)
			return ret;
	}
	return iter->len ? iter_begin(iter) : 0;
}

uint64_t iomap_iter_length(const struct iomap_iter *iter)
{
	uint64_t n = iter->len;

	/* Nothing is covered any more once the mapping is used up. */
	if (!iomap_covers(&iter->iomap, iter->pos))
		return 0;
	n = MIN(n, iomap_rest(&iter->iomap, iter->pos));
	if (iter->srcmap.length) {
		if (!iomap_covers(&iter->srcmap, iter->pos))
			return 0;
		n = MIN(n, iomap_rest(&iter->srcmap, iter->pos));
	}
	return n;
}

const struct iomap *iomap_iter_srcmap(const struct iomap_iter *iter)
{
	return iter->srcmap.length ? &iter->srcmap : &iter->iomap;
}

void iomap_iter_advance(struct iomap_iter *iter, uint64_t count)
{
	assert(iter->mapped && count <= iomap_iter_length(iter));
	iter->pos += count;
	iter->len -= count;
	iter->done += count;
}

bool iomap_iter_valid(struct iomap_iter *iter)
{
	struct volume *vol = iter->vol;
	bool valid;

	if (vol->iomap_ops->iomap_valid)
		valid = vol->iomap_ops->iomap_valid(vol, &iter->iomap);
	else
		valid = iter->iomap.cookie ==
			__atomic_load_n(&vol->map_seq, __ATOMIC_ACQUIRE);
	if (!valid)
		iter->iomap.flags |= IOMAP_F_STALE;
	return valid;
}
