/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_conn.c - a connection that transmits.
 */
#include <check.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/conntest.h"

#define KIB	1024u
#define MIB	(1024u * 1024u)

static struct conntest ct;

static void setup(void)
{
	conntest_start(&ct, NULL);
	fakevolume_fill(ct.rw, 0, 16 * MIB);
	fakevolume_fill(ct.ro, 0, MIB);
}

static void teardown(void)
{
	conntest_stop(&ct);
}

static char *filled(uint64_t pos, size_t len)
{
	char *buf = malloc(len);

	for (size_t i = 0; i < len; i++)
		buf[i] = fake_byte(pos + i);
	return buf;
}

static void send_write(int fd, uint16_t flags, uint64_t cookie, uint64_t pos,
		       uint32_t len)
{
	char *buf = malloc(len + NBD_STRING_MAX), *data = filled(pos, len);
	size_t n = put_request(buf, NBD_CMD_WRITE, flags, cookie, pos, len);

	memcpy(buf + n, data, len);
	send_all(fd, buf, n + len);
	free(data);
	free(buf);
}

static void expect_data(struct fakevolume *fv, uint64_t pos, size_t len)
{
	for (uint64_t i = pos; i < pos + len; i++)
		if (fv->data[i] != fake_byte(i))
			ck_abort_msg("byte %llu is not written",
				     (unsigned long long)i);
}

static void expect_zeroes(struct fakevolume *fv, uint64_t pos, size_t len)
{
	for (uint64_t i = pos; i < pos + len; i++)
		if (fv->data[i])
			ck_abort_msg("byte %llu is not zero",
				     (unsigned long long)i);
}

/* Wait until @counter is @value. */
static void wait_for(unsigned int *counter, unsigned int value)
{
	for (int i = 0; i < 20000 && FAKE_GET(*counter) != value; i++)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	ck_assert_uint_eq(FAKE_GET(*counter), value);
}

/* ---- reads ---- */

static const uint32_t read_lens[] = {
	1, 511, 512, 4096, 5000, 65536, 65537, 262144, MIB, MIB + 1,
	5 * MIB + 3,
};

START_TEST(reads_of_all_sizes_hit_or_miss)
{
	/* Hits; misses; misses that yield. */
	for (int how = 0; how < 3; how++) {
		int fd = open_export(&ct, "", 0);

		FAKE_SET(ct.rw->miss, how > 0);
		FAKE_SET(ct.rw->relax, how > 1);
		for (size_t i = 0; i < ARRAY_SIZE(read_lens); i++) {
			uint64_t pos = 4000 + i;

			send_request(fd, NBD_CMD_READ, 0, i, pos,
				     read_lens[i]);
			ck_assert_uint_eq(get_simple(fd, i), 0);
			expect_fill(fd, pos, read_lens[i]);
		}
		close(fd);
	}
}
END_TEST

/* One whole structured answer to a read of what is filled. */
static void expect_structured(int fd, uint64_t cookie, uint64_t pos,
			      uint32_t len)
{
	struct chunk chunk;

	do {
		chunk = get_chunk(fd);
		ck_assert_uint_eq(chunk.cookie, cookie);
		ck_assert_uint_eq(chunk.type, NBD_CHUNK_OFFSET_DATA);
		ck_assert(chunk.pos == pos);
		ck_assert_uint_le(chunk.len, len);
		expect_fill(fd, pos, chunk.len);
		pos += chunk.len;
		len -= chunk.len;
	} while (!(chunk.flags & NBD_CHUNK_FLAG_DONE));
	ck_assert_uint_eq(len, 0);
}

START_TEST(structured_reads_of_all_sizes_hit_or_miss)
{
	for (int how = 0; how < 3; how++) {
		int fd = open_export(&ct, "", CT_STRUCTURED);

		FAKE_SET(ct.rw->miss, how > 0);
		FAKE_SET(ct.rw->relax, how > 1);
		for (size_t i = 0; i < ARRAY_SIZE(read_lens); i++) {
			send_request(fd, NBD_CMD_READ, 0, i, 4000 + i,
				     read_lens[i]);
			expect_structured(fd, i, 4000 + i, read_lens[i]);
		}
		close(fd);
	}
}
END_TEST

START_TEST(holes_are_chunks_unless_df)
{
	int fd = open_export(&ct, "", CT_STRUCTURED);
	char zeroes[8192], none[8192] = { 0 };
	struct chunk chunk;

	/* 16 MiB are filled, what follows is a hole. */
	send_request(fd, NBD_CMD_READ, 0, 1, 16 * MIB - 4096, 12288);
	chunk = get_chunk(fd);
	ck_assert_uint_eq(chunk.type, NBD_CHUNK_OFFSET_DATA);
	ck_assert_uint_eq(chunk.len, 4096);
	ck_assert_uint_eq(chunk.flags, 0);
	expect_fill(fd, 16 * MIB - 4096, 4096);
	chunk = get_chunk(fd);
	ck_assert_uint_eq(chunk.type, NBD_CHUNK_OFFSET_HOLE);
	ck_assert(chunk.pos == 16 * MIB);
	ck_assert_uint_eq(chunk.len, 8192);
	ck_assert_uint_eq(chunk.flags, NBD_CHUNK_FLAG_DONE);

	send_request(fd, NBD_CMD_READ, NBD_CMD_FLAG_DF, 2, 16 * MIB - 4096,
		     12288);
	chunk = get_chunk(fd);
	ck_assert_uint_eq(chunk.type, NBD_CHUNK_OFFSET_DATA);
	ck_assert_uint_eq(chunk.len, 12288);
	expect_fill(fd, 16 * MIB - 4096, 4096);
	recv_all(fd, zeroes, sizeof(zeroes));
	ck_assert(!memcmp(zeroes, none, sizeof(zeroes)));

	/* A mebibyte of every other page: more chunks than one vector holds
	 * are one then. */
	for (uint64_t page = 4096; page < 4096 + 256; page += 2)
		fakevolume_fill(ct.rw, page * 4096, 4096);
	send_request(fd, NBD_CMD_READ, 0, 3, 16 * MIB, MIB);
	for (uint64_t pos = 16 * MIB; pos < 17 * MIB; pos += chunk.len) {
		chunk = get_chunk(fd);
		ck_assert(chunk.pos == pos);
		ck_assert_uint_eq(!!(chunk.flags & NBD_CHUNK_FLAG_DONE),
				  pos + chunk.len == 17 * MIB);
		if (chunk.type == NBD_CHUNK_OFFSET_HOLE)
			continue;
		for (uint32_t done = 0; done < chunk.len; done += 4096) {
			if ((pos + done) / 4096 % 2 == 0) {
				expect_fill(fd, pos + done, 4096);
				continue;
			}
			recv_all(fd, zeroes, 4096);
			ck_assert(!memcmp(zeroes, none, 4096));
		}
	}
	expect_alive(fd, true);
	close(fd);
}
END_TEST

