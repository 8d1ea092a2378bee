/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_iomap.c - the loop over mappings, on a store made of arrays.
 *
 * The store maps blocks of 16 bytes to random places of a small device, copies
 * on write through srcmap, and moves blocks between begin and the body's look
 * at the cookie; freed places are overwritten at once, so whoever trusts a
 * stale mapping reads or writes nonsense.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/iomap.h"
#include "cache/volume.h"
#include "tests/corun.h"

#define BLOCK		16u
#define BLOCKS		64u		/* of the volume */
#define DEV_BLOCKS	256u
#define SIZE		((uint64_t)BLOCK * BLOCKS)
#define POISON		0xee

struct block {
	enum iomap_type	type;
	unsigned int	dev;		/* MAPPED, UNWRITTEN */
	bool		shared;		/* MAPPED: a write goes elsewhere */
};

struct arrays {
	struct volume	vol;
	struct random	rnd;
	struct block	map[BLOCKS];
	bool		used[DEV_BLOCKS];
	uint8_t		dev[DEV_BLOCKS * BLOCK];
	uint8_t		oracle[SIZE];

	/* The present begin of a write to new space. */
	bool		reserved;
	unsigned int	first, nr;	/* volume blocks */
	unsigned int	dest;		/* device blocks */
	bool		filled[BLOCKS];

	/* What the loop did. */
	unsigned int	begins, ends;
	uint64_t	begun_pos, written;
	unsigned int	moves;		/* stale mappings made */
	unsigned int	progress;	/* advances of the body */
	unsigned int	wrong;		/* bytes read that differ */
	unsigned int	fail_begin;	/* the nth begin fails; 0: none */
	int		end_error;
	unsigned int	stale_in;	/* one in n; 0: never */
};

static struct arrays *to_arrays(struct volume *vol)
{
	return container_of(vol, struct arrays, vol);
}

/* ---- the store ---- */

static void dev_free(struct arrays *a, unsigned int dev, unsigned int nr)
{
	memset(a->used + dev, 0, nr);
	memset(a->dev + (size_t)dev * BLOCK, POISON, (size_t)nr * BLOCK);
}

/* A free run of up to @nr device blocks; shortens *@nrp to what there is. */
static unsigned int dev_alloc(struct arrays *a, unsigned int *nrp)
{
	unsigned int at = (unsigned int)random_below(&a->rnd, DEV_BLOCKS);
	unsigned int nr = 0;

	while (a->used[at])
		at = (at + 1) % DEV_BLOCKS;
	while (nr < *nrp && at + nr < DEV_BLOCKS && !a->used[at + nr])
		a->used[at + nr++] = true;
	*nrp = nr;
	return at;
}

/* Blocks from @block on that one mapping describes, at most @max. */
static unsigned int same_run(struct arrays *a, unsigned int block,
			     unsigned int max)
{
	const struct block *b = &a->map[block];
	unsigned int nr = 1;

	while (nr < max && block + nr < BLOCKS && b[nr].type == b->type &&
	       b[nr].shared == b->shared &&
	       (b->type == IOMAP_HOLE || b[nr].dev == b->dev + nr))
		nr++;
	return nr;
}

/* Describe @nr blocks from @block on as they are. */
static void describe(const struct arrays *a, unsigned int block,
		     unsigned int nr, struct iomap *iomap)
{
	const struct block *b = &a->map[block];

	iomap->type = b->type;
	iomap->addr = b->type == IOMAP_HOLE ? IOMAP_NULL_ADDR :
					      (uint64_t)b->dev * BLOCK;
	iomap->offset = (uint64_t)block * BLOCK;
	iomap->length = (uint64_t)nr * BLOCK;
	iomap->flags = b->shared ? IOMAP_F_SHARED : 0;
}

static void reserve(struct arrays *a, unsigned int block, unsigned int nr,
		    struct iomap *iomap, struct iomap *srcmap)
{
	unsigned int src = nr;

	a->dest = dev_alloc(a, &nr);
	a->reserved = true;
	a->first = block;
	a->nr = nr;
	memset(a->filled, 0, sizeof(a->filled));
	/* The source may be known for more or for less. */
	if (a->map[block].type != IOMAP_HOLE)
		describe(a, block, 1 + (unsigned int)
			 random_below(&a->rnd, src), srcmap);
	iomap->type = a->map[block].shared ? IOMAP_MAPPED : IOMAP_UNWRITTEN;
	iomap->addr = (uint64_t)a->dest * BLOCK;
	iomap->offset = (uint64_t)block * BLOCK;
	iomap->length = (uint64_t)nr * BLOCK;
	iomap->flags = IOMAP_F_NEW;
}

