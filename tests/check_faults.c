/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_faults.c - one workload, in which the nth request to the device fails,
 * for every n: the invariants hold, whoever was refused was told, and what was
 * acknowledged is there in the end.
 */
#include <errno.h>

#include "tests/proof.h"

#define BLOCK	4096u
#define SIZE	KIB(512)

enum byte_state {
	BYTE_KNOWN,
	BYTE_UNKNOWN,	/* a request for it failed: the old or the new one */
};

struct model {
	struct engine	*engine;
	uint8_t		bytes[SIZE];
	uint8_t		state[SIZE];
	unsigned int	errors;		/* requests refused */
	unsigned int	flush_errors;
};

/* A request for [@pos, @pos + @len) ended with @ret; @buf, or zeroes. */
static void note(struct model *m, int ret, uint64_t pos, uint64_t len,
		 const void *buf)
{
	memset(m->state + pos, ret ? BYTE_UNKNOWN : BYTE_KNOWN, len);
	if (ret)
		m->errors++;
	else if (buf)
		memcpy(m->bytes + pos, buf, len);
	else
		memset(m->bytes + pos, 0, len);
}

static void do_write(struct model *m, uint64_t pos, uint32_t len,
		     uint64_t version, unsigned int flags)
{
	char *buf = malloc(len);

	fill_pattern(buf, len, pos, version);
	note(m, volume_write(m->engine->vol, pos, len, buf, flags), pos, len,
	     buf);
	free(buf);
}

static void do_stage(struct model *m, uint64_t pos, uint32_t len,
		     uint64_t version)
{
	char *buf = malloc(len), *from = buf;
	struct stage *stage;
	int ret = stage_alloc(m->engine->vol, pos, len, &stage);

	fill_pattern(buf, len, pos, version);
	if (!ret) {
		for (unsigned int i = 0; i < stage->nr_iov; i++) {
			memcpy(stage->iov[i].iov_base, from,
			       stage->iov[i].iov_len);
			from += stage->iov[i].iov_len;
		}
		ret = volume_write_stage(&stage, 0);
	}
	note(m, ret, pos, len, buf);
	free(buf);
}

/* Is all that is known of [@pos, @pos + @len) in @buf? */
static bool as_known(const struct model *m, const void *buf, uint64_t pos,
		     uint64_t len)
{
	const uint8_t *bytes = buf;

	for (uint64_t i = 0; i < len; i++)
		if (m->state[pos + i] == BYTE_KNOWN &&
		    bytes[i] != m->bytes[pos + i])
			return false;
	return true;
}

/* What is known reads back, or not at all. */
static void do_read(struct model *m, uint64_t pos, uint32_t len)
{
	char *buf = malloc(len);

	if (volume_pread(m->engine->vol, buf, len, pos))
		m->errors++;
	else
		ck_assert(as_known(m, buf, pos, len));
	free(buf);
}

static void do_flush(struct model *m)
{
	if (volume_flush(m->engine->vol))
		m->flush_errors++;
}

static void do_discard(struct model *m, uint64_t pos, uint64_t len, bool trim,
		       unsigned int flags)
{
	int ret = trim ? volume_trim(m->engine->vol, pos, len, flags) :
			 volume_zero(m->engine->vol, pos, len, flags);

	note(m, ret, pos, len, NULL);
}

/* A bit of everything, over cached and cold, dirty and clean. */
static void workload_co(void *arg)
{
	struct model *m = arg;

	do_write(m, 100, 10, 1, 0);
	do_write(m, KIB(64), KIB(64), 2, 0);
	do_read(m, KIB(96), KIB(64));
	do_write(m, KIB(4) - 1, 2, 3, VOLUME_FUA);
	do_stage(m, KIB(200), KIB(70), 4);
	do_flush(m);
	do_write(m, KIB(100), KIB(20), 5, VOLUME_FUA);
	do_discard(m, KIB(80), KIB(32) + 7, true, 0);
	do_read(m, 0, KIB(128));
	do_write(m, KIB(90), 3 * BLOCK, 6, 0);
	do_discard(m, KIB(208), KIB(16), false, VOLUME_NO_HOLE);
	do_discard(m, KIB(240), KIB(16), false, VOLUME_FUA);
	do_stage(m, KIB(88) + 5, KIB(40), 7);
	do_flush(m);
	do_read(m, KIB(60), KIB(256));
	do_write(m, KIB(300), KIB(200), 8, 0);
	do_flush(m);
	do_write(m, KIB(304), BLOCK, 9, 0);
}

