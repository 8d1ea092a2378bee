/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_nbd_proto.c - options, requests and replies as bytes.
 */
#include <check.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "proto/handshake.h"
#include "proto/reply.h"
#include "proto/request.h"

static size_t add32(char *p, uint32_t val)
{
	val = htobe32(val);
	memcpy(p, &val, sizeof(val));
	return sizeof(val);
}

static size_t add16(char *p, uint16_t val)
{
	val = htobe16(val);
	memcpy(p, &val, sizeof(val));
	return sizeof(val);
}

/* The data of INFO with what it claims to hold, behind a name of "rw". */
static int parse_info(uint32_t name_len, uint16_t nr, size_t len)
{
	struct nbd_info_request req;
	char data[32] = { 0 };
	size_t n = add32(data, name_len);
	char *exact;
	int ret;

	memcpy(data + n, "rw", 2);
	add16(data + n + 2, nr);
	/* On the heap, so that a sanitizer sees a byte too many. */
	exact = malloc(len ? len : 1);
	memcpy(exact, data, len);
	ret = nbd_get_info(exact, len, &req);
	free(exact);
	return ret;
}

START_TEST(info_must_fill_its_option_exactly)
{
	ck_assert_int_eq(parse_info(2, 0, 8), 0);
	ck_assert_int_eq(parse_info(2, 1, 10), 0);
	ck_assert_int_eq(parse_info(0, 0, 0), -EINVAL);
	ck_assert_int_eq(parse_info(0, 0, 3), -EINVAL);
	ck_assert_int_eq(parse_info(0, 0, 5), -EINVAL);
	ck_assert_int_eq(parse_info(3, 0, 8), -EINVAL);
	ck_assert_int_eq(parse_info(UINT32_MAX, 0, 8), -EINVAL);
	ck_assert_int_eq(parse_info(UINT32_C(0xfffffffa), 0, 8), -EINVAL);
	ck_assert_int_eq(parse_info(2, 1, 8), -EINVAL);
	ck_assert_int_eq(parse_info(2, 0xffff, 8), -EINVAL);
	ck_assert_int_eq(parse_info(2, 0, 10), -EINVAL);
	ck_assert_int_eq(parse_info(2, 1, 9), -EINVAL);
	ck_assert_int_eq(parse_info(2, 1, 32), -EINVAL);
}
END_TEST

START_TEST(info_names_what_it_wants)
{
	struct nbd_info_request req;
	char data[64];
	size_t n = add32(data, 2);

	memcpy(data + n, "rw", 2);
	n += 2;
	n += add16(data + n, 3);
	n += add16(data + n, NBD_INFO_BLOCK_SIZE);
	n += add16(data + n, 0x4242);
	n += add16(data + n, NBD_INFO_NAME);
	ck_assert_int_eq(nbd_get_info(data, n, &req), 0);
	ck_assert(req.wants_block_size && req.wants_name);
	ck_assert(!req.wants_description);
	ck_assert_uint_eq(req.name_len, 2);
	ck_assert_int_eq(memcmp(req.name, "rw", 2), 0);
}
END_TEST

START_TEST(names_have_a_bound_and_no_nul)
{
	static char data[8192];
	struct nbd_info_request req;

	memset(data, 'n', sizeof(data));
	add32(data, 4096);
	add16(data + 4 + 4096, 0);
	ck_assert_int_eq(nbd_get_info(data, 6 + 4096, &req), 0);
	add32(data, 4097);
	data[4 + 4096] = 'n';
	add16(data + 4 + 4097, 0);
	ck_assert_int_eq(nbd_get_info(data, 6 + 4097, &req), -EINVAL);
	add32(data, 100);
	add16(data + 104, 0);
	data[50] = '\0';
	ck_assert_int_eq(nbd_get_info(data, 106, &req), -EINVAL);
}
END_TEST

