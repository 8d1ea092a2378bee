/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * listen.c - listening sockets of the command line; TCP ones are opened here,
 * unix ones in listen_unix.c, others in listen_fd.c.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "server/holder.h"
#include "server/listen.h"
#include "server/listen_internal.h"
#include "server/uri.h"

/* How often to look for a port that is free on all addresses. */
#define PORT_TRIES	20

struct listener *listeners_add(struct listeners *set)
{
	struct listener *list;

	list = realloc(set->list, (set->nr + 1) * sizeof(*list));
	if (!list)
		return NULL;
	set->list = list;
	memset(&list[set->nr], 0, sizeof(*list));
	list[set->nr].fd = -1;
	return &list[set->nr++];
}

static void listener_fini(struct listener *listener)
{
	struct stat st;

	if (listener->fd >= 0)
		close(listener->fd);
	/* Somebody may have put another socket in the place of ours. */
	if (listener->ino && !listener->lent &&
	    lstat(listener->path, &st) == 0 &&
	    st.st_dev == listener->dev && st.st_ino == listener->ino)
		unlink(listener->path);
	if (listener->private_dir && !listener->lent)
		rmdir(listener->private_dir);
	free(listener->private_dir);
	free(listener->asked);
	free(listener->fd_name);
	free(listener->path);
	free(listener->host);
}

static void listeners_truncate(struct listeners *set, unsigned int nr)
{
	while (set->nr > nr)
		listener_fini(&set->list[--set->nr]);
}

void listeners_drop_last(struct listeners *set)
{
	listeners_truncate(set, set->nr - 1);
}

void listeners_close(struct listeners *set)
{
	listeners_truncate(set, 0);
	free(set->list);
	set->list = NULL;
}

char *listener_uri(const struct listener *listener, const char *export_name)
{
	if (listener->path)
		return uri_unix(listener->path, export_name);
	if (listener->family == AF_VSOCK)
		return uri_vsock(listener->cid, listener->vsock_port,
				 export_name);
	return uri_tcp(listener->host, listener->port, export_name);
}

int listen_error(char **errorp, int err, const char *where, const char *why)
{
	option_error(errorp, "cannot listen on %s: %s", where,
		     why ? why : strerror(err));
	return -err;
}

/* ---- TCP ---- */

bool listen_is_loopback(const struct sockaddr *addr)
{
	const struct in6_addr *v6;

	if (addr->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)addr)->sin_addr.s_addr)
			>> 24 == 127;
	v6 = &((const struct sockaddr_in6 *)addr)->sin6_addr;
	return IN6_IS_ADDR_LOOPBACK(v6) ||
	       (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == 127);
}

/* Either kind of address; the port is at the same place in both. */
union address {
	struct sockaddr		any;
	struct sockaddr_in	v4;
	struct sockaddr_in6	v6;
};

static_assert(offsetof(struct sockaddr_in, sin_port) ==
	      offsetof(struct sockaddr_in6, sin6_port), "the port's place");

static int tcp_error(const struct addrinfo *ai, const char *host, uint16_t port,
		     int err, char **errorp)
{
	char where[NI_MAXHOST + 16], by[64], why[160];
	pid_t pid;

	snprintf(where, sizeof(where), "%s port %u", host, port);
	if (err == EADDRINUSE) {
		pid = holder_of_port(ai->ai_family, port);
		snprintf(why, sizeof(why), "the port is in use%s; choose "
			 "another with --port or --bind",
			 holder_to_text(pid, by, sizeof(by)));
		return listen_error(errorp, err, where, why);
	}
	if (err == EACCES && port < 1024)
		return listen_error(errorp, err, where, "ports below 1024 "
				    "need the rights of root");
	if (err == EADDRNOTAVAIL)
		return listen_error(errorp, err, where, "this machine has no "
				    "such address");
	return listen_error(errorp, err, where, NULL);
}

static int open_tcp_socket(const struct addrinfo *ai)
{
	const int on = 1;
	int fd, err;

	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
		    0);
	if (fd < 0)
		return -errno;
	/* "::" shall not take what "0.0.0.0" asks for. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    (ai->ai_family == AF_INET6 &&
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on))) ||
	    bind(fd, ai->ai_addr, ai->ai_addrlen) || listen(fd, SOMAXCONN)) {
		err = errno;
		close(fd);
		return -err;
	}
	return fd;
}

/* Listen on one address; a *@portp of 0 becomes the port that was picked. */
static int listen_address(struct listeners *set, struct addrinfo *ai,
			  uint16_t *portp, char **errorp)
{
	union address addr = { .v6 = { 0 } };
	socklen_t len = sizeof(addr);
	char host[NI_MAXHOST] = "?";
	struct listener *listener;
	int fd;

	((struct sockaddr_in *)ai->ai_addr)->sin_port = htons(*portp);
	getnameinfo(ai->ai_addr, ai->ai_addrlen, host, sizeof(host), NULL, 0,
		    NI_NUMERICHOST);
	fd = open_tcp_socket(ai);
	if (fd < 0)
		return tcp_error(ai, host, *portp, -fd, errorp);
	listener = listeners_add(set);
	if (!listener) {
		close(fd);
		return -ENOMEM;
	}
	listener->fd = fd;
	listener->family = ai->ai_family;
	listener->open = !listen_is_loopback(ai->ai_addr);
	listener->host = strdup(host);
	if (!listener->host || getsockname(fd, &addr.any, &len))
		return -ENOMEM;
	listener->port = ntohs(addr.v4.sin_port);
	*portp = listener->port;
	return 0;
}

