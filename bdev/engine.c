/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * engine.c - what does the file I/O of a loop: a ring, or the thread pool
 * where there can be no ring.
 */
#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "bdev/bdev.h"
#include "bdev/threads.h"
#include "bdev/uring.h"

/* This thread's loop and its ring; one loop per thread. */
static __thread struct loop *engine_loop;
static __thread struct ring *engine_ring;

struct ring *ring_current(void)
{
	assert(engine_loop && engine_loop == loop_current());
	return engine_ring;
}

int bdev_loop_init(struct loop *loop)
{
	static bool told;
	int ret;

	assert(loop == loop_current());
	if (loop_is_virtual(loop))
		return 0;
	assert(!engine_loop);
	ret = ring_new(loop, &engine_ring);
	if (ret) {
		/* Also without memory: older kernels have a low limit for it. */
		engine_ring = NULL;
		if (!__atomic_exchange_n(&told, true, __ATOMIC_RELAXED))
			log_info("no io_uring here (%s), files are served by threads",
				 strerror(-ret));
	}
	engine_loop = loop;
	threads_get();
	return 0;
}

void bdev_loop_fini(struct loop *loop)
{
	if (loop_is_virtual(loop))
		return;
	assert(loop == engine_loop);
	threads_put();
	if (engine_ring)
		ring_free(engine_ring);
	engine_ring = NULL;
	engine_loop = NULL;
}
