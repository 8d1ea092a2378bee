/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_session.c - whole sessions: the handshake, TLS, requests in all forms.
 *
 * An input is a script (script.h), mutate.c knows how to change one, and
 * judge.c whether the answers were right.  The client's OpenSSL is real, so
 * what is said under TLS arrives there; both sides' random numbers are the
 * same for each run, as far as OpenSSL asks for them.
 */
#define OPENSSL_API_COMPAT	10101	/* for RAND_METHOD */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include "server/conn_internal.h"
#include "tests/fuzz/drive.h"
#include "tests/fuzz/judge.h"
#include "tests/fuzz/script.h"
#include "tests/fuzz/world.h"
#include "tests/psk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SAID_MAX	(4u << 20)
#define HEARD_MAX	(64u << 20)
/* How long an answer is waited for that may not come. */
#define WAIT_USEC	2000
#define TLS_USEC	30000

/* ---- the server ---- */

static uint8_t *before[WORLD_EXPORTS];
static struct tls *tls;

static void remember_contents(void)
{
	for (int i = 0; i < WORLD_EXPORTS; i++) {
		world.volumes[i]->vol.can_fast_zero = true;
		before[i] = malloc(WORLD_VOLUME_SIZE);
		memcpy(before[i], world.volumes[i]->data, WORLD_VOLUME_SIZE);
	}
}

static void make_credentials(void)
{
	char path[] = "/tmp/foliod-fuzz.XXXXXX", *error = NULL;
	const struct tls_params params = { .psk_file = path };
	int fd = mkstemp(path);

	if (fd < 0 || dprintf(fd, PSK_USER ":" PSK_KEY "\n") < 0 ||
	    tls_new(&params, &tls, &error))
		abort();
	close(fd);
	unlink(path);
}

static void set_behaviour(const struct script *script)
{
	unsigned int mode = script->setup & SETUP_TLS;

	world_set(script->how);
	for (int i = 0; i < WORLD_EXPORTS; i++)
		world.exports[i].tls = mode < 3 ? mode :
				       i ? TLS_OFF : TLS_REQUIRE;
	world.table.nr_tls_only = mode == TLS_REQUIRE ? 2 : mode == 3;
	world.table.nr_plain_only = mode == TLS_OFF ? 2 : mode == 3;
	world.shared.tls = mode == TLS_OFF ? NULL : tls;
}

/* ---- random numbers that are not ---- */

static uint64_t rand_state;

static int rand_bytes(unsigned char *buf, int len)
{
	for (int i = 0; i < len; i++) {
		rand_state = rand_state * 6364136223846793005u +
			1442695040888963407u;
		buf[i] = rand_state >> 56;
	}
	return 1;
}

static int rand_status(void)
{
	return 1;
}

static const RAND_METHOD rand_method = {
	.bytes = rand_bytes,
	.pseudorand = rand_bytes,
	.status = rand_status,
};

/* ---- the client ---- */

static struct client {
	int			fd;
	const struct script	*script;
	unsigned int		step;		/* the next */
	struct evbuffer		*out;
	struct event		*readable, *writable, *patience;
	SSL			*ssl;
	BIO			*in_bio, *out_bio;
	bool			shaking;	/* hands */
	bool			waiting;
	bool			failed;		/* TLS has: it says nothing more */
	struct session_log	log;
} c;

static SSL_CTX *client_ctx;

static void make_client(void)
{
	client_ctx = SSL_CTX_new(TLS_client_method());
	if (!client_ctx || !SSL_CTX_set_cipher_list(client_ctx, "PSK"))
		abort();
	SSL_CTX_set_psk_client_callback(client_ctx, psk_of_client);
}

/* Resume with the steps when there is an answer, or in @usec. */
static void wait_for_answer(long usec)
{
	const struct timeval tv = { .tv_usec = usec };

	event_del(c.writable);
	event_add(c.patience, &tv);
}

