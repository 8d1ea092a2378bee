/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * waitq.c - coroutines in a row, waiting; see waitq.h.
 *
 * Who wakes takes the waiter off the queue, under the mutex.  The waiter is
 * on its coroutine's stack and cannot go away before it has had that mutex.
 */
#include "base/coroutine.h"
#include "base/util.h"
#include "base/waitq.h"

void waitq_init(struct waitq *wq)
{
	TAILQ_INIT(&wq->waiters);
}

void waitq_wait(struct waitq *wq, struct mutex *mutex)
{
	struct waiter waiter = { .co = coroutine_self() };

	assert(waiter.co);
	mutex_assert_held(mutex);
	TAILQ_INSERT_TAIL(&wq->waiters, &waiter, link);
	/* A wake meant for something else does not lose us our place. */
	while (!waiter.woken) {
		mutex_unlock(mutex);
		coroutine_yield();
		mutex_lock(mutex);
	}
}

void waitq_wake_one(struct waitq *wq)
{
	struct waiter *waiter = TAILQ_FIRST(&wq->waiters);

	if (!waiter)
		return;
	TAILQ_REMOVE(&wq->waiters, waiter, link);
	waiter->woken = true;
	coroutine_wake(waiter->co);
}

void waitq_wake_all(struct waitq *wq)
{
	while (waitq_active(wq))
		waitq_wake_one(wq);
}
