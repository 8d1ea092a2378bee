/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd-load - load an NBD server and say what a request costs it.
 *
 * Options, the phases of a run (warm-up, measurement, final check) and the
 * report.  The requests themselves are load.c's.
 */
#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/size.h"
#include "base/util.h"
#include "bench/client.h"
#include "bench/cpu.h"
#include "bench/load.h"
#include "bench/tls.h"
#include "bench/wire.h"

enum {
	DEPTH_MAX	= 65535,
	CONNECTIONS_MAX	= 20000,
	BLOCK_MAX	= 64 << 20,
};

static const char help[] =
"Load an NBD server and say what a request costs it.\n"
"\n"
"  nbd-load [options] --uri URI\n"
"\n"
"  --uri URI           nbd://HOST[:PORT]/[NAME] or nbd+unix:///[NAME]?socket=PATH;\n"
"                      nbds for TLS 1.3 with AES-128-GCM, [USER@] before HOST\n"
"  --tls-certificates DIR  ca-cert.pem there has signed the server's; and\n"
"                      client-cert.pem and client-key.pem, if any\n"
"  --tls-psk FILE      lines of USER:HEXKEY\n"
"  --op OP             read, write (sequential), randread, randwrite, mixed;\n"
"                      default randread\n"
"  --connections N     default 1\n"
"  --depth N           requests in flight on a connection; default 32\n"
"  --threads N         share out connections and region to so many; default 1\n"
"  --batch N           wait for N free places before sending more; default 1\n"
"  --block-size SIZE   of every request; default 4k\n"
"  --offset SIZE       where the region begins; default 0\n"
"  --range SIZE        how long it is; default to the end (also --size)\n"
"  --count N           stop after N requests\n"
"  --time SEC          stop after SEC seconds; default 5 without --count\n"
"  --once              random: no block twice; stop when all were had\n"
"  --fua               every write with FUA\n"
"  --flush-every N     FLUSH after every N writes of a connection\n"
"  --flush-end         end with a FLUSH, inside the measured time\n"
"  --warm read|write   the whole region once first, not counted\n"
"  --verify            check what is read; fills the region first, unless\n"
"                      --warm read: then it holds an earlier run's fill;\n"
"                      ends with a check of the whole region\n"
"  --structured        negotiate structured replies\n"
"  --seed N            default 1\n"
"  --server-pid PID    count the processor time of that process\n"
"  --json              one JSON object instead of a text\n";

enum warm { WARM_NONE, WARM_READ, WARM_WRITE };

struct run {
	struct load_config	config;
	const char		*uri;
	const char		*tls_certificates, *tls_psk;	/* or NULL */
	char			encryption[128];
	enum load_op		op;
	enum warm		warm;
	unsigned int		nr_conns, nr_threads;
	uint64_t		offset, range;	/* bytes; range 0: to the end */
	uint64_t		count;		/* UINT64_MAX: not given */
	double			time_sec;
	bool			flush_end, json;
	bool			can_flush;	/* the export says so */
	pid_t			server_pid;
	struct worker		*workers;
};

struct result {
	uint64_t		requests, flushes;
	uint64_t		elapsed_ns, client_ns, server_ns;
	uint64_t		nr_sends, nr_recvs;
	struct hist		latency;
};

static const char *const op_names[] = {
	[LOAD_READ] = "read",
	[LOAD_WRITE] = "write",
	[LOAD_RANDREAD] = "randread",
	[LOAD_RANDWRITE] = "randwrite",
	[LOAD_MIXED] = "mixed",
};

/* --- Options ----------------------------------------------------------- */

enum {
	OPT_URI, OPT_OP, OPT_CONNECTIONS, OPT_DEPTH, OPT_THREADS, OPT_BATCH,
	OPT_BLOCK_SIZE, OPT_OFFSET, OPT_RANGE, OPT_COUNT, OPT_TIME, OPT_ONCE,
	OPT_FUA, OPT_FLUSH_EVERY, OPT_FLUSH_END, OPT_WARM, OPT_VERIFY,
	OPT_STRUCTURED, OPT_SEED, OPT_SERVER_PID, OPT_TLS_CERTIFICATES,
	OPT_TLS_PSK, OPT_JSON, OPT_HELP,
};

