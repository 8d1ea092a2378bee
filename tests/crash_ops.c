/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash_ops.c - one operation: what a server would do for it, and what the
 * oracle says of the answer.
 */
#include <errno.h>
#include <string.h>

#include "tests/crash_inner.h"

#define INLINE_MAX	(64u << 10)	/* of volume_write_inline() */

static bool only_faults(const struct run *run, unsigned int ops)
{
	return !(run->fault_mask & ~ops);
}

/* ---- which answers are fine ---- */

/* Does the request, in this mode, promise that its data is stable? */
static bool promises_stable(const struct run *run, const struct crash_op *op)
{
	switch (run->cs->mode) {
	case VOLUME_UNSAFE:
		return false;
	case VOLUME_WRITETHROUGH:
	case VOLUME_DIRECTSYNC:
		return true;
	default:
		return op->kind == CRASH_FLUSH || (op->flags & VOLUME_FUA);
	}
}

/* After a failed flush of the device no such promise is kept any more. */
static bool must_fail(const struct run *run, const struct crash_op *op)
{
	return promises_stable(run, op) &&
	       (run->engine->bdev->flush_failed || run->flush_refused);
}

/* Faults of these never lose data: no FLUSH may fail for them. */
#define HARMLESS	(1u << BDEV_READ | 1u << BDEV_DISCARD | \
			 1u << BDEV_ZERO | 1u << BDEV_ALLOCATE)

static bool may_fail(struct run *run, const struct crash_op *op, int ret)
{
	const struct bdev *bdev = run->engine->bdev;

	if (run_over(run))
		return true;
	if (ret == -EOPNOTSUPP)
		return op->kind == CRASH_ZERO && (op->flags & VOLUME_FAST_ZERO);
	if (ret == -ENOSPC && run->cs->space_pct && op->kind != CRASH_FLUSH)
		return true;
	if (!sim_faults_fired(bdev))
		return false;
	return op->kind != CRASH_FLUSH || !only_faults(run, HARMLESS);
}

/* @expected: must_fail() when the request was submitted. */
static void judge(struct run *run, const struct crash_op *op, int ret,
		  bool expected)
{
	if (run_over(run))
		return;
	if (!ret && expected)
		run_fail(run, "success after a failed flush of the device");
	else if (ret && !may_fail(run, op, ret))
		run_fail(run, "failed for no reason: %s", strerror(-ret));
	if (ret) {
		run->stats->errors++;
		if (promises_stable(run, op) && ret == -EIO &&
		    run->fault_mask == 1u << BDEV_FLUSH)
			run->flush_refused = true;
	}
}

/* What was promised is in every image. */
static void look_at_promise(struct run *run, const struct crash_op *op)
{
	if (op->kind == CRASH_FLUSH)
		run_look_at_images(run, run->cs->images);
	else if (promises_stable(run, op) && random_one_in(&run->rnd, 4))
		run_look_at_images(run, 1);
}

static void answered(struct run *run, const struct crash_op *op, uint32_t id,
		     int ret, bool expected)
{
	oracle_end(run->oracle, id, ret, op->flags & VOLUME_FUA);
	judge(run, op, ret, expected);
	if (!ret && !run_over(run))
		look_at_promise(run, op);
}

/* ---- writes ---- */

static void *payload(struct run *run, uint32_t id, const struct crash_op *op)
{
	char *buf = malloc(op->len);

	if (!buf)
		abort();
	oracle_fill(run->oracle, id, op->pos, buf, op->len);
	return buf;
}

static void op_write(struct run *run, const struct crash_op *op)
{
	uint32_t id = oracle_begin(run->oracle, ORACLE_WRITE, op->pos, op->len);
	struct volume *vol = run->engine->vol;
	bool expected = must_fail(run, op);
	char *buf = payload(run, id, op);
	uint32_t len = (uint32_t)op->len;
	int ret = -EAGAIN;

	if (len <= INLINE_MAX)
		ret = volume_write_inline(vol, op->pos, len, buf, op->flags);
	if (ret == -EAGAIN) {
		/* A server starts a coroutine here. */
		coroutine_relax();
		ret = volume_write(vol, op->pos, len, buf, op->flags);
	}
	/* From here on the buffer is the caller's. */
	memset(buf, 0xee, len);
	free(buf);
	answered(run, op, id, ret, expected);
}

static struct stage *get_stage(struct run *run, const struct crash_op *op)
{
	struct volume *vol = run->engine->vol;
	struct stage *stage;
	int ret;

	ret = stage_alloc(vol, op->pos, (uint32_t)op->len, &stage);
	if (ret == -EAGAIN)
		ret = stage_alloc_wait(vol, op->pos, (uint32_t)op->len,
				       &stage);
	if (ret) {
		run_fail(run, "no stage: %s", strerror(-ret));
		return NULL;
	}
	return stage;
}

