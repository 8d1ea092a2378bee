/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash.c - the crash explorer (T-43): the whole engine on a virtual loop over the
 * simulated disk, under random clients, faults and crashes, each run from one
 * seed.
 *
 * Runs go on in a child process, so that a failed assertion or a hang is a
 * failure like others; the parent makes what failed small and prints it in the
 * form that --replay takes.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/crash.h"

#define DEFAULT_RUNS	500u
#define DEFAULT_SECONDS	18u	/* a slow machine makes fewer runs */
#define FAILURES_MAX	5u

struct options {
	struct crash_options	gen;
	uint64_t		first_seed;
	uint64_t		runs;		/* 0: no limit */
	unsigned int		seconds;	/* 0: no limit */
	bool			verbose, given;
	const char		*replay;
};

/* Where the child is; shared with the parent. */
struct progress {
	uint64_t		seed;		/* under way */
	uint64_t		passed;
	bool			over;		/* all passed */
	struct crash_stats	stats;
};

static uint64_t now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec;
}

static void describe(const struct crash_case *cs)
{
	printf("seed %" PRIu64 ": %s, %" PRIu64 " bytes, blocks %u, cache %"
	       PRIu64 " pages, %u operations\n", cs->seed,
	       crash_mode_names[cs->mode], cs->size, 1u << cs->block_shift,
	       cs->cache_pages, cs->nr_ops);
	fflush(stdout);
}

/*
 * What the engine says of our faults is not interesting; what it says when it
 * fails is seen when the small case is run.
 */
static void be_quiet(void)
{
	int fd = open("/dev/null", O_WRONLY);

	if (fd < 0 || dup2(fd, STDERR_FILENO) < 0)
		abort();
	close(fd);
}

/* Run seeds from @seed on until one fails, or @end, or time is over. */
static void child(const struct options *options, struct progress *progress,
		  uint64_t seed, uint64_t end, uint64_t deadline_s)
{
	if (!options->verbose)
		be_quiet();
	for (; seed != end && now_s() < deadline_s; seed++) {
		struct crash_case cs;

		progress->seed = seed;
		crash_generate(seed, &options->gen, &cs);
		if (options->verbose)
			describe(&cs);
		alarm(CRASH_HUNG_SECONDS);
		if (!crash_run(&cs, &progress->stats)) {
			fflush(stdout);
			_exit(1);
		}
		alarm(0);
		crash_case_fini(&cs);
		progress->passed++;
		progress->seed = seed + 1;
	}
	/* By exit(), for the leak checker to look. */
	progress->over = true;
	exit(0);
}

/* 0: all passed; else the seed that failed is in @progress. */
static int run_seeds(const struct options *options, struct progress *progress,
		     uint64_t seed, uint64_t end, uint64_t deadline_s)
{
	int status = 0;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(2);
	}
	if (!pid)
		child(options, progress, seed, end, deadline_s);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		printf("seed %" PRIu64 ": %s\n", progress->seed,
		       strsignal(WTERMSIG(status)));
	return status;
}

/* A seed failed: make it small and show it. */
static void explain(const struct options *options, uint64_t seed)
{
	struct crash_case cs;

	crash_generate(seed, &options->gen, &cs);
	printf("seed %" PRIu64 " failed; again by:  tests/crash --seed %"
	       PRIu64, seed, seed);
	if (options->gen.mode >= 0)
		printf(" --mode %s", crash_mode_names[options->gen.mode]);
	if (options->gen.nr_ops)
		printf(" --ops %u", options->gen.nr_ops);
	printf("\n");
	if (crash_run_apart(&cs, true)) {
		printf("but it passed alone\n");
	} else {
		crash_minimise(&cs);
		printf("what is left when all is left out that can be, for "
		       "--replay:\n");
		crash_case_write(&cs, stdout);
		fflush(stdout);
		(void)crash_run_apart(&cs, false);
	}
	crash_case_fini(&cs);
}

/* Whatever was done and wherever it was cut, what is found is what the contract
 * (iomap-semantics 6, tests/oracle.h) allows. */
