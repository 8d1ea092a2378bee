/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_loop.c - turns, work, hooks, timers and sleep of both kinds of loop.
 *
 * It looks into struct loop for two things that no caller can see: whether
 * the loop sleeps, and how often its eventfd was written.
 */
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "base/sched.h"

static struct loop *loop;
static unsigned int nr_calls;

static void setup_real(void)
{
	ck_assert_int_eq(loop_new(&loop), 0);
	nr_calls = 0;
}

static void setup_virtual(void)
{
	ck_assert_int_eq(loop_new_virtual(1, &loop), 0);
	nr_calls = 0;
}

static void teardown(void)
{
	loop_free(loop);
	ck_assert_ptr_null(loop_current());
}

static void stop_loop(struct work *work)
{
	(void)work;
	loop_stop(loop);
}

/* ----- For both kinds of loop ----- */

START_TEST(current_is_the_loop_that_runs_or_was_entered)
{
	ck_assert_ptr_null(loop_current());
	loop_enter(loop);
	ck_assert_ptr_eq(loop_current(), loop);
	loop_enter(NULL);
	ck_assert_ptr_null(loop_current());
	loop_stop(loop);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_ptr_null(loop_current());
}
END_TEST

static void check_current(struct work *work)
{
	(void)work;
	ck_assert_ptr_eq(loop_current(), loop);
	nr_calls++;
}

START_TEST(a_stop_before_the_run_leaves_one_turn)
{
	struct work work = { .fn = check_current };

	loop_post(loop, &work);
	loop_stop(loop);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_eq(nr_calls, 1);
	ck_assert_uint_eq(loop_turns(loop), 1);
	/* And the stop is used up. */
	loop_post(loop, &work);
	loop_stop(loop);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_eq(nr_calls, 2);
}
END_TEST

static void count_call(struct work *work)
{
	(void)work;
	nr_calls++;
}

START_TEST(work_queued_twice_is_called_once)
{
	struct work work = { .fn = count_call };

	loop_post(loop, &work);
	loop_post(loop, &work);
	loop_enter(loop);
	loop_defer(&work);
	loop_post(loop, &work);
	ck_assert(work.queued);
	loop_enter(NULL);
	ck_assert_uint_eq(nr_calls, 0);
	loop_stop(loop);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_eq(nr_calls, 1);
	ck_assert(!work.queued);
}
END_TEST

static void defer_again(struct work *work)
{
	ck_assert(!work->queued);
	if (++nr_calls < 5)
		loop_defer(work);
	else
		loop_stop(loop);
}

START_TEST(work_may_queue_itself_again)
{
	struct work work = { .fn = defer_again };

	loop_post(loop, &work);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_eq(nr_calls, 5);
}
END_TEST

struct hook_test {
	struct turn_hook	hook;
	struct turn_hook	*victim;
	struct work		*work;
	unsigned int		nr_calls;
};

static void call_hook(struct turn_hook *hook)
{
	struct hook_test *test = container_of(hook, struct hook_test, hook);

	if (test->victim) {
		loop_del_hook(loop, test->victim);
		test->victim = NULL;
	}
	if (test->work) {
		loop_defer(test->work);
		test->work = NULL;
	}
	test->nr_calls++;
}

START_TEST(hooks_are_called_each_turn_and_may_delete_any)
{
	struct hook_test hooks[4] = {
		{ .hook.fn = call_hook }, { .hook.fn = call_hook },
		{ .hook.fn = call_hook }, { .hook.fn = call_hook },
	};

	for (int i = 0; i < 4; i++)
		loop_add_hook(loop, &hooks[i].hook);
	hooks[0].victim = &hooks[0].hook;	/* itself */
	hooks[1].victim = &hooks[2].hook;	/* the one that comes next */
	for (int i = 0; i < 3; i++) {
		loop_stop(loop);
		ck_assert_int_eq(loop_run(loop), 0);
	}
	ck_assert_uint_eq(hooks[0].nr_calls, 1);
	ck_assert_uint_eq(hooks[1].nr_calls, 3);
	ck_assert_uint_eq(hooks[2].nr_calls, 0);
	ck_assert_uint_eq(hooks[3].nr_calls, 3);
	loop_del_hook(loop, &hooks[1].hook);
	loop_del_hook(loop, &hooks[3].hook);
}
END_TEST

