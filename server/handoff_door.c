/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handoff_door.c - where a foliod answers to those that would follow it.
 *
 * Whoever connects, is of our user and says HELLO has the handoff begin; one at
 * a time, and while clients are served: nothing waits here.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "server/handoff_internal.h"

#define HELLO_LIMIT_SEC		5

/* ---- who asks ---- */

void handoff_drop_peer(struct handoff *handoff)
{
	if (handoff->peer_readable)
		event_free(handoff->peer_readable);
	handoff->peer_readable = NULL;
	if (handoff->peer_fd >= 0)
		close(handoff->peer_fd);
	handoff->peer_fd = -1;
	handoff->hello_len = 0;
	if (handoff->readable)
		event_add(handoff->readable, NULL);
}

void handoff_turn_away(struct handoff *handoff, const char *why)
{
	log_warn("handoff: pid %d is turned away: %s", (int)handoff->peer_pid,
		 why);
	/* At once, or not at all. */
	handoff_refuse(handoff->peer_fd, clock_now_ns() + NSEC_PER_MSEC, why);
	handoff_drop_peer(handoff);
}

static void check_hello(struct handoff *handoff)
{
	struct handoff_head head;
	int ret = handoff_head_get(handoff->hello, &head);

	if (ret == -EPROTONOSUPPORT) {
		handoff_turn_away(handoff, "it speaks another version");
	} else if (ret || head.type != HANDOFF_HELLO || head.len) {
		handoff_turn_away(handoff, "it does not speak as a foliod does");
	} else {
		event_free(handoff->peer_readable);
		handoff->peer_readable = NULL;
		handoff->host.wanted(handoff->host.arg);
	}
}

static void on_hello(evutil_socket_t fd, short what, void *arg)
{
	struct handoff *handoff = arg;
	ssize_t n;

	if (what & EV_TIMEOUT) {
		handoff_turn_away(handoff, "it says nothing");
		return;
	}
	n = recv(fd, handoff->hello + handoff->hello_len,
		 sizeof(handoff->hello) - handoff->hello_len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		handoff_drop_peer(handoff);
		return;
	}
	handoff->hello_len += n;
	if (handoff->hello_len == sizeof(handoff->hello))
		check_hello(handoff);
}

static void on_peer(evutil_socket_t fd, short what, void *arg)
{
	const struct timeval limit = { .tv_sec = HELLO_LIMIT_SEC };
	struct handoff *handoff = arg;

	(void)what;
	handoff->peer_fd = accept4(fd, NULL, NULL, SOCK_NONBLOCK |
				   SOCK_CLOEXEC);
	if (handoff->peer_fd < 0)
		return;
	/* One at a time. */
	event_del(handoff->readable);
	if (!handoff_peer_is_ours(handoff->peer_fd, &handoff->peer_pid)) {
		handoff_turn_away(handoff, "it belongs to another user");
		return;
	}
	handoff->peer_readable = event_new(event_get_base(handoff->readable),
					   handoff->peer_fd,
					   EV_READ | EV_PERSIST, on_hello,
					   handoff);
	if (!handoff->peer_readable ||
	    event_add(handoff->peer_readable, &limit))
		handoff_drop_peer(handoff);
}

/* ---- start and stop ---- */

static int open_socket(struct handoff *handoff, const char *path,
		       struct listeners *socks)
{
	const struct listen_option opt = {
		.kind = LISTEN_UNIX, .path = (char *)(uintptr_t)path,
	};
	CLEANUP_FREE char *error = NULL;
	int ret;

	if (socks && socks->nr) {
		handoff->socks = *socks;
		*socks = (struct listeners) { NULL, 0 };
		return 0;
	}
	ret = listeners_open(&handoff->socks, &opt, 1, &error);
	if (ret) {
		log_error("--handoff: %s", error ? error : strerror(-ret));
		return ret;
	}
	/* Beside this, who connects is asked who it is. */
	if (chmod(path, 0600))
		log_warn("--handoff: cannot change the mode of %s: %s", path,
			 strerror(errno));
	return 0;
}

int handoff_start(const char *path, struct listeners *socks,
		  const struct handoff_host *host, struct handoff **handoffp)
{
	struct handoff *handoff = calloc(1, sizeof(*handoff));
	int ret;

	if (!handoff)
		return -ENOMEM;
	handoff->host = *host;
	handoff->peer_fd = -1;
	handoff->home_fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	ret = open_socket(handoff, path, socks);
	if (ret)
		goto out_stop;
	handoff->readable = event_new(loop_event_base(loops_main(host->loops)),
				      handoff->socks.list[0].fd,
				      EV_READ | EV_PERSIST, on_peer, handoff);
	if (!handoff->readable || event_add(handoff->readable, NULL)) {
		log_error("--handoff: %s", strerror(ENOMEM));
		ret = -ENOMEM;
		goto out_stop;
	}
	*handoffp = handoff;
	return 0;

out_stop:
	handoff_stop(&handoff);
	return ret;
}

void handoff_own(struct handoff *handoff)
{
	listeners_own(&handoff->socks);
}

void handoff_stop(struct handoff **handoffp)
{
	struct handoff *handoff = *handoffp;

	*handoffp = NULL;
	if (!handoff)
		return;
	if (handoff->readable)
		event_free(handoff->readable);
	handoff->readable = NULL;
	handoff_drop_peer(handoff);
	listeners_close(&handoff->socks);
	if (handoff->home_fd >= 0)
		close(handoff->home_fd);
	free(handoff);
}
