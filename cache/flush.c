/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * flush.c - FLUSH: everything acknowledged so far becomes stable.
 *
 * Flushes of a volume, and flushes of its store alone (for FUA), are passes,
 * one at a time, numbered.  A request may use any pass that begins after it
 * came; those that come while one runs share the next (group flush,
 * iomap-semantics 5.3).
 *
 *   pass n:   tag and write all dirty | wait for what is in flight | store
 *   request:         ^ came here: waits for n+1, shared with all who wait
 */
#include <errno.h>

#include "cache/cache_internal.h"
#include "cache/writeback.h"

/*
 * Failed blocks that are still there tell by themselves.  Those of a write that
 * failed during the pass may be gone again: overwritten in the cache, or
 * dropped by a trim, neither of which this pass makes stable.
 */
static bool anything_failed(const struct volume *vol, uint64_t failures)
{
	return __atomic_load_n(&vol->nr_failed, __ATOMIC_ACQUIRE) ||
	       __atomic_load_n(&vol->failures, __ATOMIC_ACQUIRE) != failures;
}

/*
 * One pass.  Failed blocks are tried again by it like all dirty ones; it fails
 * as long as any of them stays (the sticky policy: nothing acknowledged is
 * taken for stored unless it is).
 */
static int flush_pass(struct volume *vol)
{
	struct writeback_control wbc = {
		.sync = WB_SYNC_ALL,
		.start = 0,
		.end = UINT64_MAX,
	};
	uint64_t failures = __atomic_load_n(&vol->failures, __ATOMIC_ACQUIRE);
	struct range range;
	int ret = 0, err;

	if (!volume_is_direct(vol)) {
		/*
		 * A trim drops dirty data first and unmaps then: between the
		 * two neither the data nor the trim could be found here.  A
		 * resize meanwhile may take data away, or move the end.
		 */
		range_lock_shared(&vol->range_lock, &range, 0, UINT64_MAX);
		ret = writeback_pages(vol, &wbc);
		range_unlock(&vol->range_lock, &range);
		writeback_wait(vol);
		if (!ret && anything_failed(vol, failures))
			ret = -EIO;
	}
	/* Even after an error: what was written is worth making stable. */
	err = volume_sync(vol);
	return ret ? ret : err;
}

/* ---- groups ---- */

void flush_group_init(struct flush_group *group)
{
	mutex_init(&group->lock, RANK_VOLUME);
	waitq_init(&group->waiters);
	group->begun = group->done = 0;
	group->running = false;
	group->result = 0;
}

void flush_group_fini(struct flush_group *group)
{
	mutex_fini(&group->lock);
}

static void run_pass(struct flush_group *group, struct volume *vol,
		     int (*pass)(struct volume *vol)) REQUIRES(&group->lock)
{
	int ret;

	group->running = true;
	group->begun++;
	mutex_unlock(&group->lock);
	ret = pass(vol);
	mutex_lock(&group->lock);
	group->running = false;
	group->done = group->begun;
	group->result = ret;
	waitq_wake_all(&group->waiters);
}

/* Have a pass run that begins after now, alone or shared; its result. */
static int flush_group_run(struct flush_group *group, struct volume *vol,
			   int (*pass)(struct volume *vol))
{
	uint64_t mine;
	int ret;

	mutex_lock(&group->lock);
	/* The next pass to begin is the first that covers this request. */
	mine = group->begun + 1;
	while (group->done < mine) {
		if (group->running)
			waitq_wait(&group->waiters, &group->lock);
		else
			run_pass(group, vol, pass);
	}
	/* A later pass covers it as well. */
	ret = group->result;
	mutex_unlock(&group->lock);
	return ret;
}

/* ---- as the doors call it ---- */

static int store_pass(struct volume *vol)
{
	return vol->store_ops->flush(vol);
}

int volume_sync(struct volume *vol)
{
	return flush_group_run(&vol->sync_group, vol, store_pass);
}

int volume_write_all(struct volume *vol)
{
	return flush_group_run(&vol->flush_group, vol, flush_pass);
}

int volume_flush(struct volume *vol)
{
	volume_count(vol, flushes, 1);
	if (vol->mode == VOLUME_UNSAFE)
		return 0;
	return volume_write_all(vol);
}

bool volume_flush_inline(struct volume *vol)
{
	if (vol->mode != VOLUME_UNSAFE)
		return false;
	volume_count(vol, flushes, 1);
	return true;
}
