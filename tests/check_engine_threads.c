/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_engine_threads.c - several loops on threads of their own hammer one
 * volume, for ThreadSanitizer and for whatever only real time shows.
 *
 * Each client owns every so many blocks of one half of the volume, so that
 * neighbours in a folio belong to different threads, and a region of its own
 * in the other half for large requests and trims.  What a client wrote it
 * knows, and so checks what it reads.  Meanwhile other volumes come and go in
 * the same cache, with data left to be written and with devices that fail.
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

#include "bdev/sim.h"
#include "store/raw.h"
#include "tests/proof.h"

#define BLOCK		4096u
#define NR_LOOPS	4u
#define NR_CLIENTS	24u		/* over all loops */
#define NR_OPS		400u		/* of each client */
#define NR_OWN		100u		/* single blocks of each client */
#define NR_GUESTS	6u		/* who open and stop other volumes */
#define NR_VISITS	10u		/* of each of them */
#define REGION		(128 * BLOCK)	/* the rest of what it owns */
#define REGIONS		(NR_CLIENTS * NR_OWN * (uint64_t)BLOCK)
#define SIZE		(REGIONS + NR_CLIENTS * REGION)

struct client {
	struct stress	*stress;
	unsigned int	id;
	struct random	rnd;
	/* Versions last written; 0: zeroes. */
	uint32_t	own[NR_OWN];
	uint32_t	region[REGION / BLOCK];
	char		buf[REGION];
};

struct guest {
	struct stress	*stress;
	struct random	rnd;
	char		buf[REGION];
};

struct loop_thread {
	struct stress	*stress;
	unsigned int	nr;
	pthread_t	thread;
	struct loop	*loop;
};

struct stress {
	struct cache		*cache;
	struct volume		*vol;
	struct bdev		*bdev;
	enum volume_mode	mode;
	bool			guests;
	uint64_t		cache_size;	/* 0: 16 MiB */
	uint64_t		seed;
	pthread_barrier_t	barrier;
	struct loop_thread	threads[NR_LOOPS];
	struct client		*clients;
	struct guest		*guest;		/* [NR_GUESTS] */
	unsigned int		nr_running;	/* atomic */
};

/* What fails in a thread fails the program; check's own asserts do not work
 * there. */
static void must(bool good, const char *what, const struct client *client)
{
	if (good)
		return;
	fprintf(stderr, "client %u: %s\n", client->id, what);
	abort();
}

/* ---- one client's requests ---- */

static uint64_t own_pos(const struct client *client, unsigned int nr)
{
	return ((uint64_t)nr * NR_CLIENTS + client->id) * BLOCK;
}

static uint64_t region_pos(const struct client *client)
{
	return REGIONS + client->id * (uint64_t)REGION;
}

static unsigned int pick_flags(struct client *client)
{
	return random_one_in(&client->rnd, 8) ? VOLUME_FUA : 0;
}

static void write_own(struct client *client)
{
	unsigned int nr = (unsigned int)random_below(&client->rnd, NR_OWN);
	uint64_t pos = own_pos(client, nr);
	uint32_t off = 0, len = BLOCK;
	struct volume *vol = client->stress->vol;
	int ret = -EAGAIN;

	client->own[nr]++;
	fill_pattern(client->buf, BLOCK, pos, client->own[nr]);
	if (!random_one_in(&client->rnd, 4))
		ret = volume_write_inline(vol, pos, BLOCK, client->buf, 0);
	if (!ret)
		return;
	/* In two parts now and then: read, modify, write. */
	if (random_one_in(&client->rnd, 4)) {
		off = 1 + (uint32_t)random_below(&client->rnd, BLOCK - 1);
		must(!volume_write(vol, pos, off, client->buf, 0), "write",
		     client);
		len -= off;
	}
	must(!volume_write(vol, pos + off, len, client->buf + off,
			   pick_flags(client)), "write", client);
}

