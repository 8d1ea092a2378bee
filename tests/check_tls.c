/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_tls.c - server/tls.h on a descriptor of memory, and connections that
 * go on under TLS.
 */
#include <check.h>
#include <endian.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "server/access.h"
#include "server/identity.h"
#include "server/tls.h"
#include "tests/certs.h"
#include "tests/conntest.h"
#include "tests/psk.h"


static char dir[64];
static struct random rng;

/* ---- fixtures ---- */

static const char *path(const char *name)
{
	static char buf[4][160];
	static unsigned int i;
	char *p = buf[i++ % 4];

	snprintf(p, sizeof(buf[0]), "%s/%s", dir, name);
	return p;
}

static void write_file(const char *name, const char *text)
{
	FILE *f = fopen(path(name), "we");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	ck_assert_int_eq(fclose(f), 0);
}

static void setup(void)
{
	uint64_t seed = random_seed_from_env("FOLIOD_SEED");

	printf("FOLIOD_SEED=%llu\n", (unsigned long long)seed);
	random_init(&rng, seed);
	strcpy(dir, "/tmp/foliod-tls.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert(certs_make(dir, "check"));
	write_file("keys.psk", "bob:ffeeddccbbaa99887766554433221100\n"
		   PSK_USER ":" PSK_KEY "\n");
}

static void teardown(void)
{
	static const char *const names[] = {
		"ca-cert.pem", "ca-crl.pem", "server-cert.pem",
		"server-key.pem", "client-cert.pem", "client-key.pem",
		"keys.psk",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		unlink(path(names[i]));
	ck_assert_int_eq(rmdir(dir), 0);
}

static struct tls *open_tls(bool psk, bool verify_peer)
{
	const struct tls_params params = {
		.certificates = psk ? NULL : dir,
		.psk_file = psk ? path("keys.psk") : NULL,
		.verify_peer = verify_peer,
	};
	struct tls *tls = NULL;
	char *error = NULL;
	int ret = tls_new(&params, &tls, &error);

	ck_assert_msg(ret == 0, "%s", error);
	return tls;
}

/* ---- a client, and a descriptor of memory between ---- */

struct link {
	struct tls_scratch	*scratch;
	struct tls_session	*session;
	SSL			*client;
	BIO			*to_client, *to_server;
	size_t			room;		/* what the client still takes */
	bool			end;		/* it sends no more */
	unsigned int		nr_recv, nr_send;
};

static ssize_t link_recv(void *arg, void *buf, size_t len)
{
	struct link *link = arg;
	int n = BIO_read(link->to_server, buf, len);

	link->nr_recv++;
	return n > 0 ? n : link->end ? 0 : -EAGAIN;
}

static ssize_t link_send(void *arg, const void *buf, size_t len)
{
	struct link *link = arg;
	size_t n = MIN(len, link->room);

	link->nr_send++;
	if (!n)
		return -EAGAIN;
	ck_assert_int_eq(BIO_write(link->to_client, buf, n), n);
	link->room -= n;
	return n;
}

static const struct tls_io link_io = { link_recv, link_send };

static SSL *client_new(int version, bool psk, bool cert)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl;

	SSL_CTX_set_min_proto_version(ctx, version);
	SSL_CTX_set_max_proto_version(ctx, version);
	if (psk) {
		SSL_CTX_set_cipher_list(ctx, "PSK");
		SSL_CTX_set_psk_client_callback(ctx, psk_of_client);
	} else {
		ck_assert(SSL_CTX_load_verify_file(ctx, path("ca-cert.pem")));
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	}
	if (cert) {
		ck_assert(SSL_CTX_use_certificate_file(ctx,
			path("client-cert.pem"), SSL_FILETYPE_PEM));
		ck_assert(SSL_CTX_use_PrivateKey_file(ctx,
			path("client-key.pem"), SSL_FILETYPE_PEM));
	}
	ssl = SSL_new(ctx);
	SSL_CTX_free(ctx);
	SSL_set_connect_state(ssl);
	return ssl;
}

/* Both sides until they are done: what the server says in the end. */
static int shake_hands(struct link *link)
{
	int ret = -EAGAIN;

	for (int i = 0; i < 20; i++) {
		SSL_do_handshake(link->client);
		ERR_clear_error();
		ret = tls_handshake(link->session);
		if (ret != -EAGAIN)
			break;
	}
	return ret;
}

static void link_init(struct link *link, struct tls *tls, SSL *client)
{
	memset(link, 0, sizeof(*link));
	link->room = SIZE_MAX;
	link->scratch = tls_scratch_new();
	link->client = client;
	link->to_client = BIO_new(BIO_s_mem());
	link->to_server = BIO_new(BIO_s_mem());
	BIO_up_ref(link->to_client);
	BIO_up_ref(link->to_server);
	SSL_set_bio(client, link->to_client, link->to_server);
	ck_assert_int_eq(tls_session_new(tls, link->scratch, &link_io, link,
					 &link->session), 0);
}

static void link_fini(struct link *link)
{
	tls_session_free(link->session);
	tls_scratch_free(link->scratch);
	SSL_free(link->client);
	BIO_free(link->to_client);
	BIO_free(link->to_server);
}

/* In the state in which data flows. */
static struct tls *link_up(struct link *link, int version, bool psk)
{
	struct tls *tls = open_tls(psk, false);

	link_init(link, tls, client_new(version, psk, false));
	ck_assert_int_eq(shake_hands(link), 0);
	ck_assert_int_eq(SSL_do_handshake(link->client), 1);
	link->nr_recv = link->nr_send = 0;
	return tls;
}

static void client_sends(struct link *link, const void *buf, size_t len)
{
	ck_assert_int_eq(SSL_write(link->client, buf, len), len);
}

/* ---- sessions ---- */

static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

/* Cut [@buf, @buf + @len) in pieces of all sizes, some of them empty. */
static unsigned int cut(struct iovec *iov, unsigned int max, char *buf,
			size_t len)
{
	unsigned int nr = 0;

	while (len) {
		size_t n = random_below(&rng, 3) ? random_below(&rng, 5000) :
						   random_below(&rng, 70000);

		n = nr == max - 1 ? len : MIN(n, len);
		iov[nr++] = (struct iovec){ buf, n };
		buf += n;
		len -= n;
	}
	return nr;
}

/* Send all of @buf to a client that takes some now and then. */
static void send_by_pieces(struct link *link, char *buf, size_t len, char *got)
{
	size_t sent = 0, received = 0;
	struct iovec iov[64];
	int n;

	while (received < len) {
		unsigned int nr = cut(iov, 64, buf + sent,
				      MIN(len - sent, (size_t)400000));
		ssize_t ret = tls_send(link->session, iov, nr);

		if (ret == -EAGAIN)
			ck_assert_uint_gt(tls_unsent(link->session), 0);
		else
			ck_assert_int_ge(ret, 0);
		sent += ret > 0 ? ret : 0;
		ck_assert_uint_le(tls_unsent(link->session), 160 << 10);
		link->room += random_below(&rng, 100000);
		while ((n = SSL_read(link->client, got + received,
				     len - received)) > 0)
			received += n;
		ERR_clear_error();
	}
	ck_assert_uint_eq(sent, len);
}

START_TEST(what_is_sent_arrives)
{
	const size_t len = 3000000;
	char *buf = malloc(len), *got = malloc(len);
	struct tls *tls;
	struct link link;

	for (size_t i = 0; i < len; i++)
		buf[i] = random_u64(&rng);
	tls = link_up(&link, versions[_i / 2], _i % 2);
	link.room = 0;
	send_by_pieces(&link, buf, len, got);
	ck_assert_int_eq(memcmp(buf, got, len), 0);
	link_fini(&link);
	tls_free(&tls);
	free(buf);
	free(got);
}
END_TEST

START_TEST(what_is_received_is_what_was_sent)
{
	const size_t len = 2000000;
	char *buf = malloc(len), *got = calloc(1, len);
	size_t sent = 0, received = 0;
	struct iovec iov[16];
	struct tls *tls;
	struct link link;

	for (size_t i = 0; i < len; i++)
		buf[i] = random_u64(&rng);
	tls = link_up(&link, versions[_i / 2], _i % 2);
	while (received < len) {
		size_t n = MIN(1 + random_below(&rng, 50000), len - sent);
		unsigned int nr = cut(iov, 16, got + received,
				      MIN(1 + random_below(&rng, 80000),
					  len - received));
		ssize_t ret;

		if (n)
			client_sends(&link, buf + sent, n);
		sent += n;
		ret = tls_recv(link.session, iov, nr);
		ck_assert(ret > 0 || ret == -EAGAIN);
		/* Otherwise nobody would come back for it. */
		if (received + MAX(ret, 0) < sent)
			ck_assert(tls_has_input(link.session));
		received += MAX(ret, 0);
	}
	ck_assert_int_eq(memcmp(buf, got, len), 0);
	link_fini(&link);
	tls_free(&tls);
	free(buf);
	free(got);
}
END_TEST

/* Depth 30: one receive for the requests, one send for the replies. */
START_TEST(a_batch_takes_one_call_each_way)
{
	enum { NR = 30, REQUEST = 28, REPLY = 16, DATA = 4096 };
	static char data[DATA], heads[NR * REPLY], buf[NR * (REPLY + DATA)];
	struct iovec iov[2 * NR];
	struct link link;
	struct tls *tls = link_up(&link, TLS1_3_VERSION, false);

	for (int i = 0; i < NR; i++)
		client_sends(&link, buf, REQUEST);
	ck_assert_int_eq(tls_recv(link.session,
				  &(struct iovec){ buf, sizeof(buf) }, 1),
			 NR * REQUEST);
	ck_assert_uint_eq(link.nr_recv, 1);
	for (int i = 0; i < NR; i++) {
		iov[2 * i] = (struct iovec){ heads + i * REPLY, REPLY };
		iov[2 * i + 1] = (struct iovec){ data, DATA };
	}
	ck_assert_int_eq(tls_send(link.session, iov, 2 * NR), sizeof(buf));
	ck_assert_uint_eq(link.nr_send, 1);
	ck_assert_uint_eq(tls_unsent(link.session), 0);
	link_fini(&link);
	tls_free(&tls);
}
END_TEST

START_TEST(a_held_session_leaves_the_descriptor_alone)
{
	char buf[40000] = { 0 };
	struct iovec iov = { buf, 100 };
	struct link link;
	struct tls *tls = link_up(&link, TLS1_3_VERSION, false);

	client_sends(&link, buf, 200);
	ck_assert_int_eq(tls_recv(link.session, &iov, 1), 100);
	ck_assert(tls_has_input(link.session));
	client_sends(&link, buf, 50);
	tls_hold(link.session, true);
	iov.iov_len = sizeof(buf);
	ck_assert_int_eq(tls_recv(link.session, &iov, 1), 100);
	ck_assert_int_eq(tls_recv(link.session, &iov, 1), -EAGAIN);
	ck_assert(!tls_has_input(link.session));
	tls_hold(link.session, false);
	ck_assert_int_eq(tls_recv(link.session, &iov, 1), 50);
	link_fini(&link);
	tls_free(&tls);
}
END_TEST

START_TEST(the_end_comes_after_the_data)
{
	char buf[4096] = { 0 };
	struct iovec iov = { buf, sizeof(buf) };
	struct link link;
	struct tls *tls = link_up(&link, versions[_i % 2], false);

	client_sends(&link, buf, 10);
	if (_i / 2)
		SSL_shutdown(link.client);
	else
		link.end = true;
	ck_assert_int_eq(tls_recv(link.session, &iov, 1), 10);
	if (_i / 2)
		ck_assert(tls_has_input(link.session));
	ck_assert_int_eq(tls_recv(link.session, &iov, 1), 0);
	ck_assert_int_eq(tls_recv(link.session, &iov, 1), 0);
	/* It may still be answered. */
	ck_assert_int_eq(tls_send(link.session, &iov, 1), sizeof(buf));
	tls_bye(link.session);
	ck_assert_int_eq(SSL_read(link.client, buf, sizeof(buf)),
			 (int)sizeof(buf));
	ck_assert_int_eq(SSL_read(link.client, buf, 1), 0);
	ck_assert(SSL_get_shutdown(link.client) & SSL_RECEIVED_SHUTDOWN);
	link_fini(&link);
	tls_free(&tls);
}
END_TEST

START_TEST(a_flipped_bit_ends_the_session)
{
	char buf[4096] = { 0 }, record[8192];
	struct iovec iov = { buf, sizeof(buf) };
	struct link link;
	struct tls *tls = link_up(&link, versions[_i], false);
	int len;

	client_sends(&link, buf, 1000);
	len = BIO_read(link.to_server, record, sizeof(record));
	record[5 + random_below(&rng, len - 5)] ^= 1 << random_below(&rng, 8);
	BIO_write(link.to_server, record, len);
	ck_assert_int_eq(tls_recv(link.session, &iov, 1), -EPROTO);
	ck_assert_int_eq(tls_recv(link.session, &iov, 1), -EPROTO);
	ck_assert_uint_eq(ERR_peek_error(), 0);
	link_fini(&link);
	tls_free(&tls);
}
END_TEST

START_TEST(any_bytes_for_a_handshake_fail_or_wait)
{
	struct tls *tls = open_tls(false, false);

	for (int i = 0; i < 200; i++) {
		char bytes[300];
		struct link link;
		int ret;

		link_init(&link, tls, client_new(TLS1_3_VERSION, false, false));
		if (i % 2) {
			/* The right beginning, then anything. */
			SSL_do_handshake(link.client);
			BIO_read(link.to_server, bytes,
				 random_below(&rng, sizeof(bytes)));
			BIO_reset(link.to_server);
		}
		for (size_t j = i % 2 ? random_below(&rng, 200) : 0;
		     j < sizeof(bytes); j++)
			bytes[j] = random_u64(&rng);
		BIO_write(link.to_server, bytes, sizeof(bytes));
		link.end = true;
		/* It asks for more once before it sees the end. */
		ret = tls_handshake(link.session);
		if (ret == -EAGAIN)
			ret = tls_handshake(link.session);
		ck_assert(ret < 0 && ret != -EAGAIN);
		ck_assert_uint_eq(ERR_peek_error(), 0);
		link_fini(&link);
	}
	tls_free(&tls);
}
END_TEST

/* ---- credentials ---- */

/* What a client with these credentials comes to. */
static int try_client(struct tls *tls, int version, bool psk, bool cert)
{
	struct link link;
	int ret;

	link_init(&link, tls, client_new(version, psk, cert));
	ret = shake_hands(&link);
	link_fini(&link);
	return ret;
}

static void expect_error(const struct tls_params *params, const char *text)
{
	struct tls *tls = NULL;
	char *error = NULL;

	ck_assert_int_lt(tls_new(params, &tls, &error), 0);
	ck_assert_ptr_null(tls);
	ck_assert_ptr_nonnull(error);
	ck_assert_msg(strstr(error, text), "'%s' has no '%s'", error, text);
	ck_assert_uint_eq(ERR_peek_error(), 0);
	free(error);
}

START_TEST(a_certificate_is_asked_for_where_it_should_be)
{
	struct tls *tls = open_tls(false, true);

	struct link link;

	link_init(&link, tls, client_new(versions[_i], false, false));
	ck_assert_int_eq(shake_hands(&link), -EPROTO);
	ck_assert_str_eq(tls_reason(link.session),
			 "peer did not return a certificate");
	link_fini(&link);
	ck_assert_int_eq(try_client(tls, versions[_i], false, true), 0);
	tls_free(&tls);
	tls = open_tls(false, false);
	ck_assert_int_eq(try_client(tls, versions[_i], false, false), 0);
	tls_free(&tls);
	tls = open_tls(true, false);
	ck_assert_int_ne(try_client(tls, versions[_i], false, true), 0);
	tls_free(&tls);
}
END_TEST

/* What a client that gets in has proved; to be freed. */
static struct identity *prove(struct tls *tls, SSL *client)
{
	struct identity *identity = NULL;
	struct link link;

	link_init(&link, tls, client);
	ck_assert_int_eq(shake_hands(&link), 0);
	ck_assert_int_eq(tls_identity(link.session, &identity), 0);
	link_fini(&link);
	ck_assert_uint_eq(ERR_peek_error(), 0);
	return identity;
}

START_TEST(a_client_is_who_it_proves_to_be)
{
	struct tls *tls = open_tls(true, false);
	struct identity *identity;

	identity = prove(tls, client_new(versions[_i], true, false));
	ck_assert_ptr_nonnull(identity);
	ck_assert_str_eq(identity->user, PSK_USER);
	ck_assert_ptr_null(identity->subject);
	ck_assert_uint_eq(identity->nr_names, 0);
	identity_free(identity);
	tls_free(&tls);
	tls = open_tls(false, true);
	identity = prove(tls, client_new(versions[_i], false, true));
	ck_assert_ptr_nonnull(identity);
	ck_assert_ptr_null(identity->user);
	ck_assert_str_eq(identity->subject, "2.5.4.3=6:client,");
	ck_assert(identity_has_name(identity, "DNS:localhost"));
	identity_free(identity);
	tls_free(&tls);
}
END_TEST

START_TEST(what_was_not_verified_is_not_believed)
{
	const struct tls_params both = { dir, path("keys.psk"), false };
	struct tls *tls = open_tls(false, false);
	struct identity *identity;
	char *error = NULL;
	SSL *client;

	/* It has a certificate, which nobody verifies. */
	ck_assert_ptr_null(prove(tls, client_new(versions[_i], false, true)));
	tls_free(&tls);
	ck_assert_int_eq(tls_new(&both, &tls, &error), 0);
	ck_assert_ptr_null(prove(tls, client_new(versions[_i], false, false)));
	identity = prove(tls, client_new(versions[_i], true, false));
	ck_assert_str_eq(identity->user, PSK_USER);
	identity_free(identity);
	/* It names a user, and then nobody's key is used: that goes with
	 * another hash. */
	client = client_new(versions[_i], false, false);
	SSL_set_psk_client_callback(client, psk_of_client);
	SSL_set_ciphersuites(client, "TLS_AES_256_GCM_SHA384");
	SSL_set_cipher_list(client, "ECDHE");
	ck_assert_ptr_null(prove(tls, client));
	tls_free(&tls);
}
END_TEST

START_TEST(a_revoked_certificate_is_refused)
{
	struct tls *tls = open_tls(false, true);
	char *error = NULL;

	ck_assert_int_eq(try_client(tls, versions[_i], false, true), 0);
	ck_assert(certs_revoke_client(dir));
	ck_assert_int_eq(try_client(tls, versions[_i], false, true), 0);
	ck_assert_int_eq(tls_reload(tls, &error), 0);
	ck_assert_int_ne(try_client(tls, versions[_i], false, true), 0);
	tls_free(&tls);
}
END_TEST

START_TEST(a_failed_reload_changes_nothing)
{
	struct tls *tls = open_tls(false, false);
	char *error = NULL;
	struct link link;

	write_file("server-key.pem", "no key\n");
	ck_assert_int_lt(tls_reload(tls, &error), 0);
	ck_assert(strstr(error, "server-key.pem"));
	free(error);
	error = NULL;
	ck_assert_int_eq(try_client(tls, TLS1_3_VERSION, false, false), 0);
	/* A session goes on with what it began with. */
	link_init(&link, tls, client_new(TLS1_3_VERSION, false, false));
	ck_assert(certs_make(dir, "another"));
	ck_assert_int_eq(tls_reload(tls, &error), 0);
	ck_assert_int_eq(shake_hands(&link), 0);
	link_fini(&link);
	ck_assert_int_eq(try_client(tls, TLS1_3_VERSION, false, false), 0);
	tls_free(&tls);
}
END_TEST

START_TEST(keys_are_reread_too)
{
	struct tls *tls = open_tls(true, false);
	char *error = NULL;

	ck_assert_int_eq(try_client(tls, versions[_i], true, false), 0);
	write_file("keys.psk", PSK_USER ":ffffffffffffffffffffffffffffffff\n");
	ck_assert_int_eq(tls_reload(tls, &error), 0);
	ck_assert_int_ne(try_client(tls, versions[_i], true, false), 0);
	write_file("keys.psk", "\n\nzoe:ffffffffffffffffffffffffffffffff\r\n"
		   PSK_USER ":" PSK_KEY);
	ck_assert_int_eq(tls_reload(tls, &error), 0);
	ck_assert_int_eq(try_client(tls, versions[_i], true, false), 0);
	tls_free(&tls);
}
END_TEST

START_TEST(relative_paths_stay_what_they_were)
{
	struct tls_params params = { "pki/..", "pki/../keys.psk", false };
	struct tls *tls = NULL;
	char *error = NULL;

	ck_assert_int_eq(chdir(dir), 0);
	ck_assert_int_eq(mkdir("pki", 0700), 0);
	ck_assert_int_eq(tls_new(&params, &tls, &error), 0);
	ck_assert_int_eq(chdir("/"), 0);
	ck_assert_int_eq(tls_reload(tls, &error), 0);
	ck_assert_int_eq(try_client(tls, TLS1_3_VERSION, true, false), 0);
	ck_assert_int_eq(try_client(tls, TLS1_2_VERSION, false, false), 0);
	tls_free(&tls);
	ck_assert_int_eq(rmdir(path("pki")), 0);
}
END_TEST

START_TEST(errors_name_the_file_and_the_line)
{
	static const char *const bad[] = {
		"alice:" PSK_KEY "\nbob\n", "\nalice:xyz\n", "\n:" PSK_KEY "\n",
		"\nalice:00\n", "\nalice:" PSK_KEY "0\n", "\nalice:\n",
	};
	struct tls_params params = { .psk_file = path("keys.psk") };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		write_file("keys.psk", bad[i]);
		expect_error(&params, "keys.psk: line 2");
	}
	write_file("keys.psk", "\n");
	expect_error(&params, "keys.psk");
	write_file("keys.psk", "alice:" PSK_KEY "\nalice:" PSK_KEY "\n");
	expect_error(&params, "'alice' is given twice");
	unlink(path("keys.psk"));
	expect_error(&params, "No such file");
	params = (struct tls_params){ .certificates = dir };
	rename(path("client-key.pem"), path("server-key.pem"));
	expect_error(&params, "server-key.pem");
	params.verify_peer = true;
	ck_assert(certs_make(dir, "check"));
	write_file("ca-crl.pem", "none\n");
	expect_error(&params, "ca-crl.pem");
	unlink(path("ca-cert.pem"));
	expect_error(&params, "ca-cert.pem: No such file");
	unlink(path("server-cert.pem"));
	expect_error(&params, "server-cert.pem: No such file");
}
END_TEST

