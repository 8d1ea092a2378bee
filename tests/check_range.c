/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_range.c - the range lock excludes what conflicts, and is fair.
 *
 * The order of things is tested on a virtual loop, where a deadlock shows as
 * -EDEADLK; that no access is left unordered, with threads (for TSan).
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cache/range.h"
#include "tests/corun.h"

/* ---- single steps: a few coroutines, each with one range ---- */

enum actor_state {
	ACTOR_WAITS,
	ACTOR_HOLDS,
	ACTOR_GONE,
};

struct actor {
	struct range_lock	*rl;
	uint64_t		start, end;
	bool			exclusive;
	enum actor_state	state;
	bool			release;	/* set, then wake */
	struct coroutine	*co;
};

static void actor_main(void *arg)
{
	struct actor *actor = arg;
	struct range range;

	actor->co = coroutine_self();
	if (actor->exclusive)
		range_lock_exclusive(actor->rl, &range, actor->start,
				     actor->end);
	else
		range_lock_shared(actor->rl, &range, actor->start, actor->end);
	actor->state = ACTOR_HOLDS;
	while (!actor->release)
		coroutine_yield();
	range_unlock(actor->rl, &range);
	actor->state = ACTOR_GONE;
}

static void actor_start(struct actor *actor, struct range_lock *rl,
			bool exclusive, uint64_t start, uint64_t end)
{
	*actor = (struct actor){
		.rl = rl,
		.start = start,
		.end = end,
		.exclusive = exclusive,
	};
	ck_assert_int_eq(coroutine_start(actor_main, actor), 0);
}

/* Let go, and let whoever is granted run. */
static void actor_release(struct actor *actor)
{
	ck_assert_int_eq(actor->state, ACTOR_HOLDS);
	actor->release = true;
	coroutine_wake(actor->co);
	coroutine_sleep_ns(1);
	ck_assert_int_eq(actor->state, ACTOR_GONE);
}

static void disjoint_co(void *arg)
{
	struct range_lock rl;
	struct actor a[4];

	(void)arg;
	range_lock_init(&rl);
	actor_start(&a[0], &rl, true, 0, 4096);
	actor_start(&a[1], &rl, true, 4096, 8192);
	actor_start(&a[2], &rl, false, 8192, 8193);
	actor_start(&a[3], &rl, false, 8192, UINT64_MAX);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(a[i].state, ACTOR_HOLDS);
	for (int i = 0; i < 4; i++)
		actor_release(&a[i]);
	range_lock_fini(&rl);
}

START_TEST(what_does_not_conflict_does_not_wait)
{
	ck_assert_int_eq(corun_virtual(1, disjoint_co, NULL), 0);
}
END_TEST

static void conflict_co(void *arg)
{
	struct range_lock rl;
	struct actor a[2];

	(void)arg;
	range_lock_init(&rl);
	for (int kinds = 1; kinds < 4; kinds++) {
		/* Two that have one byte in common, at least one exclusive. */
		actor_start(&a[0], &rl, kinds & 1, 100, 201);
		actor_start(&a[1], &rl, kinds & 2, 200, 300);
		ck_assert_int_eq(a[0].state, ACTOR_HOLDS);
		ck_assert_int_eq(a[1].state, ACTOR_WAITS);
		actor_release(&a[0]);
		ck_assert_int_eq(a[1].state, ACTOR_HOLDS);
		actor_release(&a[1]);
	}
	range_lock_fini(&rl);
}

START_TEST(what_conflicts_waits_and_then_goes_on)
{
	ck_assert_int_eq(corun_virtual(1, conflict_co, NULL), 0);
}
END_TEST

static void quiet_co(void *arg)
{
	struct range_lock rl;
	struct actor s, e;

	(void)arg;
	range_lock_init(&rl);
	ck_assert(range_lock_quiet(&rl));
	actor_start(&s, &rl, false, 0, 10);
	ck_assert(range_lock_quiet(&rl));
	/* Announced as soon as it is wanted. */
	actor_start(&e, &rl, true, 5, 15);
	ck_assert_int_eq(e.state, ACTOR_WAITS);
	ck_assert(!range_lock_quiet(&rl));
	actor_release(&s);
	ck_assert_int_eq(e.state, ACTOR_HOLDS);
	ck_assert(!range_lock_quiet(&rl));
	actor_release(&e);
	ck_assert(range_lock_quiet(&rl));
	range_lock_fini(&rl);
}

