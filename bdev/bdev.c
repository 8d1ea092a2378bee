/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bdev.c - what all devices have in common: the way in, the way out, and the
 * account of what is stable.
 *
 * Splitting requests over max_io or BDEV_IOV_MAX is left to the callers, and
 * so is keeping overlapping requests apart.
 */
#include "bdev/bdev.h"

#include <errno.h>

#include "base/base.h"
#include "bdev/inner.h"

#define count(field, n)	__atomic_fetch_add(&(field), (n), __ATOMIC_RELAXED)

static bool needs_stability(const struct bdev_req *req)
{
	return req->op == BDEV_FLUSH ||
	       (req->op == BDEV_WRITE && (req->flags & BDEV_FUA));
}

/*
 * Does this error of a FLUSH or FUA write mean that data which was taken may
 * be gone?  A write that was refused before it began loses nothing; only a
 * file behind the page cache can say ENOSPC when it is too late.
 */
static bool loses_stability(const struct bdev_req *req, int ret)
{
	if (req->op == BDEV_FLUSH)
		return true;
	switch (ret) {
	case -ENOSPC:
	case -EDQUOT:
		return req->bdev->block_size == 1;
	case -EINVAL:
	case -EPERM:
	case -EROFS:
	case -EFBIG:
	case -ENOMEM:
	case -EOPNOTSUPP:
		return false;
	default:
		return true;
	}
}

static bool stability_lost(const struct bdev *bdev)
{
	return __atomic_load_n(&bdev->flush_failed, __ATOMIC_ACQUIRE);
}

/*
 * The first @nr writes are stable.  Flushes may end in another order than
 * they began.
 */
static void raise_writes_stable(struct bdev *bdev, uint64_t nr)
{
	uint64_t old = __atomic_load_n(&bdev->writes_stable, __ATOMIC_RELAXED);

	while (old < nr &&
	       !__atomic_compare_exchange_n(&bdev->writes_stable, &old, nr,
					    true, __ATOMIC_RELEASE,
					    __ATOMIC_RELAXED))
		;
}

/*
 * A FUA write that succeeded is in neither count: no FLUSH need cover it.  A
 * write that failed may have changed something, so it counts.
 */
static void account_stability(struct bdev_req *req, int *ret)
{
	struct bdev *bdev = req->bdev;

	if (needs_stability(req)) {
		if (*ret && loses_stability(req, *ret))
			__atomic_store_n(&bdev->flush_failed, true,
					 __ATOMIC_RELEASE);
		else if (*ret == 0 && stability_lost(bdev))
			*ret = -EIO;
	}
	if (req->op == BDEV_FLUSH) {
		if (*ret == 0)
			raise_writes_stable(bdev, req->xferred);
	} else if (bdev_op_changes(req->op)) {
		if (*ret || !needs_stability(req))
			__atomic_fetch_add(&bdev->writes_done, 1,
					   __ATOMIC_RELEASE);
	}
}

void bdev_complete(struct bdev_req *req, int ret)
{
	struct bdev_stats *stats = &req->bdev->stats;

	assert(req->loop == loop_current());
	assert(ret <= 0);
	account_stability(req, &ret);
	count(stats->ops[req->op], 1);
	if (ret) {
		count(stats->errors, 1);
	} else {
		count(stats->bytes[req->op], req->len);
		if (req->op == BDEV_WRITE && (req->flags & BDEV_FUA))
			count(stats->fua_writes, 1);
	}
	req->ret = ret;
	req->done(req);
}

static void complete_work(struct work *work)
{
	struct bdev_req *req = bdev_req_of_work(work);

	bdev_complete(req, req->ret);
}

static struct work *prepare_work(struct bdev_req *req, int ret)
{
	struct work *work = bdev_req_work(req);

	req->ret = ret;
	*work = (struct work){ .fn = complete_work };
	return work;
}

void bdev_complete_later(struct bdev_req *req, int ret)
{
	loop_defer(prepare_work(req, ret));
}

void bdev_complete_remote(struct bdev_req *req, int ret)
{
	/* Once the work is posted, @req may be gone. */
	loop_post(req->loop, prepare_work(req, ret));
}

static void check_data(const struct bdev *bdev, const struct bdev_req *req)
{
	uint64_t end = req->pos + req->len, pos = req->pos;
	unsigned int i;

	assert(req->len <= bdev->max_io);
	assert(req->nr_iov > 0 && req->nr_iov <= BDEV_IOV_MAX);
	for (i = 0; i < req->nr_iov; i++) {
		const struct iovec *iov = &req->iov[i];

		assert(is_aligned64((uintptr_t)iov->iov_base,
				    bdev->block_size));
		pos += iov->iov_len;
		assert(is_aligned64(iov->iov_len, bdev->block_size) ||
		       (pos == end && end == bdev_size(bdev)));
	}
	assert(pos == end);
}

