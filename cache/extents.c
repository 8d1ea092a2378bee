/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * extents.c - block status: what the store says of a range.
 */
#include <errno.h>

#include "cache/cache_internal.h"

/* Add @ext behind what is there, merging equals; false if there is no room. */
static bool add_extent(struct volume_extent *extents, unsigned int *nr,
		       unsigned int max, const struct volume_extent *ext)
{
	struct volume_extent *last = *nr ? &extents[*nr - 1] : NULL;

	if (last && last->hole == ext->hole && last->zero == ext->zero) {
		last->len += ext->len;
		return true;
	}
	if (*nr == max)
		return false;
	extents[(*nr)++] = *ext;
	return true;
}

int volume_extents(struct volume *vol, uint64_t pos, uint64_t len,
		   struct volume_extent *extents, unsigned int *nrp)
{
	struct iomap_iter iter = {
		.vol = vol, .pos = pos, .len = len, .flags = IOMAP_REPORT,
	};
	unsigned int max = *nrp, nr = 0;
	int ret;

	assert(max > 0);
	if (!volume_holds(vol, pos, len))
		return -EINVAL;
	while ((ret = iomap_iter_next(&iter)) > 0) {
		struct volume_extent ext = {
			.len = iomap_iter_length(&iter),
			.hole = iter.iomap.type == IOMAP_HOLE,
			.zero = iter.iomap.type == IOMAP_HOLE,
		};

		/* No advance ends the loop: the rest is for another request. */
		if (add_extent(extents, &nr, max, &ext))
			iomap_iter_advance(&iter, ext.len);
	}
	if (ret < 0 && nr == 0)
		return ret;
	*nrp = nr;
	return 0;
}
