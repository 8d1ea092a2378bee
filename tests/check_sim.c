/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_sim.c - the simulated disk: it stores what it is told, loses only what
 * it may, and does the same again for the same seed.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/base.h"
#include "bdev/sim.h"
#include "tests/corun.h"

#define SECTOR		512
#define DISK_SECTORS	256
#define DISK_SIZE	(DISK_SECTORS * SECTOR)

struct test {
	struct sim_params	params;
	const void		*image;
	struct bdev		*bdev;
	struct random		rnd;
	void			*arg;
};

static const struct sim_params default_params = {
	.seed = 1,
	.size = DISK_SIZE,
	.block_size = SECTOR,
	.latency_min_ns = 10 * NSEC_PER_USEC,
	.latency_max_ns = 500 * NSEC_PER_USEC,
	.write_cache = true,
};

static void run(struct test *test, void (*fn)(void *arg))
{
	uint64_t seed = test->params.seed;

	ck_assert_int_eq(sim_new(&test->params, test->image, &test->bdev), 0);
	random_init(&test->rnd, seed);
	ck_assert_int_eq(corun_virtual(seed, fn, test), 0);
	ck_assert_uint_eq(sim_in_flight(test->bdev), 0);
	bdev_close(&test->bdev);
	ck_assert_ptr_null(test->bdev);
}

/* A request that lives on the heap until it is done. */
struct io {
	struct bdev_req	req;
	struct test	*test;
	struct iovec	iov[3];
	unsigned int	*left;		/* counted down when done */
	struct coroutine *waiter;
	int		ret;		/* expected */
	uint8_t		data[];
};

static void io_done(struct bdev_req *req)
{
	struct io *io = container_of(req, struct io, req);

	ck_assert_int_eq(req->ret, io->ret);
	--*io->left;
	coroutine_wake(io->waiter);
	free(io);
}

static struct io *io_new(struct test *test, enum bdev_op op, uint64_t pos,
			 uint64_t len, unsigned int *left)
{
	/* Room to align the data. */
	struct io *io = calloc(1, sizeof(*io) + len + 4096);
	uint8_t *data;

	ck_assert_ptr_nonnull(io);
	data = (uint8_t *)round_up64((uintptr_t)io->data, 4096);
	io->test = test;
	io->left = left;
	io->waiter = coroutine_self();
	io->req = (struct bdev_req){
		.op = op, .pos = pos, .len = len, .done = io_done,
		.iov = io->iov, .nr_iov = 1,
	};
	io->iov[0] = (struct iovec){ data, len };
	++*left;
	return io;
}

static void wait_all(const unsigned int *left)
{
	while (*left)
		coroutine_yield();
}

/* --- Plain reading and writing ------------------------------------------- */

static void model_co(void *arg)
{
	struct test *test = arg;
	struct bdev *bdev = test->bdev;
	uint64_t size = bdev->size, block = bdev->block_size;
	uint8_t *model = calloc(1, size), *buf = aligned_alloc(4096, 65536);
	unsigned int i, j;

	if (test->image)
		memcpy(model, test->image, size);
	for (i = 0; i < 500; i++) {
		uint64_t blocks = (size + block - 1) / block;
		uint64_t pos = random_below(&test->rnd, blocks) * block;
		uint64_t len = MIN(size - pos, (1 + random_below(&test->rnd, 8)) *
				   block);

		switch (random_below(&test->rnd, 5)) {
		case 0:
			for (j = 0; j < len; j++)
				buf[j] = random_u64(&test->rnd);
			memcpy(model + pos, buf, len);
			ck_assert_int_eq(bdev_pwrite(bdev, buf, len, pos,
						     i & BDEV_FUA), 0);
			break;
		case 1:
			memset(model + pos, 0, len);
			ck_assert_int_eq(bdev_range_op(bdev, i & 1 ? BDEV_ZERO :
						       BDEV_DISCARD, pos, len,
						       i & BDEV_NO_UNMAP), 0);
			break;
		case 2:
			ck_assert_int_eq(bdev_flush(bdev), 0);
			break;
		default:
			ck_assert_int_eq(bdev_pread(bdev, buf, len, pos), 0);
			ck_assert_mem_eq(buf, model + pos, len);
			sim_peek(bdev, pos, buf, len);
			ck_assert_mem_eq(buf, model + pos, len);
		}
	}
	free(model);
	free(buf);
}

