/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * server.c - foliod from the opening of its exports to the last flush.
 *
 *	cache -> loops -> exports -> listeners -> pid file, --run
 *	       serve until a signal, the command's end or the client's
 *	no listeners -> connections drained -> volumes flushed -> loops ended
 *
 * All of it happens on the main thread, which runs the first loop whenever it
 * waits for something.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "cache/cache.h"
#include "server/accept.h"
#include "server/daemon.h"
#include "server/exports.h"
#include "server/handoff.h"
#include "server/listen.h"
#include "server/loops.h"
#include "server/notify.h"
#include "server/pidfile.h"
#include "server/run.h"
#include "server/server.h"
#include "server/signals.h"
#include "server/takeover.h"
#include "server/tls.h"
#include "server/uri.h"
#include "server/watchdog.h"

#define STAGING_MAX		(UINT64_C(128) << 20)
/* In memory before the cache needs it: a second of fast writes, about. */
#define PREFAULT_MAX		(UINT64_C(64) << 20)
#define REPLY_BUDGET		(UINT64_C(128) << 20)
#define HANDSHAKE_TIMEOUT_NS	(10 * NSEC_PER_SEC)
#define STALL_TIMEOUT_NS	(15 * NSEC_PER_SEC)
/* How long clients that have nothing under way may stay once we stop, and
 * all of them. */
#define DRAIN_GRACE_NS		(3 * NSEC_PER_SEC)
#define DRAIN_LIMIT_NS		(10 * NSEC_PER_SEC)
/* How long --run's command may take to end by SIGTERM. */
#define CHILD_LIMIT_NS		(10 * NSEC_PER_SEC)

struct server {
	const struct server_params	*params;
	const struct options		*opt;
	int				ready_fd;
	struct cache			*cache;
	struct loops			*loops;
	struct signals			*signals;
	struct export_table		exports;
	struct conn_shared		shared;
	struct listeners		listeners;
	struct acceptor			*acceptor;
	char				*pid_file;
	struct notify			notify;
	struct watchdog			*watchdog;
	struct run_child		child;
	struct timer			child_timer;
	unsigned int			nr_stop_signals;
	struct takeover			*takeover;	/* while we start */
	struct handoff			*handoff;	/* NULL: not asked for */
	bool				wanted;		/* to be handed over */
	bool				wake;		/* ends loops_wait() */
	bool				stop;		/* with wake */
	bool				child_gone;	/* likewise */
	int				status;		/* exit status so far */
};

static void fail(struct server *s)
{
	s->status = 1;
}

static void request_stop(struct server *s)
{
	s->stop = s->wake = true;
	loop_stop(loops_main(s->loops));
}

/* ---- signals ---- */

static void on_stop_signal(struct server *s, int signo)
{
	s->nr_stop_signals++;
	if (s->child.pid)
		kill(s->child.pid, s->nr_stop_signals == 1 ? signo : SIGKILL);
	if (s->nr_stop_signals == 1)
		request_stop(s);
	else
		loops_hurry(s->loops);
}

static void reread(struct server *s)
{
	CLEANUP_FREE char *error = NULL;
	int ret;

	log_info("SIGHUP: looking at the sizes of exports; the command line "
		 "stays as it is");
	exports_revalidate(&s->exports);
	if (!s->shared.tls)
		return;
	ret = tls_reload(s->shared.tls, &error);
	if (ret)
		log_error("SIGHUP: %s: TLS goes on as before",
			  error ? error : strerror(-ret));
	else
		log_info("SIGHUP: new clients get the TLS credentials as they "
			 "are now");
}

static void on_signal(void *arg, int signo)
{
	struct server *s = arg;

	switch (signo) {
	case SIGTERM:
	case SIGINT:
		on_stop_signal(s, signo);
		break;
	case SIGHUP:
		notify_reloading(&s->notify);
		reread(s);
		notify_reloaded(&s->notify, s->exports.nr);
		break;
	case SIGCHLD:
		if (run_reap(&s->child)) {
			s->child_gone = true;
			request_stop(s);
		}
		break;
	}
}

/* ---- TLS ---- */

static int open_tls(struct server *s)
{
	const struct tls_params params = {
		.certificates = s->opt->tls_certificates,
		.psk_file = s->opt->tls_psk,
		.verify_peer = s->opt->tls_verify_peer,
	};
	CLEANUP_FREE char *error = NULL;
	int ret;

	if (!params.certificates && !params.psk_file)
		return 0;
	ret = tls_new(&params, &s->shared.tls, &error);
	if (ret)
		log_error("%s", error ? error : strerror(-ret));
	return ret;
}