static const struct option options[] = {
	{ "uri", 1, NULL, OPT_URI },
	{ "op", 1, NULL, OPT_OP },
	{ "connections", 1, NULL, OPT_CONNECTIONS },
	{ "depth", 1, NULL, OPT_DEPTH },
	{ "threads", 1, NULL, OPT_THREADS },
	{ "batch", 1, NULL, OPT_BATCH },
	{ "block-size", 1, NULL, OPT_BLOCK_SIZE },
	{ "offset", 1, NULL, OPT_OFFSET },
	{ "range", 1, NULL, OPT_RANGE },
	{ "size", 1, NULL, OPT_RANGE },
	{ "count", 1, NULL, OPT_COUNT },
	{ "time", 1, NULL, OPT_TIME },
	{ "once", 0, NULL, OPT_ONCE },
	{ "fua", 0, NULL, OPT_FUA },
	{ "flush-every", 1, NULL, OPT_FLUSH_EVERY },
	{ "flush-end", 0, NULL, OPT_FLUSH_END },
	{ "warm", 1, NULL, OPT_WARM },
	{ "verify", 0, NULL, OPT_VERIFY },
	{ "structured", 0, NULL, OPT_STRUCTURED },
	{ "seed", 1, NULL, OPT_SEED },
	{ "server-pid", 1, NULL, OPT_SERVER_PID },
	{ "tls-certificates", 1, NULL, OPT_TLS_CERTIFICATES },
	{ "tls-psk", 1, NULL, OPT_TLS_PSK },
	{ "json", 0, NULL, OPT_JSON },
	{ "help", 0, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

static uint64_t number(const char *name, uint64_t min, uint64_t max)
{
	uint64_t value;

	if (number_parse(optarg, min, max, &value))
		errx(1, "--%s %s: not a number from %llu to %llu", name, optarg,
		     (unsigned long long)min, (unsigned long long)max);
	return value;
}

static uint64_t size(const char *name)
{
	uint64_t value;

	if (size_parse(optarg, &value))
		errx(1, "--%s %s: not a size", name, optarg);
	return value;
}

static enum load_op parse_op(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(op_names); i++)
		if (!strcmp(optarg, op_names[i]))
			return i;
	errx(1, "--op %s: not read, write, randread, randwrite or mixed",
	     optarg);
}

static void parse_warm(struct run *run)
{
	if (!strcmp(optarg, "read"))
		run->warm = WARM_READ;
	else if (!strcmp(optarg, "write"))
		run->warm = WARM_WRITE;
	else
		errx(1, "--warm %s: not read or write", optarg);
}

static double seconds(void)
{
	char *end;
	double value = strtod(optarg, &end);

	if (end == optarg || *end || !(value > 0 && value < 1e6))
		errx(1, "--time %s: not a number of seconds", optarg);
	return value;
}

static void parse_option(struct run *run, int opt)
{
	struct load_config *config = &run->config;

	switch (opt) {
	case OPT_URI:
		run->uri = optarg;
		break;
	case OPT_OP:
		run->op = parse_op();
		break;
	case OPT_CONNECTIONS:
		run->nr_conns = number("connections", 1, CONNECTIONS_MAX);
		break;
	case OPT_DEPTH:
		config->depth = number("depth", 1, DEPTH_MAX);
		break;
	case OPT_THREADS:
		run->nr_threads = number("threads", 1, CONNECTIONS_MAX);
		break;
	case OPT_BATCH:
		config->batch = number("batch", 1, DEPTH_MAX);
		break;
	case OPT_BLOCK_SIZE:
		config->block_size = MIN(size("block-size"), UINT32_MAX);
		if (!config->block_size || config->block_size > BLOCK_MAX)
			errx(1, "--block-size %s: not from 1 to 64M", optarg);
		break;
	case OPT_OFFSET:
		run->offset = size("offset");
		break;
	case OPT_RANGE:
		run->range = size("range");
		break;
	case OPT_COUNT:
		run->count = number("count", 0, UINT64_MAX - 1);
		break;
	case OPT_TIME:
		run->time_sec = seconds();
		break;
	case OPT_ONCE:
		config->once = true;
		break;
	case OPT_FUA:
		config->fua = true;
		break;
	case OPT_FLUSH_EVERY:
		config->flush_every = number("flush-every", 1, UINT32_MAX);
		break;
	case OPT_FLUSH_END:
		run->flush_end = true;
		break;
	case OPT_WARM:
		parse_warm(run);
		break;
	case OPT_VERIFY:
		config->verify = true;
		break;
	case OPT_STRUCTURED:
		config->structured = true;
		break;
	case OPT_SEED:
		config->seed = number("seed", 0, UINT64_MAX);
		break;
	case OPT_SERVER_PID:
		run->server_pid = number("server-pid", 1, INT32_MAX);
		break;
	case OPT_TLS_CERTIFICATES:
		run->tls_certificates = optarg;
		break;
	case OPT_TLS_PSK:
		run->tls_psk = optarg;
		break;
	case OPT_JSON:
		run->json = true;
		break;
	case OPT_HELP:
		fputs(help, stdout);
		exit(0);
	default:
		errx(1, "see nbd-load --help");
	}
}

static void parse_options(struct run *run, int argc, char **argv)
{
	struct load_config *config = &run->config;
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1)
		parse_option(run, opt);
	if (optind < argc)
		errx(1, "%s: not an option; see nbd-load --help", argv[optind]);
	if (!run->uri)
		errx(1, "no --uri");
	if (run->nr_threads > run->nr_conns)
		errx(1, "more threads than connections");
	if (config->batch > config->depth)
		errx(1, "--batch is more than --depth");
	if (run->count == UINT64_MAX && run->time_sec == 0)
		run->time_sec = 5;
	if (config->verify && run->warm == WARM_NONE)
		run->warm = WARM_WRITE;
}

