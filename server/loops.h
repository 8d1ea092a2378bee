/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loops.h - the threads that serve clients, each with its run loop.
 *
 * The first loop is the calling thread's, which also accepts, takes signals
 * and waits; see loops_wait().  All functions here are called on that thread.
 */
#ifndef FOLIOD_SERVER_LOOPS_H
#define FOLIOD_SERVER_LOOPS_H

#include <stdbool.h>
#include <stdint.h>

#include "server/conn.h"

struct loops;

/*
 * @nr loops (1 or more), all but the first running.  0, or -errno having said
 * why.
 */
int loops_start(unsigned int nr, struct conn_shared *shared,
		struct loops **loopsp);

/* No connection, volume or event is left.  NULL is fine. */
void loops_stop(struct loops **loopsp);

struct loop *loops_main(struct loops *loops);

/* The @i-th of all; 0 is the first loop. */
struct loop *loops_nth(struct loops *loops, unsigned int i);

/* The next one in turn, for something that needs a home. */
struct loop *loops_next_home(struct loops *loops);

/* Run the first loop until *@done, which is set on it before loop_stop(). */
void loops_wait(struct loops *loops, const bool *done);

/* Run @fn(@arg) in a coroutine of the first loop, until it returns. */
int loops_run_coroutine(struct loops *loops, void (*fn)(void *arg), void *arg);

/* Serve the client on @fd, on the next loop in turn; @tls as in conn.h.  Owns
 * @fd. */
void loops_serve(struct loops *loops, int fd, enum tls_mode tls);

/* A call on one loop's thread, for its connections; see loops_call(). */
struct loop_call {
	struct work		work;
	struct conn_loop	*cl;
	unsigned int		index;		/* of the loop, from 0 */
	void			(*fn)(struct loop_call *call);
	void			*arg;
	struct loops		*loops;
};

unsigned int loops_nr(const struct loops *loops);

/*
 * Call @fn on each loop and return when loop_call_done() has been called for
 * all, each on its loop; the first loop runs meanwhile.  One at a time.
 */
void loops_call(struct loops *loops, void (*fn)(struct loop_call *call),
		void *arg);
void loop_call_done(struct loop_call *call);

/*
 * Serve one client on a pair of descriptors, on the first loop, which is the
 * only one; @gone(@arg) is called when it has gone.  Owns them.
 */
int loops_serve_single(struct loops *loops, int in_fd, int out_fd,
		       void (*gone)(void *arg), void *arg);

/*
 * Have all connections drained (conn.h), giving idle clients @grace_ns to go
 * by themselves, and return when the last is gone.  Those that are not after
 * @limit_ns are closed as they are.  No client comes any more.
 */
void loops_drain(struct loops *loops, uint64_t grace_ns, uint64_t limit_ns);

/* Be quicker: close them now, or as soon as they are drained.  From an event on
 * the first loop. */
void loops_hurry(struct loops *loops);

#endif
