/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mapstore.c - a store in memory for tests; see mapstore.h.
 */
#include "tests/mapstore.h"

#include <errno.h>
#include <string.h>

#include "bdev/bdev.h"
#include "bdev/sim.h"
#include "cache/writeback.h"

/* Where a block is, or is going to be: a place on the bdev, or one of these. */
#define PLACE_NONE	UINT32_MAX
#define PLACE_PROMISED	(UINT32_MAX - 1)

struct mapstore_block {
	enum iomap_type	type;
	uint32_t	place;		/* MAPPED, UNWRITTEN */
	uint32_t	cow;		/* where a write of a shared block goes */
	bool		shared;
	bool		fresh;		/* given by a begin, to be undone... */
	bool		claimed;	/* ...unless a write came true */
	uint32_t	refs;		/* begins without their end */
	uint64_t	changed;	/* map_seq of the last change */
};

static struct mapstore *to_ms(struct volume *vol)
{
	return container_of(vol, struct mapstore, vol);
}

static uint64_t block_size(const struct mapstore *ms)
{
	return UINT64_C(1) << ms->params.block_shift;
}

static struct mapstore_block *block_at(struct mapstore *ms, uint64_t pos)
{
	return &ms->blocks[pos >> ms->params.block_shift];
}

/* Blocks that [@pos, @pos + @len) touches: [*@firstp, *@endp). */
static void touched(const struct mapstore *ms, uint64_t pos, uint64_t len,
		    uint64_t *firstp, uint64_t *endp)
{
	*firstp = pos >> ms->params.block_shift;
	*endp = (pos + len + block_size(ms) - 1) >> ms->params.block_shift;
}

static uint64_t bump_locked(struct mapstore *ms)
{
	return __atomic_add_fetch(&ms->vol.map_seq, 1, __ATOMIC_ACQ_REL);
}

/* ---- places ---- */

static void fill_place(struct mapstore *ms, uint32_t place, int c)
{
	char buf[4096];

	memset(buf, c, block_size(ms));
	sim_poke(ms->bdev, place * block_size(ms), buf, block_size(ms));
}

static uint64_t sum_place(const struct mapstore *ms, uint32_t place)
{
	uint64_t buf[4096 / 8], sum = 1;

	sim_peek(ms->bdev, place * block_size(ms), buf, block_size(ms));
	for (unsigned int i = 0; i < block_size(ms) / 8; i++)
		sum = hash64(sum ^ buf[i]);
	return sum;
}

/* The next free place; there is one (nr_free was looked at). */
static uint32_t take_place_locked(struct mapstore *ms)
{
	assert(ms->nr_free > 0);
	while (ms->owners[ms->next_place])
		ms->next_place = (ms->next_place + 1) % ms->nr_places;
	ms->owners[ms->next_place] = 1;
	ms->nr_free--;
	return (uint32_t)ms->next_place;
}

static void put_place_locked(struct mapstore *ms, uint32_t place)
{
	assert(ms->owners[place] > 0);
	if (--ms->owners[place])
		return;
	ms->nr_free++;
	fill_place(ms, place, MAPSTORE_POISON);
}

static bool has_room_locked(const struct mapstore *ms)
{
	return ms->nr_free > ms->nr_promised;
}

static void drop_cow_locked(struct mapstore *ms, struct mapstore_block *b)
{
	if (b->cow == PLACE_PROMISED)
		ms->nr_promised--;
	else if (b->cow != PLACE_NONE)
		put_place_locked(ms, b->cow);
	b->cow = PLACE_NONE;
}

/* Make @b a hole, giving back all that it has. */
static void drop_block_locked(struct mapstore *ms, struct mapstore_block *b)
{
	drop_cow_locked(ms, b);
	if (b->type == IOMAP_DELALLOC)
		ms->nr_promised--;
	else if (b->type != IOMAP_HOLE)
		put_place_locked(ms, b->place);
	b->type = IOMAP_HOLE;
	b->place = PLACE_NONE;
	b->shared = b->fresh = b->claimed = false;
}

