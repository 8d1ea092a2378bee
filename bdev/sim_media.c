/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim_media.c - the bytes of a simulated disk: its volatile cache, its durable
 * image, and the space of a sparse one.
 *
 * Each write to a sector makes a version, kept until a flush covers it:
 *
 *	now[s] = versions[s] -> older -> older     durable[s]
 *
 * What a power cut makes of them is drawn in sim_crash.c.
 */
#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "bdev/sim_inner.h"

#define SLAB_VERSIONS	256
/* Of one sector; with more, the disk writes an old one back by itself. */
#define VERSIONS_MAX	16

struct version_slab {
	struct version_slab	*next;
	struct version		version[SLAB_VERSIONS];
};

static uint64_t nr_blocks(uint64_t size)
{
	return round_up64(size, 1 << SPACE_SHIFT) >> SPACE_SHIFT;
}

static void allocate_image(struct media *media)
{
	static const uint8_t zero[1 << SPACE_SHIFT];
	uint64_t pos;

	for (pos = 0; pos < media->size; pos += sizeof(zero))
		if (memcmp(media->now + pos, zero,
			   MIN((uint64_t)sizeof(zero), media->size - pos))) {
			media->space[pos >> SPACE_SHIFT] = true;
			media->nr_space++;
		}
}

int media_init(struct media *media, uint64_t size, bool sparse,
	       uint64_t space_max, const void *image)
{
	uint64_t bytes;

	memset(media, 0, sizeof(*media));
	media->size = size;
	media->nr_sectors = round_up64(size, SECTOR_SIZE) >> SECTOR_SHIFT;
	media->sparse = sparse;
	media->space_max = space_max ? space_max >> SPACE_SHIFT :
				       nr_blocks(size);
	bytes = media->nr_sectors << SECTOR_SHIFT;
	/* One more of each, so that an empty disk is nothing special. */
	media->now = calloc(1, bytes + 1);
	media->durable = calloc(1, bytes + 1);
	media->versions = calloc(media->nr_sectors + 1, sizeof(struct version *));
	media->dirty = calloc(media->nr_sectors + 1, sizeof(uint32_t));
	media->listed = calloc(media->nr_sectors + 1, sizeof(bool));
	media->space = calloc(nr_blocks(size) + 1, sizeof(bool));
	if (!media->now || !media->durable || !media->versions ||
	    !media->dirty || !media->listed || !media->space) {
		media_fini(media);
		return -ENOMEM;
	}
	if (image) {
		memcpy(media->now, image, size);
		memcpy(media->durable, image, size);
		allocate_image(media);
	}
	return 0;
}

void media_fini(struct media *media)
{
	while (media->slabs) {
		struct version_slab *slab = media->slabs;

		media->slabs = slab->next;
		free(slab);
	}
	free(media->now);
	free(media->durable);
	free(media->versions);
	free(media->dirty);
	free(media->listed);
	free(media->space);
}

static struct version *version_new(struct media *media)
{
	struct version *version = media->free;
	struct version_slab *slab;
	unsigned int i;

	if (likely(version)) {
		media->free = version->older;
		return version;
	}
	slab = malloc(sizeof(*slab));
	if (!slab)
		abort();	/* a test without memory has no result */
	slab->next = media->slabs;
	media->slabs = slab;
	for (i = 0; i + 1 < SLAB_VERSIONS; i++)
		slab->version[i].older = &slab->version[i + 1];
	slab->version[i].older = NULL;
	media->free = slab->version[0].older;
	return &slab->version[0];
}

static void versions_free(struct media *media, struct version **link)
{
	while (*link) {
		struct version *version = *link;

		*link = version->older;
		version->older = media->free;
		media->free = version;
	}
}

/* The newest version at @link becomes durable, and all older ones history. */
static void destage(struct media *media, uint64_t sector, struct version **link)
{
	memcpy(media->durable + (sector << SECTOR_SHIFT), (*link)->bytes,
	       SECTOR_SIZE);
	versions_free(media, link);
}

