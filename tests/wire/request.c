/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * request.c - requests and their replies, checked byte by byte.
 *
 * Every reply that passes through here is held to what the protocol demands
 * of all replies, whichever row asked for it: chunks within the request and
 * not overlapping, the whole of a read covered, one DONE, error numbers of
 * the wire only, no error text over 4096 bytes.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/wire/harness.h"
#include "tests/wire/wire.h"

#define MAX_RANGES	32768u
#define MAX_EXTENTS	(1u << 20)

static uint32_t negotiate_extended(struct conn *c)
{
	uint32_t type = option(c, OPT_EXTENDED_HEADERS, NULL, 0);

	if (type != REP_ACK && env.server)
		fatal("EXTENDED_HEADERS got %s", rep_name(type));
	if (type != REP_ACK)
		skip("the server has no extended headers");
	return type;
}

/* foliod has to have them; another server is tested as far as it goes. */
static void negotiate(struct conn *c, const char *name, unsigned int how)
{
	uint32_t type;

	if (env.extended || (how & OPEN_EXT) == OPEN_EXT)
		type = negotiate_extended(c);
	else
		type = option(c, OPT_STRUCTURED_REPLY, NULL, 0);
	if (type != REP_ACK && env.server)
		fatal("STRUCTURED_REPLY got %s", rep_name(type));
	if (type != REP_ACK || (how & OPEN_META) != OPEN_META)
		return;
	type = set_allocation(c, name);
	c->has_status = type == REP_ACK && c->nr_meta == 1;
	if (!c->has_status && env.server)
		fatal("SET_META base:allocation got %s and %u contexts",
		      rep_name(type), c->nr_meta);
}

struct conn *open_export(const char *name, unsigned int how)
{
	struct conn *c = hello();
	uint32_t type;

	if (how & OPEN_SR)
		negotiate(c, name, how);
	type = option_info(c, OPT_GO, name);
	if (type != REP_ACK)
		fatal("GO \"%s\" got %s", name, rep_name(type));
	if (!c->has_export)
		fatal("GO \"%s\" succeeded without INFO_EXPORT", name);
	return c;
}

struct conn *open_default(unsigned int how)
{
	return open_export(env.export, how);
}

void request_header(void *p, uint16_t flags, uint16_t type, uint64_t cookie,
		    uint64_t off, uint32_t len)
{
	uint8_t *b = p;

	put32(b, REQUEST_MAGIC);
	put16(b + 4, flags);
	put16(b + 6, type);
	put64(b + 8, cookie);
	put64(b + 16, off);
	put32(b + 24, len);
}

static size_t put_extended_header(void *p, uint16_t flags, uint16_t type,
				  uint64_t cookie, uint64_t off, uint64_t len)
{
	request_header(p, flags, type, cookie, off, 0);
	put32(p, EXT_REQUEST_MAGIC);
	put64((uint8_t *)p + 24, len);
	return 32;
}

size_t put_header(const struct conn *c, void *p, uint16_t flags, uint16_t type,
		  uint64_t cookie, uint64_t off, uint64_t len)
{
	if (c->extended) {
		if (type == CMD_WRITE)
			flags |= CF_PAYLOAD_LEN;
		return put_extended_header(p, flags, type, cookie, off, len);
	}
	if (len > 0xffffffff)
		fatal("%" PRIu64 " bytes need extended headers", len);
	request_header(p, flags, type, cookie, off, len);
	return REQUEST_SIZE;
}

void request_send_header(struct conn *c, struct request *rq)
{
	uint8_t buf[REQUEST_MAX];
	size_t n;

	if (!rq->cookie)
		rq->cookie = c->next_cookie++;
	if (rq->bare)
		n = put_extended_header(buf, rq->flags, rq->type, rq->cookie,
					rq->off, rq->len);
	else
		n = put_header(c, buf, rq->flags, rq->type, rq->cookie,
			       rq->off, rq->len);
	conn_send(c, buf, n);
}

