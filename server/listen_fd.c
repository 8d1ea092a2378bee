/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * listen_fd.c - listening sockets that somebody else has opened, and those of
 * vsock.
 *
 * The path of a unix socket that came open is not ours to remove.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "base/base.h"
#include "server/listen_internal.h"

#define VSOCK_PORT_MIN	UINT64_C(65536)
#define VSOCK_PORT_MAX	UINT64_C(0x7fffffff)
#define VSOCK_TRIES	16

union any_address {
	struct sockaddr		any;
	struct sockaddr_in	v4;
	struct sockaddr_in6	v6;
	struct sockaddr_un	un;
	struct sockaddr_vm	vsock;
	struct sockaddr_storage	storage;
};

static int describe_tcp(struct listener *listener,
			const union any_address *addr, socklen_t len)
{
	char host[NI_MAXHOST] = "?";

	getnameinfo(&addr->any, len, host, sizeof(host), NULL, 0,
		    NI_NUMERICHOST);
	listener->host = strdup(host);
	listener->port = ntohs(addr->any.sa_family == AF_INET ?
			       addr->v4.sin_port : addr->v6.sin6_port);
	listener->open = !listen_is_loopback(&addr->any);
	return listener->host ? 0 : -ENOMEM;
}

/* A path, or '@' and an abstract name, which need not end in a NUL. */
static int describe_unix(struct listener *listener,
			 const struct sockaddr_un *addr, socklen_t len)
{
	size_t offset = offsetof(struct sockaddr_un, sun_path);
	size_t max = len > offset ? len - offset : 0;
	char path[sizeof(addr->sun_path) + 1];

	max = MIN(max, sizeof(addr->sun_path));
	memcpy(path, addr->sun_path, max);
	path[max] = '\0';
	if (max && !path[0])
		path[0] = '@';
	listener->path = path[0] == '@' ? strdup(path) :
					  listen_absolute_path(path);
	return listener->path ? 0 : -ENOMEM;
}

/* What clients have to ask for where any of our ids will do. */
static uint32_t own_cid(void)
{
	int fd = open("/dev/vsock", O_RDONLY | O_CLOEXEC);
	unsigned int cid = VMADDR_CID_ANY;

	if (fd >= 0) {
		if (ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid))
			cid = VMADDR_CID_ANY;
		close(fd);
	}
	return cid == VMADDR_CID_ANY ? VMADDR_CID_LOCAL : cid;
}

static void describe_vsock(struct listener *listener,
			   const struct sockaddr_vm *addr)
{
	listener->vsock_port = addr->svm_port;
	listener->cid = addr->svm_cid == VMADDR_CID_ANY ? own_cid() :
							  addr->svm_cid;
	listener->open = addr->svm_cid != VMADDR_CID_LOCAL;
}

int listen_describe(struct listener *listener)
{
	union any_address addr = { .storage = { 0 } };
	socklen_t len = sizeof(addr);

	if (getsockname(listener->fd, &addr.any, &len))
		return -errno;
	listener->family = addr.any.sa_family;
	switch (addr.any.sa_family) {
	case AF_INET:
	case AF_INET6:
		return describe_tcp(listener, &addr, len);
	case AF_UNIX:
		return describe_unix(listener, &addr.un, len);
	case AF_VSOCK:
		describe_vsock(listener, &addr.vsock);
		return 0;
	}
	return -EAFNOSUPPORT;
}

int listen_fd(struct listeners *set, const struct listen_option *opt,
	      char **errorp)
{
	struct listener *listener;
	char where[32];
	int flags, ret;

	snprintf(where, sizeof(where), "descriptor %d", opt->fd);
	flags = fcntl(opt->fd, F_GETFL);
	if (flags < 0 || fcntl(opt->fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    fcntl(opt->fd, F_SETFD, FD_CLOEXEC) < 0)
		return listen_error(errorp, errno, where, NULL);
	listener = listeners_add(set);
	if (!listener)
		return -ENOMEM;
	listener->fd = opt->fd;
	if (opt->fd_name) {
		listener->fd_name = strdup(opt->fd_name);
		if (!listener->fd_name)
			return -ENOMEM;
	}
	ret = listen_describe(listener);
	return ret ? listen_error(errorp, -ret, where, NULL) : 0;
}

/* ---- vsock ---- */

static int vsock_error(const struct listen_option *opt, int err, char **errorp)
{
	const char *why = NULL;
	char where[64];

	if (opt->cid == VMADDR_CID_ANY)
		snprintf(where, sizeof(where), "vsock port %u",
			 opt->vsock_port);
	else
		snprintf(where, sizeof(where), "vsock cid %u port %u",
			 opt->cid, opt->vsock_port);
	if (err == EADDRINUSE)
		why = "the port is in use";
	else if (err == EADDRNOTAVAIL)
		why = "this machine has no such context id";
	else if (err == EACCES)
		why = "ports below 1024 need the rights of root";
	else if (err == EAFNOSUPPORT)
		why = "this kernel has no vsock (see modprobe vsock)";
	return listen_error(errorp, err, where, why);
}

/*
 * Where we pick the port it is one that clients take in a URI: the kernel would
 * give any of 32 bits, of which they read 31.
 */
static int bind_vsock(int fd, const struct listen_option *opt)
{
	struct sockaddr_vm addr = {
		.svm_family = AF_VSOCK, .svm_cid = opt->cid,
	};
	struct random random;
	int ret;

	random_init(&random, random_seed_from_env("FOLIOD_SEED"));
	for (unsigned int try = 0; try < VSOCK_TRIES; try++) {
		addr.svm_port = opt->vsock_port ? opt->vsock_port :
			VSOCK_PORT_MIN + random_below(&random,
				VSOCK_PORT_MAX - VSOCK_PORT_MIN + 1);
		ret = bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) ?
			-errno : 0;
		if (ret != -EADDRINUSE || opt->vsock_port)
			break;
	}
	return ret;
}

int listen_vsock(struct listeners *set, const struct listen_option *opt,
		 char **errorp)
{
	struct listener *listener;
	int fd, ret;

	fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return vsock_error(opt, errno, errorp);
	ret = bind_vsock(fd, opt);
	if (!ret && listen(fd, SOMAXCONN))
		ret = -errno;
	if (ret) {
		close(fd);
		return vsock_error(opt, -ret, errorp);
	}
	listener = listeners_add(set);
	if (!listener) {
		close(fd);
		return -ENOMEM;
	}
	listener->fd = fd;
	ret = listen_describe(listener);
	return ret ? vsock_error(opt, -ret, errorp) : 0;
}
