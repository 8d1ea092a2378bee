/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handoff_wire.h - messages between a foliod and the one that follows it, over
 * a unix socket.
 *
 *	new	HELLO
 *	old		LISTENER... CONN... END		or REFUSED
 *	new	READY					or REFUSED
 *	old		GO				or REFUSED
 *	new	closes the socket; the old one ends
 *
 * Until GO is sent the old one may go on as if nothing had been, and does so
 * when the socket closes or time runs out; when the new one has GO, all is its.
 *
 * A message is a head, with at most one descriptor attached to it, and a body.
 */
#ifndef FOLIOD_SERVER_HANDOFF_WIRE_H
#define FOLIOD_SERVER_HANDOFF_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Changes with whatever is said. */
#define HANDOFF_VERSION		1

enum handoff_type {
	HANDOFF_HELLO = 1,
	HANDOFF_REFUSED,	/* body: why, a text */
	HANDOFF_LISTENER,	/* listen.h; with its descriptor */
	HANDOFF_CONN,		/* conn_state.h; with its descriptor */
	HANDOFF_END,		/* struct handoff_end */
	HANDOFF_READY,
	HANDOFF_GO,
	HANDOFF_NR,
};

struct handoff_head {
	uint32_t	magic;
	uint16_t	version;
	uint16_t	type;
	uint32_t	len;		/* of the body */
	uint32_t	nr_fds;		/* 0 or 1 */
} __attribute__((packed));

#define HANDOFF_MAGIC		UINT32_C(0x666f6c48)
/* Of any body but a connection's, whose most is CONN_STATE_MAX. */
#define HANDOFF_BODY_MAX	16384u

struct handoff_end {
	uint64_t	nr_listeners, nr_conns;
	uint64_t	paused_ns;	/* since then clients wait; the system's
					 * monotonic clock */
} __attribute__((packed));

struct handoff_msg {
	enum handoff_type	type;
	uint32_t		len;
	char			*body;	/* a NUL stands behind it; owned */
	int			fd;	/* or -1; owned */
};

/*
 * Check a head that came, of which all numbers become the machine's: 0, -EPROTO
 * if it is none, or -EPROTONOSUPPORT if it is one of another version.
 */
int handoff_head_get(const void *buf, struct handoff_head *head);

/*
 * Send a message, with @fd attached unless it is -1.  All here wait until
 * @deadline_ns at most: 0 or -errno, -ETIMEDOUT among them.  @iov is used up.
 */
int handoff_send(int sock, uint64_t deadline_ns, enum handoff_type type,
		 struct iovec *iov, unsigned int nr, int fd);

/* REFUSED, with @text. */
int handoff_refuse(int sock, uint64_t deadline_ns, const char *text);

/*
 * Receive a message.  handoff_msg_fini() is due on success.  -ECONNRESET: the
 * other end is closed; -EPROTO, -EPROTONOSUPPORT: what came is no message.
 */
int handoff_recv(int sock, uint64_t deadline_ns, struct handoff_msg *msg);
void handoff_msg_fini(struct handoff_msg *msg);

/* Wait until the other end closes, whatever it says before. */
void handoff_wait_closed(int sock, uint64_t deadline_ns);

/* Does the process behind @sock belong to our user?  Its id to *@pidp. */
bool handoff_peer_is_ours(int sock, pid_t *pidp);

#endif
