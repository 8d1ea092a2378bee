/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * coroutine.c - life of a coroutine, and the pool of stacks.
 *
 * A coroutine's struct lies at the top of its own mapping:
 *
 *	guard page | stack, growing down ............ | struct coroutine
 *
 * and goes to its thread's pool with it, still standing in coroutine_main(),
 * so that starting one from the pool is nothing but a switch.
 *
 *	         coroutine_start()                 yield
 *	  pool -------------------> CO_RUNNING <----------> CO_IDLE
 *	   ^                         |      ^                 |
 *	   |        fn() returned    | wake | run, yield      | wake
 *	   +-------------------------+      |                 |
 *	                             +--> CO_WOKEN <----------+
 *
 * CO_WOKEN is either "queued" (it was idle) or "one wake remembered" (it was
 * running).  All changes of state but the start are atomic exchanges on one
 * word, hence in one order: what a waker wrote before coroutine_wake() is
 * seen by the coroutine after the exchange that takes CO_WOKEN away, whether
 * or not that waker was the one to queue it.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/context.h"
#include "base/coroutine.h"
#include "base/sched.h"

/* Pooled stacks a thread; a busy one keeps about 1 MiB of touched pages. */
#define POOL_MAX	256
#define GUARD_SIZE	4096u

/*
 * Were all stacks to begin at the same offset in a page, their busiest lines
 * would fight for the same few sets of the first-level cache.  So they begin
 * at different ones, in what TOP_SIZE has beyond the struct.
 */
#define COLOUR_SIZE	256u
#define NR_COLOURS	13u
#define STRUCT_SIZE	((sizeof(struct coroutine) + CACHE_LINE - 1) / \
			 CACHE_LINE * CACHE_LINE)
#define TOP_SIZE	((STRUCT_SIZE + (NR_COLOURS - 1) * COLOUR_SIZE + \
			  GUARD_SIZE - 1) / GUARD_SIZE * GUARD_SIZE)

enum coroutine_state {
	CO_RUNNING,
	CO_IDLE,
	CO_WOKEN,
};

struct coroutine {
	struct context		ctx;
	struct context		*back;		/* where yield goes */
	int			state;		/* enum coroutine_state, atomic */
	bool			ended;
	void			(*fn)(void *arg);
	void			*arg;
	struct loop		*loop;
	struct work		work;		/* in a queue of loop */
	LIST_ENTRY(coroutine)	link;		/* of loop, or of the pool */
	void			*map;
	size_t			map_size;
};

/* All that is the thread's own, so that it is looked up once. */
struct thread {
	struct context		ctx;		/* its plain stack */
	struct coroutine	*self;
	struct coroutine_list	pool;
	unsigned int		nr_pooled;
	unsigned int		nr_alive;
	bool			known;		/* set up, drained at its exit */
};

static __thread struct thread this_thread;

static pthread_key_t exit_key;
static pthread_once_t exit_once = PTHREAD_ONCE_INIT;

static void thread_exit(void *unused)
{
	(void)unused;
	coroutine_pool_drain();
}

static void thread_init_once(void)
{
	if (pthread_key_create(&exit_key, thread_exit))
		abort();
}

static void thread_init(struct thread *thread)
{
	pthread_once(&exit_once, thread_init_once);
	/* Any value but NULL has the destructor called. */
	pthread_setspecific(exit_key, thread);
	context_init_thread(&thread->ctx);
	thread->known = true;
}

CONTEXT_NO_ASAN static void coroutine_main(void *arg)
{
	struct coroutine *co = arg;

	context_entered(&co->ctx);
	for (;;) {
		co->fn(co->arg);
		co->ended = true;
		context_switch(&co->ctx, co->back, true);
	}
}

static int coroutine_create(struct coroutine **cop)
{
	static __thread unsigned int colour;
	size_t size = GUARD_SIZE + COROUTINE_STACK_SIZE + TOP_SIZE;
	struct coroutine *co;
	char *map;
	int ret;

	map = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK,
		   -1, 0);
	if (map == MAP_FAILED)
		return -ENOMEM;
	if (mprotect(map, GUARD_SIZE, PROT_NONE)) {
		ret = -ENOMEM;
		goto out_unmap;
	}
	co = (struct coroutine *)(map + size - STRUCT_SIZE -
				  colour++ % NR_COLOURS * COLOUR_SIZE);
	ret = context_init(&co->ctx, map + GUARD_SIZE,
			   (size_t)((char *)co - map) - GUARD_SIZE,
			   coroutine_main, co);
	if (ret)
		goto out_unmap;
	co->map = map;
	co->map_size = size;
	co->work.fn = coroutine_run;
	*cop = co;
	return 0;

out_unmap:
	munmap(map, size);
	return ret;
}

static void coroutine_destroy(struct coroutine *co)
{
	context_fini(&co->ctx);
	munmap(co->map, co->map_size);
}

