/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transmit.c - requests as they come out of the input.
 *
 * What the cache can answer at once is answered here, the rest goes to
 * request.c.  The payload of a WRITE takes one of these ways:
 *
 *	whole in the input, up to 64 KiB	volume_write_inline() from there
 *	up to 32 KiB, not whole			awaited in the tail
 *	else					received into a stage
 *	refused					dropped as it comes
 *
 * so that nothing is changed before a payload is complete.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/conn_internal.h"

/*
 * What every request goes through is compiled twice, see transmit_parse(), so
 * that compact ones pay nothing for extended ones.  @extended is then constant.
 */
#define TWICE static inline __attribute__((always_inline))

void transmit_start(struct conn *conn, struct export *export)
{
	conn->phase = TRANSMISSION;
	conn->export = export;
	conn->vol = export->vol;
	__atomic_add_fetch(&export->nr_clients, 1, __ATOMIC_RELAXED);
}

/* ---- limits ---- */

/* Bytes that @nbd will hold of what conn_held() counts. */
static size_t will_hold(const struct nbd_request *nbd)
{
	if (nbd->type == NBD_CMD_READ)
		return MIN(nbd->len, (uint64_t)PIECE_MAX);
	if (nbd->type == NBD_CMD_WRITE && nbd->len <= WRITE_INLINE_MAX)
		return nbd->len;
	return 0;
}

static bool within_limits(const struct conn *conn,
			  const struct nbd_request *nbd)
{
	size_t held = conn_held(conn);

	if (unlikely(conn->inflight >= INFLIGHT_MAX))
		return false;
	if (unlikely(conn->pool->inflight >= LOOP_INFLIGHT_MAX &&
		     conn->inflight))
		return false;
	return !held || held + will_hold(nbd) <= HELD_MIN ||
		held + will_hold(nbd) <= conn_held_max(conn);
}

/*
 * Send before the batch is done?  When much is queued, and replies to writes
 * early: who waits for them can send on while the rest of his batch is written.
 */
static bool should_send(const struct conn *conn)
{
	size_t bytes = conn->out.bytes;

	return unlikely(bytes >= OUT_FLUSH) ||
		(bytes >= OUT_ACKS_MIN && bytes <= OUT_ACKS_MAX);
}

/* May @nbd be taken up now?  If not, something of the connection's own is
 * under way that will have it looked at again. */
TWICE bool may_take(struct conn *conn, const struct nbd_request *nbd)
{
	if (should_send(conn) && !conn->blocked) {
		output_flush(conn);
		/* A dead one has given its output away, and takes no more. */
		if (unlikely(conn->dead))
			return false;
	}
	if (likely(within_limits(conn, nbd)))
		return true;
	output_flush(conn);
	return !conn->dead && within_limits(conn, nbd);
}

/* ---- payloads ---- */

/* Drop the payload of conn->write, then answer it with @error. */
static void refuse_payload(struct conn *conn, enum nbd_error error,
			 const char *text)
{
	conn->skip = conn->write.len;
	conn->skip_error = error;
	conn->skip_text = text;
}

static void end_skip(struct conn *conn)
{
	reply_done(conn, &conn->write, conn->skip_error, conn->skip_text);
}

void transmit_stage_ready(struct conn *conn, struct stage *stage, int error)
{
	conn->stage_wait = false;
	if (error) {
		refuse_payload(conn, nbd_error_from_errno(error), NULL);
		return;
	}
	conn->stage = stage;
	conn->stage_iov = 0;
	conn->stage_iov_off = 0;
	conn->stage_left = conn->write.len;
	conn->stage_limit_ns = timeout_stage_limit(conn);
	if (unlikely(conn->cl->freezing))
		conn_unstage(conn);
	else
		timeout_watch(conn);
}

