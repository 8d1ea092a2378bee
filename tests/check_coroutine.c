/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_coroutine.c - start, yield, wake, and the stacks of coroutines.
 *
 * The pool of stacks is seen from outside: each stack has a guard page, which
 * is a line of its own in /proc/self/maps.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/base.h"
#include "base/context.h"

#if defined(CONTEXT_ASAN) || defined(CONTEXT_TSAN)
#define SANITIZED	1
#endif

static struct loop *loop;
/* What ran, by name, in the order in which it ran. */
static char trace[64];

static void setup_real(void)
{
	ck_assert_int_eq(loop_new(&loop), 0);
	loop_enter(loop);
	memset(trace, 0, sizeof(trace));
}

static void setup_virtual(void)
{
	ck_assert_int_eq(loop_new_virtual(1, &loop), 0);
	loop_enter(loop);
	memset(trace, 0, sizeof(trace));
}

static void teardown(void)
{
	ck_assert_uint_eq(coroutine_count(), 0);
	loop_free(loop);
}

static void trace_add(char name)
{
	size_t len = strlen(trace);

	ck_assert_uint_lt(len + 1, sizeof(trace));
	trace[len] = name;
}

/* Run until what is runnable has run, timers aside. */
static void run_turn(void)
{
	loop_stop(loop);
	ck_assert_int_eq(loop_run(loop), 0);
}

static void end_at_once(void *arg)
{
	*(struct coroutine **)arg = coroutine_self();
	ck_assert_uint_eq(coroutine_count(), 1);
}

START_TEST(a_coroutine_runs_at_once_until_it_ends)
{
	struct coroutine *co = NULL;

	ck_assert_ptr_null(coroutine_self());
	ck_assert_uint_eq(coroutine_count(), 0);
	ck_assert_int_eq(coroutine_start(end_at_once, &co), 0);
	ck_assert_ptr_nonnull(co);
	ck_assert_ptr_null(coroutine_self());
	ck_assert_uint_eq(coroutine_count(), 0);
}
END_TEST

static struct coroutine *sleeper;

static void yield_three_times(void *arg)
{
	(void)arg;
	sleeper = coroutine_self();
	for (int name = '1'; name < '4'; name++) {
		trace_add(name);
		coroutine_yield();
		ck_assert_ptr_eq(coroutine_self(), sleeper);
	}
	trace_add('e');
}

START_TEST(a_wake_makes_it_run_later_and_never_inside_the_call)
{
	ck_assert_int_eq(coroutine_start(yield_three_times, NULL), 0);
	ck_assert_str_eq(trace, "1");
	run_turn();
	ck_assert_str_eq(trace, "1");
	coroutine_wake(sleeper);
	ck_assert_str_eq(trace, "1");
	run_turn();
	ck_assert_str_eq(trace, "12");
	ck_assert_uint_eq(coroutine_count(), 1);
	/* Woken twice, it is queued once. */
	coroutine_wake(sleeper);
	coroutine_wake(sleeper);
	run_turn();
	ck_assert_str_eq(trace, "123");
	run_turn();
	ck_assert_str_eq(trace, "123");
	coroutine_wake(sleeper);
	run_turn();
	ck_assert_str_eq(trace, "123e");
}
END_TEST

static void wake_oneself(void *arg)
{
	(void)arg;
	sleeper = coroutine_self();
	coroutine_wake(sleeper);
	coroutine_wake(sleeper);
	trace_add('a');
	coroutine_yield();
	trace_add('b');
	coroutine_yield();
	trace_add('c');
	/* Nobody remembers this one. */
	coroutine_wake(sleeper);
}

START_TEST(a_wake_while_running_is_remembered_once)
{
	ck_assert_int_eq(coroutine_start(wake_oneself, NULL), 0);
	ck_assert_str_eq(trace, "ab");
	run_turn();
	ck_assert_str_eq(trace, "ab");
	coroutine_wake(sleeper);
	run_turn();
	ck_assert_str_eq(trace, "abc");
	run_turn();
}
END_TEST

static struct coroutine *outer;

