/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_conn_random.c - random requests in flight, cut at random bytes,
 * against a model, while the volume now hits, now misses, now fails.
 *
 * Each request has a slot of the export of its own, so that what it must read
 * does not depend on the order in which others are served.
 */
#include <check.h>
#include <endian.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/conntest.h"

#define SLOTS		24
#define SLOT_SIZE	(2u << 20)
#define ROUNDS		60

struct slot {
	bool		in_flight;
	uint16_t	type;
	uint64_t	pos;
	uint32_t	len, got;
	char		*model;		/* of the whole slot */
};

struct client {
	int		fd;
	bool		extended;
	struct random	rnd;
	struct slot	slots[SLOTS];
	unsigned int	nr_in_flight;
	/* What is to be sent, in random parts. */
	char		*out;
	size_t		out_len;
};

static struct conntest ct;
static uint64_t seed;

static void queue(struct client *c, const void *data, size_t len)
{
	c->out = realloc(c->out, c->out_len + len);
	memcpy(c->out + c->out_len, data, len);
	c->out_len += len;
}

static uint32_t random_len(struct client *c)
{
	static const uint32_t max[] = {
		16, 600, 4096, 20000, 65537, 300000, SLOT_SIZE,
	};

	return 1 + random_below(&c->rnd,
				max[random_below(&c->rnd, ARRAY_SIZE(max))]);
}

static size_t put_compact(void *buf, uint16_t type, uint16_t flags,
			  uint64_t cookie, uint64_t pos, uint64_t len)
{
	return put_request(buf, type, flags, cookie, pos, len);
}

static void add_request(struct client *c)
{
	unsigned int i = random_below(&c->rnd, SLOTS);
	struct slot *slot = &c->slots[i];
	char head[sizeof(struct nbd_wire_extended_request)];
	size_t head_len;
	uint16_t flags = random_one_in(&c->rnd, 4) ? NBD_CMD_FLAG_FUA : 0;
	uint32_t off;

	if (slot->in_flight)
		return;
	slot->type = random_below(&c->rnd, 4);
	if (slot->type == 2)
		slot->type = NBD_CMD_WRITE_ZEROES;
	slot->len = random_len(c);
	off = random_below(&c->rnd, SLOT_SIZE - slot->len + 1);
	slot->pos = (uint64_t)i * SLOT_SIZE + off;
	if (slot->type == NBD_CMD_FLUSH)
		slot->pos = slot->len = 0;
	slot->got = 0;
	slot->in_flight = true;
	c->nr_in_flight++;
	/* It should be said, but QEMU does not. */
	if (c->extended && slot->type == NBD_CMD_WRITE &&
	    !random_one_in(&c->rnd, 4))
		flags |= NBD_CMD_FLAG_PAYLOAD_LEN;
	head_len = (c->extended ? put_extended : put_compact)
			(head, slot->type, flags, i, slot->pos, slot->len);
	queue(c, head, head_len);
	if (slot->type == NBD_CMD_WRITE_ZEROES)
		memset(slot->model + off, 0, slot->len);
	if (slot->type != NBD_CMD_WRITE)
		return;
	for (uint32_t k = 0; k < slot->len; k++)
		slot->model[off + k] = (char)(slot->len * 3 + k * 7 + i);
	queue(c, slot->model + off, slot->len);
}

static struct slot *slot_of(struct client *c, uint64_t cookie)
{
	ck_assert_uint_lt(cookie, SLOTS);
	ck_assert(c->slots[cookie].in_flight);
	return &c->slots[cookie];
}

static void expect_model(struct client *c, struct slot *slot, uint64_t pos,
			 uint32_t len, bool hole)
{
	const char *model = slot->model + pos % SLOT_SIZE;
	char *buf = calloc(1, len);

	if (!hole)
		recv_all(c->fd, buf, len);
	if (memcmp(buf, model, len))
		ck_abort_msg("seed %llu: wrong data in [%llu, +%u)",
			     (unsigned long long)seed, (unsigned long long)pos,
			     len);
	free(buf);
	slot->got += len;
}

static void finish(struct client *c, struct slot *slot)
{
	if (slot->type == NBD_CMD_READ)
		ck_assert_uint_eq(slot->got, slot->len);
	slot->in_flight = false;
	c->nr_in_flight--;
}

static void take_simple(struct client *c)
{
	struct nbd_wire_simple_reply reply;
	struct slot *slot;

	recv_all(c->fd, &reply, sizeof(reply));
	ck_assert(reply.magic == htobe32(NBD_SIMPLE_REPLY_MAGIC));
	ck_assert_uint_eq(reply.error, 0);
	slot = slot_of(c, reply.cookie);
	if (slot->type == NBD_CMD_READ)
		expect_model(c, slot, slot->pos, slot->len, false);
	finish(c, slot);
}

