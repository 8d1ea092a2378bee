/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_plugin_door.c - threads without a loop read and write a volume through
 * the door, at once, while the loops write back and others trim: for
 * ThreadSanitizer, and for what only real time shows.
 *
 * Each thread owns every so many blocks, so that neighbours in a folio belong
 * to different threads; what it wrote it knows, and so checks what it reads.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bdev/bdev.h"
#include "cache/cache.h"
#include "plugins/door.h"
#include "plugins/runner.h"
#include "tests/corun.h"

#define BLOCK		4096u
#define NR_THREADS	8u
#define NR_OPS		600u		/* of each thread */
#define NR_OWN		512u		/* single blocks of each thread */
#define REGION_BLOCKS	160u		/* and what it owns in one piece */
#define REGION		(REGION_BLOCKS * BLOCK)
#define REGIONS		(NR_THREADS * NR_OWN * (uint64_t)BLOCK)
#define TAIL		777u		/* the size is no multiple of anything */
#define SIZE		(REGIONS + NR_THREADS * (uint64_t)REGION + TAIL)
#define CACHE_SIZE	(UINT64_C(16) << 20)	/* the file does not fit */

static char dir[64], path[96];

/* What fails in a thread fails the program; check's asserts do not work
 * there. */
static void must(bool good, const char *what, unsigned int id)
{
	if (good)
		return;
	fprintf(stderr, "thread %u: %s\n", id, what);
	abort();
}

/* ---- the file and the runner ---- */

