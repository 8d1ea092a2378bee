/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reply.c - what the server answers, byte by byte.
 *
 * The parser takes a stream cut anywhere and keeps no payload: what is to be
 * checked is checked where it lies in the receive buffer.  Anything that the
 * protocol does not allow ends the program.
 */
#include <err.h>
#include <string.h>

#include "base/util.h"
#include "bench/conn.h"
#include "bench/load.h"
#include "bench/pattern.h"

static const char *type_name(uint16_t type)
{
	static const char *const names[] = {
		"read", "write", "disconnect", "flush"
	};

	return type < ARRAY_SIZE(names) ? names[type] : "?";
}

static void __attribute__((noreturn))
fail_reply(const struct worker *worker, const struct slot *slot,
	   uint32_t error, const char *text)
{
	errx(1, "%s: %s of %u bytes at %llu: error %u (%s)%s%s",
	     worker->phase.name, type_name(slot->type), slot->len,
	     (unsigned long long)slot->pos, error, strerror(error),
	     *text ? ": " : "", text);
}

static struct slot *find_slot(struct worker *worker, struct conn *conn,
			      uint64_t cookie)
{
	unsigned int i = cookie & 0xffff;

	if (i >= worker->config->depth || !conn->slots[i].in_flight ||
	    conn->slots[i].cookie != cookie)
		errx(1, "%s: reply with a cookie that is not in flight",
		     worker->phase.name);
	return &conn->slots[i];
}

static void expect(struct conn *conn, enum parse_state state, unsigned int need)
{
	conn->state = state;
	conn->head_need = need;
}

void reply_expect_next(struct conn *conn)
{
	conn->head_len = 0;
	expect(conn, PARSE_MAGIC, sizeof(uint32_t));
}

static void complete(struct worker *worker, struct conn *conn, uint64_t now)
{
	struct slot *slot = conn->slot;
	uint64_t block;

	if (slot->type == WIRE_READ && slot->received != slot->len)
		errx(1, "%s: read of %u bytes at %llu: %u bytes came",
		     worker->phase.name, slot->len,
		     (unsigned long long)slot->pos, slot->received);
	slot->in_flight = false;
	conn->free_slots[conn->nr_free++] = slot - conn->slots;
	reply_expect_next(conn);
	if (slot->type == WIRE_FLUSH)
		return;
	worker->done++;
	hist_add(&worker->latency, now - slot->sent_ns);
	if (worker->config->verify) {
		block = slot->pos / worker->config->block_size -
			worker->first_block;
		worker->busy[block] = false;
		if (slot->type == WIRE_WRITE)
			worker->generation[block] = slot->generation;
	}
}

static void check_data(struct worker *worker, struct conn *conn,
		       const uint8_t *data, size_t len)
{
	const struct load_config *config = worker->config;
	uint32_t generation = conn->slot->generation;
	size_t good;

	if (!config->verify || !generation)
		return;
	good = pattern_check(data, conn->data_pos, len, config->seed,
			     generation);
	if (good < len)
		errx(1, "%s: byte %llu is not what was written (block at %llu, generation %u, seed %llu)",
		     worker->phase.name,
		     (unsigned long long)(conn->data_pos + good),
		     (unsigned long long)conn->slot->pos, generation,
		     (unsigned long long)config->seed);
}

static void parse_simple(struct worker *worker, struct conn *conn,
			 uint64_t now)
{
	struct wire_simple_reply reply;

	memcpy(&reply, conn->head, sizeof(reply));
	conn->slot = find_slot(worker, conn, reply.cookie);
	if (reply.error)
		fail_reply(worker, conn->slot, be32toh(reply.error), "");
	if (conn->slot->type != WIRE_READ) {
		complete(worker, conn, now);
		return;
	}
	if (worker->config->structured)
		errx(1, "%s: simple reply to a read after STRUCTURED_REPLY",
		     worker->phase.name);
	conn->data_pos = conn->slot->pos;
	conn->data_left = conn->slot->len;
	expect(conn, PARSE_DATA, 0);
}

static void end_chunk(struct worker *worker, struct conn *conn, uint64_t now)
{
	if (be16toh(conn->chunk.flags) & WIRE_CHUNK_DONE)
		complete(worker, conn, now);
	else
		reply_expect_next(conn);
}