/* Can nothing be had without TLS? */
static bool all_need_tls(const struct server *s)
{
	return s->exports.nr && s->exports.nr_tls_only == s->exports.nr;
}

/* Does TLS let in only clients that have proved who they are? */
static bool tls_authenticates(const struct server *s)
{
	return s->opt->tls_verify_peer || !s->opt->tls_certificates;
}

static char *client_uri(const struct server *s, const struct listener *listener,
			const char *name)
{
	char *uri = listener_uri(listener, name);

	return listener->tls == TLS_REQUIRE || all_need_tls(s) ?
	       uri_with_tls(uri) : uri;
}

/* ---- listeners ---- */

static void on_client(void *arg, int fd, enum tls_mode tls)
{
	struct server *s = arg;

	loops_serve(s->loops, fd, tls);
}

/* Has each export a list of those it is there for, or TLS that tells? */
static bool all_are_guarded(const struct server *s,
			    const struct listener *listener)
{
	for (unsigned int i = 0; i < s->exports.nr; i++) {
		const struct export *export = &s->exports.exports[i];
		enum tls_mode mode = MAX(export->tls, listener->tls);

		if (!export->access.nr &&
		    !(mode == TLS_REQUIRE && tls_authenticates(s)))
			return false;
	}
	return true;
}

static void warn_if_open(const struct server *s,
			 const struct listener *listener)
{
	CLEANUP_FREE char *uri = listener_uri(listener, "");
	const char *name = listener->fd_name;

	if (listener->open && uri && !all_are_guarded(s, listener))
		log_warn("everybody who reaches %s%s%s%s can use its exports: "
			 "clients are not authenticated; see --allow", uri,
			 name ? " ('" : "", name ? name : "",
			 name ? "')" : "");
}

/* A line of its own for scripts, without the prefix of messages. */
static int announce(const struct server *s, const struct listener *listener)
{
	CLEANUP_FREE char *uri = client_uri(s, listener, "");

	if (!uri)
		return -ENOMEM;
	dprintf(STDERR_FILENO, "listening on %s\n", uri);
	return 0;
}

static int start_acceptor(struct server *s)
{
	return acceptor_start(&s->listeners,
			      loop_event_base(loops_main(s->loops)), on_client,
			      s, &s->acceptor);
}

static int open_listeners(struct server *s)
{
	CLEANUP_FREE char *error = NULL;
	int ret;

	ret = listeners_take(&s->listeners, s->takeover ?
			     takeover_listeners(s->takeover) : NULL,
			     s->opt->listens, s->opt->nr_listens, &error);
	if (ret) {
		log_error("%s", error ? error : strerror(-ret));
		return ret;
	}
	for (unsigned int i = 0; i < s->listeners.nr; i++)
		warn_if_open(s, &s->listeners.list[i]);
	ret = start_acceptor(s);
	if (ret)
		log_error("cannot listen: %s", strerror(-ret));
	return ret;
}

static void close_listeners(struct server *s)
{
	acceptor_stop(&s->acceptor);
	listeners_close(&s->listeners);
}

/* ---- one client on standard input and output ---- */

static void on_single_gone(void *arg)
{
	request_stop(arg);
}

/* Is there one socket behind both, as a super-server has it? */
static bool is_one_socket(int in_fd, int out_fd)
{
	struct stat in, out;

	return fstat(in_fd, &in) == 0 && fstat(out_fd, &out) == 0 &&
	       S_ISSOCK(in.st_mode) && in.st_dev == out.st_dev &&
	       in.st_ino == out.st_ino;
}

/* Files cannot be waited for; epoll is who knows. */
static bool can_wait_for(int fd)
{
	struct epoll_event event = { .events = EPOLLIN };
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	bool can;

	if (epoll_fd < 0)
		return true;
	can = epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ||
	      errno != EPERM;
	close(epoll_fd);
	return can;
}

static int serve_single(struct server *s)
{
	int in_fd, out_fd, null_fd, ret = 0;

	if (s->opt->single_fd >= 0) {
		ret = loops_serve_single(s->loops, s->opt->single_fd,
					 s->opt->single_fd, on_single_gone, s);
		if (ret)
			log_error("cannot serve the client of descriptor %d: "
				  "%s", s->opt->single_fd, strerror(-ret));
		return ret;
	}
	if (!can_wait_for(STDIN_FILENO) || !can_wait_for(STDOUT_FILENO)) {
		log_error("--single: standard input and output must be sockets "
			  "or pipes");
		return -EPERM;
	}
	/* Others shall not find the client where they expect stdio. */
	in_fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	out_fd = is_one_socket(STDIN_FILENO, STDOUT_FILENO) ? in_fd :
		 fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (in_fd < 0 || out_fd < 0 || null_fd < 0 ||
	    dup2(null_fd, STDIN_FILENO) < 0 ||
	    dup2(null_fd, STDOUT_FILENO) < 0)
		ret = -errno;
	if (null_fd >= 0)
		close(null_fd);
	if (!ret) {
		ret = loops_serve_single(s->loops, in_fd, out_fd,
					 on_single_gone, s);
	} else {
		if (out_fd >= 0 && out_fd != in_fd)
			close(out_fd);
		if (in_fd >= 0)
			close(in_fd);
	}
	if (ret)
		log_error("cannot serve standard input and output: %s",
			  strerror(-ret));
	return ret;
}

