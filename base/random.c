/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * random.c - xoshiro256** by Blackman and Vigna, seeded by splitmix64.
 */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/random.h"
#include "base/size.h"
#include "base/util.h"

static uint64_t splitmix64(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint64_t rotate_left(uint64_t x, unsigned int bits)
{
	return x << bits | x >> (64 - bits);
}

/* Four outputs in a row of splitmix64 are never all 0, which would stick. */
void random_init(struct random *rnd, uint64_t seed)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(rnd->s); i++)
		rnd->s[i] = splitmix64(&seed);
}

uint64_t random_u64(struct random *rnd)
{
	uint64_t *s = rnd->s;
	uint64_t result = rotate_left(s[1] * 5, 7) * 9;
	uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate_left(s[3], 45);
	return result;
}

/*
 * Lemire's method: the high half of a product is uniform once the few low
 * halves that would favour some results are thrown away.
 */
uint64_t random_below(struct random *rnd, uint64_t bound)
{
	unsigned __int128 product;
	uint64_t unfair;

	assert(bound);
	product = (unsigned __int128)random_u64(rnd) * bound;
	if ((uint64_t)product < bound) {
		unfair = -bound % bound;
		while ((uint64_t)product < unfair)
			product = (unsigned __int128)random_u64(rnd) * bound;
	}
	return (uint64_t)(product >> 64);
}

bool random_one_in(struct random *rnd, uint64_t n)
{
	return random_below(rnd, n) == 0;
}

uint64_t random_seed_from_env(const char *env)
{
	const char *text = getenv(env);
	struct timespec ts;
	uint64_t seed;

	if (text && number_parse(text, 0, UINT64_MAX, &seed) == 0)
		return seed;
	if (getentropy(&seed, sizeof(seed)) == 0)
		return seed;
	/* A kernel without entropy: any seed will do that is not always one. */
	clock_gettime(CLOCK_REALTIME, &ts);
	return hash64((uint64_t)ts.tv_sec << 30 ^ (uint64_t)ts.tv_nsec ^
		      (uint64_t)getpid() << 40);
}