static void setup(void)
{
	snprintf(dir, sizeof(dir), "%s/foliod-door.XXXXXX",
		 access("/var/tmp", W_OK) == 0 ? "/var/tmp" : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/disk", dir);
}

static void teardown(void)
{
	unlink(path);
	rmdir(dir);
}

static void make_file(uint64_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

static struct runner *start(enum volume_mode mode, bool read_only,
			    unsigned int threads)
{
	const struct runner_params params = {
		.path = path, .mode = mode, .read_only = read_only,
		.cache_size = CACHE_SIZE, .threads = threads,
	};
	struct runner *runner;
	char msg[512] = "";
	int ret;

	ret = runner_open(&params, &runner, msg, sizeof(msg));
	ck_assert_msg(!ret, "%s", msg);
	ret = runner_start(runner, msg, sizeof(msg));
	ck_assert_msg(!ret, "%s", msg);
	return runner;
}

static void stop(struct runner **runnerp)
{
	ck_assert_int_eq(runner_stop(*runnerp), 0);
	runner_close(runnerp);
}

static struct door door_of(struct runner *runner)
{
	return (struct door) {
		.vol = runner_volume(runner),
		.loop = runner_next_loop(runner),
	};
}

/* ---- patterns: block number @pos / BLOCK in its @version ---- */

static void fill(char *buf, uint64_t pos, uint32_t version)
{
	uint64_t word = pos ^ ((uint64_t)version << 40);

	if (!version)
		word = 0;
	for (unsigned int i = 0; i < BLOCK; i += sizeof(word))
		memcpy(buf + i, &word, sizeof(word));
}

static bool holds(const char *buf, uint64_t pos, uint32_t version)
{
	char want[BLOCK];

	fill(want, pos, version);
	return memcmp(buf, want, BLOCK) == 0;
}

/* ---- one thread of the stress ---- */

struct stress {
	struct runner		*runner;
	enum volume_mode	mode;
	struct door		*doors;		/* two threads on each */
	pthread_barrier_t	barrier;
};

struct client {
	struct stress	*stress;
	struct door	*door;
	unsigned int	id;
	pthread_t	thread;
	struct random	rnd;
	/* Versions last written; 0: zeroes. */
	uint32_t	own[NR_OWN];
	uint32_t	region[REGION_BLOCKS];
	char		buf[REGION];
};

static uint64_t own_pos(const struct client *client, unsigned int nr)
{
	return ((uint64_t)nr * NR_THREADS + client->id) * BLOCK;
}

static uint64_t region_pos(const struct client *client, unsigned int nr)
{
	return REGIONS + client->id * (uint64_t)REGION + nr * BLOCK;
}

static unsigned int pick(struct client *client, unsigned int below)
{
	return (unsigned int)random_below(&client->rnd, below);
}

static unsigned int pick_flags(struct client *client)
{
	return random_one_in(&client->rnd, 16) ? VOLUME_FUA : 0;
}

static void write_own(struct client *client)
{
	unsigned int nr = pick(client, NR_OWN);
	uint64_t pos = own_pos(client, nr);
	uint32_t cut = 0;

	fill(client->buf, pos, ++client->own[nr]);
	/* In two parts now and then: the old bytes are read first. */
	if (random_one_in(&client->rnd, 4))
		cut = 1 + pick(client, BLOCK - 1);
	if (cut)
		must(!door_write(client->door, client->buf, cut, pos, 0),
		     "write", client->id);
	must(!door_write(client->door, client->buf + cut, BLOCK - cut,
			 pos + cut, pick_flags(client)), "write", client->id);
}

static void read_own(struct client *client)
{
	unsigned int nr = pick(client, NR_OWN);
	uint64_t pos = own_pos(client, nr);

	must(!door_read(client->door, client->buf, BLOCK, pos), "read",
	     client->id);
	must(holds(client->buf, pos, client->own[nr]),
	     "its block is not what it wrote", client->id);
}

static void pick_range(struct client *client, unsigned int *firstp,
		       unsigned int *nrp)
{
	*firstp = pick(client, REGION_BLOCKS);
	*nrp = 1 + pick(client, REGION_BLOCKS - *firstp);
}

static void write_region(struct client *client)
{
	unsigned int first, nr;

	pick_range(client, &first, &nr);
	for (unsigned int i = 0; i < nr; i++)
		fill(client->buf + i * BLOCK, region_pos(client, first + i),
		     ++client->region[first + i]);
	must(!door_write(client->door, client->buf, nr * BLOCK,
			 region_pos(client, first), pick_flags(client)),
	     "large write", client->id);
}

static void read_region(struct client *client)
{
	unsigned int first, nr;

	pick_range(client, &first, &nr);
	must(!door_read(client->door, client->buf, nr * BLOCK,
			region_pos(client, first)), "large read", client->id);
	for (unsigned int i = 0; i < nr; i++)
		must(holds(client->buf + i * BLOCK,
			   region_pos(client, first + i),
			   client->region[first + i]),
		     "its region is not what it wrote", client->id);
}

static void discard_region(struct client *client)
{
	unsigned int first, nr, flags = 0;
	int ret;

	pick_range(client, &first, &nr);
	if (random_one_in(&client->rnd, 2))
		flags |= VOLUME_NO_HOLE;
	if (random_one_in(&client->rnd, 4))
		flags |= VOLUME_FAST_ZERO;
	if (random_one_in(&client->rnd, 2))
		ret = door_trim(client->door, nr * BLOCK,
				region_pos(client, first), 0);
	else
		ret = door_zero(client->door, nr * BLOCK,
				region_pos(client, first), flags);
	/* Slow here, and so refused with nothing changed. */
	if (ret == -EOPNOTSUPP && (flags & VOLUME_FAST_ZERO))
		return;
	must(!ret, "trim", client->id);
	memset(client->region + first, 0, nr * sizeof(*client->region));
}

static void ask_extents(struct client *client)
{
	struct volume_extent extents[8];
	unsigned int nr = ARRAY_SIZE(extents);
	uint64_t pos = random_below(&client->rnd, SIZE), len = 0;

	must(!door_extents(client->door, (uint32_t)(SIZE - pos), pos, extents,
			   &nr), "extents", client->id);
	must(nr >= 1 && nr <= ARRAY_SIZE(extents), "no extents", client->id);
	for (unsigned int i = 0; i < nr; i++)
		len += extents[i].len;
	must(len >= 1 && len <= SIZE - pos, "extents' length", client->id);
}

static void *client_main(void *arg)
{
	struct client *client = arg;

	pthread_barrier_wait(&client->stress->barrier);
	for (unsigned int i = 0; i < NR_OPS; i++) {
		switch (pick(client, 16)) {
		case 0: case 1: case 2: case 3: case 4:
			write_own(client);
			break;
		case 5: case 6: case 7: case 8:
			read_own(client);
			break;
		case 9: case 10:
			write_region(client);
			break;
		case 11: case 12:
			read_region(client);
			break;
		case 13:
			discard_region(client);
			break;
		case 14:
			ask_extents(client);
			break;
		default:
			if (random_one_in(&client->rnd, 4))
				must(!door_flush(client->door), "flush",
				     client->id);
			must(!door_prefetch(client->door, 256 << 10,
					    random_below(&client->rnd,
							 SIZE / 2)),
			     "prefetch", client->id);
		}
	}
	return NULL;
}

/* The file itself, without any cache of ours. */
static void check_file(const struct client *clients)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char buf[BLOCK];
	struct stat st;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_uint_eq((uint64_t)st.st_size, SIZE);
	for (unsigned int id = 0; id < NR_THREADS; id++) {
		const struct client *client = &clients[id];

		for (unsigned int i = 0; i < NR_OWN; i++) {
			uint64_t pos = own_pos(client, i);

			ck_assert_int_eq(pread(fd, buf, BLOCK, (off_t)pos),
					 BLOCK);
			ck_assert(holds(buf, pos, client->own[i]));
		}
		for (unsigned int i = 0; i < REGION_BLOCKS; i++) {
			uint64_t pos = region_pos(client, i);

			ck_assert_int_eq(pread(fd, buf, BLOCK, (off_t)pos),
					 BLOCK);
			ck_assert(holds(buf, pos, client->region[i]));
		}
	}
	close(fd);
}

static void run_stress(enum volume_mode mode)
{
	struct client *clients = calloc(NR_THREADS, sizeof(*clients));
	struct door doors[NR_THREADS / 2];
	struct stress stress = { .mode = mode, .doors = doors };
	uint64_t seed = test_seed("door");

	ck_assert_ptr_nonnull(clients);
	make_file(SIZE);
	stress.runner = start(mode, false, 2);
	for (unsigned int i = 0; i < ARRAY_SIZE(doors); i++)
		doors[i] = door_of(stress.runner);
	pthread_barrier_init(&stress.barrier, NULL, NR_THREADS);
	for (unsigned int i = 0; i < NR_THREADS; i++) {
		clients[i].stress = &stress;
		clients[i].door = &doors[i / 2];
		clients[i].id = i;
		random_init(&clients[i].rnd, seed + i);
		ck_assert_int_eq(pthread_create(&clients[i].thread, NULL,
						client_main, &clients[i]), 0);
	}
	for (unsigned int i = 0; i < NR_THREADS; i++)
		pthread_join(clients[i].thread, NULL);
	pthread_barrier_destroy(&stress.barrier);
	stop(&stress.runner);
	check_file(clients);
	free(clients);
}

START_TEST(threads_without_loops_find_what_they_wrote)
{
	static const enum volume_mode modes[] = {
		VOLUME_WRITEBACK, VOLUME_WRITEOUT, VOLUME_NONE, VOLUME_UNSAFE,
	};

	run_stress(modes[_i]);
}
END_TEST

/* ---- one thread ---- */

/* Wait, while the loops work; a test that waits for ever is ended by check. */
#define WAIT_UNTIL(condition) do { \
		while (!(condition)) \
			usleep(1000); \
	} while (0)

