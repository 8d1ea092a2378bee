/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_conn_cut.c - a client killed at every byte of what it says.
 *
 * Whole sessions, from the oldest form to extended headers and TLS, are cut off
 * after each of their bytes and ended in each of the ways in which a client can
 * go.  Nothing may be left behind then, no half of a write may have changed
 * anything (T-03), and what was whole must be there if the client left in peace.
 */
#include <check.h>
#include <endian.h>
#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/conn_internal.h"
#include "tests/conntest.h"
#include "tests/psk.h"

#define MAX_WRITES	4
#define OLD		0x0d
#define NEW		0x4e
/* Inside of large payloads not every byte is tried, but those beside the edges
 * of pages, where something may begin or end. */
#define PAGE		4096u
/* More than this is a leak: some bytes of each client that was cut off. */
#define LEAK_MAX	(64u << 10)

enum end {
	END_SHUTDOWN,	/* both ways */
	END_CLOSE,	/* with answers that were not read */
	END_RESET,	/* of TCP */
	END_HALF,	/* in peace: the answers are read to the end */
	NR_ENDS
};

struct write {
	uint64_t	pos;
	uint32_t	len;
	size_t		end;		/* of its payload, in the session */
	size_t		wire_end;	/* the same in what is sent */
};

struct session {
	char		bytes[96 << 10];
	size_t		len;
	struct write	writes[MAX_WRITES];
	unsigned int	nr_writes;
	bool		extended;
};

static struct session session;
static struct conntest ct;
static int listener;
static unsigned int nr_cuts;

/* ---- what a client says ---- */

static void add(const void *data, size_t len)
{
	ck_assert_uint_le(session.len + len, sizeof(session.bytes));
	memcpy(session.bytes + session.len, data, len);
	session.len += len;
}

static void add_flags(uint32_t flags)
{
	flags = htobe32(flags);
	add(&flags, sizeof(flags));
}

static void add_option(uint32_t option, const void *data, uint32_t len)
{
	struct nbd_option_head head = {
		htobe64(NBD_OPTION_MAGIC), htobe32(option), htobe32(len),
	};

	add(&head, sizeof(head));
	add(data, len);
}

static void add_request(uint16_t type, uint16_t flags, uint64_t pos,
			uint32_t len)
{
	char buf[NBD_EXTENDED_REQUEST_SIZE];

	if (session.extended && type == NBD_CMD_WRITE)
		flags |= NBD_CMD_FLAG_PAYLOAD_LEN;
	if (session.extended)
		add(buf, put_extended(buf, type, flags, session.len, pos, len));
	else
		add(buf, put_request(buf, type, flags, session.len, pos, len));
}

static void add_write(uint16_t flags, uint64_t pos, uint32_t len)
{
	struct write *w = &session.writes[session.nr_writes++];

	add_request(NBD_CMD_WRITE, flags, pos, len);
	ck_assert_uint_le(session.len + len, sizeof(session.bytes));
	memset(session.bytes + session.len, NEW, len);
	session.len += len;
	*w = (struct write){ pos, len, session.len, session.len };
}

/* Payloads by each way that they can take, and one of each other request. */
static void add_requests(bool status)
{
	add_write(0, 8192, 600);
	add_request(NBD_CMD_READ, 0, 8192, 4096);
	add_write(0, 65536 + 100, 40000);
	add_request(NBD_CMD_READ, 0, 65536, 150000);
	add_write(NBD_CMD_FLAG_FUA, 16384, 100);
	add_request(NBD_CMD_WRITE_ZEROES, 0, 1 << 20, 5000);
	add_request(NBD_CMD_TRIM, 0, 2 << 20, 8192);
	add_request(NBD_CMD_CACHE, 0, 0, 65536);
	if (status)
		add_request(NBD_CMD_BLOCK_STATUS, 0, 0, 1 << 20);
	add_write(0, 24576, 1);
	add_request(NBD_CMD_FLUSH, 0, 0, 0);
	add_request(NBD_CMD_DISC, 0, 0, 0);
}

static void build_oldest(void)
{
	add_flags(0);
	add_option(NBD_OPT_EXPORT_NAME, "rw", 2);
	add_requests(false);
}