/* Find frames for the payload of conn->write. */
static void begin_stage(struct conn *conn)
{
	struct stage *stage = NULL;
	int ret;

	ret = stage_alloc(conn->vol, conn->write.pos, conn->write.len, &stage);
	if (ret != -EAGAIN) {
		transmit_stage_ready(conn, stage, ret);
		return;
	}
	conn->stage_wait = true;
	ret = request_start_stage(conn);
	if (ret)
		transmit_stage_ready(conn, NULL, ret);
}

static void end_stage(struct conn *conn)
{
	unsigned int flags = conn->write.flags & NBD_CMD_FLAG_FUA ?
					VOLUME_FUA : 0;
	struct stage *stage = conn->stage;
	int ret;

	conn->stage = NULL;
	conn->recv_max = RECV_MIN;
	ret = volume_write_stage_inline(&stage, flags);
	if (ret == -EAGAIN) {
		ret = request_start(conn, &conn->write, NULL, stage);
		if (!ret)
			return;
	}
	reply_done(conn, &conn->write, nbd_error_from_errno(ret), NULL);
}

void transmit_staged(struct conn *conn, size_t n)
{
	conn->stage_left -= n;
	while (n) {
		const struct iovec *iov = &conn->stage->iov[conn->stage_iov];
		size_t part = MIN(n, iov->iov_len - conn->stage_iov_off);

		n -= part;
		conn->stage_iov_off += part;
		if (conn->stage_iov_off == iov->iov_len) {
			conn->stage_iov++;
			conn->stage_iov_off = 0;
		}
	}
	if (!conn->stage_left)
		end_stage(conn);
}

/* Copy what the input holds of the payload to its place. */
static size_t copy_to_stage(struct conn *conn, const char *p, size_t len)
{
	size_t done = 0;

	len = MIN(len, (size_t)conn->stage_left);
	while (done < len) {
		const struct iovec *iov;
		size_t part;

		assert(conn->stage);
		iov = &conn->stage->iov[conn->stage_iov];
		part = MIN(len - done, iov->iov_len - conn->stage_iov_off);
		memcpy((char *)iov->iov_base + conn->stage_iov_off, p + done,
		       part);
		done += part;
		/* May end the stage, with its last byte. */
		transmit_staged(conn, part);
	}
	return len;
}

/* ---- requests ---- */

/* In a coroutine, or not at all. */
static void start(struct conn *conn, const struct nbd_request *nbd,
		  void *payload)
{
	int ret = request_start(conn, nbd, payload, NULL);

	if (ret)
		reply_done(conn, nbd, nbd_error_from_errno(ret), NULL);
}

/* @p: the payload, whole. */
static void take_whole_write(struct conn *conn, const struct nbd_request *nbd,
			     const char *p)
{
	unsigned int flags = nbd->flags & NBD_CMD_FLAG_FUA ? VOLUME_FUA : 0;
	void *copy;

	if (likely(!volume_write_inline(conn->vol, nbd->pos, nbd->len, p,
					flags))) {
		reply_done(conn, nbd, NBD_OK, NULL);
		return;
	}
	copy = malloc(nbd->len);
	if (!copy) {
		reply_done(conn, nbd, NBD_ENOMEM, NULL);
		return;
	}
	memcpy(copy, p, nbd->len);
	start(conn, nbd, copy);
}

/*
 * @p: behind the head, @len bytes.  Returns true if the request was taken up,
 * *@usedp then being what was used of its payload.
 */
TWICE bool take_write(struct conn *conn, const struct nbd_request *nbd,
		      const char *p, size_t len, size_t *usedp)
{
	if (likely(nbd->len <= len && nbd->len <= WRITE_INLINE_MAX)) {
		take_whole_write(conn, nbd, p);
		*usedp = nbd->len;
		return true;
	}
	if (nbd->len <= WRITE_TAIL_MAX)
		return false;
	conn->write = *nbd;
	begin_stage(conn);
	*usedp = 0;
	return true;
}

