/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * request.h - requests: decoding, and what the protocol allows of them.
 */
#ifndef FOLIOD_PROTO_REQUEST_H
#define FOLIOD_PROTO_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/nbd.h"

struct nbd_request {
	uint64_t	cookie;		/* as it came */
	uint64_t	pos;
	uint32_t	len;
	uint16_t	flags;
	uint16_t	type;
};

#define NBD_REQUEST_SIZE	sizeof(struct nbd_wire_request)

/* NBD_REQUEST_SIZE bytes.  0, or -EPROTO for a wrong magic. */
int nbd_get_request(const void *buf, struct nbd_request *req);

/* What was agreed on when transmission began. */
struct nbd_session {
	uint64_t	size;
	uint32_t	block_min;	/* power of two */
	uint32_t	payload_max;	/* of READ and WRITE */
	uint16_t	flags;		/* transmission flags */
	bool		structured;
	bool		allocation;	/* base:allocation was selected */
};

/*
 * Hold @req against @session: NBD_OK, or the error to answer with, *@textp
 * then saying why.  DISC is the caller's: it is never refused.
 */
enum nbd_error nbd_check_request(const struct nbd_session *session,
				 const struct nbd_request *req,
				 const char **textp);

#endif
