/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * iomap.h - mappings of volume ranges to devices, and the loop over them.
 *
 * The loop (iomap_iter) asks the store for a mapping, lets its body work
 * through it, and tells the store how far the body came.  No lock is held
 * between the store's begin and a folio's lock: the body compares the cookie
 * under that lock (iomap_valid) and marks a stale mapping, and the loop begins
 * again from where it stands (iomap-semantics 1.1).
 */
#ifndef FOLIOD_CACHE_IOMAP_H
#define FOLIOD_CACHE_IOMAP_H

#include <stdbool.h>
#include <stdint.h>

struct bdev;
struct volume;

enum iomap_type {
	IOMAP_HOLE,		/* nothing there: reads zero */
	IOMAP_DELALLOC,		/* space promised, not yet placed */
	IOMAP_MAPPED,		/* at addr on bdev */
	IOMAP_UNWRITTEN,	/* at addr on bdev, reads zero until written */
	IOMAP_INLINE,		/* no block device behind it */
};

/* What the store says of a mapping. */
#define IOMAP_F_NEW		(1u << 0)	/* reserved or allocated by this begin */
#define IOMAP_F_DIRTY		(1u << 1)	/* uncommitted mapping change: FUA needs
						 * more than a FUA write */
#define IOMAP_F_SHARED		(1u << 2)	/* owned by several: a write goes elsewhere */
#define IOMAP_F_BOUNDARY	(1u << 3)	/* must not join what lies before it */
#define IOMAP_F_ANON_WRITE	(1u << 4)	/* address known only at completion */
/* What the core notes on it. */
#define IOMAP_F_STALE		(1u << 8)	/* no longer true: begin again */

/* What the caller wants. */
#define IOMAP_WRITE		(1u << 0)
#define IOMAP_ZERO		(1u << 1)	/* zeroing: holes may stay holes */
#define IOMAP_NOWAIT		(1u << 2)	/* -EAGAIN rather than wait */
#define IOMAP_OVERWRITE_ONLY	(1u << 3)	/* -EAGAIN unless MAPPED and not NEW */
#define IOMAP_WRITETHROUGH	(1u << 4)	/* never DELALLOC */
#define IOMAP_DIRECT		(1u << 5)
#define IOMAP_REPORT		(1u << 6)	/* for block status only */
#define IOMAP_RANGE_HELD	(1u << 7)	/* the caller holds the range lock */

#define IOMAP_NULL_ADDR		UINT64_MAX

struct iomap {
	uint64_t	addr;		/* bytes on @bdev, or IOMAP_NULL_ADDR */
	uint64_t	offset;		/* bytes in the volume */
	uint64_t	length;		/* bytes; never 0 when handed out */
	enum iomap_type	type;
	unsigned int	flags;		/* IOMAP_F_* */
	struct bdev	*bdev;
	uint64_t	cookie;		/* volume's map_seq at begin */
	void		*private;	/* the store's */
};

struct iomap_ops {
	/*
	 * Map @pos, up to @length bytes, covering at least @pos; @srcmap (zeroed
	 * by the caller: length 0 is "none, read from iomap") is where a partial
	 * block is read from.  Called with no locks held and returns with none.
	 * In a coroutine, unless @flags has IOMAP_NOWAIT.  Required.
	 */
	int (*iomap_begin)(struct volume *vol, uint64_t pos, uint64_t length,
			   unsigned int flags, struct iomap *iomap,
			   struct iomap *srcmap);
	/* After each successful begin: keep @written bytes from @pos, undo the
	 * rest of @length.  May be NULL. */
	int (*iomap_end)(struct volume *vol, uint64_t pos, uint64_t length,
			 uint64_t written, unsigned int flags,
			 struct iomap *iomap);
	/* Is @iomap still true?  Called under the folio's shard lock; takes
	 * none.  NULL: compares cookie with the volume's map_seq. */
	bool (*iomap_valid)(struct volume *vol, const struct iomap *iomap);
};

struct iomap_iter {
	/* Set by the caller. */
	struct volume	*vol;
	uint64_t	pos;		/* next byte; advanced */
	uint64_t	len;		/* bytes left; reduced */
	unsigned int	flags;

	/* The present mapping. */
	struct iomap	iomap;
	struct iomap	srcmap;

	/* The loop's own. */
	uint64_t	iter_start;	/* pos when this mapping was begun */
	uint64_t	done;		/* bytes advanced over all mappings */
	int		status;		/* set by the body: 0 or -errno */
	bool		mapped;		/* a begin waits for its end */
};

/*
 * Drive the loop:
 *
 *	while ((ret = iomap_iter_next(&iter)) > 0)
 *		iter.status = body(&iter);
 *
 * Ends the present mapping (with what the body advanced), then begins the
 * next.  Returns 1 with a mapping that covers iter->pos, 0 when len is used up
 * or the body made no progress without a stale mapping, or -errno.  An error
 * after progress is returned too: what was done is in iter->done.
 */
int iomap_iter_next(struct iomap_iter *iter);

/* Bytes that the body may handle now: within the mapping, its source, len. */
uint64_t iomap_iter_length(const struct iomap_iter *iter);

/* The mapping to read old data from: srcmap if there is one. */
const struct iomap *iomap_iter_srcmap(const struct iomap_iter *iter);

/* The body handled @count more bytes; at most iomap_iter_length(). */
void iomap_iter_advance(struct iomap_iter *iter, uint64_t count);

/* Compare the cookie, under the shard lock; marks the map STALE if it differs. */
bool iomap_iter_valid(struct iomap_iter *iter);

/* Does @iomap cover @pos? */
static inline bool iomap_covers(const struct iomap *iomap, uint64_t pos)
{
	return pos >= iomap->offset && pos - iomap->offset < iomap->length;
}

/* Device address of volume byte @pos, which @iomap covers. */
static inline uint64_t iomap_addr(const struct iomap *iomap, uint64_t pos)
{
	return iomap->addr + (pos - iomap->offset);
}

#endif