static void inner_fn(void *arg)
{
	(void)arg;
	sleeper = coroutine_self();
	ck_assert_ptr_ne(sleeper, outer);
	trace_add('i');
	/* The outer one is not idle while it waits for us to yield. */
	coroutine_wake(outer);
	coroutine_yield();
	trace_add('j');
}

static void outer_fn(void *arg)
{
	(void)arg;
	outer = coroutine_self();
	trace_add('o');
	ck_assert_int_eq(coroutine_start(inner_fn, NULL), 0);
	ck_assert_ptr_eq(coroutine_self(), outer);
	ck_assert_uint_eq(coroutine_count(), 2);
	trace_add('p');
	coroutine_yield();
	trace_add('q');
	coroutine_wake(sleeper);
}

START_TEST(a_coroutine_may_start_another)
{
	ck_assert_int_eq(coroutine_start(outer_fn, NULL), 0);
	ck_assert_str_eq(trace, "oipq");
	ck_assert_uint_eq(coroutine_count(), 1);
	run_turn();
	ck_assert_str_eq(trace, "oipqj");
}
END_TEST

struct named {
	struct coroutine	*co;
	char			name;
};

static void trace_after_yield(void *arg)
{
	struct named *named = arg;

	named->co = coroutine_self();
	coroutine_yield();
	trace_add(named->name);
}

START_TEST(woken_coroutines_run_in_the_order_of_their_wakes)
{
	struct named named[5] = {
		{ .name = 'a' }, { .name = 'b' }, { .name = 'c' },
		{ .name = 'd' }, { .name = 'e' },
	};

	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(coroutine_start(trace_after_yield, &named[i]),
				 0);
	coroutine_wake(named[3].co);
	coroutine_wake(named[0].co);
	coroutine_wake(named[4].co);
	coroutine_wake(named[0].co);
	coroutine_wake(named[1].co);
	coroutine_wake(named[2].co);
	run_turn();
	ck_assert_str_eq(trace, "daebc");
}
END_TEST

static void relax_twice(void *arg)
{
	(void)arg;
	for (int i = 0; i < 2; i++) {
		trace_add('r');
		coroutine_relax();
	}
	trace_add('s');
}

static void trace_twice(struct work *work)
{
	trace_add('w');
	if (strlen(trace) == 2)
		loop_defer(work);
}

START_TEST(relax_lets_all_that_is_runnable_go_first)
{
	struct work work = { .fn = trace_twice };

	ck_assert_int_eq(coroutine_start(relax_twice, NULL), 0);
	loop_defer(&work);
	ck_assert_str_eq(trace, "r");
	/* The work's queueing itself again does not hold up the relaxed. */
	for (int i = 0; i < 3; i++)
		run_turn();
	ck_assert_str_eq(trace, "rwrws");
}
END_TEST

static void relax_then_yield(void *arg)
{
	(void)arg;
	sleeper = coroutine_self();
	coroutine_relax();
	trace_add('a');
	coroutine_yield();
	trace_add('b');
}

START_TEST(a_wake_while_relaxed_queues_it_once)
{
	ck_assert_int_eq(coroutine_start(relax_then_yield, NULL), 0);
	coroutine_wake(sleeper);
	run_turn();
	run_turn();
	ck_assert_str_eq(trace, "a");
	coroutine_wake(sleeper);
	run_turn();
	ck_assert_str_eq(trace, "ab");
}
END_TEST

static void sleep_and_check(void *arg)
{
	uint64_t start = clock_now_ns();

	sleeper = coroutine_self();
	coroutine_sleep_ns(5 * NSEC_PER_MSEC);
	if (loop_is_virtual(loop))
		ck_assert_uint_eq(clock_now_ns(), start + 5 * NSEC_PER_MSEC);
	else
		ck_assert_uint_ge(clock_now_ns(), start + 5 * NSEC_PER_MSEC);
	*(bool *)arg = true;
	loop_stop(loop);
}

START_TEST(sleep_ends_at_its_time_and_not_at_a_wake)
{
	bool done = false;

	ck_assert_int_eq(coroutine_start(sleep_and_check, &done), 0);
	coroutine_wake(sleeper);
	run_turn();
	/* On a slow machine that turn may have been the end of it. */
	if (!done)
		ck_assert_int_eq(loop_run(loop), 0);
	ck_assert(done);
}
END_TEST