static struct volume_stats stats_of(struct runner *runner)
{
	struct volume_stats stats;

	volume_get_stats(runner_volume(runner), &stats);
	return stats;
}

static bool is_quiet(struct runner *runner)
{
	return __atomic_load_n(&runner_volume(runner)->nr_background,
			       __ATOMIC_ACQUIRE) == 0;
}

static void write_file(uint64_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	char buf[BLOCK];

	ck_assert_int_ge(fd, 0);
	for (uint64_t pos = 0; pos < size; pos += BLOCK) {
		fill(buf, pos, 1);
		ck_assert_int_eq(write(fd, buf, BLOCK), BLOCK);
	}
	close(fd);
}

/* Count the hits of reading block by block; what was started is waited for. */
START_TEST(a_marked_hit_on_a_thread_without_a_loop_reads_ahead)
{
	const uint64_t size = 4 << 20;
	struct runner *runner;
	uint64_t late = 0;
	struct door door;
	char buf[BLOCK];

	write_file(size);
	runner = start(VOLUME_WRITEBACK, true, 1);
	door = door_of(runner);
	for (uint64_t pos = 0; pos < size; pos += BLOCK) {
		uint64_t hits = stats_of(runner).hits;

		ck_assert_int_eq(door_read(&door, buf, BLOCK, pos), 0);
		ck_assert(holds(buf, pos, 1));
		if (stats_of(runner).hits == hits)
			late++;
		WAIT_UNTIL(is_quiet(runner));
	}
	/* The first two are what a stream is known by. */
	ck_assert_uint_le(late, 2);
	stop(&runner);
}
END_TEST

