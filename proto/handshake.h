/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handshake.h - options and their replies, between bytes and structs.
 *
 * Parsers keep pointers into the caller's bytes and accept nothing that does
 * not fill them exactly.  Encoders write to a buffer that the caller has made
 * large enough, and return how many bytes they wrote.
 */
#ifndef FOLIOD_PROTO_HANDSHAKE_H
#define FOLIOD_PROTO_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/nbd.h"

/* The greeting, with both flags offered.  sizeof(struct nbd_greeting). */
size_t nbd_put_greeting(void *buf);

/*
 * The client's four bytes of flags.  0, or -EPROTO if one was not offered.
 */
int nbd_get_client_flags(const void *buf, uint32_t *flagsp);

struct nbd_option_request {
	uint32_t	option;
	uint32_t	len;		/* bytes of data that follow */
};

/* sizeof(struct nbd_option_head) bytes.  0, or -EPROTO for a wrong magic. */
int nbd_get_option(const void *buf, struct nbd_option_request *req);

/* The data of INFO and GO. */
struct nbd_info_request {
	const char	*name;
	uint32_t	name_len;
	bool		wants_name;
	bool		wants_description;
	bool		wants_block_size;
};

/* 0, or -EINVAL if malformed or the name is not a string of the protocol. */
int nbd_get_info(const void *data, size_t len, struct nbd_info_request *req);

/* The data of LIST_META_CONTEXT and SET_META_CONTEXT. */
struct nbd_meta_request {
	const char	*name;
	uint32_t	name_len;
	uint32_t	nr_queries;
	bool		all_base;	/* a query "base:" */
	bool		allocation;	/* a query "base:allocation" */
};

/* As nbd_get_info(). */
int nbd_get_meta(const void *data, size_t len, struct nbd_meta_request *req);

/* ---- replies ---- */

/* The head of a reply with @len bytes of data. */
size_t nbd_put_option_reply(void *buf, uint32_t option, uint32_t type,
			    uint32_t len);

size_t nbd_put_export_name(void *buf, uint64_t size, uint16_t flags);

/* Whole replies to @option, head and all; at most NBD_INFO_REPLY_MAX. */
#define NBD_INFO_REPLY_MAX	(sizeof(struct nbd_option_reply) + 32)
size_t nbd_put_info_export(void *buf, uint32_t option, uint64_t size,
			   uint16_t flags);
size_t nbd_put_info_block_size(void *buf, uint32_t option, uint32_t min,
			       uint32_t preferred, uint32_t max);
size_t nbd_put_meta_context(void *buf, uint32_t option, uint32_t id);

/* Heads of replies that end in a string of @len bytes, which is the caller's
 * to send. */
size_t nbd_put_info_string(void *buf, uint32_t option, uint16_t type,
			   uint32_t len);
/* @len: of the name; @more: of the description behind it. */
size_t nbd_put_server(void *buf, uint32_t option, uint32_t len, uint32_t more);

#endif
