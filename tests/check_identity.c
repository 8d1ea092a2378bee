/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_identity.c - names that clients prove under TLS: dn.h, identity.h, and
 * the rules of access.h about them.
 */
#include <check.h>
#include <errno.h>
#include <openssl/asn1.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "server/access.h"
#include "server/dn.h"
#include "server/identity.h"

/* ---- names as text ---- */

static char *dn(const char *text)
{
	const char *why = NULL;
	char *name = NULL;
	int ret = dn_from_text(text, &name, &why);

	ck_assert_msg(ret == 0, "'%s': %s", text, why ? why : "(nothing)");
	ck_assert_ptr_nonnull(name);
	return name;
}

static bool same(const char *a, const char *b)
{
	CLEANUP_FREE char *first = dn(a), *second = dn(b);

	return strcmp(first, second) == 0;
}

START_TEST(a_name_is_the_same_however_it_is_spelled)
{
	static const char *const pairs[][2] = {
		{ "CN=alice", "cn=alice" },
		{ "CN=alice", " CN = alice " },
		{ "CN=alice", "2.5.4.3=alice" },
		{ "CN=alice", "commonName=alice" },
		{ "CN=alice", "CN=\\61lice" },
		{ "CN=alice", "CN=#0C05616C696365" },	/* UTF8String */
		{ "CN=alice", "CN=#1305616c696365" },	/* PrintableString */
		{ "CN=alice,O=X", "CN=alice, O=X" },
		{ "CN=alice+UID=7,O=X", "UID=7 + CN=alice,O=X" },
		{ "CN=a\\,b", "CN=a\\2Cb" },
		{ "CN=a\\+b", "CN=a\\2bb" },
		{ "CN=\\ a\\ ", "CN=\\20a\\20" },
		{ "CN=\\#1", "CN=\\231" },
		{ "CN=a=b", "CN=a\\=b" },
		{ "CN=M\xc3\xbcller", "CN=M\\C3\\BCller" },
		{ "CN=M\xc3\xbcller", "CN=#1E0C004D00FC006C006C00650072" },
		{ "emailAddress=a@b", "1.2.840.113549.1.9.1=a@b" },
		{ "1.3.6.1.4.1.99999.1=x", "1.3.6.1.4.1.99999.1=#0C0178" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
		ck_assert_msg(same(pairs[i][0], pairs[i][1]), "%s and %s",
			      pairs[i][0], pairs[i][1]);
}
END_TEST

START_TEST(names_that_differ_are_not_the_same)
{
	static const char *const names[] = {
		"CN=alice", "CN=Alice", "CN=alice2", "CN=alic", "O=alice",
		"CN=alice,O=X", "O=X,CN=alice", "CN=alice+O=X",
		"CN=alice,O=X,C=DE", "CN=alice\\,O=X", "CN=alice\\+O\\=X",
		"CN=alice,CN=alice", "CN=alice+CN=alice", "CN=\\ alice",
		"CN=alice\\ ", "CN=al  ice", "CN=al ice", "OU=alice",
		/* What looks like the form itself. */
		"CN=5:alice", "CN=alice\\,2.5.4.10=1:X", "CN=alice\\,",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		for (size_t j = 0; j < ARRAY_SIZE(names); j++)
			ck_assert_msg(same(names[i], names[j]) == (i == j),
				      "%s and %s", names[i], names[j]);
}
END_TEST

START_TEST(what_is_no_name_is_refused)
{
	static const char *const texts[] = {
		"", " ", ",", "+", "=", "alice", "CN", "CN=", "CN= ", "=alice",
		"CN=alice,", ",CN=alice", "CN=alice,,O=X", "CN=alice+",
		"CN=alice+,O=X", "CN=alice;O=X", "CN=\"alice\"", "CN=<alice>",
		"CN=a\\", "CN=a\\g", "CN=a\\4", "CN=a\\4g", "CN=a\\00",
		"CN=\\00", "CN alice", "nosuchtype=alice",
		"9.9.9=x", "CN=#", "CN=#0", "CN=#0C05616C6963", "CN=#zz",
		"CN=#0C05616C69636500", "CN=#0C01610C0161", "CN=#0C0100",
		"CN=#0101FF", "CN=#0500", "CN=#3003020101",
		"CN=#06032A0304", "CN=#0C0161x", "CN=#0C0161 x",
		"CN=#03020061",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		const char *why = NULL;
		char *name = NULL;

		ck_assert_msg(dn_from_text(texts[i], &name, &why) == -EINVAL,
			      "'%s' is a name", texts[i]);
		ck_assert_ptr_null(name);
		ck_assert_ptr_nonnull(why);
	}
}
END_TEST

START_TEST(a_name_has_limits)
{
	char text[8192] = "CN=a", *value;
	const char *why = NULL;
	char *name = NULL;

	for (int i = 0; i < 15; i++)
		strcat(text, "+CN=a");
	free(dn(text));
	strcat(text, "+CN=a");
	ck_assert_int_eq(dn_from_text(text, &name, &why), -EINVAL);
	value = stpcpy(text, "CN=");
	memset(value, 'a', 4096);
	value[4096] = '\0';
	free(dn(text));
	strcat(value, "a");
	ck_assert_int_eq(dn_from_text(text, &name, &why), -EINVAL);
	memset(text, '1', 4096);
	strcpy(text + 4096, "=a");
	ck_assert_int_eq(dn_from_text(text, &name, &why), -EINVAL);
}
END_TEST

/* Any bytes: a name or an error. */
START_TEST(any_text_is_a_name_or_refused)
{
	static const char chars[] = "CN=a,+\\\"#0C1 <>;\xc3\xbc.2";
	uint64_t seed = random_seed_from_env("FOLIOD_SEED");
	struct random rng;
	char text[24];

	printf("FOLIOD_SEED=%llu\n", (unsigned long long)seed);
	random_init(&rng, seed);
	for (int i = 0; i < 200000; i++) {
		size_t len = random_below(&rng, sizeof(text));
		const char *why = NULL;
		char *name = NULL;
		int ret;

		for (size_t k = 0; k < len; k++)
			text[k] = chars[random_below(&rng,
						     sizeof(chars) - 1)];
		text[len] = '\0';
		if (random_one_in(&rng, 2))
			memcpy(text, "CN=", MIN(len, (size_t)3));
		ret = dn_from_text(text, &name, &why);
		ck_assert_msg(ret ? ret == -EINVAL && why && !name : !!name,
			      "'%s'", text);
		free(name);
	}
}
END_TEST

/* ---- names of certificates ---- */

static X509_NAME *add(X509_NAME *name, const char *type, int kind,
		      const char *value, int len, int set)
{
	if (!name)
		name = X509_NAME_new();
	ck_assert_int_eq(X509_NAME_add_entry_by_txt(name, type, kind,
				(const unsigned char *)value, len, -1, set), 1);
	return name;
}

/* Compares @name, and frees it. */
static bool is(X509_NAME *name, const char *text)
{
	CLEANUP_FREE char *want = dn(text), *got = NULL;

	ck_assert_int_eq(dn_from_x509(name, &got), 0);
	X509_NAME_free(name);
	return got && strcmp(got, want) == 0;
}

START_TEST(a_certificates_name_is_that_of_its_text)
{
	X509_NAME *name;

	name = add(NULL, "C", V_ASN1_PRINTABLESTRING, "DE", -1, 0);
	add(name, "O", V_ASN1_UTF8STRING, "Example, Inc.", -1, 0);
	add(name, "CN", V_ASN1_T61STRING, "alice", -1, 0);
	add(name, "UID", V_ASN1_IA5STRING, "7", -1, -1);
	ck_assert(is(X509_NAME_dup(name),
		     "UID=7+CN=alice,O=Example\\, Inc.,C=DE"));
	ck_assert(is(X509_NAME_dup(name),
		     "CN=alice+UID=7,O=Example\\2C Inc.,C=DE"));
	ck_assert(!is(X509_NAME_dup(name),
		      "C=DE,O=Example\\, Inc.,CN=alice+UID=7"));
	ck_assert(!is(name, "CN=alice,UID=7,O=Example\\, Inc.,C=DE"));
	/* A value that spells what two would. */
	name = add(NULL, "CN", V_ASN1_UTF8STRING, "alice,O=Example", -1, 0);
	ck_assert(!is(X509_NAME_dup(name), "CN=alice,O=Example"));
	ck_assert(is(name, "CN=alice\\,O=Example"));
	name = add(NULL, "CN", V_ASN1_BMPSTRING, "\0M\0\xfc", 4, 0);
	ck_assert(is(name, "CN=M\xc3\xbc"));
}
END_TEST

/* What OpenSSL prints as RFC 2253 is what can be written in a rule. */
START_TEST(what_openssl_prints_can_be_given)
{
	static const char *const values[] = {
		"alice", "a,b", " a ", "#a", "a+b=c;d<e>f\"g\\h",
		"M\xc3\xbcller", "a\nb",
	};
	char text[512];
	BIO *bio;
	int n;

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		X509_NAME *name = add(NULL, "O", V_ASN1_UTF8STRING, "X", -1, 0);

		add(name, "CN", V_ASN1_UTF8STRING, values[i], -1, 0);
		add(name, "emailAddress", V_ASN1_IA5STRING, "a@b", -1, -1);
		add(name, "1.3.6.1.4.1.99999.1", V_ASN1_UTF8STRING, "new", -1,
		    0);
		bio = BIO_new(BIO_s_mem());
		X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253);
		n = BIO_read(bio, text, sizeof(text) - 1);
		ck_assert_int_gt(n, 0);
		text[n] = '\0';
		BIO_free(bio);
		ck_assert_msg(is(name, text), "%s", text);
	}
}
END_TEST

START_TEST(a_name_that_is_no_text_is_none)
{
	X509_NAME *name = X509_NAME_new();
	char *got = NULL;

	ck_assert_int_eq(dn_from_x509(name, &got), 0);
	ck_assert_ptr_null(got);
	add(name, "CN", V_ASN1_UTF8STRING, "alice", -1, 0);
	add(name, "x500UniqueIdentifier", V_ASN1_BIT_STRING, "1", 1, 0);
	ck_assert_int_eq(dn_from_x509(name, &got), 0);
	ck_assert_ptr_null(got);
	X509_NAME_free(name);
}
END_TEST

START_TEST(a_nul_in_a_name_is_told)
{
	X509_NAME *name = add(NULL, "CN", V_ASN1_UTF8STRING, "alice\0bob", 9,
			      0);
	char *got = NULL;

	ck_assert_int_eq(dn_from_x509(name, &got), -EBADMSG);
	ck_assert_ptr_null(got);
	X509_NAME_free(name);
	name = add(NULL, "CN", V_ASN1_BMPSTRING, "\0a\0\0", 4, 0);
	ck_assert_int_eq(dn_from_x509(name, &got), -EBADMSG);
	X509_NAME_free(name);
}
END_TEST

/* ---- certificates ---- */

static X509 *cert_of(const char *cn)
{
	X509 *cert = X509_new();

	X509_set_version(cert, X509_VERSION_3);
	add(X509_get_subject_name(cert), "CN", V_ASN1_UTF8STRING, cn, -1, 0);
	return cert;
}

static void add_san(X509 *cert, const char *value)
{
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL,
						  NID_subject_alt_name, value);

	ck_assert_ptr_nonnull(ext);
	ck_assert_int_eq(X509_add_ext(cert, ext, -1), 1);
	X509_EXTENSION_free(ext);
}