struct fault_case {
	enum bdev_op		op;
	enum volume_mode	mode;
	bool			sparse;
	unsigned int		lacks;
	bool			for_ever;
} fault_cases[] = {
	{ BDEV_READ, VOLUME_WRITEBACK, false, 0, false },
	{ BDEV_READ, VOLUME_WRITETHROUGH, true, 0, false },
	{ BDEV_READ, VOLUME_NONE, false, 0, false },
	{ BDEV_WRITE, VOLUME_WRITEBACK, false, 0, false },
	{ BDEV_WRITE, VOLUME_WRITEBACK, true, 0, true },
	{ BDEV_WRITE, VOLUME_WRITEOUT, true, 0, false },
	{ BDEV_WRITE, VOLUME_WRITEOUT, false, 0, true },
	{ BDEV_WRITE, VOLUME_NONE, false, 0, false },
	{ BDEV_WRITE, VOLUME_WRITEBACK, false, ENGINE_NO_DISCARD |
	  ENGINE_NO_ZERO | ENGINE_NO_ZERO_KEEP, false },
	{ BDEV_FLUSH, VOLUME_WRITEBACK, false, 0, false },
	{ BDEV_FLUSH, VOLUME_DIRECTSYNC, true, 0, false },
	{ BDEV_DISCARD, VOLUME_WRITEBACK, true, 0, false },
	{ BDEV_ZERO, VOLUME_WRITEBACK, false, 0, false },
	{ BDEV_ALLOCATE, VOLUME_WRITEBACK, true, 0, false },
	{ BDEV_ALLOCATE, VOLUME_WRITEOUT, true, 0, true },
};

static struct model *model_start(const struct fault_case *c, uint64_t seed)
{
	struct engine_params params = {
		.seed = seed, .cache_size = c->for_ever ? MIB(1) : KIB(512),
		/* Writers wait at the limit until a write succeeds. */
		.dirty_hard_pct = c->for_ever ? 90 : 0,
		.vol = {
			.mode = c->mode, .lacks = c->lacks,
			.sim = { .seed = seed, .size = SIZE,
				 .write_cache = true, .sparse = c->sparse,
				 .latency_max_ns = 20000, .short_one_in = 5 },
		},
	};
	struct model *m = calloc(1, sizeof(*m));

	m->engine = engine_start(&params);
	if (!c->sparse) {
		fill_pattern(m->bytes, SIZE, 0, 99);
		sim_poke(m->engine->bdev, 0, m->bytes, SIZE);
	}
	return m;
}

/* The device is well again: what was acknowledged is stored. */
static void model_finish(struct model *m, const struct fault_case *c)
{
	/* A FUA write that failed leaves the device in doubt as well. */
	bool doubt = m->engine->bdev->flush_failed;
	uint8_t *disk = malloc(SIZE);
	int ret;

	sim_set_fault(m->engine->bdev, c->op, 0, 0, 0, false);
	/* Those in flight fail still. */
	settle(m->engine, NSEC_PER_MSEC);
	ret = engine_flush(m->engine);
	ck_assert_int_eq(ret, doubt ? -EIO : 0);
	check_idle(m->engine);
	ck_assert_uint_eq(m->engine->vol->dirty_bytes, 0);
	sim_peek(m->engine->bdev, 0, disk, SIZE);
	ck_assert(as_known(m, disk, 0, SIZE));
	free(disk);
	ret = engine_stop(&m->engine);
	ck_assert_int_eq(ret, doubt ? -EIO : 0);
	free(m);
}

START_TEST(nth_device_request_fails_and_nothing_acked_is_lost)
{
	const struct fault_case *c = &fault_cases[_i];
	uint64_t seed = test_seed("faults");
	uint64_t fired = 1, nth;

	for (nth = 1; fired; nth++) {
		struct model *m = model_start(c, seed + nth);

		sim_set_fault(m->engine->bdev, c->op, nth,
			      c->for_ever ? UINT64_MAX : 1, EIO, nth & 1);
		engine_run(m->engine, workload_co, m);
		engine_check(m->engine, false);
		fired = sim_faults_fired(m->engine->bdev);
		/* Somebody was told, or it was tried again with success. */
		if (fired && c->for_ever)
			ck_assert_uint_gt(m->errors + m->flush_errors, 0);
		if (!fired)
			ck_assert_uint_eq(m->errors + m->flush_errors, 0);
		model_finish(m, c);
	}
	ck_assert_uint_gt(nth, 3);
}
END_TEST

static Suite *faults_suite(void)
{
	Suite *suite = suite_create("faults");
	TCase *tc = tcase_create("nth request");

	tcase_add_loop_test(tc, nth_device_request_fails_and_nothing_acked_is_lost,
			    0, ARRAY_SIZE(fault_cases));
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	return proof_main(faults_suite());
}
