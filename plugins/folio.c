/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * folio.c - foliod's engine as a plugin of nbdkit.
 *
 * nbdkit speaks the protocol and has a thread for each request; this file turns
 * its callbacks into calls of the door, and errors into what nbdkit wants to
 * hear.  Nothing is kept per request, and per connection only the door.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "base/base.h"
#include "base/limits.h"
#include "base/suggest.h"
#include "cache/cache.h"
#include "plugins/door.h"
#include "plugins/runner.h"

#define THREAD_MODEL	NBDKIT_THREAD_MODEL_PARALLEL

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION	"(built by hand)"
#endif

#define THREADS_MAX	256u
#define BLOCK_PREFERRED	4096u
#define BLOCK_MAX	(UINT32_C(32) << 20)
#define EXTENTS_MAX	128u
#define MESSAGE_MAX	1024

/* Declared nowhere, and looked for by nbdkit. */
struct nbdkit_plugin *plugin_init(void);

static const char *const mode_names[] = VOLUME_MODE_NAMES;

enum key {
	KEY_FILE, KEY_MODE, KEY_CACHE_SIZE, KEY_THREADS, KEY_READ_ONLY, NR_KEYS,
};

static const char *const key_names[NR_KEYS] = {
	[KEY_FILE]		= "file",
	[KEY_MODE]		= "mode",
	[KEY_CACHE_SIZE]	= "cache-size",
	[KEY_THREADS]		= "threads",
	[KEY_READ_ONLY]		= "read-only",
};

/* Set while the parameters are read. */
static char *path;			/* absolute: nbdkit changes directory */
static const char *name;		/* the export's: the last part of path */
static struct runner_params params;	/* 0: the default */

static struct runner *runner;		/* from get_ready on */

/* ---- errors ---- */

/* Hand @err to nbdkit, which knows some errors only.  Returns -1. */
static int set_error(int err)
{
	switch (err) {
	case -EPERM:
	case -EINVAL:
	case -ENOMEM:
	case -ENOSPC:
	case -EOPNOTSUPP:
		break;
	case -EDQUOT:
	case -EFBIG:
		err = -ENOSPC;
		break;
	default:
		err = -EIO;
	}
	nbdkit_set_error(-err);
	return -1;
}

/* The same, having said what could not be done. */
static int request_failed(const char *what, uint32_t len, uint64_t pos, int err)
{
	if (!err)
		return 0;
	nbdkit_error("%s: cannot %s %u bytes at %llu: %s", path, what, len,
		     (unsigned long long)pos, strerror(-err));
	return set_error(err);
}

/* What the engine says beside any request. */
static void log_to_nbdkit(enum log_level level, const char *text)
{
	if (level == LOG_ERROR_LEVEL)
		nbdkit_error("%s", text);
	else if (level == LOG_WARN_LEVEL)
		nbdkit_error("warning: %s", text);
	else
		nbdkit_debug("%s", text);
}

/* ---- parameters ---- */

static int set_file(const char *value)
{
	const char *slash;

	if (path) {
		nbdkit_error("file=%s: there is one file only, and file=%s was "
			     "given before", value, path);
		return -1;
	}
	if (!*value) {
		nbdkit_error("file= is empty");
		return -1;
	}
	path = nbdkit_absolute_path(value);
	if (!path)
		return -1;
	slash = strrchr(path, '/');
	name = slash ? slash + 1 : path;
	return 0;
}

static int set_mode(const char *value)
{
	const char *near;

	for (unsigned int i = 0; i < ARRAY_SIZE(mode_names); i++) {
		if (strcmp(value, mode_names[i]) == 0) {
			params.mode = i;
			return 0;
		}
	}
	near = suggest(value, mode_names, ARRAY_SIZE(mode_names));
	nbdkit_error("mode=%s: unknown mode%s%s%s; the modes are writeback, "
		     "writethrough, writeout, none, directsync and unsafe",
		     value, near ? ", did you mean '" : "", near ? near : "",
		     near ? "'?" : "");
	return -1;
}

