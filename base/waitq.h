/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * waitq.h - coroutines waiting for a condition guarded by a mutex.
 *
 * Used like a condition variable:
 *
 *	mutex_lock(&x->lock);
 *	while (!x->ready)
 *		waitq_wait(&x->waiters, &x->lock);
 *	mutex_unlock(&x->lock);
 */
#ifndef FOLIOD_BASE_WAITQ_H
#define FOLIOD_BASE_WAITQ_H

#include <stdbool.h>
#include <sys/queue.h>

#include "base/mutex.h"

struct coroutine;

struct waiter {
	TAILQ_ENTRY(waiter)	link;
	struct coroutine	*co;
	bool			woken;
};

/* Guarded by the mutex that its users pass to waitq_wait(), below RANK_LOOP. */
struct waitq {
	TAILQ_HEAD(, waiter)	waiters;
};

void waitq_init(struct waitq *wq);

/* Is anybody waiting?  Called with the guarding mutex held. */
static inline bool waitq_active(const struct waitq *wq)
{
	return !TAILQ_EMPTY(&wq->waiters);
}

/*
 * Wait for a wake, in a coroutine, with @mutex held (and no other): it is
 * released while waiting and held again on return.  FIFO.
 */
void waitq_wait(struct waitq *wq, struct mutex *mutex) REQUIRES(mutex);

/* Wake the first waiter, or all; with the guarding mutex held. */
void waitq_wake_one(struct waitq *wq);
void waitq_wake_all(struct waitq *wq);

#endif
