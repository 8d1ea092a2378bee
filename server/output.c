/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * output.c - a connection's output: gathered in chunks, sent, and unpinned.
 *
 * What reply.c says is appended to chunks and leaves with one sendmsg() for all
 * that a batch of requests gave.  Heads are written to the chunk itself, data
 * is sent from where it is cached.  A client that does not take it is not
 * allowed to keep the cache: what it has pinned is then copied.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/conn_internal.h"

#define POOL_CHUNKS	32	/* free ones kept by a loop */

/* ---- chunks ---- */

struct out_chunk *output_chunk_get(struct conn_pool *pool)
{
	struct out_chunk *chunk = STAILQ_FIRST(&pool->chunks);

	if (likely(chunk)) {
		STAILQ_REMOVE_HEAD(&pool->chunks, link);
		pool->nr_chunks--;
	} else {
		chunk = malloc(sizeof(*chunk));
		if (!chunk)
			return NULL;
	}
	chunk->first_iov = chunk->nr_iov = 0;
	chunk->nr_pins = 0;
	chunk->heads_len = 0;
	chunk->ends_in_head = chunk->closed = false;
	chunk->bytes = chunk->weight = 0;
	chunk->nr_weighed = 0;
	chunk->copy = NULL;
	return chunk;
}

void output_chunk_put(struct conn_pool *pool, struct out_chunk *chunk)
{
	if (chunk->nr_pins)
		volume_unpin(pool->cl->shared->cache, chunk->pins,
			     chunk->nr_pins);
	if (unlikely(chunk->copy))
		free(chunk->copy);
	if (pool->nr_chunks >= POOL_CHUNKS) {
		free(chunk);
		return;
	}
	STAILQ_INSERT_HEAD(&pool->chunks, chunk, link);
	pool->nr_chunks++;
}

void output_pool_drain(struct conn_pool *pool)
{
	struct out_chunk *chunk;

	while ((chunk = STAILQ_FIRST(&pool->chunks))) {
		STAILQ_REMOVE_HEAD(&pool->chunks, link);
		free(chunk);
	}
	pool->nr_chunks = 0;
}

/* Learn what memory the pins keep that were added since. */
static void weigh(struct conn *conn, struct out_chunk *chunk)
{
	size_t more = volume_pinned_bytes(conn->cl->shared->cache,
					  chunk->pins + chunk->nr_weighed,
					  chunk->nr_pins - chunk->nr_weighed);

	chunk->nr_weighed = chunk->nr_pins;
	chunk->weight += more;
	conn->weight += more;
}

/* Some of its pins are released. */
static void unweigh(struct conn *conn, struct out_chunk *chunk)
{
	conn->weight -= chunk->weight;
	chunk->weight = 0;
	chunk->nr_weighed = 0;
}

void output_push(struct conn *conn, struct outq *q,
		       struct out_chunk *chunk)
{
	/* Nobody would free it: output_drop() has been. */
	assert(!conn->dead);
	STAILQ_INSERT_TAIL(&q->chunks, chunk, link);
	q->last = chunk;
	conn->nr_chunks++;
}

/* Be done with the first. */
static void pop_chunk(struct conn *conn, struct outq *q)
{
	struct out_chunk *chunk = STAILQ_FIRST(&q->chunks);

	STAILQ_REMOVE_HEAD(&q->chunks, link);
	if (STAILQ_EMPTY(&q->chunks))
		q->last = NULL;
	conn->nr_chunks--;
	unweigh(conn, chunk);
	output_chunk_put(conn->pool, chunk);
}

/* Where @conn's next reply goes; @nbd's own place if it owns the stream. */
struct outq *output_queue(struct conn *conn, const struct nbd_request *nbd)
{
	if (unlikely(conn->owner) && nbd != &conn->owner->nbd)
		return &conn->held;
	return &conn->out;
}

/* The last chunk of @q if it has that much room, or a new one. */
struct out_chunk *output_room(struct conn *conn, struct outq *q,
				  unsigned int iovs, unsigned int pins,
				  unsigned int heads)
{
	struct out_chunk *chunk = q->last;

	if (likely(chunk && !chunk->closed &&
		   chunk->nr_iov + iovs <= CHUNK_IOVS &&
		   chunk->nr_pins + pins <= CHUNK_PINS &&
		   chunk->heads_len + heads <= CHUNK_HEADS))
		return chunk;
	chunk = output_chunk_get(conn->pool);
	if (!chunk) {
		log_warn("out of memory for replies: closing a connection");
		conn_kill(conn);
		return NULL;
	}
	output_push(conn, q, chunk);
	return chunk;
}

