/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file.c - open regular files and block devices, and refuse what is neither
 * with a message that says what is wrong.
 *
 * The I/O is in file_io.c and in the two engines, uring.c and threads.c.
 */
#include "bdev/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/base.h"
#include "bdev/inner.h"
#include "bdev/lock.h"
#include "bdev/threads.h"
#include "bdev/uring.h"

/* So that rounding a position up never overflows, at any folio size. */
#define FILE_SIZE_MAX	((uint64_t)INT64_MAX - (64 << 20))

/* An opening on its way; file is handed out when it has succeeded. */
struct opening {
	const char		*path;
	unsigned int		flags;		/* BDEV_OPEN_* */
	struct stat		st;
	struct file_bdev	*file;
	char			*msg;
	unsigned int		msglen;
};

static int refuse(struct opening *op, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Write "path: what is wrong" as one line; returns @err. */
static int refuse(struct opening *op, int err, const char *fmt, ...)
{
	va_list ap;
	char why[256];
	char *p;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	if (op->msglen == 0)
		return err;
	snprintf(op->msg, op->msglen, "%s: %s", op->path, why);
	for (p = op->msg; *p; p++)
		if ((unsigned char)*p < ' ')
			*p = '?';
	return err;
}

static bool opening_writes(const struct opening *op)
{
	return !(op->flags & BDEV_OPEN_READ_ONLY);
}

static int refuse_busy(struct opening *op, const struct lock_holder *holder)
{
	if (holder->pid && holder->name[0])
		return refuse(op, -EBUSY, "in use by pid %d (%s)",
			      (int)holder->pid, holder->name);
	if (holder->pid)
		return refuse(op, -EBUSY, "in use by pid %d",
			      (int)holder->pid);
	return refuse(op, -EBUSY, "in use by another process");
}

static int refuse_device_busy(struct opening *op)
{
	struct lock_holder holder;
	char dir[200];

	if (lock_find_mount(&op->st, dir, sizeof(dir)))
		return refuse(op, -EBUSY, "is mounted on %s", dir);
	lock_find_opener(&op->st, &holder);
	return refuse_busy(op, &holder);
}

static int refuse_errno(struct opening *op, int err)
{
	switch (err) {
	case -ENOENT:
		return refuse(op, err, "no such file");
	case -EACCES:
	case -EPERM:
		if (opening_writes(op) && access(op->path, R_OK) == 0)
			return refuse(op, err, "no permission to write, only to read");
		return refuse(op, err, "permission denied");
	case -EROFS:
		return refuse(op, err, "is on a read-only file system");
	case -EBUSY:
		if (S_ISBLK(op->st.st_mode))
			return refuse_device_busy(op);
		break;
	}
	return refuse(op, err, "%s", strerror(-err));
}

static int check_type(struct opening *op)
{
	const char *what;

	switch (op->st.st_mode & S_IFMT) {
	case S_IFREG:
	case S_IFBLK:
		return 0;
	case S_IFDIR:
		return refuse(op, -EISDIR, "is a directory");
	case S_IFSOCK:
		what = "a socket";
		break;
	case S_IFIFO:
		what = "a FIFO";
		break;
	case S_IFCHR:
		what = "a character device";
		break;
	default:
		what = "something else";
		break;
	}
	return refuse(op, -EINVAL, "is %s, not a file or block device", what);
}

static int open_main(struct opening *op)
{
	/* O_NONBLOCK: never hang, should it have become a FIFO by now. */
	int oflags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	int fd, ret;

	if (stat(op->path, &op->st))
		return refuse_errno(op, -errno);
	ret = check_type(op);
	if (ret)
		return ret;
	oflags |= opening_writes(op) ? O_RDWR : O_RDONLY;
	if (S_ISBLK(op->st.st_mode) && opening_writes(op) &&
	    !(op->flags & BDEV_OPEN_NO_LOCK))
		oflags |= O_EXCL;
	fd = open(op->path, oflags);
	if (fd < 0)
		return refuse_errno(op, -errno);
	op->file->fd = fd;
	if (fstat(fd, &op->st))
		return refuse_errno(op, -errno);
	/* With it, io_uring would not wait on our behalf. */
	fcntl(fd, F_SETFL, oflags & O_ACCMODE);
	return check_type(op);
}

/* A second descriptor of the very file that is open already. */
static int open_again(struct opening *op, int *fdp)
{
	struct stat st;
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", op->file->fd);
	fd = open(path, O_CLOEXEC | (opening_writes(op) ? O_RDWR : O_RDONLY));
	if (fd < 0 && errno == ENOENT)	/* no /proc */
		fd = open(op->path, O_CLOEXEC | O_NONBLOCK |
			  (opening_writes(op) ? O_RDWR : O_RDONLY));
	if (fd < 0)
		return refuse_errno(op, -errno);
	*fdp = fd;
	if (fstat(fd, &st))
		return refuse_errno(op, -errno);
	if (st.st_dev != op->st.st_dev || st.st_ino != op->st.st_ino)
		return refuse(op, -ESTALE, "was replaced while being opened");
	fcntl(fd, F_SETFL, 0);
	return 0;
}

static int take_lock(struct opening *op)
{
	struct lock_holder holder;
	int ret;

	if (op->flags & BDEV_OPEN_NO_LOCK)
		return 0;
	ret = lock_file(op->file->fd, opening_writes(op), &holder);
	if (ret == -EBUSY)
		return refuse_busy(op, &holder);
	if (ret)
		log_warn("%s: cannot be locked: %s", op->path, strerror(-ret));
	return 0;
}

static int64_t present_size(int fd)
{
	uint64_t size;
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISBLK(st.st_mode))
		return st.st_size;
	if (ioctl(fd, BLKGETSIZE64, &size))
		return -errno;
	return MIN(size, (uint64_t)INT64_MAX);
}