void request_send(struct conn *c, struct request *rq)
{
	request_send_header(c, rq);
	if (rq->type != CMD_WRITE)
		return;
	if (rq->buf)
		conn_send(c, rq->buf, rq->len);
	else
		send_zeroes(c, rq->len);
}

static void take_error(struct request *rq, uint32_t error)
{
	switch (error) {
	case WIRE_EPERM: case WIRE_EIO: case WIRE_ENOMEM: case WIRE_EINVAL:
	case WIRE_ENOSPC: case WIRE_EOVERFLOW: case WIRE_ENOTSUP:
	case WIRE_ESHUTDOWN:
		break;
	default:
		fail("error number %u is not one of the protocol's", error);
	}
	if (!rq->error)
		rq->error = error;
	rq->nr_error++;
}

/* Receive @len bytes of a read at @off into their place. */
static void recv_into(struct conn *c, struct request *rq, uint64_t off,
		      uint32_t len)
{
	static uint8_t scratch[64 * KIB];

	if (rq->buf) {
		conn_recv(c, rq->buf + (off - rq->off), len);
		return;
	}
	while (len) {
		uint32_t n = len < sizeof(scratch) ? len : sizeof(scratch);

		conn_recv(c, scratch, n);
		len -= n;
	}
}

/* A content chunk describes [@off, @off + @len). */
static void take_range(struct request *rq, uint64_t off, uint64_t len)
{
	if (len == 0 || off < rq->off || len > rq->len ||
	    off - rq->off > rq->len - len)
		fatal("a chunk at %" PRIu64 "+%" PRIu64 " is outside the "
		      "request %" PRIu64 "+%" PRIu64, off, len, rq->off,
		      rq->len);
	for (unsigned int i = 0; off < rq->top && i < rq->nr_ranges; i++) {
		const struct range *r = &rq->ranges[i];

		if (off < r->off + r->len && r->off < off + len)
			fail("chunks overlap at %" PRIu64, off);
	}
	if (!rq->ranges)
		rq->ranges = row_alloc(MAX_RANGES * sizeof(*rq->ranges));
	if (rq->nr_ranges == MAX_RANGES)
		fatal("more than %u chunks in a reply", MAX_RANGES);
	rq->ranges[rq->nr_ranges++] = (struct range){ off, len };
	if (off + len > rq->top)
		rq->top = off + len;
	rq->covered += len;
}

static void take_data(struct conn *c, struct request *rq, uint32_t len)
{
	uint8_t off[8];

	if (rq->type != CMD_READ || len < 9)
		fatal("OFFSET_DATA of %u bytes for command %u", len, rq->type);
	conn_recv(c, off, sizeof(off));
	take_range(rq, get64(off), len - 8);
	recv_into(c, rq, get64(off), len - 8);
	rq->nr_data++;
}

static void take_hole(struct conn *c, struct request *rq, uint32_t len)
{
	uint8_t p[12];

	if (rq->type != CMD_READ || len != sizeof(p))
		fatal("OFFSET_HOLE of %u bytes for command %u", len, rq->type);
	conn_recv(c, p, sizeof(p));
	take_range(rq, get64(p), get32(p + 8));
	if (rq->buf)
		memset(rq->buf + (get64(p) - rq->off), 0, get32(p + 8));
	rq->nr_hole++;
}

static void check_extents(const struct request *rq)
{
	uint64_t len = rq->effect ? rq->effect : rq->len;
	uint64_t before_last = 0;

	for (unsigned int i = 0; i < rq->nr_ext; i++) {
		if (rq->ext[i].length == 0)
			fail("extent %u of %u is empty", i, rq->nr_ext);
		if (i + 1 < rq->nr_ext)
			before_last += rq->ext[i].length;
	}
	if (before_last && before_last >= len)
		fail("%u extents, all but the last already cover the %" PRIu64
		     " bytes asked for", rq->nr_ext, len);
	if ((rq->flags & CF_REQ_ONE) &&
	    (rq->nr_ext != 1 || rq->ext[0].length > len))
		fail("REQ_ONE got %u extents, the first of %" PRIu64 " bytes",
		     rq->nr_ext, rq->ext[0].length);
}

