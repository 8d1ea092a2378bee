/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd.h - numbers and layouts of the NBD protocol.
 *
 * All fields are big endian on the wire, but for the cookie, which is the
 * client's own and is echoed as it came.
 */
#ifndef FOLIOD_PROTO_NBD_H
#define FOLIOD_PROTO_NBD_H

#include <assert.h>
#include <stdint.h>

/* ---- handshake ---- */

#define NBD_GREETING_MAGIC	UINT64_C(0x4e42444d41474943)
#define NBD_OPTION_MAGIC	UINT64_C(0x49484156454f5054)
#define NBD_OPTION_REPLY_MAGIC	UINT64_C(0x0003e889045565a9)

/* Handshake flags; the client answers with the same bits. */
#define NBD_FIXED_NEWSTYLE	(1u << 0)
#define NBD_NO_ZEROES		(1u << 1)

enum nbd_option {
	NBD_OPT_EXPORT_NAME		= 1,
	NBD_OPT_ABORT			= 2,
	NBD_OPT_LIST			= 3,
	NBD_OPT_STARTTLS		= 5,
	NBD_OPT_INFO			= 6,
	NBD_OPT_GO			= 7,
	NBD_OPT_STRUCTURED_REPLY	= 8,
	NBD_OPT_LIST_META_CONTEXT	= 9,
	NBD_OPT_SET_META_CONTEXT	= 10,
	NBD_OPT_EXTENDED_HEADERS	= 11,
};

#define NBD_REP_ACK			UINT32_C(1)
#define NBD_REP_SERVER			UINT32_C(2)
#define NBD_REP_INFO			UINT32_C(3)
#define NBD_REP_META_CONTEXT		UINT32_C(4)
#define NBD_REP_ERROR			(UINT32_C(1) << 31)	/* set in all: */
#define NBD_REP_ERR_UNSUP		(NBD_REP_ERROR + 1)
#define NBD_REP_ERR_POLICY		(NBD_REP_ERROR + 2)
#define NBD_REP_ERR_INVALID		(NBD_REP_ERROR + 3)
#define NBD_REP_ERR_TLS_REQD		(NBD_REP_ERROR + 5)
#define NBD_REP_ERR_UNKNOWN		(NBD_REP_ERROR + 6)
#define NBD_REP_ERR_SHUTDOWN		(NBD_REP_ERROR + 7)
#define NBD_REP_ERR_TOO_BIG		(NBD_REP_ERROR + 9)
#define NBD_REP_ERR_EXT_HEADER_REQD	(NBD_REP_ERROR + 10)

enum nbd_info {
	NBD_INFO_EXPORT		= 0,
	NBD_INFO_NAME		= 1,
	NBD_INFO_DESCRIPTION	= 2,
	NBD_INFO_BLOCK_SIZE	= 3,
};

/* Transmission flags. */
#define NBD_HAS_FLAGS		(1u << 0)
#define NBD_READ_ONLY		(1u << 1)
#define NBD_SEND_FLUSH		(1u << 2)
#define NBD_SEND_FUA		(1u << 3)
#define NBD_ROTATIONAL		(1u << 4)
#define NBD_SEND_TRIM		(1u << 5)
#define NBD_SEND_WRITE_ZEROES	(1u << 6)
#define NBD_SEND_DF		(1u << 7)
#define NBD_CAN_MULTI_CONN	(1u << 8)
#define NBD_SEND_CACHE		(1u << 10)
#define NBD_SEND_FAST_ZERO	(1u << 11)
#define NBD_BLOCK_STATUS_PAYLOAD (1u << 12)

/* No string of the protocol is longer. */
#define NBD_STRING_MAX		4096

#define NBD_EXPORT_NAME_ZEROES	124

struct nbd_greeting {
	uint64_t	magic;
	uint64_t	option_magic;
	uint16_t	flags;
} __attribute__((packed));

struct nbd_option_head {
	uint64_t	magic;
	uint32_t	option;
	uint32_t	len;
} __attribute__((packed));

struct nbd_option_reply {
	uint64_t	magic;
	uint32_t	option;
	uint32_t	type;
	uint32_t	len;
} __attribute__((packed));

/* The answer to EXPORT_NAME; 124 zeroes may follow. */
struct nbd_export_name_reply {
	uint64_t	size;
	uint16_t	flags;
} __attribute__((packed));

struct nbd_info_export {
	uint16_t	type;
	uint64_t	size;
	uint16_t	flags;
} __attribute__((packed));

struct nbd_info_block_size {
	uint16_t	type;
	uint32_t	min, preferred, max;
} __attribute__((packed));

static_assert(sizeof(struct nbd_greeting) == 18, "wire layout");
static_assert(sizeof(struct nbd_option_head) == 16, "wire layout");
static_assert(sizeof(struct nbd_option_reply) == 20, "wire layout");
static_assert(sizeof(struct nbd_export_name_reply) == 10, "wire layout");
static_assert(sizeof(struct nbd_info_export) == 12, "wire layout");
static_assert(sizeof(struct nbd_info_block_size) == 14, "wire layout");

/* ---- transmission ---- */

#define NBD_REQUEST_MAGIC	UINT32_C(0x25609513)
#define NBD_SIMPLE_REPLY_MAGIC	UINT32_C(0x67446698)
#define NBD_CHUNK_MAGIC		UINT32_C(0x668e33ef)
#define NBD_EXTENDED_REQUEST_MAGIC UINT32_C(0x21e41c71)
#define NBD_EXTENDED_CHUNK_MAGIC UINT32_C(0x6e8a278c)

