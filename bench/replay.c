/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replay.c - drive the real cache with a block trace, on the virtual clock.
 *
 *	replay [--cache FRACTION]... [--shards N] [--readahead] FILE.ftr.zst...
 *
 * The device behind the cache stores nothing and completes at once; what is
 * measured is which pages the cache holds, and what it asks of the device.
 * One JSON object a line for each trace and size.  The trace format is 24-byte
 * little-endian records in a zstd stream: time in us, offset, length, op.
 */
#include <endian.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <zstd.h>

#include "bdev/bdev.h"
#include "cache/cache_internal.h"
#include "store/raw.h"

#define FRACTIONS_MAX	16
#define REQUEST_MAX	(1u << 20)	/* larger ones come in pieces */

enum trace_op {
	TRACE_READ,
	TRACE_WRITE,
	TRACE_FLUSH,
	TRACE_DISCARD,
};

struct record {
	uint64_t	time_us;
	uint64_t	offset;
	uint32_t	length;
	uint8_t		op;
	uint8_t		pad[3];
};

struct trace {
	const char	*name;
	struct record	*records;
	size_t		nr;
	uint64_t	size;		/* end of the highest access, bytes */
	uint64_t	footprint;	/* distinct pages read or written */
};

struct result {
	uint64_t	accesses, misses;
	uint64_t	requests, request_misses;
};

struct run {
	const struct trace	*trace;
	uint64_t		cache_pages;
	unsigned int		shards;
	bool			readahead;
	struct loop		*loop;
	struct result		result;
	struct bdev_stats	device;
	struct cache_stats	cache;
	int			ret;
};

/* ---- a device that counts ---- */

struct null_req {
	struct work	work;
};

static void null_done(struct work *work)
{
	struct bdev_req *req = container_of((uint64_t *)(void *)work,
					    struct bdev_req, backend[0]);

	bdev_complete(req, 0);
}

static void null_submit(struct bdev *bdev, struct bdev_req *req)
{
	struct null_req *null = (struct null_req *)req->backend;

	static_assert(sizeof(*null) <= sizeof(req->backend), "fits");
	(void)bdev;
	null->work = (struct work){ .fn = null_done };
	loop_defer(&null->work);
}

static void null_close(struct bdev *bdev)
{
	free(bdev);
}

static const struct bdev_ops null_ops = {
	.submit	= null_submit,
	.close	= null_close,
};

static struct bdev *null_new(uint64_t size)
{
	struct bdev *bdev = calloc(1, sizeof(*bdev));

	if (!bdev)
		return NULL;
	*bdev = (struct bdev){
		.ops = &null_ops,
		.name = "null",
		.size = size,
		.block_size = 4096,
		.max_io = 1 << 20,
		.can_discard = true,
		.can_zero = true,
		.can_zero_keep = true,
	};
	return bdev;
}

/* ---- reading a trace ---- */

static int read_file(const char *path, void **datap, size_t *lenp)
{
	size_t len = 0, max = 1 << 20, n;
	char *data = malloc(max);
	FILE *f = fopen(path, "rb");
	int ret = 0;

	if (!f)
		ret = -errno;
	while (!ret && data && (n = fread(data + len, 1, max - len, f)) > 0) {
		char *more;

		len += n;
		if (len < max)
			continue;
		more = realloc(data, max * 2);
		if (!more)
			break;
		data = more;
		max *= 2;
	}
	if (!ret && (!data || ferror(f) || !feof(f)))
		ret = -EIO;
	if (f)
		fclose(f);
	if (ret) {
		free(data);
		return ret;
	}
	*datap = data;
	*lenp = len;
	return 0;
}

/* All of a zstd stream; the size in its head may be missing. */
static int decompress(const void *data, size_t len, void **outp, size_t *outlen)
{
	ZSTD_DStream *zs = ZSTD_createDStream();
	ZSTD_inBuffer in = { .src = data, .size = len };
	ZSTD_outBuffer out = { .size = 16 << 20 };
	size_t left = 1;

	out.dst = malloc(out.size);
	while (zs && out.dst && left) {
		void *more;

		left = ZSTD_decompressStream(zs, &out, &in);
		if (ZSTD_isError(left) || (left && in.pos == in.size &&
					   out.pos < out.size))
			break;
		if (out.pos < out.size)
			continue;
		more = realloc(out.dst, out.size * 2);
		if (!more)
			break;
		out.dst = more;
		out.size *= 2;
	}
	ZSTD_freeDStream(zs);
	if (left) {
		free(out.dst);
		return -EINVAL;
	}
	*outp = out.dst;
	*outlen = out.pos;
	return 0;
}

static int cmp_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t first_page(const struct record *rec)
{
	return rec->offset / FRAME_SIZE;
}

/* Pages touched; 0 for a flush. */
static uint64_t nr_pages(const struct record *rec)
{
	if (!rec->length)
		return 0;
	return (rec->offset + rec->length - 1) / FRAME_SIZE -
	       first_page(rec) + 1;
}