static int parse_meta(uint32_t nr, const char *const *queries,
		      uint32_t extra_len, size_t cut,
		      struct nbd_meta_request *req)
{
	char data[256], *exact;
	size_t n = add32(data, 2);
	int ret;

	memcpy(data + n, "rw", 2);
	n += 2;
	n += add32(data + n, nr);
	for (; queries && *queries; queries++) {
		n += add32(data + n, strlen(*queries) + extra_len);
		memcpy(data + n, *queries, strlen(*queries));
		n += strlen(*queries);
	}
	n -= cut;
	exact = malloc(n);
	memcpy(exact, data, n);
	ret = nbd_get_meta(exact, n, req);
	free(exact);
	return ret;
}

START_TEST(meta_queries_are_told_apart)
{
	static const char *const all[] = {
		"x-unknown:foo", "base:nonsense", "base:allocation", NULL
	};
	static const char *const base[] = { "base:", NULL };
	static const char *const near[] = {
		"Base:allocation", "base:allocation2", "base", NULL
	};
	struct nbd_meta_request req;

	ck_assert_int_eq(parse_meta(3, all, 0, 0, &req), 0);
	ck_assert(req.allocation && !req.all_base);
	ck_assert_int_eq(parse_meta(1, base, 0, 0, &req), 0);
	ck_assert(!req.allocation && req.all_base);
	ck_assert_int_eq(parse_meta(3, near, 0, 0, &req), 0);
	ck_assert(!req.allocation && !req.all_base);
	ck_assert_int_eq(parse_meta(0, NULL, 0, 0, &req), 0);
	ck_assert_uint_eq(req.nr_queries, 0);
}
END_TEST

START_TEST(meta_queries_must_fill_their_option_exactly)
{
	static const char *const one[] = { "base:allocation", NULL };
	struct nbd_meta_request req;

	ck_assert_int_eq(parse_meta(1, one, 1, 0, &req), -EINVAL);
	ck_assert_int_eq(parse_meta(1, one, UINT32_C(0xfffffff0), 0, &req),
			 -EINVAL);
	ck_assert_int_eq(parse_meta(2, one, 0, 0, &req), -EINVAL);
	ck_assert_int_eq(parse_meta(UINT32_MAX, one, 0, 0, &req), -EINVAL);
	ck_assert_int_eq(parse_meta(0, one, 0, 0, &req), -EINVAL);
	for (size_t cut = 1; cut < 29; cut++)
		ck_assert_int_eq(parse_meta(1, one, 0, cut, &req), -EINVAL);
}
END_TEST

START_TEST(only_offered_client_flags_are_taken)
{
	uint32_t flags, bit;

	for (unsigned int i = 0; i < 32; i++) {
		bit = htobe32(UINT32_C(1) << i);
		ck_assert_int_eq(nbd_get_client_flags(&bit, &flags),
				 i < 2 ? 0 : -EPROTO);
	}
}
END_TEST

/* ---- requests ---- */

#define ALL_FLAGS (NBD_HAS_FLAGS | NBD_SEND_FLUSH | NBD_SEND_FUA | \
		   NBD_SEND_TRIM | NBD_SEND_WRITE_ZEROES | NBD_SEND_DF | \
		   NBD_CAN_MULTI_CONN | NBD_SEND_CACHE | NBD_SEND_FAST_ZERO)

static const struct nbd_session usual = {
	.size = 1 << 20,
	.block_min = 1,
	.payload_max = 64 << 20,
	.flags = ALL_FLAGS,
	.structured = true,
	.allocation = true,
};

static enum nbd_error check(const struct nbd_session *session, uint16_t type,
			    uint16_t flags, uint64_t pos, uint32_t len)
{
	struct nbd_request req = {
		.type = type, .flags = flags, .pos = pos, .len = len,
	};
	const char *text = NULL;
	enum nbd_error error = nbd_check_request(session, &req, &text);

	ck_assert_msg(!error || text, "no text for error %u", error);
	return error;
}

