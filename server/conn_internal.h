/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conn_internal.h - what the files of a connection share.
 *
 * conn.c has its life, conn_input.c its input, handshake.c the options,
 * transmit.c the requests as they are parsed, request.c those that must wait,
 * request_read.c the READs of these, reply.c what is answered, output.c how it
 * leaves, timeout.c the client's delays, conn_tls.c what is different under TLS,
 * conn_handoff.c how all of it comes to rest.
 *
 *	                      HANDSHAKE_TLS
 *	                        ^       |	STARTTLS, once
 *	                        |       v
 *	 HANDSHAKE_FLAGS -> HANDSHAKE_OPTION -> TRANSMISSION
 *	        |                   |                |
 *	        +--------+----------+----------------+
 *	                 v
 *	  finishing (no more input, the rest is answered) -> dead
 *
 * A dead connection holds no descriptor, no output and no event: it waits
 * for the requests that still point to it.
 *
 * Input that cannot be parsed yet stands in the tail: either the beginning
 * of an option or request, or, while the connection is paused, all that had
 * been received.  It is not read further while it may not take up requests.
 *
 * What a connection holds of shared memory (pinned replies that are not sent,
 * reads under way, copied payloads) is bounded: by HELD_MAX, and by half of
 * what the others leave of the process's budget.  A connection that holds
 * nothing may always take up one request, so that whoever is paused is waiting
 * for something of its own.  Where the budget is used up, reads go in smaller
 * pieces, and what a client does not take at once is copied and unpinned: the
 * cache must not fill up with what stalled clients have pinned.  A pin keeps a
 * whole folio, however few of its bytes are wanted, so what a blocked client
 * has pinned is weighed by folios.  Beyond the budget a connection has HELD_MIN
 * of replies and as much of a tail.
 */
#ifndef FOLIOD_SERVER_CONN_INTERNAL_H
#define FOLIOD_SERVER_CONN_INTERNAL_H

#include <sys/queue.h>
#include <sys/uio.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "proto/handshake.h"
#include "proto/reply.h"
#include "proto/request.h"
#include "server/conn.h"
#include "server/tls.h"

enum {
	RECV_BUF_SIZE		= 256 << 10,
	RECV_MIN		= 4 << 10,	/* asked for behind a large payload */
	STAGE_RECV_IOVS		= 128,		/* of a payload, in one call */

	PIECE_MAX		= 1 << 20,	/* of a READ, read at once */
	READ_SMALL_MAX		= 64 << 10,	/* its pins fit in a request */
	WRITE_INLINE_MAX	= 64 << 10,	/* what volume_write() takes */
	WRITE_TAIL_MAX		= 32 << 10,	/* payload awaited in the tail */
	PAYLOAD_MAX		= 64 << 20,	/* served */
	PAYLOAD_DRAIN_MAX	= 128 << 20,	/* refused, but read */

	HELD_MIN		= 64 << 10,	/* a connection's share, at least */
	HELD_MAX		= 64 << 20,
	OUT_FLUSH		= 1 << 20,	/* send once so much is queued */
	OUT_ACKS_MIN		= 8 * 16,	/* or only replies to writes, from */
	OUT_ACKS_MAX		= 16 * 16,	/* here to there */
	OUT_ROOM		= 2 << 20,	/* large reads go on below this */
	INFLIGHT_MAX		= 1024,		/* requests of a connection */
	LOOP_INFLIGHT_MAX	= 16384,	/* of all; each may have one */

	OPTIONS_MAX		= 128,		/* of a connection, and */
	OPTIONS_PER_EXPORT	= 8,		/* for who looks at them all */
	OPTION_DATA_MAX		= 64 << 10,	/* of an option that has any */
	OPTION_BYTES_MAX	= 2 << 20,	/* of all options, and */
	OPTION_BYTES_PER_EXPORT	= 32 << 10,
	EXTENTS_MAX		= 512,		/* in a BLOCK_STATUS reply, */
	EXTENTS_EXT_MAX		= 508,		/* in an extended one */
	META_CONTEXT_ID		= 1,		/* base:allocation */
};

