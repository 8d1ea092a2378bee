/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shard.c - the index, and every change of a folio's state bits.
 *
 * The bits change here alone, so that the dirty list and the byte counts
 * cannot disagree with them.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "cache/shard.h"
#include "cache/volume.h"

int shard_init(struct shard *shard, struct pool *pool, unsigned int index,
	       uint32_t nr_heads)
{
	assert(is_power_of_2(nr_heads));
	memset(shard, 0, sizeof(*shard));
	/* Untouched chains cost no memory. */
	shard->heads = mmap(NULL, nr_heads * sizeof(*shard->heads),
			    PROT_READ | PROT_WRITE, MAP_PRIVATE |
			    MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (shard->heads == MAP_FAILED)
		return -ENOMEM;
	shard->pool = pool;
	shard->index = index;
	shard->mask = nr_heads - 1;
	mutex_init(&shard->lock, RANK_SHARD);
	for (unsigned int i = 0; i < SHARD_WAITQS; i++)
		waitq_init(&shard->waitqs[i]);
	return 0;
}

void shard_fini(struct shard *shard)
{
	munmap(shard->heads, (shard->mask + 1ul) * sizeof(*shard->heads));
	mutex_fini(&shard->lock);
}

/* ---- the index ---- */

void shard_insert_locked(struct shard *shard, struct folio *folio, uint64_t key)
{
	uint64_t hash = key_hash(key);
	uint32_t frame = pool_frame(shard->pool, folio);

	mutex_assert_held(&shard->lock);
	assert(!(folio->flags & FOLIO_INDEXED));
	assert(is_aligned64(key, folio_pages(folio)));
	for (uint32_t i = 0; i < folio_pages(folio); i++) {
		uint32_t *slot = &shard->heads[shard_slot(shard, key + i,
							  hash)];

		/* Large trims look at it without the lock. */
		__atomic_store_n(&folio[i].key, key + i, __ATOMIC_RELAXED);
		folio[i].hash_next = *slot;
		/* volume_hint_folio() peeks. */
		__atomic_store_n(slot, frame + i, __ATOMIC_RELAXED);
	}
	folio_set_flags(folio, FOLIO_INDEXED);
}

static void unindex_locked(struct shard *shard, struct folio *folio)
{
	uint64_t hash = key_hash(folio->key);
	uint32_t frame = pool_frame(shard->pool, folio);

	for (uint32_t i = 0; i < folio_pages(folio); i++) {
		uint32_t *link = &shard->heads[shard_slot(shard, folio[i].key,
							  hash)];

		while (*link != frame + i)
			link = &pool_folio(shard->pool, *link)->hash_next;
		__atomic_store_n(link, folio[i].hash_next, __ATOMIC_RELAXED);
		folio[i].hash_next = 0;
	}
	folio_clear_flags(folio, FOLIO_INDEXED);
}

/*
 * No index knows @folio any more.  Pairs with the release in volume_unpin():
 * whoever finds the count at zero and the bit set, alone frees it.
 */
static void detach(struct pool *pool, struct folio *folio)
{
	uint32_t pins = __atomic_fetch_or(&folio->pins, PINS_DETACHED,
					  __ATOMIC_ACQ_REL);

	if (pins == 0)
		pool_free(pool, pool_frame(pool, folio));
}

void shard_remove_locked(struct shard *shard, struct folio *folio)
{
	mutex_assert_held(&shard->lock);
	assert(!folio->dirty && !folio->inflight);
	assert(!(folio->flags & FOLIO_FAILED));
	shard_wake_locked(shard, folio);
	unindex_locked(shard, folio);
	pool_dequeue(shard->pool, folio);
	detach(shard->pool, folio);
}

/* ---- the dirty list ---- */

/* Passes look at it without the lock, to skip those that are empty. */
static void dirty_list_count(struct dirty_list *list, int change)
{
	__atomic_store_n(&list->nr, list->nr + (uint32_t)change,
			 __ATOMIC_RELAXED);
}

static void dirty_list_add(struct pool *pool, struct dirty_list *list,
			   struct folio *folio)
{
	uint32_t frame = pool_frame(pool, folio);

	folio->d_next = 0;
	folio->d_prev = list->tail;
	if (list->tail)
		pool_folio(pool, list->tail)->d_next = frame;
	else
		list->head = frame;
	list->tail = frame;
	dirty_list_count(list, 1);
}

static void dirty_list_del(struct pool *pool, struct dirty_list *list,
			   struct folio *folio)
{
	if (folio->d_prev)
		pool_folio(pool, folio->d_prev)->d_next = folio->d_next;
	else
		list->head = folio->d_next;
	if (folio->d_next)
		pool_folio(pool, folio->d_next)->d_prev = folio->d_prev;
	else
		list->tail = folio->d_prev;
	folio->d_next = folio->d_prev = 0;
	dirty_list_count(list, -1);
}

static uint64_t block_bytes(const struct volume *vol, uint64_t blocks)
{
	return (uint64_t)__builtin_popcountll(blocks) << vol->block_shift;
}

static void set_dirty(struct folio *folio, uint64_t blocks)
{
	__atomic_store_n(&folio->dirty, blocks, __ATOMIC_RELAXED);
}

static void set_inflight(struct folio *folio, uint64_t blocks)
{
	__atomic_store_n(&folio->inflight, blocks, __ATOMIC_RELAXED);
}

void shard_dirty_locked(struct shard *shard, struct volume *vol,
			struct folio *folio, uint64_t blocks)
{
	uint64_t fresh = blocks & ~folio->dirty;

	mutex_assert_held(&shard->lock);
	if (!fresh)
		return;
	if (!folio->dirty)
		dirty_list_add(shard->pool, &vol->dirty[shard->index], folio);
	set_dirty(folio, folio->dirty | fresh);
	volume_account_dirty(vol, (int64_t)block_bytes(vol, fresh));
}

void shard_clean_locked(struct shard *shard, struct volume *vol,
			struct folio *folio, uint64_t blocks)
{
	uint64_t gone = blocks & folio->dirty;

	mutex_assert_held(&shard->lock);
	if (!gone)
		return;
	set_dirty(folio, folio->dirty & ~gone);
	volume_account_dirty(vol, -(int64_t)block_bytes(vol, gone));
	if (!folio->dirty)
		dirty_list_del(shard->pool, &vol->dirty[shard->index], folio);
}

void shard_fail_locked(struct shard *shard, struct volume *vol,
		       struct folio *folio)
{
	mutex_assert_held(&shard->lock);
	assert(folio->dirty);
	if (folio->flags & FOLIO_FAILED)
		return;
	folio_set_flags(folio, FOLIO_FAILED);
	__atomic_add_fetch(&vol->nr_failed, 1, __ATOMIC_RELAXED);
}

void shard_unfail_locked(struct shard *shard, struct volume *vol,
			 struct folio *folio)
{
	mutex_assert_held(&shard->lock);
	if (!(folio->flags & FOLIO_FAILED))
		return;
	folio_clear_flags(folio, FOLIO_FAILED);
	__atomic_sub_fetch(&vol->nr_failed, 1, __ATOMIC_RELEASE);
}

void shard_discard_locked(struct shard *shard, struct volume *vol,
			  struct folio *folio)
{
	shard_clean_locked(shard, vol, folio, folio->dirty);
	shard_unfail_locked(shard, vol, folio);
	shard_remove_locked(shard, folio);
}

void shard_start_io_locked(struct shard *shard, struct volume *vol,
			   struct folio *folio, uint64_t blocks)
{
	mutex_assert_held(&shard->lock);
	assert(!(folio->inflight & blocks));
	assert(!(folio->dirty & blocks));
	set_inflight(folio, folio->inflight | blocks);
	volume_account_inflight(vol, (int64_t)block_bytes(vol, blocks));
}

void shard_end_io_locked(struct shard *shard, struct volume *vol,
			 struct folio *folio, uint64_t blocks)
{
	mutex_assert_held(&shard->lock);
	assert((folio->inflight & blocks) == blocks);
	set_inflight(folio, folio->inflight & ~blocks);
	volume_account_inflight(vol, -(int64_t)block_bytes(vol, blocks));
	shard_wake_locked(shard, folio);
}

void shard_replace_locked(struct shard *shard, struct volume *vol,
			  struct folio *old, struct folio *new)
{
	uint64_t dirty = old->dirty;
	bool failed = old->flags & FOLIO_FAILED;

	mutex_assert_held(&shard->lock);
	assert(!old->inflight && old->order == new->order);
	shard_clean_locked(shard, vol, old, dirty);
	shard_unfail_locked(shard, vol, old);
	shard_wake_locked(shard, old);
	unindex_locked(shard, old);
	shard_insert_locked(shard, new, old->key);
	pool_replace(shard->pool, old, new);
	detach(shard->pool, old);
	shard_dirty_locked(shard, vol, new, dirty);
	if (failed)
		shard_fail_locked(shard, vol, new);
}

/* ---- waiting ---- */

static struct waitq *folio_waitq(struct shard *shard, const struct folio *folio)
{
	return &shard->waitqs[hash64(folio->key) % SHARD_WAITQS];
}

void shard_wait_locked(struct shard *shard, struct folio *folio)
{
	mutex_assert_held(&shard->lock);
	folio_set_flags(folio, FOLIO_WAITERS);
	waitq_wait(folio_waitq(shard, folio), &shard->lock);
}

void shard_wake_locked(struct shard *shard, struct folio *folio)
{
	mutex_assert_held(&shard->lock);
	if (!(folio->flags & FOLIO_WAITERS))
		return;
	folio_clear_flags(folio, FOLIO_WAITERS);
	waitq_wake_all(folio_waitq(shard, folio));
}
