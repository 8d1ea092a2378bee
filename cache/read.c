/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * read.c - reads as a volume's doors call them.
 */
#include <errno.h>
#include <string.h>

#include "cache/cache_internal.h"

const char volume_zeroes[VOLUME_ZERO_MAX]
	__attribute__((aligned(FRAME_SIZE)));

static const uint32_t *index_slot(const struct volume *vol, uint64_t pos)
{
	uint64_t key = folio_key(vol->id, pos);
	uint64_t hash = key_hash(key);
	const struct shard *shard = cache_shard(vol->cache, hash);

	return &shard->heads[shard_slot(shard, key, hash)];
}

void volume_hint_index(const struct volume *vol, uint64_t pos)
{
	__builtin_prefetch(index_slot(vol, pos));
}

/* The first of the chain is the right one more often than not. */
void volume_hint_folio(const struct volume *vol, uint64_t pos)
{
	const struct pool *pool = &vol->cache->pool;
	uint32_t frame = __atomic_load_n(index_slot(vol, pos),
					 __ATOMIC_RELAXED);
	const char *data = pool_data(pool, frame);

	__builtin_prefetch(pool_folio(pool, frame), 1);
	for (unsigned int line = 0; line < 4; line++)
		__builtin_prefetch(data + line * CACHE_LINE);
}

void volume_unpin(struct cache *cache, const struct pin *pins, unsigned int nr)
{
	struct pool *pool = &cache->pool;

	for (unsigned int i = 0; i < nr; i++) {
		struct folio *folio;

		if (!pins[i].frame)
			continue;
		folio = pool_folio(pool, pins[i].frame);
		/* Pairs with detach(): one side alone sees the last pin go. */
		if (__atomic_sub_fetch(&folio->pins, 1, __ATOMIC_ACQ_REL) ==
		    PINS_DETACHED)
			pool_free(pool, pins[i].frame);
	}
}

uint64_t volume_pinned_bytes(const struct cache *cache, const struct pin *pins,
			     unsigned int nr)
{
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < nr; i++)
		if (pins[i].frame && (!i || pins[i].frame != pins[i - 1].frame))
			bytes += folio_size(pool_folio(&cache->pool,
						       pins[i].frame));
	return bytes;
}

static void unpin_from(struct volume *vol, struct pinvec *pv, unsigned int nr)
{
	volume_unpin(vol->cache, pv->pins + nr, pv->nr - nr);
	pv->nr = nr;
}

/* Append @len zero bytes as far as @pv has room; the bytes appended. */
static uint64_t add_zeroes(struct pinvec *pv, uint64_t len)
{
	uint64_t done = 0;

	while (done < len && pv->nr < pv->max) {
		struct pin *pin = &pv->pins[pv->nr++];

		pin->base = (void *)(uintptr_t)volume_zeroes;
		pin->len = (uint32_t)MIN(len - done,
					 (uint64_t)VOLUME_ZERO_MAX);
		pin->frame = 0;
		done += pin->len;
	}
	return done;
}

/*
 * Nothing is cached at @pos: if the store knows at once that a hole is there,
 * answer zeroes.  A hole has no dirty folios over it (whoever makes it dirty
 * has the store allocate or promise space first), so the mapping alone is
 * enough.
 */
static uint64_t read_hole_inline(struct volume *vol, uint64_t pos, uint64_t len,
				 struct pinvec *pv)
{
	struct iomap iomap = { 0 }, srcmap = { 0 };

	if (vol->iomap_ops->iomap_begin(vol, pos, len, IOMAP_NOWAIT, &iomap,
					&srcmap))
		return 0;
	if (iomap.type == IOMAP_HOLE)
		len = MIN(len, iomap.offset + iomap.length - pos);
	else
		len = 0;
	if (vol->iomap_ops->iomap_end)
		vol->iomap_ops->iomap_end(vol, pos, len, len, IOMAP_NOWAIT,
					  &iomap);
	return add_zeroes(pv, len);
}

/*
 * The pieces from @nr on were found in the cache.  Counted once the request is
 * answered, so that one which has to come again is one hit; the folios are
 * pinned, so no lock is needed.
 */
static void count_hits(struct volume *vol, const struct pinvec *pv,
		       unsigned int nr)
{
	struct pool *pool = &vol->cache->pool;
	uint64_t pages = 0;

	for (; nr < pv->nr; nr++) {
		const struct pin *pin = &pv->pins[nr];

		if (!pin->frame)
			continue;
		pool_hit(pool, pool_folio(pool, pin->frame));
		pages += (pin->len + FRAME_SIZE - 1) / FRAME_SIZE;
	}
	volume_count(vol, hits, pages);
}

static void count_read(struct volume *vol, uint32_t len)
{
	volume_count(vol, reads, 1);
	volume_count(vol, read_bytes, len);
}

