/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * listen_internal.h - between listen.c, listen_unix.c and listen_fd.c.
 */
#ifndef FOLIOD_SERVER_LISTEN_INTERNAL_H
#define FOLIOD_SERVER_LISTEN_INTERNAL_H

#include "server/listen.h"

struct sockaddr;

/* Room for one more, empty; NULL without memory.  Pointers to earlier ones
 * are void. */
struct listener *listeners_add(struct listeners *set);
/* Be done with the last one. */
void listeners_drop_last(struct listeners *set);

/* Say that one cannot listen at @where, because of @why or of @err; returns
 * -@err. */
int listen_error(char **errorp, int err, const char *where, const char *why);

/* Can only this machine reach that address of TCP? */
bool listen_is_loopback(const struct sockaddr *addr);

/* Where @path is, whatever the working directory will be; to be freed. */
char *listen_absolute_path(const char *path);

/* Fill in where @listener, whose socket is open, can be found. */
int listen_describe(struct listener *listener);

/* What @opt asks for, as text, the same for the same listeners; to be freed. */
char *listen_asked(const struct listen_option *opt);
/* Move what @passed has of @opt to @set, perhaps nothing.  0 or -ENOMEM. */
int listen_take_passed(struct listeners *set, struct listeners *passed,
		       const struct listen_option *opt);

int listen_unix(struct listeners *set, const char *path, char **errorp);
int listen_private(struct listeners *set, char **errorp);
int listen_fd(struct listeners *set, const struct listen_option *opt,
	      char **errorp);
int listen_vsock(struct listeners *set, const struct listen_option *opt,
		 char **errorp);

#endif
