/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dn.c - distinguished names in a form that can be compared.
 */
#include <ctype.h>
#include <errno.h>
#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/base.h"
#include "server/dn.h"

#define AVAS_MAX	16	/* in an RDN */
#define OID_MAX		128	/* bytes of text */
#define VALUE_MAX	4096	/* bytes */

/* The names that RFC 4514 gives to types, in any case, and a few that OpenSSL
 * prints.  Others are known by OpenSSL's own names and by numbers. */
static const struct {
	const char	*name;
	int		nid;
} types[] = {
	{ "CN", NID_commonName },
	{ "L", NID_localityName },
	{ "ST", NID_stateOrProvinceName },
	{ "O", NID_organizationName },
	{ "OU", NID_organizationalUnitName },
	{ "C", NID_countryName },
	{ "STREET", NID_streetAddress },
	{ "DC", NID_domainComponent },
	{ "UID", NID_userId },
	{ "emailAddress", NID_pkcs9_emailAddress },
	{ "serialNumber", NID_serialNumber },
};

/* ---- the form ---- */

/* A name as it grows, and the RDN that is next. */
struct builder {
	char		*dn;		/* NULL: nothing yet */
	char		*avas[AVAS_MAX];
	unsigned int	nr;
};

static void builder_fini(struct builder *b)
{
	while (b->nr)
		free(b->avas[--b->nr]);
	free(b->dn);
}

/* -EINVAL where it is too much, or has a type without a number. */
static int add_ava(struct builder *b, const ASN1_OBJECT *type,
		   const void *value, size_t len)
{
	char oid[OID_MAX];
	int n = OBJ_obj2txt(oid, sizeof(oid), type, 1);

	if (memchr(value, '\0', len))
		return -EBADMSG;
	if (n <= 0 || n >= OID_MAX || b->nr == AVAS_MAX || len > VALUE_MAX)
		return -EINVAL;
	if (asprintf(&b->avas[b->nr], "%s=%zu:%.*s", oid, len, (int)len,
		     (const char *)value) < 0)
		return -ENOMEM;
	b->nr++;
	return 0;
}

static int compare_avas(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "1.2.3=5:alice+1.2.4=3:bob," */
static int end_rdn(struct builder *b)
{
	size_t len = b->dn ? strlen(b->dn) : 0, size = len + 1;
	char *dn, *to;

	qsort(b->avas, b->nr, sizeof(b->avas[0]), compare_avas);
	for (unsigned int i = 0; i < b->nr; i++)
		size += strlen(b->avas[i]) + 1;
	dn = realloc(b->dn, size);
	if (!dn)
		return -ENOMEM;
	b->dn = dn;
	to = dn + len;
	for (unsigned int i = 0; i < b->nr; i++) {
		to = stpcpy(to, b->avas[i]);
		*to++ = i + 1 < b->nr ? '+' : ',';
		free(b->avas[i]);
	}
	*to = '\0';
	b->nr = 0;
	return 0;
}

/* @string in UTF-8, as an attribute; -EINVAL if it is no text. */
static int add_string(struct builder *b, const ASN1_OBJECT *type,
		      const ASN1_STRING *string)
{
	unsigned char *utf8 = NULL;
	int len = ASN1_STRING_to_UTF8(&utf8, string), ret;

	if (len < 0) {
		ERR_clear_error();
		return -EINVAL;
	}
	ret = add_ava(b, type, utf8, len);
	OPENSSL_free(utf8);
	return ret;
}

/* ---- from a certificate ---- */

/* RFC 4514 begins with the last RDN. */
int dn_from_x509(const X509_NAME *name, char **dnp)
{
	struct builder b = { .dn = NULL };
	int ret = 0, set = -1;

	*dnp = NULL;
	for (int i = X509_NAME_entry_count(name) - 1; i >= 0 && !ret; i--) {
		const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);

		if (b.nr && X509_NAME_ENTRY_set(entry) != set)
			ret = end_rdn(&b);
		set = X509_NAME_ENTRY_set(entry);
		if (!ret)
			ret = add_string(&b, X509_NAME_ENTRY_get_object(entry),
					 X509_NAME_ENTRY_get_data(entry));
	}
	if (!ret && b.nr)
		ret = end_rdn(&b);
	if (!ret) {
		*dnp = b.dn;
		b.dn = NULL;
	}
	builder_fini(&b);
	return ret == -EINVAL ? 0 : ret;
}

/* ---- from text ---- */

static const char *skip_spaces(const char *p)
{
	return p + strspn(p, " ");
}

static ASN1_OBJECT *find_type(const char *name)
{
	ASN1_OBJECT *type;

	for (unsigned int i = 0; i < ARRAY_SIZE(types); i++)
		if (strcasecmp(name, types[i].name) == 0)
			return OBJ_nid2obj(types[i].nid);
	type = OBJ_txt2obj(name, 0);
	if (!type)
		ERR_clear_error();
	return type;
}