static void parse_chunk(struct worker *worker, struct conn *conn, uint64_t now)
{
	uint32_t len;
	uint16_t type;

	memcpy(&conn->chunk, conn->head, sizeof(conn->chunk));
	conn->slot = find_slot(worker, conn, conn->chunk.cookie);
	len = be32toh(conn->chunk.len);
	type = be16toh(conn->chunk.type);
	if (!worker->config->structured)
		errx(1, "%s: structured reply that nobody asked for",
		     worker->phase.name);
	if (type == WIRE_CHUNK_NONE && len == 0)
		end_chunk(worker, conn, now);
	else if (type == WIRE_CHUNK_OFFSET_DATA && len > 8)
		expect(conn, PARSE_CHUNK_BODY, sizeof(conn->chunk) + 8);
	else if (type == WIRE_CHUNK_OFFSET_HOLE && len == 12)
		expect(conn, PARSE_CHUNK_BODY, sizeof(conn->chunk) + 12);
	else if ((type & WIRE_CHUNK_ERROR) && len >= 6)
		expect(conn, PARSE_CHUNK_BODY, sizeof(conn->chunk) + 6);
	else
		errx(1, "%s: chunk of type %u with %u bytes",
		     worker->phase.name, type, len);
}

/* A chunk's own fields are there: the data's place, or the error. */
static void parse_chunk_body(struct worker *worker, struct conn *conn,
			     uint64_t now)
{
	static const uint8_t zeroes[4096];
	const uint8_t *body = conn->head + sizeof(conn->chunk);
	uint16_t type = be16toh(conn->chunk.type);
	struct slot *slot = conn->slot;
	uint32_t len = be32toh(conn->chunk.len) - 8, error;
	uint64_t pos;

	if (type & WIRE_CHUNK_ERROR) {
		memcpy(&error, body, 4);
		/* Its text may come or not: the number says enough. */
		fail_reply(worker, slot, be32toh(error), "structured reply");
	}
	memcpy(&pos, body, 8);
	pos = be64toh(pos);
	if (type == WIRE_CHUNK_OFFSET_HOLE) {
		memcpy(&len, body + 8, 4);
		len = be32toh(len);
	}
	if (slot->type != WIRE_READ || pos < slot->pos ||
	    !range_within(pos - slot->pos, len, slot->len) ||
	    len > slot->len - slot->received)
		errx(1, "%s: chunk outside of what was requested",
		     worker->phase.name);
	conn->data_pos = pos;
	conn->data_left = len;
	if (type == WIRE_CHUNK_OFFSET_DATA) {
		expect(conn, PARSE_DATA, 0);
		return;
	}
	slot->received += len;
	while (conn->data_left) {
		uint32_t n = MIN(conn->data_left, (uint32_t)sizeof(zeroes));

		check_data(worker, conn, zeroes, n);
		conn->data_pos += n;
		conn->data_left -= n;
	}
	end_chunk(worker, conn, now);
}

static void parse_head(struct worker *worker, struct conn *conn, uint64_t now)
{
	uint32_t magic;

	switch (conn->state) {
	case PARSE_MAGIC:
		memcpy(&magic, conn->head, 4);
		magic = be32toh(magic);
		if (magic == WIRE_SIMPLE_MAGIC)
			expect(conn, PARSE_SIMPLE,
			       sizeof(struct wire_simple_reply));
		else if (magic == WIRE_CHUNK_MAGIC)
			expect(conn, PARSE_CHUNK, sizeof(struct wire_chunk));
		else
			errx(1, "%s: reply with the magic 0x%08x",
			     worker->phase.name, magic);
		break;
	case PARSE_SIMPLE:
		parse_simple(worker, conn, now);
		break;
	case PARSE_CHUNK:
		parse_chunk(worker, conn, now);
		break;
	default:
		parse_chunk_body(worker, conn, now);
	}
}

void reply_parse(struct worker *worker, struct conn *conn, const uint8_t *p,
		 size_t len, uint64_t now)
{
	const uint8_t *end = p + len;

	while (p < end) {
		size_t n = end - p;

		if (conn->state == PARSE_DATA) {
			n = MIN(n, (size_t)conn->data_left);
			check_data(worker, conn, p, n);
			p += n;
			conn->slot->received += n;
			conn->data_pos += n;
			conn->data_left -= n;
			if (conn->data_left)
				continue;
			if (worker->config->structured)
				end_chunk(worker, conn, now);
			else
				complete(worker, conn, now);
			continue;
		}
		n = MIN(n, (size_t)(conn->head_need - conn->head_len));
		memcpy(conn->head + conn->head_len, p, n);
		p += n;
		conn->head_len += n;
		if (conn->head_len == conn->head_need)
			parse_head(worker, conn, now);
	}
}
