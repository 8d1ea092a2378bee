/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tls.h - TLS for the connections of nbd-load: version 1.3 with one cipher,
 * AES-128-GCM, so that all servers encrypt alike.
 *
 * As in client.h, what goes wrong with credentials or in a handshake ends the
 * program with a line about it.
 */
#ifndef BENCH_TLS_H
#define BENCH_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

struct ssl_st;
struct client_tls;

/*
 * Credentials: of @certificates, a directory, ca-cert.pem and, if they are
 * there, client-cert.pem and client-key.pem; or of @psk, a file of lines
 * USER:HEXKEY, the key of @user, or the first if that is NULL.  The server's
 * certificate must be of that authority; its name is not looked at.
 */
struct client_tls *client_tls_new(const char *certificates, const char *psk,
				  const char *user);
void client_tls_free(struct client_tls *tls);

/* Shake hands on @fd, which blocks. */
struct ssl_st *client_tls_start(struct client_tls *tls, int fd);
void client_tls_end(struct ssl_st *ssl);

/* Bytes, 0 at the end (of input), or -1 with errno; all that there is, of input
 * once some has come.  EAGAIN where the descriptor does not block, or no input
 * came in CLIENT_PATIENCE_SEC. */
ssize_t client_tls_send(struct ssl_st *ssl, const struct iovec *iov,
			unsigned int nr);
ssize_t client_tls_recv(struct ssl_st *ssl, void *buf, size_t len, bool wait);

#endif