START_TEST(what_a_hook_makes_runnable_runs_before_the_wait)
{
	struct work stop = { .fn = stop_loop };
	struct hook_test test = { .hook.fn = call_hook, .work = &stop };

	/* Nothing else would ever wake the loop up. */
	loop_add_hook(loop, &test.hook);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_eq(test.nr_calls, 2);
	loop_del_hook(loop, &test.hook);
}
END_TEST

struct timer_test {
	struct timer	timer;
	unsigned int	order;		/* 1 for the first to fire */
	bool		last;
};

static void fire_timer(struct timer *timer)
{
	struct timer_test *test = container_of(timer, struct timer_test, timer);

	ck_assert(!timer_armed(timer));
	ck_assert_uint_ge(clock_turn_ns(), timer->when_ns);
	test->order = ++nr_calls;
	if (test->last)
		loop_stop(loop);
}

START_TEST(timers_fire_in_the_order_of_their_times)
{
	static const unsigned int ms[] = { 7, 1, 12, 3, 9, 5, 2, 11 };
	static const unsigned int order[] = { 5, 1, 8, 3, 6, 4, 2, 7 };
	struct timer_test tests[ARRAY_SIZE(ms)] = { 0 };
	uint64_t start;

	loop_enter(loop);
	start = clock_now_ns();
	for (unsigned int i = 0; i < ARRAY_SIZE(ms); i++) {
		timer_init(&tests[i].timer, fire_timer);
		ck_assert(!timer_armed(&tests[i].timer));
		timer_arm(&tests[i].timer, start + ms[i] * NSEC_PER_MSEC);
		ck_assert(timer_armed(&tests[i].timer));
	}
	tests[2].last = true;
	loop_enter(NULL);
	ck_assert_int_eq(loop_run(loop), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(ms); i++)
		ck_assert_uint_eq(tests[i].order, order[i]);
}
END_TEST

START_TEST(timers_can_be_moved_and_cancelled)
{
	struct timer_test tests[4] = { 0 };
	uint64_t start;

	loop_enter(loop);
	start = clock_now_ns();
	for (unsigned int i = 0; i < 4; i++)
		timer_init(&tests[i].timer, fire_timer);
	timer_cancel(&tests[0].timer);
	timer_arm(&tests[0].timer, start + 2 * NSEC_PER_MSEC);
	timer_arm(&tests[1].timer, start + 1 * NSEC_PER_MSEC);
	timer_arm(&tests[2].timer, UINT64_MAX);
	timer_arm(&tests[3].timer, start + 5 * NSEC_PER_MSEC);
	/* Behind the first, to nowhere, and to the past. */
	timer_arm(&tests[1].timer, start + 4 * NSEC_PER_MSEC);
	timer_cancel(&tests[0].timer);
	timer_arm(&tests[2].timer, 0);
	tests[3].last = true;
	loop_enter(NULL);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_eq(tests[0].order, 0);
	ck_assert_uint_eq(tests[2].order, 1);
	ck_assert_uint_eq(tests[1].order, 2);
	ck_assert_uint_eq(tests[3].order, 3);
}
END_TEST

static void rearm_for_the_past(struct timer *timer)
{
	if (++nr_calls < 100)
		timer_arm(timer, 0);
	else
		loop_stop(loop);
}

START_TEST(a_timer_always_due_leaves_the_others_their_turns)
{
	struct timer timer;

	timer_init(&timer, rearm_for_the_past);
	loop_enter(loop);
	timer_arm(&timer, 0);
	loop_enter(NULL);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_eq(nr_calls, 100);
	ck_assert_uint_eq(loop_turns(loop), 100);
}
END_TEST

static void defer_forever(struct work *work)
{
	nr_calls++;
	loop_defer(work);
}