/* The coroutine has ended, and another stack is running. */
static void coroutine_release(struct thread *thread, struct coroutine *co)
{
	LIST_REMOVE(co, link);
	thread->nr_alive--;
	if (thread->nr_pooled == POOL_MAX) {
		coroutine_destroy(co);
		return;
	}
	LIST_INSERT_HEAD(&thread->pool, co, link);
	thread->nr_pooled++;
}

static void coroutine_enter(struct thread *thread, struct coroutine *co)
{
	struct coroutine *caller = thread->self;

	co->back = caller ? &caller->ctx : &thread->ctx;
	thread->self = co;
	context_switch(co->back, &co->ctx, false);
	thread->self = caller;
	if (co->ended)
		coroutine_release(thread, co);
}

int coroutine_start(void (*fn)(void *arg), void *arg)
{
	struct thread *thread = &this_thread;
	struct loop *loop = sched_loop;
	struct coroutine *co;
	int ret;

	assert(loop);
	if (!thread->known)
		thread_init(thread);
	co = LIST_FIRST(&thread->pool);
	if (co) {
		LIST_REMOVE(co, link);
		thread->nr_pooled--;
	} else {
		ret = coroutine_create(&co);
		if (ret)
			return ret;
	}
	co->fn = fn;
	co->arg = arg;
	co->loop = loop;
	co->ended = false;
	/* Nobody else knows it yet. */
	co->state = CO_RUNNING;
	LIST_INSERT_HEAD(&loop->coroutines, co, link);
	thread->nr_alive++;
	coroutine_enter(thread, co);
	return 0;
}

struct coroutine *coroutine_self(void)
{
	return this_thread.self;
}

void coroutine_run(struct work *work)
{
	struct coroutine *co = container_of(work, struct coroutine, work);
	int old;

	old = __atomic_exchange_n(&co->state, CO_RUNNING, __ATOMIC_ACQ_REL);
	assert(old == CO_WOKEN);
	coroutine_enter(&this_thread, co);
}

void coroutine_yield(void)
{
	struct coroutine *co = this_thread.self;
	int running = CO_RUNNING;

	assert(co);
	mutex_assert_none_held();
	if (!__atomic_compare_exchange_n(&co->state, &running, CO_IDLE, false,
					 __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
		/* Woken already.  An exchange again: more wakers may follow. */
		__atomic_exchange_n(&co->state, CO_RUNNING, __ATOMIC_ACQ_REL);
		return;
	}
	/*
	 * A waker on another thread may queue it from here on; but only this
	 * thread takes it from the queue, and that is after the switch.
	 */
	context_switch(&co->ctx, co->back, false);
}

void coroutine_wake(struct coroutine *co)
{
	/*
	 * After the exchange @co is safe to use only if it was idle: then it
	 * cannot run, let alone end, before it is queued.
	 */
	if (__atomic_exchange_n(&co->state, CO_WOKEN, __ATOMIC_ACQ_REL) ==
	    CO_IDLE)
		sched_queue(co->loop, &co->work);
}

void coroutine_relax(void)
{
	struct coroutine *co = this_thread.self;

	assert(co);
	mutex_assert_none_held();
	/* It is queued here, so wakers shall not do it. */
	__atomic_exchange_n(&co->state, CO_WOKEN, __ATOMIC_ACQ_REL);
	sched_queue_relaxed(co->loop, &co->work);
	context_switch(&co->ctx, co->back, false);
}

struct sleeper {
	struct timer		timer;
	struct coroutine	*co;
};

static void sleeper_fire(struct timer *timer)
{
	coroutine_wake(container_of(timer, struct sleeper, timer)->co);
}

void coroutine_sleep_ns(uint64_t ns)
{
	struct sleeper sleeper = { .co = this_thread.self };
	uint64_t now = clock_now_ns();

	assert(sleeper.co);
	timer_init(&sleeper.timer, sleeper_fire);
	timer_arm(&sleeper.timer, ns < UINT64_MAX - now ? now + ns : UINT64_MAX);
	while (timer_armed(&sleeper.timer))
		coroutine_yield();
}

unsigned int coroutine_count(void)
{
	return this_thread.nr_alive;
}

void coroutine_pool_drain(void)
{
	struct thread *thread = &this_thread;
	struct coroutine *co;

	while ((co = LIST_FIRST(&thread->pool))) {
		LIST_REMOVE(co, link);
		thread->nr_pooled--;
		coroutine_destroy(co);
	}
}

void coroutine_drop_all(struct loop *loop)
{
	struct coroutine *co;

	while ((co = LIST_FIRST(&loop->coroutines))) {
		assert(co != this_thread.self);
		LIST_REMOVE(co, link);
		this_thread.nr_alive--;
		coroutine_destroy(co);
	}
}
