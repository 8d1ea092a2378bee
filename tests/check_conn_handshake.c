/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_conn_handshake.c - a connection until it transmits.
 */
#include <check.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/conntest.h"

static struct conntest ct;

static void setup(void)
{
	conntest_start(&ct, NULL);
}

static void teardown(void)
{
	conntest_stop(&ct);
}

/* Greeted, in its options. */
static int haggling(void)
{
	int fd = conntest_connect(&ct);

	greet(fd);
	return fd;
}

/* The size in the data of an INFO_EXPORT. */
static uint64_t ct_size(const char *data)
{
	uint64_t be;

	memcpy(&be, data + 2, sizeof(be));
	return be64toh(be);
}

/* An empty LIST must be answered as it should. */
static void in_sync(int fd)
{
	put_option(fd, NBD_OPT_LIST, NULL, 0);
	ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_LIST), NBD_REP_ACK);
}

START_TEST(export_name_enters_with_zeroes_or_without)
{
	for (uint32_t flags = 0; flags <= 3; flags++) {
		int fd = conntest_connect(&ct);
		struct nbd_export_name_reply reply;
		uint32_t be = htobe32(flags);
		char zeroes[124], none[124] = { 0 };

		recv_all(fd, zeroes, sizeof(struct nbd_greeting));
		send_all(fd, &be, sizeof(be));
		put_option(fd, NBD_OPT_EXPORT_NAME, "ro", 2);
		recv_all(fd, &reply, sizeof(reply));
		ck_assert(be64toh(reply.size) == CT_SIZE);
		ck_assert(be16toh(reply.flags) & NBD_READ_ONLY);
		if (!(flags & NBD_NO_ZEROES)) {
			recv_all(fd, zeroes, sizeof(zeroes));
			ck_assert(!memcmp(zeroes, none, sizeof(zeroes)));
		}
		expect_alive(fd, false);
		close(fd);
	}
}
END_TEST

START_TEST(unknown_client_flags_close)
{
	for (unsigned int bit = 2; bit < 32; bit++) {
		int fd = conntest_connect(&ct);
		uint32_t be = htobe32((UINT32_C(1) << bit) |
				      NBD_FIXED_NEWSTYLE);

		send_all(fd, &be, sizeof(be));
		expect_close(fd, sizeof(struct nbd_greeting));
	}
}
END_TEST

START_TEST(without_fixed_newstyle_only_export_name_is_taken)
{
	static const uint32_t options[] = {
		NBD_OPT_LIST, NBD_OPT_STARTTLS, NBD_OPT_STRUCTURED_REPLY, 77,
	};

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		int fd = conntest_connect(&ct);
		uint32_t none = 0;

		send_all(fd, &none, sizeof(none));
		put_option(fd, options[i], NULL, 0);
		expect_close(fd, sizeof(struct nbd_greeting));
	}
}
END_TEST

START_TEST(unknown_options_are_consumed)
{
	static char data[65536];
	int fd = haggling();

	for (uint32_t len = 0; len <= sizeof(data); len = len * 4 + 1) {
		put_option(fd, 0x4711, data, len);
		ck_assert_uint_eq(get_final_reply(fd, 0x4711),
				  NBD_REP_ERR_UNSUP);
		in_sync(fd);
	}
	put_option(fd, NBD_OPT_STARTTLS, NULL, 0);
	ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_STARTTLS),
			  NBD_REP_ERR_UNSUP);
	put_option(fd, NBD_OPT_LIST, data, 100);
	ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_LIST),
			  NBD_REP_ERR_INVALID);
	in_sync(fd);
	close(fd);
}
END_TEST

START_TEST(absurd_lengths_are_not_waited_for)
{
	static const uint32_t options[] = {
		NBD_OPT_EXPORT_NAME, NBD_OPT_LIST, NBD_OPT_INFO, NBD_OPT_GO,
		NBD_OPT_SET_META_CONTEXT, 0x4711,
	};

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		struct nbd_option_head head = {
			htobe64(NBD_OPTION_MAGIC), htobe32(options[i]),
			htobe32(UINT32_MAX),
		};
		int fd = haggling();

		send_all(fd, &head, sizeof(head));
		expect_close(fd, 0);
	}
}
END_TEST