START_TEST(a_prefetch_is_done_in_the_background)
{
	struct volume_stats before, after;
	struct runner *runner;
	struct door door;
	char buf[BLOCK];

	write_file(1 << 20);
	runner = start(VOLUME_WRITEBACK, true, 1);
	door = door_of(runner);
	ck_assert_int_eq(door_prefetch(&door, 1 << 20, 0), 0);
	WAIT_UNTIL(is_quiet(runner));
	before = stats_of(runner);
	for (uint64_t pos = 0; pos < 1 << 20; pos += BLOCK)
		ck_assert_int_eq(door_read(&door, buf, BLOCK, pos), 0);
	after = stats_of(runner);
	ck_assert_uint_eq(after.misses, before.misses);
	ck_assert_uint_eq(after.hits - before.hits, 256);
	stop(&runner);
}
END_TEST

START_TEST(an_answer_from_the_cache_takes_no_turn_of_a_loop)
{
	struct runner *runner;
	uint64_t turns;
	struct door door;
	char buf[BLOCK];

	make_file(1 << 20);
	runner = start(VOLUME_UNSAFE, false, 1);
	door = door_of(runner);
	fill(buf, 0, 1);
	ck_assert_int_eq(door_write(&door, buf, BLOCK, 0, 0), 0);
	/* The loop has been told to look at what is dirty later, and may do so
	 * meanwhile: but not every time. */
	WAIT_UNTIL(({
		turns = loop_turns(door.loop);
		for (unsigned int i = 0; i < 100; i++) {
			ck_assert_int_eq(door_write(&door, buf, BLOCK, 0, 0),
					 0);
			ck_assert_int_eq(door_read(&door, buf, BLOCK, 0), 0);
			ck_assert_int_eq(door_flush(&door), 0);
		}
		loop_turns(door.loop) == turns;
	}));
	stop(&runner);
}
END_TEST

START_TEST(extents_are_the_files)
{
	struct volume_extent extents[4];
	unsigned int nr = ARRAY_SIZE(extents);
	struct runner *runner;
	struct door door;
	char buf[BLOCK];

	make_file(1 << 20);
	runner = start(VOLUME_WRITEBACK, false, 1);
	door = door_of(runner);
	fill(buf, 0, 1);
	ck_assert_int_eq(door_write(&door, buf, BLOCK, 64 << 10, 0), 0);
	ck_assert_int_eq(door_extents(&door, 1 << 20, 0, extents, &nr), 0);
	ck_assert_uint_eq(nr, 3);
	ck_assert(extents[0].hole && !extents[1].hole && extents[2].hole);
	ck_assert_uint_eq(extents[0].len, 64 << 10);
	ck_assert_uint_eq(extents[1].len, BLOCK);
	stop(&runner);
}
END_TEST

START_TEST(a_file_is_locked_from_its_opening_to_its_end)
{
	const struct runner_params params = {
		.path = path, .cache_size = CACHE_SIZE, .threads = 1,
	};
	struct runner *runner, *other = NULL;
	struct bdev *bdev = NULL;
	char msg[512] = "";

	make_file(1 << 20);
	ck_assert_int_eq(runner_open(&params, &runner, msg, sizeof(msg)), 0);
	ck_assert_int_eq(runner_open(&params, &other, msg, sizeof(msg)),
			 -EBUSY);
	ck_assert_ptr_null(other);
	ck_assert_ptr_nonnull(strstr(msg, path));
	ck_assert_ptr_nonnull(strstr(msg, "in use"));
	/* Never started. */
	runner_close(&runner);
	ck_assert_int_eq(bdev_open_file(path, 0, &bdev, msg, sizeof(msg)), 0);
	bdev_close(&bdev);
}
END_TEST

START_TEST(a_file_that_is_not_there_is_named)
{
	const struct runner_params params = {
		.path = path, .cache_size = CACHE_SIZE, .threads = 1,
	};
	struct runner *runner = NULL;
	char msg[512] = "";

	ck_assert_int_eq(runner_open(&params, &runner, msg, sizeof(msg)),
			 -ENOENT);
	ck_assert_ptr_null(runner);
	ck_assert_ptr_nonnull(strstr(msg, path));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("plugin_door");
	TCase *tc = tcase_create("door");
	SRunner *runner;
	int nr_failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, threads_without_loops_find_what_they_wrote, 0,
			    4);
	tcase_add_test(tc, a_marked_hit_on_a_thread_without_a_loop_reads_ahead);
	tcase_add_test(tc, a_prefetch_is_done_in_the_background);
	tcase_add_test(tc, an_answer_from_the_cache_takes_no_turn_of_a_loop);
	tcase_add_test(tc, extents_are_the_files);
	tcase_add_test(tc, a_file_is_locked_from_its_opening_to_its_end);
	tcase_add_test(tc, a_file_that_is_not_there_is_named);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	nr_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return nr_failed != 0;
}
