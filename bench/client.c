/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client.c - reach an NBD server by its URI and come to transmission.
 *
 * Fixed newstyle; structured replies only when asked for.  The requests
 * themselves are load.c's, what is below the bytes of TLS tls.c's.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench/client.h"
#include "bench/tls.h"
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
	static const char tcp[] = "://", un[] = "+unix://";
	const char *s, *slash, *query, *name_end, *at;
	bool is_unix;

	memset(target, 0, sizeof(*target));
	target->wants_tls = !strncmp(uri, "nbds", 4);
	s = uri + (target->wants_tls ? 4 : 3);
	is_unix = !strncmp(s, un, strlen(un));
	if (strncmp(uri, "nbd", 3) || (!is_unix && strncmp(s, tcp,
							   strlen(tcp))))
		errx(1, "%s: not nbd://HOST[:PORT]/[NAME] or nbd+unix:///[NAME]?socket=PATH, nor nbds",
		     uri);
	s += strlen(is_unix ? un : tcp);
	query = strchr(s, '?');
	name_end = query ? query : s + strlen(s);
	slash = memchr(s, '/', name_end - s);
	target->export_name = slash ?
		percent_decode(slash + 1, name_end - slash - 1) :
		percent_decode("", 0);
	if (strlen(target->export_name) > NAME_MAX_LEN)
		errx(1, "%s: the export name is too long", uri);
	at = memchr(s, '@', (slash ? slash : name_end) - s);
	if (at) {
		target->user = percent_decode(s, at - s);
		s = at + 1;
	}
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
	free(target->user);
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

ssize_t client_send(const struct client_link *link, struct iovec *iov,
		    unsigned int nr)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = nr };

	if (link->ssl)
		return client_tls_send(link->ssl, iov, nr);
	return sendmsg(link->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

ssize_t client_recv(const struct client_link *link, void *buf, size_t len,
		    bool wait)
{
	if (link->ssl)
		return client_tls_recv(link->ssl, buf, len, wait);
	return recv(link->fd, buf, len, wait ? 0 : MSG_DONTWAIT);
}

/* What the handshake says fits any socket's buffer. */
static void send_all(const struct client_link *link, const void *data,
		     size_t len)
{
	struct iovec iov = { (void *)(uintptr_t)data, len };

	if (len && client_send(link, &iov, 1) != (ssize_t)len)
		err(1, "handshake: send");
}

static void recv_all(const struct client_link *link, void *data, size_t len)
{
	size_t done = 0;
	ssize_t n;

	for (; done < len; done += n) {
		n = client_recv(link, (char *)data + done, len - done, true);
		if (n < 0)
			err(1, "handshake: recv");
		if (n == 0)
			errx(1, "handshake: the server closed the connection");
	}
}

static void send_option(const struct client_link *link, uint32_t option,
			const void *data, uint32_t len)
{
	struct wire_option_head head = {
		htobe64(WIRE_OPTION_MAGIC), htobe32(option), htobe32(len),
	};

	send_all(link, &head, sizeof(head));
	send_all(link, data, len);
}

/* Receive one option reply into @data; returns its type. */
static uint32_t recv_option_reply(const struct client_link *link,
				  uint32_t option, uint8_t *data,
				  uint32_t *lenp)
{
	struct wire_option_reply reply;

	recv_all(link, &reply, sizeof(reply));
	if (be64toh(reply.magic) != WIRE_OPTION_REPLY_MAGIC ||
	    be32toh(reply.option) != option || be32toh(reply.len) > REPLY_MAX)
		errx(1, "handshake: malformed reply to option %u", option);
	*lenp = be32toh(reply.len);
	recv_all(link, data, *lenp);
	return be32toh(reply.type);
}

static void go(const struct client_link *link, const char *name,
	       struct client_export *export)
{
	uint8_t data[4 + NAME_MAX_LEN + 2] = { 0 };
	static uint8_t reply[REPLY_MAX];
	uint32_t len = strlen(name), be_len = htobe32(len), type;
	struct wire_info_export info;
	bool seen = false;

	memcpy(data, &be_len, 4);
	memcpy(data + 4, name, len);
	send_option(link, WIRE_OPT_GO, data, 4 + len + 2);
	while ((type = recv_option_reply(link, WIRE_OPT_GO, reply, &len)) !=
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

/* An option without data, which the server has to agree to. */
static void agree(const struct client_link *link, uint32_t option,
		  const char *what)
{
	uint8_t *reply = malloc(REPLY_MAX);
	uint32_t len;

	if (!reply)
		err(1, "malloc");
	send_option(link, option, NULL, 0);
	if (recv_option_reply(link, option, reply, &len) != WIRE_REP_ACK)
		errx(1, "handshake: no %s", what);
	free(reply);
}

static void greet(const struct client_link *link)
{
	struct {
		uint64_t magic, option_magic;
		uint16_t flags;
	} __attribute__((packed)) hello;
	uint32_t flags;

	recv_all(link, &hello, sizeof(hello));
	if (be64toh(hello.magic) != WIRE_MAGIC ||
	    be64toh(hello.option_magic) != WIRE_OPTION_MAGIC ||
	    !(be16toh(hello.flags) & WIRE_FIXED_NEWSTYLE))
		errx(1, "handshake: not a fixed newstyle NBD server");
	flags = htobe32(WIRE_FIXED_NEWSTYLE |
			(be16toh(hello.flags) & WIRE_NO_ZEROES));
	send_all(link, &flags, sizeof(flags));
}

struct client_link client_connect(const struct client_target *target,
				  bool structured,
				  struct client_export *export)
{
	struct timeval patience = { .tv_sec = CLIENT_PATIENCE_SEC };
	struct client_link link = {
		.fd = target->path ? connect_unix(target->path) :
			connect_tcp(target->host, target->port),
	};

	setsockopt(link.fd, SOL_SOCKET, SO_RCVTIMEO, &patience,
		   sizeof(patience));
	greet(&link);
	if (target->wants_tls) {
		agree(&link, WIRE_OPT_STARTTLS, "TLS");
		link.ssl = client_tls_start(target->tls, link.fd);
	}
	if (structured)
		agree(&link, WIRE_OPT_STRUCTURED_REPLY, "structured replies");
	go(&link, target->export_name, export);
	/* OpenSSL cannot be told for each call. */
	if (link.ssl && fcntl(link.fd, F_SETFL, O_NONBLOCK))
		err(1, "fcntl");
	return link;
}

const char *client_encryption(const struct client_link *link)
{
	static char text[128];

	if (!link->ssl)
		return "none";
	snprintf(text, sizeof(text), "%s %s", SSL_get_version(link->ssl),
		 SSL_get_cipher_name(link->ssl));
	return text;
}

void client_disconnect(struct client_link *link)
{
	struct wire_request req = {
		.magic = htobe32(WIRE_REQUEST_MAGIC),
		.type = htobe16(WIRE_DISC),
	};
	struct iovec iov = { &req, sizeof(req) };

	/* A server that is gone already has said what it had to say. */
	(void)!client_send(link, &iov, 1);
	if (link->ssl)
		client_tls_end(link->ssl);
	close(link->fd);
}
