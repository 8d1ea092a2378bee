/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_bdev_file.c - files and block devices, by io_uring and by threads.
 *
 * Files are made in $TMPDIR, or else in the current directory, since direct
 * I/O is what matters and /tmp is often in memory.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/loop.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "bdev/bdev.h"
#include "bdev/file.h"
#include "tests/corun.h"

/* The ways to serve a file; loop tests run over them. */
static const unsigned int engines[] = {
	0,
	BDEV_OPEN_THREADS,
	BDEV_OPEN_BUFFERED,
	BDEV_OPEN_BUFFERED | BDEV_OPEN_THREADS,
};
#define NR_ENGINES	((int)ARRAY_SIZE(engines))

static char dir[PATH_MAX - 64];
static char path[PATH_MAX];
static char msg[256];

static void set_up(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, sizeof(dir), "%s/check_bdev_file.XXXXXX", tmp ? tmp : ".");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/disk.img", dir);
}

static void tear_down(void)
{
	unlink(path);
	rmdir(dir);
}

static void make_file(uint64_t size)
{
	int fd = open(path, O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, size), 0);
	close(fd);
}

static struct bdev *open_bdev(unsigned int flags)
{
	struct bdev *bdev = NULL;
	int ret = bdev_open_file(path, flags, &bdev, msg, sizeof(msg));

	if (ret)
		ck_abort_msg("open: %d, %s", ret, msg);
	return bdev;
}

/* Run @fn(@arg) in a coroutine of a real loop that can do I/O. */
static void on_loop(void (*fn)(void *arg), void *arg)
{
	struct loop *loop;

	ck_assert_int_eq(loop_new(&loop), 0);
	loop_enter(loop);
	ck_assert_int_eq(bdev_loop_init(loop), 0);
	ck_assert_int_eq(corun(loop, fn, arg), 0);
	bdev_loop_fini(loop);
	loop_enter(NULL);
	loop_free(loop);
}

/* --- All ops against a model ----------------------------------------------- */

#define BUF_SIZE	(256 * 1024)

struct model {
	struct bdev	*bdev;
	struct random	rnd;
	uint8_t		*bytes;
	uint8_t		*buf;		/* BUF_SIZE, aligned */
	unsigned int	nr_ops;
};

/* A range that bdev.h allows. */
static void draw_range(struct model *model, uint64_t *posp, uint64_t *lenp)
{
	uint64_t unit = model->bdev->block_size, size = model->bdev->size;
	uint64_t pos, len;

	pos = random_below(&model->rnd, (size + unit - 1) / unit) * unit;
	len = unit * (1 + random_below(&model->rnd,
				       random_one_in(&model->rnd, 2) ? 8 :
				       BUF_SIZE / 4 / unit));
	/* The end is where it is difficult. */
	if (random_one_in(&model->rnd, 4))
		len = size;
	len = MIN(len, size - pos);
	*posp = pos;
	*lenp = MIN(len, (uint64_t)BUF_SIZE);
	if (*posp + *lenp < size)
		*lenp = round_down64(*lenp, unit);
}

/* Cut the buffer into pieces at random. */
static unsigned int draw_iov(struct model *model, struct iovec *iov,
			     uint64_t len)
{
	uint64_t unit = model->bdev->block_size, at = 0;
	unsigned int n = 0;

	while (at < len) {
		uint64_t part = len;

		if (n < 7 && random_below(&model->rnd, 3))
			part = unit * random_below(&model->rnd, 9);
		iov[n].iov_base = model->buf + at;
		iov[n].iov_len = MIN(part, len - at);
		at += iov[n++].iov_len;
	}
	return n;
}

static void model_rw(struct model *model, bool write, uint64_t pos,
		     uint64_t len)
{
	struct iovec iov[8];
	struct bdev_req req = {
		.op = write ? BDEV_WRITE : BDEV_READ,
		.pos = pos,
		.len = len,
		.iov = iov,
	};
	uint64_t i;

	req.nr_iov = draw_iov(model, iov, len);
	for (i = 0; i < len; i++)
		model->buf[i] = write ? random_u64(&model->rnd) : 0xee;
	if (write && random_one_in(&model->rnd, 4))
		req.flags = BDEV_FUA;
	ck_assert_int_eq(bdev_submit_wait(model->bdev, &req), 0);
	ck_assert_uint_eq(req.xferred, len);
	if (write)
		memcpy(model->bytes + pos, model->buf, len);
	else
		ck_assert_mem_eq(model->buf, model->bytes + pos, len);
}