/* A write of @b has no place to go to yet. */
static bool wants_cow(const struct mapstore_block *b)
{
	return b->shared && b->cow == PLACE_NONE;
}

/* ---- describing ---- */

/* What a mapping of @b says; only blocks that say the same follow on. */
static void say_locked(const struct mapstore *ms,
		       const struct mapstore_block *b, bool write,
		       struct iomap *iomap)
{
	uint32_t place = b->place;

	iomap->type = b->type;
	iomap->flags = b->shared ? IOMAP_F_SHARED : 0;
	if (write && b->cow == PLACE_PROMISED) {
		iomap->type = IOMAP_DELALLOC;
	} else if (write && b->cow != PLACE_NONE) {
		iomap->type = IOMAP_MAPPED;
		place = b->cow;
	}
	iomap->addr = IOMAP_NULL_ADDR;
	iomap->bdev = NULL;
	if (iomap->type == IOMAP_MAPPED || iomap->type == IOMAP_UNWRITTEN) {
		iomap->addr = place * block_size(ms);
		iomap->bdev = ms->bdev;
		if (b->changed > ms->committed)
			iomap->flags |= IOMAP_F_DIRTY;
	}
}

static bool follows(const struct iomap *last, const struct iomap *next,
		    uint64_t nr_bytes)
{
	if (last->type != next->type || last->flags != next->flags)
		return false;
	return last->addr == IOMAP_NULL_ADDR ||
	       last->addr + nr_bytes == next->addr;
}

/* The mapping of blocks from @block on, before @end. */
static void describe_locked(struct mapstore *ms, uint64_t block, uint64_t end,
			    bool write, struct iomap *iomap)
{
	uint64_t bs = block_size(ms), nr = 1, max = end - block;
	struct iomap next;

	say_locked(ms, &ms->blocks[block], write, iomap);
	if (ms->params.extent_max)
		max = MIN(max, ms->params.extent_max / bs);
	if (ms->params.trim_seed)
		max = 1 + random_below(&ms->rnd, max);
	for (; nr < max; nr++) {
		const struct mapstore_block *b = &ms->blocks[block + nr];

		say_locked(ms, b, write, &next);
		if ((write && wants_cow(b)) ||
		    !follows(iomap, &next, nr * bs))
			break;
	}
	iomap->offset = block * bs;
	iomap->length = nr * bs;
	iomap->cookie = __atomic_load_n(&ms->vol.map_seq, __ATOMIC_ACQUIRE);
}

/* ---- allocation ---- */

static bool needs_space(const struct mapstore_block *b)
{
	return b->type == IOMAP_HOLE || wants_cow(b);
}

/* Promise or take a place for a write of @b. */
static void provide_locked(struct mapstore *ms, struct mapstore_block *b,
			   bool promise)
{
	uint32_t place = PLACE_PROMISED;

	if (promise)
		ms->nr_promised++;
	else
		place = take_place_locked(ms);
	if (b->shared) {
		b->cow = place;
	} else if (promise) {
		b->type = IOMAP_DELALLOC;
	} else {
		b->type = IOMAP_UNWRITTEN;
		b->place = place;
	}
	b->changed = ms->vol.map_seq + 1;
}

/* The same for a run of blocks that need space; -ENOSPC if not for one. */
static int provide_run_locked(struct mapstore *ms, uint64_t block,
			      uint64_t end, bool promise)
{
	bool shared = ms->blocks[block].shared;
	uint64_t first = block;

	for (; block < end; block++) {
		struct mapstore_block *b = &ms->blocks[block];

		if (!needs_space(b) || b->shared != shared ||
		    !has_room_locked(ms))
			break;
		provide_locked(ms, b, promise);
		b->fresh = true;
		b->claimed = false;
	}
	if (block == first)
		return -ENOSPC;
	if (!promise) {
		ms->allocs++;
		ms->next_place = (ms->next_place + ms->params.scatter + 1) %
				 ms->nr_places;
	}
	bump_locked(ms);
	return 0;
}

