/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file.h - a bdev on a regular file or block device, as its engines see it.
 *
 * An engine (uring.c, threads.c) asks for a request's next piece, carries it
 * out with one system call, and hands back what that returned, until the
 * request is done.
 */
#ifndef FOLIOD_BDEV_FILE_H
#define FOLIOD_BDEV_FILE_H

#include "bdev/bdev.h"
#include "bdev/probe.h"

/* Most bytes of one request. */
#define FILE_MAX_IO	(64 * 1024 * 1024)

struct file_bdev {
	struct bdev		bdev;
	/* Constant after open. */
	int			fd;		/* direct if possible; the lock */
	int			buffered_fd;	/* for the tail; -1 if not direct */
	/*
	 * For FLUSH alone: the kernel reports a failed writeback once per
	 * descriptor, and no other call may take that report away.
	 */
	int			sync_fd;
	bool			direct;
	bool			threads;	/* never io_uring */
	bool			fua_flushes;	/* see sync_group.h */
	uint64_t		tail_align;	/* see file_direct_end() */
	/*
	 * From here to the size goes through buffered_fd.  Atomic: changes
	 * when the file was resized.
	 */
	uint64_t		direct_end;
};

static inline struct file_bdev *to_file(struct bdev *bdev)
{
	return (struct file_bdev *)bdev;
}

/* What one system call is to do for a request. */
struct file_piece {
	int			fd;
	uint64_t		pos;
	uint64_t		len;
	const struct iovec	*iov;		/* READ, WRITE with nr_iov > 1 */
	unsigned int		nr_iov;
	void			*buf;		/* READ, WRITE with nr_iov == 1 */
	int			rw_flags;	/* RWF_DSYNC for FUA */
	int			mode;		/* of fallocate() */
};

/* Find out what is to be done next for @req. */
void file_next_piece(const struct bdev_req *req, struct file_piece *piece);

/*
 * A piece of @req returned @res, a count or -errno.  Returns true when the
 * request is done, with its result in *@retp; false if it has a next piece.
 */
bool file_piece_done(struct bdev_req *req, int64_t res, int *retp);

/* The same for a sync, of a FLUSH or of FUA writes. */
bool file_sync_done(int64_t res, int *retp);

/* End a request of a file on its own loop: bdev_complete(), but for ZERO. */
void file_complete(struct bdev_req *req, int ret);

#endif
