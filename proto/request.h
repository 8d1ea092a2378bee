/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * request.h - requests: decoding, and what the protocol allows of them.
 */
#ifndef FOLIOD_PROTO_REQUEST_H
#define FOLIOD_PROTO_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/nbd.h"

struct nbd_request {
	uint64_t	cookie;		/* as it came */
	uint64_t	pos;
	uint64_t	len;		/* of the effect, or see nbd_payload_len() */
	uint16_t	flags;
	uint16_t	type;
	bool		extended;	/* it was, and its replies are */
};

#define NBD_REQUEST_SIZE	sizeof(struct nbd_wire_request)
#define NBD_EXTENDED_REQUEST_SIZE sizeof(struct nbd_wire_extended_request)

/* NBD_REQUEST_SIZE bytes.  0, or -EPROTO for a wrong magic. */
int nbd_get_request(const void *buf, struct nbd_request *req);

/* NBD_EXTENDED_REQUEST_SIZE bytes.  The same. */
int nbd_get_extended_request(const void *buf, struct nbd_request *req);

/* The bytes of @req's head as they came, at @buf; returns how many. */
size_t nbd_put_request(void *buf, const struct nbd_request *req);

/*
 * Bytes that the client sends behind @req, right or wrong.  A WRITE has them
 * with extended headers too, whether it says so or not: QEMU's client, as of
 * 10.0, does not, and nobody is known to mean something else by it.
 */
static inline uint64_t nbd_payload_len(const struct nbd_request *req)
{
	if (req->type == NBD_CMD_WRITE)
		return req->len;
	if (req->extended && (req->flags & NBD_CMD_FLAG_PAYLOAD_LEN))
		return req->len;
	return 0;
}

/*
 * BLOCK_STATUS with a payload that names one context, the only one there is:
 * @req becomes the request without a payload, and *@contextp its id.
 * NBD_STATUS_PAYLOAD_SIZE bytes.
 */
#define NBD_STATUS_PAYLOAD_SIZE	(sizeof(struct nbd_wire_status_payload) + \
				 sizeof(uint32_t))
void nbd_get_status_payload(const void *buf, struct nbd_request *req,
			    uint32_t *contextp);

/* What was agreed on when transmission began. */
struct nbd_session {
	uint64_t	size;
	uint32_t	block_min;	/* power of two */
	uint32_t	payload_max;	/* of READ and WRITE */
	uint16_t	flags;		/* transmission flags */
	bool		structured;	/* replies may be chunks; always if */
	bool		extended;	/* headers are extended */
	bool		allocation;	/* base:allocation was selected */
};

/*
 * Hold @req against @session: NBD_OK, or the error to answer with, *@textp
 * then saying why.  DISC is the caller's: it is never refused.  The payload of
 * a BLOCK_STATUS has been taken from it before.
 */
enum nbd_error nbd_check_request(const struct nbd_session *session,
				 const struct nbd_request *req,
				 const char **textp);

#endif
