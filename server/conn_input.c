/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conn_input.c - a connection's input: received, kept while it cannot be taken
 * up, and parsed.  What the bytes mean is handshake.c's and transmit.c's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/conn_internal.h"

#define READS_PER_EVENT	8		/* then the others' turn comes */

/* ---- the tail ---- */

char *conn_tail_data(struct conn *conn)
{
	return (conn->tail ? conn->tail : conn->tail_small) + conn->tail_off;
}

void conn_tail_drop(struct conn *conn)
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
	conn_tail_drop(conn);
	conn->tail = buf;
	conn->tail_size = conn->tail_len = len;
}

/* ---- receiving ---- */

bool conn_can_parse(const struct conn *conn)
{
	return !conn->dead && !conn->finishing && !conn->stage_wait &&
		!conn->size_wait && !conn->cl->freezing &&
		(conn->phase == TRANSMISSION || !conn->blocked);
}

bool conn_wants_input(const struct conn *conn)
{
	return conn_can_parse(conn) && !conn->paused;
}

static size_t parse(struct conn *conn, const char *p, size_t len)
{
	size_t used = 0;

	if (unlikely(conn->phase != TRANSMISSION))
		used = handshake_parse(conn, p, len);
	if (likely(conn->phase == TRANSMISSION && conn_can_parse(conn)))
		used += transmit_parse(conn, p + used, len - used);
	return used;
}

void conn_parse_tail(struct conn *conn)
{
	size_t used = parse(conn, conn_tail_data(conn), conn->tail_len);

	if (used == conn->tail_len) {
		conn_tail_drop(conn);
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

static ssize_t conn_recv(struct conn *conn, struct iovec *iov, unsigned int nr)
{
	if (unlikely(conn->tls))
		return tls_recv(conn->tls, iov, nr);
	return conn_fd_recv(conn, iov, nr);
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
		conn_tail_drop(conn);
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
	conn_tail_drop(conn);
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

void conn_read_received(struct conn *conn)
{
	tls_hold(conn->tls, true);
	while (conn_wants_input(conn) && tls_has_input(conn->tls))
		receive(conn);
	if (conn->tls)
		tls_hold(conn->tls, false);
}

void conn_read_input(struct conn *conn)
{
	bool more = true;

	for (int i = 0; i < READS_PER_EVENT && more && conn_wants_input(conn); i++)
		more = receive(conn);
	if (unlikely(conn->tls))
		conn_read_received(conn);
}