/* --- Connections ------------------------------------------------------- */

static bool run_writes(const struct run *run)
{
	return run->warm == WARM_WRITE || run->op == LOAD_WRITE ||
		run->op == LOAD_RANDWRITE || run->op == LOAD_MIXED;
}

/* What the server does not offer cannot be measured. */
static void check_export(struct run *run, const struct client_export *export)
{
	bool flushes = run->config.flush_every || run->flush_end;

	run->can_flush = export->flags & WIRE_SEND_FLUSH;
	if (run_writes(run) && (export->flags & WIRE_READ_ONLY))
		errx(1, "the export is read-only");
	if (flushes && !run->can_flush)
		errx(1, "the export has no FLUSH");
	if (run->config.fua && !(export->flags & WIRE_SEND_FUA))
		errx(1, "the export has no FUA");
	if (run->config.verify && run->nr_conns > 1 &&
	    !(export->flags & WIRE_CAN_MULTI_CONN))
		warnx("the export does not promise that connections agree");
}

static struct client_link *open_links(struct run *run,
				      struct client_export *export)
{
	bool credentials = run->tls_certificates || run->tls_psk;
	struct client_link *links = calloc(run->nr_conns, sizeof(*links));
	struct client_export other;
	struct client_target target;

	if (!links)
		err(1, "calloc");
	client_parse_uri(run->uri, &target);
	if (target.wants_tls != credentials)
		errx(1, target.wants_tls ?
		     "nbds needs --tls-certificates or --tls-psk" :
		     "TLS needs an URI with nbds");
	if (credentials)
		target.tls = client_tls_new(run->tls_certificates,
					    run->tls_psk, target.user);
	for (unsigned int i = 0; i < run->nr_conns; i++) {
		links[i] = client_connect(&target, run->config.structured,
					  i ? &other : export);
		if (i && other.size != export->size)
			errx(1, "the export's size differs between connections");
	}
	snprintf(run->encryption, sizeof(run->encryption), "%s",
		 client_encryption(&links[0]));
	client_tls_free(target.tls);
	client_target_fini(&target);
	return links;
}

