/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * judge.c - the handshake, as the client said it and the server answered it.
 * Requests are in judge_requests.c.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/judge_internal.h"

/* Whoever has said so much may have been shown the door. */
#define OPTIONS_FEW	64u
#define OPTION_BYTES_FEW (512u << 10)

void log_add(struct log *log, const void *bytes, size_t len)
{
	if (log->len + len > log->size) {
		log->size = 2 * (log->len + len);
		log->bytes = realloc(log->bytes, log->size);
		if (!log->bytes)
			abort();
	}
	memcpy(log->bytes + log->len, bytes, len);
	log->len += len;
}

void log_clear(struct log *log)
{
	free(log->bytes);
	memset(log, 0, sizeof(*log));
}

void wrong(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("the judge: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	abort();
}

const uint8_t *take(struct cursor *c, size_t len)
{
	const uint8_t *p = c->p;

	if (c->left < len)
		return NULL;
	c->p += len;
	c->left -= len;
	return p;
}

/* Nothing may come any more. */
static bool at_end(struct judge *j, const char *why)
{
	if (j->heard.left)
		wrong("%zu bytes after %s", j->heard.left, why);
	return false;
}

/* The server lets the client into the export of that name. */
static void enter(struct judge *j, const uint8_t *name, size_t len)
{
	const struct export_table *table = j->session->exports;
	unsigned int i = 0;

	if (len)
		for (i = 0; i < table->nr; i++)
			if (strlen(table->exports[i].name) == len &&
			    !memcmp(table->exports[i].name, name, len))
				break;
	if (i == table->nr)
		wrong("an export that there is not");
	if (table->exports[i].tls == TLS_REQUIRE && !j->tls)
		wrong("an export that is for TLS only");
	if (table->exports[i].tls == TLS_OFF && j->tls)
		wrong("an export that is for plain clients only");
	j->export = i;
}

static bool export_name(struct judge *j, const uint8_t *name, size_t len)
{
	const size_t head = sizeof(struct nbd_export_name_reply);
	const uint8_t *p;

	if (!j->heard.left)
		return false;
	enter(j, name, len);
	p = take(&j->heard, head + (j->flags & NBD_NO_ZEROES ? 0 :
				    NBD_EXPORT_NAME_ZEROES));
	if (!p)
		wrong("half an answer to EXPORT_NAME");
	if (be64_at(p) != j->session->volumes[j->export]->vol.size)
		wrong("another size");
	for (size_t i = head; !(j->flags & NBD_NO_ZEROES) &&
	     i < head + NBD_EXPORT_NAME_ZEROES; i++)
		if (p[i])
			wrong("the zeroes are none");
	return true;
}

/* One reply to @option that is not the last: is it one that may come? */
static void check_reply(struct judge *j, uint32_t option, uint32_t type,
			const uint8_t *data, uint32_t len)
{
	bool info = option == NBD_OPT_INFO || option == NBD_OPT_GO;
	bool meta = option == NBD_OPT_LIST_META_CONTEXT ||
		option == NBD_OPT_SET_META_CONTEXT;

	if (type == NBD_REP_SERVER && option == NBD_OPT_LIST && len >= 4 &&
	    be32_at(data) <= len - 4)
		return;
	if (type == NBD_REP_META_CONTEXT && meta && len > 4)
		return;
	if (type != NBD_REP_INFO || !info || len < 2)
		wrong("reply %#x of %u bytes to option %u", type, len, option);
	if (data[0] == 0 && data[1] == NBD_INFO_EXPORT) {
		if (len != sizeof(struct nbd_info_export))
			wrong("INFO_EXPORT of %u bytes", len);
		j->saw_export = true;
	}
}

/* What @option agrees on; false if there is nothing more to judge. */
static bool acknowledged(struct judge *j, uint32_t option, const uint8_t *data)
{
	switch (option) {
	case NBD_OPT_STRUCTURED_REPLY:
		j->structured = true;
		return true;
	case NBD_OPT_EXTENDED_HEADERS:
		j->structured = j->extended = true;
		return true;
	case NBD_OPT_GO:
		if (!j->saw_export)
			wrong("GO without INFO_EXPORT");
		enter(j, data + 4, be32_at(data));
		return true;
	case NBD_OPT_ABORT:
		return at_end(j, "ABORT");
	case NBD_OPT_STARTTLS:
		if (j->tls)
			wrong("STARTTLS twice");
		if (!j->session->has_tls)
			return false;
		if (j->session->tls_at != j->session->said.len - j->said.left)
			wrong("TLS behind bytes that anybody may have sent");
		j->tls = true;
		j->structured = j->extended = false;
		return true;
	default:
		return true;
	}
}

/* All replies to @option.  False if there is nothing more to judge. */
static bool replies(struct judge *j, uint32_t option, const uint8_t *data)
{
	uint32_t type, len;

	j->saw_export = false;
	do {
		const uint8_t *p, *head;

		head = take(&j->heard, sizeof(struct nbd_option_reply));
		if (!head && !j->heard.left &&
		    (j->nr_options > OPTIONS_FEW ||
		     j->option_bytes > OPTION_BYTES_FEW))
			return false;
		if (!head || be64_at(head) != NBD_OPTION_REPLY_MAGIC ||
		    be32_at(head + 8) != option)
			wrong("option %u is not answered", option);
		type = be32_at(head + 12);
		len = be32_at(head + 16);
		p = take(&j->heard, len);
		if (!p || len > 2 * NBD_STRING_MAX + 64)
			wrong("a reply of %u bytes", len);
		if (type & NBD_REP_ERROR && len > NBD_STRING_MAX)
			wrong("a text of %u bytes", len);
		if (!(type & NBD_REP_ERROR) && type != NBD_REP_ACK)
			check_reply(j, option, type, p, len);
	} while (!(type & NBD_REP_ERROR) && type != NBD_REP_ACK);
	return type == NBD_REP_ACK ? acknowledged(j, option, data) : true;
}

/* True if requests follow. */
static bool handshake(struct judge *j)
{
	const uint8_t *p = take(&j->heard, sizeof(struct nbd_greeting));

	if (!p || be64_at(p) != NBD_GREETING_MAGIC)
		wrong("no greeting");
	p = take(&j->said, sizeof(uint32_t));
	if (!p)
		return at_end(j, "the greeting");
	j->flags = be32_at(p);
	if (j->flags & ~(NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES))
		return at_end(j, "unknown flags");
	while (j->export < 0) {
		const uint8_t *head = take(&j->said,
					   sizeof(struct nbd_option_head));
		uint32_t option, len;

		if (!head || be64_at(head) != NBD_OPTION_MAGIC)
			return at_end(j, "the last option");
		option = be32_at(head + 8);
		len = be32_at(head + 12);
		p = take(&j->said, len);
		if (!p)
			return at_end(j, "half an option");
		j->nr_options++;
		j->option_bytes += len;
		if (option == NBD_OPT_EXPORT_NAME)
			return export_name(j, p, len);
		if (!(j->flags & NBD_FIXED_NEWSTYLE))
			return at_end(j, "an option that this one may not use");
		if (!replies(j, option, p))
			return false;
	}
	return true;
}

/* Whatever the volumes hold now is what they hold. */
static void take_over_all(const struct session_log *session)
{
	for (unsigned int i = 0; i < session->exports->nr; i++)
		memcpy(session->before[i], session->volumes[i]->data,
		       session->volumes[i]->vol.size);
}

void judge(const struct session_log *session)
{
	struct judge j = {
		.session = session,
		.said = { session->said.bytes, session->said.len },
		.heard = { session->heard.bytes, session->heard.len },
		.export = -1,
	};

	if (session->unsure)
		take_over_all(session);
	else if (handshake(&j))
		judge_requests(&j);
}