START_TEST(reads_return_what_was_written)
{
	static const uint64_t sizes[] = {
		DISK_SIZE, DISK_SIZE - 1, DISK_SIZE - 511, DISK_SIZE + 4095, 1,
	};
	uint8_t image[DISK_SIZE + 4096];
	unsigned int i;

	for (i = 0; i < sizeof(image); i++)
		image[i] = i * 7 / 3;
	for (i = 0; i < 2 * ARRAY_SIZE(sizes); i++) {
		struct test test = { .params = default_params };

		test.params.size = sizes[i / 2];
		test.params.seed = i;
		test.params.block_size = i % 2 ? 4096 : SECTOR;
		test.params.sparse = i % 3 == 0;
		test.params.write_cache = i % 4 != 3;
		test.params.short_one_in = i % 2 ? 2 : 0;
		test.image = i % 2 ? image : NULL;
		run(&test, model_co);
	}
}
END_TEST

static void shorts_co(void *arg)
{
	struct test *test = arg;
	unsigned int left = 0, i, j, seen_partial = 0;
	struct io *io;

	for (i = 0; i < 50; i++) {
		uint8_t now[8 * SECTOR];
		unsigned int written = 0;

		io = io_new(test, BDEV_WRITE, i * 8 * SECTOR % DISK_SIZE,
			    8 * SECTOR, &left);
		memset(io->iov[0].iov_base, i + 1, 8 * SECTOR);
		bdev_submit(test->bdev, &io->req);
		while (left) {
			coroutine_sleep_ns(10 * NSEC_PER_USEC);
			sim_peek(test->bdev, i * 8 * SECTOR % DISK_SIZE, now,
				 sizeof(now));
			for (j = written = 0; j < 8; j++)
				written += now[j * SECTOR] == i + 1;
			seen_partial += written && written < 8;
		}
		ck_assert_uint_eq(written, 8);
	}
	ck_assert_uint_gt(seen_partial, 0);
}

START_TEST(short_transfers_are_continued)
{
	struct test test = { .params = default_params };

	test.params.short_one_in = 3;
	run(&test, shorts_co);
}
END_TEST

static void space_co(void *arg)
{
	struct test *test = arg;
	struct bdev *bdev = test->bdev;
	uint8_t *buf = aligned_alloc(4096, 16384);

	memset(buf, 5, 16384);
	ck_assert(bdev->is_file && bdev->can_allocate);
	ck_assert_uint_eq(sim_allocated(bdev), 0);
	ck_assert_int_eq(bdev->ops->seek_data(bdev, 0), DISK_SIZE);
	ck_assert_int_eq(bdev->ops->seek_hole(bdev, 0), 0);

	ck_assert_int_eq(bdev_pwrite(bdev, buf, 512, 8192 + 512, 0), 0);
	ck_assert_uint_eq(sim_allocated(bdev), 4096);
	ck_assert_int_eq(bdev->ops->seek_data(bdev, 0), 8192);
	ck_assert_int_eq(bdev->ops->seek_data(bdev, 8192 + 600), 8192 + 600);
	ck_assert_int_eq(bdev->ops->seek_hole(bdev, 8192), 12288);

	/* Of the 12 KiB there are, 8 are left; it is all or nothing. */
	ck_assert_int_eq(bdev_pwrite(bdev, buf, 12288, 16384, 0), -ENOSPC);
	ck_assert_uint_eq(sim_allocated(bdev), 4096);
	sim_peek(bdev, 16384, buf + 4096, 4096);
	ck_assert_uint_eq(buf[4096], 0);
	ck_assert_int_eq(bdev_range_op(bdev, BDEV_ALLOCATE, 4096, 12288, 0), 0);
	ck_assert_int_eq(bdev_range_op(bdev, BDEV_ALLOCATE, 0, 512, 0), -ENOSPC);
	ck_assert_int_eq(bdev_range_op(bdev, BDEV_ZERO, 0, 512, BDEV_NO_UNMAP),
			 -ENOSPC);
	sim_peek(bdev, 8192 + 512, buf + 4096, 512);
	ck_assert_mem_eq(buf, buf + 4096, 512);

	/* Only whole blocks are given back. */
	ck_assert_int_eq(bdev_range_op(bdev, BDEV_DISCARD, 4096 + 512, 4096, 0), 0);
	ck_assert_uint_eq(sim_allocated(bdev), 12288);
	ck_assert_int_eq(bdev_range_op(bdev, BDEV_ZERO, 4096, 8192, 0), 0);
	ck_assert_uint_eq(sim_allocated(bdev), 4096);
	ck_assert_int_eq(bdev->ops->seek_data(bdev, 0), 12288);
	ck_assert_int_eq(bdev_pwrite(bdev, buf, 8192, 0, 0), 0);
	free(buf);
}