/* ---- connections ---- */

static struct conntest ct;
static struct tls *ct_tls;

static void start_with(struct tls *tls, uint64_t handshake_timeout_ns)
{
	ct_tls = tls;
	conntest_start(&ct, &(struct conn_shared){
				.tls = ct_tls,
				.handshake_timeout_ns = handshake_timeout_ns,
			});
	for (unsigned int i = 0; i < ct.table.nr; i++)
		ct.exports[i].tls = TLS_ON;
	fakevolume_fill(ct.rw, 0, 32 << 20);
}

static void start(uint64_t handshake_timeout_ns)
{
	start_with(open_tls(false, false), handshake_timeout_ns);
}

static void stop(void)
{
	conntest_stop(&ct);
	for (unsigned int i = 0; i < CT_EXPORTS; i++)
		access_fini(&ct.exports[i].access);
	tls_free(&ct_tls);
}

static void start_tls(int fd)
{
	greet(fd);
	put_option(fd, NBD_OPT_STARTTLS, NULL, 0);
	ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_STARTTLS), NBD_REP_ACK);
}

static void ssl_recv(SSL *ssl, void *buf, size_t len)
{
	size_t done = 0, n;

	while (done < len) {
		ck_assert_int_eq(SSL_read_ex(ssl, (char *)buf + done,
					     len - done, &n), 1);
		done += n;
	}
}

