/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * export.c - finding an export by the name that a client gave.
 *
 * One that a client may not use is not found, and not until all others have
 * been looked at: neither the answer nor its time tells it from a name that
 * nobody has.
 */
#include <string.h>

#include "server/export.h"

struct export *export_find(const struct export_table *table, const char *name,
			   size_t len, const struct peer *peer)
{
	struct export *export;

	for (unsigned int i = 0; i < table->nr; i++) {
		export = &table->exports[i];
		if (strlen(export->name) == len &&
		    (!len || !memcmp(export->name, name, len)) &&
		    access_allows(&export->access, peer))
			return export;
	}
	if (len == 0 && table->default_export >= 0) {
		export = &table->exports[table->default_export];
		if (access_allows(&export->access, peer))
			return export;
	}
	return NULL;
}

unsigned int export_count(const struct export_table *table,
			  const struct peer *peer)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < table->nr; i++)
		nr += access_allows(&table->exports[i].access, peer);
	return nr;
}