static void connect_all(struct run *run)
{
	struct client_export export = { 0 };
	struct client_link *links = open_links(run, &export);
	uint64_t blocks, share;

	run->workers = calloc(run->nr_threads, sizeof(*run->workers));
	if (!run->workers)
		err(1, "calloc");
	check_export(run, &export);
	if (!range_within(run->offset, run->range, export.size))
		errx(1, "the region ends beyond the export's %llu bytes",
		     (unsigned long long)export.size);
	if (run->offset % run->config.block_size)
		errx(1, "--offset is not a multiple of the block size");
	if (!run->range)
		run->range = export.size - run->offset;
	blocks = run->range / run->config.block_size;
	share = blocks / run->nr_threads;
	if (!share)
		errx(1, "the region holds less than a block a thread");
	for (unsigned int i = 0, next = 0; i < run->nr_threads; i++) {
		unsigned int nr = run->nr_conns / run->nr_threads +
			(i < run->nr_conns % run->nr_threads);

		worker_init(&run->workers[i], &run->config, i, links + next, nr,
			    run->offset / run->config.block_size + i * share,
			    share);
		next += nr;
	}
	free(links);
}

/* --- Phases ------------------------------------------------------------ */

static uint64_t client_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return ts.tv_sec * UINT64_C(1000000000) + ts.tv_nsec;
}

static uint64_t server_cpu_ns(const struct run *run)
{
	uint64_t ns = 0;
	int ret = run->server_pid ? cpu_time_of(run->server_pid, &ns) : 0;

	if (ret)
		errx(1, "--server-pid %d: %s", (int)run->server_pid,
		     strerror(-ret));
	return ns;
}

static void start_workers(struct run *run)
{
	for (unsigned int i = 1; i < run->nr_threads; i++) {
		struct worker *worker = &run->workers[i];

		errno = pthread_create(&worker->thread, NULL, worker_run,
				       worker);
		if (errno)
			err(1, "pthread_create");
	}
	worker_run(&run->workers[0]);
	for (unsigned int i = 1; i < run->nr_threads; i++)
		pthread_join(run->workers[i].thread, NULL);
}

static void run_phase(struct run *run, const struct load_phase *phase,
		      struct result *result)
{
	uint64_t server = server_cpu_ns(run), client = client_cpu_ns();
	uint64_t start = UINT64_MAX, end = 0, left = phase->count;

	for (unsigned int i = 0; i < run->nr_threads; i++) {
		struct load_phase *own = &run->workers[i].phase;

		*own = *phase;
		if (phase->count != UINT64_MAX)
			own->count = left / (run->nr_threads - i);
		left -= own->count;
	}
	start_workers(run);
	memset(result, 0, sizeof(*result));
	result->client_ns = client_cpu_ns() - client;
	result->server_ns = server_cpu_ns(run) - server;
	for (unsigned int i = 0; i < run->nr_threads; i++) {
		const struct worker *worker = &run->workers[i];

		start = MIN(start, worker->start_ns);
		end = MAX(end, worker->end_ns);
		result->requests += worker->done;
		result->flushes += worker->flushes;
		result->nr_sends += worker->nr_sends;
		result->nr_recvs += worker->nr_recvs;
		hist_merge(&result->latency, &worker->latency);
	}
	result->elapsed_ns = MAX(end - start, (uint64_t)1);
}

static void warm_up(struct run *run)
{
	struct load_phase phase = {
		.name = "warm-up",
		.op = run->warm == WARM_WRITE ? LOAD_WRITE : LOAD_READ,
		.sweep = true,
		.flush = run->warm == WARM_WRITE && run->can_flush,
		.count = UINT64_MAX,
	};
	struct result unused;

	if (run->warm == WARM_READ && run->config.verify)
		for (unsigned int i = 0; i < run->nr_threads; i++)
			worker_assume_filled(&run->workers[i]);
	if (run->warm != WARM_NONE)
		run_phase(run, &phase, &unused);
}

static void measure(struct run *run, struct result *result)
{
	struct load_phase phase = {
		.name = op_names[run->op],
		.op = run->op,
		.flush = run->flush_end,
		.count = run->count,
		.time_ns = run->time_sec * 1e9,
	};

	run_phase(run, &phase, result);
}