static void take_structured(struct client *c)
{
	struct chunk chunk = get_chunk(c->fd);
	struct slot *slot = slot_of(c, chunk.cookie);

	ck_assert(chunk.extended == c->extended);
	ck_assert_uint_eq(chunk.error, 0);
	if (c->extended)
		ck_assert(chunk.echo == slot->pos);
	if (chunk.type == NBD_CHUNK_NONE)
		ck_assert(c->extended && slot->type != NBD_CMD_READ);
	else
		expect_model(c, slot, chunk.pos, chunk.len,
			     chunk.type == NBD_CHUNK_OFFSET_HOLE);
	if (chunk.flags & NBD_CHUNK_FLAG_DONE)
		finish(c, slot);
}

/* Either kind of reply: look at the magic first. */
static void take_reply(struct client *c)
{
	uint32_t magic;

	ck_assert_int_eq(recv(c->fd, &magic, sizeof(magic),
			      MSG_PEEK | MSG_WAITALL), sizeof(magic));
	if (!c->extended && magic == htobe32(NBD_SIMPLE_REPLY_MAGIC))
		take_simple(c);
	else
		take_structured(c);
}

/* Whichever is possible: the server need not read while we do not. */
static void send_in_parts(struct client *c)
{
	size_t done = 0;

	while (done < c->out_len) {
		size_t n = 1 + random_below(&c->rnd, random_one_in(&c->rnd, 2) ?
					    100 : 200000);
		struct pollfd pfd = { c->fd, POLLIN | POLLOUT, 0 };
		ssize_t sent;

		ck_assert_int_eq(poll(&pfd, 1, 20000), 1);
		if (pfd.revents & POLLOUT) {
			n = MIN(n, c->out_len - done);
			sent = send(c->fd, c->out + done, n,
				    MSG_NOSIGNAL | MSG_DONTWAIT);
			done += MAX(sent, 0);
		} else {
			take_reply(c);
		}
	}
	c->out_len = 0;
}

static void flip_switches(struct client *c)
{
	FAKE_SET(ct.rw->miss, random_one_in(&c->rnd, 2));
	FAKE_SET(ct.rw->relax, random_one_in(&c->rnd, 2));
	FAKE_SET(ct.rw->no_stages, random_one_in(&c->rnd, 3));
	FAKE_SET(ct.rw->dirty, random_one_in(&c->rnd, 2));
}

static void run(unsigned int how, uint64_t reply_budget)
{
	struct conn_shared shared = { .reply_budget = reply_budget };
	struct client c = { .extended = how & CT_EXTENDED };

	seed = random_seed_from_env("FOLIOD_SEED");
	printf("FOLIOD_SEED=%llu\n", (unsigned long long)seed);
	random_init(&c.rnd, seed);
	conntest_start(&ct, &shared);
	c.fd = open_export(&ct, "rw", how);
	for (int i = 0; i < SLOTS; i++)
		c.slots[i].model = calloc(1, SLOT_SIZE);
	for (int round = 0; round < ROUNDS; round++) {
		unsigned int nr = 1 + random_below(&c.rnd, 12);
		size_t bytes = 0;

		flip_switches(&c);
		while (nr-- && bytes < 3 << 20) {
			add_request(&c);
			bytes = c.out_len;
		}
		send_in_parts(&c);
		if (random_one_in(&c.rnd, 2))
			flip_switches(&c);
		while (c.nr_in_flight)
			take_reply(&c);
	}
	for (int i = 0; i < SLOTS; i++) {
		ck_assert(!memcmp(c.slots[i].model,
				  ct.rw->data + (size_t)i * SLOT_SIZE,
				  SLOT_SIZE));
		free(c.slots[i].model);
	}
	free(c.out);
	close(c.fd);
	conntest_stop(&ct);
}

START_TEST(random_requests_with_simple_replies)
{
	run(0, 0);
}
END_TEST

START_TEST(random_requests_with_structured_replies)
{
	run(CT_STRUCTURED, 0);
}
END_TEST

START_TEST(random_requests_with_extended_headers)
{
	run(CT_EXTENDED, 0);
}
END_TEST

START_TEST(random_requests_in_little_memory)
{
	run(0, 1 << 20);
	run(CT_STRUCTURED, 1 << 20);
	run(CT_EXTENDED, 1 << 20);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("conn_random");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, random_requests_with_simple_replies);
	tcase_add_test(tc, random_requests_with_structured_replies);
	tcase_add_test(tc, random_requests_with_extended_headers);
	tcase_add_test(tc, random_requests_in_little_memory);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