/* ---- --run ---- */

/* The name to ask for where one is needed. */
static const char *main_export(const struct server *s)
{
	if (s->exports.default_export >= 0)
		return "";
	return s->exports.exports[0].name;
}

static int start_command(struct server *s)
{
	const char *name = main_export(s), *path = NULL;
	CLEANUP_FREE char *uri = client_uri(s, &s->listeners.list[0], name);
	unsigned int nr_port = 0;
	char port[16];
	int ret;

	for (unsigned int i = s->listeners.nr; i-- > 0; ) {
		if (s->listeners.list[i].path)
			path = s->listeners.list[i].path;
		else if (s->listeners.list[i].host)
			nr_port = s->listeners.list[i].port;
	}
	snprintf(port, sizeof(port), "%u", nr_port);
	ret = !uri ? -ENOMEM :
	      run_start(&s->child, s->opt->command, &(struct run_vars) {
				.uri = uri, .unixsocket = path,
				.port = nr_port ? port : NULL,
				.exportname = name,
			}, s->params->signals);
	if (ret)
		log_error("cannot run the command: %s", strerror(-ret));
	return ret;
}

static void kill_child(struct timer *timer)
{
	struct server *s = container_of(timer, struct server, child_timer);

	if (s->child.pid)
		kill(s->child.pid, SIGKILL);
}

/* We stop by a signal, which the command has got as well. */
static void wait_for_command(struct server *s)
{
	if (s->child.pid) {
		loop_enter(loops_main(s->loops));
		timer_init(&s->child_timer, kill_child);
		timer_arm(&s->child_timer, clock_now_ns() + CHILD_LIMIT_NS);
		loop_enter(NULL);
		loops_wait(s->loops, &s->child_gone);
		loop_enter(loops_main(s->loops));
		timer_cancel(&s->child_timer);
		loop_enter(NULL);
	}
	if (s->child.exit_status)
		s->status = s->child.exit_status;
}

/* ---- all of it ---- */

static struct loop *nth_loop(void *arg, unsigned int i)
{
	return loops_nth(arg, i);
}

/* All listen, or the client is there: tell who waits for that. */
static int tell_ready(struct server *s)
{
	int ret = 0;

	for (unsigned int i = 0; i < s->listeners.nr && !ret; i++)
		ret = announce(s, &s->listeners.list[i]);
	if (ret) {
		log_error("cannot tell where it listens: %s", strerror(-ret));
		return ret;
	}
	if (s->opt->pid_file) {
		ret = pidfile_write(s->opt->pid_file, &s->pid_file);
		if (ret) {
			log_error("cannot write the pid file %s: %s",
				  s->opt->pid_file, strerror(-ret));
			return ret;
		}
	}
	if (s->ready_fd >= 0) {
		ret = daemon_ready(&s->ready_fd);
		if (ret) {
			log_error("cannot go into the background: %s",
				  strerror(-ret));
			return ret;
		}
	}
	notify_ready(&s->notify, s->exports.nr);
	ret = watchdog_start(&s->notify, s->params->threads, nth_loop,
			     s->loops, &s->watchdog);
	if (ret) {
		log_error("cannot start the watchdog: %s", strerror(-ret));
		return ret;
	}
	return s->opt->style == RUN_COMMAND ? start_command(s) : 0;
}

