/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sync_group.h - FUA writes that are made stable together.
 *
 * Where a device has a cache and no FUA, the kernel makes each RWF_DSYNC write
 * a write and a flush, by a worker thread that waits for both; on a file it may
 * commit the journal besides.  It is less work to write plainly and to have
 * one fdatasync() cover all writes that were done before it began.
 *
 *	written ->  no group    -> leads one, to be synced     -\
 *	            not issued  -> covered by its sync         -+-> done()
 *	            issued      -> waits for the sync after it -/
 *
 * There is one group for each device with such writes, of one loop; only that
 * loop touches it.  The first of a group leads it: it is the request whose
 * bdev_req.backend holds the group, and for which the sync is issued.
 */
#ifndef FOLIOD_BDEV_SYNC_GROUP_H
#define FOLIOD_BDEV_SYNC_GROUP_H

#include "bdev/bdev.h"

struct sync_group;

/* The groups of a loop. */
LIST_HEAD(sync_groups, sync_group);

/*
 * The data of FUA write @req is written; it needs a sync.  True if @req leads
 * a new group: the caller has to sync the device, for it and for all that join
 * until sync_group_issued().
 */
bool sync_groups_join(struct sync_groups *groups, struct bdev_req *req);

/* The sync that @leader asked for is with the kernel: who joins now is late. */
void sync_group_issued(struct bdev_req *leader);

/*
 * That sync ended with @ret: complete all that it covers, @leader too.
 * Returns the leader of those that came late, to be synced, or NULL.
 */
struct bdev_req *sync_groups_done(struct bdev_req *leader, int ret);

#endif