START_TEST(df_is_one_chunk_or_eoverflow)
{
	int fd = open_export(&ct, "", CT_STRUCTURED);
	struct chunk chunk;

	send_request(fd, NBD_CMD_READ, NBD_CMD_FLAG_DF, 1, 0, MIB);
	chunk = get_chunk(fd);
	ck_assert_uint_eq(chunk.len, MIB);
	ck_assert_uint_eq(chunk.flags, NBD_CHUNK_FLAG_DONE);
	expect_fill(fd, 0, MIB);
	send_request(fd, NBD_CMD_READ, NBD_CMD_FLAG_DF, 2, 0, MIB + 1);
	ck_assert_uint_eq(get_chunk(fd).error, NBD_EOVERFLOW);
	expect_alive(fd, true);
	close(fd);
}
END_TEST

START_TEST(read_errors_are_told)
{
	for (size_t i = 0; i < ARRAY_SIZE(read_lens); i++) {
		int fd = open_export(&ct, "", 0);
		int sr = open_export(&ct, "", CT_STRUCTURED);

		FAKE_SET(ct.rw->miss, 1);
		FAKE_SET(ct.rw->error, -ENODEV);
		send_request(fd, NBD_CMD_READ, 0, i, 0, read_lens[i]);
		ck_assert_uint_eq(get_simple(fd, i), NBD_EIO);
		send_request(sr, NBD_CMD_READ, 0, i, 0, read_lens[i]);
		ck_assert_uint_eq(get_chunk(sr).error, NBD_EIO);
		FAKE_SET(ct.rw->error, 0);
		expect_alive(fd, false);
		expect_alive(sr, true);
		close(fd);
		close(sr);
	}
}
END_TEST

START_TEST(an_error_behind_a_simple_head_disconnects)
{
	int fd = open_export(&ct, "", 0);
	struct chunk chunk;

	FAKE_SET(ct.rw->miss, 1);
	FAKE_SET(ct.rw->error_after, 2);
	FAKE_SET(ct.rw->error, -EIO);
	send_request(fd, NBD_CMD_READ, 0, 1, 0, 4 * MIB);
	ck_assert_uint_eq(get_simple(fd, 1), 0);
	expect_close(fd, 2 * MIB);

	/* Under structured replies that is an error like any other. */
	fd = open_export(&ct, "", CT_STRUCTURED);
	FAKE_SET(ct.rw->error_after, 2);
	send_request(fd, NBD_CMD_READ, 0, 1, 0, 4 * MIB);
	for (int i = 0; i < 2; i++) {
		chunk = get_chunk(fd);
		ck_assert_uint_eq(chunk.type, NBD_CHUNK_OFFSET_DATA);
		expect_fill(fd, chunk.pos, chunk.len);
	}
	chunk = get_chunk(fd);
	ck_assert_uint_eq(chunk.error, NBD_EIO);
	ck_assert_uint_eq(chunk.flags, NBD_CHUNK_FLAG_DONE);
	FAKE_SET(ct.rw->error, 0);
	expect_alive(fd, true);
	close(fd);
}
END_TEST

START_TEST(nothing_comes_between_the_pieces_of_a_simple_reply)
{
	int fd = open_export(&ct, "", 0);
	bool seen[40] = { false };

	FAKE_SET(ct.rw->relax, 1);
	for (uint64_t i = 0; i < 40; i++)
		send_request(fd, NBD_CMD_READ, 0, i, i * 4096,
			     i % 10 == 5 ? 8 * MIB + 5 : 4096);
	for (int i = 0; i < 40; i++) {
		struct nbd_wire_simple_reply reply;

		recv_all(fd, &reply, sizeof(reply));
		ck_assert(reply.magic == htobe32(NBD_SIMPLE_REPLY_MAGIC));
		ck_assert_uint_eq(reply.error, 0);
		ck_assert_uint_lt(reply.cookie, 40);
		ck_assert(!seen[reply.cookie]);
		seen[reply.cookie] = true;
		expect_fill(fd, reply.cookie * 4096,
			    reply.cookie % 10 == 5 ? 8 * MIB + 5 : 4096);
	}
	close(fd);
}
END_TEST

