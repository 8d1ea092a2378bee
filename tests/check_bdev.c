/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_bdev.c - what bdev.c promises for every device, on one that completes
 * requests when and how the test says.
 */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "bdev/bdev.h"
#include "tests/corun.h"

#define DISK_SIZE	(1024 * 1024)

struct fake {
	struct bdev		bdev;
	TAILQ_HEAD(, bdev_req)	held;
	unsigned int		reached[BDEV_NR_OPS];	/* the device */
};

static void fake_submit(struct bdev *bdev, struct bdev_req *req)
{
	struct fake *fake = container_of(bdev, struct fake, bdev);

	fake->reached[req->op]++;
	TAILQ_INSERT_TAIL(&fake->held, req, link);
}

static void fake_close(struct bdev *bdev)
{
	struct fake *fake = container_of(bdev, struct fake, bdev);

	ck_assert(TAILQ_EMPTY(&fake->held));
}

static const struct bdev_ops fake_ops = {
	.submit	= fake_submit,
	.close	= fake_close,
};

static void fake_init(struct fake *fake)
{
	*fake = (struct fake){
		.bdev = {
			.ops = &fake_ops,
			.name = "fake",
			.size = DISK_SIZE,
			.block_size = 512,
			.max_io = DISK_SIZE,
			.can_discard = true,
			.can_zero = true,
			.can_zero_keep = true,
			.can_allocate = true,
		},
	};
	TAILQ_INIT(&fake->held);
}

/* Complete the oldest request that the device holds. */
static void fake_complete(struct fake *fake, int ret)
{
	struct bdev_req *req = TAILQ_FIRST(&fake->held);

	ck_assert_ptr_nonnull(req);
	TAILQ_REMOVE(&fake->held, req, link);
	bdev_complete(req, ret);
}

/* A request of the test, which counts how often it was done. */
struct probe {
	struct bdev_req	req;
	struct iovec	iov;
	unsigned int	done;
};

static _Alignas(4096) char data[DISK_SIZE];

static void probe_done(struct bdev_req *req)
{
	container_of(req, struct probe, req)->done++;
}

static void probe_submit(struct fake *fake, struct probe *probe,
			 enum bdev_op op, uint64_t len, unsigned int flags)
{
	memset(probe, 0, sizeof(*probe));
	probe->iov = (struct iovec){ data, len };
	probe->req.op = op;
	probe->req.flags = flags;
	probe->req.len = len;
	probe->req.iov = &probe->iov;
	probe->req.nr_iov = 1;
	probe->req.done = probe_done;
	bdev_submit(&fake->bdev, &probe->req);
	ck_assert_uint_eq(probe->done, 0);
}

static int probe_wait(struct probe *probe)
{
	unsigned int i;

	for (i = 0; i < 10 && !probe->done; i++)
		coroutine_relax();
	ck_assert_uint_eq(probe->done, 1);
	return probe->req.ret;
}

/* Submit one that the device is to see, and complete it with @ret. */
static int through(struct fake *fake, enum bdev_op op, unsigned int flags,
		   int ret)
{
	unsigned int before = fake->reached[op];
	struct probe probe;

	probe_submit(fake, &probe, op, op == BDEV_FLUSH ? 0 : 4096, flags);
	ck_assert_uint_eq(fake->reached[op], before + 1);
	fake_complete(fake, ret);
	return probe_wait(&probe);
}

/* Submit one that is answered without the device. */
static int without(struct fake *fake, enum bdev_op op, uint64_t len,
		   unsigned int flags)
{
	unsigned int before = fake->reached[op];
	struct probe probe;

	probe_submit(fake, &probe, op, len, flags);
	ck_assert_uint_eq(fake->reached[op], before);
	return probe_wait(&probe);
}

static void in_coroutine(void (*fn)(void *arg))
{
	struct fake fake;

	fake_init(&fake);
	ck_assert_int_eq(corun_virtual(1, fn, &fake), 0);
	fake.bdev.ops->close(&fake.bdev);
}

