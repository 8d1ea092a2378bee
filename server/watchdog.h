/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watchdog.h - tell the service manager that no loop is stuck.
 *
 * WATCHDOG_USEC says how long it waits to hear so; see sd_watchdog_enabled(3).
 * Every third of that all loops are asked to answer, and the manager hears of
 * it when the last has.  All functions are called on the thread of the first
 * loop, while it does not run.
 */
#ifndef FOLIOD_SERVER_WATCHDOG_H
#define FOLIOD_SERVER_WATCHDOG_H

#include "base/loop.h"
#include "server/notify.h"

struct watchdog;

/*
 * Begin, if that is wanted of this process; else *@watchdogp becomes NULL.
 * @loop(@arg, 0), (@arg, 1) and so on to before @nr are the loops.  0 or
 * -ENOMEM.
 */
int watchdog_start(struct notify *notify, unsigned int nr,
		   struct loop *(*loop)(void *arg, unsigned int i), void *arg,
		   struct watchdog **watchdogp);

/* Ask no more; before the first loop is freed.  NULL is fine. */
void watchdog_stop(struct watchdog *watchdog);

/* After all loops are freed, which may have had a question.  NULL is fine. */
void watchdog_free(struct watchdog *watchdog);

#endif
