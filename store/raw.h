/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * raw.h - the raw store: a file or block device served as it is.
 */
#ifndef FOLIOD_STORE_RAW_H
#define FOLIOD_STORE_RAW_H

#include "cache/volume.h"

struct bdev;
struct cache;
struct loop;

struct raw_params {
	enum volume_mode	mode;
	bool			read_only;
	unsigned int		flags;		/* BDEV_OPEN_*, for raw_open() */
	/* Regions of a sparse file whose blocks are remembered one by one; 0:
	 * the default, RAW_MAP_PAGES_MAX. */
	uint32_t		map_pages_max;
};

/*
 * Open the file or device at @path and enter it into @cache; its flusher runs
 * on @home.  volume_stop() ends it.  On failure returns -errno and writes one
 * line that names @path and what is wrong into @msg.
 */
int raw_open(struct cache *cache, struct loop *home, const char *path,
	     const struct raw_params *params, struct volume **volp, char *msg,
	     unsigned int msglen);

/*
 * The same on a bdev that is open already and is taken over on success.
 * Returns 0, -EINVAL (block size), or what volume_start() returns.
 */
int raw_open_bdev(struct cache *cache, struct loop *home, struct bdev **bdevp,
		  const char *name, const struct raw_params *params,
		  struct volume **volp);

#endif
