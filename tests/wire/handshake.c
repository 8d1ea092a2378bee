/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handshake.c - the greeting, options and their replies, as a test sees them.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/wire/harness.h"
#include "tests/wire/wire.h"

/* No option reply of these tests needs more. */
#define REPLY_MAX	(1u * MIB)

/* No server knows it. */
#define PROBE_OPTION	0x5a5a5a5au

void greet(struct conn *c, uint32_t cflags)
{
	uint8_t buf[18];

	conn_recv(c, buf, sizeof(buf));
	if (get64(buf) != NBDMAGIC || get64(buf + 8) != IHAVEOPT)
		fatal("the greeting is not newstyle");
	c->hflags = get16(buf + 16);
	put32(buf, cflags);
	conn_send(c, buf, 4);
}

struct conn *hello(void)
{
	struct conn *c = conn_connect();

	greet(c, HS_FIXED_NEWSTYLE | HS_NO_ZEROES);
	if (!(c->hflags & HS_FIXED_NEWSTYLE))
		fatal("the server does not offer fixed newstyle");
	return c;
}

void option_header(struct conn *c, uint32_t opt, uint32_t len)
{
	uint8_t buf[16];

	put64(buf, IHAVEOPT);
	put32(buf + 8, opt);
	put32(buf + 12, len);
	conn_send(c, buf, sizeof(buf));
}

void option_send(struct conn *c, uint32_t opt, const void *data, uint32_t len)
{
	uint8_t *buf = malloc(16 + (size_t)len);
	int ret;

	if (!buf)
		fatal("no memory for an option of %u bytes", len);
	put64(buf, IHAVEOPT);
	put32(buf + 8, opt);
	put32(buf + 12, len);
	if (len)
		memcpy(buf + 16, data, len);
	/* In one piece: an early close must not race with the second. */
	ret = try_send(c, buf, 16 + (size_t)len);
	/* All that a server can answer to a bad EXPORT_NAME is to close, which it
	 * may do before it has all of it. */
	if (opt == OPT_EXPORT_NAME && (ret == -EPIPE || ret == -ECONNRESET))
		ret = 0;
	free(buf);
	if (ret)
		fatal("sending option %u: %s", opt, strerror(-ret));
}

static void copy_string(char *to, size_t size, const void *from, size_t len)
{
	if (len > size - 1) {
		fail("a string of %zu bytes", len);
		len = size - 1;
	}
	if (memchr(from, 0, len))
		fail("a string with a NUL in it");
	memcpy(to, from, len);
	to[len] = '\0';
}

static void take_info(struct conn *c, const uint8_t *data, uint32_t len)
{
	uint16_t type = len >= 2 ? get16(data) : 0xffff;

	switch (type) {
	case INFO_EXPORT:
		if (len != 12)
			fatal("INFO_EXPORT of %u bytes", len);
		c->has_export = true;
		c->size = get64(data + 2);
		c->tflags = get16(data + 10);
		if (!(c->tflags & TF_HAS_FLAGS))
			fail("HAS_FLAGS is not set");
		break;
	case INFO_NAME:
		copy_string(c->name, sizeof(c->name), data + 2, len - 2);
		c->has_name = true;
		break;
	case INFO_DESCRIPTION:
		copy_string(c->desc, sizeof(c->desc), data + 2, len - 2);
		c->has_desc = true;
		break;
	case INFO_BLOCK_SIZE:
		if (len != 14)
			fatal("INFO_BLOCK_SIZE of %u bytes", len);
		c->has_block_size = true;
		c->bs_min = get32(data + 2);
		c->bs_pref = get32(data + 6);
		c->bs_max = get32(data + 10);
		break;
	default:
		fail("a REP_INFO of %u bytes and type %u", len, type);
	}
}

static void take_server(struct conn *c, const uint8_t *data, uint32_t len)
{
	uint32_t namelen = len >= 4 ? get32(data) : 0;
	struct listed *l;

	if (len < 4 || namelen > len - 4)
		fatal("REP_SERVER of %u bytes with a name of %u", len, namelen);
	if (!c->servers)
		c->servers = calloc(MAX_SERVERS, sizeof(*c->servers));
	if (!c->servers || c->nr_servers == MAX_SERVERS)
		fatal("too many exports listed");
	l = &c->servers[c->nr_servers++];
	copy_string(l->name, sizeof(l->name), data + 4, namelen);
	copy_string(l->desc, sizeof(l->desc), data + 4 + namelen,
		    len - 4 - namelen);
}

static void take_context(struct conn *c, const uint8_t *data, uint32_t len)
{
	struct context *m;

	if (len < 5 || c->nr_meta == MAX_META)
		fatal("REP_META_CONTEXT of %u bytes, or too many", len);
	m = &c->meta[c->nr_meta++];
	m->id = get32(data);
	copy_string(m->name, sizeof(m->name), data + 4, len - 4);
}

static void take_reply(struct conn *c, uint32_t type, const uint8_t *data,
		       uint32_t len)
{
	if (type & REP_ERR) {
		/* Obligation 19: however long the name that is echoed. */
		c->err_len = len;
		copy_string(c->err_text, sizeof(c->err_text), data, len);
	} else if (type == REP_ACK) {
		if (len)
			fail("an ACK with %u bytes of data", len);
	} else if (type == REP_INFO) {
		take_info(c, data, len);
	} else if (type == REP_SERVER) {
		take_server(c, data, len);
	} else if (type == REP_META_CONTEXT) {
		take_context(c, data, len);
	} else {
		fail("a reply of unknown type %#x", type);
	}
}

