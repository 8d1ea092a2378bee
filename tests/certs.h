/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * certs.h - certificates for tests of TLS, made as they run.
 */
#ifndef FOLIOD_TESTS_CERTS_H
#define FOLIOD_TESTS_CERTS_H

#include <stdbool.h>

/*
 * Make DIR/ca-cert.pem, DIR/server-cert.pem and DIR/server-key.pem, and
 * DIR/client-cert.pem and DIR/client-key.pem, all signed by a new authority
 * called @name.  Its serial numbers are 1 for the server and 2 for the client.
 * False on failure.
 */
bool certs_make(const char *dir, const char *name);

/* Write DIR/ca-crl.pem, which revokes the client of the certs_make() before. */
bool certs_revoke_client(const char *dir);

#endif
