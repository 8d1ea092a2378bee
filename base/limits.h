/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * limits.h - how much of the machine to use: memory, threads, descriptors.
 */
#ifndef FOLIOD_BASE_LIMITS_H
#define FOLIOD_BASE_LIMITS_H

#include <stdint.h>

/* The processors that this process may run on; at least 1. */
unsigned int limits_cpus(void);

/*
 * Bytes of memory that this process may use: the machine's, or its control
 * group's limit (of version 1 or 2, or of a group above) where that is lower.
 */
uint64_t limits_memory(void);

/*
 * The least of the limits along @group, a path below the file system of
 * control groups at @root: what the file @limit_name says in each directory
 * from the root to the group.  UINT64_MAX if none says anything.
 */
uint64_t limits_of_cgroup(const char *root, const char *group,
			  const char *limit_name);

/* Allow as many descriptors and as much locked memory as the system lets us.
 * Returns how many descriptors that is. */
uint64_t limits_raise(void);

#endif