static void add_raw_san(X509 *cert, int type, const char *value, int len)
{
	GENERAL_NAMES *list = GENERAL_NAMES_new();
	GENERAL_NAME *name = GENERAL_NAME_new();
	ASN1_IA5STRING *string = ASN1_IA5STRING_new();

	ASN1_STRING_set(string, value, len);
	GENERAL_NAME_set0_value(name, type, string);
	sk_GENERAL_NAME_push(list, name);
	ck_assert_int_eq(X509_add1_ext_i2d(cert, NID_subject_alt_name, list, 0,
					   X509V3_ADD_APPEND), 1);
	GENERAL_NAMES_free(list);
}

/* What it proves; frees @cert. */
static struct identity *identity_of(X509 *cert)
{
	struct identity *identity = NULL;
	const char *why = NULL;

	ck_assert_int_eq(identity_from_x509(cert, &identity, &why), 0);
	ck_assert_ptr_nonnull(identity);
	ck_assert_ptr_null(identity->user);
	X509_free(cert);
	return identity;
}

START_TEST(a_certificate_proves_its_names)
{
	X509 *cert = cert_of("alice");
	struct identity *identity;

	add_san(cert, "DNS:Client.Example,URI:spiffe://Example/a,"
		"email:Alice@Example,IP:192.0.2.1,DNS:*.wild.example");
	identity = identity_of(cert);
	ck_assert_str_eq(identity->subject, "2.5.4.3=5:alice,");
	ck_assert_uint_eq(identity->nr_names, 4);
	ck_assert(identity_has_name(identity, "DNS:client.example"));
	ck_assert(identity_has_name(identity, "URI:spiffe://Example/a"));
	ck_assert(identity_has_name(identity, "email:Alice@Example"));
	/* It is a name and not a pattern. */
	ck_assert(identity_has_name(identity, "DNS:*.wild.example"));
	ck_assert(!identity_has_name(identity, "DNS:a.wild.example"));
	ck_assert(!identity_has_name(identity, "DNS:client.exampl"));
	identity_free(identity);
	identity = identity_of(cert_of("bob"));
	ck_assert_uint_eq(identity->nr_names, 0);
	identity_free(identity);
}
END_TEST

