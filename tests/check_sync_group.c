/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_sync_group.c - which sync covers which FUA write.
 */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "bdev/bdev.h"
#include "bdev/sync_group.h"
#include "tests/corun.h"

#define NR_REQS		8

/* A device whose requests the test completes; it only counts. */
struct disk {
	struct bdev		bdev;
	struct bdev_req		req[NR_REQS];
	unsigned int		done[NR_REQS];
};

static struct disk disks[2];
static struct sync_groups groups;
static _Alignas(4096) char data[4096];
static const struct iovec iov = { data, sizeof(data) };

static void submit(struct bdev *bdev, struct bdev_req *req)
{
	(void)bdev;
	(void)req;
}

static const struct bdev_ops ops = { .submit = submit };

/* Nobody may look at a request once it is done. */
static void count_done(struct bdev_req *req)
{
	struct disk *disk = container_of(req->bdev, struct disk, bdev);

	disk->done[req - disk->req]++;
	memset(req->backend, 0xa5, sizeof(req->backend));
	memset(&req->link, 0xa5, sizeof(req->link));
}

/* Write all of them, as far as the device is concerned. */
static void disk_init(struct disk *disk)
{
	*disk = (struct disk){
		.bdev = {
			.ops = &ops, .name = "disk", .size = 1024 * 1024,
			.block_size = 512, .max_io = 1024 * 1024,
		},
	};
	for (unsigned int i = 0; i < NR_REQS; i++) {
		disk->req[i] = (struct bdev_req){
			.op = BDEV_WRITE, .flags = BDEV_FUA,
			.len = sizeof(data), .iov = &iov, .nr_iov = 1,
			.done = count_done,
		};
		bdev_submit(&disk->bdev, &disk->req[i]);
	}
}

static bool join(struct disk *disk, unsigned int i)
{
	return sync_groups_join(&groups, &disk->req[i]);
}

/* Of @disk exactly those in @mask are done, each once. */
static void check_done(const struct disk *disk, unsigned int mask)
{
	for (unsigned int i = 0; i < NR_REQS; i++)
		ck_assert_uint_eq(disk->done[i], (mask >> i) & 1);
}

static void one_alone_co(void *arg)
{
	struct disk *disk = arg;

	ck_assert(join(disk, 0));
	sync_group_issued(&disk->req[0]);
	check_done(disk, 0);
	ck_assert_ptr_null(sync_groups_done(&disk->req[0], 0));
	check_done(disk, 1);
	ck_assert_int_eq(disk->req[0].ret, 0);
	ck_assert(LIST_EMPTY(&groups));
	/* The next one finds no group. */
	ck_assert(join(disk, 1));
	ck_assert_ptr_null(sync_groups_done(&disk->req[1], 0));
}

static void late_co(void *arg)
{
	struct disk *disk = arg;

	ck_assert(join(disk, 0));
	ck_assert(!join(disk, 1));
	ck_assert(!join(disk, 2));
	sync_group_issued(&disk->req[0]);
	ck_assert(!join(disk, 3));
	ck_assert(!join(disk, 4));
	ck_assert_ptr_eq(sync_groups_done(&disk->req[0], 0), &disk->req[3]);
	check_done(disk, 0x07);
	/* Those that were late gather until their own sync begins. */
	ck_assert(!join(disk, 5));
	sync_group_issued(&disk->req[3]);
	ck_assert(!join(disk, 6));
	ck_assert_ptr_eq(sync_groups_done(&disk->req[3], 0), &disk->req[6]);
	check_done(disk, 0x3f);
	sync_group_issued(&disk->req[6]);
	ck_assert_ptr_null(sync_groups_done(&disk->req[6], 0));
	check_done(disk, 0x7f);
	ck_assert(LIST_EMPTY(&groups));
}

static void failed_co(void *arg)
{
	struct disk *disk = arg;

	ck_assert(join(disk, 0));
	ck_assert(!join(disk, 1));
	sync_group_issued(&disk->req[0]);
	ck_assert(!join(disk, 2));
	ck_assert_ptr_eq(sync_groups_done(&disk->req[0], -ENOSPC),
			 &disk->req[2]);
	check_done(disk, 0x03);
	ck_assert_int_eq(disk->req[0].ret, -ENOSPC);
	ck_assert_int_eq(disk->req[1].ret, -ENOSPC);
	/* That one sync failed says nothing of the next. */
	sync_group_issued(&disk->req[2]);
	ck_assert_ptr_null(sync_groups_done(&disk->req[2], 0));
	check_done(disk, 0x07);
	ck_assert_int_eq(disk->req[2].ret, 0);
}

static void two_disks_co(void *arg)
{
	struct disk *one = arg, *two = &disks[1];

	ck_assert(join(one, 0));
	ck_assert(join(two, 0));
	sync_group_issued(&one->req[0]);
	ck_assert(!join(one, 1));
	ck_assert(!join(two, 1));
	ck_assert_ptr_eq(sync_groups_done(&one->req[0], 0), &one->req[1]);
	check_done(one, 0x01);
	check_done(two, 0);
	sync_group_issued(&two->req[0]);
	ck_assert_ptr_null(sync_groups_done(&two->req[0], -EIO));
	check_done(two, 0x03);
	sync_group_issued(&one->req[1]);
	ck_assert_ptr_null(sync_groups_done(&one->req[1], 0));
	check_done(one, 0x03);
	ck_assert_int_eq(one->req[1].ret, 0);
	ck_assert(LIST_EMPTY(&groups));
}

/* Requests are submitted by a loop, and completed on it. */
struct run {
	void	(*fn)(void *arg);
};

static void run_co(void *arg)
{
	struct run *run = arg;

	LIST_INIT(&groups);
	disk_init(&disks[0]);
	disk_init(&disks[1]);
	run->fn(&disks[0]);
}

static void on_disks(void (*fn)(void *arg))
{
	struct run run = { fn };

	ck_assert_int_eq(corun_virtual(1, run_co, &run), 0);
}

START_TEST(one_alone_is_synced_by_itself)
{
	on_disks(one_alone_co);
}
END_TEST

START_TEST(who_comes_while_a_sync_runs_waits_for_the_next)
{
	on_disks(late_co);
}
END_TEST

START_TEST(a_failed_sync_fails_those_that_it_covers)
{
	on_disks(failed_co);
}
END_TEST

START_TEST(each_disk_has_groups_of_its_own)
{
	on_disks(two_disks_co);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sync_group");
	TCase *tc = tcase_create("sync_group");
	SRunner *runner;
	int nr_failed;

	tcase_add_test(tc, one_alone_is_synced_by_itself);
	tcase_add_test(tc, who_comes_while_a_sync_runs_waits_for_the_next);
	tcase_add_test(tc, a_failed_sync_fails_those_that_it_covers);
	tcase_add_test(tc, each_disk_has_groups_of_its_own);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	nr_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return nr_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
