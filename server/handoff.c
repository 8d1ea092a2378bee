/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handoff.c - the foliod that serves hands its clients over to another one.
 *
 * handoff_door.c has found who wants it.  Connections are brought to rest,
 * exports are flushed and closed, all is described; then it is for the other
 * one to open the same exports.  When it is READY, GO makes all of it its own.
 * Whatever goes wrong before ends with the exports opened again and the
 * connections woken up: to clients it was a pause.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "server/conn_state.h"
#include "server/exports.h"
#include "server/handoff_internal.h"
#include "server/handoff_wire.h"

/* How long a client may keep a request waiting by not taking replies, how long
 * what is in flight may take, the talk until all is told, and the other's
 * opening of the exports. */
#define CLIENT_LIMIT_NS		(2 * NSEC_PER_SEC)
#define FLIGHT_LIMIT_NS		(10 * NSEC_PER_SEC)
#define TALK_LIMIT_NS		(10 * NSEC_PER_SEC)
#define READY_LIMIT_NS		(30 * NSEC_PER_SEC)
/* The other one's last words, and its death if it failed. */
#define BYE_LIMIT_NS		(5 * NSEC_PER_SEC)
/* A failed one may hold the exports' locks until it is gone. */
#define OPEN_TRIES		5
#define OPEN_PAUSE_USEC		400000

/* ---- connections to rest, and back ---- */

struct rest {
	uint64_t	client_ns, limit_ns;
	unsigned int	nr_restless;	/* atomic: loops that are not frozen */
};

static void freeze_ended(void *arg, bool frozen)
{
	struct loop_call *call = arg;
	struct rest *rest = call->arg;

	if (!frozen)
		__atomic_add_fetch(&rest->nr_restless, 1, __ATOMIC_RELAXED);
	loop_call_done(call);
}

static void freeze_loop(struct loop_call *call)
{
	struct rest *rest = call->arg;

	conn_loop_freeze(call->cl, rest->client_ns, rest->limit_ns,
			 freeze_ended, call);
}

static void thaw_loop(struct loop_call *call)
{
	conn_loop_thaw(call->cl);
	loop_call_done(call);
}

static void give_loop_away(struct loop_call *call)
{
	conn_loop_give_away(call->cl);
	loop_call_done(call);
}

/* NULL, or why not: then nothing has changed. */
static const char *freeze(struct handoff *handoff)
{
	uint64_t now = clock_now_ns();
	struct rest rest = {
		.client_ns = now + CLIENT_LIMIT_NS,
		.limit_ns = now + FLIGHT_LIMIT_NS,
	};

	loops_call(handoff->host.loops, freeze_loop, &rest);
	if (!rest.nr_restless)
		return NULL;
	loops_call(handoff->host.loops, thaw_loop, NULL);
	return "requests under way do not end";
}

/* ---- flushing ---- */

struct flush {
	const struct export_table	*exports;
	int				ret;
};

/* In a coroutine.  What cannot be written now is not for another process to
 * find missing. */
static void flush_exports(void *arg)
{
	struct flush *flush = arg;

	for (unsigned int i = 0; i < flush->exports->nr && !flush->ret; i++) {
		const struct export *export = &flush->exports->exports[i];

		if (!export->vol->read_only)
			flush->ret = volume_flush(export->vol);
		if (flush->ret)
			log_error("handoff: export '%s' cannot be flushed: %s",
				  export->name, strerror(-flush->ret));
	}
}

static int flush_all(struct handoff *handoff)
{
	struct flush flush = { .exports = handoff->host.exports };
	int ret;

	ret = loops_run_coroutine(handoff->host.loops, flush_exports, &flush);
	return ret ? ret : flush.ret;
}

/* ---- telling ---- */

static int tell_listener(struct handoff *handoff, uint64_t deadline_ns,
			 const struct listener *listener)
{
	char buf[LISTENER_STATE_MAX];
	int n = listener_encode(listener, buf);
	struct iovec iov = { buf, n };

	return n < 0 ? n : handoff_send(handoff->peer_fd, deadline_ns,
					HANDOFF_LISTENER, &iov, 1,
					listener->fd);
}