static int t43_no_crash_breaks_the_contract(const struct options *options)
{
	uint64_t deadline_s = options->seconds ? now_s() + options->seconds :
						 UINT64_MAX;
	uint64_t seed = options->first_seed;
	uint64_t end = options->runs ? seed + options->runs : seed - 1;
	unsigned int failed = 0;
	struct progress *progress;

	progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (progress == MAP_FAILED) {
		perror("mmap");
		return 2;
	}
	while (seed != end && now_s() < deadline_s && failed < FAILURES_MAX) {
		if (run_seeds(options, progress, seed, end, deadline_s)) {
			failed++;
			if (progress->over) {
				printf("all passed, but the process did not "
				       "end well: see --verbose\n");
				break;
			}
			explain(options, progress->seed);
			progress->seed++;
		}
		seed = progress->seed;
	}
	printf("%" PRIu64 " operations, %" PRIu64 " crash images, %" PRIu64
	       " reboots, %" PRIu64 " faults, %" PRIu64 " errors answered\n",
	       progress->stats.ops, progress->stats.images,
	       progress->stats.reboots, progress->stats.faults,
	       progress->stats.errors);
	printf("next: --first-seed %" PRIu64 "\n", seed);
	printf("%" PRIu64 " passed, %u failed\n", progress->passed, failed);
	munmap(progress, sizeof(*progress));
	return failed ? 1 : 0;
}

static int replay(const struct options *options)
{
	struct crash_case cs;
	FILE *file = strcmp(options->replay, "-") ?
		     fopen(options->replay, "r") : stdin;
	bool passed;
	int ret;

	if (!file) {
		perror(options->replay);
		return 2;
	}
	ret = crash_case_read(&cs, file);
	if (file != stdin)
		fclose(file);
	if (ret) {
		crash_case_fini(&cs);
		return 2;
	}
	describe(&cs);
	passed = crash_run_apart(&cs, false);
	printf("%d passed, %d failed\n", passed, !passed);
	crash_case_fini(&cs);
	return passed ? 0 : 1;
}

/* ---- the command line ---- */

static const char usage_text[] =
"Usage: tests/crash [OPTION]...\n"
"Explore what crashes, faults and concurrency do to the engine.\n"
"\n"
"      --seed N         run this seed alone (else FOLIOD_SEED, or any)\n"
"      --first-seed N   begin with this seed\n"
"      --runs N         as many runs, one seed each\n"
"      --ops N          operations in a run\n"
"      --mode MODE      writeback, writethrough, writeout, none, directsync\n"
"                       or unsafe; else any\n"
"      --soak SECONDS   new seeds until time is over\n"
"      --replay FILE    run the case in FILE (- is stdin)\n"
"      --verbose        a line for each run\n"
"      --help           this text\n";

static const struct option long_options[] = {
	{ "seed",	required_argument, NULL, 's' },
	{ "first-seed",	required_argument, NULL, 'f' },
	{ "runs",	required_argument, NULL, 'r' },
	{ "ops",	required_argument, NULL, 'o' },
	{ "mode",	required_argument, NULL, 'm' },
	{ "soak",	required_argument, NULL, 'S' },
	{ "replay",	required_argument, NULL, 'R' },
	{ "verbose",	no_argument, NULL, 'v' },
	{ "help",	no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static uint64_t number(const char *text, uint64_t max)
{
	uint64_t value;

	if (number_parse(text, 0, max, &value)) {
		fprintf(stderr, "tests/crash: not a number that fits: %s\n",
			text);
		exit(2);
	}
	return value;
}

static int mode_of(const char *name)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(crash_mode_names); i++) {
		if (!strcmp(crash_mode_names[i], name))
			return (int)i;
	}
	fprintf(stderr, "tests/crash: not a mode: %s\n", name);
	exit(2);
}

static void take_option(struct options *options, int c)
{
	switch (c) {
	case 's':
		options->runs = 1;
		options->seconds = 0;
		__attribute__((fallthrough));
	case 'f':
		options->first_seed = number(optarg, UINT64_MAX - 1);
		options->given = true;
		break;
	case 'r':
		options->runs = number(optarg, UINT32_MAX);
		options->seconds = 0;
		break;
	case 'o':
		options->gen.nr_ops = (unsigned int)number(optarg, 100000);
		break;
	case 'm':
		options->gen.mode = mode_of(optarg);
		break;
	case 'S':
		options->seconds = (unsigned int)number(optarg, 1u << 30);
		options->runs = 0;
		break;
	case 'R':
		options->replay = optarg;
		break;
	case 'v':
		options->verbose = true;
		break;
	case 'h':
		fputs(usage_text, stdout);
		exit(0);
	default:
		fputs(usage_text, stderr);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct options options = {
		.gen.mode = -1,
		.runs = DEFAULT_RUNS,
		.seconds = DEFAULT_SECONDS,
	};
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		take_option(&options, c);
	if (optind != argc)
		take_option(&options, '?');
	/* Faults are our own doing; the engine need not speak of them. */
	log_set_level(LOG_ERROR_LEVEL);
	if (options.replay)
		return replay(&options);
	if (!options.given)
		options.first_seed = random_seed_from_env("FOLIOD_SEED");
	printf("first seed: FOLIOD_SEED=%" PRIu64 "\n", options.first_seed);
	return t43_no_crash_breaks_the_contract(&options);
}