static void resume(void)
{
	event_del(c.patience);
	c.waiting = false;
	event_add(c.writable, NULL);
}

static void drain_out_bio(void)
{
	char buf[4096];
	int n;

	while ((n = BIO_read(c.out_bio, buf, sizeof(buf))) > 0)
		evbuffer_add(c.out, buf, n);
	ERR_clear_error();
}

static void tls_failed(void)
{
	c.failed = c.log.unsure = true;
	c.shaking = false;
}

/* As far as it goes; it goes on when more has come. */
static void shake_hands(void)
{
	int ret = SSL_do_handshake(c.ssl);

	drain_out_bio();
	if (ret == 1) {
		c.shaking = false;
		c.log.has_tls = true;
		c.log.tls_at = c.log.said.len;
		resume();
	} else if (SSL_get_error(c.ssl, ret) == SSL_ERROR_WANT_READ) {
		wait_for_answer(TLS_USEC);
		/* What is to be sent still is. */
		event_add(c.writable, NULL);
	} else {
		tls_failed();
		resume();
	}
	ERR_clear_error();
}

static void start_tls(void)
{
	if (c.ssl)
		return;
	c.ssl = SSL_new(client_ctx);
	c.in_bio = BIO_new(BIO_s_mem());
	c.out_bio = BIO_new(BIO_s_mem());
	if (!c.ssl || !c.in_bio || !c.out_bio)
		abort();
	SSL_set_bio(c.ssl, c.in_bio, c.out_bio);
	SSL_set_connect_state(c.ssl);
	if (c.script->setup & SETUP_TLS_1_2)
		SSL_set_max_proto_version(c.ssl, TLS1_2_VERSION);
	c.shaking = true;
	event_add(c.readable, NULL);
	shake_hands();
}

static void say(const void *bytes, size_t len)
{
	if (c.failed || !len || c.log.said.len + len > SAID_MAX)
		return;
	if (!c.ssl) {
		log_add(&c.log.said, bytes, len);
		evbuffer_add(c.out, bytes, len);
	} else if (SSL_write(c.ssl, bytes, len) == (int)len) {
		log_add(&c.log.said, bytes, len);
		drain_out_bio();
	} else {
		tls_failed();
	}
}

static void say_fill(const struct step *step)
{
	static uint8_t bytes[FILL_MAX];
	uint32_t len = fill_len(step);

	memset(bytes, len ? step->data[3] : 0, len);
	say(bytes, len);
}

static void say_raw(const struct step *step)
{
	if (!c.ssl) {
		say(step->data, step->len);
	} else if (step->len) {
		c.log.unsure = true;
		evbuffer_add(c.out, step->data, step->len);
	}
}

/* No more steps. */
static void end_said(bool politely)
{
	c.step = c.script->nr;
	if (politely && c.ssl && !c.failed && SSL_is_init_finished(c.ssl)) {
		SSL_shutdown(c.ssl);
		drain_out_bio();
	}
}

static void do_step(const struct step *step)
{
	switch (step->kind) {
	case STEP_SAY:
		say(step->data, step->len);
		break;
	case STEP_RAW:
		say_raw(step);
		break;
	case STEP_FILL:
		say_fill(step);
		break;
	case STEP_WAIT:
		c.waiting = true;
		wait_for_answer(WAIT_USEC);
		break;
	case STEP_TLS:
		start_tls();
		break;
	default:
		end_said(false);
	}
}

/* What is there to be sent, and then one more step: each its own send(). */
static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	int ret = 0;

	(void)what;
	(void)arg;
	if (evbuffer_get_length(c.out)) {
		ret = evbuffer_write(c.out, fd);
		if (ret < 0 && errno == EAGAIN)
			return;
	}
	if (ret < 0) {
		event_del(c.writable);
	} else if (evbuffer_get_length(c.out)) {
		return;
	} else if (c.shaking) {
		event_del(c.writable);
	} else if (c.step < c.script->nr) {
		do_step(&c.script->steps[c.step++]);
		if (c.step == c.script->nr && !c.shaking)
			end_said(true);
	} else if (!c.waiting) {
		event_del(c.writable);
		shutdown(fd, SHUT_WR);
	}
}

