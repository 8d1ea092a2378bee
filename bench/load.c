/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * load.c - requests in flight on a set of connections: one worker's share.
 *
 * The client must cost less than the server that it measures: as many
 * requests as there is room for leave with one sendmsg(), and one recv()
 * takes what the socket holds.  Payload that nobody checks is dropped where
 * it lands.  What to request is decided here, what a reply means in reply.c,
 * when and why in nbd-load.c.
 */
#include <err.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "bench/client.h"
#include "bench/conn.h"
#include "bench/load.h"
#include "bench/pattern.h"
#include "bench/wire.h"

enum {
	RECV_SIZE	= 256 << 10,	/* stays in the processor's cache */
	IOV_MAX_COUNT	= 1024,		/* the kernel's limit for one call */
};

uint64_t load_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * UINT64_C(1000000000) + ts.tv_nsec;
}

static void *alloc(size_t nr, size_t size)
{
	void *p = calloc(nr ? nr : 1, size);

	if (!p)
		err(1, "calloc");
	return p;
}

/* --- Choosing requests ------------------------------------------------- */

/* A bijection of [0, n) that looks random: walk one of the next power of two
 * until it comes back into the range. */
static uint64_t permute(uint64_t x, uint64_t n, uint64_t seed)
{
	unsigned int bits = n > 1 ? ilog2(n - 1) + 1 : 1;
	uint64_t mask = (UINT64_C(1) << bits) - 1;
	unsigned int half = bits / 2 ? bits / 2 : 1;

	do {
		for (int round = 0; round < 3; round++) {
			x = (x + hash64(seed + round)) & mask;
			x = (x * UINT64_C(0x9e3779b97f4a7c15)) & mask;
			x ^= x >> half;
		}
	} while (x >= n);
	return x;
}

static bool phase_random(const struct load_phase *phase)
{
	return phase->op >= LOAD_RANDREAD && !phase->sweep;
}

static uint64_t phase_limit(const struct worker *worker)
{
	const struct load_phase *phase = &worker->phase;
	bool bounded = phase->sweep ||
		(worker->config->once && phase_random(phase));

	return bounded ? MIN(phase->count, worker->nr_blocks) : phase->count;
}

/*
 * The next block of the region, or false if none can be had now.  With
 * verify, a block has one request in flight: which of two writes counts, or
 * what a read beside a write returns, nobody can say.
 */
static bool choose_block(struct worker *worker, uint64_t *blockp)
{
	const struct load_config *config = worker->config;
	uint64_t block;

	if (!phase_random(&worker->phase))
		block = worker->cursor;
	else if (config->once)
		block = permute(worker->issued, worker->nr_blocks,
				config->seed);
	else
		block = random_below(&worker->random, worker->nr_blocks);
	if (config->verify) {
		uint64_t tries = 0;

		while (worker->busy[block]) {
			if (++tries > worker->nr_blocks)
				return false;
			block = block + 1 < worker->nr_blocks ? block + 1 : 0;
		}
	}
	worker->cursor = block + 1 < worker->nr_blocks ? block + 1 : 0;
	*blockp = block;
	return true;
}

static bool phase_writes(struct worker *worker)
{
	enum load_op op = worker->phase.op;

	if (op == LOAD_MIXED)
		return random_one_in(&worker->random, 2);
	return op == LOAD_WRITE || op == LOAD_RANDWRITE;
}

static void push_iov(struct conn *conn, void *base, size_t len)
{
	conn->iov[conn->nr_iov++] = (struct iovec){ base, len };
}

static void queue_request(struct conn *conn, struct slot *slot, uint16_t type,
			  uint16_t flags, uint64_t pos, uint32_t len,
			  uint64_t now)
{
	slot->in_flight = true;
	slot->type = type;
	slot->pos = pos;
	slot->len = len;
	slot->received = 0;
	slot->sent_ns = now;
	/* Never the same twice, and the slot can be read off it. */
	slot->cookie = conn->sequence++ << 16 | (slot - conn->slots);
	slot->head = (struct wire_request){
		.magic = htobe32(WIRE_REQUEST_MAGIC),
		.flags = htobe16(flags),
		.type = htobe16(type),
		.cookie = slot->cookie,
		.pos = htobe64(pos),
		.len = htobe32(len),
	};
	push_iov(conn, &slot->head, sizeof(slot->head));
}

static void queue_flush(struct worker *worker, struct conn *conn, uint64_t now)
{
	struct slot *slot = &conn->slots[conn->free_slots[--conn->nr_free]];

	queue_request(conn, slot, WIRE_FLUSH, 0, 0, 0, now);
	conn->unflushed = 0;
	conn->flush_due = false;
	worker->flushes++;
}

