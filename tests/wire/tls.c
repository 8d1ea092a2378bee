/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tls.c - the client of wire.h under TLS.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <string.h>

#include "tests/wire/harness.h"
#include "tests/wire/tls.h"

static unsigned int psk_of(SSL *ssl, const char *hint, char *user,
			   unsigned int user_size, unsigned char *key,
			   unsigned int key_size)
{
	const struct tls_client *how = SSL_get_app_data(ssl);
	size_t len;

	(void)hint;
	if (strlen(how->psk_user) >= user_size ||
	    !OPENSSL_hexstr2buf_ex(key, key_size, &len, how->psk_hex, '\0'))
		return 0;
	strcpy(user, how->psk_user);
	return len;
}

static SSL_CTX *context(const struct tls_client *how)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	if (!ctx)
		fatal("no TLS context");
	/* Old versions, too, are for the server to refuse. */
	SSL_CTX_set_security_level(ctx, 0);
	SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
	SSL_CTX_set_max_proto_version(ctx, how->max_version);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
			 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	if (how->ca) {
		if (!SSL_CTX_load_verify_file(ctx, how->ca))
			fatal("cannot load %s", how->ca);
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	}
	if (how->cert &&
	    (SSL_CTX_use_certificate_chain_file(ctx, how->cert) != 1 ||
	     SSL_CTX_use_PrivateKey_file(ctx, how->key,
					 SSL_FILETYPE_PEM) != 1))
		fatal("cannot load %s", how->cert);
	if (how->psk_user) {
		SSL_CTX_set_cipher_list(ctx, "PSK");
		SSL_CTX_set_psk_client_callback(ctx, psk_of);
	}
	return ctx;
}

/* Wait as OpenSSL asks for it: 0, or -EPROTO if it asks for nothing. */
static int wait_as(const struct conn *c, int ret)
{
	int want = SSL_get_error(c->tls, ret);
	struct pollfd pfd = { .fd = c->fd };

	if (want != SSL_ERROR_WANT_READ && want != SSL_ERROR_WANT_WRITE)
		return -EPROTO;
	pfd.events = want == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
	return poll(&pfd, 1, env.timeout_ms) == 1 ? 0 : -EPROTO;
}

int tls_start(struct conn *c, const struct tls_client *how)
{
	SSL_CTX *ctx = context(how);
	int ret = -1;

	ERR_clear_error();
	c->tls = SSL_new(ctx);
	SSL_CTX_free(ctx);
	if (!c->tls || !SSL_set_fd(c->tls, c->fd))
		fatal("no TLS session");
	SSL_set_app_data(c->tls, (void *)(uintptr_t)how);
	while ((ret = SSL_connect(c->tls)) != 1)
		if (wait_as(c, ret))
			return -EPROTO;
	return 0;
}

void tls_upgrade(struct conn *c, const struct tls_client *how)
{
	expect_rep(option(c, OPT_STARTTLS, NULL, 0), REP_ACK);
	/* Whatever was agreed on is no more. */
	c->structured = c->extended = c->has_status = false;
	if (tls_start(c, how))
		fatal("the TLS handshake failed: %s",
		      ERR_reason_error_string(ERR_peek_error()));
}

bool tls_said_bye(const struct conn *c)
{
	return SSL_get_shutdown(c->tls) & SSL_RECEIVED_SHUTDOWN;
}

/* Bytes, 0 at the end, or -1 with errno. */
static ssize_t result(struct conn *c, int ret)
{
	if (ret > 0)
		return ret;
	switch (SSL_get_error(c->tls, ret)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		errno = EAGAIN;
		return -1;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	default:
		errno = ECONNRESET;
		return -1;
	}
}

ssize_t tls_conn_send(struct conn *c, const void *buf, size_t len)
{
	ERR_clear_error();
	return result(c, SSL_write(c->tls, buf, len > MIB ? MIB : len));
}

ssize_t tls_conn_recv(struct conn *c, void *buf, size_t len)
{
	ERR_clear_error();
	return result(c, SSL_read(c->tls, buf, len > MIB ? MIB : len));
}

void tls_conn_free(struct conn *c)
{
	SSL_free(c->tls);
}