/* A request that is fine; true if it was taken up. */
TWICE bool take(struct conn *conn, const struct nbd_request *nbd,
		const char *p, size_t len, size_t *usedp)
{
	*usedp = 0;
	if (unlikely(nbd->len == 0 && nbd->type != NBD_CMD_FLUSH)) {
		reply_done(conn, nbd, NBD_OK, NULL);
		return true;
	}
	switch (nbd->type) {
	case NBD_CMD_WRITE:
		return take_write(conn, nbd, p, len, usedp);
	case NBD_CMD_READ:
		if (likely(nbd->len <= HELD_MIN ||
			   nbd->len <= conn_piece_max(conn)) &&
		    likely(!reply_read_inline(conn, nbd)))
			return true;
		break;
	case NBD_CMD_FLUSH:
		if (volume_flush_inline(conn->vol)) {
			reply_done(conn, nbd, NBD_OK, NULL);
			return true;
		}
		break;
	}
	start(conn, nbd, NULL);
	return true;
}

/* What is wrong with @nbd, beyond what the protocol says. */
TWICE enum nbd_error check(const struct conn *conn,
			   const struct nbd_request *nbd, const char **textp)
{
	enum nbd_error error;

	if (unlikely(conn->cl->draining)) {
		*textp = NULL;
		return NBD_ESHUTDOWN;
	}
	error = nbd_check_request(&conn->session, nbd, textp);
	if (unlikely(!error && nbd->len > PIECE_MAX &&
		     (nbd->flags & NBD_CMD_FLAG_DF))) {
		*textp = NULL;
		return NBD_EOVERFLOW;
	}
	return error;
}

/* Extended headers come with a stricter rule for payloads that are too long. */
static void refuse(struct conn *conn, const struct nbd_request *nbd,
		   enum nbd_error error, const char *text)
{
	uint64_t most = nbd->extended ? PAYLOAD_MAX : PAYLOAD_DRAIN_MAX;
	uint64_t payload = nbd_payload_len(nbd);

	if (!payload) {
		reply_done(conn, nbd, error, text);
	} else if (payload > most) {
		log_debug("closing a connection for a payload of %" PRIu64
			  " bytes", payload);
		conn->finishing = true;
	} else {
		conn->write = *nbd;
		refuse_payload(conn, error, text);
	}
}

/*
 * Does a list of contexts come with @nbd?  There is but one context, so that a
 * longer list has it twice or has unknown ones: it is refused unseen.
 */
static bool has_status_payload(const struct conn *conn,
			       const struct nbd_request *nbd)
{
	return nbd->type == NBD_CMD_BLOCK_STATUS &&
		(conn->session.flags & NBD_BLOCK_STATUS_PAYLOAD) &&
		nbd_payload_len(nbd) == NBD_STATUS_PAYLOAD_SIZE;
}

/* @p: the list.  @nbd is without it then. */
static enum nbd_error check_status(const struct conn *conn,
				   struct nbd_request *nbd, const char *p,
				   const char **textp)
{
	enum nbd_error error;
	uint32_t context;

	nbd_get_status_payload(p, nbd, &context);
	error = check(conn, nbd, textp);
	if (!error && context != META_CONTEXT_ID) {
		*textp = "no such metadata context";
		error = NBD_EINVAL;
	}
	return error;
}

/* Use what belongs to the payload of conn->write.  False: wait. */
static bool parse_payload(struct conn *conn, const char *p, size_t len,
			  size_t *usedp)
{
	if (conn->stage_wait || !len)
		return false;
	if (conn->stage) {
		*usedp += copy_to_stage(conn, p, len);
		return true;
	}
	len = MIN(len, (size_t)conn->skip);
	*usedp += len;
	conn->skip -= len;
	if (!conn->skip)
		end_skip(conn);
	return true;
}

TWICE size_t request_size(bool extended)
{
	return extended ? NBD_EXTENDED_REQUEST_SIZE : NBD_REQUEST_SIZE;
}

TWICE int get_request(const char *p, struct nbd_request *nbd, bool extended)
{
	return extended ? nbd_get_extended_request(p, nbd) :
			  nbd_get_request(p, nbd);
}