static bool queue_one(struct worker *worker, struct conn *conn, uint64_t now)
{
	const struct load_config *config = worker->config;
	bool write = phase_writes(worker);
	uint8_t *payload = conn->payload;
	struct slot *slot;
	uint64_t block, pos;

	if (!choose_block(worker, &block))
		return false;
	slot = &conn->slots[conn->free_slots[--conn->nr_free]];
	pos = (worker->first_block + block) * config->block_size;
	if (config->verify) {
		worker->busy[block] = true;
		slot->generation = worker->generation[block] + write;
	}
	queue_request(conn, slot, write ? WIRE_WRITE : WIRE_READ,
		      write && config->fua ? WIRE_FLAG_FUA : 0, pos,
		      config->block_size, now);
	worker->issued++;
	if (!write)
		return true;
	if (config->verify) {
		payload += (size_t)(slot - conn->slots) * config->block_size;
		pattern_fill(payload, pos, config->block_size, config->seed,
			     slot->generation);
	}
	push_iov(conn, payload, config->block_size);
	if (config->flush_every && ++conn->unflushed >= config->flush_every)
		conn->flush_due = true;
	return true;
}

/* Fill the connection up to its depth, if the last batch is sent. */
static void queue_batch(struct worker *worker, struct conn *conn, uint64_t now)
{
	const struct load_phase *phase = &worker->phase;
	uint64_t limit = phase_limit(worker);

	if (worker->stopped || conn->iov_first < conn->nr_iov ||
	    conn->nr_free < worker->config->batch)
		return;
	conn->iov_first = conn->nr_iov = 0;
	if (phase->time_ns && now - worker->start_ns >= phase->time_ns)
		return;
	while (conn->nr_free && worker->issued < limit) {
		if (conn->flush_due)
			queue_flush(worker, conn, now);
		else if (!queue_one(worker, conn, now))
			break;
	}
}

/* --- Sending ----------------------------------------------------------- */

static void conn_send(struct worker *worker, struct conn *conn)
{
	while (conn->iov_first < conn->nr_iov) {
		ssize_t n = client_send(&conn->link,
					conn->iov + conn->iov_first,
					MIN(conn->nr_iov - conn->iov_first,
					    (unsigned int)IOV_MAX_COUNT));

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			err(1, "%s: send", worker->phase.name);
		worker->nr_sends++;
		while (n > 0) {
			struct iovec *iov = &conn->iov[conn->iov_first];

			if ((size_t)n < iov->iov_len) {
				iov->iov_base = (uint8_t *)iov->iov_base + n;
				iov->iov_len -= n;
				break;
			}
			n -= iov->iov_len;
			conn->iov_first++;
		}
	}
}

/* --- Receiving --------------------------------------------------------- */

/* Take what the socket holds; with @wait, wait until it holds something.  False
 * if there may be more that no event tells of. */
static bool conn_recv(struct worker *worker, struct conn *conn, uint8_t *buf,
		      bool wait)
{
	ssize_t n = client_recv(&conn->link, buf, RECV_SIZE, wait);
	uint64_t now;

	if (n < 0 && errno == EAGAIN) {
		if (!wait)
			return true;
		errx(1, "%s: no reply for %d seconds", worker->phase.name,
		     CLIENT_PATIENCE_SEC);
	}
	if (n < 0)
		err(1, "%s: recv", worker->phase.name);
	if (n == 0)
		errx(1, "%s: the server closed the connection",
		     worker->phase.name);
	worker->nr_recvs++;
	now = load_now_ns();
	reply_parse(worker, conn, buf, n, now);
	queue_batch(worker, conn, now);
	conn_send(worker, conn);
	return !conn->link.ssl || n < RECV_SIZE;
}

/* --- The loop ---------------------------------------------------------- */

static bool conn_idle(const struct worker *worker, const struct conn *conn)
{
	return conn->nr_free == worker->config->depth;
}

/* One connection: a blocking recv() is all the event loop it needs. */
static void run_single(struct worker *worker, uint8_t *buf)
{
	struct conn *conn = worker->conns[0];

	while (!conn_idle(worker, conn)) {
		struct pollfd pfd = { conn->link.fd, POLLIN | POLLOUT, 0 };

		if (conn->iov_first == conn->nr_iov) {
			conn_recv(worker, conn, buf, true);
			continue;
		}
		if (poll(&pfd, 1, CLIENT_PATIENCE_SEC * 1000) == 0)
			errx(1, "%s: the server takes nothing for %d seconds",
			     worker->phase.name, CLIENT_PATIENCE_SEC);
		if (pfd.revents & POLLOUT)
			conn_send(worker, conn);
		if (pfd.revents & ~POLLOUT)
			conn_recv(worker, conn, buf, false);
	}
}

static void watch(int epoll_fd, struct conn *conn, int op)
{
	struct epoll_event ev = {
		.events = EPOLLIN | (conn->wants_out ? EPOLLOUT : 0),
		.data.ptr = conn,
	};

	if (epoll_ctl(epoll_fd, op, conn->link.fd, &ev))
		err(1, "epoll_ctl");
}

