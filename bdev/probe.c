/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * probe.c - find out what a file, its file system and its device can do,
 * without changing any of them.
 *
 * What a file system says no to when it comes to it is not an error here: the
 * request then gets -EOPNOTSUPP, or zeroes are written as data.
 */
#include "bdev/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/util.h"

/* File systems whose magic numbers are not in <linux/magic.h> everywhere. */
#define MAGIC_XFS	0x58465342
#define MAGIC_F2FS	0xf2f52010
#define MAGIC_BCACHEFS	0xca451a4e

#define DIRECT_ALIGN_MIN	512
#define DIRECT_ALIGN_MAX	4096

/* Read a file of the queue directory of @dev, or of the disk it is part of. */
static bool queue_text(dev_t dev, const char *name, char *buf, size_t size)
{
	static const char *const up[] = { "", "../" };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(up); i++) {
		char path[128];
		FILE *file;
		bool ok;

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/%s",
			 major(dev), minor(dev), up[i], name);
		file = fopen(path, "re");
		if (!file)
			continue;
		ok = fgets(buf, size, file);
		fclose(file);
		return ok;
	}
	return false;
}

static uint64_t queue_number(dev_t dev, const char *name, uint64_t missing)
{
	char buf[32];

	if (!queue_text(dev, name, buf, sizeof(buf)))
		return missing;
	return strtoull(buf, NULL, 10);
}

/* Not on a device with FUA, or with no volatile cache.  Where no device is
 * known, a file system has as much to do as for a flush, or more. */
static bool fua_flushes(dev_t dev)
{
	char cache[32] = "";

	queue_text(dev, "write_cache", cache, sizeof(cache));
	return !queue_number(dev, "fua", 0) &&
	       strncmp(cache, "write through", 13) != 0;
}

/*
 * Newer kernels say it.  Returns -1 where this one, or the file system, does
 * not know.
 */
static int direct_align_told(int fd)
{
#ifdef STATX_DIOALIGN
	struct statx stx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
	    (stx.stx_mask & STATX_DIOALIGN)) {
		unsigned int align = MAX(stx.stx_dio_mem_align,
					 stx.stx_dio_offset_align);

		if (stx.stx_dio_offset_align == 0 || align > DIRECT_ALIGN_MAX ||
		    !is_power_of_2(align))
			return 0;
		return MAX(align, (unsigned int)DIRECT_ALIGN_MIN);
	}
#else
	(void)fd;
#endif
	return -1;
}

/*
 * Otherwise begin with what the device below says and try: a read that is
 * not aligned well enough fails with EINVAL on any file system, if it hits
 * data.
 */
static int direct_align_tried(int fd, dev_t dev)
{
	_Alignas(DIRECT_ALIGN_MAX) char buf[2 * DIRECT_ALIGN_MAX];
	uint64_t align;

	align = queue_number(dev, "logical_block_size", DIRECT_ALIGN_MAX);
	if (!is_power_of_2(align) || align < DIRECT_ALIGN_MIN)
		align = DIRECT_ALIGN_MIN;
	for (; align <= DIRECT_ALIGN_MAX; align *= 2) {
		/* The buffer is aligned this well and no better. */
		ssize_t n = pread(fd, buf + align % DIRECT_ALIGN_MAX, align,
				  0);

		if (n >= 0)
			return align;
		if (errno != EINVAL)
			break;
	}
	return 0;
}

static bool is_memory_fs(const struct statfs *fs)
{
	return fs->f_type == TMPFS_MAGIC || fs->f_type == RAMFS_MAGIC ||
	       fs->f_type == HUGETLBFS_MAGIC;
}

static void probe_direct(int fd, dev_t dev, struct probe *probe)
{
	int flags = fcntl(fd, F_GETFL);
	int align;

	if (fcntl(fd, F_SETFL, flags | O_DIRECT))
		return;
	align = direct_align_told(fd);
	if (align < 0)
		align = direct_align_tried(fd, dev);
	if (align == 0)
		fcntl(fd, F_SETFL, flags);
	probe->direct_align = align;
}

/* Files of ext2 and ext3 take PUNCH_HOLE, but nothing that needs extents. */
static bool has_extents(int fd)
{
	int flags = 0;

	return ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 &&
	       (flags & FS_EXTENT_FL);
}

static void probe_fallocate(int fd, const struct statfs *fs, const struct stat *st,
			    struct probe *probe)
{
	off_t past_end = round_up64(st->st_size, probe->fs_block);
	bool can;

	/* Nothing is there to be punched out. */
	can = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			past_end, probe->fs_block) == 0;
	probe->can_discard = can;
	probe->can_zero = can;

	/* The other two cannot be tried without taking up space. */
	switch ((unsigned long)fs->f_type) {
	case EXT4_SUPER_MAGIC:
		can = has_extents(fd);
		probe->can_zero_keep = can;
		probe->can_allocate = can;
		break;
	case MAGIC_XFS:
	case MAGIC_F2FS:
	case MAGIC_BCACHEFS:
	case BTRFS_SUPER_MAGIC:
	case OVERLAYFS_SUPER_MAGIC:
		probe->can_zero_keep = true;
		probe->can_allocate = true;
		break;
	case TMPFS_MAGIC:
	case NFS_SUPER_MAGIC:
		probe->can_allocate = true;
		break;
	}
}

static void probe_regular(int fd, const struct stat *st, bool direct,
			  struct probe *probe)
{
	bool writable = (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY;
	struct statfs fs = { 0 };
	uint64_t block = 0;

	if (fstatfs(fd, &fs) == 0)
		block = fs.f_bsize;
	probe->logical_block = 1;
	probe->fs_block = 4096;
	while (probe->fs_block < block && probe->fs_block < 65536)
		probe->fs_block *= 2;
	if (writable)
		probe_fallocate(fd, &fs, st, probe);
	if (direct && !is_memory_fs(&fs))
		probe_direct(fd, st->st_dev, probe);
	probe->rotational = queue_number(st->st_dev, "rotational", 0);
	probe->fua_flushes = !is_memory_fs(&fs) && fua_flushes(st->st_dev);
}

/*
 * On a device fallocate() punches and zeroes by commands that guarantee
 * zeroes, or refuses.  A discard that leaves just anything is not used.
 */
static void probe_device(int fd, const struct stat *st, bool direct,
			 struct probe *probe)
{
	bool zeroes = queue_number(st->st_rdev, "write_zeroes_max_bytes", 0);
	char model[32] = "";
	int size = 0;

	probe->fs_block = 4096;
	probe->logical_block = 512;
	probe->can_discard = zeroes &&
		queue_number(st->st_rdev, "discard_max_bytes", 0);
	probe->can_zero = zeroes;
	probe->can_zero_keep = zeroes;
	/* Discards and zeroes go by logical blocks in any case. */
	if (ioctl(fd, BLKSSZGET, &size) == 0 && size > 0)
		probe->logical_block = size;
	queue_text(st->st_rdev, "zoned", model, sizeof(model));
	probe->zoned = strncmp(model, "host-managed", 12) == 0;
	probe->rotational = queue_number(st->st_rdev, "rotational", 0);
	probe->fua_flushes = fua_flushes(st->st_rdev);
	if (direct)
		probe_direct(fd, st->st_rdev, probe);
}

void probe_file(int fd, const struct stat *st, bool direct,
		struct probe *probe)
{
	memset(probe, 0, sizeof(*probe));
	if (S_ISBLK(st->st_mode))
		probe_device(fd, st, direct, probe);
	else
		probe_regular(fd, st, direct, probe);
}
