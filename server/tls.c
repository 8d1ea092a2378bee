/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tls.c - one client's TLS session, between plain memory and a descriptor.
 *
 * OpenSSL reads and writes through a BIO of ours:
 *
 *	descriptor --recv--> OpenSSL's buffer, many records at once --> iovecs
 *	iovecs --gathered--> 16 KiB records --> scratch, up to eight --send-->
 *
 * so that a batch of requests comes with one recv() and a batch of replies
 * leaves with one send(), as without TLS.  What the descriptor does not take is
 * kept by the session, and nothing more is encrypted until it has gone.
 *
 * OpenSSL's queue of errors, which is the thread's, is left empty by whoever
 * fills it.
 */
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "server/identity.h"
#include "server/tls.h"

#define RECORD_MAX	SSL3_RT_MAX_PLAIN_LENGTH
#define BATCH_RECORDS	8		/* encrypted before they are sent */
#define READS_PER_CALL	16		/* then the others' turn comes */
/* Their ciphertext, and what the protocol itself may have to say between. */
#define CIPHER_MAX	((BATCH_RECORDS + 1) * \
			 (RECORD_MAX + SSL3_RT_MAX_ENCRYPTED_OVERHEAD + \
			  SSL3_RT_HEADER_LENGTH))
/* What may wait for the descriptor: a batch, or a handshake. */
#define UNSENT_MAX	(CIPHER_MAX + (256 << 10))

struct tls_scratch {
	size_t	len;			/* of cipher */
	char	plain[RECORD_MAX];
	char	cipher[CIPHER_MAX];
};

struct tls_session {
	SSL			*ssl;
	const struct tls_io	*io;
	void			*io_arg;
	struct tls_scratch	*scratch;
	bool			batching;	/* output goes to the scratch */
	bool			hold;		/* see tls_hold() */
	bool			drained;	/* descriptor has no more */
	unsigned int		nr_reads;	/* of it, by this call */
	bool			has_input;
	bool			ended;		/* no more input, because of */
	int			end;		/* 0: the client's end; -errno */
	int			io_error;	/* descriptor's, or 1: end */
	bool			said_bye;
	const char		*reason;	/* see tls_reason() */
	/* Unsent: [out_off, out_len). */
	char			*out;
	size_t			out_off, out_len, out_size;
};

/* ---- unsent bytes ---- */

size_t tls_unsent(const struct tls_session *session)
{
	return session->out_len - session->out_off;
}

static void out_drop(struct tls_session *s)
{
	free(s->out);
	s->out = NULL;
	s->out_off = s->out_len = s->out_size = 0;
}

static int out_append(struct tls_session *s, const void *buf, size_t len)
{
	size_t size = s->out_size;
	char *grown;

	if (s->out_len + len > UNSENT_MAX)
		return -ENOBUFS;
	if (!s->out || s->out_len + len > size) {
		size = MAX(s->out_len + len, 2 * size);
		grown = realloc(s->out, size);
		if (!grown)
			return -ENOMEM;
		s->out = grown;
		s->out_size = size;
	}
	memcpy(s->out + s->out_len, buf, len);
	s->out_len += len;
	return 0;
}

/* Send what waits: 0, -EAGAIN, or what is wrong. */
static int out_flush(struct tls_session *s)
{
	while (s->out_off < s->out_len) {
		ssize_t n = s->io->send(s->io_arg, s->out + s->out_off,
					s->out_len - s->out_off);

		if (n < 0)
			return n;
		s->out_off += n;
	}
	if (s->out)
		out_drop(s);
	return 0;
}

/* Send the scratch, and keep what is not taken. */
static int scratch_flush(struct tls_session *s)
{
	struct tls_scratch *scratch = s->scratch;
	size_t done = 0;
	ssize_t n = 0;

	while (done < scratch->len) {
		n = s->io->send(s->io_arg, scratch->cipher + done,
				scratch->len - done);
		if (n < 0)
			break;
		done += n;
	}
	if (n == -EAGAIN)
		n = out_append(s, scratch->cipher + done, scratch->len - done);
	scratch->len = 0;
	return n < 0 ? n : 0;
}

/* ---- the BIO ---- */

