/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * harness.c - runs rows, keeps their verdicts, prints them.
 *
 * fatal() and skip() leave a row by longjmp, so a row must not own anything
 * that its end does not release: connections, buffers and a second server
 * are kept where release_row() finds them, and env is put back.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/wire/harness.h"
#include "tests/wire/rows.h"
#include "tests/wire/server.h"
#include "tests/wire/wire.h"

struct env env = { .timeout_ms = 10000 };

/* One line of explanation; enough for a few per row, the rest is counted. */
#define MAX_LINES	12

struct alloc {
	struct alloc	*next;
	max_align_t	data[];
};

static struct {
	jmp_buf		out;
	char		step[256];
	char		lines[MAX_LINES][400];
	unsigned int	nr_lines, nr_failed;
	bool		skipped;
	char		skip_why[300];
	struct alloc	*allocs;
} cur;

static unsigned int nr_passed, nr_failed, nr_skipped;

void step(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cur.step, sizeof(cur.step), fmt, ap);
	va_end(ap);
}

static void PRINTF(1, 0) add_line(const char *fmt, va_list ap, bool with_step)
{
	char *line = cur.lines[cur.nr_lines];
	int len = 0;

	if (cur.nr_lines == MAX_LINES)
		return;
	if (with_step && cur.step[0])
		len = snprintf(line, sizeof(cur.lines[0]), "%s: ", cur.step);
	vsnprintf(line + len, sizeof(cur.lines[0]) - len, fmt, ap);
	cur.nr_lines++;
}

void fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add_line(fmt, ap, true);
	va_end(ap);
	cur.nr_failed++;
}

void fatal(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add_line(fmt, ap, true);
	va_end(ap);
	cur.nr_failed++;
	longjmp(cur.out, 1);
}

void note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add_line(fmt, ap, false);
	va_end(ap);
}

void skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cur.skip_why, sizeof(cur.skip_why), fmt, ap);
	va_end(ap);
	cur.skipped = true;
	longjmp(cur.out, 1);
}

void *row_alloc(size_t size)
{
	struct alloc *a = calloc(1, sizeof(*a) + size);

	if (!a)
		fatal("no memory for a buffer of %zu bytes", size);
	a->next = cur.allocs;
	cur.allocs = a;
	return a->data;
}

static const char *unmet_need(unsigned int needs)
{
	if ((needs & NEEDS_FOLIOD) && !env.server)
		return "only for a foliod started by this program";
	if ((needs & NEEDS_RO) && !env.ro_export)
		return "no --read-only-export given";
	if ((needs & NEEDS_OTHER) && !env.other_export)
		return "no --other-export given";
	if ((needs & NEEDS_B4K) && !env.b4k_export)
		return "no --min-block-export given";
	return NULL;
}

static void release_row(void)
{
	struct alloc *a;

	conn_close_all();
	row_server_release();
	while ((a = cur.allocs)) {
		cur.allocs = a->next;
		free(a);
	}
}

static void print_verdict(const struct row *row)
{
	const char *how = env.extended ? " (extended headers)" : "";

	/* A failure seen before a skip is still a failure. */
	if (cur.nr_failed) {
		nr_failed++;
		printf("not ok %u - %s%s\n", row->nr, row->name, how);
	} else if (cur.skipped) {
		nr_skipped++;
		printf("skip %u - %s%s # %s\n", row->nr, row->name, how,
		       cur.skip_why);
	} else {
		nr_passed++;
		printf("ok %u - %s%s\n", row->nr, row->name, how);
	}
	for (unsigned int i = 0; i < cur.nr_lines; i++)
		printf("#   %s\n", cur.lines[i]);
	if (cur.nr_failed > cur.nr_lines)
		printf("#   ... %u failed checks in all\n", cur.nr_failed);
	fflush(stdout);
}

static void run_row(const struct row *row)
{
	const char *why = unmet_need(row->needs);
	const struct env before = env;

	cur.nr_lines = cur.nr_failed = 0;
	cur.skipped = false;
	cur.step[0] = '\0';
	if (why) {
		cur.skipped = true;
		snprintf(cur.skip_why, sizeof(cur.skip_why), "%s", why);
	} else if (setjmp(cur.out) == 0) {
		row->run();
	}
	release_row();
	env = before;
	if (env.server && env.server->pid && !server_is_alive(env.server)) {
		step("after the row");
		fail("the server is gone");
	}
	print_verdict(row);
}

static bool selected(const struct row *row, const unsigned int *only,
		     size_t nr_only)
{
	if (env.extended && (row->nr < FIRST_TRANSMISSION_ROW ||
			     (row->needs & ONLY_COMPACT)))
		return false;
	for (size_t i = 0; i < nr_only; i++)
		if (only[i] == row->nr)
			return true;
	return nr_only == 0;
}

void harness_run(const struct row *const tables[], const unsigned int *only,
		 size_t nr_only)
{
	for (; *tables; tables++)
		for (const struct row *row = *tables; row->run; row++)
			if (selected(row, only, nr_only))
				run_row(row);
}

void harness_verdict(const char *name, bool ok, const char *why)
{
	printf("%s - %s\n", ok ? "ok" : "not ok", name);
	if (!ok)
		printf("#   %s\n", why);
	if (ok)
		nr_passed++;
	else
		nr_failed++;
	fflush(stdout);
}

int harness_finish(void)
{
	printf("%u passed, %u failed, %u skipped\n", nr_passed, nr_failed,
	       nr_skipped);
	return nr_failed || !nr_passed ? 1 : 0;
}

int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

uint64_t test_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ull);	/* splitmix64 */

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

uint64_t test_seed(void)
{
	const char *s = getenv("FOLIOD_SEED");
	uint64_t seed;

	if (s)
		seed = strtoull(s, NULL, 0);
	else
		seed = (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();
	printf("# FOLIOD_SEED=%llu\n", (unsigned long long)seed);
	return seed;
}
