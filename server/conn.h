/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conn.h - one client, from its first byte to its last.
 *
 * A connection lives on one loop: everything about it happens on that loop's
 * thread.  It owns its socket.
 */
#ifndef FOLIOD_SERVER_CONN_H
#define FOLIOD_SERVER_CONN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/base.h"
#include "server/export.h"
#include "server/peers.h"

struct conn;
struct conn_pool;
struct tls;

/* What all connections of the process share; constant once loops run, but for
 * the atomics. */
struct conn_shared {
	const struct export_table	*exports;
	struct cache			*cache;
	struct tls			*tls;	/* NULL: no TLS here */
	uint64_t			handshake_timeout_ns;	/* 0: no limit */
	uint64_t			stall_timeout_ns;	/* the same, see timeout.c */
	unsigned int			nr_stage_waiters;	/* atomic: payloads that
							 * wait for memory */
	uint64_t			reply_budget;	/* bytes pinned or copied for
							 * replies, over all connections;
							 * at most a quarter of the cache */
	uint64_t			reply_bytes;	/* atomic: used of it */
	unsigned int			max_conns;	/* 0: no cap */
	unsigned int			nr_conns;	/* atomic */
	struct peers			*peers;		/* NULL: no cap per peer */
};

/* The connections of one loop, with the buffers that they share. */
struct conn_loop {
	struct loop			*loop;
	struct conn_shared		*shared;
	TAILQ_HEAD(, conn)		conns;
	unsigned int			nr_conns;
	bool				draining;
	bool				freezing;	/* parses nothing, see */
	bool				frozen;		/* conn_handoff.c */
	char				*recv_buf;	/* 256 KiB, for whichever
							 * connection reads now */
	struct conn_pool		*pool;		/* the connections' own */
	/* Called when the last connection is gone; may be NULL. */
	void				(*idle)(struct conn_loop *cl);
	void				*idle_arg;
};

/* Once per loop, on its thread.  0 or -ENOMEM. */
int conn_loop_init(struct conn_loop *cl, struct loop *loop,
		   struct conn_shared *shared);
void conn_loop_fini(struct conn_loop *cl);

/*
 * Serve the client on @in_fd and @out_fd (the same socket, or a pair such as
 * stdin and stdout, which need not be sockets), on the loop's thread; where it
 * came in asks for @tls, if an export asks for less.  Takes the descriptors
 * over, also on failure.  0 or -errno: -EUSERS if there are
 * as many as may be, -EDQUOT if there are of that peer.
 */
int conn_start(struct conn_loop *cl, int in_fd, int out_fd, enum tls_mode tls);

/*
 * Drain: requests taken up are finished and answered, later ones and options
 * get ESHUTDOWN, and each connection is closed once its client disconnects or
 * nothing is in flight and @deadline_ns has passed.
 */
void conn_loop_drain(struct conn_loop *cl, uint64_t deadline_ns);

/* Close all at once (a second SIGTERM). */
void conn_loop_hurry(struct conn_loop *cl);

/* ---- handoff, see conn_handoff.c ---- */

struct conn_state;
struct conn_states;

/*
 * Bring all connections to rest: @done(@arg) is called on the loop, perhaps at
 * its turn's end already.  Connections whose clients keep a request waiting by
 * not taking replies are closed at @client_ns.  @frozen is false if something
 * is in flight still at @limit_ns: conn_loop_thaw() is due then too.
 */
void conn_loop_freeze(struct conn_loop *cl, uint64_t client_ns,
		      uint64_t limit_ns, void (*done)(void *arg, bool frozen),
		      void *arg);
/* Go on serving; the volumes of the exports may be others by now. */
void conn_loop_thaw(struct conn_loop *cl);

/*
 * Append the states of all frozen connections to @list; their descriptors stay
 * the connections'.  *@nr_tlsp grows by the number of those under TLS, which
 * are left out.  0 or -ENOMEM.
 */
int conn_loop_states(struct conn_loop *cl, struct conn_states *list,
		     unsigned int *nr_tlsp);
/* Another process serves them: close all frozen connections here. */
void conn_loop_give_away(struct conn_loop *cl);

/*
 * Why a connection of @state cannot go on with @export, which is what its
 * client finds by that name or NULL; NULL if it can.
 */
const char *conn_state_misfit(const struct conn_state *state,
			      const struct export *export);
/* Go on with @state, on the loop's thread.  As conn_start(); takes its
 * descriptor over, and nothing else of it. */
int conn_adopt(struct conn_loop *cl, const struct conn_state *state,
	       struct export *export);

#endif
