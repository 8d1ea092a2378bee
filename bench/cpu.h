/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cpu.h - the processor time that another process has used.
 */
#ifndef BENCH_CPU_H
#define BENCH_CPU_H

#include <stdint.h>
#include <sys/types.h>

/*
 * User and system time of @pid and of its descendants in nanoseconds, threads
 * that have ended and io_uring's workers included.  Of children that have
 * ended and were waited for, the kernel tells only ticks of 10 ms.
 * Returns 0 or a negative errno.
 */
int cpu_time_of(pid_t pid, uint64_t *ns);

#endif
