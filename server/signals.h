/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * signals.h - signals as events of one loop.
 *
 * They are blocked in all threads and read from a descriptor, so no code runs
 * in a handler.
 */
#ifndef FOLIOD_SERVER_SIGNALS_H
#define FOLIOD_SERVER_SIGNALS_H

#include <signal.h>

struct event_base;
struct signals;

/* How signals were set when foliod was started, for a program that we run. */
struct signal_state {
	sigset_t	blocked;
	sigset_t	defaults;	/* those that we ignore and that were not */
};

/*
 * Block SIGTERM, SIGINT, SIGHUP and SIGCHLD and ignore SIGPIPE and SIGXFSZ;
 * before any thread is made.  SIGINT and SIGHUP stay ignored where they were (nohup, and
 * shells' background jobs).
 */
void signals_block(struct signal_state *before);

/* Call @fn for each of them, on the thread that runs @base.  0 or -errno. */
int signals_start(struct event_base *base, void (*fn)(void *arg, int signo),
		  void *arg, struct signals **signalsp);

/* NULL is fine; sets *@signalsp to NULL. */
void signals_stop(struct signals **signalsp);

#endif