/* Writeback has come: a promised run gets its places. */
static void place_run_locked(struct mapstore *ms, uint64_t block, uint64_t end)
{
	bool cow = ms->blocks[block].cow == PLACE_PROMISED;

	for (; block < end; block++) {
		struct mapstore_block *b = &ms->blocks[block];

		if (cow ? b->cow != PLACE_PROMISED : b->type != IOMAP_DELALLOC)
			break;
		ms->nr_promised--;
		if (cow)
			b->cow = PLACE_NONE;
		else
			b->type = IOMAP_HOLE;
		provide_locked(ms, b, false);
	}
	ms->allocs++;
	ms->next_place = (ms->next_place + ms->params.scatter + 1) %
			 ms->nr_places;
	bump_locked(ms);
}

/* ---- iomap_ops ---- */

static int prepare_write_locked(struct mapstore *ms, uint64_t block,
				uint64_t end, unsigned int flags)
{
	struct mapstore_block *b = &ms->blocks[block];
	bool promise = ms->params.delalloc && !(flags & IOMAP_WRITETHROUGH);

	if ((flags & IOMAP_OVERWRITE_ONLY) &&
	    (b->type != IOMAP_MAPPED || b->shared))
		return -EAGAIN;
	if ((flags & IOMAP_ZERO) && b->type == IOMAP_HOLE)
		return 0;
	if (needs_space(b)) {
		if (flags & IOMAP_NOWAIT)
			return -EAGAIN;
		return provide_run_locked(ms, block, end, promise);
	}
	/* A write-through finds what was promised to a delayed one. */
	if ((flags & IOMAP_WRITETHROUGH) &&
	    (b->cow == PLACE_PROMISED || b->type == IOMAP_DELALLOC))
		place_run_locked(ms, block, end);
	return 0;
}

static void ref_locked(struct mapstore *ms, const struct iomap *iomap,
		       uint64_t pos, uint64_t length, int by)
{
	uint64_t first, end;

	length = MIN(length, iomap->offset + iomap->length - pos);
	touched(ms, pos, length, &first, &end);
	for (; first < end; first++)
		ms->blocks[first].refs += (uint32_t)by;
}

static int ms_begin(struct volume *vol, uint64_t pos, uint64_t length,
		    unsigned int flags, struct iomap *iomap,
		    struct iomap *srcmap)
{
	struct mapstore *ms = to_ms(vol);
	bool write = flags & IOMAP_WRITE;
	uint64_t first, end;
	int ret = 0;

	touched(ms, pos, length, &first, &end);
	mutex_lock(&ms->lock);
	if (write)
		ret = prepare_write_locked(ms, first, end, flags);
	if (!ret) {
		describe_locked(ms, first, end, write, iomap);
		if (write && (iomap->flags & IOMAP_F_SHARED))
			describe_locked(ms, first, end, false, srcmap);
		if (write)
			ref_locked(ms, iomap, pos, length, 1);
		ms->begins++;
		if (ms->stale_one_in &&
		    random_one_in(&ms->rnd, ms->stale_one_in))
			bump_locked(ms);
	}
	mutex_unlock(&ms->lock);
	if (!ret && ms->after_begin)
		ms->after_begin(ms, pos, length, flags);
	return ret;
}

/* Nobody wrote, nobody is about to: take back what begin gave. */
static bool undo_locked(struct mapstore *ms, struct mapstore_block *b)
{
	if (b->refs || !b->fresh || b->claimed)
		return false;
	b->fresh = false;
	if (b->shared)
		drop_cow_locked(ms, b);
	else
		drop_block_locked(ms, b);
	return true;
}

