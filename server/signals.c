/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * signals.c - signals as events of one loop.
 */
#include <errno.h>
#include <event2/event.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/base.h"
#include "server/signals.h"

struct signals {
	int		fd;
	struct event	*readable;
	void		(*fn)(void *arg, int signo);
	void		*arg;
};

static sigset_t taken;

static bool is_ignored(int signo)
{
	struct sigaction action;

	return sigaction(signo, NULL, &action) == 0 &&
	       action.sa_handler == SIG_IGN;
}

static void ignore_signal(int signo, struct signal_state *before)
{
	const struct sigaction ignore = { .sa_handler = SIG_IGN };

	if (!is_ignored(signo))
		sigaddset(&before->defaults, signo);
	sigaction(signo, &ignore, NULL);
}

void signals_block(struct signal_state *before)
{
	const struct sigaction dfl = { .sa_handler = SIG_DFL };

	sigemptyset(&taken);
	sigaddset(&taken, SIGTERM);
	sigaddset(&taken, SIGCHLD);
	/* A blocked signal would reach us although it is ignored. */
	if (!is_ignored(SIGINT))
		sigaddset(&taken, SIGINT);
	if (!is_ignored(SIGHUP))
		sigaddset(&taken, SIGHUP);
	sigemptyset(&before->defaults);
	/* EPIPE and EFBIG tell us as well. */
	ignore_signal(SIGPIPE, before);
	ignore_signal(SIGXFSZ, before);
	/* Were it ignored, children would leave no status. */
	sigaction(SIGCHLD, &dfl, NULL);
	pthread_sigmask(SIG_BLOCK, &taken, &before->blocked);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct signals *signals = arg;
	struct signalfd_siginfo info;

	(void)what;
	while (read(fd, &info, sizeof(info)) == sizeof(info))
		signals->fn(signals->arg, info.ssi_signo);
}

int signals_start(struct event_base *base, void (*fn)(void *arg, int signo),
		  void *arg, struct signals **signalsp)
{
	struct signals *signals = calloc(1, sizeof(*signals));
	int ret = -ENOMEM;

	if (!signals)
		return ret;
	signals->fn = fn;
	signals->arg = arg;
	signals->fd = signalfd(-1, &taken, SFD_NONBLOCK | SFD_CLOEXEC);
	if (signals->fd < 0) {
		ret = -errno;
		goto out_free;
	}
	signals->readable = event_new(base, signals->fd, EV_READ | EV_PERSIST,
				      on_readable, signals);
	if (!signals->readable)
		goto out_close;
	if (event_add(signals->readable, NULL))
		goto out_free_event;
	*signalsp = signals;
	return 0;

out_free_event:
	event_free(signals->readable);
out_close:
	close(signals->fd);
out_free:
	free(signals);
	return ret;
}

void signals_stop(struct signals **signalsp)
{
	struct signals *signals = *signalsp;

	*signalsp = NULL;
	if (!signals)
		return;
	event_free(signals->readable);
	close(signals->fd);
	free(signals);
}
