/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * clock.h - the only source of time for the engine.
 *
 * On a thread that runs a virtual loop (see loop.h) both functions return that
 * loop's virtual time, elsewhere the machine's monotonic clock.
 */
#ifndef FOLIOD_BASE_CLOCK_H
#define FOLIOD_BASE_CLOCK_H

#include <stdint.h>

#define NSEC_PER_USEC	UINT64_C(1000)
#define NSEC_PER_MSEC	UINT64_C(1000000)
#define NSEC_PER_SEC	UINT64_C(1000000000)

/* Nanoseconds since an arbitrary start, never going back. */
uint64_t clock_now_ns(void);

/*
 * The same, but sampled once a turn of the calling thread's loop: free, and
 * late by at most one turn.  Equal to clock_now_ns() on a thread without a loop.
 */
uint64_t clock_turn_ns(void);

#endif