static void model_op(struct model *model)
{
	static const enum bdev_op ops[] = {
		BDEV_READ, BDEV_READ, BDEV_READ, BDEV_WRITE, BDEV_WRITE,
		BDEV_WRITE, BDEV_FLUSH, BDEV_DISCARD, BDEV_ZERO, BDEV_ALLOCATE,
	};
	enum bdev_op op = ops[random_below(&model->rnd, ARRAY_SIZE(ops))];
	unsigned int flags = 0;
	uint64_t pos, len;
	int ret;

	draw_range(model, &pos, &len);
	if (op == BDEV_READ || op == BDEV_WRITE) {
		model_rw(model, op == BDEV_WRITE, pos, len);
		return;
	}
	if (op == BDEV_ZERO)
		flags = random_below(&model->rnd, 4) * BDEV_NO_UNMAP;
	ret = bdev_range_op(model->bdev, op, pos, len, flags);
	if (ret == -EOPNOTSUPP) {
		ck_assert(op == BDEV_DISCARD || op == BDEV_ALLOCATE ||
			  (flags & BDEV_FAST));
		return;
	}
	ck_assert_int_eq(ret, 0);
	if (op == BDEV_DISCARD || op == BDEV_ZERO)
		memset(model->bytes + pos, 0, len);
}

static void model_co(void *arg)
{
	struct model *model = arg;
	unsigned int i;

	/* Unless it must be fast, zeroing is refused nowhere. */
	ck_assert_int_eq(bdev_range_op(model->bdev, BDEV_ZERO, 0,
				       MIN(model->bdev->size, UINT64_C(4096)),
				       0), 0);
	for (i = 0; i < model->nr_ops; i++)
		model_op(model);
	ck_assert_int_eq(bdev_flush(model->bdev), 0);
	ck_assert_uint_eq(model->bdev->writes_done,
			  model->bdev->writes_stable);
}

static void run_model(struct model *model, struct bdev *bdev, uint64_t seed,
		      uint8_t *buf)
{
	*model = (struct model){ .bdev = bdev, .nr_ops = 60, .buf = buf };
	model->bytes = calloc(1, bdev->size + 1);
	random_init(&model->rnd, seed);
	on_loop(model_co, model);
}

/* What others find in the file is what was written, and no more. */
static void check_file(const struct model *model, uint64_t size)
{
	uint8_t *bytes = malloc(size + 1);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	ck_assert_int_eq(pread(fd, bytes, size + 1, 0), size);
	ck_assert_mem_eq(bytes, model->bytes, size);
	close(fd);
	free(bytes);
}

START_TEST(all_ops_work_at_any_size)
{
	static const unsigned int tails[] = {
		0, 1, 511, 512, 513, 1024 + 100, 4095,
	};
	uint64_t seed = test_seed("all_ops") + _i;
	uint8_t *buf = aligned_alloc(4096, 2 * BUF_SIZE);
	unsigned int i;

	for (i = 0; i < 2 * ARRAY_SIZE(tails); i++) {
		uint64_t size = i % 2 * 40 * 4096 + tails[i / 2];
		struct model model;
		struct bdev *bdev;

		if (size == 0)
			continue;
		make_file(size);
		bdev = open_bdev(engines[_i]);
		ck_assert_uint_eq(bdev->size, size);
		ck_assert(bdev->is_file && !bdev->read_only);
		if (engines[_i] & BDEV_OPEN_BUFFERED)
			ck_assert_uint_eq(bdev->block_size, 1);
		run_model(&model, bdev, seed + i, buf);
		bdev_close(&bdev);
		check_file(&model, size);
		free(model.bytes);
	}
	free(buf);
}
END_TEST

static void empty_co(void *arg)
{
	struct bdev *bdev = arg;

	ck_assert_int_eq(bdev_pread(bdev, msg, 0, 0), 0);
	ck_assert_int_eq(bdev_flush(bdev), 0);
}

START_TEST(empty_file_can_be_opened)
{
	struct bdev *bdev;

	make_file(0);
	bdev = open_bdev(0);
	ck_assert_uint_eq(bdev->size, 0);
	ck_assert_int_eq(bdev->ops->seek_data(bdev, 0), 0);
	on_loop(empty_co, bdev);
	bdev_close(&bdev);
}
END_TEST

/* --- Many requests ----------------------------------------------------------- */

#define NR_MANY		3000

struct many {
	struct bdev		*bdev;
	struct bdev_req		req[NR_MANY];
	struct iovec		iov[NR_MANY];
	unsigned int		write_flags;
	unsigned int		left;
	bool			submitting;
	struct coroutine	*waiter;
};

static struct many many;

static void many_done(struct bdev_req *req)
{
	ck_assert(!many.submitting);
	ck_assert_int_eq(req->ret, 0);
	many.left--;
	coroutine_wake(many.waiter);
}

