/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tls_context.c - who the server is and whom it believes: certificates, and
 * the keys that it shares with its users.
 *
 * All that a session needs hangs on one SSL_CTX, keys included, and sessions
 * hold references to theirs: reading the files anew is making another.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "server/options.h"
#include "server/tls.h"

/* Received at once: many small requests, or a few records. */
#define READ_BUFFER_SIZE	(64 << 10)

#define PSK_USERS_MAX		65536
#define PSK_KEY_MIN		16		/* bytes */

/* AES-128 first: external keys of TLS 1.3 go with SHA-256. */
#define CIPHERS_13	"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:" \
			"TLS_CHACHA20_POLY1305_SHA256"
#define CIPHERS_12	"ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:" \
			"kECDHEPSK+CHACHA20:kDHEPSK+AESGCM:kPSK+AESGCM:!aNULL"

struct psk {
	char		*user;
	unsigned char	*key;
	long		key_len;
};

struct psk_table {
	struct psk	*list;		/* by user */
	unsigned int	nr;
};

struct tls {
	char		*certificates, *psk_file;	/* absolute, or NULL */
	bool		verify_peer;
	struct mutex	lock;
	SSL_CTX		*ctx;		/* guarded by lock; it is replaced */
};

/* ---- shared keys ---- */

static void psk_table_free(struct psk_table *table)
{
	if (!table)
		return;
	for (unsigned int i = 0; i < table->nr; i++) {
		free(table->list[i].user);
		OPENSSL_clear_free(table->list[i].key,
				   table->list[i].key_len);
	}
	free(table->list);
	free(table);
}

static int compare_users(const void *a, const void *b)
{
	const struct psk *pa = a, *pb = b;

	return strcmp(pa->user, pb->user);
}

/* USER:HEXKEY, whose end is cut off. */
static int psk_add(struct psk_table *table, char *line)
{
	char *colon = strrchr(line, ':');
	struct psk *list, *psk;

	line[strcspn(line, "\r\n")] = '\0';
	if (!*line)
		return 0;
	if (!colon || colon == line || table->nr == PSK_USERS_MAX ||
	    colon - line > PSK_MAX_IDENTITY_LEN)
		return -EINVAL;
	*colon = '\0';
	list = realloc(table->list, (table->nr + 1) * sizeof(*list));
	if (!list)
		return -ENOMEM;
	table->list = list;
	psk = &list[table->nr];
	psk->key = OPENSSL_hexstr2buf(colon + 1, &psk->key_len);
	psk->user = strdup(line);
	OPENSSL_cleanse(colon + 1, strlen(colon + 1));
	if (psk->key && psk->user && psk->key_len >= PSK_KEY_MIN &&
	    psk->key_len <= PSK_MAX_PSK_LEN) {
		table->nr++;
		return 0;
	}
	ERR_clear_error();
	free(psk->user);
	OPENSSL_clear_free(psk->key, psk->key ? psk->key_len : 0);
	return -EINVAL;
}

static int psk_read(FILE *file, const char *path, struct psk_table *table,
		    char **errorp)
{
	unsigned int nr = 0;
	char *line = NULL;
	size_t size = 0;
	int ret = 0;

	while (!ret && getline(&line, &size, file) >= 0) {
		nr++;
		ret = psk_add(table, line);
	}
	if (line)
		OPENSSL_cleanse(line, size);
	free(line);
	if (ret)
		return option_error(errorp, "%s: line %u is not USER:KEY with "
				    "a key of %d to %d bytes in hexadecimal",
				    path, nr, PSK_KEY_MIN, PSK_MAX_PSK_LEN);
	if (ferror(file))
		return option_error(errorp, "%s: %s", path, strerror(EIO));
	if (!table->nr)
		return option_error(errorp, "%s: there is no USER:KEY in it",
				    path);
	qsort(table->list, table->nr, sizeof(*table->list), compare_users);
	for (unsigned int i = 1; i < table->nr; i++)
		if (!compare_users(&table->list[i - 1], &table->list[i]))
			return option_error(errorp, "%s: the user '%s' is "
					    "given twice", path,
					    table->list[i].user);
	return 0;
}

