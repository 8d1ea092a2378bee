/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_raw_map.c - the map never claims what is not so.
 *
 * A file is played by an array of blocks that answers seeks as a file system
 * does: what was allocated but not yet written looks like a hole.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "bdev/bdev.h"
#include "store/raw_map.h"
#include "tests/corun.h"

struct playfile {
	struct bdev	bdev;
	uint64_t	nr;		/* blocks */
	uint8_t		*space;		/* allocated */
	uint8_t		*written;	/* holds data: seek sees it */
	uint8_t		*accepted;	/* allocated for a write by us */
	unsigned int	seeks;
	unsigned int	fail_seek;	/* the nth fails; 0: none */
	/* Called once, when the nth seek from now has found its answer. */
	void		(*hook)(struct playfile *file);
	unsigned int	hook_nth;
	struct raw_map	*map;
};

static uint64_t play_find(const struct playfile *file, uint64_t pos, bool data)
{
	uint64_t block = pos >> RAW_BLOCK_SHIFT;

	if (!!file->written[block] == data)
		return pos;
	while (block < file->nr && !!file->written[block] != data)
		block++;
	return MIN(block << RAW_BLOCK_SHIFT, file->bdev.size);
}

static int64_t play_seek(struct bdev *bdev, uint64_t pos, bool data)
{
	struct playfile *file = container_of(bdev, struct playfile, bdev);
	uint64_t found = play_find(file, pos, data);

	if (file->hook_nth && --file->hook_nth == 0)
		file->hook(file);
	if (++file->seeks == file->fail_seek)
		return -EIO;
	return (int64_t)found;
}

static int64_t play_seek_data(struct bdev *bdev, uint64_t pos)
{
	return play_seek(bdev, pos, true);
}

static int64_t play_seek_hole(struct bdev *bdev, uint64_t pos)
{
	return play_seek(bdev, pos, false);
}

static const struct bdev_ops play_ops = {
	.seek_data	= play_seek_data,
	.seek_hole	= play_seek_hole,
};

static void play_init(struct playfile *file, uint64_t size)
{
	memset(file, 0, sizeof(*file));
	file->bdev.ops = &play_ops;
	file->bdev.size = size;
	file->nr = round_up64(size, RAW_BLOCK) >> RAW_BLOCK_SHIFT;
	file->space = calloc(3, file->nr);
	file->written = file->space + file->nr;
	file->accepted = file->written + file->nr;
	ck_assert_ptr_nonnull(file->space);
}

static void play_fini(struct playfile *file)
{
	free(file->space);
}

static void play_data(struct playfile *file, uint64_t first, uint64_t nr)
{
	memset(file->space + first, 1, nr);
	memset(file->written + first, 1, nr);
}

static uint64_t the_seq;

static struct raw_map *new_map(struct playfile *file, uint32_t pages)
{
	struct raw_map *map = NULL;

	ck_assert_int_eq(raw_map_new(file->bdev.size, pages, &the_seq, &map),
			 0);
	file->map = map;
	return map;
}

/* What is at block @block, learning it if need be. */
static enum raw_map_kind look(struct playfile *file, uint64_t block)
{
	uint64_t pos = block << RAW_BLOCK_SHIFT, run;
	enum raw_map_kind kind = raw_map_lookup(file->map, pos, 1, &run);

	if (kind == RAW_MAP_UNKNOWN) {
		ck_assert_int_eq(raw_map_learn(file->map, &file->bdev, pos), 0);
		kind = raw_map_lookup(file->map, pos, 1, &run);
	}
	ck_assert_int_ne(kind, RAW_MAP_UNKNOWN);
	ck_assert_uint_eq(run, 1);
	return kind;
}

