/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * server.c - starts, watches and ends a foliod for the wire tests.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/wire/bad_disk.h"
#include "tests/wire/harness.h"
#include "tests/wire/server.h"
#include "tests/wire/wire.h"

#define MAX_ARGS	48
#define START_MS	20000
#define STOP_MS		20000
/* Of the server's stderr, its end is worth most. */
#define DUMP_LINES	40

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void path_of(const struct server *s, const char *name, char *buf,
		    size_t size)
{
	snprintf(buf, size, "%s/%s", s->dir, name);
}

void server_init(struct server *s)
{
	const char *tmp = getenv("TMPDIR");

	memset(s, 0, sizeof(*s));
	/* A socket's path has room for about a hundred bytes. */
	if (!tmp || strlen(tmp) > 40)
		tmp = "/tmp";
	snprintf(s->dir, sizeof(s->dir), "%s/foliod-wire.XXXXXX", tmp);
	if (!mkdtemp(s->dir))
		die(s->dir);
	path_of(s, "sock", s->socket, sizeof(s->socket));
}

void server_file(const struct server *s, const char *name, uint64_t size,
		 uint32_t filled, uint8_t byte)
{
	char path[256];
	uint8_t buf[64 * KIB];
	int fd;

	path_of(s, name, path, sizeof(path));
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, size) < 0)
		die(path);
	memset(buf, byte, sizeof(buf));
	for (uint32_t off = 0; off < filled; off += sizeof(buf))
		if (pwrite(fd, buf, sizeof(buf), off) != sizeof(buf))
			die(path);
	close(fd);
}

/* "@" in an argument stands for the directory and a slash. */
static char *expand(const struct server *s, const char *arg)
{
	const char *at = strchr(arg, '@');
	char *out;

	if (!at)
		out = strdup(arg);
	else if (asprintf(&out, "%.*s%s/%s", (int)(at - arg), arg, s->dir,
			  at + 1) < 0)
		out = NULL;
	if (!out)
		die("malloc");
	return out;
}

static void exec_server(const struct server *s, char **argv)
{
	char path[256];
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	path_of(s, "stderr", path, sizeof(path));
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		die(path);
	dup2(fd, STDERR_FILENO);
	dup2(fd, STDOUT_FILENO);
	if (s->bad_from) {
		errno = -bad_disk_install(s->bad_from);
		if (errno)
			die("seccomp");
	}
	execv(argv[0], argv);
	die(argv[0]);
}

/* Count the "listening on" lines so far and remember the TCP port. */
static unsigned int count_listening(struct server *s)
{
	char path[256], line[512], *p;
	unsigned int nr = 0;
	FILE *f;

	path_of(s, "stderr", path, sizeof(path));
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		p = strstr(line, "listening on ");
		if (!p || !strchr(line, '\n'))
			continue;
		nr++;
		p += strlen("listening on ");
		if ((strncmp(p, "nbd://", 6) == 0 ||
		     strncmp(p, "nbds://", 7) == 0) && (p = strrchr(p, ':')))
			snprintf(s->tcp_port, sizeof(s->tcp_port), "%lu",
				 strtoul(p + 1, NULL, 10));
	}
	fclose(f);
	return nr;
}

static bool wait_listening(struct server *s, unsigned int nr_listen)
{
	int64_t deadline = now_ms() + START_MS;

	while (now_ms() < deadline) {
		if (count_listening(s) >= nr_listen)
			return true;
		if (!server_is_alive(s))
			return false;
		poll(NULL, 0, 5);
	}
	return false;
}

bool server_start(struct server *s, const char *foliod, unsigned int nr_listen,
		  const char *const *args)
{
	char *argv[MAX_ARGS] = { NULL };
	unsigned int n = 0;

	argv[n++] = strdup(foliod);
	argv[n++] = expand(s, "-U");
	argv[n++] = expand(s, "@sock");
	for (; *args && n < MAX_ARGS - 1; args++)
		argv[n++] = expand(s, *args);
	unlink(s->socket);
	s->tcp_port[0] = '\0';
	fflush(stdout);
	s->pid = fork();
	if (s->pid < 0)
		die("fork");
	if (s->pid == 0)
		exec_server(s, argv);
	while (n)
		free(argv[--n]);
	if (wait_listening(s, nr_listen))
		return true;
	printf("# the server did not come up\n");
	server_dump_stderr(s);
	server_stop(s, true);
	return false;
}

static int decode(int status)
{
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	return 128 + WTERMSIG(status);
}

bool server_is_alive(struct server *s)
{
	int status;

	if (!s->pid)
		return false;
	if (waitpid(s->pid, &status, WNOHANG) != s->pid)
		return true;
	printf("# the server ended by itself: status %d\n", decode(status));
	s->pid = 0;
	return false;
}

int server_stop(struct server *s, bool term)
{
	int64_t deadline = now_ms() + STOP_MS;
	int status;

	if (!s->pid)
		return -1;
	if (term)
		kill(s->pid, SIGTERM);
	while (now_ms() < deadline) {
		if (waitpid(s->pid, &status, WNOHANG) == s->pid) {
			s->pid = 0;
			return decode(status);
		}
		poll(NULL, 0, 5);
	}
	kill(s->pid, SIGKILL);
	waitpid(s->pid, &status, 0);
	s->pid = 0;
	return -1;
}

