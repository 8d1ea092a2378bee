/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reply.c - replies of the transmission phase, from structs to bytes.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "proto/reply.h"

enum nbd_error nbd_error_from_errno(int err)
{
	switch (err < 0 ? -err : err) {
	case 0:
		return NBD_OK;
	case EPERM:
	case EACCES:
	case EROFS:
		return NBD_EPERM;
	case ENOMEM:
		return NBD_ENOMEM;
	case EINVAL:
		return NBD_EINVAL;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return NBD_ENOSPC;
	case EOVERFLOW:
		return NBD_EOVERFLOW;
	case EOPNOTSUPP:	/* ENOTSUP is the same here */
		return NBD_ENOTSUP;
	case ESHUTDOWN:
		return NBD_ESHUTDOWN;
	default:
		return NBD_EIO;
	}
}

const char *nbd_error_text(enum nbd_error error)
{
	switch (error) {
	case NBD_OK:
		return "success";
	case NBD_EPERM:
		return "operation not permitted";
	case NBD_EIO:
		return "input/output error";
	case NBD_ENOMEM:
		return "the server is out of memory";
	case NBD_EINVAL:
		return "invalid request";
	case NBD_ENOSPC:
		return "no space left";
	case NBD_EOVERFLOW:
		return "too large for one chunk";
	case NBD_ENOTSUP:
		return "not supported, or not fast";
	case NBD_ESHUTDOWN:
		return "the server is shutting down";
	}
	return "error";
}

size_t nbd_put_simple_reply(void *buf, uint64_t cookie, enum nbd_error error)
{
	struct nbd_wire_simple_reply reply = {
		.magic = htobe32(NBD_SIMPLE_REPLY_MAGIC),
		.error = htobe32(error),
		.cookie = cookie,
	};

	memcpy(buf, &reply, sizeof(reply));
	return sizeof(reply);
}

static struct nbd_wire_chunk chunk_head(enum nbd_chunk_type type,
					unsigned int flags, uint64_t cookie,
					uint32_t len)
{
	return (struct nbd_wire_chunk){
		.magic = htobe32(NBD_CHUNK_MAGIC),
		.flags = htobe16(flags),
		.type = htobe16(type),
		.cookie = cookie,
		.len = htobe32(len),
	};
}

size_t nbd_put_chunk_none(void *buf, uint64_t cookie)
{
	struct nbd_wire_chunk chunk = chunk_head(NBD_CHUNK_NONE,
						 NBD_CHUNK_FLAG_DONE, cookie, 0);

	memcpy(buf, &chunk, sizeof(chunk));
	return sizeof(chunk);
}

size_t nbd_put_chunk_data(void *buf, uint64_t cookie, unsigned int flags,
			  uint64_t pos, uint32_t len)
{
	struct nbd_wire_chunk_data chunk = {
		.head = chunk_head(NBD_CHUNK_OFFSET_DATA, flags, cookie,
				   sizeof(pos) + len),
		.pos = htobe64(pos),
	};

	memcpy(buf, &chunk, sizeof(chunk));
	return sizeof(chunk);
}

size_t nbd_put_chunk_hole(void *buf, uint64_t cookie, unsigned int flags,
			  uint64_t pos, uint32_t len)
{
	struct nbd_wire_chunk_hole chunk = {
		.head = chunk_head(NBD_CHUNK_OFFSET_HOLE, flags, cookie,
				   sizeof(pos) + sizeof(len)),
		.pos = htobe64(pos),
		.hole_len = htobe32(len),
	};

	memcpy(buf, &chunk, sizeof(chunk));
	return sizeof(chunk);
}

size_t nbd_put_chunk_error(void *buf, uint64_t cookie, enum nbd_error error,
			   const char *text)
{
	size_t text_len = MIN(strlen(text), (size_t)NBD_ERROR_TEXT_MAX);
	struct nbd_wire_chunk_error chunk = {
		.head = chunk_head(NBD_CHUNK_ERROR, NBD_CHUNK_FLAG_DONE, cookie,
				   sizeof(chunk) - sizeof(chunk.head) +
				   text_len),
		.error = htobe32(error),
		.text_len = htobe16(text_len),
	};

	memcpy(buf, &chunk, sizeof(chunk));
	memcpy((char *)buf + sizeof(chunk), text, text_len);
	return sizeof(chunk) + text_len;
}

size_t nbd_put_chunk_status(void *buf, uint64_t cookie, uint32_t context,
			    unsigned int nr)
{
	struct nbd_wire_chunk_status chunk = {
		.head = chunk_head(NBD_CHUNK_BLOCK_STATUS, NBD_CHUNK_FLAG_DONE,
				   cookie, sizeof(context) +
				   nr * sizeof(struct nbd_wire_extent)),
		.context = htobe32(context),
	};

	memcpy(buf, &chunk, sizeof(chunk));
	return sizeof(chunk);
}

size_t nbd_put_extent(void *buf, uint32_t len, uint32_t flags)
{
	struct nbd_wire_extent extent = {
		.len = htobe32(len),
		.flags = htobe32(flags),
	};

	memcpy(buf, &extent, sizeof(extent));
	return sizeof(extent);
}