/* GO to the default export: no name, no information wanted. */
static size_t put_go(char *buf)
{
	struct nbd_option_head head = {
		htobe64(NBD_OPTION_MAGIC), htobe32(NBD_OPT_GO), htobe32(6),
	};

	memcpy(buf, &head, sizeof(head));
	memset(buf + sizeof(head), 0, 6);
	return sizeof(head) + 6;
}

static void get_go_reply(SSL *ssl)
{
	struct nbd_option_reply reply;
	char data[64];

	do {
		ssl_recv(ssl, &reply, sizeof(reply));
		ck_assert_uint_le(be32toh(reply.len), sizeof(data));
		ssl_recv(ssl, data, be32toh(reply.len));
		ck_assert(!(be32toh(reply.type) & NBD_REP_ERROR));
	} while (be32toh(reply.type) != NBD_REP_ACK);
}

/* Connect, and have @ssl agree with the server. */
static SSL *shake(int *fdp, SSL *ssl)
{
	*fdp = conntest_connect(&ct);
	start_tls(*fdp);
	SSL_set_fd(ssl, *fdp);
	ck_assert_int_eq(SSL_connect(ssl), 1);
	return ssl;
}

static SSL *connect_tls(int *fdp, int version)
{
	SSL *ssl = shake(fdp, client_new(version, false, false));
	char buf[64];

	client_sends(&(struct link){ .client = ssl }, buf, put_go(buf));
	get_go_reply(ssl);
	return ssl;
}