static int arrays_begin(struct volume *vol, uint64_t pos, uint64_t length,
			unsigned int flags, struct iomap *iomap,
			struct iomap *srcmap)
{
	struct arrays *a = to_arrays(vol);
	unsigned int block = (unsigned int)(pos / BLOCK), nr;

	ck_assert_uint_eq(a->begins, a->ends);
	ck_assert_uint_gt(length, 0);
	ck_assert_uint_le(pos + length, SIZE);
	ck_assert_uint_eq(iomap->length, 0);
	ck_assert_uint_eq(srcmap->length, 0);
	if (a->fail_begin && a->begins + 1 == a->fail_begin)
		return -ENOSPC;
	a->begins++;
	a->begun_pos = pos;
	nr = 1 + (unsigned int)random_below(&a->rnd, 12);
	nr = same_run(a, block, nr);
	if (!(flags & IOMAP_WRITE) ||
	    (a->map[block].type == IOMAP_MAPPED && !a->map[block].shared)) {
		/* It may begin before what was asked for. */
		while (block && nr < 12 && same_run(a, block - 1, nr + 1) > nr) {
			block--;
			nr++;
		}
		describe(a, block, nr, iomap);
	} else {
		reserve(a, block, nr, iomap, srcmap);
	}
	return 0;
}

/* What was filled is the block from now on; the rest is given back. */
static void commit(struct arrays *a)
{
	for (unsigned int i = 0; i < a->nr; i++) {
		struct block *b = &a->map[a->first + i];

		if (!a->filled[i]) {
			dev_free(a, a->dest + i, 1);
			continue;
		}
		if (b->type != IOMAP_HOLE)
			dev_free(a, b->dev, 1);
		*b = (struct block){ .type = IOMAP_MAPPED, .dev = a->dest + i };
	}
	a->reserved = false;
}

static int arrays_end(struct volume *vol, uint64_t pos, uint64_t length,
		      uint64_t written, unsigned int flags, struct iomap *iomap)
{
	struct arrays *a = to_arrays(vol);

	(void)flags;
	a->ends++;
	ck_assert_uint_eq(a->begins, a->ends);
	ck_assert_uint_eq(pos, a->begun_pos);
	ck_assert(iomap_covers(iomap, pos));
	ck_assert_uint_ge(length, 1);
	ck_assert_uint_le(written, length);
	ck_assert_uint_le(pos + length, iomap->offset + iomap->length);
	a->written += written;
	if (a->reserved)
		commit(a);
	return a->end_error;
}

static bool arrays_always_valid(struct volume *vol, const struct iomap *iomap)
{
	(void)vol;
	(void)iomap;
	return true;
}

static const struct iomap_ops arrays_ops = {
	.iomap_begin	= arrays_begin,
	.iomap_end	= arrays_end,
};

/* What T-13 calls the mutant. */
static const struct iomap_ops careless_ops = {
	.iomap_begin	= arrays_begin,
	.iomap_end	= arrays_end,
	.iomap_valid	= arrays_always_valid,
};

/* Between begin and "the lock": move mapped blocks of the present mapping. */
static void move_blocks(struct arrays *a, uint64_t pos)
{
	unsigned int block = (unsigned int)(pos / BLOCK);

	if (!a->stale_in || !random_one_in(&a->rnd, a->stale_in))
		return;
	for (unsigned int i = 0; i < 4 && block + i < BLOCKS; i++) {
		struct block *b = &a->map[block + i];
		unsigned int one = 1, to;

		if (b->type != IOMAP_MAPPED)
			continue;
		to = dev_alloc(a, &one);
		memcpy(a->dev + (size_t)to * BLOCK,
		       a->dev + (size_t)b->dev * BLOCK, BLOCK);
		dev_free(a, b->dev, 1);
		b->dev = to;
	}
	a->moves++;
	a->vol.map_seq++;
}

