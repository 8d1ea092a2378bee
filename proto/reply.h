/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reply.h - replies of the transmission phase, from structs to bytes.
 *
 * Encoders write to a buffer that the caller has made large enough, and
 * return how many bytes they wrote.
 */
#ifndef FOLIOD_PROTO_REPLY_H
#define FOLIOD_PROTO_REPLY_H

#include <stddef.h>
#include <stdint.h>

#include "proto/nbd.h"

/* The wire's number for @err, an errno (of either sign) or 0. */
enum nbd_error nbd_error_from_errno(int err);

/* A short English text for an error of the wire. */
const char *nbd_error_text(enum nbd_error error);

size_t nbd_put_simple_reply(void *buf, uint64_t cookie, enum nbd_error error);

/* The last chunk of a reply without content. */
size_t nbd_put_chunk_none(void *buf, uint64_t cookie);

/* The head of @len bytes of data at @pos, which the caller sends. */
size_t nbd_put_chunk_data(void *buf, uint64_t cookie, unsigned int flags,
			  uint64_t pos, uint32_t len);

size_t nbd_put_chunk_hole(void *buf, uint64_t cookie, unsigned int flags,
			  uint64_t pos, uint32_t len);

/* The last chunk of a failed reply; @text is cut after NBD_ERROR_TEXT_MAX. */
#define NBD_ERROR_TEXT_MAX	128
#define NBD_CHUNK_ERROR_MAX	(sizeof(struct nbd_wire_chunk_error) + \
				 NBD_ERROR_TEXT_MAX)
size_t nbd_put_chunk_error(void *buf, uint64_t cookie, enum nbd_error error,
			   const char *text);

/* The head of @nr extents of @context, each written by nbd_put_extent(). */
size_t nbd_put_chunk_status(void *buf, uint64_t cookie, uint32_t context,
			    unsigned int nr);
size_t nbd_put_extent(void *buf, uint32_t len, uint32_t flags);

#endif