START_TEST(many_requests_in_flight_are_all_answered)
{
	int fd = open_export(&ct, "", 0);
	char buf[700 * sizeof(struct nbd_wire_request)];
	bool seen[700] = { false };
	size_t n = 0;

	FAKE_SET(ct.rw->miss, 1);
	FAKE_SET(ct.rw->hold, 1);
	for (uint64_t i = 0; i < 700; i++)
		n += put_request(buf + n, NBD_CMD_READ, 0, i, i * 4096, 4096);
	send_all(fd, buf, n);
	wait_for(&ct.rw->waiting, 700);
	FAKE_SET(ct.rw->hold, 0);
	for (int i = 0; i < 700; i++) {
		struct nbd_wire_simple_reply reply;

		recv_all(fd, &reply, sizeof(reply));
		ck_assert_uint_eq(reply.error, 0);
		ck_assert_uint_lt(reply.cookie, 700);
		ck_assert(!seen[reply.cookie]);
		seen[reply.cookie] = true;
		expect_fill(fd, reply.cookie * 4096, 4096);
	}
	close(fd);
}
END_TEST

START_TEST(requests_in_flight_have_a_cap_and_none_is_lost)
{
	int fd = open_export(&ct, "", 0);
	char buf[3000 * sizeof(struct nbd_wire_request)];
	size_t n = 0;

	FAKE_SET(ct.rw->dirty, 1);
	FAKE_SET(ct.rw->hold, 1);
	for (uint64_t i = 0; i < 3000; i++)
		n += put_request(buf + n, NBD_CMD_FLUSH, 0, 7, 0, 0);
	send_all(fd, buf, n);
	wait_for(&ct.rw->waiting, 1024);
	expect_silence(fd);
	ck_assert_uint_eq(FAKE_GET(ct.rw->waiting), 1024);
	FAKE_SET(ct.rw->hold, 0);
	for (int i = 0; i < 3000; i++)
		ck_assert_uint_eq(get_simple(fd, 7), 0);
	expect_silence(fd);
	close(fd);
}
END_TEST

/* ---- writes ---- */

static const uint32_t write_lens[] = {
	1, 512, 4096, 32 * KIB, 32 * KIB + 1, 64 * KIB, 64 * KIB + 1,
	256 * KIB, MIB + 7, 3 * MIB,
};

START_TEST(writes_of_all_sizes_take_every_way)
{
	/* Inline; waiting; waiting, also for frames; FUA. */
	for (int how = 0; how < 4; how++) {
		int fd = open_export(&ct, "", 0);
		uint64_t pos = 20 * MIB + 100;

		FAKE_SET(ct.rw->miss, how == 1 || how == 2);
		FAKE_SET(ct.rw->relax, how == 2);
		FAKE_SET(ct.rw->no_stages, how == 2);
		FAKE_SET(ct.rw->fua, 0);
		memset(ct.rw->data + 20 * MIB, 0, 40 * MIB);
		for (size_t i = 0; i < ARRAY_SIZE(write_lens); i++) {
			send_write(fd, how == 3 ? NBD_CMD_FLAG_FUA : 0, i, pos,
				   write_lens[i]);
			ck_assert_uint_eq(get_simple(fd, i), 0);
			expect_data(ct.rw, pos, write_lens[i]);
			expect_zeroes(ct.rw, pos - 50, 50);
			expect_zeroes(ct.rw, pos + write_lens[i], 50);
			pos += write_lens[i] + 100;
		}
		ck_assert_uint_eq(FAKE_GET(ct.rw->fua),
				  how == 3 ? ARRAY_SIZE(write_lens) : 0);
		close(fd);
	}
}
END_TEST

START_TEST(pipelined_writes_of_all_sizes)
{
	int fd = open_export(&ct, "", 0);
	uint64_t pos = 20 * MIB;
	uint32_t nr = 0;

	for (int round = 0; round < 4; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(write_lens) - 1; i++) {
			send_write(fd, 0, 9, pos, write_lens[i]);
			pos += write_lens[i];
			nr++;
		}
	}
	while (nr--)
		ck_assert_uint_eq(get_simple(fd, 9), 0);
	expect_data(ct.rw, 20 * MIB, pos - 20 * MIB);
	close(fd);
}
END_TEST

START_TEST(write_errors_are_told)
{
	for (size_t i = 0; i < ARRAY_SIZE(write_lens); i++) {
		int fd = open_export(&ct, "", 0);

		FAKE_SET(ct.rw->miss, 1);
		FAKE_SET(ct.rw->no_stages, i % 2);
		FAKE_SET(ct.rw->error, -EDQUOT);
		send_write(fd, 0, i, 20 * MIB, write_lens[i]);
		ck_assert_uint_eq(get_simple(fd, i), NBD_ENOSPC);
		FAKE_SET(ct.rw->error, 0);
		expect_alive(fd, false);
		expect_zeroes(ct.rw, 20 * MIB, write_lens[i]);
		close(fd);
	}
}
END_TEST

START_TEST(t03_half_received_write_changes_nothing)
{
	for (size_t i = 0; i < ARRAY_SIZE(write_lens); i++) {
		uint32_t len = write_lens[i];
		int fd = open_export(&ct, "", 0);
		int other = open_export(&ct, "", 0);
		char *data = filled(20 * MIB, len);

		send_request(fd, NBD_CMD_WRITE, 0, 1, 20 * MIB, len);
		send_all(fd, data, len - 1);
		expect_alive(other, false);
		expect_zeroes(ct.rw, 20 * MIB, len);
		close(fd);
		close(other);
		conntest_wait_conns(&ct, 0);
		expect_zeroes(ct.rw, 20 * MIB, len);
		ck_assert_uint_eq(FAKE_GET(fake_stages), 0);
		free(data);
	}
}
END_TEST

