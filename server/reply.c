/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reply.c - what is answered to a request, appended to the connection's output.
 */
#include <errno.h>
#include <string.h>

#include "server/conn_internal.h"

void reply_bytes(struct conn *conn, const void *data, size_t len)
{
	const char *p = data;

	while (len && !conn->dead) {
		struct out_chunk *chunk = output_room(conn, &conn->out, 1, 0, 1);
		size_t n;

		if (!chunk)
			return;
		n = MIN(len, (size_t)(CHUNK_HEADS - chunk->heads_len));
		memcpy(output_head(&conn->out, chunk, n), p, n);
		p += n;
		len -= n;
	}
}

/* @buf is a whole reply, or a chunk without content. */
static void append(struct conn *conn, const struct nbd_request *nbd,
		   const char *buf, size_t len)
{
	struct outq *q = output_queue(conn, nbd);
	struct out_chunk *chunk = output_room(conn, q, 1, 0,
					      NBD_CHUNK_ERROR_MAX);

	if (chunk)
		memcpy(output_head(q, chunk, len), buf, len);
}

/* May, or must, the answer to @nbd be a simple reply? */
static bool is_simple(const struct conn *conn, const struct nbd_request *nbd,
		      enum nbd_error error)
{
	if (unlikely(nbd->extended))
		return false;
	return !conn->session.structured ||
		(!error && nbd->type != NBD_CMD_READ &&
		 nbd->type != NBD_CMD_BLOCK_STATUS);
}

void reply_done(struct conn *conn, const struct nbd_request *nbd,
		enum nbd_error error, const char *text)
{
	char buf[NBD_CHUNK_ERROR_MAX];
	size_t len;

	if (conn->dead)
		return;
	if (is_simple(conn, nbd, error))
		len = nbd_put_simple_reply(buf, nbd->cookie, error);
	else if (error)
		len = nbd_put_chunk_error(buf, nbd, error, text ? text :
					  nbd_error_text(nbd->type, error));
	else
		len = nbd_put_chunk_none(buf, nbd);
	append(conn, nbd, buf, len);
}

void reply_error_at(struct conn *conn, const struct nbd_request *nbd,
		    enum nbd_error error, uint64_t pos)
{
	char buf[NBD_CHUNK_ERROR_MAX];

	if (conn->dead)
		return;
	append(conn, nbd, buf,
	       nbd_put_chunk_error_at(buf, nbd, error,
				      nbd_error_text(nbd->type, error), pos));
}

static void put_simple(struct outq *q, struct out_chunk *chunk,
		       const struct nbd_request *nbd, uint64_t pos,
		       const struct pin *pins, unsigned int nr)
{
	if (pos == nbd->pos)
		nbd_put_simple_reply(output_head(q, chunk,
				sizeof(struct nbd_wire_simple_reply)),
				nbd->cookie, NBD_OK);
	for (unsigned int i = 0; i < nr; i++)
		output_data(q, chunk, pins[i].base, pins[i].len);
}

static void put_data(struct outq *q, struct out_chunk *chunk,
		     const struct nbd_request *nbd, uint64_t pos,
		     const struct pin *pins, unsigned int nr, bool last)
{
	uint32_t len = 0;

	for (unsigned int i = 0; i < nr; i++)
		len += pins[i].len;
	nbd_put_chunk_data(output_head(q, chunk, nbd_chunk_size(nbd) +
				       sizeof(struct nbd_wire_data)),
			   nbd, last ? NBD_CHUNK_FLAG_DONE : 0, pos, len);
	for (unsigned int i = 0; i < nr; i++)
		output_data(q, chunk, pins[i].base, pins[i].len);
}

static void put_hole(struct outq *q, struct out_chunk *chunk,
		     const struct nbd_request *nbd, uint64_t pos, uint32_t len,
		     bool last)
{
	nbd_put_chunk_hole(output_head(q, chunk, nbd_chunk_size(nbd) +
				       sizeof(struct nbd_wire_hole)),
			   nbd, last ? NBD_CHUNK_FLAG_DONE : 0, pos, len);
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
		chunk->heads_len + runs * NBD_CONTENT_MAX <= CHUNK_HEADS;
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
	struct outq *q = output_queue(conn, nbd);
	unsigned int max = volume_pins_max(nbd->len);
	struct out_chunk *chunk = output_room(conn, q, max + 1, max,
					      NBD_CONTENT_MAX);
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
	struct outq *q = output_queue(conn, nbd);
	struct out_chunk *chunk = NULL;

	if (!conn->dead)
		chunk = output_room(conn, q, nr + 1, nr, NBD_CONTENT_MAX);
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
	struct outq *q = output_queue(conn, nbd);

	if (conn->dead) {
		output_chunk_put(conn->pool, chunk);
		return;
	}
	put_content(conn, q, chunk, nbd, pos, chunk->pins, chunk->nr_pins,
		    last);
	output_push(conn, q, chunk);
}

void reply_extents(struct conn *conn, const struct nbd_request *nbd,
		   const struct volume_extent *extents, unsigned int nr)
{
	struct outq *q = output_queue(conn, nbd);
	struct out_chunk *chunk;
	size_t len = nbd_status_size(nbd, nr);
	char *p;

	if (conn->dead)
		return;
	chunk = output_room(conn, q, 1, 0, len);
	if (!chunk)
		return;
	p = output_head(q, chunk, len);
	p += nbd_put_chunk_status(p, nbd, META_CONTEXT_ID, nr);
	for (unsigned int i = 0; i < nr; i++)
		p += nbd_put_extent(p, nbd, extents[i].len,
				    (extents[i].hole ? NBD_STATE_HOLE : 0) |
				    (extents[i].zero ? NBD_STATE_ZERO : 0));
}
