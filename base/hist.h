/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hist.h - histogram with log-linear buckets: 8 to the power of two.
 *
 * Relative error of a percentile is below 1/8.  Single writer; a reader of
 * another thread may see counts of the last moments missing.
 */
#ifndef FOLIOD_BASE_HIST_H
#define FOLIOD_BASE_HIST_H

#include <stdint.h>

#define HIST_SUB_SHIFT	3
#define HIST_BUCKETS	((64 - HIST_SUB_SHIFT + 1) << HIST_SUB_SHIFT)

struct hist {
	uint64_t	count;
	uint64_t	sum;
	uint64_t	max;
	uint64_t	bucket[HIST_BUCKETS];
};

void hist_add(struct hist *hist, uint64_t value);

/* Upper bound of the bucket that holds the @permille-th value; 0 if empty. */
uint64_t hist_percentile(const struct hist *hist, unsigned int permille);

/* Add @from's counts to @hist. */
void hist_merge(struct hist *hist, const struct hist *from);

#endif
