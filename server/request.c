/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * request.c - requests that must wait, each in a coroutine: their life, and all
 * but reading.
 *
 * A request holds a reference to its connection.  The connection may die
 * while it waits: what it did stays done, and its reply is dropped.
 */
#include <errno.h>
#include <stdlib.h>

#include "server/conn_internal.h"

#define POOL_REQUESTS	2048			/* free ones kept by a loop */

/* Pieces of TRIM and WRITE_ZEROES, and of very long ones: a multiple of the
 * former, for each walks through the cache. */
#define ZERO_PIECE	(UINT64_C(64) << 20)
#define ZERO_LONG	(UINT64_C(64) << 30)
#define ZERO_LONG_PIECE	(UINT64_C(8) << 30)
#define ZERO_PIECES_MAX	1024

/* BLOCK_STATUS is answered for what the store says of so many pieces. */
#define STATUS_PIECE	(UINT64_C(64) << 30)
#define STATUS_PIECES	256

void request_answer(struct request *r, int err)
{
	reply_done(r->conn, &r->nbd, nbd_error_from_errno(err), NULL);
}

static unsigned int volume_flags(const struct nbd_request *nbd)
{
	unsigned int flags = 0;

	if (nbd->flags & NBD_CMD_FLAG_FUA)
		flags |= VOLUME_FUA;
	if (nbd->flags & NBD_CMD_FLAG_NO_HOLE)
		flags |= VOLUME_NO_HOLE;
	if (nbd->flags & NBD_CMD_FLAG_FAST_ZERO)
		flags |= VOLUME_FAST_ZERO;
	return flags;
}

static int serve_write(struct request *r)
{
	if (r->stage)
		return volume_write_stage(&r->stage, volume_flags(&r->nbd));
	return volume_write(r->conn->vol, r->nbd.pos, r->nbd.len, r->payload,
			    volume_flags(&r->nbd));
}

static uint64_t zero_piece(uint64_t len)
{
	if (len <= ZERO_LONG)
		return ZERO_PIECE;
	return MAX(ZERO_LONG_PIECE, len / ZERO_PIECES_MAX);
}

/* Nobody waits for the rest of a long request. */
static bool may_stop(const struct request *r)
{
	return r->conn->dead || r->conn->pool->past_deadline;
}

/*
 * TRIM and WRITE_ZEROES: in pieces, so that no writer waits for gigabytes,
 * and others run in between.  A fast one is fast, and must not fail half done.
 */
static int serve_zero(struct request *r)
{
	uint64_t pos = r->nbd.pos, end = pos + r->nbd.len;
	uint64_t piece = zero_piece(r->nbd.len);
	unsigned int flags = volume_flags(&r->nbd);
	struct volume *vol = r->conn->vol;
	int ret = 0;

	while (pos < end && !ret) {
		/* Pieces end where blocks do. */
		uint64_t next = round_down64(pos + piece, ZERO_PIECE);

		if (next > end || (flags & VOLUME_FAST_ZERO))
			next = end;
		if (pos != r->nbd.pos) {
			if (may_stop(r))
				return -ESHUTDOWN;
			coroutine_relax();
		}
		if (r->nbd.type == NBD_CMD_TRIM)
			ret = volume_trim(vol, pos, next - pos, flags);
		else
			ret = volume_zero(vol, pos, next - pos, flags);
		pos = next;
	}
	return ret;
}

static unsigned int extents_max(const struct nbd_request *nbd)
{
	if (nbd->flags & NBD_CMD_FLAG_REQ_ONE)
		return 1;
	return nbd->extended ? EXTENTS_EXT_MAX : EXTENTS_MAX;
}

/* Make @extents[@nr] part of the one before it if that is of the same kind.
 * Returns how many there are then. */
static unsigned int join_extent(struct volume_extent *extents, unsigned int nr)
{
	struct volume_extent *ext = &extents[nr], *last = ext - 1;

	if (!nr || last->hole != ext->hole || last->zero != ext->zero)
		return nr + 1;
	last->len += ext->len;
	return nr;
}

/*
 * Describe the request's range in at most @max extents, of which @extents has
 * room for one more.  Returns how many, or -errno.
 */
static int get_extents(struct request *r, struct volume_extent *extents,
		       unsigned int max)
{
	unsigned int nr = 0, pieces = 0;
	uint64_t done = 0;

	while (nr <= max && done < r->nbd.len && pieces++ < STATUS_PIECES) {
		uint64_t left = MIN(r->nbd.len - done, STATUS_PIECE);
		unsigned int n = max + 1 - nr, from = nr;
		int ret;

		if (done)
			coroutine_relax();
		ret = volume_extents(r->conn->vol, r->nbd.pos + done, left,
				     extents + from, &n);
		if (ret)
			return nr ? (int)MIN(nr, max) : ret;
		for (unsigned int i = from; i < from + n && left; i++) {
			extents[nr] = extents[i];
			extents[nr].len = MIN(extents[nr].len, left);
			left -= extents[nr].len;
			done += extents[nr].len;
			nr = join_extent(extents, nr);
		}
	}
	return (int)MIN(nr, max);
}

