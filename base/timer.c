/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * timer.c - a loop's timers, in a binary heap with the earliest on top.
 *
 * When a real loop has to wake up for them is loop.c's affair.
 */
#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/sched.h"

#define HEAP_SIZE_MIN	64u

static void heap_put(struct loop *loop, unsigned int i, struct timer *timer)
{
	loop->heap[i] = timer;
	timer->heap_index = i;
}

static void heap_up(struct loop *loop, unsigned int i, struct timer *timer)
{
	while (i > 1 && loop->heap[i / 2]->when_ns > timer->when_ns) {
		heap_put(loop, i, loop->heap[i / 2]);
		i /= 2;
	}
	heap_put(loop, i, timer);
}

static void heap_down(struct loop *loop, unsigned int i, struct timer *timer)
{
	unsigned int child;

	while ((child = 2 * i) <= loop->nr_timers) {
		if (child < loop->nr_timers && loop->heap[child + 1]->when_ns <
		    loop->heap[child]->when_ns)
			child++;
		if (loop->heap[child]->when_ns >= timer->when_ns)
			break;
		heap_put(loop, i, loop->heap[child]);
		i = child;
	}
	heap_put(loop, i, timer);
}

/* Put @timer at @i, a free slot, or wherever it belongs from there. */
static void heap_place(struct loop *loop, unsigned int i, struct timer *timer)
{
	if (i > 1 && loop->heap[i / 2]->when_ns > timer->when_ns)
		heap_up(loop, i, timer);
	else
		heap_down(loop, i, timer);
}

/*
 * A timer cannot fail to be armed: what waits for it would wait forever.  The
 * heap is 8 bytes a timer and never shrinks.
 */
static void heap_grow(struct loop *loop)
{
	unsigned int size = MAX(2 * loop->heap_size, HEAP_SIZE_MIN);
	struct timer **heap;

	heap = reallocarray(loop->heap, size, sizeof(*heap));
	if (!heap) {
		log_error("out of memory for %u timers", size);
		abort();
	}
	loop->heap = heap;
	loop->heap_size = size;
}

void timer_init(struct timer *timer, void (*fn)(struct timer *timer))
{
	*timer = (struct timer){ .fn = fn };
}

void timer_arm(struct timer *timer, uint64_t when_ns)
{
	struct loop *loop = sched_loop;

	assert(loop);
	if (timer->heap_index) {
		assert(timer->loop == loop);
		timer->when_ns = when_ns;
		heap_place(loop, timer->heap_index, timer);
		return;
	}
	/* Slot 0 is not used. */
	if (loop->nr_timers + 1 >= loop->heap_size)
		heap_grow(loop);
	timer->when_ns = when_ns;
	timer->loop = loop;
	heap_up(loop, ++loop->nr_timers, timer);
}

void timer_cancel(struct timer *timer)
{
	struct loop *loop = timer->loop;
	unsigned int i = timer->heap_index;
	struct timer *last;

	if (!i)
		return;
	last = loop->heap[loop->nr_timers--];
	timer->heap_index = 0;
	if (last != timer)
		heap_place(loop, i, last);
}

uint64_t sched_next_timer(const struct loop *loop)
{
	return loop->nr_timers ? loop->heap[1]->when_ns : UINT64_MAX;
}

/*
 * One of the timers due at the same time as the earliest, each as likely.
 * They are the top of the heap: a child is not due before its parent.
 */
static void draw_tied(struct loop *loop, unsigned int i, unsigned int *nr_tied,
		      struct timer **drawn)
{
	if (i > loop->nr_timers ||
	    loop->heap[i]->when_ns != loop->heap[1]->when_ns)
		return;
	if (random_one_in(&loop->rnd, ++*nr_tied))
		*drawn = loop->heap[i];
	draw_tied(loop, 2 * i, nr_tied, drawn);
	draw_tied(loop, 2 * i + 1, nr_tied, drawn);
}

static struct timer *next_due(struct loop *loop)
{
	struct timer *timer = loop->heap[1];
	unsigned int nr_tied = 0;

	if (loop->is_virtual)
		draw_tied(loop, 1, &nr_tied, &timer);
	return timer;
}

unsigned int sched_run_timers(struct loop *loop)
{
	/* Those that arm themselves for the past shall not keep us here. */
	unsigned int i, max = loop->nr_timers;
	struct timer *timer;

	for (i = 0; i < max && loop->nr_timers; i++) {
		if (sched_next_timer(loop) > sched_turn_ns(loop))
			break;
		timer = next_due(loop);
		timer_cancel(timer);
		timer->fn(timer);
		/* Let what this one woke run before another, or after. */
		if (loop->is_virtual && random_one_in(&loop->rnd, 2))
			return i + 1;
	}
	return i;
}
