/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handshake.c - options and their replies, between bytes and structs.
 *
 * What an option means is decided in server/handshake.c.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "proto/handshake.h"

static const char context_name[] = "base:allocation";
#define CONTEXT_NAME_LEN	(sizeof(context_name) - 1)

size_t nbd_put_greeting(void *buf)
{
	struct nbd_greeting greeting = {
		.magic = htobe64(NBD_GREETING_MAGIC),
		.option_magic = htobe64(NBD_OPTION_MAGIC),
		.flags = htobe16(NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES),
	};

	memcpy(buf, &greeting, sizeof(greeting));
	return sizeof(greeting);
}

int nbd_get_client_flags(const void *buf, uint32_t *flagsp)
{
	uint32_t flags;

	memcpy(&flags, buf, sizeof(flags));
	flags = be32toh(flags);
	if (flags & ~(NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES))
		return -EPROTO;
	*flagsp = flags;
	return 0;
}

int nbd_get_option(const void *buf, struct nbd_option_request *req)
{
	struct nbd_option_head head;

	memcpy(&head, buf, sizeof(head));
	if (head.magic != htobe64(NBD_OPTION_MAGIC))
		return -EPROTO;
	req->option = be32toh(head.option);
	req->len = be32toh(head.len);
	return 0;
}

/* What is left of an option's data. */
struct reader {
	const char	*p;
	size_t		len;
};

static int get_u16(struct reader *r, uint16_t *valp)
{
	if (r->len < sizeof(*valp))
		return -EINVAL;
	memcpy(valp, r->p, sizeof(*valp));
	*valp = be16toh(*valp);
	r->p += sizeof(*valp);
	r->len -= sizeof(*valp);
	return 0;
}

static int get_u32(struct reader *r, uint32_t *valp)
{
	if (r->len < sizeof(*valp))
		return -EINVAL;
	memcpy(valp, r->p, sizeof(*valp));
	*valp = be32toh(*valp);
	r->p += sizeof(*valp);
	r->len -= sizeof(*valp);
	return 0;
}

/* A string behind its length. */
static int get_string(struct reader *r, const char **strp, uint32_t *lenp)
{
	uint32_t len;

	if (get_u32(r, &len) || len > r->len || len > NBD_STRING_MAX)
		return -EINVAL;
	if (len && memchr(r->p, '\0', len))
		return -EINVAL;
	*strp = r->p;
	*lenp = len;
	r->p += len;
	r->len -= len;
	return 0;
}

int nbd_get_info(const void *data, size_t len, struct nbd_info_request *req)
{
	struct reader r = { data, len };
	uint16_t nr, type;

	memset(req, 0, sizeof(*req));
	if (get_string(&r, &req->name, &req->name_len) || get_u16(&r, &nr) ||
	    r.len != nr * sizeof(type))
		return -EINVAL;
	while (!get_u16(&r, &type)) {
		if (type == NBD_INFO_NAME)
			req->wants_name = true;
		else if (type == NBD_INFO_DESCRIPTION)
			req->wants_description = true;
		else if (type == NBD_INFO_BLOCK_SIZE)
			req->wants_block_size = true;
	}
	return 0;
}

int nbd_get_meta(const void *data, size_t len, struct nbd_meta_request *req)
{
	struct reader r = { data, len };
	const char *query;
	uint32_t query_len;

	memset(req, 0, sizeof(*req));
	if (get_string(&r, &req->name, &req->name_len) ||
	    get_u32(&r, &req->nr_queries))
		return -EINVAL;
	/* A count that is too large ends where the data does. */
	for (uint32_t i = 0; i < req->nr_queries; i++) {
		if (get_string(&r, &query, &query_len))
			return -EINVAL;
		if (query_len == strlen("base:") &&
		    !memcmp(query, "base:", query_len))
			req->all_base = true;
		else if (query_len == CONTEXT_NAME_LEN &&
			 !memcmp(query, context_name, query_len))
			req->allocation = true;
	}
	return r.len ? -EINVAL : 0;
}

size_t nbd_put_option_reply(void *buf, uint32_t option, uint32_t type,
			    uint32_t len)
{
	struct nbd_option_reply reply = {
		.magic = htobe64(NBD_OPTION_REPLY_MAGIC),
		.option = htobe32(option),
		.type = htobe32(type),
		.len = htobe32(len),
	};

	memcpy(buf, &reply, sizeof(reply));
	return sizeof(reply);
}

size_t nbd_put_export_name(void *buf, uint64_t size, uint16_t flags)
{
	struct nbd_export_name_reply reply = {
		.size = htobe64(size),
		.flags = htobe16(flags),
	};

	memcpy(buf, &reply, sizeof(reply));
	return sizeof(reply);
}

size_t nbd_put_info_export(void *buf, uint32_t option, uint64_t size,
			   uint16_t flags)
{
	struct nbd_info_export info = {
		.type = htobe16(NBD_INFO_EXPORT),
		.size = htobe64(size),
		.flags = htobe16(flags),
	};
	size_t n = nbd_put_option_reply(buf, option, NBD_REP_INFO,
					sizeof(info));

	memcpy((char *)buf + n, &info, sizeof(info));
	return n + sizeof(info);
}

size_t nbd_put_info_block_size(void *buf, uint32_t option, uint32_t min,
			       uint32_t preferred, uint32_t max)
{
	struct nbd_info_block_size info = {
		.type = htobe16(NBD_INFO_BLOCK_SIZE),
		.min = htobe32(min),
		.preferred = htobe32(preferred),
		.max = htobe32(max),
	};
	size_t n = nbd_put_option_reply(buf, option, NBD_REP_INFO,
					sizeof(info));

	memcpy((char *)buf + n, &info, sizeof(info));
	return n + sizeof(info);
}

size_t nbd_put_meta_context(void *buf, uint32_t option, uint32_t id)
{
	uint32_t be_id = htobe32(id);
	size_t n = nbd_put_option_reply(buf, option, NBD_REP_META_CONTEXT,
					sizeof(be_id) + CONTEXT_NAME_LEN);

	static_assert(sizeof(be_id) + CONTEXT_NAME_LEN <= 32, "reply too long");
	memcpy((char *)buf + n, &be_id, sizeof(be_id));
	n += sizeof(be_id);
	memcpy((char *)buf + n, context_name, CONTEXT_NAME_LEN);
	return n + CONTEXT_NAME_LEN;
}

size_t nbd_put_info_string(void *buf, uint32_t option, uint16_t type,
			   uint32_t len)
{
	uint16_t be_type = htobe16(type);
	size_t n = nbd_put_option_reply(buf, option, NBD_REP_INFO,
					sizeof(be_type) + len);

	memcpy((char *)buf + n, &be_type, sizeof(be_type));
	return n + sizeof(be_type);
}

size_t nbd_put_server(void *buf, uint32_t option, uint32_t len, uint32_t more)
{
	uint32_t be_len = htobe32(len);
	size_t n = nbd_put_option_reply(buf, option, NBD_REP_SERVER,
					sizeof(be_len) + len + more);

	memcpy((char *)buf + n, &be_len, sizeof(be_len));
	return n + sizeof(be_len);
}
