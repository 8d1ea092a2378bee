/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * file_io.c - cut requests into system calls, and make sense of what those
 * return.
 *
 * Nearly every request is one piece.  More come from short transfers and from
 * a file whose last block is partial: what lies from direct_end on goes
 * through the page cache.
 *
 *	0                            direct_end   size
 *	|  direct, whole blocks      |  buffered  |
 *
 * No page is shared by the two ways, see file_direct_end().
 */
#include "bdev/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>

#include "base/base.h"
#include "bdev/inner.h"

static int fallocate_mode(const struct bdev_req *req)
{
	const struct bdev *bdev = req->bdev;

	if (req->op == BDEV_ALLOCATE)
		return FALLOC_FL_KEEP_SIZE;
	if (req->op == BDEV_ZERO &&
	    ((req->flags & BDEV_NO_UNMAP) || !bdev->can_zero))
		return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
	return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
}

/*
 * Find the buffers for [pos, @end) of @req, of which req->xferred bytes are
 * done: as many whole ones as there are, or else a part of one.
 */
static void find_buffers(const struct bdev_req *req, uint64_t end,
			 struct file_piece *piece)
{
	uint64_t at = req->pos, pos = req->pos + req->xferred;
	unsigned int i = 0, first;

	while (at + req->iov[i].iov_len <= pos)
		at += req->iov[i++].iov_len;
	piece->nr_iov = 1;
	if (at < pos || at + req->iov[i].iov_len > end) {
		uint64_t skip = pos - at;

		piece->buf = (char *)req->iov[i].iov_base + skip;
		piece->len = MIN(req->iov[i].iov_len - skip, end - pos);
		return;
	}
	first = i;
	while (i < req->nr_iov && at + req->iov[i].iov_len <= end)
		at += req->iov[i++].iov_len;
	piece->iov = &req->iov[first];
	piece->buf = piece->iov->iov_base;
	piece->nr_iov = i - first;
	piece->len = at - pos;
}

static void next_data(const struct bdev_req *req, struct file_piece *piece)
{
	const struct file_bdev *file = to_file(req->bdev);
	uint64_t pos = req->pos + req->xferred, end = req->pos + req->len;
	uint64_t direct_end;

	piece->fd = file->fd;
	piece->pos = pos;
	piece->len = req->len;
	piece->iov = req->iov;
	piece->nr_iov = req->nr_iov;
	piece->buf = req->iov->iov_base;
	piece->rw_flags = (req->flags & BDEV_FUA) ? RWF_DSYNC : 0;
	piece->mode = 0;

	direct_end = __atomic_load_n(&file->direct_end, __ATOMIC_RELAXED);
	if (likely(req->xferred == 0 && end <= direct_end))
		return;
	if (pos >= direct_end && file->direct)
		piece->fd = file->buffered_fd;
	else
		end = MIN(end, direct_end);
	find_buffers(req, end, piece);
}

void file_next_piece(const struct bdev_req *req, struct file_piece *piece)
{
	const struct file_bdev *file = to_file(req->bdev);

	if (req->op == BDEV_READ || req->op == BDEV_WRITE) {
		next_data(req, piece);
		return;
	}
	*piece = (struct file_piece){
		.fd = req->op == BDEV_FLUSH ? file->sync_fd : file->fd,
		.pos = req->pos,
		.len = req->len,
		.mode = req->op == BDEV_FLUSH ? 0 : fallocate_mode(req),
	};
}

/* @res bytes more; false if there is more to do. */
static bool transferred(struct bdev_req *req, uint64_t res, int *retp)
{
	const struct file_bdev *file = to_file(req->bdev);

	/* A direct read that stops within a block has met the file's end. */
	if (req->pos + req->xferred <
	    __atomic_load_n(&file->direct_end, __ATOMIC_RELAXED))
		res = round_down64(res, req->bdev->block_size);
	req->xferred += res;
	*retp = 0;
	if (req->xferred == req->len)
		return true;
	/* The file is shorter than it was. */
	*retp = -EIO;
	return res == 0;
}

static bool must_repeat(int64_t res)
{
	return res == -EINTR || res == -EAGAIN;
}

bool file_sync_done(int64_t res, int *retp)
{
	if (unlikely(must_repeat(res)))
		return false;
	/* Such a file has nothing to flush. */
	if (res == -EINVAL || res == -EOPNOTSUPP)
		res = 0;
	*retp = res;
	return true;
}

bool file_piece_done(struct bdev_req *req, int64_t res, int *retp)
{
	if (req->op == BDEV_FLUSH)
		return file_sync_done(res, retp);
	if (unlikely(must_repeat(res)))
		return false;
	if (likely(res >= 0 && (req->op == BDEV_READ ||
				req->op == BDEV_WRITE)))
		return transferred(req, res, retp);
	*retp = res;
	return true;
}

void file_complete(struct bdev_req *req, int ret)
{
	if (unlikely(ret == -EOPNOTSUPP && req->op == BDEV_ZERO &&
		     !(req->flags & BDEV_FAST)))
		bdev_zero_by_writing(req);
	else
		bdev_complete(req, ret);
}