static void read_own(struct client *client)
{
	unsigned int nr = (unsigned int)random_below(&client->rnd, NR_OWN);
	uint64_t pos = own_pos(client, nr);

	must(!volume_pread(client->stress->vol, client->buf, BLOCK, pos),
	     "read", client);
	must(client->own[nr] ? has_pattern(client->buf, BLOCK, pos,
					   client->own[nr]) :
			       is_zero(client->buf, BLOCK),
	     "its block is not what it wrote", client);
}

/* Others write to these blocks: what is pinned stays as it is. */
static void read_others(struct client *client)
{
	struct pin pins[20];
	struct pinvec pv = { .pins = pins, .max = ARRAY_SIZE(pins) };
	uint64_t pos = random_below(&client->rnd, REGIONS / BLOCK - 16) *
		       BLOCK;
	struct volume *vol = client->stress->vol;
	uint32_t at = 0;

	if (volume_read_inline(vol, pos, 16 * BLOCK, &pv, NULL))
		must(!volume_read(vol, pos, 16 * BLOCK, &pv, NULL), "read",
		     client);
	for (unsigned int i = 0; i < pv.nr; i++) {
		memcpy(client->buf + at, pins[i].base, pins[i].len);
		at += pins[i].len;
	}
	must(at == 16 * BLOCK, "a short read", client);
	coroutine_sleep_ns(random_below(&client->rnd, 300) * NSEC_PER_USEC);
	for (unsigned int i = 0, off = 0; i < pv.nr; off += pins[i++].len)
		must(!memcmp(client->buf + off, pins[i].base, pins[i].len),
		     "pinned bytes changed", client);
	volume_unpin(vol->cache, pins, pv.nr);
}

/* Some blocks of the region; a range in bytes. */
static void pick_range(struct client *client, unsigned int *first,
		       unsigned int *nr)
{
	*nr = 1 + (unsigned int)random_below(&client->rnd, 40);
	*first = (unsigned int)random_below(&client->rnd,
					    REGION / BLOCK - *nr + 1);
}

static void stage_region(struct client *client)
{
	unsigned int first, nr;
	struct stage *stage;
	uint64_t pos;
	uint32_t version = client->region[0] + 1;

	pick_range(client, &first, &nr);
	for (unsigned int i = 0; i < REGION / BLOCK; i++)
		version = MAX(version, client->region[i] + 1);
	pos = region_pos(client) + first * BLOCK;
	must(!stage_alloc_wait(client->stress->vol, pos, nr * BLOCK, &stage),
	     "no stage", client);
	for (unsigned int i = 0; i < stage->nr_iov; i++) {
		fill_pattern(stage->iov[i].iov_base, stage->iov[i].iov_len,
			     pos, version);
		pos += stage->iov[i].iov_len;
	}
	if (random_one_in(&client->rnd, 2) ||
	    volume_write_stage_inline(&stage, 0))
		must(!volume_write_stage(&stage, pick_flags(client)),
		     "staged write", client);
	for (unsigned int i = 0; i < nr; i++)
		client->region[first + i] = version;
}

static void discard_region(struct client *client)
{
	struct volume *vol = client->stress->vol;
	unsigned int first, nr;
	uint64_t pos;
	int ret;

	pick_range(client, &first, &nr);
	pos = region_pos(client) + first * BLOCK;
	if (random_one_in(&client->rnd, 2))
		ret = volume_trim(vol, pos, nr * BLOCK, 0);
	else
		ret = volume_zero(vol, pos, nr * BLOCK,
				  random_one_in(&client->rnd, 2) ?
				  VOLUME_NO_HOLE : 0);
	must(!ret, "trim", client);
	memset(client->region + first, 0, nr * sizeof(*client->region));
}

static void read_region(struct client *client)
{
	unsigned int first, nr;
	uint64_t pos;

	pick_range(client, &first, &nr);
	pos = region_pos(client) + first * BLOCK;
	must(!volume_pread(client->stress->vol, client->buf, nr * BLOCK, pos),
	     "read", client);
	for (unsigned int i = 0; i < nr; i++) {
		uint32_t version = client->region[first + i];
		const char *at = client->buf + i * BLOCK;

		must(version ? has_pattern(at, BLOCK, pos + i * BLOCK,
					   version) : is_zero(at, BLOCK),
		     "its region is not what it wrote", client);
	}
}

