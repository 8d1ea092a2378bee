/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * takeover.c - the foliod that starts takes over from the one that serves.
 *
 * What takes time and needs nothing of the other one's (memory, threads) comes
 * before takeover_begin(): from there to the commit its clients wait.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/base.h"
#include "server/conn_state.h"
#include "server/handoff_wire.h"
#include "server/takeover.h"
#include "server/turned_away.h"

/* Until all is told: its requests have to end, its caches to be written. */
#define TELL_LIMIT_NS	(60 * NSEC_PER_SEC)
#define TALK_LIMIT_NS	(20 * NSEC_PER_SEC)

struct takeover {
	int			fd;
	pid_t			pid;		/* of the other one */
	struct listeners	socks;		/* one, once all is told */
	struct listeners	listeners;
	struct conn_states	conns;
	unsigned int		nr_conns, nr_misfits;
	struct handoff_end	end;
};

static int failed(const struct takeover *takeover, int err, const char *why)
{
	log_error("cannot take over from pid %d: %s", (int)takeover->pid, why);
	return err;
}

static int talk_failed(const struct takeover *takeover, int err)
{
	switch (err) {
	case -ECONNRESET:
	case -EPIPE:
		return failed(takeover, err, "it has gone");
	case -ETIMEDOUT:
		return failed(takeover, err, "it does not answer");
	case -EPROTONOSUPPORT:
		return failed(takeover, err, "it speaks another version");
	case -EPROTO:
		return failed(takeover, err, "it does not speak as a foliod "
			      "does");
	}
	return failed(takeover, err, strerror(-err));
}

/* ---- asking ---- */

/* A connected socket, -ENOENT if nobody answers there, or another -errno. */
static int connect_to(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd, err;

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	err = errno == ECONNREFUSED ? ENOENT : errno;
	close(fd);
	return -err;
}

static int take_listener(struct takeover *takeover, struct handoff_msg *msg)
{
	/* The first one is that at which it answers. */
	struct listeners *set = takeover->socks.nr ? &takeover->listeners :
						     &takeover->socks;
	int ret;

	if (takeover->listeners.nr >= OPTIONS_LISTEN_MAX * 64)
		return -EPROTO;
	ret = listener_decode(set, msg->body, msg->len, msg->fd);
	if (!ret)
		msg->fd = -1;
	return ret;
}

static int take_conn(struct takeover *takeover, struct handoff_msg *msg)
{
	struct conn_state *state = malloc(sizeof(*state));
	int ret;

	if (!state)
		return -ENOMEM;
	ret = conn_state_decode(state, &msg->body, msg->len);
	if (ret) {
		free(state);
		return ret;
	}
	state->fd = msg->fd;
	msg->fd = -1;
	STAILQ_INSERT_TAIL(&takeover->conns, state, link);
	takeover->nr_conns++;
	return 0;
}

static int take_end(struct takeover *takeover, const struct handoff_msg *msg)
{
	struct handoff_end *end = &takeover->end;

	if (msg->len != sizeof(*end))
		return -EPROTO;
	memcpy(end, msg->body, sizeof(*end));
	end->nr_listeners = be64toh(end->nr_listeners);
	end->nr_conns = be64toh(end->nr_conns);
	end->paused_ns = be64toh(end->paused_ns);
	return takeover->socks.nr == 1 &&
		end->nr_listeners == takeover->listeners.nr + 1 &&
		end->nr_conns == takeover->nr_conns ? 0 : -EPROTO;
}

static int take(struct takeover *takeover, struct handoff_msg *msg)
{
	switch (msg->type) {
	case HANDOFF_LISTENER:
		return take_listener(takeover, msg);
	case HANDOFF_CONN:
		return take_conn(takeover, msg);
	case HANDOFF_END:
		return take_end(takeover, msg);
	default:
		return -EPROTO;
	}
}

static int take_all(struct takeover *takeover)
{
	uint64_t deadline_ns = clock_now_ns() + TELL_LIMIT_NS;
	struct handoff_msg msg;
	bool ended = false;
	int ret;

	ret = handoff_send(takeover->fd, deadline_ns, HANDOFF_HELLO, NULL, 0,
			   -1);
	while (!ret && !ended) {
		ret = handoff_recv(takeover->fd, deadline_ns, &msg);
		if (ret)
			break;
		ended = msg.type == HANDOFF_END;
		if (msg.type == HANDOFF_REFUSED) {
			failed(takeover, 0, msg.body);
			handoff_msg_fini(&msg);
			return -ECONNREFUSED;
		}
		ret = take(takeover, &msg);
		handoff_msg_fini(&msg);
	}
	return ret ? talk_failed(takeover, ret) : 0;
}

/* What can be seen to fail is no reason to have clients wait. */
static int check_paths(const struct options *opt)
{
	for (unsigned int i = 0; i < opt->nr_exports; i++) {
		const char *path = opt->exports[i].path;

		if (access(path, F_OK)) {
			int ret = -errno;

			log_error("%s: %s", path, strerror(-ret));
			return ret;
		}
	}
	return 0;
}

