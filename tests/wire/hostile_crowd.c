/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostile_crowd.c - slow readers and slow writers by the hundred, and a good
 * client among them, which is to notice nothing but that it is not alone.
 *
 * What it costs that client in time is for bench/hostile to say.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/wire/hostile.h"
#include "tests/wire/server.h"
#include "tests/wire/wire.h"

#define EACH		50u		/* four kinds of them */
#define READS		32u		/* of 1 MiB, answered to nobody */
#define STALLED_OFF	0ull		/* of all there is room for half */
#define STALLED_LEN	(8 * MIB)
#define STALLED_BYTE	0x5a
#define WORK_OFF	(13ull << 20)
#define PATIENCE_MS	10000		/* foliod's, with a handshake */

static struct {
	struct conn	*drip[EACH];	/* send a byte now and then */
	struct conn	*deaf[EACH];	/* do not read what they asked for */
	struct conn	*mute[EACH];	/* stop in the handshake */
	struct conn	*stuck[EACH];	/* stop in the middle of a payload */
} crowd;

static struct conn *deaf_client(void)
{
	struct conn *c = open_export("rw", OPEN_SR);

	for (unsigned int i = 0; i < READS; i++) {
		struct request rq = { .type = CMD_READ, .len = 1 * MIB };

		request_send(c, &rq);
	}
	return c;
}

static struct conn *mute_client(unsigned int i)
{
	static const uint8_t client_hello[] = { 0x16, 3, 1, 2, 0, 1, 0, 1 };
	struct conn *c = i % 2 ? connect_tcp() : conn_connect();

	if (i % 5 > 0)
		greet(c, HS_FIXED_NEWSTYLE | HS_NO_ZEROES);
	if (i % 5 == 2)
		option_header(c, OPT_GO, 4000);
	if (i % 5 == 3)
		conn_send(c, "IHAVEOPT", 7);
	if (i % 5 == 4) {
		expect_rep(option(c, OPT_STARTTLS, NULL, 0), REP_ACK);
		conn_send(c, client_hello, sizeof(client_hello));
	}
	return c;
}

static struct conn *stuck_client(unsigned int i)
{
	struct conn *c = open_export("rw", OPEN_SR);
	struct request rq = {
		.type = CMD_WRITE, .off = STALLED_OFF, .len = STALLED_LEN,
	};

	request_send_header(c, &rq);
	send_zeroes(c, i * 1999);
	return c;
}

static void gather_crowd(void)
{
	for (unsigned int i = 0; i < EACH; i++) {
		step("four more clients, %u", i);
		crowd.drip[i] = i % 2 ? connect_tcp() : conn_connect();
		crowd.deaf[i] = deaf_client();
		crowd.mute[i] = mute_client(i);
		crowd.stuck[i] = stuck_client(i);
	}
}

/* One round of what a client does that means no harm. */
static void work(struct conn *c, unsigned int round)
{
	uint8_t byte = round;

	step("round %u", round);
	fill(c, WORK_OFF, 4096, byte);
	fill(c, WORK_OFF + 4096, 1 * MIB, byte);
	expect_bytes(c, WORK_OFF, 4096 + 1 * MIB, byte);
	expect_bytes(c, STALLED_OFF, 64 * KIB, STALLED_BYTE);
	if (round % 16 == 0)
		expect_error(command(c, 0, CMD_FLUSH, 0, 0), 0);
}

/* Each of the crowd has come to what it deserves. */
static void judge_crowd(struct conn *good)
{
	for (unsigned int i = 0; i < EACH; i++) {
		step("client %u that said a byte at a time", i);
		if (read_to_close(crowd.drip[i]) < 500)
			fail("it was not served, or is not closed");
		step("client %u that stopped in its handshake", i);
		if (read_to_close(crowd.mute[i]) < 0)
			fail("it is still there");
		step("client %u that stopped in its payload", i);
		conn_close(crowd.stuck[i]);
	}
	expect_bytes(good, STALLED_OFF, STALLED_LEN, STALLED_BYTE);
	for (unsigned int i = 0; i < EACH; i += 7) {
		uint8_t head[20];

		step("client %u that did not read, and now does", i);
		/* A chunk, and its offset in the export. */
		conn_recv(crowd.deaf[i], head, sizeof(head));
		if (get32(head) != CHUNK_MAGIC)
			fail("magic %#x", get32(head));
	}
}

static void slow_clients_by_the_hundred_harm_no_good_one(void)
{
	struct server *s = psk_server("on");
	uint64_t before = server_rss_mib(s->pid), after;
	unsigned int round = 0;
	static struct script script;
	struct conn *good, *good_tls;
	int64_t end;

	script_build(&script, "rw");
	good = open_export("rw", OPEN_SR);
	good_tls = psk_hello();
	expect_rep(option_info(good_tls, OPT_GO, "rw"), REP_ACK);
	fill(good, STALLED_OFF, STALLED_LEN, STALLED_BYTE);
	gather_crowd();
	end = now_ms() + PATIENCE_MS;
	while (now_ms() < end || round < script.len) {
		if (round < script.len)
			for (unsigned int i = 0; i < EACH; i++)
				conn_send(crowd.drip[i], script.bytes + round,
					  1);
		if (round % 8 == 0)
			work(round % 16 ? good : good_tls, round / 8);
		round++;
	}
	after = server_rss_mib(s->pid);
	note("%u rounds; resident: %" PRIu64 " MiB, then %" PRIu64 " MiB",
	     round, before, after);
	judge_crowd(good);
	good_client();
	good_tls_client();
}

const struct row hostile_crowd[] = {
	ROW(80, slow_clients_by_the_hundred_harm_no_good_one, 0),
	ROW_END
};
