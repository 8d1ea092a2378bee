/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loop_thread.h - a thread that runs a loop, from its start to its join.
 *
 *	init -> start ->         thread: open, run, close  -> stop -> free
 *	init -> open -> loop_thread_run() by the caller -> close -> free
 *
 * What belongs to a loop beside it (a device's ring, connections) is made and
 * unmade on the loop's thread, by functions of whoever embeds this struct.
 * Loops know each other and wake each other up: a user stops all of his before
 * he frees any.
 */
#ifndef FOLIOD_BASE_LOOP_THREAD_H
#define FOLIOD_BASE_LOOP_THREAD_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>

#include "base/loop.h"

struct loop_thread;

struct loop_thread_ops {
	/* With the loop entered, before it runs.  0, or -errno with nothing
	 * left to undo. */
	int (*open)(struct loop_thread *lt);
	/* The same after it has run; only if open() succeeded. */
	void (*close)(struct loop_thread *lt);
};

/* Embedded by its user, who reads loop; constant from the start to the free. */
struct loop_thread {
	const struct loop_thread_ops *ops;
	unsigned int	index;		/* in the thread's name */
	struct loop	*loop;		/* NULL if there is none */
	pthread_t	thread;
	bool		threaded;	/* it was made, and not joined */
	bool		stop;		/* atomic */
	int		ret;		/* of its start */
	sem_t		started;
};

/* Nothing is made yet. */
void loop_thread_init(struct loop_thread *lt, unsigned int index,
		      const struct loop_thread_ops *ops);

/* Make loop and thread, which takes no signals; 0 when it is about to run, or
 * -errno. */
int loop_thread_start(struct loop_thread *lt);

/* End and join the thread.  Nothing if there is none. */
void loop_thread_stop(struct loop_thread *lt);

/* The same without a thread: the calling one makes the loop and unmakes what
 * it has.  Closing is fine where opening failed or never was. */
int loop_thread_open(struct loop_thread *lt);
void loop_thread_close(struct loop_thread *lt);

/* Run the loop on the calling thread, until loop_stop(). */
void loop_thread_run(struct loop_thread *lt);

/* Free the loop, if there is one; afterwards it is as after the init.  All
 * that post to it have ended. */
void loop_thread_free(struct loop_thread *lt);

#endif
