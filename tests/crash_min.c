/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash_min.c - runs in processes of their own, and making failures small.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/crash.h"

#define TRIES_MAX	600	/* runs spent on one failure */

static void child(const struct crash_case *cs, bool quiet)
{
	struct crash_stats stats = { 0 };
	bool passed;

	if (quiet) {
		int fd = open("/dev/null", O_WRONLY);

		if (fd >= 0) {
			dup2(fd, STDOUT_FILENO);
			dup2(fd, STDERR_FILENO);
		}
	}
	alarm(CRASH_HUNG_SECONDS);
	passed = crash_run(cs, &stats);
	fflush(stdout);
	_exit(passed ? 0 : 1);
}

bool crash_run_apart(const struct crash_case *cs, bool quiet)
{
	int status = 0;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(2);
	}
	if (!pid)
		child(cs, quiet);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Does it still fail without ops [@first, @first + @nr)? */
static bool fails_without(const struct crash_case *cs, unsigned int first,
			  unsigned int nr)
{
	struct crash_case part = *cs;
	bool passed;

	part.nr_ops = cs->nr_ops - nr;
	part.ops = malloc((part.nr_ops + 1) * sizeof(*part.ops));
	if (!part.ops)
		abort();
	memcpy(part.ops, cs->ops, first * sizeof(*part.ops));
	memcpy(part.ops + first, cs->ops + first + nr,
	       (part.nr_ops - first) * sizeof(*part.ops));
	passed = crash_run_apart(&part, true);
	free(part.ops);
	return !passed;
}

static void leave_out(struct crash_case *cs, unsigned int first,
		      unsigned int nr)
{
	cs->nr_ops -= nr;
	memmove(cs->ops + first, cs->ops + first + nr,
		(cs->nr_ops - first) * sizeof(*cs->ops));
}

/* Halves, quarters... down to single operations, until none can go. */
void crash_minimise(struct crash_case *cs)
{
	unsigned int nr = cs->nr_ops / 2, tries = TRIES_MAX;
	bool smaller = false;

	while (nr && tries) {
		unsigned int first = 0;

		while (first < cs->nr_ops && tries) {
			unsigned int n = MIN(nr, cs->nr_ops - first);

			tries--;
			if (fails_without(cs, first, n)) {
				leave_out(cs, first, n);
				smaller = true;
			} else {
				first += n;
			}
		}
		if (nr > 1)
			nr /= 2;
		else if (!smaller)
			nr = 0;
		else
			smaller = false;
	}
}