/*
 * Where direct I/O has to end.  The buffered rest begins at a block of the
 * file system: were a page shared, writing back the page could undo a direct
 * write to its other part.
 */
static uint64_t file_direct_end(const struct file_bdev *file, uint64_t size)
{
	if (is_aligned64(size, file->bdev.block_size))
		return size;
	return round_down64(size, file->tail_align);
}

static void set_size(struct file_bdev *file, uint64_t size)
{
	__atomic_store_n(&file->direct_end, file_direct_end(file, size),
			 __ATOMIC_RELAXED);
	__atomic_store_n(&file->bdev.size, size, __ATOMIC_RELAXED);
}

static int check_size(struct opening *op)
{
	int64_t size = present_size(op->file->fd);
	int read_only = 0;

	if (size < 0)
		return refuse_errno(op, size);
	if ((uint64_t)size > FILE_SIZE_MAX)
		return refuse(op, -EFBIG, "is too big: more than %llu bytes",
			      (unsigned long long)FILE_SIZE_MAX);
	op->file->bdev.size = size;
	if (!S_ISBLK(op->st.st_mode))
		return 0;
	if (size == 0)
		return refuse(op, -ENOMEDIUM, "has no medium");
	if (opening_writes(op) &&
	    ioctl(op->file->fd, BLKROGET, &read_only) == 0 && read_only)
		return refuse(op, -EROFS, "is a read-only device");
	return 0;
}

static int set_up(struct opening *op)
{
	struct file_bdev *file = op->file;
	struct bdev *bdev = &file->bdev;
	struct probe probe;
	bool ranges;

	probe_file(file->fd, &op->st, !(op->flags & BDEV_OPEN_BUFFERED),
		   &probe);
	if (probe.zoned && opening_writes(op))
		return refuse(op, -EOPNOTSUPP,
			      "is a zoned drive, which takes no random writes");
	file->direct = probe.direct_align != 0;
	file->threads = op->flags & BDEV_OPEN_THREADS;
	file->fua_flushes = probe.fua_flushes;
	bdev->block_size = MAX(probe.direct_align, probe.logical_block);
	file->tail_align = MAX(probe.fs_block, bdev->block_size);
	bdev->max_io = FILE_MAX_IO;
	bdev->read_only = !opening_writes(op);
	bdev->is_file = !S_ISBLK(op->st.st_mode);
	/*
	 * On a device the kernel drops what it has cached of the range before
	 * it learns whether the device can do it: nothing for dirty pages.
	 */
	ranges = opening_writes(op) && (bdev->is_file || file->direct);
	bdev->can_discard = probe.can_discard && ranges;
	bdev->can_zero = probe.can_zero && ranges;
	bdev->can_zero_keep = probe.can_zero_keep && ranges;
	bdev->can_allocate = probe.can_allocate && ranges;
	bdev->rotational = probe.rotational;
	/*
	 * What an earlier server wrote and acknowledged may still be in the
	 * device's cache: the first FLUSH counts.
	 */
	bdev->writes_done = opening_writes(op);
	set_size(file, bdev->size);
	return 0;
}

