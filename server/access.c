/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * access.c - which clients an export is there for.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "server/access.h"
#include "server/dn.h"
#include "server/identity.h"
#include "server/options.h"

#define V4_BITS		32
#define V6_BITS		128
#define MAPPED_BITS	96	/* of ::ffff:0:0/96 */

static const uint8_t mapped_prefix[MAPPED_BITS / 8] = {
	[10] = 0xff, [11] = 0xff,
};

/* ---- rules from text ---- */

static int bad_rule(const char *what, const char *text, char **errorp)
{
	return option_error(errorp, "%s: '%s' is not uid:N, gid:N, cid:N, an "
			    "IP address, ADDRESS/BITS, dn:NAME, san:KIND:NAME, "
			    "psk:USER or 'any'", what, text);
}

/* Are the bits of @addr from @bits on all zero? */
static bool is_prefix(const uint8_t *addr, unsigned int bits,
		      unsigned int of_bits)
{
	for (unsigned int i = bits; i < of_bits; i++)
		if (addr[i / 8] & 0x80 >> i % 8)
			return false;
	return true;
}

static void clear_behind(uint8_t *addr, unsigned int bits, unsigned int of_bits)
{
	for (unsigned int i = bits; i < of_bits; i++)
		addr[i / 8] &= ~(0x80 >> i % 8);
}

/* Bits that are not of the network are a mistake, and which one nobody knows. */
static int host_bits(const struct access_rule *rule, const char *what,
		     const char *text, char **errorp)
{
	bool v4 = rule->kind == ACCESS_V4;
	char net[INET6_ADDRSTRLEN] = "?";
	uint8_t addr[16];

	memcpy(addr, rule->addr, sizeof(addr));
	clear_behind(addr, rule->bits, v4 ? V4_BITS : V6_BITS);
	inet_ntop(v4 ? AF_INET : AF_INET6, addr, net, sizeof(net));
	return option_error(errorp, "%s: '%s' has bits behind its first %u; "
			    "write %s/%u for the network, or the address "
			    "alone", what, text, rule->bits, net, rule->bits);
}

static void unmap(struct access_rule *rule)
{
	if (rule->kind != ACCESS_V6 || rule->bits < MAPPED_BITS ||
	    memcmp(rule->addr, mapped_prefix, sizeof(mapped_prefix)) != 0)
		return;
	rule->kind = ACCESS_V4;
	rule->bits -= MAPPED_BITS;
	memmove(rule->addr, rule->addr + sizeof(mapped_prefix), 4);
	memset(rule->addr + 4, 0, sizeof(rule->addr) - 4);
}

static int parse_network(struct access_rule *rule, const char *what,
			 const char *text, char **errorp)
{
	const char *slash = strchrnul(text, '/');
	char address[INET6_ADDRSTRLEN];
	size_t len = slash - text;
	uint64_t bits;
	unsigned int most;

	if (len >= sizeof(address))
		return bad_rule(what, text, errorp);
	memcpy(address, text, len);
	address[len] = '\0';
	if (inet_pton(AF_INET, address, rule->addr) == 1)
		rule->kind = ACCESS_V4;
	else if (inet_pton(AF_INET6, address, rule->addr) == 1)
		rule->kind = ACCESS_V6;
	else
		return bad_rule(what, text, errorp);
	bits = most = rule->kind == ACCESS_V4 ? V4_BITS : V6_BITS;
	if (*slash && number_parse(slash + 1, 0, most, &bits))
		return option_error(errorp, "%s: '%s' does not end in a number "
				    "of bits from 0 to %u", what, text, most);
	rule->bits = bits;
	if (!is_prefix(rule->addr, bits, most))
		return host_bits(rule, what, text, errorp);
	unmap(rule);
	return 0;
}

static int parse_id(struct access_rule *rule, enum access_kind kind,
		    const char *what, const char *text, char **errorp)
{
	uint64_t id;

	/* -1 is nobody's, in all three. */
	if (number_parse(strchr(text, ':') + 1, 0, UINT32_MAX - 1, &id))
		return option_error(errorp, "%s: '%s' does not end in a number",
				    what, text);
	rule->kind = kind;
	rule->id = id;
	return 0;
}

static int parse_dn(struct access_rule *rule, const char *what,
		    const char *text, char **errorp)
{
	const char *why = NULL;
	int ret = dn_from_text(strchr(text, ':') + 1, &rule->name, &why);

	rule->kind = ACCESS_DN;
	if (ret != -EINVAL)
		return ret;
	return option_error(errorp, "%s: '%s' is not dn: and a name such as "
			    "CN=alice,O=Example: %s", what, text, why);
}

static int parse_san(struct access_rule *rule, const char *what,
		     const char *text, char **errorp)
{
	rule->kind = ACCESS_SAN;
	rule->name = san_from_text(strchr(text, ':') + 1);
	if (rule->name)
		return 0;
	if (errno != EINVAL)
		return -ENOMEM;
	return option_error(errorp, "%s: '%s' is not san:DNS:NAME, "
			    "san:URI:NAME or san:email:NAME", what, text);
}

