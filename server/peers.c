/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * peers.c - how many connections each peer has.
 *
 * A hash table, seeded, as peers choose their addresses.  It has an entry for
 * each peer that is there, hence no more of them than connections.
 */
#include <errno.h>
#include <sys/queue.h>

#include "base/base.h"
#include "server/peers.h"

#define NR_BUCKETS	4096

struct peer_entry {
	LIST_ENTRY(peer_entry)	link;
	struct peer		peer;		/* without groups */
	unsigned int		nr;		/* at least 1 */
};

struct peers {
	unsigned int		max;
	uint64_t		seed;
	struct mutex		lock;		/* RANK_SERVER: the buckets */
	LIST_HEAD(, peer_entry)	buckets[NR_BUCKETS];
};

int peers_new(unsigned int max, struct peers **peersp)
{
	struct peers *peers = calloc(1, sizeof(*peers));

	if (!peers)
		return -ENOMEM;
	peers->max = max;
	peers->seed = random_seed_from_env("FOLIOD_SEED");
	mutex_init(&peers->lock, RANK_SERVER);
	*peersp = peers;
	return 0;
}

void peers_free(struct peers *peers)
{
	if (!peers)
		return;
	for (unsigned int i = 0; i < NR_BUCKETS; i++)
		assert(LIST_EMPTY(&peers->buckets[i]));
	mutex_fini(&peers->lock);
	free(peers);
}

static unsigned int bucket_of(const struct peers *peers,
			      const struct peer *peer)
{
	return peer_hash(peer, peers->seed) % NR_BUCKETS;
}

static struct peer_entry *find_locked(struct peers *peers,
				      const struct peer *peer)
	REQUIRES(&peers->lock)
{
	struct peer_entry *entry;

	mutex_assert_held(&peers->lock);
	LIST_FOREACH(entry, &peers->buckets[bucket_of(peers, peer)], link)
		if (peer_equal(&entry->peer, peer))
			break;
	return entry;
}

static int enter_locked(struct peers *peers, const struct peer *peer)
	REQUIRES(&peers->lock)
{
	struct peer_entry *entry = find_locked(peers, peer);

	if (entry) {
		if (entry->nr >= peers->max)
			return -EDQUOT;
		entry->nr++;
		return 0;
	}
	entry = calloc(1, sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	entry->peer = *peer;
	entry->peer.groups = NULL;
	entry->peer.nr_groups = 0;
	entry->nr = 1;
	LIST_INSERT_HEAD(&peers->buckets[bucket_of(peers, peer)], entry, link);
	return 0;
}

int peers_enter(struct peers *peers, const struct peer *peer)
{
	int ret;

	mutex_lock(&peers->lock);
	ret = enter_locked(peers, peer);
	mutex_unlock(&peers->lock);
	return ret;
}

void peers_leave(struct peers *peers, const struct peer *peer)
{
	struct peer_entry *entry;

	mutex_lock(&peers->lock);
	entry = find_locked(peers, peer);
	assert(entry);
	if (--entry->nr == 0) {
		LIST_REMOVE(entry, link);
		free(entry);
	}
	mutex_unlock(&peers->lock);
}
