/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * errseq.h - one word that tells any number of observers of an error once each.
 *
 * Holds the newest error, a counter and a SEEN bit; the counter moves only if
 * the stored error was seen, so that unseen errors cost no counts
 * (iomap-semantics 5.4).
 */
#ifndef FOLIOD_CACHE_ERRSEQ_H
#define FOLIOD_CACHE_ERRSEQ_H

#include <stdint.h>

typedef uint32_t errseq_t;

/* Record @err (a negative errno of at most 4095); from any thread. */
void errseq_set(errseq_t *eseq, int err);

/* A starting point for an observer: an error that nobody saw yet will still
 * be reported to it. */
errseq_t errseq_sample(const errseq_t *eseq);

/* The error since *@since, or 0; moves *@since to now and marks the error
 * seen. */
int errseq_check_and_advance(errseq_t *eseq, errseq_t *since);

#endif
