/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conn.h - one connection of a worker: what is in flight, what is half sent
 * and what is half received.  Private to load.c and reply.c.
 */
#ifndef BENCH_CONN_H
#define BENCH_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "bench/client.h"
#include "bench/wire.h"

struct worker;

struct slot {
	bool		in_flight;
	uint16_t	type;
	uint32_t	len;
	uint32_t	received;		/* payload bytes, reads only */
	uint32_t	generation;		/* what is read or written */
	uint64_t	pos;
	uint64_t	cookie;
	uint64_t	sent_ns;
	struct wire_request head;
};

/* What the next received byte belongs to. */
enum parse_state {
	PARSE_MAGIC,		/* of a reply; its kind decides the rest */
	PARSE_SIMPLE,
	PARSE_CHUNK,
	PARSE_CHUNK_BODY,	/* offset of a chunk; error number */
	PARSE_DATA,
};

struct conn {
	struct client_link link;
	bool		wants_out;	/* epoll watches for EPOLLOUT */
	struct slot	*slots;
	uint16_t	*free_slots;
	unsigned int	nr_free;
	uint64_t	sequence;
	unsigned int	unflushed;	/* writes since the last FLUSH */
	bool		flush_due;
	uint8_t		*payload;	/* by slot with verify, else one */
	/* Not sent yet: iov[iov_first..nr_iov). */
	struct iovec	*iov;
	unsigned int	iov_first, nr_iov;
	/* The reply that is being received. */
	enum parse_state state;
	uint8_t		head[32];
	unsigned int	head_len, head_need;
	struct slot	*slot;
	struct wire_chunk chunk;
	uint64_t	data_pos;
	uint32_t	data_left;
};

/*
 * Take @len received bytes.  Each reply that they complete gives its slot
 * back and counts in @worker.
 */
void reply_parse(struct worker *worker, struct conn *conn, const uint8_t *p,
		 size_t len, uint64_t now);

/* The next byte begins a reply. */
void reply_expect_next(struct conn *conn);

#endif