START_TEST(a_client_may_die_while_its_write_waits_for_memory)
{
	int fd = open_export(&ct, "", 0);

	FAKE_SET(ct.rw->no_stages, 1);
	FAKE_SET(ct.rw->hold, 1);
	send_request(fd, NBD_CMD_WRITE, 0, 1, 20 * MIB, MIB);
	send_all(fd, ct.rw->data, 4096);
	wait_for(&ct.rw->waiting, 1);
	close(fd);
	fd = open_export(&ct, "", 0);
	expect_alive(fd, false);
	FAKE_SET(ct.rw->hold, 0);
	close(fd);
	conntest_wait_conns(&ct, 0);
	ck_assert_uint_eq(FAKE_GET(fake_stages), 0);
	expect_zeroes(ct.rw, 20 * MIB, MIB);
}
END_TEST

static void send_zeroes(int fd, size_t len)
{
	static const char zeroes[65536];

	while (len) {
		size_t n = MIN(len, sizeof(zeroes));

		send_all(fd, zeroes, n);
		len -= n;
	}
}

START_TEST(a_stalled_payload_goes_once_others_wait_for_its_memory)
{
	struct conn_shared shared = { .stall_timeout_ns = 20 * NSEC_PER_MSEC };
	char *data = filled(20 * MIB, MIB);
	int slow, stalled, other;

	conntest_stop(&ct);
	conntest_start(&ct, &shared);
	stalled = open_export(&ct, "", 0);
	send_request(stalled, NBD_CMD_WRITE, 0, 1, 30 * MIB, 100 * KIB);
	send_all(stalled, data, 50 * KIB);
	/* Long over the time; but nobody minds. */
	slow = open_export(&ct, "", 0);
	send_request(slow, NBD_CMD_WRITE, 0, 1, 20 * MIB, MIB);
	for (int i = 0; i < 16; i++) {
		send_all(slow, data + i * 64 * KIB, 64 * KIB);
		nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	}
	ck_assert_uint_eq(get_simple(slow, 1), 0);
	expect_data(ct.rw, 20 * MIB, MIB);
	wait_for(&fake_stages, 1);

	FAKE_SET(ct.rw->no_stages, 1);
	FAKE_SET(ct.rw->hold, 1);
	other = open_export(&ct, "", 0);
	send_write(other, 0, 2, 25 * MIB, 100 * KIB);
	expect_close(stalled, 0);
	wait_for(&fake_stages, 0);
	FAKE_SET(ct.rw->hold, 0);
	ck_assert_uint_eq(get_simple(other, 2), 0);
	expect_data(ct.rw, 25 * MIB, 100 * KIB);
	expect_zeroes(ct.rw, 30 * MIB, 100 * KIB);
	free(data);
	close(slow);
	close(other);
}
END_TEST

START_TEST(payloads_of_refused_writes_are_drained)
{
	static const struct {
		const char *export;
		uint16_t flags;
		uint64_t pos;
		uint32_t len;
		enum nbd_error error;
	} cases[] = {
		{ "ro", 0, 0, 4096, NBD_EPERM },
		{ "ro", 0, 0, 3 * MIB, NBD_EPERM },
		{ "rw", NBD_CMD_FLAG_DF, 0, 512, NBD_EINVAL },
		{ "rw", NBD_CMD_FLAG_NO_HOLE, 0, 100 * KIB, NBD_EINVAL },
		{ "rw", 0x8000, 0, 1, NBD_EINVAL },
		{ "rw", 0, CT_SIZE, 100, NBD_ENOSPC },
		{ "rw", 0, CT_SIZE - 512, 200 * KIB, NBD_ENOSPC },
		{ "rw", 0, UINT64_MAX - 100, 4096, NBD_ENOSPC },
		{ "rw", 0, 0, 64 * MIB + 1, NBD_EINVAL },
		{ "rw", 0, 0, 128 * MIB, NBD_EINVAL },
		{ "b4k", 0, 512, 4096, NBD_EINVAL },
		{ "b4k", 0, 0, 100 * KIB - 1, NBD_EINVAL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		bool sr = i % 2;
		int fd = open_export(&ct, cases[i].export,
				     sr ? CT_STRUCTURED : 0);

		send_request(fd, NBD_CMD_WRITE, cases[i].flags, i,
			     cases[i].pos, cases[i].len);
		send_zeroes(fd, cases[i].len);
		if (sr) {
			struct chunk chunk = get_chunk(fd);

			ck_assert_uint_eq(chunk.error, cases[i].error);
			ck_assert_uint_gt(strlen(chunk.text), 0);
		} else {
			ck_assert_uint_eq(get_simple(fd, i), cases[i].error);
		}
		expect_alive(fd, sr);
		close(fd);
	}
	ck_assert_uint_eq(FAKE_GET(ct.rw->writes), 0);
}
END_TEST

START_TEST(a_payload_over_128_mib_closes)
{
	int fd = open_export(&ct, "", 0);

	send_request(fd, NBD_CMD_WRITE, 0, 1, 0, 128 * MIB + 1);
	expect_close(fd, 0);
	fd = open_export(&ct, "", 0);
	send_request(fd, NBD_CMD_WRITE, 0, 1, 0, UINT32_MAX);
	expect_close(fd, 0);
}
END_TEST

START_TEST(a_bad_magic_closes_behind_the_answers)
{
	int fd = open_export(&ct, "", 0);
	char buf[2 * sizeof(struct nbd_wire_request)];
	size_t n = put_request(buf, NBD_CMD_FLUSH, 0, 1, 0, 0);

	memset(buf + n, 'x', sizeof(buf) - n);
	send_all(fd, buf, sizeof(buf));
	ck_assert_uint_eq(get_simple(fd, 1), 0);
	expect_close(fd, 0);
}
END_TEST

/* ---- the others ---- */

START_TEST(requests_of_no_bytes_succeed)
{
	static const uint16_t types[] = {
		NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_CACHE,
		NBD_CMD_WRITE_ZEROES, NBD_CMD_BLOCK_STATUS,
	};
	int fd = open_export(&ct, "rw", CT_META);
	int plain = open_export(&ct, "rw", 0);

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		send_request(fd, types[i], 0, i, 4096, 0);
		if (types[i] == NBD_CMD_READ ||
		    types[i] == NBD_CMD_BLOCK_STATUS) {
			struct chunk chunk = get_chunk(fd);

			ck_assert_uint_eq(chunk.type, NBD_CHUNK_NONE);
			ck_assert_uint_eq(chunk.flags, NBD_CHUNK_FLAG_DONE);
		} else {
			ck_assert_uint_eq(get_simple(fd, i), 0);
		}
	}
	send_request(plain, NBD_CMD_READ, 0, 1, 4096, 0);
	ck_assert_uint_eq(get_simple(plain, 1), 0);
	expect_alive(plain, false);
	close(fd);
	close(plain);
}
END_TEST