/* All of this the callers have made sure of. */
static void check_req(const struct bdev *bdev, const struct bdev_req *req)
{
	assert(req->op < BDEV_NR_OPS);
	assert(req->done);
	if (req->op == BDEV_FLUSH)
		return;
	assert(range_within(req->pos, req->len, bdev_size(bdev)));
	assert(is_aligned64(req->pos, bdev->block_size));
	assert(is_aligned64(req->len, bdev->block_size) ||
	       req->pos + req->len == bdev_size(bdev));
	if (req->len && (req->op == BDEV_READ || req->op == BDEV_WRITE))
		check_data(bdev, req);
}

/* 0 if @req goes to the device, 1 if it is done already, or -errno. */
static int answer_at_once(struct bdev *bdev, struct bdev_req *req)
{
	if (needs_stability(req) && stability_lost(bdev))
		return -EIO;
	if (req->op == BDEV_FLUSH) {
		/* In this order: stable never passes done. */
		uint64_t stable = __atomic_load_n(&bdev->writes_stable,
						  __ATOMIC_ACQUIRE);

		req->xferred = __atomic_load_n(&bdev->writes_done,
					       __ATOMIC_ACQUIRE);
		return req->xferred == stable;
	}
	if (bdev->read_only && bdev_op_changes(req->op))
		return -EROFS;
	if (req->op == BDEV_DISCARD && !bdev->can_discard)
		return -EOPNOTSUPP;
	if (req->op == BDEV_ALLOCATE && !bdev->can_allocate)
		return -EOPNOTSUPP;
	return req->len == 0;
}

static bool zero_needs_data(const struct bdev *bdev, const struct bdev_req *req)
{
	if (req->flags & BDEV_NO_UNMAP)
		return !bdev->can_zero_keep;
	return !bdev->can_zero && !bdev->can_zero_keep;
}

void bdev_submit(struct bdev *bdev, struct bdev_req *req)
{
	int ret;

	mutex_assert_none_held();
	check_req(bdev, req);
	req->bdev = bdev;
	req->loop = loop_current();
	req->ret = 0;
	req->xferred = 0;

	ret = answer_at_once(bdev, req);
	if (ret) {
		bdev_complete_later(req, MIN(ret, 0));
	} else if (req->op == BDEV_ZERO && zero_needs_data(bdev, req)) {
		if (req->flags & BDEV_FAST)
			bdev_complete_later(req, -EOPNOTSUPP);
		else
			bdev_zero_by_writing(req);
	} else {
		bdev->ops->submit(bdev, req);
	}
}

struct bdev_wait {
	struct coroutine	*co;
	bool			done;
};

static void wait_done(struct bdev_req *req)
{
	struct bdev_wait *wait =
		(struct bdev_wait *)(uintptr_t)req->backend[BDEV_WORD_WAIT];

	wait->done = true;
	coroutine_wake(wait->co);
}

int bdev_submit_wait(struct bdev *bdev, struct bdev_req *req)
{
	struct bdev_wait wait = { .co = coroutine_self() };

	assert(wait.co);
	req->done = wait_done;
	req->backend[BDEV_WORD_WAIT] = (uintptr_t)&wait;
	bdev_submit(bdev, req);
	while (!wait.done)
		coroutine_yield();
	return req->ret;
}

int bdev_pread(struct bdev *bdev, void *buf, uint64_t len, uint64_t pos)
{
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct bdev_req req = {
		.op = BDEV_READ, .pos = pos, .len = len,
		.iov = &iov, .nr_iov = 1,
	};

	return bdev_submit_wait(bdev, &req);
}

int bdev_pwrite(struct bdev *bdev, const void *buf, uint64_t len, uint64_t pos,
		unsigned int flags)
{
	struct iovec iov = { .iov_base = (void *)buf, .iov_len = len };
	struct bdev_req req = {
		.op = BDEV_WRITE, .flags = flags, .pos = pos, .len = len,
		.iov = &iov, .nr_iov = 1,
	};

	return bdev_submit_wait(bdev, &req);
}

int bdev_flush(struct bdev *bdev)
{
	return bdev_range_op(bdev, BDEV_FLUSH, 0, 0, 0);
}

int bdev_range_op(struct bdev *bdev, enum bdev_op op, uint64_t pos,
		  uint64_t len, unsigned int flags)
{
	struct bdev_req req = {
		.op = op, .flags = flags, .pos = pos, .len = len,
	};

	return bdev_submit_wait(bdev, &req);
}

void bdev_close(struct bdev **bdevp)
{
	struct bdev *bdev = *bdevp;

	if (!bdev)
		return;
	*bdevp = NULL;
	bdev->ops->close(bdev);
}