static void get_read_reply(SSL *ssl, uint64_t cookie, uint64_t pos,
			   uint32_t len)
{
	struct nbd_wire_simple_reply reply;
	static char data[64 << 10];

	ssl_recv(ssl, &reply, sizeof(reply));
	ck_assert(reply.magic == htobe32(NBD_SIMPLE_REPLY_MAGIC));
	ck_assert(reply.cookie == cookie);
	ck_assert_uint_eq(reply.error, 0);
	ssl_recv(ssl, data, len);
	for (uint32_t i = 0; i < len; i++)
		if (data[i] != fake_byte(pos + i))
			ck_abort_msg("byte %u of reply %llu is wrong", i,
				     (unsigned long long)cookie);
}

START_TEST(who_reads_late_gets_everything)
{
	enum { NR = 300, LEN = 64 << 10 };
	char buf[64];
	int fd;
	SSL *ssl;

	start(0);
	ssl = connect_tls(&fd, versions[_i]);
	for (int i = 0; i < NR; i++)
		client_sends(&(struct link){ .client = ssl }, buf,
			     put_request(buf, NBD_CMD_READ, 0, i,
					 (uint64_t)i * LEN, LEN));
	/* More is answered than a socket holds. */
	usleep(50000);
	for (int i = 0; i < NR; i++)
		get_read_reply(ssl, i, (uint64_t)i * LEN, LEN);
	client_sends(&(struct link){ .client = ssl }, buf,
		     put_request(buf, NBD_CMD_DISC, 0, 0, 0, 0));
	ck_assert_int_eq(SSL_read(ssl, buf, 1), 0);
	ck_assert(SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN);
	conntest_wait_conns(&ct, 0);
	SSL_free(ssl);
	close(fd);
	stop();
}
END_TEST