static int tell_listeners(struct handoff *handoff, uint64_t deadline_ns)
{
	const struct listeners *set = handoff->host.listeners;
	int ret;

	ret = tell_listener(handoff, deadline_ns, &handoff->socks.list[0]);
	for (unsigned int i = 0; i < set->nr && !ret; i++)
		ret = tell_listener(handoff, deadline_ns, &set->list[i]);
	return ret;
}

static int tell_conns(struct handoff *handoff, uint64_t deadline_ns,
		      const struct conn_states *list, unsigned int *nrp)
{
	char record[CONN_STATE_RECORD];
	struct conn_state *state;
	struct iovec iov[4];
	int ret;

	STAILQ_FOREACH(state, list, link) {
		conn_state_encode(state, record, iov);
		ret = handoff_send(handoff->peer_fd, deadline_ns, HANDOFF_CONN,
				   iov, 4, state->fd);
		if (ret)
			return ret;
		(*nrp)++;
	}
	return 0;
}

struct gathering {
	struct mutex		lock;		/* RANK_SERVER: the rest */
	struct conn_states	list;
	unsigned int		nr_tls;
	int			ret;
};

static void gather_loop(struct loop_call *call)
{
	struct gathering *g = call->arg;

	mutex_lock(&g->lock);
	if (!g->ret)
		g->ret = conn_loop_states(call->cl, &g->list, &g->nr_tls);
	mutex_unlock(&g->lock);
	loop_call_done(call);
}

/* The exports are still there, as their names are needed. */
static int gather(struct handoff *handoff, struct gathering *g)
{
	*g = (struct gathering) { .ret = 0 };
	STAILQ_INIT(&g->list);
	mutex_init(&g->lock, RANK_SERVER);
	loops_call(handoff->host.loops, gather_loop, g);
	mutex_fini(&g->lock);
	return g->ret;
}

static int tell_all(struct handoff *handoff, const struct gathering *g,
		    uint64_t paused_ns, unsigned int *nr_connsp)
{
	uint64_t deadline_ns = clock_now_ns() + TALK_LIMIT_NS;
	struct handoff_end end;
	struct iovec iov = { &end, sizeof(end) };
	int ret;

	ret = tell_listeners(handoff, deadline_ns);
	if (!ret)
		ret = tell_conns(handoff, deadline_ns, &g->list, nr_connsp);
	end = (struct handoff_end) {
		.nr_listeners = htobe64(handoff->host.listeners->nr + 1),
		.nr_conns = htobe64(*nr_connsp),
		.paused_ns = htobe64(paused_ns),
	};
	if (!ret)
		ret = handoff_send(handoff->peer_fd, deadline_ns, HANDOFF_END,
				   &iov, 1, -1);
	return ret;
}

/* ---- all of it ---- */

/* Until the other one is ready, and is told to go. */
static int commit(struct handoff *handoff, char *why, size_t size)
{
	struct handoff_msg msg;
	int ret;

	ret = handoff_recv(handoff->peer_fd, clock_now_ns() + READY_LIMIT_NS,
			   &msg);
	if (ret) {
		snprintf(why, size, "%s", ret == -ECONNRESET ?
			 "it has gone" : strerror(-ret));
		return ret;
	}
	if (msg.type == HANDOFF_READY) {
		ret = handoff_send(handoff->peer_fd,
				   clock_now_ns() + TALK_LIMIT_NS, HANDOFF_GO,
				   NULL, 0, -1);
		snprintf(why, size, "it has gone");
	} else {
		ret = -EPROTO;
		snprintf(why, size, "%s", msg.type == HANDOFF_REFUSED ?
			 msg.body : "it does not speak as a foliod does");
	}
	handoff_msg_fini(&msg);
	return ret;
}