START_TEST(sparse_disk_counts_its_space)
{
	struct test test = { .params = default_params };

	test.params.sparse = true;
	test.params.space_max = 12288;
	run(&test, space_co);
}
END_TEST

/* --- Faults --------------------------------------------------------------- */

static void faults_co(void *arg)
{
	struct test *test = arg;
	struct bdev *bdev = test->bdev;
	uint8_t *buf = aligned_alloc(4096, 4096);
	int i;

	memset(buf, 1, 4096);
	sim_set_fault(bdev, BDEV_READ, 3, 2, ENXIO, false);
	for (i = 1; i <= 6; i++)
		ck_assert_int_eq(bdev_pread(bdev, buf, 512, 0),
				 i == 3 || i == 4 ? -ENXIO : 0);
	ck_assert_uint_eq(sim_faults_fired(bdev), 2);

	sim_set_fault(bdev, BDEV_WRITE, 1, UINT64_MAX, EIO, false);
	for (i = 0; i < 5; i++)
		ck_assert_int_eq(bdev_pwrite(bdev, buf, 512, 0, 0), -EIO);
	ck_assert_int_eq(bdev_pread(bdev, buf, 512, 0), 0);
	ck_assert_uint_eq(buf[0], 0);
	sim_set_fault_range(bdev, BDEV_WRITE, 1024, 512);
	ck_assert_int_eq(bdev_pwrite(bdev, buf, 1024, 0, 0), 0);
	ck_assert_int_eq(bdev_pwrite(bdev, buf, 1024, 512, 0), -EIO);
	ck_assert_int_eq(bdev_pwrite(bdev, buf, 1024, 1024, 0), -EIO);
	ck_assert_int_eq(bdev_pwrite(bdev, buf, 1024, 1536, 0), 0);
	ck_assert_uint_eq(sim_faults_fired(bdev), 9);
	sim_set_fault(bdev, BDEV_WRITE, 0, 0, 0, false);
	ck_assert_int_eq(bdev_pwrite(bdev, buf, 1024, 1024, 0), 0);

	sim_set_fault(bdev, BDEV_ZERO, 1, 1, EIO, false);
	ck_assert_int_eq(bdev_range_op(bdev, BDEV_ZERO, 0, 512, 0), -EIO);
	ck_assert_int_eq(bdev_range_op(bdev, BDEV_ZERO, 0, 512, 0), 0);
	free(buf);
}

START_TEST(faults_hit_the_nth_request_and_the_range)
{
	struct test test = { .params = default_params };

	run(&test, faults_co);
}
END_TEST

static void partial_co(void *arg)
{
	struct test *test = arg;
	uint8_t *buf = aligned_alloc(4096, 4096), now[4096];
	unsigned int i, j, some = 0;

	sim_set_fault(test->bdev, BDEV_WRITE, 1, UINT64_MAX, EIO, true);
	for (i = 1; i <= 40; i++) {
		memset(buf, i, 4096);
		ck_assert_int_eq(bdev_pwrite(test->bdev, buf, 4096, 0, 0), -EIO);
		sim_peek(test->bdev, 0, now, 4096);
		for (j = 0; j < 8 && now[j * SECTOR] == i; j++)
			ck_assert_mem_eq(now + j * SECTOR, buf, SECTOR);
		some += j > 0 && j < 8;
		for (; j < 8; j++)
			ck_assert_uint_ne(now[j * SECTOR], i);
	}
	ck_assert_uint_gt(some, 10);
	free(buf);
}

