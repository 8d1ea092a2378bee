/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * evict.c - which folio goes when memory is wanted: S3-FIFO with a
 * correlation window, weighted by pages.
 *
 *                    ghost hit
 *   new ----------------------------------> main <--+ hit since: once more
 *     \                                       |  \__/
 *      +--> small --- two hits that count --->|
 *             |                               | none
 *             +---> ghost (key only), gone    +---> gone
 *
 * Hits in the newest part of small do not count: they belong to the same burst
 * that brought the page (the correlation window).  A folio that was chosen but
 * is dirty, pinned or locked waits on "leaving" and goes first once it is
 * idle: the choice stands, only the act is late.
 */
#include "cache/pool.h"
#include "cache/pool_internal.h"

#define FREQ_PROMOTE	1	/* counted hits that lead from small to main */
#define LEAVING_SCAN	16	/* busy ones looked at in one call */

static struct frame_list *queue_list(struct pool *pool, uint8_t queue)
{
	switch (queue) {
	case QUEUE_SMALL:
		return &pool->small;
	case QUEUE_MAIN:
		return &pool->main;
	case QUEUE_LEAVING_SMALL:
	case QUEUE_LEAVING_MAIN:
		return &pool->leaving;
	default:
		return NULL;
	}
}

static void set_queue(struct folio *folio, enum folio_queue queue)
{
	/* pool_hit() reads it without the lock. */
	__atomic_store_n(&folio->queue, queue, __ATOMIC_RELAXED);
}

static void set_freq(struct folio *folio, uint8_t freq)
{
	__atomic_store_n(&folio->freq, freq, __ATOMIC_RELAXED);
}

static uint8_t get_freq(const struct folio *folio)
{
	return __atomic_load_n(&folio->freq, __ATOMIC_RELAXED);
}

/* The newest half of small, whose hits do not count. */
static void update_window_locked(struct pool *pool)
{
	__atomic_store_n(&pool->window,
			 (uint32_t)MIN(pool->small.pages,
				       (uint64_t)pool->small_target) / 2,
			 __ATOMIC_RELAXED);
}

void queue_remove_locked(struct pool *pool, struct folio *folio)
{
	struct frame_list *list = queue_list(pool, folio->queue);

	mutex_assert_held(&pool->lock);
	if (list) {
		frame_list_del(pool, list, folio);
		if (list == &pool->small)
			update_window_locked(pool);
	}
	set_queue(folio, QUEUE_NONE);
}

static void push_small_locked(struct pool *pool, struct folio *folio)
{
	frame_list_push(pool, &pool->small, folio);
	__atomic_store_n(&pool->small_clock,
			 pool->small_clock + folio_pages(folio),
			 __ATOMIC_RELAXED);
	__atomic_store_n(&folio->q_seq, pool->small_clock, __ATOMIC_RELAXED);
	set_queue(folio, QUEUE_SMALL);
	update_window_locked(pool);
}

static void push_main_locked(struct pool *pool, struct folio *folio)
{
	frame_list_push(pool, &pool->main, folio);
	set_queue(folio, QUEUE_MAIN);
}

/* ---- ghosts: a set-associative table of key hashes and times ---- */

static struct ghost_slot *ghost_bucket(struct pool *pool, uint64_t hash)
{
	return pool->ghost[(uint32_t)hash & pool->ghost_mask];
}

/* A tag is never 0, so that an unused slot matches nothing. */
static uint32_t ghost_tag(uint64_t hash)
{
	return (uint32_t)(hash >> 32) | 1;
}

static void ghost_add_locked(struct pool *pool, uint64_t key, uint32_t pages)
{
	uint64_t hash = hash64(key);
	struct ghost_slot *slots = ghost_bucket(pool, hash);
	unsigned int oldest = 0;

	pool->ghost_clock += pages;
	for (unsigned int i = 0; i < 8; i++) {
		if (slots[i].tag == 0) {
			oldest = i;
			break;
		}
		if (pool->ghost_clock - slots[i].time >
		    pool->ghost_clock - slots[oldest].time)
			oldest = i;
	}
	slots[oldest].tag = ghost_tag(hash);
	slots[oldest].time = pool->ghost_clock;
}

/* Was @key a ghost?  It is one no longer. */
static bool ghost_take_locked(struct pool *pool, uint64_t key)
{
	uint64_t hash = hash64(key);
	struct ghost_slot *slots = ghost_bucket(pool, hash);

	for (unsigned int i = 0; i < 8; i++) {
		if (slots[i].tag != ghost_tag(hash))
			continue;
		slots[i].tag = 0;
		return pool->ghost_clock - slots[i].time <= pool->ghost_pages;
	}
	return false;
}

/* ---- the queues, from outside ---- */

void pool_enqueue(struct pool *pool, struct folio *folio)
{
	mutex_lock(&pool->lock);
	assert(folio->queue == QUEUE_NONE);
	set_freq(folio, 0);
	if (ghost_take_locked(pool, folio->key))
		push_main_locked(pool, folio);
	else
		push_small_locked(pool, folio);
	mutex_unlock(&pool->lock);
}

void pool_dequeue(struct pool *pool, struct folio *folio)
{
	mutex_lock(&pool->lock);
	queue_remove_locked(pool, folio);
	mutex_unlock(&pool->lock);
}

/* Put @new where @old stands in @list. */
static void frame_list_swap(struct pool *pool, struct frame_list *list,
			    struct folio *old, struct folio *new)
{
	uint32_t frame = pool_frame(pool, new);

