/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine.c - setting the engine up, running things in it, and its end.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cache/cache_internal.h"
#include "store/raw.h"
#include "tests/corun.h"
#include "tests/engine.h"

/* ---- start ---- */

static void set_default(uint64_t *value, uint64_t to)
{
	if (!*value)
		*value = to;
}

static struct bdev *new_disk(const struct engine_volume_params *params)
{
	struct sim_params sim = params->sim;
	struct bdev *bdev;
	int ret;

	set_default(&sim.size, ENGINE_SIZE);
	if (!sim.block_size)
		sim.block_size = 512;
	ret = sim_new(&sim, params->image, &bdev);
	assert(!ret);
	if (params->lacks & ENGINE_NO_DISCARD)
		bdev->can_discard = false;
	if (params->lacks & ENGINE_NO_ZERO)
		bdev->can_zero = false;
	if (params->lacks & ENGINE_NO_ZERO_KEEP)
		bdev->can_zero_keep = false;
	return bdev;
}

static int open_volume(struct engine *engine, struct bdev **bdevp,
		       const struct engine_volume_params *params,
		       struct volume **volp)
{
	struct raw_params raw = {
		.mode = params->mode,
		.read_only = params->read_only,
		.map_pages_max = params->map_pages_max,
	};

	if (params->open)
		return params->open(engine->cache, engine->loop, bdevp,
				    params->open_arg, volp);
	return raw_open_bdev(engine->cache, engine->loop, bdevp, "volume", &raw,
			     volp);
}

struct volume *engine_add_volume(struct engine *engine,
				 const struct engine_volume_params *params,
				 struct bdev **bdevp)
{
	struct bdev *bdev = new_disk(params);
	struct volume *vol;
	int ret;

	assert(engine->nr_volumes < ENGINE_VOLUMES_MAX);
	if (bdevp)
		*bdevp = bdev;
	ret = open_volume(engine, &bdev, params, &vol);
	assert(!ret && !bdev);
	/* Nothing is cached yet, so the unit of the bits may still change. */
	if (params->block_shift)
		vol->block_shift = params->block_shift;
	if (params->max_io)
		vol->max_io = params->max_io;
	engine->volumes[engine->nr_volumes++] = vol;
	return vol;
}

struct engine *engine_start(const struct engine_params *params)
{
	struct engine *engine = calloc(1, sizeof(*engine));
	struct cache_params cache = {
		.size = params->cache_size,
		.staging_max = params->staging_max,
		.nr_threads = 1,
		.nr_shards = params->nr_shards ? params->nr_shards : 1,
		.dirty_background_pct = params->dirty_background_pct,
		.dirty_hard_pct = params->dirty_hard_pct,
	};
	int ret;

	assert(engine);
	engine->params = *params;
	set_default(&cache.size, ENGINE_CACHE_SIZE);
	set_default(&cache.staging_max, ENGINE_STAGING);
	ret = loop_new_virtual(params->seed, &engine->loop);
	assert(!ret);
	ret = cache_new(&cache, &engine->cache);
	assert(!ret);
	engine->vol = engine_add_volume(engine, &params->vol, &engine->bdev);
	return engine;
}

/* ---- running ---- */

int engine_try_run(struct engine *engine, void (*fn)(void *arg), void *arg)
{
	return corun(engine->loop, fn, arg);
}

void engine_run(struct engine *engine, void (*fn)(void *arg), void *arg)
{
	int ret = engine_try_run(engine, fn, arg);

	if (ret) {
		fprintf(stderr, "the engine is stuck: %s\n", strerror(-ret));
		abort();
	}
}

struct spawn {
	struct engine	*engine;
	void		(*fn)(void *arg);
	void		*arg;
};

static void spawn_co(void *arg)
{
	struct spawn spawn = *(struct spawn *)arg;
	struct engine *engine = spawn.engine;

	free(arg);
	spawn.fn(spawn.arg);
	if (--engine->nr_running == 0 && engine->joiner)
		coroutine_wake(engine->joiner);
}

void engine_spawn(struct engine *engine, void (*fn)(void *arg), void *arg)
{
	struct spawn *spawn = malloc(sizeof(*spawn));
	bool outside = !loop_current();
	int ret;

	assert(spawn);
	*spawn = (struct spawn){ .engine = engine, .fn = fn, .arg = arg };
	engine->nr_running++;
	if (outside)
		loop_enter(engine->loop);
	ret = coroutine_start(spawn_co, spawn);
	assert(!ret);
	if (outside)
		loop_enter(NULL);
}

void engine_join(struct engine *engine)
{
	engine->joiner = coroutine_self();
	while (engine->nr_running)
		coroutine_yield();
	engine->joiner = NULL;
}

static void join_co(void *arg)
{
	engine_join(arg);
}

void engine_run_all(struct engine *engine)
{
	engine_run(engine, join_co, engine);
}

/* ---- single calls ---- */

struct call {
	enum { CALL_READ, CALL_WRITE, CALL_FLUSH, CALL_TRIM, CALL_ZERO } what;
	struct volume	*vol;
	uint64_t	pos, len;
	void		*buf;
	unsigned int	flags;
	int		ret;
};

