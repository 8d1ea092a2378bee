/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * zero.c - ZERO for devices that cannot: write zeroes as data, a piece at a
 * time.
 *
 * The one place in this folder that allocates on the way, since a request has
 * no room for a second one.
 */
#include <errno.h>

#include "base/base.h"
#include "bdev/inner.h"

#define ZERO_BUF_SIZE	(64 * 1024)
#define ZERO_NR_IOV	32

struct zeroing {
	struct bdev_req	write;
	struct bdev_req	*zero;		/* what it is for */
	struct iovec	iov[ZERO_NR_IOV];
};

/* Never written to; aligned for any block size. */
static _Alignas(4096) const char zero_buf[ZERO_BUF_SIZE];

static void zeroing_write(struct zeroing *zeroing)
{
	struct bdev_req *zero = zeroing->zero, *write = &zeroing->write;
	uint64_t left = zero->len - zero->xferred;
	unsigned int i;

	left = MIN(left, zero->bdev->max_io);
	write->pos = zero->pos + zero->xferred;
	write->len = 0;
	for (i = 0; i < ZERO_NR_IOV && left; i++) {
		zeroing->iov[i].iov_base = (void *)zero_buf;
		zeroing->iov[i].iov_len = MIN(left, (uint64_t)ZERO_BUF_SIZE);
		write->len += zeroing->iov[i].iov_len;
		left -= zeroing->iov[i].iov_len;
	}
	write->nr_iov = i;
	bdev_submit(zero->bdev, write);
}

static void zeroing_done(struct bdev_req *write)
{
	struct zeroing *zeroing = container_of(write, struct zeroing, write);
	struct bdev_req *zero = zeroing->zero;
	int ret = write->ret;

	if (ret == 0) {
		zero->xferred += write->len;
		if (zero->xferred < zero->len) {
			zeroing_write(zeroing);
			return;
		}
	}
	free(zeroing);
	bdev_complete(zero, ret);
}

void bdev_zero_by_writing(struct bdev_req *req)
{
	struct zeroing *zeroing = calloc(1, sizeof(*zeroing));

	if (!zeroing) {
		bdev_complete_later(req, -ENOMEM);
		return;
	}
	zeroing->zero = req;
	zeroing->write.op = BDEV_WRITE;
	zeroing->write.iov = zeroing->iov;
	zeroing->write.done = zeroing_done;
	req->xferred = 0;
	zeroing_write(zeroing);
}
