/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pool.c - frames and their allocation: the arena, the buddy lists, budgets.
 *
 * Who goes when memory is wanted is decided in evict.c.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "cache/pool.h"
#include "cache/pool_internal.h"
#include "cache/prefault.h"

#define HUGE_PAGE	(UINT64_C(2) << 20)

void frame_list_push(struct pool *pool, struct frame_list *list,
		     struct folio *folio)
{
	uint32_t frame = pool_frame(pool, folio);

	folio->q_prev = 0;
	folio->q_next = list->head;
	if (list->head)
		pool_folio(pool, list->head)->q_prev = frame;
	else
		list->tail = frame;
	list->head = frame;
	list->pages += folio_pages(folio);
}

void frame_list_del(struct pool *pool, struct frame_list *list,
		    struct folio *folio)
{
	if (folio->q_prev)
		pool_folio(pool, folio->q_prev)->q_next = folio->q_next;
	else
		list->head = folio->q_next;
	if (folio->q_next)
		pool_folio(pool, folio->q_next)->q_prev = folio->q_prev;
	else
		list->tail = folio->q_prev;
	folio->q_next = folio->q_prev = 0;
	list->pages -= folio_pages(folio);
}

/* Put a free run of 2^@order frames on its list, joined with its buddies. */
static void free_run_locked(struct pool *pool, uint32_t frame,
			    unsigned int order)
{
	struct folio *folio;

	while (order < FOLIO_ORDER_MAX) {
		uint32_t buddy = frame ^ (1u << order);

		if (buddy == 0 || buddy + (1u << order) > pool->fresh)
			break;
		folio = pool_folio(pool, buddy);
		/* Pairs with reset_frame(): its owner has no lock. */
		if (__atomic_load_n(&folio->queue, __ATOMIC_RELAXED) !=
		    QUEUE_FREE || folio->order != order)
			break;
		frame_list_del(pool, &pool->free[order], folio);
		folio->queue = QUEUE_NONE;
		frame &= ~(1u << order);
		order++;
	}
	folio = pool_folio(pool, frame);
	folio->order = order;
	folio->queue = QUEUE_FREE;
	frame_list_push(pool, &pool->free[order], folio);
}

/*
 * Make the next part of the arena free that was never used, the largest
 * aligned run; false at its end.  Frames beyond are touched by nobody, so a
 * large cache costs memory only as it fills.
 */
static bool grow_locked(struct pool *pool)
{
	unsigned int order;

	if (pool->fresh == pool->nr_frames)
		return false;
	order = MIN((unsigned int)__builtin_ctz(pool->fresh), FOLIO_ORDER_MAX);
	while (pool->fresh + (1u << order) > pool->nr_frames)
		order--;
	__atomic_store_n(&pool->fresh, pool->fresh + (1u << order),
			 __ATOMIC_RELEASE);
	free_run_locked(pool, pool->fresh - (1u << order), order);
	if (unlikely(pool->fresh >= pool->prefault_at))
		prefault_more(pool->prefault);
	return true;
}

static void *map_memory(uint64_t bytes)
{
	void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (mem == MAP_FAILED)
		return NULL;
	/* A hint: random hits spare TLB misses where it is granted. */
	if (bytes >= HUGE_PAGE)
		(void)madvise(mem, bytes, MADV_HUGEPAGE);
	return mem;
}

static uint64_t arena_bytes(const struct pool *pool)
{
	return (uint64_t)pool->nr_frames * FRAME_SIZE + HUGE_PAGE;
}

int pool_init(struct pool *pool, uint64_t cache_pages, uint64_t staging_pages)
{
	uint64_t nr_frames = cache_pages + staging_pages + 1;
	uint64_t buckets = 1;

	if (nr_frames >= UINT32_MAX)
		return -ENOMEM;
	memset(pool, 0, sizeof(*pool));
	pool->nr_frames = (uint32_t)nr_frames;
	pool->cache_pages = (uint32_t)cache_pages;
	pool->staging_pages = (uint32_t)staging_pages;
	pool->small_target = (uint32_t)MAX(cache_pages / 10, UINT64_C(1));
	pool->ghost_pages = (uint32_t)(cache_pages * 9 / 10);
	while (buckets * 8 < pool->ghost_pages)
		buckets *= 2;
	pool->ghost_mask = (uint32_t)(buckets - 1);

	pool->arena_map = map_memory(arena_bytes(pool));
	if (!pool->arena_map)
		return -ENOMEM;
	/* Frame n lies at arena + 4096 n, the arena on a huge page. */
	pool->arena = (char *)round_up64((uintptr_t)pool->arena_map, HUGE_PAGE);
	pool->folios = map_memory(nr_frames * sizeof(struct folio));
	if (!pool->folios)
		goto out_unmap_arena;
	pool->ghost = map_memory(buckets * sizeof(*pool->ghost));
	if (!pool->ghost)
		goto out_unmap_folios;
	mutex_init(&pool->lock, RANK_POOL);
	pool->fresh = 1;
	pool->prefault_at = UINT32_MAX;
	return 0;

out_unmap_folios:
	munmap(pool->folios, nr_frames * sizeof(struct folio));
out_unmap_arena:
	munmap(pool->arena_map, arena_bytes(pool));
	return -ENOMEM;
}

