/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash.h - the crash explorer's parts.
 *
 *	seed -> crash_generate() -> struct crash_case -> crash_run() -> verdict
 *	                             ^          |
 *	          crash_case_read() -+          +-> crash_case_write()
 *
 * A case is an environment and a list of operations; it alone decides all that
 * happens, so it can be replayed, and operations can be left out of it until
 * only those are left that are needed to fail.
 */
#ifndef FOLIOD_TESTS_CRASH_H
#define FOLIOD_TESTS_CRASH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "tests/engine.h"

#define CRASH_CLIENTS_MAX	16u

enum crash_kind {
	CRASH_READ,	/* arg: hold the pins for so many ns */
	CRASH_WRITE,	/* from a buffer, inline first */
	CRASH_STAGE,	/* the same with a stage */
	CRASH_DROP,	/* a payload that arrives in part and is given up */
	CRASH_FLUSH,
	CRASH_TRIM,
	CRASH_ZERO,
	CRASH_PREFETCH,
	CRASH_EXTENTS,
	CRASH_IMAGE,	/* look at len crash images, check the cache */
	CRASH_STALL,	/* the device's requests of kind pos wait for arg ns */
	CRASH_FAULT,	/* the device's arg-th request of kind pos, and the
			 * len - 1 after it, fail */
	CRASH_HEAL,	/* no more faults */
	CRASH_CUT,	/* the power goes at the arg-th request; 0: now */
	CRASH_KILL,	/* the process goes now */
	CRASH_NR_KINDS,
};

/* Of a FAULT, beside those of volume.h in requests. */
#define CRASH_PARTIAL	(1u << 8)	/* a failing write leaves a part */
#define CRASH_ENOSPC	(1u << 9)	/* instead of EIO */

struct crash_op {
	uint32_t		client;
	enum crash_kind		kind;
	uint64_t		pos, len;
	uint32_t		flags;
	uint64_t		delay_ns;	/* before it */
	uint64_t		arg;
};

/* What a mapstore case has. */
#define CRASH_MS_DELALLOC	(1u << 0)
#define CRASH_MS_SCATTER	(1u << 1)
#define CRASH_MS_FUA_BY_WRITE	(1u << 2)
#define CRASH_MS_NO_ZERO	(1u << 3)

struct crash_case {
	uint64_t		seed;		/* of the schedule and the disk */
	enum volume_mode	mode;
	uint64_t		size;		/* of the volume */
	uint64_t		granule;	/* unit of requests, the oracle's */
	uint64_t		block_shift;
	uint64_t		cache_pages, staging_pages, nr_shards;
	uint64_t		background_pct, hard_pct;
	uint64_t		disk_block, latency_min_ns, latency_max_ns;
	uint64_t		sparse, space_pct;	/* 0: no limit */
	uint64_t		write_cache, short_one_in, lacks;
	uint64_t		max_read;	/* bytes pinned by one client */
	uint64_t		images;		/* looked at after each FLUSH */
	uint64_t		image_one_in;	/* requests of the device */
	/*
	 * On tests/mapstore instead of raw: its map is in memory, so there are
	 * no crashes, but what is stored is looked at as if there were.
	 */
	uint64_t		mapstore;
	uint64_t		ms_flags, ms_extent, ms_stale_one_in;
	uint64_t		ms_delay_ns;	/* of end_io */

	struct crash_op		*ops;
	unsigned int		nr_ops;
};

/* ---- crash_gen.c ---- */

struct crash_options {
	int		mode;		/* -1: any */
	unsigned int	nr_ops;		/* 0: any number */
};

/* All of @cs from @seed; crash_case_fini() frees it. */
void crash_generate(uint64_t seed, const struct crash_options *options,
		    struct crash_case *cs);
void crash_case_fini(struct crash_case *cs);

/* ---- crash_text.c ---- */

extern const char *const crash_mode_names[6];

void crash_case_write(const struct crash_case *cs, FILE *file);
/* 0, or -EINVAL having said on stderr what is wrong. */
int crash_case_read(struct crash_case *cs, FILE *file);
void crash_op_write(const struct crash_op *op, FILE *file);

/* ---- crash_run.c ---- */

struct crash_stats {
	uint64_t	ops, images, reboots, faults, errors;
};

/* Run @cs.  True if nothing was wrong; else one line on stdout says what.
 * After false (or no return at all) the process is good for nothing. */
bool crash_run(const struct crash_case *cs, struct crash_stats *stats);

/* ---- crash_min.c ---- */

/*
 * Run @cs in a process of its own, its words going nowhere if @quiet.
 * True if it passed.
 */
bool crash_run_apart(const struct crash_case *cs, bool quiet);

/* Leave out of @cs, which fails, as many operations as can be left out. */
void crash_minimise(struct crash_case *cs);

/* Seconds of real time after which a run counts as hung. */
#define CRASH_HUNG_SECONDS	120

#endif