static void many_run(enum bdev_op op, unsigned int flags, uint8_t *buf)
{
	unsigned int i;

	many.left = NR_MANY;
	many.submitting = true;
	for (i = 0; i < NR_MANY; i++) {
		many.iov[i] = (struct iovec){ buf + i * 4096, 4096 };
		many.req[i] = (struct bdev_req){
			.op = op, .flags = flags, .pos = i * UINT64_C(4096),
			.len = 4096, .iov = &many.iov[i], .nr_iov = 1,
			.done = many_done,
		};
		bdev_submit(many.bdev, &many.req[i]);
	}
	many.submitting = false;
	while (many.left)
		coroutine_yield();
}

static void many_co(void *arg)
{
	uint8_t *buf = arg;
	uint32_t i;

	many.waiter = coroutine_self();
	for (i = 0; i < NR_MANY; i++)
		memcpy(buf + i * 4096, &i, sizeof(i));
	many_run(BDEV_WRITE, many.write_flags, buf);
	memset(buf, 0xff, NR_MANY * 4096);
	many_run(BDEV_READ, 0, buf);
	for (i = 0; i < NR_MANY; i++)
		if (memcmp(buf + i * 4096, &i, sizeof(i)))
			ck_abort_msg("block %u", i);
}

static void write_and_read_many(struct bdev *bdev, unsigned int write_flags)
{
	uint8_t *buf = aligned_alloc(4096, NR_MANY * 4096);

	memset(buf, 0, NR_MANY * 4096);
	many.bdev = bdev;
	many.write_flags = write_flags;
	on_loop(many_co, buf);
	ck_assert_uint_eq(bdev->stats.ops[BDEV_WRITE], NR_MANY);
	ck_assert_uint_eq(bdev->stats.bytes[BDEV_READ], NR_MANY * 4096);
	free(buf);
}

START_TEST(more_requests_than_a_ring_holds_all_complete)
{
	struct bdev *bdev;

	make_file(NR_MANY * 4096);
	bdev = open_bdev(engines[_i]);
	write_and_read_many(bdev, 0);
	bdev_close(&bdev);
}
END_TEST

/* The file's own device decides for one way; both have to work. */
START_TEST(fua_writes_complete_each_synced_or_together)
{
	for (int together = 0; together < 2; together++) {
		struct bdev *bdev;

		make_file(NR_MANY * 4096);
		bdev = open_bdev(engines[_i]);
		to_file(bdev)->fua_flushes = together;
		write_and_read_many(bdev, BDEV_FUA);
		ck_assert_uint_eq(bdev->stats.fua_writes, NR_MANY);
		bdev_close(&bdev);
	}
}
END_TEST

/* A hook that starts requests, as the connections' does, and is called after
 * the ring's. */
#define LATE_MAX	20

struct late {
	struct turn_hook	hook;
	struct loop		*loop;
	struct bdev		*bdev;
	uint8_t			*buf;
	unsigned int		round, left;
	struct iovec		iov[LATE_MAX];
	struct bdev_req		req[LATE_MAX];
};

static struct late late;
static const unsigned int late_rounds[] = { 1, 7, 8, 9, LATE_MAX, 1, 16 };

static void late_done(struct bdev_req *req)
{
	ck_assert_int_eq(req->ret, 0);
	late.left--;
}

static void late_hook(struct turn_hook *hook)
{
	unsigned int i, nr;

	if (late.left)
		return;
	if (late.round == ARRAY_SIZE(late_rounds)) {
		loop_stop(late.loop);
		return;
	}
	(void)hook;
	nr = late_rounds[late.round++];
	late.left = nr;
	for (i = 0; i < nr; i++) {
		late.iov[i] = (struct iovec){ late.buf + i * 4096, 4096 };
		late.req[i] = (struct bdev_req){
			.op = BDEV_READ, .len = 4096, .iov = &late.iov[i],
			.nr_iov = 1, .done = late_done,
		};
		bdev_submit(late.bdev, &late.req[i]);
	}
}

START_TEST(what_is_submitted_at_the_end_of_a_turn_completes)
{
	make_file(4096);
	late = (struct late){
		.hook = { .fn = late_hook },
		.bdev = open_bdev(engines[_i]),
		.buf = aligned_alloc(4096, LATE_MAX * 4096),
	};
	ck_assert_int_eq(loop_new(&late.loop), 0);
	loop_enter(late.loop);
	ck_assert_int_eq(bdev_loop_init(late.loop), 0);
	loop_add_hook(late.loop, &late.hook);
	ck_assert_int_eq(loop_run(late.loop), 0);
	ck_assert_uint_eq(late.bdev->stats.ops[BDEV_READ], 62);
	loop_del_hook(late.loop, &late.hook);
	bdev_loop_fini(late.loop);
	loop_enter(NULL);
	loop_free(late.loop);
	bdev_close(&late.bdev);
	free(late.buf);
}
END_TEST

