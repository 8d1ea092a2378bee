/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * probe.h - what a file, its file system and its device can do.
 */
#ifndef FOLIOD_BDEV_PROBE_H
#define FOLIOD_BDEV_PROBE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct probe {
	unsigned int	direct_align;	/* of O_DIRECT I/O; 0: not possible */
	unsigned int	logical_block;	/* of a device; 1 for a file */
	unsigned int	fs_block;	/* 4096..65536, a power of two */
	bool		can_discard;
	bool		can_zero;
	bool		can_zero_keep;
	bool		can_allocate;
	bool		rotational;
	bool		fua_flushes;	/* RWF_DSYNC is a write and a flush */
	bool		zoned;		/* host-managed: no random writes */
};

/*
 * Look at the open file @fd, whose stat(2) is @st.  If @direct is wanted and
 * possible, @fd has O_DIRECT set on return.
 */
void probe_file(int fd, const struct stat *st, bool direct,
		struct probe *probe);

#endif
