/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * judge.h - was what a server said in a session, and did to its volumes, right?
 *
 * The judge knows the protocol for itself: it reads what the client said and
 * holds the answers against it.  It aborts where they are wrong, and lets pass
 * what it cannot know.
 */
#ifndef FOLIOD_TESTS_FUZZ_JUDGE_H
#define FOLIOD_TESTS_FUZZ_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/export.h"
#include "tests/fakevolume.h"

struct log {
	uint8_t		*bytes;
	size_t		len, size;
};

struct session_log {
	struct log	said, heard;	/* without the TLS around it */
	bool		has_tls;	/* a TLS session came up when so much */
	size_t		tls_at;		/* had been said */
	bool		unsure;		/* something was sent or received that is
					 * in neither log */
	bool		may_fail;	/* the volume does */
	const struct export_table *exports;
	struct fakevolume *const *volumes;	/* of the exports */
	uint8_t		*const *before;	/* what they held; brought up to date */
};

void log_add(struct log *log, const void *bytes, size_t len);
void log_clear(struct log *log);

void judge(const struct session_log *session);

#endif