	new->q_next = old->q_next;
	new->q_prev = old->q_prev;
	if (new->q_prev)
		pool_folio(pool, new->q_prev)->q_next = frame;
	else
		list->head = frame;
	if (new->q_next)
		pool_folio(pool, new->q_next)->q_prev = frame;
	else
		list->tail = frame;
	old->q_next = old->q_prev = 0;
}

static void push_leaving_locked(struct pool *pool, struct folio *folio,
				bool small)
{
	frame_list_push(pool, &pool->leaving, folio);
	set_queue(folio, small ? QUEUE_LEAVING_SMALL : QUEUE_LEAVING_MAIN);
}

void pool_replace(struct pool *pool, struct folio *old, struct folio *new)
{
	struct frame_list *list;

	assert(old->order == new->order);
	mutex_lock(&pool->lock);
	list = queue_list(pool, old->queue);
	new->q_seq = old->q_seq;
	set_freq(new, get_freq(old));
	if (list)
		frame_list_swap(pool, list, old, new);
	set_queue(new, old->queue);
	/* Who chose the old one will not find it any more. */
	if (old->queue == QUEUE_OUT_SMALL || old->queue == QUEUE_OUT_MAIN)
		push_leaving_locked(pool, new, old->queue == QUEUE_OUT_SMALL);
	set_queue(old, QUEUE_NONE);
	mutex_unlock(&pool->lock);
}

/* ---- choosing ---- */

/* Seen without the shard's lock, so a hint: the caller checks again. */
static bool looks_busy(const struct folio *folio)
{
	return __atomic_load_n(&folio->dirty, __ATOMIC_RELAXED) ||
	       __atomic_load_n(&folio->inflight, __ATOMIC_RELAXED) ||
	       __atomic_load_n(&folio->pins, __ATOMIC_RELAXED) ||
	       (__atomic_load_n(&folio->flags, __ATOMIC_RELAXED) &
		FOLIO_LOCKED);
}

/* One of those chosen earlier, if it is idle by now. */
static struct folio *next_leaving_locked(struct pool *pool, unsigned int *scan)
{
	while (*scan > 0 && pool->leaving.tail) {
		struct folio *folio = pool_folio(pool, pool->leaving.tail);
		bool small = folio->queue == QUEUE_LEAVING_SMALL;

		(*scan)--;
		frame_list_del(pool, &pool->leaving, folio);
		if (get_freq(folio) >= FREQ_PROMOTE) {
			set_freq(folio, 0);
			push_main_locked(pool, folio);
		} else if (looks_busy(folio)) {
			frame_list_push(pool, &pool->leaving, folio);
		} else {
			set_queue(folio, small ? QUEUE_OUT_SMALL :
				  QUEUE_OUT_MAIN);
			return folio;
		}
	}
	return NULL;
}

static struct folio *next_small_locked(struct pool *pool)
{
	struct folio *folio = pool_folio(pool, pool->small.tail);

	frame_list_del(pool, &pool->small, folio);
	update_window_locked(pool);
	if (get_freq(folio) >= FREQ_PROMOTE) {
		set_freq(folio, 0);
		push_main_locked(pool, folio);
		return NULL;
	}
	set_queue(folio, QUEUE_OUT_SMALL);
	return folio;
}

static struct folio *next_main_locked(struct pool *pool)
{
	struct folio *folio = pool_folio(pool, pool->main.tail);
	uint8_t freq = get_freq(folio);

	frame_list_del(pool, &pool->main, folio);
	if (freq > 0) {
		set_freq(folio, freq - 1);
		push_main_locked(pool, folio);
		return NULL;
	}
	set_queue(folio, QUEUE_OUT_MAIN);
	return folio;
}

/* The policy's next choice, or NULL when no folio is on a queue. */
static struct folio *next_victim_locked(struct pool *pool)
{
	struct folio *folio = NULL;

	while (!folio) {
		if (pool->small.tail &&
		    (pool->small.pages > pool->small_target ||
		     !pool->main.tail))
			folio = next_small_locked(pool);
		else if (pool->main.tail)
			folio = next_main_locked(pool);
		else
			break;
	}
	return folio;
}

unsigned int pool_victims(struct pool *pool, uint64_t pages,
			  struct victim *victims, unsigned int max)
{
	unsigned int scan = LEAVING_SCAN;
	unsigned int nr = 0;
	uint64_t got = 0;

	mutex_lock(&pool->lock);
	while (nr < max && got < pages) {
		struct folio *folio = next_leaving_locked(pool, &scan);

		if (!folio)
			folio = next_victim_locked(pool);
		if (!folio)
			break;
		victims[nr].frame = pool_frame(pool, folio);
		victims[nr].key = folio->key;
		got += folio_pages(folio);
		nr++;
	}
	mutex_unlock(&pool->lock);
	return nr;
}

void pool_keep(struct pool *pool, struct folio *folio)
{
	mutex_lock(&pool->lock);
	if (folio->queue == QUEUE_OUT_SMALL || folio->queue == QUEUE_OUT_MAIN)
		push_leaving_locked(pool, folio,
				    folio->queue == QUEUE_OUT_SMALL);
	mutex_unlock(&pool->lock);
}

void pool_evicted(struct pool *pool, struct folio *folio)
{
	mutex_lock(&pool->lock);
	if (folio->queue == QUEUE_OUT_SMALL)
		ghost_add_locked(pool, folio->key, folio_pages(folio));
	pool->evictions += folio_pages(folio);
	mutex_unlock(&pool->lock);
}
