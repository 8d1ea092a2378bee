/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * world.h - the server that fuzzers talk to: one loop, and two exports on
 * volumes in memory, for the whole process.
 */
#ifndef FOLIOD_TESTS_FUZZ_WORLD_H
#define FOLIOD_TESTS_FUZZ_WORLD_H

#include "server/conn.h"
#include "tests/fakevolume.h"

#define WORLD_VOLUME_SIZE	(UINT64_C(4) << 20)
#define WORLD_EXPORTS		2

struct world {
	struct loop		*loop;		/* NULL until world_make() */
	struct conn_loop	cl;
	struct conn_shared	shared;
	struct export_table	table;
	struct export		exports[WORLD_EXPORTS];
	struct fakevolume	*volumes[WORLD_EXPORTS];
};

extern struct world world;

void world_make(void);

/* Have volumes and loop behave by @how, of DRIVE_*. */
void world_set(unsigned int how);

#endif
