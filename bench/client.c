/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client.c - reach an NBD server by its URI and come to transmission.
 *
 * Fixed newstyle without TLS; structured replies only when asked for.  The
 * requests themselves are load.c's.
 */
#include <err.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench/client.h"
#include "bench/wire.h"

#define NAME_MAX_LEN	4096		/* the protocol's limit for strings */
#define REPLY_MAX	(64 << 10)	/* no option reply is near this */

static int hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *p = c ? strchr(digits, c | 0x20) : NULL;

	return p ? p - digits : -1;
}

/* A copy of @len bytes at @s with their %XX decoded. */
static char *percent_decode(const char *s, size_t len)
{
	char *out = calloc(1, len + 1), *p = out;

	if (!out)
		err(1, "calloc");
	for (size_t i = 0; i < len; i++) {
		int high = -1, low = -1;

		if (s[i] == '%' && i + 2 < len) {
			high = hex_digit(s[i + 1]);
			low = hex_digit(s[i + 2]);
		}
		if (high >= 0 && low >= 0) {
			*p++ = high * 16 + low;
			i += 2;
		} else {
			*p++ = s[i];
		}
	}
	return out;
}

static void parse_host(const char *s, size_t len, struct client_target *target)
{
	const char *end = s + len, *host_end = end, *colon;

	if (len && *s == '[') {
		s++;
		host_end = memchr(s, ']', end - s);
		if (!host_end)
			errx(1, "unclosed [ in the URI's host");
		colon = host_end + 1 < end && host_end[1] == ':' ?
			host_end + 1 : NULL;
	} else {
		colon = memchr(s, ':', len);
		if (colon)
			host_end = colon;
	}
	target->host = percent_decode(s, host_end - s);
	target->port = colon ? percent_decode(colon + 1, end - colon - 1) :
		percent_decode("10809", 5);
}

void client_parse_uri(const char *uri, struct client_target *target)
{
	static const char tcp[] = "nbd://", un[] = "nbd+unix://";
	bool is_unix = !strncmp(uri, un, strlen(un));
	const char *s, *slash, *query, *name_end;

	memset(target, 0, sizeof(*target));
	if (!is_unix && strncmp(uri, tcp, strlen(tcp)))
		errx(1, "%s: not nbd://HOST[:PORT]/[NAME] or nbd+unix:///[NAME]?socket=PATH",
		     uri);
	s = uri + (is_unix ? strlen(un) : strlen(tcp));
	query = strchr(s, '?');
	name_end = query ? query : s + strlen(s);
	slash = memchr(s, '/', name_end - s);
	target->export_name = slash ?
		percent_decode(slash + 1, name_end - slash - 1) :
		percent_decode("", 0);
	if (strlen(target->export_name) > NAME_MAX_LEN)
		errx(1, "%s: the export name is too long", uri);
	if (!is_unix) {
		parse_host(s, (slash ? slash : name_end) - s, target);
		return;
	}
	if (!query || strncmp(query, "?socket=", 8) || !query[8])
		errx(1, "%s: no ?socket=PATH", uri);
	target->path = percent_decode(query + 8, strlen(query + 8));
}

void client_target_fini(struct client_target *target)
{
	free(target->path);
	free(target->host);
	free(target->port);
	free(target->export_name);
}

static int connect_unix(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(addr.sun_path))
		errx(1, "%s: too long for a unix socket", path);
	strcpy(addr.sun_path, path);
	if (fd < 0 || connect(fd, (void *)&addr, sizeof(addr)))
		err(1, "%s", path);
	return fd;
}

static int connect_tcp(const char *host, const char *port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list, *ai;
	int one = 1, fd = -1, ret = getaddrinfo(host, port, &hints, &list);

	if (ret)
		errx(1, "%s:%s: %s", host, port, gai_strerror(ret));
	for (ai = list; ai; ai = ai->ai_next) {
		fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC,
			    ai->ai_protocol);
		if (fd >= 0 && !connect(fd, ai->ai_addr, ai->ai_addrlen))
			break;
		if (fd >= 0)
			close(fd);
	}
	freeaddrinfo(list);
	if (!ai)
		err(1, "%s:%s", host, port);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static void send_all(int fd, const void *data, size_t len)
{
	if (send(fd, data, len, MSG_NOSIGNAL) != (ssize_t)len)
		err(1, "handshake: send");
}

