/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * timeout.c - how long a client may take for what others pay for.
 *
 * A connection has one timer.  It goes off when the client
 *
 *	handshake	has not begun to transmit; every export that it asks
 *			about gives it the whole time again
 *	leaving		has disconnected, and took none of the answers that
 *			are left since the timer went off last
 *	payload		fills memory slowly for which other payloads wait
 *
 * A client that is none of these may stay for ever, whether it reads or not:
 * what it holds is bounded.
 */
#include "server/conn_internal.h"

/* Bytes a second that a payload may be expected to come at. */
#define STAGE_RATE	(UINT64_C(4) << 20)

/* Why the client has to go; NULL if it has not. */
static const char *overdue(struct conn *conn)
{
	uint64_t sent = conn->nr_sent - conn->nr_sent_before;

	if (conn->phase != TRANSMISSION)
		return "its handshake took too long";
	conn->nr_sent_before = conn->nr_sent;
	if (conn->finishing)
		return (conn->out.bytes || conn_tls_unsent(conn)) && !sent ?
			"it takes no answers" : NULL;
	if (conn->stage && clock_now_ns() >= conn->stage_limit_ns &&
	    __atomic_load_n(&conn->cl->shared->nr_stage_waiters,
			    __ATOMIC_RELAXED))
		return "others wait for the memory of its payload";
	return NULL;
}

void timeout_expired(struct timer *timer)
{
	struct conn *conn = container_of(timer, struct conn, timeout);
	const char *why = overdue(conn);

	conn->watched = false;
	if (!why) {
		if (conn->finishing || conn->stage)
			timeout_watch(conn);
		return;
	}
	log_debug("closing a connection: %s", why);
	conn_get(conn);
	conn_kill(conn);
	conn_put(conn);
}

void timeout_handshake(struct conn *conn)
{
	uint64_t timeout_ns = conn->cl->shared->handshake_timeout_ns;

	if (timeout_ns && !conn->dead)
		timer_arm(&conn->timeout, clock_now_ns() + timeout_ns);
}

void timeout_watch(struct conn *conn)
{
	uint64_t timeout_ns = conn->cl->shared->stall_timeout_ns, when_ns;

	if (conn->watched || conn->dead || !timeout_ns ||
	    conn->phase != TRANSMISSION)
		return;
	if (conn->stage)
		when_ns = MAX(conn->stage_limit_ns,
			      clock_now_ns() + timeout_ns / 8);
	else
		when_ns = clock_now_ns() + timeout_ns;
	conn->watched = true;
	timer_arm(&conn->timeout, when_ns);
}

uint64_t timeout_stage_limit(const struct conn *conn)
{
	return clock_now_ns() + conn->cl->shared->stall_timeout_ns +
		conn->write.len * NSEC_PER_SEC / STAGE_RATE;
}
