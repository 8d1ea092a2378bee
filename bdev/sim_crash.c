/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim_crash.c - what is left of a simulated disk after a power cut.
 *
 * Every image drawn here is legal: each sector holds its durable bytes or a
 * later version.  Choosing sector by sector alone would find few bugs, for
 * hardly any write of several sectors would then survive whole; so an image is
 * drawn in one of several ways, and most keep or lose writes as a whole.
 */
#include <string.h>

#include "base/base.h"
#include "bdev/sim_inner.h"

enum crash_way {
	CRASH_NONE,		/* nothing that was not durable */
	CRASH_ALL,		/* everything that had completed */
	CRASH_PREFIX,		/* in order of time, up to a moment */
	CRASH_WRITES,		/* each write or not, a few of them torn */
	CRASH_SECTORS,		/* each sector of each write or not */
	CRASH_ONE,		/* nothing but one write */
	CRASH_ALL_BUT_ONE,
};

/* More often the ways that find more. */
static const enum crash_way crash_ways[16] = {
	CRASH_NONE, CRASH_ALL,
	CRASH_PREFIX, CRASH_PREFIX, CRASH_PREFIX,
	CRASH_WRITES, CRASH_WRITES, CRASH_WRITES, CRASH_WRITES, CRASH_WRITES,
	CRASH_SECTORS, CRASH_SECTORS, CRASH_SECTORS,
	CRASH_ONE,
	CRASH_ALL_BUT_ONE, CRASH_ALL_BUT_ONE,
};

/* A coin shows its head in so many of 1024 throws. */
static const unsigned int crash_odds[4] = { 100, 512, 512, 900 };

struct crash {
	const struct media	*media;
	uint8_t			*image;
	enum crash_way		way;
	unsigned int		odds;
	uint64_t		salt;
	uint64_t		which;		/* PREFIX: last; ONE: the one */
};

/* One and the same answer each time it is asked about @a and @b. */
static bool coin(const struct crash *crash, uint64_t a, uint64_t b,
		 unsigned int odds)
{
	return hash64(crash->salt ^ hash64(a ^ hash64(b + 1))) % 1024 < odds;
}

/* Does the cut leave what write @seq made of @sector? */
static bool keeps(const struct crash *crash, uint64_t seq, uint64_t sector)
{
	switch (crash->way) {
	case CRASH_NONE:
		return false;
	case CRASH_ALL:
		return true;
	case CRASH_PREFIX:
		return seq <= crash->which;
	case CRASH_WRITES:
		if (coin(crash, seq, UINT64_MAX - 1, 100))
			return coin(crash, seq, sector, 512);
		return coin(crash, seq, UINT64_MAX - 2, crash->odds);
	case CRASH_SECTORS:
		return coin(crash, seq, sector, crash->odds);
	case CRASH_ONE:
		return seq == crash->which;
	case CRASH_ALL_BUT_ONE:
		return seq != crash->which;
	}
	return false;
}

static void draw_sector(const struct crash *crash, uint64_t sector)
{
	const struct version *version = crash->media->versions[sector];
	uint64_t off = sector << SECTOR_SHIFT;

	while (version && !keeps(crash, version->seq, sector))
		version = version->older;
	if (version)
		memcpy(crash->image + off, version->bytes,
		       MIN((uint64_t)SECTOR_SIZE, crash->media->size - off));
}

/*
 * Some sectors of a write that was under way, its @nr-th one since @seq
 * stands for: all, none, the first few or just any.
 */
static void draw_in_flight(const struct crash *crash,
			   const struct bdev_req *req, struct random *rnd,
			   uint64_t seq)
{
	uint64_t pos = req->pos, end, left = 0, first = 0;
	unsigned int how = random_below(rnd, 4), i;

	if (how == 0)
		return;
	if (how == 1)
		first = random_below(rnd, (req->len >> SECTOR_SHIFT) + 1);
	for (i = 0; pos < req->pos + req->len; pos = end) {
		uint64_t sector = pos >> SECTOR_SHIFT;
		const uint8_t *from = NULL;

		end = MIN((sector + 1) << SECTOR_SHIFT, req->pos + req->len);
		if (req->op == BDEV_WRITE) {
			while (left == req->iov[i].iov_len) {
				left = 0;
				i++;
			}
			from = (const uint8_t *)req->iov[i].iov_base + left;
			left += end - pos;
		}
		if ((how == 1 && sector - (req->pos >> SECTOR_SHIFT) >= first) ||
		    (how == 2 && !coin(crash, seq, sector, 512)))
			continue;
		if (from)
			memcpy(crash->image + pos, from, end - pos);
		else
			memset(crash->image + pos, 0, end - pos);
	}
}

/* The oldest write that a cut could lose; which lies from there to seq. */
static void draw_which(struct crash *crash, struct random *rnd)
{
	const struct media *media = crash->media;
	uint64_t i, oldest = media->seq;

	for (i = 0; i < media->nr_dirty; i++) {
		const struct version *version;

		version = media->versions[media->dirty[i]];
		for (; version; version = version->older)
			oldest = MIN(oldest, version->seq);
	}
	crash->which = oldest + random_below(rnd, media->seq - oldest + 1);
}

void media_crash_image(const struct media *media,
		       const struct bdev_req_list *in_flight, uint64_t seed,
		       uint8_t *image)
{
	struct crash crash = { .media = media, .image = image };
	uint64_t i, seq = media->seq;
	const struct bdev_req *req;
	struct random rnd;

	random_init(&rnd, seed);
	crash.way = crash_ways[random_below(&rnd, ARRAY_SIZE(crash_ways))];
	crash.odds = crash_odds[random_below(&rnd, ARRAY_SIZE(crash_odds))];
	crash.salt = random_u64(&rnd);
	draw_which(&crash, &rnd);

	memcpy(image, media->durable, media->size);
	for (i = 0; i < media->nr_dirty; i++)
		draw_sector(&crash, media->dirty[i]);
	if (crash.way == CRASH_NONE)
		return;
	TAILQ_FOREACH(req, in_flight, link) {
		seq++;
		if (req->op == BDEV_WRITE || req->op == BDEV_ZERO ||
		    req->op == BDEV_DISCARD)
			draw_in_flight(&crash, req, &rnd, seq);
	}
}
