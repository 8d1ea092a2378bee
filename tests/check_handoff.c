/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_handoff.c - what goes from one process to another: the states of
 * connections, listeners, and the messages that they go in; conn_state.h,
 * listen.h, handoff_wire.h.
 */
#include <check.h>
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "proto/nbd.h"
#include "server/conn_state.h"
#include "server/handoff_wire.h"
#include "server/listen.h"

#define FUZZ_ROUNDS	50000

static int ends[2];

static void setup(void)
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
				    ends), 0);
}

static void teardown(void)
{
	for (unsigned int i = 0; i < 2; i++)
		if (ends[i] >= 0)
			close(ends[i]);
}

static uint64_t soon(void)
{
	return clock_now_ns() + 20 * NSEC_PER_SEC;
}

static unsigned int nr_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int nr = 0;

	ck_assert_ptr_nonnull(dir);
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

/* ---- states of connections ---- */

static struct conn_state example(enum conn_state_phase phase)
{
	struct conn_state state = {
		.phase = phase, .tls_least = TLS_ON, .finishing = true,
		.allocation = true,
		.session = {
			.size = 12345678, .block_min = 512,
			.payload_max = 64 << 20, .flags = 0x1ff,
			.structured = true, .extended = true,
			.allocation = phase == CONN_STATE_TRANSMISSION,
		},
		.client_flags = 3, .nr_options = 17,
		.option_bytes = UINT64_C(5) << 33, .option = 7,
		.option_reply = 0x80000003, .skip = 1000, .skip_error = 28,
		.refused = {
			.cookie = 0x1122334455667788, .pos = 1 << 20,
			.len = 77777, .flags = 0x21, .type = NBD_CMD_WRITE,
			.extended = true,
		},
		.name = "volume", .name_len = 6,
		.input = "half a request", .input_len = 14,
		.output = "half of a reply", .output_len = 15,
	};

	return state;
}

/* The bytes of @state; to be freed. */
static char *encode(const struct conn_state *state, size_t *lenp)
{
	char record[CONN_STATE_RECORD], *buf, *p;
	struct iovec iov[4];

	conn_state_encode(state, record, iov);
	*lenp = iov[0].iov_len + iov[1].iov_len + iov[2].iov_len +
		iov[3].iov_len;
	p = buf = malloc(*lenp);
	ck_assert_ptr_nonnull(buf);
	for (unsigned int i = 0; i < 4; i++) {
		if (iov[i].iov_len)
			memcpy(p, iov[i].iov_base, iov[i].iov_len);
		p += iov[i].iov_len;
	}
	return buf;
}

START_TEST(state_is_the_same_on_the_other_side)
{
	struct conn_state state = example((enum conn_state_phase)_i), other;
	size_t len;
	char *buf = encode(&state, &len);

	ck_assert_int_eq(conn_state_decode(&other, &buf, len), 0);
	ck_assert_ptr_null(buf);
	ck_assert_int_eq(other.fd, -1);
	ck_assert_int_eq(other.phase, state.phase);
	ck_assert_int_eq(other.tls_least, state.tls_least);
	ck_assert(other.finishing && other.allocation);
	ck_assert_uint_eq(other.session.size, state.session.size);
	ck_assert_uint_eq(other.session.block_min, 512);
	ck_assert_uint_eq(other.session.payload_max, 64 << 20);
	ck_assert_uint_eq(other.session.flags, 0x1ff);
	ck_assert(other.session.structured && other.session.extended);
	ck_assert_int_eq(other.session.allocation,
			 _i == CONN_STATE_TRANSMISSION);
	ck_assert_uint_eq(other.client_flags, 3);
	ck_assert_uint_eq(other.nr_options, 17);
	ck_assert_uint_eq(other.option_bytes, UINT64_C(5) << 33);
	ck_assert_uint_eq(other.option, 7);
	ck_assert_uint_eq(other.option_reply, 0x80000003);
	ck_assert_uint_eq(other.skip, 1000);
	ck_assert_uint_eq(other.skip_error, 28);
	ck_assert_uint_eq(other.refused.cookie, state.refused.cookie);
	ck_assert_uint_eq(other.refused.pos, state.refused.pos);
	ck_assert_uint_eq(other.refused.len, state.refused.len);
	ck_assert_uint_eq(other.refused.flags, state.refused.flags);
	ck_assert_uint_eq(other.refused.type, state.refused.type);
	ck_assert(other.refused.extended);
	ck_assert_uint_eq(other.name_len, 6);
	ck_assert_mem_eq(other.name, "volume", 6);
	ck_assert_uint_eq(other.input_len, 14);
	ck_assert_mem_eq(other.input, state.input, 14);
	ck_assert_uint_eq(other.output_len, 15);
	ck_assert_mem_eq(other.output, state.output, 15);
	conn_state_fini(&other);
}
END_TEST