static bool is_access(const struct record *rec)
{
	return rec->op == TRACE_READ || rec->op == TRACE_WRITE;
}

static int count_footprint(struct trace *trace)
{
	uint64_t nr = 0, *pages;

	for (size_t i = 0; i < trace->nr; i++)
		nr += is_access(&trace->records[i]) ?
		      nr_pages(&trace->records[i]) : 0;
	pages = malloc((nr + 1) * sizeof(*pages));
	if (!pages)
		return -ENOMEM;
	nr = 0;
	for (size_t i = 0; i < trace->nr; i++) {
		const struct record *rec = &trace->records[i];

		for (uint64_t k = 0; is_access(rec) && k < nr_pages(rec); k++)
			pages[nr++] = first_page(rec) + k;
	}
	qsort(pages, nr, sizeof(*pages), cmp_u64);
	for (uint64_t i = 0; i < nr; i++)
		trace->footprint += i == 0 || pages[i] != pages[i - 1];
	free(pages);
	return 0;
}

static int trace_open(const char *path, struct trace *trace)
{
	CLEANUP_FREE void *packed = NULL;
	size_t packed_len, len;
	void *data;
	int ret;

	memset(trace, 0, sizeof(*trace));
	ret = read_file(path, &packed, &packed_len);
	if (!ret)
		ret = decompress(packed, packed_len, &data, &len);
	if (ret)
		return ret;
	trace->name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	trace->records = data;
	trace->nr = len / sizeof(struct record);
	for (size_t i = 0; i < trace->nr; i++) {
		struct record *rec = &trace->records[i];

		rec->time_us = le64toh(rec->time_us);
		rec->offset = le64toh(rec->offset);
		rec->length = le32toh(rec->length);
		if (rec->offset > (uint64_t)INT64_MAX - rec->length)
			return -EINVAL;
		trace->size = MAX(trace->size, rec->offset + rec->length);
	}
	trace->size = round_up64(trace->size, FRAME_SIZE);
	return count_footprint(trace);
}

/* ---- one run ---- */

static bool page_cached(struct volume *vol, uint64_t page)
{
	uint64_t key = folio_key(vol->id, page * FRAME_SIZE);
	uint64_t hash = key_hash(key);
	struct shard *shard = cache_shard(vol->cache, hash);
	bool cached;

	mutex_lock(&shard->lock);
	cached = shard_lookup_locked(shard, key, hash);
	mutex_unlock(&shard->lock);
	return cached;
}

static void count_access(struct run *run, struct volume *vol,
			 const struct record *rec)
{
	uint64_t misses = 0;

	for (uint64_t i = 0; i < nr_pages(rec); i++)
		misses += !page_cached(vol, first_page(rec) + i);
	run->result.accesses += nr_pages(rec);
	run->result.misses += misses;
	run->result.requests++;
	run->result.request_misses += misses > 0;
}

static int do_read(struct volume *vol, uint64_t pos, uint32_t len,
		   struct readahead *ra)
{
	static struct pin pins[REQUEST_MAX / FRAME_SIZE + 2];
	struct pinvec pv = { .pins = pins, .max = ARRAY_SIZE(pins) };
	int ret = volume_read_inline(vol, pos, len, &pv, ra);

	if (ret == -EAGAIN)
		ret = volume_read(vol, pos, len, &pv, ra);
	volume_unpin(vol->cache, pins, pv.nr);
	return ret;
}

static int do_write(struct volume *vol, uint64_t pos, uint32_t len)
{
	static char data[REQUEST_MAX];
	int ret = volume_write_inline(vol, pos, len, data, 0);

	return ret == -EAGAIN ? volume_write(vol, pos, len, data, 0) : ret;
}

/* Whole pages: the trace's accesses are counted in them. */
static int do_record(struct volume *vol, const struct record *rec,
		     struct readahead *ra)
{
	uint64_t pos = first_page(rec) * FRAME_SIZE;
	uint64_t len = nr_pages(rec) * FRAME_SIZE;
	int ret = 0;

	if (rec->op == TRACE_FLUSH)
		return volume_flush(vol);
	if (rec->op == TRACE_DISCARD)
		return volume_trim(vol, rec->offset, rec->length, 0);
	while (len && !ret) {
		uint32_t n = (uint32_t)MIN(len, (uint64_t)REQUEST_MAX);

		ret = rec->op == TRACE_WRITE ? do_write(vol, pos, n) :
					       do_read(vol, pos, n, ra);
		pos += n;
		len -= n;
	}
	return ret;
}

