/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim_control.c - what tests do to a simulated disk and ask of it.
 */
#include "bdev/sim.h"

#include <string.h>

#include "base/base.h"
#include "bdev/sim_inner.h"

void sim_set_fault(struct bdev *bdev, enum bdev_op op, uint64_t nth,
		   uint64_t count, int err, bool partial)
{
	struct sim *sim = to_sim(bdev);
	struct sim_fault *fault = &sim->faults[op];

	mutex_lock(&sim->lock);
	fault->nth = nth;
	fault->count = count;
	fault->seen = 0;
	fault->err = err;
	fault->partial = partial;
	mutex_unlock(&sim->lock);
}

uint64_t sim_faults_fired(const struct bdev *bdev)
{
	struct sim *sim = to_sim(bdev);
	uint64_t fired;

	mutex_lock(&sim->lock);
	fired = sim->faults_fired;
	mutex_unlock(&sim->lock);
	return fired;
}

void sim_set_fault_range(struct bdev *bdev, enum bdev_op op, uint64_t pos,
			 uint64_t len)
{
	struct sim *sim = to_sim(bdev);

	mutex_lock(&sim->lock);
	sim->faults[op].pos = pos;
	sim->faults[op].len = len;
	mutex_unlock(&sim->lock);
}

void sim_set_stall(struct bdev *bdev, enum bdev_op op, bool stall)
{
	struct sim *sim = to_sim(bdev);

	mutex_lock(&sim->lock);
	sim->stall[op] = stall;
	sim_release_stalled_locked(sim);
	mutex_unlock(&sim->lock);
}

void sim_set_power_cut(struct bdev *bdev, uint64_t nth)
{
	struct sim *sim = to_sim(bdev);

	mutex_lock(&sim->lock);
	sim->cut_nth = nth;
	mutex_unlock(&sim->lock);
}

void sim_power_cut(struct bdev *bdev, uint64_t seed)
{
	struct sim *sim = to_sim(bdev);

	mutex_lock(&sim->lock);
	if (!sim->cut)
		sim_cut_locked(sim, seed);
	mutex_unlock(&sim->lock);
}

bool sim_is_cut(const struct bdev *bdev)
{
	struct sim *sim = to_sim(bdev);
	bool cut;

	mutex_lock(&sim->lock);
	cut = sim->cut;
	mutex_unlock(&sim->lock);
	return cut;
}

void sim_crash_image(const struct bdev *bdev, uint64_t seed, void *image)
{
	struct sim *sim = to_sim(bdev);

	mutex_lock(&sim->lock);
	media_crash_image(&sim->media, &sim->in_flight, seed, image);
	mutex_unlock(&sim->lock);
}

void sim_peek(const struct bdev *bdev, uint64_t pos, void *buf, uint64_t len)
{
	struct sim *sim = to_sim(bdev);

	assert(range_within(pos, len, sim->media.size));
	mutex_lock(&sim->lock);
	memcpy(buf, sim->media.now + pos, len);
	mutex_unlock(&sim->lock);
}

void sim_poke(struct bdev *bdev, uint64_t pos, const void *buf, uint64_t len)
{
	struct sim *sim = to_sim(bdev);

	assert(range_within(pos, len, sim->media.size));
	mutex_lock(&sim->lock);
	media_poke(&sim->media, pos, buf, len);
	mutex_unlock(&sim->lock);
}

uint64_t sim_allocated(const struct bdev *bdev)
{
	struct sim *sim = to_sim(bdev);
	uint64_t bytes;

	mutex_lock(&sim->lock);
	bytes = sim->params.sparse ? sim->media.nr_space << SPACE_SHIFT :
				     sim->media.size;
	mutex_unlock(&sim->lock);
	return bytes;
}

unsigned int sim_in_flight(const struct bdev *bdev)
{
	struct sim *sim = to_sim(bdev);
	unsigned int n;

	mutex_lock(&sim->lock);
	n = sim->nr_in_flight;
	mutex_unlock(&sim->lock);
	return n;
}

void sim_resize(struct bdev *bdev, uint64_t size)
{
	static const char zeroes[1u << SPACE_SHIFT];
	struct sim *sim = to_sim(bdev);
	uint64_t pos = size;

	assert(size <= sim->params.size);
	mutex_lock(&sim->lock);
	while (pos < sim->present_size) {
		uint64_t end = MIN(round_down64(pos, sizeof(zeroes)) +
				   sizeof(zeroes), sim->params.size);

		media_poke(&sim->media, pos, zeroes, end - pos);
		if (sim->params.sparse && pos % sizeof(zeroes) == 0)
			media_unmap(&sim->media, pos, end - pos);
		pos = end;
	}
	sim->present_size = size;
	mutex_unlock(&sim->lock);
}

void sim_set_observer(struct bdev *bdev,
		      void (*fn)(void *arg, const struct bdev_req *req),
		      void *arg)
{
	struct sim *sim = to_sim(bdev);

	mutex_lock(&sim->lock);
	sim->observer = fn;
	sim->observer_arg = arg;
	mutex_unlock(&sim->lock);
}
