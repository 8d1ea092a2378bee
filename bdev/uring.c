/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * uring.c - file I/O by an io_uring of the loop's own.
 *
 * Requests become SQEs as they are submitted and reach the kernel in batches,
 * the last one of a turn by the system call that also collects what has
 * completed.  While the loop is awake completions are found by looking at the
 * ring; only before it sleeps is the eventfd, which it watches, switched on.
 *
 *	submit -> [SQE] -> enter -> in the kernel -> [CQE] -> turn hook: done()
 *	   \-> queue, if RING_DEPTH are in flight ---^
 *
 * A FUA write whose device would flush for each takes two rounds: written
 * plainly, then synced together with others, see sync_group.h.
 */
#include "bdev/uring.h"

#include <errno.h>
#include <event2/event.h>
#include <liburing.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/base.h"
#include "bdev/file.h"
#include "bdev/inner.h"
#include "bdev/sync_group.h"

#define RING_ENTRIES	256
/* In flight at most; fewer than the CQ holds, so that it never overflows. */
#define RING_DEPTH	512
#define RING_CQ_ENTRIES	1024
#define RING_REAP	64
/*
 * So many at once to the kernel, though the turn goes on: the device works on
 * them while the next ones are made.  Larger batches hardly save CPU, and let a
 * device idle that completes many requests together.
 */
#define RING_BATCH	8

struct ring {
	struct io_uring		uring;
	struct loop		*loop;
	struct turn_hook	hook;
	struct work		kick;		/* for one more turn */
	struct event		*event;
	int			eventfd;
	bool			edge;		/* eventfd need not be read */
	bool			armed;		/* eventfd is on */
	unsigned int		in_flight;	/* SQEs and in the kernel */
	TAILQ_HEAD(, bdev_req)	queue;		/* not in an SQE yet */
	TAILQ_HEAD(, bdev_req)	syncs;		/* the same; leaders of groups */
	struct sync_groups	groups;
};

/* In an SQE's user data: it is not the request's own, but its group's sync. */
#define SYNC_TAG	1u

static bool is_synced_apart(const struct bdev_req *req)
{
	return req->op == BDEV_WRITE && (req->flags & BDEV_FUA) &&
	       to_file(req->bdev)->fua_flushes;
}

static void prep_data(struct io_uring_sqe *sqe, const struct bdev_req *req,
		      const struct file_piece *piece)
{
	bool read = req->op == BDEV_READ;

	if (piece->nr_iov > 1) {
		if (read)
			io_uring_prep_readv(sqe, piece->fd, piece->iov,
					    piece->nr_iov, piece->pos);
		else
			io_uring_prep_writev(sqe, piece->fd, piece->iov,
					     piece->nr_iov, piece->pos);
	} else if (read) {
		io_uring_prep_read(sqe, piece->fd, piece->buf, piece->len,
				   piece->pos);
	} else {
		io_uring_prep_write(sqe, piece->fd, piece->buf, piece->len,
				    piece->pos);
	}
	sqe->rw_flags = is_synced_apart(req) ? 0 : piece->rw_flags;
}

static void prep(struct io_uring_sqe *sqe, struct bdev_req *req)
{
	struct file_piece piece;

	file_next_piece(req, &piece);
	switch (req->op) {
	case BDEV_READ:
	case BDEV_WRITE:
		prep_data(sqe, req, &piece);
		break;
	case BDEV_FLUSH:
		io_uring_prep_fsync(sqe, piece.fd, IORING_FSYNC_DATASYNC);
		break;
	default:
		io_uring_prep_fallocate(sqe, piece.fd, piece.mode, piece.pos,
					piece.len);
		break;
	}
	io_uring_sqe_set_data(sqe, req);
}

/* NULL: too many are in flight, or the kernel would not take them. */
static struct io_uring_sqe *begin_sqe(struct ring *ring)
{
	struct io_uring_sqe *sqe;

	if (ring->in_flight >= RING_DEPTH)
		return NULL;
	sqe = io_uring_get_sqe(&ring->uring);
	if (likely(sqe))
		ring->in_flight++;
	return sqe;
}

static void end_sqe(struct ring *ring)
{
	if (io_uring_sq_ready(&ring->uring) >= RING_BATCH)
		io_uring_submit(&ring->uring);
}

static bool issue(struct ring *ring, struct bdev_req *req)
{
	struct io_uring_sqe *sqe = begin_sqe(ring);

	if (unlikely(!sqe))
		return false;
	prep(sqe, req);
	end_sqe(ring);
	return true;
}

