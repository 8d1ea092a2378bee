/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * psk.h - the shared key of the tests, and an OpenSSL client that has it.
 */
#ifndef FOLIOD_TESTS_PSK_H
#define FOLIOD_TESTS_PSK_H

#include <openssl/ssl.h>
#include <stdio.h>

#define PSK_USER	"alice"
#define PSK_KEY		"00112233445566778899aabbccddeeff"

/* For SSL_CTX_set_psk_client_callback(). */
static inline unsigned int psk_of_client(SSL *ssl, const char *hint, char *user,
					 unsigned int user_size,
					 unsigned char *key,
					 unsigned int key_size)
{
	size_t len;

	(void)ssl;
	(void)hint;
	snprintf(user, user_size, "%s", PSK_USER);
	return OPENSSL_hexstr2buf_ex(key, key_size, &len, PSK_KEY, '\0') ?
	       len : 0;
}

#endif