static void vector_co(void *arg)
{
	struct bdev *bdev = arg;
	uint64_t unit = MAX(bdev->block_size, 512u), i;
	uint64_t len = bdev->size - unit;
	uint8_t *buf = aligned_alloc(4096, BDEV_IOV_MAX * 4096);
	uint8_t *copy = aligned_alloc(4096, BDEV_IOV_MAX * 4096);
	struct iovec *iov = calloc(BDEV_IOV_MAX, sizeof(*iov));
	struct bdev_req req = {
		.op = BDEV_WRITE, .pos = unit, .len = len, .iov = iov,
	};

	for (i = 0; i < len; i++)
		buf[i] = i / unit + i;
	for (i = 0; i * unit < len; i++)
		iov[i] = (struct iovec){
			buf + i * unit, MIN(unit, len - i * unit),
		};
	req.nr_iov = i;
	ck_assert_int_eq(bdev_submit_wait(bdev, &req), 0);
	memset(copy, 0, len);
	/* Backwards, so that no two can be joined. */
	for (i = 0; i < req.nr_iov; i++)
		iov[i].iov_base = copy + (req.nr_iov - 1 - i) * unit;
	req.op = BDEV_READ;
	ck_assert_int_eq(bdev_submit_wait(bdev, &req), 0);
	for (i = 0; i < req.nr_iov; i++)
		if (memcmp(buf + i * unit, copy + (req.nr_iov - 1 - i) * unit,
			   iov[i].iov_len))
			ck_abort_msg("buffer %u", (unsigned int)i);
	free(iov);
	free(buf);
	free(copy);
}

START_TEST(as_many_buffers_as_allowed)
{
	struct bdev *bdev;

	make_file(BDEV_IOV_MAX * 512 + 512 - 3);
	bdev = open_bdev(engines[_i]);
	if (bdev->block_size <= 512)
		on_loop(vector_co, bdev);
	bdev_close(&bdev);
}
END_TEST

#define NR_THREADS	4
#define THREAD_BYTES	(1024 * 1024)

struct hammer {
	pthread_t	thread;
	struct bdev	*bdev;
	unsigned int	index;
	unsigned int	left;
	struct coroutine *waiter;
};

/* Several of these on each thread; each has blocks of its own. */
static void hammer_one(void *arg)
{
	struct hammer *hammer = arg;
	uint64_t lane = --hammer->left, i;
	uint64_t pos = hammer->index * THREAD_BYTES + lane * 65536;
	uint8_t *buf = aligned_alloc(4096, 8192);

	for (i = 0; i < 40; i++) {
		uint64_t at = pos + i * 4096 % 65536;

		memset(buf, i + lane, 4096);
		ck_assert_int_eq(bdev_pwrite(hammer->bdev, buf, 4096, at,
					     i % 16 == 3 ? BDEV_FUA : 0), 0);
		memset(buf, 0, 4096);
		ck_assert_int_eq(bdev_pread(hammer->bdev, buf, 4096, at), 0);
		ck_assert_uint_eq(buf[0], (uint8_t)(i + lane));
		ck_assert_uint_eq(buf[4095], (uint8_t)(i + lane));
		if (i % 16 == 9)
			ck_assert_int_eq(bdev_flush(hammer->bdev), 0);
	}
	free(buf);
	hammer->left += 100;
	coroutine_wake(hammer->waiter);
}

static void hammer_co(void *arg)
{
	struct hammer *hammer = arg;
	unsigned int i;

	hammer->waiter = coroutine_self();
	hammer->left = 8;
	for (i = 0; i < 8; i++)
		ck_assert_int_eq(coroutine_start(hammer_one, hammer), 0);
	while (hammer->left < 800)
		coroutine_yield();
}

static void *hammer_thread(void *arg)
{
	on_loop(hammer_co, arg);
	return NULL;
}

START_TEST(four_loops_hammer_one_file)
{
	struct hammer hammer[NR_THREADS];
	struct bdev *bdev;
	unsigned int i;

	make_file(NR_THREADS * THREAD_BYTES);
	bdev = open_bdev(engines[_i]);
	for (i = 0; i < NR_THREADS; i++) {
		hammer[i].bdev = bdev;
		hammer[i].index = i;
		ck_assert_int_eq(pthread_create(&hammer[i].thread, NULL,
						hammer_thread, &hammer[i]), 0);
	}
	for (i = 0; i < NR_THREADS; i++)
		pthread_join(hammer[i].thread, NULL);
	ck_assert_uint_eq(bdev->stats.ops[BDEV_READ], NR_THREADS * 8 * 40);
	ck_assert_uint_eq(bdev->stats.errors, 0);
	bdev_close(&bdev);
}
END_TEST

/* --- Opening -------------------------------------------------------------------- */

