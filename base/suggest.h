/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * suggest.h - which known word did the user probably mean?
 */
#ifndef FOLIOD_BASE_SUGGEST_H
#define FOLIOD_BASE_SUGGEST_H

/* Words longer than this are not compared. */
#define SUGGEST_WORD_MAX	40

/*
 * Changes that make @a into @b: a character inserted, deleted, replaced, or
 * swapped with its neighbour.  Both are at most SUGGEST_WORD_MAX long.
 */
unsigned int edit_distance(const char *a, const char *b);

/*
 * The one of the @nr words in @known that is nearest to @word: one that it
 * begins, or one that a few changes make of it.  NULL if none is near.
 */
const char *suggest(const char *word, const char *const *known,
		    unsigned int nr);

#endif