static void file_free(struct file_bdev *file)
{
	if (file->sync_fd >= 0)
		close(file->sync_fd);
	if (file->buffered_fd >= 0)
		close(file->buffered_fd);
	if (file->fd >= 0)
		close(file->fd);
	free((char *)file->bdev.name);
	free(file);
}

static void file_close(struct bdev *bdev)
{
	file_free(to_file(bdev));
}

static void file_submit(struct bdev *bdev, struct bdev_req *req)
{
	struct ring *ring = to_file(bdev)->threads ? NULL : ring_current();

	if (ring)
		ring_submit(ring, req);
	else
		threads_submit(req);
}

/* A file system that does not know answers that all is data. */
static int64_t file_seek(struct bdev *bdev, uint64_t pos, int whence)
{
	uint64_t size = __atomic_load_n(&bdev->size, __ATOMIC_RELAXED);
	off_t found;

	if (pos >= size)
		return size;
	found = lseek(to_file(bdev)->sync_fd, pos, whence);
	if (found >= 0)
		return MIN((uint64_t)found, size);
	if (errno == ENXIO)
		return size;
	if (errno == EINVAL || errno == EOPNOTSUPP)
		return whence == SEEK_DATA ? pos : size;
	return -errno;
}

static int64_t file_seek_data(struct bdev *bdev, uint64_t pos)
{
	return file_seek(bdev, pos, SEEK_DATA);
}

static int64_t file_seek_hole(struct bdev *bdev, uint64_t pos)
{
	return file_seek(bdev, pos, SEEK_HOLE);
}

static int64_t file_present_size(struct bdev *bdev)
{
	int64_t size = present_size(to_file(bdev)->fd);

	return size > (int64_t)FILE_SIZE_MAX ? -EFBIG : size;
}

static void file_set_size(struct bdev *bdev, uint64_t size)
{
	set_size(to_file(bdev), size);
}

static const struct bdev_ops file_ops = {
	.submit		= file_submit,
	.seek_data	= file_seek_data,
	.seek_hole	= file_seek_hole,
	.present_size	= file_present_size,
	.set_size	= file_set_size,
	.close		= file_close,
};

static const struct bdev_ops device_ops = {
	.submit		= file_submit,
	.present_size	= file_present_size,
	.set_size	= file_set_size,
	.close		= file_close,
};

static int open_all(struct opening *op)
{
	struct file_bdev *file = op->file;
	int ret;

	ret = open_main(op);
	if (ret)
		return ret;
	ret = take_lock(op);
	if (ret)
		return ret;
	ret = check_size(op);
	if (ret)
		return ret;
	ret = set_up(op);
	if (ret)
		return ret;
	if (file->direct) {
		ret = open_again(op, &file->buffered_fd);
		if (ret)
			return ret;
	}
	ret = open_again(op, &file->sync_fd);
	if (ret)
		return ret;
	file->bdev.ops = file->bdev.is_file ? &file_ops : &device_ops;
	return 0;
}

int bdev_open_file(const char *path, unsigned int flags, struct bdev **bdevp,
		   char *msg, unsigned int msglen)
{
	struct opening op = {
		.path = path, .flags = flags, .msg = msg, .msglen = msglen,
	};
	int ret;

	op.file = calloc(1, sizeof(*op.file));
	if (!op.file)
		return refuse(&op, -ENOMEM, "out of memory");
	op.file->fd = -1;
	op.file->buffered_fd = -1;
	op.file->sync_fd = -1;
	op.file->bdev.name = strdup(path);
	ret = op.file->bdev.name ? open_all(&op) :
				   refuse(&op, -ENOMEM, "out of memory");
	if (ret) {
		file_free(op.file);
		return ret;
	}
	*bdevp = &op.file->bdev;
	return 0;
}