static void check_all(struct run *run)
{
	struct load_phase phase = {
		.name = "final check",
		.op = LOAD_READ,
		.sweep = true,
		.count = UINT64_MAX,
	};
	struct result unused;

	run_phase(run, &phase, &unused);
}

/* --- Report ------------------------------------------------------------ */

static double per_request_us(const struct result *result, uint64_t ns)
{
	return result->requests ? ns / 1e3 / result->requests : 0;
}

/* A bucket's upper bound may lie beyond the largest value. */
static double percentile_us(const struct result *r, unsigned int permille)
{
	return MIN(hist_percentile(&r->latency, permille), r->latency.max) /
		1e3;
}

static void report_json(const struct run *run, const struct result *r)
{
	double sec = r->elapsed_ns / 1e9;
	uint64_t bytes = r->requests * run->config.block_size;

	printf("{\"op\": \"%s\", \"connections\": %u, \"depth\": %u, \"block_size\": %u, ",
	       op_names[run->op], run->nr_conns, run->config.depth,
	       run->config.block_size);
	printf("\"range\": %llu, \"requests\": %llu, \"flushes\": %llu, \"seconds\": %.6f, ",
	       (unsigned long long)run->range, (unsigned long long)r->requests,
	       (unsigned long long)r->flushes, sec);
	printf("\"iops\": %.1f, \"bytes_per_second\": %.0f, \"client_cpu_us\": %.4f, ",
	       r->requests / sec, bytes / sec, per_request_us(r, r->client_ns));
	if (run->server_pid)
		printf("\"server_cpu_us\": %.4f, ",
		       per_request_us(r, r->server_ns));
	printf("\"latency_us\": {\"p50\": %.1f, \"p99\": %.1f, \"max\": %.1f}, ",
	       percentile_us(r, 500), percentile_us(r, 990),
	       r->latency.max / 1e3);
	printf("\"sends\": %llu, \"receives\": %llu, \"verified\": %s, \"encryption\": \"%s\"}\n",
	       (unsigned long long)r->nr_sends, (unsigned long long)r->nr_recvs,
	       run->config.verify ? "true" : "false", run->encryption);
}

static void report_text(const struct run *run, const struct result *r)
{
	double sec = r->elapsed_ns / 1e9;
	uint64_t bytes = r->requests * run->config.block_size;

	printf("%s %u x %u x %u bytes: %llu requests, %llu flushes in %.2f s\n",
	       op_names[run->op], run->nr_conns, run->config.depth,
	       run->config.block_size, (unsigned long long)r->requests,
	       (unsigned long long)r->flushes, sec);
	printf("%.0f IOPS, %.1f MB/s, client %.2f us CPU/request",
	       r->requests / sec, bytes / sec / 1e6,
	       per_request_us(r, r->client_ns));
	if (run->server_pid)
		printf(", server %.2f us", per_request_us(r, r->server_ns));
	printf("\nlatency p50 %.1f us, p99 %.1f us, max %.1f us; %.1f requests/send, %.1f/receive%s; encryption: %s\n",
	       percentile_us(r, 500), percentile_us(r, 990),
	       r->latency.max / 1e3,
	       r->nr_sends ? (double)r->requests / r->nr_sends : 0,
	       r->nr_recvs ? (double)r->requests / r->nr_recvs : 0,
	       run->config.verify ? "; verified" : "", run->encryption);
}

int main(int argc, char **argv)
{
	struct run run = {
		.config = {
			.block_size = 4096, .depth = 32, .batch = 1, .seed = 1,
		},
		.op = LOAD_RANDREAD,
		.count = UINT64_MAX,
		.nr_conns = 1,
		.nr_threads = 1,
	};
	struct result result = { .elapsed_ns = 1 };

	parse_options(&run, argc, argv);
	connect_all(&run);
	warm_up(&run);
	if (run.count)
		measure(&run, &result);
	if (run.config.verify)
		check_all(&run);
	for (unsigned int i = 0; i < run.nr_threads; i++)
		worker_fini(&run.workers[i]);
	free(run.workers);
	if (run.json)
		report_json(&run, &result);
	else
		report_text(&run, &result);
	if (fflush(stdout))
		err(1, "stdout");
	return 0;
}
