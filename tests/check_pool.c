/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_pool.c - the buddy allocator against a map of who has which frame, and
 * the eviction policy against its own words.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/pool.h"
#include "tests/corun.h"

#define PAGES	1000u
#define STAGING	200u

static struct pool pool;

static void setup(void)
{
	ck_assert_int_eq(pool_init(&pool, PAGES, STAGING), 0);
}

static void teardown(void)
{
	pool_fini(&pool);
}

/* ---- the allocator ---- */

static uint32_t count_free(unsigned int order)
{
	uint32_t frame, nr = 0;

	for (frame = pool.free[order].head; frame;
	     frame = pool_folio(&pool, frame)->q_next)
		nr++;
	return nr;
}

/* Frames in the free lists: each once, none in use, buddies never both; and
 * those never used, which are on no list yet. */
static uint32_t check_free(const bool *used)
{
	bool seen[PAGES + STAGING + 1] = { false };
	uint32_t total = 0;

	for (unsigned int order = 0; order <= FOLIO_ORDER_MAX; order++) {
		uint32_t frame = pool.free[order].head;

		for (; frame; frame = pool_folio(&pool, frame)->q_next) {
			struct folio *folio = pool_folio(&pool, frame);
			uint32_t buddy = frame ^ (1u << order);

			ck_assert_uint_eq(folio->order, order);
			ck_assert_int_eq(folio->queue, QUEUE_FREE);
			ck_assert_uint_eq(frame % (1u << order), 0);
			ck_assert(order == FOLIO_ORDER_MAX || !buddy ||
				  buddy + (1u << order) > pool.fresh ||
				  pool_folio(&pool, buddy)->queue !=
				  QUEUE_FREE ||
				  pool_folio(&pool, buddy)->order != order);
			for (uint32_t i = frame; i < frame + (1u << order);
			     i++) {
				ck_assert(!seen[i] && !used[i]);
				seen[i] = true;
			}
		}
		ck_assert_uint_eq(pool.free[order].pages,
				  (uint64_t)count_free(order) << order);
		total += count_free(order) << order;
	}
	for (uint32_t i = pool.fresh; i < pool.nr_frames; i++)
		ck_assert(!seen[i] && !used[i]);
	return total + pool.nr_frames - pool.fresh;
}

START_TEST(a_new_pool_is_all_free)
{
	bool used[PAGES + STAGING + 1] = { true };

	ck_assert_uint_eq(check_free(used), PAGES + STAGING);
	ck_assert_uint_eq(pool_cache_room(&pool), PAGES);
}
END_TEST

struct owned {
	uint32_t	frame;
	enum pool_use	use;
};

static void take(struct owned *owned, struct random *rnd, bool *used,
		 uint32_t *pages)
{
	enum pool_use use = random_one_in(rnd, 4) ? POOL_STAGING : POOL_CACHE;
	uint32_t limit = use == POOL_STAGING ? STAGING : PAGES;
	unsigned int order = (unsigned int)random_below(rnd, 7);
	bool smaller = random_one_in(rnd, 2);
	uint32_t frame = pool_alloc(&pool, use, order, smaller);
	struct folio *folio = pool_folio(&pool, frame);

	owned->frame = frame;
	owned->use = use;
	if (!frame) {
		/* Only the budget or the cut of the arena can say no. */
		ck_assert(!smaller || pages[use] == limit);
		return;
	}
	ck_assert(smaller || folio->order == order);
	ck_assert_uint_le(folio->order, order);
	ck_assert_uint_eq(folio->key, KEY_NONE);
	ck_assert_int_eq(folio->queue, use == POOL_STAGING ? QUEUE_STAGED :
			 QUEUE_NONE);
	ck_assert(!folio->dirty && !folio->uptodate && !folio->pins);
	for (uint32_t i = 0; i < folio_pages(folio); i++) {
		ck_assert(!used[frame + i]);
		used[frame + i] = true;
		if (i) {
			ck_assert(folio[i].flags & FOLIO_TAIL);
			ck_assert_uint_eq(folio[i].q_seq, frame);
		}
	}
	pages[use] += folio_pages(folio);
	ck_assert_uint_le(pages[use], limit);
	memset(pool_data(&pool, frame), 0xa5, folio_size(folio));
}

static void give(struct owned *owned, bool *used, uint32_t *pages)
{
	struct folio *folio = pool_folio(&pool, owned->frame);

	for (uint32_t i = 0; i < folio_pages(folio); i++)
		used[owned->frame + i] = false;
	pages[owned->use] -= folio_pages(folio);
	pool_free(&pool, owned->frame);
	owned->frame = 0;
}