static int start_engine(struct server *s)
{
	const struct cache_params cache_params = {
		.size = s->params->cache_size, .staging_max = STAGING_MAX,
		.prefault = MIN(PREFAULT_MAX, s->params->cache_size / 8),
		.nr_threads = s->params->threads,
	};
	char size[32];
	int ret;

	ret = cache_new(&cache_params, &s->cache);
	if (ret) {
		log_error("cannot make a cache of %s: %s; use another "
			  "--cache-size",
			  size_to_text(cache_params.size, size, sizeof(size)),
			  strerror(-ret));
		return ret;
	}
	s->shared = (struct conn_shared) {
		.exports = &s->exports, .cache = s->cache,
		.handshake_timeout_ns = HANDSHAKE_TIMEOUT_NS,
		.stall_timeout_ns = STALL_TIMEOUT_NS,
		/* What is pinned cannot be evicted. */
		.reply_budget = MIN(REPLY_BUDGET, s->params->cache_size / 4),
		.max_conns = s->params->max_conns,
	};
	if (s->opt->max_conns_per_peer &&
	    peers_new(s->opt->max_conns_per_peer, &s->shared.peers)) {
		log_error("%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	ret = open_tls(s);
	if (ret)
		return ret;
	ret = loops_start(s->params->threads, &s->shared, &s->loops);
	if (ret)
		return ret;
	ret = signals_start(loop_event_base(loops_main(s->loops)), on_signal,
			    s, &s->signals);
	if (ret)
		log_error("cannot take signals: %s", strerror(-ret));
	return ret;
}

static void stop_engine(struct server *s)
{
	signals_stop(&s->signals);
	watchdog_stop(s->watchdog);
	loops_stop(&s->loops);
	watchdog_free(s->watchdog);
	notify_fini(&s->notify);
	peers_free(s->shared.peers);
	tls_free(&s->shared.tls);
	if (s->cache)
		cache_free(s->cache);
}

/* ---- handoff ---- */

static void on_handoff_wanted(void *arg)
{
	struct server *s = arg;

	s->wanted = s->wake = true;
	loop_stop(loops_main(s->loops));
}

/* With all open: make what there is to take over ours, and answer to whoever
 * will take it over from us. */
static int join_succession(struct server *s)
{
	const struct handoff_host host = {
		.loops = s->loops, .exports = &s->exports,
		.listeners = &s->listeners, .opt = s->opt, .cache = s->cache,
		.wanted = on_handoff_wanted, .arg = s,
	};
	int ret;

	if (!s->opt->handoff)
		return 0;
	ret = handoff_start(s->opt->handoff, s->takeover ?
			    takeover_socks(s->takeover) : NULL, &host,
			    &s->handoff);
	if (ret || !s->takeover)
		return ret;
	ret = takeover_commit(s->takeover, s->loops, &s->exports,
			      &s->listeners);
	if (!ret)
		handoff_own(s->handoff);
	return ret;
}

/* False: we are done, by having given all away or by being unable to. */
static bool hand_over(struct server *s)
{
	int ret;

	s->wanted = false;
	acceptor_stop(&s->acceptor);
	ret = handoff_run(s->handoff);
	if (!ret)
		ret = start_acceptor(s);
	if (ret < 0)
		fail(s);
	return !ret;
}

static void serve_until_end(struct server *s)
{
	do {
		s->wake = s->stop || s->wanted;
		loops_wait(s->loops, &s->wake);
	} while (!s->stop && hand_over(s));
}

/* With the exports open. */
static void serve(struct server *s)
{
	int ret;

	if (s->opt->style == RUN_SINGLE)
		ret = serve_single(s);
	else
		ret = open_listeners(s);
	if (!ret)
		ret = join_succession(s);
	/* Clients that were taken over shall not suffer for a pid file. */
	if (!ret && tell_ready(s) && !s->takeover)
		ret = -EIO;
	if (!ret)
		takeover_end(&s->takeover);
	if (ret)
		fail(s);
	else
		serve_until_end(s);
	notify_stopping(&s->notify);
	handoff_stop(&s->handoff);
	close_listeners(s);
	loops_drain(s->loops, DRAIN_GRACE_NS, DRAIN_LIMIT_NS);
}

int server_run(const struct server_params *params)
{
	struct server s = {
		.params = params, .opt = params->opt,
		.ready_fd = params->ready_fd,
	};

	if (exports_init(&s.exports, s.opt->nr_exports)) {
		log_error("%s", strerror(ENOMEM));
		return 1;
	}
	notify_init(&s.notify);
	if (start_engine(&s)) {
		fail(&s);
		goto out_stop;
	}
	if (s.opt->handoff && takeover_begin(s.opt, &s.takeover))
		fail(&s);
	if (!s.status && exports_open(&s.exports, s.opt, s.cache, s.loops,
				      &s.stop))
		fail(&s);
	if (!s.status && !s.stop)
		serve(&s);
	notify_flushing(&s.notify);
	if (exports_close(&s.exports, s.loops))
		fail(&s);
	takeover_end(&s.takeover);
	wait_for_command(&s);
	pidfile_remove(&s.pid_file);
out_stop:
	stop_engine(&s);
	exports_fini(&s.exports);
	daemon_flush_log();
	return s.status;
}