static void take_status_ext(struct conn *c, struct request *rq, uint32_t len)
{
	uint32_t n = len / 16;
	uint8_t *p;

	if (rq->type != CMD_BLOCK_STATUS || len < 24 || len % 16 != 8)
		fatal("BLOCK_STATUS_EXT chunk of %u bytes for command %u", len,
		      rq->type);
	if (n > MAX_EXTENTS)
		fatal("%u extents in a chunk", n);
	if (!c->extended)
		fail("a BLOCK_STATUS_EXT chunk without extended headers");
	if (rq->nr_status++)
		fail("two chunks for one context");
	p = row_alloc(len);
	conn_recv(c, p, len);
	if (get32(p) != c->meta[0].id)
		fail("context id %u, not %u", get32(p), c->meta[0].id);
	if (get32(p + 4) && get32(p + 4) != n)
		fail("a count of %u for %u extents", get32(p + 4), n);
	rq->ext = row_alloc(n * sizeof(*rq->ext));
	rq->nr_ext = n;
	for (uint32_t i = 0; i < n; i++) {
		rq->ext[i].length = get64(p + 8 + 16 * i);
		if (get32(p + 16 + 16 * i))
			fail("the padding of extent %u is not zero", i);
		rq->ext[i].flags = get32(p + 20 + 16 * i);
	}
	check_extents(rq);
}

static void take_status(struct conn *c, struct request *rq, uint32_t len)
{
	uint32_t n = len / 8;
	uint8_t *p;

	if (rq->type != CMD_BLOCK_STATUS || len < 12 || len % 8 != 4)
		fatal("BLOCK_STATUS chunk of %u bytes for command %u", len,
		      rq->type);
	if (n > MAX_EXTENTS)
		fatal("%u extents in a chunk", n);
	if (rq->nr_status++)
		fail("two chunks for one context");
	p = row_alloc(len);
	conn_recv(c, p, len);
	if (get32(p) != c->meta[0].id)
		fail("context id %u, not %u", get32(p), c->meta[0].id);
	rq->ext = row_alloc(n * sizeof(*rq->ext));
	rq->nr_ext = n;
	for (uint32_t i = 0; i < n; i++) {
		rq->ext[i].length = get32(p + 4 + 8 * i);
		rq->ext[i].flags = get32(p + 8 + 8 * i);
	}
	check_extents(rq);
}

static void take_error_chunk(struct conn *c, struct request *rq, uint16_t type,
			     uint32_t len)
{
	uint32_t fixed = type == CHUNK_ERROR_OFFSET ? 14 : 6;
	uint8_t p[NAME_MAX_LEN + 14];

	if (len < fixed || len > sizeof(p))
		fatal("an error chunk of %u bytes", len);
	conn_recv(c, p, len);
	if (get16(p + 4) > len - fixed || get16(p + 4) > NAME_MAX_LEN)
		fail("error text of %u bytes in a chunk of %u", get16(p + 4),
		     len);
	if (get32(p) == 0)
		fail("an error chunk without an error");
	take_error(rq, get32(p));
	rq->has_text = get16(p + 4) > 0;
	if (type == CHUNK_ERROR_OFFSET) {
		uint64_t off = get64(p + 6 + get16(p + 4));

		if (off < rq->off || off - rq->off >= rq->len)
			fail("error offset %" PRIu64 " outside the request",
			     off);
		for (unsigned int i = 0; i < rq->nr_ranges; i++)
			if (off >= rq->ranges[i].off &&
			    off - rq->ranges[i].off < rq->ranges[i].len)
				note("error offset %" PRIu64 " has data", off);
		rq->has_error_off = true;
		rq->error_off = off;
	}
}

static void finish_structured(struct request *rq)
{
	rq->done = true;
	if (rq->error)
		return;
	if (rq->type == CMD_READ && rq->covered != rq->len)
		fail("a successful read covers %" PRIu64 " of %" PRIu64
		     " bytes", rq->covered, rq->len);
	if (rq->type == CMD_BLOCK_STATUS && rq->len && !rq->nr_status)
		fail("a successful BLOCK_STATUS without a status chunk");
}

