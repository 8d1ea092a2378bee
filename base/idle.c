/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * idle.c - how long a loop with nothing to do looks for events before it
 * sleeps.
 *
 * To sleep and to be woken costs many times what a small request does, most of
 * all in a virtual machine, where the other processor has to be interrupted
 * from outside.  So a loop looks on for a while after the last event.  For how
 * long is learnt: the window grows while sleeps turn out shorter than the
 * largest window, and shrinks when they are longer, down to nothing.  A loop
 * whose clients are quiet thus sleeps, and an idle one costs nothing.
 *
 * Who looks for events keeps others from the processor, and perhaps the very
 * client whose request is awaited.  It therefore yields each time it found
 * nothing; if the others then keep the processor for long, it had better
 * sleep, so that it gets the processor back by being woken.
 */
#include <sched.h>

#include "base/clock.h"
#include "base/sched.h"

#define WINDOW_MIN	(4 * NSEC_PER_USEC)
#define WINDOW_MAX	(64 * NSEC_PER_USEC)
/* A yield that took this long let somebody else compute. */
#define YIELD_LONG	(100 * NSEC_PER_USEC)
/* For so long the loop does not look again. */
#define BACK_OFF	(10 * NSEC_PER_MSEC)

void idle_yielded(struct loop *loop, uint64_t ns)
{
	if (ns < YIELD_LONG)
		return;
	loop->idle.window_ns = 0;
	loop->idle.until_ns = 0;
	loop->idle.off_until_ns = clock_now_ns() + BACK_OFF;
}

bool idle_look_on(struct loop *loop)
{
	struct idle *idle = &loop->idle;
	uint64_t now;

	if (!idle->window_ns)
		return false;
	now = clock_now_ns();
	if (idle->had_event) {
		idle->had_event = false;
		idle->until_ns = now + idle->window_ns;
		return true;
	}
	if (now >= idle->until_ns)
		return false;
	sched_yield();
	idle_yielded(loop, clock_now_ns() - now);
	return true;
}

void idle_slept(struct loop *loop, uint64_t from_ns)
{
	struct idle *idle = &loop->idle;
	uint64_t now = clock_now_ns();

	if (now - from_ns > WINDOW_MAX)
		idle->window_ns = idle->window_ns > WINDOW_MIN ?
			idle->window_ns / 2 : 0;
	else if (now >= idle->off_until_ns)
		idle->window_ns = idle->window_ns ?
			MIN(idle->window_ns * 2, WINDOW_MAX) : WINDOW_MIN;
}