static int replay(struct run *run, struct cache *cache)
{
	struct bdev *null = null_new(run->trace->size), *bdev = null;
	struct raw_params params = { .mode = VOLUME_WRITEBACK };
	struct readahead ra = { 0 };
	struct volume *vol;
	int ret;

	if (!null)
		return -ENOMEM;
	ret = raw_open_bdev(cache, run->loop, &bdev, run->trace->name, &params,
			    &vol);
	if (ret)
		return ret;
	for (size_t i = 0; i < run->trace->nr && !ret; i++) {
		const struct record *rec = &run->trace->records[i];
		uint64_t now = clock_now_ns();

		if (rec->time_us * NSEC_PER_USEC > now)
			coroutine_sleep_ns(rec->time_us * NSEC_PER_USEC - now);
		if (is_access(rec))
			count_access(run, vol, rec);
		ret = do_record(vol, rec, run->readahead ? &ra : NULL);
	}
	cache_get_stats(cache, &run->cache);
	run->device = null->stats;
	volume_stop(vol);
	return ret;
}

static void run_co(void *arg)
{
	struct run *run = arg;
	struct cache_params params = {
		.size = run->cache_pages * FRAME_SIZE,
		.staging_max = 1 << 20,
		.nr_threads = 1,
		.nr_shards = run->shards,
	};
	struct cache *cache;

	run->ret = cache_new(&params, &cache);
	if (!run->ret) {
		run->ret = replay(run, cache);
		cache_free(cache);
	}
	loop_stop(run->loop);
}

static int run_trace(struct run *run)
{
	int ret = loop_new_virtual(1, &run->loop);

	if (ret)
		return ret;
	loop_enter(run->loop);
	ret = coroutine_start(run_co, run);
	if (!ret)
		ret = loop_run(run->loop);
	loop_enter(NULL);
	loop_free(run->loop);
	return ret ? ret : run->ret;
}

static void print_json(const struct run *run, double fraction)
{
	const struct result *res = &run->result;
	const uint64_t *ops = run->device.ops, *bytes = run->device.bytes;

	printf("{\"trace\": \"%s\", \"fraction\": %.4f, \"cache_pages\": %"
	       PRIu64 ", \"footprint_pages\": %" PRIu64 ", \"accesses\": %"
	       PRIu64 ", \"misses\": %" PRIu64 ", \"miss_ratio\": %.4f, "
	       "\"request_miss_ratio\": %.4f, ", run->trace->name, fraction,
	       run->cache_pages, run->trace->footprint, res->accesses,
	       res->misses, (double)res->misses / (double)res->accesses,
	       (double)res->request_misses / (double)res->requests);
	printf("\"device_reads\": %" PRIu64 ", \"device_read_bytes\": %"
	       PRIu64 ", \"device_writes\": %" PRIu64
	       ", \"device_write_bytes\": %" PRIu64 ", \"device_flushes\": %"
	       PRIu64 ", \"metadata_share\": %.4f}\n", ops[BDEV_READ],
	       bytes[BDEV_READ], ops[BDEV_WRITE], bytes[BDEV_WRITE],
	       ops[BDEV_FLUSH], (double)run->cache.metadata_bytes /
	       (double)run->cache.size_bytes);
	fflush(stdout);
}

static int replay_file(const char *path, const double *fractions, size_t nr,
		       unsigned int shards, bool readahead)
{
	struct trace trace;
	int ret = trace_open(path, &trace);

	for (size_t i = 0; i < nr && !ret; i++) {
		struct run run = {
			.trace = &trace,
			.cache_pages = MAX((uint64_t)((double)trace.footprint *
						      fractions[i]),
					   UINT64_C(64)),
			.shards = shards,
			.readahead = readahead,
		};

		ret = run_trace(&run);
		if (!ret)
			print_json(&run, fractions[i]);
	}
	if (ret)
		fprintf(stderr, "replay: %s: %s\n", path, strerror(-ret));
	free(trace.records);
	return ret;
}

static int usage(void)
{
	fprintf(stderr, "usage: replay [--cache FRACTION]... [--shards N] "
		"[--readahead] FILE.ftr.zst...\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "cache", required_argument, NULL, 'c' },
		{ "shards", required_argument, NULL, 's' },
		{ "readahead", no_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	double fractions[FRACTIONS_MAX] = { 0.01, 0.05, 0.10, 0.25 };
	size_t nr = 0;
	uint64_t shards = 1;
	bool readahead = false;
	int opt, status = 0;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'c' && nr < FRACTIONS_MAX) {
			fractions[nr] = strtod(optarg, NULL);
			if (!(fractions[nr] > 0 && fractions[nr] <= 1))
				return usage();
			nr++;
		} else if (opt == 's') {
			if (number_parse(optarg, 1, 64, &shards))
				return usage();
		} else if (opt == 'r') {
			readahead = true;
		} else {
			return usage();
		}
	}
	if (optind == argc)
		return usage();
	for (int i = optind; i < argc; i++) {
		if (replay_file(argv[i], fractions, nr ? nr : 4,
				(unsigned int)shards, readahead))
			status = 1;
	}
	return status;
}