static void take_chunk(struct conn *c, struct request *rq, uint16_t flags,
		       uint16_t type, uint32_t len)
{
	if (!c->structured)
		fatal("a structured reply that was not negotiated");
	if (flags & ~CHUNK_DONE)
		fail("unknown chunk flags %#x", flags);
	rq->nr_chunks++;
	switch (type) {
	case CHUNK_NONE:
		if (len || !(flags & CHUNK_DONE))
			fatal("a NONE chunk of %u bytes, flags %#x", len,
			      flags);
		break;
	case CHUNK_DATA:
		take_data(c, rq, len);
		break;
	case CHUNK_HOLE:
		take_hole(c, rq, len);
		break;
	case CHUNK_STATUS:
		take_status(c, rq, len);
		break;
	case CHUNK_STATUS_EXT:
		take_status_ext(c, rq, len);
		break;
	case CHUNK_ERROR:
	case CHUNK_ERROR_OFFSET:
		take_error_chunk(c, rq, type, len);
		break;
	default:
		fatal("a chunk of unknown type %#x", type);
	}
	if ((rq->flags & CF_DF) && rq->nr_data + rq->nr_hole > 1)
		fail("DF was set, %u content chunks came",
		     rq->nr_data + rq->nr_hole);
	if (flags & CHUNK_DONE)
		finish_structured(rq);
}

static void take_simple(struct conn *c, struct request *rq, uint32_t error)
{
	rq->simple = rq->done = true;
	if (error)
		take_error(rq, error);
	if (c->structured && rq->type == CMD_READ) {
		if (!error)
			fatal("a simple reply to READ");
		fail("a simple reply to READ (%s)", wire_errname(error));
	} else if (rq->type == CMD_READ && !error) {
		recv_into(c, rq, rq->off, rq->len);
	} else if (rq->type == CMD_BLOCK_STATUS && !error && rq->len) {
		fail("a simple reply without error to BLOCK_STATUS");
	}
}

static struct request *find(struct request *rqs, size_t nr, uint64_t cookie)
{
	for (size_t i = 0; i < nr; i++)
		if (!rqs[i].done && rqs[i].cookie == cookie)
			return &rqs[i];
	fatal("a reply with cookie %#" PRIx64 ", which waits for none",
	      cookie);
}

/* @head has the first 16 bytes. */
static void take_extended(struct conn *c, struct request *rq, uint8_t *head)
{
	conn_recv(c, head + 16, 16);
	if (get64(head + 16) != rq->off)
		fail("offset %" PRIu64 " is echoed as %" PRIu64, rq->off,
		     get64(head + 16));
	if (get64(head + 24) > 0xffffffff)
		fatal("a chunk of %" PRIu64 " bytes", get64(head + 24));
	take_chunk(c, rq, get16(head + 4), get16(head + 6), get64(head + 24));
}

struct request *reply_step(struct conn *c, struct request *rqs, size_t nr)
{
	struct request *rq;
	uint8_t head[32];

	conn_recv(c, head, 16);
	if (c->extended != (get32(head) == EXT_CHUNK_MAGIC))
		fatal("reply magic %#x %s extended headers", get32(head),
		      c->extended ? "with" : "without");
	rq = find(rqs, nr, get64(head + 8));
	if (c->extended) {
		take_extended(c, rq, head);
	} else if (get32(head) == SIMPLE_MAGIC) {
		take_simple(c, rq, get32(head + 4));
	} else if (get32(head) == CHUNK_MAGIC) {
		conn_recv(c, head + 16, 4);
		take_chunk(c, rq, get16(head + 4), get16(head + 6),
			   get32(head + 16));
	} else {
		fatal("out of sync: reply magic %#x", get32(head));
	}
	return rq;
}