START_TEST(endless_work_does_not_starve_timers)
{
	struct timer_test test = { .last = true };
	static struct work work = { .fn = defer_forever };

	timer_init(&test.timer, fire_timer);
	loop_enter(loop);
	timer_arm(&test.timer, clock_now_ns() + NSEC_PER_MSEC);
	loop_defer(&work);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_gt(test.order, 0);
	ck_assert(work.queued);
}
END_TEST

static void never_ends(void *arg)
{
	(void)arg;
	for (;;)
		coroutine_yield();
}

START_TEST(freeing_a_loop_drops_what_did_not_end)
{
	struct loop *doomed;
	struct work work = { .fn = count_call };

	if (loop_is_virtual(loop))
		ck_assert_int_eq(loop_new_virtual(2, &doomed), 0);
	else
		ck_assert_int_eq(loop_new(&doomed), 0);
	loop_enter(doomed);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(coroutine_start(never_ends, NULL), 0);
	loop_defer(&work);
	ck_assert_uint_eq(coroutine_count(), 10);
	loop_free(doomed);
	ck_assert_uint_eq(coroutine_count(), 0);
	ck_assert_ptr_null(loop_current());
	ck_assert_uint_eq(nr_calls, 0);
	ck_assert(!work.queued);
}
END_TEST

/* ----- Real loops: clock, libevent and other threads ----- */

START_TEST(a_real_loop_has_an_event_base)
{
	ck_assert(!loop_is_virtual(loop));
	ck_assert_ptr_nonnull(loop_event_base(loop));
}
END_TEST


static uint64_t last_turn_ns;

static void check_turn_clock(struct turn_hook *hook)
{
	uint64_t turn = clock_turn_ns(), now = clock_now_ns();

	(void)hook;
	ck_assert_uint_gt(turn, last_turn_ns);
	ck_assert_uint_le(turn, now);
	while (clock_now_ns() == now)
		;
	ck_assert_uint_eq(clock_turn_ns(), turn);
	last_turn_ns = turn;
}

static void relax_three_times(void *arg)
{
	(void)arg;
	for (int i = 0; i < 3; i++)
		coroutine_relax();
	loop_stop(loop);
}

START_TEST(the_turn_clock_stands_still_within_a_turn)
{
	struct turn_hook hook = { .fn = check_turn_clock };

	ck_assert_uint_le(clock_now_ns(), clock_turn_ns());
	loop_add_hook(loop, &hook);
	loop_enter(loop);
	ck_assert_int_eq(coroutine_start(relax_three_times, NULL), 0);
	loop_enter(NULL);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_gt(last_turn_ns, 0);
	ck_assert_uint_eq(loop_turns(loop), 3);
	loop_del_hook(loop, &hook);
}
END_TEST

static int pipe_fds[2];

static void read_pipe_in_coroutine(void *arg)
{
	char byte;

	(void)arg;
	ck_assert_ptr_nonnull(coroutine_self());
	ck_assert_int_eq((int)read(pipe_fds[0], &byte, 1), 1);
	coroutine_relax();
	nr_calls++;
	loop_stop(loop);
}

static void pipe_ready(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	ck_assert_ptr_eq(loop_current(), loop);
	ck_assert_ptr_null(coroutine_self());
	/* The time is that after the sleep, not before it. */
	ck_assert_uint_ge(clock_turn_ns(),
			  __atomic_load_n((uint64_t *)arg, __ATOMIC_RELAXED));
	ck_assert_int_eq(coroutine_start(read_pipe_in_coroutine, NULL), 0);
}

static void *write_pipe_to_sleeper(void *arg)
{
	while (!__atomic_load_n(&loop->asleep, __ATOMIC_SEQ_CST))
		usleep(100);
	__atomic_store_n((uint64_t *)arg, clock_now_ns(), __ATOMIC_RELAXED);
	ck_assert_int_eq((int)write(pipe_fds[1], "x", 1), 1);
	return NULL;
}