static void hear(const void *bytes, size_t len)
{
	if (c.log.heard.len + len > HEARD_MAX)
		c.log.unsure = true;
	else
		log_add(&c.log.heard, bytes, len);
}

static void hear_tls(const void *bytes, size_t len)
{
	static char plain[64 << 10];
	size_t n;

	BIO_write(c.in_bio, bytes, len);
	if (c.shaking)
		shake_hands();
	if (c.shaking || c.failed)
		return;
	while (SSL_read_ex(c.ssl, plain, sizeof(plain), &n) == 1)
		hear(plain, n);
	drain_out_bio();
	if (evbuffer_get_length(c.out))
		event_add(c.writable, NULL);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	static char buf[256 << 10];
	ssize_t n;

	(void)what;
	(void)arg;
	n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		/* That is all, whatever else was to be said. */
		event_del(c.readable);
		event_del(c.writable);
		event_del(c.patience);
		return;
	}
	if (c.ssl)
		hear_tls(buf, n);
	else
		hear(buf, n);
	if (c.waiting)
		resume();
}

static void on_patience(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	event_add(c.readable, NULL);
	if (c.shaking)
		tls_failed();
	resume();
}

/* ---- both ---- */

static void setup(void)
{
	if (!RAND_set_rand_method(&rand_method))
		abort();
	log_set_level(LOG_ERROR_LEVEL);
	world_make();
	remember_contents();
	make_credentials();
	make_client();
}

static void begin(const struct script *script)
{
	struct event_base *base = loop_event_base(world.loop);
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) ||
	    evutil_make_socket_nonblocking(fds[0]))
		abort();
	memset(&c, 0, sizeof(c));
	c.fd = fds[0];
	c.script = script;
	c.out = evbuffer_new();
	c.readable = event_new(base, fds[0], EV_READ | EV_PERSIST, on_readable,
			       NULL);
	c.writable = event_new(base, fds[0], EV_WRITE | EV_PERSIST,
			       on_writable, NULL);
	c.patience = event_new(base, -1, 0, on_patience, NULL);
	if (script->setup & SETUP_DEAF)
		wait_for_answer(WAIT_USEC);
	else
		event_add(c.readable, NULL);
	event_add(c.writable, NULL);
	c.log.may_fail = script->how & DRIVE_ERROR;
	c.log.exports = &world.table;
	c.log.volumes = world.volumes;
	c.log.before = before;
	rand_state = 0;
	loop_enter(world.loop);
	if (conn_start(&world.cl, fds[1], fds[1], TLS_OFF))
		abort();
	loop_enter(NULL);
}

/* The rest of what the server had said before it closed. */
static void hear_the_rest(void)
{
	static char buf[256 << 10];
	ssize_t n;

	while ((n = recv(c.fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		if (c.ssl)
			hear_tls(buf, n);
		else
			hear(buf, n);
	}
}

static void finish(void)
{
	hear_the_rest();
	event_free(c.readable);
	event_free(c.writable);
	event_free(c.patience);
	evbuffer_free(c.out);
	SSL_free(c.ssl);
	close(c.fd);
	if (world.cl.nr_conns || world.cl.pool->inflight ||
	    fake_pinned_bytes || fake_stages ||
	    world.shared.reply_bytes || world.shared.nr_stage_waiters ||
	    world.exports[0].nr_clients || world.exports[1].nr_clients)
		abort();
	judge(&c.log);
	log_clear(&c.log.said);
	log_clear(&c.log.heard);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct script script;

	if (!world.loop)
		setup();
	script_parse(&script, data, size);
	set_behaviour(&script);
	begin(&script);
	loop_run(world.loop);
	finish();
	return 0;
}
