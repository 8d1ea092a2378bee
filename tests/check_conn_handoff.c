/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_conn_handoff.c - connections that come to rest, and go on here or in
 * another server.
 */
#include <check.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/conn_state.h"
#include "tests/conntest.h"

#define LONG_NS	(30 * NSEC_PER_SEC)

static struct conntest here, there;

static void setup(void)
{
	conntest_start(&here, NULL);
	conntest_start(&there, NULL);
	fakevolume_fill(here.rw, 0, 1 << 20);
	fakevolume_fill(there.rw, 0, 1 << 20);
}

static void teardown(void)
{
	/* Each looks for what is left of both. */
	conntest_wait_conns(&here, 0);
	conntest_wait_conns(&there, 0);
	conntest_stop(&there);
	conntest_stop(&here);
}

/* ---- on the server's thread ---- */

struct freezing {
	uint64_t	client_ns, limit_ns;	/* from now */
	sem_t		ended;
	bool		frozen;
};

static void on_frozen(void *arg, bool frozen)
{
	struct freezing *freezing = arg;

	freezing->frozen = frozen;
	sem_post(&freezing->ended);
}

static int do_freeze(struct conn_loop *cl, void *arg)
{
	struct freezing *freezing = arg;
	uint64_t now = clock_now_ns();

	conn_loop_freeze(cl, now + freezing->client_ns,
			 now + freezing->limit_ns, on_frozen, freezing);
	return 0;
}

static int do_thaw(struct conn_loop *cl, void *arg)
{
	(void)arg;
	conn_loop_thaw(cl);
	return 0;
}

static int do_states(struct conn_loop *cl, void *arg)
{
	unsigned int nr_tls = 0;
	int ret = conn_loop_states(cl, arg, &nr_tls);

	ck_assert_uint_eq(nr_tls, 0);
	return ret;
}

static int do_give_away(struct conn_loop *cl, void *arg)
{
	(void)arg;
	conn_loop_give_away(cl);
	return 0;
}

static int do_adopt(struct conn_loop *cl, void *arg)
{
	struct conn_state *state = arg;
	struct export *export = NULL;

	for (unsigned int i = 0; i < CT_EXPORTS && state->name; i++)
		if (strlen(there.exports[i].name) == state->name_len &&
		    !memcmp(there.exports[i].name, state->name,
			    state->name_len))
			export = &there.exports[i];
	ck_assert_ptr_null(conn_state_misfit(state, export));
	return conn_adopt(cl, state, export);
}

static int is_frozen(struct conn_loop *cl, void *arg)
{
	(void)arg;
	return cl->frozen;
}

static void begin_freeze(struct freezing *freezing, uint64_t client_ns,
			 uint64_t limit_ns)
{
	*freezing = (struct freezing){ .client_ns = client_ns,
				       .limit_ns = limit_ns };
	sem_init(&freezing->ended, 0, 0);
	conntest_call(&here, do_freeze, freezing);
}

static bool end_freeze(struct freezing *freezing)
{
	while (sem_wait(&freezing->ended))
		;
	sem_destroy(&freezing->ended);
	return freezing->frozen;
}

static void freeze(void)
{
	struct freezing freezing;

	begin_freeze(&freezing, LONG_NS, LONG_NS);
	ck_assert(end_freeze(&freezing));
	/* Nothing of a volume is held. */
	ck_assert_uint_eq(FAKE_GET(fake_pins), 0);
	ck_assert_uint_eq(FAKE_GET(fake_stages), 0);
}

