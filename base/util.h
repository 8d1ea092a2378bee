/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * util.h - small macros and inline functions without a home of their own.
 */
#ifndef FOLIOD_BASE_UTIL_H
#define FOLIOD_BASE_UTIL_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define container_of(ptr, type, member) \
	((type *)((char *)(ptr) - offsetof(type, member)))

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)

#define CACHE_LINE	64

/* Scoped cleanup for locals that never leave the function. */
static inline void cleanup_free(void *ptr)
{
	free(*(void **)ptr);
}
#define CLEANUP_FREE	__attribute__((cleanup(cleanup_free)))

#define MIN(a, b) ({ __typeof__(a) a_ = (a); __typeof__(b) b_ = (b); \
		     a_ < b_ ? a_ : b_; })
#define MAX(a, b) ({ __typeof__(a) a_ = (a); __typeof__(b) b_ = (b); \
		     a_ > b_ ? a_ : b_; })

/* @align is a power of two in all of these. */
static inline uint64_t round_down64(uint64_t x, uint64_t align)
{
	return x & ~(align - 1);
}

/* The caller knows that @x + @align - 1 does not overflow. */
static inline uint64_t round_up64(uint64_t x, uint64_t align)
{
	return (x + align - 1) & ~(align - 1);
}

static inline bool is_aligned64(uint64_t x, uint64_t align)
{
	return (x & (align - 1)) == 0;
}

static inline bool is_power_of_2(uint64_t x)
{
	return x && (x & (x - 1)) == 0;
}

/* log2 of @x rounded down; @x is not 0. */
static inline unsigned int ilog2(uint64_t x)
{
	return 63 - __builtin_clzll(x);
}

/* Does [pos, pos + len) lie within [0, size) without wrapping? */
static inline bool range_within(uint64_t pos, uint64_t len, uint64_t size)
{
	return pos <= size && len <= size - pos;
}

/* A well-spread 64-bit hash of one word (the finaliser of MurmurHash3). */
static inline uint64_t hash64(uint64_t x)
{
	x ^= x >> 33;
	x *= UINT64_C(0xff51afd7ed558ccd);
	x ^= x >> 33;
	x *= UINT64_C(0xc4ceb9fe1a85ec53);
	x ^= x >> 33;
	return x;
}

#endif
