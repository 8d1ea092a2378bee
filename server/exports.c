/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * exports.c - opening and closing what is exported.
 *
 * What clients see of an export is export.c's and the handshake's.
 */
#include "server/exports.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "server/loops.h"
#include "store/raw.h"

#define BLOCK_PREFERRED		4096
#define BLOCK_MAX		(UINT32_C(32) << 20)

int exports_init(struct export_table *table, unsigned int nr)
{
	*table = (struct export_table){ .default_export = -1 };
	table->exports = calloc(nr, sizeof(*table->exports));
	return table->exports ? 0 : -ENOMEM;
}

void exports_fini(struct export_table *table)
{
	assert(!table->nr);
	free(table->exports);
	table->exports = NULL;
}

/* ---- opening ---- */

/* All of it on the first loop, in a coroutine. */
struct opening {
	struct export_table	*table;
	const struct options	*opt;
	struct cache		*cache;
	struct loops		*loops;
	const bool		*stop;
	int			ret;
};

/* Its description, with the UUID of what is behind it; NULL: no memory. */
static char *describe(const struct export_option *opt)
{
	const char *text = opt->description ? opt->description : "";
	char uuid[UUID_TEXT_SIZE], *description;
	int ret = 0;

	memcpy(uuid, opt->uuid, sizeof(uuid));
	if (!uuid[0])
		ret = uuid_of_path(opt->path, uuid);
	if (ret) {
		log_warn("%s: has no UUID: %s; give it one with uuid=",
			 opt->path, strerror(-ret));
		return strdup(text);
	}
	log_debug("export '%s' (%s) has the UUID %s", opt->name, opt->path,
		  uuid);
	if (asprintf(&description, "%s%s[uuid %s]", text, *text ? " " : "",
		     uuid) < 0)
		return NULL;
	return description;
}

static int export_init(struct export *export, const struct export_option *opt,
		       struct volume *vol)
{
	uint32_t block_min = opt->block_min ? opt->block_min : 1;

	export->vol = vol;
	export->name = strdup(opt->name);
	export->description = describe(opt);
	export->read_only = opt->read_only || vol->read_only;
	export->block_min = block_min;
	export->block_preferred = MAX(block_min, (uint32_t)BLOCK_PREFERRED);
	export->block_max = BLOCK_MAX;
	export->tls = opt->tls;
	if (access_copy(&export->access, &opt->access) || !export->name ||
	    !export->description) {
		log_error("%s: %s", opt->path, strerror(ENOMEM));
		return -ENOMEM;
	}
	if (vol->size % block_min) {
		log_error("%s: its size, %llu bytes, is not a multiple of "
			  "block-size=%u; use one that it is a multiple of",
			  opt->path, (unsigned long long)vol->size, block_min);
		return -EINVAL;
	}
	return 0;
}

static int open_export(struct opening *op, const struct export_option *opt)
{
	const struct raw_params params = {
		.mode = opt->mode, .read_only = opt->read_only,
	};
	struct export_table *table = op->table;
	struct volume *vol;
	char msg[1024];
	bool hint;
	int ret;

	snprintf(msg, sizeof(msg), "%s: cannot be opened", opt->path);
	ret = raw_open(op->cache, loops_next_home(op->loops), opt->path,
		       &params, &vol, msg, sizeof(msg));
	if (ret) {
		hint = !opt->read_only && access(opt->path, R_OK) == 0 &&
		       (ret == -EROFS || ret == -EACCES || ret == -EPERM);
		log_error("%s%s", msg, hint ? ": add --read-only" : "");
		return ret;
	}
	table->asks_groups |= access_asks_groups(&opt->access);
	table->nr_tls_only += opt->tls == TLS_REQUIRE;
	table->nr_plain_only += opt->tls == TLS_OFF;
	/* From here on, exports_close() knows it. */
	return export_init(&table->exports[table->nr++], opt, vol);
}

static void open_all(void *arg)
{
	struct opening *op = arg;
	const struct options *opt = op->opt;

	for (unsigned int i = 0; i < opt->nr_exports && !op->ret; i++) {
		if (op->stop && *op->stop)
			return;
		op->ret = open_export(op, &opt->exports[i]);
	}
	op->table->default_export = opt->default_export;
}

int exports_open(struct export_table *table, const struct options *opt,
		 struct cache *cache, struct loops *loops, const bool *stop)
{
	struct opening op = {
		.table = table, .opt = opt, .cache = cache, .loops = loops,
		.stop = stop,
	};
	int ret = loops_run_coroutine(loops, open_all, &op);

	return ret ? ret : op.ret;
}

/* ---- another size ---- */

static void revalidate_all(void *arg)
{
	struct export_table *table = arg;

	for (unsigned int i = 0; i < table->nr; i++)
		export_resize(&table->exports[i]);
	table->nr_resizing--;
}

void exports_revalidate(struct export_table *table)
{
	table->nr_resizing++;
	if (coroutine_start(revalidate_all, table)) {
		table->nr_resizing--;
		log_error("the sizes of exports are not looked at: %s",
			  strerror(ENOMEM));
	}
}

/* ---- closing ---- */

struct closing {
	struct export_table	*table;
	int			ret;
};

static int close_export(struct export *export)
{
	/* The volume's name ends with it. */
	char *path = strdup(export->vol->name);
	int ret = volume_stop(export->vol);

	if (ret)
		log_error("data of export '%s' (%s) could not be written: %s",
			  export->name, path ? path : "", strerror(-ret));
	free(path);
	free(export->name);
	free(export->description);
	access_fini(&export->access);
	*export = (struct export){ 0 };
	return ret;
}

static void close_all(void *arg)
{
	struct closing *closing = arg;
	struct export_table *table = closing->table;

	while (table->nr_resizing)
		coroutine_sleep_ns(NSEC_PER_MSEC);
	for (unsigned int i = 0; i < table->nr; i++) {
		int ret = close_export(&table->exports[i]);

		if (!closing->ret)
			closing->ret = ret;
	}
	table->nr = 0;
	table->nr_tls_only = table->nr_plain_only = 0;
}

int exports_close(struct export_table *table, struct loops *loops)
{
	struct closing closing = { .table = table };
	int ret = loops_run_coroutine(loops, close_all, &closing);

	return ret ? ret : closing.ret;
}
