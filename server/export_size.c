/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * export_size.c - exports whose file or device got another size from outside.
 *
 * Looking is an fstat(), done for each client that asks for an export and at
 * SIGHUP; taking the size over waits for what is under way, in a coroutine.
 */
#include <errno.h>
#include <string.h>

#include "server/conn_internal.h"
#include "server/export.h"

/* ---- one export ---- */

bool export_is_resized(struct export *export)
{
	int64_t size = volume_present_size(export->vol);
	uint64_t refused = __atomic_load_n(&export->refused_size,
					   __ATOMIC_RELAXED);

	/* What cannot be looked at, I/O will tell. */
	return size >= 0 && (uint64_t)size != volume_size(export->vol) &&
		(uint64_t)size + 1 != refused;
}

/* Said once, until it has another size again. */
static void refuse(struct export *export, uint64_t size, const char *why)
{
	log_error("%s: it has %llu bytes now, which %s: export '%s' stays at "
		  "%llu bytes", export->vol->name, (unsigned long long)size,
		  why, export->name,
		  (unsigned long long)volume_size(export->vol));
	__atomic_store_n(&export->refused_size, size + 1, __ATOMIC_RELAXED);
}

static void tell(const struct export *export, uint64_t size, uint64_t lost)
{
	log_info("export '%s' has %llu bytes now", export->name,
		 (unsigned long long)size);
	if (lost)
		log_warn("%s was made smaller: %llu bytes that clients have "
			 "written and that lay behind its new end are lost",
			 export->vol->name, (unsigned long long)lost);
}

void export_resize(struct export *export)
{
	int64_t size = volume_present_size(export->vol);
	uint64_t lost;
	int ret;

	if (size < 0 || (uint64_t)size == volume_size(export->vol))
		return;
	if ((uint64_t)size % export->block_min) {
		refuse(export, (uint64_t)size,
		       "is not a multiple of its block-size");
		return;
	}
	ret = volume_resize(export->vol, (uint64_t)size, &lost);
	if (ret > 0) {
		__atomic_store_n(&export->refused_size, 0, __ATOMIC_RELAXED);
		tell(export, (uint64_t)size, lost);
	} else if (ret < 0 && ret != -EAGAIN) {
		log_error("%s: its size, now %llu bytes, cannot be taken over: "
			  "%s", export->vol->name, (unsigned long long)size,
			  strerror(-ret));
	}
}

/* ---- for a client that asks ---- */

struct size_wait {
	struct conn	*conn;
	struct export	*export;
};

static void begin_wait(struct conn *conn)
{
	conn->size_wait = true;
	conn_get(conn);
	conn->inflight++;
	conn->pool->inflight++;
}

static void end_wait(struct conn *conn)
{
	conn->size_wait = false;
	conn->inflight--;
	conn->pool->inflight--;
	conn_put(conn);
}

static void size_main(void *arg)
{
	struct size_wait *wait = arg;
	struct conn *conn = wait->conn;

	export_resize(wait->export);
	free(wait);
	conn_todo(conn);
	end_wait(conn);
}

bool export_size_wait(struct conn *conn, struct export *export)
{
	struct size_wait *wait;

	/* Once: whatever came of it, the client has waited for it. */
	if (conn->size_looked) {
		conn->size_looked = false;
		return false;
	}
	if (likely(!export_is_resized(export)))
		return false;
	wait = malloc(sizeof(*wait));
	if (!wait)
		return false;
	*wait = (struct size_wait){ .conn = conn, .export = export };
	begin_wait(conn);
	conn->size_looked = true;
	if (coroutine_start(size_main, wait) == 0)
		return true;
	free(wait);
	end_wait(conn);
	conn->size_looked = false;
	return false;
}
