/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim.c - a simulated disk: requests, latency, faults and power cuts.
 *
 * Its bytes are in sim_media.c and sim_crash.c, what tests do to it is in
 * sim_control.c.  Every decision is drawn from one generator, in the order in
 * which requests are submitted and complete; on a virtual loop that order, too,
 * is the seed's alone.
 *
 *	submit -> [in flight: timer] -> due -> done()
 *	               ^                |
 *	               '-- cut short ---+-> [stalled] -> let go -> done()
 *
 * A request takes effect when it is due.  Until then the power cut decides.
 */
#include "bdev/sim.h"

#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "bdev/inner.h"
#include "bdev/sim_inner.h"

#define SIM_MAX_IO	(64 * 1024 * 1024)

/* Words of bdev_req.backend. */
enum {
	WORD_SEQ	= BDEV_WORD_FREE,	/* media.seq at the submit */
	WORD_STATE,		/* enum req_state */
	WORD_FAULT,		/* err to fail with, FAULT_PARTIAL */
};

enum req_state {
	REQ_TIMED,	/* its timer is armed */
	REQ_STALLED,	/* held back when it was due */
	REQ_RELEASED,	/* to be done on its loop, by work */
};

#define FAULT_PARTIAL	(UINT64_C(1) << 32)

/* --- What a request does to the medium ----------------------------------- */

/* Write bytes [@from, @to) of @req. */
static void write_part(struct sim *sim, const struct bdev_req *req,
		       uint64_t from, uint64_t to, bool durable)
{
	uint64_t at = 0;
	unsigned int i;

	media_begin_write(&sim->media);
	for (i = 0; i < req->nr_iov && at < to; i++) {
		const struct iovec *iov = &req->iov[i];
		uint64_t first = MAX(from, at), end = MIN(to, at + iov->iov_len);

		if (first < end)
			media_write(&sim->media, req->pos + first,
				    (char *)iov->iov_base + (first - at),
				    end - first, durable);
		at += iov->iov_len;
	}
}

static void read_part(struct sim *sim, const struct bdev_req *req,
		      uint64_t from, uint64_t to)
{
	uint64_t at = 0;
	unsigned int i;

	for (i = 0; i < req->nr_iov && at < to; i++) {
		const struct iovec *iov = &req->iov[i];
		uint64_t first = MAX(from, at), end = MIN(to, at + iov->iov_len);

		if (first < end)
			memcpy((char *)iov->iov_base + (first - at),
			       sim->media.now + req->pos + first, end - first);
		at += iov->iov_len;
	}
}

static bool is_durable(const struct sim *sim, const struct bdev_req *req)
{
	return !sim->params.write_cache ||
	       (req->op == BDEV_WRITE && (req->flags & BDEV_FUA));
}

static int write_zeroes(struct sim *sim, const struct bdev_req *req)
{
	int ret = 0;

	if (sim->params.sparse) {
		if (req->flags & BDEV_NO_UNMAP)
			ret = media_allocate(&sim->media, req->pos, req->len);
		else
			media_unmap(&sim->media, req->pos, req->len);
	}
	if (ret)
		return ret;
	media_begin_write(&sim->media);
	media_write(&sim->media, req->pos, NULL, req->len,
		    is_durable(sim, req));
	return 0;
}

/* Everything up to the submit; now and then everything up to now. */
static void flush(struct sim *sim, const struct bdev_req *req)
{
	uint64_t seq = req->backend[WORD_SEQ];

	if (random_one_in(&sim->rnd, 4))
		seq = sim->media.seq;
	media_flush(&sim->media, seq);
}

static int carry_out(struct sim *sim, struct bdev_req *req, uint64_t to)
{
	int ret = 0;

	switch (req->op) {
	case BDEV_READ:
		read_part(sim, req, req->xferred, to);
		break;
	case BDEV_WRITE:
		if (sim->params.sparse)
			ret = media_allocate(&sim->media, req->pos, req->len);
		if (ret == 0)
			write_part(sim, req, req->xferred, to,
				   is_durable(sim, req));
		break;
	case BDEV_FLUSH:
		flush(sim, req);
		break;
	case BDEV_DISCARD:
	case BDEV_ZERO:
		ret = write_zeroes(sim, req);
		break;
	case BDEV_ALLOCATE:
		ret = media_allocate(&sim->media, req->pos, req->len);
		break;
	default:
		assert(false);
	}
	if (ret == 0 && req->op != BDEV_FLUSH)
		req->xferred = to;
	return ret;
}