/* ---- output ---- */

#define CHUNK_IOVS	512
#define CHUNK_PINS	512
#define CHUNK_HEADS	8192

static_assert(PIECE_MAX / 4096 + 2 + 1 <= CHUNK_PINS, "a piece fits a chunk");
static_assert(sizeof(struct nbd_wire_chunk) + sizeof(struct nbd_wire_status) +
	      EXTENTS_MAX * sizeof(struct nbd_wire_extent) <= CHUNK_HEADS,
	      "extents fit a chunk");
static_assert(sizeof(struct nbd_wire_extended_chunk) +
	      sizeof(struct nbd_wire_status_ext) + EXTENTS_EXT_MAX *
	      sizeof(struct nbd_wire_extent_ext) <= CHUNK_HEADS,
	      "extended extents fit a chunk");

/*
 * A run of output: one sendmsg() can take all of it.  Heads are bytes of its
 * own, data is in pinned folios, which are released all together when the last
 * byte is sent.
 */
struct out_chunk {
	STAILQ_ENTRY(out_chunk)	link;
	unsigned int		first_iov, nr_iov;	/* [first, nr) is unsent */
	unsigned int		nr_pins;
	unsigned int		heads_len;
	bool			ends_in_head;		/* the last iov grows */
	bool			closed;			/* nothing is added */
	size_t			bytes;			/* unsent */
	size_t			weight;			/* of the folios that */
	unsigned int		nr_weighed;		/* so many pins keep */
	void			*copy;			/* of what was pinned */
	struct iovec		iov[CHUNK_IOVS];
	struct pin		pins[CHUNK_PINS];
	char			heads[CHUNK_HEADS];
};

struct outq {
	STAILQ_HEAD(, out_chunk) chunks;
	struct out_chunk	*last;		/* NULL if there is none */
	size_t			bytes;
};

/* ---- requests that wait ---- */

#define REQUEST_PINS	(READ_SMALL_MAX / 4096 + 2)

/* A request in a coroutine of its own; holds a reference to its connection. */
struct request {
	SLIST_ENTRY(request)	link;		/* in the pool, when free */
	TAILQ_ENTRY(request)	room_link;	/* in conn->room_waiters */
	struct conn		*conn;
	struct nbd_request	nbd;
	void			*payload;	/* of a WRITE: copied, */
	struct stage		*stage;		/* or staged */
	size_t			charge;		/* bytes in conn->charged */
	struct coroutine	*co;		/* while waiting for room */
	struct pin		pins[REQUEST_PINS];
};

/* What the connections of a loop share beyond conn_loop. */
struct conn_pool {
	struct conn_loop	*cl;
	struct turn_hook	hook;
	struct timer		deadline;	/* of draining */
	bool			past_deadline;
	struct timer		freeze_timer;	/* see conn_loop_freeze() */
	uint64_t		freeze_limit_ns;
	void			(*freeze_done)(void *arg, bool frozen);
	void			*freeze_arg;
	TAILQ_HEAD(, conn)	todo;		/* look at these this turn */
	unsigned int		inflight;
	STAILQ_HEAD(, out_chunk) chunks;	/* free ones */
	unsigned int		nr_chunks;
	SLIST_HEAD(, request)	requests;	/* free ones */
	unsigned int		nr_requests;
	struct tls_scratch	*tls_scratch;	/* NULL until it is needed */
};

/* ---- the connection ---- */

enum conn_phase {
	HANDSHAKE_FLAGS,
	HANDSHAKE_OPTION,
	HANDSHAKE_TLS,
	TRANSMISSION,
};

