/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * random.h - seeded pseudo-random numbers (xoshiro256**), never for secrets.
 */
#ifndef FOLIOD_BASE_RANDOM_H
#define FOLIOD_BASE_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct random {
	uint64_t s[4];
};

/* Start @rnd's sequence from @seed; every seed is good. */
void random_init(struct random *rnd, uint64_t seed);

uint64_t random_u64(struct random *rnd);

/* Uniform in [0, @bound); @bound is not 0. */
uint64_t random_below(struct random *rnd, uint64_t bound);

/* True once in @n calls on average; @n is not 0. */
bool random_one_in(struct random *rnd, uint64_t n);

/*
 * The seed for a test or a run: environment variable @env if set and a number,
 * else from the kernel's entropy.  Callers print it.
 */
uint64_t random_seed_from_env(const char *env);

#endif
