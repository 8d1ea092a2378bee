/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hist.c - where a value belongs in a log-linear histogram.
 *
 * Values below 8 have a bucket each.  Above that, the three bits after the
 * highest one choose among the 8 buckets of their power of two.  Relaxed
 * atomics cost the writer nothing and let another thread read at any time.
 */
#include "base/hist.h"
#include "base/util.h"

#define SUB_BUCKETS	(1u << HIST_SUB_SHIFT)

static unsigned int bucket_of(uint64_t value)
{
	unsigned int shift;

	if (value < SUB_BUCKETS)
		return (unsigned int)value;
	shift = ilog2(value) - HIST_SUB_SHIFT;
	return ((shift + 1) << HIST_SUB_SHIFT) +
	       ((unsigned int)(value >> shift) & (SUB_BUCKETS - 1));
}

static uint64_t bucket_last(unsigned int i)
{
	unsigned int shift;

	if (i < SUB_BUCKETS)
		return i;
	shift = (i >> HIST_SUB_SHIFT) - 1;
	return ((uint64_t)(SUB_BUCKETS + i % SUB_BUCKETS) << shift) +
	       ((UINT64_C(1) << shift) - 1);
}

static uint64_t load(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

/* No read-modify-write is needed: there is one writer. */
static void add(uint64_t *p, uint64_t n)
{
	__atomic_store_n(p, *p + n, __ATOMIC_RELAXED);
}

static void raise_max(struct hist *hist, uint64_t value)
{
	if (value > hist->max)
		__atomic_store_n(&hist->max, value, __ATOMIC_RELAXED);
}

void hist_add(struct hist *hist, uint64_t value)
{
	add(&hist->bucket[bucket_of(value)], 1);
	add(&hist->count, 1);
	add(&hist->sum, value);
	raise_max(hist, value);
}

uint64_t hist_percentile(const struct hist *hist, unsigned int permille)
{
	uint64_t counts[HIST_BUCKETS], total = 0, rank, seen = 0;
	unsigned int i;

	/* One look at each bucket: total and walk must agree. */
	for (i = 0; i < HIST_BUCKETS; i++)
		total += counts[i] = load(&hist->bucket[i]);
	if (!total)
		return 0;
	permille = MIN(permille, 1000u);
	rank = total / 1000 * permille +
	       (total % 1000 * permille + 999) / 1000;
	rank = MAX(rank, UINT64_C(1));
	for (i = 0; i < HIST_BUCKETS - 1; i++) {
		seen += counts[i];
		if (seen >= rank)
			break;
	}
	return bucket_last(i);
}

void hist_merge(struct hist *hist, const struct hist *from)
{
	unsigned int i;

	for (i = 0; i < HIST_BUCKETS; i++)
		add(&hist->bucket[i], load(&from->bucket[i]));
	add(&hist->count, load(&from->count));
	add(&hist->sum, load(&from->sum));
	raise_max(hist, load(&from->max));
}
