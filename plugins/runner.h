/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * runner.h - the engine behind the plugin: one file, its cache and the loops'
 * threads, from the opening to the last flush.
 *
 *	runner_open ---- fork ---- runner_start .. runner_stop ---- runner_close
 *	file, memory               threads, volume
 */
#ifndef FOLIOD_PLUGINS_RUNNER_H
#define FOLIOD_PLUGINS_RUNNER_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/volume.h"

struct loop;
struct runner;

struct runner_params {
	const char		*path;		/* kept, the caller's */
	enum volume_mode	mode;
	bool			read_only;
	uint64_t		cache_size;	/* bytes */
	unsigned int		threads;
};

/*
 * Open and lock the file and reserve the cache.  No thread is made.  On failure
 * returns -errno, with one line that says what is wrong in @msg.
 */
int runner_open(const struct runner_params *params, struct runner **runnerp,
		char *msg, unsigned int msglen);

/* Start the threads and the volume; likewise. */
int runner_start(struct runner *runner, char *msg, unsigned int msglen);

/* While it runs. */
struct volume *runner_volume(struct runner *runner);
/* The next one in turn; from any thread. */
struct loop *runner_next_loop(struct runner *runner);

/* Flush and end what runner_start() began; no request is running.  Returns the
 * flush's error. */
int runner_stop(struct runner *runner);

/* Free what runner_open() made; not while it runs.  NULL is fine. */
void runner_close(struct runner **runnerp);

#endif
