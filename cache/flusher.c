/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * flusher.c - the background writer of a volume, and waiting for what is in
 * flight.
 *
 * The writer runs when dirty bytes cross the background limit, when memory is
 * wanted, and every few seconds while anything is dirty.  It is a coroutine of
 * the volume's home loop that ends when there is nothing to do: an idle volume
 * costs nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache_internal.h"
#include "cache/flusher.h"

#define TICK_NS		(5 * NSEC_PER_SEC)	/* dirty data's age limit */

/* ---- claims and waiting ---- */

unsigned int writeback_claim(struct volume *vol)
{
	struct flusher *flusher = vol->flusher;
	unsigned int phase;

	mutex_lock(&flusher->lock);
	phase = flusher->phase & 1;
	flusher->claims[phase]++;
	mutex_unlock(&flusher->lock);
	return phase;
}

void writeback_unclaim(struct volume *vol, unsigned int phase)
{
	struct flusher *flusher = vol->flusher;

	mutex_lock(&flusher->lock);
	if (--flusher->claims[phase] == 0 && phase != (flusher->phase & 1))
		waitq_wake_all(&flusher->waiters);
	mutex_unlock(&flusher->lock);
}

/*
 * The claims of before are over; later ones count in the next phase, so that a
 * stream of them cannot keep us.  A phase begins, by whoever wants it, once
 * nothing is left of the last but one: so all claims of a phase are over when
 * the next but one has begun.
 */
static void wait_claims_locked(struct flusher *flusher)
	REQUIRES(&flusher->lock)
{
	unsigned int mine = flusher->phase;

	while (flusher->phase == mine) {
		if (!flusher->claims[(mine & 1) ^ 1])
			flusher->phase++;
		else
			waitq_wait(&flusher->waiters, &flusher->lock);
	}
	while (flusher->phase == mine + 1 && flusher->claims[mine & 1])
		waitq_wait(&flusher->waiters, &flusher->lock);
}

void writeback_wait(struct volume *vol)
{
	struct flusher *flusher = vol->flusher;
	uint64_t seq;

	mutex_lock(&flusher->lock);
	wait_claims_locked(flusher);
	seq = flusher->next_seq;
	while (!TAILQ_EMPTY(&flusher->inflight) &&
	       TAILQ_FIRST(&flusher->inflight)->seq < seq)
		waitq_wait(&flusher->waiters, &flusher->lock);
	mutex_unlock(&flusher->lock);
}

/* ---- the background writer ---- */

/* Say once what is wrong, and once when it is over. */
static void log_errors(struct flusher *flusher)
{
	struct volume *vol = flusher->vol;
	int err = errseq_check_and_advance(&vol->wb_err, &flusher->logged);

	if (err)
		log_error("%s: writing back failed: %s; the data is kept and "
			  "tried again, FLUSH fails until it is written",
			  vol->name, strerror(-err));
}

/* Pages to write: half of what is dirty at least, so that passes are few. */
static int64_t pass_pages(const struct volume *vol)
{
	uint64_t dirty = __atomic_load_n(&vol->dirty_bytes, __ATOMIC_RELAXED);

	return (int64_t)(dirty / FRAME_SIZE / 2 + 1024);
}

static bool over_background(const struct volume *vol)
{
	const struct throttle *throttle = &vol->cache->throttle;

	return __atomic_load_n(&throttle->dirty_bytes, __ATOMIC_RELAXED) >
	       throttle->background &&
	       __atomic_load_n(&vol->dirty_bytes, __ATOMIC_RELAXED);
}

/* Passes until there is no need of more; false after an error. */
static bool write_back(struct flusher *flusher)
{
	struct volume *vol = flusher->vol;
	struct writeback_control wbc = {
		.sync = WB_SYNC_NONE,
		.range_cyclic = true,
	};

	do {
		flusher->again = false;
		wbc.nr_to_write = pass_pages(vol);
		if (writeback_pages(vol, &wbc) ||
		    __atomic_load_n(&vol->nr_failed, __ATOMIC_RELAXED))
			return false;
		coroutine_relax();
	} while (!flusher->stopping && (flusher->again || over_background(vol)));
	return true;
}

static void flusher_co(void *arg)
{
	struct flusher *flusher = arg;
	bool good;

	do {
		good = write_back(flusher);
		writeback_wait(flusher->vol);
		/* Kicked meanwhile: somebody waits for more.  But after an
		 * error the tick tries again; no use in hammering. */
	} while (good && flusher->again && !flusher->stopping);
	log_errors(flusher);
	mutex_lock(&flusher->lock);
	flusher->running = false;
	waitq_wake_all(&flusher->waiters);
	mutex_unlock(&flusher->lock);
}