void server_dump_stderr(const struct server *s)
{
	char path[256], *line;
	char last[DUMP_LINES][256] = { { 0 } };
	unsigned int nr = 0;
	FILE *f;

	path_of(s, "stderr", path, sizeof(path));
	f = fopen(path, "re");
	if (!f)
		return;
	do {
		line = last[nr++ % DUMP_LINES];
	} while (fgets(line, sizeof(last[0]), f));
	fclose(f);
	*line = '\0';
	for (unsigned int i = 0; i < DUMP_LINES; i++) {
		line = last[(nr + i) % DUMP_LINES];
		line[strcspn(line, "\n")] = '\0';
		if (*line)
			printf("# server: %s\n", line);
	}
}

/* ---- what a process uses ---- */

static unsigned int count_fds(pid_t pid, bool sockets)
{
	char path[300], link[32];
	struct dirent *de;
	unsigned int nr = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	while (dir && (de = readdir(dir))) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)pid,
			 de->d_name);
		n = readlink(path, link, sizeof(link));
		if (n > 0)
			nr += sockets == (n > 7 && !memcmp(link, "socket:", 7));
	}
	if (dir)
		closedir(dir);
	return nr;
}

unsigned int server_sockets(pid_t pid)
{
	return count_fds(pid, true);
}

unsigned int server_other_fds(pid_t pid)
{
	return count_fds(pid, false);
}

/* User and system time of @pid so far, in clock ticks. */
static unsigned long cpu_ticks(pid_t pid)
{
	unsigned long user = 0, sys = 0;
	char path[64], line[1024], *p;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (f && fgets(line, sizeof(line), f) && (p = strrchr(line, ')')))
		sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u "
		       "%lu %lu", &user, &sys);
	if (f)
		fclose(f);
	return user + sys;
}

bool server_is_idle(pid_t pid, int ms)
{
	int64_t deadline = now_ms() + ms;

	do {
		unsigned long before = cpu_ticks(pid);

		poll(NULL, 0, 500);
		if (cpu_ticks(pid) <= before + 2)
			return true;
	} while (now_ms() < deadline);
	return false;
}

uint64_t server_rss_mib(pid_t pid)
{
	unsigned long pages = 0;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%*u %lu", &pages) != 1)
		pages = 0;
	if (f)
		fclose(f);
	return (uint64_t)pages * sysconf(_SC_PAGESIZE) / MIB;
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void server_fini(struct server *s)
{
	if (s->pid) {
		kill(s->pid, SIGKILL);
		waitpid(s->pid, NULL, 0);
		s->pid = 0;
	}
	nftw(s->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

bool server_start_usual(struct server *s, const char *foliod)
{
	static const char *const args[] = {
		"-b", "127.0.0.1:0",
		"--export", "name=rw,path=@rw.img",
		"--export", "name=other,path=@other.img",
		"--export", "name=ro,path=@ro.img,read-only",
		"--export", "name=b4k,path=@b4k.img,block-size=4096,"
			    "description=text",
		"--export", "name=big,path=@big.img",
		"--export", "name=huge,path=@huge.img",
		"--default-export", "rw",
		NULL
	};

	server_file(s, "rw.img", 256ull * MIB, 0, 0);
	server_file(s, "other.img", 16ull * MIB, 0, 0);
	server_file(s, "ro.img", 16ull * MIB, 1u * MIB, 0x52);
	server_file(s, "b4k.img", 16ull * MIB, 0, 0);
	server_file(s, "big.img", 6ull << 30, 0, 0);
	server_file(s, "huge.img", 8ull << 40, 0, 0);
	if (!server_start(s, foliod, 2, args))
		return false;
	snprintf(env.path, sizeof(env.path), "%s", s->socket);
	snprintf(env.tcp_port, sizeof(env.tcp_port), "%s", s->tcp_port);
	strcpy(env.export, "rw");
	env.ro_export = "ro";
	env.other_export = "other";
	env.b4k_export = "b4k";
	env.pid = s->pid;
	env.foliod = foliod;
	env.server = s;
	return true;
}

static struct server second;

static void row_server_init(void)
{
	row_server_release();
	server_init(&second);
}

static struct server *row_server_run(const char *const *args)
{
	unsigned int nr_listen = 1;

	for (unsigned int i = 0; args[i]; i++)
		nr_listen += strcmp(args[i], "-b") == 0;
	server_file(&second, "a.img", 16ull * MIB, 1u * MIB, 0x61);
	server_file(&second, "b.img", 1ull * MIB, 0, 0);
	server_file(&second, "c.img", 1ull * MIB, 0, 0);
	if (!server_start(&second, env.foliod, nr_listen, args))
		fatal("a second server did not start");
	snprintf(env.path, sizeof(env.path), "%s", second.socket);
	snprintf(env.tcp_port, sizeof(env.tcp_port), "%s", second.tcp_port);
	return &second;
}

struct server *row_server(const char *const *args)
{
	row_server_init();
	return row_server_run(args);
}

struct server *row_server_on_bad_disk(const char *const *args, uint32_t from)
{
	row_server_init();
	second.bad_from = from;
	server_file(&second, "bad.img", 2ull * from, 2 * from, 0x42);
	return row_server_run(args);
}

void row_server_release(void)
{
	if (second.dir[0])
		server_fini(&second);
	second.dir[0] = '\0';
}
