/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_raw.c - the raw store under the real cache, on simulated disks and on
 * real files.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bdev/bdev.h"
#include "bdev/sim.h"
#include "cache/cache.h"
#include "store/raw.h"
#include "store/raw_map.h"
#include "tests/corun.h"

static struct volume_stats volume_stats_of(const struct volume *vol)
{
	struct volume_stats stats;

	volume_get_stats(vol, &stats);
	return stats;
}

#define KIB		UINT64_C(1024)
#define MIB		(1024 * KIB)

static struct cache *new_cache(uint64_t size)
{
	struct cache_params params = {
		.size = size,
		.staging_max = MIB,
		.nr_threads = 1,
		.nr_shards = 1,
	};
	struct cache *cache;

	ck_assert_int_eq(cache_new(&params, &cache), 0);
	return cache;
}

/* ---- a volume on a simulated disk ---- */

struct fixture {
	struct sim_params	sim;
	struct raw_params	raw;
	bool			weak;		/* can neither zero nor allocate */
	struct cache		*cache;
	struct bdev		*bdev;		/* the volume's */
	struct volume		*vol;
};

static void fixture_open(struct fixture *fx)
{
	struct bdev *bdev;

	if (!fx->sim.size)
		fx->sim.size = MIB;
	if (!fx->sim.block_size)
		fx->sim.block_size = 512;
	fx->sim.latency_max_ns = 1000;
	fx->sim.write_cache = true;
	fx->cache = new_cache(MIB);
	ck_assert_int_eq(sim_new(&fx->sim, NULL, &bdev), 0);
	fx->bdev = bdev;
	if (fx->weak)
		bdev->can_zero = bdev->can_zero_keep = bdev->can_allocate =
			false;
	ck_assert_int_eq(raw_open_bdev(fx->cache, loop_current(), &bdev, "sim",
				       &fx->raw, &fx->vol), 0);
	ck_assert_ptr_null(bdev);
}

static int fixture_close(struct fixture *fx)
{
	int ret = volume_stop(fx->vol);

	cache_free(fx->cache);
	return ret;
}

/* Write @len bytes of @c, as a door does it: inline, or else waiting. */
static int put(struct volume *vol, uint64_t pos, uint32_t len, int c)
{
	char *buf = malloc(len);
	int ret;

	memset(buf, c, len);
	ret = volume_write_inline(vol, pos, len, buf, 0);
	if (ret == -EAGAIN)
		ret = volume_write(vol, pos, len, buf, 0);
	free(buf);
	return ret;
}

static bool holds(struct volume *vol, uint64_t pos, uint32_t len, int c)
{
	char *buf = malloc(len);
	bool same = volume_pread(vol, buf, len, pos) == 0;

	for (uint32_t i = 0; i < len; i++)
		same = same && buf[i] == (char)c;
	free(buf);
	return same;
}

static bool sim_holds(const struct bdev *bdev, uint64_t pos, uint32_t len,
		      int c)
{
	char *buf = malloc(len);
	bool same = true;

	sim_peek(bdev, pos, buf, len);
	for (uint32_t i = 0; i < len; i++)
		same = same && buf[i] == (char)c;
	free(buf);
	return same;
}

/* Is all of [@pos, @pos + @len) reported as @hole? */
static bool reports(struct volume *vol, uint64_t pos, uint64_t len, bool hole)
{
	while (len) {
		struct volume_extent ext;
		unsigned int nr = 1;

		ck_assert_int_eq(volume_extents(vol, pos, len, &ext, &nr), 0);
		ck_assert_uint_eq(nr, 1);
		if (ext.hole != hole || ext.zero != hole)
			return false;
		pos += ext.len;
		len -= ext.len;
	}
	return true;
}