static bool may_run(struct flusher *flusher)
{
	bool may;

	mutex_lock(&flusher->lock);
	may = !flusher->stopping && !flusher->running;
	flusher->again = true;
	if (may)
		flusher->running = true;
	mutex_unlock(&flusher->lock);
	return may;
}

static void flusher_run(struct flusher *flusher)
{
	/* Without memory for a coroutine now, the tick comes again. */
	if (may_run(flusher) && coroutine_start(flusher_co, flusher)) {
		mutex_lock(&flusher->lock);
		flusher->running = false;
		mutex_unlock(&flusher->lock);
	}
}

static void kick_work(struct work *work)
{
	flusher_run(container_of(work, struct flusher, kick_work));
}

void flusher_kick(struct volume *vol)
{
	loop_post(vol->home, &vol->flusher->kick_work);
}

/* ---- the tick: only while something is dirty ---- */

static void tick_arm(struct flusher *flusher)
{
	if (!flusher->stopping)
		timer_arm(&flusher->tick, clock_now_ns() + TICK_NS);
}

static void tick_fired(struct timer *timer)
{
	struct flusher *flusher = container_of(timer, struct flusher, tick);
	struct volume *vol = flusher->vol;

	/* Pairs with flusher_tick_on(): disarmed first, then looked. */
	__atomic_store_n(&flusher->tick_armed, false, __ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&vol->dirty_bytes, __ATOMIC_SEQ_CST))
		return;
	flusher_run(flusher);
	if (!__atomic_exchange_n(&flusher->tick_armed, true, __ATOMIC_SEQ_CST))
		tick_arm(flusher);
}

static void tick_work(struct work *work)
{
	tick_arm(container_of(work, struct flusher, tick_work));
}

void flusher_tick_on(struct volume *vol)
{
	struct flusher *flusher = vol->flusher;

	if (__atomic_load_n(&flusher->tick_armed, __ATOMIC_SEQ_CST) ||
	    __atomic_exchange_n(&flusher->tick_armed, true, __ATOMIC_SEQ_CST))
		return;
	loop_post(vol->home, &flusher->tick_work);
}

/* ---- start and stop ---- */

/*
 * On the home loop, twice: first nothing new begins; then, when nothing runs
 * and nobody is left to post anything, wait for what is queued here.
 */
static void stop_work(struct work *work)
{
	struct flusher *flusher = container_of(work, struct flusher,
					       stop_work);

	if (flusher->stopping &&
	    (__atomic_load_n(&flusher->kick_work.queued, __ATOMIC_ACQUIRE) ||
	     __atomic_load_n(&flusher->tick_work.queued, __ATOMIC_ACQUIRE) ||
	     __atomic_load_n(&flusher->done_work.queued, __ATOMIC_ACQUIRE))) {
		loop_defer(work);
		return;
	}
	timer_cancel(&flusher->tick);
	mutex_lock(&flusher->lock);
	flusher->stopped = flusher->stopping;
	flusher->stopping = true;
	waitq_wake_all(&flusher->waiters);
	mutex_unlock(&flusher->lock);
}

int flusher_start(struct volume *vol)
{
	struct flusher *flusher = calloc(1, sizeof(*flusher));

	if (!flusher)
		return -ENOMEM;
	flusher->reserve = ioend_new_reserve();
	if (!flusher->reserve) {
		free(flusher);
		return -ENOMEM;
	}
	flusher->vol = vol;
	mutex_init(&flusher->lock, RANK_BDEV);
	TAILQ_INIT(&flusher->inflight);
	TAILQ_INIT(&flusher->done);
	waitq_init(&flusher->waiters);
	flusher->kick_work.fn = kick_work;
	flusher->tick_work.fn = tick_work;
	flusher->stop_work.fn = stop_work;
	timer_init(&flusher->tick, tick_fired);
	ioend_init_flusher(flusher);
	flusher->logged = errseq_sample(&vol->wb_err);
	vol->flusher = flusher;
	return 0;
}

void flusher_stop(struct volume *vol)
{
	struct flusher *flusher = vol->flusher;

	loop_post(vol->home, &flusher->stop_work);
	mutex_lock(&flusher->lock);
	while (!flusher->stopping || flusher->running ||
	       flusher->nr_inflight || flusher->completing)
		waitq_wait(&flusher->waiters, &flusher->lock);
	mutex_unlock(&flusher->lock);
	loop_post(vol->home, &flusher->stop_work);
	mutex_lock(&flusher->lock);
	while (!flusher->stopped)
		waitq_wait(&flusher->waiters, &flusher->lock);
	mutex_unlock(&flusher->lock);
	mutex_fini(&flusher->lock);
	ioend_destroy(flusher->reserve);
	free(flusher);
	vol->flusher = NULL;
}
