/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conn.c - the life of a connection and its events.
 *
 * A turn of a connection is: receive what the socket holds, parse all of it,
 * send all that this gave with one call.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/conn_internal.h"

#define UNIX_SNDBUF	(1 << 20)	/* asked for; the system cuts it */
/* Seconds.  A client that vanished from an idle connection holds it for four
 * minutes, and not for the system's two hours. */
#define KEEP_IDLE	120
#define KEEP_INTERVAL	30
#define KEEP_COUNT	4

/* ---- descriptors ---- */

ssize_t conn_fd_recv(struct conn *conn, struct iovec *iov, unsigned int nr)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = nr };
	ssize_t n;

	do {
		if (!conn->in_is_socket)
			n = readv(conn->in_fd, iov, nr);
		else if (nr == 1)
			n = recv(conn->in_fd, iov->iov_base, iov->iov_len,
				 MSG_DONTWAIT);
		else
			n = recvmsg(conn->in_fd, &msg, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

ssize_t conn_fd_send(struct conn *conn, struct iovec *iov, unsigned int nr)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = nr };
	ssize_t n;

	do {
		if (!conn->out_is_socket)
			n = writev(conn->out_fd, iov, nr);
		else if (nr == 1)
			n = send(conn->out_fd, iov->iov_base, iov->iov_len,
				 MSG_DONTWAIT | MSG_NOSIGNAL);
		else
			n = sendmsg(conn->out_fd, &msg,
				    MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

ssize_t conn_send(struct conn *conn, struct iovec *iov, unsigned int nr)
{
	if (unlikely(conn->tls))
		return tls_send(conn->tls, iov, nr);
	return conn_fd_send(conn, iov, nr);
}

/* None of these is worth failing for. */
static void set_tcp_options(int fd)
{
	static const struct {
		int level, name, value;
	} options[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, KEEP_IDLE },
		{ IPPROTO_TCP, TCP_KEEPINTVL, KEEP_INTERVAL },
		{ IPPROTO_TCP, TCP_KEEPCNT, KEEP_COUNT },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(options); i++)
		(void)setsockopt(fd, options[i].level, options[i].name,
				 &options[i].value, sizeof(options[i].value));
}

/* Learn what @fd is, and make it fit for us. */
static int prepare_fd(int fd, bool *is_socketp)
{
	int domain, flags, sndbuf = UNIX_SNDBUF;
	socklen_t len = sizeof(domain);

	*is_socketp = !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
	if (!*is_socketp) {
		flags = fcntl(fd, F_GETFL);
		if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
			return -errno;
		return 0;
	}
	if (domain == AF_UNIX)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &sndbuf,
				 sizeof(sndbuf));
	else if (domain == AF_INET || domain == AF_INET6)
		set_tcp_options(fd);
	return 0;
}

static void close_fds(int in_fd, int out_fd)
{
	close(in_fd);
	if (out_fd != in_fd)
		close(out_fd);
}

/* ---- limits ---- */

size_t conn_held_max(const struct conn *conn)
{
	const struct conn_shared *shared = conn->cl->shared;
	uint64_t used = __atomic_load_n(&shared->reply_bytes,
					__ATOMIC_RELAXED);
	uint64_t others = used > conn->accounted ? used - conn->accounted : 0;
	uint64_t left = shared->reply_budget > others ?
			shared->reply_budget - others : 0;

	left = MIN(left / 2, (uint64_t)HELD_MAX);
	return MAX(left, (uint64_t)HELD_MIN);
}

/* ---- events ---- */

void conn_set_blocked(struct conn *conn, bool blocked)
{
	if (conn->blocked == blocked)
		return;
	conn->blocked = blocked;
	if (!blocked)
		event_del(&conn->ev_write);
	else if (event_add(&conn->ev_write, NULL))
		conn_kill(conn);
}

/* Close if all is done; else see that input comes if it is wanted. */
static void settle(struct conn *conn)
{
	if (conn->dead)
		return;
	if (unlikely(!conn->inflight &&
		     (conn->pool->past_deadline ||
		      (conn->finishing && !conn->out.bytes)))) {
		if (!conn->tls || conn_tls_end(conn) ||
		    conn->pool->past_deadline) {
			conn_kill(conn);
			return;
		}
	}
	if (unlikely(conn->finishing))
		timeout_watch(conn);
	if (unlikely(!conn->reading && conn_wants_input(conn))) {
		conn->reading = true;
		if (event_add(&conn->ev_read, NULL))
			conn_kill(conn);
	}
}

/* After something happened that is not input. */
static void turn(struct conn *conn)
{
	output_flush(conn);
	if (conn->tail_len && conn_can_parse(conn)) {
		conn_parse_tail(conn);
		output_flush(conn);
	}
	if (unlikely(conn->tls)) {
		conn_read_received(conn);
		output_flush(conn);
	}
	settle(conn);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct conn *conn = arg;

	(void)fd;
	(void)what;
	if (unlikely(!conn_wants_input(conn))) {
		/* The event stays until here, as pauses are often short. */
		event_del(&conn->ev_read);
		conn->reading = false;
		return;
	}
	loop_had_event();
	conn_get(conn);
	conn_read_input(conn);
	output_flush(conn);
	settle(conn);
	conn_put(conn);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct conn *conn = arg;

	(void)fd;
	(void)what;
	loop_had_event();
	conn_get(conn);
	output_resume(conn);
	turn(conn);
	conn_put(conn);
}

void conn_todo(struct conn *conn)
{
	if (conn->todo || conn->dead)
		return;
	conn->todo = true;
	conn_get(conn);
	TAILQ_INSERT_TAIL(&conn->pool->todo, conn, todo_link);
}

static void on_turn_end(struct turn_hook *hook)
{
	struct conn_pool *pool = container_of(hook, struct conn_pool, hook);
	struct conn *conn;

	while ((conn = TAILQ_FIRST(&pool->todo))) {
		TAILQ_REMOVE(&pool->todo, conn, todo_link);
		conn->todo = false;
		if (!conn->dead)
			turn(conn);
		conn_put(conn);
	}
	if (unlikely(pool->cl->freezing))
		conn_loop_try_freeze(pool->cl);
}

/* ---- life ---- */

void conn_kill(struct conn *conn)
{
	if (conn->dead)
		return;
	conn->dead = true;
	if (conn->reading)
		event_del(&conn->ev_read);
	if (conn->blocked)
		event_del(&conn->ev_write);
	conn->reading = conn->blocked = false;
	timer_cancel(&conn->timeout);
	close_fds(conn->in_fd, conn->out_fd);
	tls_session_free(conn->tls);
	conn->tls = NULL;
	output_drop(conn);
	stage_free(conn->stage);
	conn->stage = NULL;
	request_wake_room(conn);
	if (conn->export)
		__atomic_sub_fetch(&conn->export->nr_clients, 1,
				   __ATOMIC_RELAXED);
	TAILQ_REMOVE(&conn->cl->conns, conn, link);
	conn_put(conn);
}

/* Count one more in the process, unless there are too many. */
static int count_conn(struct conn_shared *shared, const struct peer *peer)
{
	unsigned int nr = __atomic_add_fetch(&shared->nr_conns, 1,
					     __ATOMIC_RELAXED);
	int ret = -EUSERS;

	if (!shared->max_conns || nr <= shared->max_conns)
		ret = shared->peers ? peers_enter(shared->peers, peer) : 0;
	if (ret)
		__atomic_sub_fetch(&shared->nr_conns, 1, __ATOMIC_RELAXED);
	return ret;
}

static void uncount_conn(struct conn_shared *shared, const struct peer *peer)
{
	if (shared->peers)
		peers_leave(shared->peers, peer);
	__atomic_sub_fetch(&shared->nr_conns, 1, __ATOMIC_RELAXED);
}

void conn_put(struct conn *conn)
{
	struct conn_loop *cl = conn->cl;

	if (--conn->refs)
		return;
	assert(conn->dead && !conn->inflight);
	conn_tail_drop(conn);
	uncount_conn(cl->shared, &conn->peer);
	peer_fini(&conn->peer);
	free(conn);
	if (--cl->nr_conns == 0 && cl->idle)
		cl->idle(cl);
}

static struct conn *conn_alloc(struct conn_loop *cl, int in_fd, int out_fd)
{
	struct event_base *base = loop_event_base(cl->loop);
	struct conn *conn = calloc(1, sizeof(*conn));

	if (!conn)
		return NULL;
	conn->cl = cl;
	conn->pool = cl->pool;
	conn->refs = 1;
	conn->in_fd = in_fd;
	conn->out_fd = out_fd;
	conn->recv_max = RECV_MIN;
	output_init(conn);
	timer_init(&conn->timeout, timeout_expired);
	event_assign(&conn->ev_read, base, in_fd, EV_READ | EV_PERSIST,
		     on_readable, conn);
	event_assign(&conn->ev_write, base, out_fd, EV_WRITE | EV_PERSIST,
		     on_writable, conn);
	return conn;
}

int conn_new(struct conn_loop *cl, int in_fd, int out_fd, struct conn **connp)
{
	const struct export_table *exports = cl->shared->exports;
	bool in_is_socket = false, out_is_socket = false;
	struct conn *conn;
	struct peer peer;
	int ret;

	peer_get(&peer, in_fd, exports->asks_groups);
	ret = count_conn(cl->shared, &peer);
	if (ret)
		goto out_close;
	ret = prepare_fd(in_fd, &in_is_socket);
	if (!ret)
		ret = prepare_fd(out_fd, &out_is_socket);
	if (ret)
		goto out_uncount;
	conn = conn_alloc(cl, in_fd, out_fd);
	if (!conn) {
		ret = -ENOMEM;
		goto out_uncount;
	}
	conn->in_is_socket = in_is_socket;
	conn->out_is_socket = out_is_socket;
	conn->peer = peer;
	conn->nr_exports = export_count(exports, &peer);
	TAILQ_INSERT_TAIL(&cl->conns, conn, link);
	cl->nr_conns++;
	conn_get(conn);
	*connp = conn;
	return 0;

out_uncount:
	uncount_conn(cl->shared, &peer);
out_close:
	peer_fini(&peer);
	close_fds(in_fd, out_fd);
	return ret;
}

/* Greet the client and wait for it.  Kills on failure. */
static int conn_greet(struct conn *conn)
{
	char greeting[sizeof(struct nbd_greeting)];

	if (event_add(&conn->ev_read, NULL)) {
		conn_kill(conn);
		return -EINVAL;
	}
	conn->reading = true;
	timeout_handshake(conn);
	reply_bytes(conn, greeting, nbd_put_greeting(greeting));
	output_flush(conn);
	return conn->dead ? -ECONNRESET : 0;
}

int conn_start(struct conn_loop *cl, int in_fd, int out_fd, enum tls_mode tls)
{
	struct conn *conn;
	int ret;

	ret = conn_new(cl, in_fd, out_fd, &conn);
	if (ret)
		return ret;
	conn->tls_least = tls;
	ret = conn_greet(conn);
	conn_put(conn);
	return ret;
}

/* ---- all of a loop's ---- */

void conn_loop_hurry(struct conn_loop *cl)
{
	struct conn *conn;

	while ((conn = TAILQ_FIRST(&cl->conns)))
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it leaves the list */
		conn_kill(conn);
}

static void on_deadline(struct timer *timer)
{
	struct conn_pool *pool = container_of(timer, struct conn_pool,
					      deadline);
	struct conn *conn;

	pool->past_deadline = true;
	TAILQ_FOREACH(conn, &pool->cl->conns, link) {
		request_wake_room(conn);
		conn_todo(conn);
	}
}

void conn_loop_drain(struct conn_loop *cl, uint64_t deadline_ns)
{
	cl->draining = true;
	timer_arm(&cl->pool->deadline, deadline_ns);
}

int conn_loop_init(struct conn_loop *cl, struct loop *loop,
		   struct conn_shared *shared)
{
	struct conn_pool *pool = calloc(1, sizeof(*pool));

	memset(cl, 0, sizeof(*cl));
	cl->recv_buf = malloc(RECV_BUF_SIZE);
	if (!pool || !cl->recv_buf) {
		free(pool);
		free(cl->recv_buf);
		return -ENOMEM;
	}
	cl->loop = loop;
	cl->shared = shared;
	cl->pool = pool;
	TAILQ_INIT(&cl->conns);
	pool->cl = cl;
	TAILQ_INIT(&pool->todo);
	STAILQ_INIT(&pool->chunks);
	SLIST_INIT(&pool->requests);
	timer_init(&pool->deadline, on_deadline);
	pool->hook.fn = on_turn_end;
	loop_add_hook(loop, &pool->hook);
	return 0;
}

void conn_loop_fini(struct conn_loop *cl)
{
	struct conn_pool *pool = cl->pool;

	assert(cl->nr_conns == 0);
	timer_cancel(&pool->deadline);
	loop_del_hook(cl->loop, &pool->hook);
	output_pool_drain(pool);
	request_pool_drain(pool);
	tls_scratch_free(pool->tls_scratch);
	free(pool);
	free(cl->recv_buf);
	cl->pool = NULL;
	cl->recv_buf = NULL;
}