START_TEST(unknown_commands_and_lost_flags_leave_it_alive)
{
	int fd = open_export(&ct, "rw", 0);
	uint64_t cookie = UINT64_C(0xfedcba9876543210);

	send_request(fd, 8, 0, cookie, 0, 4096);
	ck_assert_uint_eq(get_simple(fd, cookie), NBD_EINVAL);
	send_request(fd, 0xffff, 0, cookie, 0, UINT32_MAX);
	ck_assert_uint_eq(get_simple(fd, cookie), NBD_EINVAL);
	/* DF needs structured replies, BLOCK_STATUS a context. */
	send_request(fd, NBD_CMD_READ, NBD_CMD_FLAG_DF, cookie, 0, 512);
	ck_assert_uint_eq(get_simple(fd, cookie), NBD_EINVAL);
	send_request(fd, NBD_CMD_BLOCK_STATUS, 0, cookie, 0, 512);
	ck_assert_uint_eq(get_simple(fd, cookie), NBD_EINVAL);
	expect_alive(fd, false);
	close(fd);
}
END_TEST

START_TEST(trim_and_zeroes_go_in_pieces_but_fast_ones)
{
	int fd = open_export(&ct, "rw", 0);

	send_request(fd, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FUA, 1, 4097,
		     CT_SIZE - 4097);
	ck_assert_uint_eq(get_simple(fd, 1), 0);
	expect_data(ct.rw, 0, 4097);
	expect_zeroes(ct.rw, 4097, CT_SIZE - 4097);
	ck_assert_uint_eq(FAKE_GET(ct.rw->zeroes), 1);
	ck_assert_uint_eq(FAKE_GET(ct.rw->fua), 1);
	send_request(fd, NBD_CMD_TRIM, 0, 2, 0, CT_SIZE);
	ck_assert_uint_eq(get_simple(fd, 2), 0);
	expect_zeroes(ct.rw, 0, 4097);
	ct.rw->vol.can_fast_zero = false;
	send_request(fd, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, 3, 0,
		     4096);
	ck_assert_uint_eq(get_simple(fd, 3), NBD_ENOTSUP);
	send_request(fd, NBD_CMD_CACHE, 0, 4, 0, CT_SIZE);
	ck_assert_uint_eq(get_simple(fd, 4), 0);
	ck_assert_uint_eq(FAKE_GET(ct.rw->prefetches), 1);
	close(fd);
}
END_TEST

START_TEST(flush_waits_only_if_there_is_something)
{
	int fd = open_export(&ct, "rw", 0);

	send_request(fd, NBD_CMD_FLUSH, NBD_CMD_FLAG_FUA, 1, 0, 0);
	ck_assert_uint_eq(get_simple(fd, 1), 0);
	ck_assert_uint_eq(FAKE_GET(ct.rw->flushes), 0);
	FAKE_SET(ct.rw->dirty, 1);
	send_request(fd, NBD_CMD_FLUSH, 0, 2, 0, 0);
	ck_assert_uint_eq(get_simple(fd, 2), 0);
	ck_assert_uint_eq(FAKE_GET(ct.rw->flushes), 1);
	FAKE_SET(ct.rw->error, -EIO);
	send_request(fd, NBD_CMD_FLUSH, 0, 3, 0, 0);
	ck_assert_uint_eq(get_simple(fd, 3), NBD_EIO);
	close(fd);
}
END_TEST

static unsigned int status(int fd, uint16_t flags, uint64_t pos, uint32_t len,
			   struct nbd_wire_extent *extents)
{
	struct chunk chunk;

	send_request(fd, NBD_CMD_BLOCK_STATUS, flags, 77, pos, len);
	chunk = get_chunk(fd);
	ck_assert_uint_eq(chunk.type, NBD_CHUNK_BLOCK_STATUS);
	ck_assert_uint_eq(chunk.flags, NBD_CHUNK_FLAG_DONE);
	ck_assert_uint_ge(chunk.len, sizeof(*extents));
	ck_assert_uint_le(chunk.len, 512 * sizeof(*extents));
	recv_all(fd, extents, chunk.len);
	return chunk.len / sizeof(*extents);
}