/* Room for @len bytes of head at @chunk's end, there must be. */
void *output_head(struct outq *q, struct out_chunk *chunk, size_t len)
{
	char *p = chunk->heads + chunk->heads_len;

	if (chunk->ends_in_head)
		chunk->iov[chunk->nr_iov - 1].iov_len += len;
	else
		chunk->iov[chunk->nr_iov++] = (struct iovec){ p, len };
	chunk->ends_in_head = true;
	chunk->heads_len += len;
	chunk->bytes += len;
	q->bytes += len;
	return p;
}

void output_data(struct outq *q, struct out_chunk *chunk, void *base,
		     size_t len)
{
	struct iovec *last = chunk->nr_iov && !chunk->ends_in_head ?
		&chunk->iov[chunk->nr_iov - 1] : NULL;

	if (last && (char *)last->iov_base + last->iov_len == base)
		last->iov_len += len;
	else
		chunk->iov[chunk->nr_iov++] = (struct iovec){ base, len };
	chunk->ends_in_head = false;
	chunk->bytes += len;
	q->bytes += len;
}

/* ---- the stream ---- */

void output_init(struct conn *conn)
{
	STAILQ_INIT(&conn->out.chunks);
	STAILQ_INIT(&conn->held.chunks);
	TAILQ_INIT(&conn->room_waiters);
}

void output_own(struct conn *conn, struct request *request)
{
	assert(!conn->owner);
	conn->owner = request;
}

void output_disown(struct conn *conn)
{
	conn->owner = NULL;
	STAILQ_CONCAT(&conn->out.chunks, &conn->held.chunks);
	if (conn->held.last)
		conn->out.last = conn->held.last;
	conn->held.last = NULL;
	conn->out.bytes += conn->held.bytes;
	conn->held.bytes = 0;
}

/* Tell the process what is held, if it changed enough to matter. */
static void account(struct conn *conn)
{
	size_t held = conn->dead ? 0 : conn_held(conn) + conn->tail_size;
	size_t change = held > conn->accounted ? held - conn->accounted :
						 conn->accounted - held;

	if (likely(change == 0) || (held && change < HELD_MIN))
		return;
	__atomic_add_fetch(&conn->cl->shared->reply_bytes,
			   held - conn->accounted, __ATOMIC_RELAXED);
	conn->accounted = held;
}

/* @n bytes of @chunk, not all, are sent. */
static void advance(struct out_chunk *chunk, size_t n)
{
	struct iovec *iov = &chunk->iov[chunk->first_iov];

	chunk->bytes -= n;
	while (n >= iov->iov_len) {
		n -= iov->iov_len;
		iov++;
		chunk->first_iov++;
	}
	iov->iov_base = (char *)iov->iov_base + n;
	iov->iov_len -= n;
}

static bool is_head(const struct out_chunk *chunk, const struct iovec *iov)
{
	const char *base = iov->iov_base;

	return base >= chunk->heads && base < chunk->heads + CHUNK_HEADS;
}

/*
 * Part of @chunk is sent: release the pins before that of the first unsent
 * byte of data.  Pins stand in the order in which they are sent; of two that
 * look the same the first is taken for it, so that none goes too early.
 */
static void unpin_sent(struct conn *conn, struct out_chunk *chunk)
{
	unsigned int i = chunk->first_iov, nr = 0;
	const char *base;

	while (i < chunk->nr_iov && is_head(chunk, &chunk->iov[i]))
		i++;
	if (i == chunk->nr_iov || !chunk->nr_pins)
		return;
	base = chunk->iov[i].iov_base;
	while (nr < chunk->nr_pins &&
	       (base < (char *)chunk->pins[nr].base ||
		base >= (char *)chunk->pins[nr].base + chunk->pins[nr].len))
		nr++;
	if (nr == 0 || nr == chunk->nr_pins)
		return;
	volume_unpin(conn->cl->shared->cache, chunk->pins, nr);
	unweigh(conn, chunk);
	chunk->nr_pins -= nr;
	memmove(chunk->pins, chunk->pins + nr,
		chunk->nr_pins * sizeof(chunk->pins[0]));
}

static void send_chunks(struct conn *conn)
{
	struct out_chunk *chunk;

	while ((chunk = STAILQ_FIRST(&conn->out.chunks))) {
		size_t bytes = chunk->bytes;
		ssize_t n;

		n = bytes ? conn_send(conn, chunk->iov + chunk->first_iov,
				      chunk->nr_iov - chunk->first_iov) : 0;
		if (n < 0 && n != -EAGAIN) {
			conn_kill(conn);
			return;
		}
		if (n > 0) {
			conn->out.bytes -= n;
			conn->nr_sent += n;
		}
		if (n == (ssize_t)bytes) {
			pop_chunk(conn, &conn->out);
			continue;
		}
		/* A stream takes less than all only when it is full. */
		if (n > 0) {
			advance(chunk, n);
			unpin_sent(conn, chunk);
		}
		conn_set_blocked(conn, true);
		return;
	}
	if (unlikely(conn->tls) && !conn_tls_flush(conn))
		return;
	if (unlikely(conn->blocked))
		conn_set_blocked(conn, false);
}

