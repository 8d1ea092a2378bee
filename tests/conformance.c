/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conformance.c - does a server do what the NBD protocol obliges it to?
 *
 * Without --uri it starts a foliod, runs every row against it and sees it
 * end well.  With --uri it judges any running server, row by row, and skips
 * what is foliod's own.  The rows are in tests/wire/rows_*.c.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/wire/rows.h"
#include "tests/wire/server.h"
#include "tests/wire/wire.h"

#define MAX_ONLY	64
#define IDLE_MS		30000

static const struct row *const tables[] = {
	rows_handshake, rows_tls, rows_export, rows_meta, rows_command, rows_limits,
	rows_extended, rows_foliod, NULL
};

/* The same again with extended headers, as far as it makes a difference. */
static const struct row *const extended_tables[] = {
	rows_meta, rows_command, rows_limits, rows_foliod, NULL
};

static void server_still_serves(void)
{
	alive(open_default(OPEN_META));
}

static const struct row last_row[] = {
	ROW(299, server_still_serves, 0),
	ROW_END
};

static const struct row *const at_the_end[] = { last_row, NULL };

static void usage(FILE *f)
{
	fputs("usage: conformance [--foliod PATH]\n"
	      "       conformance --uri nbd+unix:///NAME?socket=PATH\n"
	      "       conformance --uri nbd://HOST[:PORT]/NAME\n"
	      "  --list                     name the rows and exit\n"
	      "  --row N                    run this row only (repeatable)\n"
	      "  --read-only-export NAME    with --uri: a read-only export\n"
	      "  --other-export NAME        with --uri: a second one\n"
	      "  --min-block-export NAME    with --uri: minimum block 4096\n"
	      "  --server-pid PID           with --uri: the server's process\n"
	      "  --bad-from BYTES           with --uri: no data can be read from there\n"
	      "                             on (see bad-disk), half of the export\n"
	      "  --timeout MS               wait this long for an answer\n", f);
}

static void list_rows(void)
{
	for (size_t i = 0; tables[i]; i++)
		for (const struct row *row = tables[i]; row->run; row++)
			printf("%3u %s\n", row->nr, row->name);
}

static int bad_uri(const char *uri)
{
	fprintf(stderr, "conformance: cannot use the URI '%s'\n", uri);
	return -EINVAL;
}

/* The two forms of usage(); no escapes. */
static int parse_uri(const char *uri)
{
	static const char unix_head[] = "nbd+unix:///", tcp_head[] = "nbd://";
	const char *p, *colon, *end;

	if (strncmp(uri, unix_head, strlen(unix_head)) == 0) {
		p = uri + strlen(unix_head);
		end = strstr(p, "?socket=");
		if (!end || strlen(end + 8) >= sizeof(env.path))
			return bad_uri(uri);
		strcpy(env.path, end + 8);
		snprintf(env.export, sizeof(env.export), "%.*s",
			 (int)(end - p), p);
		return 0;
	}
	if (strncmp(uri, tcp_head, strlen(tcp_head)))
		return bad_uri(uri);
	p = uri + strlen(tcp_head);
	end = strchr(p, '/');
	if (!end)
		end = p + strlen(p);
	colon = memchr(p, ':', end - p);
	env.tcp = true;
	snprintf(env.host, sizeof(env.host), "%.*s",
		 (int)((colon ? colon : end) - p), p);
	if (colon)
		snprintf(env.port, sizeof(env.port), "%.*s",
			 (int)(end - colon - 1), colon + 1);
	else
		strcpy(env.port, "10809");
	snprintf(env.export, sizeof(env.export), "%s", *end ? end + 1 : "");
	return 0;
}

/* A client that says nothing from the start of the run to its end. */
static int idle_client(const struct server *s)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", s->socket);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* The server must have hung up on it, or do so soon. */
static void judge_idle_client(int fd)
{
	int64_t deadline = now_ms() + IDLE_MS;
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	char buf[64];
	bool closed = fd < 0;

	while (!closed && now_ms() < deadline) {
		ssize_t n = 0;

		if (poll(&pfd, 1, 100) > 0) {
			n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
			closed = n == 0 || (n < 0 && errno != EAGAIN);
		}
	}
	harness_verdict("client_that_never_speaks_is_dropped",
			fd >= 0 && closed, "it is still connected");
	close(fd);
}

static void judge_end(struct server *s)
{
	int status;

	harness_verdict("server_is_alive_after_all_rows", server_is_alive(s),
			"it is gone");
	if (!s->pid) {
		server_dump_stderr(s);
		return;
	}
	status = server_stop(s, true);
	harness_verdict("sigterm_ends_it_with_status_0", status == 0,
			"another status, or it did not end");
	if (status) {
		printf("#   status %d\n", status);
		server_dump_stderr(s);
	}
}

static void run_tables(const unsigned int *only, size_t nr_only)
{
	harness_run(tables, only, nr_only);
	env.extended = true;
	harness_run(extended_tables, only, nr_only);
	env.extended = false;
}

static int run_own_foliod(const char *foliod, const unsigned int *only,
			  size_t nr_only)
{
	struct server server;
	int fd = -1;

	server_init(&server);
	if (!server_start_usual(&server, foliod)) {
		server_fini(&server);
		harness_verdict("server_starts", false, foliod);
		return harness_finish();
	}
	if (nr_only == 0)
		fd = idle_client(&server);
	run_tables(only, nr_only);
	harness_run(at_the_end, NULL, 0);
	if (nr_only == 0)
		judge_idle_client(fd);
	judge_end(&server);
	server_fini(&server);
	return harness_finish();
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "uri", 1, NULL, 'u' }, { "list", 0, NULL, 'l' },
		{ "row", 1, NULL, 'r' }, { "foliod", 1, NULL, 'f' },
		{ "read-only-export", 1, NULL, 'R' },
		{ "other-export", 1, NULL, 'O' },
		{ "min-block-export", 1, NULL, 'B' },
		{ "server-pid", 1, NULL, 'p' }, { "timeout", 1, NULL, 't' },
		{ "bad-from", 1, NULL, 'b' }, { "help", 0, NULL, 'h' }, { NULL, 0, NULL, 0 }
	};
	const char *uri = NULL, *foliod = "./foliod";
	unsigned int only[MAX_ONLY];
	size_t nr_only = 0;
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'u': uri = optarg; break;
		case 'l': list_rows(); return 0;
		case 'r':
			if (nr_only < MAX_ONLY)
				only[nr_only++] = strtoul(optarg, NULL, 10);
			break;
		case 'f': foliod = optarg; break;
		case 'R': env.ro_export = optarg; break;
		case 'O': env.other_export = optarg; break;
		case 'B': env.b4k_export = optarg; break;
		case 'p': env.pid = strtol(optarg, NULL, 10); break;
		case 't': env.timeout_ms = strtol(optarg, NULL, 10); break;
		case 'b': env.bad_from = strtoul(optarg, NULL, 10); break;
		case 'h': usage(stdout); return 0;
		default: usage(stderr); return 2;
		}
	}
	if (optind < argc) {
		usage(stderr);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	if (!uri)
		return run_own_foliod(foliod, only, nr_only);
	if (parse_uri(uri))
		return 2;
	run_tables(only, nr_only);
	return harness_finish();
}