static void arrays_init(struct arrays *a, uint64_t seed,
			const struct iomap_ops *ops)
{
	memset(a, 0, sizeof(*a));
	random_init(&a->rnd, seed);
	a->vol.size = SIZE;
	a->vol.iomap_ops = ops;
	memset(a->dev, POISON, sizeof(a->dev));
	for (unsigned int i = 0; i < BLOCKS;) {
		unsigned int nr = 1 + (unsigned int)random_below(&a->rnd, 8);
		enum iomap_type type = random_one_in(&a->rnd, 3) ? IOMAP_HOLE :
				       random_one_in(&a->rnd, 4) ?
				       IOMAP_UNWRITTEN : IOMAP_MAPPED;
		bool shared = type == IOMAP_MAPPED && random_one_in(&a->rnd, 3);
		unsigned int dev = 0;

		nr = MIN(nr, BLOCKS - i);
		if (type != IOMAP_HOLE)
			dev = dev_alloc(a, &nr);
		for (; nr; nr--, i++, dev++) {
			a->map[i] = (struct block){ type, dev, shared };
			if (type != IOMAP_MAPPED)
				continue;
			for (unsigned int j = 0; j < BLOCK; j++)
				a->oracle[i * BLOCK + j] = (uint8_t)
					random_below(&a->rnd, POISON);
			memcpy(a->dev + (size_t)dev * BLOCK,
			       a->oracle + (size_t)i * BLOCK, BLOCK);
		}
	}
}

/* ---- bodies ---- */

static void old_bytes(const struct arrays *a, const struct iomap *iomap,
		      uint64_t pos, uint8_t *to, uint64_t len)
{
	ck_assert_uint_le(pos + len, iomap->offset + iomap->length);
	if (iomap->type == IOMAP_MAPPED)
		memcpy(to, a->dev + iomap_addr(iomap, pos), len);
	else
		memset(to, 0, len);
}

static void read_some(struct arrays *a, struct iomap_iter *iter, uint64_t n)
{
	uint8_t buf[SIZE];

	old_bytes(a, iomap_iter_srcmap(iter), iter->pos, buf, n);
	for (uint64_t i = 0; i < n; i++)
		a->wrong += buf[i] != a->oracle[iter->pos + i];
}

/* A block of new space that is touched first is filled from its source. */
static void fill_from_source(struct arrays *a, struct iomap_iter *iter,
			     unsigned int block)
{
	const struct iomap *src = iomap_iter_srcmap(iter);
	uint64_t pos = (uint64_t)block * BLOCK;
	uint8_t *to = a->dev + iomap_addr(&iter->iomap, pos);

	if (!a->reserved || a->filled[block - a->first])
		return;
	a->filled[block - a->first] = true;
	if (src == &iter->iomap)
		memset(to, 0, BLOCK);
	else
		old_bytes(a, src, pos, to, BLOCK);
}

static void write_some(struct arrays *a, struct iomap_iter *iter, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		uint64_t pos = iter->pos + i;
		uint8_t byte = (uint8_t)random_below(&a->rnd, POISON);

		fill_from_source(a, iter, (unsigned int)(pos / BLOCK));
		a->dev[iomap_addr(&iter->iomap, pos)] = byte;
		a->oracle[pos] = byte;
	}
}

/* Short steps, now and then an early return; @error at last one in n times. */
static int body(struct arrays *a, struct iomap_iter *iter, unsigned int fail_in)
{
	unsigned int steps = 1 + (unsigned int)random_below(&a->rnd, 3);
	uint64_t n;

	while (steps-- && (n = iomap_iter_length(iter)) > 0) {
		move_blocks(a, iter->pos);
		if (!iomap_iter_valid(iter)) {
			ck_assert(iter->iomap.flags & IOMAP_F_STALE);
			return 0;
		}
		if (fail_in && random_one_in(&a->rnd, fail_in))
			return -EIO;
		if (random_one_in(&a->rnd, 2))
			n = 1 + random_below(&a->rnd, n);
		if (iter->flags & IOMAP_WRITE)
			write_some(a, iter, n);
		else
			read_some(a, iter, n);
		iomap_iter_advance(iter, n);
		a->progress++;
	}
	return 0;
}