static void flush_skip_co(void *arg)
{
	struct fake *fake = arg;

	ck_assert_int_eq(without(fake, BDEV_FLUSH, 0, 0), 0);
	ck_assert_int_eq(through(fake, BDEV_WRITE, 0, 0), 0);
	ck_assert_int_eq(through(fake, BDEV_FLUSH, 0, 0), 0);
	ck_assert_int_eq(without(fake, BDEV_FLUSH, 0, 0), 0);
	ck_assert_int_eq(through(fake, BDEV_READ, 0, 0), 0);
	ck_assert_int_eq(without(fake, BDEV_FLUSH, 0, 0), 0);
	ck_assert_int_eq(through(fake, BDEV_DISCARD, 0, 0), 0);
	ck_assert_int_eq(through(fake, BDEV_FLUSH, 0, 0), 0);
	ck_assert_int_eq(through(fake, BDEV_ZERO, 0, 0), 0);
	ck_assert_int_eq(through(fake, BDEV_FLUSH, 0, 0), 0);
	ck_assert_int_eq(through(fake, BDEV_ALLOCATE, 0, 0), 0);
	ck_assert_int_eq(through(fake, BDEV_FLUSH, 0, 0), 0);
	ck_assert_uint_eq(fake->bdev.stats.ops[BDEV_FLUSH], 7);
}

START_TEST(flush_reaches_the_device_only_if_something_changed)
{
	in_coroutine(flush_skip_co);
}
END_TEST

static void flush_fua_co(void *arg)
{
	struct fake *fake = arg;

	ck_assert_int_eq(through(fake, BDEV_WRITE, BDEV_FUA, 0), 0);
	ck_assert_int_eq(without(fake, BDEV_FLUSH, 0, 0), 0);
	ck_assert_int_eq(through(fake, BDEV_WRITE, 0, 0), 0);
	ck_assert_int_eq(through(fake, BDEV_WRITE, BDEV_FUA, 0), 0);
	ck_assert_int_eq(through(fake, BDEV_FLUSH, 0, 0), 0);
	ck_assert_uint_eq(fake->bdev.stats.fua_writes, 2);
	ck_assert_uint_eq(fake->bdev.stats.bytes[BDEV_WRITE], 3 * 4096);
}

START_TEST(fua_write_needs_no_flush_and_hides_no_plain_write)
{
	in_coroutine(flush_fua_co);
}
END_TEST

static void flush_snapshot_co(void *arg)
{
	struct fake *fake = arg;
	struct probe write, flush, fua;

	ck_assert_int_eq(through(fake, BDEV_WRITE, 0, 0), 0);
	probe_submit(fake, &flush, BDEV_FLUSH, 0, 0);
	probe_submit(fake, &write, BDEV_WRITE, 4096, 0);
	probe_submit(fake, &fua, BDEV_WRITE, 4096, BDEV_FUA);
	/* The write completes while the flush is under way. */
	TAILQ_REMOVE(&fake->held, &flush.req, link);
	TAILQ_INSERT_TAIL(&fake->held, &flush.req, link);
	fake_complete(fake, 0);
	fake_complete(fake, 0);
	fake_complete(fake, 0);
	ck_assert_int_eq(probe_wait(&write), 0);
	ck_assert_int_eq(probe_wait(&fua), 0);
	ck_assert_int_eq(probe_wait(&flush), 0);
	ck_assert_int_eq(through(fake, BDEV_FLUSH, 0, 0), 0);
	ck_assert_int_eq(without(fake, BDEV_FLUSH, 0, 0), 0);
}

START_TEST(flush_covers_only_what_completed_before_its_submit)
{
	in_coroutine(flush_snapshot_co);
}
END_TEST

static void flush_order_co(void *arg)
{
	struct fake *fake = arg;
	struct probe early, late;

	ck_assert_int_eq(through(fake, BDEV_WRITE, 0, 0), 0);
	probe_submit(fake, &early, BDEV_FLUSH, 0, 0);
	ck_assert_ptr_eq(TAILQ_FIRST(&fake->held), &early.req);
	TAILQ_REMOVE(&fake->held, &early.req, link);
	ck_assert_int_eq(through(fake, BDEV_WRITE, 0, 0), 0);
	probe_submit(fake, &late, BDEV_FLUSH, 0, 0);
	fake_complete(fake, 0);
	TAILQ_INSERT_TAIL(&fake->held, &early.req, link);
	fake_complete(fake, 0);
	ck_assert_int_eq(probe_wait(&late), 0);
	ck_assert_int_eq(probe_wait(&early), 0);
	ck_assert_int_eq(without(fake, BDEV_FLUSH, 0, 0), 0);
}