static void refuses(X509 *cert, const char *says)
{
	struct identity *identity = NULL;
	const char *why = NULL;

	ck_assert_int_eq(identity_from_x509(cert, &identity, &why), -EPROTO);
	ck_assert_ptr_null(identity);
	ck_assert_msg(why && strstr(why, says), "%s", why ? why : "(nothing)");
	X509_free(cert);
}

START_TEST(names_that_deceive_are_refused)
{
	X509 *cert = X509_new();

	add(X509_get_subject_name(cert), "CN", V_ASN1_UTF8STRING, "a\0b", 3, 0);
	refuses(cert, "NUL");
	for (int i = 0; i < 3; i++) {
		static const int kinds[] = { GEN_DNS, GEN_URI, GEN_EMAIL };

		cert = cert_of("alice");
		add_raw_san(cert, kinds[i], "client.example\0.evil", 20);
		refuses(cert, "NUL");
	}
	/* One extension more than there may be, or one that is none. */
	cert = cert_of("alice");
	add_san(cert, "DNS:a");
	add_san(cert, "DNS:b");
	refuses(cert, "malformed");
	cert = cert_of("alice");
	add_san(cert, "DER:0C0161");
	refuses(cert, "malformed");
}
END_TEST

/* ---- rules ---- */

static struct access list;
static char *error;

