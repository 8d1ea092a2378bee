/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conntest.c - a server of connections on a thread, and a client beside it.
 */
#include <check.h>
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proto/handshake.h"
#include "tests/conntest.h"

#define WAIT_MS		20000

/* ---- the server's thread ---- */

struct call {
	struct work		work;
	struct conntest		*ct;
	void			(*fn)(struct call *call);
	int			in_fd, out_fd;
	uint64_t		after_ns;
	int			(*call)(struct conn_loop *cl, void *arg);
	void			*arg;
	int			ret;
	bool			done;
	pthread_mutex_t		lock;
	pthread_cond_t		cond;
};

static void call_main(struct work *work)
{
	struct call *call = container_of(work, struct call, work);

	call->fn(call);
	pthread_mutex_lock(&call->lock);
	call->done = true;
	pthread_cond_signal(&call->cond);
	pthread_mutex_unlock(&call->lock);
}

/* Run @call->fn on the loop, and wait for it. */
static int call_loop(struct conntest *ct, struct call *call)
{
	call->ct = ct;
	call->work.fn = call_main;
	pthread_mutex_init(&call->lock, NULL);
	pthread_cond_init(&call->cond, NULL);
	loop_post(ct->loop, &call->work);
	pthread_mutex_lock(&call->lock);
	while (!call->done)
		pthread_cond_wait(&call->cond, &call->lock);
	pthread_mutex_unlock(&call->lock);
	pthread_cond_destroy(&call->cond);
	pthread_mutex_destroy(&call->lock);
	return call->ret;
}

static void do_start(struct call *call)
{
	call->ret = conn_start(&call->ct->cl, call->in_fd, call->out_fd,
			       call->ct->tls_least);
}

static void do_drain(struct call *call)
{
	conn_loop_drain(&call->ct->cl, clock_now_ns() + call->after_ns);
}

static void do_hurry(struct call *call)
{
	conn_loop_hurry(&call->ct->cl);
}

static void do_call(struct call *call)
{
	call->ret = call->call(&call->ct->cl, call->arg);
}

int conntest_call(struct conntest *ct,
		  int (*fn)(struct conn_loop *cl, void *arg), void *arg)
{
	struct call call = { .fn = do_call, .call = fn, .arg = arg };

	return call_loop(ct, &call);
}

static void do_nothing(struct call *call)
{
	(void)call;
}

static void do_init(struct call *call)
{
	call->ret = conn_loop_init(&call->ct->cl, call->ct->loop,
				   &call->ct->shared);
}

static void do_fini(struct call *call)
{
	conn_loop_fini(&call->ct->cl);
}

static void on_idle(struct conn_loop *cl)
{
	struct conntest *ct = cl->idle_arg;

	__atomic_add_fetch(&ct->idle, 1, __ATOMIC_SEQ_CST);
}

static void *thread_main(void *arg)
{
	struct conntest *ct = arg;

	loop_run(ct->loop);
	return NULL;
}

static void add_export(struct conntest *ct, const char *name,
		       struct fakevolume **fvp, uint32_t block_min,
		       bool read_only)
{
	struct export *export = &ct->exports[ct->table.nr++];

	*fvp = fakevolume_new(CT_SIZE);
	(*fvp)->vol.can_fast_zero = true;
	export->name = (char *)(uintptr_t)name;
	export->description = read_only ? (char *)(uintptr_t)"a text" : NULL;
	export->vol = &(*fvp)->vol;
	export->read_only = read_only;
	export->block_min = block_min;
	export->block_preferred = 4096;
	export->block_max = 32 << 20;
}

