/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * main.c - foliod: from the command line to server_run().
 *
 * Exit status: 0 after an orderly end, 1 if something failed, 2 if the command
 * line was wrong; with --run, the command's.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "base/limits.h"
#include "server/activation.h"
#include "server/daemon.h"
#include "server/options.h"
#include "server/server.h"
#include "server/signals.h"

/* Unless more are asked for: idle ones may take 20 KiB each. */
#define DEFAULT_CONNS_MAX	65536

enum {
	EXIT_FAILED	= 1,
	EXIT_USAGE	= 2,
};

/* A socket must not become descriptor 2 and receive our messages. */
static int open_missing_stdio(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
		if (fd < 0)
			return -errno;
	} while (fd <= STDERR_FILENO);
	close(fd);
	return 0;
}

/* Choose what was left to the machine; false, having said why, if it cannot
 * be had. */
static bool choose_limits(const struct options *opt,
			  struct server_params *params)
{
	uint64_t memory = limits_memory(), least;
	char size[32], min[32];

	params->threads = opt->threads ? opt->threads :
			  MIN(limits_cpus(), (unsigned int)OPTIONS_THREADS_MAX);
	if (opt->style == RUN_SINGLE)
		params->threads = 1;
	params->cache_size = opt->cache_size ? opt->cache_size :
			     cache_default_size(memory, params->threads);
	size_to_text(params->cache_size, size, sizeof(size));
	least = params->threads * CACHE_SIZE_PER_THREAD;
	if (params->cache_size < least) {
		log_error("--cache-size: %u threads need at least %s, 4M each, "
			  "and not %s; or use fewer --threads",
			  params->threads,
			  size_to_text(least, min, sizeof(min)), size);
		return false;
	}
	if (params->cache_size > memory)
		log_warn("--cache-size %s is more than all the memory that "
			 "foliod may use", size);
	return true;
}

/* Descriptors beside the connections': the standard ones, each loop's and each
 * export's, listeners, and some for what comes and goes. */
static unsigned int default_max_conns(const struct options *opt,
				      unsigned int threads, uint64_t nr_fds)
{
	uint64_t others = 32 + opt->nr_listens + threads * UINT64_C(8) +
			  opt->nr_exports * UINT64_C(2);
	uint64_t nr = nr_fds > others ? nr_fds - others : 1;

	return MIN(nr, (uint64_t)DEFAULT_CONNS_MAX);
}

static int run(const struct options *opt)
{
	struct server_params params = { .opt = opt, .ready_fd = -1 };
	struct signal_state signals;
	uint64_t nr_fds;
	int ret;

	if (!choose_limits(opt, &params))
		return EXIT_USAGE;
	if (opt->style == RUN_DAEMON) {
		ret = daemon_fork(&params.ready_fd);
		if (ret) {
			log_error("cannot go into the background: %s",
				  strerror(-ret));
			return EXIT_FAILED;
		}
	}
	nr_fds = limits_raise();
	params.max_conns = opt->max_conns ? opt->max_conns :
			   default_max_conns(opt, params.threads, nr_fds);
	signals_block(&signals);
	params.signals = &signals;
	return server_run(&params);
}

int main(int argc, char **argv)
{
	struct options opt;
	int ret, status;

	ret = open_missing_stdio();
	if (ret) {
		log_error("cannot open /dev/null: %s", strerror(-ret));
		return EXIT_FAILED;
	}
	ret = options_parse(&opt, argc, argv);
	if (!ret && opt.style < RUN_HELP)
		ret = activation_apply(&opt);
	if (ret) {
		log_error("%s", opt.error ? opt.error : strerror(-ret));
		status = ret == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
	} else if (opt.style == RUN_HELP) {
		status = help_print() ? EXIT_FAILED : 0;
	} else if (opt.style == RUN_VERSION) {
		status = version_print() ? EXIT_FAILED : 0;
	} else {
		status = run(&opt);
	}
	options_fini(&opt);
	return status;
}
