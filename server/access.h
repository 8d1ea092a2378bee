/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * access.h - which clients an export is there for.
 *
 * A list of rules, of which one has to match:
 *
 *	any			everybody
 *	uid:N  gid:N		the user of a unix socket's client, and its
 *				groups, supplementary ones too
 *	cid:N			the context id of a vsock client
 *	ADDRESS[/BITS]		of IPv4 or IPv6; compared as bits, never as text
 *	dn:NAME  san:KIND:NAME	the subject of the client's certificate, or one
 *				of its alternative names, once it was verified
 *	psk:USER		whose shared key the client knows
 *
 * Names match as wholes, never by how they begin.
 *
 * An IPv4 address mapped into IPv6 is one of IPv4, in a rule and in a peer
 * alike, so that it matters to nobody which kind of socket took the client.
 * A rule about one kind of peer never matches another, and nothing but "any"
 * matches an unknown one.
 */
#ifndef FOLIOD_SERVER_ACCESS_H
#define FOLIOD_SERVER_ACCESS_H

#include <stdbool.h>

#include "server/peer.h"

#define ACCESS_RULES_MAX	1024	/* in a list */

enum access_kind {
	ACCESS_ANY,
	ACCESS_UID,
	ACCESS_GID,
	ACCESS_CID,
	ACCESS_V4,
	ACCESS_V6,
	ACCESS_DN,
	ACCESS_SAN,
	ACCESS_PSK,
};

struct access_rule {
	enum access_kind	kind;
	uint8_t			bits;		/* of the prefix */
	uint8_t			addr[16];	/* zero behind the prefix */
	uint32_t		id;		/* uid, gid or cid */
	char			*name;		/* owned, as identity.h has it */
};

/* Zeroed, it is empty, which lets everybody in. */
struct access {
	struct access_rule	*rules;		/* owned */
	unsigned int		nr;
};

/*
 * Add the rule that @text is.  0, -ENOMEM, or -EINVAL with *@errorp a line
 * that begins with @what, to be freed; @access is then as it was.
 */
int access_add(struct access *access, const char *what, const char *text,
	       char **errorp);
int access_copy(struct access *to, const struct access *from);
void access_fini(struct access *access);

bool access_allows(const struct access *access, const struct peer *peer);

/* Is there any rule of that kind? */
bool access_has(const struct access *access, enum access_kind kind);
/* Is there any rule about groups? */
bool access_asks_groups(const struct access *access);

#endif