START_TEST(partial_fault_leaves_a_prefix)
{
	struct test test = { .params = default_params };

	run(&test, partial_co);
}
END_TEST

static void sticky_co(void *arg)
{
	struct test *test = arg;
	uint8_t *buf = aligned_alloc(4096, 4096);

	memset(buf, 1, 4096);
	ck_assert_int_eq(bdev_pwrite(test->bdev, buf, 4096, 0, 0), 0);
	sim_set_fault(test->bdev, BDEV_FLUSH, 1, 1, EIO, false);
	ck_assert_int_eq(bdev_flush(test->bdev), -EIO);
	ck_assert_int_eq(bdev_flush(test->bdev), -EIO);
	ck_assert_int_eq(bdev_pwrite(test->bdev, buf, 4096, 0, BDEV_FUA), -EIO);
	ck_assert_int_eq(bdev_pwrite(test->bdev, buf, 4096, 0, 0), 0);
	ck_assert_int_eq(bdev_pread(test->bdev, buf, 4096, 0), 0);
	ck_assert_uint_eq(sim_faults_fired(test->bdev), 1);
	free(buf);
}

START_TEST(failed_flush_is_sticky)
{
	struct test test = { .params = default_params };

	run(&test, sticky_co);
}
END_TEST

static void stall_co(void *arg)
{
	struct test *test = arg;
	unsigned int writes = 0, reads = 0, i;

	sim_set_stall(test->bdev, BDEV_WRITE, true);
	for (i = 0; i < 10; i++) {
		bdev_submit(test->bdev, &io_new(test, BDEV_WRITE, i * 512, 512,
						&writes)->req);
		bdev_submit(test->bdev, &io_new(test, BDEV_READ, i * 512, 512,
						&reads)->req);
	}
	wait_all(&reads);
	coroutine_sleep_ns(NSEC_PER_SEC);
	ck_assert_uint_eq(writes, 10);
	ck_assert_uint_eq(sim_in_flight(test->bdev), 10);
	sim_set_stall(test->bdev, BDEV_WRITE, false);
	wait_all(&writes);
}

START_TEST(stalled_requests_complete_when_let_go)
{
	struct test test = { .params = default_params };

	run(&test, stall_co);
}
END_TEST

/* --- Power cuts ------------------------------------------------------------ */

/*
 * Each sector written carries its own number and how manieth write of that
 * sector it is.  What must be found is tracked beside.  (An assertion of check
 * costs a system call, so the inner loops have none unless they fail.)
 */
struct stamp {
	uint32_t	sector;
	uint32_t	version;
};

struct history {
	uint32_t	submitted[DISK_SECTORS];	/* last version */
	uint32_t	completed[DISK_SECTORS];
	uint32_t	durable[DISK_SECTORS];		/* at least this one */
	bool		busy[DISK_SECTORS];
	/* What crash images showed. */
	unsigned int	lost, kept, images;
};

static struct stamp *stamp_at(void *image, uint64_t sector)
{
	return (struct stamp *)((char *)image + sector * SECTOR);
}

static void check_image(struct history *history, void *image)
{
	uint64_t i;

	for (i = 0; i < DISK_SECTORS; i++) {
		struct stamp *stamp = stamp_at(image, i);

		if (stamp->version < history->durable[i] ||
		    stamp->version > history->submitted[i] ||
		    stamp->sector != (stamp->version ? i : 0))
			ck_abort_msg("sector %u: is %u of sector %u, not %u to %u",
				     (unsigned int)i, stamp->version,
				     stamp->sector, history->durable[i],
				     history->submitted[i]);
		history->lost += stamp->version < history->completed[i];
		history->kept += stamp->version > history->durable[i];
	}
	history->images++;
}

struct crash_write {
	struct bdev_req	req;
	struct iovec	iov[2];
	struct history	*history;
	struct coroutine *waiter;
	unsigned int	*left;
	uint32_t	version[8];
	uint8_t		*data;
};

