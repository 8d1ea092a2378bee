/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loop_thread.c - a thread that runs a loop, from its start to its join.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/loop_thread.h"
#include "base/thread.h"
#include "base/util.h"

void loop_thread_init(struct loop_thread *lt, unsigned int index,
		      const struct loop_thread_ops *ops)
{
	memset(lt, 0, sizeof(*lt));
	lt->index = index;
	lt->ops = ops;
}

int loop_thread_open(struct loop_thread *lt)
{
	int ret = loop_new(&lt->loop);

	if (ret)
		return ret;
	loop_enter(lt->loop);
	ret = lt->ops->open(lt);
	loop_enter(NULL);
	if (ret) {
		/* Nobody has heard of it yet. */
		loop_free(lt->loop);
		lt->loop = NULL;
	}
	return ret;
}

/* The loop itself stays: others may still be about to wake it up. */
void loop_thread_close(struct loop_thread *lt)
{
	if (!lt->loop)
		return;
	loop_enter(lt->loop);
	lt->ops->close(lt);
	loop_enter(NULL);
}

/* Only a broken epoll ends a loop that was not stopped. */
void loop_thread_run(struct loop_thread *lt)
{
	int ret = loop_run(lt->loop);

	if (ret) {
		log_error("cannot wait for events: %s", strerror(-ret));
		abort();
	}
}

static void *thread_main(void *arg)
{
	struct loop_thread *lt = arg;
	char name[16];

	snprintf(name, sizeof(name), "foliod-%u", lt->index);
	pthread_setname_np(pthread_self(), name);
	lt->ret = loop_thread_open(lt);
	sem_post(&lt->started);
	if (!lt->loop)
		return NULL;
	while (!__atomic_load_n(&lt->stop, __ATOMIC_ACQUIRE))
		loop_thread_run(lt);
	loop_thread_close(lt);
	return NULL;
}

int loop_thread_start(struct loop_thread *lt)
{
	int ret;

	sem_init(&lt->started, 0, 0);
	ret = thread_start(&lt->thread, thread_main, lt);
	if (ret) {
		sem_destroy(&lt->started);
		return ret;
	}
	lt->threaded = true;
	while (sem_wait(&lt->started))
		;
	/* One that failed ends by itself. */
	ret = lt->ret;
	if (ret)
		loop_thread_stop(lt);
	return ret;
}

void loop_thread_stop(struct loop_thread *lt)
{
	if (!lt->threaded)
		return;
	__atomic_store_n(&lt->stop, true, __ATOMIC_RELEASE);
	if (lt->loop)
		loop_stop(lt->loop);
	pthread_join(lt->thread, NULL);
	sem_destroy(&lt->started);
	lt->threaded = false;
}

void loop_thread_free(struct loop_thread *lt)
{
	if (lt->loop)
		loop_free(lt->loop);
	loop_thread_init(lt, lt->index, lt->ops);
}
