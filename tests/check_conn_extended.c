/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_conn_extended.c - a connection with extended headers, and errors that
 * are told with the offset at which they are.
 */
#include <check.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/conntest.h"

#define KIB	1024u
#define MIB	(1024u * 1024u)
#define PAYLOAD	NBD_CMD_FLAG_PAYLOAD_LEN

static struct conntest ct;

static void setup(void)
{
	conntest_start(&ct, NULL);
	fakevolume_fill(ct.rw, 0, 16 * MIB);
}

static void teardown(void)
{
	conntest_stop(&ct);
}

/* A chunk of the answer to @cookie, a request at @pos. */
static struct chunk get_extended(int fd, uint64_t cookie, uint64_t pos)
{
	struct chunk chunk = get_chunk(fd);

	ck_assert(chunk.extended);
	ck_assert(chunk.cookie == cookie);
	ck_assert(chunk.echo == pos);
	return chunk;
}

/* The whole answer, without content; its error. */
static uint32_t get_result(int fd, uint64_t cookie, uint64_t pos)
{
	struct chunk chunk = get_extended(fd, cookie, pos);

	ck_assert_uint_eq(chunk.flags, NBD_CHUNK_FLAG_DONE);
	ck_assert_uint_eq(chunk.type, chunk.error ? NBD_CHUNK_ERROR :
						    NBD_CHUNK_NONE);
	if (chunk.error)
		ck_assert_uint_gt(strlen(chunk.text), 0);
	return chunk.error;
}

static void expect_read(int fd, uint64_t pos, uint32_t len)
{
	uint64_t end = pos + len, at = pos;
	struct chunk chunk;

	send_extended(fd, NBD_CMD_READ, 0, 99, pos, len);
	do {
		chunk = get_extended(fd, 99, pos);
		ck_assert_uint_eq(chunk.type, NBD_CHUNK_OFFSET_DATA);
		ck_assert(chunk.pos == at);
		ck_assert_uint_le(chunk.len, end - at);
		expect_fill(fd, at, chunk.len);
		at += chunk.len;
	} while (!(chunk.flags & NBD_CHUNK_FLAG_DONE));
	ck_assert(at == end);
}

START_TEST(every_reply_is_extended)
{
	int fd = open_export(&ct, "rw", CT_EXTENDED);
	char *data = calloc(1, MIB);

	expect_read(fd, 4096, 4096);
	send_extended(fd, NBD_CMD_READ, 0, 1, 16 * MIB, 4096);
	ck_assert_uint_eq(get_extended(fd, 1, 16 * MIB).type,
			  NBD_CHUNK_OFFSET_HOLE);
	for (int miss = 0; miss < 2; miss++) {
		FAKE_SET(ct.rw->miss, miss);
		FAKE_SET(ct.rw->dirty, miss);
		expect_read(fd, 5000, 5 * MIB);
		for (uint32_t len = 512; len <= MIB; len *= 8) {
			send_extended(fd, NBD_CMD_WRITE, PAYLOAD, len,
				      20 * MIB, len);
			send_all(fd, data, len);
			ck_assert_uint_eq(get_result(fd, len, 20 * MIB), 0);
		}
		send_extended(fd, NBD_CMD_FLUSH, 0, 2, 0, 0);
		ck_assert_uint_eq(get_result(fd, 2, 0), 0);
		send_extended(fd, NBD_CMD_TRIM, 0, 3, 30 * MIB, MIB);
		ck_assert_uint_eq(get_result(fd, 3, 30 * MIB), 0);
		send_extended(fd, NBD_CMD_CACHE, 0, 4, 0, CT_SIZE);
		ck_assert_uint_eq(get_result(fd, 4, 0), 0);
		send_extended(fd, NBD_CMD_READ, 0, 5, MIB, 0);
		ck_assert_uint_eq(get_result(fd, 5, MIB), 0);
	}
	send_extended(fd, NBD_CMD_TRIM, 0, 6, UINT64_MAX, UINT64_MAX);
	ck_assert_uint_eq(get_result(fd, 6, UINT64_MAX), NBD_EINVAL);
	free(data);
	close(fd);
}
END_TEST

