/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * uring.h - file I/O by an io_uring of the loop's own.
 */
#ifndef FOLIOD_BDEV_URING_H
#define FOLIOD_BDEV_URING_H

#include <stdint.h>

struct bdev_req;
struct loop;
struct ring;

/*
 * A ring for @loop, made by the loop's thread and used by it alone.  Returns
 * 0 or -errno where the kernel does not let us.
 */
int ring_new(struct loop *loop, struct ring **ringp);

/* Free a ring with nothing in flight, on its thread. */
void ring_free(struct ring *ring);

/* Start @req, at the end of the turn at the latest. */
void ring_submit(struct ring *ring, struct bdev_req *req);

/* The ring of the loop that runs on this thread, or NULL: see engine.c. */
struct ring *ring_current(void);

#endif
