/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * raw_map.c - the cache of what a sparse file has allocated.
 *
 * A region's state is one word, its slot's:
 *
 *      63                    26   25               2   1  0
 *     +------------------------+---------------------+------+
 *     |     region's number    |  count of changes   | state|
 *     +------------------------+---------------------+------+
 *
 *   UNKNOWN ---learn---> ALL_HOLE, ALL_DATA  <---full---> MIXED (with a page)
 *      ^                                                    |
 *      +------------- page wanted by another region --------+
 *
 * A reader takes the word, then the page's bits, then the word again.  A page
 * that changes owners is taken from the old word first, and the new bits are
 * release stores, so whoever has seen one of them finds the word changed.
 */
#include "store/raw_map.h"

#include <errno.h>
#include <string.h>

#include "bdev/bdev.h"

#define STATE_BITS	2
#define COUNT_BITS	24
#define REGION_SHIFT	(STATE_BITS + COUNT_BITS)

#define RELAX_EXTENTS	64u	/* learned in one go, before others run */

enum region_state {
	REGION_UNKNOWN,
	REGION_ALL_HOLE,
	REGION_ALL_DATA,
	REGION_MIXED,
};

static_assert(RAW_MAP_SLOTS_MAX <= UINT32_MAX / sizeof(struct raw_map_slot),
	      "slots are counted in 32 bits");

/* ---- words ---- */

static enum region_state word_state(uint64_t word)
{
	return (enum region_state)(word & ((1u << STATE_BITS) - 1));
}

static uint64_t word_region(uint64_t word)
{
	return word >> REGION_SHIFT;
}

static uint64_t pos_region(uint64_t pos)
{
	return pos >> RAW_REGION_SHIFT;
}

static struct raw_map_slot *region_slot(const struct raw_map *map,
					uint64_t region)
{
	return &map->slots[region & map->slot_mask];
}

static uint64_t map_size(const struct raw_map *map)
{
	return __atomic_load_n(&map->size, __ATOMIC_RELAXED);
}

/* Blocks of @region; the file's last one may be short. */
static uint32_t region_blocks(const struct raw_map *map, uint64_t region)
{
	uint64_t start = region << RAW_REGION_SHIFT;
	uint64_t size = map_size(map);
	uint64_t rest = size > start ? size - start : 0;

	return (uint32_t)(round_up64(MIN(rest, RAW_REGION), RAW_BLOCK) >>
			  RAW_BLOCK_SHIFT);
}

static enum region_state slot_state_locked(const struct raw_map_slot *slot,
					   uint64_t region)
{
	return word_region(slot->word) == region ? word_state(slot->word) :
						   REGION_UNKNOWN;
}

static void set_state_locked(struct raw_map_slot *slot, uint64_t region,
			     enum region_state state)
{
	uint64_t count = (slot->word >> STATE_BITS) + 1;

	count &= (1u << COUNT_BITS) - 1;
	__atomic_store_n(&slot->word, region << REGION_SHIFT |
			 count << STATE_BITS | (uint64_t)state,
			 __ATOMIC_RELEASE);
}

/* ---- pages ---- */

static struct raw_map_page *slot_page_locked(const struct raw_map *map,
					     const struct raw_map_slot *slot)
{
	assert(slot->page);
	return &map->pages[slot->page - 1];
}

/* The slot's page is nobody's any more; the word was changed before. */
static void drop_page_locked(struct raw_map *map, struct raw_map_slot *slot)
{
	if (!slot->page)
		return;
	map->owners[slot->page - 1] = 0;
	__atomic_store_n(&slot->page, 0, __ATOMIC_RELEASE);
}

static void forget_locked(struct raw_map *map, struct raw_map_slot *slot)
{
	set_state_locked(slot, word_region(slot->word), REGION_UNKNOWN);
	drop_page_locked(map, slot);
	map->forgotten++;
}

/* A page for @slot: a free one, or that of the region not looked at longest
 * (by the clock).  Ends, since a turn clears all of used. */
static struct raw_map_page *take_page_locked(struct raw_map *map,
					     struct raw_map_slot *slot)
{
	uint32_t i;

	for (;; map->hand = (i + 1) % map->nr_pages) {
		i = map->hand;
		if (!map->owners[i])
			break;
		if (!__atomic_load_n(&map->used[i], __ATOMIC_RELAXED)) {
			forget_locked(map, &map->slots[map->owners[i] - 1]);
			break;
		}
		__atomic_store_n(&map->used[i], 0, __ATOMIC_RELAXED);
	}
	map->hand = (i + 1) % map->nr_pages;
	map->owners[i] = (uint32_t)(slot - map->slots) + 1;
	__atomic_store_n(&slot->page, i + 1, __ATOMIC_RELEASE);
	return &map->pages[i];
}