static bool allocate(struct playfile *file, uint64_t first, uint64_t nr,
		     uint32_t gen)
{
	uint64_t pos = first << RAW_BLOCK_SHIFT, cookie = 0;
	uint64_t len = MIN(nr << RAW_BLOCK_SHIFT, file->bdev.size - pos);
	bool ok;

	memset(file->space + first, 1, nr);
	ok = raw_map_allocated(file->map, pos, len, gen, &cookie);
	if (ok) {
		memset(file->accepted + first, 1, nr);
		ck_assert_uint_eq(cookie, the_seq);
	}
	return ok;
}

static void punch(struct playfile *file, uint64_t first, uint64_t nr)
{
	memset(file->space + first, 0, nr);
	memset(file->written + first, 0, nr);
	memset(file->accepted + first, 0, nr);
}

static void unmap(struct playfile *file, uint64_t first, uint64_t nr)
{
	uint64_t pos = first << RAW_BLOCK_SHIFT;
	uint64_t len = MIN(nr << RAW_BLOCK_SHIFT, file->bdev.size - pos);

	raw_map_unmap_begin(file->map, pos, len);
	punch(file, first, nr);
	raw_map_unmap_end(file->map, pos, len, true);
}

#define PER_REGION	((uint64_t)RAW_REGION_BLOCKS)

/* ---- single facts ---- */

static void facts_co(void *arg)
{
	struct playfile file;
	uint64_t run, seq;

	(void)arg;
	/* A region of holes, one of data, and a bit with a short block. */
	play_init(&file, 2 * RAW_REGION + 10 * RAW_BLOCK + 100);
	play_data(&file, PER_REGION, PER_REGION);
	play_data(&file, 2 * PER_REGION + 4, 7);
	new_map(&file, 4);
	ck_assert_int_eq(raw_map_lookup(file.map, 0, 9, &run),
			 RAW_MAP_UNKNOWN);
	ck_assert_int_eq(look(&file, 5), RAW_MAP_HOLE);
	ck_assert_int_eq(look(&file, PER_REGION), RAW_MAP_DATA);
	ck_assert_int_eq(look(&file, 2 * PER_REGION + 3), RAW_MAP_HOLE);
	ck_assert_int_eq(look(&file, 2 * PER_REGION + 4), RAW_MAP_DATA);
	/* The short last block is data to its end. */
	ck_assert_int_eq(raw_map_lookup(file.map, 2 * RAW_REGION + 9 *
					RAW_BLOCK + 1, RAW_BLOCK + 99, &run),
			 RAW_MAP_DATA);
	ck_assert_uint_eq(run, RAW_BLOCK + 99);
	/* Runs end where the kind changes, and at the region. */
	ck_assert_int_eq(raw_map_lookup(file.map, 2 * RAW_REGION + 1,
					10 * RAW_BLOCK, &run), RAW_MAP_HOLE);
	ck_assert_uint_eq(run, 4 * RAW_BLOCK - 1);
	raw_map_lookup(file.map, RAW_REGION - 7, RAW_BLOCK, &run);
	ck_assert_uint_eq(run, 7);
	/* One whole and one mixed region are in memory: one page. */
	seq = the_seq;
	ck_assert(allocate(&file, 2 * PER_REGION, 4,
			   raw_map_gen(file.map, 2 * RAW_REGION)));
	ck_assert_uint_eq(the_seq, seq + 1);
	ck_assert_int_eq(raw_map_lookup(file.map, 2 * RAW_REGION,
					RAW_REGION, &run), RAW_MAP_DATA);
	ck_assert_uint_eq(file.map->slots[2].page, 0);
	raw_map_free(file.map);
	play_fini(&file);
}

START_TEST(it_says_what_the_file_says)
{
	ck_assert_int_eq(corun_virtual(1, facts_co, NULL), 0);
}
END_TEST