static void refused(const char *what, unsigned int flags, int err,
		    const char *why)
{
	struct bdev *bdev = NULL;
	int ret = bdev_open_file(what, flags, &bdev, msg, sizeof(msg));

	ck_assert_int_eq(ret, err);
	ck_assert_ptr_null(bdev);
	ck_assert_int_eq(strncmp(msg, what, strlen(what)), 0);
	if (!strstr(msg, why))
		ck_abort_msg("'%s' lacks '%s'", msg, why);
	ck_assert_ptr_null(strchr(msg, '\n'));
}

START_TEST(what_is_no_disk_is_refused_with_a_reason)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	char other[64];
	int fd;

	refused(path, 0, -ENOENT, "no such file");
	refused(dir, 0, -EISDIR, "is a directory");
	refused("/dev/null", 0, -EINVAL, "is a character device");
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	refused(path, 0, -EINVAL, "is a FIFO");
	refused(path, BDEV_OPEN_READ_ONLY, -EINVAL, "is a FIFO");
	unlink(path);

	ck_assert_int_eq(chdir(dir), 0);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	strcpy(sun.sun_path, "sock\nt");
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	ck_assert_int_eq(bdev_open_file(sun.sun_path, 0, NULL, msg, sizeof(msg)),
			 -EINVAL);
	ck_assert_str_eq(msg, "sock?t: is a socket, not a file or block device");
	close(fd);
	unlink(sun.sun_path);
	ck_assert_int_eq(chdir(".."), 0);

	fd = memfd_create("big", MFD_CLOEXEC);
	if (fd >= 0 && ftruncate(fd, INT64_MAX) == 0) {
		snprintf(other, sizeof(other), "/proc/self/fd/%d", fd);
		refused(other, 0, -EFBIG, "too big");
	}
	close(fd);
}
END_TEST

START_TEST(no_permission_says_whether_reading_would_do)
{
	struct bdev *bdev;

	make_file(4096);
	ck_assert_int_eq(chmod(path, 0400), 0);
	/* Root may do everything, so be somebody else. */
	if (geteuid() == 0) {
		ck_assert_int_eq(chmod(dir, 0755), 0);
		ck_assert_int_eq(chown(path, 12345, 12345), 0);
		ck_assert_int_eq(setresuid(-1, 12345, 0), 0);
		if (access(path, F_OK))
			goto out;	/* not even above it */
	}
	refused(path, 0, -EACCES, "no permission");
	bdev = open_bdev(BDEV_OPEN_READ_ONLY);
	bdev_close(&bdev);
	ck_assert_int_eq(chmod(path, 0), 0);
	refused(path, BDEV_OPEN_READ_ONLY, -EACCES, "permission denied");
out:
	if (getuid() == 0)
		ck_assert_int_eq(setresuid(-1, 0, -1), 0);
}
END_TEST

/* Hold @path open in a process of its own until its stdin ends. */
static pid_t start_holder(unsigned int flags, int *keepp)
{
	int keep[2], ready[2];
	struct bdev *bdev;
	pid_t pid;
	char c;

	ck_assert_int_eq(pipe2(keep, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		prctl(PR_SET_NAME, "holder");
		close(keep[1]);
		if (bdev_open_file(path, flags, &bdev, msg, sizeof(msg)))
			_exit(1);
		if (write(ready[1], "r", 1) != 1 || read(keep[0], &c, 1) != 0)
			_exit(2);
		bdev_close(&bdev);
		_exit(0);
	}
	close(keep[0]);
	close(ready[1]);
	ck_assert_int_eq(read(ready[0], &c, 1), 1);
	close(ready[0]);
	*keepp = keep[1];
	return pid;
}

static void end_holder(pid_t pid, int keep)
{
	int status;

	close(keep);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}

/* Put a locked descriptor of the file where no process has it: on its way
 * through a socket, whose ends are returned. */
static void lock_by_nobody(int ends[2])
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg_out = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg_out);
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = open(path, O_RDWR | O_CLOEXEC);

	ck_assert_int_eq(fcntl(fd, F_OFD_SETLK, &lock), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
				    ends), 0);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	ck_assert_int_eq(sendmsg(ends[0], &msg_out, 0), 1);
	close(fd);
}

static void *let_go_soon(void *arg)
{
	const int *ends = arg;

	usleep(250000);
	close(ends[0]);
	close(ends[1]);
	return NULL;
}

START_TEST(a_lock_that_nobody_has_is_waited_for)
{
	struct bdev *bdev;
	pthread_t thread;
	int ends[2];

	make_file(4096);
	lock_by_nobody(ends);
	ck_assert_int_eq(pthread_create(&thread, NULL, let_go_soon, ends), 0);
	bdev = open_bdev(0);
	pthread_join(thread, NULL);
	bdev_close(&bdev);

	/* But not for ever. */
	lock_by_nobody(ends);
	refused(path, 0, -EBUSY, ": in use by another process");
	close(ends[0]);
	close(ends[1]);
}
END_TEST