uint32_t option_finish(struct conn *c, uint32_t opt)
{
	static uint8_t data[REPLY_MAX];
	uint8_t head[20];
	uint32_t type, len;

	c->nr_meta = c->nr_servers = 0;
	c->err_len = 0;
	c->err_text[0] = '\0';
	do {
		conn_recv(c, head, sizeof(head));
		if (get64(head) != REP_MAGIC)
			fatal("out of sync: reply magic %#" PRIx64,
			      get64(head));
		if (get32(head + 8) != opt)
			fatal("a reply to option %#x instead of %#x",
			      get32(head + 8), opt);
		type = get32(head + 12);
		len = get32(head + 16);
		if (len > REPLY_MAX)
			fatal("a reply of %u bytes", len);
		conn_recv(c, data, len);
		take_reply(c, type, data, len);
	} while (type != REP_ACK && !(type & REP_ERR));
	if (type == REP_ACK && opt == OPT_STRUCTURED_REPLY)
		c->structured = true;
	if (type == REP_ACK && opt == OPT_EXTENDED_HEADERS)
		c->structured = c->extended = true;
	return type;
}

uint32_t option(struct conn *c, uint32_t opt, const void *data, uint32_t len)
{
	option_send(c, opt, data, len);
	return option_finish(c, opt);
}

size_t info_data(uint8_t *p, const void *name, size_t namelen,
		 const uint16_t *infos, unsigned int nr)
{
	put32(p, namelen);
	memcpy(p + 4, name, namelen);
	put16(p + 4 + namelen, nr);
	for (unsigned int i = 0; i < nr; i++)
		put16(p + 6 + namelen + 2 * i, infos[i]);
	return 6 + namelen + 2 * nr;
}

size_t meta_data(uint8_t *p, const char *name, const char *const *queries,
		 unsigned int nr)
{
	size_t len = strlen(name);

	put32(p, len);
	memcpy(p + 4, name, len);
	put32(p + 4 + len, nr);
	len += 8;
	for (unsigned int i = 0; i < nr; i++) {
		size_t qlen = strlen(queries[i]);

		put32(p + len, qlen);
		memcpy(p + len + 4, queries[i], qlen);
		len += 4 + qlen;
	}
	return len;
}

uint32_t option_info(struct conn *c, uint32_t opt, const char *name)
{
	static const uint16_t infos[] = { INFO_BLOCK_SIZE };
	uint8_t data[NAME_MAX_LEN + 64];

	return option(c, opt, data,
		      info_data(data, name, strlen(name), infos, 1));
}

uint32_t option_meta(struct conn *c, uint32_t opt, const char *name,
		     const char *const *queries, unsigned int nr)
{
	uint8_t data[4 * NAME_MAX_LEN];

	return option(c, opt, data, meta_data(data, name, queries, nr));
}

uint32_t set_allocation(struct conn *c, const char *name)
{
	static const char *const queries[] = { "base:allocation" };

	return option_meta(c, OPT_SET_META_CONTEXT, name, queries, 1);
}

void finish_export_name(struct conn *c, bool zeroes)
{
	uint8_t buf[134];

	conn_recv(c, buf, zeroes ? 134 : 10);
	c->size = get64(buf);
	c->tflags = get16(buf + 8);
	if (!(c->tflags & TF_HAS_FLAGS))
		fail("HAS_FLAGS is not set");
	for (size_t i = 10; zeroes && i < sizeof(buf); i++)
		if (buf[i])
			fatal("byte %zu of the padding is not zero", i);
	alive(c);
}

/* Not LIST: there is a server that answers only the first of a session. */
void in_sync(struct conn *c)
{
	uint32_t type = option(c, PROBE_OPTION, NULL, 0);

	if (type != REP_ERR_UNSUP)
		fail("the unknown option after it got %s \"%s\"",
		     rep_name(type), c->err_text);
}

const char *rep_name(uint32_t type)
{
	static char other[16];

	switch (type) {
	case REP_ACK:			return "ACK";
	case REP_SERVER:		return "SERVER";
	case REP_INFO:			return "INFO";
	case REP_META_CONTEXT:		return "META_CONTEXT";
	case REP_ERR_UNSUP:		return "ERR_UNSUP";
	case REP_ERR_POLICY:		return "ERR_POLICY";
	case REP_ERR_INVALID:		return "ERR_INVALID";
	case REP_ERR_PLATFORM:		return "ERR_PLATFORM";
	case REP_ERR_TLS_REQD:		return "ERR_TLS_REQD";
	case REP_ERR_UNKNOWN:		return "ERR_UNKNOWN";
	case REP_ERR_SHUTDOWN:		return "ERR_SHUTDOWN";
	case REP_ERR_BLOCK_SIZE_REQD:	return "ERR_BLOCK_SIZE_REQD";
	case REP_ERR_TOO_BIG:		return "ERR_TOO_BIG";
	case REP_ERR_EXT_HEADER_REQD:	return "ERR_EXT_HEADER_REQD";
	}
	snprintf(other, sizeof(other), "%#x", type);
	return other;
}

void expect_rep(uint32_t got, uint32_t want)
{
	if (got != want)
		fail("got %s, not %s", rep_name(got), rep_name(want));
}

void expect_rep_or(uint32_t got, uint32_t want, uint32_t other)
{
	if (got != want && got != other)
		fail("got %s, which is not allowed here", rep_name(got));
}