START_TEST(who_leaves_in_the_middle_leaves_nothing)
{
	enum { NR = 100, LEN = 64 << 10 };
	char buf[64];
	int fd;
	SSL *ssl;

	start(0);
	for (int after = 0; after < 8; after++) {
		ssl = connect_tls(&fd, versions[_i]);
		for (int i = 0; i < NR; i++)
			client_sends(&(struct link){ .client = ssl }, buf,
				     put_request(buf, NBD_CMD_READ, 0, i, 0,
						 LEN));
		for (int i = 0; i < after; i++)
			get_read_reply(ssl, i, 0, LEN);
		SSL_free(ssl);
		close(fd);
	}
	conntest_wait_conns(&ct, 0);
	stop();
}
END_TEST

/* An option about @name, if there is one, and its last answer; *@nrp counts
 * those before. */
static uint32_t ask(SSL *ssl, uint32_t option, const char *name,
		    unsigned int *nrp)
{
	struct nbd_option_head head = {
		htobe64(NBD_OPTION_MAGIC), htobe32(option),
		htobe32(name ? strlen(name) + 6 : 0),
	};
	struct link link = { .client = ssl };
	struct nbd_option_reply reply;
	char data[256] = { 0 };
	uint32_t type;

	client_sends(&link, &head, sizeof(head));
	if (name) {
		data[3] = strlen(name);
		memcpy(data + 4, name, strlen(name));
		client_sends(&link, data, strlen(name) + 6);
	}
	for (*nrp = 0;; (*nrp)++) {
		ssl_recv(ssl, &reply, sizeof(reply));
		ck_assert_uint_eq(be32toh(reply.option), option);
		ck_assert_uint_le(be32toh(reply.len), sizeof(data));
		ssl_recv(ssl, data, be32toh(reply.len));
		type = be32toh(reply.type);
		if (type == NBD_REP_ACK || type & NBD_REP_ERROR)
			return type;
	}
}