START_TEST(an_event_of_libevent_ends_the_sleep)
{
	struct event *event;
	uint64_t written_ns = 0;
	pthread_t thread;

	ck_assert_int_eq(pipe(pipe_fds), 0);
	event = event_new(loop_event_base(loop), pipe_fds[0],
			  EV_READ | EV_PERSIST, pipe_ready, &written_ns);
	ck_assert_ptr_nonnull(event);
	ck_assert_int_eq(event_add(event, NULL), 0);
	pthread_create(&thread, NULL, write_pipe_to_sleeper, &written_ns);
	ck_assert_int_eq(loop_run(loop), 0);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(nr_calls, 1);
	event_free(event);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}
END_TEST

static void *stop_sleeper(void *arg)
{
	while (!__atomic_load_n(&loop->asleep, __ATOMIC_SEQ_CST))
		usleep(100);
	loop_stop(loop);
	return arg;
}

START_TEST(stop_from_another_thread_ends_the_sleep)
{
	for (int i = 0; i < 20; i++) {
		pthread_t thread;

		pthread_create(&thread, NULL, stop_sleeper, NULL);
		ck_assert_int_eq(loop_run(loop), 0);
		pthread_join(thread, NULL);
	}
}
END_TEST

/* How often the eventfd was written since the last call. */
static uint64_t nr_wake_writes(void)
{
	uint64_t n = 0;

	if (read(loop->wake_fd, &n, sizeof(n)) < 0)
		ck_assert_int_eq(errno, EAGAIN);
	return n;
}

#define NR_WORKS	100

static struct work works[NR_WORKS];

static void *post_works(void *arg)
{
	for (int i = 0; i < NR_WORKS; i++)
		loop_post(loop, &works[i]);
	return arg;
}

static void watch_posts(struct work *work)
{
	pthread_t thread;

	(void)work;
	nr_wake_writes();
	pthread_create(&thread, NULL, post_works, NULL);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(nr_wake_writes(), 0);
}

static void count_works(struct work *work)
{
	(void)work;
	if (++nr_calls == NR_WORKS)
		loop_stop(loop);
}

START_TEST(an_awake_loop_costs_a_poster_no_write)
{
	struct work watch = { .fn = watch_posts };

	for (int i = 0; i < NR_WORKS; i++)
		works[i].fn = count_works;
	loop_post(loop, &watch);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_eq(nr_calls, NR_WORKS);
}
END_TEST

static void *post_to_sleeper(void *arg)
{
	while (!__atomic_load_n(&loop->asleep, __ATOMIC_SEQ_CST))
		usleep(100);
	loop_post(loop, arg);
	return NULL;
}

START_TEST(a_sleeping_loop_costs_a_poster_one_write)
{
	struct work stop = { .fn = stop_loop };
	pthread_t thread;

	pthread_create(&thread, NULL, post_to_sleeper, &stop);
	ck_assert_int_eq(loop_run(loop), 0);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(nr_wake_writes(), 1);
}
END_TEST

#define NR_STORMERS	4
#define NR_POSTS	5000

/* Each thread counts up, then posts: no post may leave its count unseen. */
struct stormer {
	struct work	work;
	unsigned int	sent;		/* atomic */
	unsigned int	seen;		/* by the loop's thread */
};

static struct stormer stormers[NR_STORMERS];

static void storm_arrives(struct work *work)
{
	struct stormer *stormer = container_of(work, struct stormer, work);
	unsigned int total = 0;

	stormer->seen = __atomic_load_n(&stormer->sent, __ATOMIC_RELAXED);
	for (int i = 0; i < NR_STORMERS; i++)
		total += stormers[i].seen;
	if (total == NR_STORMERS * NR_POSTS)
		loop_stop(loop);
}

static void *storm(void *arg)
{
	struct stormer *stormer = arg;

	for (unsigned int i = 1; i <= NR_POSTS; i++) {
		__atomic_store_n(&stormer->sent, i, __ATOMIC_RELAXED);
		loop_post(loop, &stormer->work);
		/* Now and then let the loop fall asleep. */
		if (i % 512 == 0)
			usleep(200);
	}
	return NULL;
}

