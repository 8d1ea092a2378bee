/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run.h - the command of --run.
 */
#ifndef FOLIOD_SERVER_RUN_H
#define FOLIOD_SERVER_RUN_H

#include <stdbool.h>
#include <sys/types.h>

#include "server/signals.h"

/* What the command finds in its environment; NULL becomes empty. */
struct run_vars {
	const char	*uri;
	const char	*unixsocket;
	const char	*port;
	const char	*exportname;
};

struct run_child {
	pid_t	pid;		/* 0: none, or it has ended */
	int	exit_status;	/* once it has; 128 + N for signal N */
};

/* Run @command by the shell, with signals as @before.  0 or -errno. */
int run_start(struct run_child *child, const char *command,
	      const struct run_vars *vars, const struct signal_state *before);

/* There was a SIGCHLD.  True if the command has ended by now. */
bool run_reap(struct run_child *child);

#endif
