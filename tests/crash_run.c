/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash_run.c - the world of a case: clients at work, crashes and what comes
 * after them, and a look at everything in the end.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "cache/volume.h"
#include "tests/crash_inner.h"

/* Virtual time without an operation ending, after which all is stuck. */
#define STUCK_NS	(600 * NSEC_PER_SEC)
#define POLL_NS		(5 * NSEC_PER_MSEC)

void run_fail(struct run *run, const char *fmt, ...)
{
	va_list ap;

	if (run->failed)
		return;
	run->failed = true;
	printf("seed %" PRIu64 ": ", run->cs->seed);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	for (unsigned int i = 0; i < CRASH_CLIENTS_MAX; i++) {
		if (run->clients[i].op) {
			printf("  under way: ");
			crash_op_write(run->clients[i].op, stdout);
		}
	}
}

/* ---- images ---- */

static void save_image(struct run *run)
{
	unsigned int i = run->nr_saved++ % SAVED_MAX;

	/* Bytes of a mapstore are nothing to boot from. */
	if (run->ms)
		return;
	if (!run->saved[i])
		run->saved[i] = malloc(run->cs->size);
	if (!run->saved[i])
		abort();
	memcpy(run->saved[i], run->image, run->cs->size);
}

void run_peek(struct run *run)
{
	if (run->ms)
		mapstore_peek(run->ms, 0, run->image, run->cs->size);
	else
		sim_peek(run->engine->bdev, 0, run->image, run->cs->size);
}

void run_look_at_images(struct run *run, uint64_t nr)
{
	struct bdev *bdev = run->engine->bdev;

	while (nr-- && !run_over(run)) {
		enum oracle_crash crash = ORACLE_CUT;

		if (run->ms || random_one_in(&run->rnd, 5)) {
			crash = ORACLE_KILL;
			run_peek(run);
		} else {
			sim_crash_image(bdev, random_u64(&run->rnd),
					run->image);
		}
		run->stats->images++;
		if (!oracle_check_image(run->oracle, crash, run->image)) {
			run_fail(run, "%s", oracle_message(run->oracle));
			return;
		}
		if (random_one_in(&run->rnd, 16))
			save_image(run);
	}
}

/* At any request that goes to the device. */
static void observe(void *arg, const struct bdev_req *req)
{
	struct run *run = arg;

	(void)req;
	if (run->requests--)
		return;
	run->requests = (unsigned int)
		random_below(&run->rnd, 2 * run->cs->image_one_in);
	run_look_at_images(run, 1);
}

/* ---- a world ---- */

static int open_mapstore(struct cache *cache, struct loop *home,
			 struct bdev **bdevp, void *arg, struct volume **volp)
{
	struct run *run = arg;
	const struct crash_case *cs = run->cs;
	struct mapstore_params params = {
		.size = cs->size,
		.block_shift = (unsigned int)cs->block_shift,
		.mode = cs->mode,
		.delalloc = cs->ms_flags & CRASH_MS_DELALLOC,
		.scatter = cs->ms_flags & CRASH_MS_SCATTER,
		.extent_max = cs->ms_extent,
	};
	int ret = mapstore_open(cache, home, bdevp, &params, &run->ms);

	if (ret)
		return ret;
	run->ms->fua_by_write = cs->ms_flags & CRASH_MS_FUA_BY_WRITE;
	run->ms->no_zero = cs->ms_flags & CRASH_MS_NO_ZERO;
	run->ms->stale_one_in = (unsigned int)cs->ms_stale_one_in;
	run->ms->end_io_delay_ns = cs->ms_delay_ns;
	*volp = &run->ms->vol;
	return 0;
}

