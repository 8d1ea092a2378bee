/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire.h - the part of the NBD protocol that the bench programs speak.
 *
 * The load generator and the echo server are measuring instruments for
 * proto/, so they share nothing with it: a mistake there must not be hidden
 * by the same mistake here.  All numbers are big-endian on the wire.
 */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <assert.h>
#include <endian.h>
#include <stdint.h>

#define WIRE_MAGIC		UINT64_C(0x4e42444d41474943)	/* "NBDMAGIC" */
#define WIRE_OPTION_MAGIC	UINT64_C(0x49484156454f5054)	/* "IHAVEOPT" */
#define WIRE_OPTION_REPLY_MAGIC	UINT64_C(0x0003e889045565a9)
#define WIRE_REQUEST_MAGIC	UINT32_C(0x25609513)
#define WIRE_SIMPLE_MAGIC	UINT32_C(0x67446698)
#define WIRE_CHUNK_MAGIC	UINT32_C(0x668e33ef)

/* Handshake flags; client and server use the same two bits. */
#define WIRE_FIXED_NEWSTYLE	1
#define WIRE_NO_ZEROES		2

enum wire_option {
	WIRE_OPT_EXPORT_NAME		= 1,
	WIRE_OPT_ABORT			= 2,
	WIRE_OPT_LIST			= 3,
	WIRE_OPT_STARTTLS		= 5,
	WIRE_OPT_INFO			= 6,
	WIRE_OPT_GO			= 7,
	WIRE_OPT_STRUCTURED_REPLY	= 8,
};

#define WIRE_REP_ACK		1
#define WIRE_REP_SERVER		2
#define WIRE_REP_INFO		3
#define WIRE_REP_ERR		UINT32_C(0x80000000)	/* set in every error */
#define WIRE_REP_ERR_UNSUP	UINT32_C(0x80000001)
#define WIRE_INFO_EXPORT	0

/* Transmission flags. */
#define WIRE_HAS_FLAGS		0x001
#define WIRE_READ_ONLY		0x002
#define WIRE_SEND_FLUSH		0x004
#define WIRE_SEND_FUA		0x008
#define WIRE_CAN_MULTI_CONN	0x100

enum wire_command {
	WIRE_READ	= 0,
	WIRE_WRITE	= 1,
	WIRE_DISC	= 2,
	WIRE_FLUSH	= 3,
};

#define WIRE_FLAG_FUA		1	/* of a request */

#define WIRE_CHUNK_DONE		1	/* flag: last chunk of its reply */
#define WIRE_CHUNK_NONE		0
#define WIRE_CHUNK_OFFSET_DATA	1
#define WIRE_CHUNK_OFFSET_HOLE	2
#define WIRE_CHUNK_ERROR	0x8000	/* bit of every error chunk's type */

#define WIRE_EINVAL		22

struct wire_option_head {
	uint64_t	magic;
	uint32_t	option;
	uint32_t	len;
} __attribute__((packed));

struct wire_option_reply {
	uint64_t	magic;
	uint32_t	option;
	uint32_t	type;
	uint32_t	len;
} __attribute__((packed));

/* The body of NBD_INFO_EXPORT. */
struct wire_info_export {
	uint16_t	info;
	uint64_t	size;
	uint16_t	flags;
} __attribute__((packed));

struct wire_request {
	uint32_t	magic;
	uint16_t	flags;
	uint16_t	type;
	uint64_t	cookie;
	uint64_t	pos;
	uint32_t	len;
} __attribute__((packed));

struct wire_simple_reply {
	uint32_t	magic;
	uint32_t	error;
	uint64_t	cookie;
} __attribute__((packed));

struct wire_chunk {
	uint32_t	magic;
	uint16_t	flags;
	uint16_t	type;
	uint64_t	cookie;
	uint32_t	len;
} __attribute__((packed));

static_assert(sizeof(struct wire_option_head) == 16, "wire layout");
static_assert(sizeof(struct wire_option_reply) == 20, "wire layout");
static_assert(sizeof(struct wire_info_export) == 12, "wire layout");
static_assert(sizeof(struct wire_request) == 28, "wire layout");
static_assert(sizeof(struct wire_simple_reply) == 16, "wire layout");
static_assert(sizeof(struct wire_chunk) == 20, "wire layout");

#endif
