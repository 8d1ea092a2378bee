/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * uri.c - NBD URIs, as clients take them.
 */
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "server/uri.h"

/*
 * What need not be escaped in a path or the value of a query: RFC 3986's
 * unreserved characters, and '/', which is allowed in both.
 */
static bool is_plain(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	       (c >= '0' && c <= '9') || (c && strchr("-._~/", c));
}

static char *escape(const char *text)
{
	char *escaped = malloc(3 * strlen(text) + 1), *to = escaped;

	if (!escaped)
		return NULL;
	for (; *text; text++) {
		if (is_plain(*text))
			*to++ = *text;
		else
			to += sprintf(to, "%%%02X", (unsigned char)*text);
	}
	*to = '\0';
	return escaped;
}

char *uri_tcp(const char *host, uint16_t port, const char *export_name)
{
	char *name = escape(export_name), *uri;
	bool v6 = strchr(host, ':');

	if (!name || asprintf(&uri, "nbd://%s%s%s:%u/%s", v6 ? "[" : "", host,
			      v6 ? "]" : "", port, name) < 0)
		uri = NULL;
	free(name);
	return uri;
}

char *uri_vsock(uint32_t cid, uint32_t port, const char *export_name)
{
	char *name = escape(export_name), *uri;

	if (!name ||
	    asprintf(&uri, "nbd+vsock://%u:%u/%s", cid, port, name) < 0)
		uri = NULL;
	free(name);
	return uri;
}

char *uri_unix(const char *path, const char *export_name)
{
	char *name = escape(export_name), *socket = escape(path), *uri;

	if (!name || !socket ||
	    asprintf(&uri, "nbd+unix:///%s?socket=%s", name, socket) < 0)
		uri = NULL;
	free(name);
	free(socket);
	return uri;
}

char *uri_with_tls(char *uri)
{
	char *with_tls;

	/* The scheme begins with "nbd" in all of them. */
	if (!uri || asprintf(&with_tls, "nbds%s", uri + strlen("nbd")) < 0)
		with_tls = NULL;
	free(uri);
	return with_tls;
}