START_TEST(no_post_of_a_storm_is_lost)
{
	pthread_t threads[NR_STORMERS];

	for (int i = 0; i < NR_STORMERS; i++) {
		stormers[i].work.fn = storm_arrives;
		pthread_create(&threads[i], NULL, storm, &stormers[i]);
	}
	ck_assert_int_eq(loop_run(loop), 0);
	for (int i = 0; i < NR_STORMERS; i++)
		pthread_join(threads[i], NULL);
}
END_TEST

START_TEST(a_cancelled_timer_costs_at_most_one_vain_turn)
{
	struct timer_test early = { 0 }, late = { .last = true };
	pthread_t thread;
	uint64_t start;

	timer_init(&early.timer, fire_timer);
	timer_init(&late.timer, fire_timer);
	loop_enter(loop);
	start = clock_now_ns();
	timer_arm(&late.timer, start + 210 * NSEC_PER_MSEC);
	timer_arm(&early.timer, start + 200 * NSEC_PER_MSEC);
	pthread_create(&thread, NULL, stop_sleeper, NULL);
	ck_assert_int_eq(loop_run(loop), 0);
	pthread_join(thread, NULL);
	/* The timerfd is set for the early one, and stays so. */
	if (!timer_armed(&early.timer)) {
		puts("too slow a machine to tell");
		timer_cancel(&late.timer);
		return;
	}
	timer_cancel(&early.timer);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_eq(early.order, 0);
	ck_assert_uint_eq(late.order, 1);
	/* Two of the first run; one before each sleep of the second, and last. */
	ck_assert_uint_le(loop_turns(loop), 2 + 3);
}
END_TEST

/* ----- Virtual loops: time and chance ----- */

START_TEST(a_virtual_loop_with_nothing_to_do_is_a_deadlock)
{
	struct work work = { .fn = count_call };

	ck_assert(loop_is_virtual(loop));
	ck_assert_ptr_null(loop_event_base(loop));
	ck_assert_int_eq(loop_run(loop), -EDEADLK);
	loop_post(loop, &work);
	ck_assert_int_eq(loop_run(loop), -EDEADLK);
	ck_assert_uint_eq(nr_calls, 1);
}
END_TEST

static void check_jump(struct timer *timer)
{
	ck_assert_uint_eq(clock_now_ns(), timer->when_ns);
	ck_assert_uint_eq(clock_turn_ns(), timer->when_ns);
	nr_calls++;
}

START_TEST(a_virtual_clock_jumps_from_timer_to_timer)
{
	struct timer timers[3];

	loop_enter(loop);
	ck_assert_uint_eq(clock_now_ns(), 0);
	ck_assert_uint_eq(clock_turn_ns(), 0);
	for (unsigned int i = 0; i < 3; i++) {
		timer_init(&timers[i], check_jump);
		timer_arm(&timers[i], (3 - i) * 3600 * NSEC_PER_SEC);
	}
	ck_assert_int_eq(loop_run(loop), -EDEADLK);
	ck_assert_uint_eq(nr_calls, 3);
	ck_assert_uint_eq(clock_now_ns(), 3 * 3600 * NSEC_PER_SEC);
	/* Elsewhere it is the machine's time that counts. */
	loop_enter(NULL);
	ck_assert_uint_ne(clock_now_ns(), 3 * 3600 * NSEC_PER_SEC);
}
END_TEST

static bool polled_done;

static void poll_until_done(void *arg)
{
	(void)arg;
	while (!polled_done)
		coroutine_relax();
	nr_calls++;
}

static void set_done(struct timer *timer)
{
	(void)timer;
	polled_done = true;
}

START_TEST(who_polls_a_virtual_loop_lets_time_pass)
{
	struct timer timer;

	timer_init(&timer, set_done);
	loop_enter(loop);
	timer_arm(&timer, 10 * NSEC_PER_MSEC + 1);
	ck_assert_int_eq(coroutine_start(poll_until_done, NULL), 0);
	ck_assert_int_eq(loop_run(loop), -EDEADLK);
	ck_assert_uint_eq(nr_calls, 1);
	ck_assert_uint_eq(clock_now_ns(), 10 * NSEC_PER_MSEC + 1);
}
END_TEST