/* One loop over [@pos, @pos + @len), with what must hold of every loop. */
static int run_loop(struct arrays *a, uint64_t pos, uint64_t len,
		    unsigned int flags, unsigned int fail_in)
{
	struct iomap_iter iter = {
		.vol = &a->vol, .pos = pos, .len = len, .flags = flags,
	};
	int ret;

	a->begins = a->ends = a->moves = a->progress = 0;
	a->written = 0;
	while ((ret = iomap_iter_next(&iter)) > 0) {
		ck_assert(iomap_covers(&iter.iomap, iter.pos));
		ck_assert_uint_gt(iomap_iter_length(&iter), 0);
		iter.status = body(a, &iter, fail_in);
	}
	ck_assert_uint_eq(a->begins, a->ends);
	ck_assert_uint_eq(a->written, iter.done);
	ck_assert_uint_eq(iter.pos, pos + iter.done);
	ck_assert_uint_eq(iter.len, len - iter.done);
	/* Every turn made progress, was stale or is the last. */
	ck_assert_uint_le(a->begins, a->progress + a->moves + 1);
	if (!ret)
		ck_assert_uint_eq(iter.done, len);
	return ret;
}

static void random_range(struct arrays *a, uint64_t *pos, uint64_t *len)
{
	*pos = random_below(&a->rnd, SIZE);
	*len = 1 + random_below(&a->rnd, SIZE - *pos);
}

/* Random loops from one seed; the number of bytes that came out wrong. */
static unsigned int run_seed(uint64_t seed, const struct iomap_ops *ops)
{
	struct arrays *a = malloc(sizeof(*a));
	unsigned int wrong;
	uint64_t pos, len;

	arrays_init(a, seed, ops);
	for (int i = 0; i < 40; i++) {
		unsigned int flags = random_one_in(&a->rnd, 2) ? IOMAP_WRITE : 0;
		unsigned int fail_in = random_one_in(&a->rnd, 4) ? 10 : 0;

		a->stale_in = random_one_in(&a->rnd, 2) ? 3 : 0;
		a->fail_begin = random_one_in(&a->rnd, 8) ? 3 : 0;
		random_range(a, &pos, &len);
		run_loop(a, pos, len, flags, fail_in);
	}
	a->stale_in = a->fail_begin = 0;
	ck_assert_int_eq(run_loop(a, 0, SIZE, 0, 0), 0);
	wrong = a->wrong;
	free(a);
	return wrong;
}

START_TEST(t01_random_maps_give_the_bytes_of_a_flat_oracle)
{
	uint64_t seed = test_seed("iomap");

	for (unsigned int i = 0; i < 500; i++)
		ck_assert_msg(run_seed(seed + i, &arrays_ops) == 0,
			      "wrong bytes with FOLIOD_SEED=%" PRIu64,
			      seed + i);
}
END_TEST

START_TEST(t01_without_the_cookie_the_oracle_is_missed)
{
	unsigned int wrong = 0;

	for (unsigned int i = 0; i < 50; i++)
		wrong += run_seed(i, &careless_ops);
	ck_assert_uint_gt(wrong, 0);
}
END_TEST

/* ---- single clauses ---- */

static void one_map(struct arrays *a)
{
	arrays_init(a, 1, &arrays_ops);
	for (unsigned int i = 0; i < BLOCKS; i++)
		a->map[i] = (struct block){ .type = IOMAP_HOLE };
}

START_TEST(t01_a_body_without_progress_ends_the_loop)
{
	struct arrays a;
	struct iomap_iter iter = { .vol = &a.vol, .pos = 5, .len = 100 };

	one_map(&a);
	ck_assert_int_eq(iomap_iter_next(&iter), 1);
	ck_assert_int_eq(iomap_iter_next(&iter), 0);
	ck_assert_uint_eq(iter.done, 0);
	ck_assert_uint_eq(a.begins, 1);
	ck_assert_uint_eq(a.ends, 1);
}
END_TEST

START_TEST(t01_a_stale_mapping_is_begun_again_without_progress)
{
	struct arrays a;
	struct iomap_iter iter = { .vol = &a.vol, .pos = 5, .len = 100 };

	one_map(&a);
	for (unsigned int i = 0; i < 10; i++) {
		ck_assert_int_eq(iomap_iter_next(&iter), 1);
		ck_assert(!(iter.iomap.flags & IOMAP_F_STALE));
		a.vol.map_seq++;
		ck_assert(!iomap_iter_valid(&iter));
	}
	ck_assert_int_eq(iomap_iter_next(&iter), 1);
	ck_assert(iomap_iter_valid(&iter));
	ck_assert_uint_eq(a.begins, 11);
	ck_assert_int_eq(iomap_iter_next(&iter), 0);
}
END_TEST

