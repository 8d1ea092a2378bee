/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * runner.c - a file, its cache and the loops' threads.
 *
 * All loops have threads of their own: those who call belong to somebody else.
 */
#include "plugins/runner.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/base.h"
#include "base/loop_thread.h"
#include "bdev/bdev.h"
#include "cache/cache.h"
#include "plugins/door.h"
#include "store/raw.h"

/* As in the server. */
#define STAGING_MAX	(UINT64_C(128) << 20)
#define PREFAULT_MAX	(UINT64_C(64) << 20)

struct runner {
	struct runner_params	params;
	struct bdev		*bdev;		/* NULL once the volume has it */
	struct cache		*cache;
	struct volume		*vol;		/* while it runs */
	unsigned int		next_loop;	/* atomic */
	struct loop_thread	loops[];	/* [params.threads] */
};

/* ---- loops ---- */

static int open_loop(struct loop_thread *lt)
{
	return bdev_loop_init(lt->loop);
}

static void close_loop(struct loop_thread *lt)
{
	bdev_loop_fini(lt->loop);
}

static const struct loop_thread_ops loop_ops = {
	.open	= open_loop,
	.close	= close_loop,
};

static void stop_threads(struct runner *runner)
{
	for (unsigned int i = 0; i < runner->params.threads; i++)
		loop_thread_stop(&runner->loops[i]);
	for (unsigned int i = 0; i < runner->params.threads; i++)
		loop_thread_free(&runner->loops[i]);
}

/* ---- life ---- */

static int make_cache(struct runner *runner, char *msg, unsigned int msglen)
{
	const struct runner_params *params = &runner->params;
	const struct cache_params cache_params = {
		.size = params->cache_size, .staging_max = STAGING_MAX,
		.nr_threads = params->threads,
	};
	char size[32];
	int ret;

	ret = cache_new(&cache_params, &runner->cache);
	if (ret)
		snprintf(msg, msglen, "%s: cannot make a cache of %s: %s; use "
			 "another cache-size", params->path,
			 size_to_text(params->cache_size, size, sizeof(size)),
			 strerror(-ret));
	return ret;
}

int runner_open(const struct runner_params *params, struct runner **runnerp,
		char *msg, unsigned int msglen)
{
	struct runner *runner;
	int ret;

	runner = calloc(1, sizeof(*runner) +
			   params->threads * sizeof(runner->loops[0]));
	if (!runner) {
		snprintf(msg, msglen, "%s: %s", params->path,
			 strerror(ENOMEM));
		return -ENOMEM;
	}
	runner->params = *params;
	for (unsigned int i = 0; i < params->threads; i++)
		loop_thread_init(&runner->loops[i], i, &loop_ops);
	ret = bdev_open_file(params->path,
			     params->read_only ? BDEV_OPEN_READ_ONLY : 0,
			     &runner->bdev, msg, msglen);
	if (!ret)
		ret = make_cache(runner, msg, msglen);
	if (ret)
		runner_close(&runner);
	else
		*runnerp = runner;
	return ret;
}

void runner_close(struct runner **runnerp)
{
	struct runner *runner = *runnerp;

	*runnerp = NULL;
	if (!runner)
		return;
	assert(!runner->vol);
	bdev_close(&runner->bdev);
	if (runner->cache)
		cache_free(runner->cache);
	free(runner);
}

int runner_start(struct runner *runner, char *msg, unsigned int msglen)
{
	const struct runner_params *params = &runner->params;
	const struct raw_params raw_params = {
		.mode = params->mode, .read_only = params->read_only,
	};
	int ret = 0;

	cache_prefault(runner->cache,
		       MIN(PREFAULT_MAX, params->cache_size / 8));
	for (unsigned int i = 0; i < params->threads && !ret; i++)
		ret = loop_thread_start(&runner->loops[i]);
	if (!ret)
		ret = raw_open_bdev(runner->cache, runner->loops[0].loop,
				    &runner->bdev, params->path, &raw_params,
				    &runner->vol);
	if (ret) {
		snprintf(msg, msglen, "%s: cannot start %u threads for it: %s",
			 params->path, params->threads, strerror(-ret));
		stop_threads(runner);
	}
	return ret;
}

static int stop_volume(void *arg)
{
	struct runner *runner = arg;
	struct volume *vol = runner->vol;

	runner->vol = NULL;
	return volume_stop(vol);
}

int runner_stop(struct runner *runner)
{
	const struct timespec pause = { .tv_nsec = 10 * NSEC_PER_MSEC };
	int ret;

	for (;;) {
		ret = door_call(runner->loops[0].loop, stop_volume, runner);
		if (!runner->vol)
			break;
		/* No memory for a coroutine, yet there is data to be kept. */
		nanosleep(&pause, NULL);
	}
	stop_threads(runner);
	return ret;
}

struct volume *runner_volume(struct runner *runner)
{
	return runner->vol;
}

struct loop *runner_next_loop(struct runner *runner)
{
	unsigned int n = __atomic_fetch_add(&runner->next_loop, 1,
					    __ATOMIC_RELAXED);

	return runner->loops[n % runner->params.threads].loop;
}
