/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conn_handoff.c - the connections of a loop come to rest, and go on: here, or
 * in another process from their states.
 *
 *	serving -> freezing -> frozen -> serving (thawed), or closed
 *
 * From freezing on no input is parsed.  What is in flight ends; a payload that
 * is half received goes back to what it was, bytes of input, so that its memory
 * is not waited for by what has to end.  Frozen, a connection has no event and
 * no timer, and what it still has to send is in memory of its own: the volumes
 * may go.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/conn_internal.h"
#include "server/conn_state.h"

/* ---- freezing ---- */

void conn_unstage(struct conn *conn)
{
	struct stage *stage = conn->stage;
	uint32_t had = conn->write.len - conn->stage_left;
	size_t head = conn->write.extended ? NBD_EXTENDED_REQUEST_SIZE :
					     NBD_REQUEST_SIZE;
	size_t len = head + had + conn->tail_len;
	char *buf = malloc(len), *p = buf;

	if (!buf) {
		log_warn("out of memory for input: closing a connection");
		conn_kill(conn);
		return;
	}
	p += nbd_put_request(p, &conn->write);
	for (unsigned int i = 0; had; i++) {
		size_t part = MIN((size_t)had, stage->iov[i].iov_len);

		memcpy(p, stage->iov[i].iov_base, part);
		p += part;
		had -= part;
	}
	memcpy(p, conn_tail_data(conn), conn->tail_len);
	stage_free(stage);
	conn->stage = NULL;
	conn_tail_set(conn, buf, len);
}

/* All that it needs is its own, and nothing happens to it any more.  False: it
 * had to be closed. */
static bool freeze_conn(struct conn *conn)
{
	assert(!conn->inflight && !conn->stage && !conn->stage_wait);
	if (!output_own_all(conn)) {
		log_warn("out of memory for replies: closing a connection");
		conn_kill(conn);
		return false;
	}
	/* Of an export that may be another one's by the time it is thawed. */
	if (conn->export)
		__atomic_sub_fetch(&conn->export->nr_clients, 1,
				   __ATOMIC_RELAXED);
	conn_set_blocked(conn, false);
	if (conn->reading)
		event_del(&conn->ev_read);
	conn->reading = false;
	timer_cancel(&conn->timeout);
	conn->watched = false;
	return true;
}

static void freeze_ends(struct conn_pool *pool, bool frozen)
{
	void (*done)(void *arg, bool frozen) = pool->freeze_done;

	pool->freeze_done = NULL;
	pool->cl->frozen = frozen;
	timer_cancel(&pool->freeze_timer);
	done(pool->freeze_arg, frozen);
}

void conn_loop_try_freeze(struct conn_loop *cl)
{
	struct conn_pool *pool = cl->pool;
	struct conn *conn, *next;

	if (!pool->freeze_done || pool->inflight ||
	    !TAILQ_EMPTY(&pool->todo))
		return;
	for (conn = TAILQ_FIRST(&cl->conns); conn; conn = next) {
		next = TAILQ_NEXT(conn, link);
		freeze_conn(conn);
	}
	freeze_ends(pool, true);
}

/* A request that waits for its client to take what it has been sent keeps all
 * the others. */
static void close_slow(struct conn_pool *pool)
{
	struct conn *conn, *next;
	unsigned int nr = 0;

	for (conn = TAILQ_FIRST(&pool->cl->conns); conn; conn = next) {
		next = TAILQ_NEXT(conn, link);
		if (TAILQ_EMPTY(&conn->room_waiters))
			continue;
		conn_kill(conn);
		nr++;
	}
	if (nr)
		log_warn("handoff: closing %u connection%s whose client%s not "
			 "take the replies to what it asked for", nr,
			 nr == 1 ? "" : "s", nr == 1 ? " does" : "s do");
}