/* All connections go from here to there, by way of their bytes. */
static void pass(void)
{
	struct conn_states list = STAILQ_HEAD_INITIALIZER(list);
	struct conn_state *state, other;
	char record[CONN_STATE_RECORD];
	struct iovec iov[4];

	ck_assert_int_eq(conntest_call(&here, do_states, &list), 0);
	STAILQ_FOREACH(state, &list, link) {
		size_t len = 0;
		char *buf, *p;

		conn_state_encode(state, record, iov);
		for (unsigned int i = 0; i < 4; i++)
			len += iov[i].iov_len;
		p = buf = malloc(len);
		ck_assert_ptr_nonnull(buf);
		for (unsigned int i = 0; i < 4; i++) {
			if (iov[i].iov_len)
				memcpy(p, iov[i].iov_base, iov[i].iov_len);
			p += iov[i].iov_len;
		}
		ck_assert_int_eq(conn_state_decode(&other, &buf, len), 0);
		other.fd = dup(state->fd);
		ck_assert_int_eq(conntest_call(&there, do_adopt, &other), 0);
		conn_state_fini(&other);
	}
	conn_states_free(&list, false);
	conntest_call(&here, do_give_away, NULL);
	conntest_wait_conns(&here, 0);
}

static void wait_until(const unsigned int *counter, unsigned int value)
{
	while (FAKE_GET(*counter) != value)
		usleep(1000);
}

/* ---- resting ---- */

START_TEST(frozen_connection_takes_nothing_and_goes_on)
{
	int fd = open_export(&here, "rw", _i);

	freeze();
	if (_i & CT_EXTENDED)
		send_extended(fd, NBD_CMD_FLUSH, 0, 7, 0, 0);
	else
		send_request(fd, NBD_CMD_FLUSH, 0, 7, 0, 0);
	expect_silence(fd);
	conntest_call(&here, do_thaw, NULL);
	if (_i & CT_EXTENDED)
		ck_assert_uint_eq(get_chunk(fd).cookie, 7);
	else
		ck_assert_uint_eq(get_simple(fd, 7), 0);
	close(fd);
}
END_TEST

/* A read of 4 KiB at 4 KiB that is under way until hold is taken away. */
static void begin_held_read(int fd)
{
	FAKE_SET(here.rw->miss, 1);
	FAKE_SET(here.rw->hold, 1);
	send_request(fd, NBD_CMD_READ, 0, 5, 4096, 4096);
	wait_until(&here.rw->waiting, 1);
}

START_TEST(what_is_in_flight_ends_first)
{
	int fd = open_export(&here, "rw", 0);
	struct freezing freezing;

	begin_held_read(fd);
	begin_freeze(&freezing, LONG_NS, LONG_NS);
	ck_assert(!conntest_call(&here, is_frozen, NULL));
	FAKE_SET(here.rw->hold, 0);
	ck_assert(end_freeze(&freezing));
	ck_assert_uint_eq(FAKE_GET(fake_pins), 0);
	ck_assert_uint_eq(get_simple(fd, 5), 0);
	expect_fill(fd, 4096, 4096);
	FAKE_SET(here.rw->miss, 0);
	conntest_call(&here, do_thaw, NULL);
	expect_alive(fd, false);
	close(fd);
}
END_TEST

START_TEST(freeze_gives_up_at_its_limit)
{
	int fd = open_export(&here, "rw", 0);
	struct freezing freezing;

	begin_held_read(fd);
	begin_freeze(&freezing, 0, NSEC_PER_MSEC);
	ck_assert(!end_freeze(&freezing));
	conntest_call(&here, do_thaw, NULL);
	FAKE_SET(here.rw->hold, 0);
	FAKE_SET(here.rw->miss, 0);
	ck_assert_uint_eq(get_simple(fd, 5), 0);
	expect_fill(fd, 4096, 4096);
	expect_alive(fd, false);
	close(fd);
}
END_TEST

START_TEST(request_that_its_client_holds_up_is_closed)
{
	int fd = open_export(&here, "rw", CT_STRUCTURED);
	struct freezing freezing;

	/* Pieces of more than the socket and the output have room for. */
	fakevolume_fill(here.rw, 0, 32 << 20);
	FAKE_SET(here.rw->miss, 1);
	send_request(fd, NBD_CMD_READ, 0, 5, 0, 32 << 20);
	/* However far it has come by then: it goes on until it has to wait. */
	begin_freeze(&freezing, NSEC_PER_SEC / 2, LONG_NS);
	ck_assert(end_freeze(&freezing));
	conntest_wait_conns(&here, 0);
	expect_close(fd, 32 << 20);
	FAKE_SET(here.rw->miss, 0);
	conntest_call(&here, do_thaw, NULL);
	close(fd);
}
END_TEST

