/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * peers.h - how many connections each peer has.
 *
 * Used only where there is a limit to that: it is a lock that the loops
 * share, for a moment as a client comes or goes.
 */
#ifndef FOLIOD_SERVER_PEERS_H
#define FOLIOD_SERVER_PEERS_H

#include "server/peer.h"

struct peers;

/* @max connections for each.  0 or -ENOMEM. */
int peers_new(unsigned int max, struct peers **peersp);
/* All have left; NULL is fine. */
void peers_free(struct peers *peers);

/* Count one more of @peer: 0, -EDQUOT if it has @max, or -ENOMEM. */
int peers_enter(struct peers *peers, const struct peer *peer);
/* One of those that entered has gone. */
void peers_leave(struct peers *peers, const struct peer *peer);

#endif
