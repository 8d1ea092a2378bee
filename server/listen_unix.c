/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * listen_unix.c - listening unix sockets.
 *
 * A server that was killed leaves its socket file behind, and bind() fails
 * where a file is.  Such a file is removed, but only if it is a socket that
 * nobody listens on.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "server/holder.h"
#include "server/listen_internal.h"

#define LOCK_TRIES	100
#define LOCK_PAUSE_NS	(10 * NSEC_PER_MSEC)

/*
 * Two that start at a time could both find a dead socket, and the slower one
 * remove the live one that the faster one has put there.  Hence this lock on
 * the directory.  It is a courtesy among foliods: where the directory cannot
 * be opened or somebody keeps it locked, we go on without.  A descriptor, to
 * be closed, or -1.
 */
static int lock_directory(const char *path)
{
	const struct timespec pause = { .tv_nsec = LOCK_PAUSE_NS };
	const char *slash = strrchr(path, '/');
	char *dir = slash ? strndup(path, slash - path + 1) : strdup(".");
	int fd;

	if (!dir)
		return -1;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(dir);
	if (fd < 0)
		return -1;
	for (unsigned int i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return fd;
		nanosleep(&pause, NULL);
	}
	close(fd);
	return -1;
}

static pid_t peer_of(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return 0;
	return cred.pid;
}

/* Remove the socket at @addr if nobody listens on it. */
static int remove_stale(const struct sockaddr_un *addr, char **errorp)
{
	const char *path = addr->sun_path;
	char by[64], why[160];
	struct stat st;
	int fd, err;

	if (lstat(path, &st))
		return 0;	/* bind() has the better message */
	if (!S_ISSOCK(st.st_mode))
		return listen_error(errorp, EEXIST, path, "there is a file "
				    "that is not a socket; remove it or choose "
				    "another path");
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return listen_error(errorp, errno, path, NULL);
	err = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) ?
		errno : 0;
	if (err == ECONNREFUSED) {
		err = unlink(path) && errno != ENOENT ? errno : 0;
		close(fd);
		return err ? listen_error(errorp, err, path, NULL) : 0;
	}
	if (err == 0 || err == EAGAIN || err == EPROTOTYPE) {
		holder_to_text(err ? 0 : peer_of(fd), by, sizeof(by));
		snprintf(why, sizeof(why), "the socket is in use%s; choose "
			 "another path", by);
		err = EADDRINUSE;
	} else {
		snprintf(why, sizeof(why), "there is a socket, and whether "
			 "anybody listens on it cannot be told: %s",
			 strerror(err));
	}
	close(fd);
	return listen_error(errorp, err, path, why);
}

/* A descriptor that listens on @addr, or -errno with *@errorp set. */
static int bind_unix(const struct sockaddr_un *addr, char **errorp)
{
	int fd, err;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return listen_error(errorp, errno, addr->sun_path, NULL);
	if (bind(fd, (const struct sockaddr *)addr, sizeof(*addr))) {
		err = errno;
		close(fd);
		return listen_error(errorp, err, addr->sun_path,
				    err == ENOENT ? "its directory is not "
				    "there" : NULL);
	}
	if (listen(fd, SOMAXCONN)) {
		err = errno;
		close(fd);
		unlink(addr->sun_path);
		return listen_error(errorp, err, addr->sun_path, NULL);
	}
	return fd;
}

char *listen_absolute_path(const char *path)
{
	char *cwd, *absolute;

	if (*path == '/')
		return strdup(path);
	cwd = getcwd(NULL, 0);
	if (!cwd || asprintf(&absolute, "%s/%s", cwd, path) < 0)
		absolute = NULL;
	free(cwd);
	return absolute;
}

/* By pid, who listens on @addr; "" if that cannot be told. */
static void abstract_holder(const struct sockaddr_un *addr, socklen_t len,
			    char *by, size_t size)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	pid_t pid = 0;

	if (fd >= 0 && connect(fd, (const struct sockaddr *)addr, len) == 0)
		pid = peer_of(fd);
	if (fd >= 0)
		close(fd);
	holder_to_text(pid, by, size);
}

/*
 * The socket @path[1..] of the abstract namespace: no file, hence nothing that
 * could be left behind, and no permissions.
 */
static int listen_abstract(struct listeners *set, const char *path,
			   char **errorp)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	socklen_t len = offsetof(struct sockaddr_un, sun_path) + strlen(path);
	struct listener *listener = listeners_add(set);
	char by[64], why[160];
	int fd, err;

	if (!listener)
		return -ENOMEM;
	listener->family = AF_UNIX;
	listener->path = strdup(path);
	if (!listener->path)
		return -ENOMEM;
	memcpy(addr.sun_path + 1, path + 1, strlen(path) - 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return listen_error(errorp, errno, path, NULL);
	listener->fd = fd;
	if (bind(fd, (const struct sockaddr *)&addr, len) == 0 &&
	    listen(fd, SOMAXCONN) == 0)
		return 0;
	err = errno;
	if (err != EADDRINUSE)
		return listen_error(errorp, err, path, NULL);
	abstract_holder(&addr, len, by, sizeof(by));
	snprintf(why, sizeof(why), "the name is in use%s; choose another", by);
	return listen_error(errorp, err, path, why);
}

int listen_unix(struct listeners *set, const char *path, char **errorp)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct listener *listener;
	struct stat st;
	int lock_fd, ret;

	if (strlen(path) >= sizeof(addr.sun_path))
		return listen_error(errorp, ENAMETOOLONG, path,
				    "the path is too long for a unix socket");
	if (path[0] == '@')
		return listen_abstract(set, path, errorp);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	listener = listeners_add(set);
	if (!listener)
		return -ENOMEM;
	listener->family = AF_UNIX;
	listener->path = listen_absolute_path(path);
	if (!listener->path)
		return -ENOMEM;

	lock_fd = lock_directory(path);
	ret = remove_stale(&addr, errorp);
	if (!ret)
		ret = bind_unix(&addr, errorp);
	if (lock_fd >= 0)
		close(lock_fd);
	if (ret < 0)
		return ret;
	listener->fd = ret;
	if (lstat(path, &st) == 0) {
		listener->dev = st.st_dev;
		listener->ino = st.st_ino;
	}
	return 0;
}

int listen_private(struct listeners *set, char **errorp)
{
	static const char dir_form[] = "foliod.XXXXXX", socket_name[] = "sock";
	const size_t max = sizeof(((struct sockaddr_un *)NULL)->sun_path);
	const char *tmp = getenv("TMPDIR");
	char dir[PATH_MAX], path[PATH_MAX + 8], *copy;
	int ret;

	if (!tmp || *tmp != '/' || strlen(tmp) + sizeof(dir_form) +
	    sizeof(socket_name) > max)
		tmp = "/tmp";
	snprintf(dir, sizeof(dir), "%s/%s", tmp, dir_form);
	if (!mkdtemp(dir))
		return listen_error(errorp, errno, dir, NULL);
	snprintf(path, sizeof(path), "%s/%s", dir, socket_name);
	copy = strdup(dir);
	ret = copy ? listen_unix(set, path, errorp) : -ENOMEM;
	if (ret) {
		free(copy);
		rmdir(dir);
		return ret;
	}
	set->list[set->nr - 1].private_dir = copy;
	return 0;
}