/* Deep in calls and full of values that live across the yields. */
static double deep_sum(unsigned int depth, double a, double b, long c, long d)
{
	double e = a * 1.5, f = b / 3;
	long g = c ^ d, h = c + d;
	double sum;

	if (!depth)
		coroutine_relax();
	sum = depth ? deep_sum(depth - 1, e, f, g, h) : 0;
	coroutine_relax();
	return sum + a + b + (double)(c % 1000) + (double)(d % 1000) +
	       e + f + (double)(g % 1000) + (double)(h % 1000);
}

static double deep_sum_plain(unsigned int depth, double a, double b, long c,
			     long d)
{
	double e = a * 1.5, f = b / 3;
	long g = c ^ d, h = c + d;
	double sum = depth ? deep_sum_plain(depth - 1, e, f, g, h) : 0;

	return sum + a + b + (double)(c % 1000) + (double)(d % 1000) +
	       e + f + (double)(g % 1000) + (double)(h % 1000);
}

static void sum_in_coroutine(void *arg)
{
	unsigned int *nr_right = arg;
	static long serial;
	long n = ++serial;

	if (deep_sum(20, (double)n, 7.25 * (double)n, n, n * 31) ==
	    deep_sum_plain(20, (double)n, 7.25 * (double)n, n, n * 31))
		++*nr_right;
}

START_TEST(values_survive_switches)
{
	unsigned int nr_right = 0;

	for (int i = 0; i < 50; i++)
		ck_assert_int_eq(coroutine_start(sum_in_coroutine, &nr_right),
				 0);
	for (int i = 0; i < 30; i++)
		run_turn();
	ck_assert_uint_eq(nr_right, 50);
}
END_TEST

static void use_stack(void *arg)
{
	char buf[COROUTINE_STACK_SIZE - 8 * 1024];

	memset(buf, 0x5a, sizeof(buf));
	coroutine_relax();
	for (size_t i = 0; i < sizeof(buf); i++)
		ck_assert(((volatile char *)buf)[i] == 0x5a);
	*(bool *)arg = true;
}

START_TEST(a_stack_has_the_size_that_is_promised)
{
	bool done = false;

	ck_assert_int_eq(coroutine_start(use_stack, &done), 0);
	run_turn();
	run_turn();
	ck_assert(done);
}
END_TEST

static unsigned int recurse(unsigned int depth)
{
	volatile char frame[1024];

	memset((char *)frame, (int)depth, sizeof(frame));
	/* Not a tail call, and not endless for the compiler. */
	return depth == 1000000 ? 0 :
	       recurse(depth + 1) + (unsigned char)frame[depth % 1024];
}

static void overflow_stack(void *arg)
{
	*(unsigned int *)arg = recurse(0);
}

START_TEST(an_overflow_hits_the_guard_page)
{
	unsigned int sum;

	/* Sanitizers would report it, and exit. */
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
	coroutine_start(overflow_stack, &sum);
}
END_TEST

#ifdef FOLIOD_DEBUG
static void NO_THREAD_SAFETY yield_with_mutex(void *arg)
{
	mutex_lock(arg);
	coroutine_yield();
}

START_TEST(yielding_with_a_mutex_held_aborts)
{
	struct mutex mutex;

	mutex_init(&mutex, RANK_LEAF);
	coroutine_start(yield_with_mutex, &mutex);
}
END_TEST
#endif

START_TEST(yielding_outside_of_a_coroutine_aborts)
{
	coroutine_yield();
}
END_TEST

/* Mappings that are one page without any permission. */
static int nr_guard_pages(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long start, end;
	char line[4096], perm[5];
	int n = 0;

	ck_assert_ptr_nonnull(maps);
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %4s", &start, &end, perm) == 3 &&
		    end - start == 4096 && !strcmp(perm, "---p"))
			n++;
	fclose(maps);
	return n;
}

static struct coroutine *many[1000];
static unsigned int nr_many;

static void wait_among_many(void *arg)
{
	(void)arg;
	many[nr_many++] = coroutine_self();
	coroutine_yield();
}