START_TEST(a_file_in_use_is_refused_and_the_holder_named)
{
	struct bdev *bdev;
	char want[64];
	pid_t pid;
	int keep;

	make_file(4096);
	pid = start_holder(0, &keep);
	snprintf(want, sizeof(want), ": in use by pid %d (holder)", (int)pid);
	refused(path, 0, -EBUSY, want);
	refused(path, BDEV_OPEN_READ_ONLY, -EBUSY, want);
	bdev = open_bdev(BDEV_OPEN_NO_LOCK);
	bdev_close(&bdev);
	end_holder(pid, keep);

	/* Readers get along with each other. */
	pid = start_holder(BDEV_OPEN_READ_ONLY, &keep);
	snprintf(want, sizeof(want), ": in use by pid %d (holder)", (int)pid);
	refused(path, 0, -EBUSY, want);
	bdev = open_bdev(BDEV_OPEN_READ_ONLY);
	bdev_close(&bdev);
	end_holder(pid, keep);

	/* Twice in one process is once too often as well. */
	bdev = open_bdev(0);
	snprintf(want, sizeof(want), ": in use by pid %d ", (int)getpid());
	refused(path, 0, -EBUSY, want);
	bdev_close(&bdev);
	bdev = open_bdev(0);
	bdev_close(&bdev);
}
END_TEST

START_TEST(a_posix_lock_of_others_counts)
{
	struct flock lock = { .l_type = F_WRLCK, .l_start = 100, .l_len = 1 };
	char want[64], c;
	int ready[2], fd, status;
	pid_t pid;

	make_file(4096);
	ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		fd = open(path, O_RDWR);
		if (fcntl(fd, F_SETLK, &lock) || write(ready[1], "r", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	ck_assert_int_eq(read(ready[0], &c, 1), 1);
	snprintf(want, sizeof(want), ": in use by pid %d (", (int)pid);
	refused(path, 0, -EBUSY, want);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	close(ready[0]);
	close(ready[1]);
}
END_TEST

static void read_only_co(void *arg)
{
	struct bdev *bdev = arg;
	uint8_t *buf = aligned_alloc(4096, 4096);

	ck_assert_int_eq(bdev_pread(bdev, buf, 4096, 0), 0);
	ck_assert_int_eq(bdev_pwrite(bdev, buf, 4096, 0, 0), -EROFS);
	ck_assert_int_eq(bdev_range_op(bdev, BDEV_ZERO, 0, 4096, 0), -EROFS);
	ck_assert_int_eq(bdev_flush(bdev), 0);
	free(buf);
}

START_TEST(read_only_is_only_read)
{
	struct bdev *bdev;

	make_file(8192);
	bdev = open_bdev(engines[_i] | BDEV_OPEN_READ_ONLY);
	ck_assert(bdev->read_only && !bdev->can_discard && !bdev->can_zero &&
		  !bdev->can_zero_keep && !bdev->can_allocate);
	on_loop(read_only_co, bdev);
	bdev_close(&bdev);
}
END_TEST

/* --- Space, errors, sizes --------------------------------------------------------- */

static uint64_t file_blocks(void)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	return st.st_blocks;
}

static void space_co(void *arg)
{
	struct bdev *bdev = arg;
	uint8_t *buf = aligned_alloc(4096, 65536);

	memset(buf, 1, 65536);
	ck_assert_int_eq(bdev->ops->seek_data(bdev, 0), 1 << 20);
	ck_assert_int_eq(bdev_pwrite(bdev, buf, 65536, 131072, 0), 0);
	ck_assert_int_eq(bdev_flush(bdev), 0);
	ck_assert_int_eq(bdev->ops->seek_data(bdev, 0), 131072);
	ck_assert_int_eq(bdev->ops->seek_hole(bdev, 131072), 196608);
	ck_assert_int_eq(bdev->ops->seek_hole(bdev, 0), 0);
	ck_assert_int_eq(bdev->ops->seek_data(bdev, 196608), 1 << 20);
	ck_assert_uint_ge(file_blocks(), 128);

	if (bdev->can_zero_keep) {
		ck_assert_int_eq(bdev_range_op(bdev, BDEV_ZERO, 131072, 65536,
					       BDEV_NO_UNMAP), 0);
		ck_assert_uint_ge(file_blocks(), 128);
		ck_assert_int_eq(bdev_pread(bdev, buf, 65536, 131072), 0);
		ck_assert(buf[0] == 0 && buf[65535] == 0);
	}
	ck_assert_int_eq(bdev_range_op(bdev, BDEV_DISCARD, 131072, 65536, 0), 0);
	ck_assert_uint_lt(file_blocks(), 128);
	ck_assert_int_eq(bdev->ops->seek_data(bdev, 0), 1 << 20);
	if (bdev->can_allocate) {
		ck_assert_int_eq(bdev_range_op(bdev, BDEV_ALLOCATE, 0, 1 << 19,
					       0), 0);
		ck_assert_uint_ge(file_blocks(), 1024);
	}
	free(buf);
}

START_TEST(space_is_given_and_taken_back)
{
	struct bdev *bdev;

	make_file(1 << 20);
	bdev = open_bdev(engines[_i]);
	if (bdev->can_discard)
		on_loop(space_co, bdev);
	bdev_close(&bdev);
}
END_TEST

static void no_space_co(void *arg)
{
	struct bdev *bdev = arg;
	uint8_t *buf = aligned_alloc(4096, 65536);

	memset(buf, 1, 65536);
	ck_assert_int_eq(bdev_pwrite(bdev, buf, 4096, 0, 0), 0);
	ck_assert_int_eq(bdev_range_op(bdev, BDEV_ALLOCATE, 0, 65536, 0),
			 -ENOSPC);
	ck_assert_int_eq(bdev_pwrite(bdev, buf, 65536, 8192, 0), -ENOSPC);
	ck_assert_int_eq(bdev_pread(bdev, buf + 4096, 4096, 0), 0);
	ck_assert_mem_eq(buf, buf + 4096, 4096);
	ck_assert_uint_eq(bdev->stats.errors, 2);
	ck_assert_int_eq(bdev_flush(bdev), 0);
	free(buf);
}

static int write_text(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CLOEXEC);
	ssize_t n = write(fd, text, strlen(text));

	close(fd);
	return n == (ssize_t)strlen(text) ? 0 : -1;
}

