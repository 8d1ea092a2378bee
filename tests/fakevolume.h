/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fakevolume.h - a volume in plain memory, for tests of what stands above.
 *
 * It implements the volume_*() and stage_*() functions of cache/volume.h and
 * is linked in their place.  Switches say what goes wrong.  They and the
 * counters are atomic, for a test to use while a loop's thread runs.
 */
#ifndef FOLIOD_TESTS_FAKEVOLUME_H
#define FOLIOD_TESTS_FAKEVOLUME_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/cache.h"

struct fakevolume {
	struct volume	vol;
	char		*data;
	bool		*present;	/* by 4 KiB page; else a hole */
	uint64_t	nr_pages;

	/* Switches. */
	unsigned int	miss;		/* inline calls answer -EAGAIN */
	unsigned int	hold;		/* waiting calls wait until it is 0 */
	unsigned int	relax;		/* waiting calls yield once */
	int		error;		/* of waiting calls, from the */
	unsigned int	error_after;	/* call after so many good ones on */
	uint64_t	bad_pos;	/* waiting reads of this byte fail; 0: none */
	unsigned int	fail_once;	/* the next waiting read fails */
	unsigned int	no_stages;	/* stage_alloc() answers -EAGAIN */
	unsigned int	dirty;		/* FLUSH has something to do */
	uint64_t	present_size;	/* from outside, at most the first; 0:
					 * as it is */

	/* Counters. */
	unsigned int	reads, writes, flushes, trims, zeroes, prefetches;
	unsigned int	fua;		/* calls that had it */
	unsigned int	waiting;	/* in a waiting call now */
};

/* Pins and stages that exist, of all volumes; pins also as bytes. */
extern uint64_t fake_pinned_bytes, fake_pinned_max;
extern unsigned int fake_pins, fake_stages;

struct fakevolume *fakevolume_new(uint64_t size);
void fakevolume_free(struct fakevolume *fv);

/* Fill [@pos, @pos + @len) with what fake_byte() says. */
void fakevolume_fill(struct fakevolume *fv, uint64_t pos, uint64_t len);
static inline char fake_byte(uint64_t pos)
{
	return (char)(pos * 31 + (pos >> 12) * 7 + 1);
}

#define FAKE_SET(field, value)	__atomic_store_n(&(field), value, \
						 __ATOMIC_SEQ_CST)
#define FAKE_GET(field)		__atomic_load_n(&(field), __ATOMIC_SEQ_CST)

#endif