static void run_many(struct worker *worker, uint8_t *buf)
{
	struct epoll_event events[64];
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	unsigned int busy = 0;

	if (epoll_fd < 0)
		err(1, "epoll_create1");
	for (unsigned int i = 0; i < worker->nr_conns; i++) {
		struct conn *conn = worker->conns[i];

		conn->wants_out = conn->iov_first < conn->nr_iov;
		watch(epoll_fd, conn, EPOLL_CTL_ADD);
		busy += !conn_idle(worker, conn);
	}
	while (busy) {
		int n = epoll_wait(epoll_fd, events, ARRAY_SIZE(events),
				   CLIENT_PATIENCE_SEC * 1000);

		if (n == 0)
			errx(1, "%s: no reply for %d seconds",
			     worker->phase.name, CLIENT_PATIENCE_SEC);
		for (int i = 0; i < n; i++) {
			struct conn *conn = events[i].data.ptr;
			bool was_idle = conn_idle(worker, conn), pending;

			if (events[i].events & EPOLLOUT)
				conn_send(worker, conn);
			if (events[i].events & ~EPOLLOUT)
				while (!conn_recv(worker, conn, buf, false))
					;
			pending = conn->iov_first < conn->nr_iov;
			if (pending != conn->wants_out) {
				conn->wants_out = pending;
				watch(epoll_fd, conn, EPOLL_CTL_MOD);
			}
			busy -= !was_idle && conn_idle(worker, conn);
		}
	}
	close(epoll_fd);
}

static void run_until_idle(struct worker *worker, uint8_t *buf)
{
	if (worker->nr_conns == 1)
		run_single(worker, buf);
	else
		run_many(worker, buf);
}

void *worker_run(void *arg)
{
	struct worker *worker = arg;
	uint8_t *buf = alloc(RECV_SIZE, 1);

	worker->issued = worker->done = worker->flushes = 0;
	worker->nr_sends = worker->nr_recvs = 0;
	worker->cursor = 0;
	worker->stopped = false;
	memset(&worker->latency, 0, sizeof(worker->latency));
	worker->start_ns = load_now_ns();
	for (unsigned int i = 0; i < worker->nr_conns; i++) {
		worker->conns[i]->unflushed = 0;
		worker->conns[i]->flush_due = false;
		queue_batch(worker, worker->conns[i], worker->start_ns);
		conn_send(worker, worker->conns[i]);
	}
	run_until_idle(worker, buf);
	if (worker->phase.flush) {
		struct conn *conn = worker->conns[0];

		conn->iov_first = conn->nr_iov = 0;
		queue_flush(worker, conn, load_now_ns());
		conn_send(worker, conn);
		worker->stopped = true;
		run_until_idle(worker, buf);
	}
	worker->end_ns = load_now_ns();
	free(buf);
	return NULL;
}

/* --- Setting up -------------------------------------------------------- */

static struct conn *conn_alloc(const struct load_config *config,
			       const struct client_link *link)
{
	struct conn *conn = alloc(1, sizeof(*conn));
	size_t nr_payloads = config->verify ? config->depth : 1;

	conn->link = *link;
	conn->slots = alloc(config->depth, sizeof(*conn->slots));
	conn->free_slots = alloc(config->depth, sizeof(*conn->free_slots));
	conn->payload = alloc(nr_payloads, config->block_size);
	conn->iov = alloc(config->depth, 2 * sizeof(*conn->iov));
	for (unsigned int i = 0; i < config->depth; i++)
		conn->free_slots[conn->nr_free++] = config->depth - 1 - i;
	/* Not zeroes, which a server might treat better. */
	pattern_fill(conn->payload, 0, config->block_size, config->seed, 1);
	reply_expect_next(conn);
	return conn;
}

void worker_init(struct worker *worker, const struct load_config *config,
		 unsigned int id, const struct client_link *links,
		 unsigned int nr_links,
		 uint64_t first_block, uint64_t nr_blocks)
{
	memset(worker, 0, sizeof(*worker));
	worker->config = config;
	worker->first_block = first_block;
	worker->nr_blocks = nr_blocks;
	random_init(&worker->random, config->seed + id);
	worker->conns = alloc(nr_links, sizeof(*worker->conns));
	for (unsigned int i = 0; i < nr_links; i++)
		worker->conns[i] = conn_alloc(config, &links[i]);
	worker->nr_conns = nr_links;
	if (config->verify) {
		worker->generation = alloc(nr_blocks, sizeof(uint32_t));
		worker->busy = alloc(nr_blocks, sizeof(bool));
	}
}

void worker_assume_filled(struct worker *worker)
{
	for (uint64_t i = 0; i < worker->nr_blocks; i++)
		worker->generation[i] = 1;
}

void worker_fini(struct worker *worker)
{
	for (unsigned int i = 0; i < worker->nr_conns; i++) {
		struct conn *conn = worker->conns[i];

		client_disconnect(&conn->link);
		free(conn->slots);
		free(conn->free_slots);
		free(conn->payload);
		free(conn->iov);
		free(conn);
	}
	free(worker->conns);
	free(worker->generation);
	free(worker->busy);
}
