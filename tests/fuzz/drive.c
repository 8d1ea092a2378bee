/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * drive.c - feed bytes to the real connection code, for libFuzzer targets.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "tests/fuzz/drive.h"
#include "tests/fuzz/world.h"

/* The client. */
static struct {
	int		fd;
	struct event	*readable, *writable;
	struct iovec	iov[2];		/* unsent */
} client;

static void on_client_readable(evutil_socket_t fd, short what, void *arg)
{
	static char buf[256 << 10];

	(void)what;
	(void)arg;
	if (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) == 0)
		event_del(client.readable);
}

static void on_client_writable(evutil_socket_t fd, short what, void *arg)
{
	struct msghdr msg = { .msg_iov = client.iov, .msg_iovlen = 2 };
	ssize_t n;

	(void)what;
	(void)arg;
	n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno == EAGAIN)
		return;
	for (int i = 0; i < 2 && n > 0; i++) {
		size_t part = MIN((size_t)n, client.iov[i].iov_len);

		client.iov[i].iov_base = (char *)client.iov[i].iov_base + part;
		client.iov[i].iov_len -= part;
		n -= part;
	}
	if (n < 0 || client.iov[0].iov_len + client.iov[1].iov_len == 0) {
		event_del(client.writable);
		shutdown(fd, SHUT_WR);
	}
}

void drive(unsigned int how, const void *head, size_t head_len,
	   const uint8_t *data, size_t len)
{
	struct event_base *base;
	int fds[2];

	if (!world.loop)
		world_make();
	world_set(how);
	base = loop_event_base(world.loop);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		abort();
	client.fd = fds[0];
	client.iov[0] = (struct iovec){ (void *)(uintptr_t)head, head_len };
	client.iov[1] = (struct iovec){ (void *)(uintptr_t)data, len };
	client.readable = event_new(base, fds[0], EV_READ | EV_PERSIST,
				    on_client_readable, NULL);
	client.writable = event_new(base, fds[0], EV_WRITE | EV_PERSIST,
				    on_client_writable, NULL);
	event_add(client.readable, NULL);
	event_add(client.writable, NULL);
	loop_enter(world.loop);
	if (conn_start(&world.cl, fds[1], fds[1], TLS_OFF))
		abort();
	loop_enter(NULL);
	loop_run(world.loop);
	event_free(client.readable);
	event_free(client.writable);
	close(client.fd);
	if (world.cl.nr_conns || fake_pinned_bytes || fake_stages ||
	    world.shared.reply_bytes)
		abort();
}