static void recv_all(int fd, void *data, size_t len)
{
	ssize_t n = len ? recv(fd, data, len, MSG_WAITALL) : 0;

	if (n < 0)
		err(1, "handshake: recv");
	if (n != (ssize_t)len)
		errx(1, "handshake: the server closed the connection");
}

static void send_option(int fd, uint32_t option, const void *data, uint32_t len)
{
	struct wire_option_head head = {
		htobe64(WIRE_OPTION_MAGIC), htobe32(option), htobe32(len),
	};

	send_all(fd, &head, sizeof(head));
	send_all(fd, data, len);
}

/* Receive one option reply into @data; returns its type. */
static uint32_t recv_option_reply(int fd, uint32_t option, uint8_t *data,
				  uint32_t *lenp)
{
	struct wire_option_reply reply;

	recv_all(fd, &reply, sizeof(reply));
	if (be64toh(reply.magic) != WIRE_OPTION_REPLY_MAGIC ||
	    be32toh(reply.option) != option || be32toh(reply.len) > REPLY_MAX)
		errx(1, "handshake: malformed reply to option %u", option);
	*lenp = be32toh(reply.len);
	recv_all(fd, data, *lenp);
	return be32toh(reply.type);
}

static void go(int fd, const char *name, struct client_export *export)
{
	uint8_t data[4 + NAME_MAX_LEN + 2] = { 0 };
	static uint8_t reply[REPLY_MAX];
	uint32_t len = strlen(name), be_len = htobe32(len), type;
	struct wire_info_export info;
	bool seen = false;

	memcpy(data, &be_len, 4);
	memcpy(data + 4, name, len);
	send_option(fd, WIRE_OPT_GO, data, 4 + len + 2);
	while ((type = recv_option_reply(fd, WIRE_OPT_GO, reply, &len)) !=
	       WIRE_REP_ACK) {
		if (type & WIRE_REP_ERR)
			errx(1, "export \"%s\": refused with error 0x%x %.*s",
			     name, type, (int)len, (const char *)reply);
		if (type != WIRE_REP_INFO || len != sizeof(info))
			continue;
		memcpy(&info, reply, sizeof(info));
		if (be16toh(info.info) != WIRE_INFO_EXPORT)
			continue;
		export->size = be64toh(info.size);
		export->flags = be16toh(info.flags);
		seen = true;
	}
	if (!seen)
		errx(1, "export \"%s\": GO without NBD_INFO_EXPORT", name);
}

int client_connect(const struct client_target *target, bool structured,
		   struct client_export *export)
{
	struct timeval patience = { .tv_sec = CLIENT_PATIENCE_SEC };
	int fd = target->path ? connect_unix(target->path) :
		connect_tcp(target->host, target->port);
	struct {
		uint64_t magic, option_magic;
		uint16_t flags;
	} __attribute__((packed)) hello;
	uint32_t flags, len;
	uint8_t *reply;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	recv_all(fd, &hello, sizeof(hello));
	if (be64toh(hello.magic) != WIRE_MAGIC ||
	    be64toh(hello.option_magic) != WIRE_OPTION_MAGIC ||
	    !(be16toh(hello.flags) & WIRE_FIXED_NEWSTYLE))
		errx(1, "handshake: not a fixed newstyle NBD server");
	flags = htobe32(WIRE_FIXED_NEWSTYLE |
			(be16toh(hello.flags) & WIRE_NO_ZEROES));
	send_all(fd, &flags, sizeof(flags));
	if (structured) {
		reply = malloc(REPLY_MAX);
		if (!reply)
			err(1, "malloc");
		send_option(fd, WIRE_OPT_STRUCTURED_REPLY, NULL, 0);
		if (recv_option_reply(fd, WIRE_OPT_STRUCTURED_REPLY, reply,
				      &len) != WIRE_REP_ACK)
			errx(1, "handshake: no structured replies");
		free(reply);
	}
	go(fd, target->export_name, export);
	return fd;
}

void client_disconnect(int fd)
{
	struct wire_request req = {
		.magic = htobe32(WIRE_REQUEST_MAGIC),
		.type = htobe16(WIRE_DISC),
	};

	/* A server that is gone already has said what it had to say. */
	(void)!send(fd, &req, sizeof(req), MSG_NOSIGNAL);
	close(fd);
}