static void world_begin(struct run *run, const void *image)
{
	const struct crash_case *cs = run->cs;
	struct engine_params params = {
		.seed = random_u64(&run->rnd),
		.cache_size = cs->cache_pages << 12,
		.staging_max = cs->staging_pages << 12,
		.nr_shards = (unsigned int)cs->nr_shards,
		.dirty_background_pct = (unsigned int)cs->background_pct,
		.dirty_hard_pct = (unsigned int)cs->hard_pct,
		.vol = {
			.sim = {
				.seed = random_u64(&run->rnd),
				.size = cs->size,
				.block_size = (unsigned int)cs->disk_block,
				.latency_min_ns = cs->latency_min_ns,
				.latency_max_ns = cs->latency_max_ns,
				.sparse = cs->sparse,
				.space_max = cs->size / 100 * cs->space_pct,
				.write_cache = cs->write_cache,
				.short_one_in = (unsigned int)cs->short_one_in,
			},
			.image = image,
			.lacks = (unsigned int)cs->lacks,
			.mode = cs->mode,
			.block_shift = (unsigned int)cs->block_shift,
		},
	};

	if (cs->mapstore) {
		params.vol.sim.size = 3 * round_up64(cs->size, 1 << 16);
		params.vol.open = open_mapstore;
		params.vol.open_arg = run;
		params.vol.block_shift = 0;
	}
	run->engine = engine_start(&params);
	run->killed = false;
	run->fault_mask = 0;
	run->flush_refused = false;
	sim_set_observer(run->engine->bdev, observe, run);
	if (!oracle_restart(run->oracle, image))
		run_fail(run, "%s", oracle_message(run->oracle));
}

static void client_co(void *arg)
{
	struct client *client = arg;
	struct run *run = client->run;

	while (client->next < run->cs->nr_ops && !run_over(run)) {
		const struct crash_op *op = &run->cs->ops[client->next++];

		if (op->client != client->nr)
			continue;
		if (op->delay_ns)
			coroutine_sleep_ns(op->delay_ns);
		if (run_over(run))
			break;
		client->op = op;
		crash_op_run(client, op);
		client->op = NULL;
		run->progress++;
		run->stats->ops++;
	}
}

/* Have the clients work until they have done all, or the world ends. */
static void work_co(void *arg)
{
	struct run *run = arg;
	uint64_t progress = run->progress, since = clock_now_ns();

	for (unsigned int i = 0; i < CRASH_CLIENTS_MAX; i++)
		engine_spawn(run->engine, client_co, &run->clients[i]);
	while (run->engine->nr_running && !run_over(run)) {
		coroutine_sleep_ns(POLL_NS);
		if (run->progress != progress) {
			progress = run->progress;
			since = clock_now_ns();
		} else if (clock_now_ns() - since > STUCK_NS) {
			run_fail(run, "stuck");
		}
	}
}

/* ---- after a crash ---- */

static void read_all_co(void *arg)
{
	crash_read_all(arg);
}

/* The power was cut, or the process was killed: boot from what is left. */
static void world_again(struct run *run)
{
	uint64_t size = run->cs->size;
	char *image = malloc(size);

	if (!image)
		abort();
	if (!run->killed) {
		/* The cut has settled it. */
		run_peek(run);
		if (!oracle_check_image(run->oracle, ORACLE_CUT, run->image))
			run_fail(run, "%s", oracle_message(run->oracle));
	}
	memcpy(image, run->image, size);
	run->stats->faults += sim_faults_fired(run->engine->bdev);
	if (!run->failed) {
		engine_abandon(&run->engine);
		world_begin(run, image);
		run->stats->reboots++;
	}
	free(image);
	if (!run->failed)
		engine_run(run->engine, read_all_co, run);
}

/* ---- the end ---- */

static void quiesce_co(void *arg)
{
	static const struct crash_op flush = { .kind = CRASH_FLUSH };
	struct run *run = arg;
	struct volume *vol = run->engine->vol;
	struct bdev *bdev = run->engine->bdev;
	int ret;

	for (int op = 0; op < BDEV_NR_OPS; op++) {
		sim_set_fault(bdev, (enum bdev_op)op, 0, 0, 0, false);
		sim_set_stall(bdev, (enum bdev_op)op, false);
	}
	ret = volume_flush(vol);
	/* The last faults may have been on their way. */
	if (ret)
		ret = volume_flush(vol);
	if (ret && !bdev->flush_failed)
		run_fail(run, "FLUSH does not recover: %s", strerror(-ret));
	if (run->cs->mode != VOLUME_UNSAFE && (vol->dirty_bytes ||
					       vol->inflight_bytes))
		run_fail(run, "dirty after FLUSH");
	if (!ret)
		crash_op_run(&run->clients[0], &flush);
	crash_read_all(run);
	do
		coroutine_sleep_ns(POLL_NS);
	while (__atomic_load_n(&vol->nr_background, __ATOMIC_ACQUIRE) ||
	       __atomic_load_n(&vol->inflight_bytes, __ATOMIC_ACQUIRE));
	engine_check(run->engine, true);
}