int volume_read_foreign(struct volume *vol, uint64_t pos, uint32_t len,
			struct pinvec *pv, bool *markedp)
{
	unsigned int nr = pv->nr;
	uint32_t done = 0;

	if (unlikely(volume_is_direct(vol) || !volume_holds(vol, pos, len)))
		return -EAGAIN;
	while (done < len) {
		uint32_t n = pin_cached(vol, pos + done, len - done, pv,
					markedp);

		if (n == 0)
			n = (uint32_t)read_hole_inline(vol, pos + done,
						       len - done, pv);
		if (n == 0)
			break;
		done += n;
	}
	if (done < len) {
		unpin_from(vol, pv, nr);
		return -EAGAIN;
	}
	count_hits(vol, pv, nr);
	count_read(vol, len);
	return 0;
}

int volume_read_inline(struct volume *vol, uint64_t pos, uint32_t len,
		       struct pinvec *pv, struct readahead *ra)
{
	bool marked = false;
	int ret = volume_read_foreign(vol, pos, len, pv, &marked);

	if (unlikely(marked))
		readahead_marked(vol, ra, pos, len);
	return ret;
}

void volume_read_ahead(struct volume *vol, struct readahead *ra, uint64_t pos,
		       uint32_t len)
{
	readahead_marked(vol, ra, pos, len);
}

/*
 * Answer from one mapping: what is cached, zeroes, or what is read now.  Unless
 * @wait waits for memory only as long as nothing is pinned from @first on.
 */
static int read_body(struct iomap_iter *iter, struct pinvec *pv,
		     unsigned int first, bool wait)
{
	uint64_t n;

	while ((n = iomap_iter_length(iter)) > 0) {
		unsigned int nr = pv->nr;
		bool marked = false;
		int64_t done = pin_cached(iter->vol, iter->pos, (uint32_t)n,
					  pv, &marked);

		count_hits(iter->vol, pv, nr);
		if (!done && iter->iomap.type == IOMAP_HOLE)
			done = (int64_t)add_zeroes(pv, n);
		else if (!done)
			done = fill_run(iter, n, pv, wait || nr == first);
		if (done < 0)
			return (int)done;
		/* What is pinned is part of the answer, also if the mapping
		 * went stale right behind it. */
		iomap_iter_advance(iter, (uint64_t)done);
		if (iter->iomap.flags & IOMAP_F_STALE)
			return 0;
		/* The caller's vector is too small: it is asked to leave room
		 * by volume_pins_max(). */
		assert(done > 0 || pv->nr < pv->max);
	}
	return 0;
}

static int read_pinned(struct volume *vol, uint64_t pos, uint32_t len,
		       struct pinvec *pv, bool wait)
{
	struct iomap_iter iter = { .vol = vol, .pos = pos, .len = len };
	unsigned int first = pv->nr;
	int ret;

	if (volume_is_direct(vol)) {
		ret = direct_read(vol, pos, len, pv, wait);
	} else {
		while ((ret = iomap_iter_next(&iter)) > 0)
			iter.status = read_body(&iter, pv, first, wait);
	}
	if (ret)
		unpin_from(vol, pv, first);
	return ret;
}

int volume_read(struct volume *vol, uint64_t pos, uint32_t len,
		struct pinvec *pv, struct readahead *ra)
{
	struct range_lock *starving = &vol->cache->starving;
	struct range turn;
	int ret;

	if (!volume_holds(vol, pos, len))
		return -EINVAL;
	if (!volume_is_direct(vol))
		readahead_miss(vol, ra, pos, len);
	ret = read_pinned(vol, pos, len, pv, false);
	if (unlikely(ret == -ENOBUFS)) {
		/*
		 * Many who wait for memory and meanwhile keep what they have
		 * would wait for each other: so only one does at a time, the
		 * others have let go and wait for their turn.
		 */
		range_lock_exclusive(starving, &turn, 0, 1);
		ret = read_pinned(vol, pos, len, pv, true);
		range_unlock(starving, &turn);
	}
	if (ret)
		return ret;
	count_read(vol, len);
	return 0;
}

int volume_pread(struct volume *vol, void *buf, uint32_t len, uint64_t pos)
{
	struct pin pins[66];
	char *to = buf;

	while (len) {
		struct pinvec pv = { .pins = pins, .max = ARRAY_SIZE(pins) };
		uint32_t n = MIN(len, 64u * FRAME_SIZE);
		int ret = volume_read_inline(vol, pos, n, &pv, NULL);

		if (ret == -EAGAIN)
			ret = volume_read(vol, pos, n, &pv, NULL);
		if (ret)
			return ret;
		for (unsigned int i = 0; i < pv.nr; i++) {
			memcpy(to, pins[i].base, pins[i].len);
			to += pins[i].len;
		}
		volume_unpin(vol->cache, pins, pv.nr);
		pos += n;
		len -= n;
	}
	return 0;
}
