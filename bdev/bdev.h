/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bdev.h - the narrow asynchronous interface through which all device I/O goes.
 *
 * A bdev is a file, a block device or a simulated disk.  Requests are embedded
 * by their users; nothing is allocated on the way.  A request completes on the
 * loop that submitted it.  Devices know no folios and no mappings.
 */
#ifndef FOLIOD_BDEV_H
#define FOLIOD_BDEV_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

struct bdev;
struct loop;

enum bdev_op {
	BDEV_READ,
	BDEV_WRITE,
	BDEV_FLUSH,	/* all writes completed before the submit become stable */
	BDEV_DISCARD,	/* contents become zero (files) or undefined (devices
			 * without zero-discard: they then refuse, see below) */
	BDEV_ZERO,	/* contents read zero afterwards */
	BDEV_ALLOCATE,	/* provide space, contents unchanged or zero */
	BDEV_NR_OPS,
};

/* Flags of a request. */
#define BDEV_FUA	(1u << 0)	/* WRITE: stable before completion */
#define BDEV_NO_UNMAP	(1u << 1)	/* ZERO: keep or provide the space */
#define BDEV_FAST	(1u << 2)	/* ZERO: -EOPNOTSUPP at once if it would
					 * have to write zeroes as data */

/*
 * READ and WRITE: @pos and the sum of @iov are multiples of the bdev's
 * block_size, except that they may end at its size; each iov base and length
 * is a multiple of block_size too (again but for the end).  DISCARD, ZERO and
 * ALLOCATE: @pos and @len are multiples of block_size with the same exception.
 * All lie within the bdev's size.
 */
struct bdev_req {
	/* Set by the submitter, untouched by the bdev. */
	enum bdev_op		op;
	unsigned int		flags;
	uint64_t		pos;		/* bytes */
	uint64_t		len;		/* bytes; READ, WRITE: sum of iov */
	const struct iovec	*iov;		/* READ, WRITE; stays valid and
						 * unchanged until done() */
	unsigned int		nr_iov;		/* at most BDEV_IOV_MAX */
	/* Called on the submitting loop, never from within bdev_submit(). */
	void			(*done)(struct bdev_req *req);

	/* Set before done(): 0 when all was transferred, or -errno. */
	int			ret;

	/* The bdev's own while in flight. */
	TAILQ_ENTRY(bdev_req)	link;
	struct bdev		*bdev;
	struct loop		*loop;
	uint64_t		xferred;	/* bytes moved so far */
	uint64_t		backend[8];
};

#define BDEV_IOV_MAX	1024

/* Counts since open; read without a lock, each field is exact by itself. */
struct bdev_stats {
	uint64_t	ops[BDEV_NR_OPS];	/* requests completed, per op */
	uint64_t	bytes[BDEV_NR_OPS];
	uint64_t	fua_writes;
	uint64_t	errors;
};

struct bdev_ops {
	/* Start @req on loop_current().  No locks held.  Required. */
	void	(*submit)(struct bdev *bdev, struct bdev_req *req);
	/*
	 * Learn where data is in a file: the first data byte at or after @pos,
	 * or the first hole.  As lseek(2) with SEEK_DATA and SEEK_HOLE: an
	 * offset, size for "none", or -errno.  May block shortly.  NULL if the
	 * whole device is data.
	 */
	int64_t	(*seek_data)(struct bdev *bdev, uint64_t pos);
	int64_t	(*seek_hole)(struct bdev *bdev, uint64_t pos);
	/*
	 * The size that the outside has given it by now, or -errno; cheap.
	 * NULL: it never changes.
	 */
	int64_t	(*present_size)(struct bdev *bdev);
	/*
	 * Be of @size from now on, which present_size() has answered.  Nothing
	 * is in flight that reaches beyond it or ends at the old size, unless
	 * that is a multiple of 4 KiB.  NULL with present_size.
	 */
	void	(*set_size)(struct bdev *bdev, uint64_t size);
	/* Called with nothing in flight.  Required. */
	void	(*close)(struct bdev *bdev);
};

struct bdev {
	/* Set at open, constant after, but for the size. */
	const struct bdev_ops	*ops;
	const char		*name;		/* path, for messages; owned */
	uint64_t		size;		/* bytes, exact; atomic, changed by
						 * set_size() */
	unsigned int		block_size;	/* unit of READ and WRITE: 1 for
						 * buffered files, else 512..4096 */
	uint64_t		max_io;		/* most bytes of one request */
	bool			read_only;
	bool			can_discard;
	bool			can_zero;	/* ZERO without writing data */
	bool			can_zero_keep;	/* the same with NO_UNMAP */
	bool			can_allocate;
	bool			is_file;	/* regular: discarded reads zero */
	bool			rotational;
	/* After a failed FLUSH or FUA: all later ones fail with -EIO until the
	 * device is opened again.  Atomic; set by bdev_complete(). */
	bool			flush_failed;
	struct bdev_stats	stats;
	/*
	 * Writes completed so far, and how many of them are known stable: a
	 * FLUSH with nothing between the two need not reach the device.
	 * Atomic.
	 */
	uint64_t		writes_done;
	uint64_t		writes_stable;
};

static inline uint64_t bdev_size(const struct bdev *bdev)
{
	return __atomic_load_n(&bdev->size, __ATOMIC_RELAXED);
}

/*
 * Start @req; its done() is called later on this thread's loop.  Requests are
 * batched: they reach the device at the end of the loop's turn at the latest.
 */
void bdev_submit(struct bdev *bdev, struct bdev_req *req);

/* Submit and wait, in a coroutine.  Returns req->ret. */
int bdev_submit_wait(struct bdev *bdev, struct bdev_req *req);

/* The same for single buffers and for requests without data. */
int bdev_pread(struct bdev *bdev, void *buf, uint64_t len, uint64_t pos);
int bdev_pwrite(struct bdev *bdev, const void *buf, uint64_t len, uint64_t pos,
		unsigned int flags);
int bdev_flush(struct bdev *bdev);
int bdev_range_op(struct bdev *bdev, enum bdev_op op, uint64_t pos,
		  uint64_t len, unsigned int flags);

/* For backends: account for @req, set its ret and call its done(). */
void bdev_complete(struct bdev_req *req, int ret);

/* Close and free @*bdevp, which may be NULL; sets it to NULL. */
void bdev_close(struct bdev **bdevp);

/* What to do with a file, for bdev_open_file(). */
#define BDEV_OPEN_READ_ONLY	(1u << 0)	/* shared lock instead of exclusive */
#define BDEV_OPEN_BUFFERED	(1u << 1)	/* never O_DIRECT */
#define BDEV_OPEN_THREADS	(1u << 2)	/* the thread pool even where
						 * io_uring works */
#define BDEV_OPEN_NO_LOCK	(1u << 3)	/* for tests of the lock itself */

/*
 * Open a regular file or block device at @path: O_DIRECT where the file system
 * takes it (the last partial block goes through a second, buffered
 * descriptor), locked (OFD lock on files, O_EXCL on devices).  On failure
 * returns -errno and writes one line that names the path and what is wrong
 * (for -EBUSY: by which pid it is held) into @msg.
 */
int bdev_open_file(const char *path, unsigned int flags, struct bdev **bdevp,
		   char *msg, unsigned int msglen);

/*
 * Per-loop set-up of the ring (or of the thread pool's completion queue), on
 * the loop's thread after loop_enter(), and its end.  bdev_submit() on a loop
 * without it (a virtual loop, for sim) is fine for sim only.
 */
int bdev_loop_init(struct loop *loop);
void bdev_loop_fini(struct loop *loop);

#endif