START_TEST(empty_name_is_not_no_name)
{
	struct conn_state state = example(CONN_STATE_OPTION), other;
	size_t len;
	char *buf;

	state.name_len = 0;
	buf = encode(&state, &len);
	ck_assert_int_eq(conn_state_decode(&other, &buf, len), 0);
	ck_assert_ptr_nonnull(other.name);
	conn_state_fini(&other);

	state.name = NULL;
	state.allocation = false;
	buf = encode(&state, &len);
	ck_assert_int_eq(conn_state_decode(&other, &buf, len), 0);
	ck_assert_ptr_null(other.name);
	conn_state_fini(&other);
}
END_TEST

START_TEST(truncated_state_is_refused_or_has_less_output)
{
	struct conn_state state = example(CONN_STATE_TRANSMISSION), other;
	size_t len, most;
	char *whole = encode(&state, &most);

	for (len = 0; len < most; len++) {
		/* Of its size exactly, so that a look beyond is seen. */
		char *buf = malloc(len ? len : 1);
		int ret;

		ck_assert_ptr_nonnull(buf);
		memcpy(buf, whole, len);
		ret = conn_state_decode(&other, &buf, len);
		if (len < CONN_STATE_RECORD + 6 + 14) {
			ck_assert_int_eq(ret, -EPROTO);
			free(buf);
		} else {
			ck_assert_int_eq(ret, 0);
			ck_assert_uint_eq(other.output_len,
					  len - CONN_STATE_RECORD - 6 - 14);
			conn_state_fini(&other);
		}
	}
	free(whole);
}
END_TEST

/* What the connection's code relies on. */
static void check_state(const struct conn_state *state, size_t len)
{
	ck_assert_uint_lt(state->phase, CONN_STATE_NR);
	ck_assert_uint_le(state->tls_least, TLS_REQUIRE);
	ck_assert_uint_eq(CONN_STATE_RECORD + state->name_len +
			  state->input_len + state->output_len, len);
	ck_assert(state->session.structured || !state->session.extended);
	if (state->phase != CONN_STATE_TRANSMISSION)
		return;
	ck_assert_ptr_nonnull(state->name);
	ck_assert(is_power_of_2(state->session.block_min));
	ck_assert(!state->skip || state->skip_error);
}

START_TEST(garbage_is_refused_or_possible)
{
	struct conn_state state = example(CONN_STATE_TRANSMISSION), other;
	struct random rnd;
	uint64_t seed = random_seed_from_env("FOLIOD_SEED");
	unsigned int nr_good = 0, nr_bad = 0;
	size_t len;
	char *whole = encode(&state, &len);

	printf("FOLIOD_SEED=%llu\n", (unsigned long long)seed);
	random_init(&rnd, seed);
	for (unsigned int i = 0; i < FUZZ_ROUNDS; i++) {
		unsigned int changes = 1 + random_below(&rnd, 4);
		char *buf = malloc(len);

		ck_assert_ptr_nonnull(buf);
		memcpy(buf, whole, len);
		while (changes--)
			buf[random_below(&rnd, CONN_STATE_RECORD)] =
				(char)random_u64(&rnd);
		if (conn_state_decode(&other, &buf, len)) {
			ck_assert_ptr_nonnull(buf);
			free(buf);
			nr_bad++;
			continue;
		}
		check_state(&other, len);
		conn_state_fini(&other);
		nr_good++;
	}
	ck_assert_uint_gt(nr_good, 0);
	ck_assert_uint_gt(nr_bad, 0);
	free(whole);
}
END_TEST