START_TEST(quiet_tells_of_exclusive_holders_and_those_who_wait)
{
	ck_assert_int_eq(corun_virtual(1, quiet_co, NULL), 0);
}
END_TEST

static void fifo_co(void *arg)
{
	struct range_lock rl;
	struct actor a[6];

	(void)arg;
	range_lock_init(&rl);
	/* Kinds as they come: S E S S E S, all on the same bytes. */
	actor_start(&a[0], &rl, false, 0, 10);
	actor_start(&a[1], &rl, true, 0, 10);
	actor_start(&a[2], &rl, false, 0, 10);
	actor_start(&a[3], &rl, false, 5, 6);
	actor_start(&a[4], &rl, true, 0, 10);
	actor_start(&a[5], &rl, false, 0, 10);
	ck_assert_int_eq(a[0].state, ACTOR_HOLDS);
	for (int i = 1; i < 6; i++)
		ck_assert_int_eq(a[i].state, ACTOR_WAITS);
	actor_release(&a[0]);
	ck_assert_int_eq(a[1].state, ACTOR_HOLDS);
	ck_assert_int_eq(a[2].state, ACTOR_WAITS);
	ck_assert_int_eq(a[4].state, ACTOR_WAITS);
	actor_release(&a[1]);
	/* Two shared ones at once, but not the one behind the next E. */
	ck_assert_int_eq(a[2].state, ACTOR_HOLDS);
	ck_assert_int_eq(a[3].state, ACTOR_HOLDS);
	ck_assert_int_eq(a[4].state, ACTOR_WAITS);
	ck_assert_int_eq(a[5].state, ACTOR_WAITS);
	actor_release(&a[3]);
	ck_assert_int_eq(a[4].state, ACTOR_WAITS);
	actor_release(&a[2]);
	ck_assert_int_eq(a[4].state, ACTOR_HOLDS);
	ck_assert_int_eq(a[5].state, ACTOR_WAITS);
	actor_release(&a[4]);
	actor_release(&a[5]);
	range_lock_fini(&rl);
}

START_TEST(grants_follow_the_order_of_arrival)
{
	ck_assert_int_eq(corun_virtual(1, fifo_co, NULL), 0);
}
END_TEST

static void chain_co(void *arg)
{
	struct range_lock rl;
	struct actor held, waits, apart, across;

	(void)arg;
	range_lock_init(&rl);
	actor_start(&held, &rl, true, 0, 10);
	actor_start(&waits, &rl, true, 0, 20);
	/* Free as far as holders go, but behind one who came first. */
	actor_start(&across, &rl, true, 15, 30);
	ck_assert_int_eq(across.state, ACTOR_WAITS);
	actor_start(&apart, &rl, true, 30, 40);
	ck_assert_int_eq(apart.state, ACTOR_HOLDS);
	actor_release(&apart);
	actor_release(&held);
	ck_assert_int_eq(waits.state, ACTOR_HOLDS);
	ck_assert_int_eq(across.state, ACTOR_WAITS);
	actor_release(&waits);
	actor_release(&across);
	range_lock_fini(&rl);
}

START_TEST(nobody_overtakes_one_who_waits_for_a_common_byte)
{
	ck_assert_int_eq(corun_virtual(1, chain_co, NULL), 0);
}
END_TEST

/* ---- starvation ---- */

struct crowd {
	struct range_lock	rl;
	bool			stop;
	unsigned int		running;
	unsigned int		turns;		/* grants of the crowd */
	bool			exclusive;	/* what the crowd takes */
};

/* Hold, and ask again while another of the crowd still holds. */
static void crowd_main(void *arg)
{
	struct crowd *crowd = arg;
	struct range range;

	while (!crowd->stop) {
		if (crowd->exclusive)
			range_lock_exclusive(&crowd->rl, &range, 0, 100);
		else
			range_lock_shared(&crowd->rl, &range, 0, 100);
		crowd->turns++;
		coroutine_sleep_ns(1 + crowd->turns % 7);
		range_unlock(&crowd->rl, &range);
	}
	crowd->running--;
}