START_TEST(a_long_option_with_wanted_data_is_too_big_and_consumed)
{
	static char data[65537];
	int fd = haggling();

	put_option(fd, NBD_OPT_GO, data, sizeof(data));
	ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_GO),
			  NBD_REP_ERR_TOO_BIG);
	in_sync(fd);
	close(fd);
}
END_TEST

START_TEST(a_flood_of_options_ends)
{
	/* 128, and 8 for each of the exports. */
	enum { MOST = 128 + 8 * CT_EXPORTS };
	struct nbd_option_head flood[400];
	int fd = haggling();

	for (size_t i = 0; i < ARRAY_SIZE(flood); i++)
		flood[i] = (struct nbd_option_head){
			htobe64(NBD_OPTION_MAGIC), htobe32(0x4711), 0,
		};
	send_all(fd, flood, sizeof(flood));
	expect_close(fd, MOST * 64);
}
END_TEST

START_TEST(a_flood_of_option_bytes_ends)
{
	struct nbd_option_head head = {
		htobe64(NBD_OPTION_MAGIC), htobe32(0x4711), htobe32(1),
	};
	/* 2 MiB, and 32 KiB for each of the exports. */
	uint32_t most = (2 << 20) + CT_EXPORTS * (32 << 10), len;
	static char data[65536];
	int fd = haggling();

	for (; most; most -= len) {
		len = MIN(most, (uint32_t)sizeof(data));
		put_option(fd, 0x4711, data, len);
		ck_assert_uint_eq(get_final_reply(fd, 0x4711),
				  NBD_REP_ERR_UNSUP);
	}
	send_all(fd, &head, sizeof(head));
	expect_close(fd, 0);
}
END_TEST

START_TEST(abort_is_acknowledged)
{
	int fd = haggling();

	put_option(fd, NBD_OPT_ABORT, "data", 4);
	ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_ABORT), NBD_REP_ACK);
	expect_close(fd, 0);
}
END_TEST

START_TEST(list_names_and_describes)
{
	int fd = haggling();
	char buf[256];
	uint32_t len;

	put_option(fd, NBD_OPT_LIST, NULL, 0);
	ck_assert_uint_eq(get_option_reply(fd, NBD_OPT_LIST, buf, sizeof(buf),
					   &len), NBD_REP_SERVER);
	ck_assert_uint_eq(len, 6);
	ck_assert(!memcmp(buf, "\0\0\0\2rw", 6));
	ck_assert_uint_eq(get_option_reply(fd, NBD_OPT_LIST, buf, sizeof(buf),
					   &len), NBD_REP_SERVER);
	ck_assert_uint_eq(len, 12);
	ck_assert(!memcmp(buf, "\0\0\0\2roa text", 12));
	ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_LIST), NBD_REP_ACK);
	close(fd);
}
END_TEST

/* INFO for @name, wanting @nr infos; the replies' types into @types. */
static uint32_t info(int fd, const char *name, const uint16_t *infos,
		     uint16_t nr, unsigned int *seen)
{
	uint32_t len = htobe32(strlen(name)), type;
	uint16_t be = htobe16(nr), kind;
	char data[256];
	size_t n = 4;

	memcpy(data, &len, 4);
	memcpy(data + n, name, strlen(name));
	n += strlen(name);
	memcpy(data + n, &be, 2);
	n += 2;
	for (int i = 0; i < nr; i++, n += 2) {
		be = htobe16(infos[i]);
		memcpy(data + n, &be, 2);
	}
	put_option(fd, NBD_OPT_INFO, data, n);
	*seen = 0;
	for (;;) {
		type = get_option_reply(fd, NBD_OPT_INFO, data, sizeof(data),
					&len);
		if (type != NBD_REP_INFO)
			return type;
		memcpy(&kind, data, 2);
		*seen |= 1u << be16toh(kind);
		if (be16toh(kind) == NBD_INFO_NAME)
			ck_assert(!memcmp(data + 2, "rw", 2));
	}
}

