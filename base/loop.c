/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loop.c - turns of a run loop, its queues, and its sleep.
 *
 * A real loop's turn costs one epoll_wait() and nothing else of its own.
 * That is why the timers are kept here and not in libevent, which would read
 * the clock several times a turn and round to milliseconds: a timerfd is set
 * only when the earliest timer got earlier than what it is set for.  Both it
 * and the eventfd are edge-triggered and so need no read().
 */
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/coroutine.h"
#include "base/sched.h"

/* Coroutines and works run in a row before the hooks get their turn. */
#define RUN_MAX		1024
/* How often hooks may bring more to run before the loop polls for I/O. */
#define ROUNDS_MAX	4
/* What a turn costs in virtual time if only relaxed coroutines go on. */
#define VIRTUAL_TURN_NS	NSEC_PER_USEC

__thread struct loop *sched_loop;

/*
 * Wake @loop up if it sleeps.  Called after a store to remote_pending or to
 * stopping.
 *
 * Pairs with loop_may_sleep(), which stores asleep and then loads those two.
 * All four accesses are sequentially consistent, so at least one of the two
 * sides sees what the other one stored: either the exchange here finds asleep
 * set and writes to the eventfd, or the loop finds something to do and does
 * not sleep.  The exchange lets only one of many wakers write.
 */
static void loop_kick(struct loop *loop)
{
	uint64_t one = 1;
	ssize_t ret;

	if (!__atomic_exchange_n(&loop->asleep, false, __ATOMIC_SEQ_CST))
		return;
	/* Nothing but a full counter can make this fail: readable anyway. */
	ret = write(loop->wake_fd, &one, sizeof(one));
	(void)ret;
}

static bool loop_may_sleep(struct loop *loop)
{
	__atomic_store_n(&loop->asleep, true, __ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&loop->remote_pending, __ATOMIC_SEQ_CST) &&
	    !__atomic_load_n(&loop->stopping, __ATOMIC_SEQ_CST))
		return true;
	__atomic_store_n(&loop->asleep, false, __ATOMIC_RELAXED);
	return false;
}

static void queue_remote(struct loop *loop, struct work *work)
{
	mutex_lock(&loop->lock);
	TAILQ_INSERT_TAIL(&loop->remote, work, link);
	__atomic_store_n(&loop->remote_pending, true, __ATOMIC_SEQ_CST);
	mutex_unlock(&loop->lock);
	loop_kick(loop);
}

static void queue_local(struct loop *loop, struct work *work)
{
	TAILQ_INSERT_TAIL(&loop->ready, work, link);
	loop->nr_ready++;
}

void sched_queue(struct loop *loop, struct work *work)
{
	if (likely(loop == sched_loop))
		queue_local(loop, work);
	else
		queue_remote(loop, work);
}

void sched_queue_relaxed(struct loop *loop, struct work *work)
{
	TAILQ_INSERT_TAIL(&loop->relaxed, work, link);
	loop->nr_relaxed++;
}

/*
 * An exchange even where it is set: what the caller wrote before shall be
 * seen by fn(), which runs after the exchange that clears it.
 */
static bool work_claim(struct work *work)
{
	return !__atomic_exchange_n(&work->queued, true, __ATOMIC_ACQ_REL);
}

static void work_unclaim(struct work *work)
{
	(void)!__atomic_exchange_n(&work->queued, false, __ATOMIC_ACQ_REL);
}

void loop_post(struct loop *loop, struct work *work)
{
	if (work_claim(work))
		sched_queue(loop, work);
}

void loop_defer(struct work *work)
{
	assert(sched_loop);
	if (work_claim(work))
		queue_local(sched_loop, work);
}

static void take_remote(struct loop *loop)
{
	struct work_list list = TAILQ_HEAD_INITIALIZER(list);
	struct work *work;

	if (!__atomic_load_n(&loop->remote_pending, __ATOMIC_RELAXED))
		return;
	mutex_lock(&loop->lock);
	TAILQ_CONCAT(&list, &loop->remote, link);
	__atomic_store_n(&loop->remote_pending, false, __ATOMIC_RELAXED);
	mutex_unlock(&loop->lock);
	TAILQ_FOREACH(work, &list, link)
		loop->nr_ready++;
	TAILQ_CONCAT(&loop->ready, &list, link);
}

static void take_relaxed(struct loop *loop)
{
	TAILQ_CONCAT(&loop->ready, &loop->relaxed, link);
	loop->nr_ready += loop->nr_relaxed;
	loop->nr_relaxed = 0;
}

/* Each of the runnable things is as likely. */
static struct work *draw_ready(struct loop *loop)
{
	uint64_t n = random_below(&loop->rnd, loop->nr_ready);
	struct work *work = TAILQ_FIRST(&loop->ready);

	while (n--)
		work = TAILQ_NEXT(work, link);
	return work;
}