static void starve_co(void *arg)
{
	struct crowd *crowd = arg;
	struct range range;
	unsigned int before;

	range_lock_init(&crowd->rl);
	for (int i = 0; i < 5; i++) {
		crowd->running++;
		ck_assert_int_eq(coroutine_start(crowd_main, crowd), 0);
	}
	coroutine_sleep_ns(100);
	for (int i = 0; i < 20; i++) {
		before = crowd->turns;
		if (crowd->exclusive)
			range_lock_shared(&crowd->rl, &range, 50, 51);
		else
			range_lock_exclusive(&crowd->rl, &range, 50, 51);
		/* At most those who had asked before. */
		ck_assert_uint_le(crowd->turns - before, 5);
		range_unlock(&crowd->rl, &range);
		coroutine_sleep_ns(10);
	}
	ck_assert_uint_gt(crowd->turns, 20);
	crowd->stop = true;
	while (crowd->running)
		coroutine_sleep_ns(1);
	range_lock_fini(&crowd->rl);
}

START_TEST(one_exclusive_is_not_starved_by_many_shared)
{
	struct crowd crowd = { .exclusive = false };

	ck_assert_int_eq(corun_virtual(2, starve_co, &crowd), 0);
}
END_TEST

START_TEST(one_shared_is_not_starved_by_many_exclusive)
{
	struct crowd crowd = { .exclusive = true };

	ck_assert_int_eq(corun_virtual(2, starve_co, &crowd), 0);
}
END_TEST

/* ---- random ranges against a model ---- */

#define CELLS		40
#define WALKERS		24
#define WALKS		200

struct request {
	TAILQ_ENTRY(request)	link;
	uint64_t		start, end;
	bool			exclusive;
};

struct model {
	struct range_lock	rl;
	struct random		rnd;
	TAILQ_HEAD(, request)	waiting;	/* in order of arrival */
	int			holders[CELLS];	/* -1: exclusive, n: shared */
	unsigned int		running;
	unsigned int		waited;
};

static bool requests_conflict(const struct request *a, const struct request *b)
{
	return (a->exclusive || b->exclusive) &&
	       a->start < b->end && b->start < a->end;
}

static void model_take(struct model *model, struct request *req)
{
	struct request *r;

	TAILQ_FOREACH(r, &model->waiting, link) {
		if (r == req)
			break;
		/* Granted already, its coroutine has not run yet: then its
		 * holders' cells are not counted, and a conflict is seen when
		 * it runs.  Else it was overtaken. */
		ck_assert(!requests_conflict(r, req));
	}
	TAILQ_REMOVE(&model->waiting, req, link);
	for (uint64_t i = req->start; i < req->end; i++) {
		if (req->exclusive) {
			ck_assert_int_eq(model->holders[i], 0);
			model->holders[i] = -1;
		} else {
			ck_assert_int_ge(model->holders[i], 0);
			model->holders[i]++;
		}
	}
}

static void model_give(struct model *model, const struct request *req)
{
	for (uint64_t i = req->start; i < req->end; i++)
		model->holders[i] -= req->exclusive ? -1 : 1;
}

static void walker_main(void *arg)
{
	struct model *model = arg;

	for (int i = 0; i < WALKS; i++) {
		struct request req;
		struct range range;

		req.start = random_below(&model->rnd, CELLS);
		req.end = req.start + 1 +
			  random_below(&model->rnd, CELLS - req.start);
		req.exclusive = random_one_in(&model->rnd, 3);
		TAILQ_INSERT_TAIL(&model->waiting, &req, link);
		if (req.exclusive) {
			range_lock_exclusive(&model->rl, &range, req.start,
					     req.end);
		} else {
			uint64_t asked_ns = clock_now_ns();

			range_lock_shared(&model->rl, &range, req.start,
					  req.end);
			model->waited += clock_now_ns() != asked_ns;
		}
		model_take(model, &req);
		coroutine_sleep_ns(random_below(&model->rnd, 30));
		model_give(model, &req);
		range_unlock(&model->rl, &range);
		coroutine_sleep_ns(random_below(&model->rnd, 30));
	}
	model->running--;
}

static void model_co(void *arg)
{
	struct model *model = arg;

	range_lock_init(&model->rl);
	TAILQ_INIT(&model->waiting);
	for (int i = 0; i < WALKERS; i++) {
		model->running++;
		ck_assert_int_eq(coroutine_start(walker_main, model), 0);
	}
	while (model->running)
		coroutine_sleep_ns(100);
	ck_assert(range_lock_quiet(&model->rl));
	ck_assert_uint_gt(model->waited, 0);
	range_lock_fini(&model->rl);
}