static bool seen_before(const struct addrinfo *list, const struct addrinfo *ai)
{
	for (; list != ai; list = list->ai_next)
		if (list->ai_addrlen == ai->ai_addrlen &&
		    memcmp(list->ai_addr, ai->ai_addr, ai->ai_addrlen) == 0)
			return true;
	return false;
}

/*
 * Listen on all addresses of @host.  Those that this machine does not have
 * (IPv6 may be switched off) are left out; *@errorp is then set all the same,
 * for the case that none is left.
 */
static int listen_host(struct listeners *set, const char *host,
		       uint16_t *portp, char **errorp)
{
	const struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE,
	};
	struct addrinfo *list, *ai;
	int ret;

	/* The service sets the port field of each address to the same. */
	ret = getaddrinfo(host, "0", &hints, &list);
	if (ret) {
		option_error(errorp, "cannot listen on '%s': %s", host,
			     ret == EAI_SYSTEM ? strerror(errno) :
			     gai_strerror(ret));
		return -EADDRNOTAVAIL;
	}
	for (ai = list; ai; ai = ai->ai_next) {
		if ((ai->ai_family != AF_INET && ai->ai_family != AF_INET6) ||
		    seen_before(list, ai))
			continue;
		ret = listen_address(set, ai, portp, errorp);
		if (ret && ret != -EADDRNOTAVAIL && ret != -EAFNOSUPPORT)
			break;
		ret = 0;
	}
	freeaddrinfo(list);
	return ret;
}

static int listen_tcp_once(struct listeners *set,
			   const struct listen_option *opt, char **errorp)
{
	unsigned int before = set->nr;
	uint16_t port = opt->port;
	int ret;

	if (opt->kind == LISTEN_TCP) {
		ret = listen_host(set, opt->host, &port, errorp);
	} else {
		ret = listen_host(set, "127.0.0.1", &port, errorp);
		if (!ret)
			ret = listen_host(set, "::1", &port, errorp);
	}
	if (!ret && set->nr == before)
		ret = -EADDRNOTAVAIL;
	if (ret)
		listeners_truncate(set, before);
	return ret;
}

static int listen_tcp(struct listeners *set, const struct listen_option *opt,
		      char **errorp)
{
	int ret;

	/* The port picked for the first address may be taken on the next. */
	for (unsigned int i = 0; i < PORT_TRIES; i++) {
		ret = listen_tcp_once(set, opt, errorp);
		if (ret != -EADDRINUSE || opt->port)
			break;
	}
	return ret;
}

static int listen_on(struct listeners *set, const struct listen_option *opt,
		     char **errorp)
{
	switch (opt->kind) {
	case LISTEN_TCP:
	case LISTEN_LOOPBACK:
		return listen_tcp(set, opt, errorp);
	case LISTEN_UNIX:
		return listen_unix(set, opt->path, errorp);
	case LISTEN_PRIVATE:
		return listen_private(set, errorp);
	case LISTEN_VSOCK:
		return listen_vsock(set, opt, errorp);
	case LISTEN_FD:
		return listen_fd(set, opt, errorp);
	}
	return -EINVAL;
}

/* By now there are listeners for @opt, from @first on. */
static int note_asked(struct listeners *set, unsigned int first,
		      const struct listen_option *opt)
{
	for (unsigned int i = first; i < set->nr; i++) {
		struct listener *listener = &set->list[i];

		listener->tls = opt->tls;
		if (!listener->asked)
			listener->asked = listen_asked(opt);
		if (!listener->asked)
			return -ENOMEM;
	}
	return 0;
}

int listeners_take(struct listeners *set, struct listeners *passed,
		   const struct listen_option *opts, unsigned int nr_opts,
		   char **errorp)
{
	int ret = 0;

	memset(set, 0, sizeof(*set));
	for (unsigned int i = 0; i < nr_opts && !ret; i++) {
		unsigned int first = set->nr;

		if (passed)
			ret = listen_take_passed(set, passed, &opts[i]);
		if (!ret && set->nr == first)
			ret = listen_on(set, &opts[i], errorp);
		if (!ret)
			ret = note_asked(set, first, &opts[i]);
	}
	if (ret)
		listeners_close(set);
	return ret;
}

int listeners_open(struct listeners *set, const struct listen_option *opts,
		   unsigned int nr_opts, char **errorp)
{
	return listeners_take(set, NULL, opts, nr_opts, errorp);
}

void listeners_lend(struct listeners *set)
{
	for (unsigned int i = 0; i < set->nr; i++)
		set->list[i].lent = true;
}

void listeners_own(struct listeners *set)
{
	for (unsigned int i = 0; i < set->nr; i++) {
		struct listener *listener = &set->list[i];

		/* Whoever connects to a unix socket is told who listened. */
		if (listener->lent)
			(void)listen(listener->fd, SOMAXCONN);
		listener->lent = false;
	}
}
