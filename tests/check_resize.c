/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_resize.c - volumes that grow and shrink while they are used: what is
 * behind an end is gone for good, and what is before it is not touched.
 */
#include <errno.h>

#include "tests/proof.h"

#define MODES		3u

static const enum volume_mode modes[MODES] = {
	VOLUME_WRITEBACK, VOLUME_WRITETHROUGH, VOLUME_NONE,
};

struct resize {
	struct engine	*engine;
	uint64_t	size;
	uint64_t	lost;
	int		ret;
};

static void resize_co(void *arg)
{
	struct resize *r = arg;

	r->ret = volume_resize(r->engine->vol, r->size, &r->lost);
}

/* From outside, and taken over; the bytes lost. */
static uint64_t resize(struct engine *engine, uint64_t size)
{
	struct resize r = { .engine = engine, .size = size };

	sim_resize(engine->bdev, size);
	ck_assert_int_eq(volume_present_size(engine->vol), (int64_t)size);
	engine_run(engine, resize_co, &r);
	ck_assert_int_eq(r.ret, 1);
	ck_assert_uint_eq(volume_size(engine->vol), size);
	return r.lost;
}

static bool reads_zero(struct engine *engine, uint64_t pos, uint32_t len)
{
	char *buf = malloc(len);
	bool zero;

	ck_assert_int_eq(engine_read(engine, pos, buf, len), 0);
	zero = is_zero(buf, len);
	free(buf);
	return zero;
}

static struct engine *start(unsigned int i, bool sparse)
{
	const struct engine_params params = {
		.seed = i,
		.vol.mode = modes[i % MODES],
		.vol.sim = { .sparse = sparse, .write_cache = true },
	};

	return engine_start(&params);
}

/* Ends within a page, within a sector, at a page, at nothing. */
static const uint64_t ends[] = { 10000, 10240, 12288, 200 * 1024 + 1, 0 };