START_TEST(impossible_states_are_refused)
{
	static const struct {
		size_t offset;
		uint64_t value;
	} bad[] = {
		{ 0, 3 },				/* phase */
		{ 0, UINT64_C(3) << 32 | 2 },		/* TLS mode */
		{ 8, 1 << 6 },				/* unknown flag */
		{ 8, 1 << 4 | 1 << 2 },			/* extended, simple */
		{ 8, 0 },				/* no name */
		{ 16, UINT64_MAX },			/* size */
		{ 24, 64 << 20 },			/* no block size */
		{ 24, UINT64_C(513) << 32 | 64 << 20 },
		{ 24, UINT64_C(1) << 49 | 64 << 20 },
		{ 24, UINT64_C(512) << 32 },		/* no payload */
		{ 32, UINT64_C(1) << 16 | 1 },		/* session flags */
		{ 32, 0 },
		{ 64, UINT64_C(1) << 60 | 5 },		/* to be dropped */
		{ 64, UINT64_C(5) << 32 },		/* for no reason */
		{ 104, UINT64_C(4097) << 32 },		/* name's length */
		{ 104, UINT64_MAX },
	};
	struct conn_state state = example(CONN_STATE_TRANSMISSION), other;

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		uint64_t value = htobe64(bad[i].value);
		size_t len;
		char *buf = encode(&state, &len);

		memcpy(buf + bad[i].offset, &value, sizeof(value));
		ck_assert_msg(conn_state_decode(&other, &buf, len) == -EPROTO,
			      "row %u was taken", i);
		free(buf);
	}
}
END_TEST

/* ---- messages ---- */

START_TEST(message_carries_body_and_descriptor)
{
	static char big[1 << 20];
	static char one[] = "one", two[] = "two";
	struct iovec iov[3] = { { one, 3 }, { NULL, 0 }, { two, 3 } };
	struct handoff_msg msg;
	struct stat a, b;

	ck_assert_int_eq(handoff_send(ends[0], soon(), HANDOFF_CONN, iov, 3,
				      ends[0]), 0);
	ck_assert_int_eq(handoff_send(ends[0], soon(), HANDOFF_GO, NULL, 0,
				      -1), 0);
	ck_assert_int_eq(handoff_recv(ends[1], soon(), &msg), 0);
	ck_assert_int_eq(msg.type, HANDOFF_CONN);
	ck_assert_str_eq(msg.body, "onetwo");
	ck_assert_int_eq(fstat(msg.fd, &a), 0);
	ck_assert_int_eq(fstat(ends[0], &b), 0);
	ck_assert_uint_eq(a.st_ino, b.st_ino);
	ck_assert_int_eq(fcntl(msg.fd, F_GETFD), FD_CLOEXEC);
	handoff_msg_fini(&msg);
	ck_assert_int_eq(handoff_recv(ends[1], soon(), &msg), 0);
	ck_assert_int_eq(msg.type, HANDOFF_GO);
	ck_assert_int_eq(msg.fd, -1);
	handoff_msg_fini(&msg);

	/* More than the socket takes: not for ever. */
	iov[0] = (struct iovec){ big, sizeof(big) };
	ck_assert_int_eq(handoff_send(ends[0], clock_now_ns() +
				      10 * NSEC_PER_MSEC, HANDOFF_CONN, iov, 1,
				      ends[0]), -ETIMEDOUT);
}
END_TEST

START_TEST(end_and_silence_are_told_apart)
{
	struct handoff_head head = {
		.magic = htobe32(HANDOFF_MAGIC),
		.version = htobe16(HANDOFF_VERSION),
		.type = htobe16(HANDOFF_REFUSED), .len = htobe32(100),
	};
	struct handoff_msg msg;

	ck_assert_int_eq(handoff_recv(ends[1], clock_now_ns(), &msg),
			 -ETIMEDOUT);
	ck_assert_int_eq(write(ends[0], &head, sizeof(head)), sizeof(head));
	ck_assert_int_eq(write(ends[0], "short", 5), 5);
	close(ends[0]);
	ends[0] = -1;
	ck_assert_int_eq(handoff_recv(ends[1], soon(), &msg), -ECONNRESET);
}
END_TEST

START_TEST(heads_that_are_none_are_refused)
{
	static const struct handoff_head good = {
		HANDOFF_MAGIC, HANDOFF_VERSION, HANDOFF_CONN, 200, 1,
	};
	const struct {
		struct handoff_head head;
		int want;
	} rows[] = {
		{ good, 0 },
		{ { ~HANDOFF_MAGIC, 1, HANDOFF_CONN, 200, 1 }, -EPROTO },
		{ { HANDOFF_MAGIC, 2, HANDOFF_CONN, 200, 1 },
		  -EPROTONOSUPPORT },
		{ { HANDOFF_MAGIC, 1, 0, 200, 0 }, -EPROTO },
		{ { HANDOFF_MAGIC, 1, HANDOFF_NR, 200, 0 }, -EPROTO },
		{ { HANDOFF_MAGIC, 1, HANDOFF_CONN, CONN_STATE_MAX + 1, 1 },
		  -EPROTO },
		{ { HANDOFF_MAGIC, 1, HANDOFF_END, HANDOFF_BODY_MAX + 1, 0 },
		  -EPROTO },
		{ { HANDOFF_MAGIC, 1, HANDOFF_CONN, 200, 0 }, -EPROTO },
		{ { HANDOFF_MAGIC, 1, HANDOFF_CONN, 200, 2 }, -EPROTO },
		{ { HANDOFF_MAGIC, 1, HANDOFF_END, 24, 1 }, -EPROTO },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		struct handoff_head wire = rows[i].head, head;

		wire.magic = htobe32(wire.magic);
		wire.version = htobe16(wire.version);
		wire.type = htobe16(wire.type);
		wire.len = htobe32(wire.len);
		wire.nr_fds = htobe32(wire.nr_fds);
		ck_assert_msg(handoff_head_get(&wire, &head) == rows[i].want,
			      "row %u", i);
	}
}
END_TEST