/* What ran, by name, in the order in which it ran. */
static char trace[256];

static void trace_add(char name)
{
	size_t len = strlen(trace);

	ck_assert_uint_lt(len + 1, sizeof(trace));
	trace[len] = name;
}

struct named_work {
	struct work	work;
	struct timer	timer;
	char		name;
};

static void trace_work(struct work *work)
{
	trace_add(container_of(work, struct named_work, work)->name);
}

static void trace_timer(struct timer *timer)
{
	trace_add(container_of(timer, struct named_work, timer)->name);
}

static void trace_coroutine(void *arg)
{
	coroutine_relax();
	trace_add(*(char *)arg);
	coroutine_sleep_ns(50);
	trace_add(*(char *)arg);
}

/* Eight works, eight timers at one time and eight coroutines. */
static void run_traced(uint64_t seed, char *out)
{
	struct named_work items[16] = { 0 };
	char names[] = "ABCDEFGH";
	struct loop *traced;

	memset(trace, 0, sizeof(trace));
	ck_assert_int_eq(loop_new_virtual(seed, &traced), 0);
	loop_enter(traced);
	for (int i = 0; i < 8; i++) {
		items[i].work.fn = trace_work;
		items[i].name = (char)('0' + i);
		loop_defer(&items[i].work);
	}
	for (int i = 8; i < 16; i++) {
		timer_init(&items[i].timer, trace_timer);
		items[i].name = (char)('a' + i - 8);
		timer_arm(&items[i].timer, 10);
	}
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(coroutine_start(trace_coroutine, &names[i]),
				 0);
	ck_assert_int_eq(loop_run(traced), -EDEADLK);
	loop_free(traced);
	ck_assert_uint_eq(strlen(trace), 8 + 8 + 2 * 8);
	strcpy(out, trace);
}

START_TEST(the_same_seed_gives_the_same_order)
{
	uint64_t seed = random_seed_from_env("FOLIOD_SEED");
	char a[256], b[256];

	printf("FOLIOD_SEED=%llu\n", (unsigned long long)seed);
	for (uint64_t i = 0; i < 20; i++) {
		run_traced(seed + i, a);
		run_traced(seed + i, b);
		ck_assert_str_eq(a, b);
	}
}
END_TEST

/* Does a seed up to 200 have @first before @second? */
static bool some_seed_orders(char first, char second)
{
	char out[256];

	for (uint64_t seed = 0; seed < 200; seed++) {
		run_traced(seed, out);
		if (strchr(out, first) < strchr(out, second))
			return true;
	}
	return false;
}

START_TEST(other_seeds_give_other_orders)
{
	/* Works, coroutines, timers due at once; works and coroutines. */
	static const char pairs[][2] = {
		{ '0', '7' }, { 'A', 'H' }, { 'a', 'h' }, { '0', 'A' },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(pairs); i++) {
		ck_assert(some_seed_orders(pairs[i][0], pairs[i][1]));
		ck_assert(some_seed_orders(pairs[i][1], pairs[i][0]));
	}
}
END_TEST

#define NR_MODEL	200

struct model_timer {
	struct timer	timer;
	bool		armed;
};

static struct model_timer model[NR_MODEL];
static struct random model_rnd;
static uint64_t model_now;

/* Arm, move or cancel some of them, and note it in the model. */
static void model_change(void)
{
	for (int i = 0; i < 4; i++) {
		struct model_timer *m =
			&model[random_below(&model_rnd, NR_MODEL)];

		m->armed = !random_one_in(&model_rnd, 3);
		if (m->armed)
			timer_arm(&m->timer, model_now +
				  random_below(&model_rnd, 50));
		else
			timer_cancel(&m->timer);
	}
}