/* Let this process mount things that it alone sees; not every system does. */
static int enter_namespace(void)
{
	char uid[32], gid[32];

	snprintf(uid, sizeof(uid), "0 %u 1", geteuid());
	snprintf(gid, sizeof(gid), "0 %u 1", getegid());

	if (unshare(CLONE_NEWNS)) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
			return -1;
		if (write_text("/proc/self/setgroups", "deny") ||
		    write_text("/proc/self/uid_map", uid) ||
		    write_text("/proc/self/gid_map", gid))
			return -1;
	}
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

START_TEST(no_space_is_reported)
{
	struct bdev *bdev;

	if (enter_namespace() ||
	    mount("tmpfs", dir, "tmpfs", 0, "size=32k,mode=0777"))
		return;
	make_file(1 << 20);
	bdev = open_bdev(engines[_i]);
	on_loop(no_space_co, bdev);
	bdev_close(&bdev);
	umount(dir);
}
END_TEST

static void shrunk_co(void *arg)
{
	struct bdev *bdev = arg;
	uint8_t *buf = aligned_alloc(4096, 65536);

	ck_assert_int_eq(bdev_pread(bdev, buf, 65536, 0), 0);
	ck_assert_int_eq(truncate(path, 5000), 0);
	ck_assert_int_eq(bdev_pread(bdev, buf, 4096, 0), 0);
	ck_assert_int_eq(bdev_pread(bdev, buf, 4096, 4096), -EIO);
	ck_assert_int_eq(bdev_pread(bdev, buf, 65536, 0), -EIO);
	ck_assert_int_eq(bdev_pread(bdev, buf, 4096, 8192), -EIO);
	bdev->ops->set_size(bdev, (uint64_t)bdev->ops->present_size(bdev));
	ck_assert_uint_eq(bdev->size, 5000);
	ck_assert_int_eq(bdev_pread(bdev, buf, 5000 - 4096, 4096), 0);

	ck_assert_int_eq(truncate(path, 65536), 0);
	bdev->ops->set_size(bdev, (uint64_t)bdev->ops->present_size(bdev));
	memset(buf, 3, 65536);
	ck_assert_int_eq(bdev_pwrite(bdev, buf, 65536, 0, 0), 0);
	ck_assert_int_eq(bdev_pread(bdev, buf, 65536, 0), 0);
	ck_assert_uint_eq(buf[65535], 3);
	free(buf);
}

START_TEST(a_file_cut_short_is_an_error_until_looked_at_again)
{
	struct bdev *bdev;

	make_file(65536);
	bdev = open_bdev(engines[_i]);
	on_loop(shrunk_co, bdev);
	bdev_close(&bdev);
}
END_TEST

/* --- Without io_uring ----------------------------------------------------------- */

