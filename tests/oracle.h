/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * oracle.h - what a volume may contain, now and after a crash.
 *
 * The oracle is told of each request when it is submitted and when it is
 * answered.  It keeps, for each granule (512 bytes or less), the versions that
 * may still be met there; every write fills its granules with a pattern that
 * names the write, so that what is read says which version it is.
 *
 *   version A is out of the way of B:  A was answered before B was submitted,
 *                            or before a read began that met B when B, too,
 *                            had been answered: so A came before it
 *   a reader may meet A      unless some B that was acknowledged before the
 *                            read began has A out of its way
 *   a power cut may leave A  unless some such B is durable: acknowledged with
 *                            FUA, or before a FLUSH that succeeded (or the
 *                            mode makes every write durable)
 *   kill -9 may leave A      as the power cut; in modes that hand every write
 *                            to the device, unless such a B was acknowledged
 *
 * Time is the order of events: there is one thread.
 */
#ifndef FOLIOD_TESTS_ORACLE_H
#define FOLIOD_TESTS_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/volume.h"

struct oracle;

enum oracle_kind {
	ORACLE_WRITE,
	ORACLE_ZERO,	/* trim and zero alike: zeroes are read */
};

enum oracle_crash {
	ORACLE_CUT,	/* power cut */
	ORACLE_KILL,	/* the process is gone, the device is not */
};

/* A volume of @size bytes of zeroes; @size is a multiple of @granule. */
struct oracle *oracle_new(uint64_t size, unsigned int granule,
			  enum volume_mode mode);
void oracle_free(struct oracle *oracle);

/*
 * The world begins (anew) with @image, which is durable: what was known before
 * is history.  False if it holds bytes that nobody has written.
 */
bool oracle_restart(struct oracle *oracle, const void *image);

/* ---- requests; pos and len are multiples of the granule ---- */

/* Submit: returns the version's number. */
uint32_t oracle_begin(struct oracle *oracle, enum oracle_kind kind,
		      uint64_t pos, uint64_t len);
/* A number for a payload that is never written: nobody may ever meet it. */
uint32_t oracle_phantom(struct oracle *oracle);
/* The pattern of version @id for volume bytes [@pos, @pos + @len). */
void oracle_fill(const struct oracle *oracle, uint32_t id, uint64_t pos,
		 void *buf, uint64_t len);
/*
 * Answer.  @fua: the request had the flag.  A ZERO that failed may have let go
 * of data that was only in the cache: what was to be met on the device before
 * may be met again.
 */
void oracle_end(struct oracle *oracle, uint32_t id, int ret, bool fua);

/* A FLUSH: take the time when it is submitted, and say what came of it. */
uint32_t oracle_now(struct oracle *oracle);
void oracle_flushed(struct oracle *oracle, uint32_t since, int ret);

/* A read: begin, check any number of pieces, end. */
uint32_t oracle_read_begin(struct oracle *oracle);
bool oracle_read_check(struct oracle *oracle, uint32_t since, uint64_t pos,
		       const void *buf, uint64_t len);
void oracle_read_end(struct oracle *oracle, uint32_t since);

/* Is @image what a crash at this moment may leave? */
bool oracle_check_image(struct oracle *oracle, enum oracle_crash crash,
			const void *image);

/* What was wrong with the last thing that was checked. */
const char *oracle_message(const struct oracle *oracle);

#endif