static void allow(const char *name, const char *rule)
{
	char *error = NULL;

	for (unsigned int i = 0; i < ct.table.nr; i++)
		if (!strcmp(ct.exports[i].name, name))
			ck_assert_int_eq(access_add(&ct.exports[i].access, "",
						    rule, &error), 0);
}

START_TEST(what_there_is_follows_from_who_the_client_is)
{
	unsigned int nr;
	char data[64];
	int fd;
	SSL *ssl;

	start_with(open_tls(_i >= 2, _i < 2), 0);
	allow("ro", _i >= 2 ? "psk:" PSK_USER : "dn:CN=client");
	allow("b4k", _i >= 2 ? "psk:bob" : "san:DNS:localhos");
	/* Who has proved nothing yet. */
	fd = conntest_connect(&ct);
	greet(fd);
	put_option(fd, NBD_OPT_LIST, NULL, 0);
	ck_assert_uint_eq(get_option_reply(fd, NBD_OPT_LIST, data, 64, &nr),
			  NBD_REP_SERVER);
	ck_assert_uint_eq(get_option_reply(fd, NBD_OPT_LIST, data, 64, &nr),
			  NBD_REP_ACK);
	put_option(fd, NBD_OPT_INFO, "\0\0\0\2ro\0", 8);
	ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_INFO),
			  NBD_REP_ERR_UNKNOWN);
	close(fd);
	ssl = shake(&fd, client_new(versions[_i % 2], _i >= 2, _i < 2));
	ck_assert_uint_eq(ask(ssl, NBD_OPT_LIST, NULL, &nr), NBD_REP_ACK);
	ck_assert_uint_eq(nr, 2);
	ck_assert_uint_eq(ask(ssl, NBD_OPT_INFO, "b4k", &nr),
			  NBD_REP_ERR_UNKNOWN);
	ck_assert_uint_eq(ask(ssl, NBD_OPT_INFO, "nil", &nr),
			  NBD_REP_ERR_UNKNOWN);
	ck_assert_uint_eq(ask(ssl, NBD_OPT_INFO, "ro", &nr), NBD_REP_ACK);
	ck_assert_uint_eq(ask(ssl, NBD_OPT_GO, "ro", &nr), NBD_REP_ACK);
	SSL_free(ssl);
	close(fd);
	stop();
}
END_TEST