/* One request at @p.  False: not now. */
TWICE bool parse_request(struct conn *conn, const char *p, size_t len,
			 size_t *usedp, bool extended)
{
	size_t head = request_size(extended), used = 0;
	struct nbd_request nbd;
	enum nbd_error error;
	const char *text;

	if (len < head)
		return false;
	if (unlikely(get_request(p, &nbd, extended))) {
		log_debug("closing a connection for a bad request magic");
		conn->finishing = true;
		return false;
	}
	if (unlikely(nbd.type == NBD_CMD_DISC)) {
		conn->finishing = true;
		return false;
	}
	if (unlikely(!may_take(conn, &nbd))) {
		conn->paused = true;
		return false;
	}
	if (extended && has_status_payload(conn, &nbd)) {
		if (len - head < NBD_STATUS_PAYLOAD_SIZE)
			return false;
		error = check_status(conn, &nbd, p + head, &text);
		head += NBD_STATUS_PAYLOAD_SIZE;
	} else {
		error = check(conn, &nbd, &text);
	}
	if (unlikely(error))
		refuse(conn, &nbd, error, text);
	else if (!take(conn, &nbd, p + head, len - head, &used))
		return false;
	*usedp += head + used;
	return true;
}

/* ---- looking ahead ---- */

#define AHEAD	8u	/* requests; a power of two */

/*
 * The requests behind the one that is parsed now, so that what they will need
 * of the index is on its way into the CPU's cache: of the farthest its slot,
 * of the one half way the folio that the slot names.
 */
struct lookahead {
	size_t		next;		/* offset of the first not yet seen */
	uint64_t	pos[AHEAD];
	unsigned int	seen, parsed;	/* requests since the batch began */
};

/* See up to AHEAD requests beyond the parsed ones. */
TWICE void look_ahead(const struct conn *conn, struct lookahead *ahead,
		      const char *p, size_t len, bool extended)
{
	const size_t head = request_size(extended);
	struct nbd_request nbd;

	while (ahead->seen - ahead->parsed < AHEAD &&
	       ahead->next + head <= len) {
		if (get_request(p + ahead->next, &nbd, extended))
			break;
		ahead->next += head;
		/* A payload that is longer than the rest ends it. */
		if (extended)
			ahead->next += MIN(nbd_payload_len(&nbd),
					   (uint64_t)len);
		else if (nbd.type == NBD_CMD_WRITE)
			ahead->next += nbd.len;
		/* Not checked yet, and not used as a position but hashed. */
		ahead->pos[ahead->seen++ % AHEAD] = nbd.pos;
		volume_hint_index(conn->vol, nbd.pos);
		if (ahead->seen - ahead->parsed > AHEAD / 2)
			volume_hint_folio(conn->vol, ahead->pos[
				(ahead->seen - 1 - AHEAD / 2) % AHEAD]);
	}
}

TWICE size_t parse_batch(struct conn *conn, const char *p, size_t len,
			 bool extended)
{
	struct lookahead ahead = { 0 };
	size_t used = 0;
	bool more = true;

	conn->paused = false;
	/* It may have grown or shrunk since the client was told. */
	conn->session.size = volume_size(conn->vol);
	while (more && !conn->dead && !conn->finishing) {
		if (len - used > 2 * request_size(extended) &&
		    used >= ahead.next) {
			/* Something else than a plain batch came between. */
			ahead.next = used;
			ahead.seen = ahead.parsed;
		}
		look_ahead(conn, &ahead, p, len, extended);
		ahead.parsed++;
		if (unlikely(conn->skip || conn->stage || conn->stage_wait))
			more = parse_payload(conn, p + used, len - used, &used);
		else
			more = parse_request(conn, p + used, len - used, &used,
					     extended);
	}
	return used;
}

size_t transmit_parse(struct conn *conn, const char *p, size_t len)
{
	if (unlikely(conn->session.extended))
		return parse_batch(conn, p, len, true);
	return parse_batch(conn, p, len, false);
}
