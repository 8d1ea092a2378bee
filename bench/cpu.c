/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cpu.c - the processor time that another process has used.
 *
 * The process's CPU clock counts nanoseconds and keeps the time of threads
 * that are gone, which a sum over /proc/PID/task would lose.  Descendants
 * count, because nbd-server forks a child for each connection.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/cpu.h"

/* Enough for any server here; a fork bomb is not a server. */
#define NR_PROCESSES	1024

/* Time of @pid's children that have ended, from /proc/PID/stat. */
static uint64_t ended_children_ns(pid_t pid)
{
	char path[64], line[1024], *p = NULL;
	unsigned long long user = 0, sys = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fgets(line, sizeof(line), f))
		p = strrchr(line, ')');		/* a name may hold anything */
	fclose(f);
	if (!p || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u"
			 " %*u %*u %llu %llu", &user, &sys) != 2)
		return 0;
	return (user + sys) * (UINT64_C(1000000000) / sysconf(_SC_CLK_TCK));
}

/* Append @pid's living children to @pids. */
static int add_children(pid_t pid, pid_t *pids, int nr)
{
	char path[64];
	int child;
	FILE *f;

	/* Only the first thread's: none of our servers forks from another. */
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid,
		 (int)pid);
	f = fopen(path, "re");
	if (!f)
		return nr;
	while (nr < NR_PROCESSES && fscanf(f, "%d", &child) == 1)
		pids[nr++] = child;
	fclose(f);
	return nr;
}

int cpu_time_of(pid_t pid, uint64_t *ns)
{
	pid_t pids[NR_PROCESSES] = { pid };
	struct timespec ts;
	clockid_t clock;
	int nr = 1, ret;

	*ns = 0;
	for (int i = 0; i < nr; i++) {
		ret = clock_getcpuclockid(pids[i], &clock);
		if (!ret && clock_gettime(clock, &ts))
			ret = errno;
		if (ret && i == 0)
			return -ret;
		if (ret)
			continue;		/* it ended meanwhile */
		*ns += ts.tv_sec * UINT64_C(1000000000) + ts.tv_nsec;
		*ns += ended_children_ns(pids[i]);
		nr = add_children(pids[i], pids, nr);
	}
	return 0;
}
