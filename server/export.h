/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * export.h - exports: volumes as clients open them, and the table of them.
 *
 * The table is built before the first client and constant while loops run, but
 * for the size of volumes (export_size.c), so looking a name up takes no lock.
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
/* Bytes of " [uuid ...]", which ends a description. */
#define EXPORT_UUID_NOTE	44

struct export {
	char		*name;		/* not NUL inside; may be "" */
	char		*description;	/* or NULL; with its UUID */
	struct volume	*vol;
	bool		read_only;
	uint32_t	block_min;	/* 1..64 KiB, power of two */
	uint32_t	block_preferred;
	uint32_t	block_max;	/* advertised payload, 32 MiB */
	unsigned int	nr_clients;	/* atomic: connections in transmission */
	struct access	access;		/* for others it is not there */
	enum tls_mode	tls;		/* how clients must speak */
	uint64_t	refused_size;	/* atomic: 1 + the size that its file
					 * has and that it cannot have, or 0 */
};

struct export_table {
	struct export	*exports;
	unsigned int	nr;
	int		default_export;	/* index answering to "", or -1 */
	bool		asks_groups;	/* a rule of one of them does */
	unsigned int	nr_tls_only;	/* exports that require TLS */
	unsigned int	nr_plain_only;	/* and those that rule it out */
	unsigned int	nr_resizing;	/* coroutines of the first loop */
};

/* The export that answers to @name (@len bytes) for @peer, or NULL. */
struct export *export_find(const struct export_table *table, const char *name,
			   size_t len, const struct peer *peer);

/* Has its file or device another size by now, which it could have, too? */
bool export_is_resized(struct export *export);

/* Have it of that size, or say why not.  In a coroutine; with clients. */
void export_resize(struct export *export);

/* How many there are for @peer. */
unsigned int export_count(const struct export_table *table,
			  const struct peer *peer);

#endif
