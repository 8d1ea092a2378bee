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
	enum tls_mode	tls;		/* of its clients, at least */
	/* Vsock. */
	uint32_t	cid, vsock_port;
	/* Unix: the absolute path and what was made there; or '@' and the name
	 * of an abstract socket. */
	char		*path;		/* NULL for others */
	char		*private_dir;	/* directory to be removed, or NULL */
	dev_t		dev;
	ino_t		ino;
	/* What was asked for, as text, to be compared. */
	char		*asked;
	bool		lent;		/* another process removes its files */
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

/* The same, but what @passed has of what is asked for is moved from there
 * instead of being opened. */
int listeners_take(struct listeners *set, struct listeners *passed,
		   const struct listen_option *opts, unsigned int nr_opts,
		   char **errorp);

/* Their files are another process's to remove, or ours, who listen now. */
void listeners_lend(struct listeners *set);
void listeners_own(struct listeners *set);

/* Close all, and remove their files where they are still ours. */
void listeners_close(struct listeners *set);

/* ---- in a message to another process, see listen_pass.c ---- */

#define LISTENER_STATE_MAX	8192u

/* What cannot be learnt from its descriptor, at @buf, of LISTENER_STATE_MAX
 * bytes: how many, or -ENAMETOOLONG. */
int listener_encode(const struct listener *listener, char *buf);

/*
 * Append a listener to @set, lent, from these @len bytes and from @fd, which
 * is taken over on success.  0, -EPROTO, or another -errno.
 */
int listener_decode(struct listeners *set, const char *buf, size_t len, int fd);

/* The URI of @export_name there; to be freed, NULL without memory. */
char *listener_uri(const struct listener *listener, const char *export_name);

#endif
