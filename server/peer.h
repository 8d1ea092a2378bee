/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * peer.h - who is at the other end of a connection, as the kernel tells it.
 *
 * What a client proves of itself under TLS joins this struct, so that access.h
 * has one place to look at.
 */
#ifndef FOLIOD_SERVER_PEER_H
#define FOLIOD_SERVER_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct identity;
struct sockaddr;

enum peer_kind {
	PEER_UNKNOWN,		/* a pipe, a socket of another family, or gone */
	PEER_UNIX,
	PEER_V4,
	PEER_V6,
	PEER_VSOCK,
};

/* Only what belongs to its kind is set, the rest is zero. */
struct peer {
	enum peer_kind	kind;
	union {
		uint8_t	addr[16];	/* V4: the first 4 bytes; network order */
		struct {
			uid_t	uid;	/* UNIX: of whoever connected */
			gid_t	gid;
		};
		uint32_t cid;		/* VSOCK */
	};
	gid_t		*groups;	/* UNIX: supplementary ones; owned */
	unsigned int	nr_groups;
	struct identity	*identity;	/* owned; NULL: has proved nothing */
};

/*
 * Learn who is behind the socket @fd; with @groups, the groups of a unix peer
 * too.  What cannot be learnt is unknown.  peer_fini() is due.
 */
void peer_get(struct peer *peer, int fd, bool groups);
void peer_fini(struct peer *peer);

/* Set what @addr says; an IPv4 address mapped into IPv6 is one of IPv4. */
void peer_set_address(struct peer *peer, const struct sockaddr *addr);

/* The same user, address or context id?  Unknown ones are all the same. */
bool peer_equal(const struct peer *a, const struct peer *b);
uint64_t peer_hash(const struct peer *peer, uint64_t seed);

/* "192.0.2.1", "uid 1000", "cid 3" or "unknown"; returns @buf. */
const char *peer_to_text(const struct peer *peer, char *buf, size_t buflen);

#endif