/* Receive @len bytes of the payload into @stage. */
static void receive(struct run *run, const struct crash_op *op, uint32_t id,
		    struct stage *stage, uint64_t len)
{
	char *buf = payload(run, id, op), *from = buf;

	for (unsigned int i = 0; i < stage->nr_iov && len; i++) {
		uint64_t n = MIN(len, stage->iov[i].iov_len);

		memcpy(stage->iov[i].iov_base, from, n);
		from += n;
		len -= n;
		/* The rest of it comes later. */
		if (i % 4 == 3)
			coroutine_relax();
	}
	free(buf);
}

static void op_stage(struct run *run, const struct crash_op *op)
{
	struct stage *stage = get_stage(run, op);
	bool expected;
	uint32_t id;
	int ret;

	if (!stage)
		return;
	id = oracle_begin(run->oracle, ORACLE_WRITE, op->pos, op->len);
	receive(run, op, id, stage, op->len);
	expected = must_fail(run, op);
	ret = volume_write_stage_inline(&stage, op->flags);
	if (ret == -EAGAIN) {
		coroutine_relax();
		ret = volume_write_stage(&stage, op->flags);
	}
	if (stage)
		run_fail(run, "the stage was not consumed");
	answered(run, op, id, ret, expected);
}

/* Half a request: it changes nothing. */
static void op_drop(struct run *run, const struct crash_op *op)
{
	struct stage *stage = get_stage(run, op);

	if (!stage)
		return;
	receive(run, op, oracle_phantom(run->oracle), stage, op->len / 2);
	stage_free(stage);
}

/* ---- reads ---- */

static void gather(const struct pinvec *pv, char *to)
{
	for (unsigned int i = 0; i < pv->nr; i++) {
		memcpy(to, pv->pins[i].base, pv->pins[i].len);
		to += pv->pins[i].len;
	}
}

static uint64_t pinned_len(const struct pinvec *pv)
{
	uint64_t len = 0;

	for (unsigned int i = 0; i < pv->nr; i++)
		len += pv->pins[i].len;
	return len;
}

/* The bytes that were pinned are right, and stay so while they are pinned. */
static void check_pinned(struct run *run, const struct pinvec *pv,
			 uint32_t since, uint64_t pos, uint64_t len,
			 uint64_t hold_ns)
{
	char *buf = malloc(2 * len);

	if (!buf)
		abort();
	if (pinned_len(pv) != len) {
		run_fail(run, "a read of the wrong length");
		goto out;
	}
	gather(pv, buf);
	if (!oracle_read_check(run->oracle, since, pos, buf, len))
		run_fail(run, "%s", oracle_message(run->oracle));
	if (hold_ns) {
		coroutine_sleep_ns(hold_ns);
		gather(pv, buf + len);
		if (memcmp(buf, buf + len, len))
			run_fail(run, "bytes changed while they were pinned");
	}
out:
	free(buf);
}

static int read_piece(struct run *run, struct readahead *ra,
		      const struct crash_op *op, uint64_t pos, uint32_t len)
{
	struct pinvec pv = { .max = volume_pins_max(len) };
	struct volume *vol = run->engine->vol;
	uint32_t since = oracle_read_begin(run->oracle);
	int ret;

	pv.pins = calloc(pv.max, sizeof(*pv.pins));
	if (!pv.pins)
		abort();
	ret = volume_read_inline(vol, pos, len, &pv, ra);
	if (ret == -EAGAIN) {
		coroutine_relax();
		ret = volume_read(vol, pos, len, &pv, ra);
	}
	if (!ret)
		check_pinned(run, &pv, since, pos, len, op->arg);
	volume_unpin(run->engine->cache, pv.pins, pv.nr);
	oracle_read_end(run->oracle, since);
	free(pv.pins);
	return ret;
}

static void op_read(struct run *run, struct readahead *ra,
		    const struct crash_op *op)
{
	uint64_t done = 0;
	int ret = 0;

	while (!ret && done < op->len && !run->failed) {
		uint64_t n = MIN(run->cs->max_read, op->len - done);

		ret = read_piece(run, ra, op, op->pos + done, (uint32_t)n);
		done += n;
	}
	judge(run, op, ret, false);
}

void crash_read_all(struct run *run)
{
	const struct crash_op op = {
		.kind = CRASH_READ,
		.len = run->cs->size,
	};

	op_read(run, NULL, &op);
}

/* ---- the rest ---- */

