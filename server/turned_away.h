/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * turned_away.h - says that clients were turned away, in one line for many.
 */
#ifndef FOLIOD_SERVER_TURNED_AWAY_H
#define FOLIOD_SERVER_TURNED_AWAY_H

/* One more was, because of @why.  From any thread. */
void turned_away(const char *why);

#endif