struct conn {
	TAILQ_ENTRY(conn)	link;		/* cl->conns, unless dead */
	TAILQ_ENTRY(conn)	todo_link;	/* pool->todo, if todo */
	struct conn_loop	*cl;
	struct conn_pool	*pool;
	unsigned int		refs;
	int			in_fd, out_fd;
	bool			in_is_socket, out_is_socket;
	enum conn_phase		phase;
	struct tls_session	*tls;		/* NULL: plain */
	bool			todo;
	bool			dead;
	bool			finishing;	/* takes no more input */
	bool			reading;	/* ev_read is added */
	bool			blocked;	/* ev_write is added */
	bool			paused;		/* at a limit, see may_take() */

	/* Input. */
	char			*tail;		/* NULL: in tail_small */
	uint32_t		tail_size;	/* allocated */
	uint32_t		tail_off, tail_len;
	uint32_t		recv_max;	/* asked for at once */
	char			tail_small[32];

	/* Input that is dropped, and the answer when it is. */
	uint32_t		skip;
	enum nbd_error		skip_error;
	const char		*skip_text;

	/* The request whose payload is dropped, or the WRITE for which it is
	 * staged. */
	struct nbd_request	write;
	struct stage		*stage;
	unsigned int		stage_iov;	/* next byte goes here: */
	size_t			stage_iov_off;
	uint32_t		stage_left;
	uint64_t		stage_limit_ns;	/* when it should be complete */
	bool			stage_wait;	/* a coroutine waits for one */
	bool			size_wait;	/* one looks after its export's */
	bool			size_looked;	/* and has for this option */

	/* Output.  While a simple reply is sent in pieces, its request owns
	 * the stream and what others say is held back. */
	struct outq		out, held;
	unsigned int		nr_chunks;	/* in both */
	size_t			weight;		/* of their chunks */
	struct request		*owner;
	TAILQ_HEAD(, request)	room_waiters;
	uint64_t		nr_sent;	/* bytes */
	size_t			charged;	/* by requests in flight */
	size_t			accounted;	/* in shared->reply_bytes */
	unsigned int		inflight;

	/* How long it takes, see timeout.c. */
	struct timer		timeout;
	bool			watched;	/* in transmission: it is armed */
	uint64_t		nr_sent_before;	/* when it went off last */

	/* Who it is, and how many exports there are for it. */
	struct peer		peer;		/* groups: until transmission */
	unsigned int		nr_exports;

	/* Handshake. */
	enum tls_mode		tls_least;	/* of where it came in */
	uint32_t		client_flags;
	unsigned int		nr_options;
	uint64_t		option_bytes;
	struct nbd_option_request option;	/* whose data is dropped */
	uint32_t		option_reply;	/* and what to answer then */
	const struct export	*meta_export;	/* SET_META_CONTEXT was for */
	bool			meta_allocation;

	/* Transmission. */
	struct export		*export;
	struct volume		*vol;
	struct nbd_session	session;
	struct readahead	ra;

	struct event		ev_read, ev_write;
};

/* conn.c */
static inline void conn_get(struct conn *conn)
{
	conn->refs++;
}
void conn_put(struct conn *conn);
/* A connection that waits for nothing yet, and a reference to it, on two
 * descriptors that it takes over, as conn_start(). */
int conn_new(struct conn_loop *cl, int in_fd, int out_fd, struct conn **connp);
/* Close at once.  The caller holds a reference. */
void conn_kill(struct conn *conn);
/* Have the connection's output sent and its input gone on with before the
 * loop sleeps. */