START_TEST(each_flag_is_held_against_its_command)
{
	/* Beside FUA, which is valid for all. */
	static const uint16_t allowed[] = {
		[NBD_CMD_READ] = NBD_CMD_FLAG_DF,
		[NBD_CMD_WRITE] = 0,
		[NBD_CMD_FLUSH] = 0,
		[NBD_CMD_TRIM] = 0,
		[NBD_CMD_CACHE] = 0,
		[NBD_CMD_WRITE_ZEROES] = NBD_CMD_FLAG_NO_HOLE |
			NBD_CMD_FLAG_FAST_ZERO,
		[NBD_CMD_BLOCK_STATUS] = NBD_CMD_FLAG_REQ_ONE,
	};

	for (unsigned int type = 0; type < ARRAY_SIZE(allowed); type++) {
		if (type == NBD_CMD_DISC)
			continue;
		for (unsigned int i = 0; i < 16; i++) {
			uint16_t flag = 1u << i;
			bool ok = (allowed[type] | NBD_CMD_FLAG_FUA) & flag;

			ck_assert_uint_eq(check(&usual, type, flag, 0, 0),
					  ok ? NBD_OK : NBD_EINVAL);
		}
	}
}
END_TEST

START_TEST(what_was_not_advertised_is_refused)
{
	struct nbd_session session = usual;

	session.flags &= ~NBD_SEND_DF;
	ck_assert_uint_eq(check(&session, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 1),
			  NBD_EINVAL);
	session.flags &= ~NBD_SEND_FAST_ZERO;
	ck_assert_uint_eq(check(&session, NBD_CMD_WRITE_ZEROES,
				NBD_CMD_FLAG_FAST_ZERO, 0, 1), NBD_EINVAL);
	session.flags &= ~NBD_SEND_FUA;
	ck_assert_uint_eq(check(&session, NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 0,
				1), NBD_EINVAL);
	session.flags &= ~(NBD_SEND_TRIM | NBD_SEND_CACHE | NBD_SEND_FLUSH);
	ck_assert_uint_eq(check(&session, NBD_CMD_TRIM, 0, 0, 1), NBD_EINVAL);
	ck_assert_uint_eq(check(&session, NBD_CMD_CACHE, 0, 0, 1), NBD_EINVAL);
	ck_assert_uint_eq(check(&session, NBD_CMD_FLUSH, 0, 0, 0), NBD_EINVAL);
	session.allocation = false;
	ck_assert_uint_eq(check(&session, NBD_CMD_BLOCK_STATUS, 0, 0, 1),
			  NBD_EINVAL);
	for (unsigned int type = 8; type <= UINT16_MAX; type += 8)
		ck_assert_uint_eq(check(&usual, type, 0, 0, 0), NBD_EINVAL);
}
END_TEST