void pool_fini(struct pool *pool)
{
	prefault_stop(pool);
	munmap(pool->ghost, (pool->ghost_mask + 1ul) * sizeof(*pool->ghost));
	munmap(pool->folios, (uint64_t)pool->nr_frames * sizeof(struct folio));
	munmap(pool->arena_map, arena_bytes(pool));
	mutex_fini(&pool->lock);
}

uint64_t pool_metadata_bytes(const struct pool *pool)
{
	return (uint64_t)pool->nr_frames * sizeof(struct folio) +
	       (pool->ghost_mask + 1ul) * sizeof(*pool->ghost);
}

/* The smallest order from @order on that has a free run. */
static unsigned int free_order_locked(struct pool *pool, unsigned int order)
{
	while (order <= FOLIO_ORDER_MAX && !pool->free[order].head)
		order++;
	return order;
}

/* Split a free run down to @order; 0 if no run is large enough. */
static uint32_t take_run_locked(struct pool *pool, unsigned int order)
{
	unsigned int from;
	struct folio *folio;
	uint32_t frame;

	while ((from = free_order_locked(pool, order)) > FOLIO_ORDER_MAX) {
		if (!grow_locked(pool))
			return 0;
	}
	frame = pool->free[from].head;
	folio = pool_folio(pool, frame);
	frame_list_del(pool, &pool->free[from], folio);
	/* No buddy may take it for free once the lock is released. */
	folio->queue = QUEUE_NONE;
	while (from > order) {
		struct folio *half;

		from--;
		half = pool_folio(pool, frame + (1u << from));
		half->order = from;
		half->queue = QUEUE_FREE;
		frame_list_push(pool, &pool->free[from], half);
	}
	return frame;
}

/*
 * The frame is ours, but others look at two of its fields all the same: at
 * queue, who frees a neighbour, and at key, who trims a large range.
 */
static void reset_frame(struct folio *folio, unsigned int order,
			enum folio_queue queue)
{
	folio->uptodate = folio->dirty = folio->inflight = 0;
	__atomic_store_n(&folio->key, KEY_NONE, __ATOMIC_RELAXED);
	folio->hash_next = folio->d_next = folio->d_prev = 0;
	folio->q_next = folio->q_prev = folio->q_seq = 0;
	folio->pins = 0;
	folio->order = order;
	folio->flags = folio->freq = 0;
	__atomic_store_n(&folio->queue, queue, __ATOMIC_RELAXED);
}

static void folio_reset(struct pool *pool, uint32_t frame, unsigned int order,
			enum folio_queue queue)
{
	struct folio *folio = pool_folio(pool, frame);

	reset_frame(folio, order, queue);
	for (uint32_t i = 1; i < folio_pages(folio); i++) {
		reset_frame(folio + i, 0, QUEUE_NONE);
		folio[i].flags = FOLIO_TAIL;
		folio[i].q_seq = frame;
	}
}

static uint32_t *budget_of(struct pool *pool, enum pool_use use,
			   uint32_t *limitp)
{
	if (use == POOL_STAGING) {
		*limitp = pool->staging_pages;
		return &pool->staged_pages;
	}
	*limitp = pool->cache_pages;
	return &pool->cached_pages;
}

uint32_t pool_alloc(struct pool *pool, enum pool_use use, unsigned int order,
		    bool smaller)
{
	uint32_t limit, frame = 0;
	uint32_t *used = budget_of(pool, use, &limit);

	mutex_lock(&pool->lock);
	for (;;) {
		if (*used + (1u << order) <= limit)
			frame = take_run_locked(pool, order);
		if (frame || !smaller || order == 0)
			break;
		order--;
	}
	if (frame)
		__atomic_store_n(used, *used + (1u << order), __ATOMIC_RELAXED);
	mutex_unlock(&pool->lock);
	if (frame)
		folio_reset(pool, frame, order, use == POOL_STAGING ?
			    QUEUE_STAGED : QUEUE_NONE);
	return frame;
}

void pool_adopt(struct pool *pool, struct folio *folio)
{
	uint32_t pages = folio_pages(folio);

	mutex_lock(&pool->lock);
	assert(folio->queue == QUEUE_STAGED);
	folio->queue = QUEUE_NONE;
	__atomic_store_n(&pool->staged_pages, pool->staged_pages - pages,
			 __ATOMIC_RELAXED);
	__atomic_store_n(&pool->cached_pages, pool->cached_pages + pages,
			 __ATOMIC_RELAXED);
	mutex_unlock(&pool->lock);
}

void pool_free(struct pool *pool, uint32_t frame)
{
	struct folio *folio = pool_folio(pool, frame);
	uint32_t pages = folio_pages(folio);
	uint32_t limit;
	uint32_t *used;

	mutex_lock(&pool->lock);
	used = budget_of(pool, folio->queue == QUEUE_STAGED ? POOL_STAGING :
			 POOL_CACHE, &limit);
	queue_remove_locked(pool, folio);
	__atomic_store_n(used, *used - pages, __ATOMIC_RELAXED);
	free_run_locked(pool, frame, folio->order);
	mutex_unlock(&pool->lock);
}