static void call_co(void *arg)
{
	struct call *call = arg;

	switch (call->what) {
	case CALL_READ:
		call->ret = volume_pread(call->vol, call->buf,
					 (uint32_t)call->len, call->pos);
		break;
	case CALL_WRITE:
		call->ret = volume_write(call->vol, call->pos,
					 (uint32_t)call->len, call->buf,
					 call->flags);
		break;
	case CALL_FLUSH:
		call->ret = volume_flush(call->vol);
		break;
	case CALL_TRIM:
		call->ret = volume_trim(call->vol, call->pos, call->len,
					call->flags);
		break;
	case CALL_ZERO:
		call->ret = volume_zero(call->vol, call->pos, call->len,
					call->flags);
		break;
	}
}

static int run_call(struct engine *engine, struct call *call)
{
	call->vol = engine->vol;
	engine_run(engine, call_co, call);
	return call->ret;
}

int engine_read(struct engine *engine, uint64_t pos, void *buf, uint32_t len)
{
	struct call call = { .what = CALL_READ, .pos = pos, .len = len,
			     .buf = buf };

	return run_call(engine, &call);
}

int engine_write(struct engine *engine, uint64_t pos, const void *buf,
		 uint32_t len, unsigned int flags)
{
	struct call call = { .what = CALL_WRITE, .pos = pos, .len = len,
			     .buf = (void *)(uintptr_t)buf, .flags = flags };

	return run_call(engine, &call);
}

int engine_flush(struct engine *engine)
{
	struct call call = { .what = CALL_FLUSH };

	return run_call(engine, &call);
}

int engine_trim(struct engine *engine, uint64_t pos, uint64_t len,
		unsigned int flags)
{
	struct call call = { .what = CALL_TRIM, .pos = pos, .len = len,
			     .flags = flags };

	return run_call(engine, &call);
}

int engine_zero(struct engine *engine, uint64_t pos, uint64_t len,
		unsigned int flags)
{
	struct call call = { .what = CALL_ZERO, .pos = pos, .len = len,
			     .flags = flags };

	return run_call(engine, &call);
}

/* ---- the end ---- */

struct stop {
	struct engine	*engine;
	int		ret;
};

static void stop_co(void *arg)
{
	struct stop *stop = arg;
	struct engine *engine = stop->engine;

	while (engine->nr_volumes) {
		int ret;

		ret = volume_stop(engine->volumes[--engine->nr_volumes]);
		if (!stop->ret)
			stop->ret = ret;
	}
}

static void free_engine(struct engine *engine)
{
	const struct pool *pool = &engine->cache->pool;

	/* All volumes are gone, and so is all that they ever took. */
	assert(!pool->cached_pages && !pool->staged_pages);
	assert(!engine->cache->throttle.dirty_bytes);
	assert(!engine->cache->throttle.inflight_bytes);
	assert(!engine->nr_running);
	assert(coroutine_count() == 0);
	cache_free(engine->cache);
	loop_free(engine->loop);
	free(engine);
}

int engine_stop(struct engine **enginep)
{
	struct stop stop = { .engine = *enginep };

	engine_run(stop.engine, stop_co, &stop);
	free_engine(stop.engine);
	*enginep = NULL;
	return stop.ret;
}

static void abandon_co(void *arg)
{
	struct engine *engine = arg;
	unsigned int rounds = 0;

	while (engine->nr_running) {
		assert(rounds++ < 10000);
		/* What waits for memory or for the throttle waits for writes
		 * that cannot be done any more. */
		for (unsigned int i = 0; i < engine->nr_volumes; i++)
			cache_drop_range(engine->volumes[i], 0,
					 engine->volumes[i]->size);
		coroutine_sleep_ns(NSEC_PER_MSEC);
	}
}

void engine_abandon(struct engine **enginep)
{
	struct engine *engine = *enginep;

	sim_power_cut(engine->bdev, 0);
	engine_run(engine, abandon_co, engine);
	(void)engine_stop(enginep);
}

static void restart(struct engine **enginep, void *image)
{
	struct engine_params params = (*enginep)->params;

	engine_abandon(enginep);
	params.vol.image = image;
	params.vol.sim.seed++;
	params.seed++;
	*enginep = engine_start(&params);
	/* It was copied. */
	(*enginep)->params.vol.image = NULL;
	free(image);
}

static void *image_room(const struct engine *engine)
{
	void *image = malloc(engine->bdev->size);

	assert(image);
	return image;
}

void engine_power_cycle(struct engine **enginep, uint64_t seed)
{
	struct engine *engine = *enginep;
	void *image = image_room(engine);

	sim_crash_image(engine->bdev, seed, image);
	restart(enginep, image);
}

void engine_kill(struct engine **enginep)
{
	struct engine *engine = *enginep;
	void *image = image_room(engine);

	sim_peek(engine->bdev, 0, image, engine->bdev->size);
	restart(enginep, image);
}