START_TEST(bounds_hold_for_every_offset)
{
	static const struct {
		uint64_t pos;
		uint32_t len;
		bool ok;
	} cases[] = {
		{ 0, 1 << 20, true }, { (1 << 20) - 1, 1, true },
		{ 1 << 20, 0, true }, { 1 << 20, 1, false },
		{ (1 << 20) - 1, 2, false }, { (1 << 20) + 1, 0, false },
		{ UINT64_MAX, 1, false }, { UINT64_MAX - 511, 512, false },
		{ UINT64_MAX, 0, false }, { UINT64_C(1) << 63, 4096, false },
		{ UINT64_MAX - 4095, 4096, false },
	};
	static const struct {
		uint16_t type;
		enum nbd_error error;
	} types[] = {
		{ NBD_CMD_READ, NBD_EINVAL }, { NBD_CMD_WRITE, NBD_ENOSPC },
		{ NBD_CMD_TRIM, NBD_EINVAL }, { NBD_CMD_CACHE, NBD_EINVAL },
		{ NBD_CMD_WRITE_ZEROES, NBD_ENOSPC },
		{ NBD_CMD_BLOCK_STATUS, NBD_EINVAL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (size_t k = 0; k < ARRAY_SIZE(types); k++)
			ck_assert_uint_eq(check(&usual, types[k].type, 0,
						cases[i].pos, cases[i].len),
					  cases[i].ok ? NBD_OK :
							types[k].error);
}
END_TEST

START_TEST(payloads_have_a_bound_and_effects_do_not)
{
	struct nbd_session session = usual;

	session.size = UINT64_C(1) << 40;
	ck_assert_uint_eq(check(&session, NBD_CMD_READ, 0, 0, 64 << 20),
			  NBD_OK);
	ck_assert_uint_eq(check(&session, NBD_CMD_READ, 0, 0, (64 << 20) + 1),
			  NBD_EINVAL);
	ck_assert_uint_eq(check(&session, NBD_CMD_WRITE, 0, 0, (64 << 20) + 1),
			  NBD_EINVAL);
	ck_assert_uint_eq(check(&session, NBD_CMD_TRIM, 0, 0, UINT32_MAX),
			  NBD_OK);
	ck_assert_uint_eq(check(&session, NBD_CMD_WRITE_ZEROES, 0, 0,
				UINT32_MAX), NBD_OK);
	ck_assert_uint_eq(check(&session, NBD_CMD_CACHE, 0, 0, UINT32_MAX),
			  NBD_OK);
}
END_TEST

START_TEST(a_read_only_export_is_not_written)
{
	struct nbd_session session = usual;

	session.flags = (session.flags | NBD_READ_ONLY) &
		~(NBD_SEND_TRIM | NBD_SEND_WRITE_ZEROES | NBD_SEND_FAST_ZERO);
	ck_assert_uint_eq(check(&session, NBD_CMD_WRITE, 0, 0, 1), NBD_EPERM);
	ck_assert_uint_eq(check(&session, NBD_CMD_TRIM, 0, 0, 1), NBD_EPERM);
	ck_assert_uint_eq(check(&session, NBD_CMD_WRITE_ZEROES, 0, 0, 1),
			  NBD_EPERM);
	ck_assert_uint_eq(check(&session, NBD_CMD_READ, 0, 0, 1), NBD_OK);
	ck_assert_uint_eq(check(&session, NBD_CMD_FLUSH, 0, 0, 0), NBD_OK);
	ck_assert_uint_eq(check(&session, NBD_CMD_CACHE, 0, 0, 1), NBD_OK);
}
END_TEST

START_TEST(the_minimum_block_is_enforced)
{
	struct nbd_session session = usual;

	session.block_min = 4096;
	session.size = 3 * 4096 + 100;
	ck_assert_uint_eq(check(&session, NBD_CMD_READ, 0, 0, 4096), NBD_OK);
	ck_assert_uint_eq(check(&session, NBD_CMD_READ, 0, 0, 512),
			  NBD_EINVAL);
	ck_assert_uint_eq(check(&session, NBD_CMD_WRITE, 0, 512, 4096),
			  NBD_EINVAL);
	/* What is left at the end is a block too. */
	ck_assert_uint_eq(check(&session, NBD_CMD_READ, 0, 3 * 4096, 100),
			  NBD_OK);
	ck_assert_uint_eq(check(&session, NBD_CMD_READ, 0, 3 * 4096, 99),
			  NBD_EINVAL);
}
END_TEST

START_TEST(a_request_is_decoded)
{
	struct nbd_wire_request wire = {
		htobe32(NBD_REQUEST_MAGIC), htobe16(3), htobe16(6), 0x1234,
		htobe64(UINT64_C(0x1122334455667788)), htobe32(0x99aabbcc),
	};
	struct nbd_request req;

	ck_assert_int_eq(nbd_get_request(&wire, &req), 0);
	ck_assert_uint_eq(req.flags, 3);
	ck_assert_uint_eq(req.type, 6);
	ck_assert_uint_eq(req.cookie, 0x1234);
	ck_assert(req.pos == UINT64_C(0x1122334455667788));
	ck_assert_uint_eq(req.len, 0x99aabbcc);
	wire.magic ^= 1;
	ck_assert_int_eq(nbd_get_request(&wire, &req), -EPROTO);
}
END_TEST

START_TEST(an_extended_request_is_decoded)
{
	struct nbd_wire_extended_request wire = {
		htobe32(0x21e41c71), htobe16(3), htobe16(6), 0x1234,
		htobe64(UINT64_C(0x1122334455667788)),
		htobe64(UINT64_C(0x99aabbccddeeff00)),
	};
	struct nbd_request req;

	ck_assert_int_eq(nbd_get_extended_request(&wire, &req), 0);
	ck_assert_uint_eq(req.flags, 3);
	ck_assert_uint_eq(req.type, 6);
	ck_assert_uint_eq(req.cookie, 0x1234);
	ck_assert(req.pos == UINT64_C(0x1122334455667788));
	ck_assert(req.len == UINT64_C(0x99aabbccddeeff00));
	ck_assert(req.extended);
	ck_assert(nbd_payload_len(&req) == 0);
	req.flags |= 1u << 5;
	ck_assert(nbd_payload_len(&req) == req.len);
	wire.magic = htobe32(NBD_REQUEST_MAGIC);
	ck_assert_int_eq(nbd_get_extended_request(&wire, &req), -EPROTO);
}
END_TEST

static enum nbd_error check_ext(const struct nbd_session *session,
				uint16_t type, uint16_t flags, uint64_t pos,
				uint64_t len)
{
	struct nbd_request req = {
		.type = type, .flags = flags, .pos = pos, .len = len,
		.extended = true,
	};
	const char *text = NULL;
	enum nbd_error error = nbd_check_request(session, &req, &text);

	ck_assert_msg(!error || text, "no text for error %u", error);
	return error;
}

START_TEST(extended_effects_have_64_bits)
{
	static const struct {
		uint16_t type;
		enum nbd_error error;
	} types[] = {
		{ NBD_CMD_TRIM, NBD_EINVAL }, { NBD_CMD_CACHE, NBD_EINVAL },
		{ NBD_CMD_WRITE_ZEROES, NBD_ENOSPC },
		{ NBD_CMD_BLOCK_STATUS, NBD_EINVAL },
	};
	const uint64_t size = UINT64_C(1) << 50;
	struct nbd_session session = usual;

	session.size = size;
	session.extended = true;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		uint16_t type = types[i].type;
		enum nbd_error error = types[i].error;

		ck_assert_uint_eq(check_ext(&session, type, 0, 0, size),
				  NBD_OK);
		ck_assert_uint_eq(check_ext(&session, type, 0, 1, size - 1),
				  NBD_OK);
		ck_assert_uint_eq(check_ext(&session, type, 0, 1, size), error);
		ck_assert_uint_eq(check_ext(&session, type, 0, 0, size + 1),
				  error);
		ck_assert_uint_eq(check_ext(&session, type, 0, size - 1,
					    UINT64_MAX), error);
		ck_assert_uint_eq(check_ext(&session, type, 0, UINT64_MAX,
					    UINT64_MAX), error);
		ck_assert_uint_eq(check_ext(&session, type, 0, 4096,
					    UINT64_MAX - 4095), error);
	}
	/* That of a READ is a payload's. */
	ck_assert_uint_eq(check_ext(&session, NBD_CMD_READ, 0, 0, 64 << 20),
			  NBD_OK);
	ck_assert_uint_eq(check_ext(&session, NBD_CMD_READ, 0, 0,
				    UINT64_C(1) << 32), NBD_EINVAL);
	ck_assert_uint_eq(check_ext(&session, NBD_CMD_READ, 0, 0,
				    (UINT64_C(1) << 32) + 4096), NBD_EINVAL);
	session.block_min = 4096;
	ck_assert_uint_eq(check_ext(&session, NBD_CMD_TRIM, 0, 0,
				    (UINT64_C(1) << 40) + 512), NBD_EINVAL);
	ck_assert_uint_eq(check_ext(&session, NBD_CMD_TRIM, 0, 0,
				    UINT64_C(1) << 40), NBD_OK);
}
END_TEST

START_TEST(payloads_are_announced)
{
	const uint16_t flag = 1u << 5;
	struct nbd_session session = usual;

	session.extended = true;
	for (unsigned int type = 0; type <= NBD_CMD_BLOCK_STATUS; type++)
		if (type != NBD_CMD_DISC)
			ck_assert_uint_eq(check_ext(&session, type, flag, 0, 0),
					  type == NBD_CMD_WRITE ? NBD_OK :
								  NBD_EINVAL);
	/* A WRITE has one anyway. */
	ck_assert_uint_eq(check_ext(&session, NBD_CMD_WRITE, 0, 0, 4096),
			  NBD_OK);
	ck_assert_uint_eq(check_ext(&session, NBD_CMD_WRITE, flag, 0, 4096),
			  NBD_OK);
	ck_assert_uint_eq(check_ext(&session, NBD_CMD_WRITE,
				    flag | NBD_CMD_FLAG_FUA, 0, 4096), NBD_OK);
	ck_assert_uint_eq(check_ext(&session, NBD_CMD_WRITE,
				    flag | NBD_CMD_FLAG_DF, 0, 4096),
			  NBD_EINVAL);
	/* No compact request has it. */
	ck_assert_uint_eq(check(&session, NBD_CMD_WRITE, flag, 0, 4096),
			  NBD_EINVAL);
}
END_TEST

START_TEST(a_status_payload_is_taken_off)
{
	struct nbd_request req = {
		.type = NBD_CMD_BLOCK_STATUS, .len = 12, .extended = true,
		.flags = NBD_CMD_FLAG_REQ_ONE | NBD_CMD_FLAG_PAYLOAD_LEN,
	};
	uint64_t len = htobe64(UINT64_C(1) << 45);
	char buf[NBD_STATUS_PAYLOAD_SIZE];
	uint32_t context;

	ck_assert_uint_eq(sizeof(buf), 12);
	memcpy(buf, &len, sizeof(len));
	add32(buf + sizeof(len), 0x42424242);
	nbd_get_status_payload(buf, &req, &context);
	ck_assert_uint_eq(context, 0x42424242);
	ck_assert(req.len == UINT64_C(1) << 45);
	ck_assert_uint_eq(req.flags, NBD_CMD_FLAG_REQ_ONE);
}
END_TEST

/* ---- replies ---- */

START_TEST(only_the_wires_errors_leave)
{
	ck_assert_uint_eq(nbd_error_from_errno(0), NBD_OK);
	ck_assert_uint_eq(nbd_error_from_errno(-EDQUOT), NBD_ENOSPC);
	ck_assert_uint_eq(nbd_error_from_errno(EFBIG), NBD_ENOSPC);
	ck_assert_uint_eq(nbd_error_from_errno(-EOPNOTSUPP), NBD_ENOTSUP);
	ck_assert_uint_eq(nbd_error_from_errno(-EROFS), NBD_EPERM);
	ck_assert_uint_eq(nbd_error_from_errno(-ENODEV), NBD_EIO);
	for (int err = 1; err < 200; err++) {
		enum nbd_error error = nbd_error_from_errno(-err);

		ck_assert(error == NBD_EPERM || error == NBD_EIO ||
			  error == NBD_ENOMEM || error == NBD_EINVAL ||
			  error == NBD_ENOSPC || error == NBD_EOVERFLOW ||
			  error == NBD_ENOTSUP || error == NBD_ESHUTDOWN);
		for (unsigned int type = 0; type <= NBD_CMD_BLOCK_STATUS; type++)
			ck_assert_uint_gt(strlen(nbd_error_text(type, error)),
					  0);
	}
}
END_TEST

static const struct nbd_request compact = {
	.cookie = 7, .pos = 4096, .len = 1 << 20,
};
static const struct nbd_request extended = {
	.cookie = 7, .pos = UINT64_C(0x1122334455667788),
	.len = UINT64_C(1) << 40, .extended = true,
};

/* Check the head at @buf, of @req; returns the body behind it, of @len bytes. */
static const char *body(const char *buf, size_t len,
			const struct nbd_request *req, uint16_t type,
			uint16_t flags)
{
	struct nbd_wire_extended_chunk ext;
	struct nbd_wire_chunk head;

	/* Both forms begin alike. */
	memcpy(&head, buf, sizeof(head));
	ck_assert_uint_eq(be16toh(head.type), type);
	ck_assert_uint_eq(be16toh(head.flags), flags);
	ck_assert_uint_eq(head.cookie, 7);
	if (!req->extended) {
		ck_assert_uint_eq(be32toh(head.magic), 0x668e33ef);
		ck_assert_uint_eq(be32toh(head.len), len);
		return buf + sizeof(head);
	}
	memcpy(&ext, buf, sizeof(ext));
	ck_assert_uint_eq(be32toh(ext.magic), 0x6e8a278c);
	ck_assert(be64toh(ext.pos) == UINT64_C(0x1122334455667788));
	ck_assert(be64toh(ext.len) == len);
	return buf + sizeof(ext);
}

START_TEST(an_error_text_is_cut)
{
	char text[1000], buf[NBD_CHUNK_ERROR_MAX];
	struct nbd_wire_error error;
	uint64_t pos;
	const char *p;
	size_t len;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	len = nbd_put_chunk_error_at(buf, &extended, NBD_EIO, text, 12345);
	ck_assert_uint_eq(len, sizeof(buf));
	p = body(buf, 14 + NBD_ERROR_TEXT_MAX, &extended,
		 NBD_CHUNK_ERROR_OFFSET, NBD_CHUNK_FLAG_DONE);
	memcpy(&error, p, sizeof(error));
	ck_assert_uint_eq(be16toh(error.text_len), NBD_ERROR_TEXT_MAX);
	ck_assert_uint_eq(be32toh(error.error), NBD_EIO);
	memcpy(&pos, p + sizeof(error) + NBD_ERROR_TEXT_MAX, sizeof(pos));
	ck_assert(be64toh(pos) == 12345);

	len = nbd_put_chunk_error(buf, &compact, NBD_EPERM, text);
	ck_assert_uint_eq(len, 20 + 6 + NBD_ERROR_TEXT_MAX);
	p = body(buf, 6 + NBD_ERROR_TEXT_MAX, &compact, NBD_CHUNK_ERROR,
		 NBD_CHUNK_FLAG_DONE);
	memcpy(&error, p, sizeof(error));
	ck_assert_uint_eq(be16toh(error.text_len), NBD_ERROR_TEXT_MAX);
	ck_assert_uint_eq(be32toh(error.error), NBD_EPERM);
}
END_TEST

START_TEST(chunks_count_what_follows_them)
{
	for (int ext = 0; ext < 2; ext++) {
		const struct nbd_request *req = ext ? &extended : &compact;
		size_t head = ext ? 32 : 20;
		struct nbd_wire_data data;
		struct nbd_wire_hole hole;
		char buf[64];

		ck_assert_uint_eq(nbd_chunk_size(req), head);
		ck_assert_uint_eq(nbd_put_chunk_none(buf, req), head);
		body(buf, 0, req, NBD_CHUNK_NONE, NBD_CHUNK_FLAG_DONE);
		ck_assert_uint_eq(nbd_put_chunk_data(buf, req, 0, 8192, 100),
				  head + 8);
		memcpy(&data, body(buf, 108, req, NBD_CHUNK_OFFSET_DATA, 0),
		       sizeof(data));
		ck_assert(be64toh(data.pos) == 8192);
		ck_assert_uint_eq(nbd_put_chunk_hole(buf, req, 1, 8192, 100),
				  head + 12);
		ck_assert_uint_le(head + 12, NBD_CONTENT_MAX);
		memcpy(&hole, body(buf, 12, req, NBD_CHUNK_OFFSET_HOLE, 1),
		       sizeof(hole));
		ck_assert(be64toh(hole.pos) == 8192);
		ck_assert_uint_eq(be32toh(hole.hole_len), 100);
	}
}
END_TEST

START_TEST(extents_have_32_bits_or_64)
{
	struct nbd_wire_status_ext status;
	struct nbd_wire_extent_ext ext;
	struct nbd_wire_extent extent;
	char buf[64];

	ck_assert_uint_eq(nbd_status_size(&compact, 3), 20 + 4 + 3 * 8);
	ck_assert_uint_eq(nbd_put_chunk_status(buf, &compact, 5, 3), 24);
	memcpy(&status, body(buf, 4 + 3 * 8, &compact, NBD_CHUNK_BLOCK_STATUS,
			     NBD_CHUNK_FLAG_DONE), 4);
	ck_assert_uint_eq(be32toh(status.context), 5);
	ck_assert_uint_eq(nbd_put_extent(&extent, &compact, UINT32_MAX, 3), 8);
	ck_assert_uint_eq(be32toh(extent.len), UINT32_MAX);
	ck_assert_uint_eq(be32toh(extent.flags), 3);

	ck_assert_uint_eq(nbd_status_size(&extended, 3), 32 + 8 + 3 * 16);
	ck_assert_uint_eq(nbd_put_chunk_status(buf, &extended, 5, 3), 40);
	memcpy(&status, body(buf, 8 + 3 * 16, &extended,
			     NBD_CHUNK_BLOCK_STATUS_EXT, NBD_CHUNK_FLAG_DONE),
	       8);
	ck_assert_uint_eq(be32toh(status.context), 5);
	ck_assert_uint_eq(be32toh(status.nr), 3);
	ck_assert_uint_eq(nbd_put_extent(&ext, &extended, UINT64_C(1) << 50, 3),
			  16);
	ck_assert(be64toh(ext.len) == UINT64_C(1) << 50);
	ck_assert(be64toh(ext.flags) == 3);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("nbd_proto");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, info_must_fill_its_option_exactly);
	tcase_add_test(tc, info_names_what_it_wants);
	tcase_add_test(tc, names_have_a_bound_and_no_nul);
	tcase_add_test(tc, meta_queries_are_told_apart);
	tcase_add_test(tc, meta_queries_must_fill_their_option_exactly);
	tcase_add_test(tc, only_offered_client_flags_are_taken);
	tcase_add_test(tc, each_flag_is_held_against_its_command);
	tcase_add_test(tc, what_was_not_advertised_is_refused);
	tcase_add_test(tc, bounds_hold_for_every_offset);
	tcase_add_test(tc, payloads_have_a_bound_and_effects_do_not);
	tcase_add_test(tc, a_read_only_export_is_not_written);
	tcase_add_test(tc, the_minimum_block_is_enforced);
	tcase_add_test(tc, a_request_is_decoded);
	tcase_add_test(tc, an_extended_request_is_decoded);
	tcase_add_test(tc, extended_effects_have_64_bits);
	tcase_add_test(tc, payloads_are_announced);
	tcase_add_test(tc, a_status_payload_is_taken_off);
	tcase_add_test(tc, only_the_wires_errors_leave);
	tcase_add_test(tc, an_error_text_is_cut);
	tcase_add_test(tc, chunks_count_what_follows_them);
	tcase_add_test(tc, extents_have_32_bits_or_64);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
