/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mutex.h - mutexes with a rank, so that debug builds check the lock order.
 *
 * A thread takes mutexes in strictly rising rank.  No mutex is held across
 * coroutine_yield(): debug builds assert that too.
 */
#ifndef FOLIOD_BASE_MUTEX_H
#define FOLIOD_BASE_MUTEX_H

#include <pthread.h>
#include <stdbool.h>

/* clang's -Wthread-safety reads these; gcc ignores them. */
#ifdef __clang__
#define THREAD_ANNOTATION(x)	__attribute__((x))
#else
#define THREAD_ANNOTATION(x)
#endif
#define CAPABILITY(x)	THREAD_ANNOTATION(capability(x))
#define GUARDED_BY(x)	THREAD_ANNOTATION(guarded_by(x))
#define REQUIRES(...)	THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define ACQUIRE(...)	THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define RELEASE(...)	THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define NO_THREAD_SAFETY	THREAD_ANNOTATION(no_thread_safety_analysis)

/* The one place where the lock order stands; lowest is taken first. */
enum lock_rank {
	RANK_SERVER,	/* server: exports, listeners, connection table */
	RANK_EXPORT,	/* one export: clients, size */
	RANK_VOLUME,	/* volume: flush groups, writeback pass state */
	RANK_RANGE,	/* volume's range lock table */
	RANK_STORE,	/* a store's map */
	RANK_SHARD,	/* cache index shard: folios' state, dirty lists */
	RANK_POOL,	/* cache frame pool: free frames, eviction queues */
	RANK_THROTTLE,	/* dirty accounting waiters */
	RANK_BDEV,	/* device queues and counters */
	RANK_LOOP,	/* a loop's queue of work from other threads */
	RANK_LEAF,	/* anything that takes no other lock */
};

struct CAPABILITY("mutex") mutex {
	pthread_mutex_t	lock;
#ifdef FOLIOD_DEBUG
	enum lock_rank	rank;
	bool		held;		/* for mutex_fini() */
#endif
};

void mutex_init(struct mutex *mutex, enum lock_rank rank);
void mutex_fini(struct mutex *mutex);

#ifdef FOLIOD_DEBUG
void mutex_lock(struct mutex *mutex) ACQUIRE(mutex);
void mutex_unlock(struct mutex *mutex) RELEASE(mutex);
void mutex_assert_held(struct mutex *mutex) THREAD_ANNOTATION(assert_capability(mutex));
/* Assert that the calling thread holds no mutex at all. */
void mutex_assert_none_held(void);
#else
static inline void mutex_lock(struct mutex *mutex) ACQUIRE(mutex) NO_THREAD_SAFETY
{
	pthread_mutex_lock(&mutex->lock);
}

static inline void mutex_unlock(struct mutex *mutex) RELEASE(mutex) NO_THREAD_SAFETY
{
	pthread_mutex_unlock(&mutex->lock);
}

static inline void mutex_assert_held(struct mutex *mutex)
	THREAD_ANNOTATION(assert_capability(mutex))
{
	(void)mutex;
}

static inline void mutex_assert_none_held(void)
{
}
#endif

#endif