/* A failing write may leave its first sectors behind. */
static int fail(struct sim *sim, struct bdev_req *req)
{
	uint64_t fault = req->backend[WORD_FAULT];
	uint64_t sectors = req->len >> SECTOR_SHIFT;

	if ((fault & FAULT_PARTIAL) && req->op == BDEV_WRITE && sectors &&
	    (!sim->params.sparse ||
	     media_allocate(&sim->media, req->pos, req->len) == 0)) {
		sectors = random_below(&sim->rnd, sectors + 1);
		write_part(sim, req, 0, sectors << SECTOR_SHIFT, false);
	}
	return -(int)(uint32_t)fault;
}

/* --- The life of a request ------------------------------------------------ */

static void req_due(struct timer *timer);

static void arm(struct sim *sim, struct bdev_req *req)
{
	uint64_t span = sim->params.latency_max_ns - sim->params.latency_min_ns;
	uint64_t latency = sim->params.latency_min_ns;

	if (span)
		latency += random_below(&sim->rnd, span + 1);
	req->backend[WORD_STATE] = REQ_TIMED;
	timer_init(bdev_req_timer(req), req_due);
	timer_arm(bdev_req_timer(req), clock_now_ns() + latency);
}

/* How far the present transfer of @req goes: to its end, or not quite. */
static uint64_t draw_transfer(struct sim *sim, const struct bdev_req *req)
{
	uint64_t block = sim->params.block_size;
	uint64_t blocks = (req->len - req->xferred + block - 1) / block;

	if (!sim->params.short_one_in || blocks < 2 ||
	    (req->op != BDEV_READ && req->op != BDEV_WRITE) ||
	    !random_one_in(&sim->rnd, sim->params.short_one_in))
		return req->len;
	return req->xferred + (1 + random_below(&sim->rnd, blocks - 1)) * block;
}

/*
 * @req has waited long enough: returns true if it is done, with *@retp, and
 * out of the list; false if it goes on or is held back.
 */
static bool finish_locked(struct sim *sim, struct bdev_req *req, int *retp)
{
	uint64_t to;

	mutex_assert_held(&sim->lock);
	if (sim->stall[req->op] && !sim->cut) {
		req->backend[WORD_STATE] = REQ_STALLED;
		return false;
	}
	if (sim->cut) {
		*retp = -EIO;
	} else if (req->backend[WORD_FAULT]) {
		*retp = fail(sim, req);
	} else {
		to = draw_transfer(sim, req);
		*retp = carry_out(sim, req, to);
		if (*retp == 0 && to < req->len) {
			arm(sim, req);
			return false;
		}
	}
	TAILQ_REMOVE(&sim->in_flight, req, link);
	sim->nr_in_flight--;
	return true;
}

static void finish(struct bdev_req *req)
{
	struct sim *sim = to_sim(req->bdev);
	bool done;
	int ret;

	mutex_lock(&sim->lock);
	done = finish_locked(sim, req, &ret);
	mutex_unlock(&sim->lock);
	if (done)
		bdev_complete(req, ret);
}

static void req_due(struct timer *timer)
{
	finish(bdev_req_of_timer(timer));
}

static void req_released(struct work *work)
{
	finish(bdev_req_of_work(work));
}

/* Each on its own loop; it is in flight until then. */
void sim_release_stalled_locked(struct sim *sim)
{
	struct bdev_req *req;

	mutex_assert_held(&sim->lock);
	TAILQ_FOREACH(req, &sim->in_flight, link) {
		if (req->backend[WORD_STATE] != REQ_STALLED ||
		    (sim->stall[req->op] && !sim->cut))
			continue;
		req->backend[WORD_STATE] = REQ_RELEASED;
		*bdev_req_work(req) = (struct work){ .fn = req_released };
		loop_post(req->loop, bdev_req_work(req));
	}
}

static bool fault_hits(struct sim *sim, const struct bdev_req *req)
{
	struct sim_fault *fault = &sim->faults[req->op];

	if (!fault->nth)
		return false;
	if (req->op != BDEV_FLUSH && fault->len != UINT64_MAX &&
	    (req->pos + req->len <= fault->pos ||
	     fault->pos + fault->len <= req->pos))
		return false;
	fault->seen++;
	if (fault->seen < fault->nth || fault->seen - fault->nth >= fault->count)
		return false;
	sim->faults_fired++;
	return true;
}