static void op_flush(struct run *run, const struct crash_op *op)
{
	uint32_t since = oracle_now(run->oracle);
	bool expected = must_fail(run, op);
	int ret = 0;

	if (!volume_flush_inline(run->engine->vol))
		ret = volume_flush(run->engine->vol);
	oracle_flushed(run->oracle, since, ret);
	judge(run, op, ret, expected);
	if (!ret && !run_over(run))
		look_at_promise(run, op);
}

static void op_discard(struct run *run, const struct crash_op *op)
{
	uint32_t id = oracle_begin(run->oracle, ORACLE_ZERO, op->pos, op->len);
	struct volume *vol = run->engine->vol;
	bool expected = must_fail(run, op);
	int ret;

	if (op->kind == CRASH_TRIM)
		ret = volume_trim(vol, op->pos, op->len, op->flags);
	else
		ret = volume_zero(vol, op->pos, op->len, op->flags);
	answered(run, op, id, ret, expected);
}

/* What block status calls a hole reads as zeroes. */
static void op_extents(struct run *run, const struct crash_op *op)
{
	struct volume_extent extents[16];
	unsigned int nr = ARRAY_SIZE(extents);
	uint32_t since = oracle_read_begin(run->oracle);
	uint64_t pos = op->pos, end = op->pos + op->len;
	char *zeroes = calloc(1, op->len);
	int ret;

	if (!zeroes)
		abort();
	ret = volume_extents(run->engine->vol, op->pos, op->len, extents, &nr);
	for (unsigned int i = 0; !ret && i < nr; i++) {
		/* The last one may know of more than was asked for. */
		uint64_t len = MIN(extents[i].len, end - pos);

		if (extents[i].zero &&
		    !oracle_read_check(run->oracle, since, pos, zeroes, len))
			run_fail(run, "a hole: %s",
				 oracle_message(run->oracle));
		pos += len;
	}
	if (!ret && (nr == 0 || pos == op->pos))
		run_fail(run, "no extents");
	oracle_read_end(run->oracle, since);
	free(zeroes);
	judge(run, op, ret, false);
}

static void op_stall(struct run *run, const struct crash_op *op)
{
	sim_set_stall(run->engine->bdev, (enum bdev_op)op->pos, true);
	coroutine_sleep_ns(op->arg);
	sim_set_stall(run->engine->bdev, (enum bdev_op)op->pos, false);
}

static void op_fault(struct run *run, const struct crash_op *op)
{
	run->fault_mask |= 1u << op->pos;
	sim_set_fault(run->engine->bdev, (enum bdev_op)op->pos, op->arg,
		      op->len, op->flags & CRASH_ENOSPC ? ENOSPC : EIO,
		      op->flags & CRASH_PARTIAL);
}

static void op_heal(struct run *run)
{
	for (int op = 0; op < BDEV_NR_OPS; op++)
		sim_set_fault(run->engine->bdev, (enum bdev_op)op, 0, 0, 0,
			      false);
}

static void op_cut(struct run *run, const struct crash_op *op)
{
	if (op->arg)
		sim_set_power_cut(run->engine->bdev, op->arg);
	else
		sim_power_cut(run->engine->bdev, random_u64(&run->rnd));
}

/* The process ends here; what its device has, it keeps. */
static void op_kill(struct run *run)
{
	run_peek(run);
	run->killed = true;
	if (!oracle_check_image(run->oracle, ORACLE_KILL, run->image))
		run_fail(run, "%s", oracle_message(run->oracle));
}

void crash_op_run(struct client *client, const struct crash_op *op)
{
	struct run *run = client->run;

	switch (op->kind) {
	case CRASH_READ:
		op_read(run, &client->ra, op);
		break;
	case CRASH_WRITE:
		op_write(run, op);
		break;
	case CRASH_STAGE:
		op_stage(run, op);
		break;
	case CRASH_DROP:
		op_drop(run, op);
		break;
	case CRASH_FLUSH:
		op_flush(run, op);
		break;
	case CRASH_TRIM:
	case CRASH_ZERO:
		op_discard(run, op);
		break;
	case CRASH_PREFETCH:
		volume_prefetch(run->engine->vol, op->pos, op->len);
		break;
	case CRASH_EXTENTS:
		op_extents(run, op);
		break;
	case CRASH_IMAGE:
		run_look_at_images(run, op->len);
		engine_check(run->engine, false);
		break;
	case CRASH_STALL:
		op_stall(run, op);
		break;
	case CRASH_FAULT:
		op_fault(run, op);
		break;
	case CRASH_HEAL:
		op_heal(run);
		break;
	case CRASH_CUT:
		if (!run->ms)
			op_cut(run, op);
		break;
	case CRASH_KILL:
		if (!run->ms)
			op_kill(run);
		break;
	case CRASH_NR_KINDS:
		break;
	}
}
