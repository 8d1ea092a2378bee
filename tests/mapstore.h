/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mapstore.h - a store in memory whose mappings do all that mappings can do,
 * for tests of the engine.
 *
 * Its data is on a bdev (a simulated disk), its map in an array, one entry a
 * block:
 *
 *                  write                writeback             end_io
 *     HOLE --------------> DELALLOC --------------> UNWRITTEN ------> MAPPED
 *       |   (delalloc)                                ^
 *       +--------------------- write -----------------+
 *
 *     MAPPED, shared: a write goes to a new place ("cow"), read and modified
 *     from the old one (srcmap); end_io makes the new place the mapping.
 *
 * A place that nobody owns any more is filled with MAPSTORE_POISON at once, so
 * whoever reads through a stale mapping gets that, and a snapshot's places
 * (mapstore_share()) are watched for changes.
 */
#ifndef FOLIOD_TESTS_MAPSTORE_H
#define FOLIOD_TESTS_MAPSTORE_H

#include "base/base.h"
#include "cache/cache.h"
#include "cache/ioend.h"

#define MAPSTORE_POISON		0xdb
#define MAPSTORE_LOG_MAX	4096u

struct bdev;
struct mapstore;
struct mapstore_block;

struct mapstore_params {
	uint64_t		size;		/* of the volume, bytes */
	unsigned int		block_shift;
	enum volume_mode	mode;
	bool			delalloc;
	bool			scatter;	/* leave a gap after each place */
	uint64_t		extent_max;	/* longest mapping, at least a
						 * block; 0: any */
	uint64_t		trim_seed;	/* not 0: mappings are cut short
						 * at random */
};

/* What writeback_range does instead of its work (T-09). */
enum mapstore_wb {
	MAPSTORE_WB_NORMAL,
	MAPSTORE_WB_NOTHING,	/* handles 0 bytes */
	MAPSTORE_WB_TOO_MUCH,	/* claims len + 1 */
	MAPSTORE_WB_STEPS,	/* one block a call */
	MAPSTORE_WB_HOLE,	/* handled, not submitted */
	MAPSTORE_WB_ERROR,	/* -EIO */
};

struct mapstore_end_io {
	uint64_t	offset, size;
	unsigned int	flags;		/* IOEND_* */
	int		ret;
};

struct mapstore {
	struct volume		vol;
	struct mapstore_params	params;		/* constant */
	struct bdev		*bdev;		/* owned */
	struct mutex		lock;		/* RANK_STORE */

	/* Guarded by lock. */
	struct mapstore_block	*blocks;
	uint64_t		nr_blocks;
	uint8_t			*owners;	/* of each place on bdev: 0, 1, or
						 * 2 with a snapshot */
	uint64_t		*sums;		/* of places in a snapshot */
	uint64_t		nr_places, nr_free, nr_promised;
	uint64_t		next_place;
	uint64_t		committed;	/* map_seq of the last flush */
	bool			hold;
	struct waitq		held;
	struct random		rnd;

	/* Set by the test whenever it likes. */
	bool			no_cookie;	/* every mapping is valid: the
						 * mutant of T-13 */
	unsigned int		stale_one_in;	/* begins that are stale at once;
						 * 0: none */
	uint64_t		end_io_delay_ns;
	unsigned int		end_io_fail_nth;	/* from now; 0: none */
	int			end_io_error;	/* negative */
	bool			fua_by_write;
	bool			no_zero;	/* zero() is not supported */
	enum mapstore_wb	wb;
	/* After each begin that succeeded, no lock held, in the caller's
	 * coroutine (or not, with NOWAIT). */
	void			(*after_begin)(struct mapstore *ms,
					       uint64_t pos, uint64_t length,
					       unsigned int flags);
	void			*arg;		/* the hook's */

	/* Counts; guarded by lock while requests run. */
	uint64_t		begins, ends;
	uint64_t		allocs;		/* allocator calls */
	uint64_t		end_ios, converted, remapped;	/* calls, blocks */
	uint64_t		flushes;
	uint64_t		wb_holes;	/* dirty data over a hole: a bug */
	uint64_t		bad_end_ios;	/* of what was not in flight */
	uint64_t		discards;	/* discard_folio calls */
	uint64_t		discard_pos;	/* of the last one */
	struct mapstore_end_io	log[MAPSTORE_LOG_MAX];	/* first end_ios */
};

/*
 * Open a volume of holes on @*bdevp, which is taken over on success.  Its
 * places are all of the bdev.  volume_stop(&ms->vol) ends it.
 */
int mapstore_open(struct cache *cache, struct loop *home, struct bdev **bdevp,
		  const struct mapstore_params *params, struct mapstore **msp);

/*
 * Set up whole blocks behind the cache's back: MAPPED with @c in all bytes,
 * UNWRITTEN (over poison) or HOLE.  Nothing of them is cached.
 */
void mapstore_set(struct mapstore *ms, uint64_t pos, uint64_t len,
		  enum iomap_type type, int c);

/* Have a snapshot own what is MAPPED there too.  Nothing is in flight. */
void mapstore_share(struct mapstore *ms, uint64_t pos, uint64_t len);

/* Hold end_io back from now on, or let go. */
void mapstore_hold_end_io(struct mapstore *ms, bool hold);

/* What is stored at [@pos, @pos + @len), cache left aside. */
void mapstore_peek(struct mapstore *ms, uint64_t pos, void *buf, uint64_t len);

/* The type at @pos, and whether it is shared. */
enum iomap_type mapstore_type(struct mapstore *ms, uint64_t pos, bool *sharedp);

/*
 * Does the map hold together: each place has the owners it should have, and
 * snapshots are as they were?  With @idle (nothing dirty, no write running)
 * also: no space is promised, none is provided for a write that never came.
 */
bool mapstore_check(struct mapstore *ms, bool idle);

#endif
