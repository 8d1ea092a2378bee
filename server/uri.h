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

/* "nbd+vsock://CID:PORT/EXPORT" */
char *uri_vsock(uint32_t cid, uint32_t port, const char *export_name);

/* "nbd+unix:///EXPORT?socket=PATH"; an abstract socket's @path is '@' and its
 * name, as there is no other spelling that clients agree on. */
char *uri_unix(const char *path, const char *export_name);

/* The same for clients that use TLS; @uri, which may be NULL, is taken over. */
char *uri_with_tls(char *uri);

#endif
