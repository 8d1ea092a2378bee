/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conn_tls.c - a connection that goes on under TLS.
 *
 * STARTTLS makes the connection HANDSHAKE_TLS; with the client's next bytes the
 * session begins, once all that was said before has left in the clear.  From
 * then on conn_recv() and conn_send() pass the session's way.
 *
 * A session has two things that a plain connection has not: input that no
 * event tells of, which conn.c takes up before it waits for one, and output
 * that is encrypted and not sent, which output.c waits for like any other.
 */
#include <errno.h>
#include <stdio.h>

#include "server/conn_internal.h"
#include "server/turned_away.h"

static ssize_t io_recv(void *arg, void *buf, size_t len)
{
	struct iovec iov = { buf, len };

	return conn_fd_recv(arg, &iov, 1);
}

static ssize_t io_send(void *arg, const void *buf, size_t len)
{
	struct iovec iov = { (void *)(uintptr_t)buf, len };
	struct conn *conn = arg;
	ssize_t n = conn_fd_send(conn, &iov, 1);

	if (n > 0)
		conn->nr_sent += n;
	return n;
}

static const struct tls_io io = {
	.recv	= io_recv,
	.send	= io_send,
};

static int begin(struct conn *conn)
{
	struct conn_pool *pool = conn->pool;

	if (!pool->tls_scratch)
		pool->tls_scratch = tls_scratch_new();
	if (!pool->tls_scratch)
		return -ENOMEM;
	return tls_session_new(conn->cl->shared->tls, pool->tls_scratch, &io,
			       conn, &conn->tls);
}

/* Whoever sets TLS up will want to know; that a client went away is its own
 * affair. */
static void tell(const struct conn *conn)
{
	const char *reason = conn->tls ? tls_reason(conn->tls) : NULL;
	char text[160];

	if (!reason)
		return;
	snprintf(text, sizeof(text), "TLS handshake: %s", reason);
	turned_away(text);
}

/* The client is who it has proved to be: what there is for it changes. */
static int identify(struct conn *conn)
{
	int ret = tls_identity(conn->tls, &conn->peer.identity);

	conn->nr_exports = export_count(conn->cl->shared->exports,
					&conn->peer);
	return ret;
}

void conn_tls_handshake(struct conn *conn)
{
	int ret = 0;

	if (!conn->tls) {
		output_flush(conn);
		if (conn->dead || conn->out.bytes)
			return;
		ret = begin(conn);
	}
	if (!ret)
		ret = tls_handshake(conn->tls);
	if (!ret)
		ret = identify(conn);
	if (!ret) {
		conn->phase = HANDSHAKE_OPTION;
	} else if (ret != -EAGAIN) {
		tell(conn);
		conn_kill(conn);
		return;
	}
	if (tls_unsent(conn->tls))
		conn_set_blocked(conn, true);
}

bool conn_tls_flush(struct conn *conn)
{
	ssize_t ret = tls_send(conn->tls, NULL, 0);

	if (likely(!ret))
		return true;
	if (ret == -EAGAIN)
		conn_set_blocked(conn, true);
	else
		conn_kill(conn);
	return false;
}

bool conn_tls_end(struct conn *conn)
{
	struct iovec iov = { conn->cl->recv_buf, RECV_BUF_SIZE };

	tls_bye(conn->tls);
	if (tls_unsent(conn->tls)) {
		conn_set_blocked(conn, true);
		return false;
	}
	/* The client may have said the same; a socket that is closed with that
	 * in it would take back what we have sent. */
	conn_fd_recv(conn, &iov, 1);
	return true;
}