/* Send from a copy instead, so that nothing stays pinned. */
static void copy_pinned(struct conn *conn, struct out_chunk *chunk)
{
	size_t len = 0;
	char *p;

	if (!chunk->nr_pins)
		return;
	for (unsigned int i = chunk->first_iov; i < chunk->nr_iov; i++)
		len += is_head(chunk, &chunk->iov[i]) ? 0 :
						chunk->iov[i].iov_len;
	p = malloc(len ? len : 1);
	if (!p)
		return;
	chunk->copy = p;
	chunk->closed = true;
	for (unsigned int i = chunk->first_iov; i < chunk->nr_iov; i++) {
		struct iovec *iov = &chunk->iov[i];

		if (is_head(chunk, iov))
			continue;
		memcpy(p, iov->iov_base, iov->iov_len);
		iov->iov_base = p;
		p += iov->iov_len;
	}
	volume_unpin(conn->cl->shared->cache, chunk->pins, chunk->nr_pins);
	unweigh(conn, chunk);
	chunk->nr_pins = 0;
}

/* Does a client that takes nothing keep too much of the cache from others?
 * Small parts of many folios keep more than their bytes tell. */
static bool pins_too_much(struct conn *conn)
{
	struct out_chunk *chunk;

	STAILQ_FOREACH(chunk, &conn->out.chunks, link)
		weigh(conn, chunk);
	STAILQ_FOREACH(chunk, &conn->held.chunks, link)
		weigh(conn, chunk);
	return conn_is_tight(conn) ||
		(conn->weight > conn->out.bytes + conn->held.bytes &&
		 conn->weight > conn_held_max(conn));
}

static void copy_if_tight(struct conn *conn)
{
	struct out_chunk *chunk;

	if (!pins_too_much(conn))
		return;
	STAILQ_FOREACH(chunk, &conn->out.chunks, link)
		copy_pinned(conn, chunk);
	STAILQ_FOREACH(chunk, &conn->held.chunks, link)
		copy_pinned(conn, chunk);
}

void output_resume(struct conn *conn)
{
	if (conn->dead)
		return;
	send_chunks(conn);
	if (unlikely(conn->blocked))
		copy_if_tight(conn);
	account(conn);
	if (unlikely(!TAILQ_EMPTY(&conn->room_waiters)))
		request_wake_room(conn);
}

void output_flush(struct conn *conn)
{
	if (likely(!conn->blocked)) {
		output_resume(conn);
		return;
	}
	copy_if_tight(conn);
	account(conn);
}

bool output_own_all(struct conn *conn)
{
	struct out_chunk *chunk;

	assert(STAILQ_EMPTY(&conn->held.chunks));
	STAILQ_FOREACH(chunk, &conn->out.chunks, link) {
		copy_pinned(conn, chunk);
		if (chunk->nr_pins)
			return false;
	}
	return true;
}

void output_copy(const struct conn *conn, char *p)
{
	const struct out_chunk *chunk;

	STAILQ_FOREACH(chunk, &conn->out.chunks, link) {
		for (unsigned int i = chunk->first_iov; i < chunk->nr_iov;
		     i++) {
			memcpy(p, chunk->iov[i].iov_base,
			       chunk->iov[i].iov_len);
			p += chunk->iov[i].iov_len;
		}
	}
}

int output_from_copy(struct conn *conn, const void *p, size_t len)
{
	struct out_chunk *chunk;

	if (!len)
		return 0;
	chunk = output_room(conn, &conn->out, 1, 0, 0);
	if (!chunk)
		return -ENOMEM;
	chunk->copy = malloc(len);
	if (!chunk->copy)
		return -ENOMEM;
	memcpy(chunk->copy, p, len);
	chunk->closed = true;
	output_data(&conn->out, chunk, chunk->copy, len);
	return 0;
}

static void drop_queue(struct conn *conn, struct outq *q)
{
	while (!STAILQ_EMPTY(&q->chunks))
		pop_chunk(conn, q);
	q->bytes = 0;
}

void output_drop(struct conn *conn)
{
	drop_queue(conn, &conn->out);
	drop_queue(conn, &conn->held);
	account(conn);
}
