/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * folio.c - a folio's invariants and its description.
 */
#include <inttypes.h>
#include <stdio.h>

#include "cache/folio.h"

void folio_check(const struct folio *folio, unsigned int block_shift)
{
	uint64_t all = folio_all_blocks(folio->order, block_shift);

	assert(!(folio->flags & FOLIO_TAIL));
	assert((folio->uptodate & ~all) == 0);
	assert((folio->dirty & ~folio->uptodate) == 0);		/* I1 */
	assert((folio->inflight & ~folio->uptodate) == 0);	/* I1 */
	assert(!(folio->dirty & folio->inflight));		/* I2 */
	assert(folio->dirty || folio->inflight ||
	       !(folio->flags & FOLIO_FAILED));
	assert((folio->flags & FOLIO_INDEXED) || !folio->dirty);
}

const char *folio_to_text(const struct folio *folio, char *buf, unsigned int len)
{
	snprintf(buf, len, "volume %u pos %" PRIu64 " size %u%s%s%s%s "
		 "uptodate %" PRIx64 " dirty %" PRIx64 " inflight %" PRIx64
		 " pins %u", key_volume(folio->key), key_pos(folio->key),
		 folio_size(folio),
		 folio->flags & FOLIO_LOCKED ? " locked" : "",
		 folio->flags & FOLIO_INDEXED ? " indexed" : "",
		 folio->flags & FOLIO_FAILED ? " failed" : "",
		 folio->flags & FOLIO_AHEAD ? " ahead" : "",
		 folio->uptodate, folio->dirty, folio->inflight,
		 folio->pins & ~PINS_DETACHED);
	return buf;
}