static void start_many(unsigned int n)
{
	nr_many = 0;
	for (unsigned int i = 0; i < n; i++)
		ck_assert_int_eq(coroutine_start(wait_among_many, NULL), 0);
	ck_assert_uint_eq(nr_many, n);
	ck_assert_uint_eq(coroutine_count(), n);
}

static void end_many(void)
{
	for (unsigned int i = 0; i < nr_many; i++)
		coroutine_wake(many[i]);
	run_turn();
	ck_assert_uint_eq(coroutine_count(), 0);
}

START_TEST(the_pool_keeps_256_stacks_and_reuses_them)
{
	int before;

	/* What the first one sets up for itself is not of interest. */
	start_many(1);
	end_many();
	coroutine_pool_drain();
	before = nr_guard_pages();
	start_many(400);
	ck_assert_int_eq(nr_guard_pages() - before, 400);
	end_many();
	ck_assert_int_eq(nr_guard_pages() - before, 256);
	start_many(256);
	ck_assert_int_eq(nr_guard_pages() - before, 256);
	end_many();
	ck_assert_int_eq(nr_guard_pages() - before, 256);
	coroutine_pool_drain();
	ck_assert_int_eq(nr_guard_pages() - before, 0);
	coroutine_pool_drain();
}
END_TEST

static void *start_and_exit(void *arg)
{
	struct loop *own;

	ck_assert_int_eq(loop_new(&own), 0);
	loop_enter(own);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(coroutine_start(trace_after_yield, arg), 0);
	ck_assert_uint_eq(coroutine_count(), 10);
	loop_free(own);
	ck_assert_uint_eq(coroutine_count(), 0);
	/* Another loop's coroutine, so that the pool is not empty. */
	ck_assert_int_eq(loop_new(&own), 0);
	loop_enter(own);
	ck_assert_int_eq(coroutine_start(end_at_once, arg), 0);
	loop_enter(NULL);
	*(struct loop **)arg = own;
	return NULL;
}

START_TEST(a_thread_takes_its_pool_with_it)
{
	struct named named = { .co = NULL };
	pthread_t thread;
	int guards[3];

	/* The stack of a thread has a guard page too, which is kept. */
	for (int i = 0; i < 3; i++) {
		pthread_create(&thread, NULL, start_and_exit, &named);
		pthread_join(thread, NULL);
		loop_free((struct loop *)named.co);
		guards[i] = nr_guard_pages();
		loop_enter(loop);
	}
	ck_assert_int_eq(guards[1], guards[2]);
}
END_TEST

#ifndef SANITIZED
#ifdef __has_include
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif
#endif
#ifndef RUNNING_ON_VALGRIND
#define RUNNING_ON_VALGRIND	0
#endif

START_TEST(without_memory_start_says_so_and_runs_nothing)
{
	struct rlimit limit;
	unsigned long pages;
	FILE *statm = fopen("/proc/self/statm", "r");
	unsigned int n;

	ck_assert_ptr_nonnull(statm);
	/* Valgrind itself would not survive the limit. */
	if (RUNNING_ON_VALGRIND) {
		fclose(statm);
		return;
	}
	ck_assert_int_eq(fscanf(statm, "%lu", &pages), 1);
	fclose(statm);
	ck_assert_int_eq(getrlimit(RLIMIT_AS, &limit), 0);
	limit.rlim_cur = pages * 4096 + 40 * COROUTINE_STACK_SIZE;
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
	nr_many = 0;
	for (n = 0; n < 100; n++)
		if (coroutine_start(wait_among_many, NULL))
			break;
	ck_assert_uint_lt(n, 40);
	ck_assert_uint_gt(n, 10);
	ck_assert_int_eq(coroutine_start(wait_among_many, NULL), -ENOMEM);
	ck_assert_uint_eq(nr_many, n);
	ck_assert_uint_eq(coroutine_count(), n);
	end_many();
	/* There are stacks in the pool now. */
	start_many(n);
	end_many();
}
END_TEST
#endif

#ifdef CONTEXT_TSAN
static void never_woken(void *arg)
{
	(void)arg;
	coroutine_yield();
}