int takeover_begin(const struct options *opt, struct takeover **takeoverp)
{
	struct takeover *takeover;
	int fd, ret;

	*takeoverp = NULL;
	ret = check_paths(opt);
	if (ret)
		return ret;
	fd = connect_to(opt->handoff);
	if (fd == -ENOENT)
		return 0;
	if (fd < 0) {
		log_error("--handoff: whether a foliod answers at %s cannot be "
			  "told: %s", opt->handoff, strerror(-fd));
		return fd;
	}
	takeover = calloc(1, sizeof(*takeover));
	if (!takeover) {
		close(fd);
		return -ENOMEM;
	}
	takeover->fd = fd;
	STAILQ_INIT(&takeover->conns);
	if (handoff_peer_is_ours(fd, &takeover->pid))
		ret = take_all(takeover);
	else
		ret = failed(takeover, -EPERM, "it belongs to another user");
	if (ret) {
		takeover_end(&takeover);
		return ret;
	}
	*takeoverp = takeover;
	return 0;
}

struct listeners *takeover_listeners(struct takeover *takeover)
{
	return &takeover->listeners;
}

struct listeners *takeover_socks(struct takeover *takeover)
{
	return &takeover->socks;
}

/* ---- the commit ---- */

static struct export *find_export(const struct conn_state *state,
				  const struct export_table *exports)
{
	struct export *export = NULL;
	struct peer peer;

	if (!state->name)
		return NULL;
	peer_get(&peer, state->fd, exports->asks_groups);
	export = export_find(exports, state->name, state->name_len, &peer);
	peer_fini(&peer);
	return export;
}

static void say_misfit(const struct conn_state *state, const char *why)
{
	log_warn("closing a connection to export '%.*s' that was taken over: "
		 "%s", (int)state->name_len, state->name, why);
}

/* Close those that cannot go on, and tell why. */
static void drop_misfits(struct takeover *takeover,
			 const struct export_table *exports)
{
	struct conn_states fit = STAILQ_HEAD_INITIALIZER(fit);
	struct conn_state *state;

	while ((state = STAILQ_FIRST(&takeover->conns))) {
		const char *why;

		state->export = find_export(state, exports);
		why = conn_state_misfit(state, state->export);
		STAILQ_REMOVE_HEAD(&takeover->conns, link);
		if (!why) {
			STAILQ_INSERT_TAIL(&fit, state, link);
			continue;
		}
		say_misfit(state, why);
		takeover->nr_misfits++;
		close(state->fd);
		conn_state_fini(state);
		free(state);
	}
	STAILQ_CONCAT(&takeover->conns, &fit);
}

static int ask_to_go(struct takeover *takeover)
{
	uint64_t deadline_ns = clock_now_ns() + TALK_LIMIT_NS;
	struct handoff_msg msg;
	int ret;

	ret = handoff_send(takeover->fd, deadline_ns, HANDOFF_READY, NULL, 0,
			   -1);
	if (!ret)
		ret = handoff_recv(takeover->fd, deadline_ns, &msg);
	if (ret)
		return talk_failed(takeover, ret);
	if (msg.type == HANDOFF_REFUSED) {
		failed(takeover, 0, msg.body);
		ret = -ECONNREFUSED;
	} else if (msg.type != HANDOFF_GO) {
		ret = talk_failed(takeover, -EPROTO);
	}
	handoff_msg_fini(&msg);
	return ret;
}

static void adopt_on_loop(struct loop_call *call)
{
	struct conn_states *lists = call->arg, *list = &lists[call->index];
	struct conn_state *state;
	int ret;

	STAILQ_FOREACH(state, list, link) {
		ret = conn_adopt(call->cl, state, state->export);
		if (ret)
			turned_away(strerror(-ret));
	}
	conn_states_free(list, false);
	loop_call_done(call);
}

/* Share them out over the loops, which have @lists. */
static void adopt_all(struct takeover *takeover, struct loops *loops,
		      struct conn_states *lists)
{
	unsigned int nr = loops_nr(loops), next = 0;
	struct conn_state *state;

	assert(nr);
	for (unsigned int i = 0; i < nr; i++)
		STAILQ_INIT(&lists[i]);
	while ((state = STAILQ_FIRST(&takeover->conns))) {
		struct conn_states *list = &lists[next++ % nr];

		STAILQ_REMOVE_HEAD(&takeover->conns, link);
		STAILQ_INSERT_TAIL(list, state, link);
	}
	loops_call(loops, adopt_on_loop, lists);
}

static void say_taken(const struct takeover *takeover)
{
	uint64_t paused_ns = clock_now_ns() - takeover->end.paused_ns;
	unsigned int nr = takeover->nr_conns - takeover->nr_misfits;

	log_info("took over %u connection%s from pid %d, which paused for "
		 "%.1f ms", nr, nr == 1 ? "" : "s", (int)takeover->pid,
		 paused_ns / 1e6);
}

int takeover_commit(struct takeover *takeover, struct loops *loops,
		    const struct export_table *exports, struct listeners *set)
{
	struct conn_states *lists;
	int ret;

	/* From GO on, nothing may fail. */
	lists = calloc(loops_nr(loops), sizeof(*lists));
	if (!lists)
		return failed(takeover, -ENOMEM, strerror(ENOMEM));
	drop_misfits(takeover, exports);
	ret = ask_to_go(takeover);
	if (ret)
		goto out_free;
	listeners_own(set);
	listeners_own(&takeover->listeners);
	listeners_close(&takeover->listeners);
	adopt_all(takeover, loops, lists);
	say_taken(takeover);

out_free:
	free(lists);
	return ret;
}

void takeover_end(struct takeover **takeoverp)
{
	struct takeover *takeover = *takeoverp;

	*takeoverp = NULL;
	if (!takeover)
		return;
	conn_states_free(&takeover->conns, true);
	listeners_close(&takeover->listeners);
	listeners_close(&takeover->socks);
	/* Without a commit, this says that the exports are free again. */
	close(takeover->fd);
	free(takeover);
}
