/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * range.c - a lock over byte ranges of a volume, fair to those who came first.
 *
 * The queue holds, in the order they came, all that somebody might have to
 * wait for: exclusive ranges from the moment they are asked for until they are
 * given back, and shared ones while they wait.  A range is granted once nothing
 * before it in the queue, and (if it is exclusive) no shared holder, conflicts
 * with it.  So the first in the queue waits for present holders only, and
 * nobody is passed by somebody who came later and whom he would have to wait
 * for.
 */
#include "cache/range.h"

static bool ranges_conflict(const struct range *a, const struct range *b)
{
	return (a->exclusive || b->exclusive) &&
	       a->start < b->end && b->start < a->end;
}

/* Is anything in the way of @range?  Up to @range itself if it is queued. */
static bool blocked_locked(struct range_lock *rl, const struct range *range)
	REQUIRES(&rl->lock)
{
	struct range *r;

	mutex_assert_held(&rl->lock);
	TAILQ_FOREACH(r, &rl->queue, link) {
		if (r == range)
			break;
		if (ranges_conflict(r, range))
			return true;
	}
	if (!range->exclusive)
		return false;
	TAILQ_FOREACH(r, &rl->shared, link) {
		if (ranges_conflict(r, range))
			return true;
	}
	return false;
}

static void grant_locked(struct range_lock *rl, struct range *range)
	REQUIRES(&rl->lock)
{
	mutex_assert_held(&rl->lock);
	range->granted = true;
	/* An exclusive one stays in the queue, where all others look. */
	if (!range->exclusive) {
		TAILQ_REMOVE(&rl->queue, range, link);
		TAILQ_INSERT_TAIL(&rl->shared, range, link);
	}
	coroutine_wake(range->co);
}

/* @gone has left the lists: only those who waited for it can be granted. */
static void grant_after_locked(struct range_lock *rl, const struct range *gone)
	REQUIRES(&rl->lock)
{
	struct range *r, *next;

	mutex_assert_held(&rl->lock);
	for (r = TAILQ_FIRST(&rl->queue); r; r = next) {
		next = TAILQ_NEXT(r, link);
		if (!r->granted && ranges_conflict(r, gone) &&
		    !blocked_locked(rl, r))
			grant_locked(rl, r);
	}
}

static void wait_locked(struct range_lock *rl, struct range *range)
	REQUIRES(&rl->lock)
{
	mutex_assert_held(&rl->lock);
	range->co = coroutine_self();
	assert(range->co || range->granted);
	while (!range->granted) {
		mutex_unlock(&rl->lock);
		coroutine_yield();
		mutex_lock(&rl->lock);
	}
}

static void range_init(struct range *range, uint64_t start, uint64_t end,
		       bool exclusive)
{
	assert(start < end);
	*range = (struct range){
		.start = start,
		.end = end,
		.exclusive = exclusive,
	};
}

void range_lock_init(struct range_lock *rl)
{
	mutex_init(&rl->lock, RANK_RANGE);
	TAILQ_INIT(&rl->queue);
	TAILQ_INIT(&rl->shared);
	rl->nr_exclusive = 0;
}

void range_lock_fini(struct range_lock *rl)
{
	assert(TAILQ_EMPTY(&rl->queue) && TAILQ_EMPTY(&rl->shared));
	mutex_fini(&rl->lock);
}

void range_lock_shared(struct range_lock *rl, struct range *range,
		       uint64_t start, uint64_t end)
{
	range_init(range, start, end, false);
	mutex_lock(&rl->lock);
	if (blocked_locked(rl, range)) {
		TAILQ_INSERT_TAIL(&rl->queue, range, link);
		wait_locked(rl, range);
	} else {
		range->granted = true;
		TAILQ_INSERT_TAIL(&rl->shared, range, link);
	}
	mutex_unlock(&rl->lock);
}

void range_lock_exclusive(struct range_lock *rl, struct range *range,
			  uint64_t start, uint64_t end)
{
	range_init(range, start, end, true);
	mutex_lock(&rl->lock);
	range->granted = !blocked_locked(rl, range);
	TAILQ_INSERT_TAIL(&rl->queue, range, link);
	/* Announced before it is held: pairs with range_lock_quiet(). */
	__atomic_add_fetch(&rl->nr_exclusive, 1, __ATOMIC_SEQ_CST);
	wait_locked(rl, range);
	mutex_unlock(&rl->lock);
}

void range_unlock(struct range_lock *rl, struct range *range)
{
	mutex_lock(&rl->lock);
	assert(range->granted);
	if (range->exclusive) {
		TAILQ_REMOVE(&rl->queue, range, link);
		__atomic_sub_fetch(&rl->nr_exclusive, 1, __ATOMIC_RELEASE);
	} else {
		TAILQ_REMOVE(&rl->shared, range, link);
	}
	grant_after_locked(rl, range);
	range->granted = false;
	mutex_unlock(&rl->lock);
}