START_TEST(more_fibres_than_tsan_bears_are_refused)
{
	unsigned int n;

	for (n = 0; n < 4100; n++)
		if (coroutine_start(never_woken, NULL))
			break;
	ck_assert_uint_eq(n, 4000);
	loop_free(loop);
	/* Freed with their coroutines. */
	setup_real();
	ck_assert_int_eq(coroutine_start(never_woken, NULL), 0);
	loop_free(loop);
	setup_real();
}
END_TEST
#endif

/* ----- Wakes across threads ----- */

#define NR_RUNNERS	3
#define NR_PAIRS	8
#define NR_HOPS		1000

/*
 * A token goes round: each coroutine waits until it is its turn, passes the
 * token on to the next one, on another thread, and wakes that.  One lost wake
 * and the ring stands still.
 */
struct ring {
	unsigned int		hop;			/* atomic */
	struct coroutine	*member[NR_RUNNERS];	/* atomic */
};

struct member {
	struct ring		*ring;
	unsigned int		place;
};

struct runner {
	struct loop		*loop;
	struct work		start;
	struct member		members[NR_PAIRS];
	unsigned int		nr_ended;
};

static struct ring rings[NR_PAIRS];
static struct runner runners[NR_RUNNERS];

/*
 * Let all members of all rings come as far as this.  Asleep, not spinning:
 * the others may have to share the processor.
 */
static void meet(unsigned int *nr_here)
{
	__atomic_add_fetch(nr_here, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(nr_here, __ATOMIC_ACQUIRE) <
	       NR_RUNNERS * NR_PAIRS)
		coroutine_sleep_ns(NSEC_PER_MSEC);
}

static void ring_member(void *arg)
{
	struct member *member = arg;
	struct ring *ring = member->ring;
	struct runner *runner = &runners[member->place];
	static unsigned int nr_ready, nr_done;
	unsigned int next = (member->place + 1) % NR_RUNNERS, hop;

	__atomic_store_n(&ring->member[member->place], coroutine_self(),
			 __ATOMIC_RELEASE);
	meet(&nr_ready);
	for (hop = member->place; hop < NR_HOPS; hop += NR_RUNNERS) {
		/* Relaxed: it is the wake that makes the value visible. */
		while (__atomic_load_n(&ring->hop, __ATOMIC_RELAXED) != hop)
			coroutine_yield();
		__atomic_store_n(&ring->hop, hop + 1, __ATOMIC_RELAXED);
		coroutine_wake(ring->member[next]);
	}
	/* Who ended must not be woken, so none ends before all are done. */
	meet(&nr_done);
	if (++runner->nr_ended == NR_PAIRS)
		loop_stop(runner->loop);
}

static void start_members(struct work *work)
{
	struct runner *runner = container_of(work, struct runner, start);

	for (int i = 0; i < NR_PAIRS; i++)
		ck_assert_int_eq(coroutine_start(ring_member,
						 &runner->members[i]), 0);
}

static void *run_runner(void *arg)
{
	struct runner *runner = arg;

	ck_assert_int_eq(loop_run(runner->loop), 0);
	ck_assert_uint_eq(coroutine_count(), 0);
	loop_free(runner->loop);
	return NULL;
}

START_TEST(no_wake_between_threads_is_lost)
{
	pthread_t threads[NR_RUNNERS];

	for (unsigned int i = 0; i < NR_RUNNERS; i++) {
		ck_assert_int_eq(loop_new(&runners[i].loop), 0);
		runners[i].start.fn = start_members;
		for (unsigned int j = 0; j < NR_PAIRS; j++) {
			runners[i].members[j].ring = &rings[j];
			runners[i].members[j].place = i;
		}
		loop_post(runners[i].loop, &runners[i].start);
	}
	for (unsigned int i = 0; i < NR_RUNNERS; i++)
		pthread_create(&threads[i], NULL, run_runner, &runners[i]);
	for (unsigned int i = 0; i < NR_RUNNERS; i++)
		pthread_join(threads[i], NULL);
	for (unsigned int j = 0; j < NR_PAIRS; j++)
		ck_assert_uint_eq(rings[j].hop, NR_HOPS);
}
END_TEST