START_TEST(random_ranges_exclude_each_other_in_order_of_arrival)
{
	uint64_t seed = test_seed("range");

	for (unsigned int i = 0; i < 10; i++) {
		struct model model = { 0 };

		random_init(&model.rnd, seed + i);
		ck_assert_int_eq(corun_virtual(seed + i, model_co, &model), 0);
	}
}
END_TEST

/* ---- threads ---- */

#define THREADS		3
#define PER_THREAD	6
#define ROUNDS		150

struct arena {
	struct range_lock	rl;
	/* Plain bytes: guarded by the ranges alone. */
	uint64_t		cells[CELLS];
	uint64_t		sums[CELLS];
};

struct worker {
	pthread_t	thread;
	struct arena	*arena;
	struct random	rnd;
	unsigned int	running;
	uint64_t	torn;		/* readers who saw half a change */
	uint64_t	added;
};

static void worker_turn(struct worker *w)
{
	struct arena *arena = w->arena;
	uint64_t start = random_below(&w->rnd, CELLS);
	uint64_t end = start + 1 + random_below(&w->rnd, CELLS - start);
	struct range range;

	if (random_one_in(&w->rnd, 2)) {
		range_lock_exclusive(&arena->rl, &range, start, end);
		for (uint64_t i = start; i < end; i++) {
			arena->cells[i]++;
			w->added++;
		}
		if (random_one_in(&w->rnd, 2))
			coroutine_relax();
		for (uint64_t i = start; i < end; i++)
			arena->sums[i]++;
	} else {
		range_lock_shared(&arena->rl, &range, start, end);
		for (uint64_t i = start; i < end; i++)
			w->torn += arena->cells[i] != arena->sums[i];
		if (random_one_in(&w->rnd, 2))
			coroutine_relax();
	}
	range_unlock(&arena->rl, &range);
}

static void worker_co(void *arg)
{
	struct worker *w = arg;

	for (int i = 0; i < ROUNDS; i++)
		worker_turn(w);
	w->running--;
}

static void worker_all_co(void *arg)
{
	struct worker *w = arg;

	for (int i = 0; i < PER_THREAD; i++) {
		w->running++;
		if (coroutine_start(worker_co, w))
			abort();
	}
	while (w->running)
		coroutine_sleep_ns(NSEC_PER_MSEC);
}

static void *worker_thread(void *arg)
{
	struct worker *w = arg;
	struct loop *loop;

	if (loop_new(&loop))
		abort();
	corun(loop, worker_all_co, w);
	loop_free(loop);
	return NULL;
}

START_TEST(threads_exclude_each_other)
{
	uint64_t seed = test_seed("range threads");
	struct arena arena = { 0 };
	struct worker workers[THREADS];
	uint64_t added = 0, sum = 0;

	range_lock_init(&arena.rl);
	for (unsigned int i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){ .arena = &arena };
		random_init(&workers[i].rnd, seed + i);
		ck_assert_int_eq(pthread_create(&workers[i].thread, NULL,
						worker_thread, &workers[i]),
				 0);
	}
	for (unsigned int i = 0; i < THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		ck_assert_uint_eq(workers[i].torn, 0);
		added += workers[i].added;
	}
	for (unsigned int i = 0; i < CELLS; i++)
		sum += arena.cells[i];
	ck_assert_uint_eq(sum, added);
	ck_assert(range_lock_quiet(&arena.rl));
	range_lock_fini(&arena.rl);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("range");
	TCase *tc = tcase_create("range");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, what_does_not_conflict_does_not_wait);
	tcase_add_test(tc, what_conflicts_waits_and_then_goes_on);
	tcase_add_test(tc, quiet_tells_of_exclusive_holders_and_those_who_wait);
	tcase_add_test(tc, grants_follow_the_order_of_arrival);
	tcase_add_test(tc, nobody_overtakes_one_who_waits_for_a_common_byte);
	tcase_add_test(tc, one_exclusive_is_not_starved_by_many_shared);
	tcase_add_test(tc, one_shared_is_not_starved_by_many_exclusive);
	tcase_add_test(tc,
		       random_ranges_exclude_each_other_in_order_of_arrival);
	tcase_add_test(tc, threads_exclude_each_other);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