static void freeze_timeout(struct timer *timer)
{
	struct conn_pool *pool = container_of(timer, struct conn_pool,
					      freeze_timer);

	if (!pool->freeze_limit_ns) {
		freeze_ends(pool, false);
		return;
	}
	timer_arm(timer, pool->freeze_limit_ns);
	pool->freeze_limit_ns = 0;
	close_slow(pool);
}

void conn_loop_freeze(struct conn_loop *cl, uint64_t client_ns,
		      uint64_t limit_ns, void (*done)(void *arg, bool frozen),
		      void *arg)
{
	struct conn_pool *pool = cl->pool;
	struct conn *conn, *next;

	assert(!cl->freezing);
	cl->freezing = true;
	pool->freeze_done = done;
	pool->freeze_arg = arg;
	pool->freeze_limit_ns = limit_ns;
	timer_init(&pool->freeze_timer, freeze_timeout);
	timer_arm(&pool->freeze_timer, client_ns);
	for (conn = TAILQ_FIRST(&cl->conns); conn; conn = next) {
		next = TAILQ_NEXT(conn, link);
		if (conn->stage)
			conn_unstage(conn);
	}
	/* The turn's end looks whether that was all. */
}

void conn_loop_thaw(struct conn_loop *cl)
{
	bool rested = cl->frozen;
	struct conn *conn;

	cl->freezing = cl->frozen = false;
	TAILQ_FOREACH(conn, &cl->conns, link) {
		if (rested && conn->export) {
			__atomic_add_fetch(&conn->export->nr_clients, 1,
					   __ATOMIC_RELAXED);
			conn->vol = conn->export->vol;
			memset(&conn->ra, 0, sizeof(conn->ra));
		} else if (rested) {
			timeout_handshake(conn);
		}
		conn_todo(conn);
	}
}

/* ---- states ---- */

static void copy_part(char **pp, const void *from, size_t len,
		      const char **partp)
{
	*partp = *pp;
	if (len)
		memcpy(*pp, from, len);
	*pp += len;
}

static void describe(const struct conn *conn, struct conn_state *state)
{
	state->fd = conn->in_fd;
	state->phase = conn->phase == TRANSMISSION ? CONN_STATE_TRANSMISSION :
		       conn->phase == HANDSHAKE_FLAGS ? CONN_STATE_FLAGS :
							CONN_STATE_OPTION;
	state->finishing = conn->finishing;
	state->session = conn->session;
	if (conn->phase == TRANSMISSION)
		state->session.size = volume_size(conn->vol);
	state->tls_least = conn->tls_least;
	state->allocation = conn->phase == TRANSMISSION ?
			    conn->session.allocation : conn->meta_allocation;
	state->client_flags = conn->client_flags;
	state->nr_options = conn->nr_options;
	state->option_bytes = conn->option_bytes;
	state->option = conn->option.option;
	state->option_reply = conn->option_reply;
	state->skip = conn->skip;
	if (conn->skip && conn->phase == TRANSMISSION) {
		state->skip_error = conn->skip_error;
		state->refused = conn->write;
	}
}

static int get_state(struct conn *conn, struct conn_state *state)
{
	const struct export *export = conn->phase == TRANSMISSION ?
			conn->export :
			conn->meta_allocation ? conn->meta_export : NULL;
	size_t name_len = export ? strlen(export->name) : 0;
	char *p;

	describe(conn, state);
	p = state->buf = malloc(name_len + conn->tail_len + conn->out.bytes +
				1);
	if (!p)
		return -ENOMEM;
	state->name_len = name_len;
	state->input_len = conn->tail_len;
	state->output_len = conn->out.bytes;
	if (export)
		copy_part(&p, export->name, name_len, &state->name);
	copy_part(&p, conn_tail_data(conn), conn->tail_len, &state->input);
	state->output = p;
	output_copy(conn, p);
	return 0;
}