START_TEST(flushes_may_end_in_another_order_than_they_began)
{
	in_coroutine(flush_order_co);
}
END_TEST

static void sticky_flush_co(void *arg)
{
	struct fake *fake = arg;
	struct probe second;

	ck_assert_int_eq(through(fake, BDEV_WRITE, 0, 0), 0);
	probe_submit(fake, &second, BDEV_FLUSH, 0, 0);
	TAILQ_REMOVE(&fake->held, &second.req, link);
	ck_assert_int_eq(through(fake, BDEV_FLUSH, 0, -ENOSPC), -ENOSPC);
	ck_assert(fake->bdev.flush_failed);
	/* One that the device meanwhile thinks it has done. */
	TAILQ_INSERT_TAIL(&fake->held, &second.req, link);
	fake_complete(fake, 0);
	ck_assert_int_eq(probe_wait(&second), -EIO);

	ck_assert_int_eq(without(fake, BDEV_FLUSH, 0, 0), -EIO);
	ck_assert_int_eq(without(fake, BDEV_WRITE, 4096, BDEV_FUA), -EIO);
	ck_assert_int_eq(through(fake, BDEV_WRITE, 0, 0), 0);
	ck_assert_int_eq(through(fake, BDEV_READ, 0, 0), 0);
	ck_assert_int_eq(without(fake, BDEV_FLUSH, 0, 0), -EIO);
}

START_TEST(failed_flush_makes_all_later_flushes_and_fua_fail)
{
	in_coroutine(sticky_flush_co);
}
END_TEST

static void sticky_fua_co(void *arg)
{
	struct fake *fake = arg;

	ck_assert_int_eq(through(fake, BDEV_WRITE, BDEV_FUA, -ENOSPC), -ENOSPC);
	ck_assert(!fake->bdev.flush_failed);
	/* It failed, but who knows what it wrote. */
	ck_assert_int_eq(through(fake, BDEV_FLUSH, 0, 0), 0);
	ck_assert_int_eq(through(fake, BDEV_WRITE, 0, -EIO), -EIO);
	ck_assert(!fake->bdev.flush_failed);
	ck_assert_int_eq(through(fake, BDEV_FLUSH, 0, 0), 0);
	ck_assert_int_eq(through(fake, BDEV_WRITE, BDEV_FUA, -EIO), -EIO);
	ck_assert(fake->bdev.flush_failed);
	ck_assert_int_eq(without(fake, BDEV_FLUSH, 0, 0), -EIO);
	ck_assert_uint_eq(fake->bdev.stats.errors, 4);
}

START_TEST(fua_write_error_is_sticky_unless_nothing_was_begun)
{
	in_coroutine(sticky_fua_co);
}
END_TEST

static void page_cache_co(void *arg)
{
	struct fake *fake = arg;

	fake->bdev.block_size = 1;
	ck_assert_int_eq(through(fake, BDEV_WRITE, BDEV_FUA, -ENOSPC), -ENOSPC);
	ck_assert_int_eq(without(fake, BDEV_FLUSH, 0, 0), -EIO);
}

START_TEST(no_space_for_a_fua_write_is_sticky_behind_the_page_cache)
{
	in_coroutine(page_cache_co);
}
END_TEST

