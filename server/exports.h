/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * exports.h - the table of exports, from the command line's options to open
 * volumes and back.
 *
 * The table is constant while clients are served (export.h); it is opened and
 * closed on the first loop's thread, before and after.
 */
#ifndef FOLIOD_SERVER_EXPORTS_H
#define FOLIOD_SERVER_EXPORTS_H

#include <stdbool.h>

#include "server/export.h"
#include "server/options.h"

struct cache;
struct loops;

/* An empty @table with room for @nr exports: 0 or -ENOMEM. */
int exports_init(struct export_table *table, unsigned int nr);
/* None is open. */
void exports_fini(struct export_table *table);

/*
 * Open all that @opt has into @table, which has none, running the first loop
 * meanwhile.  Ends early, with success, once *@stop is set (NULL: it never
 * is).  0, or -errno having said why; exports_close() is due in all cases.
 */
int exports_open(struct export_table *table, const struct options *opt,
		 struct cache *cache, struct loops *loops, const bool *stop);

/*
 * Look at the size of all that are behind them, and have the exports be of
 * that size soon.  From an event on the first loop, whatever else goes on.
 */
void exports_revalidate(struct export_table *table);

/*
 * Flush and close all that are open; no client is left, or they are all held.
 * 0, or -errno if data could not be written, having said which: they are
 * closed all the same.
 */
int exports_close(struct export_table *table, struct loops *loops);

#endif
