/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * holder.h - which process has the port that we want?
 */
#ifndef FOLIOD_SERVER_HOLDER_H
#define FOLIOD_SERVER_HOLDER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * The process that listens on TCP @port of @family (AF_INET or AF_INET6), or
 * 0 if none can be found: other users' are not visible to everybody.
 */
pid_t holder_of_port(int family, uint16_t port);

/* " by pid N (PROGRAM)" into @buf, or "" for pid 0; returns @buf. */
const char *holder_to_text(pid_t pid, char *buf, size_t buflen);

#endif