/* Hold what the volume says to what the protocol allows: at most the request's
 * length, one extent where one is wanted. */
static void serve_status(struct request *r)
{
	unsigned int max = extents_max(&r->nbd);
	struct volume_extent *extents = calloc(max + 1, sizeof(*extents));
	int ret = extents ? get_extents(r, extents, max) : -ENOMEM;

	if (ret > 0)
		reply_extents(r->conn, &r->nbd, extents, ret);
	else
		request_answer(r, ret);
	free(extents);
}

static void serve(struct request *r)
{
	struct conn *conn = r->conn;
	int ret;

	switch (r->nbd.type) {
	case NBD_CMD_READ:
		request_read(r);
		return;
	case NBD_CMD_BLOCK_STATUS:
		serve_status(r);
		return;
	case NBD_CMD_WRITE:
		ret = serve_write(r);
		break;
	case NBD_CMD_FLUSH:
		ret = volume_flush(conn->vol);
		break;
	case NBD_CMD_CACHE:
		ret = volume_prefetch(conn->vol, r->nbd.pos, r->nbd.len);
		break;
	default:
		ret = serve_zero(r);
	}
	request_answer(r, ret);
}

/* ---- life ---- */

static struct request *request_get(struct conn *conn,
				   const struct nbd_request *nbd)
{
	struct conn_pool *pool = conn->pool;
	struct request *r = SLIST_FIRST(&pool->requests);

	if (r) {
		SLIST_REMOVE_HEAD(&pool->requests, link);
		pool->nr_requests--;
	} else {
		r = malloc(sizeof(*r));
		if (!r)
			return NULL;
	}
	r->conn = conn;
	r->nbd = *nbd;
	r->payload = NULL;
	r->stage = NULL;
	r->charge = 0;
	conn_get(conn);
	conn->inflight++;
	pool->inflight++;
	return r;
}

static void request_put(struct request *r)
{
	struct conn *conn = r->conn;
	struct conn_pool *pool = conn->pool;

	free(r->payload);
	stage_free(r->stage);
	conn->charged -= r->charge;
	conn->inflight--;
	pool->inflight--;
	if (pool->nr_requests < POOL_REQUESTS) {
		SLIST_INSERT_HEAD(&pool->requests, r, link);
		pool->nr_requests++;
	} else {
		free(r);
	}
	conn_todo(conn);
	conn_put(conn);
}

void request_pool_drain(struct conn_pool *pool)
{
	struct request *r;

	while ((r = SLIST_FIRST(&pool->requests))) {
		SLIST_REMOVE_HEAD(&pool->requests, link);
		free(r);
	}
	pool->nr_requests = 0;
}

static void request_main(void *arg)
{
	struct request *r = arg;

	serve(r);
	request_put(r);
}

static void stage_main(void *arg)
{
	struct request *r = arg;
	struct conn *conn = r->conn;
	unsigned int *nr_waiters = &conn->cl->shared->nr_stage_waiters;
	struct stage *stage = NULL;
	int ret;

	__atomic_add_fetch(nr_waiters, 1, __ATOMIC_RELAXED);
	ret = stage_alloc_wait(conn->vol, r->nbd.pos, r->nbd.len, &stage);
	__atomic_sub_fetch(nr_waiters, 1, __ATOMIC_RELAXED);
	if (conn->dead) {
		stage_free(stage);
	} else {
		transmit_stage_ready(conn, stage, ret);
		conn_todo(conn);
	}
	request_put(r);
}

int request_start(struct conn *conn, const struct nbd_request *nbd,
		  void *payload, struct stage *stage)
{
	struct request *r = request_get(conn, nbd);
	int ret;

	if (!r) {
		free(payload);
		stage_free(stage);
		return -ENOMEM;
	}
	r->payload = payload;
	r->stage = stage;
	if (nbd->type == NBD_CMD_READ)
		r->charge = MIN(nbd->len, (uint64_t)PIECE_MAX);
	else if (payload)
		r->charge = nbd->len;
	conn->charged += r->charge;
	ret = coroutine_start(request_main, r);
	if (ret)
		request_put(r);
	return ret;
}

int request_start_stage(struct conn *conn)
{
	struct request *r = request_get(conn, &conn->write);
	int ret;

	if (!r)
		return -ENOMEM;
	ret = coroutine_start(stage_main, r);
	if (ret)
		request_put(r);
	return ret;
}