static int parse_psk(struct access_rule *rule, const char *what,
		     const char *text, char **errorp)
{
	const char *user = strchr(text, ':') + 1;

	if (!*user)
		return option_error(errorp, "%s: '%s' names no user", what,
				    text);
	rule->kind = ACCESS_PSK;
	rule->name = strdup(user);
	return rule->name ? 0 : -ENOMEM;
}

static int parse_rule(struct access_rule *rule, const char *what,
		      const char *text, char **errorp)
{
	memset(rule, 0, sizeof(*rule));
	if (strcmp(text, "any") == 0)
		return 0;	/* ACCESS_ANY */
	if (strncmp(text, "uid:", 4) == 0)
		return parse_id(rule, ACCESS_UID, what, text, errorp);
	if (strncmp(text, "gid:", 4) == 0)
		return parse_id(rule, ACCESS_GID, what, text, errorp);
	if (strncmp(text, "cid:", 4) == 0)
		return parse_id(rule, ACCESS_CID, what, text, errorp);
	if (strncmp(text, "dn:", 3) == 0)
		return parse_dn(rule, what, text, errorp);
	if (strncmp(text, "san:", 4) == 0)
		return parse_san(rule, what, text, errorp);
	if (strncmp(text, "psk:", 4) == 0)
		return parse_psk(rule, what, text, errorp);
	return parse_network(rule, what, text, errorp);
}

/* ---- lists ---- */

/* Takes what @rule owns over, also on failure. */
static int add_rule(struct access *access, const struct access_rule *rule)
{
	struct access_rule *rules;

	rules = realloc(access->rules, (access->nr + 1) * sizeof(*rules));
	if (!rules) {
		free(rule->name);
		return -ENOMEM;
	}
	access->rules = rules;
	rules[access->nr++] = *rule;
	return 0;
}

int access_add(struct access *access, const char *what, const char *text,
	       char **errorp)
{
	struct access_rule rule;
	int ret;

	if (access->nr == ACCESS_RULES_MAX)
		return option_error(errorp, "%s: there are more than %d", what,
				    ACCESS_RULES_MAX);
	ret = parse_rule(&rule, what, text, errorp);
	return ret ? ret : add_rule(access, &rule);
}

int access_copy(struct access *to, const struct access *from)
{
	int ret = 0;

	memset(to, 0, sizeof(*to));
	for (unsigned int i = 0; i < from->nr && !ret; i++) {
		struct access_rule rule = from->rules[i];

		if (rule.name)
			rule.name = strdup(rule.name);
		if (from->rules[i].name && !rule.name)
			ret = -ENOMEM;
		else
			ret = add_rule(to, &rule);
	}
	if (ret)
		access_fini(to);
	return ret;
}

void access_fini(struct access *access)
{
	for (unsigned int i = 0; i < access->nr; i++)
		free(access->rules[i].name);
	free(access->rules);
	memset(access, 0, sizeof(*access));
}

/* ---- matching ---- */

static bool same_prefix(const uint8_t *a, const uint8_t *b, unsigned int bits)
{
	unsigned int bytes = bits / 8, rest = bits % 8;

	if (memcmp(a, b, bytes) != 0)
		return false;
	return !rest || !((a[bytes] ^ b[bytes]) >> (8 - rest));
}

static bool in_group(const struct peer *peer, gid_t gid)
{
	if (peer->gid == gid)
		return true;
	for (unsigned int i = 0; i < peer->nr_groups; i++)
		if (peer->groups[i] == gid)
			return true;
	return false;
}

static bool name_matches(const struct access_rule *rule,
			 const struct identity *identity)
{
	switch (rule->kind) {
	case ACCESS_DN:
		return identity->subject &&
			strcmp(identity->subject, rule->name) == 0;
	case ACCESS_SAN:
		return identity_has_name(identity, rule->name);
	case ACCESS_PSK:
		return identity->user &&
			strcmp(identity->user, rule->name) == 0;
	default:
		return false;
	}
}

static bool rule_matches(const struct access_rule *rule,
			 const struct peer *peer)
{
	switch (rule->kind) {
	case ACCESS_ANY:
		return true;
	case ACCESS_UID:
		return peer->kind == PEER_UNIX && peer->uid == rule->id;
	case ACCESS_GID:
		return peer->kind == PEER_UNIX && in_group(peer, rule->id);
	case ACCESS_CID:
		return peer->kind == PEER_VSOCK && peer->cid == rule->id;
	case ACCESS_V4:
		return peer->kind == PEER_V4 &&
			same_prefix(peer->addr, rule->addr, rule->bits);
	case ACCESS_V6:
		return peer->kind == PEER_V6 &&
			same_prefix(peer->addr, rule->addr, rule->bits);
	case ACCESS_DN:
	case ACCESS_SAN:
	case ACCESS_PSK:
		return peer->identity && name_matches(rule, peer->identity);
	}
	return false;
}

bool access_allows(const struct access *access, const struct peer *peer)
{
	for (unsigned int i = 0; i < access->nr; i++)
		if (rule_matches(&access->rules[i], peer))
			return true;
	return !access->nr;
}

bool access_has(const struct access *access, enum access_kind kind)
{
	for (unsigned int i = 0; i < access->nr; i++)
		if (access->rules[i].kind == kind)
			return true;
	return false;
}

bool access_asks_groups(const struct access *access)
{
	return access_has(access, ACCESS_GID);
}
