/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * listen.h - listening sockets: TCP, unix, vsock and those that came open;
 * opened, named and removed.
 *
 * Accepting is accept.h's.
 */
#ifndef FOLIOD_SERVER_LISTEN_H
#define FOLIOD_SERVER_LISTEN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "server/options.h"

struct listener {
	int		fd;		/* non-blocking */
	int		family;		/* AF_... */
	char		*fd_name;	/* systemd's name for it, or NULL */
	/* TCP: the numeric address and the real port. */
	char		*host;		/* NULL for others */
	uint16_t	port;
	bool		open;		/* others than this machine reach it */
	/* Vsock. */
	uint32_t	cid, vsock_port;
	/* Unix: the absolute path and what was made there; or '@' and the name
	 * of an abstract socket. */
	char		*path;		/* NULL for others */
	char		*private_dir;	/* directory to be removed, or NULL */
	dev_t		dev;
	ino_t		ino;
};

struct listeners {
	struct listener	*list;
	unsigned int	nr;
};

/*
 * Open what @opts ask for, into @set, in their order; a host may have several
 * addresses.  Returns 0, or -errno with *@errorp a line that says which one
 * failed and why, to be freed; nothing is then left open, of those that came
 * open neither, but for those behind the one that failed.  Not in a coroutine
 * (names are looked up, which takes stack and time).
 */
int listeners_open(struct listeners *set, const struct listen_option *opts,
		   unsigned int nr_opts, char **errorp);

/* Close all, and remove their files where they are still ours. */
void listeners_close(struct listeners *set);

/* The URI of @export_name there; to be freed, NULL without memory. */
char *listener_uri(const struct listener *listener, const char *export_name);

#endif