START_TEST(an_error_is_told_where_it_is)
{
	/* Where the read begins, its length, the bad byte. */
	static const struct {
		uint64_t pos;
		uint32_t len;
		uint64_t bad;
	} cases[] = {
		{ 0, 4096, 100 }, { 512, 512, 700 }, { 4000, 200, 4096 },
		{ 0, 65536, 40960 }, { 1000, 60000, 60999 },
		{ 0, MIB, 1 }, { 0, MIB, MIB - 1 }, { 4097, MIB, 700000 },
		{ 0, 5 * MIB, 3 * MIB + 12345 }, { 7, 8 * MIB, 8 * MIB },
	};

	FAKE_SET(ct.rw->miss, 1);
	for (size_t i = 0; i < 2 * ARRAY_SIZE(cases); i++) {
		uint64_t pos = cases[i / 2].pos, at = pos;
		uint64_t bad = cases[i / 2].bad, want;
		bool ext = i % 2;
		int fd = open_export(&ct, "rw",
				     ext ? CT_EXTENDED : CT_STRUCTURED);
		struct chunk chunk;

		FAKE_SET(ct.rw->bad_pos, bad);
		want = MAX(pos, round_down64(bad, 4096));
		if (ext)
			send_extended(fd, NBD_CMD_READ, 0, i, pos,
				      cases[i / 2].len);
		else
			send_request(fd, NBD_CMD_READ, 0, i, pos,
				     cases[i / 2].len);
		for (;;) {
			chunk = get_chunk(fd);
			ck_assert_uint_eq(chunk.cookie, i);
			if (chunk.type != NBD_CHUNK_OFFSET_DATA)
				break;
			ck_assert(chunk.pos == at);
			ck_assert_uint_eq(chunk.flags, 0);
			expect_fill(fd, at, chunk.len);
			at += chunk.len;
		}
		ck_assert_uint_eq(chunk.type, NBD_CHUNK_ERROR_OFFSET);
		ck_assert_uint_eq(chunk.flags, NBD_CHUNK_FLAG_DONE);
		ck_assert_uint_eq(chunk.error, NBD_EIO);
		ck_assert_uint_gt(strlen(chunk.text), 0);
		/* All before it came, and no more. */
		ck_assert_msg(chunk.pos == want && at == want,
			      "case %zu: data to %llu, error at %llu, not %llu",
			      i, (unsigned long long)at,
			      (unsigned long long)chunk.pos,
			      (unsigned long long)want);
		FAKE_SET(ct.rw->bad_pos, 0);
		close(fd);
	}
}
END_TEST

START_TEST(a_read_with_df_fails_as_a_whole)
{
	int fd = open_export(&ct, "rw", CT_EXTENDED);
	struct chunk chunk;

	FAKE_SET(ct.rw->miss, 1);
	FAKE_SET(ct.rw->bad_pos, 200 * KIB);
	send_extended(fd, NBD_CMD_READ, NBD_CMD_FLAG_DF, 1, 0, MIB);
	chunk = get_extended(fd, 1, 0);
	ck_assert_uint_eq(chunk.type, NBD_CHUNK_ERROR);
	ck_assert_uint_eq(chunk.error, NBD_EIO);
	FAKE_SET(ct.rw->bad_pos, 0);
	expect_read(fd, 0, 4096);
	close(fd);
}
END_TEST

START_TEST(a_failure_of_the_moment_costs_nothing)
{
	int fd = open_export(&ct, "rw", CT_EXTENDED);

	/* One piece fails once: it is read again in two, the rest as ever. */
	FAKE_SET(ct.rw->miss, 1);
	FAKE_SET(ct.rw->fail_once, 1);
	expect_read(fd, 0, 4 * MIB);
	ck_assert_uint_eq(FAKE_GET(ct.rw->reads), 1 + 2 + 3);
	close(fd);
}
END_TEST

/* BLOCK_STATUS with a payload of @len bytes of @payload; its error. */
static uint32_t filtered(int fd, const void *payload, uint32_t len,
			 struct nbd_wire_extent_ext *extents,
			 unsigned int *nrp)
{
	struct chunk chunk;
	char buf[600];

	put_extended(buf, NBD_CMD_BLOCK_STATUS, PAYLOAD, 9, MIB, len);
	memcpy(buf + 32, payload, len);
	for (uint32_t i = 0; i < 32 + len; i += 5)
		send_all(fd, buf + i, MIN(5u, 32 + len - i));
	chunk = get_extended(fd, 9, MIB);
	ck_assert_uint_eq(chunk.flags, NBD_CHUNK_FLAG_DONE);
	if (chunk.error)
		return chunk.error;
	ck_assert_uint_eq(chunk.type, NBD_CHUNK_BLOCK_STATUS_EXT);
	*nrp = chunk.len / sizeof(*extents);
	ck_assert_uint_le(*nrp, 8);
	recv_all(fd, extents, chunk.len);
	return 0;
}