START_TEST(no_frame_is_given_twice_and_buddies_join_again)
{
	struct owned owned[300] = { 0 };
	bool used[PAGES + STAGING + 1] = { true };
	uint32_t pages[2] = { 0, 0 };
	struct random rnd;

	random_init(&rnd, test_seed("pool"));
	for (unsigned int i = 0; i < 30000; i++) {
		struct owned *o = &owned[random_below(&rnd, 300)];

		if (!o->frame)
			take(o, &rnd, used, pages);
		else if (random_one_in(&rnd, 2))
			give(o, used, pages);
		if (i % 3000 == 0)
			ck_assert_uint_eq(check_free(used), PAGES + STAGING -
					  pages[0] - pages[1]);
		ck_assert_uint_eq(pool.cached_pages, pages[POOL_CACHE]);
		ck_assert_uint_eq(pool.staged_pages, pages[POOL_STAGING]);
	}
	for (unsigned int i = 0; i < 300; i++)
		if (owned[i].frame)
			give(&owned[i], used, pages);
	/* All in the largest runs that there were at first. */
	ck_assert_uint_eq(check_free(used), PAGES + STAGING);
	ck_assert_uint_gt(pool.fresh, PAGES / 2);
	ck_assert_uint_eq(count_free(FOLIO_ORDER_MAX), pool.fresh / 64 - 1);
}
END_TEST

START_TEST(the_budgets_are_apart)
{
	uint32_t frame, cached = 0, staged = 0;

	while ((frame = pool_alloc(&pool, POOL_CACHE, 6, true)))
		cached += folio_pages(pool_folio(&pool, frame));
	ck_assert_uint_eq(cached, PAGES);
	ck_assert_uint_eq(pool_cache_room(&pool), 0);
	while ((frame = pool_alloc(&pool, POOL_STAGING, 3, true)))
		staged += folio_pages(pool_folio(&pool, frame));
	ck_assert_uint_eq(staged, STAGING);
}
END_TEST

START_TEST(an_adopted_folio_changes_budgets)
{
	uint32_t frame = pool_alloc(&pool, POOL_STAGING, 4, false);
	struct folio *folio = pool_folio(&pool, frame);

	ck_assert_uint_ne(frame, 0);
	pool_adopt(&pool, folio);
	ck_assert_uint_eq(pool.staged_pages, 0);
	ck_assert_uint_eq(pool.cached_pages, 16);
	ck_assert_int_eq(folio->queue, QUEUE_NONE);
	pool_free(&pool, frame);
	ck_assert_uint_eq(pool.cached_pages, 0);
}
END_TEST

/* ---- eviction ---- */

static uint64_t next_page;

/* A folio of the cache under a key of its own, or under @key. */
static struct folio *enter(unsigned int order, uint64_t key)
{
	uint32_t frame = pool_alloc(&pool, POOL_CACHE, order, false);
	struct folio *folio = pool_folio(&pool, frame);

	ck_assert_uint_ne(frame, 0);
	next_page = round_up64(next_page, 1u << order);
	folio->key = key ? key : folio_key(1, 0) + 1000000 + next_page;
	next_page += 1u << order;
	pool_enqueue(&pool, folio);
	return folio;
}

/* The policy's next choice goes; its key. */
static uint64_t evict(void)
{
	struct victim victim;

	if (!pool_victims(&pool, 1, &victim, 1))
		return 0;
	pool_evicted(&pool, pool_folio(&pool, victim.frame));
	pool_dequeue(&pool, pool_folio(&pool, victim.frame));
	pool_free(&pool, victim.frame);
	return victim.key;
}

/* Enter @nr pages, evicting what it takes. */
static void scan(unsigned int nr)
{
	while (nr--) {
		if (!pool_cache_room(&pool))
			ck_assert_uint_ne(evict(), 0);
		enter(0, 0);
	}
}

static void hits(struct folio *folio, unsigned int nr)
{
	while (nr--)
		pool_hit(&pool, folio);
}

START_TEST(who_came_first_goes_first)
{
	uint64_t keys[200];

	for (unsigned int i = 0; i < 200; i++)
		keys[i] = enter(0, 0)->key;
	for (unsigned int i = 0; i < 200; i++)
		ck_assert_uint_eq(evict(), keys[i]);
	ck_assert_uint_eq(evict(), 0);
	ck_assert_uint_eq(pool.evictions, 200);
}
END_TEST

