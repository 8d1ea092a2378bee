/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pattern.h - what a byte of the export is, given where it is and how often
 * its block has been written.
 *
 * A block's generation 0 means that nothing is known of it; what the fill
 * writes is generation 1.
 */
#ifndef BENCH_PATTERN_H
#define BENCH_PATTERN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/util.h"

/* Make the @len bytes that belong at @pos. */
static inline void pattern_fill(uint8_t *buf, uint64_t pos, size_t len,
				uint64_t seed, uint32_t generation)
{
	uint64_t base = hash64(seed + generation);

	while (len) {
		uint64_t word = hash64(base + pos / 8);
		size_t skip = pos % 8, n = MIN(8 - skip, len);

		memcpy(buf, (const uint8_t *)&word + skip, n);
		buf += n;
		pos += n;
		len -= n;
	}
}

/* How many bytes at @pos are as they should be, before the first that is
 * not: @len if all are. */
static inline size_t pattern_check(const uint8_t *buf, uint64_t pos, size_t len,
				   uint64_t seed, uint32_t generation)
{
	uint64_t base = hash64(seed + generation);
	size_t good = 0;

	while (good < len) {
		uint64_t word = hash64(base + (pos + good) / 8);
		const uint8_t *want = (const uint8_t *)&word;
		size_t skip = (pos + good) % 8, n = MIN(8 - skip, len - good);

		if (memcmp(buf + good, want + skip, n)) {
			while (buf[good] == want[skip]) {
				good++;
				skip++;
			}
			return good;
		}
		good += n;
	}
	return good;
}

#endif