START_TEST(what_was_behind_the_end_reads_zero_when_it_comes_back)
{
	struct engine *engine = start(_i, _i & 1);
	uint64_t end = ends[(unsigned int)_i / MODES % ARRAY_SIZE(ends)];
	uint64_t lost;

	must_write(engine, 0, KIB(256), 1, 0);
	if (_i & 2)
		ck_assert_int_eq(engine_flush(engine), 0);
	lost = resize(engine, end);
	if (_i % MODES == 0 && !(_i & 2))
		ck_assert_uint_eq(lost, KIB(256) - round_up64(end, 4096));
	else
		ck_assert_uint_eq(lost, 0);
	if (end)
		ck_assert(reads_pattern(engine, 0, (uint32_t)end, 1));
	resize(engine, KIB(600));
	if (end)
		ck_assert(reads_pattern(engine, 0, (uint32_t)end, 1));
	ck_assert(reads_zero(engine, end, (uint32_t)(KIB(600) - end)));
	check_idle(engine);
	ck_assert_int_eq(engine_flush(engine), 0);
	if (end)
		ck_assert(disk_has_pattern(engine, 0, (uint32_t)end, 1));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(what_is_written_below_the_new_end_ends_there_on_the_disk)
{
	struct engine *engine = start(_i, false);
	char after[100];

	must_write(engine, 0, KIB(64), 1, 0);
	resize(engine, 10001);
	must_write(engine, 9000, 1001, 2, 0);
	/* What somebody else has put there behind it. */
	memset(after, 'x', sizeof(after));
	sim_poke(engine->bdev, 10001, after, sizeof(after));
	ck_assert_int_eq(engine_flush(engine), 0);
	ck_assert(disk_has_pattern(engine, 0, 9000, 1));
	ck_assert(disk_has_pattern(engine, 9000, 1001, 2));
	sim_peek(engine->bdev, 10001, after, sizeof(after));
	ck_assert(after[0] == 'x' && !memcmp(after, after + 1, 99));
	/* Grown, that is what is read, also where the page was cached. */
	resize(engine, KIB(32));
	ck_assert_int_eq(engine_read(engine, 10001, after, sizeof(after)), 0);
	ck_assert(after[0] == 'x' && !memcmp(after, after + 1, 99));
	ck_assert(reads_pattern(engine, 9000, 1001, 2));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(requests_beyond_the_end_are_refused_and_change_nothing)
{
	struct engine *engine = start(_i, _i & 1);
	char buf[8192] = { 0 };

	must_write(engine, 0, KIB(64), 1, 0);
	resize(engine, 10000);
	ck_assert_int_eq(engine_read(engine, 9000, buf, 1001), -EINVAL);
	ck_assert_int_eq(engine_read(engine, KIB(32), buf, 10), -EINVAL);
	ck_assert_int_eq(engine_write(engine, 8192, buf, 1809, 0), -ENOSPC);
	ck_assert_int_eq(engine_write(engine, KIB(32), buf, 8192,
				      VOLUME_FUA), -ENOSPC);
	ck_assert_int_eq(engine_trim(engine, 4096, KIB(32), 0), -EINVAL);
	ck_assert_int_eq(engine_zero(engine, 4096, KIB(32), 0), -ENOSPC);
	ck_assert(reads_pattern(engine, 0, 10000, 1));
	resize(engine, 20000);
	ck_assert_int_eq(engine_write(engine, 19000, buf, 1000, 0), 0);
	ck_assert_int_eq(engine_trim(engine, 4096, 20000 - 4096, 0), 0);
	ck_assert(reads_zero(engine, 4096, 20000 - 4096));
	ck_assert(reads_pattern(engine, 0, 4096, 1));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(a_reader_keeps_what_it_has_pinned)
{
	struct engine *engine = start(0, false);
	struct pin pins[70];
	struct pinvec pv = { .pins = pins, .max = 70 };
	uint64_t pos = 0;

	put_on_disk(engine, 0, KIB(256), 1);
	ck_assert(reads_pattern(engine, 0, KIB(256), 1));
	loop_enter(engine->loop);
	ck_assert_int_eq(volume_read_inline(engine->vol, 0, KIB(256), &pv,
					    NULL), 0);
	loop_enter(NULL);
	resize(engine, 10000);
	resize(engine, KIB(256));
	ck_assert(reads_zero(engine, 10000, KIB(256) - 10000));
	must_write(engine, 0, KIB(256), 2, 0);
	for (unsigned int i = 0; i < pv.nr; pos += pins[i++].len)
		ck_assert(has_pattern(pins[i].base, pins[i].len, pos, 1));
	volume_unpin(engine->cache, pv.pins, pv.nr);
	ck_assert(reads_pattern(engine, 0, KIB(256), 2));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(a_last_block_that_cannot_be_written_keeps_the_size)
{
	struct engine *engine = start(0, false);
	struct resize r = { .engine = engine, .size = KIB(64) };

	resize(engine, 10000);
	must_write(engine, 8192, 1808, 3, 0);
	sim_set_fault(engine->bdev, BDEV_WRITE, 1, UINT64_MAX, EIO, false);
	sim_resize(engine->bdev, KIB(64));
	engine_run(engine, resize_co, &r);
	ck_assert_int_eq(r.ret, -EIO);
	ck_assert_uint_eq(volume_size(engine->vol), 10000);
	ck_assert(reads_pattern(engine, 8192, 1808, 3));
	sim_set_fault(engine->bdev, BDEV_WRITE, 0, 0, 0, false);
	engine_run(engine, resize_co, &r);
	ck_assert_int_eq(r.ret, 1);
	ck_assert(reads_pattern(engine, 8192, 1808, 3));
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

START_TEST(a_size_that_is_no_longer_so_is_not_taken_over)
{
	struct engine *engine = start(0, false);
	struct resize r = { .engine = engine, .size = KIB(64) };

	engine_run(engine, resize_co, &r);
	ck_assert_int_eq(r.ret, -EAGAIN);
	r.size = ENGINE_SIZE;
	engine_run(engine, resize_co, &r);
	ck_assert_int_eq(r.ret, 0);
	r.size = VOLUME_SIZE_MAX + 1;
	engine_run(engine, resize_co, &r);
	ck_assert_int_eq(r.ret, -EFBIG);
	ck_assert_uint_eq(volume_size(engine->vol), ENGINE_SIZE);
	ck_assert_int_eq(engine_stop(&engine), 0);
}
END_TEST

/* ---- everything at once ---- */

#define CLIENTS		4u
#define ROUNDS		60u
#define UNIT		3000u	/* each is one client's; no multiple of anything */
#define UNITS		(ENGINE_SIZE / UNIT)

struct storm {
	struct engine	*engine;
	struct random	rnd;
	uint64_t	floor;		/* the smallest size there was */
	bool		over;
	/* Of each unit: what it holds, 0 for zeroes, and the last one begun. */
	uint64_t	version[UNITS], newest[UNITS];
	uint64_t	refused, served;
};

struct client {
	struct storm	*storm;
	unsigned int	nr;
};

/* A unit is zero, or some version of it, up to the last that was begun. */
static void check_unit(const struct storm *storm, unsigned int unit,
		       const char *buf, uint64_t len)
{
	uint64_t pos = (uint64_t)unit * UNIT;

	if (pos + len <= storm->floor) {
		if (storm->version[unit])
			ck_assert(has_pattern(buf, len, pos,
					      storm->version[unit]));
		else
			ck_assert(is_zero(buf, len));
		return;
	}
	/* Parts of it may have come and gone, or have refused to go. */
	for (uint64_t i = 0; i < len; i++) {
		bool known = !buf[i];

		for (uint64_t v = storm->newest[unit]; v && !known; v--)
			known = has_pattern(buf + i, 1, pos + i, v);
		ck_assert(known);
	}
}

static void write_unit(struct storm *storm, unsigned int unit)
{
	uint64_t pos = (uint64_t)unit * UNIT;
	char buf[UNIT];
	int ret;

	storm->version[unit] = ++storm->newest[unit];
	fill_pattern(buf, UNIT, pos, storm->version[unit]);
	ret = volume_write_inline(storm->engine->vol, pos, UNIT, buf, 0);
	if (ret == -EAGAIN)
		ret = volume_write(storm->engine->vol, pos, UNIT, buf,
				   random_one_in(&storm->rnd, 4) ?
				   VOLUME_FUA : 0);
	ck_assert(!ret || ret == -ENOSPC);
	ck_assert(!ret || pos + UNIT > storm->floor);
	storm->refused += ret != 0;
	storm->served += ret == 0;
}

static void read_unit(struct storm *storm, unsigned int unit)
{
	uint64_t pos = (uint64_t)unit * UNIT;
	char buf[UNIT];
	int ret = volume_pread(storm->engine->vol, buf, UNIT, pos);

	ck_assert(!ret || ret == -EINVAL);
	ck_assert(!ret || pos + UNIT > storm->floor);
	if (!ret)
		check_unit(storm, unit, buf, UNIT);
}

static void client_co(void *arg)
{
	struct client *client = arg;
	struct storm *storm = client->storm;
	struct random *rnd = &storm->rnd;

	while (!storm->over) {
		unsigned int unit = (unsigned int)
			random_below(rnd, UNITS / CLIENTS) * CLIENTS +
			client->nr;
		int ret = 0;

		switch (random_below(rnd, 12)) {
		case 0:
			ret = volume_flush(storm->engine->vol);
			break;
		case 1:
			storm->version[unit] = 0;
			ret = volume_zero(storm->engine->vol, unit * UNIT,
					  UNIT, 0);
			if (ret == -ENOSPC && (unit + 1) * UNIT > storm->floor)
				ret = 0;
			break;
		case 2: case 3: case 4:
			read_unit(storm, unit);
			break;
		default:
			write_unit(storm, unit);
		}
		ck_assert_int_eq(ret, 0);
		coroutine_sleep_ns(random_below(rnd, 2000));
	}
}

/* Has what is stable after a FLUSH all that is read? */
static void check_durable(struct engine *engine, uint64_t seed)
{
	uint64_t size = volume_size(engine->vol);
	char *image = malloc(ENGINE_SIZE), *buf = malloc(ENGINE_SIZE);

	ck_assert_int_eq(engine_flush(engine), 0);
	sim_crash_image(engine->bdev, seed, image);
	ck_assert_int_eq(engine_read(engine, 0, buf, (uint32_t)size), 0);
	ck_assert(!memcmp(image, buf, size));
	free(image);
	free(buf);
}

static void resizer_co(void *arg)
{
	struct storm *storm = arg;
	struct engine *engine = storm->engine;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		uint64_t size = ENGINE_SIZE / 4 +
				random_below(&storm->rnd, ENGINE_SIZE * 3 / 4);
		uint64_t lost;
		int ret;

		if (random_one_in(&storm->rnd, 3))
			size = round_down64(size, 4096);
		storm->floor = MIN(storm->floor, size);
		sim_resize(engine->bdev, size);
		ret = volume_resize(engine->vol, size, &lost);
		ck_assert(ret == 0 || ret == 1);
		ck_assert_uint_eq(volume_size(engine->vol), size);
		coroutine_sleep_ns(random_below(&storm->rnd, 50000));
	}
	storm->over = true;
}

static void storm(unsigned int i, uint64_t seed)
{
	const struct engine_params params = {
		.seed = seed,
		.vol.mode = modes[i % MODES],
		.vol.sim = {
			.sparse = i & 1, .write_cache = true,
			.latency_max_ns = 20000, .seed = seed,
			.short_one_in = 8,
		},
	};
	struct engine *engine = engine_start(&params);
	struct storm *storm = calloc(1, sizeof(*storm));
	struct client clients[CLIENTS];

	storm->engine = engine;
	storm->floor = ENGINE_SIZE;
	random_init(&storm->rnd, seed);
	for (unsigned int nr = 0; nr < CLIENTS; nr++) {
		clients[nr] = (struct client){ .storm = storm, .nr = nr };
		engine_spawn(engine, client_co, &clients[nr]);
	}
	engine_spawn(engine, resizer_co, storm);
	engine_run_all(engine);
	ck_assert(storm->refused > 0 && storm->served > 0);
	check_idle(engine);
	check_durable(engine, seed);
	free(storm);
	ck_assert_int_eq(engine_stop(&engine), 0);
}

START_TEST(resizes_under_load_lose_nothing_below_the_end)
{
	uint64_t seed = test_seed("check_resize");

	storm((unsigned int)_i, seed + (unsigned int)_i);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("resize");
	TCase *one = tcase_create("one"), *all = tcase_create("all");
	SRunner *runner;
	int nr_failed;

	tcase_add_loop_test(one,
		what_was_behind_the_end_reads_zero_when_it_comes_back, 0,
		4 * MODES * (int)ARRAY_SIZE(ends));
	tcase_add_loop_test(one,
		what_is_written_below_the_new_end_ends_there_on_the_disk, 0,
		MODES);
	tcase_add_loop_test(one,
		requests_beyond_the_end_are_refused_and_change_nothing, 0,
		2 * MODES);
	tcase_add_test(one, a_reader_keeps_what_it_has_pinned);
	tcase_add_test(one, a_last_block_that_cannot_be_written_keeps_the_size);
	tcase_add_test(one, a_size_that_is_no_longer_so_is_not_taken_over);
	suite_add_tcase(suite, one);
	tcase_set_timeout(all, 120);
	tcase_add_loop_test(all, resizes_under_load_lose_nothing_below_the_end,
			    0, 12);
	suite_add_tcase(suite, all);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	nr_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return nr_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
