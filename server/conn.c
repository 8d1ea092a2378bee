/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conn.c - the life of a connection, its events and its input.
 *
 * A turn of a connection is: receive what the socket holds, parse all of it,
 * send all that this gave with one call.  What the bytes mean is handshake.c's
 * and transmit.c's.
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

#define READS_PER_EVENT	8		/* then the others' turn comes */
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

static ssize_t conn_recv(struct conn *conn, struct iovec *iov, unsigned int nr)
{
	if (unlikely(conn->tls))
		return tls_recv(conn->tls, iov, nr);
	return conn_fd_recv(conn, iov, nr);
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

/* ---- the tail ---- */

char *conn_tail_data(struct conn *conn)
{
	return (conn->tail ? conn->tail : conn->tail_small) + conn->tail_off;
}

static void tail_drop(struct conn *conn)
{
	free(conn->tail);
	conn->tail = NULL;
	conn->tail_size = conn->tail_off = conn->tail_len = 0;
}

static void tail_save(struct conn *conn, const char *p, size_t len)
{
	char *to = conn->tail_small;

	if (len > sizeof(conn->tail_small)) {
		to = conn->tail = malloc(len);
		if (!to) {
			log_warn("out of memory for input: closing a connection");
			conn_kill(conn);
			return;
		}
		conn->tail_size = len;
	}
	memcpy(to, p, len);
	conn->tail_len = len;
}

void conn_tail_set(struct conn *conn, char *buf, size_t len)
{
	tail_drop(conn);
	conn->tail = buf;
	conn->tail_size = conn->tail_len = len;
}

/* ---- input ---- */

/* Could input be parsed if there were any? */
static bool can_parse(const struct conn *conn)
{
	return !conn->dead && !conn->finishing && !conn->stage_wait &&
		!conn->size_wait && !conn->cl->freezing &&
		(conn->phase == TRANSMISSION || !conn->blocked);
}

static bool wants_input(const struct conn *conn)
{
	return can_parse(conn) && !conn->paused;
}

static size_t parse(struct conn *conn, const char *p, size_t len)
{
	size_t used = 0;

	if (unlikely(conn->phase != TRANSMISSION))
		used = handshake_parse(conn, p, len);
	if (likely(conn->phase == TRANSMISSION && can_parse(conn)))
		used += transmit_parse(conn, p + used, len - used);
	return used;
}

static void parse_tail(struct conn *conn)
{
	size_t used = parse(conn, conn_tail_data(conn), conn->tail_len);

	if (used == conn->tail_len) {
		tail_drop(conn);
		return;
	}
	conn->tail_off += used;
	conn->tail_len -= used;
}

static void parse_buf(struct conn *conn, size_t len)
{
	const char *buf = conn->cl->recv_buf;
	size_t used = parse(conn, buf, len);

	if (used < len && !conn->dead && !conn->finishing)
		tail_save(conn, buf + used, len - used);
}

/* Behind the tail, into the shared buffer.  Bytes, or -errno; *@fullp if
 * there may be more. */
static ssize_t recv_plain(struct conn *conn, bool *fullp)
{
	size_t have = conn->tail_len;
	size_t want = MIN((size_t)conn->recv_max, RECV_BUF_SIZE - have);
	struct iovec iov;
	ssize_t n;

	/* Nobody has more unparsed than it may hold. */
	if (conn->recv_max > HELD_MIN)
		want = MIN(want, conn_held_max(conn));
	if (have)
		memcpy(conn->cl->recv_buf, conn_tail_data(conn), have);
	iov = (struct iovec){ conn->cl->recv_buf + have, want };
	n = conn_recv(conn, &iov, 1);
	if (n <= 0)
		return n;
	*fullp = (size_t)n == want;
	if (*fullp && conn->recv_max < RECV_BUF_SIZE)
		conn->recv_max = MIN(conn->recv_max * 8,
				     (uint32_t)RECV_BUF_SIZE);
	if (have)
		tail_drop(conn);
	parse_buf(conn, have + n);
	return n;
}

/* Straight into the stage, and a little of what follows into the buffer: the
 * next head, most likely. */
static ssize_t recv_stage(struct conn *conn, bool *fullp)
{
	struct iovec iov[STAGE_RECV_IOVS + 1];
	unsigned int nr = 0, i = conn->stage_iov;
	size_t off = conn->stage_iov_off, left = conn->stage_left;
	size_t want = 0, body;
	ssize_t n;

	while (left && nr < STAGE_RECV_IOVS) {
		const struct iovec *from = &conn->stage->iov[i++];

		iov[nr++] = (struct iovec){ (char *)from->iov_base + off,
					    from->iov_len - off };
		want += from->iov_len - off;
		left -= from->iov_len - off;
		off = 0;
	}
	if (!left) {
		iov[nr++] = (struct iovec){ conn->cl->recv_buf, RECV_MIN };
		want += RECV_MIN;
	}
	n = conn_recv(conn, iov, nr);
	if (n <= 0)
		return n;
	*fullp = (size_t)n == want;
	body = MIN((size_t)n, (size_t)conn->stage_left);
	transmit_staged(conn, body);
	if ((size_t)n > body && !conn->dead)
		parse_buf(conn, n - body);
	return n;
}

/* No more will come: what is under way is finished. */
static void end_of_input(struct conn *conn)
{
	conn->finishing = true;
	stage_free(conn->stage);
	conn->stage = NULL;
	tail_drop(conn);
}

/* Once.  True if there may be more; may kill. */
static bool receive(struct conn *conn)
{
	bool full = false;
	ssize_t n;

	if (unlikely(conn->phase == HANDSHAKE_TLS)) {
		conn_tls_handshake(conn);
		return conn->phase != HANDSHAKE_TLS;
	}
	n = conn->stage ? recv_stage(conn, &full) : recv_plain(conn, &full);
	if (n == 0)
		end_of_input(conn);
	else if (n < 0 && n != -EAGAIN)
		conn_kill(conn);
	return full;
}

/* Take up what the TLS session has received already. */
static void read_received(struct conn *conn)
{
	tls_hold(conn->tls, true);
	while (wants_input(conn) && tls_has_input(conn->tls))
		receive(conn);
	if (conn->tls)
		tls_hold(conn->tls, false);
}

static void read_input(struct conn *conn)
{
	bool more = true;

	for (int i = 0; i < READS_PER_EVENT && more && wants_input(conn); i++)
		more = receive(conn);
	if (unlikely(conn->tls))
		read_received(conn);
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
	if (unlikely(!conn->reading && wants_input(conn))) {
		conn->reading = true;
		if (event_add(&conn->ev_read, NULL))
			conn_kill(conn);
	}
}

/* After something happened that is not input. */
static void turn(struct conn *conn)
{
	output_flush(conn);
	if (conn->tail_len && can_parse(conn)) {
		parse_tail(conn);
		output_flush(conn);
	}
	if (unlikely(conn->tls)) {
		read_received(conn);
		output_flush(conn);
	}
	settle(conn);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct conn *conn = arg;

	(void)fd;
	(void)what;
	if (unlikely(!wants_input(conn))) {
		/* The event stays until here, as pauses are often short. */
		event_del(&conn->ev_read);
		conn->reading = false;
		return;
	}
	loop_had_event();
	conn_get(conn);
	read_input(conn);
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
	tail_drop(conn);
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
