/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tls.h - the client of wire.h under TLS.
 *
 * Once a connection has a session, all calls of wire.h go through it.
 */
#ifndef TESTS_WIRE_TLS_H
#define TESTS_WIRE_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "tests/wire/wire.h"

struct tls_client {
	const char	*ca;		/* file: verify the server */
	const char	*cert, *key;	/* files; or NULL */
	const char	*psk_user, *psk_hex;	/* or NULL */
	int		max_version;	/* OpenSSL's number; 0: the newest */
};

/* The handshake, after STARTTLS: 0, or -EPROTO if it fails. */
int tls_start(struct conn *c, const struct tls_client *how);
/* STARTTLS, and that; must succeed. */
void tls_upgrade(struct conn *c, const struct tls_client *how);

/* Has the server said that nothing follows?  To be asked after the end. */
bool tls_said_bye(const struct conn *c);

/* As send() and recv(). */
ssize_t tls_conn_send(struct conn *c, const void *buf, size_t len);
ssize_t tls_conn_recv(struct conn *c, void *buf, size_t len);
void tls_conn_free(struct conn *c);

#endif
