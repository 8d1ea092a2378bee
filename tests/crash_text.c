/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash_text.c - a case as text, one item a line, for --replay:
 *
 *	seed 17
 *	mode writeback
 *	...
 *	op CLIENT KIND POS LEN FLAGS DELAY_NS ARG
 *	end
 */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "tests/crash.h"

const char *const crash_mode_names[6] = {
	[VOLUME_WRITEBACK]	= "writeback",
	[VOLUME_WRITETHROUGH]	= "writethrough",
	[VOLUME_WRITEOUT]	= "writeout",
	[VOLUME_NONE]		= "none",
	[VOLUME_DIRECTSYNC]	= "directsync",
	[VOLUME_UNSAFE]		= "unsafe",
};

static const char *const kind_names[CRASH_NR_KINDS] = {
	[CRASH_READ]		= "read",
	[CRASH_WRITE]		= "write",
	[CRASH_STAGE]		= "stage",
	[CRASH_DROP]		= "drop",
	[CRASH_FLUSH]		= "flush",
	[CRASH_TRIM]		= "trim",
	[CRASH_ZERO]		= "zero",
	[CRASH_PREFETCH]	= "prefetch",
	[CRASH_EXTENTS]		= "extents",
	[CRASH_IMAGE]		= "image",
	[CRASH_STALL]		= "stall",
	[CRASH_FAULT]		= "fault",
	[CRASH_HEAL]		= "heal",
	[CRASH_CUT]		= "cut",
	[CRASH_KILL]		= "kill",
};

static const struct {
	const char	*name;
	size_t		offset;
} fields[] = {
#define FIELD(name)	{ #name, offsetof(struct crash_case, name) }
	FIELD(seed), FIELD(size), FIELD(granule), FIELD(block_shift),
	FIELD(cache_pages), FIELD(staging_pages), FIELD(nr_shards),
	FIELD(background_pct), FIELD(hard_pct), FIELD(disk_block),
	FIELD(latency_min_ns), FIELD(latency_max_ns), FIELD(sparse),
	FIELD(space_pct), FIELD(write_cache), FIELD(short_one_in),
	FIELD(lacks), FIELD(max_read), FIELD(images), FIELD(image_one_in),
	FIELD(mapstore), FIELD(ms_flags), FIELD(ms_extent),
	FIELD(ms_stale_one_in), FIELD(ms_delay_ns),
#undef FIELD
};

void crash_op_write(const struct crash_op *op, FILE *file)
{
	fprintf(file, "op %" PRIu32 " %s %" PRIu64 " %" PRIu64 " %#" PRIx32
		" %" PRIu64 " %" PRIu64 "\n", op->client, kind_names[op->kind],
		op->pos, op->len, op->flags, op->delay_ns, op->arg);
}

void crash_case_write(const struct crash_case *cs, FILE *file)
{
	fprintf(file, "mode %s\n", crash_mode_names[cs->mode]);
	for (unsigned int i = 0; i < ARRAY_SIZE(fields); i++)
		fprintf(file, "%s %" PRIu64 "\n", fields[i].name,
			*(const uint64_t *)((const char *)cs +
					    fields[i].offset));
	for (unsigned int i = 0; i < cs->nr_ops; i++)
		crash_op_write(&cs->ops[i], file);
	fprintf(file, "end\n");
}

/* Index of @name among @names, or -1. */
static int find_name(const char *const *names, unsigned int nr,
		     const char *name)
{
	for (unsigned int i = 0; i < nr; i++) {
		if (!strcmp(names[i], name))
			return (int)i;
	}
	return -1;
}

static bool read_op(const char *line, struct crash_op *op)
{
	char kind[16];
	int i;

	if (sscanf(line, "op %" SCNu32 " %15s %" SCNu64 " %" SCNu64 " %" SCNx32
		   " %" SCNu64 " %" SCNu64, &op->client, kind, &op->pos,
		   &op->len, &op->flags, &op->delay_ns, &op->arg) != 7)
		return false;
	i = find_name(kind_names, ARRAY_SIZE(kind_names), kind);
	op->kind = (enum crash_kind)i;
	return i >= 0 && op->client < CRASH_CLIENTS_MAX;
}

static bool read_field(const char *name, const char *value,
		       struct crash_case *cs)
{
	char *end;

	if (!strcmp(name, "mode")) {
		int i = find_name(crash_mode_names,
				  ARRAY_SIZE(crash_mode_names), value);

		cs->mode = (enum volume_mode)i;
		return i >= 0;
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(fields); i++) {
		if (strcmp(fields[i].name, name))
			continue;
		*(uint64_t *)((char *)cs + fields[i].offset) =
			strtoull(value, &end, 10);
		return *end == '\0';
	}
	return false;
}

static void add_op(struct crash_case *cs, const struct crash_op *op)
{
	cs->ops = realloc(cs->ops, (cs->nr_ops + 1) * sizeof(*op));
	if (!cs->ops)
		abort();
	cs->ops[cs->nr_ops++] = *op;
}

int crash_case_read(struct crash_case *cs, FILE *file)
{
	char line[256], name[32], value[32];
	unsigned int nr = 0;

	memset(cs, 0, sizeof(*cs));
	while (fgets(line, sizeof(line), file)) {
		struct crash_op op;

		nr++;
		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (!strcmp(line, "end\n"))
			return 0;
		if (!strncmp(line, "op ", 3) && read_op(line, &op)) {
			add_op(cs, &op);
			continue;
		}
		if (sscanf(line, "%31s %31s", name, value) == 2 &&
		    read_field(name, value, cs))
			continue;
		fprintf(stderr, "line %u: not an item of a case: %s", nr, line);
		return -EINVAL;
	}
	fprintf(stderr, "line %u: the case does not end with \"end\"\n", nr);
	return -EINVAL;
}

void crash_case_fini(struct crash_case *cs)
{
	free(cs->ops);
	cs->ops = NULL;
	cs->nr_ops = 0;
}
