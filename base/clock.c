/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * clock.c - the machine's clock, or a virtual loop's; see clock.h.
 *
 * A virtual loop moves its own time; that is in loop.c.
 */
#include <time.h>

#include "base/clock.h"
#include "base/sched.h"

static uint64_t monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t clock_now_ns(void)
{
	const struct loop *loop = sched_loop;

	if (loop && loop->is_virtual)
		return loop->now_ns;
	return monotonic_ns();
}

/*
 * A turn in which nobody asks for the time does not read the clock, and a
 * callback of libevent, which runs right after the wait, gets the time after
 * that wait and not before.
 */
uint64_t sched_turn_ns(struct loop *loop)
{
	if (!loop->now_ns && !loop->is_virtual)
		loop->now_ns = monotonic_ns();
	return loop->now_ns;
}

uint64_t clock_turn_ns(void)
{
	struct loop *loop = sched_loop;

	return loop ? sched_turn_ns(loop) : monotonic_ns();
}