static void run_ready(struct loop *loop)
{
	unsigned int max = RUN_MAX;
	struct work *work;

	while (loop->nr_ready && max--) {
		if (loop->is_virtual)
			work = draw_ready(loop);
		else
			work = TAILQ_FIRST(&loop->ready);
		TAILQ_REMOVE(&loop->ready, work, link);
		loop->nr_ready--;
		/* A coroutine's own state says whether it is queued. */
		if (work->fn != coroutine_run)
			work_unclaim(work);
		work->fn(work);
	}
}

static void run_hooks(struct loop *loop)
{
	struct turn_hook *hook;

	/* A hook may delete any hook; loop_del_hook() moves next_hook on. */
	for (hook = TAILQ_FIRST(&loop->hooks); hook; hook = loop->next_hook) {
		loop->next_hook = TAILQ_NEXT(hook, link);
		hook->fn(hook);
	}
}

static void loop_turn(struct loop *loop)
{
	unsigned int round = 0;

	__atomic_store_n(&loop->turns, loop->turns + 1, __ATOMIC_RELAXED);
	take_remote(loop);
	take_relaxed(loop);
	sched_run_timers(loop);
	do {
		run_ready(loop);
		run_hooks(loop);
	} while (loop->nr_ready && ++round < ROUNDS_MAX);
}

/* Have the timerfd wake us up for the earliest timer, or earlier. */
static int set_timer_fd(struct loop *loop, uint64_t when_ns)
{
	struct itimerspec spec = {
		.it_value.tv_sec = (time_t)(when_ns / NSEC_PER_SEC),
		.it_value.tv_nsec = (long)(when_ns % NSEC_PER_SEC),
	};

	if (timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL))
		return -errno;
	loop->timer_fd_ns = when_ns;
	return 0;
}

static int wait_real(struct loop *loop)
{
	uint64_t when_ns = sched_next_timer(loop), slept_ns = 0;
	int flags = EVLOOP_ONCE;
	int ret;

	if (loop->nr_ready || loop->nr_relaxed ||
	    (loop->nr_timers && when_ns <= sched_turn_ns(loop))) {
		flags |= EVLOOP_NONBLOCK;
	} else if (loop->idle.looks_on) {
		loop->idle.looks_on = idle_look_on(loop);
		flags |= EVLOOP_NONBLOCK;
	} else {
		if (when_ns < loop->timer_fd_ns) {
			ret = set_timer_fd(loop, when_ns);
			if (ret)
				return ret;
		}
		if (!loop_may_sleep(loop))
			flags |= EVLOOP_NONBLOCK;
		else
			slept_ns = clock_now_ns();
	}
	loop->now_ns = 0;
	ret = event_base_loop(loop->base, flags);
	/*
	 * A waker that still sees it set writes once for nothing.  One that
	 * sees it clear relies on remote_pending, read in the next turn or, at
	 * the latest, in loop_may_sleep().
	 */
	__atomic_store_n(&loop->asleep, false, __ATOMIC_RELAXED);
	if (ret < 0)
		return errno ? -errno : -EIO;
	if (slept_ns)
		idle_slept(loop, slept_ns);
	return 0;
}

static int wait_virtual(struct loop *loop)
{
	uint64_t when_ns = sched_next_timer(loop);

	if (loop->nr_ready ||
	    __atomic_load_n(&loop->remote_pending, __ATOMIC_SEQ_CST))
		return 0;
	/* Time passes for those who only look again and again, too. */
	if (loop->nr_relaxed)
		when_ns = MIN(when_ns, loop->now_ns + VIRTUAL_TURN_NS);
	else if (!loop->nr_timers)
		return -EDEADLK;
	loop->now_ns = MAX(loop->now_ns, when_ns);
	return 0;
}

int loop_run(struct loop *loop)
{
	struct loop *outer = sched_loop;
	int ret;

	assert(!coroutine_self());
	assert(!outer || outer == loop);
	sched_loop = loop;
	do {
		loop_turn(loop);
		ret = 0;
		if (__atomic_exchange_n(&loop->stopping, false,
					__ATOMIC_ACQ_REL))
			break;
		ret = loop->is_virtual ? wait_virtual(loop) : wait_real(loop);
	} while (!ret);
	sched_loop = outer;
	return ret;
}

void loop_stop(struct loop *loop)
{
	__atomic_store_n(&loop->stopping, true, __ATOMIC_SEQ_CST);
	loop_kick(loop);
}

static int loop_alloc(struct loop **loopp)
{
	struct loop *loop;

	loop = aligned_alloc(CACHE_LINE, sizeof(*loop));
	if (!loop)
		return -ENOMEM;
	memset(loop, 0, sizeof(*loop));
	loop->wake_fd = loop->timer_fd = -1;
	loop->timer_fd_ns = UINT64_MAX;
	TAILQ_INIT(&loop->ready);
	TAILQ_INIT(&loop->relaxed);
	TAILQ_INIT(&loop->remote);
	TAILQ_INIT(&loop->hooks);
	LIST_INIT(&loop->coroutines);
	mutex_init(&loop->lock, RANK_LOOP);
	*loopp = loop;
	return 0;
}

