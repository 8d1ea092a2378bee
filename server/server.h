/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * server.h - foliod from the opening of its exports to the last flush.
 */
#ifndef FOLIOD_SERVER_SERVER_H
#define FOLIOD_SERVER_SERVER_H

#include "server/options.h"
#include "server/signals.h"

struct server_params {
	const struct options	*opt;
	uint64_t		cache_size;	/* bytes; chosen */
	unsigned int		threads;	/* chosen */
	unsigned int		max_conns;	/* chosen */
	const struct signal_state *signals;	/* for the command of --run */
	int			ready_fd;	/* for daemon_ready(), or -1 */
};

/* Serve until told to stop.  Returns the exit status; what went wrong has been
 * logged. */
int server_run(const struct server_params *params);

#endif
