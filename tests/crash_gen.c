/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash_gen.c - a case from a seed.
 *
 * Small volumes, a hot corner and many clients, so that requests collide; now
 * and then sizes, caches and latencies at the edges.
 */
#include <string.h>

#include "cache/folio.h"
#include "tests/crash.h"

struct gen {
	struct random		rnd;
	struct crash_case	*cs;
	uint32_t		nr_clients;
	uint64_t		hot;		/* bytes of the corner */
	bool			faulty, crashes;
	/* A storm: much of one kind, and the background writes all it can. */
	bool			stormy;
	enum crash_kind		favourite;
};

static uint64_t below(struct gen *gen, uint64_t bound)
{
	return random_below(&gen->rnd, bound);
}

static bool one_in(struct gen *gen, uint64_t n)
{
	return random_one_in(&gen->rnd, n);
}

static uint64_t between(struct gen *gen, uint64_t min, uint64_t max)
{
	return min + below(gen, max - min + 1);
}

/* ---- the environment ---- */

static void gen_disk(struct gen *gen)
{
	struct crash_case *cs = gen->cs;

	cs->latency_min_ns = one_in(gen, 3) ? 0 : between(gen, 1000, 50000);
	cs->latency_max_ns = cs->latency_min_ns +
			     (one_in(gen, 8) ? 0 : between(gen, 1000, 500000));
	cs->sparse = one_in(gen, 2);
	if (cs->sparse && one_in(gen, 4))
		cs->space_pct = between(gen, 20, 90);
	cs->write_cache = !one_in(gen, 8);
	cs->short_one_in = one_in(gen, 2) ? 0 : between(gen, 1, 6);
	if (one_in(gen, 4))
		cs->lacks = below(gen, 8);
	cs->disk_block = one_in(gen, 2) ? 512 :
			 UINT64_C(512) << below(gen, cs->block_shift - 8);
}

static void gen_volume(struct gen *gen)
{
	struct crash_case *cs = gen->cs;

	cs->granule = one_in(gen, 8) ? 64 : 512;
	cs->block_shift = one_in(gen, 2) ? 12 : between(gen, 9, 12);
	cs->size = between(gen, 16, one_in(gen, 4) ? 512 : 96) * FRAME_SIZE;
	/* A last block, and perhaps a last sector, that is not whole. */
	if (one_in(gen, 3))
		cs->size -= between(gen, 1, FRAME_SIZE / cs->granule - 1) *
			    cs->granule;
}

/* Each client may pin so much that all together leave room for the rest. */
static void gen_cache(struct gen *gen)
{
	struct crash_case *cs = gen->cs;

	cs->nr_shards = 1;
	cs->cache_pages = one_in(gen, 3) ? between(gen, 64, 128) :
					   between(gen, 128, 1024);
	if (one_in(gen, 12)) {
		cs->nr_shards = 4;
		cs->cache_pages = 4096;
	}
	cs->staging_pages = between(gen, 80, 512);
	cs->background_pct = one_in(gen, 2) ? 0 : between(gen, 1, 40);
	if (gen->stormy)
		cs->background_pct = 1;
	cs->hard_pct = one_in(gen, 2) ? 0 : between(gen, 5, 80);
	cs->max_read = MAX(cs->cache_pages / (4 * gen->nr_clients),
			   UINT64_C(1)) * FRAME_SIZE;
}

/* A quarter of the cases; not with modes that go around the cache. */
static void gen_mapstore(struct gen *gen)
{
	struct crash_case *cs = gen->cs;

	if (cs->mode == VOLUME_NONE || cs->mode == VOLUME_DIRECTSYNC ||
	    !one_in(gen, 4))
		return;
	cs->mapstore = 1;
	gen->crashes = false;
	cs->block_shift = 12;
	cs->disk_block = 512;
	/* Its device does not end where the volume does. */
	cs->size = round_down64(cs->size, 512);
	cs->sparse = cs->space_pct = 0;
	cs->ms_flags = below(gen, 16);
	if (one_in(gen, 2))
		cs->ms_extent = between(gen, 1, 16) * FRAME_SIZE;
	if (one_in(gen, 2))
		cs->ms_stale_one_in = between(gen, 2, 20);
	if (one_in(gen, 2))
		cs->ms_delay_ns = between(gen, 1, 500000);
}

