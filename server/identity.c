/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * identity.c - what a client has proved of itself under TLS.
 */
#include <ctype.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/base.h"
#include "server/dn.h"
#include "server/identity.h"

#define NAMES_MAX	1024	/* of a certificate; it is 100 KiB at most */

static const struct {
	const char	*prefix;
	int		type;		/* of OpenSSL's GENERAL_NAME */
} kinds[] = {
	{ "DNS:",	GEN_DNS },
	{ "URI:",	GEN_URI },
	{ "email:",	GEN_EMAIL },
};

/* ---- alternative names ---- */

static char *make_name(unsigned int kind, const char *value, size_t len)
{
	char *name;

	if (asprintf(&name, "%s%.*s", kinds[kind].prefix, (int)len, value) < 0)
		return NULL;
	if (kinds[kind].type == GEN_DNS)
		for (char *p = name + strlen(kinds[kind].prefix); *p; p++)
			if (*p >= 'A' && *p <= 'Z')
				*p |= 0x20;
	return name;
}

char *san_from_text(const char *text)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++) {
		size_t len = strlen(kinds[i].prefix);

		if (strncasecmp(text, kinds[i].prefix, len) == 0 && text[len])
			return make_name(i, text + len, strlen(text + len));
	}
	errno = EINVAL;
	return NULL;
}

bool identity_has_name(const struct identity *identity, const char *name)
{
	for (unsigned int i = 0; i < identity->nr_names; i++)
		if (strcmp(identity->names[i], name) == 0)
			return true;
	return false;
}

/* Kinds of which no rule can be are passed over. */
static int add_name(struct identity *identity, const GENERAL_NAME *general)
{
	const ASN1_STRING *value;
	const char *text;
	unsigned int kind;
	int len;

	for (kind = 0; kind < ARRAY_SIZE(kinds); kind++)
		if (kinds[kind].type == general->type)
			break;
	if (kind == ARRAY_SIZE(kinds))
		return 0;
	value = general->d.ia5;
	text = (const char *)ASN1_STRING_get0_data(value);
	len = ASN1_STRING_length(value);
	if (len && memchr(text, '\0', len))
		return -EBADMSG;
	identity->names[identity->nr_names] = make_name(kind, text, len);
	if (!identity->names[identity->nr_names])
		return -ENOMEM;
	identity->nr_names++;
	return 0;
}

static int add_names(struct identity *identity, const X509 *cert,
		     const char **whyp)
{
	int critical, ret = 0, nr;
	GENERAL_NAMES *list;

	list = X509_get_ext_d2i(cert, NID_subject_alt_name, &critical, NULL);
	if (!list) {
		ERR_clear_error();
		if (critical == -1)	/* it has none */
			return 0;
		*whyp = "the alternative names of the certificate are malformed";
		return -EPROTO;
	}
	nr = MIN(sk_GENERAL_NAME_num(list), NAMES_MAX);
	identity->names = calloc(nr + 1, sizeof(*identity->names));
	if (!identity->names)
		ret = -ENOMEM;
	for (int i = 0; i < nr && !ret; i++)
		ret = add_name(identity, sk_GENERAL_NAME_value(list, i));
	GENERAL_NAMES_free(list);
	return ret;
}

/* ---- identities ---- */

int identity_from_x509(const X509 *cert, struct identity **identityp,
		       const char **whyp)
{
	struct identity *identity = calloc(1, sizeof(*identity));
	int ret;

	if (!identity)
		return -ENOMEM;
	ret = dn_from_x509(X509_get_subject_name(cert), &identity->subject);
	if (!ret)
		ret = add_names(identity, cert, whyp);
	if (ret == -EBADMSG) {
		*whyp = "a name in the certificate has a NUL";
		ret = -EPROTO;
	}
	if (ret)
		identity_free(identity);
	else
		*identityp = identity;
	return ret;
}

/* OpenSSL may have asked for a key and then not used it. */
static bool used_key(const SSL *ssl)
{
	int nid;

	if (SSL_version(ssl) >= TLS1_3_VERSION)
		return SSL_session_reused(ssl);
	nid = SSL_CIPHER_get_kx_nid(SSL_get_current_cipher(ssl));
	return nid == NID_kx_psk || nid == NID_kx_ecdhe_psk ||
		nid == NID_kx_dhe_psk || nid == NID_kx_rsa_psk;
}

static int from_key(const char *user, struct identity **identityp)
{
	struct identity *identity = calloc(1, sizeof(*identity));

	if (identity)
		identity->user = strdup(user);
	if (!identity || !identity->user) {
		free(identity);
		return -ENOMEM;
	}
	*identityp = identity;
	return 0;
}

int identity_get(SSL *ssl, struct identity **identityp, const char **whyp)
{
	const X509 *cert = SSL_get0_peer_certificate(ssl);
	const char *user = SSL_get_app_data(ssl);

	*identityp = NULL;
	if (user && used_key(ssl))
		return from_key(user, identityp);
	/* Without the wish to verify, the result is good whatever came. */
	if (!cert || !(SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER) ||
	    SSL_get_verify_result(ssl) != X509_V_OK)
		return 0;
	return identity_from_x509(cert, identityp, whyp);
}

void identity_free(struct identity *identity)
{
	if (!identity)
		return;
	free(identity->subject);
	for (unsigned int i = 0; i < identity->nr_names; i++)
		free(identity->names[i]);
	free(identity->names);
	free(identity->user);
	free(identity);
}
