/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * certs.c - certificates for tests of TLS, made as they run.
 */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "tests/certs.h"

#define DAY	86400L

enum { SERIAL_CA, SERIAL_SERVER, SERIAL_CLIENT };

static struct {
	EVP_PKEY	*key;
	X509		*cert;
} ca;

static FILE *create(const char *dir, const char *name, const char *suffix)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s-%s.pem", dir, name, suffix);
	return fopen(path, "we");
}

static bool write_cert(const char *dir, const char *name, X509 *cert)
{
	FILE *f = create(dir, name, "cert");
	bool ok = f && PEM_write_X509(f, cert);

	return f && !fclose(f) && ok;
}

static bool write_key(const char *dir, const char *name, EVP_PKEY *key)
{
	FILE *f = create(dir, name, "key");
	bool ok = f && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);

	return f && !fclose(f) && ok;
}

static bool add_extension(X509 *cert, int nid, const char *value)
{
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	bool ok = ext && X509_add_ext(cert, ext, -1);

	X509_EXTENSION_free(ext);
	return ok;
}

/* Signed by the authority, or by itself if there is none. */
static X509 *make(const char *name, int serial, EVP_PKEY *key)
{
	X509 *cert = X509_new();
	X509_NAME *subject = X509_get_subject_name(cert);

	X509_set_version(cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), serial);
	X509_gmtime_adj(X509_getm_notBefore(cert), -DAY);
	X509_gmtime_adj(X509_getm_notAfter(cert), 2 * DAY);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
				   (const unsigned char *)name, -1, -1, 0);
	X509_set_issuer_name(cert, ca.cert ? X509_get_subject_name(ca.cert) :
					     subject);
	X509_set_pubkey(cert, key);
	if (add_extension(cert, ca.cert ? NID_subject_alt_name :
					  NID_basic_constraints,
			  ca.cert ? "DNS:localhost" : "critical,CA:TRUE") &&
	    X509_sign(cert, ca.cert ? ca.key : key, EVP_sha256()))
		return cert;
	X509_free(cert);
	return NULL;
}

static bool make_signed(const char *dir, const char *name, int serial)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = key ? make(name, serial, key) : NULL;
	bool ok = cert && write_cert(dir, name, cert) &&
		write_key(dir, name, key);

	X509_free(cert);
	EVP_PKEY_free(key);
	return ok;
}

bool certs_make(const char *dir, const char *name)
{
	X509_free(ca.cert);
	EVP_PKEY_free(ca.key);
	ca.cert = NULL;
	ca.key = EVP_EC_gen("P-256");
	if (ca.key)
		ca.cert = make(name, SERIAL_CA, ca.key);
	return ca.cert && write_cert(dir, "ca", ca.cert) &&
		make_signed(dir, "server", SERIAL_SERVER) &&
		make_signed(dir, "client", SERIAL_CLIENT);
}

bool certs_revoke_client(const char *dir)
{
	X509_CRL *crl = X509_CRL_new();
	X509_REVOKED *revoked = X509_REVOKED_new();
	ASN1_INTEGER *serial = ASN1_INTEGER_new();
	ASN1_TIME *now = X509_gmtime_adj(NULL, -DAY);
	FILE *f = create(dir, "ca", "crl");
	bool ok;

	ASN1_INTEGER_set(serial, SERIAL_CLIENT);
	X509_REVOKED_set_serialNumber(revoked, serial);
	X509_REVOKED_set_revocationDate(revoked, now);
	X509_CRL_set_version(crl, X509_CRL_VERSION_2);
	X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca.cert));
	X509_CRL_set1_lastUpdate(crl, now);
	X509_gmtime_adj(now, 2 * DAY);
	X509_CRL_set1_nextUpdate(crl, now);
	ok = X509_CRL_add0_revoked(crl, revoked) &&
		X509_CRL_sign(crl, ca.key, EVP_sha256()) && f &&
		PEM_write_X509_CRL(f, crl);
	ASN1_INTEGER_free(serial);
	ASN1_TIME_free(now);
	X509_CRL_free(crl);
	return f && !fclose(f) && ok;
}
