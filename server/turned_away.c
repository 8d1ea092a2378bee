/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * turned_away.c - says that clients were turned away, in one line for many.
 */
#include "base/base.h"
#include "server/turned_away.h"

#define PAUSE_NS	(10 * NSEC_PER_SEC)

/* Both atomic; which thread gets to say it is of no interest. */
static uint64_t said_ns;
static uint64_t nr_since;	/* then */

void turned_away(const char *why)
{
	uint64_t now = clock_now_ns();
	uint64_t said = __atomic_load_n(&said_ns, __ATOMIC_RELAXED), nr;

	__atomic_add_fetch(&nr_since, 1, __ATOMIC_RELAXED);
	if (said && now - said < PAUSE_NS)
		return;
	if (!__atomic_compare_exchange_n(&said_ns, &said, now, false,
					 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return;
	nr = __atomic_exchange_n(&nr_since, 0, __ATOMIC_RELAXED);
	log_warn("%llu client%s turned away: %s", (unsigned long long)nr,
		 nr == 1 ? "" : "s", why);
}