static void build_export_name(void)
{
	add_flags(NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
	add_option(NBD_OPT_LIST, "", 0);
	add_option(4711, "unknown", 7);
	add_option(NBD_OPT_EXPORT_NAME, "rw", 2);
	add_requests(false);
}

static void build_go(bool extended)
{
	static const char meta[] =
		"\0\0\0\2rw\0\0\0\1\0\0\0\17base:allocation";
	static const char info[] = "\0\0\0\2rw\0\2\0\1\0\3";

	session.extended = extended;
	add_flags(NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
	add_option(extended ? NBD_OPT_EXTENDED_HEADERS :
			      NBD_OPT_STRUCTURED_REPLY, "", 0);
	add_option(NBD_OPT_LIST_META_CONTEXT, meta, sizeof(meta) - 1);
	add_option(NBD_OPT_SET_META_CONTEXT, meta, sizeof(meta) - 1);
	add_option(NBD_OPT_INFO, info, sizeof(info) - 1);
	add_option(NBD_OPT_GO, info, sizeof(info) - 1);
	add_requests(true);
}

static void build_session(int which)
{
	memset(&session, 0, sizeof(session));
	if (which == 0)
		build_oldest();
	else if (which == 1)
		build_export_name();
	else
		build_go(which == 3);
}

/* ---- the export ---- */

static void make_old(const struct write *w)
{
	memset(ct.rw->data + w->pos, OLD, w->len);
}

static bool is_all(const struct write *w, char byte)
{
	const char *p = ct.rw->data + w->pos;

	return p[0] == byte && !memcmp(p, p + 1, w->len - 1);
}

/* @sent bytes of the session had been said. */
static void judge_writes(size_t sent, enum end end)
{
	for (unsigned int i = 0; i < session.nr_writes; i++) {
		const struct write *w = &session.writes[i];
		bool whole = sent >= w->wire_end;
		bool old = is_all(w, OLD), new = is_all(w, NEW);

		if (!whole)
			ck_assert_msg(old, "half of write %u counts", i);
		else if (end == END_HALF)
			ck_assert_msg(new, "write %u is lost", i);
		else
			ck_assert_msg(old || new, "half of write %u counts", i);
		if (!old)
			make_old(w);
	}
}

/* Wait until the client is forgotten, and see that it is. */
static void judge_server(void)
{
	for (int i = 0; i < 1000 && FAKE_GET(ct.shared.nr_conns); i++)
		sched_yield();
	conntest_wait_conns(&ct, 0);
	conntest_sync(&ct);
	ck_assert_uint_eq(ct.cl.nr_conns, 0);
	ck_assert_uint_eq(ct.cl.pool->inflight, 0);
	ck_assert_uint_eq(FAKE_GET(ct.shared.reply_bytes), 0);
	ck_assert_uint_eq(FAKE_GET(ct.shared.nr_stage_waiters), 0);
	ck_assert_uint_eq(FAKE_GET(fake_pins), 0);
	ck_assert_uint_eq(FAKE_GET(fake_stages), 0);
	for (unsigned int i = 0; i < ct.table.nr; i++)
		ck_assert_uint_eq(ct.exports[i].nr_clients, 0);
}

static void judge_good_client(void)
{
	int fd = open_export(&ct, "rw", CT_STRUCTURED);

	expect_alive(fd, true);
	close(fd);
	judge_server();
}

/* ---- cutting ---- */

static int listen_tcp(void)
{
	struct sockaddr_in sin = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	return fd;
}

static int connect_tcp(void)
{
	struct linger linger = { .l_onoff = 1 };
	struct timeval patience = { .tv_sec = 20 };
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), other;

	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&sin, &len),
			 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&sin, len), 0);
	other = accept(listener, NULL, NULL);
	ck_assert_int_ge(other, 0);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	ck_assert_int_eq(conntest_start_fds(&ct, other, other), 0);
	return fd;
}

static int connect_for(enum end end)
{
	nr_cuts++;
	return end == END_RESET ? connect_tcp() : conntest_connect(&ct);
}

static void end_client(int fd, enum end end)
{
	char buf[65536];
	ssize_t n;

	if (end == END_HALF) {
		shutdown(fd, SHUT_WR);
		do
			n = recv(fd, buf, sizeof(buf), 0);
		while (n > 0);
		ck_assert_msg(n == 0 || errno == ECONNRESET, "recv: %s",
			      strerror(errno));
	} else if (end == END_SHUTDOWN) {
		shutdown(fd, SHUT_RDWR);
	}
	close(fd);
}