/* ---- going on elsewhere ---- */

static char payload[1 << 20];

START_TEST(half_payload_is_completed_there)
{
	static const uint32_t lens[] = { 20000, 1 << 20 };
	uint32_t len = lens[_i & 1], half = len / 2;
	int fd = open_export(&here, "rw", _i & 2 ? CT_EXTENDED : 0);
	char head[64];
	size_t n = _i & 2 ?
		put_extended(head, NBD_CMD_WRITE, NBD_CMD_FLAG_PAYLOAD_LEN, 9,
			     8192 + 5, len) :
		put_request(head, NBD_CMD_WRITE, 0, 9, 8192 + 5, len);

	for (uint32_t i = 0; i < len; i++)
		payload[i] = (char)(i * 7 + i / 1000);
	send_all(fd, head, n);
	send_all(fd, payload, half);
	if (len > 65536)
		wait_until(&fake_stages, 1);
	freeze();
	pass();
	conntest_wait_conns(&there, 1);
	send_all(fd, payload + half, len - half);
	if (_i & 2)
		ck_assert_uint_eq(get_chunk(fd).error, 0);
	else
		ck_assert_uint_eq(get_simple(fd, 9), 0);
	ck_assert_mem_eq(there.rw->data + 8192 + 5, payload, len);
	/* Here it is as if it had never been sent. */
	ck_assert_uint_eq(FAKE_GET(here.rw->writes), 0);
	close(fd);
}
END_TEST

START_TEST(payload_that_waits_for_memory_is_completed_there)
{
	int fd = open_export(&here, "rw", 0);
	struct freezing freezing;
	char head[64];
	size_t n = put_request(head, NBD_CMD_WRITE, 0, 9, 0, sizeof(payload));

	memset(payload, 'w', sizeof(payload));
	FAKE_SET(here.rw->no_stages, 1);
	FAKE_SET(here.rw->hold, 1);
	send_all(fd, head, n);
	send_all(fd, payload, 3000);
	wait_until(&here.rw->waiting, 1);
	begin_freeze(&freezing, LONG_NS, LONG_NS);
	FAKE_SET(here.rw->no_stages, 0);
	FAKE_SET(here.rw->hold, 0);
	ck_assert(end_freeze(&freezing));
	ck_assert_uint_eq(FAKE_GET(fake_stages), 0);
	pass();
	send_all(fd, payload + 3000, sizeof(payload) - 3000);
	ck_assert_uint_eq(get_simple(fd, 9), 0);
	ck_assert_mem_eq(there.rw->data, payload, sizeof(payload));
	close(fd);
}
END_TEST

START_TEST(refused_payload_is_dropped_to_its_end_there)
{
	int fd = open_export(&here, "ro", 0);
	char head[64];
	size_t n = put_request(head, NBD_CMD_WRITE, 0, 9, 0, sizeof(payload));

	send_all(fd, head, n);
	send_all(fd, payload, 100000);
	freeze();
	pass();
	send_all(fd, payload, sizeof(payload) - 100000);
	ck_assert_uint_eq(get_simple(fd, 9), NBD_EPERM);
	expect_alive(fd, false);
	close(fd);
}
END_TEST

START_TEST(replies_that_were_not_taken_are_sent_there)
{
	int fd = open_export(&here, "rw", 0);
	enum { NR = 60, LEN = 65536 };

	for (unsigned int i = 0; i < NR; i++)
		send_request(fd, NBD_CMD_READ, 0, i, 4096, LEN);
	freeze();
	pass();
	for (unsigned int i = 0; i < NR; i++) {
		ck_assert_uint_eq(get_simple(fd, i), 0);
		expect_fill(fd, 4096, LEN);
	}
	expect_alive(fd, false);
	close(fd);
}
END_TEST

