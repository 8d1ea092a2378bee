/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * limits.c - how much of the machine to use: memory, threads, descriptors.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/base.h"
#include "base/limits.h"

#define CPUS_MAX		4096

unsigned int limits_cpus(void)
{
	cpu_set_t *set = CPU_ALLOC(CPUS_MAX);
	size_t size = CPU_ALLOC_SIZE(CPUS_MAX);
	int nr = 0;

	if (set && sched_getaffinity(0, size, set) == 0)
		nr = CPU_COUNT_S(size, set);
	CPU_FREE(set);
	if (nr < 1)
		nr = sysconf(_SC_NPROCESSORS_ONLN);
	return MAX(nr, 1);
}

static uint64_t read_limit(const char *path)
{
	uint64_t limit = UINT64_MAX;
	char line[64];
	FILE *file = fopen(path, "re");

	if (!file)
		return limit;
	/* "max" is no number, and leaves the limit as it is. */
	if (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		if (number_parse(line, 0, INT64_MAX, &limit))
			limit = UINT64_MAX;
	}
	fclose(file);
	return limit;
}

uint64_t limits_of_cgroup(const char *root, const char *group,
			  const char *limit_name)
{
	uint64_t limit = UINT64_MAX;
	size_t len = strlen(group);
	char *file;

	for (;;) {
		if (asprintf(&file, "%s%.*s/%s", root, (int)len, group,
			     limit_name) < 0)
			return limit;
		limit = MIN(limit, read_limit(file));
		free(file);
		if (!len)
			return limit;
		do
			len--;
		while (len && group[len] != '/');
	}
}

/*
 * Lines of /proc/self/cgroup are ID:CONTROLLERS:GROUP; version 2 has ID 0 and
 * no controllers.
 */
static uint64_t cgroup_limit(void)
{
	FILE *file = fopen("/proc/self/cgroup", "re");
	uint64_t limit = UINT64_MAX;
	char *line = NULL;
	size_t size = 0;

	if (!file)
		return limit;
	while (getline(&line, &size, file) > 0) {
		char *controllers, *group;

		line[strcspn(line, "\n")] = '\0';
		controllers = strchr(line, ':');
		group = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!group)
			continue;
		*group++ = '\0';
		controllers++;
		if (!*controllers)
			limit = MIN(limit, limits_of_cgroup("/sys/fs/cgroup",
						group, "memory.max"));
		else if (strcmp(controllers, "memory") == 0)
			limit = MIN(limit, limits_of_cgroup(
						"/sys/fs/cgroup/memory", group,
						"memory.limit_in_bytes"));
	}
	free(line);
	fclose(file);
	return limit;
}

uint64_t limits_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
	uint64_t limit = cgroup_limit();

	if (pages > 0 && page > 0)
		limit = MIN(limit, (uint64_t)pages * (uint64_t)page);
	return limit;
}

static uint64_t raise_limit(int resource)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit))
		return 0;
	if (limit.rlim_cur != limit.rlim_max) {
		rlim_t before = limit.rlim_cur;

		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(resource, &limit))
			return before;
	}
	return limit.rlim_cur;
}

uint64_t limits_raise(void)
{
	raise_limit(RLIMIT_MEMLOCK);
	return raise_limit(RLIMIT_NOFILE);
}
