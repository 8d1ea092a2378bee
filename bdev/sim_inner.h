/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim_inner.h - the simulated disk's two halves: the medium, which knows bytes
 * and what survives a power cut, and the device, which knows requests.
 */
#ifndef FOLIOD_BDEV_SIM_INNER_H
#define FOLIOD_BDEV_SIM_INNER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mutex.h"
#include "base/random.h"
#include "bdev/bdev.h"
#include "bdev/sim.h"

#define SECTOR_SHIFT	9
#define SECTOR_SIZE	(1u << SECTOR_SHIFT)

/* Space is given to a sparse disk in blocks of this size. */
#define SPACE_SHIFT	12

/* What a sector holds since some write, not known to be durable. */
struct version {
	struct version	*older;
	uint64_t	seq;		/* which write, see media.seq */
	uint8_t		bytes[SECTOR_SIZE];
};

struct version_slab;

struct media {
	/* Constant after media_init(). */
	uint64_t		size;		/* bytes */
	uint64_t		nr_sectors;	/* the last may be partial */
	uint64_t		space_max;	/* in blocks of space */
	bool			sparse;

	uint8_t			*now;		/* as a reader sees it */
	uint8_t			*durable;
	uint64_t		seq;		/* writes that have landed */
	/*
	 * A sector is dirty while versions[] has one, newest first.  dirty[]
	 * lists all dirty sectors and perhaps some that were until lately;
	 * listed[] says which.
	 */
	struct version		**versions;
	uint32_t		*dirty;
	uint64_t		nr_dirty;
	bool			*listed;

	struct version		*free;
	struct version_slab	*slabs;

	bool			*space;		/* sparse: block is allocated */
	uint64_t		nr_space;
};

int media_init(struct media *media, uint64_t size, bool sparse,
	       uint64_t space_max, const void *image);
void media_fini(struct media *media);

/*
 * One write of @nr sectors' worth of bytes lands at @pos: @buf, or zeroes if
 * that is NULL.  With @durable it needs no flush.  Each call, for all sectors
 * alike, is one write in the sense of @seq: begin with media_begin_write().
 */
void media_begin_write(struct media *media);
void media_write(struct media *media, uint64_t pos, const void *buf,
		 uint64_t len, bool durable);

/* All that landed up to write @seq becomes durable. */
void media_flush(struct media *media, uint64_t seq);

/* Give space to, or take it from whole blocks in, a range. */
int media_allocate(struct media *media, uint64_t pos, uint64_t len);
void media_unmap(struct media *media, uint64_t pos, uint64_t len);
uint64_t media_seek(const struct media *media, uint64_t pos, bool data);

/*
 * Draw what a power cut leaves, into @image of size bytes.  @in_flight are the
 * requests that were under way.
 */
TAILQ_HEAD(bdev_req_list, bdev_req);
void media_crash_image(const struct media *media,
		       const struct bdev_req_list *in_flight, uint64_t seed,
		       uint8_t *image);

/* Make @image what there is and what is durable. */
void media_settle(struct media *media, const uint8_t *image);
void media_poke(struct media *media, uint64_t pos, const void *buf,
		uint64_t len);

/* --- The device ------------------------------------------------------------ */

struct sim_fault {
	uint64_t	nth;		/* 0: none */
	uint64_t	count;
	uint64_t	seen;		/* requests since it was set */
	uint64_t	pos, len;	/* len UINT64_MAX: anywhere */
	int		err;
	bool		partial;
};

struct sim {
	struct bdev		bdev;
	struct sim_params	params;		/* constant */
	struct mutex		lock;		/* RANK_BDEV */
	/* Guarded by lock. */
	struct media		media;
	uint64_t		present_size;	/* see sim_resize() */
	struct random		rnd;
	struct bdev_req_list	in_flight;	/* in order of submission */
	unsigned int		nr_in_flight;
	struct sim_fault	faults[BDEV_NR_OPS];
	bool			stall[BDEV_NR_OPS];
	uint64_t		faults_fired;
	uint64_t		cut_nth;	/* 0: never */
	bool			cut;
	void			(*observer)(void *arg,
					    const struct bdev_req *req);
	void			*observer_arg;
};

static inline struct sim *to_sim(const struct bdev *bdev)
{
	return (struct sim *)bdev;
}

/* The power is gone: settle the medium by @seed, fail what is in flight. */
void sim_cut_locked(struct sim *sim, uint64_t seed) REQUIRES(&sim->lock);

/* Let requests complete that were held back and need not be any more. */
void sim_release_stalled_locked(struct sim *sim) REQUIRES(&sim->lock);

#endif
