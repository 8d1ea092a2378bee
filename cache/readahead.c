/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * readahead.c - reading before asked: streams per connection, CACHE requests.
 *
 * A stream is known by where it would go on.  Its second sequential read
 * starts a window behind it; the first folio of each window bears a mark, and
 * the read that meets the mark starts the next window, twice as large, so that
 * the device works while the client still takes what was read before.
 */
#include <errno.h>
#include <stdlib.h>

#include "cache/cache_internal.h"

#define WINDOW_MIN		(128u << 10)
#define WINDOW_MAX		(8u << 20)
#define PREFETCHES_MAX		64u	/* under way per volume */

struct prefetch {
	struct volume	*vol;
	uint64_t	pos, len;
	bool		mark;
};

/* Mark the folio at @pos, so that the read that comes there reads on. */
static void set_mark(struct volume *vol, uint64_t pos)
{
	uint64_t key = folio_key(vol->id, pos);
	uint64_t hash = key_hash(key);
	struct shard *shard = cache_shard(vol->cache, hash);
	struct folio *folio;

	mutex_lock(&shard->lock);
	folio = shard_lookup_locked(shard, key, hash);
	if (folio)
		folio_set_flags(folio, FOLIO_AHEAD);
	mutex_unlock(&shard->lock);
}

static void prefetch_co(void *arg)
{
	struct prefetch *pf = arg;
	struct volume *vol = pf->vol;
	uint64_t step = 1u << 20, done = 0;

	while (done < pf->len) {
		uint64_t n = MIN(step, pf->len - done);

		/* An error here is nobody's: the read itself will meet it. */
		if (fill_range(vol, pf->pos + done, n, 0))
			break;
		if (done == 0 && pf->mark)
			set_mark(vol, pf->pos);
		done += n;
	}
	stat_add(&vol->cache->readahead_bytes, done);
	free(pf);
	__atomic_sub_fetch(&vol->nr_background, 1, __ATOMIC_RELEASE);
}

/* Start reading [@pos, @pos + @len) in the background; false if too much is
 * under way already. */
static bool prefetch_start(struct volume *vol, uint64_t pos, uint64_t len,
			   bool mark)
{
	struct prefetch *pf;

	if (__atomic_add_fetch(&vol->nr_background, 1, __ATOMIC_ACQUIRE) >
	    PREFETCHES_MAX)
		goto out_count;
	pf = malloc(sizeof(*pf));
	if (!pf)
		goto out_count;
	*pf = (struct prefetch){ .vol = vol, .pos = pos, .len = len,
				 .mark = mark };
	if (coroutine_start(prefetch_co, pf))
		goto out_free;
	return true;

out_free:
	free(pf);
out_count:
	__atomic_sub_fetch(&vol->nr_background, 1, __ATOMIC_RELEASE);
	return false;
}

int volume_prefetch(struct volume *vol, uint64_t pos, uint64_t len)
{
	uint64_t most = (uint64_t)vol->cache->pool.cache_pages * FRAME_SIZE / 4;

	if (!volume_holds(vol, pos, len))
		return -EINVAL;
	/* More than that would evict its own beginning. */
	len = MIN(len, most);
	if (len && !volume_is_direct(vol))
		prefetch_start(vol, pos, len, false);
	return 0;
}

/* ---- streams ---- */

static uint32_t window_max(const struct volume *vol)
{
	uint64_t share = (uint64_t)vol->cache->pool.cache_pages * FRAME_SIZE /
			 16;

	return (uint32_t)round_down64(MIN(share, (uint64_t)WINDOW_MAX),
				      FRAME_SIZE);
}

/* The stream that a read at @pos continues: requests of one stream may arrive
 * slightly out of order. */
static struct ra_stream *find_stream(struct readahead *ra, uint64_t pos,
				     uint32_t len)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(ra->streams); i++) {
		struct ra_stream *s = &ra->streams[i];
		uint64_t slack = 8ull * len;

		if (s->hits && pos + slack >= s->next_pos &&
		    pos <= MAX(s->next_pos, s->ahead_pos) + slack / 2)
			return s;
	}
	return NULL;
}

/* Start the next window of @s, unless the volume ends. */
static void read_ahead(struct volume *vol, struct ra_stream *s)
{
	uint64_t from = MAX(s->ahead_pos, s->next_pos);
	uint64_t size = volume_size(vol), len;

	s->window = s->window ? MIN(s->window * 2, window_max(vol)) :
				MIN(WINDOW_MIN, window_max(vol));
	if (from >= size || !s->window)
		return;
	len = MIN((uint64_t)s->window, size - from);
	if (prefetch_start(vol, from, len, true))
		s->ahead_pos = from + len;
}

void readahead_miss(struct volume *vol, struct readahead *ra, uint64_t pos,
		    uint32_t len)
{
	struct ra_stream *s;

	if (!ra)
		return;
	s = find_stream(ra, pos, len);
	if (!s) {
		s = &ra->streams[ra->victim++ % ARRAY_SIZE(ra->streams)];
		*s = (struct ra_stream){ .next_pos = pos + len, .hits = 1 };
		return;
	}
	s->next_pos = MAX(s->next_pos, pos + len);
	s->hits++;
	/* Inside the window: it is on its way already. */
	if (s->next_pos >= s->ahead_pos)
		read_ahead(vol, s);
}

void readahead_marked(struct volume *vol, struct readahead *ra, uint64_t pos,
		      uint32_t len)
{
	struct ra_stream *s = ra ? find_stream(ra, pos, len) : NULL;

	if (!s)
		return;
	s->next_pos = MAX(s->next_pos, pos + len);
	read_ahead(vol, s);
}