static void crash_write_done(struct bdev_req *req)
{
	struct crash_write *write = container_of(req, struct crash_write, req);
	struct history *history = write->history;
	uint64_t i, first = req->pos / SECTOR;

	for (i = 0; i < req->len / SECTOR; i++) {
		history->busy[first + i] = false;
		if (req->ret)
			continue;
		history->completed[first + i] = write->version[i];
		if (req->flags & BDEV_FUA)
			history->durable[first + i] = write->version[i];
	}
	--*write->left;
	coroutine_wake(write->waiter);
	free(write->data);
	free(write);
}

static bool any_busy(const struct history *history, uint64_t first, uint64_t nr)
{
	uint64_t i;

	for (i = first; i < first + nr; i++)
		if (history->busy[i])
			return true;
	return false;
}

static void crash_write(struct test *test, struct history *history,
			unsigned int *left)
{
	uint64_t nr = 1 + random_below(&test->rnd, 8);
	uint64_t first = random_below(&test->rnd, DISK_SECTORS - nr + 1), i;
	struct crash_write *write;

	if (any_busy(history, first, nr))
		return;
	write = calloc(1, sizeof(*write));
	write->history = history;
	write->waiter = coroutine_self();
	write->left = left;
	write->data = aligned_alloc(4096, 4096);
	memset(write->data, 0, 4096);
	for (i = 0; i < nr; i++) {
		history->busy[first + i] = true;
		write->version[i] = ++history->submitted[first + i];
		*stamp_at(write->data, i) = (struct stamp){
			.sector = first + i, .version = write->version[i],
		};
	}
	write->iov[0] = (struct iovec){ write->data, nr / 2 * SECTOR };
	write->iov[1] = (struct iovec){
		write->data + nr / 2 * SECTOR, (nr - nr / 2) * SECTOR,
	};
	write->req = (struct bdev_req){
		.op = BDEV_WRITE,
		.flags = random_one_in(&test->rnd, 8) ? BDEV_FUA : 0,
		.pos = first * SECTOR,
		.len = nr * SECTOR,
		.iov = write->iov,
		.nr_iov = 2,
		.done = crash_write_done,
	};
	++*left;
	bdev_submit(test->bdev, &write->req);
}

/* Waits: what had completed before is durable then. */
static void crash_flush(struct test *test, struct history *history)
{
	uint32_t covered[DISK_SECTORS];
	int i;

	memcpy(covered, history->completed, sizeof(covered));
	if (bdev_flush(test->bdev))
		return;
	for (i = 0; i < DISK_SECTORS; i++)
		history->durable[i] = MAX(history->durable[i], covered[i]);
}

/* Observer: what is only being submitted shows in no image yet. */
static void check_not_yet(void *arg, const struct bdev_req *req)
{
	struct test *test = arg;
	struct history *history = test->arg;
	static uint8_t image[DISK_SIZE];
	unsigned int i, new = 0, nr = req->len / SECTOR;
	uint64_t first = req->pos / SECTOR;

	if (req->op != BDEV_WRITE || !random_one_in(&test->rnd, 10))
		return;
	sim_crash_image(test->bdev, random_u64(&test->rnd), image);
	for (i = 0; i < nr; i++)
		new += stamp_at(image, first + i)->version ==
		       history->submitted[first + i];
	ck_assert_uint_eq(new, 0);
}

static void check_many_images(struct test *test, struct history *history)
{
	static uint8_t image[DISK_SIZE];
	unsigned int i;

	for (i = 0; i < 4; i++) {
		sim_crash_image(test->bdev, random_u64(&test->rnd), image);
		check_image(history, image);
	}
}

