/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tls.h - TLS: the server's credentials, and one client's session.
 *
 * Credentials are read at start and again when asked to; a session keeps those
 * that it began with.  A session belongs to one loop: all calls come from that
 * loop's thread, and none waits.  It moves bytes between plain memory and a
 * descriptor that it reaches through struct tls_io; what the bytes mean, and
 * when a session begins, is others' affair.
 *
 * TLS 1.2 and up, with AEAD ciphers only; no renegotiation, no compression, no
 * resumption.
 */
#ifndef FOLIOD_SERVER_TLS_H
#define FOLIOD_SERVER_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Of an export: for plain clients only, for all, for those with TLS only. */
enum tls_mode {
	TLS_OFF,
	TLS_ON,
	TLS_REQUIRE,
};

/* ---- credentials (tls_context.c) ---- */

struct tls_params {
	const char	*certificates;	/* directory, see foliod(1); or NULL */
	const char	*psk_file;	/* or NULL */
	bool		verify_peer;	/* clients need a certificate */
};

struct identity;
struct tls;

/* Read the credentials.  0, or -errno with *@errorp a line that says what is
 * wrong, to be freed. */
int tls_new(const struct tls_params *params, struct tls **tlsp, char **errorp);
/* Read them again, for the sessions that begin from now on.  On failure, as
 * above, the old ones stay.  Any thread, one at a time. */
int tls_reload(struct tls *tls, char **errorp);
void tls_free(struct tls **tlsp);

/* What a session begins with, referenced; for tls.c. */
struct ssl_ctx_st *tls_context_get(struct tls *tls);

/* ---- sessions (tls.c) ---- */

/* How a session reaches its descriptor: bytes, 0 for the end, or -errno, of
 * which -EAGAIN means later. */
struct tls_io {
	ssize_t	(*recv)(void *arg, void *buf, size_t len);
	ssize_t	(*send)(void *arg, const void *buf, size_t len);
};

/* Memory that the sessions of a loop use one after the other. */
struct tls_scratch;

struct tls_scratch *tls_scratch_new(void);
void tls_scratch_free(struct tls_scratch *scratch);

struct tls_session;

/* 0 or -ENOMEM; the descriptor is not touched. */
int tls_session_new(struct tls *tls, struct tls_scratch *scratch,
		    const struct tls_io *io, void *arg,
		    struct tls_session **sessionp);
void tls_session_free(struct tls_session *session);

/* Take the handshake as far as it goes.  0 when it is done, -EAGAIN when the
 * client has to send or, with tls_unsent(), to take more; else it failed. */
int tls_handshake(struct tls_session *session);

/* What the client has proved of itself by it; see identity_get().  0, -ENOMEM,
 * or -EPROTO if that makes no sense. */
int tls_identity(struct tls_session *session, struct identity **identityp);

/* What OpenSSL calls that failure; NULL if it was none of TLS.  Constant. */
const char *tls_reason(const struct tls_session *session);

/*
 * Receive into @iov: bytes, 0 at the end, or -errno.  Less than @iov takes
 * means that no more has come.  Where it was filled, the session may have
 * more, which no event of the descriptor tells: tls_has_input().
 */
ssize_t tls_recv(struct tls_session *session, const struct iovec *iov,
		 unsigned int nr);
bool tls_has_input(const struct tls_session *session);
/* From now on serve tls_recv() from what has been received already, or from the
 * descriptor again. */
void tls_hold(struct tls_session *session, bool hold);

/*
 * Send @iov, in records as large as can be: the bytes that were taken, or
 * -errno.  What was taken but not sent is tls_unsent(), and must go before
 * more is taken: -EAGAIN until then.  With @nr 0, send only that, for 0.
 */
ssize_t tls_send(struct tls_session *session, const struct iovec *iov,
		 unsigned int nr);
/* Bytes of memory that wait for the descriptor. */
size_t tls_unsent(const struct tls_session *session);

/* Say that nothing follows.  The first time only; tls_unsent() as above. */
void tls_bye(struct tls_session *session);

#endif