static void teardown(void)
{
	access_fini(&list);
	free(error);
	error = NULL;
}

static void only(const char *text)
{
	access_fini(&list);
	ck_assert_msg(access_add(&list, "--allow", text, &error) == 0,
		      "%s: %s", text, error ? error : "(nothing)");
}

static bool in(struct identity *identity)
{
	struct peer peer = { .kind = PEER_V4, .identity = identity };

	return access_allows(&list, &peer);
}

START_TEST(a_rule_matches_the_whole_of_what_is_proved)
{
	X509 *cert = cert_of("alice");
	struct identity *alice, bob = { .user = (char *)"bob" };
	struct access copy;

	add_san(cert, "DNS:client.example");
	alice = identity_of(cert);
	only("dn:CN=alice");
	ck_assert(in(alice) && !in(&bob) && !in(NULL));
	/* CVE-2013-6410: what begins like the name is not the name. */
	only("dn:CN=alic");
	ck_assert(!in(alice));
	only("dn:CN=alice2");
	ck_assert(!in(alice));
	only("dn:CN=alice,O=Example");
	ck_assert(!in(alice));
	only("san:dns:CLIENT.example");
	ck_assert(in(alice) && !in(&bob) && !in(NULL));
	only("san:DNS:client.exampl");
	ck_assert(!in(alice));
	only("san:DNS:client.example.org");
	ck_assert(!in(alice));
	only("san:URI:client.example");
	ck_assert(!in(alice));
	/* A name proved in one way is not one proved in another. */
	only("psk:alice");
	ck_assert(!in(alice) && !in(&bob) && !in(NULL));
	only("psk:bob");
	ck_assert(!in(alice) && in(&bob) && !in(NULL));
	only("psk:bo");
	ck_assert(!in(&bob));
	only("psk:Bob");
	ck_assert(!in(&bob));
	only("dn:CN=bob");
	ck_assert(!in(&bob));
	only("0.0.0.0/0");
	ck_assert(in(alice) && in(&bob) && in(NULL));
	only("psk:bob");
	ck_assert_int_eq(access_copy(&copy, &list), 0);
	access_fini(&list);
	list = copy;
	ck_assert(in(&bob) && !in(alice));
	ck_assert(access_has(&list, ACCESS_PSK));
	ck_assert(!access_has(&list, ACCESS_DN));
	identity_free(alice);
}
END_TEST