static void client_co(void *arg)
{
	struct client *client = arg;

	for (unsigned int i = 0; i < NR_OPS; i++) {
		switch (random_below(&client->rnd, 16)) {
		case 0: case 1: case 2: case 3: case 4:
			write_own(client);
			break;
		case 5: case 6: case 7:
			read_own(client);
			break;
		case 8: case 9:
			read_others(client);
			break;
		case 10: case 11:
			stage_region(client);
			break;
		case 12: case 13:
			read_region(client);
			break;
		case 14:
			discard_region(client);
			break;
		default:
			if (random_one_in(&client->rnd, 4))
				must(!volume_flush(client->stress->vol),
				     "flush", client);
			must(!volume_prefetch(client->stress->vol,
					      random_below(&client->rnd, SIZE /
					      2), KIB(256)), "cache", client);
			break;
		}
		if (i % 8 == 0)
			coroutine_relax();
	}
	__atomic_sub_fetch(&client->stress->nr_running, 1, __ATOMIC_ACQ_REL);
}

/* ---- volumes that come and go ---- */

static int guest_request(struct guest *guest, struct volume *vol)
{
	uint32_t len = 1 + (uint32_t)random_below(&guest->rnd, KIB(80));
	uint64_t pos = random_below(&guest->rnd, vol->size - len);
	struct stage *stage;

	switch (random_below(&guest->rnd, 8)) {
	case 0: case 1:
		return volume_write(vol, pos, len, guest->buf, 0);
	case 2:
		return volume_write(vol, pos, len, guest->buf, VOLUME_FUA);
	case 3:
		must(!stage_alloc_wait(vol, pos, len, &stage), "no stage",
		     guest->stress->clients);
		for (unsigned int i = 0; i < stage->nr_iov; i++)
			memset(stage->iov[i].iov_base, 'g',
			       stage->iov[i].iov_len);
		return volume_write_stage(&stage, 0);
	case 4:
		return volume_pread(vol, guest->buf, len, pos);
	case 5:
		return volume_trim(vol, pos, len, 0);
	case 6:
		return volume_flush(vol);
	default:
		/* Under way, perhaps, when the volume is stopped. */
		return volume_prefetch(vol, pos, len);
	}
}

/* Any loop may be the volume's home; it is stopped from this one. */
static void visit(struct guest *guest)
{
	static const enum volume_mode mode[] = {
		VOLUME_WRITEBACK, VOLUME_WRITEBACK, VOLUME_WRITETHROUGH,
		VOLUME_UNSAFE, VOLUME_DIRECTSYNC,
	};
	struct stress *stress = guest->stress;
	struct random *rnd = &guest->rnd;
	struct sim_params sim = {
		.seed = random_u64(rnd),
		.size = KIB(100) + random_below(rnd, KIB(500)),
		.block_size = 512, .latency_max_ns = 100000,
		.sparse = random_one_in(rnd, 2),
	};
	struct raw_params params = {
		.mode = mode[random_below(rnd, ARRAY_SIZE(mode))],
	};
	struct loop *home = stress->threads[random_below(rnd, NR_LOOPS)].loop;
	bool fails = random_one_in(rnd, 3);
	struct volume *vol;
	struct bdev *bdev;
	int ret;

	must(!sim_new(&sim, NULL, &bdev), "disk", stress->clients);
	if (fails)
		sim_set_fault(bdev, BDEV_WRITE, 1 + random_below(rnd, 6),
			      1 + random_below(rnd, 6), EIO, true);
	ret = raw_open_bdev(stress->cache, home, &bdev, "guest", &params, &vol);
	must(!ret, "open", stress->clients);
	for (uint64_t n = random_below(rnd, 20); n; n--) {
		ret = guest_request(guest, vol);
		must(!ret || fails, "a guest's request", stress->clients);
	}
	ret = volume_stop(vol);
	must(!ret || fails, "a guest's end", stress->clients);
}