static void model_fire(struct timer *timer)
{
	struct model_timer *m = container_of(timer, struct model_timer, timer);

	ck_assert(m->armed);
	m->armed = false;
	ck_assert_uint_ge(clock_now_ns(), model_now);
	model_now = clock_now_ns();
	ck_assert_uint_eq(timer->when_ns, model_now);
	for (int i = 0; i < NR_MODEL; i++) {
		ck_assert_int_eq(model[i].armed, timer_armed(&model[i].timer));
		if (model[i].armed)
			ck_assert_uint_ge(model[i].timer.when_ns, model_now);
	}
	if (++nr_calls < 5000)
		model_change();
}

START_TEST(the_heap_agrees_with_a_list)
{
	uint64_t seed = random_seed_from_env("FOLIOD_SEED");

	printf("FOLIOD_SEED=%llu\n", (unsigned long long)seed);
	random_init(&model_rnd, seed);
	loop_enter(loop);
	for (int i = 0; i < NR_MODEL; i++)
		timer_init(&model[i].timer, model_fire);
	for (int i = 0; i < 20; i++)
		model_change();
	ck_assert_int_eq(loop_run(loop), -EDEADLK);
	ck_assert_uint_ge(nr_calls, 5000);
	for (int i = 0; i < NR_MODEL; i++)
		ck_assert(!model[i].armed);
}
END_TEST

static void add_common_tests(TCase *tc)
{
	tcase_add_test(tc, current_is_the_loop_that_runs_or_was_entered);
	tcase_add_test(tc, a_stop_before_the_run_leaves_one_turn);
	tcase_add_test(tc, work_queued_twice_is_called_once);
	tcase_add_test(tc, work_may_queue_itself_again);
	tcase_add_test(tc, hooks_are_called_each_turn_and_may_delete_any);
	tcase_add_test(tc, what_a_hook_makes_runnable_runs_before_the_wait);
	tcase_add_test(tc, timers_fire_in_the_order_of_their_times);
	tcase_add_test(tc, timers_can_be_moved_and_cancelled);
	tcase_add_test(tc, a_timer_always_due_leaves_the_others_their_turns);
	tcase_add_test(tc, freeing_a_loop_drops_what_did_not_end);
}

static void add_real_tests(TCase *tc)
{
	tcase_add_test(tc, a_real_loop_has_an_event_base);
	tcase_add_test(tc, endless_work_does_not_starve_timers);
	tcase_add_test(tc, the_turn_clock_stands_still_within_a_turn);
	tcase_add_test(tc, an_event_of_libevent_ends_the_sleep);
	tcase_add_test(tc, stop_from_another_thread_ends_the_sleep);
	tcase_add_test(tc, an_awake_loop_costs_a_poster_no_write);
	tcase_add_test(tc, a_sleeping_loop_costs_a_poster_one_write);
	tcase_add_test(tc, no_post_of_a_storm_is_lost);
	tcase_add_test(tc, a_cancelled_timer_costs_at_most_one_vain_turn);
}

static void add_virtual_tests(TCase *tc)
{
	tcase_add_test(tc, a_virtual_loop_with_nothing_to_do_is_a_deadlock);
	tcase_add_test(tc, a_virtual_clock_jumps_from_timer_to_timer);
	tcase_add_test(tc, who_polls_a_virtual_loop_lets_time_pass);
	tcase_add_test(tc, the_same_seed_gives_the_same_order);
	tcase_add_test(tc, other_seeds_give_other_orders);
	tcase_add_test(tc, the_heap_agrees_with_a_list);
}

int main(void)
{
	Suite *suite = suite_create("loop");
	TCase *real = tcase_create("real"), *virtual = tcase_create("virtual");
	SRunner *runner;
	int nr_failed;

	tcase_add_checked_fixture(real, setup_real, teardown);
	add_common_tests(real);
	add_real_tests(real);
	suite_add_tcase(suite, real);
	tcase_add_checked_fixture(virtual, setup_virtual, teardown);
	add_common_tests(virtual);
	add_virtual_tests(virtual);
	suite_add_tcase(suite, virtual);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	nr_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return nr_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