START_TEST(t01_an_error_after_progress_tells_what_was_done)
{
	struct arrays a;
	struct iomap_iter iter = { .vol = &a.vol, .pos = 0, .len = 100 };

	one_map(&a);
	ck_assert_int_eq(iomap_iter_next(&iter), 1);
	iomap_iter_advance(&iter, 7);
	iter.status = -EIO;
	ck_assert_int_eq(iomap_iter_next(&iter), -EIO);
	ck_assert_uint_eq(iter.done, 7);
	ck_assert_uint_eq(a.written, 7);
	ck_assert_uint_eq(a.ends, 1);
}
END_TEST

START_TEST(t01_a_failed_begin_has_no_end)
{
	struct arrays a;
	struct iomap_iter iter = { .vol = &a.vol, .pos = 0, .len = SIZE };
	int ret;

	one_map(&a);
	a.fail_begin = 2;
	ret = iomap_iter_next(&iter);
	ck_assert_int_eq(ret, 1);
	iomap_iter_advance(&iter, 1);
	ck_assert_int_eq(iomap_iter_next(&iter), -ENOSPC);
	ck_assert_uint_eq(iter.done, 1);
	ck_assert_uint_eq(a.begins, 1);
	ck_assert_uint_eq(a.ends, 1);
}
END_TEST

START_TEST(t01_an_error_of_end_counts_only_if_nothing_was_done)
{
	struct arrays a;
	struct iomap_iter iter = { .vol = &a.vol, .pos = 0, .len = BLOCK };

	one_map(&a);
	a.end_error = -ENOMEM;
	ck_assert_int_eq(iomap_iter_next(&iter), 1);
	iomap_iter_advance(&iter, 3);
	ck_assert_int_eq(iomap_iter_next(&iter), 1);
	ck_assert_int_eq(iomap_iter_next(&iter), -ENOMEM);
	ck_assert_uint_eq(iter.done, 3);
}
END_TEST

START_TEST(nothing_to_do_begins_nothing)
{
	struct arrays a;
	struct iomap_iter iter = { .vol = &a.vol, .pos = 3, .len = 0 };

	one_map(&a);
	ck_assert_int_eq(iomap_iter_next(&iter), 0);
	ck_assert_uint_eq(a.begins, 0);
}
END_TEST

START_TEST(a_short_source_limits_the_body_but_not_the_end)
{
	struct arrays a;
	struct iomap_iter iter = { .vol = &a.vol, .pos = 2, .len = 50 };

	one_map(&a);
	ck_assert_int_eq(iomap_iter_next(&iter), 1);
	iter.iomap.length = 2000;
	iter.srcmap = (struct iomap){
		.type = IOMAP_MAPPED, .offset = 1, .length = 11,
	};
	ck_assert_uint_eq(iomap_iter_length(&iter), 10);
	ck_assert_ptr_eq(iomap_iter_srcmap(&iter), &iter.srcmap);
	iomap_iter_advance(&iter, 10);
	ck_assert_uint_eq(iomap_iter_length(&iter), 0);
	iter.srcmap.length = 0;
	ck_assert_uint_eq(iomap_iter_length(&iter), 40);
	ck_assert_ptr_eq(iomap_iter_srcmap(&iter), &iter.iomap);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("iomap");
	TCase *tc = tcase_create("iomap");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, t01_random_maps_give_the_bytes_of_a_flat_oracle);
	tcase_add_test(tc, t01_without_the_cookie_the_oracle_is_missed);
	tcase_add_test(tc, t01_a_body_without_progress_ends_the_loop);
	tcase_add_test(tc, t01_a_stale_mapping_is_begun_again_without_progress);
	tcase_add_test(tc, t01_an_error_after_progress_tells_what_was_done);
	tcase_add_test(tc, t01_a_failed_begin_has_no_end);
	tcase_add_test(tc, t01_an_error_of_end_counts_only_if_nothing_was_done);
	tcase_add_test(tc, nothing_to_do_begins_nothing);
	tcase_add_test(tc, a_short_source_limits_the_body_but_not_the_end);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
