/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handoff.h - the foliod that serves, and will be followed by another one.
 *
 * Everything here happens on the first loop's thread.
 */
#ifndef FOLIOD_SERVER_HANDOFF_H
#define FOLIOD_SERVER_HANDOFF_H

#include <stdbool.h>

#include "server/export.h"
#include "server/listen.h"
#include "server/loops.h"

struct handoff;

/* What is handed over, and by whom. */
struct handoff_host {
	struct loops		*loops;
	struct export_table	*exports;
	struct listeners	*listeners;
	/* To open the exports again. */
	const struct options	*opt;
	struct cache		*cache;
	/* Somebody wants it: have handoff_run() called, from outside the loop. */
	void			(*wanted)(void *arg);
	void			*arg;
};

/*
 * Answer at the unix socket @path; or at the one in *@socks, if it has one,
 * which was taken over and is emptied.  0, or -errno having said why.
 */
int handoff_start(const char *path, struct listeners *socks,
		  const struct handoff_host *host, struct handoff **handoffp);

/* The socket that was taken over is ours now, to remove too. */
void handoff_own(struct handoff *handoff);

/* NULL is fine.  Removes the socket, unless it was handed over. */
void handoff_stop(struct handoff **handoffp);

/*
 * Hand all over to whoever wanted it.  No client is accepted meanwhile.  1: it
 * is another process's now, and no connection is left here; 0: nothing has
 * changed; -errno: the exports could not be opened again, which has been said.
 */
int handoff_run(struct handoff *handoff);

#endif