START_TEST(info_tells_what_is_asked)
{
	static const uint16_t all[] = { 1, 2, 3, 0x4242 };
	int fd = haggling();
	unsigned int seen;

	ck_assert_uint_eq(info(fd, "rw", NULL, 0, &seen), NBD_REP_ACK);
	ck_assert_uint_eq(seen, 1u << NBD_INFO_EXPORT);
	ck_assert_uint_eq(info(fd, "ro", all + 1, 2, &seen), NBD_REP_ACK);
	ck_assert_uint_eq(seen, 1u << NBD_INFO_EXPORT |
			  1u << NBD_INFO_DESCRIPTION |
			  1u << NBD_INFO_BLOCK_SIZE);
	/* The empty name is rw's; its own is told. */
	ck_assert_uint_eq(info(fd, "", all, 4, &seen), NBD_REP_ACK);
	ck_assert_uint_eq(seen, 1u << NBD_INFO_EXPORT | 1u << NBD_INFO_NAME |
			  1u << NBD_INFO_BLOCK_SIZE);
	/* Block sizes that matter are told unasked. */
	ck_assert_uint_eq(info(fd, "b4k", NULL, 0, &seen), NBD_REP_ACK);
	ck_assert_uint_eq(seen, 1u << NBD_INFO_EXPORT |
			  1u << NBD_INFO_BLOCK_SIZE);
	ck_assert_uint_eq(info(fd, "r", NULL, 0, &seen), NBD_REP_ERR_UNKNOWN);
	ck_assert_uint_eq(info(fd, "rwx", NULL, 0, &seen),
			  NBD_REP_ERR_UNKNOWN);
	in_sync(fd);
	close(fd);
}
END_TEST

START_TEST(rotational_is_what_the_volume_is)
{
	char data[64];
	uint32_t len;
	int fd;

	for (int i = 0; i < 2; i++) {
		ct.rw->vol.rotational = i;
		fd = haggling();
		put_option(fd, NBD_OPT_INFO, "\0\0\0\2rw\0\0", 8);
		ck_assert_uint_eq(get_option_reply(fd, NBD_OPT_INFO, data,
						   sizeof(data), &len),
				  NBD_REP_INFO);
		ck_assert_uint_eq(len, sizeof(struct nbd_info_export));
		/* The flags are last, big endian. */
		ck_assert_int_eq(!!(data[len - 1] & NBD_ROTATIONAL), i);
		close(fd);
	}
}
END_TEST

START_TEST(contexts_hold_for_one_export_and_until_the_next_set)
{
	static const char set_rw[] = "\0\0\0\2rw\0\0\0\1\0\0\0\17base:allocation";
	static const char set_none[] = "\0\0\0\2rw\0\0\0\0";
	static const char go_rw[] = "\0\0\0\2rw\0", go_ro[] = "\0\0\0\2ro\0";
	uint32_t len;
	char buf[64];

	for (int i = 0; i < 4; i++) {
		int fd = haggling();
		bool works = i == 0;

		put_option(fd, NBD_OPT_SET_META_CONTEXT, set_rw,
			   sizeof(set_rw) - 1);
		ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_SET_META_CONTEXT),
				  NBD_REP_ERR_INVALID);
		put_option(fd, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
		get_final_reply(fd, NBD_OPT_STRUCTURED_REPLY);
		put_option(fd, NBD_OPT_SET_META_CONTEXT, set_rw,
			   sizeof(set_rw) - 1);
		ck_assert_uint_eq(get_option_reply(fd, NBD_OPT_SET_META_CONTEXT,
						   buf, sizeof(buf), &len),
				  NBD_REP_META_CONTEXT);
		ck_assert_uint_eq(len, 4 + 15);
		ck_assert(!memcmp(buf + 4, "base:allocation", 15));
		get_final_reply(fd, NBD_OPT_SET_META_CONTEXT);
		if (i == 1) {
			put_option(fd, NBD_OPT_SET_META_CONTEXT, set_none,
				   sizeof(set_none) - 1);
			get_final_reply(fd, NBD_OPT_SET_META_CONTEXT);
		} else if (i == 2) {
			put_option(fd, NBD_OPT_SET_META_CONTEXT, "bad", 3);
			get_final_reply(fd, NBD_OPT_SET_META_CONTEXT);
		}
		put_option(fd, NBD_OPT_GO, i == 3 ? go_ro : go_rw,
			   sizeof(go_rw));
		ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_GO),
				  NBD_REP_ACK);
		send_request(fd, NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_REQ_ONE, 1,
			     0, 4096);
		ck_assert_uint_eq(get_chunk(fd).error,
				  works ? NBD_OK : NBD_EINVAL);
		close(fd);
	}
}
END_TEST

