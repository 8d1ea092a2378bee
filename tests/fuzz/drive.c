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

#include "server/conn.h"
#include "tests/fakevolume.h"
#include "tests/fuzz/drive.h"

#define VOLUME_SIZE	(UINT64_C(4) << 20)

static struct loop *loop;
static struct conn_loop cl;
static struct fakevolume *volumes[2];
static struct export exports[2] = {
	{
		.name = (char *)(uintptr_t)"a",
		.block_min = 1,
	}, {
		.name = (char *)(uintptr_t)"read-only",
		.description = (char *)(uintptr_t)"a text",
		.read_only = true,
		.block_min = 512,
	},
};
static const struct export_table table = { .exports = exports, .nr = 2 };
static struct conn_shared shared = {
	.exports = &table,
	.reply_budget = 1 << 20,
};

/* The client. */
static struct {
	int		fd;
	struct event	*readable, *writable;
	struct iovec	iov[2];		/* unsent */
} client;

static void on_idle(struct conn_loop *idle_cl)
{
	(void)idle_cl;
	loop_stop(loop);
}

static void setup(void)
{
	if (loop_new(&loop) || conn_loop_init(&cl, loop, &shared))
		abort();
	cl.idle = on_idle;
	for (int i = 0; i < 2; i++) {
		volumes[i] = fakevolume_new(VOLUME_SIZE);
		exports[i].vol = &volumes[i]->vol;
		exports[i].block_preferred = 4096;
		exports[i].block_max = 32 << 20;
		fakevolume_fill(volumes[i], 0, 256 << 10);
	}
}

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

static void set_switches(unsigned int how)
{
	for (int i = 0; i < 2; i++) {
		volumes[i]->miss = !!(how & DRIVE_MISS);
		volumes[i]->relax = !!(how & DRIVE_RELAX);
		volumes[i]->no_stages = !!(how & DRIVE_NO_STAGES);
		volumes[i]->dirty = !!(how & DRIVE_MISS);
		volumes[i]->error = how & DRIVE_ERROR ? -EIO : 0;
		volumes[i]->error_after = how & DRIVE_ERROR ? 1 : 0;
	}
	cl.draining = how & DRIVE_DRAINING;
}

void drive(unsigned int how, const void *head, size_t head_len,
	   const uint8_t *data, size_t len)
{
	struct event_base *base;
	int fds[2];

	if (!loop)
		setup();
	set_switches(how);
	base = loop_event_base(loop);
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
	loop_enter(loop);
	if (conn_start(&cl, fds[1], fds[1], TLS_OFF))
		abort();
	loop_enter(NULL);
	loop_run(loop);
	event_free(client.readable);
	event_free(client.writable);
	close(client.fd);
	if (cl.nr_conns || fake_pinned_bytes || fake_stages ||
	    shared.reply_bytes)
		abort();
}