void conntest_start(struct conntest *ct, const struct conn_shared *shared)
{
	struct call init = { .fn = do_init };

	memset(ct, 0, sizeof(*ct));
	if (shared)
		ct->shared = *shared;
	if (!ct->shared.reply_budget)
		ct->shared.reply_budget = UINT64_C(256) << 20;
	if (!ct->shared.handshake_timeout_ns)
		ct->shared.handshake_timeout_ns = 60 * NSEC_PER_SEC;
	ct->table.exports = ct->exports;
	ct->table.default_export = 0;
	add_export(ct, "rw", &ct->rw, 1, false);
	add_export(ct, "ro", &ct->ro, 1, true);
	add_export(ct, "b4k", &ct->b4k, 4096, false);
	ct->shared.exports = &ct->table;
	ck_assert_int_eq(loop_new(&ct->loop), 0);
	ck_assert_int_eq(pthread_create(&ct->thread, NULL, thread_main, ct), 0);
	ck_assert_int_eq(call_loop(ct, &init), 0);
	ct->cl.idle = on_idle;
	ct->cl.idle_arg = ct;
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

void conntest_wait_conns(struct conntest *ct, unsigned int nr)
{
	for (int i = 0; i < WAIT_MS; i++) {
		if (FAKE_GET(ct->shared.nr_conns) == nr)
			return;
		nap();
	}
	ck_abort_msg("the server has %u connections, not %u",
		     FAKE_GET(ct->shared.nr_conns), nr);
}

void conntest_stop(struct conntest *ct)
{
	struct call hurry = { .fn = do_hurry }, fini = { .fn = do_fini };

	call_loop(ct, &hurry);
	conntest_wait_conns(ct, 0);
	call_loop(ct, &fini);
	loop_stop(ct->loop);
	pthread_join(ct->thread, NULL);
	loop_free(ct->loop);
	ck_assert_uint_eq(FAKE_GET(fake_pinned_bytes), 0);
	ck_assert_uint_eq(FAKE_GET(fake_pins), 0);
	ck_assert_uint_eq(FAKE_GET(fake_stages), 0);
	ck_assert_uint_eq(FAKE_GET(ct->shared.reply_bytes), 0);
	for (unsigned int i = 0; i < ct->table.nr; i++)
		ck_assert_uint_eq(ct->exports[i].nr_clients, 0);
	fakevolume_free(ct->rw);
	fakevolume_free(ct->ro);
	fakevolume_free(ct->b4k);
}

int conntest_start_fds(struct conntest *ct, int in_fd, int out_fd)
{
	struct call call = { .fn = do_start, .in_fd = in_fd, .out_fd = out_fd };

	return call_loop(ct, &call);
}

int conntest_connect(struct conntest *ct)
{
	struct timeval patience = { .tv_sec = WAIT_MS / 1000 };
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
				    fds), 0);
	setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &patience,
		   sizeof(patience));
	setsockopt(fds[0], SOL_SOCKET, SO_SNDTIMEO, &patience,
		   sizeof(patience));
	ck_assert_int_eq(conntest_start_fds(ct, fds[1], fds[1]), 0);
	return fds[0];
}

void conntest_sync(struct conntest *ct)
{
	struct call call = { .fn = do_nothing };

	call_loop(ct, &call);
}

void conntest_drain(struct conntest *ct, uint64_t after_ns)
{
	struct call call = { .fn = do_drain, .after_ns = after_ns };

	call_loop(ct, &call);
}

void conntest_hurry(struct conntest *ct)
{
	struct call call = { .fn = do_hurry };

	call_loop(ct, &call);
}

/* ---- a client ---- */

void send_all(int fd, const void *buf, size_t len)
{
	const char *p = buf;

	while (len) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n < 0)
			ck_abort_msg("send: %s", strerror(errno));
		p += n;
		len -= n;
	}
}

void recv_all(int fd, void *buf, size_t len)
{
	char *p = buf;

	while (len) {
		ssize_t n = read(fd, p, len);

		if (n == 0)
			ck_abort_msg("the server closed the connection");
		if (n < 0)
			ck_abort_msg("recv: %s", strerror(errno));
		p += n;
		len -= n;
	}
}

void expect_close(int fd, size_t max)
{
	char buf[4096];
	size_t total = 0;
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0) {
		total += n;
		ck_assert_uint_le(total, max);
	}
	ck_assert_msg(n == 0 || errno == ECONNRESET, "recv: %s",
		      strerror(errno));
	close(fd);
}

void expect_silence(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	ck_assert_int_eq(poll(&pfd, 1, 30), 0);
}

void greet(int fd)
{
	struct nbd_greeting greeting;
	uint32_t flags = htobe32(NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);

	recv_all(fd, &greeting, sizeof(greeting));
	ck_assert(greeting.magic == htobe64(NBD_GREETING_MAGIC));
	ck_assert(greeting.option_magic == htobe64(NBD_OPTION_MAGIC));
	ck_assert_uint_eq(be16toh(greeting.flags), 3);
	send_all(fd, &flags, sizeof(flags));
}

