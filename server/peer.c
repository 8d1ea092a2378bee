/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * peer.c - who is at the other end of a connection.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/vm_sockets.h>

#include "base/util.h"
#include "server/identity.h"
#include "server/peer.h"

/* glibc 2.36 does not have it. */
#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS	59
#endif

union any_address {
	struct sockaddr		any;
	struct sockaddr_in	v4;
	struct sockaddr_in6	v6;
	struct sockaddr_vm	vsock;
	struct sockaddr_storage	storage;
};

static void set_v6(struct peer *peer, const struct in6_addr *addr)
{
	if (IN6_IS_ADDR_V4MAPPED(addr)) {
		peer->kind = PEER_V4;
		memcpy(peer->addr, &addr->s6_addr[12], 4);
	} else {
		peer->kind = PEER_V6;
		memcpy(peer->addr, addr->s6_addr, 16);
	}
}

void peer_set_address(struct peer *peer, const struct sockaddr *addr)
{
	memset(peer, 0, sizeof(*peer));
	switch (addr->sa_family) {
	case AF_INET:
		peer->kind = PEER_V4;
		memcpy(peer->addr,
		       &((const struct sockaddr_in *)addr)->sin_addr, 4);
		break;
	case AF_INET6:
		set_v6(peer, &((const struct sockaddr_in6 *)addr)->sin6_addr);
		break;
	case AF_VSOCK:
		peer->kind = PEER_VSOCK;
		peer->cid = ((const struct sockaddr_vm *)addr)->svm_cid;
		break;
	}
}

/* Without the memory for them, a peer is in fewer groups than it is. */
static void get_groups(struct peer *peer, int fd)
{
	socklen_t len = 0;
	gid_t *groups;

	/* Too little room says how much is wanted. */
	if (!getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &len) ||
	    errno != ERANGE)
		return;
	groups = malloc(len);
	if (groups && !getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups,
				  &len)) {
		peer->groups = groups;
		peer->nr_groups = len / sizeof(*groups);
	} else {
		free(groups);
	}
}

static void get_unix(struct peer *peer, int fd, bool groups)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) ||
	    len != sizeof(cred) || cred.uid == (uid_t)-1)
		return;
	peer->kind = PEER_UNIX;
	peer->uid = cred.uid;
	peer->gid = cred.gid;
	if (groups)
		get_groups(peer, fd);
}

void peer_get(struct peer *peer, int fd, bool groups)
{
	union any_address addr = { .storage = { 0 } };
	socklen_t len = sizeof(addr);
	int domain;
	socklen_t domain_len = sizeof(domain);

	memset(peer, 0, sizeof(*peer));
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_len))
		return;
	if (domain == AF_UNIX)
		get_unix(peer, fd, groups);
	else if (getpeername(fd, &addr.any, &len) == 0)
		peer_set_address(peer, &addr.any);
}

void peer_fini(struct peer *peer)
{
	free(peer->groups);
	peer->groups = NULL;
	peer->nr_groups = 0;
	identity_free(peer->identity);
	peer->identity = NULL;
}

bool peer_equal(const struct peer *a, const struct peer *b)
{
	if (a->kind != b->kind)
		return false;
	switch (a->kind) {
	case PEER_UNKNOWN:
		break;
	case PEER_UNIX:
		return a->uid == b->uid;
	case PEER_V4:
		return memcmp(a->addr, b->addr, 4) == 0;
	case PEER_V6:
		return memcmp(a->addr, b->addr, 16) == 0;
	case PEER_VSOCK:
		return a->cid == b->cid;
	}
	return true;
}

uint64_t peer_hash(const struct peer *peer, uint64_t seed)
{
	uint64_t words[2] = { 0 };

	switch (peer->kind) {
	case PEER_UNKNOWN:
		break;
	case PEER_UNIX:
		words[0] = peer->uid;
		break;
	case PEER_V4:
		memcpy(words, peer->addr, 4);
		break;
	case PEER_V6:
		memcpy(words, peer->addr, 16);
		break;
	case PEER_VSOCK:
		words[0] = peer->cid;
		break;
	}
	return hash64(hash64(hash64(seed + peer->kind) ^ words[0]) ^ words[1]);
}

const char *peer_to_text(const struct peer *peer, char *buf, size_t buflen)
{
	switch (peer->kind) {
	case PEER_UNKNOWN:
		break;
	case PEER_UNIX:
		snprintf(buf, buflen, "uid %u", peer->uid);
		return buf;
	case PEER_V4:
	case PEER_V6:
		if (inet_ntop(peer->kind == PEER_V4 ? AF_INET : AF_INET6,
			      peer->addr, buf, buflen))
			return buf;
		break;
	case PEER_VSOCK:
		snprintf(buf, buflen, "cid %u", peer->cid);
		return buf;
	}
	snprintf(buf, buflen, "unknown");
	return buf;
}