static void crash_co(void *arg)
{
	struct test *test = arg;
	struct history *history = test->arg;
	uint8_t *image = aligned_alloc(4096, DISK_SIZE);
	unsigned int left = 0, i;

	sim_set_observer(test->bdev, check_not_yet, test);
	if (test->params.seed % 2)
		sim_set_power_cut(test->bdev, 1 + random_below(&test->rnd, 300));
	for (i = 0; i < 300 && !sim_is_cut(test->bdev); i++) {
		crash_write(test, history, &left);
		if (random_one_in(&test->rnd, 4))
			coroutine_sleep_ns(100 * NSEC_PER_USEC);
		if (random_one_in(&test->rnd, 20))
			crash_flush(test, history);
		if (random_one_in(&test->rnd, 20) && !sim_is_cut(test->bdev))
			check_many_images(test, history);
	}
	sim_power_cut(test->bdev, random_u64(&test->rnd));
	sim_peek(test->bdev, 0, image, DISK_SIZE);
	check_image(history, image);
	wait_all(&left);
	ck_assert_int_eq(bdev_pread(test->bdev, image, 512, 0), -EIO);
	ck_assert_int_eq(bdev_pwrite(test->bdev, image, 512, 0, 0), -EIO);
	free(image);
}

START_TEST(power_cut_keeps_what_was_flushed_and_invents_nothing)
{
	uint64_t seed = test_seed("power_cut"), i;
	struct history total = { .images = 0 };

	for (i = 0; i < 100; i++) {
		struct history *history = calloc(1, sizeof(*history));
		struct test test = { .params = default_params, .arg = history };

		test.params.seed = seed + i;
		test.params.short_one_in = i % 3 == 0 ? 4 : 0;
		test.params.write_cache = i % 10 != 9;
		run(&test, crash_co);
		total.lost += history->lost;
		total.kept += history->kept;
		total.images += history->images;
		free(history);
	}
	ck_assert_uint_gt(total.images, 1000);
	ck_assert_uint_gt(total.lost, 1000);
	ck_assert_uint_gt(total.kept, 1000);
}
END_TEST

/* How a write of 8 sectors can look after a cut. */
static void torn_co(void *arg)
{
	struct test *test = arg;
	unsigned int *seen = test->arg, left = 0, i;
	static uint8_t image[DISK_SIZE];
	struct io *io;

	io = io_new(test, BDEV_WRITE, 0, 8 * SECTOR, &left);
	memset(io->iov[0].iov_base, 0xff, 8 * SECTOR);
	bdev_submit(test->bdev, &io->req);
	for (i = 0; i < 2000; i++) {
		unsigned int j, new = 0;

		if (i == 1000)
			wait_all(&left);
		sim_crash_image(test->bdev, random_u64(&test->rnd), image);
		for (j = 0; j < 8; j++)
			new += image[j * SECTOR] == 0xff;
		seen[new == 0 ? 0 : new == 8 ? 2 : 1]++;
		if (i == 999 || i == 1999) {
			for (j = 0; j < 3; j++) {
				ck_assert_uint_gt(seen[j], 50);
				seen[j] = 0;
			}
		}
	}
	ck_assert_int_eq(bdev_flush(test->bdev), 0);
	for (i = 0; i < 100; i++) {
		sim_crash_image(test->bdev, i, image);
		ck_assert_uint_eq(image[0], 0xff);
		ck_assert_uint_eq(image[8 * SECTOR - 1], 0xff);
	}
}

START_TEST(unflushed_writes_are_lost_kept_or_torn)
{
	unsigned int seen[3] = { 0 };
	struct test test = { .params = default_params, .arg = seen };

	run(&test, torn_co);
}
END_TEST

static void no_cache_co(void *arg)
{
	struct test *test = arg;
	uint8_t *buf = aligned_alloc(4096, 4096);
	static uint8_t image[DISK_SIZE];
	unsigned int i;

	memset(buf, 7, 4096);
	ck_assert_int_eq(bdev_pwrite(test->bdev, buf, 4096, 8192, 0), 0);
	for (i = 0; i < 200; i++) {
		sim_crash_image(test->bdev, i, image);
		ck_assert_mem_eq(image + 8192, buf, 4096);
	}
	ck_assert_int_eq(bdev_range_op(test->bdev, BDEV_DISCARD, 8192, 512, 0), 0);
	for (i = 0; i < 200; i++) {
		sim_crash_image(test->bdev, i, image);
		ck_assert_uint_eq(image[8192], 0);
	}
	free(buf);
}

START_TEST(without_a_write_cache_all_that_completed_is_durable)
{
	struct test test = { .params = default_params };

	test.params.write_cache = false;
	run(&test, no_cache_co);
}
END_TEST

