/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * notify.h - tell the service manager how far we are.
 *
 * The protocol is that of sd_notify(3): datagrams to the socket that
 * NOTIFY_SOCKET names.  Where nobody waits for them these functions do
 * nothing.  One thread's, the main one.
 */
#ifndef FOLIOD_SERVER_NOTIFY_H
#define FOLIOD_SERVER_NOTIFY_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

struct notify {
	int			fd;		/* -1: nobody waits */
	bool			serving;	/* neither starting nor stopping */
	socklen_t		addr_len;
	struct sockaddr_un	addr;
};

/*
 * Look for who waits, and take NOTIFY_SOCKET out of the environment: it is not
 * meant for programs that we run.  What cannot be used is warned of.
 */
void notify_init(struct notify *notify);
void notify_fini(struct notify *notify);

/* We serve @nr_exports. */
void notify_ready(struct notify *notify, unsigned int nr_exports);
/* Files are about to be reread, and are; nothing unless we serve. */
void notify_reloading(struct notify *notify);
void notify_reloaded(struct notify *notify, unsigned int nr_exports);
/* No client is taken any more. */
void notify_stopping(struct notify *notify);
/* The last of our life: what is dirty is written. */
void notify_flushing(struct notify *notify);
/* We are not stuck; never waits. */
void notify_alive(struct notify *notify);

#endif
