/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dn.h - distinguished names in a form that can be compared.
 *
 * A name is a sequence of RDNs, each a set of attributes.  Here it becomes a
 * string that is the same for two names exactly if all their RDNs are: the
 * attributes by the numbers of their types, values in UTF-8 with their
 * lengths before them, sets sorted.  How it was spelled or escaped, or encoded
 * in a certificate, is no longer in it.  It is for strcmp(), as a whole: a
 * piece of it is no name.
 */
#ifndef FOLIOD_SERVER_DN_H
#define FOLIOD_SERVER_DN_H

struct X509_name_st;

/*
 * From text as RFC 4514 has it, such as "CN=alice,O=Example\, Inc.", with
 * spaces allowed around types and values.  0, -ENOMEM, or -EINVAL with *@whyp
 * what is wrong with it, constant.  *@dnp is to be freed.
 */
int dn_from_text(const char *text, char **dnp, const char **whyp);

/*
 * From a certificate.  0, -ENOMEM, or -EBADMSG if there is a NUL in it, which
 * is there to deceive.  *@dnp, to be freed, is NULL if there is nothing in it,
 * or something that is no text.
 */
int dn_from_x509(const struct X509_name_st *name, char **dnp);

#endif
