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

static const char *io_error_text(unsigned int type)
{
	switch (type) {
	case NBD_CMD_READ:
		return "the data could not be read";
	case NBD_CMD_FLUSH:
		return "written data could not be made stable";
	case NBD_CMD_WRITE:
		return "the data could not be written";
	default:
		return "input/output error";
	}
}

const char *nbd_error_text(unsigned int type, enum nbd_error error)
{
	switch (error) {
	case NBD_OK:
		return "success";
	case NBD_EPERM:
		return "operation not permitted";
	case NBD_EIO:
		return io_error_text(type);
	case NBD_ENOMEM:
		return "the server is out of memory";
	case NBD_EINVAL:
		return "invalid request";
	case NBD_ENOSPC:
		return "no space left";
	case NBD_EOVERFLOW:
		return "too large for one chunk";
	case NBD_ENOTSUP:
		return type == NBD_CMD_WRITE_ZEROES ?
			"zeroes would have to be written, which is not fast" :
			"not supported";
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

/* ---- chunks ---- */

static size_t put_extended_head(void *buf, const struct nbd_request *req,
				enum nbd_chunk_type type, unsigned int flags,
				uint32_t len)
{
	struct nbd_wire_extended_chunk head = {
		.magic = htobe32(NBD_EXTENDED_CHUNK_MAGIC),
		.flags = htobe16(flags),
		.type = htobe16(type),
		.cookie = req->cookie,
		.pos = htobe64(req->pos),
		.len = htobe64(len),
	};

	memcpy(buf, &head, sizeof(head));
	return sizeof(head);
}

static inline __attribute__((always_inline))
size_t put_head(void *buf, const struct nbd_request *req,
		enum nbd_chunk_type type, unsigned int flags, uint32_t len)
{
	struct nbd_wire_chunk head = {
		.magic = htobe32(NBD_CHUNK_MAGIC),
		.flags = htobe16(flags),
		.type = htobe16(type),
		.cookie = req->cookie,
		.len = htobe32(len),
	};

	if (unlikely(req->extended))
		return put_extended_head(buf, req, type, flags, len);
	memcpy(buf, &head, sizeof(head));
	return sizeof(head);
}

/* Append @len bytes behind the @n that are there. */
static inline size_t put(void *buf, size_t n, const void *from, size_t len)
{
	memcpy((char *)buf + n, from, len);
	return n + len;
}

size_t nbd_put_chunk_none(void *buf, const struct nbd_request *req)
{
	return put_head(buf, req, NBD_CHUNK_NONE, NBD_CHUNK_FLAG_DONE, 0);
}

size_t nbd_put_chunk_data(void *buf, const struct nbd_request *req,
			  unsigned int flags, uint64_t pos, uint32_t len)
{
	struct nbd_wire_data data = { .pos = htobe64(pos) };
	size_t n = put_head(buf, req, NBD_CHUNK_OFFSET_DATA, flags,
			    sizeof(data) + len);

	return put(buf, n, &data, sizeof(data));
}

size_t nbd_put_chunk_hole(void *buf, const struct nbd_request *req,
			  unsigned int flags, uint64_t pos, uint32_t len)
{
	struct nbd_wire_hole hole = {
		.pos = htobe64(pos),
		.hole_len = htobe32(len),
	};
	size_t n = put_head(buf, req, NBD_CHUNK_OFFSET_HOLE, flags,
			    sizeof(hole));

	return put(buf, n, &hole, sizeof(hole));
}

/* With @more bytes behind the text, which are the caller's. */
static size_t put_error(void *buf, const struct nbd_request *req,
			enum nbd_chunk_type type, enum nbd_error error,
			const char *text, size_t more)
{
	size_t text_len = strnlen(text, NBD_ERROR_TEXT_MAX);
	struct nbd_wire_error body = {
		.error = htobe32(error),
		.text_len = htobe16(text_len),
	};
	size_t n = put_head(buf, req, type, NBD_CHUNK_FLAG_DONE,
			    sizeof(body) + text_len + more);

	n = put(buf, n, &body, sizeof(body));
	return put(buf, n, text, text_len);
}

size_t nbd_put_chunk_error(void *buf, const struct nbd_request *req,
			   enum nbd_error error, const char *text)
{
	return put_error(buf, req, NBD_CHUNK_ERROR, error, text, 0);
}

size_t nbd_put_chunk_error_at(void *buf, const struct nbd_request *req,
			      enum nbd_error error, const char *text,
			      uint64_t pos)
{
	uint64_t be_pos = htobe64(pos);
	size_t n = put_error(buf, req, NBD_CHUNK_ERROR_OFFSET, error, text,
			     sizeof(be_pos));

	return put(buf, n, &be_pos, sizeof(be_pos));
}

static size_t status_len(const struct nbd_request *req, unsigned int nr)
{
	if (req->extended)
		return sizeof(struct nbd_wire_status_ext) +
			nr * sizeof(struct nbd_wire_extent_ext);
	return sizeof(struct nbd_wire_status) +
		nr * sizeof(struct nbd_wire_extent);
}

size_t nbd_status_size(const struct nbd_request *req, unsigned int nr)
{
	return nbd_chunk_size(req) + status_len(req, nr);
}

size_t nbd_put_chunk_status(void *buf, const struct nbd_request *req,
			    uint32_t context, unsigned int nr)
{
	struct nbd_wire_status_ext status = {
		.context = htobe32(context),
		.nr = htobe32(nr),
	};
	size_t n = put_head(buf, req, req->extended ?
			    NBD_CHUNK_BLOCK_STATUS_EXT : NBD_CHUNK_BLOCK_STATUS,
			    NBD_CHUNK_FLAG_DONE, status_len(req, nr));

	return put(buf, n, &status, req->extended ? sizeof(status) :
					sizeof(struct nbd_wire_status));
}

size_t nbd_put_extent(void *buf, const struct nbd_request *req, uint64_t len,
		      uint32_t flags)
{
	struct nbd_wire_extent_ext ext = {
		.len = htobe64(len),
		.flags = htobe64(flags),
	};
	struct nbd_wire_extent compact = {
		.len = htobe32(len),
		.flags = htobe32(flags),
	};

	if (req->extended)
		return put(buf, 0, &ext, sizeof(ext));
	return put(buf, 0, &compact, sizeof(compact));
}
