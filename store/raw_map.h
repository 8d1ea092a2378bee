/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * raw_map.h - which 4 KiB blocks of a sparse file are allocated, as far as we
 * know.
 *
 * The file itself has the truth; the map is a cache of it, learned a region
 * (128 MiB) at a time when somebody first asks, and forgotten again when
 * memory for it runs out.  What it knows of a block is one of
 *
 *   HOLE	reads zero, nothing is written there, and nothing waits in the
 *		folio cache to be written there
 *   DATA	has space: a write cannot run out of it
 *   MAYBE	neither is sure: it is read from the file, and a write allocates
 *
 * A block that was allocated for a write looks like a hole to the file system
 * until the data arrives.  So once something was allocated in a region, what
 * is learned anew there is never HOLE, only MAYBE.
 *
 * Look-ups take no lock: they are on the path of every write.
 */
#ifndef FOLIOD_STORE_RAW_MAP_H
#define FOLIOD_STORE_RAW_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"

struct bdev;

#define RAW_BLOCK_SHIFT		12
#define RAW_BLOCK		(UINT64_C(1) << RAW_BLOCK_SHIFT)
#define RAW_REGION_SHIFT	27
#define RAW_REGION		(UINT64_C(1) << RAW_REGION_SHIFT)
#define RAW_REGION_BLOCKS	(1u << (RAW_REGION_SHIFT - RAW_BLOCK_SHIFT))
#define RAW_REGION_WORDS	(RAW_REGION_BLOCKS / 64)

/* Regions whose state is kept; larger files share the slots. */
#define RAW_MAP_SLOTS_MAX	65536u
/* So many at least, for a small file may grow. */
#define RAW_MAP_SLOTS_MIN	64u
/* Pages of bitmaps, of 8 KiB each; only used ones take memory. */
#define RAW_MAP_PAGES_MAX	2048u

enum raw_map_kind {
	RAW_MAP_UNKNOWN,	/* not learned yet, or forgotten */
	RAW_MAP_MAYBE,
	RAW_MAP_HOLE,
	RAW_MAP_DATA,
};

/* Two bits a block, never both set; neither: MAYBE.  Atomic. */
struct raw_map_page {
	uint64_t	data[RAW_REGION_WORDS];
	uint64_t	hole[RAW_REGION_WORDS];
};

/* What is kept of the region that uses the slot. */
struct raw_map_slot {
	/*
	 * Atomic, written under lock: the region's number, a count of changes
	 * and its state, see raw_map.c.  A reader who finds it as it was
	 * before knows that the page belonged to the region meanwhile.
	 */
	uint64_t	word;
	uint32_t	page;		/* index + 1, or 0; atomic, likewise */
	/* Guarded by lock. */
	uint32_t	gen;		/* unmaps that touched the slot */
	uint32_t	nr_data, nr_hole;	/* bits in the page */
	/* Something was allocated here since the file was opened; guarded by
	 * lock, never cleared. */
	bool		unsure;
};

struct raw_map {
	uint64_t		size;		/* of the file, bytes; atomic,
						 * written under lock */
	/* Constant after raw_map_new(). */
	uint32_t		slot_mask;
	uint32_t		nr_pages;
	uint64_t		*seq;		/* the volume's map_seq */
	struct raw_map_slot	*slots;
	struct raw_map_page	*pages;		/* never given back: late
						 * readers may look */
	struct mutex		lock;		/* RANK_STORE */
	/* Guarded by lock. */
	uint32_t		*owners;	/* slot + 1 of each page, or 0 */
	uint32_t		hand;		/* next page to be taken */
	uint64_t		learned, forgotten;	/* regions, so far */
	/* Atomic. */
	uint8_t			*used;		/* page looked at since hand passed */
};

/*
 * A map of a file of @size bytes that nobody has written to since it was
 * opened; at most @pages_max regions have their blocks remembered one by one.
 * Every change that may prove a mapping wrong bumps @seq.  0 or -ENOMEM.
 */
int raw_map_new(uint64_t size, uint32_t pages_max, uint64_t *seq,
		struct raw_map **mapp);
void raw_map_free(struct raw_map *map);

/*
 * The file is of @size bytes from now on.  Nothing is known any more of what
 * lies behind the smaller of the two sizes, nor of the region around it.
 */
void raw_map_resize(struct raw_map *map, uint64_t size);

/*
 * What is at @pos, and in *@runp for how many of the next @len bytes that holds
 * (at least one; up to a region's end).  Never waits.
 */
enum raw_map_kind raw_map_lookup(const struct raw_map *map, uint64_t pos,
				 uint64_t len, uint64_t *runp);

/* Ask @bdev about the region of @pos, unless known.  In a coroutine.  0,
 * -ENOMEM, or -EINVAL if the file ends before @pos. */
int raw_map_learn(struct raw_map *map, struct bdev *bdev, uint64_t pos);

/* To be noted before allocating at @pos, for raw_map_allocated(). */
uint32_t raw_map_gen(struct raw_map *map, uint64_t pos);

/*
 * Space was allocated for [@pos, @pos + @len), within one region, after @gen
 * was noted.  On success *@cookiep is the new map_seq.  False: an unmap came
 * between, the space may be gone: allocate again.
 */
bool raw_map_allocated(struct raw_map *map, uint64_t pos, uint64_t len,
		       uint32_t gen, uint64_t *cookiep);

/*
 * Around an unmap of [@pos, @pos + @len): before it nothing there is known any
 * more, afterwards it is a hole if @unmapped.
 */
void raw_map_unmap_begin(struct raw_map *map, uint64_t pos, uint64_t len);
void raw_map_unmap_end(struct raw_map *map, uint64_t pos, uint64_t len,
		       bool unmapped);

#endif