/* Send @head with @nr descriptors attached. */
static void send_head(const struct handoff_head *head, unsigned int nr)
{
	union {
		struct cmsghdr	align;
		char		buf[CMSG_SPACE(16 * sizeof(int))];
	} control = { .buf = { 0 } };
	struct iovec iov = { (void *)(uintptr_t)head, sizeof(*head) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = nr ? control.buf : NULL,
		.msg_controllen = nr ? CMSG_SPACE(nr * sizeof(int)) : 0,
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	if (nr) {
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(nr * sizeof(int));
		for (unsigned int i = 0; i < nr; i++)
			memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &ends[0],
			       sizeof(int));
	}
	ck_assert_int_eq(sendmsg(ends[0], &msg, 0), sizeof(*head));
}

START_TEST(unasked_descriptors_are_closed)
{
	static const unsigned int attached[] = { 0, 1, 2, 8, 16 };
	struct handoff_head head = {
		.magic = htobe32(HANDOFF_MAGIC),
		.version = htobe16(HANDOFF_VERSION),
	};
	unsigned int before = nr_descriptors();

	for (unsigned int i = 0; i < ARRAY_SIZE(attached); i++) {
		struct handoff_msg msg;
		bool one = attached[i] > 0;

		/* Said to have none. */
		head.type = htobe16(HANDOFF_GO);
		head.nr_fds = 0;
		send_head(&head, attached[i]);
		ck_assert_int_eq(handoff_recv(ends[1], soon(), &msg),
				 one ? -EPROTO : 0);
		handoff_msg_fini(&msg);
		ck_assert_uint_eq(nr_descriptors(), before);
		/* And to have one. */
		head.type = htobe16(HANDOFF_CONN);
		head.nr_fds = htobe32(1);
		send_head(&head, attached[i]);
		ck_assert_int_eq(handoff_recv(ends[1], soon(), &msg),
				 one ? 0 : -EPROTO);
		handoff_msg_fini(&msg);
		ck_assert_uint_eq(nr_descriptors(), before);
	}
}
END_TEST

/* ---- listeners ---- */

static char dir[64], path[96], loopback[] = "127.0.0.1";

static void setup_dir(void)
{
	snprintf(dir, sizeof(dir), "/tmp/check_handoff.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/sock", dir);
}

static void teardown_dir(void)
{
	ck_assert_int_eq(rmdir(dir), 0);
}

/* A port of loopback, a unix socket, and a private one. */
static void open_some(struct listeners *set)
{
	const struct listen_option opts[] = {
		{ .kind = LISTEN_TCP, .host = loopback },
		{ .kind = LISTEN_UNIX, .path = path },
		{ .kind = LISTEN_PRIVATE },
	};
	char *error = NULL;

	ck_assert_msg(!listeners_open(set, opts, ARRAY_SIZE(opts), &error),
		      "%s", error);
}

/* As in another process. */
static void pass(const struct listeners *set, struct listeners *passed)
{
	char buf[LISTENER_STATE_MAX];

	memset(passed, 0, sizeof(*passed));
	for (unsigned int i = 0; i < set->nr; i++) {
		int n = listener_encode(&set->list[i], buf);

		ck_assert_int_gt(n, 0);
		ck_assert_int_eq(listener_decode(passed, buf, n,
						 dup(set->list[i].fd)), 0);
	}
}

