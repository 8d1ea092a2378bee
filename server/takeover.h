/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * takeover.h - the foliod that starts takes over from the one that serves.
 *
 *	takeover_begin()	the other one has let go of its exports,
 *				listeners and connections are here
 *	open the exports, then listeners_take() with takeover_listeners()
 *	takeover_commit()	all is ours, clients are served
 *	takeover_end()
 *
 * An end without a commit gives all back: it comes after the exports are closed.
 * Of these, takeover_commit() alone runs the first loop.
 */
#ifndef FOLIOD_SERVER_TAKEOVER_H
#define FOLIOD_SERVER_TAKEOVER_H

#include "server/export.h"
#include "server/listen.h"
#include "server/loops.h"

struct takeover;

/*
 * Ask the foliod that answers at @opt->handoff.  0, with *@takeoverp NULL if
 * there is none, or -errno having said why.
 */
int takeover_begin(const struct options *opt, struct takeover **takeoverp);

/* Its listeners; what is left in it at the commit is closed and removed. */
struct listeners *takeover_listeners(struct takeover *takeover);
/* The one at @path, for handoff_start(). */
struct listeners *takeover_socks(struct takeover *takeover);

/*
 * Take all over.  Connections that do not fit the exports are closed.  @set is
 * no longer lent.  0, or -errno having said why.
 */
int takeover_commit(struct takeover *takeover, struct loops *loops,
		    const struct export_table *exports, struct listeners *set);

/* NULL is fine. */
void takeover_end(struct takeover **takeoverp);

#endif
