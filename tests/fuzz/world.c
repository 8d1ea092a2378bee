/* SPDX-License-Identifier: BSD-3-Clause */
/* world.c - the server that fuzzers talk to. */
#include <errno.h>
#include <stdlib.h>

#include "tests/fuzz/drive.h"
#include "tests/fuzz/world.h"

struct world world = {
	.exports = {
		{
			.name = (char *)(uintptr_t)"a",
			.block_min = 1,
		}, {
			.name = (char *)(uintptr_t)"read-only",
			.description = (char *)(uintptr_t)"a text",
			.read_only = true,
			.block_min = 512,
		},
	},
	.table = { .exports = world.exports, .nr = WORLD_EXPORTS },
	.shared = { .exports = &world.table, .reply_budget = 1 << 20 },
};

static void on_idle(struct conn_loop *cl)
{
	(void)cl;
	loop_stop(world.loop);
}

void world_make(void)
{
	if (loop_new(&world.loop) ||
	    conn_loop_init(&world.cl, world.loop, &world.shared))
		abort();
	world.cl.idle = on_idle;
	for (int i = 0; i < WORLD_EXPORTS; i++) {
		world.volumes[i] = fakevolume_new(WORLD_VOLUME_SIZE);
		world.exports[i].vol = &world.volumes[i]->vol;
		world.exports[i].block_preferred = 4096;
		world.exports[i].block_max = 32 << 20;
		fakevolume_fill(world.volumes[i], 0, 256 << 10);
	}
}

void world_set(unsigned int how)
{
	for (int i = 0; i < WORLD_EXPORTS; i++) {
		struct fakevolume *volume = world.volumes[i];

		volume->miss = !!(how & DRIVE_MISS);
		volume->relax = !!(how & DRIVE_RELAX);
		volume->no_stages = !!(how & DRIVE_NO_STAGES);
		volume->dirty = !!(how & DRIVE_MISS);
		volume->error = how & DRIVE_ERROR ? -EIO : 0;
		volume->error_after = how & DRIVE_ERROR ? 1 : 0;
	}
	world.cl.draining = how & DRIVE_DRAINING;
}