/* That the loop woke up is all there is to it. */
static void wake_fd_ready(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

static void timer_fd_ready(evutil_socket_t fd, short what, void *arg)
{
	struct loop *loop = arg;

	(void)fd;
	(void)what;
	loop->timer_fd_ns = UINT64_MAX;
}

static int new_event_base(struct event_base **basep)
{
	struct event_config *config = event_config_new();
	struct event_base *base;

	if (!config)
		return -ENOMEM;
	/*
	 * Only the loop's thread touches its base; the time is ours; and epoll
	 * is what the edge-triggered events need, whatever the environment
	 * would have libevent use.  No changelist: it would delay a removal
	 * beyond the close() of the descriptor.
	 */
	event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK |
			      EVENT_BASE_FLAG_IGNORE_ENV |
			      EVENT_BASE_FLAG_NO_CACHE_TIME);
	event_config_require_features(config, EV_FEATURE_ET | EV_FEATURE_O1);
	errno = 0;
	base = event_base_new_with_config(config);
	event_config_free(config);
	if (!base)
		return errno ? -errno : -ENOMEM;
	*basep = base;
	return 0;
}

static int add_fd_event(struct loop *loop, int fd, event_callback_fn fn,
			struct event **eventp)
{
	*eventp = event_new(loop->base, fd, EV_READ | EV_PERSIST | EV_ET, fn,
			    loop);
	if (!*eventp)
		return -ENOMEM;
	errno = 0;
	if (event_add(*eventp, NULL))
		return errno ? -errno : -ENOMEM;
	return 0;
}

int loop_new(struct loop **loopp)
{
	struct loop *loop;
	int ret;

	ret = loop_alloc(&loop);
	if (ret)
		return ret;
	ret = new_event_base(&loop->base);
	if (ret)
		goto out_free;
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	loop->timer_fd = timerfd_create(CLOCK_MONOTONIC,
					TFD_CLOEXEC | TFD_NONBLOCK);
	if (loop->wake_fd < 0 || loop->timer_fd < 0) {
		ret = -errno;
		goto out_free;
	}
	ret = add_fd_event(loop, loop->wake_fd, wake_fd_ready,
			   &loop->wake_event);
	if (ret)
		goto out_free;
	ret = add_fd_event(loop, loop->timer_fd, timer_fd_ready,
			   &loop->timer_event);
	if (ret)
		goto out_free;
	*loopp = loop;
	return 0;

out_free:
	loop_free(loop);
	return ret;
}

int loop_new_virtual(uint64_t seed, struct loop **loopp)
{
	struct loop *loop;
	int ret;

	ret = loop_alloc(&loop);
	if (ret)
		return ret;
	loop->is_virtual = true;
	random_init(&loop->rnd, seed);
	*loopp = loop;
	return 0;
}

/* What will not be called may be queued elsewhere. */
static void forget_work(struct work_list *list)
{
	struct work *work;

	while ((work = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, work, link);
		work_unclaim(work);
	}
}

void loop_free(struct loop *loop)
{
	assert(TAILQ_EMPTY(&loop->hooks));
	assert(!loop->nr_timers);
	forget_work(&loop->ready);
	forget_work(&loop->relaxed);
	forget_work(&loop->remote);
	if (sched_loop == loop)
		sched_loop = NULL;
	coroutine_drop_all(loop);
	coroutine_pool_drain();
	if (loop->wake_event)
		event_free(loop->wake_event);
	if (loop->timer_event)
		event_free(loop->timer_event);
	if (loop->base)
		event_base_free(loop->base);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	if (loop->timer_fd >= 0)
		close(loop->timer_fd);
	mutex_fini(&loop->lock);
	free(loop->heap);
	free(loop);
}

struct loop *loop_current(void)
{
	return sched_loop;
}

bool loop_is_virtual(const struct loop *loop)
{
	return loop->is_virtual;
}

struct event_base *loop_event_base(struct loop *loop)
{
	return loop->base;
}

void loop_enter(struct loop *loop)
{
	assert(!coroutine_self());
	sched_loop = loop;
}

void loop_add_hook(struct loop *loop, struct turn_hook *hook)
{
	TAILQ_INSERT_TAIL(&loop->hooks, hook, link);
}

void loop_del_hook(struct loop *loop, struct turn_hook *hook)
{
	if (loop->next_hook == hook)
		loop->next_hook = TAILQ_NEXT(hook, link);
	TAILQ_REMOVE(&loop->hooks, hook, link);
}

void loop_had_event(void)
{
	sched_loop->idle.had_event = true;
	sched_loop->idle.looks_on = sched_loop->idle.window_ns != 0;
}

bool loop_looks_on(void)
{
	return sched_loop->idle.looks_on;
}

uint64_t loop_turns(const struct loop *loop)
{
	return __atomic_load_n(&loop->turns, __ATOMIC_RELAXED);
}
