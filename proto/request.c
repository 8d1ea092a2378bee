/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * request.c - requests: decoding, and what the protocol allows of them.
 *
 * Every command and flag is held against what was advertised before it goes
 * anywhere, so that what serves requests need not doubt them.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "proto/request.h"

int nbd_get_request(const void *buf, struct nbd_request *req)
{
	struct nbd_wire_request wire;

	memcpy(&wire, buf, sizeof(wire));
	req->cookie = wire.cookie;
	req->pos = be64toh(wire.pos);
	req->len = be32toh(wire.len);
	req->flags = be16toh(wire.flags);
	req->type = be16toh(wire.type);
	req->extended = false;
	return wire.magic == htobe32(NBD_REQUEST_MAGIC) ? 0 : -EPROTO;
}

int nbd_get_extended_request(const void *buf, struct nbd_request *req)
{
	struct nbd_wire_extended_request wire;

	memcpy(&wire, buf, sizeof(wire));
	req->cookie = wire.cookie;
	req->pos = be64toh(wire.pos);
	req->len = be64toh(wire.len);
	req->flags = be16toh(wire.flags);
	req->type = be16toh(wire.type);
	req->extended = true;
	return wire.magic == htobe32(NBD_EXTENDED_REQUEST_MAGIC) ? 0 : -EPROTO;
}

size_t nbd_put_request(void *buf, const struct nbd_request *req)
{
	struct nbd_wire_extended_request extended = {
		.magic = htobe32(NBD_EXTENDED_REQUEST_MAGIC),
		.flags = htobe16(req->flags), .type = htobe16(req->type),
		.cookie = req->cookie,
		.pos = htobe64(req->pos), .len = htobe64(req->len),
	};
	struct nbd_wire_request compact = {
		.magic = htobe32(NBD_REQUEST_MAGIC),
		.flags = extended.flags, .type = extended.type,
		.cookie = req->cookie,
		.pos = extended.pos, .len = htobe32((uint32_t)req->len),
	};

	if (req->extended) {
		memcpy(buf, &extended, sizeof(extended));
		return sizeof(extended);
	}
	memcpy(buf, &compact, sizeof(compact));
	return sizeof(compact);
}

void nbd_get_status_payload(const void *buf, struct nbd_request *req,
			    uint32_t *contextp)
{
	struct nbd_wire_status_payload wire;
	uint32_t context;

	memcpy(&wire, buf, sizeof(wire));
	memcpy(&context, (const char *)buf + sizeof(wire), sizeof(context));
	req->len = be64toh(wire.len);
	req->flags &= ~NBD_CMD_FLAG_PAYLOAD_LEN;
	*contextp = be32toh(context);
}

/* What a command needs and is; indexed by its number. */
static const struct command {
	uint16_t	needs;		/* transmission flag, 0: none */
	uint16_t	flags;		/* beside FUA */
	bool		writes;
	bool		payload;	/* length is that of a payload */
	enum nbd_error	beyond_end;
} commands[] = {
	[NBD_CMD_READ] = {
		.flags = NBD_CMD_FLAG_DF,
		.payload = true, .beyond_end = NBD_EINVAL,
	},
	[NBD_CMD_WRITE] = {
		.writes = true, .payload = true,
		.beyond_end = NBD_ENOSPC,
	},
	[NBD_CMD_DISC] = { 0 },
	[NBD_CMD_FLUSH] = {
		.needs = NBD_SEND_FLUSH,
		.beyond_end = NBD_EINVAL,
	},
	[NBD_CMD_TRIM] = {
		.needs = NBD_SEND_TRIM, .writes = true,
		.beyond_end = NBD_EINVAL,
	},
	[NBD_CMD_CACHE] = {
		.needs = NBD_SEND_CACHE,
		.beyond_end = NBD_EINVAL,
	},
	[NBD_CMD_WRITE_ZEROES] = {
		.needs = NBD_SEND_WRITE_ZEROES,
		.flags = NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
		.writes = true, .beyond_end = NBD_ENOSPC,
	},
	[NBD_CMD_BLOCK_STATUS] = {
		.flags = NBD_CMD_FLAG_REQ_ONE,
		.beyond_end = NBD_EINVAL,
	},
};

static bool flags_allowed(const struct nbd_session *session,
			  const struct command *cmd,
			  const struct nbd_request *req)
{
	unsigned int allowed = cmd->flags;

	if (req->extended && req->type == NBD_CMD_WRITE)
		allowed |= NBD_CMD_FLAG_PAYLOAD_LEN;
	if (session->flags & NBD_SEND_FUA)
		allowed |= NBD_CMD_FLAG_FUA;
	if (!(session->flags & NBD_SEND_DF))
		allowed &= ~NBD_CMD_FLAG_DF;
	if (!(session->flags & NBD_SEND_FAST_ZERO))
		allowed &= ~NBD_CMD_FLAG_FAST_ZERO;
	return (req->flags & ~allowed) == 0;
}

static bool is_aligned(const struct nbd_session *session,
		       const struct nbd_request *req)
{
	/* The last block of an export may be a partial one. */
	return is_aligned64(req->pos, session->block_min) &&
		(is_aligned64(req->len, session->block_min) ||
		 req->pos + req->len == session->size);
}

enum nbd_error nbd_check_request(const struct nbd_session *session,
				 const struct nbd_request *req,
				 const char **textp)
{
	const struct command *cmd;

	if (unlikely(req->type >= ARRAY_SIZE(commands))) {
		*textp = "unknown command";
		return NBD_EINVAL;
	}
	cmd = &commands[req->type];
	if (req->flags && !flags_allowed(session, cmd, req)) {
		*textp = req->extended &&
			(req->flags & NBD_CMD_FLAG_PAYLOAD_LEN) ?
			"flag or payload not valid for this command" :
			"flag not valid for this command";
		return NBD_EINVAL;
	}
	if (cmd->writes && (session->flags & NBD_READ_ONLY)) {
		*textp = "the export is read-only";
		return NBD_EPERM;
	}
	if (cmd->needs & ~session->flags) {
		*textp = "command was not advertised";
		return NBD_EINVAL;
	}
	if (req->type == NBD_CMD_FLUSH) {
		if (!req->pos && !req->len)
			return NBD_OK;
		*textp = "flush with an offset or a length";
		return NBD_EINVAL;
	}
	if (req->type == NBD_CMD_BLOCK_STATUS && !session->allocation) {
		*textp = "no metadata context was selected";
		return NBD_EINVAL;
	}
	if (cmd->payload && req->len > session->payload_max) {
		*textp = "request is too long";
		return NBD_EINVAL;
	}
	if (!range_within(req->pos, req->len, session->size)) {
		*textp = "request reaches beyond the end of the export";
		return cmd->beyond_end;
	}
	if (!is_aligned(session, req)) {
		*textp = "request is not aligned to the minimum block size";
		return NBD_EINVAL;
	}
	return NBD_OK;
}