void put_option(int fd, uint32_t option, const void *data, uint32_t len)
{
	struct nbd_option_head head = {
		htobe64(NBD_OPTION_MAGIC), htobe32(option), htobe32(len),
	};
	struct iovec iov[] = {
		{ &head, sizeof(head) },
		{ (void *)(uintptr_t)data, len },
	};
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;

	/* At once: the server may have gone by what the head alone says. */
	n = sendmsg(fd, &msg, MSG_NOSIGNAL);
	ck_assert_int_ge(n, (ssize_t)sizeof(head));
	n -= sizeof(head);
	if ((uint32_t)n < len)
		send_all(fd, (const char *)data + n, len - n);
}

uint32_t get_option_reply(int fd, uint32_t option, void *buf, size_t max,
			  uint32_t *lenp)
{
	struct nbd_option_reply reply;
	uint32_t len;
	char *data;

	recv_all(fd, &reply, sizeof(reply));
	ck_assert(reply.magic == htobe64(NBD_OPTION_REPLY_MAGIC));
	ck_assert_uint_eq(be32toh(reply.option), option);
	len = be32toh(reply.len);
	ck_assert_uint_le(len, 16384);
	data = malloc(len + 1);
	recv_all(fd, data, len);
	memcpy(buf, data, MIN((size_t)len, max));
	free(data);
	*lenp = len;
	return be32toh(reply.type);
}

uint32_t get_final_reply(int fd, uint32_t option)
{
	uint32_t type, len;
	char buf[1];

	do
		type = get_option_reply(fd, option, buf, sizeof(buf), &len);
	while (type != NBD_REP_ACK && !(type & NBD_REP_ERROR));
	return type;
}

static uint32_t put_be32(char *p, uint32_t val)
{
	val = htobe32(val);
	memcpy(p, &val, sizeof(val));
	return sizeof(val);
}

int open_export(struct conntest *ct, const char *name, unsigned int how)
{
	uint32_t name_len = strlen(name);
	int fd = conntest_connect(ct);
	char data[256];
	uint32_t n;

	greet(fd);
	if (how & CT_EXTENDED) {
		put_option(fd, NBD_OPT_EXTENDED_HEADERS, NULL, 0);
		ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_EXTENDED_HEADERS),
				  NBD_REP_ACK);
	} else if (how & CT_STRUCTURED) {
		put_option(fd, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
		ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_STRUCTURED_REPLY),
				  NBD_REP_ACK);
	}
	n = put_be32(data, name_len);
	memcpy(data + n, name, name_len);
	n += name_len;
	if ((how & CT_META) == CT_META) {
		uint32_t m = n + put_be32(data + n, 1);

		m += put_be32(data + m, strlen("base:allocation"));
		memcpy(data + m, "base:allocation", strlen("base:allocation"));
		put_option(fd, NBD_OPT_SET_META_CONTEXT, data,
			   m + strlen("base:allocation"));
		ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_SET_META_CONTEXT),
				  NBD_REP_ACK);
	}
	data[n] = data[n + 1] = 0;
	put_option(fd, NBD_OPT_GO, data, n + 2);
	ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_GO), NBD_REP_ACK);
	return fd;
}

size_t put_request(void *buf, uint16_t type, uint16_t flags, uint64_t cookie,
		   uint64_t pos, uint32_t len)
{
	struct nbd_wire_request req = {
		htobe32(NBD_REQUEST_MAGIC), htobe16(flags), htobe16(type),
		cookie, htobe64(pos), htobe32(len),
	};

	memcpy(buf, &req, sizeof(req));
	return sizeof(req);
}

void send_request(int fd, uint16_t type, uint16_t flags, uint64_t cookie,
		  uint64_t pos, uint32_t len)
{
	char buf[sizeof(struct nbd_wire_request)];

	send_all(fd, buf, put_request(buf, type, flags, cookie, pos, len));
}

size_t put_extended(void *buf, uint16_t type, uint16_t flags, uint64_t cookie,
		    uint64_t pos, uint64_t len)
{
	struct nbd_wire_extended_request req = {
		htobe32(NBD_EXTENDED_REQUEST_MAGIC), htobe16(flags),
		htobe16(type), cookie, htobe64(pos), htobe64(len),
	};

	memcpy(buf, &req, sizeof(req));
	return sizeof(req);
}

void send_extended(int fd, uint16_t type, uint16_t flags, uint64_t cookie,
		   uint64_t pos, uint64_t len)
{
	char buf[sizeof(struct nbd_wire_extended_request)];

	send_all(fd, buf, put_extended(buf, type, flags, cookie, pos, len));
}