void conn_todo(struct conn *conn);
/* Send from @iov.  Bytes, or -errno; the only way out, also under TLS. */
ssize_t conn_send(struct conn *conn, struct iovec *iov, unsigned int nr);
/* The descriptors themselves: bytes, or -errno. */
ssize_t conn_fd_recv(struct conn *conn, struct iovec *iov, unsigned int nr);
ssize_t conn_fd_send(struct conn *conn, struct iovec *iov, unsigned int nr);
/* Wait for the descriptor to take more, or do not any longer. */
void conn_set_blocked(struct conn *conn, bool blocked);
/* Bytes that are encrypted and not sent. */
static inline size_t conn_tls_unsent(const struct conn *conn)
{
	return unlikely(conn->tls) ? tls_unsent(conn->tls) : 0;
}
/* Bytes of shared memory that it holds. */
static inline size_t conn_held(const struct conn *conn)
{
	size_t queued = conn->out.bytes + conn->held.bytes;

	return MAX(queued, conn->weight) + conn->charged +
		conn->nr_chunks * sizeof(struct out_chunk) +
		conn_tls_unsent(conn);
}
/* How many it may hold, at this moment. */
size_t conn_held_max(const struct conn *conn);
/* Have the others left it no more than everybody's minimum? */
static inline bool conn_is_tight(const struct conn *conn)
{
	return conn_held_max(conn) <= HELD_MIN;
}
/* How much to read at once for it. */
static inline uint32_t conn_piece_max(const struct conn *conn)
{
	return conn_is_tight(conn) ? HELD_MIN : PIECE_MAX;
}

/* conn_input.c */
/* Input that is not parsed yet; @buf, of @len bytes, is taken over. */
char *conn_tail_data(struct conn *conn);
void conn_tail_set(struct conn *conn, char *buf, size_t len);
void conn_tail_drop(struct conn *conn);
/* Could input be parsed if there were any?  Should it be received? */
bool conn_can_parse(const struct conn *conn);
bool conn_wants_input(const struct conn *conn);
/* Go on with the tail; receive and parse what the descriptor has; take up what
 * the TLS session has received already.  All may kill. */
void conn_parse_tail(struct conn *conn);
void conn_read_input(struct conn *conn);
void conn_read_received(struct conn *conn);

/* conn_handoff.c: at the end of a turn of a loop that is freezing; make input
 * of what is received of conn->stage, may kill. */
void conn_loop_try_freeze(struct conn_loop *cl);
void conn_unstage(struct conn *conn);

/* conn_tls.c: go on with the TLS handshake, of a client that is in it; may
 * kill. */
void conn_tls_handshake(struct conn *conn);
/* Send what is encrypted; false if that is not all gone yet.  May kill. */
bool conn_tls_flush(struct conn *conn);
/* All is sent: tell the client that it was all.  False: wait until that has
 * gone too. */
bool conn_tls_end(struct conn *conn);

/* timeout.c: the timer's function; let the handshake take its time from now on;
 * see that a client in transmission does not take too long. */
void timeout_expired(struct timer *timer);
void timeout_handshake(struct conn *conn);
void timeout_watch(struct conn *conn);
/* When the payload of conn->write, which has its memory now, may have taken too
 * long. */
uint64_t timeout_stage_limit(const struct conn *conn);

/* handshake.c: the flags of @export for a client that agreed on such replies
 * and on base:allocation. */
uint16_t transmission_flags(bool structured, bool extended, bool allocation,
			    const struct export *export);
/* Take up what is complete in [@p, @p + @len), return how much
 * that was; may kill. */
size_t handshake_parse(struct conn *conn, const char *p, size_t len);

/* export_size.c: true if the option for @export has to be taken up anew a
 * little later, as the export gets another size right now. */
bool export_size_wait(struct conn *conn, struct export *export);

/* transmit.c */
void transmit_start(struct conn *conn, struct export *export);
size_t transmit_parse(struct conn *conn, const char *p, size_t len);
/* Has received @n more bytes of the staged payload, at the right place. */
void transmit_staged(struct conn *conn, size_t n);
/* @stage is for conn->write; or the payload is dropped for @error. */
void transmit_stage_ready(struct conn *conn, struct stage *stage, int error);

/* request.c */
/* Serve @nbd in a coroutine.  @payload and @stage are taken over, also on
 * failure.  0 or -ENOMEM. */
