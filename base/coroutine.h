/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coroutine.h - stackful coroutines, each bound to the loop that started it.
 *
 * What must wait (a device, a folio in flight, the throttle) runs in one, so
 * that the engine reads like the synchronous code it is modelled on.  A
 * coroutine always runs on its own loop's thread; only coroutine_wake() may
 * be called from elsewhere.  Stacks have a guard page and are pooled per
 * thread.  Sanitizer builds announce each switch to the sanitizer.
 */
#ifndef FOLIOD_BASE_COROUTINE_H
#define FOLIOD_BASE_COROUTINE_H

#include <stdbool.h>
#include <stdint.h>

struct coroutine;

/* Usable bytes of a coroutine's stack; keep big buffers off it. */
#define COROUTINE_STACK_SIZE	(64 * 1024)

/*
 * Run @fn(@arg) in a new coroutine of the calling thread's loop, at once,
 * until it first yields.  May be called from a coroutine: the caller goes on
 * when the new one yields or ends.  Returns 0, or -ENOMEM having run nothing.
 */
int coroutine_start(void (*fn)(void *arg), void *arg);

/* The running coroutine, or NULL in plain loop context. */
struct coroutine *coroutine_self(void);

/*
 * Give the thread back until coroutine_wake().  A wake that came since the
 * last yield makes this return at once (one wake is remembered, not counted),
 * so callers wait in a loop that checks their condition.  Holds no mutex.
 */
void coroutine_yield(void);

/*
 * Make @co runnable on its own loop; from any thread, also from a coroutine.
 * It runs later in the turn (or next turn), never inside this call.  The
 * caller knows that @co has not ended, nor ends before this returns.  May be
 * called with mutexes held: it takes one of RANK_LOOP.
 */
void coroutine_wake(struct coroutine *co);

/*
 * Let the other runnable coroutines and I/O of this loop go first.  This and
 * coroutine_sleep_ns() may swallow a remembered wake, as a yield does.
 */
void coroutine_relax(void);

/* Sleep on the loop's clock. */
void coroutine_sleep_ns(uint64_t ns);

/* Coroutines alive on this thread. */
unsigned int coroutine_count(void);

/* Free this thread's pooled stacks; called by loop_free() and thread exit. */
void coroutine_pool_drain(void);

#endif