START_TEST(status_may_name_its_contexts)
{
	struct {
		uint64_t	len;
		uint32_t	ids[100];
	} __attribute__((packed)) payload = {
		.len = htobe64(CT_SIZE - MIB),
	};
	struct nbd_wire_extent_ext extents[8];
	int fd = open_export(&ct, "rw", CT_EXTENDED | CT_META);
	unsigned int nr = 0;

	for (int i = 0; i < 100; i++)
		payload.ids[i] = htobe32(1);
	ck_assert_uint_eq(filtered(fd, &payload, 12, extents, &nr), 0);
	ck_assert_uint_eq(nr, 2);
	ck_assert(be64toh(extents[0].len) == 15 * MIB);
	ck_assert(be64toh(extents[0].flags) == 0);
	ck_assert(be64toh(extents[1].len) == CT_SIZE - 16 * MIB);
	ck_assert(be64toh(extents[1].flags) == 3);
	for (uint32_t len = 1; len <= sizeof(payload); len += 11)
		if (len != 12)
			ck_assert_uint_eq(filtered(fd, &payload, len, extents,
						   &nr), NBD_EINVAL);
	payload.ids[0] = htobe32(2);
	ck_assert_uint_eq(filtered(fd, &payload, 12, extents, &nr),
			  NBD_EINVAL);
	payload.ids[0] = htobe32(1);
	payload.len = htobe64(UINT64_MAX);
	ck_assert_uint_eq(filtered(fd, &payload, 12, extents, &nr),
			  NBD_EINVAL);
	expect_read(fd, 0, 4096);
	close(fd);
}
END_TEST

START_TEST(many_extents_fill_a_chunk)
{
	int fd = open_export(&ct, "rw", CT_EXTENDED | CT_META);
	struct nbd_wire_extent_ext *extents = calloc(512, sizeof(*extents));
	struct chunk chunk;
	uint64_t sum = 0;
	unsigned int nr;

	for (uint64_t page = 8192; page < 8192 + 1024; page += 2)
		fakevolume_fill(ct.rw, page * 4096, 4096);
	send_extended(fd, NBD_CMD_BLOCK_STATUS, 0, 1, 8192 * 4096, 4 * MIB);
	chunk = get_extended(fd, 1, 8192 * 4096);
	ck_assert_uint_eq(chunk.type, NBD_CHUNK_BLOCK_STATUS_EXT);
	nr = chunk.len / sizeof(*extents);
	ck_assert_uint_ge(nr, 500);
	ck_assert_uint_lt(nr, 512);
	recv_all(fd, extents, chunk.len);
	for (unsigned int i = 0; i < nr; i++) {
		ck_assert(be64toh(extents[i].flags) == (i % 2 ? 3 : 0));
		sum += be64toh(extents[i].len);
	}
	ck_assert(sum == nr * 4096);
	free(extents);
	send_extended(fd, NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_REQ_ONE, 2,
		      MIB, CT_SIZE - MIB);
	chunk = get_extended(fd, 2, MIB);
	ck_assert_uint_eq(chunk.len, sizeof(*extents));
	extents = malloc(chunk.len);
	recv_all(fd, extents, chunk.len);
	ck_assert(be64toh(extents->len) == 15 * MIB);
	free(extents);
	close(fd);
}
END_TEST

START_TEST(payloads_nobody_wants_are_dropped)
{
	static const uint16_t types[] = {
		NBD_CMD_READ, NBD_CMD_FLUSH, NBD_CMD_TRIM, NBD_CMD_CACHE,
		NBD_CMD_WRITE_ZEROES, NBD_CMD_BLOCK_STATUS, 8, 0xffff,
	};
	int fd = open_export(&ct, "rw", CT_EXTENDED);
	char *junk = malloc(300 * KIB);

	memset(junk, 0xee, 300 * KIB);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		for (uint32_t len = 1; len < 300 * KIB; len *= 17) {
			send_extended(fd, types[i], PAYLOAD, i, 0, len);
			send_all(fd, junk, len);
			ck_assert_uint_eq(get_result(fd, i, 0), NBD_EINVAL);
		}
	}
	/* A WRITE without the flag has one all the same. */
	for (uint32_t len = 1; len < 300 * KIB; len *= 17) {
		send_extended(fd, NBD_CMD_WRITE, 0, 1, 20 * MIB, len);
		send_all(fd, junk, len);
		ck_assert_uint_eq(get_result(fd, 1, 20 * MIB), NBD_OK);
		ck_assert(!memcmp(ct.rw->data + 20 * MIB, junk, len));
	}
	expect_read(fd, 0, 4096);
	free(junk);
	close(fd);
}
END_TEST

