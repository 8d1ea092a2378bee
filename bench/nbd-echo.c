/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd-echo - an NBD server that does nothing but move the bytes.
 *
 * It is the ceiling that bench/compare measures foliod against: one thread,
 * one memory image, no cache, no locks.  A turn receives what the socket
 * holds into one buffer, parses every whole request in it and answers them
 * all with one sendmsg() out of the image.  A write's payload is copied
 * twice, socket to buffer and buffer to image, and lands there as it comes.
 *
 * It trusts its client except where that would crash it: not for real data.
 */
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench/wire.h"

enum {
	NR_REPLIES	= 256,		/* answered by one sendmsg() at most */
	BUFFER_SIZE	= 256 << 10,	/* stays in the processor's cache */
	OPTION_MAX	= 64 << 10,
};

#define EXPORT_FLAGS (WIRE_HAS_FLAGS | WIRE_SEND_FLUSH | WIRE_SEND_FUA | \
		      WIRE_CAN_MULTI_CONN)

struct conn {
	int			fd;
	bool			blocked;	/* waiting for EPOLLOUT */
	/* A write whose payload is still coming. */
	uint64_t		write_pos;
	uint32_t		write_left;
	uint64_t		write_cookie;
	/* Received and not parsed: what is left in front of a turn. */
	uint8_t			*rest;
	size_t			rest_len;
	/* Replies that are not sent yet: iov[iov_first..nr_iov). */
	struct wire_simple_reply replies[NR_REPLIES];
	struct iovec		iov[2 * NR_REPLIES];
	int			iov_first, nr_iov, nr_replies;
};

static uint8_t *image;
static uint64_t image_size = UINT64_C(1) << 30;
static uint8_t buffer[BUFFER_SIZE];
static int epoll_fd;