void sim_cut_locked(struct sim *sim, uint64_t seed)
{
	uint8_t *image = malloc(sim->media.size + 1);

	mutex_assert_held(&sim->lock);
	if (!image)
		abort();
	media_crash_image(&sim->media, &sim->in_flight, seed, image);
	media_settle(&sim->media, image);
	free(image);
	sim->cut = true;
	sim_release_stalled_locked(sim);
}

static void start_locked(struct sim *sim, struct bdev_req *req)
{
	struct sim_fault *fault = &sim->faults[req->op];

	mutex_assert_held(&sim->lock);
	req->backend[WORD_SEQ] = sim->media.seq;
	req->backend[WORD_FAULT] = 0;
	if (fault_hits(sim, req))
		req->backend[WORD_FAULT] = (uint32_t)fault->err |
			(fault->partial ? FAULT_PARTIAL : 0);
	TAILQ_INSERT_TAIL(&sim->in_flight, req, link);
	sim->nr_in_flight++;
	arm(sim, req);
	if (sim->cut_nth && --sim->cut_nth == 0 && !sim->cut)
		sim_cut_locked(sim, random_u64(&sim->rnd));
}

static void sim_submit(struct bdev *bdev, struct bdev_req *req)
{
	struct sim *sim = to_sim(bdev);

	if (sim->observer && !sim_is_cut(bdev))
		sim->observer(sim->observer_arg, req);
	mutex_lock(&sim->lock);
	start_locked(sim, req);
	mutex_unlock(&sim->lock);
}

static int64_t sim_seek(struct bdev *bdev, uint64_t pos, bool data)
{
	struct sim *sim = to_sim(bdev);
	uint64_t found;

	mutex_lock(&sim->lock);
	found = media_seek(&sim->media, pos, data);
	mutex_unlock(&sim->lock);
	return (int64_t)MIN(found, bdev_size(bdev));
}

static int64_t sim_seek_data(struct bdev *bdev, uint64_t pos)
{
	return sim_seek(bdev, pos, true);
}

static int64_t sim_seek_hole(struct bdev *bdev, uint64_t pos)
{
	return sim_seek(bdev, pos, false);
}

static void sim_close(struct bdev *bdev)
{
	struct sim *sim = to_sim(bdev);

	assert(sim->nr_in_flight == 0);
	media_fini(&sim->media);
	mutex_fini(&sim->lock);
	free(sim);
}

static int64_t sim_present_size(struct bdev *bdev)
{
	struct sim *sim = to_sim(bdev);
	uint64_t size;

	mutex_lock(&sim->lock);
	size = sim->present_size;
	mutex_unlock(&sim->lock);
	return (int64_t)size;
}

static void sim_set_size(struct bdev *bdev, uint64_t size)
{
	__atomic_store_n(&bdev->size, size, __ATOMIC_RELAXED);
}

static const struct bdev_ops sim_ops = {
	.submit		= sim_submit,
	.present_size	= sim_present_size,
	.set_size	= sim_set_size,
	.close		= sim_close,
};

static const struct bdev_ops sim_sparse_ops = {
	.submit		= sim_submit,
	.seek_data	= sim_seek_data,
	.seek_hole	= sim_seek_hole,
	.present_size	= sim_present_size,
	.set_size	= sim_set_size,
	.close		= sim_close,
};

int sim_new(const struct sim_params *params, const void *image,
	    struct bdev **bdevp)
{
	struct sim *sim = calloc(1, sizeof(*sim));
	unsigned int i;
	int ret;

	assert(params->latency_min_ns <= params->latency_max_ns);
	assert(is_power_of_2(params->block_size) &&
	       params->block_size >= SECTOR_SIZE && params->block_size <= 4096);
	if (!sim)
		return -ENOMEM;
	ret = media_init(&sim->media, params->size, params->sparse,
			 params->space_max, image);
	if (ret) {
		free(sim);
		return ret;
	}
	sim->params = *params;
	sim->present_size = params->size;
	mutex_init(&sim->lock, RANK_BDEV);
	random_init(&sim->rnd, params->seed);
	TAILQ_INIT(&sim->in_flight);
	for (i = 0; i < BDEV_NR_OPS; i++)
		sim->faults[i].len = UINT64_MAX;
	sim->bdev = (struct bdev){
		.ops = params->sparse ? &sim_sparse_ops : &sim_ops,
		.name = "sim",
		.size = params->size,
		.block_size = params->block_size,
		.max_io = SIM_MAX_IO,
		.can_discard = true,
		.can_zero = true,
		.can_zero_keep = true,
		.can_allocate = params->sparse,
		.is_file = params->sparse,
	};
	*bdevp = &sim->bdev;
	return 0;
}