static int ms_end(struct volume *vol, uint64_t pos, uint64_t length,
		  uint64_t written, unsigned int flags, struct iomap *iomap)
{
	struct mapstore *ms = to_ms(vol);
	uint64_t first, end, block;
	bool undone = false;

	mutex_lock(&ms->lock);
	ms->ends++;
	if (flags & IOMAP_WRITE) {
		ref_locked(ms, iomap, pos, length, -1);
		touched(ms, pos, written, &first, &end);
		for (block = first; written && block < end; block++)
			ms->blocks[block].claimed = ms->blocks[block].fresh;
		touched(ms, pos, length, &first, &end);
		for (block = first; block < end; block++)
			undone |= undo_locked(ms, &ms->blocks[block]);
		if (undone)
			bump_locked(ms);
	}
	mutex_unlock(&ms->lock);
	return 0;
}

static bool ms_valid(struct volume *vol, const struct iomap *iomap)
{
	return to_ms(vol)->no_cookie || iomap->cookie ==
	       __atomic_load_n(&vol->map_seq, __ATOMIC_ACQUIRE);
}

static const struct iomap_ops ms_iomap_ops = {
	.iomap_begin	= ms_begin,
	.iomap_end	= ms_end,
	.iomap_valid	= ms_valid,
};

/* ---- writeback_ops ---- */

static void map_for_writeback(struct mapstore *ms, uint64_t pos,
			      struct iomap *iomap)
{
	uint64_t block = pos >> ms->params.block_shift;
	struct mapstore_block *b = &ms->blocks[block];

	if (iomap->length && iomap_covers(iomap, pos) &&
	    ms_valid(&ms->vol, iomap))
		return;
	mutex_lock(&ms->lock);
	/* Shared since it was written: it must not be overwritten either. */
	if (wants_cow(b) && has_room_locked(ms)) {
		provide_locked(ms, b, false);
		ms->allocs++;
		bump_locked(ms);
	} else if (b->cow == PLACE_PROMISED || b->type == IOMAP_DELALLOC) {
		place_run_locked(ms, block, ms->nr_blocks);
	}
	describe_locked(ms, block, ms->nr_blocks, true, iomap);
	if (iomap->type == IOMAP_HOLE)
		ms->wb_holes++;
	mutex_unlock(&ms->lock);
}

static struct wb_range ms_writeback_range(struct writepage_ctx *wpc,
					  struct folio *folio, uint64_t pos,
					  uint32_t len)
{
	struct mapstore *ms = to_ms(wpc->vol);
	struct iomap *iomap = &wpc->iomap;
	uint32_t n;

	switch (ms->wb) {
	case MAPSTORE_WB_NOTHING:
		return (struct wb_range){ .handled = 0 };
	case MAPSTORE_WB_TOO_MUCH:
		return (struct wb_range){ .handled = len + 1 };
	case MAPSTORE_WB_HOLE:
		return (struct wb_range){ .handled = len };
	case MAPSTORE_WB_ERROR:
		return (struct wb_range){ .error = -EIO };
	case MAPSTORE_WB_STEPS:
		len = (uint32_t)MIN((uint64_t)len, block_size(ms));
		break;
	default:
		break;
	}
	map_for_writeback(ms, pos, iomap);
	n = (uint32_t)MIN((uint64_t)len, iomap->offset + iomap->length - pos);
	if (iomap->type == IOMAP_HOLE)
		return (struct wb_range){ .handled = n };
	if (wants_cow(block_at(ms, pos)))
		return (struct wb_range){ .error = -ENOSPC };
	return ioend_add_range(wpc, folio, pos, n);
}

static void finish_block_locked(struct mapstore *ms, struct mapstore_block *b,
				unsigned int flags)
{
	if (flags & IOEND_SHARED) {
		if (b->cow == PLACE_NONE || b->cow == PLACE_PROMISED) {
			ms->bad_end_ios++;
			return;
		}
		put_place_locked(ms, b->place);
		b->place = b->cow;
		b->cow = PLACE_NONE;
		b->shared = false;
		ms->remapped++;
	} else if (flags & IOEND_UNWRITTEN) {
		if (b->type != IOMAP_UNWRITTEN) {
			ms->bad_end_ios++;
			return;
		}
		b->type = IOMAP_MAPPED;
		ms->converted++;
	}
	b->fresh = b->claimed = false;
	b->changed = ms->vol.map_seq + 1;
}

