/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * accept.h - takes clients from listening sockets.
 */
#ifndef FOLIOD_SERVER_ACCEPT_H
#define FOLIOD_SERVER_ACCEPT_H

#include "server/listen.h"

struct acceptor;
struct event_base;

/*
 * Call @accepted with the socket of each client that connects to one of
 * @set's listeners, and with that listener's TLS mode, on the thread that runs
 * @base.  @accepted owns the socket, which is non-blocking.  0 or -errno.
 */
int acceptor_start(const struct listeners *set, struct event_base *base,
		   void (*accepted)(void *arg, int fd, enum tls_mode tls),
		   void *arg, struct acceptor **acceptorp);

/* On the same thread; NULL is fine.  Sets *@acceptorp to NULL. */
void acceptor_stop(struct acceptor **acceptorp);

#endif
