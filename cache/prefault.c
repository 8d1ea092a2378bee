/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * prefault.c - a thread that touches the arena a little ahead of its use.
 *
 * The first touch of memory has to find a page and clear it, a huge one at
 * once; in a virtual machine the host has to do the same beneath.  That takes
 * milliseconds, in which a loop would serve nobody.  A large cache still costs
 * memory only as it fills, and the few megabytes ahead of that.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/thread.h"
#include "cache/pool.h"
#include "cache/prefault.h"

#define STEP_FRAMES	512u	/* a huge page */

struct prefault {
	struct pool	*pool;
	pthread_t	thread;
	sem_t		more;
	bool		stop;		/* atomic */
	uint32_t	ahead;		/* frames */
	uint32_t	ready;		/* frames before it are in memory */
};

static bool populate(void *start, uint64_t len)
{
	uintptr_t first = round_down64((uintptr_t)start, FRAME_SIZE);
	uintptr_t end = round_up64((uintptr_t)start + len, FRAME_SIZE);

	return madvise((void *)first, end - first, MADV_POPULATE_WRITE) == 0;
}

/* The next frames and what describes them.  False: not on this kernel, or
 * there is no memory, which whoever uses it will find out. */
static bool step(struct prefault *prefault)
{
	struct pool *pool = prefault->pool;
	uint32_t first = prefault->ready;
	uint32_t nr = MIN(STEP_FRAMES, pool->nr_frames - first);

	prefault->ready += nr;
	return populate(pool_folio(pool, first), nr * sizeof(struct folio)) &&
		populate(pool_data(pool, first), (uint64_t)nr * FRAME_SIZE);
}

static bool is_behind(const struct prefault *prefault)
{
	const struct pool *pool = prefault->pool;
	uint64_t want = (uint64_t)prefault->ahead +
			__atomic_load_n(&pool->fresh, __ATOMIC_ACQUIRE);

	return prefault->ready < MIN(want, (uint64_t)pool->nr_frames);
}

/* Called for more once half of what is ready has been used; no, when it was
 * used meanwhile, as who allocates the last frame calls nobody. */
static bool may_wait(struct prefault *prefault)
{
	struct pool *pool = prefault->pool;
	bool idle;

	mutex_lock(&pool->lock);
	idle = !is_behind(prefault);
	if (idle)
		pool->prefault_at = prefault->ready - prefault->ahead / 2;
	mutex_unlock(&pool->lock);
	return idle;
}

static void *run(void *arg)
{
	struct prefault *prefault = arg;
	struct pool *pool = prefault->pool;

	while (!__atomic_load_n(&prefault->stop, __ATOMIC_ACQUIRE)) {
		if (is_behind(prefault)) {
			if (!step(prefault))
				break;
			continue;
		}
		if (prefault->ready == pool->nr_frames)
			break;
		if (!may_wait(prefault))
			continue;
		while (sem_wait(&prefault->more))
			;
	}
	return NULL;
}

void prefault_more(struct prefault *prefault)
{
	prefault->pool->prefault_at = UINT32_MAX;
	sem_post(&prefault->more);
}

void prefault_start(struct pool *pool, uint64_t ahead)
{
	struct prefault *prefault = calloc(1, sizeof(*prefault));

	if (!prefault)
		return;
	prefault->pool = pool;
	prefault->ahead = (uint32_t)MIN(ahead / FRAME_SIZE,
					(uint64_t)pool->nr_frames);
	sem_init(&prefault->more, 0, 0);
	pool->prefault = prefault;
	if (thread_start(&prefault->thread, run, prefault) == 0)
		return;
	pool->prefault = NULL;
	sem_destroy(&prefault->more);
	free(prefault);
}

void prefault_stop(struct pool *pool)
{
	struct prefault *prefault = pool->prefault;

	if (!prefault)
		return;
	__atomic_store_n(&prefault->stop, true, __ATOMIC_RELEASE);
	sem_post(&prefault->more);
	pthread_join(prefault->thread, NULL);
	pool->prefault = NULL;
	sem_destroy(&prefault->more);
	free(prefault);
}
