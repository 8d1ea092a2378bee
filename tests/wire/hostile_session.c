/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostile_session.c - clients that hang up, babble, or ask absurd things
 * before and during a session.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/wire/hostile.h"
#include "tests/wire/server.h"
#include "tests/wire/wire.h"

#define SCRIPT_OFF	(8ull << 20)

static void add(struct script *s, const void *p, size_t len)
{
	memcpy(s->bytes + s->len, p, len);
	s->len += len;
}

static void add_option(struct script *s, uint32_t opt, const void *data,
		       size_t len)
{
	uint8_t head[16];

	put64(head, IHAVEOPT);
	put32(head + 8, opt);
	put32(head + 12, len);
	add(s, head, sizeof(head));
	add(s, data, len);
}

static void add_request(struct script *s, uint16_t type, uint64_t off,
			uint32_t len)
{
	uint8_t head[REQUEST_SIZE];

	request_header(head, 0, type, 0x1000 + s->len, off, len);
	add(s, head, sizeof(head));
}

void script_build(struct script *s, const char *name)
{
	static const char *const queries[] = { "base:allocation" };
	static const uint16_t infos[] = { INFO_NAME, INFO_BLOCK_SIZE };
	uint8_t data[600];

	s->len = 0;
	put32(data, HS_FIXED_NEWSTYLE | HS_NO_ZEROES);
	add(s, data, 4);
	add_option(s, OPT_STRUCTURED_REPLY, data, 0);
	add_option(s, OPT_SET_META_CONTEXT, data,
		   meta_data(data, name, queries, 1));
	add_option(s, OPT_LIST, data, 0);
	add_option(s, OPT_INFO, data,
		   info_data(data, name, strlen(name), infos, 2));
	add_option(s, OPT_GO, data,
		   info_data(data, name, strlen(name), infos, 2));
	s->write_off = SCRIPT_OFF;
	s->write_len = 600;
	add_request(s, CMD_WRITE, s->write_off, s->write_len);
	memset(data, 0x77, s->write_len);
	add(s, data, s->write_len);
	s->write_end = s->len;
	add_request(s, CMD_READ, SCRIPT_OFF, 4096);
	add_request(s, CMD_WRITE_ZEROES, SCRIPT_OFF + 8192, 512);
	add_request(s, CMD_BLOCK_STATUS, SCRIPT_OFF, 65536);
	add_request(s, CMD_TRIM, SCRIPT_OFF + 16384, 4096);
	add_request(s, CMD_CACHE, SCRIPT_OFF, 65536);
	add_request(s, CMD_FLUSH, 0, 0);
	add_request(s, CMD_DISC, 0, 0);
}

/* Send what the server will take of @len bytes and hang up. */
static void send_and_hang_up(const void *bytes, size_t len, bool half_close)
{
	struct conn *c = conn_connect();

	try_send(c, bytes, len);
	if (half_close) {
		shutdown(c->fd, SHUT_WR);
		if (read_to_close(c) == -ETIMEDOUT)
			fail("the server keeps a connection that has ended");
	}
	conn_close(c);
}

static void client_may_die_at_any_byte(void)
{
	static struct script s;
	struct conn *good = open_default(OPEN_SR);

	script_build(&s, env.export);
	fill(good, s.write_off, s.write_len, 0x11);
	for (size_t k = 0; k < s.len; k++) {
		step("hang-up after %zu of %zu bytes", k, s.len);
		send_and_hang_up(s.bytes, k, false);
		send_and_hang_up(s.bytes, k, true);
		if (k % 64 == 0)
			good_client();
		if (k == s.write_end - 1)
			expect_bytes(good, s.write_off, s.write_len, 0x11);
	}
	/* The control: the whole of it is a session that works. */
	step("the whole session");
	fill(good, s.write_off, s.write_len, 0x11);
	send_and_hang_up(s.bytes, s.len, true);
	expect_bytes(good, s.write_off, s.write_len, 0x77);
	good_client();
}

