/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conntest.h - a server of connections on a thread, and a client beside it.
 *
 * The exports are fake volumes: "" and "rw" (64 MiB), "ro" (read-only) and
 * "b4k" (blocks of 4096).  The client blocks, with a bound, and every helper
 * fails the test when something else comes than it is told to expect.
 */
#ifndef FOLIOD_TESTS_CONNTEST_H
#define FOLIOD_TESTS_CONNTEST_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/nbd.h"
#include "server/conn.h"
#include "tests/fakevolume.h"

#define CT_SIZE		(UINT64_C(64) << 20)
#define CT_EXPORTS	3

struct conntest {
	pthread_t		thread;
	struct loop		*loop;
	struct conn_loop	cl;
	struct conn_shared	shared;
	struct export		exports[CT_EXPORTS];
	struct export_table	table;
	struct fakevolume	*rw, *ro, *b4k;
	enum tls_mode		tls_least;	/* of clients from now on */
	unsigned int		idle;		/* atomic: idle() calls */
};

/* Start it; settings in @shared (NULL: usual ones) but for the exports. */
void conntest_start(struct conntest *ct, const struct conn_shared *shared);

/* Stop it, and check that nothing is left: connections, pins, stages. */
void conntest_stop(struct conntest *ct);

/* A client's descriptor; nothing is read yet. */
int conntest_connect(struct conntest *ct);
/* What conn_start() says to the two descriptors. */
int conntest_start_fds(struct conntest *ct, int in_fd, int out_fd);
void conntest_drain(struct conntest *ct, uint64_t after_ns);
void conntest_hurry(struct conntest *ct);
/* Call @fn on the server's thread: what it returns. */
int conntest_call(struct conntest *ct, int (*fn)(struct conn_loop *cl, void *arg),
		  void *arg);
/* Wait for all that the server's thread has begun, and see what it did. */
void conntest_sync(struct conntest *ct);
/* Wait until the server has exactly @nr connections. */
void conntest_wait_conns(struct conntest *ct, unsigned int nr);

/* ---- a client ---- */

void send_all(int fd, const void *buf, size_t len);
void recv_all(int fd, void *buf, size_t len);
/* The server must close; what comes before is dropped, at most @max bytes. */
void expect_close(int fd, size_t max);
void expect_silence(int fd);

/* Read the greeting, answer with both flags. */
void greet(int fd);
void put_option(int fd, uint32_t option, const void *data, uint32_t len);
/* Read one reply to @option: its type; its data, cut, into @buf. */
uint32_t get_option_reply(int fd, uint32_t option, void *buf, size_t max,
			  uint32_t *lenp);
/* The last reply to @option, what comes before is dropped. */
uint32_t get_final_reply(int fd, uint32_t option);

/* Extended headers instead of structured replies; they imply them. */
enum { CT_STRUCTURED = 1, CT_META = 2 | CT_STRUCTURED, CT_EXTENDED = 4 };
/* Connect and go to @name. */
int open_export(struct conntest *ct, const char *name, unsigned int how);

/* Bytes of a request. */
size_t put_request(void *buf, uint16_t type, uint16_t flags, uint64_t cookie,
		   uint64_t pos, uint32_t len);
void send_request(int fd, uint16_t type, uint16_t flags, uint64_t cookie,
		  uint64_t pos, uint32_t len);
/* The same with extended headers. */
size_t put_extended(void *buf, uint16_t type, uint16_t flags, uint64_t cookie,
		    uint64_t pos, uint64_t len);
void send_extended(int fd, uint16_t type, uint16_t flags, uint64_t cookie,
		   uint64_t pos, uint64_t len);
/* A simple reply must come for @cookie: its error. */
uint32_t get_simple(int fd, uint64_t cookie);

struct chunk {
	uint16_t	flags, type;
	uint64_t	cookie, pos;
	uint32_t	len;		/* of data, hole, or extents in bytes */
	uint32_t	error;
	bool		extended;
	uint64_t	echo;		/* if extended: the request's offset */
	char		text[256];
};
/* The head of a chunk, but for the data or the extents behind it. */
struct chunk get_chunk(int fd);

/* Receive @len bytes and check them against fake_byte() from @pos on. */
void expect_fill(int fd, uint64_t pos, size_t len);
/* A READ of 4096 bytes at 0 must work, simple or structured. */
void expect_alive(int fd, bool structured);

#endif
