/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reply.h - replies of the transmission phase, from structs to bytes.
 *
 * Encoders write to a buffer that the caller has made large enough, and
 * return how many bytes they wrote.  Chunks have the form of the request that
 * they answer: compact, or extended.
 */
#ifndef FOLIOD_PROTO_REPLY_H
#define FOLIOD_PROTO_REPLY_H

#include <stddef.h>
#include <stdint.h>

#include "proto/nbd.h"
#include "proto/request.h"

/* The wire's number for @err, an errno (of either sign) or 0. */
enum nbd_error nbd_error_from_errno(int err);

/* A short English text for @error in answer to command @type. */
const char *nbd_error_text(unsigned int type, enum nbd_error error);

size_t nbd_put_simple_reply(void *buf, uint64_t cookie, enum nbd_error error);

/* Bytes of a chunk's head. */
static inline size_t nbd_chunk_size(const struct nbd_request *req)
{
	return req->extended ? sizeof(struct nbd_wire_extended_chunk) :
			       sizeof(struct nbd_wire_chunk);
}

/* The longest of data or a hole, with the head. */
#define NBD_CONTENT_MAX		(sizeof(struct nbd_wire_extended_chunk) + \
				 sizeof(struct nbd_wire_hole))

/* The last chunk of a reply without content. */
size_t nbd_put_chunk_none(void *buf, const struct nbd_request *req);

/* The head of @len bytes of data at @pos, which the caller sends. */
size_t nbd_put_chunk_data(void *buf, const struct nbd_request *req,
			  unsigned int flags, uint64_t pos, uint32_t len);

size_t nbd_put_chunk_hole(void *buf, const struct nbd_request *req,
			  unsigned int flags, uint64_t pos, uint32_t len);

/* The last chunk of a failed reply; @text is cut after NBD_ERROR_TEXT_MAX. */
#define NBD_ERROR_TEXT_MAX	128
#define NBD_CHUNK_ERROR_MAX	(sizeof(struct nbd_wire_extended_chunk) + \
				 sizeof(struct nbd_wire_error) + \
				 NBD_ERROR_TEXT_MAX + sizeof(uint64_t))
size_t nbd_put_chunk_error(void *buf, const struct nbd_request *req,
			   enum nbd_error error, const char *text);
/* The same where it is known what failed first: @pos, within the request. */
size_t nbd_put_chunk_error_at(void *buf, const struct nbd_request *req,
			      enum nbd_error error, const char *text,
			      uint64_t pos);

/* The head of @nr extents of @context, each written by nbd_put_extent(). */
size_t nbd_put_chunk_status(void *buf, const struct nbd_request *req,
			    uint32_t context, unsigned int nr);
/* @len has at most 32 bits if @req is compact. */
size_t nbd_put_extent(void *buf, const struct nbd_request *req, uint64_t len,
		      uint32_t flags);
/* Bytes of both together. */
size_t nbd_status_size(const struct nbd_request *req, unsigned int nr);

#endif
