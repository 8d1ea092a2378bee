/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * daemon.h - the way into the background.
 */
#ifndef FOLIOD_SERVER_DAEMON_H
#define FOLIOD_SERVER_DAEMON_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * Fork.  The child goes on in a session of its own and has *@ready_fdp; the
 * parent waits for daemon_ready(), or for the child's end, and does not
 * return: it exits with 0, or with the child's status.  Before any thread.
 * 0 (in the child) or -errno.
 */
int daemon_fork(int *ready_fdp);

/*
 * Clients can connect: let the parent go, leave the terminal and the working
 * directory, and send what is logged from here on to syslog.  0 or -errno
 * (-EPIPE if the parent was killed meanwhile).
 */
int daemon_ready(int *ready_fdp);

/* Have what was logged so far reach syslog; at the end. */
void daemon_flush_log(void);

#endif
