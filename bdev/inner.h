/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inner.h - what the backends in this folder share beyond bdev.h.
 */
#ifndef FOLIOD_BDEV_INNER_H
#define FOLIOD_BDEV_INNER_H

#include <assert.h>
#include <stddef.h>

#include "base/loop.h"
#include "bdev/bdev.h"

/*
 * Who uses which word of bdev_req.backend: the last one belongs to bdev.c, for
 * the coroutine that waits; the first four hold a struct work or struct timer;
 * what is between is free for the backend.  xferred of a FLUSH holds the
 * count of writes that it covers.
 */
enum {
	BDEV_WORD_WORK	= 0,
	BDEV_WORD_FREE	= 4,
	BDEV_WORD_WAIT	= 7,
};

static_assert(sizeof(struct work) <= BDEV_WORD_FREE * sizeof(uint64_t),
	      "a work fits in a request");
static_assert(sizeof(struct timer) <= BDEV_WORD_FREE * sizeof(uint64_t),
	      "a timer fits in a request");

static inline struct work *bdev_req_work(struct bdev_req *req)
{
	return (struct work *)&req->backend[BDEV_WORD_WORK];
}

static inline struct bdev_req *bdev_req_of_work(struct work *work)
{
	return (struct bdev_req *)((char *)work -
				   offsetof(struct bdev_req, backend));
}

static inline struct timer *bdev_req_timer(struct bdev_req *req)
{
	return (struct timer *)&req->backend[BDEV_WORD_WORK];
}

static inline struct bdev_req *bdev_req_of_timer(struct timer *timer)
{
	return (struct bdev_req *)((char *)timer -
				   offsetof(struct bdev_req, backend));
}

static inline bool bdev_op_changes(enum bdev_op op)
{
	return op != BDEV_READ && op != BDEV_FLUSH;
}

/* Call bdev_complete(@req, @ret) later, on the loop that runs now. */
void bdev_complete_later(struct bdev_req *req, int ret);

/*
 * The same on the loop that submitted @req, from any thread.  @ret waits in
 * req->ret.
 */
void bdev_complete_remote(struct bdev_req *req, int ret);

/*
 * Carry out the ZERO @req by writing zeroes as data, and complete it.  Not
 * from within done().
 */
void bdev_zero_by_writing(struct bdev_req *req);

#endif