static void session_may_come_a_byte_at_a_time(void)
{
	static struct script s;
	struct conn *good = open_default(OPEN_SR), *c = conn_connect();

	script_build(&s, env.export);
	fill(good, s.write_off, s.write_len, 0x12);
	for (size_t k = 0; k < s.len; k++)
		conn_send(c, s.bytes + k, 1);
	if (read_to_close(c) < 0)
		fail("DISC did not close it");
	expect_bytes(good, s.write_off, s.write_len, 0x77);
}

static void mutated_sessions_harm_nobody(void)
{
	static struct script s, m;
	uint64_t rnd = test_seed();

	script_build(&s, env.export);
	for (unsigned int i = 0; i < 400; i++) {
		unsigned int flips = 1 + test_random(&rnd) % 6;

		step("mutated session %u", i);
		m = s;
		while (flips--) {
			size_t at = test_random(&rnd) % m.len;

			m.bytes[at] ^= 1u << (test_random(&rnd) % 8);
		}
		send_and_hang_up(m.bytes, m.len, true);
		if (i % 50 == 49)
			good_client();
	}
}

static void random_bytes(uint64_t *rnd, uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = test_random(rnd);
}

static void garbage_at(unsigned int stage, uint64_t *rnd)
{
	size_t len = 1 + test_random(rnd) % 4096;
	uint8_t buf[4096];
	struct conn *c;

	random_bytes(rnd, buf, sizeof(buf));
	if (stage == 0) {
		c = conn_connect();
	} else if (stage == 1) {
		c = hello();
	} else if (stage == 2) {
		c = hello();
		option_header(c, test_random(rnd) % 13, len);
	} else {
		c = open_default(OPEN_SR);
		if (stage == 4)
			put32(buf, REQUEST_MAGIC);
	}
	try_send(c, buf, len);
	shutdown(c->fd, SHUT_WR);
	if (read_to_close(c) == -ETIMEDOUT)
		fail("the server keeps a connection that has ended");
	conn_close(c);
}

static void garbage_is_survived_at_every_stage(void)
{
	uint64_t rnd = test_seed();

	for (unsigned int stage = 0; stage <= 4; stage++) {
		for (unsigned int i = 0; i < 80; i++) {
			step("stage %u, round %u", stage, i);
			garbage_at(stage, &rnd);
		}
		good_client();
	}
}

static void absurd_lengths_of_every_option(void)
{
	static const uint32_t lens[] = {
		0x10001, 0x100000, 0x7fffffff, 0x80000000, 0xffffffff,
	};

	for (uint32_t opt = 0; opt <= 20; opt++) {
		for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
			struct conn *c = hello();
			uint8_t head[20];
			int ret;

			step("option %u of %#x bytes", opt, lens[i]);
			option_header(c, opt, lens[i]);
			/* What may be dropped is answered when it is whole. */
			ret = try_send_zeroes(c, lens[i] <= MIB ? lens[i] :
								  0x10001);
			if (ret == -ETIMEDOUT)
				fail("the server stopped reading");
			ret = try_recv(c, head, sizeof(head));
			if (ret == -ETIMEDOUT)
				fatal("neither an answer nor a close");
			if (ret == 1 && get64(head) != REP_MAGIC)
				fail("reply magic %#" PRIx64, get64(head));
			if (ret == 1 && get32(head + 12) == REP_ACK &&
			    opt != OPT_ABORT)
				fail("it was acknowledged");
			conn_close(c);
		}
	}
	good_client();
}

const struct row hostile_session[] = {
	ROW(1, client_may_die_at_any_byte, 0),
	ROW(2, session_may_come_a_byte_at_a_time, 0),
	ROW(3, mutated_sessions_harm_nobody, 0),
	ROW(4, garbage_is_survived_at_every_stage, 0),
	ROW(5, absurd_lengths_of_every_option, 0),
	ROW_END
};