/* Exports that are for all, in a place where TLS is required, or possible. */
START_TEST(the_stricter_of_listener_and_export_counts)
{
	static const struct {
		enum tls_mode listener, export;
		uint32_t starttls, plain;
	} cases[] = {
		{ TLS_OFF, TLS_OFF, NBD_REP_ERR_UNSUP, NBD_REP_ACK },
		{ TLS_OFF, TLS_ON, NBD_REP_ACK, NBD_REP_ACK },
		{ TLS_OFF, TLS_REQUIRE, NBD_REP_ACK, NBD_REP_ERR_TLS_REQD },
		{ TLS_ON, TLS_OFF, NBD_REP_ACK, NBD_REP_ACK },
		{ TLS_ON, TLS_ON, NBD_REP_ACK, NBD_REP_ACK },
		{ TLS_ON, TLS_REQUIRE, NBD_REP_ACK, NBD_REP_ERR_TLS_REQD },
		{ TLS_REQUIRE, TLS_OFF, NBD_REP_ACK, NBD_REP_ERR_TLS_REQD },
		{ TLS_REQUIRE, TLS_ON, NBD_REP_ACK, NBD_REP_ERR_TLS_REQD },
		{ TLS_REQUIRE, TLS_REQUIRE, NBD_REP_ACK, NBD_REP_ERR_TLS_REQD },
	};
	unsigned int nr;
	char buf[10];
	int fd;
	SSL *ssl;

	start(0);
	ct.tls_least = cases[_i].listener;
	for (unsigned int i = 0; i < ct.table.nr; i++)
		ct.exports[i].tls = cases[_i].export;
	ct.table.nr_tls_only = cases[_i].export == TLS_REQUIRE ? ct.table.nr :
								 0;
	ct.table.nr_plain_only = cases[_i].export == TLS_OFF ? ct.table.nr : 0;
	fd = conntest_connect(&ct);
	greet(fd);
	put_option(fd, NBD_OPT_INFO, "\0\0\0\2rw\0", 8);
	ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_INFO), cases[_i].plain);
	put_option(fd, NBD_OPT_LIST, NULL, 0);
	ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_LIST), cases[_i].plain);
	put_option(fd, NBD_OPT_STARTTLS, NULL, 0);
	ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_STARTTLS),
			  cases[_i].starttls);
	close(fd);
	fd = conntest_connect(&ct);
	greet(fd);
	put_option(fd, NBD_OPT_EXPORT_NAME, "rw", 2);
	if (cases[_i].plain == NBD_REP_ACK)
		recv_all(fd, buf, 10);	/* size and flags */
	else
		expect_close(fd, 0);
	close(fd);
	if (cases[_i].starttls == NBD_REP_ACK) {
		ssl = shake(&fd, client_new(TLS1_3_VERSION, false, false));
		ck_assert_uint_eq(ask(ssl, NBD_OPT_LIST, NULL, &nr),
				  NBD_REP_ACK);
		ck_assert_uint_eq(nr, CT_EXPORTS);
		ck_assert_uint_eq(ask(ssl, NBD_OPT_GO, "rw", &nr),
				  NBD_REP_ACK);
		SSL_free(ssl);
		close(fd);
	}
	stop();
}
END_TEST