static bool issue_sync(struct ring *ring, struct bdev_req *leader)
{
	struct io_uring_sqe *sqe = begin_sqe(ring);

	if (unlikely(!sqe))
		return false;
	io_uring_prep_fsync(sqe, to_file(leader->bdev)->sync_fd,
			    IORING_FSYNC_DATASYNC);
	io_uring_sqe_set_data64(sqe, (uintptr_t)leader | SYNC_TAG);
	sync_group_issued(leader);
	end_sqe(ring);
	return true;
}

void ring_submit(struct ring *ring, struct bdev_req *req)
{
	if (!TAILQ_EMPTY(&ring->queue) || !issue(ring, req))
		TAILQ_INSERT_TAIL(&ring->queue, req, link);
	/* Another hook may be submitting, after ours has run: have it run once
	 * more before the loop sleeps. */
	loop_defer(&ring->kick);
}

static bool has_queued(const struct ring *ring)
{
	return !TAILQ_EMPTY(&ring->queue) || !TAILQ_EMPTY(&ring->syncs);
}

static void issue_queued(struct ring *ring)
{
	struct bdev_req *req;

	while ((req = TAILQ_FIRST(&ring->syncs))) {
		if (!issue_sync(ring, req))
			return;
		TAILQ_REMOVE(&ring->syncs, req, link);
	}
	while ((req = TAILQ_FIRST(&ring->queue))) {
		/* Its link may be in use again once it is issued. */
		TAILQ_REMOVE(&ring->queue, req, link);
		if (!issue(ring, req)) {
			TAILQ_INSERT_HEAD(&ring->queue, req, link);
			break;
		}
	}
}

static void sync_done(struct ring *ring, struct bdev_req *leader, int res)
{
	int ret;

	ring->in_flight--;
	if (likely(file_sync_done(res, &ret)))
		leader = sync_groups_done(leader, ret);
	if (leader)
		TAILQ_INSERT_TAIL(&ring->syncs, leader, link);
}

static void piece_done(struct ring *ring, struct bdev_req *req, int res)
{
	int ret;

	ring->in_flight--;
	if (!file_piece_done(req, res, &ret))
		TAILQ_INSERT_TAIL(&ring->queue, req, link);
	else if (ret || !is_synced_apart(req))
		file_complete(req, ret);
	else if (sync_groups_join(&ring->groups, req))
		TAILQ_INSERT_TAIL(&ring->syncs, req, link);
}

static void ring_complete(struct ring *ring, uint64_t data, int res)
{
	struct bdev_req *req = (struct bdev_req *)(uintptr_t)
		(data & ~(uint64_t)SYNC_TAG);

	if (data & SYNC_TAG)
		sync_done(ring, req, res);
	else
		piece_done(ring, req, res);
}

/* done() may submit, so the CQ entries are given back before it is called. */
static void reap(struct ring *ring)
{
	struct io_uring_cqe *cqes[RING_REAP];
	struct {
		uint64_t	data;
		int		res;
	} done[RING_REAP];
	unsigned int i, n;

	do {
		n = io_uring_peek_batch_cqe(&ring->uring, cqes, RING_REAP);
		for (i = 0; i < n; i++) {
			done[i].data = cqes[i]->user_data;
			done[i].res = cqes[i]->res;
		}
		io_uring_cq_advance(&ring->uring, n);
		if (n)
			loop_had_event();
		for (i = 0; i < n; i++)
			ring_complete(ring, done[i].data, done[i].res);
	} while (n == RING_REAP);
}