static int ms_end_io(struct volume *vol, struct ioend *ioend)
{
	struct mapstore *ms = to_ms(vol);
	uint64_t delay = ms->end_io_delay_ns, first, end;
	struct mapstore_end_io *entry = NULL;
	int ret = 0;

	if (delay)
		coroutine_sleep_ns(delay);
	mutex_lock(&ms->lock);
	while (ms->hold)
		waitq_wait(&ms->held, &ms->lock);
	if (ms->end_io_fail_nth && --ms->end_io_fail_nth == 0)
		ret = ms->end_io_error;
	if (ms->end_ios < MAPSTORE_LOG_MAX)
		entry = &ms->log[ms->end_ios];
	ms->end_ios++;
	if (entry)
		*entry = (struct mapstore_end_io){
			ioend->offset, ioend->size, ioend->flags, ret,
		};
	/* An error here is what the core must not call us with. */
	ms->bad_end_ios += ioend->error != 0;
	touched(ms, ioend->offset, ioend->size, &first, &end);
	for (; !ret && first < end; first++)
		finish_block_locked(ms, &ms->blocks[first], ioend->flags);
	/* A pure overwrite changes no mapping. */
	if (!ret && (ioend->flags & (IOEND_SHARED | IOEND_UNWRITTEN)))
		bump_locked(ms);
	mutex_unlock(&ms->lock);
	return ret;
}

/* The folio stays dirty and is tried again, so it keeps what it was promised:
 * only count. */
static void ms_discard_folio(struct volume *vol, struct folio *folio,
			     uint64_t pos)
{
	struct mapstore *ms = to_ms(vol);

	(void)folio;
	mutex_lock(&ms->lock);
	ms->discards++;
	ms->discard_pos = pos;
	mutex_unlock(&ms->lock);
}

static const struct writeback_ops ms_wb_ops = {
	.writeback_range	= ms_writeback_range,
	.end_io			= ms_end_io,
	.discard_folio		= ms_discard_folio,
};

/* ---- store_ops ---- */

static int ms_unmap(struct volume *vol, uint64_t pos, uint64_t len,
		    unsigned int flags)
{
	struct mapstore *ms = to_ms(vol);
	uint64_t first, end;

	(void)flags;
	touched(ms, pos, len, &first, &end);
	mutex_lock(&ms->lock);
	for (; first < end; first++) {
		drop_block_locked(ms, &ms->blocks[first]);
		ms->blocks[first].changed = ms->vol.map_seq + 1;
	}
	bump_locked(ms);
	mutex_unlock(&ms->lock);
	return 0;
}

static int ms_zero(struct volume *vol, uint64_t pos, uint64_t len,
		   unsigned int flags)
{
	struct mapstore *ms = to_ms(vol);
	uint64_t first, end;
	int ret = 0;

	if (ms->no_zero)
		return -EOPNOTSUPP;
	ret = ms_unmap(vol, pos, len, flags);
	if (ret || !(flags & VOLUME_NO_HOLE))
		return ret;
	touched(ms, pos, len, &first, &end);
	mutex_lock(&ms->lock);
	for (; first < end && !ret; first++) {
		if (has_room_locked(ms))
			provide_locked(ms, &ms->blocks[first], false);
		else
			ret = -ENOSPC;
	}
	bump_locked(ms);
	mutex_unlock(&ms->lock);
	return ret;
}

static int ms_flush(struct volume *vol)
{
	struct mapstore *ms = to_ms(vol);
	uint64_t seq = __atomic_load_n(&vol->map_seq, __ATOMIC_ACQUIRE);
	int ret = bdev_flush(ms->bdev);

	mutex_lock(&ms->lock);
	ms->flushes++;
	if (!ret)
		ms->committed = MAX(ms->committed, seq);
	mutex_unlock(&ms->lock);
	return ret;
}

