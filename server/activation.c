/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * activation.c - sockets that whoever started us has opened.
 *
 * The protocol is that of sd_listen_fds(3): descriptors from 3 on, LISTEN_FDS
 * of them, for the process LISTEN_PID, called LISTEN_FDNAMES.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base.h"
#include "server/activation.h"
#include "server/options_internal.h"

#define FIRST_FD	3

/* ---- LISTEN_FDS ---- */

/* The number of sockets for this process; 0: none. */
static int read_count(struct options *opt, unsigned int *nrp)
{
	const char *pid_text = getenv("LISTEN_PID");
	const char *nr_text = getenv("LISTEN_FDS");
	uint64_t pid, nr;

	*nrp = 0;
	/* What is for another process was left over by it. */
	if (!pid_text || !nr_text ||
	    number_parse(pid_text, 1, INT32_MAX, &pid) ||
	    (pid_t)pid != getpid())
		return 0;
	if (number_parse(nr_text, 0, OPTIONS_LISTEN_MAX, &nr))
		return option_error(&opt->error, "LISTEN_FDS is '%s', which is "
				    "not a number of sockets from 0 to %d",
				    nr_text, OPTIONS_LISTEN_MAX);
	*nrp = nr;
	return 0;
}

static int may_be_passed(struct options *opt, unsigned int nr)
{
	const char *s = nr == 1 ? "" : "s";

	if (opt->style == RUN_SINGLE)
		return option_error(&opt->error, "%u socket%s came with "
				    "LISTEN_FDS, and --single serves standard "
				    "input and output: leave out one of them",
				    nr, s);
	if (!opt->listens_chosen)
		return 0;
	return option_error(&opt->error, "%u socket%s came with LISTEN_FDS: "
			    "leave out --port, --bind, --unix, --vsock and "
			    "--fd, or start foliod without socket activation",
			    nr, s);
}

static void drop_listens(struct options *opt)
{
	for (unsigned int i = 0; i < opt->nr_listens; i++)
		listen_option_fini(&opt->listens[i]);
	opt->nr_listens = 0;
}

/* Each socket's name, if names came at all. */
static int set_names(struct options *opt)
{
	const char *names = getenv("LISTEN_FDNAMES");
	unsigned int nr = 1;

	if (!names)
		return 0;
	for (const char *c = names; *c; c++)
		nr += *c == ':';
	if (nr != opt->nr_listens)
		return option_error(&opt->error, "LISTEN_FDNAMES has %u names "
				    "for %u sockets", nr, opt->nr_listens);
	for (unsigned int i = 0; i < nr; i++) {
		size_t len = strcspn(names, ":");

		opt->listens[i].fd_name = strndup(names, len);
		if (!opt->listens[i].fd_name)
			return -ENOMEM;
		names += len + 1;
	}
	return 0;
}

static int take_passed(struct options *opt)
{
	struct listen_option *listen;
	unsigned int nr;
	int ret;

	ret = read_count(opt, &nr);
	if (ret || !nr)
		return ret;
	ret = may_be_passed(opt, nr);
	if (ret)
		return ret;
	drop_listens(opt);
	for (unsigned int i = 0; i < nr; i++) {
		listen = options_add_listen(opt, LISTEN_FD);
		if (!listen)
			return -EINVAL;
		listen->fd = FIRST_FD + i;
	}
	return set_names(opt);
}

/* ---- what they are ---- */

static int not_served(struct options *opt, const struct listen_option *listen,
		      const char *why)
{
	const char *name = listen->fd_name;

	return option_error(&opt->error, "descriptor %d%s%s%s %s", listen->fd,
			    name ? " ('" : "", name ? name : "",
			    name ? "')" : "", why);
}

static int socket_option(int fd, int name)
{
	socklen_t len;
	int value;

	len = sizeof(value);
	return getsockopt(fd, SOL_SOCKET, name, &value, &len) ? -errno : value;
}

static bool is_served_family(int family)
{
	return family == AF_UNIX || family == AF_INET || family == AF_INET6 ||
		family == AF_VSOCK;
}

/* Look at a descriptor: *@connectedp tells a client from a listener. */
static int look_at(struct options *opt, const struct listen_option *listen,
		   bool *connectedp)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	int fd = listen->fd, type = socket_option(fd, SO_TYPE);

	if (type == -EBADF)
		return not_served(opt, listen, "is not open");
	if (type < 0)
		return not_served(opt, listen, "is not a socket");
	if (type != SOCK_STREAM || !is_served_family(socket_option(fd,
								SO_DOMAIN)))
		return not_served(opt, listen, "is not a stream socket of TCP, "
				  "the unix domain or vsock");
	*connectedp = socket_option(fd, SO_ACCEPTCONN) != 1;
	if (*connectedp &&
	    getpeername(fd, (struct sockaddr *)&addr, &len))
		return not_served(opt, listen, "is a socket that neither "
				  "listens nor is connected");
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	return 0;
}

/*
 * Standard input, output and error are not places for a socket: others write
 * there, and put something else there in the background.
 */
static int move_up(struct options *opt, struct listen_option *listen)
{
	int up, null_fd, ret = 0;

	if (listen->fd > STDERR_FILENO)
		return 0;
	up = fcntl(listen->fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (up < 0 || null_fd < 0 || dup2(null_fd, listen->fd) < 0)
		ret = not_served(opt, listen, strerror(errno));
	if (null_fd >= 0)
		close(null_fd);
	if (up >= 0)
		listen->fd = up;
	return ret;
}

/* A client instead of listeners. */
static int be_single(struct options *opt, const struct listen_option *listen)
{
	if (opt->nr_listens > 1)
		return not_served(opt, listen, "is a client's connected "
				  "socket, and one client is served alone: "
				  "leave out the other listeners");
	if (opt->style != RUN_FOREGROUND || opt->handoff)
		return not_served(opt, listen, "is a client's connected "
				  "socket, which excludes --run, "
				  "--daemonize and --handoff");
	opt->style = RUN_SINGLE;
	opt->single_fd = listen->fd;
	drop_listens(opt);
	return 0;
}

int activation_apply(struct options *opt)
{
	struct listen_option *listen, *client = NULL;
	bool connected = false;
	int ret;

	ret = take_passed(opt);
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	for (unsigned int i = 0; i < opt->nr_listens && !ret; i++) {
		listen = &opt->listens[i];
		if (listen->kind != LISTEN_FD)
			continue;
		ret = look_at(opt, listen, &connected);
		if (connected)
			client = listen;
	}
	/* No descriptor is opened before all have been looked at. */
	for (unsigned int i = 0; i < opt->nr_listens && !ret; i++)
		if (opt->listens[i].kind == LISTEN_FD)
			ret = move_up(opt, &opt->listens[i]);
	if (!ret && client)
		ret = be_single(opt, client);
	return ret;
}
