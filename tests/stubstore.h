/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stubstore.h - a store with handles, for tests of the engine: the identity
 * over a bdev, whose next answers can be made wrong, short, failing or late.
 *
 * The volume may end before the bdev does, its blocks may have any size that
 * the engine takes, and its requests any limit.
 */
#ifndef FOLIOD_TESTS_STUBSTORE_H
#define FOLIOD_TESTS_STUBSTORE_H

#include "base/base.h"
#include "cache/cache.h"
#include "cache/ioend.h"

/* What writeback_range does with a run. */
enum stub_answer {
	STUB_ADD,	/* adds it to the ioend: the good answer */
	STUB_NOTHING,	/* says it handled 0 bytes */
	STUB_TOO_MUCH,	/* says it handled a byte more than there are */
	STUB_HOLE,	/* there is nothing to write to */
	STUB_HALF_HOLE,	/* adds the first block; the rest is a hole */
	STUB_FAIL,	/* -fail_err, on the calls that fail_call tells */
};

struct stub_params {
	uint64_t		size;		/* bytes; 0: the bdev's */
	unsigned int		block_shift;	/* 0: 12 */
	uint64_t		max_io;		/* 0: the bdev's */
	enum volume_mode	mode;
	bool			end_io;		/* has mapping transactions */
	bool			fua_needs_flush;
};

struct stub {
	struct volume		vol;
	struct bdev		*bdev;		/* owned */

	/* Handles; of the volume's home loop. */
	enum stub_answer	answer;
	uint64_t		fail_call;	/* 1-based, with STUB_FAIL */
	int			fail_err;	/* positive */
	uint32_t		step;		/* at most that much a call; 0: all */
	unsigned int		iomap_flags;	/* IOMAP_F_* of writeback's map */
	uint64_t		boundary;	/* mappings begin anew at its
						 * multiples; 0: never */
	int			(*end_io)(void *arg, const struct ioend *ioend);
	void			*end_io_arg;

	/* Counts. */
	uint64_t		nr_range_calls;
	uint64_t		nr_discards;	/* discard_folio */
	uint64_t		nr_end_io;
	uint64_t		end_io_bytes;
	uint64_t		nr_flushes;
};

static inline struct stub *to_stub(struct volume *vol)
{
	return container_of(vol, struct stub, vol);
}

/*
 * For engine_volume_params.open: enter a volume on *@bdevp, taken over, into
 * @cache.  @arg is a struct stub_params, or NULL for the defaults.
 */
int stub_open(struct cache *cache, struct loop *home, struct bdev **bdevp,
	      void *arg, struct volume **volp);

#endif