static int forbid_io_uring(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = ARRAY_SIZE(code), .filter = code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

START_TEST(where_io_uring_is_forbidden_threads_serve)
{
	uint8_t *buf = aligned_alloc(4096, 2 * BUF_SIZE);
	struct model model;
	struct bdev *bdev;

	log_set_level(LOG_ERROR_LEVEL);
	if (forbid_io_uring())
		goto out;
	make_file(40 * 4096 + 77);
	bdev = open_bdev(0);
	run_model(&model, bdev, test_seed("forbidden"), buf);
	bdev_close(&bdev);
	check_file(&model, 40 * 4096 + 77);
	free(model.bytes);
out:
	free(buf);
}
END_TEST

/* --- Block devices --------------------------------------------------------------- */

/* A loop device over @path that goes away by itself; -1 where we may not. */
static int attach_loop(char *name, size_t size)
{
	struct loop_config config = {
		.info.lo_flags = LO_FLAGS_AUTOCLEAR,
	};
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int nr, fd = -1, tries;

	if (control < 0)
		return -1;
	config.fd = open(path, O_RDWR | O_CLOEXEC);
	for (tries = 0; tries < 20; tries++) {
		nr = ioctl(control, LOOP_CTL_GET_FREE);
		if (nr < 0)
			break;
		snprintf(name, size, "/dev/loop%d", nr);
		fd = open(name, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			break;
		if (ioctl(fd, LOOP_CONFIGURE, &config) == 0)
			break;
		close(fd);
		fd = -1;
		if (errno != EBUSY)
			break;
	}
	close(config.fd);
	close(control);
	return fd;
}

START_TEST(block_devices_work_like_files)
{
	uint8_t *buf = aligned_alloc(4096, 2 * BUF_SIZE);
	char name[64], want[64];
	struct model model;
	struct bdev *bdev;
	pid_t pid;
	int loop, keep;

	make_file(1 << 20);
	loop = attach_loop(name, sizeof(name));
	if (loop < 0)
		goto out;
	ck_assert_int_eq(unlink(path), 0);
	strcpy(path, name);
	bdev = open_bdev(engines[_i]);
	ck_assert_uint_eq(bdev->size, 1 << 20);
	ck_assert_uint_ge(bdev->block_size, 512);
	ck_assert(!bdev->is_file && !bdev->can_allocate);
	ck_assert_ptr_null(bdev->ops->seek_data);
	run_model(&model, bdev, test_seed("block_device"), buf);
	check_file(&model, 1 << 20);
	free(model.bytes);
	bdev_close(&bdev);

	pid = start_holder(0, &keep);
	snprintf(want, sizeof(want), ": in use by pid %d (holder)", (int)pid);
	refused(path, 0, -EBUSY, want);
	refused(path, BDEV_OPEN_READ_ONLY, -EBUSY, want);
	end_holder(pid, keep);
	close(loop);
	path[0] = '\0';
out:
	free(buf);
}
END_TEST

static Suite *file_suite(void)
{
	Suite *suite = suite_create("bdev_file");
	TCase *tc = tcase_create("io");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, all_ops_work_at_any_size, 0, NR_ENGINES);
	tcase_add_test(tc, empty_file_can_be_opened);
	tcase_add_loop_test(tc, more_requests_than_a_ring_holds_all_complete, 0,
			    NR_ENGINES);
	tcase_add_loop_test(tc, fua_writes_complete_each_synced_or_together, 0,
			    NR_ENGINES);
	tcase_add_loop_test(tc, what_is_submitted_at_the_end_of_a_turn_completes,
			    0, NR_ENGINES);
	tcase_add_loop_test(tc, as_many_buffers_as_allowed, 0, NR_ENGINES);
	tcase_add_loop_test(tc, four_loops_hammer_one_file, 0, NR_ENGINES);
	tcase_add_loop_test(tc, space_is_given_and_taken_back, 0, NR_ENGINES);
	tcase_add_loop_test(tc, no_space_is_reported, 0, NR_ENGINES);
	tcase_add_loop_test(tc, a_file_cut_short_is_an_error_until_looked_at_again,
			    0, NR_ENGINES);
	tcase_add_test(tc, where_io_uring_is_forbidden_threads_serve);
	tcase_add_loop_test(tc, block_devices_work_like_files, 0, NR_ENGINES);
	suite_add_tcase(suite, tc);

	tc = tcase_create("open");
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, what_is_no_disk_is_refused_with_a_reason);
	tcase_add_test(tc, no_permission_says_whether_reading_would_do);
	tcase_add_test(tc, a_file_in_use_is_refused_and_the_holder_named);
	tcase_add_test(tc, a_lock_that_nobody_has_is_waited_for);
	tcase_add_test(tc, a_posix_lock_of_others_counts);
	tcase_add_loop_test(tc, read_only_is_only_read, 0, NR_ENGINES);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	SRunner *runner = srunner_create(file_suite());
	int failed;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
