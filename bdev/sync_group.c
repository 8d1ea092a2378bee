/* SPDX-License-Identifier: BSD-3-Clause */
/* sync_group.c - FUA writes that are made stable together. */
#include "bdev/sync_group.h"

#include "base/base.h"
#include "bdev/inner.h"

TAILQ_HEAD(req_list, bdev_req);

struct sync_group {
	struct req_list		covered;	/* besides the leader */
	struct req_list		late;
	LIST_ENTRY(sync_group)	link;
	bool			issued;
};

static_assert(sizeof(struct sync_group) <= BDEV_WORD_WAIT * sizeof(uint64_t),
	      "a group fits in a request");

static struct sync_group *group_of(struct bdev_req *leader)
{
	return (struct sync_group *)leader->backend;
}

static struct bdev_req *leader_of(struct sync_group *group)
{
	return (struct bdev_req *)((char *)group -
				   offsetof(struct bdev_req, backend));
}

static struct sync_group *find(struct sync_groups *groups,
			       const struct bdev *bdev)
{
	struct sync_group *group;

	LIST_FOREACH(group, groups, link)
		if (leader_of(group)->bdev == bdev)
			break;
	return group;
}

static struct sync_group *lead(struct bdev_req *req)
{
	struct sync_group *group = group_of(req);

	TAILQ_INIT(&group->covered);
	TAILQ_INIT(&group->late);
	group->issued = false;
	return group;
}

bool sync_groups_join(struct sync_groups *groups, struct bdev_req *req)
{
	struct sync_group *group = find(groups, req->bdev);

	if (!group) {
		LIST_INSERT_HEAD(groups, lead(req), link);
		return true;
	}
	if (group->issued)
		TAILQ_INSERT_TAIL(&group->late, req, link);
	else
		TAILQ_INSERT_TAIL(&group->covered, req, link);
	return false;
}

void sync_group_issued(struct bdev_req *leader)
{
	group_of(leader)->issued = true;
}

/* The first of @late leads the others, in the place of @old. */
static struct bdev_req *succeed(struct sync_group *old)
{
	struct bdev_req *next = TAILQ_FIRST(&old->late);

	if (next) {
		TAILQ_REMOVE(&old->late, next, link);
		LIST_INSERT_AFTER(old, lead(next), link);
		TAILQ_CONCAT(&group_of(next)->covered, &old->late, link);
	}
	LIST_REMOVE(old, link);
	return next;
}

struct bdev_req *sync_groups_done(struct bdev_req *leader, int ret)
{
	struct sync_group *group = group_of(leader);
	struct req_list done = TAILQ_HEAD_INITIALIZER(done);
	struct bdev_req *next = succeed(group), *req;

	TAILQ_INSERT_TAIL(&done, leader, link);
	TAILQ_CONCAT(&done, &group->covered, link);
	while ((req = TAILQ_FIRST(&done))) {
		TAILQ_REMOVE(&done, req, link);
		bdev_complete(req, ret);
	}
	return next;
}