static void cut_at(size_t sent, enum end end)
{
	int fd = connect_for(end);
	size_t done = 0;

	/* The server may have closed after DISC, and takes no more then. */
	while (done < sent) {
		ssize_t n = send(fd, session.bytes + done, sent - done,
				 MSG_NOSIGNAL);

		ck_assert_int_gt(n, 0);
		done += n;
	}
	end_client(fd, end);
	judge_server();
	judge_writes(sent, end);
}

static bool is_worth_trying(size_t at)
{
	for (unsigned int i = 0; i < session.nr_writes; i++) {
		const struct write *w = &session.writes[i];
		size_t start = w->end - w->len;
		uint64_t in_page = (w->pos + (at - start) + 1) % PAGE;

		if (w->len > PAGE && at > start + 2 && at + 2 < w->end)
			return in_page <= 2 || at % 509 == 0;
	}
	return true;
}

/* The memory that is in use, by all threads. */
static size_t in_use(void)
{
	return mallinfo2().uordblks;
}

static void judge_memory(size_t before)
{
	size_t after = in_use();

	ck_assert_uint_gt(nr_cuts, 1000);
	ck_assert_msg(after <= before + LEAK_MAX,
		      "%zu bytes in use, %zu before %u clients", after, before,
		      nr_cuts);
}

static void start(struct tls *tls)
{
	conntest_start(&ct, &(struct conn_shared){ .tls = tls });
	fakevolume_fill(ct.rw, 0, 4 << 20);
	for (unsigned int i = 0; i < ct.table.nr && tls; i++)
		ct.exports[i].tls = TLS_ON;
	listener = listen_tcp();
}

static void stop(void)
{
	conntest_stop(&ct);
	close(listener);
}

/* The session by its number, with a volume that has all or misses all. */
START_TEST(a_client_may_die_at_any_byte)
{
	size_t before = 0;

	build_session(_i / 2);
	start(NULL);
	FAKE_SET(ct.rw->miss, _i % 2);
	FAKE_SET(ct.rw->relax, _i % 2);
	for (unsigned int i = 0; i < session.nr_writes; i++)
		make_old(&session.writes[i]);
	/* The whole of it is a session that works. */
	for (enum end end = 0; end < NR_ENDS; end++)
		cut_at(session.len, end);
	for (size_t at = 0; at < session.len; at++) {
		if (!is_worth_trying(at))
			continue;
		for (enum end end = 0; end < NR_ENDS; end++)
			cut_at(at, end);
		if (at % 64 == 0)
			judge_good_client();
		if (at == 64)
			before = in_use();
	}
	judge_good_client();
	judge_memory(before);
	stop();
}
END_TEST

/* ---- under TLS ---- */


static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

/* A client whose bytes leave one after the other, and no more than @left. */
struct tls_client {
	SSL	*ssl;
	BIO	*in, *out;
	int	fd;
	size_t	left, sent;
};

static SSL_CTX *client_context(int version)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	SSL_CTX_set_min_proto_version(ctx, version);
	SSL_CTX_set_max_proto_version(ctx, version);
	SSL_CTX_set_cipher_list(ctx, "PSK");
	SSL_CTX_set_psk_client_callback(ctx, psk_of_client);
	return ctx;
}

static struct tls *open_tls(void)
{
	char path[] = "/tmp/foliod-cut.XXXXXX", *error = NULL;
	const struct tls_params params = { .psk_file = path };
	struct tls *tls = NULL;
	int fd = mkstemp(path);

	ck_assert_int_eq(dprintf(fd, PSK_USER ":" PSK_KEY "\n"),
			 (int)strlen(PSK_USER ":" PSK_KEY "\n"));
	close(fd);
	ck_assert_int_eq(tls_new(&params, &tls, &error), 0);
	unlink(path);
	return tls;
}

/* Send @buf as far as may be; false when that was all. */
static bool say(struct tls_client *c, const void *buf, size_t len)
{
	size_t n = MIN(len, c->left);

	send_all(c->fd, buf, n);
	c->left -= n;
	c->sent += n;
	return n == len;
}

