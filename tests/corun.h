/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * corun.h - for unit tests: run a function in a coroutine until it is done,
 * and take the seed of a random test.
 */
#ifndef FOLIOD_TESTS_CORUN_H
#define FOLIOD_TESTS_CORUN_H

#include <inttypes.h>
#include <stdio.h>

#include "base/base.h"

struct corun {
	struct work	work;
	struct loop	*loop;
	void		(*fn)(void *arg);
	void		*arg;
};

static inline void corun_main(void *arg)
{
	struct corun *run = arg;

	run->fn(run->arg);
	loop_stop(run->loop);
}

static inline void corun_start(struct work *work)
{
	struct corun *run = container_of(work, struct corun, work);

	if (coroutine_start(corun_main, run))
		abort();
}

/*
 * Run @fn(@arg) in a coroutine of @loop and the loop until @fn returns.
 * Returns 0, or -EDEADLK: on a virtual loop @fn waits for what never comes.
 */
static inline int corun(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	struct corun run = {
		.work = { .fn = corun_start },
		.loop = loop,
		.fn = fn,
		.arg = arg,
	};

	loop_post(loop, &run.work);
	return loop_run(loop);
}

/* The same on a virtual loop of its own. */
static inline int corun_virtual(uint64_t seed, void (*fn)(void *arg), void *arg)
{
	struct loop *loop;
	int ret = loop_new_virtual(seed, &loop);

	if (ret)
		return ret;
	ret = corun(loop, fn, arg);
	loop_free(loop);
	return ret;
}

/* FOLIOD_SEED if given; printed, so that a failure can be had again. */
static inline uint64_t test_seed(const char *what)
{
	uint64_t seed = random_seed_from_env("FOLIOD_SEED");

	printf("%s: FOLIOD_SEED=%" PRIu64 "\n", what, seed);
	fflush(stdout);
	return seed;
}

#endif
