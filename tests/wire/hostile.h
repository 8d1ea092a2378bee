/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostile.h - tables of hostile clients, one per area.
 *
 * Each leaves the server serving a good client, which is checked there and
 * then; T03_* is the range of export "other" that no row may leave changed.
 */
#ifndef TESTS_WIRE_HOSTILE_H
#define TESTS_WIRE_HOSTILE_H

#include "tests/wire/harness.h"
#include "tests/wire/wire.h"

#define T03_OFF		(2u << 20)
#define T03_LEN		(1u << 20)
#define T03_BYTE	0xaa

extern const struct row hostile_session[];	/* bytes, options, closes */
extern const struct row hostile_data[];		/* requests, load, T-03 */
extern const struct row hostile_cve_nbdkit[];	/* others' vulnerabilities */
extern const struct row hostile_cve_qemu[];
extern const struct row hostile_cve_nbd[];
extern const struct row hostile_crowd[];	/* by the hundred */

/* Check: a new client can read and write. */
void good_client(void);

/* The row's own foliod, with TCP and TLS by a shared key; a.img is "rw". */
struct server *psk_server(const char *mode);
/* The file with that key. */
const char *psk_file(void);
/* By TCP to the server of the row, or to the usual one. */
struct conn *connect_tcp(void);
/* STARTTLS with the key. */
void upgrade(struct conn *c);
struct conn *psk_hello(void);
/* Check: a new client with the key can read. */
void good_tls_client(void);

/* One pipelined session of a well-behaved client on export @name. */
struct script {
	uint8_t		bytes[8192];
	size_t		len;
	size_t		write_end;	/* the WRITE's payload ends here */
	uint64_t	write_off;
	uint32_t	write_len;
};
void script_build(struct script *s, const char *name);

#endif