/* What OpenSSL has to say. */
static bool flush(struct tls_client *c)
{
	char buf[4096];
	int n;

	while ((n = BIO_read(c->out, buf, sizeof(buf))) > 0)
		if (!say(c, buf, n))
			return false;
	return true;
}

static bool say_encrypted(struct tls_client *c, const void *buf, size_t len)
{
	ck_assert_int_eq(SSL_write(c->ssl, buf, len), (int)len);
	return flush(c);
}

static bool shake_hands(struct tls_client *c)
{
	char buf[4096];

	while (SSL_do_handshake(c->ssl) != 1) {
		ssize_t n;

		if (!flush(c))
			return false;
		n = recv(c->fd, buf, sizeof(buf), 0);
		ck_assert_int_gt(n, 0);
		BIO_write(c->in, buf, n);
	}
	return flush(c);
}

static bool start_tls(struct tls_client *c)
{
	struct nbd_option_head head = {
		htobe64(NBD_OPTION_MAGIC), htobe32(NBD_OPT_STARTTLS), 0,
	};
	uint32_t flags = htobe32(NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
	struct nbd_greeting greeting;

	recv_all(c->fd, &greeting, sizeof(greeting));
	if (!say(c, &flags, sizeof(flags)) || !say(c, &head, sizeof(head)))
		return false;
	ck_assert_uint_eq(get_final_reply(c->fd, NBD_OPT_STARTTLS),
			  NBD_REP_ACK);
	return shake_hands(c);
}

/* All behind the flags: what leads to the end of each WRITE, and what follows
 * the last, a record each. */
static bool say_session(struct tls_client *c)
{
	size_t from = sizeof(uint32_t), to;

	for (unsigned int i = 0; i <= session.nr_writes; i++) {
		struct write *w = &session.writes[i];

		to = i < session.nr_writes ? w->end : session.len;
		if (!say_encrypted(c, session.bytes + from, to - from))
			return false;
		if (i < session.nr_writes)
			w->wire_end = c->sent;
		from = to;
	}
	return true;
}

/* Cut it off after @sent bytes: how many there were. */
static size_t cut_tls_at(SSL_CTX *ctx, size_t sent, enum end end)
{
	struct tls_client c = { .left = sent };

	c.ssl = SSL_new(ctx);
	c.in = BIO_new(BIO_s_mem());
	c.out = BIO_new(BIO_s_mem());
	SSL_set_bio(c.ssl, c.in, c.out);
	SSL_set_connect_state(c.ssl);
	c.fd = connect_for(end);
	if (start_tls(&c))
		say_session(&c);
	end_client(c.fd, end);
	SSL_free(c.ssl);
	ERR_clear_error();
	judge_server();
	return c.sent;
}

static void build_tls_session(void)
{
	memset(&session, 0, sizeof(session));
	add_flags(NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
	add_option(NBD_OPT_STRUCTURED_REPLY, "", 0);
	add_option(NBD_OPT_GO, "\0\0\0\2rw\0\0", 8);
	add_write(0, 8192, 200);
	add_request(NBD_CMD_READ, 0, 8192, 40000);
	add_write(NBD_CMD_FLAG_FUA, 16384, 100);
	add_request(NBD_CMD_DISC, 0, 0, 0);
}

START_TEST(a_client_may_die_at_any_byte_of_tls)
{
	SSL_CTX *ctx = client_context(versions[_i]);
	struct tls *tls = open_tls();
	size_t total, before = 0;

	build_tls_session();
	start(tls);
	for (unsigned int i = 0; i < session.nr_writes; i++)
		make_old(&session.writes[i]);
	/* All of it works; and where its writes end is known then. */
	total = cut_tls_at(ctx, SIZE_MAX, END_HALF);
	judge_writes(total, END_HALF);
	for (size_t at = 0; at < total; at++) {
		for (enum end end = 0; end < NR_ENDS; end++) {
			cut_tls_at(ctx, at, end);
			judge_writes(at, end);
		}
		if (at % 64 == 0)
			judge_good_client();
		if (at == 128)
			before = in_use();
	}
	judge_memory(before);
	stop();
	tls_free(&tls);
	SSL_CTX_free(ctx);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("conn_cut");
	TCase *tc = tcase_create("cut");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, a_client_may_die_at_any_byte, 0, 8);
	tcase_add_loop_test(tc, a_client_may_die_at_any_byte_of_tls, 0, 2);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