int conn_loop_states(struct conn_loop *cl, struct conn_states *list,
		     unsigned int *nr_tlsp)
{
	struct conn_state *state;
	struct conn *conn;

	assert(cl->frozen);
	TAILQ_FOREACH(conn, &cl->conns, link) {
		if (conn->tls || conn->phase == HANDSHAKE_TLS) {
			(*nr_tlsp)++;
			continue;
		}
		state = calloc(1, sizeof(*state));
		if (!state)
			return -ENOMEM;
		STAILQ_INSERT_TAIL(list, state, link);
		if (get_state(conn, state))
			return -ENOMEM;
	}
	return 0;
}

void conn_loop_give_away(struct conn_loop *cl)
{
	struct conn *conn, *next;

	assert(cl->frozen);
	for (conn = TAILQ_FIRST(&cl->conns); conn; conn = next) {
		next = TAILQ_NEXT(conn, link);
		/* As far as the socket takes it: the client has all its
		 * replies, and is told that there will be no more. */
		conn->export = NULL;
		if (conn->tls && !conn->out.bytes)
			conn_tls_end(conn);
		if (!conn->dead)
			conn_kill(conn);
	}
}

/* ---- going on ---- */

const char *conn_state_misfit(const struct conn_state *state,
			      const struct export *export)
{
	const struct nbd_session *session = &state->session;
	uint16_t flags, lacking;

	if (state->phase != CONN_STATE_TRANSMISSION)
		return NULL;
	if (!export)
		return "there is no such export for its client";
	if (MAX(export->tls, state->tls_least) == TLS_REQUIRE)
		return "its export is for those that use TLS";
	/* It may have grown with its file, and clients can live with that. */
	if (volume_size(export->vol) < session->size)
		return "its export is smaller";
	flags = transmission_flags(session->structured, session->extended,
				   session->allocation, export);
	lacking = session->flags & ~flags & ~NBD_ROTATIONAL;
	if (lacking || (flags & NBD_READ_ONLY & ~session->flags))
		return "its export cannot do what was agreed on";
	if (export->block_min > session->block_min ||
	    session->payload_max > PAYLOAD_MAX)
		return "its export has larger blocks";
	return NULL;
}

static int set_state(struct conn *conn, const struct conn_state *state,
		     struct export *export)
{
	conn->phase = state->phase == CONN_STATE_FLAGS ? HANDSHAKE_FLAGS :
							 HANDSHAKE_OPTION;
	conn->finishing = state->finishing;
	conn->session = state->session;
	conn->tls_least = state->tls_least;
	conn->client_flags = state->client_flags;
	conn->nr_options = state->nr_options;
	conn->option_bytes = state->option_bytes;
	conn->option.option = state->option;
	conn->option_reply = state->option_reply;
	conn->skip = state->skip;
	conn->skip_error = (enum nbd_error)state->skip_error;
	conn->write = state->refused;
	if (state->phase == CONN_STATE_TRANSMISSION) {
		peer_fini(&conn->peer);
		transmit_start(conn, export);
	} else if (export) {
		conn->meta_allocation = state->allocation;
		conn->meta_export = export;
	}
	if (state->input_len) {
		char *tail = malloc(state->input_len);

		if (!tail)
			return -ENOMEM;
		memcpy(tail, state->input, state->input_len);
		conn_tail_set(conn, tail, state->input_len);
	}
	return output_from_copy(conn, state->output, state->output_len);
}

int conn_adopt(struct conn_loop *cl, const struct conn_state *state,
	       struct export *export)
{
	struct conn *conn;
	int ret;

	if (state->phase == CONN_STATE_TRANSMISSION && !export) {
		close(state->fd);
		return -ENOENT;
	}
	ret = conn_new(cl, state->fd, state->fd, &conn);
	if (ret)
		return ret;
	ret = set_state(conn, state, export);
	if (ret)
		conn_kill(conn);
	if (conn->phase != TRANSMISSION)
		timeout_handshake(conn);
	/* It sends, parses, and waits for more. */
	conn_todo(conn);
	conn_put(conn);
	return ret;
}