enum nbd_command {
	NBD_CMD_READ		= 0,
	NBD_CMD_WRITE		= 1,
	NBD_CMD_DISC		= 2,
	NBD_CMD_FLUSH		= 3,
	NBD_CMD_TRIM		= 4,
	NBD_CMD_CACHE		= 5,
	NBD_CMD_WRITE_ZEROES	= 6,
	NBD_CMD_BLOCK_STATUS	= 7,
};

#define NBD_CMD_FLAG_FUA	(1u << 0)
#define NBD_CMD_FLAG_NO_HOLE	(1u << 1)
#define NBD_CMD_FLAG_DF		(1u << 2)
#define NBD_CMD_FLAG_REQ_ONE	(1u << 3)
#define NBD_CMD_FLAG_FAST_ZERO	(1u << 4)
#define NBD_CMD_FLAG_PAYLOAD_LEN (1u << 5)	/* extended requests only */

#define NBD_CHUNK_FLAG_DONE	(1u << 0)

enum nbd_chunk_type {
	NBD_CHUNK_NONE			= 0,
	NBD_CHUNK_OFFSET_DATA		= 1,
	NBD_CHUNK_OFFSET_HOLE		= 2,
	NBD_CHUNK_BLOCK_STATUS		= 5,
	NBD_CHUNK_BLOCK_STATUS_EXT	= 6,
	NBD_CHUNK_ERROR			= 0x8001,
	NBD_CHUNK_ERROR_OFFSET		= 0x8002,
};

/* Flags of base:allocation. */
#define NBD_STATE_HOLE		(1u << 0)
#define NBD_STATE_ZERO		(1u << 1)

/* The error numbers of the wire, whatever the system's own are. */
enum nbd_error {
	NBD_OK		= 0,
	NBD_EPERM	= 1,
	NBD_EIO		= 5,
	NBD_ENOMEM	= 12,
	NBD_EINVAL	= 22,
	NBD_ENOSPC	= 28,
	NBD_EOVERFLOW	= 75,
	NBD_ENOTSUP	= 95,
	NBD_ESHUTDOWN	= 108,
};

struct nbd_wire_request {
	uint32_t	magic;
	uint16_t	flags;
	uint16_t	type;
	uint64_t	cookie;
	uint64_t	pos;
	uint32_t	len;
} __attribute__((packed));

/* The same with extended headers; @len is a payload's if @flags says so. */
struct nbd_wire_extended_request {
	uint32_t	magic;
	uint16_t	flags;
	uint16_t	type;
	uint64_t	cookie;
	uint64_t	pos;
	uint64_t	len;
} __attribute__((packed));

/* The payload of a BLOCK_STATUS; ids of contexts follow, 32 bits each. */
struct nbd_wire_status_payload {
	uint64_t	len;		/* the effect's */
} __attribute__((packed));

struct nbd_wire_simple_reply {
	uint32_t	magic;
	uint32_t	error;
	uint64_t	cookie;
} __attribute__((packed));

/* The head of a chunk, in either form; one of the bodies below follows. */
struct nbd_wire_chunk {
	uint32_t	magic;
	uint16_t	flags;
	uint16_t	type;
	uint64_t	cookie;
	uint32_t	len;		/* of what follows */
} __attribute__((packed));

struct nbd_wire_extended_chunk {
	uint32_t	magic;
	uint16_t	flags;
	uint16_t	type;
	uint64_t	cookie;
	uint64_t	pos;		/* the request's */
	uint64_t	len;		/* of what follows */
} __attribute__((packed));

struct nbd_wire_data {
	uint64_t	pos;
} __attribute__((packed));

struct nbd_wire_hole {
	uint64_t	pos;
	uint32_t	hole_len;
} __attribute__((packed));

/* Then the text, and of an ERROR_OFFSET 64 bits of offset. */
struct nbd_wire_error {
	uint32_t	error;
	uint16_t	text_len;
} __attribute__((packed));

struct nbd_wire_status {
	uint32_t	context;
} __attribute__((packed));

struct nbd_wire_extent {
	uint32_t	len;
	uint32_t	flags;
} __attribute__((packed));

struct nbd_wire_status_ext {
	uint32_t	context;
	uint32_t	nr;		/* extents that follow */
} __attribute__((packed));

struct nbd_wire_extent_ext {
	uint64_t	len;
	uint64_t	flags;
} __attribute__((packed));

static_assert(sizeof(struct nbd_wire_request) == 28, "wire layout");
static_assert(sizeof(struct nbd_wire_extended_request) == 32, "wire layout");
static_assert(sizeof(struct nbd_wire_status_payload) == 8, "wire layout");
static_assert(sizeof(struct nbd_wire_simple_reply) == 16, "wire layout");
static_assert(sizeof(struct nbd_wire_chunk) == 20, "wire layout");
static_assert(sizeof(struct nbd_wire_extended_chunk) == 32, "wire layout");
static_assert(sizeof(struct nbd_wire_data) == 8, "wire layout");
static_assert(sizeof(struct nbd_wire_hole) == 12, "wire layout");
static_assert(sizeof(struct nbd_wire_error) == 6, "wire layout");
static_assert(sizeof(struct nbd_wire_status) == 4, "wire layout");
static_assert(sizeof(struct nbd_wire_extent) == 8, "wire layout");
static_assert(sizeof(struct nbd_wire_status_ext) == 8, "wire layout");
static_assert(sizeof(struct nbd_wire_extent_ext) == 16, "wire layout");

#endif