START_TEST(block_status_covers_what_is_asked)
{
	struct nbd_wire_extent extents[512];
	int fd = open_export(&ct, "rw", CT_META);
	uint64_t sum = 0;

	ck_assert_uint_eq(status(fd, 0, MIB, CT_SIZE - MIB, extents), 2);
	ck_assert_uint_eq(be32toh(extents[0].len), 15 * MIB);
	ck_assert_uint_eq(be32toh(extents[0].flags), 0);
	ck_assert_uint_eq(be32toh(extents[1].len), CT_SIZE - 16 * MIB);
	ck_assert_uint_eq(be32toh(extents[1].flags),
			  NBD_STATE_HOLE | NBD_STATE_ZERO);
	ck_assert_uint_eq(status(fd, NBD_CMD_FLAG_REQ_ONE, 16 * MIB - 100, 300,
				 extents), 1);
	ck_assert_uint_eq(be32toh(extents[0].len), 100);
	/* More extents than a reply has: as many as fit. */
	for (uint64_t page = 8192; page < 8192 + 1024; page += 2)
		fakevolume_fill(ct.rw, page * 4096, 4096);
	ck_assert_uint_eq(status(fd, 0, 8192 * 4096, 4 * MIB, extents), 512);
	for (int i = 0; i < 512; i++) {
		ck_assert_uint_gt(be32toh(extents[i].len), 0);
		sum += be32toh(extents[i].len);
	}
	ck_assert(sum == 512 * 4096);
	FAKE_SET(ct.rw->error, -EIO);
	send_request(fd, NBD_CMD_BLOCK_STATUS, 0, 78, 0, 4096);
	ck_assert_uint_eq(get_chunk(fd).error, NBD_EIO);
	close(fd);
}
END_TEST

/* ---- the end ---- */

START_TEST(disc_finishes_what_is_in_flight)
{
	int fd = open_export(&ct, "", 0);

	FAKE_SET(ct.rw->miss, 1);
	FAKE_SET(ct.rw->hold, 1);
	for (uint64_t i = 0; i < 20; i++)
		send_request(fd, NBD_CMD_READ, 0, 5, 4096, 4096);
	send_request(fd, NBD_CMD_DISC, 0, 99, 0, 0);
	wait_for(&ct.rw->waiting, 20);
	expect_silence(fd);
	FAKE_SET(ct.rw->hold, 0);
	for (int i = 0; i < 20; i++) {
		ck_assert_uint_eq(get_simple(fd, 5), 0);
		expect_fill(fd, 4096, 4096);
	}
	expect_close(fd, 0);
}
END_TEST

START_TEST(half_a_close_finishes_what_is_in_flight)
{
	int fd = open_export(&ct, "", 0);

	FAKE_SET(ct.rw->miss, 1);
	FAKE_SET(ct.rw->hold, 1);
	send_request(fd, NBD_CMD_READ, 0, 5, 4096, 2 * MIB);
	shutdown(fd, SHUT_WR);
	wait_for(&ct.rw->waiting, 1);
	FAKE_SET(ct.rw->hold, 0);
	ck_assert_uint_eq(get_simple(fd, 5), 0);
	expect_fill(fd, 4096, 2 * MIB);
	expect_close(fd, 0);
}
END_TEST

START_TEST(a_client_may_die_with_requests_in_flight)
{
	int fd = open_export(&ct, "", 0), sr = open_export(&ct, "", CT_META);

	FAKE_SET(ct.rw->miss, 1);
	FAKE_SET(ct.rw->hold, 1);
	FAKE_SET(ct.rw->dirty, 1);
	send_request(fd, NBD_CMD_READ, 0, 1, 0, 4096);
	send_request(fd, NBD_CMD_READ, 0, 1, 0, 3 * MIB);
	send_request(fd, NBD_CMD_FLUSH, 0, 1, 0, 0);
	send_write(fd, 0, 1, 0, 4096);
	send_write(fd, 0, 1, 0, 100 * KIB);
	send_request(sr, NBD_CMD_READ, 0, 1, 0, 3 * MIB);
	send_request(sr, NBD_CMD_BLOCK_STATUS, 0, 1, 0, 3 * MIB);
	wait_for(&ct.rw->waiting, 7);
	close(fd);
	close(sr);
	FAKE_SET(ct.rw->hold, 0);
	conntest_wait_conns(&ct, 0);
	ck_assert_uint_ge(FAKE_GET(ct.idle), 1);
}
END_TEST

START_TEST(who_leaves_and_takes_no_answers_is_closed)
{
	struct conn_shared shared = { .stall_timeout_ns = 20 * NSEC_PER_MSEC };
	int fd, staying;

	conntest_stop(&ct);
	conntest_start(&ct, &shared);
	fakevolume_fill(ct.rw, 0, 16 * MIB);
	staying = open_export(&ct, "", 0);
	send_request(staying, NBD_CMD_READ, 0, 1, 0, 15 * MIB);
	for (int how = 0; how < 2; how++) {
		fd = open_export(&ct, "", 0);
		send_request(fd, NBD_CMD_READ, 0, 1, 0, 15 * MIB);
		if (how)
			send_request(fd, NBD_CMD_DISC, 0, 2, 0, 0);
		else
			shutdown(fd, SHUT_WR);
		conntest_wait_conns(&ct, 1);
		close(fd);
	}
	/* Who does not leave may be as slow as it likes. */
	ck_assert_uint_eq(get_simple(staying, 1), 0);
	expect_fill(staying, 0, 15 * MIB);
	close(staying);
}
END_TEST

START_TEST(draining_answers_what_was_taken_up)
{
	int fd = open_export(&ct, "", 0), idle = open_export(&ct, "", 0);

	FAKE_SET(ct.rw->miss, 1);
	FAKE_SET(ct.rw->hold, 1);
	send_request(fd, NBD_CMD_READ, 0, 1, 4096, 4096);
	wait_for(&ct.rw->waiting, 1);
	conntest_drain(&ct, 3600 * NSEC_PER_SEC);
	send_request(fd, NBD_CMD_FLUSH, 0, 2, 0, 0);
	ck_assert_uint_eq(get_simple(fd, 2), NBD_ESHUTDOWN);
	send_write(fd, 0, 3, 0, 100 * KIB);
	ck_assert_uint_eq(get_simple(fd, 3), NBD_ESHUTDOWN);
	FAKE_SET(ct.rw->hold, 0);
	ck_assert_uint_eq(get_simple(fd, 1), 0);
	expect_fill(fd, 4096, 4096);
	send_request(fd, NBD_CMD_DISC, 0, 2, 0, 0);
	expect_close(fd, 0);
	close(idle);
	wait_for(&ct.idle, 1);
}
END_TEST