static int bio_write(BIO *bio, const char *buf, size_t len, size_t *donep)
{
	struct tls_session *s = BIO_get_data(bio);
	struct tls_scratch *scratch = s->scratch;

	BIO_clear_retry_flags(bio);
	if (!s->batching) {
		if (out_append(s, buf, len))
			return 0;
	} else {
		if (scratch->len + len > CIPHER_MAX)
			return 0;
		memcpy(scratch->cipher + scratch->len, buf, len);
		scratch->len += len;
	}
	*donep = len;
	return 1;
}

static int bio_read(BIO *bio, char *buf, size_t len, size_t *donep)
{
	struct tls_session *s = BIO_get_data(bio);
	ssize_t n = -EAGAIN;

	BIO_clear_retry_flags(bio);
	if (!s->hold && !s->drained)
		n = s->io->recv(s->io_arg, buf, len);
	/* A stream gives less than asked for only when it has no more.  Of what
	 * has no content, OpenSSL would read on for ever. */
	if (n < (ssize_t)len || ++s->nr_reads == READS_PER_CALL)
		s->drained = true;
	if (n == -EAGAIN)
		BIO_set_retry_read(bio);
	else if (n <= 0)
		s->io_error = n ? n : 1;
	if (n <= 0)
		return 0;
	*donep = n;
	return 1;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	(void)bio;
	(void)num;
	(void)ptr;
	return cmd == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

static BIO_METHOD *bio_method;
static pthread_once_t bio_once = PTHREAD_ONCE_INIT;

static void bio_method_init(void)
{
	BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() |
					  BIO_TYPE_SOURCE_SINK, "foliod");

	if (!method)
		return;
	BIO_meth_set_create(method, bio_create);
	BIO_meth_set_read_ex(method, bio_read);
	BIO_meth_set_write_ex(method, bio_write);
	BIO_meth_set_ctrl(method, bio_ctrl);
	bio_method = method;
}

/* ---- life ---- */

struct tls_scratch *tls_scratch_new(void)
{
	struct tls_scratch *scratch = malloc(sizeof(*scratch));

	if (scratch)
		scratch->len = 0;
	return scratch;
}

void tls_scratch_free(struct tls_scratch *scratch)
{
	free(scratch);
}

int tls_session_new(struct tls *tls, struct tls_scratch *scratch,
		    const struct tls_io *io, void *arg,
		    struct tls_session **sessionp)
{
	struct tls_session *s = calloc(1, sizeof(*s));
	SSL_CTX *ctx = tls_context_get(tls);
	BIO *bio = NULL;

	pthread_once(&bio_once, bio_method_init);
	if (s)
		s->ssl = SSL_new(ctx);
	if (s && s->ssl && bio_method)
		bio = BIO_new(bio_method);
	SSL_CTX_free(ctx);
	if (!bio) {
		ERR_clear_error();
		if (s)
			SSL_free(s->ssl);
		free(s);
		return -ENOMEM;
	}
	s->scratch = scratch;
	s->io = io;
	s->io_arg = arg;
	BIO_set_data(bio, s);
	SSL_set_bio(s->ssl, bio, bio);
	SSL_set_accept_state(s->ssl);
	*sessionp = s;
	return 0;
}

void tls_session_free(struct tls_session *s)
{
	if (!s)
		return;
	SSL_free(s->ssl);
	out_drop(s);
	free(s);
}

/* ---- what went wrong ---- */

/* A call returned @ret, which is no success: -EAGAIN if it wants input, 0 if
 * the client has ended, else -errno. */
static int why(struct tls_session *s, int ret)
{
	int error = SSL_get_error(s->ssl, ret), status = -EPROTO;

	if (likely(error == SSL_ERROR_WANT_READ))
		return -EAGAIN;
	if (error == SSL_ERROR_ZERO_RETURN || s->io_error > 0)
		status = 0;
	else if (s->io_error < 0)
		status = s->io_error;
	else
		s->reason = ERR_reason_error_string(ERR_peek_error());
	ERR_clear_error();
	return status;
}

const char *tls_reason(const struct tls_session *session)
{
	return session->reason;
}

int tls_handshake(struct tls_session *s)
{
	int ret, status;

	s->drained = false;
	s->nr_reads = 0;
	ret = SSL_accept(s->ssl);
	status = ret == 1 ? 0 : why(s, ret);
	if (ret == 1)
		s->has_input = true;
	else if (status == 0)
		status = -ECONNRESET;
	/* Also what is said to a client that fails. */
	ret = out_flush(s);
	if (ret && ret != -EAGAIN && (!status || status == -EAGAIN))
		status = ret;
	return status;
}