/* The exports' paths may be relative to where we were once. */
static int open_exports(struct handoff *handoff)
{
	const struct handoff_host *host = &handoff->host;
	int here_fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), ret = -1;

	if (handoff->home_fd >= 0 && fchdir(handoff->home_fd))
		log_warn("handoff: cannot go back to where it began: %s",
			 strerror(errno));
	for (unsigned int i = 0; i < OPEN_TRIES && ret; i++) {
		if (i)
			usleep(OPEN_PAUSE_USEC);
		/* Also if we are to stop: those that are to be drained need
		 * their exports. */
		ret = exports_open(host->exports, host->opt, host->cache,
				   host->loops, NULL);
		if (ret)
			exports_close(host->exports, host->loops);
	}
	if (here_fd >= 0) {
		if (fchdir(here_fd))
			log_warn("handoff: cannot change the directory: %s",
				 strerror(errno));
		close(here_fd);
	}
	return ret;
}

/* With the exports open. */
static int go_on(struct handoff *handoff, const char *why)
{
	loops_call(handoff->host.loops, thaw_loop, NULL);
	handoff_turn_away(handoff, why);
	return 0;
}

/* With the exports closed. */
static int take_back(struct handoff *handoff, const char *why)
{
	uint64_t deadline_ns = clock_now_ns() + BYE_LIMIT_NS;
	int ret;

	log_warn("handoff to pid %d failed: %s; going on here",
		 (int)handoff->peer_pid, why);
	/* It has to let go of the exports first. */
	if (!handoff_refuse(handoff->peer_fd, deadline_ns, why))
		handoff_wait_closed(handoff->peer_fd, deadline_ns);
	ret = open_exports(handoff);
	/* Without them there is nothing that clients could be told. */
	loops_call(handoff->host.loops, ret ? give_loop_away : thaw_loop, NULL);
	handoff_drop_peer(handoff);
	return ret;
}

static void give_all(struct handoff *handoff, unsigned int nr_conns,
		     unsigned int nr_tls)
{
	listeners_lend(handoff->host.listeners);
	listeners_lend(&handoff->socks);
	loops_call(handoff->host.loops, give_loop_away, NULL);
	log_info("handed %u connection%s over to pid %d", nr_conns,
		 nr_conns == 1 ? "" : "s", (int)handoff->peer_pid);
	if (nr_tls)
		log_warn("handoff: %u connection%s under TLS closed, as TLS "
			 "cannot be handed over", nr_tls,
			 nr_tls == 1 ? "" : "s");
	/* It writes its pid file, and then closes. */
	handoff_wait_closed(handoff->peer_fd, clock_now_ns() + BYE_LIMIT_NS);
	handoff_drop_peer(handoff);
}

/* With all at rest, and told in @g: everything but the last step can fail. */
static int hand_over(struct handoff *handoff, const struct gathering *g,
		     uint64_t paused_ns)
{
	unsigned int nr_conns = 0;
	char why[256];
	int ret;

	if (exports_close(handoff->host.exports, handoff->host.loops))
		return take_back(handoff, "an export cannot be closed");
	ret = tell_all(handoff, g, paused_ns, &nr_conns);
	if (ret) {
		snprintf(why, sizeof(why), "%s", ret == -ECONNRESET ||
			 ret == -EPIPE ? "it has gone" : strerror(-ret));
		return take_back(handoff, why);
	}
	if (commit(handoff, why, sizeof(why)))
		return take_back(handoff, why);
	give_all(handoff, nr_conns, g->nr_tls);
	return 1;
}

int handoff_run(struct handoff *handoff)
{
	struct gathering g;
	uint64_t paused_ns;
	const char *why;
	int ret;

	/* Clients need not wait for what is dirty by now. */
	if (flush_all(handoff)) {
		handoff_turn_away(handoff, "an export cannot be flushed");
		return 0;
	}
	paused_ns = clock_now_ns();
	why = freeze(handoff);
	if (why) {
		handoff_turn_away(handoff, why);
		return 0;
	}
	if (flush_all(handoff))
		return go_on(handoff, "an export cannot be flushed");
	if (gather(handoff, &g))
		ret = go_on(handoff, strerror(ENOMEM));
	else
		ret = hand_over(handoff, &g, paused_ns);
	/* The descriptors are the connections'. */
	conn_states_free(&g.list, false);
	return ret;
}
