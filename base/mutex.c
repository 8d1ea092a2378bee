/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mutex.c - pthread mutexes, and in debug builds the watch over their order.
 *
 * Each thread keeps the list of what it holds.
 */
#include <assert.h>

#include "base/mutex.h"
#include "base/util.h"

#ifdef FOLIOD_DEBUG

#define HELD_MAX	32

static __thread struct mutex *held[HELD_MAX];
static __thread unsigned int nr_held;

static unsigned int held_index(const struct mutex *mutex)
{
	unsigned int i;

	for (i = 0; i < nr_held; i++)
		if (held[i] == mutex)
			break;
	return i;
}

void mutex_init(struct mutex *mutex, enum lock_rank rank)
{
	int ret = pthread_mutex_init(&mutex->lock, NULL);

	assert(ret == 0);
	mutex->rank = rank;
	mutex->held = false;
}

void mutex_fini(struct mutex *mutex)
{
	assert(!mutex->held);
	pthread_mutex_destroy(&mutex->lock);
}

NO_THREAD_SAFETY void mutex_lock(struct mutex *mutex)
{
	unsigned int i;
	int ret;

	for (i = 0; i < nr_held; i++)
		assert(held[i]->rank < mutex->rank);
	ret = pthread_mutex_lock(&mutex->lock);
	assert(ret == 0);
	assert(nr_held < HELD_MAX);
	held[nr_held++] = mutex;
	mutex->held = true;
}

NO_THREAD_SAFETY void mutex_unlock(struct mutex *mutex)
{
	unsigned int i = held_index(mutex);

	assert(i < nr_held);
	held[i] = held[--nr_held];
	mutex->held = false;
	pthread_mutex_unlock(&mutex->lock);
}

void mutex_assert_held(struct mutex *mutex)
{
	assert(held_index(mutex) < nr_held);
}

void mutex_assert_none_held(void)
{
	assert(nr_held == 0);
}

#else

void mutex_init(struct mutex *mutex, enum lock_rank rank)
{
	(void)rank;
	/* Never fails in glibc or musl for default attributes. */
	pthread_mutex_init(&mutex->lock, NULL);
}

void mutex_fini(struct mutex *mutex)
{
	pthread_mutex_destroy(&mutex->lock);
}

#endif
