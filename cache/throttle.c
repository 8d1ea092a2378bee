/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * throttle.c - late replies for those who write faster than the device.
 */
#include "cache/cache_internal.h"
#include "cache/writeback.h"

#define PAUSE_MAX_NS	(200 * NSEC_PER_MSEC)

void throttle_init(struct throttle *throttle, uint64_t background,
		   uint64_t hard)
{
	*throttle = (struct throttle){
		.background = MIN(background, hard / 2),
		.hard = hard,
	};
	mutex_init(&throttle->lock, RANK_THROTTLE);
	waitq_init(&throttle->waiters);
}

void throttle_fini(struct throttle *throttle)
{
	mutex_fini(&throttle->lock);
}

/* Sequentially consistent for the sake of wait_for_room(). */
static uint64_t load(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_SEQ_CST);
}

/* What is dirty and in flight, and with @all what was promised to become so. */
static uint64_t in_use(const struct throttle *throttle, bool all)
{
	return load(&throttle->dirty_bytes) + load(&throttle->inflight_bytes) +
	       (all ? load(&throttle->promised_bytes) : 0);
}

static uint64_t volume_in_use(const struct volume *vol)
{
	return load(&vol->dirty_bytes) + load(&vol->inflight_bytes);
}

/*
 * A volume may have the whole limit but for an eighth of what others leave, so
 * that one slow device does not stop the writers of all.
 */
static uint64_t volume_limit(const struct throttle *throttle,
			     const struct volume *vol)
{
	uint64_t all = in_use(throttle, false), own = volume_in_use(vol);
	uint64_t others = all > own ? all - own : 0;

	return others < throttle->hard ? (throttle->hard - others) / 8 * 7 : 0;
}

static bool has_room(const struct throttle *throttle, const struct volume *vol,
		     uint64_t len, bool all)
{
	uint64_t own = volume_in_use(vol);

	if (in_use(throttle, all) + len > throttle->hard)
		return own == 0 && len > throttle->hard &&
		       !(all && load(&throttle->promised_bytes));
	return own + len <= volume_limit(throttle, vol) || own == 0;
}

/* Writers run free up to here. */
static uint64_t free_run(const struct throttle *throttle)
{
	return (throttle->background + throttle->hard) / 2;
}

bool throttle_open(const struct volume *vol, uint64_t len)
{
	const struct throttle *throttle = &vol->cache->throttle;

	/* Nobody overtakes those who wait. */
	return range_lock_quiet(&vol->room_queue) &&
	       in_use(throttle, true) + len <= free_run(throttle) &&
	       has_room(throttle, vol, len, true);
}

/*
 * Between the free run and the hard limit: a pause that grows with the square
 * of the way there, so that writers slow down before they stop.
 */
static uint64_t pause_ns(const struct throttle *throttle, uint64_t len)
{
	uint64_t start = free_run(throttle);
	uint64_t used = in_use(throttle, false) + len;
	uint64_t way;

	if (used <= start || throttle->hard <= start)
		return 0;
	way = MIN((used - start) * 256 / (throttle->hard - start),
		  UINT64_C(256));
	/* At half way about 4 us for 4 KiB, at the limit 16 us: the rate of
	 * a device that writes 250 MB/s. */
	return MIN(len * 4 * way * way / 65536, PAUSE_MAX_NS);
}

/* With @promise the bytes count from here on, see throttle_release(). */
static bool wait_for_room(struct volume *vol, uint64_t len, bool promise)
{
	struct throttle *throttle = &vol->cache->throttle;
	bool waited = false;

	mutex_lock(&throttle->lock);
	while (!has_room(throttle, vol, len, promise)) {
		waited = true;
		__atomic_add_fetch(&throttle->nr_waiting, 1, __ATOMIC_SEQ_CST);
		/* Pairs with throttle_wake(): counted first, then looked. */
		if (!has_room(throttle, vol, len, promise)) {
			flusher_kick(vol);
			waitq_wait(&throttle->waiters, &throttle->lock);
		}
		__atomic_sub_fetch(&throttle->nr_waiting, 1, __ATOMIC_SEQ_CST);
	}
	if (promise)
		__atomic_add_fetch(&throttle->promised_bytes, len,
				   __ATOMIC_RELAXED);
	mutex_unlock(&throttle->lock);
	return waited;
}

static void slow_down(struct volume *vol, uint64_t len, bool waited)
{
	struct throttle *throttle = &vol->cache->throttle;
	uint64_t pause = pause_ns(throttle, len);

	if (pause) {
		flusher_kick(vol);
		coroutine_sleep_ns(pause);
	}
	if (waited || pause)
		stat_add(&throttle->throttled, 1);
}

void throttle_reserve(struct volume *vol, uint64_t len)
{
	struct range turn;
	bool waited;

	/* One behind the other: those who want little would leave nothing to
	 * one who wants much.  But not behind who waits for another device. */
	range_lock_exclusive(&vol->room_queue, &turn, 0, 1);
	waited = wait_for_room(vol, len, true);
	range_unlock(&vol->room_queue, &turn);
	slow_down(vol, len, waited);
}

void throttle_wait(struct volume *vol, uint64_t len)
{
	slow_down(vol, len, wait_for_room(vol, len, false));
}

uint64_t throttle_piece(const struct volume *vol, uint64_t pos, uint64_t len)
{
	uint64_t most = MAX(vol->cache->throttle.hard / 8, SHARD_UNIT);

	/* Between two folios, so that staged ones are swapped in whole. */
	return MIN(len, round_down64(pos + most, SHARD_UNIT) - pos);
}

void throttle_release(struct volume *vol, uint64_t len)
{
	struct throttle *throttle = &vol->cache->throttle;

	__atomic_sub_fetch(&throttle->promised_bytes, len, __ATOMIC_SEQ_CST);
	throttle_wake(throttle);
}

void throttle_wake(struct throttle *throttle)
{
	if (!__atomic_load_n(&throttle->nr_waiting, __ATOMIC_SEQ_CST))
		return;
	mutex_lock(&throttle->lock);
	waitq_wake_all(&throttle->waiters);
	mutex_unlock(&throttle->lock);
}