static void partial_co(void *arg)
{
	struct playfile file;

	(void)arg;
	play_init(&file, RAW_REGION);
	play_data(&file, 8, 8);
	file.fail_seek = 3;
	new_map(&file, 1);
	/* Asked: first data, its end, and then it fails. */
	ck_assert_int_eq(look(&file, 0), RAW_MAP_HOLE);
	ck_assert_int_eq(look(&file, 8), RAW_MAP_DATA);
	ck_assert_int_eq(look(&file, 16), RAW_MAP_MAYBE);
	raw_map_free(file.map);
	play_fini(&file);
}

START_TEST(what_cannot_be_asked_is_neither_hole_nor_data)
{
	ck_assert_int_eq(corun_virtual(1, partial_co, NULL), 0);
}
END_TEST

static void forget_co(void *arg)
{
	struct playfile file;
	uint64_t run;

	(void)arg;
	play_init(&file, 3 * RAW_REGION);
	for (uint64_t i = 0; i < 3; i++)
		play_data(&file, i * PER_REGION + 1, 1);
	new_map(&file, 1);
	ck_assert_int_eq(look(&file, 0), RAW_MAP_HOLE);
	ck_assert(allocate(&file, 0, 1, raw_map_gen(file.map, 0)));
	ck_assert_int_eq(look(&file, PER_REGION), RAW_MAP_HOLE);
	ck_assert_int_eq(raw_map_lookup(file.map, 0, 1, &run),
			 RAW_MAP_UNKNOWN);
	ck_assert_uint_eq(file.map->forgotten, 1);
	/* The seek says hole; but we gave it to somebody. */
	ck_assert_int_eq(look(&file, 0), RAW_MAP_MAYBE);
	ck_assert_int_eq(look(&file, 1), RAW_MAP_DATA);
	/* Once trimmed it is a hole for certain. */
	unmap(&file, 0, 1);
	ck_assert_int_eq(look(&file, 0), RAW_MAP_HOLE);
	ck_assert_int_eq(look(&file, 2), RAW_MAP_MAYBE);
	/* Where nothing was given away, a hole is one again. */
	ck_assert_int_eq(look(&file, 2 * PER_REGION), RAW_MAP_HOLE);
	ck_assert_int_eq(look(&file, PER_REGION), RAW_MAP_HOLE);
	raw_map_free(file.map);
	play_fini(&file);
}

START_TEST(a_forgotten_region_is_learned_again_with_care)
{
	ck_assert_int_eq(corun_virtual(1, forget_co, NULL), 0);
}
END_TEST

/* ---- what happens in between ---- */

static void unmap_meanwhile(struct playfile *file)
{
	unmap(file, 0, 4);
}

static void allocate_meanwhile(struct playfile *file)
{
	/* Another coroutine was faster: learned, allocated, forgotten. */
	ck_assert_int_eq(look(file, 0), RAW_MAP_HOLE);
	ck_assert(allocate(file, 0, 1, raw_map_gen(file->map, 0)));
	ck_assert_int_eq(look(file, PER_REGION + 1), RAW_MAP_HOLE);
}

static void meanwhile_co(void *arg)
{
	struct playfile file;
	uint32_t gen;

	(void)arg;
	play_init(&file, 2 * RAW_REGION);
	play_data(&file, 0, 10);
	play_data(&file, PER_REGION, 1);
	new_map(&file, 1);
	/* Two seeks say data, part of which is gone when all is asked. */
	file.hook = unmap_meanwhile;
	file.hook_nth = 2;
	ck_assert_int_eq(look(&file, 0), RAW_MAP_HOLE);
	ck_assert_int_eq(look(&file, 4), RAW_MAP_DATA);
	/* An allocation that an unmap came across is not believed. */
	gen = raw_map_gen(file.map, 0);
	unmap(&file, 100, 1);
	ck_assert(!allocate(&file, 0, 1, gen));
	ck_assert_int_eq(look(&file, 0), RAW_MAP_HOLE);
	raw_map_free(file.map);

	punch(&file, 0, 10);
	play_data(&file, 20, 1);
	new_map(&file, 1);
	file.hook = allocate_meanwhile;
	file.hook_nth = 1;
	ck_assert_int_eq(look(&file, 0), RAW_MAP_MAYBE);
	raw_map_free(file.map);
	play_fini(&file);
}

