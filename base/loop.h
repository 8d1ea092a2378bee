/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loop.h - a run loop: one per thread, for coroutines, timers, work and I/O.
 *
 * A real loop waits in a libevent base for sockets, an eventfd and the next
 * timer.  A virtual loop has no libevent: when nothing is runnable its clock
 * jumps to the next timer, and the order of runnable things is drawn from a
 * seed.  The engine cannot tell which one it runs on.
 *
 * One turn is: take work from other threads; run expired timers; run runnable
 * coroutines and work until none is left (or so many have run that I/O would
 * starve); call the turn hooks (they submit rings and flush sockets; what a
 * hook makes runnable runs, and the hooks again, a few times); wait, or just
 * poll if anything is still runnable.
 */
#ifndef FOLIOD_BASE_LOOP_H
#define FOLIOD_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct event_base;
struct loop;

/*
 * A function to be called once on a loop.  Embedded by its user, who sets fn
 * and zeroes the rest; not copied.  May queue itself again, or be freed, in fn.
 */
struct work {
	TAILQ_ENTRY(work)	link;
	void			(*fn)(struct work *work);
	bool			queued;		/* atomic */
};

struct timer {
	void			(*fn)(struct timer *timer);
	uint64_t		when_ns;
	unsigned int		heap_index;	/* 0 when not armed */
	struct loop		*loop;
};

/* Called at the end of each turn, before the loop would sleep. */
struct turn_hook {
	TAILQ_ENTRY(turn_hook)	link;
	void			(*fn)(struct turn_hook *hook);
};

/* A loop on libevent, for the calling thread to run.  0 or -errno. */
int loop_new(struct loop **loopp);

/*
 * A loop on a virtual clock that starts at 0.  Runnable coroutines and work
 * are drawn in an order given by @seed.  Never fails for lack of anything but
 * memory: 0 or -ENOMEM.  Code takes no virtual time, save that a microsecond
 * passes when only coroutines in coroutine_relax() are left to run.
 */
int loop_new_virtual(uint64_t seed, struct loop **loopp);

/*
 * Free a loop that is not running; its timers and hooks are gone already.
 * Queued work is forgotten.  Coroutines that have not ended are dropped with
 * their stacks, which only the thread that ran them may do.
 */
void loop_free(struct loop *loop);

/*
 * Run on the calling thread until loop_stop().  loop_current() is @loop from
 * here on until it returns.  A virtual loop also returns, with -EDEADLK, when
 * nothing is runnable, no timer is armed and it was not stopped.
 */
int loop_run(struct loop *loop);

/*
 * Make loop_run() return after its present turn, or its first if it does not
 * run yet; from any thread.
 */
void loop_stop(struct loop *loop);

/* The loop that runs on this thread, or NULL. */
struct loop *loop_current(void);

bool loop_is_virtual(const struct loop *loop);

/* NULL for a virtual loop. */
struct event_base *loop_event_base(struct loop *loop);

/*
 * Make loop_current() be @loop on this thread without running it, to set
 * things up before loop_run() (adding hooks, starting coroutines).  NULL ends
 * that.
 */
void loop_enter(struct loop *loop);

/* Call @work->fn on @loop; from any thread.  Nothing if queued already. */
void loop_post(struct loop *loop, struct work *work);

/* The same on the calling thread's own loop, without locking. */
void loop_defer(struct work *work);

/*
 * An event came from outside on the calling thread's loop; another one may soon
 * follow, so the loop looks for it before it sleeps.
 */
void loop_had_event(void);

/* Will the calling thread's loop certainly take another turn without sleeping
 * first? */
bool loop_looks_on(void);

void loop_add_hook(struct loop *loop, struct turn_hook *hook);
void loop_del_hook(struct loop *loop, struct turn_hook *hook);

void timer_init(struct timer *timer, void (*fn)(struct timer *timer));
/* Arm (or move) on the calling thread's loop; it fires once, at @when_ns. */
void timer_arm(struct timer *timer, uint64_t when_ns);
/* Nothing if not armed. */
void timer_cancel(struct timer *timer);

static inline bool timer_armed(const struct timer *timer)
{
	return timer->heap_index != 0;
}

/* Turns that this loop has made; a hint of batching for statistics. */
uint64_t loop_turns(const struct loop *loop);

#endif