/* What the client says leaves a byte at a time. */
START_TEST(bytes_that_come_one_by_one_are_put_together)
{
	SSL *ssl = NULL;
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	char buf[4096];
	int fd, n, rounds = 0;

	start(0);
	ssl = client_new(versions[_i], false, false);
	BIO_up_ref(in);
	BIO_up_ref(out);
	SSL_set_bio(ssl, in, out);
	fd = conntest_connect(&ct);
	start_tls(fd);
	while (SSL_do_handshake(ssl) != 1) {
		while (BIO_read(out, buf, 1) == 1)
			send_all(fd, buf, 1);
		n = recv(fd, buf, sizeof(buf), 0);
		ck_assert_int_gt(n, 0);
		BIO_write(in, buf, n);
		ck_assert_int_lt(rounds++, 100);
	}
	client_sends(&(struct link){ .client = ssl }, buf, put_go(buf));
	client_sends(&(struct link){ .client = ssl }, buf,
		     put_request(buf, NBD_CMD_DISC, 0, 0, 0, 0));
	while (BIO_read(out, buf, 1) == 1)
		send_all(fd, buf, 1);
	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		BIO_write(in, buf, n);
	get_go_reply(ssl);
	ck_assert_int_eq(SSL_read(ssl, buf, 1), 0);
	ck_assert(SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN);
	SSL_free(ssl);
	BIO_free(in);
	BIO_free(out);
	close(fd);
	stop();
}
END_TEST

START_TEST(the_deadline_of_the_handshake_covers_tls)
{
	static const char hello[] = { 22, 3, 1, 2, 0, 1, 0, 1, (char)0xfc, 3 };
	int fd;

	start(NSEC_PER_SEC / 5);
	fd = conntest_connect(&ct);
	start_tls(fd);
	if (_i)
		send_all(fd, hello, _i);
	expect_close(fd, 0);
	conntest_wait_conns(&ct, 0);
	stop();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tls");
	TCase *tc = tcase_create("sessions");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, what_is_sent_arrives, 0, 4);
	tcase_add_loop_test(tc, what_is_received_is_what_was_sent, 0, 4);
	tcase_add_test(tc, a_batch_takes_one_call_each_way);
	tcase_add_test(tc, a_held_session_leaves_the_descriptor_alone);
	tcase_add_loop_test(tc, the_end_comes_after_the_data, 0, 4);
	tcase_add_loop_test(tc, a_flipped_bit_ends_the_session, 0, 2);
	tcase_add_test(tc, any_bytes_for_a_handshake_fail_or_wait);
	suite_add_tcase(s, tc);
	tc = tcase_create("credentials");
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, a_certificate_is_asked_for_where_it_should_be,
			    0, 2);
	tcase_add_loop_test(tc, a_client_is_who_it_proves_to_be, 0, 2);
	tcase_add_loop_test(tc, what_was_not_verified_is_not_believed, 0, 2);
	tcase_add_loop_test(tc, a_revoked_certificate_is_refused, 0, 2);
	tcase_add_test(tc, a_failed_reload_changes_nothing);
	tcase_add_loop_test(tc, keys_are_reread_too, 0, 2);
	tcase_add_test(tc, relative_paths_stay_what_they_were);
	tcase_add_test(tc, errors_name_the_file_and_the_line);
	suite_add_tcase(s, tc);
	tc = tcase_create("connections");
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, who_reads_late_gets_everything, 0, 2);
	tcase_add_loop_test(tc, who_leaves_in_the_middle_leaves_nothing, 0, 2);
	tcase_add_loop_test(tc, bytes_that_come_one_by_one_are_put_together,
			    0, 2);
	tcase_add_loop_test(tc, what_there_is_follows_from_who_the_client_is,
			    0, 4);
	tcase_add_loop_test(tc, the_stricter_of_listener_and_export_counts, 0,
			    9);
	tcase_add_loop_test(tc, the_deadline_of_the_handshake_covers_tls, 0,
			    11);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
