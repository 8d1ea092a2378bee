/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire.c - sockets with bounded waits.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/wire/harness.h"
#include "tests/wire/tls.h"
#include "tests/wire/wire.h"

static struct conn *all_conns;

void put16(void *p, uint16_t v) { v = htobe16(v); memcpy(p, &v, sizeof(v)); }
void put32(void *p, uint32_t v) { v = htobe32(v); memcpy(p, &v, sizeof(v)); }
void put64(void *p, uint64_t v) { v = htobe64(v); memcpy(p, &v, sizeof(v)); }

uint16_t get16(const void *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return be16toh(v);
}

uint32_t get32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}

uint64_t get64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return be64toh(v);
}

struct conn *conn_adopt(int fd)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		fatal("no memory for a connection");
	}
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	c->fd = fd;
	c->next_cookie = 0x1122334455667700ull;
	c->next = all_conns;
	all_conns = c;
	return c;
}

/* A full backlog must not hang the test: connect() honours this. */
static void bound_connect(int fd)
{
	struct timeval tv = {
		.tv_sec = env.timeout_ms / 1000 + 1,
	};

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

struct conn *conn_connect_tcp(const char *host, const char *port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *ai;
	int fd, ret;

	ret = getaddrinfo(host, port, &hints, &ai);
	if (ret)
		fatal("cannot resolve %s: %s", host, gai_strerror(ret));
	fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC, 0);
	bound_connect(fd);
	ret = fd < 0 ? -1 : connect(fd, ai->ai_addr, ai->ai_addrlen);
	freeaddrinfo(ai);
	if (ret)
		fatal("cannot connect to %s:%s: %s", host, port,
		      strerror(errno));
	return conn_adopt(fd);
}

struct conn *conn_connect(void)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd;

	if (env.tcp)
		return conn_connect_tcp(env.host, env.port);
	memcpy(sun.sun_path, env.path, sizeof(sun.sun_path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		fatal("socket: %s", strerror(errno));
	bound_connect(fd);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0) {
		int err = errno;

		close(fd);
		fatal("cannot connect to %s: %s", env.path, strerror(err));
	}
	return conn_adopt(fd);
}

void conn_close(struct conn *c)
{
	for (struct conn **pp = &all_conns; *pp; pp = &(*pp)->next) {
		if (*pp == c) {
			*pp = c->next;
			break;
		}
	}
	tls_conn_free(c);
	close(c->fd);
	free(c->servers);
	free(c);
}

void conn_reset(struct conn *c)
{
	struct linger linger = { .l_onoff = 1 };

	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	conn_close(c);
}

void conn_close_all(void)
{
	while (all_conns)
		conn_close(all_conns);
}

/* A slow machine may take its time over the long ones: 10 MB/s at least. */
static int64_t deadline_for(size_t len)
{
	return now_ms() + env.timeout_ms + (int64_t)(len / 10000);
}

static int wait_for(const struct conn *c, short events, int64_t deadline)
{
	struct pollfd pfd = { .fd = c->fd, .events = events };
	int64_t left = deadline - now_ms();
	int ret;

	ret = poll(&pfd, 1, left > 0 ? (int)left : 0);
	if (ret < 0)
		return errno == EINTR ? 0 : -errno;
	return ret == 0 ? -ETIMEDOUT : 0;
}

static ssize_t raw_send(struct conn *c, const void *buf, size_t len)
{
	return c->tls ? tls_conn_send(c, buf, len) :
			send(c->fd, buf, len, MSG_NOSIGNAL);
}

static ssize_t raw_recv(struct conn *c, void *buf, size_t len)
{
	return c->tls ? tls_conn_recv(c, buf, len) : recv(c->fd, buf, len, 0);
}

int try_send(struct conn *c, const void *buf, size_t len)
{
	int64_t deadline = deadline_for(len);
	const uint8_t *p = buf;

	while (len) {
		ssize_t n = raw_send(c, p, len);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n < 0) {
			int ret = wait_for(c, POLLOUT, deadline);

			if (ret)
				return ret;
			continue;
		}
		p += n;
		len -= n;
	}
	return 0;
}

int try_recv(struct conn *c, void *buf, size_t len)
{
	int64_t deadline = deadline_for(len);
	uint8_t *p = buf;

	while (len) {
		ssize_t n = raw_recv(c, p, len);

		if (n == 0)
			return 0;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n < 0) {
			int ret = wait_for(c, POLLIN, deadline);

			if (ret)
				return ret;
			continue;
		}
		p += n;
		len -= n;
	}
	return 1;
}

void conn_send(struct conn *c, const void *buf, size_t len)
{
	int ret = try_send(c, buf, len);

	if (ret)
		fatal("sending %zu bytes: %s", len, strerror(-ret));
}

void conn_recv(struct conn *c, void *buf, size_t len)
{
	int ret = try_recv(c, buf, len);

	if (ret == 0)
		fatal("the server closed the connection");
	if (ret == -ETIMEDOUT)
		fatal("no answer");
	if (ret < 0)
		fatal("receiving: %s", strerror(-ret));
}

int try_send_zeroes(struct conn *c, uint64_t len)
{
	static const uint8_t zeroes[1u * MIB];

	while (len) {
		size_t n = len < sizeof(zeroes) ? len : sizeof(zeroes);
		int ret = try_send(c, zeroes, n);

		if (ret)
			return ret;
		len -= n;
	}
	return 0;
}

void send_zeroes(struct conn *c, uint64_t len)
{
	int ret = try_send_zeroes(c, len);

	if (ret)
		fatal("sending a payload: %s", strerror(-ret));
}

int64_t read_to_close(struct conn *c)
{
	int64_t got = 0;
	uint8_t buf[4096];

	for (;;) {
		int64_t deadline = deadline_for(0);
		ssize_t n = raw_recv(c, buf, sizeof(buf));

		if (n > 0) {
			got += n;
			continue;
		}
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			return got;
		if (wait_for(c, POLLIN, deadline) == -ETIMEDOUT)
			return -ETIMEDOUT;
	}
}

void wait_readable(struct conn *c)
{
	if (wait_for(c, POLLIN, deadline_for(0)) == -ETIMEDOUT)
		fatal("no answer");
}

void expect_close(struct conn *c)
{
	int64_t got = read_to_close(c);

	if (got < 0)
		fail("the server did not close the connection");
	else if (got > 0)
		fail("%" PRId64 " bytes came before the server closed", got);
}

void expect_silence(struct conn *c, int ms)
{
	uint8_t byte;
	ssize_t n;

	if (wait_for(c, POLLIN, now_ms() + ms) == -ETIMEDOUT)
		return;
	n = recv(c->fd, &byte, 1, MSG_PEEK);
	if (n > 0)
		fail("unexpected bytes came, the first is 0x%02x", byte);
	else
		fail("the server closed the connection");
}