static bool ms_fua_by_write(struct volume *vol)
{
	return to_ms(vol)->fua_by_write;
}

static void ms_free(struct mapstore *ms)
{
	bdev_close(&ms->bdev);
	mutex_fini(&ms->lock);
	free(ms->blocks);
	free(ms->owners);
	free(ms->sums);
	free(ms);
}

static void ms_release(struct volume *vol)
{
	ms_free(to_ms(vol));
}

static const struct store_ops ms_store_ops = {
	.unmap		= ms_unmap,
	.zero		= ms_zero,
	.flush		= ms_flush,
	.fua_by_write	= ms_fua_by_write,
	.release	= ms_release,
};

/* ---- for tests ---- */

static void fill_volume(struct mapstore *ms, const struct bdev *bdev)
{
	ms->vol.name = "mapstore";
	ms->vol.iomap_ops = &ms_iomap_ops;
	ms->vol.wb_ops = &ms_wb_ops;
	ms->vol.store_ops = &ms_store_ops;
	ms->vol.size = ms->params.size;
	ms->vol.block_shift = ms->params.block_shift;
	ms->vol.mode = ms->params.mode;
	ms->vol.can_unmap = ms->vol.can_fast_zero = true;
	ms->vol.max_io = bdev->max_io;
}

int mapstore_open(struct cache *cache, struct loop *home, struct bdev **bdevp,
		  const struct mapstore_params *params, struct mapstore **msp)
{
	struct mapstore *ms = calloc(1, sizeof(*ms));
	struct bdev *bdev = *bdevp;
	int ret = -ENOMEM;

	if (!ms)
		return -ENOMEM;
	ms->params = *params;
	assert(!params->extent_max || params->extent_max >= block_size(ms));
	random_init(&ms->rnd, params->trim_seed);
	fill_volume(ms, bdev);
	ms->nr_blocks = (params->size + block_size(ms) - 1) >>
			params->block_shift;
	ms->nr_places = ms->nr_free = bdev->size >> params->block_shift;
	mutex_init(&ms->lock, RANK_STORE);
	waitq_init(&ms->held);
	ms->blocks = calloc(ms->nr_blocks, sizeof(*ms->blocks));
	ms->owners = calloc(ms->nr_places, 1);
	ms->sums = calloc(ms->nr_places, sizeof(*ms->sums));
	if (!ms->blocks || !ms->owners || !ms->sums)
		goto out_free;
	for (uint64_t i = 0; i < ms->nr_blocks; i++)
		ms->blocks[i].place = ms->blocks[i].cow = PLACE_NONE;
	ms->bdev = bdev;
	for (uint64_t i = 0; i < ms->nr_places; i++)
		fill_place(ms, (uint32_t)i, MAPSTORE_POISON);
	ret = volume_start(&ms->vol, cache, home);
	if (ret)
		goto out_keep_bdev;
	*bdevp = NULL;
	*msp = ms;
	return 0;

out_keep_bdev:
	ms->bdev = NULL;
out_free:
	ms_free(ms);
	return ret;
}

void mapstore_set(struct mapstore *ms, uint64_t pos, uint64_t len,
		  enum iomap_type type, int c)
{
	uint64_t first, end;

	assert(type == IOMAP_MAPPED || type == IOMAP_UNWRITTEN ||
	       type == IOMAP_HOLE);
	touched(ms, pos, len, &first, &end);
	mutex_lock(&ms->lock);
	for (; first < end; first++) {
		struct mapstore_block *b = &ms->blocks[first];

		drop_block_locked(ms, b);
		if (type == IOMAP_HOLE)
			continue;
		provide_locked(ms, b, false);
		b->type = type;
		if (type == IOMAP_MAPPED)
			fill_place(ms, b->place, c);
	}
	ms->next_place = (ms->next_place + ms->params.scatter + 1) %
			 ms->nr_places;
	bump_locked(ms);
	mutex_unlock(&ms->lock);
}