START_TEST(changes_while_learning_are_not_lost)
{
	ck_assert_int_eq(corun_virtual(1, meanwhile_co, NULL), 0);
}
END_TEST

static void huge_co(void *arg)
{
	/* 16 EiB less a bit would overflow; 4 EiB are 2^35 regions. */
	uint64_t size = UINT64_C(1) << 62, run;
	uint64_t first = (UINT64_C(15) << 40) >> RAW_BLOCK_SHIFT;
	struct raw_map *map;

	(void)arg;
	ck_assert_int_eq(raw_map_new(size, 8, &the_seq, &map), 0);
	ck_assert_uint_eq(map->slot_mask, RAW_MAP_SLOTS_MAX - 1);
	/* Whole regions need no asking. */
	raw_map_unmap_begin(map, 0, size);
	raw_map_unmap_end(map, 0, size, true);
	ck_assert_int_eq(raw_map_lookup(map, 0, 9, &run), RAW_MAP_HOLE);
	/* Far apart, in one slot: one of them is remembered. */
	raw_map_unmap_begin(map, first << RAW_BLOCK_SHIFT, RAW_REGION);
	raw_map_unmap_end(map, first << RAW_BLOCK_SHIFT, RAW_REGION, true);
	ck_assert_int_eq(raw_map_lookup(map, first << RAW_BLOCK_SHIFT, 9, &run),
			 RAW_MAP_HOLE);
	ck_assert_int_eq(raw_map_lookup(map, (first << RAW_BLOCK_SHIFT) %
					(RAW_MAP_SLOTS_MAX * RAW_REGION), 9,
					&run), RAW_MAP_UNKNOWN);
	raw_map_free(map);
}

START_TEST(huge_files_take_no_more_memory)
{
	ck_assert_int_eq(corun_virtual(1, huge_co, NULL), 0);
}
END_TEST

/* ---- random operations ---- */

/* Blocks from @block on of which something is said that is not so. */
static unsigned int lies_at(const struct playfile *file, uint64_t block)
{
	uint64_t pos = block << RAW_BLOCK_SHIFT, run;
	enum raw_map_kind kind = raw_map_lookup(file->map, pos,
						file->bdev.size - pos, &run);
	uint64_t end = (pos + run + RAW_BLOCK - 1) >> RAW_BLOCK_SHIFT;
	unsigned int lies = 0;

	for (; block < end; block++) {
		if (kind == RAW_MAP_DATA)
			lies += !file->space[block];
		if (kind == RAW_MAP_HOLE)
			lies += file->written[block] || file->accepted[block];
	}
	return lies;
}

struct random_run {
	uint64_t	seed;
	uint32_t	pages;
	uint64_t	forgotten;
};

static void random_co(void *arg)
{
	struct random_run *run = arg;
	struct playfile file;
	struct random rnd;
	unsigned int lies = 0;

	random_init(&rnd, run->seed);
	play_init(&file, 3 * RAW_REGION + 700 * RAW_BLOCK + 5);
	for (uint64_t i = 0; i < file.nr;) {
		uint64_t nr = 1 + random_below(&rnd, 5000);

		nr = MIN(nr, file.nr - i);
		if (random_one_in(&rnd, 2))
			play_data(&file, i, nr);
		i += nr;
	}
	new_map(&file, run->pages);
	for (int i = 0; i < 1000; i++) {
		uint64_t first = random_below(&rnd, file.nr);
		uint64_t most = PER_REGION - first % PER_REGION;
		uint64_t nr = 1 + random_below(&rnd, random_one_in(&rnd, 4) ?
					       60000 : 40);
		uint32_t gen;

		nr = MIN(nr, file.nr - first);
		switch (random_below(&rnd, 4)) {
		case 0:
			look(&file, first);
			break;
		case 1:
			nr = MIN(nr, most);
			gen = raw_map_gen(file.map, first << RAW_BLOCK_SHIFT);
			ck_assert(allocate(&file, first, nr, gen));
			break;
		case 2:
			unmap(&file, first, nr);
			break;
		case 3:
			/* Written back, as far as it has space. */
			for (uint64_t j = first; j < first + nr; j++)
				file.written[j] = file.space[j];
			break;
		}
		for (int j = 0; j < 10; j++)
			lies += lies_at(&file, random_below(&rnd, file.nr));
		lies += lies_at(&file, first);
	}
	ck_assert_uint_eq(lies, 0);
	run->forgotten += file.map->forgotten;
	raw_map_free(file.map);
	play_fini(&file);
}

