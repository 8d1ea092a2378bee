/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * request_read.c - READs that must wait: for the cache, for room in the output,
 * for their turn in the stream.
 */
#include "server/conn_internal.h"

#define ERROR_BLOCK	UINT64_C(4096)	/* a failed read is told apart to it */

/* ---- waiting for room in the output ---- */

void request_wake_room(struct conn *conn)
{
	struct request *r;

	TAILQ_FOREACH(r, &conn->room_waiters, room_link)
		coroutine_wake(r->co);
}

static void wait_once(struct request *r)
{
	struct conn *conn = r->conn;

	/* Nobody's patience outlasts the shutdown's. */
	if (conn->pool->past_deadline) {
		conn_kill(conn);
		return;
	}
	conn_todo(conn);
	r->co = coroutine_self();
	TAILQ_INSERT_TAIL(&conn->room_waiters, r, room_link);
	coroutine_yield();
	TAILQ_REMOVE(&conn->room_waiters, r, room_link);
}

/* A read goes on while less than this is unsent. */
static size_t room(const struct conn *conn)
{
	return MIN((size_t)OUT_ROOM, conn_held_max(conn) - 1);
}

/* 0, or -EPIPE if the connection died. */
static int wait_for_room(struct request *r)
{
	struct conn *conn = r->conn;

	while (!conn->dead &&
	       conn->out.bytes + conn->held.bytes > room(conn))
		wait_once(r);
	return conn->dead ? -EPIPE : 0;
}

/* The same for a request that owns the stream: what is held back is waiting
 * for it. */
static int wait_for_stream_room(struct request *r)
{
	struct conn *conn = r->conn;

	while (!conn->dead && conn->out.bytes > room(conn))
		wait_once(r);
	return conn->dead ? -EPIPE : 0;
}

static int wait_for_stream(struct request *r)
{
	struct conn *conn = r->conn;

	while (!conn->dead && conn->owner)
		wait_once(r);
	return conn->dead ? -EPIPE : 0;
}

/* ---- reading ---- */

/* Read a piece into a chunk of output. */
static int read_piece(struct request *r, uint64_t pos, uint32_t len,
		      struct out_chunk **chunkp)
{
	struct conn *conn = r->conn;
	struct out_chunk *chunk = output_chunk_get(conn->pool);
	struct pinvec pv = { .max = volume_pins_max(len) };
	int ret;

	if (!chunk)
		return -ENOMEM;
	pv.pins = chunk->pins;
	ret = volume_read(conn->vol, pos, len, &pv, &conn->ra);
	if (ret) {
		output_chunk_put(conn->pool, chunk);
		return ret;
	}
	chunk->nr_pins = pv.nr;
	*chunkp = chunk;
	return 0;
}

/* Is it worth while to learn what exactly of [@pos, @pos + @len) failed? */
static bool can_halve(const struct request *r, uint64_t pos, uint32_t len,
		      int err)
{
	return nbd_error_from_errno(err) == NBD_EIO &&
		r->conn->session.structured &&
		!(r->nbd.flags & NBD_CMD_FLAG_DF) &&
		pos / ERROR_BLOCK != (pos + len - 1) / ERROR_BLOCK;
}

/* About @most bytes of [@pos, @end), up to where a block ends. */
static uint32_t piece_len(uint64_t pos, uint64_t end, uint32_t most)
{
	uint64_t to = round_down64(pos + most, ERROR_BLOCK);

	if (to <= pos)
		to = round_down64(pos, ERROR_BLOCK) + ERROR_BLOCK;
	return MIN(to, end) - pos;
}

/* The end of a read: it failed at @pos, in answer to so much only. */
static void answer_at(struct request *r, int err, uint64_t pos)
{
	if (nbd_error_from_errno(err) == NBD_EIO &&
	    r->conn->session.structured && !(r->nbd.flags & NBD_CMD_FLAG_DF))
		reply_error_at(r->conn, &r->nbd, NBD_EIO, pos);
	else
		request_answer(r, err);
}

