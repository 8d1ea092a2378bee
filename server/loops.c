/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * loops.c - the threads that serve clients, each with its run loop.
 */
#include <errno.h>
#include <event2/event.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "base/loop_thread.h"
#include "bdev/bdev.h"
#include "server/loops.h"
#include "server/turned_away.h"

/* One thread's; the first has none of its own. */
struct server_loop {
	struct loops		*loops;
	struct loop_thread	thread;
	struct conn_loop	conns;
	/* Draining; the loop's own but for deadline_ns. */
	struct work		drain_work, hurry_work;
	uint64_t		deadline_ns;	/* set before the post */
	bool			draining;
	bool			gone;
	struct work		gone_work;	/* for the first loop */
	struct loop_call	call;		/* of loops_call() */
};

struct loops {
	unsigned int		nr;
	unsigned int		next_home, next_client;
	struct conn_shared	*shared;
	/* With loops_call(). */
	unsigned int		nr_calls;	/* not done */
	bool			calls_done;
	/* With loops_serve_single(). */
	void			(*single_gone)(void *arg);
	void			*single_arg;
	/* Draining. */
	bool			draining;
	bool			hurried;	/* perhaps before draining */
	unsigned int		nr_gone;
	bool			all_gone;
	struct timer		limit_timer;
	struct server_loop	list[];
};

/* A client on its way to its loop. */
struct handover {
	struct work		work;
	struct server_loop	*sl;
	int			fd;
	enum tls_mode		tls;
};

/* ---- set-up of one loop, on its thread ---- */

static void conns_idle(struct conn_loop *cl);

static int open_loop(struct loop_thread *lt)
{
	struct server_loop *sl = container_of(lt, struct server_loop, thread);
	int ret;

	ret = bdev_loop_init(lt->loop);
	if (ret)
		return ret;
	ret = conn_loop_init(&sl->conns, lt->loop, sl->loops->shared);
	if (ret) {
		bdev_loop_fini(lt->loop);
		return ret;
	}
	sl->conns.idle = conns_idle;
	sl->conns.idle_arg = sl;
	return 0;
}

static void close_loop(struct loop_thread *lt)
{
	struct server_loop *sl = container_of(lt, struct server_loop, thread);

	conn_loop_fini(&sl->conns);
	bdev_loop_fini(lt->loop);
}

static const struct loop_thread_ops loop_ops = {
	.open	= open_loop,
	.close	= close_loop,
};

/* What fails there is an error code for us, and told by whoever handles it. */
static void libevent_says(int severity, const char *msg)
{
	(void)severity;
	log_debug("libevent: %s", msg);
}

int loops_start(unsigned int nr, struct conn_shared *shared,
		struct loops **loopsp)
{
	struct loops *loops;
	int ret = 0;

	loops = calloc(1, sizeof(*loops) + nr * sizeof(loops->list[0]));
	if (!loops)
		return -ENOMEM;
	event_set_log_callback(libevent_says);
	loops->nr = nr;
	loops->shared = shared;
	for (unsigned int i = 0; i < nr; i++) {
		loops->list[i].loops = loops;
		loop_thread_init(&loops->list[i].thread, i, &loop_ops);
	}
	ret = loop_thread_open(&loops->list[0].thread);
	for (unsigned int i = 1; i < nr && !ret; i++)
		ret = loop_thread_start(&loops->list[i].thread);
	if (ret) {
		log_error("cannot start %u thread%s: %s", nr,
			  nr == 1 ? "" : "s", strerror(-ret));
		loops_stop(&loops);
		return ret;
	}
	*loopsp = loops;
	return 0;
}

void loops_stop(struct loops **loopsp)
{
	struct loops *loops = *loopsp;

	*loopsp = NULL;
	if (!loops)
		return;
	for (unsigned int i = 1; i < loops->nr; i++)
		loop_thread_stop(&loops->list[i].thread);
	loop_thread_close(&loops->list[0].thread);
	for (unsigned int i = 0; i < loops->nr; i++)
		loop_thread_free(&loops->list[i].thread);
	free(loops);
}

struct loop *loops_main(struct loops *loops)
{
	return loops->list[0].thread.loop;
}

struct loop *loops_nth(struct loops *loops, unsigned int i)
{
	assert(i < loops->nr);
	return loops->list[i].thread.loop;
}

struct loop *loops_next_home(struct loops *loops)
{
	return loops->list[loops->next_home++ % loops->nr].thread.loop;
}

void loops_wait(struct loops *loops, const bool *done)
{
	while (!*done)
		loop_thread_run(&loops->list[0].thread);
}

/* ---- a coroutine on the first loop ---- */

struct phase {
	struct work	work;
	struct loop	*loop;
	void		(*fn)(void *arg);
	void		*arg;
	int		ret;
	bool		done;
};

static void phase_main(void *arg)
{
	struct phase *phase = arg;

	phase->fn(phase->arg);
	phase->done = true;
	loop_stop(phase->loop);
}

static void phase_start(struct work *work)
{
	struct phase *phase = container_of(work, struct phase, work);

	phase->ret = coroutine_start(phase_main, phase);
	if (phase->ret) {
		phase->done = true;
		loop_stop(phase->loop);
	}
}

int loops_run_coroutine(struct loops *loops, void (*fn)(void *arg), void *arg)
{
	struct phase phase = {
		.work.fn = phase_start, .loop = loops_main(loops), .fn = fn,
		.arg = arg,
	};

	loop_post(phase.loop, &phase.work);
	loops_wait(loops, &phase.done);
	return phase.ret;
}

/* ---- clients ---- */