START_TEST(payloads_that_are_too_long_close)
{
	static const uint64_t lens[] = {
		64 * MIB + 1, UINT64_C(1) << 32, (UINT64_C(1) << 32) + 12,
		UINT64_MAX,
	};

	for (size_t i = 0; i < 3 * ARRAY_SIZE(lens); i++) {
		static const uint16_t types[] = {
			NBD_CMD_WRITE, NBD_CMD_BLOCK_STATUS, 77,
		};
		int fd = open_export(&ct, "rw", CT_EXTENDED | CT_META);

		send_extended(fd, types[i % 3], PAYLOAD, 1, 0, lens[i / 3]);
		expect_close(fd, 0);
	}
}
END_TEST

START_TEST(refused_writes_are_drained)
{
	int fd = open_export(&ct, "ro", CT_EXTENDED);
	char *junk = malloc(MIB);

	memset(junk, 0xee, MIB);
	for (uint32_t len = 1; len <= MIB; len *= 32) {
		send_extended(fd, NBD_CMD_WRITE, PAYLOAD, 1, 0, len);
		send_all(fd, junk, len);
		ck_assert_uint_eq(get_result(fd, 1, 0), NBD_EPERM);
		send_extended(fd, NBD_CMD_WRITE, PAYLOAD | NBD_CMD_FLAG_DF, 1,
			      0, len);
		send_all(fd, junk, len);
		ck_assert_uint_eq(get_result(fd, 1, 0), NBD_EINVAL);
	}
	send_extended(fd, NBD_CMD_READ, 0, 2, 0, 4096);
	ck_assert_uint_eq(get_extended(fd, 2, 0).type, NBD_CHUNK_OFFSET_HOLE);
	free(junk);
	close(fd);
}
END_TEST

START_TEST(a_compact_request_closes)
{
	int fd = open_export(&ct, "rw", CT_EXTENDED);
	char buf[64] = { 0 };

	put_request(buf, NBD_CMD_READ, 0, 1, 0, 4096);
	send_all(fd, buf, sizeof(buf));
	expect_close(fd, 0);
	fd = open_export(&ct, "rw", CT_STRUCTURED);
	put_extended(buf, NBD_CMD_READ, 0, 1, 0, 4096);
	send_all(fd, buf, sizeof(buf));
	expect_close(fd, 0);
}
END_TEST

START_TEST(requests_are_taken_from_a_batch)
{
	int fd = open_export(&ct, "rw", CT_EXTENDED);
	char *buf = malloc(200 * (32 + 4096));
	size_t n = 0;

	/* Writes to what is a hole, reads, and a payload that misleads. */
	for (uint64_t i = 0; i < 200; i++) {
		bool write = i % 3 == 1;

		n += put_extended(buf + n, write ? NBD_CMD_WRITE : NBD_CMD_READ,
				  i % 3 ? PAYLOAD : 0, i,
				  (write ? 20 * MIB : 0) + i * 4096, 4096);
		if (i % 3) {
			memset(buf + n, 0x21, 4096);
			n += 4096;
		}
	}
	send_all(fd, buf, n);
	for (uint64_t i = 0; i < 200; i++) {
		uint64_t pos = (i % 3 == 1 ? 20 * MIB : 0) + i * 4096;
		struct chunk chunk;

		if (i % 3) {
			ck_assert_uint_eq(get_result(fd, i, pos),
					  i % 3 == 1 ? NBD_OK : NBD_EINVAL);
			continue;
		}
		chunk = get_extended(fd, i, pos);
		ck_assert_uint_eq(chunk.len, 4096);
		expect_fill(fd, pos, 4096);
	}
	free(buf);
	close(fd);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("conn_extended");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, every_reply_is_extended);
	tcase_add_test(tc, an_error_is_told_where_it_is);
	tcase_add_test(tc, a_read_with_df_fails_as_a_whole);
	tcase_add_test(tc, a_failure_of_the_moment_costs_nothing);
	tcase_add_test(tc, status_may_name_its_contexts);
	tcase_add_test(tc, many_extents_fill_a_chunk);
	tcase_add_test(tc, payloads_nobody_wants_are_dropped);
	tcase_add_test(tc, payloads_that_are_too_long_close);
	tcase_add_test(tc, refused_writes_are_drained);
	tcase_add_test(tc, a_compact_request_closes);
	tcase_add_test(tc, requests_are_taken_from_a_batch);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
