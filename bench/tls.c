/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tls.c - TLS for the connections of nbd-load.
 *
 * It costs the client what it must: requests that leave together make up one
 * record, and OpenSSL reads ahead, so that a batch of replies comes with few
 * system calls.
 */
#include <err.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "bench/client.h"
#include "bench/tls.h"

#define CIPHER		"TLS_AES_128_GCM_SHA256"
#define READ_AHEAD	(64 << 10)

struct client_tls {
	SSL_CTX		*ctx;
	char		*user;		/* of the shared key; or NULL */
	unsigned char	*key;
	long		key_len;
};

static _Noreturn void tls_fail(const char *what)
{
	const char *why = ERR_reason_error_string(ERR_peek_last_error());

	errx(1, "TLS: %s: %s", what, why ? why : errno ? strerror(errno) :
						       "it failed");
}

/* ---- credentials ---- */

static void use_certificates(SSL_CTX *ctx, const char *dir)
{
	char ca[4096], cert[4096], key[4096];

	snprintf(ca, sizeof(ca), "%s/ca-cert.pem", dir);
	snprintf(cert, sizeof(cert), "%s/client-cert.pem", dir);
	snprintf(key, sizeof(key), "%s/client-key.pem", dir);
	if (SSL_CTX_load_verify_file(ctx, ca) != 1)
		tls_fail(ca);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	if (access(cert, F_OK))
		return;
	if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
		tls_fail(cert);
	if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
		tls_fail(key);
}

/* "USER:KEY": true if it is the one. */
static bool take_key(struct client_tls *tls, char *line, const char *user)
{
	char *colon = strrchr(line, ':');

	line[strcspn(line, "\r\n")] = '\0';
	if (!colon || colon == line)
		return false;
	*colon = '\0';
	if (user && strcmp(line, user) != 0)
		return false;
	tls->key = OPENSSL_hexstr2buf(colon + 1, &tls->key_len);
	tls->user = strdup(line);
	if (!tls->key || !tls->user)
		errx(1, "TLS: the key of %s is not hexadecimal", line);
	return true;
}

static unsigned int give_key(SSL *ssl, const char *hint, char *user,
			     unsigned int user_size, unsigned char *key,
			     unsigned int key_size)
{
	struct client_tls *tls = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	(void)hint;
	if (strlen(tls->user) >= user_size || tls->key_len > (long)key_size)
		return 0;
	strcpy(user, tls->user);
	memcpy(key, tls->key, tls->key_len);
	return tls->key_len;
}

static void use_psk(struct client_tls *tls, const char *path, const char *user)
{
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t size = 0;

	if (!file)
		err(1, "%s", path);
	while (!tls->user && getline(&line, &size, file) >= 0)
		take_key(tls, line, user);
	free(line);
	fclose(file);
	if (!tls->user)
		errx(1, "%s: no key of %s", path, user ? user : "anybody");
	SSL_CTX_set_psk_client_callback(tls->ctx, give_key);
}

struct client_tls *client_tls_new(const char *certificates, const char *psk,
				  const char *user)
{
	struct client_tls *tls = calloc(1, sizeof(*tls));

	if (!tls)
		err(1, "calloc");
	tls->ctx = SSL_CTX_new(TLS_client_method());
	if (!tls->ctx ||
	    SSL_CTX_set_min_proto_version(tls->ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_ciphersuites(tls->ctx, CIPHER) != 1)
		tls_fail("OpenSSL");
	/* It writes without MSG_NOSIGNAL. */
	signal(SIGPIPE, SIG_IGN);
	SSL_CTX_set_app_data(tls->ctx, tls);
	SSL_CTX_set_mode(tls->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
			 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(tls->ctx, 1);
	SSL_CTX_set_default_read_buffer_len(tls->ctx, READ_AHEAD);
	if (certificates)
		use_certificates(tls->ctx, certificates);
	if (psk)
		use_psk(tls, psk, user);
	return tls;
}

void client_tls_free(struct client_tls *tls)
{
	if (!tls)
		return;
	SSL_CTX_free(tls->ctx);
	OPENSSL_clear_free(tls->key, tls->key_len);
	free(tls->user);
	free(tls);
}

/* ---- sessions ---- */

SSL *client_tls_start(struct client_tls *tls, int fd)
{
	SSL *ssl = SSL_new(tls->ctx);

	errno = 0;
	if (!ssl || SSL_set_fd(ssl, fd) != 1 || SSL_connect(ssl) != 1)
		tls_fail("handshake");
	return ssl;
}

void client_tls_end(SSL *ssl)
{
	SSL_shutdown(ssl);
	ERR_clear_error();
	SSL_free(ssl);
}

/* A call returned @ret, which is no success: what recv() or send() would. */
static ssize_t failed(SSL *ssl, int ret)
{
	int error = SSL_get_error(ssl, ret), saved = errno;

	ERR_clear_error();
	errno = saved;
	switch (error) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		errno = EAGAIN;
		return -1;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_SYSCALL:
		if (errno)
			return -1;
		return 0;
	default:
		errno = EPROTO;
		return -1;
	}
}

ssize_t client_tls_send(SSL *ssl, const struct iovec *iov, unsigned int nr)
{
	static _Thread_local char record[SSL3_RT_MAX_PLAIN_LENGTH];
	size_t len = 0, done;
	int ret;

	for (unsigned int i = 0; i < nr && len < sizeof(record); i++) {
		size_t n = MIN(iov[i].iov_len, sizeof(record) - len);

		memcpy(record + len, iov[i].iov_base, n);
		len += n;
	}
	ret = SSL_write_ex(ssl, record, len, &done);
	return ret == 1 ? (ssize_t)done : failed(ssl, ret);
}

ssize_t client_tls_recv(SSL *ssl, void *buf, size_t len, bool wait)
{
	struct pollfd pfd = { SSL_get_fd(ssl), POLLIN, 0 };
	size_t total = 0, n;
	ssize_t ret;

	for (;;) {
		int ok = SSL_read_ex(ssl, (char *)buf + total, len - total, &n);

		if (ok == 1) {
			total += n;
			/* A descriptor that blocks would, for more. */
			if (total == len || !SSL_has_pending(ssl))
				return total;
			continue;
		}
		ret = failed(ssl, ok);
		if (total)
			return total;
		if (ret >= 0 || errno != EAGAIN || !wait)
			return ret;
		if (poll(&pfd, 1, CLIENT_PATIENCE_SEC * 1000) <= 0) {
			errno = EAGAIN;
			return -1;
		}
	}
}