static bool send_all(int fd, const void *data, size_t len)
{
	return send(fd, data, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool recv_all(int fd, void *data, size_t len)
{
	return len == 0 || recv(fd, data, len, MSG_WAITALL) == (ssize_t)len;
}

static bool option_reply(int fd, uint32_t option, uint32_t type,
			 const void *data, uint32_t len)
{
	struct wire_option_reply reply = {
		htobe64(WIRE_OPTION_REPLY_MAGIC), htobe32(option),
		htobe32(type), htobe32(len),
	};

	return send_all(fd, &reply, sizeof(reply)) && send_all(fd, data, len);
}

/* Blocking, with a timeout on the socket.  True: transmission begins. */
static bool handshake(int fd)
{
	struct {
		uint64_t magic, option_magic;
		uint16_t flags;
	} __attribute__((packed)) hello = {
		htobe64(WIRE_MAGIC), htobe64(WIRE_OPTION_MAGIC),
		htobe16(WIRE_FIXED_NEWSTYLE | WIRE_NO_ZEROES),
	};
	struct wire_info_export info = {
		htobe16(WIRE_INFO_EXPORT), htobe64(image_size),
		htobe16(EXPORT_FLAGS),
	};
	static const uint8_t zeroes[124];
	static uint8_t data[OPTION_MAX];
	struct wire_option_head head;
	uint32_t client, option;
	bool ok = true;

	if (!send_all(fd, &hello, sizeof(hello)) ||
	    !recv_all(fd, &client, sizeof(client)))
		return false;
	while (ok) {
		if (!recv_all(fd, &head, sizeof(head)) ||
		    be64toh(head.magic) != WIRE_OPTION_MAGIC ||
		    be32toh(head.len) > OPTION_MAX ||
		    !recv_all(fd, data, be32toh(head.len)))
			return false;
		option = be32toh(head.option);
		switch (option) {
		case WIRE_OPT_EXPORT_NAME:
			return send_all(fd, &info.size, 10) &&
				((be32toh(client) & WIRE_NO_ZEROES) ||
				 send_all(fd, zeroes, sizeof(zeroes)));
		case WIRE_OPT_LIST:
			ok = option_reply(fd, option, WIRE_REP_SERVER,
					  zeroes, 4) &&
			     option_reply(fd, option, WIRE_REP_ACK, NULL, 0);
			break;
		case WIRE_OPT_INFO:
		case WIRE_OPT_GO:
			ok = option_reply(fd, option, WIRE_REP_INFO, &info,
					  sizeof(info)) &&
			     option_reply(fd, option, WIRE_REP_ACK, NULL, 0);
			if (ok && option == WIRE_OPT_GO)
				return true;
			break;
		case WIRE_OPT_ABORT:
			option_reply(fd, option, WIRE_REP_ACK, NULL, 0);
			return false;
		default:
			ok = option_reply(fd, option, WIRE_REP_ERR_UNSUP,
					  NULL, 0);
		}
	}
	return false;
}

static void conn_reply(struct conn *conn, uint64_t cookie, uint32_t error,
		       uint64_t pos, uint32_t len)
{
	struct wire_simple_reply *reply = &conn->replies[conn->nr_replies++];

	reply->magic = htobe32(WIRE_SIMPLE_MAGIC);
	reply->error = htobe32(error);
	reply->cookie = cookie;
	conn->iov[conn->nr_iov++] = (struct iovec){ reply, sizeof(*reply) };
	if (len)
		conn->iov[conn->nr_iov++] = (struct iovec){ image + pos, len };
}

/* Parse as many requests as there is room to answer; count what was used,
 * or -1 to close. */
static ssize_t conn_parse(struct conn *conn, const uint8_t *data, size_t len)
{
	const uint8_t *p = data, *end = data + len;

	while (conn->nr_replies < NR_REPLIES) {
		struct wire_request req;
		uint64_t pos, n;

		if (conn->write_left) {
			n = end - p;
			if (n > conn->write_left)
				n = conn->write_left;
			memcpy(image + conn->write_pos, p, n);
			p += n;
			conn->write_pos += n;
			conn->write_left -= n;
			if (conn->write_left)
				break;
			conn_reply(conn, conn->write_cookie, 0, 0, 0);
			continue;
		}
		if ((size_t)(end - p) < sizeof(req))
			break;
		memcpy(&req, p, sizeof(req));
		p += sizeof(req);
		pos = be64toh(req.pos);
		n = be32toh(req.len);
		if (be32toh(req.magic) != WIRE_REQUEST_MAGIC)
			return -1;
		switch (be16toh(req.type)) {
		case WIRE_READ:
			if (pos > image_size || n > image_size - pos)
				conn_reply(conn, req.cookie, WIRE_EINVAL, 0, 0);
			else
				conn_reply(conn, req.cookie, 0, pos, n);
			break;
		case WIRE_WRITE:
			if (!n || pos > image_size || n > image_size - pos)
				return -1;
			conn->write_pos = pos;
			conn->write_left = n;
			conn->write_cookie = req.cookie;
			break;
		case WIRE_FLUSH:
			conn_reply(conn, req.cookie, 0, 0, 0);
			break;
		case WIRE_DISC:
			return -1;
		default:
			conn_reply(conn, req.cookie, WIRE_EINVAL, 0, 0);
		}
	}
	return p - data;
}

/* 1: all sent; 0: the socket is full; -1: close. */
static int conn_send(struct conn *conn)
{
	while (conn->iov_first < conn->nr_iov) {
		struct msghdr msg = {
			.msg_iov = conn->iov + conn->iov_first,
			.msg_iovlen = conn->nr_iov - conn->iov_first,
		};
		ssize_t n = sendmsg(conn->fd, &msg,
				    MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN ? 0 : -1;
		while (n > 0) {
			struct iovec *iov = &conn->iov[conn->iov_first];

			if ((size_t)n < iov->iov_len) {
				iov->iov_base = (uint8_t *)iov->iov_base + n;
				iov->iov_len -= n;
				break;
			}
			n -= iov->iov_len;
			conn->iov_first++;
		}
	}
	conn->iov_first = conn->nr_iov = conn->nr_replies = 0;
	return 1;
}

/* Put what is left of @data aside until the socket takes the replies. */
static bool conn_keep(struct conn *conn, const uint8_t *data, size_t len)
{
	uint8_t *rest = len ? malloc(len) : NULL;

	if (len && !rest)
		return false;
	if (len)
		memcpy(rest, data, len);
	free(conn->rest);
	conn->rest = rest;
	conn->rest_len = len;
	return true;
}

/* One turn: what is unsent, then what is unparsed, then what the socket
 * holds.  False to close. */
static bool conn_turn(struct conn *conn)
{
	size_t len = conn->rest_len, used = 0;
	struct epoll_event ev = { .data.ptr = conn };
	int sent = conn_send(conn);
	ssize_t n;

	if (sent > 0) {
		if (conn->rest)
			memcpy(buffer, conn->rest, len);
		n = recv(conn->fd, buffer + len, BUFFER_SIZE - len,
			 MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			return false;
		len += n > 0 ? n : 0;
		do {
			n = conn_parse(conn, buffer + used, len - used);
			if (n < 0)
				return false;
			used += n;
			sent = conn_send(conn);
		} while (sent > 0 && n > 0);
		if ((used < len || conn->rest) &&
		    !conn_keep(conn, buffer + used, len - used))
			return false;
	}
	if (sent < 0)
		return false;
	if (conn->blocked != (sent == 0)) {
		conn->blocked = sent == 0;
		ev.events = conn->blocked ? EPOLLOUT : EPOLLIN;
		epoll_ctl(epoll_fd, EPOLL_CTL_MOD, conn->fd, &ev);
	}
	return true;
}

static void conn_open(int listen_fd)
{
	struct timeval patience = { .tv_sec = 5 };
	struct epoll_event ev = { .events = EPOLLIN };
	int one = 1, fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	struct conn *conn;

	if (fd < 0)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	conn = handshake(fd) ? calloc(1, sizeof(*conn)) : NULL;
	if (!conn) {
		close(fd);
		return;
	}
	conn->fd = fd;
	ev.data.ptr = conn;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev))
		err(1, "epoll_ctl");
}

static int listen_on(int fd, const void *address, socklen_t len,
		     const char *name)
{
	int one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, address, len) || listen(fd, 128))
		err(1, "%s", name);
	return fd;
}

