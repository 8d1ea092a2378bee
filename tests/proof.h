/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * proof.h - what the tests of the whole engine share: patterns, counts, and
 * letting time pass.
 */
#ifndef FOLIOD_TESTS_PROOF_H
#define FOLIOD_TESTS_PROOF_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache_internal.h"
#include "tests/corun.h"
#include "tests/engine.h"

#define KIB(n)	((uint64_t)(n) << 10)
#define MIB(n)	((uint64_t)(n) << 20)

/* Bytes that say where they belong and which version they are. */
static inline void fill_pattern(void *buf, size_t len, uint64_t pos,
				uint64_t version)
{
	uint8_t *to = buf;
	uint64_t word = 0;

	for (size_t i = 0; i < len; i++) {
		if (i == 0 || (pos + i) % 8 == 0)
			word = hash64((pos + i) / 8 + (version << 40));
		to[i] = (uint8_t)(word >> ((pos + i) % 8 * 8));
	}
}

static inline bool has_pattern(const void *buf, size_t len, uint64_t pos,
			       uint64_t version)
{
	uint8_t want[4096];
	const uint8_t *at = buf;

	while (len) {
		size_t n = MIN(len, sizeof(want));

		fill_pattern(want, n, pos, version);
		if (memcmp(at, want, n))
			return false;
		at += n;
		pos += n;
		len -= n;
	}
	return true;
}

static inline bool is_zero(const void *buf, size_t len)
{
	const uint8_t *bytes = buf;

	return !len || (!bytes[0] && !memcmp(bytes, bytes + 1, len - 1));
}

/* The pattern as [@pos, @pos + @len) of the first volume, through the cache. */
static inline void must_write(struct engine *engine, uint64_t pos,
			      uint32_t len, uint64_t version,
			      unsigned int flags)
{
	void *buf = malloc(len);

	fill_pattern(buf, len, pos, version);
	ck_assert_int_eq(engine_write(engine, pos, buf, len, flags), 0);
	free(buf);
}

static inline bool reads_pattern(struct engine *engine, uint64_t pos,
				 uint32_t len, uint64_t version)
{
	void *buf = malloc(len);
	bool same;

	ck_assert_int_eq(engine_read(engine, pos, buf, len), 0);
	same = has_pattern(buf, len, pos, version);
	free(buf);
	return same;
}

/* What is on the disk, completed writes included. */
static inline bool disk_has_pattern(struct engine *engine, uint64_t pos,
				    uint32_t len, uint64_t version)
{
	void *buf = malloc(len);
	bool same;

	sim_peek(engine->bdev, pos, buf, len);
	same = has_pattern(buf, len, pos, version);
	free(buf);
	return same;
}

/* The pattern on the disk, with nothing in the cache. */
static inline void put_on_disk(struct engine *engine, uint64_t pos,
			       uint32_t len, uint64_t version)
{
	void *buf = malloc(len);

	fill_pattern(buf, len, pos, version);
	sim_poke(engine->bdev, pos, buf, len);
	free(buf);
}

static inline void settle_co(void *arg)
{
	coroutine_sleep_ns(*(uint64_t *)arg);
}

/* Let @ns of virtual time pass: whatever can go on without us does. */
static inline void settle(struct engine *engine, uint64_t ns)
{
	engine_run(engine, settle_co, &ns);
}

/* Once the background writer has come to rest as well. */
static inline void check_idle(struct engine *engine)
{
	settle(engine, 100 * NSEC_PER_MSEC);
	engine_check(engine, true);
}

static inline uint64_t dev_ops(const struct engine *engine, enum bdev_op op)
{
	return engine->bdev->stats.ops[op];
}

static inline uint64_t dev_bytes(const struct engine *engine, enum bdev_op op)
{
	return engine->bdev->stats.bytes[op];
}

/* The numbers below @nr in random order. */
static inline void shuffle(struct random *rnd, unsigned int *numbers,
			   unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		unsigned int at = (unsigned int)random_below(rnd, i + 1);

		numbers[i] = numbers[at];
		numbers[at] = i;
	}
}

static inline void drop_co(void *arg)
{
	struct volume *vol = arg;
	struct range range;

	range_lock_exclusive(&vol->range_lock, &range, 0, vol->size);
	cache_drop_range(vol, 0, vol->size);
	range_unlock(&vol->range_lock, &range);
}

/* Flush, and forget all that is cached of the first volume. */
static inline void go_cold(struct engine *engine)
{
	ck_assert_int_eq(engine_flush(engine), 0);
	engine_run(engine, drop_co, engine->vol);
	ck_assert_uint_eq(engine->cache->pool.cached_pages, 0);
}

/* One write in a coroutine of its own, for engine_spawn(). */
struct spawned_write {
	struct volume	*vol;
	uint64_t	pos;
	uint32_t	len;
	uint64_t	version;
	unsigned int	flags;
	int		ret;
	bool		done;
};

static inline void spawned_write_co(void *arg)
{
	struct spawned_write *w = arg;
	void *buf = malloc(w->len);

	fill_pattern(buf, w->len, w->pos, w->version);
	w->ret = volume_write(w->vol, w->pos, w->len, buf, w->flags);
	w->done = true;
	free(buf);
}

/* One flush in a coroutine of its own. */
struct spawned_flush {
	struct volume	*vol;
	int		ret;
	bool		done;
};

static inline void spawned_flush_co(void *arg)
{
	struct spawned_flush *f = arg;

	f->ret = volume_flush(f->vol);
	f->done = true;
}

/* The end of each of these programs. */
static inline int proof_main(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