static int set_cache_size(const char *value)
{
	if (size_parse(value, &params.cache_size)) {
		nbdkit_error("cache-size=%s is not a size such as 512M or 2G",
			     value);
		return -1;
	}
	if (params.cache_size < CACHE_SIZE_MIN) {
		nbdkit_error("cache-size=%s is below the minimum of 16M",
			     value);
		return -1;
	}
	return 0;
}

static int set_threads(const char *value)
{
	uint64_t nr;

	if (number_parse(value, 1, THREADS_MAX, &nr)) {
		nbdkit_error("threads=%s is not a number of threads from 1 to "
			     "%u", value, THREADS_MAX);
		return -1;
	}
	params.threads = (unsigned int)nr;
	return 0;
}

static int set_read_only(const char *value)
{
	int ret = nbdkit_parse_bool(value);

	params.read_only = ret == 1;
	return ret < 0 ? -1 : 0;
}

static int unknown_key(const char *key)
{
	const char *near = suggest(key, key_names, NR_KEYS);

	nbdkit_error("unknown parameter '%s'%s%s%s; the parameters are file, "
		     "mode, cache-size, threads and read-only", key,
		     near ? ", did you mean '" : "", near ? near : "",
		     near ? "'?" : "");
	return -1;
}

static int folio_config(const char *key, const char *value)
{
	unsigned int i;

	for (i = 0; i < NR_KEYS; i++)
		if (strcmp(key, key_names[i]) == 0)
			break;
	switch (i) {
	case KEY_FILE:
		return set_file(value);
	case KEY_MODE:
		return set_mode(value);
	case KEY_CACHE_SIZE:
		return set_cache_size(value);
	case KEY_THREADS:
		return set_threads(value);
	case KEY_READ_ONLY:
		return set_read_only(value);
	default:
		return unknown_key(key);
	}
}

static int folio_config_complete(void)
{
	uint64_t least;
	char size[32];

	if (!path) {
		nbdkit_error("what is to be served is missing: give file=PATH");
		return -1;
	}
	params.path = path;
	if (!params.threads)
		params.threads = MIN(limits_cpus(), THREADS_MAX);
	if (!params.cache_size)
		params.cache_size = cache_default_size(limits_memory(),
						       params.threads);
	least = params.threads * CACHE_SIZE_PER_THREAD;
	if (params.cache_size < least) {
		nbdkit_error("cache-size: %u threads need at least %s, 4M "
			     "each; or use fewer threads", params.threads,
			     size_to_text(least, size, sizeof(size)));
		return -1;
	}
	return 0;
}

#define CONFIG_HELP \
	"file=PATH      (required) the file or block device to serve\n" \
	"mode=MODE      how writes reach the disk: writeback (default),\n" \
	"               writethrough, writeout, none, directsync or unsafe\n" \
	"cache-size=SIZE\n" \
	"               memory for cached data (default: a quarter of the\n" \
	"               machine's, at most 4G; at least 16M, 4M a thread)\n" \
	"threads=N      threads that do what waits for the disk (default: as\n" \
	"               many as there are processors)\n" \
	"read-only=BOOL open the file only to read, beside other readers"

static void folio_dump_plugin(void)
{
	printf("folio_modes=");
	for (unsigned int i = 0; i < ARRAY_SIZE(mode_names); i++)
		printf("%s%s", i ? " " : "", mode_names[i]);
	printf("\nfolio_parameters=");
	for (unsigned int i = 0; i < NR_KEYS; i++)
		printf("%s%s", i ? " " : "", key_names[i]);
	printf("\nfolio_cache_size_min=%llu\n",
	       (unsigned long long)CACHE_SIZE_MIN);
}

/* ---- life ---- */

static void folio_load(void)
{
	log_set_sink(log_to_nbdkit);
}

