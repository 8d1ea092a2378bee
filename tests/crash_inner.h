/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash_inner.h - a run under way, between crash_run.c (the world: clients,
 * crashes, the end) and crash_ops.c (single operations).
 */
#ifndef FOLIOD_TESTS_CRASH_INNER_H
#define FOLIOD_TESTS_CRASH_INNER_H

#include "tests/crash.h"
#include "tests/mapstore.h"
#include "tests/oracle.h"

#define SAVED_MAX	2u	/* images to boot from at the end */

struct client {
	struct run		*run;
	uint32_t		nr;
	unsigned int		next;		/* op of the case to look at */
	const struct crash_op	*op;		/* under way, or NULL */
	struct readahead	ra;
};

struct run {
	const struct crash_case	*cs;
	struct crash_stats	*stats;
	struct engine		*engine;
	struct mapstore		*ms;		/* its store, or NULL: raw */
	struct oracle		*oracle;
	struct client		clients[CRASH_CLIENTS_MAX];
	uint64_t		progress;	/* operations ended */

	bool			failed;
	bool			killed;		/* image has what is left */

	/* Faults since the engine was started. */
	unsigned int		fault_mask;	/* by bdev_op, ever set */
	bool			flush_refused;	/* a FLUSH or FUA has failed for
						 * a fault of the device's flush */

	struct random		rnd;		/* of the images */
	char			*image;
	char			*saved[SAVED_MAX];
	unsigned int		nr_saved;
	unsigned int		requests;	/* of the device, counted down */
};

/* Something is wrong: say it, and have all clients stop. */
void run_fail(struct run *run, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* The clients' world is gone: they stop where they are. */
static inline bool run_over(const struct run *run)
{
	return run->failed || run->killed || sim_is_cut(run->engine->bdev);
}

/* What the device has now, into run->image. */
void run_peek(struct run *run);

/* Draw @nr images of a crash at this moment and look at them. */
void run_look_at_images(struct run *run, uint64_t nr);

/* Carry out the operation; in a coroutine. */
void crash_op_run(struct client *client, const struct crash_op *op);

/* Read all there is and compare, as a client. */
void crash_read_all(struct run *run);

#endif
