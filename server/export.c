/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * export.c - finding an export by the name that a client gave.
 */
#include <string.h>

#include "server/export.h"

struct export *export_find(const struct export_table *table, const char *name,
			   size_t len)
{
	for (unsigned int i = 0; i < table->nr; i++) {
		struct export *export = &table->exports[i];

		if (strlen(export->name) == len &&
		    (!len || !memcmp(export->name, name, len)))
			return export;
	}
	if (len == 0 && table->default_export >= 0)
		return &table->exports[table->default_export];
	return NULL;
}