/*
 * In pieces, each a structured reply's chunk: the client's slowness holds up
 * nobody, and an error is told when it occurs.  A piece that failed is read
 * again by halves, so that the client gets all before the bad block, and is
 * told where that is.  @most: of the first piece; 0 for no such limit.
 */
static void read_chunks(struct request *r, uint32_t most)
{
	uint64_t pos = r->nbd.pos, end = pos + r->nbd.len;
	uint64_t bad_end = most ? end : 0;
	struct out_chunk *chunk;

	while (pos < end) {
		uint32_t len;
		int ret;

		if (wait_for_room(r))
			return;
		if (pos >= bad_end)
			most = PIECE_MAX;
		len = piece_len(pos, end, MIN(most, conn_piece_max(r->conn)));
		ret = read_piece(r, pos, len, &chunk);
		if (ret && can_halve(r, pos, len, ret)) {
			bad_end = MAX(bad_end, pos + len);
			most = len / 2;
			continue;
		}
		if (ret) {
			answer_at(r, ret, pos);
			return;
		}
		reply_chunk(r->conn, &r->nbd, pos, chunk, pos + len == end);
		pos += len;
	}
}

/* All of it failed at once. */
static void read_failed(struct request *r, int err)
{
	if (can_halve(r, r->nbd.pos, r->nbd.len, err))
		read_chunks(r, r->nbd.len / 2);
	else
		answer_at(r, err, r->nbd.pos);
}

static void read_small(struct request *r)
{
	struct conn *conn = r->conn;
	struct pinvec pv = { r->pins, 0, volume_pins_max(r->nbd.len) };
	int ret;

	ret = volume_read(conn->vol, r->nbd.pos, r->nbd.len, &pv, &conn->ra);
	if (ret)
		read_failed(r, ret);
	else
		reply_pins(conn, &r->nbd, r->nbd.pos, r->pins, pv.nr, true);
}

/*
 * In pieces behind one head: the stream is ours until the last one.  The first
 * piece is read before, so that an error there can still be told; later there
 * is no way but to disconnect.
 */
static void read_stream(struct request *r)
{
	uint64_t pos = r->nbd.pos, end = pos + r->nbd.len;
	struct conn *conn = r->conn;
	struct out_chunk *chunk;
	uint32_t len = MIN(r->nbd.len, conn_piece_max(conn));
	int ret;

	ret = read_piece(r, pos, len, &chunk);
	if (ret) {
		request_answer(r, ret);
		return;
	}
	if (wait_for_stream(r)) {
		output_chunk_put(conn->pool, chunk);
		return;
	}
	output_own(conn, r);
	for (;;) {
		reply_chunk(conn, &r->nbd, pos, chunk, false);
		pos += len;
		if (pos == end || wait_for_stream_room(r))
			break;
		len = MIN(end - pos, (uint64_t)conn_piece_max(conn));
		ret = read_piece(r, pos, len, &chunk);
		if (ret) {
			log_warn("a read failed in the middle of its reply: closing a connection");
			conn_kill(conn);
			break;
		}
	}
	output_disown(conn);
	request_wake_room(conn);
}

void request_read(struct request *r)
{
	struct conn *conn = r->conn;
	struct out_chunk *chunk;
	int ret;

	if (r->nbd.len <= READ_SMALL_MAX) {
		read_small(r);
	} else if (r->nbd.len <= conn_piece_max(conn) ||
		   (r->nbd.flags & NBD_CMD_FLAG_DF)) {
		ret = read_piece(r, r->nbd.pos, r->nbd.len, &chunk);
		if (ret)
			read_failed(r, ret);
		else
			reply_chunk(conn, &r->nbd, r->nbd.pos, chunk, true);
	} else if (conn->session.structured) {
		read_chunks(r, 0);
	} else {
		read_stream(r);
	}
}