static void guest_co(void *arg)
{
	struct guest *guest = arg;

	for (unsigned int i = 0; i < NR_VISITS; i++)
		visit(guest);
	__atomic_sub_fetch(&guest->stress->nr_running, 1, __ATOMIC_ACQ_REL);
}

/* ---- the end ---- */

static void check_all(struct client *client)
{
	for (unsigned int i = 0; i < NR_OWN; i++) {
		uint64_t pos = own_pos(client, i);

		must(!volume_pread(client->stress->vol, client->buf, BLOCK,
				   pos), "read", client);
		must(client->own[i] ? has_pattern(client->buf, BLOCK, pos,
						  client->own[i]) :
				      is_zero(client->buf, BLOCK),
		     "its block is not there in the end", client);
	}
	for (unsigned int i = 0; i < 20; i++)
		read_region(client);
}

static void finish_co(void *arg)
{
	struct stress *stress = arg;
	struct volume *vol = stress->vol;

	while (__atomic_load_n(&stress->nr_running, __ATOMIC_ACQUIRE))
		coroutine_sleep_ns(NSEC_PER_MSEC);
	for (unsigned int i = 0; i < NR_CLIENTS; i++)
		check_all(&stress->clients[i]);
	must(!volume_flush(vol), "flush", stress->clients);
	drop_co(vol);
	/* The same from the disk. */
	for (unsigned int i = 0; i < NR_CLIENTS; i++)
		check_all(&stress->clients[i]);
	must(!volume_stop(vol), "stop", stress->clients);
	for (unsigned int i = 0; i < NR_LOOPS; i++)
		loop_stop(stress->threads[i].loop);
}

/* ---- threads ---- */

static void open_volume(struct stress *stress)
{
	struct raw_params params = { .mode = stress->mode };
	int ret;

	ret = raw_open_bdev(stress->cache, loop_current(), &stress->bdev,
			    "disk", &params, &stress->vol);
	must(!ret, "open", stress->clients);
}

static void *loop_thread(void *arg)
{
	struct loop_thread *thread = arg;
	struct stress *stress = thread->stress;
	int ret = loop_new(&thread->loop);

	must(!ret, "loop", stress->clients);
	loop_enter(thread->loop);
	ret = bdev_loop_init(thread->loop);
	must(!ret, "ring", stress->clients);
	pthread_barrier_wait(&stress->barrier);
	if (thread->nr == 0)
		open_volume(stress);
	pthread_barrier_wait(&stress->barrier);
	for (unsigned int i = thread->nr; i < NR_CLIENTS; i += NR_LOOPS)
		must(!coroutine_start(client_co, &stress->clients[i]),
		     "coroutine", stress->clients);
	for (unsigned int i = thread->nr; stress->guests && i < NR_GUESTS;
	     i += NR_LOOPS)
		must(!coroutine_start(guest_co, &stress->guest[i]),
		     "coroutine", stress->clients);
	if (thread->nr == NR_LOOPS - 1)
		must(!coroutine_start(finish_co, stress), "coroutine",
		     stress->clients);
	must(!loop_run(thread->loop), "loop", stress->clients);
	/* Wakes from the others are over when all are here. */
	pthread_barrier_wait(&stress->barrier);
	bdev_loop_fini(thread->loop);
	loop_enter(NULL);
	loop_free(thread->loop);
	return NULL;
}

static void new_clients(struct stress *stress)
{
	stress->seed = test_seed("engine threads");
	stress->clients = calloc(NR_CLIENTS, sizeof(*stress->clients));
	stress->guest = calloc(NR_GUESTS, sizeof(*stress->guest));
	for (unsigned int i = 0; i < NR_CLIENTS; i++) {
		stress->clients[i].stress = stress;
		stress->clients[i].id = i;
		random_init(&stress->clients[i].rnd, stress->seed + i);
	}
	for (unsigned int i = 0; i < NR_GUESTS; i++) {
		stress->guest[i].stress = stress;
		random_init(&stress->guest[i].rnd,
			    stress->seed + NR_CLIENTS + i);
	}
	stress->nr_running = NR_CLIENTS + (stress->guests ? NR_GUESTS : 0);
}