void mapstore_share(struct mapstore *ms, uint64_t pos, uint64_t len)
{
	uint64_t first, end;

	touched(ms, pos, len, &first, &end);
	mutex_lock(&ms->lock);
	for (; first < end; first++) {
		struct mapstore_block *b = &ms->blocks[first];

		if (b->type != IOMAP_MAPPED || b->shared)
			continue;
		b->shared = true;
		ms->owners[b->place]++;
		ms->sums[b->place] = sum_place(ms, b->place);
	}
	bump_locked(ms);
	mutex_unlock(&ms->lock);
}

void mapstore_hold_end_io(struct mapstore *ms, bool hold)
{
	mutex_lock(&ms->lock);
	ms->hold = hold;
	waitq_wake_all(&ms->held);
	mutex_unlock(&ms->lock);
}

void mapstore_peek(struct mapstore *ms, uint64_t pos, void *buf, uint64_t len)
{
	uint64_t bs = block_size(ms);
	char *to = buf;

	mutex_lock(&ms->lock);
	while (len) {
		const struct mapstore_block *b = block_at(ms, pos);
		uint64_t off = pos & (bs - 1), n = MIN(len, bs - off);

		if (b->type == IOMAP_MAPPED)
			sim_peek(ms->bdev, b->place * bs + off, to, n);
		else
			memset(to, 0, n);
		to += n;
		pos += n;
		len -= n;
	}
	mutex_unlock(&ms->lock);
}

enum iomap_type mapstore_type(struct mapstore *ms, uint64_t pos, bool *sharedp)
{
	const struct mapstore_block *b = block_at(ms, pos);
	enum iomap_type type;

	mutex_lock(&ms->lock);
	type = b->type;
	if (sharedp)
		*sharedp = b->shared;
	mutex_unlock(&ms->lock);
	return type;
}

/* Count @place as owned by one more block. */
static bool own(const struct mapstore *ms, uint8_t *seen, uint32_t place)
{
	return place < ms->nr_places && ms->owners[place] && !seen[place]++;
}

static bool check_block_locked(const struct mapstore *ms, uint8_t *seen,
			       const struct mapstore_block *b,
			       uint64_t *promised, bool idle)
{
	bool ok = true;

	if (b->type == IOMAP_MAPPED || b->type == IOMAP_UNWRITTEN)
		ok = own(ms, seen, b->place);
	else if (b->type == IOMAP_DELALLOC)
		(*promised)++;
	if (b->shared)
		ok = ok && b->type == IOMAP_MAPPED &&
		     ms->owners[b->place] == 2;
	if (b->cow == PLACE_PROMISED)
		(*promised)++;
	else if (b->cow != PLACE_NONE)
		ok = ok && b->shared && own(ms, seen, b->cow);
	if (idle)
		ok = ok && !b->refs && !b->fresh && b->cow == PLACE_NONE;
	return ok;
}

bool mapstore_check(struct mapstore *ms, bool idle)
{
	uint8_t *seen = calloc(ms->nr_places, 1);
	uint64_t promised = 0, nr_free = 0;
	bool ok = seen != NULL;

	mutex_lock(&ms->lock);
	for (uint64_t i = 0; ok && i < ms->nr_blocks; i++)
		ok = check_block_locked(ms, seen, &ms->blocks[i], &promised,
					idle);
	for (uint32_t i = 0; ok && i < ms->nr_places; i++) {
		nr_free += ms->owners[i] == 0;
		/* A snapshot's place, with or without the volume. */
		if (ms->sums[i])
			ok = ms->owners[i] && ms->sums[i] == sum_place(ms, i);
		else
			ok = ms->owners[i] == seen[i];
	}
	ok = ok && promised == ms->nr_promised && nr_free == ms->nr_free &&
	     (!idle || !promised);
	mutex_unlock(&ms->lock);
	free(seen);
	return ok;
}
