/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * listen_pass.c - listening sockets that go from one process to another.
 *
 * Where a socket listens is learnt from itself.  What goes with it is what was
 * asked for, by which the other process knows whether it wants it, and what
 * there is to be removed in the end.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/base.h"
#include "server/listen_internal.h"

static int print_unix(char **textp, const char *path)
{
	char *absolute;
	int n;

	if (*path == '@')
		return asprintf(textp, "unix %s", path);
	absolute = listen_absolute_path(path);
	if (!absolute)
		return -1;
	n = asprintf(textp, "unix %s", absolute);
	free(absolute);
	return n;
}

char *listen_asked(const struct listen_option *opt)
{
	char *text = NULL;
	int n = -1;

	switch (opt->kind) {
	case LISTEN_TCP:
		n = asprintf(&text, "tcp %d %s", opt->port,
			     opt->host ? opt->host : "");
		break;
	case LISTEN_LOOPBACK:
		n = asprintf(&text, "loopback %d", opt->port);
		break;
	case LISTEN_UNIX:
		n = print_unix(&text, opt->path);
		break;
	case LISTEN_PRIVATE:
		n = asprintf(&text, "private");
		break;
	case LISTEN_VSOCK:
		n = asprintf(&text, "vsock %u %u", opt->cid, opt->vsock_port);
		break;
	case LISTEN_FD:
		/* Each process has been given its own. */
		n = asprintf(&text, "descriptor");
		break;
	}
	return n < 0 ? NULL : text;
}

int listen_take_passed(struct listeners *set, struct listeners *passed,
		       const struct listen_option *opt)
{
	CLEANUP_FREE char *asked = NULL;
	unsigned int left = 0;
	int ret = 0;

	if (opt->kind == LISTEN_FD)
		return 0;
	asked = listen_asked(opt);
	if (!asked)
		return -ENOMEM;
	for (unsigned int i = 0; i < passed->nr; i++) {
		struct listener *listener = NULL, *from = &passed->list[i];

		if (!ret && strcmp(from->asked, asked) == 0) {
			listener = listeners_add(set);
			if (!listener)
				ret = -ENOMEM;
		}
		if (listener)
			*listener = *from;
		else
			passed->list[left++] = *from;
	}
	passed->nr = left;
	return ret;
}

/* ---- in a message ---- */

int listener_encode(const struct listener *listener, char *buf)
{
	int n;

	n = snprintf(buf, LISTENER_STATE_MAX, "%llu %llu%c%s%c%s%c%s%c",
		     (unsigned long long)listener->dev,
		     (unsigned long long)listener->ino, '\0', listener->asked,
		     '\0', listener->path ? listener->path : "", '\0',
		     listener->private_dir ? listener->private_dir : "", '\0');
	return n < 0 || n >= (int)LISTENER_STATE_MAX ? -ENAMETOOLONG : n;
}

/* The next string; NULL if none ends before @end. */
static const char *next_string(const char **pp, const char *end)
{
	const char *text = *pp, *nul = memchr(text, '\0', end - text);

	if (!nul)
		return NULL;
	*pp = nul + 1;
	return text;
}

static bool is_listening(int fd)
{
	int on = 0;
	socklen_t len = sizeof(on);

	return !getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) && on;
}

static int replace(char **to, const char *text)
{
	char *copy = *text ? strdup(text) : NULL;

	if (*text && !copy)
		return -ENOMEM;
	free(*to);
	*to = copy;
	return 0;
}

static bool parse_file(const char *text, unsigned long long *devp,
		       unsigned long long *inop)
{
	char *end;

	errno = 0;
	*devp = strtoull(text, &end, 10);
	if (errno || end == text || *end != ' ')
		return false;
	text = end + 1;
	*inop = strtoull(text, &end, 10);
	return !errno && end != text && !*end;
}

int listener_decode(struct listeners *set, const char *buf, size_t len, int fd)
{
	const char *end = buf + len;
	const char *file = next_string(&buf, end);
	const char *asked = file ? next_string(&buf, end) : NULL;
	const char *path = asked ? next_string(&buf, end) : NULL;
	const char *private_dir = path ? next_string(&buf, end) : NULL;
	unsigned long long dev, ino;
	struct listener *listener;
	int ret = -ENOMEM;

	if (!private_dir || buf != end || !*asked ||
	    !parse_file(file, &dev, &ino) || !is_listening(fd))
		return -EPROTO;
	listener = listeners_add(set);
	if (!listener)
		return -ENOMEM;
	listener->lent = true;
	listener->fd = fd;
	listener->dev = dev;
	listener->asked = strdup(asked);
	if (listener->asked)
		ret = listen_describe(listener);
	if (!ret && (ino || *private_dir) && !*path)
		ret = -EPROTO;
	/* It may have been bound by a path relative to somewhere else. */
	if (!ret && *path)
		ret = replace(&listener->path, path);
	if (!ret)
		ret = replace(&listener->private_dir, private_dir);
	listener->ino = ino;
	if (ret) {
		listener->fd = -1;
		listeners_drop_last(set);
	}
	return ret;
}