START_TEST(hits_of_the_first_burst_do_not_count)
{
	struct folio *folio;
	uint64_t key;

	enter(0, 0);
	scan(20);
	ck_assert_uint_gt(pool.window, 0);
	folio = enter(0, 0);
	key = folio->key;
	hits(folio, 10);
	ck_assert_uint_eq(folio->freq, 0);
	while (pool.small.pages) {
		if (pool.small.tail == pool_frame(&pool, folio)) {
			ck_assert_uint_eq(evict(), key);
			return;
		}
		evict();
	}
	ck_abort_msg("it went to main");
}
END_TEST

START_TEST(hits_that_count_lead_to_main)
{
	struct folio *never = enter(0, 0), *often = enter(0, 0);

	scan(PAGES / 5);	/* both are out of the window by now */
	hits(often, 5);
	ck_assert_uint_eq(often->freq, 3);
	ck_assert_uint_eq(evict(), never->key);
	evict();
	ck_assert_int_eq(often->queue, QUEUE_MAIN);
}
END_TEST

START_TEST(a_ghost_comes_back_to_main)
{
	struct folio *folio = enter(0, 0);
	uint64_t key = folio->key;

	scan(10);
	ck_assert_uint_eq(evict(), key);
	folio = enter(0, key);
	ck_assert_int_eq(folio->queue, QUEUE_MAIN);
	/* Once: it is no ghost any more. */
	pool_dequeue(&pool, folio);
	pool_enqueue(&pool, folio);
	ck_assert_int_eq(folio->queue, QUEUE_SMALL);
}
END_TEST

START_TEST(a_ghost_is_forgotten_after_its_time)
{
	struct folio *folio = enter(0, 0);
	uint64_t key = folio->key;

	scan(10);
	ck_assert_uint_eq(evict(), key);
	for (unsigned int i = 0; i < pool.ghost_pages + 100; i++) {
		enter(0, 0);
		ck_assert_uint_ne(evict(), 0);
	}
	ck_assert_int_eq(enter(0, key)->queue, QUEUE_SMALL);
}
END_TEST

START_TEST(a_scan_does_not_drive_out_what_is_used)
{
	struct folio *hot[PAGES / 2];
	unsigned int kept = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(hot); i++)
		hot[i] = enter(0, 0);
	scan(PAGES / 10);
	for (unsigned int i = 0; i < ARRAY_SIZE(hot); i++)
		hits(hot[i], 3);
	scan(PAGES * 5);
	for (unsigned int i = 0; i < ARRAY_SIZE(hot); i++)
		kept += hot[i]->queue == QUEUE_MAIN;
	ck_assert_uint_eq(kept, ARRAY_SIZE(hot));
	ck_assert_uint_eq(pool.main.pages, ARRAY_SIZE(hot));
	ck_assert_uint_eq(pool.small.pages, PAGES - ARRAY_SIZE(hot));
}
END_TEST

START_TEST(who_was_chosen_but_busy_goes_once_idle)
{
	struct folio *busy = enter(0, 0), *next = enter(0, 0);
	struct victim victim;

	enter(0, 0);
	busy->dirty = 1;
	ck_assert_uint_eq(pool_victims(&pool, 1, &victim, 1), 1);
	ck_assert_uint_eq(victim.frame, pool_frame(&pool, busy));
	pool_keep(&pool, busy);
	ck_assert_int_eq(busy->queue, QUEUE_LEAVING_SMALL);
	ck_assert_uint_eq(pool.leaving.pages, 1);
	/* Still busy: the next one in turn. */
	ck_assert_uint_eq(evict(), next->key);
	busy->dirty = 0;
	ck_assert_uint_eq(evict(), busy->key);
	ck_assert_uint_eq(pool.leaving.pages, 0);
}
END_TEST

START_TEST(hits_save_who_was_leaving)
{
	struct folio *busy = enter(0, 0);
	struct victim victim;

	scan(PAGES / 5);
	busy->pins = 1;
	ck_assert_uint_eq(pool_victims(&pool, 1, &victim, 1), 1);
	pool_keep(&pool, busy);
	busy->pins = 0;
	hits(busy, 3);
	ck_assert_uint_ne(evict(), busy->key);
	ck_assert_int_eq(busy->queue, QUEUE_MAIN);
}
END_TEST

START_TEST(large_folios_weigh_their_pages)
{
	struct victim victims[8];
	struct folio *folio;

	enter(6, 0);
	enter(0, 0);
	folio = enter(4, 0);
	ck_assert_uint_eq(pool.small.pages, 64 + 1 + 16);
	ck_assert_uint_eq(folio->q_seq, 64 + 1 + 16);
	/* The first alone is enough for 64 pages. */
	ck_assert_uint_eq(pool_victims(&pool, 64, victims, 8), 1);
	ck_assert_uint_eq(pool_victims(&pool, 2, victims, 8), 2);
	ck_assert_uint_eq(pool.small.pages, 0);
}
END_TEST