#define SIM_TEST(name, ...)						\
static void name##_co(void *arg);					\
START_TEST(name)							\
{									\
	struct fixture fx = { __VA_ARGS__ };				\
	ck_assert_int_eq(corun_virtual(1, name##_co, &fx), 0);		\
}									\
END_TEST								\
static void name##_co(void *arg)

SIM_TEST(holes_are_read_without_io, .sim.sparse = true)
{
	struct fixture *fx = arg;

	fixture_open(fx);
	ck_assert(holds(fx->vol, 0, MIB, 0));
	ck_assert(reports(fx->vol, 0, MIB, true));
	ck_assert_uint_eq(fx->bdev->stats.ops[BDEV_READ], 0);
	ck_assert_uint_eq(sim_allocated(fx->bdev), 0);
	ck_assert_int_eq(fixture_close(fx), 0);
}

SIM_TEST(a_write_into_a_hole_allocates_before_the_reply, .sim.sparse = true)
{
	struct fixture *fx = arg;

	fixture_open(fx);
	ck_assert_int_eq(put(fx->vol, 8192 + 5, 4096, 'a'), 0);
	/* The two blocks that it touches and no more; nothing written yet. */
	ck_assert_uint_eq(sim_allocated(fx->bdev), 8192);
	ck_assert_uint_eq(fx->bdev->stats.ops[BDEV_WRITE], 0);
	ck_assert(reports(fx->vol, 8192, 8192, false));
	ck_assert(reports(fx->vol, 0, 8192, true));
	ck_assert(reports(fx->vol, 16384, MIB - 16384, true));
	/* From now on these blocks take writes at once. */
	ck_assert_int_eq(volume_write_inline(fx->vol, 8192, 2, "bb", 0), 0);
	ck_assert_int_eq(volume_write_inline(fx->vol, 0, 2, "bb", 0), -EAGAIN);
	ck_assert_uint_eq(fx->bdev->stats.ops[BDEV_ALLOCATE], 1);
	ck_assert_int_eq(volume_flush(fx->vol), 0);
	ck_assert(sim_holds(fx->bdev, 8192, 2, 'b'));
	ck_assert(sim_holds(fx->bdev, 8194, 3, 0));
	ck_assert(sim_holds(fx->bdev, 8197, 4096, 'a'));
	ck_assert_uint_eq(sim_allocated(fx->bdev), 8192);
	ck_assert_int_eq(fixture_close(fx), 0);
}

SIM_TEST(no_space_is_told_when_writing_not_later, .sim.sparse = true,
	 .sim.space_max = 32 * KIB)
{
	struct fixture *fx = arg;

	fixture_open(fx);
	for (unsigned int i = 0; i < 8; i++)
		ck_assert_int_eq(put(fx->vol, i * 3 * 4096, 4096, 'x'), 0);
	ck_assert_int_eq(put(fx->vol, 512 * KIB, 1, 'y'), -ENOSPC);
	ck_assert(holds(fx->vol, 512 * KIB, 4096, 0));
	ck_assert(reports(fx->vol, 512 * KIB, 4096, true));
	/* What has its space is still written, and more after a trim. */
	ck_assert_int_eq(put(fx->vol, 0, 4096, 'z'), 0);
	ck_assert_int_eq(volume_flush(fx->vol), 0);
	ck_assert_int_eq(volume_trim(fx->vol, 0, 4096, 0), 0);
	ck_assert_int_eq(put(fx->vol, 512 * KIB, 1, 'y'), 0);
	ck_assert_int_eq(put(fx->vol, 0, 4096, 'z'), -ENOSPC);
	ck_assert_int_eq(volume_flush(fx->vol), 0);
	ck_assert_uint_eq(volume_stats_of(fx->vol).wb_errors, 0);
	ck_assert_int_eq(fixture_close(fx), 0);
}

SIM_TEST(a_failed_allocation_fails_the_write_alone, .sim.sparse = true)
{
	struct fixture *fx = arg;

	fixture_open(fx);
	sim_set_fault(fx->bdev, BDEV_ALLOCATE, 2, 1, EIO, false);
	ck_assert_int_eq(put(fx->vol, 0, 4096, 'a'), 0);
	ck_assert_int_eq(put(fx->vol, 4096, 4096, 'b'), -EIO);
	ck_assert_uint_eq(sim_faults_fired(fx->bdev), 1);
	ck_assert(holds(fx->vol, 4096, 4096, 0));
	ck_assert_int_eq(put(fx->vol, 4096, 4096, 'b'), 0);
	ck_assert_int_eq(volume_flush(fx->vol), 0);
	ck_assert(sim_holds(fx->bdev, 4096, 4096, 'b'));
	ck_assert_int_eq(fixture_close(fx), 0);
}

SIM_TEST(trim_gives_space_back_and_reads_zero, .sim.sparse = true)
{
	struct fixture *fx = arg;

	fixture_open(fx);
	ck_assert_int_eq(put(fx->vol, 0, 64 * KIB, 'a'), 0);
	ck_assert_int_eq(volume_flush(fx->vol), 0);
	/* Dirty again: what is trimmed must not come back. */
	ck_assert_int_eq(put(fx->vol, 0, 64 * KIB, 'b'), 0);
	ck_assert(fx->vol->can_unmap);
	ck_assert_int_eq(volume_trim(fx->vol, 5000, 40000, 0), 0);
	ck_assert(holds(fx->vol, 0, 5000, 'b'));
	ck_assert(holds(fx->vol, 5000, 40000, 0));
	ck_assert(holds(fx->vol, 45000, 64 * KIB - 45000, 'b'));
	ck_assert(reports(fx->vol, 8192, 40960 - 8192, true));
	ck_assert(reports(fx->vol, 0, 8192, false));
	ck_assert_uint_eq(sim_allocated(fx->bdev), 32 * KIB);
	ck_assert_int_eq(volume_flush(fx->vol), 0);
	ck_assert(sim_holds(fx->bdev, 5000, 40000, 0));
	ck_assert_int_eq(fixture_close(fx), 0);
}

SIM_TEST(zeroing_keeps_or_gives_space_as_asked, .sim.sparse = true)
{
	struct fixture *fx = arg;

	fixture_open(fx);
	ck_assert_int_eq(put(fx->vol, 0, 32 * KIB, 'a'), 0);
	ck_assert_int_eq(volume_zero(fx->vol, 0, 16 * KIB, VOLUME_NO_HOLE), 0);
	ck_assert_uint_eq(sim_allocated(fx->bdev), 32 * KIB);
	ck_assert(reports(fx->vol, 0, 32 * KIB, false));
	ck_assert_int_eq(volume_zero(fx->vol, 16 * KIB, 16 * KIB,
				     VOLUME_FAST_ZERO), 0);
	ck_assert_uint_eq(sim_allocated(fx->bdev), 16 * KIB);
	ck_assert(reports(fx->vol, 16 * KIB, 16 * KIB, true));
	/* Space for what was a hole. */
	ck_assert_int_eq(volume_zero(fx->vol, 64 * KIB, 8 * KIB,
				     VOLUME_NO_HOLE | VOLUME_FAST_ZERO), 0);
	ck_assert_uint_eq(sim_allocated(fx->bdev), 24 * KIB);
	ck_assert_int_eq(volume_write_inline(fx->vol, 64 * KIB, 1, "w", 0),
			 -EAGAIN);	/* to be read first */
	ck_assert_int_eq(put(fx->vol, 64 * KIB, 4 * KIB, 'w'), 0);
	ck_assert_uint_eq(fx->bdev->stats.ops[BDEV_ALLOCATE], 1);
	ck_assert(holds(fx->vol, 0, 64 * KIB, 0));
	ck_assert_int_eq(fixture_close(fx), 0);
}

SIM_TEST(slow_zeroing_is_refused_when_fast_is_asked_for, .weak = true)
{
	struct fixture *fx = arg;

	fixture_open(fx);
	ck_assert_int_eq(put(fx->vol, 0, 64 * KIB, 'a'), 0);
	ck_assert(!fx->vol->can_unmap && !fx->vol->can_fast_zero);
	ck_assert_int_eq(volume_zero(fx->vol, 0, 4096, VOLUME_FAST_ZERO),
			 -EOPNOTSUPP);
	ck_assert_int_eq(volume_zero(fx->vol, 0, 4096, VOLUME_FAST_ZERO |
				     VOLUME_NO_HOLE), -EOPNOTSUPP);
	ck_assert_int_eq(volume_zero(fx->vol, 4096, 4096, VOLUME_NO_HOLE), 0);
	/* Its discard promises nothing: trimming writes zeroes too. */
	ck_assert_int_eq(volume_trim(fx->vol, 8192, 4096, 0), 0);
	ck_assert_uint_eq(fx->bdev->stats.ops[BDEV_DISCARD], 0);
	ck_assert_uint_eq(fx->bdev->stats.ops[BDEV_ZERO], 0);
	ck_assert_int_eq(volume_flush(fx->vol), 0);
	ck_assert(sim_holds(fx->bdev, 4096, 8192, 0));
	ck_assert(sim_holds(fx->bdev, 12288, 4096, 'a'));
	ck_assert_int_eq(fixture_close(fx), 0);
}

SIM_TEST(a_device_has_no_holes_and_trims_by_zeroing, .sim.seed = 1)
{
	struct fixture *fx = arg;

	fixture_open(fx);
	ck_assert(reports(fx->vol, 0, MIB, false));
	ck_assert_int_eq(volume_write_inline(fx->vol, 0, 512, volume_zeroes,
					     0), -EAGAIN);
	ck_assert_int_eq(put(fx->vol, 0, 64 * KIB, 'a'), 0);
	ck_assert_uint_eq(fx->bdev->stats.ops[BDEV_ALLOCATE], 0);
	ck_assert_int_eq(volume_trim(fx->vol, 0, 8192, 0), 0);
	ck_assert_uint_eq(fx->bdev->stats.ops[BDEV_DISCARD], 0);
	ck_assert_uint_eq(fx->bdev->stats.ops[BDEV_ZERO], 1);
	ck_assert(holds(fx->vol, 0, 8192, 0));
	ck_assert(holds(fx->vol, 8192, 56 * KIB, 'a'));
	ck_assert_int_eq(fixture_close(fx), 0);
}

SIM_TEST(a_size_that_is_no_multiple_of_a_block_stays, .sim.sparse = true,
	 .sim.size = 100 * 4096 + 1234)
{
	struct fixture *fx = arg;
	uint64_t size = 100 * 4096 + 1234;

	fixture_open(fx);
	ck_assert_uint_eq(fx->vol->size, size);
	ck_assert_int_eq(put(fx->vol, size - 5, 5, 'e'), 0);
	ck_assert(holds(fx->vol, size - 5, 5, 'e'));
	ck_assert_int_eq(volume_flush(fx->vol), 0);
	ck_assert(sim_holds(fx->bdev, size - 5, 5, 'e'));
	ck_assert_int_eq(put(fx->vol, size - 6000, 6000, 'f'), 0);
	ck_assert_int_eq(volume_flush(fx->vol), 0);
	ck_assert(sim_holds(fx->bdev, size - 6000, 6000, 'f'));
	ck_assert_int_eq(volume_trim(fx->vol, 4096, size - 4096, 0), 0);
	ck_assert(reports(fx->vol, 0, size, true));
	ck_assert(holds(fx->vol, size - 6000, 6000, 0));
	ck_assert_uint_eq(sim_allocated(fx->bdev), 0);
	ck_assert_int_eq(fixture_close(fx), 0);
}

SIM_TEST(without_allocation_a_hole_is_as_good_as_data, .sim.sparse = true,
	 .weak = true)
{
	struct fixture *fx = arg;

	fixture_open(fx);
	ck_assert_int_eq(put(fx->vol, 4096, 4096, 'a'), 0);
	ck_assert(reports(fx->vol, 4096, 4096, false));
	ck_assert(reports(fx->vol, 0, 4096, true));
	ck_assert_uint_eq(sim_allocated(fx->bdev), 0);
	ck_assert_int_eq(volume_flush(fx->vol), 0);
	ck_assert(sim_holds(fx->bdev, 4096, 4096, 'a'));
	ck_assert_int_eq(fixture_close(fx), 0);
}

/* ---- a mapping that a trim made untrue (T-13) ---- */

static const struct iomap_ops *real_iomap_ops;
static struct iomap_ops hooked_ops;
static unsigned int hooks_left;

/* Right after a write was mapped, before it looks at any folio. */
static int begin_then_trim(struct volume *vol, uint64_t pos, uint64_t length,
			   unsigned int flags, struct iomap *iomap,
			   struct iomap *srcmap)
{
	int ret = real_iomap_ops->iomap_begin(vol, pos, length, flags, iomap,
					      srcmap);

	if (!ret && (flags & IOMAP_WRITE) && hooks_left) {
		hooks_left--;
		ck_assert_int_eq(volume_trim(vol, 0, 64 * KIB, 0), 0);
	}
	return ret;
}

static bool always_valid(struct volume *vol, const struct iomap *iomap)
{
	(void)vol;
	(void)iomap;
	return true;
}

/*
 * An inline write maps allocated space, a trim takes it, the write goes on.
 * Returns the bytes that are dirty without space, which must be none.
 */
static uint64_t dirty_without_space(struct fixture *fx, bool cookie)
{
	char buf[4096];
	uint64_t bytes;
	int ret;

	fixture_open(fx);
	ck_assert_int_eq(put(fx->vol, 0, 64 * KIB, 'a'), 0);
	ck_assert_int_eq(volume_flush(fx->vol), 0);
	real_iomap_ops = fx->vol->iomap_ops;
	hooked_ops = *real_iomap_ops;
	hooked_ops.iomap_begin = begin_then_trim;
	if (!cookie)
		hooked_ops.iomap_valid = always_valid;
	hooks_left = 1;
	fx->vol->iomap_ops = &hooked_ops;
	memset(buf, 'b', sizeof(buf));
	ret = volume_write_inline(fx->vol, 4096, 4096, buf, 0);
	if (ret == -EAGAIN)
		ret = volume_write(fx->vol, 4096, 4096, buf, 0);
	ck_assert_int_eq(ret, 0);
	ck_assert_uint_eq(hooks_left, 0);
	fx->vol->iomap_ops = real_iomap_ops;
	bytes = 4096 - sim_allocated(fx->bdev);
	ck_assert(holds(fx->vol, 4096, 4096, 'b'));
	ck_assert_int_eq(fixture_close(fx), 0);
	return bytes;
}

SIM_TEST(t13_a_write_whose_map_was_trimmed_allocates_anew, .sim.sparse = true)
{
	struct fixture *fx = arg, copy = *fx;

	ck_assert_uint_eq(dirty_without_space(fx, true), 0);
	/* And the cookie is why. */
	ck_assert_uint_eq(dirty_without_space(&copy, false), 4096);
}

/* ---- random operations against a flat oracle ---- */

#define RANDOM_SIZE	(60 * 4096 + 777)

struct oracle {
	struct fixture	fx;
	uint64_t	seed;
	uint8_t		bytes[RANDOM_SIZE];
};

static void random_step(struct oracle *o, struct random *rnd, unsigned int i)
{
	uint64_t pos = random_below(rnd, RANDOM_SIZE);
	uint32_t len = 1 + (uint32_t)random_below(rnd, 20000);
	struct volume *vol = o->fx.vol;
	unsigned int flags = random_one_in(rnd, 2) ? VOLUME_NO_HOLE : 0;
	int c = (int)(1 + i % 250);

	if (random_one_in(rnd, 2)) {
		pos = round_down64(pos, 4096);
		len = (uint32_t)round_up64(len, 4096);
	}
	len = (uint32_t)MIN((uint64_t)len, RANDOM_SIZE - pos);
	switch (random_below(rnd, 8)) {
	case 0:
		c = 0;
		ck_assert_int_eq(volume_trim(vol, pos, len, 0), 0);
		break;
	case 1:
		c = 0;
		ck_assert_int_eq(volume_zero(vol, pos, len, flags), 0);
		break;
	case 2:
		ck_assert_int_eq(volume_flush(vol), 0);
		return;
	default:
		ck_assert_int_eq(put(vol, pos, len, c), 0);
		break;
	}
	memset(o->bytes + pos, c, len);
}

/* The volume reads as the oracle, and holes are where it has only zeroes. */
static void compare(struct oracle *o)
{
	static uint8_t buf[RANDOM_SIZE];
	struct volume_extent ext[64];
	unsigned int nr = ARRAY_SIZE(ext);
	uint64_t pos = 0;

	ck_assert_int_eq(volume_pread(o->fx.vol, buf, RANDOM_SIZE, 0), 0);
	ck_assert_int_eq(memcmp(buf, o->bytes, RANDOM_SIZE), 0);
	ck_assert_int_eq(volume_extents(o->fx.vol, 0, RANDOM_SIZE, ext, &nr),
			 0);
	for (unsigned int i = 0; i < nr; i++, pos += ext[i - 1].len) {
		uint64_t wrong = 0;

		for (uint64_t j = 0; ext[i].hole && j < ext[i].len; j++)
			wrong += o->bytes[pos + j] != 0;
		ck_assert_uint_eq(wrong, 0);
	}
}

static void random_co(void *arg)
{
	struct oracle *o = arg;
	static uint8_t buf[RANDOM_SIZE];
	struct random rnd;

	random_init(&rnd, o->seed);
	fixture_open(&o->fx);
	for (unsigned int i = 0; i < 300; i++) {
		random_step(o, &rnd, i);
		if (i % 10 == 0)
			compare(o);
	}
	ck_assert_int_eq(volume_flush(o->fx.vol), 0);
	sim_peek(o->fx.bdev, 0, buf, RANDOM_SIZE);
	ck_assert_int_eq(memcmp(buf, o->bytes, RANDOM_SIZE), 0);
	ck_assert_int_eq(fixture_close(&o->fx), 0);
}

static void run_random(const char *what, bool sparse, enum volume_mode mode)
{
	uint64_t seed = test_seed(what);
	struct oracle *o = malloc(sizeof(*o));

	for (unsigned int i = 0; i < 10; i++) {
		memset(o, 0, sizeof(*o));
		o->seed = seed + i;
		o->fx.sim.seed = seed + i;
		o->fx.sim.size = RANDOM_SIZE;
		o->fx.sim.sparse = sparse;
		o->fx.raw.mode = mode;
		ck_assert_int_eq(corun_virtual(seed + i, random_co, o), 0);
	}
	free(o);
}

START_TEST(random_requests_on_a_sparse_disk_match_an_oracle)
{
	run_random("raw sparse", true, VOLUME_WRITEBACK);
	run_random("raw sparse writethrough", true, VOLUME_WRITETHROUGH);
	run_random("raw sparse direct", true, VOLUME_NONE);
}
END_TEST

START_TEST(random_requests_on_a_device_match_an_oracle)
{
	run_random("raw device", false, VOLUME_WRITEBACK);
	run_random("raw device direct", false, VOLUME_NONE);
}
END_TEST

/* ---- real files ---- */

struct filetest {
	char			dir[64];
	char			path[80];
	char			msg[256];
	struct cache		*cache;
	struct volume		*vol;
	struct raw_params	raw;
	void			(*fn)(struct filetest *ft);
};

static void make_file(struct filetest *ft, uint64_t size)
{
	int fd = open(ft->path, O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

static int file_open(struct filetest *ft)
{
	memset(ft->msg, 0, sizeof(ft->msg));
	return raw_open(ft->cache, loop_current(), ft->path, &ft->raw,
			&ft->vol, ft->msg, sizeof(ft->msg));
}

static void filetest_co(void *arg)
{
	struct filetest *ft = arg;

	ck_assert_int_eq(bdev_loop_init(loop_current()), 0);
	ft->cache = new_cache(4 * MIB);
	ft->fn(ft);
	cache_free(ft->cache);
	bdev_loop_fini(loop_current());
}

static void run_filetest(void (*fn)(struct filetest *ft), unsigned int flags)
{
	const char *tmp = getenv("TMPDIR");
	struct filetest ft = { .fn = fn, .raw.flags = flags };
	struct loop *loop;

	snprintf(ft.dir, sizeof(ft.dir), "%s/check_raw-XXXXXX",
		 tmp && strlen(tmp) < 40 ? tmp : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(ft.dir));
	snprintf(ft.path, sizeof(ft.path), "%s/file", ft.dir);
	ck_assert_int_eq(loop_new(&loop), 0);
	ck_assert_int_eq(corun(loop, filetest_co, &ft), 0);
	loop_free(loop);
	unlink(ft.path);
	ck_assert_int_eq(rmdir(ft.dir), 0);
}

static bool file_holds(const struct filetest *ft, uint64_t pos, uint32_t len,
		       int c)
{
	int fd = open(ft->path, O_RDONLY | O_CLOEXEC);
	char *buf = malloc(len);
	bool same = pread(fd, buf, len, (off_t)pos) == (ssize_t)len;

	for (uint32_t i = 0; i < len; i++)
		same = same && buf[i] == (char)c;
	free(buf);
	close(fd);
	return same;
}

static void odd_size(struct filetest *ft)
{
	uint64_t size = 3 * MIB + 1001;
	struct stat st;

	make_file(ft, size);
	ck_assert_int_eq(file_open(ft), 0);
	ck_assert_uint_eq(ft->vol->size, size);
	ck_assert(holds(ft->vol, 0, MIB, 0));
	ck_assert_int_eq(put(ft->vol, size - 3000, 3000, 'q'), 0);
	ck_assert_int_eq(put(ft->vol, MIB + 1, 100000, 'r'), 0);
	ck_assert_int_eq(volume_flush(ft->vol), 0);
	ck_assert_int_eq(put(ft->vol, size - 1, 1, 's'), 0);
	ck_assert_int_eq(volume_trim(ft->vol, MIB + 8192, 65536, 0), 0);
	ck_assert_int_eq(volume_stop(ft->vol), 0);
	ck_assert_int_eq(stat(ft->path, &st), 0);
	ck_assert_uint_eq(st.st_size, size);
	ck_assert(file_holds(ft, size - 3000, 2999, 'q'));
	ck_assert(file_holds(ft, size - 1, 1, 's'));
	ck_assert(file_holds(ft, MIB + 1, 8191, 'r'));
	ck_assert(file_holds(ft, MIB + 8192, 65536, 0));

	/* What was written is found again, what was not is a hole. */
	ck_assert_int_eq(file_open(ft), 0);
	ck_assert(holds(ft->vol, size - 3000, 2999, 'q'));
	ck_assert(holds(ft->vol, MIB + 8192 + 65536,
			100001 - 8192 - 65536, 'r'));
	ck_assert(reports(ft->vol, MIB + 4096, 4096, false));
	ck_assert_int_eq(volume_stop(ft->vol), 0);
}

START_TEST(a_file_of_odd_size_is_served_exactly)
{
	run_filetest(odd_size, 0);
}
END_TEST

START_TEST(a_buffered_file_of_odd_size_is_served_exactly)
{
	run_filetest(odd_size, BDEV_OPEN_BUFFERED);
}
END_TEST

START_TEST(a_file_of_odd_size_is_served_exactly_by_threads)
{
	run_filetest(odd_size, BDEV_OPEN_THREADS);
}
END_TEST

static void forgetful(struct filetest *ft)
{
	uint64_t far = 3 * RAW_REGION;

	make_file(ft, 4 * RAW_REGION);
	ft->raw.map_pages_max = 1;
	ck_assert_int_eq(file_open(ft), 0);
	/* Dirty in one region, then in another: the first is forgotten. */
	ck_assert_int_eq(put(ft->vol, 4096, 4096, 'n'), 0);
	ck_assert_int_eq(put(ft->vol, far, 4096, 'f'), 0);
	ck_assert(reports(ft->vol, 4096, 4096, false));
	ck_assert(holds(ft->vol, 4096, 4096, 'n'));
	ck_assert_int_eq(volume_flush(ft->vol), 0);
	/* Push both out of the cache. */
	ck_assert(holds(ft->vol, 0, 4096, 0));
	for (uint64_t pos = 0; pos < 8 * MIB; pos += 64 * KIB)
		ck_assert_int_eq(put(ft->vol, 2 * RAW_REGION + pos, 64 * KIB,
				     'x'), 0);
	ck_assert(holds(ft->vol, 4096, 4096, 'n'));
	ck_assert(holds(ft->vol, far, 4096, 'f'));
	ck_assert_int_eq(volume_stop(ft->vol), 0);
}

START_TEST(what_the_map_forgot_is_still_there)
{
	run_filetest(forgetful, 0);
}
END_TEST

static void refused(struct filetest *ft)
{
	struct volume *first;

	ck_assert_int_eq(file_open(ft), -ENOENT);
	ck_assert_ptr_nonnull(strstr(ft->msg, ft->path));
	/* Nothing was opened by that. */
	ck_assert_ptr_null(ft->vol);
	make_file(ft, MIB);
	ck_assert_int_eq(file_open(ft), 0);
	first = ft->vol;
	ck_assert_int_eq(file_open(ft), -EBUSY);
	ck_assert_ptr_nonnull(strstr(ft->msg, ft->path));
	ck_assert_int_eq(volume_stop(first), 0);

	/* Read-only ones share it. */
	ft->raw.read_only = true;
	ck_assert_int_eq(file_open(ft), 0);
	ck_assert(ft->vol->read_only && !ft->vol->can_unmap);
	first = ft->vol;
	ck_assert_int_eq(file_open(ft), 0);
	ck_assert(holds(ft->vol, 0, 4096, 0));
	ck_assert_int_eq(volume_stop(ft->vol), 0);
	ck_assert_int_eq(volume_stop(first), 0);
}

START_TEST(a_file_that_cannot_be_served_is_named)
{
	run_filetest(refused, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("raw");
	TCase *tc = tcase_create("raw");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, holes_are_read_without_io);
	tcase_add_test(tc, a_write_into_a_hole_allocates_before_the_reply);
	tcase_add_test(tc, no_space_is_told_when_writing_not_later);
	tcase_add_test(tc, a_failed_allocation_fails_the_write_alone);
	tcase_add_test(tc, trim_gives_space_back_and_reads_zero);
	tcase_add_test(tc, zeroing_keeps_or_gives_space_as_asked);
	tcase_add_test(tc, slow_zeroing_is_refused_when_fast_is_asked_for);
	tcase_add_test(tc, a_device_has_no_holes_and_trims_by_zeroing);
	tcase_add_test(tc, a_size_that_is_no_multiple_of_a_block_stays);
	tcase_add_test(tc, without_allocation_a_hole_is_as_good_as_data);
	tcase_add_test(tc, t13_a_write_whose_map_was_trimmed_allocates_anew);
	tcase_add_test(tc, random_requests_on_a_sparse_disk_match_an_oracle);
	tcase_add_test(tc, random_requests_on_a_device_match_an_oracle);
	tcase_add_test(tc, a_file_of_odd_size_is_served_exactly);
	tcase_add_test(tc, a_buffered_file_of_odd_size_is_served_exactly);
	tcase_add_test(tc, a_file_of_odd_size_is_served_exactly_by_threads);
	tcase_add_test(tc, what_the_map_forgot_is_still_there);
	tcase_add_test(tc, a_file_that_cannot_be_served_is_named);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
