/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handoff_internal.h - between handoff.c and handoff_door.c.
 */
#ifndef FOLIOD_SERVER_HANDOFF_INTERNAL_H
#define FOLIOD_SERVER_HANDOFF_INTERNAL_H

#include <event2/event.h>
#include <stddef.h>
#include <sys/types.h>

#include "server/handoff.h"
#include "server/handoff_wire.h"

struct handoff {
	struct handoff_host	host;
	struct listeners	socks;		/* one: where we answer */
	int			home_fd;	/* the working directory at start */
	struct event		*readable;	/* of the socket */
	/* Who asks. */
	int			peer_fd;	/* or -1 */
	pid_t			peer_pid;
	struct event		*peer_readable;
	char			hello[sizeof(struct handoff_head)];
	size_t			hello_len;
};

/* Be done with who asks, and let the next one in. */
void handoff_drop_peer(struct handoff *handoff);
/* The same, having said why. */
void handoff_turn_away(struct handoff *handoff, const char *why);

#endif