START_TEST(handshakes_go_on_there)
{
	int fresh = conntest_connect(&here), greeted = conntest_connect(&here);
	static const char info[8 + 4 + 4 + 6] = "IHAVEOPT\0\0\0\6\0\0\0\6";

	greet(greeted);
	/* Half of an INFO of the export "". */
	send_all(greeted, info, sizeof(info) - 4);
	conntest_wait_conns(&here, 2);
	freeze();
	pass();
	conntest_wait_conns(&there, 2);
	send_all(greeted, info + sizeof(info) - 4, 4);
	ck_assert_uint_eq(get_final_reply(greeted, NBD_OPT_INFO), NBD_REP_ACK);
	greet(fresh);
	put_option(fresh, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	ck_assert_uint_eq(get_final_reply(fresh, NBD_OPT_STRUCTURED_REPLY),
			  NBD_REP_ACK);
	close(fresh);
	close(greeted);
}
END_TEST

START_TEST(misfits_are_told)
{
	struct conn_state state = { .phase = CONN_STATE_TRANSMISSION };
	struct export *export = NULL;
	uint32_t block_min;
	enum tls_mode tls;

	ck_assert_ptr_nonnull(conn_state_misfit(&state, NULL));
	state.session = (struct nbd_session){
		.size = CT_SIZE, .block_min = 1, .payload_max = 64 << 20,
		.flags = NBD_HAS_FLAGS | NBD_SEND_FLUSH,
	};
	for (unsigned int i = 0; i < CT_EXPORTS; i++)
		if (!strcmp(there.exports[i].name, "rw"))
			export = &there.exports[i];
	ck_assert_ptr_nonnull(export);
	block_min = export->block_min;
	tls = export->tls;
	ck_assert_ptr_null(conn_state_misfit(&state, export));
	state.session.size = CT_SIZE + 1;
	ck_assert_ptr_nonnull(conn_state_misfit(&state, export));
	state.session.size = CT_SIZE - 1;
	ck_assert_ptr_null(conn_state_misfit(&state, export));
	export->block_min = 4096;
	ck_assert_ptr_nonnull(conn_state_misfit(&state, export));
	export->block_min = block_min;
	export->tls = TLS_REQUIRE;
	ck_assert_ptr_nonnull(conn_state_misfit(&state, export));
	export->tls = tls;
	export->read_only = true;
	ck_assert_ptr_nonnull(conn_state_misfit(&state, export));
	export->read_only = false;
	state.session.flags |= NBD_READ_ONLY;
	ck_assert_ptr_nonnull(conn_state_misfit(&state, export));
	/* In its handshake a client has seen nothing yet. */
	state.phase = CONN_STATE_OPTION;
	ck_assert_ptr_null(conn_state_misfit(&state, NULL));
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("conn_handoff");
	TCase *rest = tcase_create("rest"), *go_on = tcase_create("go on");

	tcase_add_checked_fixture(rest, setup, teardown);
	tcase_set_timeout(rest, 120);
	tcase_add_loop_test(rest, frozen_connection_takes_nothing_and_goes_on,
			    0, 1);
	tcase_add_loop_test(rest, frozen_connection_takes_nothing_and_goes_on,
			    CT_EXTENDED, CT_EXTENDED + 1);
	tcase_add_test(rest, what_is_in_flight_ends_first);
	tcase_add_test(rest, freeze_gives_up_at_its_limit);
	tcase_add_test(rest, request_that_its_client_holds_up_is_closed);
	suite_add_tcase(s, rest);

	tcase_add_checked_fixture(go_on, setup, teardown);
	tcase_set_timeout(go_on, 120);
	tcase_add_loop_test(go_on, half_payload_is_completed_there, 0, 4);
	tcase_add_test(go_on, payload_that_waits_for_memory_is_completed_there);
	tcase_add_test(go_on, refused_payload_is_dropped_to_its_end_there);
	tcase_add_test(go_on, replies_that_were_not_taken_are_sent_there);
	tcase_add_test(go_on, handshakes_go_on_there);
	tcase_add_test(go_on, misfits_are_told);
	suite_add_tcase(s, go_on);
	return s;
}

int main(void)
{
	SRunner *runner = srunner_create(suite());
	int failed;

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