static void many_versions_co(void *arg)
{
	struct test *test = arg;
	uint8_t *buf = aligned_alloc(4096, 4096);
	static uint8_t image[DISK_SIZE];
	unsigned int i, seen[256] = { 0 }, distinct = 0;

	for (i = 1; i <= 200; i++) {
		memset(buf, i, 512);
		ck_assert_int_eq(bdev_pwrite(test->bdev, buf, 512, 0, 0), 0);
	}
	for (i = 0; i < 500; i++) {
		sim_crash_image(test->bdev, i, image);
		if (!seen[image[0]]++)
			distinct++;
	}
	ck_assert_uint_gt(distinct, 4);
	ck_assert_uint_gt(seen[200], 0);
	sim_poke(test->bdev, 100, "bit rot", 7);
	for (i = 0; i < 20; i++) {
		sim_crash_image(test->bdev, i, image);
		ck_assert_mem_eq(image + 100, "bit rot", 7);
		ck_assert_uint_eq(image[99], 200);
	}
	free(buf);
}

START_TEST(any_of_many_versions_may_survive)
{
	struct test test = { .params = default_params };

	run(&test, many_versions_co);
}
END_TEST

static void stalled_cut_co(void *arg)
{
	struct test *test = arg;
	unsigned int left = 0, i;

	sim_set_stall(test->bdev, BDEV_WRITE, true);
	for (i = 0; i < 4; i++) {
		struct io *io = io_new(test, BDEV_WRITE, i * 512, 512, &left);

		io->ret = -EIO;
		bdev_submit(test->bdev, &io->req);
	}
	coroutine_sleep_ns(NSEC_PER_SEC);
	ck_assert_uint_eq(left, 4);
	sim_power_cut(test->bdev, 5);
	wait_all(&left);
}

START_TEST(stalled_requests_fail_when_the_power_is_cut)
{
	struct test test = { .params = default_params };

	run(&test, stalled_cut_co);
}
END_TEST

/* --- Determinism ------------------------------------------------------------ */

struct trace {
	uint64_t	hash;
	unsigned int	*left;
	struct coroutine *waiter;
};

static void trace_add(struct trace *trace, uint64_t value)
{
	trace->hash = hash64(trace->hash ^ value) + 1;
}

static void trace_submit(void *arg, const struct bdev_req *req)
{
	struct trace *trace = arg;

	trace_add(trace, clock_now_ns());
	trace_add(trace, req->op);
	trace_add(trace, req->pos);
}

static void trace_done(struct bdev_req *req)
{
	struct io *io = container_of(req, struct io, req);
	struct trace *trace = io->test->arg;

	trace_add(trace, clock_now_ns());
	trace_add(trace, req->op);
	trace_add(trace, req->pos);
	trace_add(trace, req->ret);
	--*io->left;
	coroutine_wake(io->waiter);
	free(io);
}

static void trace_co(void *arg)
{
	struct test *test = arg;
	unsigned int left = 0, i;
	static uint8_t image[DISK_SIZE];

	sim_set_observer(test->bdev, trace_submit, test->arg);
	sim_set_fault(test->bdev, BDEV_WRITE, 20, 3, EIO, true);
	sim_set_power_cut(test->bdev, 200);
	for (i = 0; i < 250; i++) {
		enum bdev_op op = random_below(&test->rnd, BDEV_ALLOCATE);
		uint64_t sector = random_below(&test->rnd, DISK_SECTORS - 8);
		struct io *io = io_new(test, op, sector * SECTOR,
				       4 * SECTOR, &left);

		memset(io->iov[0].iov_base, i, 4 * SECTOR);
		io->req.done = trace_done;
		bdev_submit(test->bdev, &io->req);
		if (i % 8 == 0)
			coroutine_sleep_ns(50 * NSEC_PER_USEC);
	}
	wait_all(&left);
	ck_assert(sim_is_cut(test->bdev));
	sim_peek(test->bdev, 0, image, DISK_SIZE);
	for (i = 0; i < DISK_SIZE; i++)
		trace_add(test->arg, image[i]);
}

