/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostile.c - bad clients against a foliod of the test's own.
 *
 * The rows are in tests/wire/hostile_*.c.  What only shows at the end is
 * judged here: the server lives, holds no descriptor of a client that is
 * gone, does not spin, ends with status 0, and the file on disk holds what
 * the half-received writes were not allowed to change.
 */
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/wire/hostile.h"
#include "tests/wire/server.h"
#include "tests/wire/wire.h"

#define MAX_ONLY	32
#define SETTLE_MS	20000

static const struct row *const tables[] = {
	hostile_session, hostile_data, hostile_cve_nbdkit, hostile_cve_qemu,
	hostile_cve_nbd, hostile_crowd, NULL
};

static const struct row last_row[] = {
	ROW(99, good_client, 0),
	ROW_END
};

static const struct row *const at_the_end[] = { last_row, NULL };

static void usage(FILE *f)
{
	fputs("usage: hostile [--foliod PATH] [--row N]... [--list]\n"
	      "               [--timeout MS]\n", f);
}

static void list_rows(void)
{
	for (size_t i = 0; tables[i]; i++)
		for (const struct row *row = tables[i]; row->run; row++)
			printf("%3u %s\n", row->nr, row->name);
}

/* A thousand connections need as many descriptors, here and there. */
static void raise_file_limit(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
}

static void judge_leftovers(const struct server *s, unsigned int sockets)
{
	int64_t deadline = now_ms() + SETTLE_MS;
	unsigned int left;
	char why[80];

	while ((left = server_sockets(s->pid)) > sockets && now_ms() < deadline)
		poll(NULL, 0, 20);
	snprintf(why, sizeof(why), "%u sockets, %u at the start", left,
		 sockets);
	harness_verdict("no_socket_of_a_lost_client_is_kept",
			left && left <= sockets, why);
	harness_verdict("server_is_idle_when_nobody_is_there",
			server_is_idle(s->pid, SETTLE_MS),
			"it goes on using the CPU");
}

static void judge_file(const struct server *s)
{
	static uint8_t buf[T03_LEN];
	unsigned int bad = 0;
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/other.img", s->dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pread(fd, buf, T03_LEN, T03_OFF) != T03_LEN)
		bad = 1;
	for (size_t i = 0; i < T03_LEN; i++)
		bad += buf[i] != T03_BYTE;
	if (fd >= 0)
		close(fd);
	harness_verdict("t03_the_file_is_unchanged_too", !bad,
			"half-received bytes are in the file");
}

static int run(const char *foliod, const unsigned int *only, size_t nr_only)
{
	struct server s;
	unsigned int sockets;
	int status;

	server_init(&s);
	if (!server_start_usual(&s, foliod)) {
		server_fini(&s);
		harness_verdict("server_starts", false, foliod);
		return harness_finish();
	}
	sockets = server_sockets(s.pid);
	harness_run(tables, only, nr_only);
	harness_run(at_the_end, NULL, 0);
	harness_verdict("server_is_alive_after_all_rows", server_is_alive(&s),
			"it is gone");
	if (s.pid) {
		judge_leftovers(&s, sockets);
		status = server_stop(&s, true);
		harness_verdict("sigterm_ends_it_with_status_0", status == 0,
				"another status, or it did not end");
		if (status)
			server_dump_stderr(&s);
	} else {
		server_dump_stderr(&s);
	}
	if (nr_only == 0)
		judge_file(&s);
	server_fini(&s);
	return harness_finish();
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "foliod", 1, NULL, 'f' }, { "row", 1, NULL, 'r' },
		{ "list", 0, NULL, 'l' }, { "timeout", 1, NULL, 't' },
		{ "help", 0, NULL, 'h' }, { NULL, 0, NULL, 0 }
	};
	const char *foliod = "./foliod";
	unsigned int only[MAX_ONLY];
	size_t nr_only = 0;
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'f': foliod = optarg; break;
		case 'r':
			if (nr_only < MAX_ONLY)
				only[nr_only++] = strtoul(optarg, NULL, 10);
			break;
		case 'l': list_rows(); return 0;
		case 't': env.timeout_ms = strtol(optarg, NULL, 10); break;
		case 'h': usage(stdout); return 0;
		default: usage(stderr); return 2;
		}
	}
	if (optind < argc) {
		usage(stderr);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	raise_file_limit();
	return run(foliod, only, nr_only);
}
