/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reply.c - a connection's output: replies gathered, sent, and unpinned.
 *
 * Replies are appended to chunks of output and leave with one sendmsg() for
 * all that a batch of requests gave.  A reply's head is written to the chunk
 * itself, its data is sent from where it is cached.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/conn_internal.h"

#define POOL_CHUNKS	32	/* free ones kept by a loop */

/* ---- chunks ---- */

struct out_chunk *reply_chunk_get(struct conn_pool *pool)
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

void reply_chunk_put(struct conn_pool *pool, struct out_chunk *chunk)
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

void reply_pool_drain(struct conn_pool *pool)
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

static void push_chunk(struct conn *conn, struct outq *q,
		       struct out_chunk *chunk)
{
	/* Nobody would free it: reply_drop() has been. */
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
	reply_chunk_put(conn->pool, chunk);
}

/* Where @conn's next reply goes; @nbd's own place if it owns the stream. */
static struct outq *out_queue(struct conn *conn, const struct nbd_request *nbd)
{
	if (unlikely(conn->owner) && nbd != &conn->owner->nbd)
		return &conn->held;
	return &conn->out;
}

/* The last chunk of @q if it has that much room, or a new one. */
static struct out_chunk *out_room(struct conn *conn, struct outq *q,
				  unsigned int iovs, unsigned int pins,
				  unsigned int heads)
{
	struct out_chunk *chunk = q->last;

	if (likely(chunk && !chunk->closed &&
		   chunk->nr_iov + iovs <= CHUNK_IOVS &&
		   chunk->nr_pins + pins <= CHUNK_PINS &&
		   chunk->heads_len + heads <= CHUNK_HEADS))
		return chunk;
	chunk = reply_chunk_get(conn->pool);
	if (!chunk) {
		log_warn("out of memory for replies: closing a connection");
		conn_kill(conn);
		return NULL;
	}
	push_chunk(conn, q, chunk);
	return chunk;
}

/* Room for @len bytes of head at @chunk's end, there must be. */
static void *add_head(struct outq *q, struct out_chunk *chunk, size_t len)
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