static enum volume_mode gen_mode(struct gen *gen, int wanted)
{
	static const enum volume_mode modes[] = {
		VOLUME_WRITEBACK, VOLUME_WRITEBACK, VOLUME_WRITEBACK,
		VOLUME_WRITEBACK, VOLUME_WRITEOUT, VOLUME_WRITEOUT,
		VOLUME_WRITETHROUGH, VOLUME_NONE, VOLUME_DIRECTSYNC,
		VOLUME_UNSAFE,
	};
	enum volume_mode mode = modes[below(gen, ARRAY_SIZE(modes))];

	return wanted < 0 ? mode : (enum volume_mode)wanted;
}

/* ---- operations ---- */

/* Where: the hot corner, anywhere, or the end; whole pages more often. */
static uint64_t gen_pos(struct gen *gen)
{
	const struct crash_case *cs = gen->cs;
	uint64_t unit = one_in(gen, 2) ? FRAME_SIZE : cs->granule;
	uint64_t room = cs->size, pos;

	if (one_in(gen, 2))
		room = MIN(room, gen->hot);
	pos = below(gen, room / unit) * unit;
	if (one_in(gen, 10))
		pos = cs->size - MIN(cs->size, between(gen, 1, 24) *
				     cs->granule);
	return pos;
}

static uint64_t gen_len(struct gen *gen, uint64_t pos)
{
	const struct crash_case *cs = gen->cs;
	uint64_t len;

	switch (below(gen, 10)) {
	case 0: case 1: case 2:
		len = between(gen, 1, 7) * cs->granule;
		break;
	case 3: case 4: case 5:
		len = FRAME_SIZE;
		break;
	case 6:
		len = between(gen, 1, 16) * FRAME_SIZE;
		break;
	case 7: case 8:
		len = between(gen, 1, (64 << 10) / cs->granule) * cs->granule;
		break;
	default:
		len = between(gen, 1, (300 << 10) / cs->granule) * cs->granule;
		break;
	}
	return MIN(len, cs->size - pos);
}

static const struct {
	enum crash_kind	kind;
	unsigned int	weight;
} weights[] = {
	{ CRASH_WRITE, 34 }, { CRASH_STAGE, 16 }, { CRASH_READ, 20 },
	{ CRASH_FLUSH, 9 }, { CRASH_TRIM, 6 }, { CRASH_ZERO, 6 },
	{ CRASH_PREFETCH, 2 }, { CRASH_EXTENTS, 1 }, { CRASH_DROP, 1 },
	{ CRASH_IMAGE, 3 }, { CRASH_STALL, 2 },
};

static enum crash_kind gen_kind(struct gen *gen)
{
	unsigned int sum = 0, i;
	uint64_t n;

	for (i = 0; i < ARRAY_SIZE(weights); i++)
		sum += weights[i].weight;
	if (gen->stormy && one_in(gen, 3))
		return gen->favourite;
	n = below(gen, sum);
	for (i = 0; n >= weights[i].weight; i++)
		n -= weights[i].weight;
	return weights[i].kind;
}

static uint64_t gen_delay(struct gen *gen)
{
	if (one_in(gen, 60))
		return 6 * NSEC_PER_SEC;
	if (one_in(gen, 2))
		return 0;
	return below(gen, 2 * gen->cs->latency_max_ns + 1000);
}

static enum bdev_op gen_device_op(struct gen *gen)
{
	static const enum bdev_op ops[] = {
		BDEV_WRITE, BDEV_WRITE, BDEV_WRITE, BDEV_FLUSH, BDEV_READ,
		BDEV_DISCARD, BDEV_ZERO, BDEV_ALLOCATE,
	};

	return ops[below(gen, ARRAY_SIZE(ops))];
}

