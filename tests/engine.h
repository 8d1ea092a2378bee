/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine.h - the whole engine in one thread, for tests: a virtual loop, a
 * small cache, and volumes on simulated disks.
 *
 *	struct engine_params params = { .seed = test_seed("...") };
 *	struct engine *engine = engine_start(&params);
 *
 *	engine_run(engine, fn, arg);	(fn is a coroutine, calls volume_*())
 *	engine_stop(&engine);		(and nothing has leaked)
 *
 * Whatever is 0 in the parameters gets a default.  What cannot go wrong but by
 * a bug is asserted.
 */
#ifndef FOLIOD_TESTS_ENGINE_H
#define FOLIOD_TESTS_ENGINE_H

#include "base/base.h"
#include "bdev/sim.h"
#include "cache/cache.h"

#define ENGINE_VOLUMES_MAX	4
#define ENGINE_SIZE		(UINT64_C(1) << 20)	/* of a disk */
#define ENGINE_CACHE_SIZE	(UINT64_C(4) << 20)
#define ENGINE_STAGING		(UINT64_C(2) << 20)

struct engine;

/* What the disk shall not be able to do; raw volumes find out at open. */
#define ENGINE_NO_DISCARD	(1u << 0)
#define ENGINE_NO_ZERO		(1u << 1)
#define ENGINE_NO_ZERO_KEEP	(1u << 2)

struct engine_volume_params {
	/* Defaults: size ENGINE_SIZE, block_size 512, latency 0, write_cache
	 * as it is. */
	struct sim_params	sim;
	const void		*image;		/* its first bytes, or NULL */
	unsigned int		lacks;		/* ENGINE_NO_* */

	/* The raw store's. */
	enum volume_mode	mode;
	bool			read_only;
	uint32_t		map_pages_max;
	unsigned int		block_shift;	/* instead of the store's */
	uint64_t		max_io;		/* instead of the store's */

	/*
	 * Another store than raw: enter a volume on *@bdevp into @cache, taking
	 * the disk over; 0 or -errno.  @arg is open_arg.
	 */
	int			(*open)(struct cache *cache, struct loop *home,
					struct bdev **bdevp, void *arg,
					struct volume **volp);
	void			*open_arg;
};

struct engine_params {
	uint64_t	seed;		/* of the order in which things run */
	uint64_t	cache_size, staging_max;
	unsigned int	nr_shards;	/* 1 allows caches below 16 MiB */
	unsigned int	dirty_background_pct, dirty_hard_pct;
	struct engine_volume_params vol;	/* the first */
};

struct engine {
	struct engine_params	params;
	struct loop		*loop;
	struct cache		*cache;
	/* The first volume and its disk, which the volume owns. */
	struct volume		*vol;
	struct bdev		*bdev;

	unsigned int		nr_volumes;
	struct volume		*volumes[ENGINE_VOLUMES_MAX];

	unsigned int		nr_running;	/* spawned, not ended */
	struct coroutine	*joiner;
};

struct engine *engine_start(const struct engine_params *params);

/* One more volume in the same cache; its disk in *@bdevp unless NULL. */
struct volume *engine_add_volume(struct engine *engine,
				 const struct engine_volume_params *params,
				 struct bdev **bdevp);

/* Stop all volumes, check that nothing is left, free all.  The first error of
 * a volume_stop(), or 0. */
int engine_stop(struct engine **enginep);

/* ---- running ---- */

/* Run @fn(@arg) in a coroutine until it returns.  -EDEADLK: it waits for what
 * never comes. */
int engine_try_run(struct engine *engine, void (*fn)(void *arg), void *arg);
/* The same; that must not be. */
void engine_run(struct engine *engine, void (*fn)(void *arg), void *arg);

/* Start one more coroutine; from a coroutine or from outside the loop. */
void engine_spawn(struct engine *engine, void (*fn)(void *arg), void *arg);
/* Wait, in a coroutine, until all that were spawned have ended. */
void engine_join(struct engine *engine);
/* The same from outside the loop. */
void engine_run_all(struct engine *engine);

/* Single calls on the first volume, from outside the loop. */
int engine_read(struct engine *engine, uint64_t pos, void *buf, uint32_t len);
int engine_write(struct engine *engine, uint64_t pos, const void *buf,
		 uint32_t len, unsigned int flags);
int engine_flush(struct engine *engine);
int engine_trim(struct engine *engine, uint64_t pos, uint64_t len,
		unsigned int flags);
int engine_zero(struct engine *engine, uint64_t pos, uint64_t len,
		unsigned int flags);

/* ---- the end of the world ---- */

/*
 * Cut the power of the first volume's disk and give up: requests that still run
 * end (on that disk with errors), dirty data is dropped, all is freed.  All clients are ones of
 * engine_spawn(), and start no new requests once sim_is_cut().
 */
void engine_abandon(struct engine **enginep);

/*
 * The machine loses power and comes back: an image is drawn by @seed, the old
 * engine is abandoned, and *@enginep is a new one with the same parameters
 * (of the first volume) on the image.
 */
void engine_power_cycle(struct engine **enginep, uint64_t seed);

/* The same for kill -9: the disk keeps all that it has completed. */
void engine_kill(struct engine **enginep);

/* ---- invariants (engine_check.c) ---- */

/*
 * Check every folio, list and count of the cache.  @idle: no request runs, so
 * nothing is locked, in flight or pinned, and all frames are accounted for.
 */
void engine_check(struct engine *engine, bool idle);

#endif