/* Does the kernel hold completions back until we enter it? */
static bool must_enter(const struct ring *ring)
{
	unsigned int flags = __atomic_load_n(ring->uring.sq.kflags,
					     __ATOMIC_RELAXED);

	return flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

static void set_armed(struct ring *ring, bool armed)
{
	if (ring->armed == armed)
		return;
	ring->armed = armed;
	io_uring_cq_eventfd_toggle(&ring->uring, armed);
}

static void ring_hook(struct turn_hook *hook)
{
	struct ring *ring = container_of(hook, struct ring, hook);
	bool again;

	if (ring->in_flight == 0 && !has_queued(ring))
		return;
	set_armed(ring, false);
	issue_queued(ring);
	if (io_uring_sq_ready(&ring->uring) || must_enter(ring))
		io_uring_submit_and_get_events(&ring->uring);
	reap(ring);
	if (!TAILQ_EMPTY(&ring->syncs)) {
		issue_queued(ring);
		io_uring_submit(&ring->uring);
	}

	/*
	 * New SQEs, ones that the kernel could not take, or requests that can
	 * be issued now: all of that in another turn, after the sockets.
	 */
	again = io_uring_sq_ready(&ring->uring) ||
		(has_queued(ring) && ring->in_flight < RING_DEPTH);
	if (!again && ring->in_flight && !loop_looks_on()) {
		set_armed(ring, true);
		/* What completes from here on signals the eventfd. */
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		again = must_enter(ring) || io_uring_cq_ready(&ring->uring);
	}
	if (again)
		loop_defer(&ring->kick);
}

/* The hook runs anyway at the end of the turn that this work makes. */
static void ring_kick(struct work *work)
{
	(void)work;
}

static void ring_woken(evutil_socket_t fd, short what, void *arg)
{
	struct ring *ring = arg;
	uint64_t n;

	(void)what;
	if (!ring->edge)
		(void)!read(fd, &n, sizeof(n));
	set_armed(ring, false);
	if (must_enter(ring))
		io_uring_get_events(&ring->uring);
	reap(ring);
}

/* With what the kernel has, from the best down. */
static int set_up_ring(struct io_uring *uring)
{
	static const unsigned int flags[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		0,
	};
	unsigned int i;
	int ret = 0;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		struct io_uring_params params = {
			.flags = flags[i] | IORING_SETUP_CQSIZE,
			.cq_entries = RING_CQ_ENTRIES,
		};

		ret = io_uring_queue_init_params(RING_ENTRIES, uring, &params);
		if (ret != -EINVAL)
			break;
	}
	return ret;
}

static bool has_all_ops(struct io_uring *uring)
{
	static const int ops[] = {
		IORING_OP_READ, IORING_OP_WRITE,
		IORING_OP_READV, IORING_OP_WRITEV,
		IORING_OP_FSYNC, IORING_OP_FALLOCATE,
	};
	struct io_uring_probe *probe = io_uring_get_probe_ring(uring);
	bool all = probe;
	unsigned int i;

	for (i = 0; all && i < ARRAY_SIZE(ops); i++)
		all = io_uring_opcode_supported(probe, ops[i]);
	io_uring_free_probe(probe);
	return all;
}

static int watch_eventfd(struct ring *ring)
{
	struct event_base *base = loop_event_base(ring->loop);
	short what = EV_READ | EV_PERSIST;
	int ret;

	ring->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ring->eventfd < 0)
		return -errno;
	ring->edge = event_base_get_features(base) & EV_FEATURE_ET;
	if (ring->edge)
		what |= EV_ET;
	ring->event = event_new(base, ring->eventfd, what, ring_woken, ring);
	if (!ring->event || event_add(ring->event, NULL)) {
		ret = -ENOMEM;
		goto out_close;
	}
	ret = io_uring_register_eventfd(&ring->uring, ring->eventfd);
	if (ret)
		goto out_close;
	ring->armed = true;
	return 0;

out_close:
	if (ring->event)
		event_free(ring->event);
	close(ring->eventfd);
	return ret;
}

int ring_new(struct loop *loop, struct ring **ringp)
{
	struct ring *ring = calloc(1, sizeof(*ring));
	int ret;

	if (!ring)
		return -ENOMEM;
	ring->loop = loop;
	ring->hook.fn = ring_hook;
	ring->kick.fn = ring_kick;
	TAILQ_INIT(&ring->queue);
	TAILQ_INIT(&ring->syncs);
	LIST_INIT(&ring->groups);
	ret = set_up_ring(&ring->uring);
	if (ret)
		goto out_free;
	ret = -ENOSYS;
	if (!has_all_ops(&ring->uring))
		goto out_exit;
	ret = watch_eventfd(ring);
	if (ret)
		goto out_exit;
	/* It only makes it faster. */
	io_uring_register_ring_fd(&ring->uring);
	loop_add_hook(loop, &ring->hook);
	*ringp = ring;
	return 0;

out_exit:
	io_uring_queue_exit(&ring->uring);
out_free:
	free(ring);
	return ret;
}

void ring_free(struct ring *ring)
{
	assert(ring->in_flight == 0 && !has_queued(ring));
	loop_del_hook(ring->loop, &ring->hook);
	event_free(ring->event);
	io_uring_queue_exit(&ring->uring);
	close(ring->eventfd);
	free(ring);
}