static void gen_request(struct gen *gen, struct crash_op *op)
{
	op->pos = gen_pos(gen);
	op->len = gen_len(gen, op->pos);
	switch (op->kind) {
	case CRASH_READ:
		if (one_in(gen, 3))
			op->arg = below(gen, 2 * NSEC_PER_MSEC);
		break;
	case CRASH_TRIM:
	case CRASH_ZERO:
		/* Some as large as the volume. */
		if (one_in(gen, 6))
			op->len = gen->cs->size - op->pos;
		if (op->kind == CRASH_ZERO && one_in(gen, 2))
			op->flags |= VOLUME_NO_HOLE;
		if (op->kind == CRASH_ZERO && one_in(gen, 3))
			op->flags |= VOLUME_FAST_ZERO;
		__attribute__((fallthrough));
	case CRASH_WRITE:
	case CRASH_STAGE:
		if (one_in(gen, gen->stormy ? 3 : 7))
			op->flags |= VOLUME_FUA;
		break;
	case CRASH_STALL:
		op->pos = gen_device_op(gen);
		op->arg = between(gen, 10000, 5 * NSEC_PER_MSEC);
		break;
	case CRASH_IMAGE:
		op->len = between(gen, 1, 6);
		break;
	default:
		break;
	}
}

static void gen_op(struct gen *gen, struct crash_op *op)
{
	*op = (struct crash_op){
		.client = (uint32_t)below(gen, gen->nr_clients),
		.kind = gen_kind(gen),
		.delay_ns = gen_delay(gen),
	};
	if (gen->crashes && one_in(gen, 50)) {
		op->kind = one_in(gen, 3) ? CRASH_KILL : CRASH_CUT;
		op->arg = one_in(gen, 4) ? 0 : below(gen, 30);
	} else if (gen->faulty && one_in(gen, gen->stormy ? 8 : 30)) {
		op->kind = one_in(gen, 3) ? CRASH_HEAL : CRASH_FAULT;
		op->pos = gen_device_op(gen);
		op->arg = between(gen, 1, 10);
		op->len = one_in(gen, 2) ? 1 : between(gen, 2, 12);
		if (one_in(gen, 2))
			op->flags |= CRASH_PARTIAL;
		if (one_in(gen, 3))
			op->flags |= CRASH_ENOSPC;
		/* Of a FUA write this one does not cost the device's word. */
		if (gen->stormy && one_in(gen, 2)) {
			op->pos = BDEV_WRITE;
			op->flags |= CRASH_ENOSPC;
		}
	} else {
		gen_request(gen, op);
	}
}

static const enum crash_kind favourites[] = {
	CRASH_FLUSH, CRASH_FLUSH, CRASH_TRIM, CRASH_ZERO, CRASH_STALL,
};

void crash_generate(uint64_t seed, const struct crash_options *options,
		    struct crash_case *cs)
{
	struct gen gen = { .cs = cs };

	memset(cs, 0, sizeof(*cs));
	random_init(&gen.rnd, seed);
	cs->seed = seed;
	cs->mode = gen_mode(&gen, options->mode);
	gen.nr_clients = (uint32_t)(one_in(&gen, 8) ? 1 :
				    between(&gen, 2, CRASH_CLIENTS_MAX));
	gen.faulty = one_in(&gen, 3);
	gen.crashes = one_in(&gen, 3);
	gen.stormy = one_in(&gen, 3);
	gen.favourite = favourites[below(&gen, ARRAY_SIZE(favourites))];
	gen.hot = FRAME_SIZE * (one_in(&gen, 3) ? 3 : 16);
	gen_volume(&gen);
	gen_disk(&gen);
	gen_cache(&gen);
	gen_mapstore(&gen);
	cs->images = between(&gen, 1, 4);
	cs->image_one_in = between(&gen, 4, 40);
	cs->nr_ops = options->nr_ops ? options->nr_ops :
		     (unsigned int)between(&gen, 20, 200);
	cs->ops = calloc(cs->nr_ops, sizeof(*cs->ops));
	if (!cs->ops)
		abort();
	for (unsigned int i = 0; i < cs->nr_ops; i++)
		gen_op(&gen, &cs->ops[i]);
}