START_TEST(the_deadline_closes_who_is_idle_and_then_who_was_not)
{
	int fd = open_export(&ct, "", 0), idle = open_export(&ct, "", 0);
	int stalled = open_export(&ct, "ro", 0);

	send_request(stalled, NBD_CMD_READ, 0, 1, 0, 15 * MIB);
	get_simple(stalled, 1);
	FAKE_SET(ct.rw->miss, 1);
	FAKE_SET(ct.rw->hold, 1);
	send_request(fd, NBD_CMD_READ, 0, 1, 4096, 4096);
	wait_for(&ct.rw->waiting, 1);
	conntest_drain(&ct, NSEC_PER_MSEC);
	expect_close(idle, 0);
	FAKE_SET(ct.rw->hold, 0);
	ck_assert_uint_eq(get_simple(fd, 1), 0);
	expect_fill(fd, 4096, 4096);
	expect_close(fd, 0);
	/* It reads nothing, and nobody waits for it. */
	conntest_wait_conns(&ct, 0);
	close(stalled);
}
END_TEST

/* ---- memory ---- */

START_TEST(a_client_that_does_not_read_holds_a_bounded_share)
{
	struct conn_shared shared = { .reply_budget = 8 * MIB };
	char buf[512 * sizeof(struct nbd_wire_request)];
	size_t n = 0;
	int fd, other;

	conntest_stop(&ct);
	conntest_start(&ct, &shared);
	fakevolume_fill(ct.rw, 0, 16 * MIB);
	for (int how = 0; how < 2; how++) {
		fd = open_export(&ct, "", 0);
		FAKE_SET(ct.rw->miss, how);
		FAKE_SET(ct.rw->relax, how);
		FAKE_SET(fake_pinned_max, 0);
		n = 0;
		for (uint64_t i = 0; i < 512; i++)
			n += put_request(buf + n, NBD_CMD_READ, 0, 5,
					 4096 * i, 256 * KIB);
		send_all(fd, buf, n);
		other = open_export(&ct, "", 0);
		for (int i = 0; i < 50; i++)
			expect_alive(other, false);
		/* Half of the budget, and what of a vector is sent but not
		 * yet released. */
		ck_assert_uint_le(FAKE_GET(fake_pinned_max), 6 * MIB);
		ck_assert_uint_ge(FAKE_GET(fake_pinned_max), 2 * MIB);
		for (uint64_t i = 0; i < 512; i++) {
			char *data = malloc(256 * KIB);

			ck_assert_uint_eq(get_simple(fd, 5), 0);
			/* Hits come in order. */
			if (how)
				recv_all(fd, data, 256 * KIB);
			else
				expect_fill(fd, 4096 * i, 256 * KIB);
			free(data);
		}
		close(fd);
		close(other);
	}
}
END_TEST

START_TEST(small_reads_of_many_pages_do_not_pin_them_all)
{
	struct conn_shared shared = { .reply_budget = 8 * MIB };
	enum { NR = 4096, LARGE = 8 };
	size_t max = NR * sizeof(struct nbd_wire_request), n = 0;
	char *buf = malloc(max);
	int fd, other;

	conntest_stop(&ct);
	conntest_start(&ct, &shared);
	fakevolume_fill(ct.rw, 0, 16 * MIB);
	fd = open_export(&ct, "", 0);
	other = open_export(&ct, "", 0);
	/* What fills the socket, so that all else waits. */
	for (int i = 0; i < LARGE; i++)
		send_request(fd, NBD_CMD_READ, 0, 1, 0, 256 * KIB);
	expect_alive(other, false);
	for (uint64_t i = 0; i < NR; i++)
		n += put_request(buf + n, NBD_CMD_READ, 0, 2, 4096 * i, 1);
	send_all(fd, buf, n);
	/* As many pages as its share of the budget has. */
	for (int i = 0; i < 50; i++)
		expect_alive(other, false);
	ck_assert_uint_le(FAKE_GET(fake_pins), 4 * MIB / 4096);
	for (int i = 0; i < LARGE; i++) {
		ck_assert_uint_eq(get_simple(fd, 1), 0);
		expect_fill(fd, 0, 256 * KIB);
	}
	for (uint64_t i = 0; i < NR; i++) {
		ck_assert_uint_eq(get_simple(fd, 2), 0);
		expect_fill(fd, 4096 * i, 1);
	}
	free(buf);
	close(fd);
	close(other);
}
END_TEST

START_TEST(a_large_read_never_pins_more_than_a_few_pieces)
{
	for (int sr = 0; sr < 2; sr++) {
		int fd = open_export(&ct, "", sr ? CT_STRUCTURED : 0);

		FAKE_SET(fake_pinned_max, 0);
		send_request(fd, NBD_CMD_READ, 0, 1, 0, 16 * MIB);
		if (sr) {
			expect_structured(fd, 1, 0, 16 * MIB);
		} else {
			ck_assert_uint_eq(get_simple(fd, 1), 0);
			expect_fill(fd, 0, 16 * MIB);
		}
		ck_assert_uint_le(FAKE_GET(fake_pinned_max), 4 * MIB);
		close(fd);
	}
}
END_TEST