START_TEST(requests_may_come_with_the_go)
{
	char bytes[4 + 16 + 8 + 28];
	int fd = conntest_connect(&ct);
	struct nbd_option_head head = {
		htobe64(NBD_OPTION_MAGIC), htobe32(NBD_OPT_GO), htobe32(8),
	};
	uint32_t flags = htobe32(3);
	char buf[sizeof(struct nbd_greeting)];

	fakevolume_fill(ct.rw, 4096, 512);
	memcpy(bytes, &flags, 4);
	memcpy(bytes + 4, &head, 16);
	memcpy(bytes + 20, "\0\0\0\2rw\0\0", 8);
	put_request(bytes + 28, NBD_CMD_READ, 0, 5, 4096, 512);
	send_all(fd, bytes, sizeof(bytes));
	recv_all(fd, buf, sizeof(buf));
	ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_GO), NBD_REP_ACK);
	ck_assert_uint_eq(get_simple(fd, 5), 0);
	expect_fill(fd, 4096, 512);
	close(fd);
}
END_TEST

START_TEST(one_byte_at_a_time_is_fine_too)
{
	char bytes[4 + 16 + 8 + 28];
	int fd = conntest_connect(&ct);
	struct nbd_option_head head = {
		htobe64(NBD_OPTION_MAGIC), htobe32(NBD_OPT_GO), htobe32(8),
	};
	uint32_t flags = htobe32(3);
	char buf[sizeof(struct nbd_greeting)];

	memcpy(bytes, &flags, 4);
	memcpy(bytes + 4, &head, 16);
	memcpy(bytes + 20, "\0\0\0\2rw\0\0", 8);
	put_request(bytes + 28, NBD_CMD_FLUSH, 0, 6, 0, 0);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		send_all(fd, bytes + i, 1);
		usleep(200);
	}
	recv_all(fd, buf, sizeof(buf));
	ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_GO), NBD_REP_ACK);
	ck_assert_uint_eq(get_simple(fd, 6), 0);
	close(fd);
}
END_TEST

START_TEST(clients_that_vanish_at_any_byte_leave_nothing)
{
	char bytes[4 + 16 + 8 + 28 + 16];
	struct nbd_option_head head = {
		htobe64(NBD_OPTION_MAGIC), htobe32(NBD_OPT_GO), htobe32(8),
	};
	uint32_t flags = htobe32(3);

	memset(bytes, 0, sizeof(bytes));
	memcpy(bytes, &flags, 4);
	memcpy(bytes + 4, &head, 16);
	memcpy(bytes + 20, "\0\0\0\2rw\0\0", 8);
	put_request(bytes + 28, NBD_CMD_WRITE, 0, 5, 4096, 16);
	for (size_t len = 0; len <= sizeof(bytes); len++) {
		int fd = conntest_connect(&ct);

		send_all(fd, bytes, len);
		close(fd);
	}
	conntest_wait_conns(&ct, 0);
}
END_TEST

/* Wait until somebody waits for the volume's other size. */
static void await_resize(void)
{
	while (!FAKE_GET(ct.rw->waiting))
		conntest_sync(&ct);
}

START_TEST(an_option_waits_for_another_size)
{
	int fd = haggling(), other = haggling(), gone = haggling();
	char buf[64], go[] = "\0\0\0\2rw\0";

	FAKE_SET(ct.rw->hold, 1);
	FAKE_SET(ct.rw->present_size, CT_SIZE / 2);
	/* With what comes behind it; one does not wait for the end. */
	put_option(fd, NBD_OPT_INFO, go, 8);
	put_option(fd, NBD_OPT_LIST, NULL, 0);
	await_resize();
	put_option(gone, NBD_OPT_GO, go, 8);
	conntest_sync(&ct);
	shutdown(gone, SHUT_RDWR);
	close(gone);
	expect_silence(fd);
	/* Others, of other exports, do not. */
	put_option(other, NBD_OPT_GO, "\0\0\0\2ro\0", 8);
	ck_assert_uint_eq(get_final_reply(other, NBD_OPT_GO), NBD_REP_ACK);
	FAKE_SET(ct.rw->hold, 0);
	ck_assert_uint_eq(get_option_reply(fd, NBD_OPT_INFO, buf, sizeof(buf),
					   &(uint32_t){ 0 }), NBD_REP_INFO);
	ck_assert_uint_eq(ct_size(buf), CT_SIZE / 2);
	ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_INFO), NBD_REP_ACK);
	ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_LIST), NBD_REP_ACK);
	close(fd);
	close(other);
	conntest_wait_conns(&ct, 0);
}
END_TEST