static void set_word(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* Bits of word @i for blocks [@first, @end). */
static uint64_t word_mask(uint32_t i, uint32_t first, uint32_t end)
{
	uint64_t mask = UINT64_MAX;

	if (first > i * 64)
		mask <<= first - i * 64;
	if (end < (i + 1) * 64)
		mask &= UINT64_MAX >> ((i + 1) * 64 - end);
	return mask;
}

/* Make blocks [@first, @end) be @kind, counting in *@nr_data, *@nr_hole. */
static void set_bits(struct raw_map_page *page, uint32_t first, uint32_t end,
		     enum raw_map_kind kind, uint32_t *nr_data,
		     uint32_t *nr_hole)
{
	for (uint32_t i = first / 64; i * 64 < end; i++) {
		uint64_t mask = word_mask(i, first, end);
		uint64_t data = page->data[i] & ~mask;
		uint64_t hole = page->hole[i] & ~mask;

		if (kind == RAW_MAP_DATA)
			data |= mask;
		else if (kind == RAW_MAP_HOLE)
			hole |= mask;
		*nr_data += (uint32_t)__builtin_popcountll(data) -
			    (uint32_t)__builtin_popcountll(page->data[i]);
		*nr_hole += (uint32_t)__builtin_popcountll(hole) -
			    (uint32_t)__builtin_popcountll(page->hole[i]);
		set_word(&page->data[i], data);
		set_word(&page->hole[i], hole);
	}
}

/* Give a region that was all of one kind a page that says so. */
static void materialize_locked(struct raw_map *map, struct raw_map_slot *slot,
			       uint64_t region, enum region_state state)
{
	struct raw_map_page *page = take_page_locked(map, slot);
	uint32_t nr = region_blocks(map, region);
	bool data = state == REGION_ALL_DATA;

	for (uint32_t i = 0; i < RAW_REGION_WORDS; i++) {
		uint64_t mask = i * 64 < nr ? word_mask(i, 0, nr) : 0;

		set_word(&page->data[i], data ? mask : 0);
		set_word(&page->hole[i], data ? 0 : mask);
	}
	slot->nr_data = data ? nr : 0;
	slot->nr_hole = data ? 0 : nr;
	set_state_locked(slot, region, REGION_MIXED);
}

/* Make blocks [@first, @end) of a known region be @kind. */
static void set_blocks_locked(struct raw_map *map, struct raw_map_slot *slot,
			      uint64_t region, uint32_t first, uint32_t end,
			      enum raw_map_kind kind)
{
	enum region_state state = slot_state_locked(slot, region);
	uint32_t nr = region_blocks(map, region);

	if ((state == REGION_ALL_DATA && kind == RAW_MAP_DATA) ||
	    (state == REGION_ALL_HOLE && kind == RAW_MAP_HOLE))
		return;
	if (state != REGION_MIXED)
		materialize_locked(map, slot, region, state);
	set_bits(slot_page_locked(map, slot), first, end, kind,
		 &slot->nr_data, &slot->nr_hole);
	if (slot->nr_data == nr || slot->nr_hole == nr) {
		set_state_locked(slot, region, slot->nr_data == nr ?
				 REGION_ALL_DATA : REGION_ALL_HOLE);
		drop_page_locked(map, slot);
	}
}

/* The whole of @region is @state, whatever used the slot before. */
static void set_region_locked(struct raw_map *map, struct raw_map_slot *slot,
			      uint64_t region, enum region_state state)
{
	set_state_locked(slot, region, state);
	drop_page_locked(map, slot);
}

/* ---- life ---- */

int raw_map_new(uint64_t size, uint32_t pages_max, uint64_t *seq,
		struct raw_map **mapp)
{
	uint64_t regions = (size >> RAW_REGION_SHIFT) + 1;
	struct raw_map *map = calloc(1, sizeof(*map));
	uint32_t slots = RAW_MAP_SLOTS_MIN;

	if (!map)
		return -ENOMEM;
	while (slots < regions && slots < RAW_MAP_SLOTS_MAX)
		slots *= 2;
	map->size = size;
	map->seq = seq;
	map->slot_mask = slots - 1;
	map->nr_pages = MIN(pages_max, slots);
	assert(map->nr_pages > 0);
	map->slots = calloc(slots, sizeof(*map->slots));
	map->pages = calloc(map->nr_pages, sizeof(*map->pages));
	map->owners = calloc(map->nr_pages, sizeof(*map->owners));
	map->used = calloc(map->nr_pages, sizeof(*map->used));
	mutex_init(&map->lock, RANK_STORE);
	if (!map->slots || !map->pages || !map->owners || !map->used) {
		raw_map_free(map);
		return -ENOMEM;
	}
	*mapp = map;
	return 0;
}

void raw_map_free(struct raw_map *map)
{
	if (!map)
		return;
	mutex_fini(&map->lock);
	free(map->slots);
	free(map->pages);
	free(map->owners);
	free(map->used);
	free(map);
}

/* ---- looking up ---- */

/* Set bits: blocks of the word that are of @kind. */
static uint64_t kind_bits(const struct raw_map_page *page, uint32_t i,
			  enum raw_map_kind kind)
{
	uint64_t data = __atomic_load_n(&page->data[i], __ATOMIC_ACQUIRE);
	uint64_t hole = __atomic_load_n(&page->hole[i], __ATOMIC_ACQUIRE);

	if (kind == RAW_MAP_DATA)
		return data;
	if (kind == RAW_MAP_HOLE)
		return hole & ~data;
	return ~(data | hole);
}

static enum raw_map_kind block_kind(const struct raw_map_page *page,
				    uint32_t block)
{
	uint64_t bit = UINT64_C(1) << (block % 64);

	if (kind_bits(page, block / 64, RAW_MAP_DATA) & bit)
		return RAW_MAP_DATA;
	if (kind_bits(page, block / 64, RAW_MAP_HOLE) & bit)
		return RAW_MAP_HOLE;
	return RAW_MAP_MAYBE;
}

/* The first block of [@block, @end) that is not of @kind, or @end. */
static uint32_t run_end(const struct raw_map_page *page, uint32_t block,
			uint32_t end, enum raw_map_kind kind)
{
	while (block < end) {
		uint64_t other = ~kind_bits(page, block / 64, kind) >>
				 (block % 64);

		if (other) {
			block += (uint32_t)__builtin_ctzll(other);
			break;
		}
		block = (block / 64 + 1) * 64;
	}
	return MIN(block, end);
}

static enum raw_map_kind lookup_page(const struct raw_map *map, uint32_t index,
				     uint64_t pos, uint64_t len,
				     uint64_t *runp)
{
	const struct raw_map_page *page = &map->pages[index];
	uint64_t start = round_down64(pos, RAW_REGION);
	uint32_t block = (uint32_t)((pos - start) >> RAW_BLOCK_SHIFT);
	uint32_t end = (uint32_t)((pos + len - 1 - start) >>
				  RAW_BLOCK_SHIFT) + 1;
	enum raw_map_kind kind = block_kind(page, block);

	/* At least the one block, though it may be changing right now. */
	end = run_end(page, block + 1, end, kind);
	*runp = MIN(len, start + ((uint64_t)end << RAW_BLOCK_SHIFT) - pos);
	if (!__atomic_load_n(&map->used[index], __ATOMIC_RELAXED))
		__atomic_store_n(&map->used[index], 1, __ATOMIC_RELAXED);
	return kind;
}

enum raw_map_kind raw_map_lookup(const struct raw_map *map, uint64_t pos,
				 uint64_t len, uint64_t *runp)
{
	const struct raw_map_slot *slot = region_slot(map, pos_region(pos));
	enum raw_map_kind kind = RAW_MAP_UNKNOWN;
	uint64_t word, again;

	len = MIN(len, RAW_REGION - (pos & (RAW_REGION - 1)));
	*runp = len;
	word = __atomic_load_n(&slot->word, __ATOMIC_ACQUIRE);
	for (;; word = again) {
		enum region_state state = word_state(word);
		uint32_t page;

		if (unlikely(word_region(word) != pos_region(pos)))
			return RAW_MAP_UNKNOWN;
		if (likely(state == REGION_ALL_DATA))
			return RAW_MAP_DATA;
		if (state == REGION_ALL_HOLE)
			return RAW_MAP_HOLE;
		if (state == REGION_UNKNOWN)
			return RAW_MAP_UNKNOWN;
		page = __atomic_load_n(&slot->page, __ATOMIC_ACQUIRE);
		if (page)
			kind = lookup_page(map, page - 1, pos, len, runp);
		again = __atomic_load_n(&slot->word, __ATOMIC_ACQUIRE);
		if (page && again == word)
			return kind;
		*runp = len;
	}
}

/* ---- learning ---- */

/*
 * Ask where data is in [@start, @end), into @page.  A block is DATA if all of
 * it is, HOLE if all of it is not; the file's last one counts as whole.
 */
static void ask(struct bdev *bdev, uint64_t start, uint64_t end,
		uint64_t size, struct raw_map_page *page)
{
	uint32_t nr_data = 0, nr_hole = 0, asked = 0;
	uint64_t pos = start;
	bool hole = true;

	while (pos < end) {
		int64_t ret = hole ? bdev->ops->seek_data(bdev, pos) :
				     bdev->ops->seek_hole(bdev, pos);
		uint64_t to, first, last;

		/* What cannot be asked stays MAYBE; so does the rest when the
		 * answers make no progress. */
		if (ret < (int64_t)pos || (ret == (int64_t)pos && !hole))
			break;
		to = MIN((uint64_t)ret, end);
		first = round_up64(pos - start, RAW_BLOCK);
		last = to == size ? round_up64(to - start, RAW_BLOCK) :
					 round_down64(to - start, RAW_BLOCK);
		if (first < last)
			set_bits(page, (uint32_t)(first >> RAW_BLOCK_SHIFT),
				 (uint32_t)(last >> RAW_BLOCK_SHIFT),
				 hole ? RAW_MAP_HOLE : RAW_MAP_DATA,
				 &nr_data, &nr_hole);
		pos = to;
		hole = !hole;
		if (++asked % RELAX_EXTENTS == 0)
			coroutine_relax();
	}
}

/* @page is what was found in @region, which is still unknown. */
static void publish_locked(struct raw_map *map, struct raw_map_slot *slot,
			   uint64_t region, struct raw_map_page *page)
{
	uint32_t nr = region_blocks(map, region), nr_data = 0, nr_hole = 0;
	struct raw_map_page *to;

	map->learned++;
	/* What we allocated looks like a hole until it is written. */
	if (slot->unsure)
		memset(page->hole, 0, sizeof(page->hole));
	for (uint32_t i = 0; i < RAW_REGION_WORDS; i++) {
		nr_data += (uint32_t)__builtin_popcountll(page->data[i]);
		nr_hole += (uint32_t)__builtin_popcountll(page->hole[i]);
	}
	set_region_locked(map, slot, region, nr_data == nr ? REGION_ALL_DATA :
			  nr_hole == nr ? REGION_ALL_HOLE : REGION_UNKNOWN);
	if (slot_state_locked(slot, region) != REGION_UNKNOWN)
		return;
	to = take_page_locked(map, slot);
	for (uint32_t i = 0; i < RAW_REGION_WORDS; i++) {
		set_word(&to->data[i], page->data[i]);
		set_word(&to->hole[i], page->hole[i]);
	}
	slot->nr_data = nr_data;
	slot->nr_hole = nr_hole;
	set_state_locked(slot, region, REGION_MIXED);
}

int raw_map_learn(struct raw_map *map, struct bdev *bdev, uint64_t pos)
{
	uint64_t region = pos_region(pos), start = region << RAW_REGION_SHIFT;
	struct raw_map_slot *slot = region_slot(map, region);
	struct raw_map_page *page = malloc(sizeof(*page));
	bool known = false;
	int ret = 0;

	if (!page)
		return -ENOMEM;
	while (!known) {
		uint32_t gen = raw_map_gen(map, pos);
		uint64_t size = map_size(map);

		if (pos >= size) {
			ret = -EINVAL;
			break;
		}
		memset(page, 0, sizeof(*page));
		ask(bdev, start, MIN(start + RAW_REGION, size), size, page);
		mutex_lock(&map->lock);
		known = slot_state_locked(slot, region) != REGION_UNKNOWN;
		/* After an unmap or a resize meanwhile, data may be no more. */
		if (!known && gen == slot->gen) {
			publish_locked(map, slot, region, page);
			known = true;
		}
		mutex_unlock(&map->lock);
	}
	free(page);
	return ret;
}

/* ---- changes ---- */

uint32_t raw_map_gen(struct raw_map *map, uint64_t pos)
{
	uint32_t gen;

	mutex_lock(&map->lock);
	gen = region_slot(map, pos_region(pos))->gen;
	mutex_unlock(&map->lock);
	return gen;
}

static uint64_t bump(struct raw_map *map)
{
	return __atomic_add_fetch(map->seq, 1, __ATOMIC_ACQ_REL);
}

/* The blocks of @region that [@pos, @end) touches; true if that is all. */
static bool clip_blocks(const struct raw_map *map, uint64_t region,
			uint64_t pos, uint64_t end, uint32_t *firstp,
			uint32_t *endp)
{
	uint64_t start = region << RAW_REGION_SHIFT;
	uint64_t from = MAX(pos, start) - start;
	uint64_t to = MIN(end - start, RAW_REGION);

	assert(is_aligned64(pos, RAW_BLOCK));
	assert(is_aligned64(end, RAW_BLOCK) || end == map_size(map));
	*firstp = (uint32_t)(from >> RAW_BLOCK_SHIFT);
	*endp = (uint32_t)(round_up64(to, RAW_BLOCK) >> RAW_BLOCK_SHIFT);
	return *firstp == 0 && *endp == region_blocks(map, region);
}

bool raw_map_allocated(struct raw_map *map, uint64_t pos, uint64_t len,
		       uint32_t gen, uint64_t *cookiep)
{
	uint64_t region = pos_region(pos);
	struct raw_map_slot *slot = region_slot(map, region);
	uint32_t first, end;
	bool whole, ok;

	assert(pos_region(pos + len - 1) == region);
	whole = clip_blocks(map, region, pos, pos + len, &first, &end);
	mutex_lock(&map->lock);
	ok = slot->gen == gen;
	if (ok) {
		slot->unsure = true;
		/* If it was forgotten meanwhile, it stays so. */
		if (slot_state_locked(slot, region) != REGION_UNKNOWN)
			set_blocks_locked(map, slot, region, first, end,
					  RAW_MAP_DATA);
		else if (whole)
			set_region_locked(map, slot, region, REGION_ALL_DATA);
		*cookiep = bump(map);
	}
	mutex_unlock(&map->lock);
	return ok;
}

void raw_map_resize(struct raw_map *map, uint64_t size)
{
	uint64_t first;

	mutex_lock(&map->lock);
	first = pos_region(MIN(size, map->size));
	__atomic_store_n(&map->size, size, __ATOMIC_RELAXED);
	for (uint32_t i = 0; i <= map->slot_mask; i++) {
		struct raw_map_slot *slot = &map->slots[i];

		/* Who is learning or allocating begins again. */
		slot->gen++;
		if (word_region(slot->word) >= first &&
		    word_state(slot->word) != REGION_UNKNOWN)
			forget_locked(map, slot);
	}
	bump(map);
	mutex_unlock(&map->lock);
}

static void unmap_slot_locked(struct raw_map *map, struct raw_map_slot *slot,
			      uint64_t region, uint64_t pos, uint64_t end,
			      enum raw_map_kind kind)
{
	enum region_state state = slot_state_locked(slot, region);
	uint32_t first, last;

	slot->gen++;
	if (clip_blocks(map, region, pos, end, &first, &last))
		set_region_locked(map, slot, region, kind == RAW_MAP_HOLE ?
				  REGION_ALL_HOLE : REGION_UNKNOWN);
	else if (state == REGION_MIXED || state == REGION_ALL_DATA)
		set_blocks_locked(map, slot, region, first, last, kind);
	/* A hole is one before, while and after it is unmapped. */
}

/* [@pos, @end) is @kind from now on. */
static void unmap_range(struct raw_map *map, uint64_t pos, uint64_t end,
			enum raw_map_kind kind)
{
	uint64_t first = pos_region(pos), last = pos_region(end - 1);
	uint64_t nr = MIN(last - first, (uint64_t)map->slot_mask) + 1;

	/* Of regions that share a slot, the one that has it counts. */
	for (uint64_t i = 0; i < nr; i++) {
		struct raw_map_slot *slot = region_slot(map, first + i);
		uint64_t region;

		mutex_lock(&map->lock);
		region = word_region(slot->word);
		if (region < first || region > last)
			region = first + i;
		unmap_slot_locked(map, slot, region, pos, end, kind);
		mutex_unlock(&map->lock);
	}
	bump(map);
}

void raw_map_unmap_begin(struct raw_map *map, uint64_t pos, uint64_t len)
{
	unmap_range(map, pos, pos + len, RAW_MAP_MAYBE);
}

void raw_map_unmap_end(struct raw_map *map, uint64_t pos, uint64_t len,
		       bool unmapped)
{
	unmap_range(map, pos, pos + len,
		    unmapped ? RAW_MAP_HOLE : RAW_MAP_MAYBE);
}
