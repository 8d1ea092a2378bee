/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * thread.h - threads that leave signals to those of whoever has us.
 */
#ifndef FOLIOD_BASE_THREAD_H
#define FOLIOD_BASE_THREAD_H

#include <pthread.h>

/*
 * Run @fn(@arg) in a new thread, which takes no signals but those that say of a
 * thread that it is broken.  0 or -errno.
 */
int thread_start(pthread_t *thread, void *(*fn)(void *arg), void *arg);

#endif