START_TEST(many_stalled_clients_starve_nobody)
{
	struct conn_shared shared = { .reply_budget = 4 * MIB };
	int stalled[24], fd;

	conntest_stop(&ct);
	conntest_start(&ct, &shared);
	fakevolume_fill(ct.rw, 0, 16 * MIB);
	for (size_t i = 0; i < ARRAY_SIZE(stalled); i++) {
		stalled[i] = open_export(&ct, "", 0);
		for (int k = 0; k < 16; k++)
			send_request(stalled[i], NBD_CMD_READ, 0, 1, 0,
				     512 * KIB);
	}
	fd = open_export(&ct, "", 0);
	send_request(fd, NBD_CMD_READ, 0, 1, 0, 8 * MIB);
	ck_assert_uint_eq(get_simple(fd, 1), 0);
	expect_fill(fd, 0, 8 * MIB);
	send_write(fd, NBD_CMD_FLAG_FUA, 2, 20 * MIB, 64 * KIB);
	ck_assert_uint_eq(get_simple(fd, 2), 0);
	close(fd);
	/* What is over the budget is copied: not one of them pins more. */
	ck_assert_uint_le(FAKE_GET(fake_pinned_bytes), 5 * MIB);
	for (int k = 0; k < 16; k++) {
		ck_assert_uint_eq(get_simple(stalled[23], 1), 0);
		expect_fill(stalled[23], 0, 512 * KIB);
	}
	for (size_t i = 0; i < ARRAY_SIZE(stalled); i++)
		close(stalled[i]);
	conntest_wait_conns(&ct, 0);
}
END_TEST

START_TEST(pipes_serve_as_well)
{
	char req[sizeof(struct nbd_wire_request)];
	char buf[sizeof(struct nbd_greeting)];
	uint32_t flags = htobe32(3);
	int to[2], from[2];

	ck_assert_int_eq(pipe(to), 0);
	ck_assert_int_eq(pipe(from), 0);
	ck_assert_int_eq(conntest_start_fds(&ct, to[0], from[1]), 0);
	recv_all(from[0], buf, sizeof(buf));
	ck_assert_int_eq(write(to[1], &flags, 4), 4);
	ck_assert_int_eq(write(to[1], "IHAVEOPT\0\0\0\7\0\0\0\10\0\0\0\2rw\0",
			       24), 24);
	ck_assert_uint_eq(get_final_reply(from[0], NBD_OPT_GO), NBD_REP_ACK);
	put_request(req, NBD_CMD_READ, 0, 3, 0, 2 * MIB);
	ck_assert_int_eq(write(to[1], req, sizeof(req)), sizeof(req));
	ck_assert_uint_eq(get_simple(from[0], 3), 0);
	expect_fill(from[0], 0, 2 * MIB);
	close(to[1]);
	ck_assert_int_eq(read(from[0], buf, 1), 0);
	close(from[0]);
}
END_TEST

static TCase *reads_and_writes(void)
{
	TCase *tc = tcase_create("reads and writes");

	tcase_add_test(tc, reads_of_all_sizes_hit_or_miss);
	tcase_add_test(tc, structured_reads_of_all_sizes_hit_or_miss);
	tcase_add_test(tc, holes_are_chunks_unless_df);
	tcase_add_test(tc, df_is_one_chunk_or_eoverflow);
	tcase_add_test(tc, read_errors_are_told);
	tcase_add_test(tc, an_error_behind_a_simple_head_disconnects);
	tcase_add_test(tc, nothing_comes_between_the_pieces_of_a_simple_reply);
	tcase_add_test(tc, many_requests_in_flight_are_all_answered);
	tcase_add_test(tc, requests_in_flight_have_a_cap_and_none_is_lost);
	tcase_add_test(tc, writes_of_all_sizes_take_every_way);
	tcase_add_test(tc, pipelined_writes_of_all_sizes);
	tcase_add_test(tc, write_errors_are_told);
	tcase_add_test(tc, t03_half_received_write_changes_nothing);
	tcase_add_test(tc, a_client_may_die_while_its_write_waits_for_memory);
	tcase_add_test(tc, a_stalled_payload_goes_once_others_wait_for_its_memory);
	tcase_add_test(tc, payloads_of_refused_writes_are_drained);
	tcase_add_test(tc, a_payload_over_128_mib_closes);
	tcase_add_test(tc, a_bad_magic_closes_behind_the_answers);
	return tc;
}

static TCase *the_rest(void)
{
	TCase *tc = tcase_create("the rest");

	tcase_add_test(tc, requests_of_no_bytes_succeed);
	tcase_add_test(tc, unknown_commands_and_lost_flags_leave_it_alive);
	tcase_add_test(tc, trim_and_zeroes_go_in_pieces_but_fast_ones);
	tcase_add_test(tc, flush_waits_only_if_there_is_something);
	tcase_add_test(tc, block_status_covers_what_is_asked);
	tcase_add_test(tc, disc_finishes_what_is_in_flight);
	tcase_add_test(tc, half_a_close_finishes_what_is_in_flight);
	tcase_add_test(tc, a_client_may_die_with_requests_in_flight);
	tcase_add_test(tc, who_leaves_and_takes_no_answers_is_closed);
	tcase_add_test(tc, draining_answers_what_was_taken_up);
	tcase_add_test(tc, the_deadline_closes_who_is_idle_and_then_who_was_not);
	tcase_add_test(tc, a_client_that_does_not_read_holds_a_bounded_share);
	tcase_add_test(tc, small_reads_of_many_pages_do_not_pin_them_all);
	tcase_add_test(tc, a_large_read_never_pins_more_than_a_few_pieces);
	tcase_add_test(tc, many_stalled_clients_starve_nobody);
	tcase_add_test(tc, pipes_serve_as_well);
	return tc;
}

int main(void)
{
	Suite *suite = suite_create("conn");
	TCase *cases[] = { reads_and_writes(), the_rest() };
	SRunner *runner;
	int failed;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		tcase_add_checked_fixture(cases[i], setup, teardown);
		tcase_set_timeout(cases[i], 60);
		suite_add_tcase(suite, cases[i]);
	}
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
