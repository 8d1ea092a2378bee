/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * threads.h - file I/O by a pool of threads, where there is no io_uring.
 */
#ifndef FOLIOD_BDEV_THREADS_H
#define FOLIOD_BDEV_THREADS_H

struct bdev_req;

/*
 * The pool is the process's; it lives as long as any loop's thread has it.
 * Its threads start with the first request that needs them.  When
 * threads_put() returns, none of them knows the caller's loop any more.
 */
void threads_get(void);
void threads_put(void);

/* Carry out @req on some thread; it completes on the loop that runs now. */
void threads_submit(struct bdev_req *req);

#endif