static int psk_open(const char *path, struct psk_table **tablep, char **errorp)
{
	struct psk_table *table;
	FILE *file = fopen(path, "re");
	int ret;

	if (!file)
		return option_error(errorp, "%s: %s", path, strerror(errno));
	table = calloc(1, sizeof(*table));
	ret = table ? psk_read(file, path, table, errorp) : -ENOMEM;
	fclose(file);
	if (ret)
		psk_table_free(table);
	else
		*tablep = table;
	return ret;
}

/* Where an SSL_CTX has its keys. */
static int psk_index = -1;
static pthread_once_t psk_once = PTHREAD_ONCE_INIT;

static void psk_ex_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx,
			long argl, void *argp)
{
	(void)parent;
	(void)ad;
	(void)idx;
	(void)argl;
	(void)argp;
	psk_table_free(ptr);
}

static void psk_index_init(void)
{
	psk_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, psk_ex_free);
}

/* OpenSSL asks this of TLS 1.3 clients as well.  0: it is nobody we know. */
static unsigned int psk_find(SSL *ssl, const char *user, unsigned char *key,
			     unsigned int size)
{
	const struct psk_table *table;
	const struct psk want = { .user = (char *)(uintptr_t)user }, *psk;

	table = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), psk_index);
	psk = bsearch(&want, table->list, table->nr, sizeof(want),
		      compare_users);
	if (!psk || psk->key_len > (long)size)
		return 0;
	memcpy(key, psk->key, psk->key_len);
	/* For identity.c; the session holds the context and so the table. */
	SSL_set_app_data(ssl, psk->user);
	return psk->key_len;
}

static int use_psk(SSL_CTX *ctx, const char *path, char **errorp)
{
	struct psk_table *table = NULL;
	int ret;

	ret = psk_open(path, &table, errorp);
	if (ret)
		return ret;
	pthread_once(&psk_once, psk_index_init);
	if (SSL_CTX_set_ex_data(ctx, psk_index, table) != 1) {
		psk_table_free(table);
		return -ENOMEM;
	}
	SSL_CTX_set_psk_server_callback(ctx, psk_find);
	return 0;
}

/* ---- certificates ---- */

/* What OpenSSL says, about @path. */
static int load_error(char **errorp, const char *path)
{
	const char *text = ERR_reason_error_string(ERR_peek_error());
	int ret;

	ret = option_error(errorp, "%s: %s", path,
			   access(path, R_OK) ? strerror(errno) :
			   text ? text : "cannot be used");
	ERR_clear_error();
	return ret;
}

/* A key with a passphrase is refused: nobody could be asked. */
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	(void)arg;
	return -1;
}

static int load_ca(SSL_CTX *ctx, const char *path, bool required,
		   char **errorp)
{
	STACK_OF(X509_NAME) *names;

	if (!required && access(path, F_OK))
		return 0;
	if (SSL_CTX_load_verify_file(ctx, path) != 1)
		return load_error(errorp, path);
	if (!required)
		return 0;
	names = SSL_load_client_CA_file(path);
	if (!names)
		return load_error(errorp, path);
	SSL_CTX_set_client_CA_list(ctx, names);
	return 0;
}

static int load_crl(SSL_CTX *ctx, const char *path, char **errorp)
{
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	X509_LOOKUP *lookup;

	if (access(path, F_OK))
		return 0;
	lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
	if (!lookup || X509_load_crl_file(lookup, path, X509_FILETYPE_PEM) < 1)
		return load_error(errorp, path);
	X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
	return 0;
}

