/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * listen_internal.h - between listen.c and listen_unix.c.
 */
#ifndef FOLIOD_SERVER_LISTEN_INTERNAL_H
#define FOLIOD_SERVER_LISTEN_INTERNAL_H

#include "server/listen.h"

/* Room for one more, empty; NULL without memory.  Pointers to earlier ones
 * are void. */
struct listener *listeners_add(struct listeners *set);

/* Say that one cannot listen at @where, because of @why or of @err; returns
 * -@err. */
int listen_error(char **errorp, int err, const char *where, const char *why);

int listen_unix(struct listeners *set, const char *path, char **errorp);
int listen_private(struct listeners *set, char **errorp);

#endif