START_TEST(a_rule_that_is_none_says_what_is_wrong)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "dn:", "CN=alice,O=Example" },
		{ "dn:alice", "it is not TYPE=VALUE" },
		{ "dn:CN=a,foo=b", "type that is not known" },
		{ "dn:CN=a\\00", "has a NUL" },
		{ "san:", "san:DNS:NAME" },
		{ "san:client.example", "san:DNS:NAME" },
		{ "san:DNS:", "san:DNS:NAME" },
		{ "san:IP:192.0.2.1", "san:URI:NAME" },
		{ "psk:", "names no user" },
		{ "DN:CN=a", "dn:NAME" },
		{ "psk", "psk:USER" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		ck_assert_int_eq(access_add(&list, "--allow", cases[i].text,
					    &error), -EINVAL);
		ck_assert_msg(strstr(error, cases[i].says) &&
			      strstr(error, "--allow: "), "%s", error);
		ck_assert_uint_eq(list.nr, 0);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("identity");
	TCase *names = tcase_create("names");
	TCase *rules = tcase_create("rules");
	SRunner *runner;
	int failed;

	tcase_add_test(names, a_name_is_the_same_however_it_is_spelled);
	tcase_add_test(names, names_that_differ_are_not_the_same);
	tcase_add_test(names, what_is_no_name_is_refused);
	tcase_add_test(names, a_name_has_limits);
	tcase_add_test(names, any_text_is_a_name_or_refused);
	tcase_add_test(names, a_certificates_name_is_that_of_its_text);
	tcase_add_test(names, what_openssl_prints_can_be_given);
	tcase_add_test(names, a_name_that_is_no_text_is_none);
	tcase_add_test(names, a_nul_in_a_name_is_told);
	tcase_add_test(names, a_certificate_proves_its_names);
	tcase_add_test(names, names_that_deceive_are_refused);
	suite_add_tcase(suite, names);
	tcase_add_checked_fixture(rules, NULL, teardown);
	tcase_add_test(rules, a_rule_matches_the_whole_of_what_is_proved);
	tcase_add_test(rules, a_rule_that_is_none_says_what_is_wrong);
	suite_add_tcase(suite, rules);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