struct compare {
	struct run	*run;
	struct engine	*engine;
	const char	*image;
};

static void compare_co(void *arg)
{
	struct compare *compare = arg;
	struct run *run = compare->run;
	uint64_t step = run->cs->max_read;
	char *buf = malloc(step);

	if (!buf)
		abort();
	for (uint64_t pos = 0; pos < run->cs->size; pos += step) {
		uint64_t len = MIN(step, run->cs->size - pos);
		int ret = volume_pread(compare->engine->vol, buf,
				       (uint32_t)len, pos);

		if (ret)
			run_fail(run, "reading after a reboot: %s",
				 strerror(-ret));
		else if (memcmp(buf, compare->image + pos, len))
			run_fail(run, "after a reboot the engine reads other "
				 "bytes than the disk has, in %" PRIu64
				 " bytes at %" PRIu64, len, pos);
	}
	free(buf);
}

/* An image that the oracle has seen and liked is what the engine reads. */
static void boot_saved(struct run *run, const char *image)
{
	struct engine_params params = run->engine->params;
	struct compare compare = { .run = run, .image = image };

	params.vol.image = image;
	compare.engine = engine_start(&params);
	engine_run(compare.engine, compare_co, &compare);
	engine_check(compare.engine, true);
	if (engine_stop(&compare.engine))
		run_fail(run, "cannot stop after a reboot");
	run->stats->reboots++;
}

static void world_end(struct run *run)
{
	bool failed;
	int ret;

	engine_run(run->engine, quiesce_co, run);
	if (run->failed)
		return;
	if (run->ms && !mapstore_check(run->ms, !run->engine->vol->dirty_bytes))
		run_fail(run, "the map does not hold together");
	for (unsigned int i = 0; i < SAVED_MAX && !run->failed; i++) {
		if (run->saved[i])
			boot_saved(run, run->saved[i]);
	}
	run->stats->faults += sim_faults_fired(run->engine->bdev);
	failed = run->engine->bdev->flush_failed;
	ret = engine_stop(&run->engine);
	if (ret && !failed)
		run_fail(run, "cannot stop: %s", strerror(-ret));
}

static void run_init(struct run *run, const struct crash_case *cs,
		     struct crash_stats *stats)
{
	memset(run, 0, sizeof(*run));
	run->cs = cs;
	run->stats = stats;
	random_init(&run->rnd, cs->seed ^ UINT64_C(0x6372617368));
	run->image = malloc(cs->size);
	if (!run->image)
		abort();
	run->oracle = oracle_new(cs->size, (unsigned int)cs->granule, cs->mode);
	for (unsigned int i = 0; i < CRASH_CLIENTS_MAX; i++) {
		run->clients[i].run = run;
		run->clients[i].nr = i;
	}
}

static void run_fini(struct run *run)
{
	oracle_free(run->oracle);
	free(run->image);
	for (unsigned int i = 0; i < SAVED_MAX; i++)
		free(run->saved[i]);
}

bool crash_run(const struct crash_case *cs, struct crash_stats *stats)
{
	struct run run;
	bool again = true;

	run_init(&run, cs, stats);
	world_begin(&run, NULL);
	while (again && !run.failed) {
		engine_run(run.engine, work_co, &run);
		/* A cut that has not come by now would come in the end. */
		sim_set_power_cut(run.engine->bdev, 0);
		again = run_over(&run);
		if (again && !run.failed)
			world_again(&run);
	}
	if (!run.failed)
		world_end(&run);
	/* After a failure coroutines still stand on what would be freed. */
	if (!run.failed)
		run_fini(&run);
	return !run.failed;
}
