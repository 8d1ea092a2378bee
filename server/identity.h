/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * identity.h - what a client has proved of itself under TLS.
 *
 * Only what was verified is here: names of a certificate that an authority of
 * ours has signed, or the user whose key the client knows.  All of it is in a
 * form that strcmp() compares.
 */
#ifndef FOLIOD_SERVER_IDENTITY_H
#define FOLIOD_SERVER_IDENTITY_H

#include <stdbool.h>

struct ssl_st;
struct x509_st;

struct identity {
	char		*subject;	/* dn.h; or NULL */
	char		**names;	/* see san_from_text() */
	unsigned int	nr_names;
	char		*user;		/* of the shared key; or NULL */
};

/*
 * Of the client of @ssl, whose handshake is done.  0, -ENOMEM, or -EPROTO with
 * *@whyp what is wrong with its certificate, constant.  *@identityp is NULL if
 * it has proved nothing.
 */
int identity_get(struct ssl_st *ssl, struct identity **identityp,
		 const char **whyp);
/* Of a certificate that has been verified; the same. */
int identity_from_x509(const struct x509_st *cert, struct identity **identityp,
		       const char **whyp);
void identity_free(struct identity *identity);	/* NULL is fine */

bool identity_has_name(const struct identity *identity, const char *name);

/*
 * "DNS:client.example", "URI:..." or "email:..." as names[] has it, where DNS
 * names are in small letters and the rest is as it was.  To be freed; NULL with
 * errno ENOMEM, or EINVAL if @text is none of them.
 */
char *san_from_text(const char *text);

#endif