static int listen_unix(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(addr.sun_path))
		errx(1, "%s: too long for a unix socket", path);
	strcpy(addr.sun_path, path);
	return listen_on(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), &addr,
			 sizeof(addr), path);
}

static int listen_tcp(const char *port)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_port = htons(atoi(port)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	return listen_on(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), &addr,
			 sizeof(addr), port);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "unix", 1, NULL, 'U' }, { "port", 1, NULL, 'p' },
		{ "size", 1, NULL, 's' }, { NULL, 0, NULL, 0 },
	};
	struct epoll_event events[64], ev = { .events = EPOLLIN };
	const char *path = NULL, *port = "10809";
	int c, listen_fd;

	while ((c = getopt_long(argc, argv, "U:p:s:", options, NULL)) != -1) {
		if (c == 'U')
			path = optarg;
		else if (c == 'p' && optarg)
			port = optarg;
		else if (c == 's')
			image_size = strtoull(optarg, NULL, 0);
		else
			errx(1, "usage: nbd-echo [-U PATH | -p PORT] [--size BYTES]");
	}
	image = mmap(NULL, image_size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (image == MAP_FAILED)
		err(1, "%llu bytes", (unsigned long long)image_size);
	listen_fd = path ? listen_unix(path) : listen_tcp(port);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &ev))
		err(1, "epoll");
	for (;;) {
		int n = epoll_wait(epoll_fd, events, 64, -1);

		for (int i = 0; i < n; i++) {
			struct conn *conn = events[i].data.ptr;

			if (!conn) {
				conn_open(listen_fd);
			} else if (!conn_turn(conn)) {
				close(conn->fd);
				free(conn->rest);
				free(conn);
			}
		}
	}
}