void replies(struct conn *c, struct request *rqs, size_t nr)
{
	size_t done = 0;

	for (size_t i = 0; i < nr; i++)
		done += rqs[i].done;
	while (done < nr)
		done += reply_step(c, rqs, nr)->done;
}

uint32_t perform(struct conn *c, struct request *rq)
{
	request_send(c, rq);
	replies(c, rq, 1);
	return rq->error;
}

uint32_t command(struct conn *c, uint16_t flags, uint16_t type, uint64_t off,
		 uint64_t len)
{
	struct request rq = {
		.flags = flags, .type = type, .off = off, .len = len,
	};

	return perform(c, &rq);
}

uint32_t do_read(struct conn *c, uint64_t off, uint32_t len, void *buf)
{
	struct request rq = {
		.type = CMD_READ, .off = off, .len = len, .buf = buf,
	};

	return perform(c, &rq);
}

uint32_t do_write(struct conn *c, uint16_t flags, uint64_t off, uint32_t len,
		  const void *buf)
{
	struct request rq = {
		.flags = flags, .type = CMD_WRITE, .off = off, .len = len,
		.buf = (uint8_t *)(uintptr_t)buf,
	};

	return perform(c, &rq);
}

void disconnect(struct conn *c)
{
	struct request rq = { .type = CMD_DISC };

	request_send_header(c, &rq);
}

void alive(struct conn *c)
{
	uint32_t len = c->has_block_size && c->bs_min > 512 ? c->bs_min : 512;
	uint32_t error = do_read(c, 0, len, NULL);

	if (error)
		fail("the READ after it got %s", wire_errname(error));
}

void fill(struct conn *c, uint64_t off, uint32_t len, uint8_t byte)
{
	uint8_t *buf = malloc(len);
	uint32_t error;

	if (!buf)
		fatal("no memory for %u bytes", len);
	memset(buf, byte, len);
	error = do_write(c, 0, off, len, buf);
	free(buf);
	if (error)
		fatal("WRITE %" PRIu64 "+%u got %s", off, len,
		      wire_errname(error));
}

void expect_bytes(struct conn *c, uint64_t off, uint32_t len, uint8_t byte)
{
	uint8_t *buf = row_alloc(len);
	uint32_t error = do_read(c, off, len, buf);

	if (error) {
		fail("READ %" PRIu64 "+%u got %s", off, len,
		     wire_errname(error));
		return;
	}
	for (uint32_t i = 0; i < len; i++) {
		if (buf[i] != byte) {
			fail("byte %" PRIu64 " is 0x%02x, not 0x%02x", off + i,
			     buf[i], byte);
			return;
		}
	}
}

const char *wire_errname(uint32_t error)
{
	static char other[16];

	switch (error) {
	case 0:			return "OK";
	case WIRE_EPERM:	return "EPERM";
	case WIRE_EIO:		return "EIO";
	case WIRE_ENOMEM:	return "ENOMEM";
	case WIRE_EINVAL:	return "EINVAL";
	case WIRE_ENOSPC:	return "ENOSPC";
	case WIRE_EOVERFLOW:	return "EOVERFLOW";
	case WIRE_ENOTSUP:	return "ENOTSUP";
	case WIRE_ESHUTDOWN:	return "ESHUTDOWN";
	}
	snprintf(other, sizeof(other), "error %u", error);
	return other;
}

void expect_error(uint32_t got, uint32_t want)
{
	if (got != want)
		fail("got %s, not %s", wire_errname(got), wire_errname(want));
}

void need_size(const struct conn *c, uint64_t size)
{
	if (c->size < size)
		skip("the export has %" PRIu64 " bytes, %" PRIu64 " are needed",
		     c->size, size);
}

void need_flag(const struct conn *c, uint16_t tflag, const char *name)
{
	if (c->tflags & tflag)
		return;
	if (env.server)
		fatal("%s is not advertised", name);
	skip("%s is not advertised", name);
}

void need_structured(const struct conn *c)
{
	if (!c->structured)
		fatal("the server has no structured replies");
}

void need_status(const struct conn *c)
{
	if (!c->has_status)
		fatal("the server has no base:allocation");
}
