/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * uri.h - NBD URIs, as clients take them.
 */
#ifndef FOLIOD_SERVER_URI_H
#define FOLIOD_SERVER_URI_H

#include <stdint.h>

/*
 * "nbd://HOST:PORT/EXPORT"; an IPv6 @host is put in brackets.  All of these
 * return a string to be freed, or NULL without memory.
 */
char *uri_tcp(const char *host, uint16_t port, const char *export_name);

/* "nbd+unix:///EXPORT?socket=PATH" */
char *uri_unix(const char *path, const char *export_name);

#endif