static void refuse_co(void *arg)
{
	struct fake *fake = arg;
	struct bdev *bdev = &fake->bdev;

	ck_assert_int_eq(without(fake, BDEV_READ, 0, 0), 0);
	ck_assert_int_eq(without(fake, BDEV_WRITE, 0, 0), 0);
	bdev->can_discard = false;
	bdev->can_allocate = false;
	ck_assert_int_eq(without(fake, BDEV_DISCARD, 512, 0), -EOPNOTSUPP);
	ck_assert_int_eq(without(fake, BDEV_ALLOCATE, 512, 0), -EOPNOTSUPP);
	bdev->can_zero_keep = false;
	ck_assert_int_eq(without(fake, BDEV_ZERO, 512,
				 BDEV_NO_UNMAP | BDEV_FAST), -EOPNOTSUPP);
	ck_assert_int_eq(through(fake, BDEV_ZERO, BDEV_FAST, 0), 0);
	bdev->can_zero = false;
	ck_assert_int_eq(without(fake, BDEV_ZERO, 512, BDEV_FAST), -EOPNOTSUPP);
	bdev->can_zero_keep = true;
	ck_assert_int_eq(through(fake, BDEV_ZERO, BDEV_FAST, 0), 0);
	bdev->read_only = true;
	ck_assert_int_eq(without(fake, BDEV_WRITE, 512, 0), -EROFS);
	ck_assert_int_eq(without(fake, BDEV_ZERO, 512, 0), -EROFS);
	ck_assert_int_eq(without(fake, BDEV_DISCARD, 512, 0), -EROFS);
}

START_TEST(what_a_device_cannot_do_is_refused_later_not_at_once)
{
	in_coroutine(refuse_co);
}
END_TEST

/* The device takes no ZERO: it gets zeroes in order, without a gap. */
static void zero_data_co(void *arg)
{
	struct fake *fake = arg;
	const uint64_t len = DISK_SIZE - 512;
	struct probe probe;
	uint64_t pos = 0;

	fake->bdev.can_zero = false;
	fake->bdev.can_zero_keep = false;
	fake->bdev.max_io = 200 * 1024;
	probe_submit(fake, &probe, BDEV_ZERO, len, 0);
	while (!probe.done) {
		struct bdev_req *req = TAILQ_FIRST(&fake->held);
		unsigned int i;

		ck_assert_int_eq(req->op, BDEV_WRITE);
		ck_assert_uint_eq(req->pos, pos);
		ck_assert_uint_le(req->len, fake->bdev.max_io);
		for (i = 0; i < req->nr_iov; i++)
			ck_assert_int_eq(memcmp(req->iov[i].iov_base, data,
						req->iov[i].iov_len), 0);
		pos += req->len;
		fake_complete(fake, 0);
	}
	ck_assert_uint_eq(pos, len);
	ck_assert_int_eq(probe.req.ret, 0);
	ck_assert_uint_eq(fake->reached[BDEV_ZERO], 0);

	probe_submit(fake, &probe, BDEV_ZERO, len, BDEV_NO_UNMAP);
	fake_complete(fake, 0);
	fake_complete(fake, -ENOSPC);
	ck_assert_int_eq(probe_wait(&probe), -ENOSPC);
	ck_assert_int_eq(through(fake, BDEV_FLUSH, 0, 0), 0);
}

START_TEST(zero_is_written_as_data_where_it_must_be)
{
	in_coroutine(zero_data_co);
}
END_TEST

static Suite *bdev_suite(void)
{
	Suite *suite = suite_create("bdev");
	TCase *tc = tcase_create("bdev");

	tcase_add_test(tc, flush_reaches_the_device_only_if_something_changed);
	tcase_add_test(tc, fua_write_needs_no_flush_and_hides_no_plain_write);
	tcase_add_test(tc, flush_covers_only_what_completed_before_its_submit);
	tcase_add_test(tc, flushes_may_end_in_another_order_than_they_began);
	tcase_add_test(tc, failed_flush_makes_all_later_flushes_and_fua_fail);
	tcase_add_test(tc, fua_write_error_is_sticky_unless_nothing_was_begun);
	tcase_add_test(tc, no_space_for_a_fua_write_is_sticky_behind_the_page_cache);
	tcase_add_test(tc, what_a_device_cannot_do_is_refused_later_not_at_once);
	tcase_add_test(tc, zero_is_written_as_data_where_it_must_be);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	SRunner *runner = srunner_create(bdev_suite());
	int failed;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