static int folio_get_ready(void)
{
	char msg[MESSAGE_MAX];
	int ret = runner_open(&params, &runner, msg, sizeof(msg));
	bool hint;

	if (!ret)
		return 0;
	hint = !params.read_only &&
	       (ret == -EROFS || ret == -EACCES || ret == -EPERM);
	nbdkit_error("%s%s", msg, hint ? "; to serve it only to be read, add "
		     "read-only=true" : "");
	return -1;
}

static int folio_after_fork(void)
{
	char msg[MESSAGE_MAX];

	if (!runner_start(runner, msg, sizeof(msg)))
		return 0;
	nbdkit_error("%s", msg);
	return -1;
}

/* No connection is left. */
static void folio_cleanup(void)
{
	int ret;

	if (!runner || !runner_volume(runner))
		return;
	ret = runner_stop(runner);
	if (ret)
		nbdkit_error("%s: data could not be written: %s", path,
			     strerror(-ret));
}

static void folio_unload(void)
{
	runner_close(&runner);
	log_set_sink(NULL);
	free(path);
}

/* ---- exports ---- */

static int folio_list_exports(int readonly, int is_tls,
			      struct nbdkit_exports *exports)
{
	(void)readonly;
	(void)is_tls;
	return nbdkit_add_export(exports, name, NULL);
}

static const char *folio_default_export(int readonly, int is_tls)
{
	(void)readonly;
	(void)is_tls;
	return name;
}

static const char *folio_export_description(void *handle)
{
	(void)handle;
	return nbdkit_printf_intern("%s, served by foliod's engine in mode %s",
				    name, mode_names[params.mode]);
}

static void *folio_open(int readonly)
{
	const char *asked = nbdkit_export_name();
	struct door *door;

	(void)readonly;
	if (!asked)
		return NULL;
	if (*asked && strcmp(asked, name) != 0) {
		nbdkit_error("there is no export '%s', only '%s'", asked, name);
		nbdkit_set_error(ENOENT);
		return NULL;
	}
	door = calloc(1, sizeof(*door));
	if (!door) {
		nbdkit_error("%s: %s", path, strerror(ENOMEM));
		return NULL;
	}
	door->vol = runner_volume(runner);
	door->loop = runner_next_loop(runner);
	return door;
}

static void folio_close(void *handle)
{
	free(handle);
}

/* ---- what an export can ---- */

static const struct volume *volume_of(void *handle)
{
	return ((struct door *)handle)->vol;
}

static int64_t folio_get_size(void *handle)
{
	return (int64_t)volume_of(handle)->size;
}

static int folio_block_size(void *handle, uint32_t *minimum,
			    uint32_t *preferred, uint32_t *maximum)
{
	(void)handle;
	*minimum = 1;
	*preferred = BLOCK_PREFERRED;
	*maximum = BLOCK_MAX;
	return 0;
}

static int folio_is_rotational(void *handle)
{
	return volume_of(handle)->rotational;
}

static int folio_can_write(void *handle)
{
	return !volume_of(handle)->read_only;
}

/*
 * FLUSH, several connections, extents.  And on a file that is only read too, for
 * filters that take writes upon themselves: TRIM, where what cannot be unmapped
 * is zeroed; ZERO, and a fast one, which is refused at once if it would be slow.
 */
static int folio_yes(void *handle)
{
	(void)handle;
	return 1;
}

static int folio_can_fua(void *handle)
{
	(void)handle;
	return NBDKIT_FUA_NATIVE;
}

static int folio_can_cache(void *handle)
{
	(void)handle;
	return NBDKIT_CACHE_NATIVE;
}

/* ---- requests ---- */

static unsigned int volume_flags(uint32_t flags)
{
	return flags & NBDKIT_FLAG_FUA ? VOLUME_FUA : 0;
}

static int folio_pread(void *handle, void *buf, uint32_t count,
		       uint64_t offset, uint32_t flags)
{
	(void)flags;
	return request_failed("read", count, offset,
			      door_read(handle, buf, count, offset));
}

static int folio_pwrite(void *handle, const void *buf, uint32_t count,
			uint64_t offset, uint32_t flags)
{
	return request_failed("write", count, offset,
			      door_write(handle, buf, count, offset,
					 volume_flags(flags)));
}