static void take_client(struct work *work)
{
	struct handover *handover = container_of(work, struct handover, work);
	int ret;

	ret = conn_start(&handover->sl->conns, handover->fd, handover->fd,
			 handover->tls);
	/* That it has gone already is its own affair. */
	if (ret == -EUSERS)
		turned_away("there are as many as --max-connections lets in");
	else if (ret == -EDQUOT)
		turned_away("one peer has as many connections as "
			    "--max-connections-per-peer lets in");
	else if (ret && ret != -ECONNRESET)
		log_warn("cannot serve a client: %s", strerror(-ret));
	free(handover);
}

void loops_serve(struct loops *loops, int fd, enum tls_mode tls)
{
	struct handover *handover = calloc(1, sizeof(*handover));

	if (!handover) {
		close(fd);
		return;
	}
	handover->work.fn = take_client;
	handover->sl = &loops->list[loops->next_client++ % loops->nr];
	handover->fd = fd;
	handover->tls = tls;
	loop_post(handover->sl->thread.loop, &handover->work);
}

int loops_serve_single(struct loops *loops, int in_fd, int out_fd,
		       void (*gone)(void *arg), void *arg)
{
	int ret;

	assert(loops->nr == 1);
	loops->single_gone = gone;
	loops->single_arg = arg;
	loop_enter(loops_main(loops));
	ret = conn_start(&loops->list[0].conns, in_fd, out_fd, TLS_OFF);
	loop_enter(NULL);
	return ret;
}

/* ---- calls on all loops ---- */

unsigned int loops_nr(const struct loops *loops)
{
	return loops->nr;
}

static void call_fn(struct work *work)
{
	struct loop_call *call = container_of(work, struct loop_call, work);

	call->fn(call);
}

/* On the first loop. */
static void call_ended(struct work *work)
{
	struct loop_call *call = container_of(work, struct loop_call, work);

	if (--call->loops->nr_calls)
		return;
	call->loops->calls_done = true;
	loop_stop(loops_main(call->loops));
}

void loop_call_done(struct loop_call *call)
{
	call->work.fn = call_ended;
	loop_post(loops_main(call->loops), &call->work);
}

void loops_call(struct loops *loops, void (*fn)(struct loop_call *call),
		void *arg)
{
	assert(!loops->nr_calls);
	loops->nr_calls = loops->nr;
	loops->calls_done = false;
	for (unsigned int i = 0; i < loops->nr; i++) {
		struct server_loop *sl = &loops->list[i];

		sl->call = (struct loop_call) {
			.work.fn = call_fn, .cl = &sl->conns, .index = i,
			.fn = fn, .arg = arg, .loops = loops,
		};
		loop_post(sl->thread.loop, &sl->call.work);
	}
	loops_wait(loops, &loops->calls_done);
}

/* ---- draining ---- */

/* On the first loop. */
static void loop_gone(struct work *work)
{
	struct server_loop *sl = container_of(work, struct server_loop,
					      gone_work);
	struct loops *loops = sl->loops;

	if (++loops->nr_gone == loops->nr) {
		loops->all_gone = true;
		loop_stop(loops_main(loops));
	}
}

/* The loop has no connection, and will have none. */
static void report_gone(struct server_loop *sl)
{
	if (sl->gone)
		return;
	sl->gone = true;
	sl->gone_work.fn = loop_gone;
	loop_post(loops_main(sl->loops), &sl->gone_work);
}

static void conns_idle(struct conn_loop *cl)
{
	struct server_loop *sl = cl->idle_arg;

	if (sl->draining)
		report_gone(sl);
	else if (sl->loops->single_gone)
		sl->loops->single_gone(sl->loops->single_arg);
}

static void start_drain(struct work *work)
{
	struct server_loop *sl = container_of(work, struct server_loop,
					      drain_work);

	sl->draining = true;
	conn_loop_drain(&sl->conns, sl->deadline_ns);
	if (!sl->conns.nr_conns)
		report_gone(sl);
}

static void start_hurry(struct work *work)
{
	struct server_loop *sl = container_of(work, struct server_loop,
					      hurry_work);

	conn_loop_hurry(&sl->conns);
}

static void hurry_all(struct loops *loops)
{
	for (unsigned int i = 0; i < loops->nr; i++) {
		loops->list[i].hurry_work.fn = start_hurry;
		loop_post(loops->list[i].thread.loop, &loops->list[i].hurry_work);
	}
}

void loops_hurry(struct loops *loops)
{
	if (loops->hurried)
		return;
	loops->hurried = true;
	if (loops->draining)
		hurry_all(loops);
}

static void limit_reached(struct timer *timer)
{
	struct loops *loops = container_of(timer, struct loops, limit_timer);

	log_warn("closing connections whose clients do not take their "
		 "replies");
	loops_hurry(loops);
}

void loops_drain(struct loops *loops, uint64_t grace_ns, uint64_t limit_ns)
{
	uint64_t now = clock_now_ns();

	loops->draining = true;
	loop_enter(loops_main(loops));
	timer_init(&loops->limit_timer, limit_reached);
	timer_arm(&loops->limit_timer, now + limit_ns);
	loop_enter(NULL);
	/* Behind the clients that are on their way, hence after them. */
	for (unsigned int i = 0; i < loops->nr; i++) {
		struct server_loop *sl = &loops->list[i];

		sl->deadline_ns = now + grace_ns;
		sl->drain_work.fn = start_drain;
		loop_post(sl->thread.loop, &sl->drain_work);
	}
	if (loops->hurried)
		hurry_all(loops);
	loops_wait(loops, &loops->all_gone);
	loop_enter(loops_main(loops));
	timer_cancel(&loops->limit_timer);
	loop_enter(NULL);
}
