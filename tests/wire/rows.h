/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rows.h - the tables of rows, one per area of the protocol.
 *
 * Numbers are those of the list of obligations that implementers get wrong;
 * foliod's own promises count from FOLIOD_ROWS.
 */
#ifndef TESTS_WIRE_ROWS_H
#define TESTS_WIRE_ROWS_H

#include "tests/wire/harness.h"

#define FOLIOD_ROWS	200

/* Rows from here on are of the transmission phase, and run with extended
 * headers too. */
#define FIRST_TRANSMISSION_ROW	33

extern const struct row rows_handshake[];	/* 1 to 9 */
extern const struct row rows_tls[];		/* 8, 10 to 16; 50, 56 */
extern const struct row rows_export[];		/* 17 to 25 */
extern const struct row rows_meta[];		/* 26 to 34 */
extern const struct row rows_command[];		/* 35 to 45 */
extern const struct row rows_limits[];		/* 46 to 56 */
extern const struct row rows_extended[];	/* 27, and 33 to 48 with them */
extern const struct row rows_foliod[];		/* from FOLIOD_ROWS */

#endif