int request_start(struct conn *conn, const struct nbd_request *nbd,
		  void *payload, struct stage *stage);
/* Get a stage for conn->write; transmit_stage_ready() then.  The same. */
int request_start_stage(struct conn *conn);
void request_pool_drain(struct conn_pool *pool);
/* The whole answer to @r, without content. */
void request_answer(struct request *r, int err);

/* request_read.c */
/* Read for @r and answer it, in its coroutine. */
void request_read(struct request *r);
/* Wake those that wait for room in the output. */
void request_wake_room(struct conn *conn);

/* reply.c: all of these do nothing on a dead connection. */
/* Append @len bytes, of the handshake. */
void reply_bytes(struct conn *conn, const void *data, size_t len);
/* The whole answer to @nbd, without content. */
void reply_done(struct conn *conn, const struct nbd_request *nbd,
		enum nbd_error error, const char *text);
/* The end of a READ: @pos and what follows could not be read for @error. */
void reply_error_at(struct conn *conn, const struct nbd_request *nbd,
		    enum nbd_error error, uint64_t pos);
/* Read and answer @nbd if all of it is cached.  0 or -EAGAIN. */
int reply_read_inline(struct conn *conn, const struct nbd_request *nbd);
/* A piece of the answer to @nbd: [@pos, @pos + the pins' sum).  Takes the pins
 * over.  @last: nothing follows. */
void reply_pins(struct conn *conn, const struct nbd_request *nbd, uint64_t pos,
		const struct pin *pins, unsigned int nr, bool last);
/* The same for pins that are @chunk's first and only content; takes @chunk. */
void reply_chunk(struct conn *conn, const struct nbd_request *nbd, uint64_t pos,
		 struct out_chunk *chunk, bool last);
void reply_extents(struct conn *conn, const struct nbd_request *nbd,
		   const struct volume_extent *extents, unsigned int nr);

/* output.c */
void output_init(struct conn *conn);
/* Chunks, recycled by the loop; one that is put is unpinned. */
struct out_chunk *output_chunk_get(struct conn_pool *pool);
void output_chunk_put(struct conn_pool *pool, struct out_chunk *chunk);
void output_pool_drain(struct conn_pool *pool);
/* Where the answer to @nbd goes: not among what another request sends in
 * pieces. */
struct outq *output_queue(struct conn *conn, const struct nbd_request *nbd);
/* The last chunk of @q if it has that much room, or a new one; NULL: out of
 * memory, and the connection is dead. */
struct out_chunk *output_room(struct conn *conn, struct outq *q,
			      unsigned int iovs, unsigned int pins,
			      unsigned int heads);
/* Append to @chunk, which has room: @len bytes that the caller fills in, bytes
 * that are pinned by it. */
void *output_head(struct outq *q, struct out_chunk *chunk, size_t len);
void output_data(struct outq *q, struct out_chunk *chunk, void *base,
		 size_t len);
/* Append a whole chunk to @q. */
void output_push(struct conn *conn, struct outq *q, struct out_chunk *chunk);
/* From now on the output is @request's alone; what others say is held. */
void output_own(struct conn *conn, struct request *request);
void output_disown(struct conn *conn);
/* Send what the descriptor takes, unless it is known to be full.  May kill. */
void output_flush(struct conn *conn);
/* The same when it takes more again. */
void output_resume(struct conn *conn);
/* Drop everything unsent. */
void output_drop(struct conn *conn);
/* Unpin all that is not sent; false if there is no memory for its copy. */
bool output_own_all(struct conn *conn);
/* Copy all that is not sent, out.bytes, to @p. */
void output_copy(const struct conn *conn, char *p);
/* Have a copy of @p, of @len bytes, sent.  0 or -ENOMEM. */
int output_from_copy(struct conn *conn, const void *p, size_t len);

#endif