static uint64_t trace_hash(uint64_t seed)
{
	struct trace trace = { .hash = 0 };
	struct test test = { .params = default_params, .arg = &trace };

	test.params.seed = seed;
	test.params.short_one_in = 5;
	run(&test, trace_co);
	return trace.hash;
}

START_TEST(same_seed_does_the_same_and_another_does_not)
{
	uint64_t seed = test_seed("determinism"), i;

	for (i = 0; i < 20; i++) {
		uint64_t hash = trace_hash(seed + i);

		ck_assert_uint_eq(hash, trace_hash(seed + i));
		ck_assert_uint_ne(hash, trace_hash(seed + i + 1));
	}
}
END_TEST

/* --- Real loops -------------------------------------------------------------- */

#define NR_THREADS	4

struct thread {
	pthread_t	thread;
	struct bdev	*bdev;
	unsigned int	index;
};

static void thread_co(void *arg)
{
	struct thread *thread = arg;
	uint64_t first = thread->index * DISK_SIZE / NR_THREADS, i;
	uint8_t *buf = aligned_alloc(4096, 4096);

	for (i = 0; i < 200; i++) {
		uint64_t pos = first + i * 4096 % (DISK_SIZE / NR_THREADS);

		memset(buf, i, 4096);
		ck_assert_int_eq(bdev_pwrite(thread->bdev, buf, 4096, pos,
					     i % 8 == 0 ? BDEV_FUA : 0), 0);
		memset(buf, 0, 4096);
		ck_assert_int_eq(bdev_pread(thread->bdev, buf, 4096, pos), 0);
		ck_assert_uint_eq(buf[4095], (uint8_t)i);
		if (i % 32 == 0)
			ck_assert_int_eq(bdev_flush(thread->bdev), 0);
	}
	free(buf);
}

static void *thread_main(void *arg)
{
	struct loop *loop;

	ck_assert_int_eq(loop_new(&loop), 0);
	ck_assert_int_eq(corun(loop, thread_co, arg), 0);
	loop_free(loop);
	return NULL;
}

START_TEST(several_real_loops_may_share_it)
{
	struct sim_params params = default_params;
	struct thread threads[NR_THREADS];
	struct bdev *bdev;
	unsigned int i;

	params.latency_max_ns = 20 * NSEC_PER_USEC;
	ck_assert_int_eq(sim_new(&params, NULL, &bdev), 0);
	for (i = 0; i < NR_THREADS; i++) {
		threads[i].bdev = bdev;
		threads[i].index = i;
		ck_assert_int_eq(pthread_create(&threads[i].thread, NULL,
						thread_main, &threads[i]), 0);
	}
	for (i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i].thread, NULL);
	ck_assert_uint_eq(bdev->stats.ops[BDEV_WRITE], NR_THREADS * 200);
	ck_assert_uint_eq(bdev->stats.ops[BDEV_READ], NR_THREADS * 200);
	bdev_close(&bdev);
}
END_TEST

static Suite *sim_suite(void)
{
	Suite *suite = suite_create("sim");
	TCase *tc = tcase_create("sim");

	tcase_add_test(tc, reads_return_what_was_written);
	tcase_add_test(tc, short_transfers_are_continued);
	tcase_add_test(tc, sparse_disk_counts_its_space);
	tcase_add_test(tc, faults_hit_the_nth_request_and_the_range);
	tcase_add_test(tc, partial_fault_leaves_a_prefix);
	tcase_add_test(tc, failed_flush_is_sticky);
	tcase_add_test(tc, stalled_requests_complete_when_let_go);
	tcase_add_test(tc, power_cut_keeps_what_was_flushed_and_invents_nothing);
	tcase_add_test(tc, unflushed_writes_are_lost_kept_or_torn);
	tcase_add_test(tc, without_a_write_cache_all_that_completed_is_durable);
	tcase_add_test(tc, any_of_many_versions_may_survive);
	tcase_add_test(tc, stalled_requests_fail_when_the_power_is_cut);
	tcase_add_test(tc, same_seed_does_the_same_and_another_does_not);
	tcase_add_test(tc, several_real_loops_may_share_it);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	SRunner *runner = srunner_create(sim_suite());
	int failed;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
