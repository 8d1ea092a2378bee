/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * suggest.c - which known word did the user probably mean?
 */
#include <string.h>

#include "base/util.h"
#include "base/suggest.h"

unsigned int edit_distance(const char *a, const char *b)
{
	/* Three rows of the table of distances between prefixes: a swap looks
	 * back by two. */
	unsigned int rows[3][SUGGEST_WORD_MAX + 1];
	unsigned int *prev2 = rows[0], *prev = rows[1], *row = rows[2], *tmp;
	size_t na = strlen(a), nb = strlen(b), i, j;

	assert(na <= SUGGEST_WORD_MAX && nb <= SUGGEST_WORD_MAX);
	for (j = 0; j <= nb; j++)
		row[j] = j;
	for (i = 1; i <= na; i++) {
		tmp = prev2;
		prev2 = prev;
		prev = row;
		row = tmp;
		row[0] = i;
		for (j = 1; j <= nb; j++) {
			unsigned int cost = a[i - 1] != b[j - 1];

			row[j] = prev[j - 1] + cost;
			row[j] = MIN(row[j], prev[j] + 1);
			row[j] = MIN(row[j], row[j - 1] + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
			    a[i - 2] == b[j - 1])
				row[j] = MIN(row[j], prev2[j - 2] + 1);
		}
	}
	return row[nb];
}

const char *suggest(const char *word, const char *const *known,
		    unsigned int nr)
{
	size_t len = strlen(word);
	unsigned int best = 1 + MAX(len / 3, (size_t)1);
	const char *found = NULL;

	if (len > SUGGEST_WORD_MAX)
		return NULL;
	for (unsigned int i = 0; i < nr; i++) {
		unsigned int distance;

		if (strlen(known[i]) > SUGGEST_WORD_MAX)
			continue;
		if (len >= 2 && strncmp(known[i], word, len) == 0)
			distance = 1;
		else
			distance = edit_distance(word, known[i]);
		if (distance < best) {
			best = distance;
			found = known[i];
		}
	}
	return found;
}