static int use_certificates(SSL_CTX *ctx, const char *dir, bool verify_peer,
			    char **errorp)
{
	CLEANUP_FREE char *ca = NULL, *crl = NULL, *cert = NULL, *key = NULL;
	int ret;

	if (asprintf(&ca, "%s/ca-cert.pem", dir) < 0 ||
	    asprintf(&crl, "%s/ca-crl.pem", dir) < 0 ||
	    asprintf(&cert, "%s/server-cert.pem", dir) < 0 ||
	    asprintf(&key, "%s/server-key.pem", dir) < 0)
		return -ENOMEM;
	if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
		return load_error(errorp, cert);
	/* Fails too where it is not that certificate's. */
	if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
		return load_error(errorp, key);
	ret = load_ca(ctx, ca, verify_peer, errorp);
	if (!ret && verify_peer)
		ret = load_crl(ctx, crl, errorp);
	if (!ret && verify_peer)
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER |
				   SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	return ret;
}

/* ---- all of it ---- */

static int configure(SSL_CTX *ctx)
{
	SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
			    SSL_OP_NO_RENEGOTIATION |
			    SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_default_read_buffer_len(ctx, READ_BUFFER_SIZE);
	SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
	if (SSL_CTX_set_num_tickets(ctx, 0) != 1 ||
	    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
	    SSL_CTX_set_dh_auto(ctx, 1) != 1 ||
	    SSL_CTX_set_ciphersuites(ctx, CIPHERS_13) != 1 ||
	    SSL_CTX_set_cipher_list(ctx, CIPHERS_12) != 1)
		return -EINVAL;
	return 0;
}

static int make_context(const struct tls *tls, SSL_CTX **ctxp, char **errorp)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	int ret;

	if (!ctx || configure(ctx)) {
		ret = load_error(errorp, "OpenSSL");
		SSL_CTX_free(ctx);
		return ret;
	}
	ret = tls->psk_file ? use_psk(ctx, tls->psk_file, errorp) : 0;
	if (!ret && tls->certificates)
		ret = use_certificates(ctx, tls->certificates,
				       tls->verify_peer, errorp);
	if (ret)
		SSL_CTX_free(ctx);
	else
		*ctxp = ctx;
	return ret;
}

SSL_CTX *tls_context_get(struct tls *tls)
{
	SSL_CTX *ctx;

	mutex_lock(&tls->lock);
	ctx = tls->ctx;
	SSL_CTX_up_ref(ctx);
	mutex_unlock(&tls->lock);
	return ctx;
}

int tls_reload(struct tls *tls, char **errorp)
{
	SSL_CTX *ctx = NULL, *old;
	int ret;

	ret = make_context(tls, &ctx, errorp);
	if (ret)
		return ret;
	mutex_lock(&tls->lock);
	old = tls->ctx;
	tls->ctx = ctx;
	mutex_unlock(&tls->lock);
	SSL_CTX_free(old);
	return 0;
}

/* The working directory may change before the files are read again. */
static int set_path(char **pathp, const char *path)
{
	CLEANUP_FREE char *cwd = NULL;

	if (!path)
		return 0;
	if (*path == '/') {
		*pathp = strdup(path);
		return *pathp ? 0 : -ENOMEM;
	}
	cwd = getcwd(NULL, 0);
	if (!cwd || asprintf(pathp, "%s/%s", cwd, path) < 0) {
		*pathp = NULL;
		return -ENOMEM;
	}
	return 0;
}

int tls_new(const struct tls_params *params, struct tls **tlsp, char **errorp)
{
	struct tls *tls = calloc(1, sizeof(*tls));
	int ret;

	if (!tls)
		return -ENOMEM;
	mutex_init(&tls->lock, RANK_LEAF);
	tls->verify_peer = params->verify_peer;
	ret = set_path(&tls->certificates, params->certificates);
	if (!ret)
		ret = set_path(&tls->psk_file, params->psk_file);
	if (!ret)
		ret = make_context(tls, &tls->ctx, errorp);
	if (ret)
		tls_free(&tls);
	else
		*tlsp = tls;
	return ret;
}

void tls_free(struct tls **tlsp)
{
	struct tls *tls = *tlsp;

	*tlsp = NULL;
	if (!tls)
		return;
	SSL_CTX_free(tls->ctx);
	mutex_fini(&tls->lock);
	free(tls->certificates);
	free(tls->psk_file);
	free(tls);
}