int tls_identity(struct tls_session *s, struct identity **identityp)
{
	return identity_get(s->ssl, identityp, &s->reason);
}

/* ---- input ---- */

/* Some bytes, 0, or -errno. */
static ssize_t read_some(struct tls_session *s, void *buf, size_t len)
{
	size_t n;
	int ret;

	if (unlikely(s->ended))
		return s->end;
	ret = SSL_read_ex(s->ssl, buf, len, &n);
	if (likely(ret == 1))
		return n;
	ret = why(s, ret);
	if (ret != -EAGAIN) {
		s->ended = true;
		s->end = ret;
	}
	return ret;
}

ssize_t tls_recv(struct tls_session *s, const struct iovec *iov,
		 unsigned int nr)
{
	size_t total = 0;

	s->drained = false;
	s->nr_reads = 0;
	for (unsigned int i = 0; i < nr; i++) {
		size_t done = 0;

		while (done < iov[i].iov_len) {
			ssize_t n = read_some(s, (char *)iov[i].iov_base + done,
					      iov[i].iov_len - done);

			if (n <= 0) {
				/* That it has ended is told next time. */
				s->has_input = s->ended && total;
				return total ? (ssize_t)total : n;
			}
			done += n;
			total += n;
		}
	}
	s->has_input = true;
	return total;
}

bool tls_has_input(const struct tls_session *session)
{
	return session->has_input;
}

void tls_hold(struct tls_session *session, bool hold)
{
	session->hold = hold;
}

/* ---- output ---- */

/* What is left of an array of iovecs. */
struct cursor {
	const struct iovec	*iov;
	unsigned int		nr;
	size_t			off;	/* in the first */
};

static void advance(struct cursor *c, size_t n)
{
	c->off += n;
	if (c->off == c->iov->iov_len) {
		c->iov++;
		c->nr--;
		c->off = 0;
	}
}

/* Copy what makes up a record. */
static size_t gather(struct cursor *c, char *to)
{
	size_t len = 0;

	while (c->nr && len < RECORD_MAX) {
		size_t n = MIN(c->iov->iov_len - c->off, RECORD_MAX - len);

		memcpy(to + len, (char *)c->iov->iov_base + c->off, n);
		len += n;
		advance(c, n);
	}
	return len;
}

/* One record: the bytes in it, or -EPROTO. */
static ssize_t encrypt_record(struct tls_session *s, struct cursor *c)
{
	size_t len = c->iov->iov_len - c->off, done;
	const char *p = (char *)c->iov->iov_base + c->off;

	if (len >= RECORD_MAX || c->nr == 1) {
		len = MIN(len, (size_t)RECORD_MAX);
		advance(c, len);
	} else {
		p = s->scratch->plain;
		len = gather(c, s->scratch->plain);
	}
	if (unlikely(!len))
		return 0;
	if (likely(SSL_write_ex(s->ssl, p, len, &done) == 1 && done == len))
		return len;
	ERR_clear_error();
	return -EPROTO;
}

/* Up to a batch of records into the scratch. */
static ssize_t encrypt_batch(struct tls_session *s, struct cursor *c)
{
	ssize_t n = 0, total = 0;

	s->batching = true;
	for (unsigned int i = 0; i < BATCH_RECORDS && c->nr; i++) {
		n = encrypt_record(s, c);
		if (n < 0)
			break;
		total += n;
	}
	s->batching = false;
	if (n < 0)
		s->scratch->len = 0;
	return n < 0 ? n : total;
}

ssize_t tls_send(struct tls_session *s, const struct iovec *iov,
		 unsigned int nr)
{
	struct cursor c = { iov, nr, 0 };
	ssize_t total = 0;
	int ret = out_flush(s);

	while (!ret && c.nr && !s->out) {
		ssize_t n = encrypt_batch(s, &c);

		if (n < 0)
			return n;
		total += n;
		ret = scratch_flush(s);
	}
	return ret ? ret : total;
}

void tls_bye(struct tls_session *s)
{
	if (s->said_bye || (s->ended && s->end))
		return;
	s->said_bye = true;
	SSL_shutdown(s->ssl);
	ERR_clear_error();
	out_flush(s);
}
