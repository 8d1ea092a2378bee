/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * threads.c - file I/O by a pool of threads, for kernels and containers that
 * forbid io_uring.
 *
 * Requests wait in one queue, linked through themselves: it is as long as
 * their users let it become, and costs no memory.
 */
#include "bdev/threads.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/base.h"
#include "base/thread.h"
#include "bdev/file.h"
#include "bdev/inner.h"

#define THREADS_MAX	16

/*
 * Guards the pool's beginning and end, and pool_users; taken before pool.lock.
 */
static pthread_mutex_t pool_life = PTHREAD_MUTEX_INITIALIZER;
static unsigned int pool_users;

/*
 * A plain pthread mutex, for the sake of the condition variable; a leaf: no
 * other lock is taken under it.
 */
static struct {
	pthread_mutex_t		lock;
	pthread_cond_t		work;		/* queue or stop changed */
	pthread_cond_t		let_go;		/* some nr_held became 0 */
	/* Guarded by lock. */
	bool			stop;
	unsigned int		nr_threads;
	unsigned int		nr_idle;
	unsigned int		nr_queued;
	TAILQ_HEAD(, bdev_req)	queue;
	pthread_t		thread[THREADS_MAX];
} pool = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.work = PTHREAD_COND_INITIALIZER,
	.let_go = PTHREAD_COND_INITIALIZER,
};

/*
 * Requests of this thread's loop that the pool still has a hand on.  A worker
 * that has posted a completion may be a moment late in leaving the loop, which
 * must not be freed before.  Guarded by pool.lock.
 */
static __thread unsigned int nr_held;

/* Where a worker finds the nr_held of the submitter. */
#define WORD_HELD	BDEV_WORD_FREE

static int64_t run_data(const struct bdev_req *req,
			const struct file_piece *piece)
{
	struct iovec one = { .iov_base = piece->buf, .iov_len = piece->len };
	const struct iovec *iov = piece->nr_iov == 1 ? &one : piece->iov;
	ssize_t n;

	if (req->op == BDEV_READ)
		n = preadv(piece->fd, iov, piece->nr_iov, piece->pos);
	else
		n = pwritev2(piece->fd, iov, piece->nr_iov, piece->pos,
			     piece->rw_flags);
	return n < 0 ? -errno : n;
}

static int64_t run_piece(const struct bdev_req *req)
{
	struct file_piece piece;
	int ret;

	file_next_piece(req, &piece);
	switch (req->op) {
	case BDEV_READ:
	case BDEV_WRITE:
		return run_data(req, &piece);
	case BDEV_FLUSH:
		ret = fdatasync(piece.fd);
		break;
	default:
		ret = fallocate(piece.fd, piece.mode, piece.pos, piece.len);
		break;
	}
	return ret ? -errno : 0;
}

/* Back on the loop that submitted it. */
static void finish(struct work *work)
{
	struct bdev_req *req = bdev_req_of_work(work);

	file_complete(req, req->ret);
}

static void run(struct bdev_req *req)
{
	struct work *work;
	int ret;

	while (!file_piece_done(req, run_piece(req), &ret))
		;
	req->ret = ret;
	work = bdev_req_work(req);
	*work = (struct work){ .fn = finish };
	loop_post(req->loop, work);
}

static void *worker(void *arg)
{
	unsigned int *held;
	struct bdev_req *req;

	(void)arg;
	pthread_mutex_lock(&pool.lock);
	while (true) {
		while (!(req = TAILQ_FIRST(&pool.queue)) && !pool.stop) {
			pool.nr_idle++;
			pthread_cond_wait(&pool.work, &pool.lock);
			pool.nr_idle--;
		}
		if (!req)
			break;
		TAILQ_REMOVE(&pool.queue, req, link);
		pool.nr_queued--;
		held = (unsigned int *)(uintptr_t)req->backend[WORD_HELD];
		pthread_mutex_unlock(&pool.lock);
		run(req);
		pthread_mutex_lock(&pool.lock);
		if (--*held == 0)
			pthread_cond_broadcast(&pool.let_go);
	}
	pthread_mutex_unlock(&pool.lock);
	return NULL;
}

/* Failing is fine as long as one thread runs. */
static void add_thread(void)
{
	if (thread_start(&pool.thread[pool.nr_threads], worker, NULL) == 0)
		pool.nr_threads++;
}

void threads_submit(struct bdev_req *req)
{
	bool refused;

	pthread_mutex_lock(&pool.lock);
	if (pool.nr_idle <= pool.nr_queued && pool.nr_threads < THREADS_MAX)
		add_thread();
	refused = pool.nr_threads == 0;
	if (!refused) {
		TAILQ_INSERT_TAIL(&pool.queue, req, link);
		pool.nr_queued++;
		req->backend[WORD_HELD] = (uintptr_t)&nr_held;
		nr_held++;
		pthread_cond_signal(&pool.work);
	}
	pthread_mutex_unlock(&pool.lock);
	if (refused)
		bdev_complete_later(req, -ENOMEM);
}

void threads_get(void)
{
	pthread_mutex_lock(&pool_life);
	if (pool_users++ == 0)
		TAILQ_INIT(&pool.queue);
	pthread_mutex_unlock(&pool_life);
}

void threads_put(void)
{
	unsigned int i;

	pthread_mutex_lock(&pool.lock);
	while (nr_held)
		pthread_cond_wait(&pool.let_go, &pool.lock);
	pthread_mutex_unlock(&pool.lock);

	pthread_mutex_lock(&pool_life);
	if (--pool_users > 0)
		goto out;
	pthread_mutex_lock(&pool.lock);
	assert(TAILQ_EMPTY(&pool.queue));
	pool.stop = true;
	pthread_cond_broadcast(&pool.work);
	pthread_mutex_unlock(&pool.lock);
	for (i = 0; i < pool.nr_threads; i++)
		pthread_join(pool.thread[i], NULL);
	pool.nr_threads = 0;
	pool.stop = false;
out:
	pthread_mutex_unlock(&pool_life);
}