#define NR_WAKERS	4
#define NR_WAKES	5000

static unsigned int sent[NR_WAKERS];	/* atomic */
static struct coroutine *target;

static void *wake_many_times(void *arg)
{
	unsigned int *mine = arg;

	for (unsigned int i = 1; i <= NR_WAKES; i++) {
		__atomic_store_n(mine, i, __ATOMIC_RELAXED);
		coroutine_wake(target);
		if (i % 512 == 0)
			usleep(200);
	}
	return NULL;
}

static unsigned int total_sent(void)
{
	unsigned int total = 0;

	for (int i = 0; i < NR_WAKERS; i++)
		total += __atomic_load_n(&sent[i], __ATOMIC_RELAXED);
	return total;
}

static void wait_for_all(void *arg)
{
	pthread_t *threads = arg;

	target = coroutine_self();
	for (int i = 0; i < NR_WAKERS; i++)
		pthread_create(&threads[i], NULL, wake_many_times, &sent[i]);
	while (total_sent() < NR_WAKERS * NR_WAKES)
		coroutine_yield();
	/* It may not end before the last waker is out of coroutine_wake(). */
	for (int i = 0; i < NR_WAKERS; i++)
		pthread_join(threads[i], NULL);
	loop_stop(loop);
}

START_TEST(a_storm_of_wakes_for_one_coroutine_is_seen_whole)
{
	pthread_t threads[NR_WAKERS];

	ck_assert_int_eq(coroutine_start(wait_for_all, threads), 0);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_eq(total_sent(), NR_WAKERS * NR_WAKES);
}
END_TEST

static void add_common_tests(TCase *tc)
{
	tcase_add_test(tc, a_coroutine_runs_at_once_until_it_ends);
	tcase_add_test(tc,
		       a_wake_makes_it_run_later_and_never_inside_the_call);
	tcase_add_test(tc, a_wake_while_running_is_remembered_once);
	tcase_add_test(tc, a_coroutine_may_start_another);
	tcase_add_test(tc, a_wake_while_relaxed_queues_it_once);
	tcase_add_test(tc, sleep_ends_at_its_time_and_not_at_a_wake);
	tcase_add_test(tc, values_survive_switches);
}

static void add_real_tests(TCase *tc)
{
	tcase_add_test(tc, woken_coroutines_run_in_the_order_of_their_wakes);
	tcase_add_test(tc, relax_lets_all_that_is_runnable_go_first);
	tcase_add_test(tc, a_stack_has_the_size_that_is_promised);
	tcase_add_test_raise_signal(tc, an_overflow_hits_the_guard_page,
				    SIGSEGV);
#ifdef FOLIOD_DEBUG
	tcase_add_test_raise_signal(tc, yielding_with_a_mutex_held_aborts,
				    SIGABRT);
#endif
	tcase_add_test_raise_signal(tc, yielding_outside_of_a_coroutine_aborts,
				    SIGABRT);
	tcase_add_test(tc, the_pool_keeps_256_stacks_and_reuses_them);
	tcase_add_test(tc, a_thread_takes_its_pool_with_it);
#ifndef SANITIZED
	tcase_add_test(tc, without_memory_start_says_so_and_runs_nothing);
#endif
#ifdef CONTEXT_TSAN
	tcase_add_test(tc, more_fibres_than_tsan_bears_are_refused);
#endif
	tcase_add_test(tc, no_wake_between_threads_is_lost);
	tcase_add_test(tc, a_storm_of_wakes_for_one_coroutine_is_seen_whole);
}

int main(void)
{
	Suite *suite = suite_create("coroutine");
	TCase *real = tcase_create("real"), *virtual = tcase_create("virtual");
	SRunner *runner;
	int nr_failed;

	tcase_add_checked_fixture(real, setup_real, teardown);
	add_common_tests(real);
	add_real_tests(real);
	suite_add_tcase(suite, real);
	tcase_add_checked_fixture(virtual, setup_virtual, teardown);
	add_common_tests(virtual);
	suite_add_tcase(suite, virtual);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	nr_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return nr_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