/* "CN =": NULL, and *@pp behind the '=', or what is wrong. */
static const char *parse_type(const char **pp, ASN1_OBJECT **typep)
{
	static const char chars[] = "0123456789.-"
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	const char *p = skip_spaces(*pp), *end;
	size_t len = strspn(p, chars);
	char name[OID_MAX];

	end = skip_spaces(p + len);
	if (!len || len >= sizeof(name) || *end != '=')
		return "it is not TYPE=VALUE, with a comma between two of them";
	memcpy(name, p, len);
	name[len] = '\0';
	*typep = find_type(name);
	if (!*typep)
		return "it has a type that is not known, nor a number";
	*pp = end + 1;
	return NULL;
}

static int hex_byte(const char *p)
{
	static const char digits[] = "0123456789abcdef";
	const char *high, *low;

	if (!isxdigit((unsigned char)p[0]) || !isxdigit((unsigned char)p[1]))
		return -1;
	high = strchr(digits, tolower((unsigned char)p[0]));
	low = strchr(digits, tolower((unsigned char)p[1]));
	return (high - digits) << 4 | (low - digits);
}

/* "#04024869": the value as certificates have it. */
static const char *parse_der(struct builder *b, ASN1_OBJECT *type,
			     const char **pp)
{
	unsigned char der[VALUE_MAX];
	const unsigned char *at = der;
	const char *p = *pp + 1, *why = NULL;
	ASN1_TYPE *value;
	size_t len = 0;

	for (; len < sizeof(der) && hex_byte(p) >= 0; p += 2)
		der[len++] = hex_byte(p);
	*pp = p;
	value = d2i_ASN1_TYPE(NULL, &at, len);
	if (!value || at != der + len)
		why = "what follows a # is not the hexadecimal form of a value";
	else if (ASN1_TYPE_get(value) == V_ASN1_OBJECT ||
		 ASN1_TYPE_get(value) == V_ASN1_BOOLEAN ||
		 ASN1_TYPE_get(value) == V_ASN1_NULL ||
		 add_string(b, type, value->value.asn1_string))
		why = "what follows a # is not a text";
	ERR_clear_error();
	ASN1_TYPE_free(value);
	return why;
}

/* One character, escaped or not: what it is, or -1 where there is none that
 * can be part of a value. */
static int parse_char(const char **pp, bool *escapedp)
{
	const char *p = *pp;
	int byte;

	*escapedp = *p == '\\';
	if (!*escapedp) {
		if (strchr("\"<>;", *p))
			return -1;
		*pp = p + 1;
		return (unsigned char)*p;
	}
	if (p[1] && strchr("\"+,;<>\\ #=", p[1])) {
		*pp = p + 2;
		return (unsigned char)p[1];
	}
	byte = hex_byte(p + 1);
	*pp = p + 3;
	return byte;
}

static const char *parse_text(struct builder *b, ASN1_OBJECT *type,
			      const char **pp)
{
	char value[VALUE_MAX];
	size_t len = 0, end = 0;
	bool escaped;
	int c;

	while (**pp && **pp != ',' && **pp != '+') {
		if (len == sizeof(value))
			return "a value is too long";
		c = parse_char(pp, &escaped);
		if (c < 0)
			return "a value has one of \" < > ; without a \\ "
			       "before it, or a \\ before none of these, "
			       "of , + = # \\ and space, and no two "
			       "hexadecimal digits";
		if (!c)
			return "a value has a NUL";
		value[len++] = c;
		if (escaped || c != ' ')
			end = len;
	}
	if (!end)
		return "a value is empty";
	return add_ava(b, type, value, end) ?
	       "it has too many values at one place" : NULL;
}

/* TYPE=VALUE, up to what separates it from the next. */
static const char *parse_ava(struct builder *b, const char **pp)
{
	ASN1_OBJECT *type = NULL;
	const char *why = parse_type(pp, &type);

	if (!why) {
		*pp = skip_spaces(*pp);
		why = **pp == '#' ? parse_der(b, type, pp) :
				    parse_text(b, type, pp);
	}
	ASN1_OBJECT_free(type);
	return why;
}

/* All of it, with what may follow; @p is not looked at once it is wrong. */
static int parse_dn(struct builder *b, const char *p, const char **whyp)
{
	int ret = 0;

	do {
		*whyp = parse_ava(b, &p);
		if (*whyp)
			return -EINVAL;
		p = skip_spaces(p);
		if (*p && *p != ',' && *p != '+') {
			*whyp = "a value goes on behind its end";
			return -EINVAL;
		}
		if (*p != '+')
			ret = end_rdn(b);
	} while (*p++ && !ret);
	return ret;
}

int dn_from_text(const char *text, char **dnp, const char **whyp)
{
	struct builder b = { .dn = NULL };
	int ret = parse_dn(&b, text, whyp);

	if (!ret) {
		*dnp = b.dn;
		b.dn = NULL;
	}
	builder_fini(&b);
	return ret;
}