START_TEST(a_copy_takes_the_place_in_the_queue)
{
	struct folio *a = enter(0, 0), *b = enter(0, 0), *c = enter(0, 0);
	struct folio *copy = pool_folio(&pool, pool_alloc(&pool, POOL_CACHE, 0,
							  false));
	uint64_t keys[] = { a->key, b->key, c->key };

	copy->key = b->key;
	pool_replace(&pool, b, copy);
	ck_assert_int_eq(b->queue, QUEUE_NONE);
	for (unsigned int i = 0; i < 3; i++)
		ck_assert_uint_eq(evict(), keys[i]);
	ck_assert_uint_eq(evict(), 0);
	ck_assert_uint_eq(pool.small.pages, 0);
}
END_TEST

START_TEST(a_copy_of_one_that_was_chosen_can_still_go)
{
	struct folio *old = enter(0, 0);
	struct folio *copy = pool_folio(&pool, pool_alloc(&pool, POOL_CACHE, 0,
							  false));
	struct victim victim;

	/* Between the choice and the act somebody copied it. */
	ck_assert_uint_eq(pool_victims(&pool, 1, &victim, 1), 1);
	copy->key = old->key;
	pool_replace(&pool, old, copy);
	ck_assert_uint_eq(evict(), copy->key);
}
END_TEST

START_TEST(random_changes_leave_the_queues_in_order)
{
	struct folio *folios[PAGES] = { NULL };
	struct random rnd;
	unsigned int out = 0;

	random_init(&rnd, test_seed("queues"));
	for (unsigned int i = 0; i < 50000; i++) {
		unsigned int n = (unsigned int)random_below(&rnd, 300);
		struct victim victims[4];
		unsigned int nr;

		if (!folios[n]) {
			if (pool_cache_room(&pool) >= 4)
				folios[n] = enter(n % 3, folio_key(2, 0) +
						  n * 4);
		} else if (random_one_in(&rnd, 2)) {
			hits(folios[n], 1);
		} else {
			folios[n]->pins = (uint32_t)random_below(&rnd, 2);
		}
		if (random_below(&rnd, 3))
			continue;
		nr = pool_victims(&pool, 1 + random_below(&rnd, 6), victims, 4);
		for (unsigned int v = 0; v < nr; v++) {
			struct folio *folio = pool_folio(&pool,
							 victims[v].frame);

			n = (unsigned int)(victims[v].key - folio_key(2, 0)) /
			    4;
			ck_assert_ptr_eq(folios[n], folio);
			if (folio->pins) {
				pool_keep(&pool, folio);
				continue;
			}
			pool_evicted(&pool, folio);
			pool_dequeue(&pool, folio);
			pool_free(&pool, victims[v].frame);
			folios[n] = NULL;
			out++;
		}
	}
	ck_assert_uint_gt(out, 1000);
	ck_assert_uint_eq(pool.small.pages + pool.main.pages +
			  pool.leaving.pages, pool.cached_pages);
	/* Unpinned, all of them can go. */
	for (unsigned int i = 0; i < 300; i++)
		if (folios[i])
			folios[i]->pins = 0;
	while (evict())
		;
	ck_assert_uint_eq(pool.cached_pages, 0);
}
END_TEST

static Suite *pool_suite(void)
{
	Suite *suite = suite_create("pool");
	TCase *tc = tcase_create("buddies");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_new_pool_is_all_free);
	tcase_add_test(tc, no_frame_is_given_twice_and_buddies_join_again);
	tcase_add_test(tc, the_budgets_are_apart);
	tcase_add_test(tc, an_adopted_folio_changes_budgets);
	suite_add_tcase(suite, tc);
	tc = tcase_create("eviction");
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, who_came_first_goes_first);
	tcase_add_test(tc, hits_of_the_first_burst_do_not_count);
	tcase_add_test(tc, hits_that_count_lead_to_main);
	tcase_add_test(tc, a_ghost_comes_back_to_main);
	tcase_add_test(tc, a_ghost_is_forgotten_after_its_time);
	tcase_add_test(tc, a_scan_does_not_drive_out_what_is_used);
	tcase_add_test(tc, who_was_chosen_but_busy_goes_once_idle);
	tcase_add_test(tc, hits_save_who_was_leaving);
	tcase_add_test(tc, large_folios_weigh_their_pages);
	tcase_add_test(tc, a_copy_takes_the_place_in_the_queue);
	tcase_add_test(tc, a_copy_of_one_that_was_chosen_can_still_go);
	tcase_add_test(tc, random_changes_leave_the_queues_in_order);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	SRunner *runner = srunner_create(pool_suite());
	int failed;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