static void add_version(struct media *media, uint64_t sector)
{
	struct version *version = version_new(media), **link;
	unsigned int n;

	version->seq = media->seq;
	memcpy(version->bytes, media->now + (sector << SECTOR_SHIFT),
	       SECTOR_SIZE);
	version->older = media->versions[sector];
	media->versions[sector] = version;
	if (!media->listed[sector]) {
		media->listed[sector] = true;
		media->dirty[media->nr_dirty++] = sector;
	}
	link = &version->older;
	for (n = 1; *link; link = &(*link)->older)
		if (++n > VERSIONS_MAX) {
			/* Which one is any, but the same for the same seed. */
			link = &media->versions[sector];
			for (n = 1 + media->seq % VERSIONS_MAX; n; n--)
				link = &(*link)->older;
			destage(media, sector, link);
			break;
		}
}

void media_begin_write(struct media *media)
{
	media->seq++;
}

void media_write(struct media *media, uint64_t pos, const void *buf,
		 uint64_t len, bool durable)
{
	uint64_t sector = pos >> SECTOR_SHIFT;
	uint64_t end = round_up64(pos + len, SECTOR_SIZE) >> SECTOR_SHIFT;

	if (buf)
		memcpy(media->now + pos, buf, len);
	else
		memset(media->now + pos, 0, len);
	for (; sector < end; sector++) {
		uint64_t off = sector << SECTOR_SHIFT;

		if (!durable) {
			add_version(media, sector);
			continue;
		}
		memcpy(media->durable + off, media->now + off, SECTOR_SIZE);
		versions_free(media, &media->versions[sector]);
	}
}

void media_flush(struct media *media, uint64_t seq)
{
	uint64_t i, kept = 0;

	for (i = 0; i < media->nr_dirty; i++) {
		uint32_t sector = media->dirty[i];
		struct version **link = &media->versions[sector];

		while (*link && (*link)->seq > seq)
			link = &(*link)->older;
		if (*link)
			destage(media, sector, link);
		if (media->versions[sector])
			media->dirty[kept++] = sector;
		else
			media->listed[sector] = false;
	}
	media->nr_dirty = kept;
}

void media_settle(struct media *media, const uint8_t *image)
{
	uint64_t i;

	for (i = 0; i < media->nr_dirty; i++) {
		versions_free(media, &media->versions[media->dirty[i]]);
		media->listed[media->dirty[i]] = false;
	}
	media->nr_dirty = 0;
	memcpy(media->now, image, media->size);
	memcpy(media->durable, image, media->size);
}

void media_poke(struct media *media, uint64_t pos, const void *buf,
		uint64_t len)
{
	uint64_t sector = pos >> SECTOR_SHIFT;
	uint64_t end = round_up64(pos + len, SECTOR_SIZE) >> SECTOR_SHIFT;

	memcpy(media->now + pos, buf, len);
	for (; sector < end; sector++) {
		uint64_t off = sector << SECTOR_SHIFT;

		memcpy(media->durable + off, media->now + off, SECTOR_SIZE);
		versions_free(media, &media->versions[sector]);
	}
	if (media->sparse && len)
		media_allocate(media, pos, len);
}

/* --- Space of a sparse disk --------------------------------------------- */

/* All of it or nothing. */
int media_allocate(struct media *media, uint64_t pos, uint64_t len)
{
	uint64_t first = pos >> SPACE_SHIFT, end = nr_blocks(pos + len), i;
	uint64_t need = 0;

	for (i = first; i < end; i++)
		need += !media->space[i];
	if (need && media->nr_space + need > media->space_max)
		return -ENOSPC;
	for (i = first; need && i < end; i++)
		media->space[i] = true;
	media->nr_space += need;
	return 0;
}

void media_unmap(struct media *media, uint64_t pos, uint64_t len)
{
	uint64_t first = nr_blocks(pos), end = (pos + len) >> SPACE_SHIFT, i;

	/* The last block counts as whole if all of the disk's part is. */
	if (pos + len == media->size)
		end = nr_blocks(media->size);
	for (i = first; i < end; i++) {
		media->nr_space -= media->space[i];
		media->space[i] = false;
	}
}

uint64_t media_seek(const struct media *media, uint64_t pos, bool data)
{
	uint64_t i = pos >> SPACE_SHIFT, end = nr_blocks(media->size);

	if (pos < media->size && media->space[i] == data)
		return pos;
	while (i < end && media->space[i] != data)
		i++;
	return MIN(i << SPACE_SHIFT, media->size);
}
