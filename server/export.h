/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * export.h - exports: volumes as clients open them, and the table of them.
 *
 * The table is built before the first client and constant while loops run, so
 * looking a name up takes no lock.
 */
#ifndef FOLIOD_SERVER_EXPORT_H
#define FOLIOD_SERVER_EXPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache/cache.h"
#include "server/access.h"
#include "server/tls.h"

#define EXPORT_NAME_MAX		4096	/* bytes, as the protocol has it */

struct export {
	char		*name;		/* not NUL inside; may be "" */
	char		*description;	/* or NULL */
	struct volume	*vol;
	bool		read_only;
	uint32_t	block_min;	/* 1..64 KiB, power of two */
	uint32_t	block_preferred;
	uint32_t	block_max;	/* advertised payload, 32 MiB */
	unsigned int	nr_clients;	/* atomic: connections in transmission */
	struct access	access;		/* for others it is not there */
	enum tls_mode	tls;		/* how clients must speak */
};

struct export_table {
	struct export	*exports;
	unsigned int	nr;
	int		default_export;	/* index answering to "", or -1 */
	bool		asks_groups;	/* a rule of one of them does */
	unsigned int	nr_tls_only;	/* exports that require TLS */
};

/* The export that answers to @name (@len bytes) for @peer, or NULL. */
struct export *export_find(const struct export_table *table, const char *name,
			   size_t len, const struct peer *peer);

/* How many there are for @peer. */
unsigned int export_count(const struct export_table *table,
			  const struct peer *peer);

#endif
