/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sched.h - what the run loop, its timers and its coroutines share.
 *
 * Only base/ includes this.  Everything that a loop may be asked to run is a
 * struct work: a coroutine embeds one, so that coroutines and work stand in
 * one queue, in the order in which they became runnable.
 */
#ifndef FOLIOD_BASE_SCHED_H
#define FOLIOD_BASE_SCHED_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/loop.h"
#include "base/mutex.h"
#include "base/random.h"
#include "base/util.h"

struct event;

TAILQ_HEAD(work_list, work);
TAILQ_HEAD(turn_hook_list, turn_hook);
LIST_HEAD(coroutine_list, coroutine);

/* See idle.c. */
struct idle {
	bool			had_event;	/* since it was asked last */
	bool			looks_on;	/* will not sleep after this turn */
	uint64_t		window_ns;	/* to look on after an event */
	uint64_t		until_ns;	/* the present window's end */
	uint64_t		off_until_ns;	/* the window does not grow */
};

struct loop {
	/* Set by loop_new(), constant after. */
	bool			is_virtual;
	int			wake_fd;	/* real: eventfd */
	int			timer_fd;	/* real: timerfd */
	struct event_base	*base;
	struct event		*wake_event;
	struct event		*timer_event;

	/* Touched by the loop's thread alone. */
	struct work_list	ready;		/* runnable now, oldest first */
	unsigned int		nr_ready;
	struct work_list	relaxed;	/* runnable after the next poll */
	unsigned int		nr_relaxed;
	struct turn_hook_list	hooks;
	struct turn_hook	*next_hook;	/* while hooks are being called */
	struct coroutine_list	coroutines;	/* all that have not ended */
	struct timer		**heap;		/* heap[1] is the earliest */
	unsigned int		nr_timers;
	unsigned int		heap_size;
	uint64_t		timer_fd_ns;	/* armed for; UINT64_MAX if not */
	uint64_t		now_ns;		/* virtual: the time;
						 * real: this turn's, 0 if not
						 * sampled yet */
	uint64_t		turns;		/* atomic for its readers */
	struct idle		idle;
	struct random		rnd;		/* virtual only */

	/* Touched by all threads, so not in the cache lines above. */
	struct mutex		lock __attribute__((aligned(CACHE_LINE)));
						/* RANK_LOOP */
	struct work_list	remote;		/* guarded by lock */
	/* Atomic; see loop_kick() for what pairs with what. */
	bool			remote_pending;
	bool			stopping;
	bool			asleep;
};

/* loop_current(), without a call. */
extern __thread struct loop *sched_loop;

/* loop.c: put @work, which is in no queue, behind what is runnable. */
void sched_queue(struct loop *loop, struct work *work);
/* The same for the calling thread's loop, but let it poll first. */
void sched_queue_relaxed(struct loop *loop, struct work *work);

/* timer.c: call the timers that are due; returns how many were. */
unsigned int sched_run_timers(struct loop *loop);
/* When the earliest timer is due, or UINT64_MAX if none is armed. */
uint64_t sched_next_timer(const struct loop *loop);

/* clock.c: the turn's time, sampled at the first use. */
uint64_t sched_turn_ns(struct loop *loop);

/* idle.c: should @loop, which has nothing to run, poll rather than sleep?  May
 * yield the processor. */
bool idle_look_on(struct loop *loop);
/* It yielded, and had the processor back after @ns. */
void idle_yielded(struct loop *loop, uint64_t ns);
/* It slept from @from_ns to now. */
void idle_slept(struct loop *loop, uint64_t from_ns);

/* coroutine.c: the work function of all coroutines. */
void coroutine_run(struct work *work);
/* Drop the coroutines of @loop that have not ended, with their stacks. */
void coroutine_drop_all(struct loop *loop);

#endif
