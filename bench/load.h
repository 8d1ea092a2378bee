/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * load.h - requests in flight on a set of connections: one worker's share.
 *
 * A worker is one thread with connections, a region and random numbers of its
 * own; nothing is shared between workers.  A phase (warm-up, measurement,
 * final check) keeps every connection at its depth until its count or its
 * time is used up, and ends when the last reply is there.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/hist.h"
#include "base/random.h"

struct client_link;
struct conn;

enum load_op {
	LOAD_READ,			/* sequential */
	LOAD_WRITE,
	LOAD_RANDREAD,
	LOAD_RANDWRITE,
	LOAD_MIXED,			/* random, half and half */
};

/* One set for all workers, constant once they run. */
struct load_config {
	uint32_t	block_size;
	unsigned int	depth;		/* requests in flight a connection */
	unsigned int	batch;		/* free places before more is sent */
	uint64_t	seed;
	bool		structured, fua, verify;
	bool		once;		/* random: no block twice in a phase */
	unsigned int	flush_every;	/* writes of a connection; 0: never */
};

struct load_phase {
	const char	*name;		/* for complaints */
	enum load_op	op;
	bool		sweep;		/* each block once, then stop */
	bool		flush;		/* end with a FLUSH */
	uint64_t	count;		/* requests of this worker at most */
	uint64_t	time_ns;	/* 0: no limit */
};

struct worker {
	const struct load_config *config;
	pthread_t	thread;
	struct conn	**conns;
	unsigned int	nr_conns;
	uint64_t	first_block, nr_blocks;	/* its region, in block_size */
	struct random	random;
	/* With verify, by block: how often written; in flight now. */
	uint32_t	*generation;
	bool		*busy;

	/* Of the phase that runs. */
	struct load_phase phase;
	uint64_t	issued, done, flushes;
	uint64_t	cursor;			/* sequential: next block */
	bool		stopped;		/* nothing new */
	uint64_t	start_ns, end_ns;
	uint64_t	nr_sends, nr_recvs;	/* system calls */
	struct hist	latency;		/* ns */
};

/*
 * A worker over @nr_links connections, which it owns from here on, and
 * @nr_blocks blocks from @first_block on.
 */
void worker_init(struct worker *worker, const struct load_config *config,
		 unsigned int id, const struct client_link *links,
		 unsigned int nr_links,
		 uint64_t first_block, uint64_t nr_blocks);
void worker_fini(struct worker *worker);

/*
 * Run the phase of the worker at @arg, a whole thread's work.  An error
 * reply, a broken connection or a wrong byte ends the program with a line
 * about it.
 */
void *worker_run(void *arg);

/* All blocks hold what a fill of an earlier run with this seed wrote. */
void worker_assume_filled(struct worker *worker);

uint64_t load_now_ns(void);

#endif