START_TEST(a_size_that_cannot_be_is_not_waited_for_twice)
{
	int fd = haggling();
	char buf[64];

	FAKE_SET(ct.rw->error, -EIO);
	FAKE_SET(ct.rw->present_size, CT_SIZE / 2);
	for (int i = 0; i < 3; i++) {
		put_option(fd, NBD_OPT_INFO, "\0\0\0\2rw\0", 8);
		ck_assert_uint_eq(get_option_reply(fd, NBD_OPT_INFO, buf,
				  sizeof(buf), &(uint32_t){ 0 }),
				  NBD_REP_INFO);
		ck_assert_uint_eq(ct_size(buf), CT_SIZE);
		ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_INFO),
				  NBD_REP_ACK);
	}
	close(fd);
}
END_TEST

START_TEST(options_are_refused_while_draining)
{
	int fd = haggling(), other = haggling();

	conntest_drain(&ct, 3600 * NSEC_PER_SEC);
	put_option(fd, NBD_OPT_LIST, NULL, 0);
	ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_LIST),
			  NBD_REP_ERR_SHUTDOWN);
	put_option(fd, NBD_OPT_GO, "\0\0\0\2rw\0", 8);
	ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_GO),
			  NBD_REP_ERR_SHUTDOWN);
	put_option(fd, NBD_OPT_ABORT, NULL, 0);
	ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_ABORT), NBD_REP_ACK);
	expect_close(fd, 0);
	put_option(other, NBD_OPT_EXPORT_NAME, "rw", 2);
	expect_close(other, 0);
}
END_TEST

START_TEST(a_handshake_has_its_time)
{
	struct conn_shared shared = {
		.handshake_timeout_ns = 50 * NSEC_PER_MSEC,
	};
	int silent, slow, good;

	conntest_stop(&ct);
	conntest_start(&ct, &shared);
	good = open_export(&ct, "rw", 0);
	silent = conntest_connect(&ct);
	slow = haggling();
	send_all(slow, "IHAVE", 5);
	expect_close(silent, sizeof(struct nbd_greeting));
	expect_close(slow, 0);
	/* Who transmits is not hurried. */
	expect_alive(good, false);
	close(good);
}
END_TEST

START_TEST(connections_have_a_cap)
{
	struct conn_shared shared = { .max_conns = 2 };
	int a, b, fds[2];

	conntest_stop(&ct);
	conntest_start(&ct, &shared);
	a = haggling();
	b = haggling();
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	ck_assert_int_lt(conntest_start_fds(&ct, fds[1], fds[1]), 0);
	expect_close(fds[0], 0);
	close(a);
	conntest_wait_conns(&ct, 1);
	a = haggling();
	close(a);
	close(b);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("conn_handshake");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, export_name_enters_with_zeroes_or_without);
	tcase_add_test(tc, unknown_client_flags_close);
	tcase_add_test(tc, without_fixed_newstyle_only_export_name_is_taken);
	tcase_add_test(tc, unknown_options_are_consumed);
	tcase_add_test(tc, absurd_lengths_are_not_waited_for);
	tcase_add_test(tc, a_long_option_with_wanted_data_is_too_big_and_consumed);
	tcase_add_test(tc, a_flood_of_options_ends);
	tcase_add_test(tc, a_flood_of_option_bytes_ends);
	tcase_add_test(tc, abort_is_acknowledged);
	tcase_add_test(tc, list_names_and_describes);
	tcase_add_test(tc, info_tells_what_is_asked);
	tcase_add_test(tc, rotational_is_what_the_volume_is);
	tcase_add_test(tc, contexts_hold_for_one_export_and_until_the_next_set);
	tcase_add_test(tc, requests_may_come_with_the_go);
	tcase_add_test(tc, an_option_waits_for_another_size);
	tcase_add_test(tc, a_size_that_cannot_be_is_not_waited_for_twice);
	tcase_add_test(tc, one_byte_at_a_time_is_fine_too);
	tcase_add_test(tc, clients_that_vanish_at_any_byte_leave_nothing);
	tcase_add_test(tc, options_are_refused_while_draining);
	tcase_add_test(tc, a_handshake_has_its_time);
	tcase_add_test(tc, connections_have_a_cap);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
