/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * door.c - from threads that block into the engine, and back.
 *
 * Bytes are copied on the calling thread wherever that can be: a loop serves
 * many connections.
 */
#include <errno.h>
#include <semaphore.h>
#include <string.h>

#include "plugins/door.h"

#define READ_PIECE	(UINT32_C(256) << 10)
#define READ_PINS	(READ_PIECE / 4096 + 2)	/* volume_pins_max() of it */
#define WRITE_PIECE	(UINT32_C(64) << 10)	/* most of an inline write */
#define ZERO_PIECE	(UINT64_C(64) << 20)	/* of TRIM and ZERO */

/* ---- a call on a loop ---- */

/* On the stack of the thread that waits for it. */
struct call {
	struct work	work;
	int		(*fn)(void *arg);
	void		*arg;
	int		ret;
	sem_t		done;		/* after the post @call is gone */
};

static void call_main(void *arg)
{
	struct call *call = arg;

	call->ret = call->fn(call->arg);
	sem_post(&call->done);
}

static void call_start(struct work *work)
{
	struct call *call = container_of(work, struct call, work);
	int ret = coroutine_start(call_main, call);

	if (!ret)
		return;
	call->ret = ret;
	sem_post(&call->done);
}

int door_call(struct loop *loop, int (*fn)(void *arg), void *arg)
{
	struct call call = { .work.fn = call_start, .fn = fn, .arg = arg };

	/* It would wait for itself. */
	assert(!loop_current());
	sem_init(&call.done, 0, 0);
	loop_post(loop, &call.work);
	while (sem_wait(&call.done))
		;
	sem_destroy(&call.done);
	return call.ret;
}

/* ---- requests that go to the loop ---- */

struct request {
	struct door		*door;
	uint64_t		pos;
	uint32_t		len;
	unsigned int		flags;
	union {
		struct pinvec		*pv;		/* read */
		const void		*buf;		/* write */
		struct volume_extent	*extents;
	};
	unsigned int		*nrp;			/* extents */
};

static int read_fn(void *arg)
{
	struct request *r = arg;

	return volume_read(r->door->vol, r->pos, r->len, r->pv, &r->door->ra);
}

static int read_ahead_fn(void *arg)
{
	struct request *r = arg;

	volume_read_ahead(r->door->vol, &r->door->ra, r->pos, r->len);
	return 0;
}

static int write_fn(void *arg)
{
	struct request *r = arg;

	return volume_write(r->door->vol, r->pos, r->len, r->buf, r->flags);
}

static int flush_fn(void *arg)
{
	struct request *r = arg;

	return volume_flush(r->door->vol);
}

static int prefetch_fn(void *arg)
{
	struct request *r = arg;

	return volume_prefetch(r->door->vol, r->pos, r->len);
}

static int extents_fn(void *arg)
{
	struct request *r = arg;

	return volume_extents(r->door->vol, r->pos, r->len, r->extents,
			      r->nrp);
}

/* In pieces that end where blocks do, so that no writer waits for gigabytes.  A
 * fast one is fast, and must not fail half done. */
static int discard_in_pieces(struct request *r,
			     int (*fn)(struct volume *vol, uint64_t pos,
				       uint64_t len, unsigned int flags))
{
	uint64_t pos = r->pos, end = pos + r->len;
	int ret = 0;

	while (pos < end && !ret) {
		uint64_t next = round_down64(pos + ZERO_PIECE, ZERO_PIECE);

		if (next > end || (r->flags & VOLUME_FAST_ZERO))
			next = end;
		ret = fn(r->door->vol, pos, next - pos, r->flags);
		pos = next;
	}
	return ret;
}

static int trim_fn(void *arg)
{
	return discard_in_pieces(arg, volume_trim);
}

static int zero_fn(void *arg)
{
	return discard_in_pieces(arg, volume_zero);
}

/* ---- requests as they come ---- */

static void copy_out(void *buf, const struct pinvec *pv)
{
	char *to = buf;

	for (unsigned int i = 0; i < pv->nr; i++) {
		memcpy(to, pv->pins[i].base, pv->pins[i].len);
		to += pv->pins[i].len;
	}
}

static int read_piece(struct door *door, void *buf, uint32_t len, uint64_t pos)
{
	struct pin pins[READ_PINS];
	struct pinvec pv = { .pins = pins, .max = READ_PINS };
	struct request r = { .door = door, .pos = pos, .len = len, .pv = &pv };
	bool marked = false;
	int ret;

	ret = volume_read_foreign(door->vol, pos, len, &pv, &marked);
	if (unlikely(marked))
		door_call(door->loop, read_ahead_fn, &r);
	if (ret == -EAGAIN)
		ret = door_call(door->loop, read_fn, &r);
	if (ret)
		return ret;
	copy_out(buf, &pv);
	volume_unpin(door->vol->cache, pins, pv.nr);
	return 0;
}

int door_read(struct door *door, void *buf, uint32_t len, uint64_t pos)
{
	char *to = buf;
	int ret = 0;

	while (len && !ret) {
		uint32_t n = MIN(len, READ_PIECE);

		ret = read_piece(door, to, n, pos);
		to += n;
		pos += n;
		len -= n;
	}
	return ret;
}

int door_write(struct door *door, const void *buf, uint32_t len, uint64_t pos,
	       unsigned int flags)
{
	struct request r = { .door = door, .flags = flags };
	const char *from = buf;

	while (len) {
		uint32_t n = MIN(len, WRITE_PIECE);

		if (volume_write_inline(door->vol, pos, n, from, flags))
			break;
		from += n;
		pos += n;
		len -= n;
	}
	if (!len)
		return 0;
	r.pos = pos;
	r.len = len;
	r.buf = from;
	return door_call(door->loop, write_fn, &r);
}

int door_flush(struct door *door)
{
	struct request r = { .door = door };

	if (volume_flush_inline(door->vol))
		return 0;
	return door_call(door->loop, flush_fn, &r);
}

int door_trim(struct door *door, uint32_t len, uint64_t pos,
	      unsigned int flags)
{
	struct request r = {
		.door = door, .pos = pos, .len = len, .flags = flags,
	};

	return door_call(door->loop, trim_fn, &r);
}

int door_zero(struct door *door, uint32_t len, uint64_t pos,
	      unsigned int flags)
{
	struct request r = {
		.door = door, .pos = pos, .len = len, .flags = flags,
	};

	return door_call(door->loop, zero_fn, &r);
}

int door_prefetch(struct door *door, uint32_t len, uint64_t pos)
{
	struct request r = { .door = door, .pos = pos, .len = len };

	return door_call(door->loop, prefetch_fn, &r);
}

int door_extents(struct door *door, uint32_t len, uint64_t pos,
		 struct volume_extent *extents, unsigned int *nrp)
{
	struct request r = {
		.door = door, .pos = pos, .len = len, .extents = extents,
		.nrp = nrp,
	};

	return door_call(door->loop, extents_fn, &r);
}