static void add_data(struct outq *q, struct out_chunk *chunk, void *base,
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

/* ---- what is said ---- */

void reply_init(struct conn *conn)
{
	STAILQ_INIT(&conn->out.chunks);
	STAILQ_INIT(&conn->held.chunks);
	TAILQ_INIT(&conn->room_waiters);
}

void reply_bytes(struct conn *conn, const void *data, size_t len)
{
	const char *p = data;

	while (len && !conn->dead) {
		struct out_chunk *chunk = out_room(conn, &conn->out, 1, 0, 1);
		size_t n;

		if (!chunk)
			return;
		n = MIN(len, (size_t)(CHUNK_HEADS - chunk->heads_len));
		memcpy(add_head(&conn->out, chunk, n), p, n);
		p += n;
		len -= n;
	}
}

void reply_done(struct conn *conn, const struct nbd_request *nbd,
		enum nbd_error error, const char *text)
{
	struct outq *q = out_queue(conn, nbd);
	struct out_chunk *chunk;
	char buf[NBD_CHUNK_ERROR_MAX];
	size_t len;

	if (conn->dead)
		return;
	if (!conn->session.structured ||
	    (!error && nbd->type != NBD_CMD_READ &&
	     nbd->type != NBD_CMD_BLOCK_STATUS))
		len = nbd_put_simple_reply(buf, nbd->cookie, error);
	else if (error)
		len = nbd_put_chunk_error(buf, nbd->cookie, error,
					  text ? text : nbd_error_text(error));
	else
		len = nbd_put_chunk_none(buf, nbd->cookie);
	chunk = out_room(conn, q, 1, 0, sizeof(buf));
	if (chunk)
		memcpy(add_head(q, chunk, len), buf, len);
}

static void put_simple(struct outq *q, struct out_chunk *chunk,
		       const struct nbd_request *nbd, uint64_t pos,
		       const struct pin *pins, unsigned int nr)
{
	if (pos == nbd->pos)
		nbd_put_simple_reply(add_head(q, chunk,
				sizeof(struct nbd_wire_simple_reply)),
				nbd->cookie, NBD_OK);
	for (unsigned int i = 0; i < nr; i++)
		add_data(q, chunk, pins[i].base, pins[i].len);
}

static void put_data(struct outq *q, struct out_chunk *chunk,
		     const struct nbd_request *nbd, uint64_t pos,
		     const struct pin *pins, unsigned int nr, bool last)
{
	uint32_t len = 0;

	for (unsigned int i = 0; i < nr; i++)
		len += pins[i].len;
	nbd_put_chunk_data(add_head(q, chunk,
				    sizeof(struct nbd_wire_chunk_data)),
			   nbd->cookie, last ? NBD_CHUNK_FLAG_DONE : 0, pos,
			   len);
	for (unsigned int i = 0; i < nr; i++)
		add_data(q, chunk, pins[i].base, pins[i].len);
}

static void put_hole(struct outq *q, struct out_chunk *chunk,
		     const struct nbd_request *nbd, uint64_t pos, uint32_t len,
		     bool last)
{
	nbd_put_chunk_hole(add_head(q, chunk,
				    sizeof(struct nbd_wire_chunk_hole)),
			   nbd->cookie, last ? NBD_CHUNK_FLAG_DONE : 0, pos,
			   len);
}

static bool is_hole(const struct pin *pin)
{
	return pin->frame == 0;
}

/* The pins from @i on that are all data or all hole: where they end. */
static unsigned int run_end(const struct pin *pins, unsigned int i,
			    unsigned int nr)
{
	bool hole = is_hole(&pins[i]);

	do
		i++;
	while (i < nr && is_hole(&pins[i]) == hole);
	return i;
}

/* Would chunks of their own for holes fit in @chunk? */
static bool holes_fit(const struct out_chunk *chunk, const struct pin *pins,
		      unsigned int nr)
{
	unsigned int runs = 0;

	for (unsigned int i = 0; i < nr; i = run_end(pins, i, nr))
		runs++;
	return chunk->nr_iov + runs + nr <= CHUNK_IOVS &&
		chunk->heads_len + runs * sizeof(struct nbd_wire_chunk_hole) <=
			CHUNK_HEADS;
}

static void put_runs(struct outq *q, struct out_chunk *chunk,
		     const struct nbd_request *nbd, uint64_t pos,
		     const struct pin *pins, unsigned int nr, bool last)
{
	unsigned int i = 0;

	while (i < nr) {
		unsigned int end = run_end(pins, i, nr);
		uint32_t len = 0;

		for (unsigned int k = i; k < end; k++)
			len += pins[k].len;
		if (is_hole(&pins[i]))
			put_hole(q, chunk, nbd, pos, len, last && end == nr);
		else
			put_data(q, chunk, nbd, pos, pins + i, end - i,
				 last && end == nr);
		pos += len;
		i = end;
	}
}

/* Answer with the pins, which are in @chunk already. */
static void put_content(struct conn *conn, struct outq *q,
			struct out_chunk *chunk, const struct nbd_request *nbd,
			uint64_t pos, const struct pin *pins, unsigned int nr,
			bool last)
{
	bool holes = false;

	if (!conn->session.structured) {
		put_simple(q, chunk, nbd, pos, pins, nr);
		return;
	}
	for (unsigned int i = 0; i < nr; i++)
		holes |= is_hole(&pins[i]);
	if (holes && !(nbd->flags & NBD_CMD_FLAG_DF) &&
	    holes_fit(chunk, pins, nr))
		put_runs(q, chunk, nbd, pos, pins, nr, last);
	else
		put_data(q, chunk, nbd, pos, pins, nr, last);
}

int reply_read_inline(struct conn *conn, const struct nbd_request *nbd)
{
	struct outq *q = out_queue(conn, nbd);
	unsigned int max = volume_pins_max(nbd->len);
	struct out_chunk *chunk = out_room(conn, q, max + 1, max,
					   sizeof(struct nbd_wire_chunk_hole));
	struct pinvec pv = { .max = max };

	if (unlikely(!chunk))
		return 0;
	pv.pins = chunk->pins + chunk->nr_pins;
	if (volume_read_inline(conn->vol, nbd->pos, nbd->len, &pv, &conn->ra))
		return -EAGAIN;
	chunk->nr_pins += pv.nr;
	put_content(conn, q, chunk, nbd, nbd->pos, pv.pins, pv.nr, true);
	return 0;
}

void reply_pins(struct conn *conn, const struct nbd_request *nbd, uint64_t pos,
		const struct pin *pins, unsigned int nr, bool last)
{
	struct outq *q = out_queue(conn, nbd);
	struct out_chunk *chunk = NULL;

	if (!conn->dead)
		chunk = out_room(conn, q, nr + 1, nr,
				 sizeof(struct nbd_wire_chunk_hole));
	if (!chunk) {
		volume_unpin(conn->cl->shared->cache, pins, nr);
		return;
	}
	memcpy(chunk->pins + chunk->nr_pins, pins, nr * sizeof(*pins));
	chunk->nr_pins += nr;
	put_content(conn, q, chunk, nbd, pos, pins, nr, last);
}

void reply_chunk(struct conn *conn, const struct nbd_request *nbd, uint64_t pos,
		 struct out_chunk *chunk, bool last)
{
	struct outq *q = out_queue(conn, nbd);

	if (conn->dead) {
		reply_chunk_put(conn->pool, chunk);
		return;
	}
	put_content(conn, q, chunk, nbd, pos, chunk->pins, chunk->nr_pins,
		    last);
	push_chunk(conn, q, chunk);
}

void reply_extents(struct conn *conn, const struct nbd_request *nbd,
		   const struct volume_extent *extents, unsigned int nr)
{
	struct outq *q = out_queue(conn, nbd);
	struct out_chunk *chunk;
	size_t len = sizeof(struct nbd_wire_chunk_status) +
		nr * sizeof(struct nbd_wire_extent);
	char *p;

	if (conn->dead)
		return;
	chunk = out_room(conn, q, 1, 0, len);
	if (!chunk)
		return;
	p = add_head(q, chunk, len);
	p += nbd_put_chunk_status(p, nbd->cookie, META_CONTEXT_ID, nr);
	for (unsigned int i = 0; i < nr; i++)
		p += nbd_put_extent(p, extents[i].len,
				    (extents[i].hole ? NBD_STATE_HOLE : 0) |
				    (extents[i].zero ? NBD_STATE_ZERO : 0));
}

/* ---- the stream ---- */

void reply_own(struct conn *conn, struct request *request)
{
	assert(!conn->owner);
	conn->owner = request;
}

void reply_disown(struct conn *conn)
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

void reply_resume(struct conn *conn)
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

void reply_flush(struct conn *conn)
{
	if (likely(!conn->blocked)) {
		reply_resume(conn);
		return;
	}
	copy_if_tight(conn);
	account(conn);
}

static void drop_queue(struct conn *conn, struct outq *q)
{
	while (!STAILQ_EMPTY(&q->chunks))
		pop_chunk(conn, q);
	q->bytes = 0;
}

void reply_drop(struct conn *conn)
{
	drop_queue(conn, &conn->out);
	drop_queue(conn, &conn->held);
	account(conn);
}
