/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * harness.h - a table of rows, each run on its own and each given a verdict.
 *
 * A row is a function without arguments.  It says what it is doing with
 * step(), reports what was wrong with fail() (and goes on) or fatal() (and is
 * left at once), and skip()s what cannot be provoked from outside.  A row
 * that does none of these has passed.  One thread, one row at a time.
 */
#ifndef TESTS_WIRE_HARNESS_H
#define TESTS_WIRE_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What a row cannot do without; a row whose needs are not met is skipped. */
enum {
	NEEDS_FOLIOD	= 1u << 0,	/* a foliod that this program started */
	NEEDS_RO	= 1u << 1,	/* env.ro_export */
	NEEDS_OTHER	= 1u << 2,	/* env.other_export */
	NEEDS_B4K	= 1u << 3,	/* env.b4k_export */
	ONLY_COMPACT	= 1u << 4,	/* has no form with extended headers */
};

struct row {
	unsigned int	nr;		/* number in the table of obligations */
	const char	*name;
	void		(*run)(void);
	unsigned int	needs;
};

#define ROW(nr, fn, needs)	{ nr, #fn, fn, needs }
#define ROW_END			{ 0, NULL, NULL, 0 }

struct server;

/* What the rows run against: set by main(), constant while rows run. */
struct env {
	bool		extended;		/* OPEN_SR asks for extended headers */
	bool		tcp;
	char		host[256], port[32];	/* if tcp */
	char		path[108];		/* if not: the unix socket */
	char		tcp_port[32];		/* the same server's TCP port, or "" */
	char		export[4097];
	const char	*ro_export, *other_export, *b4k_export;
	pid_t		pid;			/* 0 if not known */
	int		timeout_ms;		/* for one answer */
	uint32_t	bad_from;		/* no data can be read from here on;
						 * 0 if all can */
	const char	*foliod;		/* path of the program, or NULL */
	struct server	*server;		/* the one started here, or NULL */
};

extern struct env env;

#define PRINTF(a, b)	__attribute__((format(printf, a, b)))

/* Name what follows; failures quote it. */
void step(const char *fmt, ...) PRINTF(1, 2);

/* The row has failed; carry on. */
void fail(const char *fmt, ...) PRINTF(1, 2);

/* The row has failed and cannot go on.  Does not return. */
void fatal(const char *fmt, ...) PRINTF(1, 2) __attribute__((noreturn));

/* The row proves nothing here, and why.  Does not return. */
void skip(const char *fmt, ...) PRINTF(1, 2) __attribute__((noreturn));

/* Something worth printing beside the verdict. */
void note(const char *fmt, ...) PRINTF(1, 2);

/* A zeroed buffer that lives until the row ends. */
void *row_alloc(size_t size);

/* Run every row of the NULL-ended @tables that is in @only (all if empty). */
void harness_run(const struct row *const tables[], const unsigned int *only,
		 size_t nr_only);

/* Count one verdict that belongs to no row. */
void harness_verdict(const char *name, bool ok, const char *why);

/* Print the closing line.  Returns the exit status. */
int harness_finish(void);

/* Monotonic milliseconds. */
int64_t now_ms(void);

/* A small repeatable generator for tests; state in the caller. */
uint64_t test_random(uint64_t *state);

/* FOLIOD_SEED, or a fresh one; printed. */
uint64_t test_seed(void);

#endif