static void run_stress(struct stress *stress)
{
	struct cache_params params = {
		.size = stress->cache_size ? stress->cache_size : MIB(16),
		.staging_max = MIB(4), .nr_threads = NR_LOOPS,
		.nr_shards = stress->cache_size ? 1 : 8,
	};

	new_clients(stress);
	ck_assert_int_eq(cache_new(&params, &stress->cache), 0);
	pthread_barrier_init(&stress->barrier, NULL, NR_LOOPS);
	for (unsigned int i = 0; i < NR_LOOPS; i++) {
		struct loop_thread *thread = &stress->threads[i];

		thread->stress = stress;
		thread->nr = i;
		ck_assert_int_eq(pthread_create(&thread->thread, NULL,
						loop_thread, thread), 0);
	}
	for (unsigned int i = 0; i < NR_LOOPS; i++)
		pthread_join(stress->threads[i].thread, NULL);
	ck_assert_uint_eq(stress->cache->pool.cached_pages, 0);
	ck_assert_uint_eq(stress->cache->pool.staged_pages, 0);
	ck_assert_uint_eq(stress->cache->throttle.dirty_bytes, 0);
	ck_assert_uint_eq(stress->cache->throttle.inflight_bytes, 0);
	ck_assert_uint_eq(stress->cache->throttle.promised_bytes, 0);
	cache_free(stress->cache);
	pthread_barrier_destroy(&stress->barrier);
	free(stress->clients);
	free(stress->guest);
}

static const enum volume_mode modes[] = {
	VOLUME_WRITEBACK, VOLUME_WRITEOUT, VOLUME_WRITEBACK, VOLUME_NONE,
};

START_TEST(many_loops_on_a_simulated_disk_keep_every_block)
{
	struct sim_params params = {
		.size = SIZE, .block_size = 512, .latency_max_ns = 200000,
		.sparse = _i >= 2,
	};
	struct stress stress = { .mode = modes[_i] };

	ck_assert_int_eq(sim_new(&params, NULL, &stress.bdev), 0);
	run_stress(&stress);
}
END_TEST

/* In a cache that is too small for what all want together, too. */
START_TEST(volumes_come_and_go_beside_a_busy_one)
{
	struct sim_params params = {
		.size = SIZE, .block_size = 512, .latency_max_ns = 100000,
		.sparse = _i,
	};
	struct stress stress = {
		.guests = true, .cache_size = _i ? MIB(2) : 0,
	};

	ck_assert_int_eq(sim_new(&params, NULL, &stress.bdev), 0);
	run_stress(&stress);
}
END_TEST

START_TEST(many_loops_on_a_file_keep_every_block)
{
	unsigned int flags = _i ? BDEV_OPEN_THREADS | BDEV_OPEN_BUFFERED : 0;
	struct stress stress = { .mode = VOLUME_WRITEBACK };
	const char *tmp = getenv("TMPDIR");
	char path[4096], msg[256];
	int fd;

	snprintf(path, sizeof(path), "%s/check_engine_threads.XXXXXX",
		 tmp ? tmp : ".");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, SIZE), 0);
	close(fd);
	ck_assert_msg(!bdev_open_file(path, flags, &stress.bdev, msg,
				      sizeof(msg)), "%s", msg);
	run_stress(&stress);
	unlink(path);
}
END_TEST

static Suite *threads_suite(void)
{
	Suite *suite = suite_create("engine on threads");
	TCase *tc = tcase_create("stress");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, many_loops_on_a_simulated_disk_keep_every_block,
			    0, ARRAY_SIZE(modes));
	tcase_add_loop_test(tc, volumes_come_and_go_beside_a_busy_one, 0, 2);
	tcase_add_loop_test(tc, many_loops_on_a_file_keep_every_block, 0, 2);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(void)
{
	return proof_main(threads_suite());
}
