/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * server.h - a foliod of the test's own, in a directory of its own.
 *
 * Whatever happens to the test, the server does not outlive it.  Its files
 * and stderr are in the directory, which server_fini() removes.
 */
#ifndef TESTS_WIRE_SERVER_H
#define TESTS_WIRE_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct server {
	char		dir[64];
	char		socket[96];
	char		tcp_port[32];	/* from "listening on nbd://", or "" */
	pid_t		pid;		/* 0 when it does not run */
	uint32_t	bad_from;	/* reads from there on fail, see bad_disk.h;
					 * 0: none do */
};

/* Make the directory.  Exits the program on failure. */
void server_init(struct server *s);

/* Make a file @name there: sparse, @size bytes, the first @filled not zero. */
void server_file(const struct server *s, const char *name, uint64_t size,
		 uint32_t filled, uint8_t byte);

/*
 * Start @foliod listening on s->socket, with the NULL-ended @args after that;
 * an argument "@NAME" anywhere in them becomes the path of a file.  Waits
 * until @nr_listen addresses are reported.  False if that does not happen;
 * its stderr is then printed.
 */
bool server_start(struct server *s, const char *foliod, unsigned int nr_listen,
		  const char *const *args);

bool server_is_alive(struct server *s);

/*
 * Send SIGTERM if @term, wait for the end.  Returns the exit status, 128 +
 * signal number, or -1 if it had to be killed.
 */
int server_stop(struct server *s, bool term);

/* Print the last of what the server said. */
void server_dump_stderr(const struct server *s);

/* Kill what still runs and remove the directory. */
void server_fini(struct server *s);

/* Of a process: descriptors that are sockets, and that are anything else. */
unsigned int server_sockets(pid_t pid);
unsigned int server_other_fds(pid_t pid);
/* Has it half a second in which it hardly uses the CPU, within @ms?  A loop that
 * spins never has. */
bool server_is_idle(pid_t pid, int ms);
/* Resident memory in MiB; 0 if there is no such process. */
uint64_t server_rss_mib(pid_t pid);

/*
 * A second foliod that lives until the row ends, with files "a.img" of
 * 16 MiB, "b.img" and "c.img"; the row's connections then go there.  Each "-b" in @args is waited
 * for, the last one's port is in env.tcp_port.  Leaves the row on failure.
 */
struct server *row_server(const char *const *args);
/*
 * The same on a disk that cannot be read from @from on, and with a "bad.img" of
 * twice that, all of it 0x42.
 */
struct server *row_server_on_bad_disk(const char *const *args, uint32_t from);
void row_server_release(void);

/* The exports that both programs test, and env set to them. */
bool server_start_usual(struct server *s, const char *foliod);

#endif