START_TEST(random_changes_never_make_it_lie)
{
	struct random_run run = { .seed = test_seed("raw_map") };

	for (unsigned int i = 0; i < 9; i++, run.seed++) {
		run.pages = 1 + i % 3;
		ck_assert_int_eq(corun_virtual(run.seed, random_co, &run), 0);
	}
	ck_assert_uint_gt(run.forgotten, 0);
}
END_TEST

/* ---- threads: look-ups beside a page that changes owners ---- */

#define LEARNS	60

struct readers {
	struct playfile	file;
	unsigned int	stop;		/* atomic */
};

static void *reader_thread(void *arg)
{
	struct readers *r = arg;
	struct random rnd;
	uint64_t known = 0;

	random_init(&rnd, 1);
	while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED)) {
		uint64_t block = random_below(&rnd, r->file.nr), run;
		enum raw_map_kind kind;

		kind = raw_map_lookup(r->file.map, block << RAW_BLOCK_SHIFT,
				      64 * RAW_BLOCK, &run);
		if (kind == RAW_MAP_UNKNOWN)
			continue;
		known++;
		for (uint64_t i = 0; i < run >> RAW_BLOCK_SHIFT; i++)
			if ((kind == RAW_MAP_DATA) != r->file.written[block + i])
				return NULL;
	}
	return (void *)(uintptr_t)(known ? 1 : 2);
}

static void learner_co(void *arg)
{
	struct readers *r = arg;

	for (uint64_t i = 0; i < LEARNS; i++) {
		look(&r->file, i % 3 * PER_REGION);
		coroutine_sleep_ns(NSEC_PER_MSEC);
	}
}

START_TEST(lookups_see_one_region_while_its_page_is_taken)
{
	struct readers r = { 0 };
	pthread_t threads[2];
	struct loop *loop;
	void *ret;

	play_init(&r.file, 3 * RAW_REGION);
	for (uint64_t i = 0; i < r.file.nr; i++)
		r.file.written[i] = hash64(i / 8) & 1;
	new_map(&r.file, 1);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL,
						reader_thread, &r), 0);
	ck_assert_int_eq(loop_new(&loop), 0);
	ck_assert_int_eq(corun(loop, learner_co, &r), 0);
	loop_free(loop);
	__atomic_store_n(&r.stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], &ret);
		ck_assert_msg(ret != NULL, "a look-up mixed two regions");
	}
	ck_assert_uint_eq(r.file.map->learned, LEARNS);
	raw_map_free(r.file.map);
	play_fini(&r.file);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("raw_map");
	TCase *tc = tcase_create("raw_map");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, it_says_what_the_file_says);
	tcase_add_test(tc, what_cannot_be_asked_is_neither_hole_nor_data);
	tcase_add_test(tc, a_forgotten_region_is_learned_again_with_care);
	tcase_add_test(tc, changes_while_learning_are_not_lost);
	tcase_add_test(tc, huge_files_take_no_more_memory);
	tcase_add_test(tc, random_changes_never_make_it_lie);
	tcase_add_test(tc, lookups_see_one_region_while_its_page_is_taken);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