START_TEST(listener_is_the_same_on_the_other_side)
{
	struct listeners set, passed;

	open_some(&set);
	pass(&set, &passed);
	ck_assert_uint_eq(passed.nr, set.nr);
	for (unsigned int i = 0; i < set.nr; i++) {
		char *uri = listener_uri(&set.list[i], "x");
		char *other = listener_uri(&passed.list[i], "x");

		ck_assert_str_eq(uri, other);
		ck_assert_str_eq(set.list[i].asked, passed.list[i].asked);
		ck_assert_uint_eq(set.list[i].ino, passed.list[i].ino);
		free(uri);
		free(other);
	}
	/* Lent, they leave the files alone. */
	listeners_close(&passed);
	ck_assert_int_eq(access(path, F_OK), 0);
	pass(&set, &passed);
	listeners_lend(&set);
	listeners_own(&passed);
	listeners_close(&set);
	ck_assert_int_eq(access(path, F_OK), 0);
	listeners_close(&passed);
	ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

START_TEST(what_is_asked_for_again_is_taken)
{
	const struct listen_option same[] = {
		{ .kind = LISTEN_PRIVATE },
		{ .kind = LISTEN_TCP, .host = loopback, .tls = TLS_REQUIRE },
	};
	struct listeners set, passed, taken;
	char *error = NULL;

	open_some(&set);
	pass(&set, &passed);
	ck_assert_int_eq(listeners_take(&taken, &passed, same,
					ARRAY_SIZE(same), &error), 0);
	ck_assert_uint_eq(taken.nr, 2);
	ck_assert_str_eq(taken.list[0].path, set.list[2].path);
	ck_assert_uint_eq(taken.list[1].port, set.list[0].port);
	ck_assert_int_eq(taken.list[1].tls, TLS_REQUIRE);
	ck_assert_uint_eq(passed.nr, 1);
	ck_assert_str_eq(passed.list[0].path, path);
	/* What nobody wants is removed by its new owner. */
	listeners_lend(&set);
	listeners_close(&set);
	listeners_own(&passed);
	listeners_close(&passed);
	ck_assert_int_eq(access(path, F_OK), -1);
	listeners_own(&taken);
	listeners_close(&taken);
	free(error);
}
END_TEST

START_TEST(bad_listeners_are_refused)
{
	char buf[LISTENER_STATE_MAX], *copy;
	struct listeners set, passed = { NULL, 0 };
	int n, fd;

	open_some(&set);
	n = listener_encode(&set.list[2], buf);
	ck_assert_int_gt(n, 0);
	fd = set.list[2].fd;
	for (int len = 0; len < n; len++) {
		copy = malloc(len ? len : 1);
		ck_assert_ptr_nonnull(copy);
		memcpy(copy, buf, len);
		ck_assert_int_eq(listener_decode(&passed, copy, len, fd),
				 -EPROTO);
		free(copy);
	}
	buf[n] = '\0';
	ck_assert_int_eq(listener_decode(&passed, buf, n + 1, fd), -EPROTO);
	/* Not a listener, and not even a socket. */
	ck_assert_int_eq(listener_decode(&passed, buf, n, ends[0]), -EPROTO);
	ck_assert_int_eq(listener_decode(&passed, buf, n, STDOUT_FILENO),
			 -EPROTO);
	ck_assert_uint_eq(passed.nr, 0);
	free(passed.list);
	listeners_close(&set);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("handoff");
	TCase *state = tcase_create("state"), *wire = tcase_create("wire");
	TCase *listen = tcase_create("listen");

	tcase_set_timeout(state, 60);
	tcase_add_loop_test(state, state_is_the_same_on_the_other_side, 0,
			    CONN_STATE_NR);
	tcase_add_test(state, empty_name_is_not_no_name);
	tcase_add_test(state, truncated_state_is_refused_or_has_less_output);
	tcase_add_test(state, garbage_is_refused_or_possible);
	tcase_add_test(state, impossible_states_are_refused);
	suite_add_tcase(s, state);

	tcase_add_checked_fixture(wire, setup, teardown);
	tcase_set_timeout(wire, 60);
	tcase_add_test(wire, message_carries_body_and_descriptor);
	tcase_add_test(wire, end_and_silence_are_told_apart);
	tcase_add_test(wire, heads_that_are_none_are_refused);
	tcase_add_test(wire, unasked_descriptors_are_closed);
	suite_add_tcase(s, wire);

	tcase_add_checked_fixture(listen, setup, teardown);
	tcase_add_checked_fixture(listen, setup_dir, teardown_dir);
	tcase_set_timeout(listen, 60);
	tcase_add_test(listen, listener_is_the_same_on_the_other_side);
	tcase_add_test(listen, what_is_asked_for_again_is_taken);
	tcase_add_test(listen, bad_listeners_are_refused);
	suite_add_tcase(s, listen);
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