uint32_t get_simple(int fd, uint64_t cookie)
{
	struct nbd_wire_simple_reply reply;

	recv_all(fd, &reply, sizeof(reply));
	ck_assert(reply.magic == htobe32(NBD_SIMPLE_REPLY_MAGIC));
	ck_assert(reply.cookie == cookie);
	return be32toh(reply.error);
}

/* The head, in either form; returns the length of the rest. */
static uint32_t get_head(int fd, struct chunk *chunk)
{
	struct nbd_wire_extended_chunk ext;
	struct nbd_wire_chunk head;
	uint64_t len;

	recv_all(fd, &head, sizeof(head));
	chunk->flags = be16toh(head.flags);
	chunk->type = be16toh(head.type);
	chunk->cookie = head.cookie;
	if (head.magic == htobe32(NBD_CHUNK_MAGIC))
		return be32toh(head.len);
	ck_assert(head.magic == htobe32(NBD_EXTENDED_CHUNK_MAGIC));
	memcpy(&ext, &head, sizeof(head));
	recv_all(fd, (char *)&ext + sizeof(head), sizeof(ext) - sizeof(head));
	chunk->extended = true;
	chunk->echo = be64toh(ext.pos);
	len = be64toh(ext.len);
	ck_assert_uint_le(len, UINT32_MAX);
	return len;
}

struct chunk get_chunk(int fd)
{
	struct chunk chunk = { 0 };
	uint32_t len = get_head(fd, &chunk), be32;
	uint16_t text_len;

	switch (chunk.type) {
	case NBD_CHUNK_NONE:
		ck_assert_uint_eq(len, 0);
		break;
	case NBD_CHUNK_OFFSET_DATA:
	case NBD_CHUNK_OFFSET_HOLE:
		recv_all(fd, &chunk.pos, sizeof(chunk.pos));
		chunk.pos = be64toh(chunk.pos);
		chunk.len = len - sizeof(chunk.pos);
		if (chunk.type == NBD_CHUNK_OFFSET_HOLE) {
			recv_all(fd, &be32, sizeof(be32));
			chunk.len = be32toh(be32);
		}
		break;
	case NBD_CHUNK_BLOCK_STATUS:
		recv_all(fd, &be32, sizeof(be32));
		chunk.len = len - sizeof(be32);
		break;
	case NBD_CHUNK_BLOCK_STATUS_EXT:
		recv_all(fd, &be32, sizeof(be32));
		recv_all(fd, &be32, sizeof(be32));
		chunk.len = len - 2 * sizeof(be32);
		ck_assert_uint_eq(be32toh(be32) * 16, chunk.len);
		break;
	case NBD_CHUNK_ERROR:
	case NBD_CHUNK_ERROR_OFFSET:
		recv_all(fd, &be32, sizeof(be32));
		chunk.error = be32toh(be32);
		recv_all(fd, &text_len, sizeof(text_len));
		text_len = be16toh(text_len);
		ck_assert_uint_lt(text_len, sizeof(chunk.text));
		recv_all(fd, chunk.text, text_len);
		len -= 6u + text_len;
		if (chunk.type == NBD_CHUNK_ERROR_OFFSET) {
			recv_all(fd, &chunk.pos, sizeof(chunk.pos));
			chunk.pos = be64toh(chunk.pos);
			len -= sizeof(chunk.pos);
		}
		ck_assert_uint_eq(len, 0);
		break;
	default:
		ck_abort_msg("chunk of type %#x", chunk.type);
	}
	return chunk;
}

void expect_fill(int fd, uint64_t pos, size_t len)
{
	char buf[65536];

	while (len) {
		size_t n = MIN(len, sizeof(buf));

		recv_all(fd, buf, n);
		for (size_t i = 0; i < n; i++)
			if (buf[i] != fake_byte(pos + i))
				ck_abort_msg("byte %llu is wrong",
					     (unsigned long long)(pos + i));
		pos += n;
		len -= n;
	}
}

void expect_alive(int fd, bool structured)
{
	char buf[4096];

	send_request(fd, NBD_CMD_READ, NBD_CMD_FLAG_FUA, 0xa11fe, 0, 4096);
	if (structured) {
		struct chunk chunk = get_chunk(fd);

		ck_assert_uint_eq(chunk.error, 0);
		ck_assert_uint_eq(chunk.cookie, 0xa11fe);
		if (chunk.type == NBD_CHUNK_OFFSET_HOLE)
			return;
	} else {
		ck_assert_uint_eq(get_simple(fd, 0xa11fe), 0);
	}
	recv_all(fd, buf, sizeof(buf));
}
