/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim.h - a simulated disk in memory: volatile cache, faults and power cuts,
 * all from one seed, on a virtual (or real) loop.
 *
 * Every write lands in a volatile cache of 512 B sectors and reaches the
 * durable image by a flush, by FUA, or by chance.  A power cut keeps, for each
 * sector written since the last flush, the durable bytes or any one of the
 * later versions; a write in flight is kept in part, sector by sector
 * ("torn").  Requests complete after a drawn latency, out of order.
 */
#ifndef FOLIOD_BDEV_SIM_H
#define FOLIOD_BDEV_SIM_H

#include "bdev/bdev.h"

struct sim_params {
	uint64_t	seed;
	uint64_t	size;		/* bytes; need not be a block multiple */
	unsigned int	block_size;	/* 512..4096, as bdev.block_size */
	uint64_t	latency_min_ns;
	uint64_t	latency_max_ns;	/* uniform between the two */
	bool		sparse;		/* starts as one hole; seek_data works;
					 * ALLOCATE supported; space limited by
					 * space_max */
	uint64_t	space_max;	/* bytes that can be allocated; 0: size */
	bool		write_cache;	/* false: completed writes are durable */
	unsigned int	short_one_in;	/* 1 in n transfers is first cut short and
					 * continued; 0: never */
};

/* Contents are zero (or @image's first size bytes if not NULL, copied). */
int sim_new(const struct sim_params *params, const void *image,
	    struct bdev **bdevp);

/*
 * Fail the @nth (1-based, counted from now) request of kind @op with -@err,
 * and the @count - 1 after it (UINT64_MAX: for ever).  With @partial a failing
 * WRITE still stores a random prefix of its sectors.  Replaces an earlier
 * fault on the same op; @nth 0 removes it.
 */
void sim_set_fault(struct bdev *bdev, enum bdev_op op, uint64_t nth,
		   uint64_t count, int err, bool partial);

/* How many requests a fault has hit since sim_new(). */
uint64_t sim_faults_fired(const struct bdev *bdev);

/* Fail only requests that touch [pos, pos + len); UINT64_MAX len: all. */
void sim_set_fault_range(struct bdev *bdev, enum bdev_op op, uint64_t pos,
			 uint64_t len);

/* Hold back completions of @op from now on (or let go: they then complete). */
void sim_set_stall(struct bdev *bdev, enum bdev_op op, bool stall);

/* Cut the power at the @nth request submitted from now; 0 removes it. */
void sim_set_power_cut(struct bdev *bdev, uint64_t nth);

/*
 * Cut the power now.  Requests in flight and all later ones fail with -EIO
 * ("the machine is gone"); the durable image is settled by @seed.
 */
void sim_power_cut(struct bdev *bdev, uint64_t seed);
bool sim_is_cut(const struct bdev *bdev);

/*
 * Draw one image that a cut at this moment could leave, by @seed, without
 * cutting; @image has room for the size.  Many seeds give many images.
 */
void sim_crash_image(const struct bdev *bdev, uint64_t seed, void *image);

/* The present contents as a reader sees them (cache included). */
void sim_peek(const struct bdev *bdev, uint64_t pos, void *buf, uint64_t len);
/* Change them behind everybody's back (bit rot, set-up of tests). */
void sim_poke(struct bdev *bdev, uint64_t pos, const void *buf, uint64_t len);

/*
 * Have the outside resize the disk, to at most its first size: that is what
 * present_size() answers from now on.  Contents behind the end become zero.
 */
void sim_resize(struct bdev *bdev, uint64_t size);

/* Bytes allocated (sparse), and requests in flight. */
uint64_t sim_allocated(const struct bdev *bdev);
unsigned int sim_in_flight(const struct bdev *bdev);

/*
 * Called at each submission, after the request was counted and before it is
 * carried out: for tests that check what is about to hit the disk (checksum
 * at submit) or that act at an exact point.  NULL removes it.
 */
void sim_set_observer(struct bdev *bdev,
		      void (*fn)(void *arg, const struct bdev_req *req),
		      void *arg);

#endif