static int folio_flush(void *handle, uint32_t flags)
{
	int ret = door_flush(handle);

	(void)flags;
	if (!ret)
		return 0;
	nbdkit_error("%s: cannot flush: %s", path, strerror(-ret));
	return set_error(ret);
}

static int folio_trim(void *handle, uint32_t count, uint64_t offset,
		      uint32_t flags)
{
	return request_failed("trim", count, offset,
			      door_trim(handle, count, offset,
					volume_flags(flags)));
}

static int folio_zero(void *handle, uint32_t count, uint64_t offset,
		      uint32_t flags)
{
	unsigned int vflags = volume_flags(flags);
	int ret;

	if (!(flags & NBDKIT_FLAG_MAY_TRIM))
		vflags |= VOLUME_NO_HOLE;
	if (flags & NBDKIT_FLAG_FAST_ZERO)
		vflags |= VOLUME_FAST_ZERO;
	ret = door_zero(handle, count, offset, vflags);
	/* Asked for, hence no error to speak of. */
	if (ret == -EOPNOTSUPP)
		return set_error(ret);
	return request_failed("zero", count, offset, ret);
}

static int folio_cache(void *handle, uint32_t count, uint64_t offset,
		       uint32_t flags)
{
	(void)flags;
	return request_failed("prefetch", count, offset,
			      door_prefetch(handle, count, offset));
}

/* As far as one call of the engine comes; nbdkit's clients ask on. */
static int folio_extents(void *handle, uint32_t count, uint64_t offset,
			 uint32_t flags, struct nbdkit_extents *extents)
{
	unsigned int nr = flags & NBDKIT_FLAG_REQ_ONE ? 1 : EXTENTS_MAX;
	struct volume_extent list[EXTENTS_MAX];
	int ret;

	ret = door_extents(handle, count, offset, list, &nr);
	if (ret)
		return request_failed("map", count, offset, ret);
	for (unsigned int i = 0; i < nr; i++) {
		uint32_t type = 0;

		if (list[i].hole)
			type |= NBDKIT_EXTENT_HOLE;
		if (list[i].zero)
			type |= NBDKIT_EXTENT_ZERO;
		if (nbdkit_add_extent(extents, offset, list[i].len, type))
			return -1;
		offset += list[i].len;
	}
	return 0;
}

static struct nbdkit_plugin plugin = {
	.name			= "folio",
	.longname		= "foliod's folio cache",
	.version		= PACKAGE_VERSION,
	.description		= "serve a file or block device through a cache in "
				  "user space",
	.load			= folio_load,
	.unload			= folio_unload,
	.config			= folio_config,
	.config_complete	= folio_config_complete,
	.config_help		= CONFIG_HELP,
	.magic_config_key	= "file",
	.dump_plugin		= folio_dump_plugin,
	.get_ready		= folio_get_ready,
	.after_fork		= folio_after_fork,
	.cleanup		= folio_cleanup,
	.list_exports		= folio_list_exports,
	.default_export		= folio_default_export,
	.export_description	= folio_export_description,
	.open			= folio_open,
	.close			= folio_close,
	.get_size		= folio_get_size,
	.block_size		= folio_block_size,
	.is_rotational		= folio_is_rotational,
	.can_write		= folio_can_write,
	.can_flush		= folio_yes,
	.can_trim		= folio_yes,
	.can_zero		= folio_yes,
	.can_fast_zero		= folio_yes,
	.can_fua		= folio_can_fua,
	.can_multi_conn		= folio_yes,
	.can_extents		= folio_yes,
	.can_cache		= folio_can_cache,
	.pread			= folio_pread,
	.pwrite			= folio_pwrite,
	.flush			= folio_flush,
	.trim			= folio_trim,
	.zero			= folio_zero,
	.cache			= folio_cache,
	.extents		= folio_extents,
};

NBDKIT_REGISTER_PLUGIN(plugin)
