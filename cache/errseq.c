/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * errseq.c - one word that tells any number of observers of an error once
 * each.
 *
 *      31                      13   12   11            0
 *     +--------------------------+------+---------------+
 *     |         counter          | SEEN |     errno     |
 *     +--------------------------+------+---------------+
 *
 * An observer's own word is one that it saw here (so with SEEN), or 0.  The
 * counter moves when a seen error is followed by another one: only then could
 * the word come back to what somebody holds.  It wraps after half a million
 * errors that were each seen, which an observer would have to sleep through to
 * the exact count.
 */
#include "cache/errseq.h"

#include <assert.h>
#include <stdbool.h>

#define ERRSEQ_ERRNO	UINT32_C(0x0fff)
#define ERRSEQ_SEEN	UINT32_C(0x1000)
#define ERRSEQ_ONE	UINT32_C(0x2000)	/* of the counter */

static int errseq_errno(errseq_t word)
{
	return -(int)(word & ERRSEQ_ERRNO);
}

/* Writers of the word are ordered by it alone: the data whose loss it tells of
 * is found under locks. */
static bool errseq_replace(errseq_t *eseq, errseq_t *old, errseq_t new)
{
	return __atomic_compare_exchange_n(eseq, old, new, false,
					   __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

void errseq_set(errseq_t *eseq, int err)
{
	errseq_t old = __atomic_load_n(eseq, __ATOMIC_ACQUIRE);
	errseq_t new;

	assert(err < 0 && -err <= (int)ERRSEQ_ERRNO);
	do {
		new = (old & ~(ERRSEQ_ERRNO | ERRSEQ_SEEN)) | (errseq_t)-err;
		if (old & ERRSEQ_SEEN)
			new += ERRSEQ_ONE;
		/* The same error, and nobody has seen it yet. */
		if (new == old)
			return;
	} while (!errseq_replace(eseq, &old, new));
}

errseq_t errseq_sample(const errseq_t *eseq)
{
	errseq_t word = __atomic_load_n(eseq, __ATOMIC_ACQUIRE);

	return word & ERRSEQ_SEEN ? word : 0;
}

int errseq_check_and_advance(errseq_t *eseq, errseq_t *since)
{
	errseq_t word = __atomic_load_n(eseq, __ATOMIC_ACQUIRE);

	/* An error that comes before SEEN stands must be told as well: look
	 * again rather than take a word that is no longer there. */
	do {
		if (word == *since)
			return 0;
	} while (!(word & ERRSEQ_SEEN) &&
		 !errseq_replace(eseq, &word, word | ERRSEQ_SEEN));
	*since = word | ERRSEQ_SEEN;
	return errseq_errno(word);
}
