/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * judge_requests.c - each request has one answer, and the volume is what the
 * answers say.
 *
 * The order in which requests are served is the server's, so only ranges that
 * one request alone changes are judged: they hold what it wrote if that was
 * acknowledged, and what they held before if it was refused or cut off.
 */
#include <stdlib.h>
#include <string.h>

#include "proto/request.h"
#include "tests/fuzz/judge_internal.h"

#define MAX_REQUESTS	512u
#define PAYLOAD_COMPACT	(UINT64_C(128) << 20)	/* more of it: disconnect */
#define PAYLOAD_EXT	(UINT64_C(64) << 20)

struct asked {
	struct nbd_request	nbd;
	const uint8_t		*payload;
	bool			whole, done;
	uint32_t		error;
	uint64_t		covered;	/* of a READ, by chunks */
};

struct requests {
	struct judge		*j;
	struct fakevolume	*fv;
	uint8_t			*before;
	struct asked		list[MAX_REQUESTS];
	unsigned int		nr;
};

/* ---- what was asked ---- */

static bool get_asked(struct judge *j, struct asked *a)
{
	const size_t size = j->extended ? NBD_EXTENDED_REQUEST_SIZE :
					  NBD_REQUEST_SIZE;
	const uint8_t *p = take(&j->said, size);
	uint64_t payload;

	memset(a, 0, sizeof(*a));
	if (!p || (j->extended ? nbd_get_extended_request(p, &a->nbd) :
				 nbd_get_request(p, &a->nbd)) ||
	    a->nbd.type == NBD_CMD_DISC)
		return false;
	payload = nbd_payload_len(&a->nbd);
	if (payload > (j->extended ? PAYLOAD_EXT : PAYLOAD_COMPACT))
		return false;
	a->payload = take(&j->said, payload);
	a->whole = a->payload;
	return true;
}

/* False if there are too many. */
static bool get_all_asked(struct requests *r)
{
	while (r->nr < MAX_REQUESTS) {
		struct asked *a = &r->list[r->nr];

		if (!get_asked(r->j, a))
			return true;
		r->nr++;
		if (!a->whole)
			return true;
	}
	return false;
}

static bool changes(const struct asked *a)
{
	return a->nbd.type == NBD_CMD_WRITE || a->nbd.type == NBD_CMD_TRIM ||
		a->nbd.type == NBD_CMD_WRITE_ZEROES;
}

/* Where @a ends, no farther than the volume does. */
static uint64_t end_of(const struct requests *r, const struct asked *a)
{
	uint64_t size = r->fv->vol.size;

	if (a->nbd.pos >= size)
		return a->nbd.pos;
	return a->nbd.len < size - a->nbd.pos ? a->nbd.pos + a->nbd.len : size;
}

/* Does another than @a change something of [@pos, @end)? */
static bool is_contested(const struct requests *r, const struct asked *a,
			 uint64_t pos, uint64_t end)
{
	for (unsigned int i = 0; i < r->nr; i++) {
		const struct asked *b = &r->list[i];

		if (b != a && changes(b) && b->whole && b->nbd.pos < end &&
		    end_of(r, b) > pos)
			return true;
	}
	return false;
}

/* ---- what was answered ---- */

/* The request that @cookie belongs to; NULL if it could be several. */
static struct asked *find(struct requests *r, const uint8_t *cookie)
{
	struct asked *found = NULL;

	for (unsigned int i = 0; i < r->nr; i++) {
		struct asked *a = &r->list[i];

		if (a->done || !a->whole ||
		    memcmp(&a->nbd.cookie, cookie, sizeof(a->nbd.cookie)))
			continue;
		if (found)
			return NULL;
		found = a;
	}
	if (!found)
		wrong("an answer to nothing that was asked");
	return found;
}

static void finish(struct asked *a, uint32_t error)
{
	static const uint32_t errors[] = {
		NBD_OK, NBD_EPERM, NBD_EIO, NBD_ENOMEM, NBD_EINVAL, NBD_ENOSPC,
		NBD_EOVERFLOW, NBD_ENOTSUP, NBD_ESHUTDOWN,
	};

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		if (errors[i] == error) {
			a->done = true;
			a->error = error;
			return;
		}
	}
	wrong("error %u", error);
}

static bool is_zero(const void *bytes, size_t len)
{
	const uint8_t *p = bytes;

	return !len || (p[0] == 0 && !memcmp(p, p + 1, len - 1));
}

/* What was read: nobody changes it in this session, or it is not judged. */
static void check_read(struct requests *r, struct asked *a, uint64_t pos,
		       uint64_t len, const uint8_t *data)
{
	if (len == 0 || pos < a->nbd.pos || len > a->nbd.len ||
	    pos - a->nbd.pos > a->nbd.len - len || end_of(r, a) < pos + len)
		wrong("%llu bytes at %llu, of what was not asked for",
		      (unsigned long long)len, (unsigned long long)pos);
	a->covered += len;
	if (is_contested(r, a, pos, pos + len))
		return;
	if (data ? memcmp(r->before + pos, data, len) :
		   !is_zero(r->before + pos, len))
		wrong("%llu bytes at %llu were read wrong",
		      (unsigned long long)len, (unsigned long long)pos);
}

/* True to go on; false if the rest cannot be judged. */
static bool simple_reply(struct requests *r)
{
	const uint8_t *p = take(&r->j->heard,
				sizeof(struct nbd_wire_simple_reply));
	const uint8_t *data;
	struct asked *a;

	if (!p)
		wrong("half a reply");
	a = find(r, p + 8);
	if (!a)
		return false;
	if (r->j->structured && (a->nbd.type == NBD_CMD_READ ||
				 a->nbd.type == NBD_CMD_BLOCK_STATUS))
		wrong("a simple reply where chunks were agreed on");
	finish(a, be32_at(p + 4));
	if (a->error || a->nbd.type != NBD_CMD_READ || !a->nbd.len)
		return true;
	data = take(&r->j->heard, a->nbd.len);
	if (!data && !r->j->session->may_fail)
		wrong("a reply was cut off");
	if (data)
		check_read(r, a, a->nbd.pos, a->nbd.len, data);
	return data;
}

/* The content of a BLOCK_STATUS chunk, behind what all have. */
static void check_status(struct judge *j, const struct asked *a,
			 const uint8_t *p, uint64_t len)
{
	size_t head = j->extended ? 8 : 4, each = j->extended ? 16 : 8;
	uint64_t sum = 0, n;

	if (len < head + each || (len - head) % each || be32_at(p) != 1)
		wrong("a status of %llu bytes", (unsigned long long)len);
	n = (len - head) / each;
	if (j->extended && be32_at(p + 4) != n)
		wrong("a wrong count of extents");
	if ((a->nbd.flags & NBD_CMD_FLAG_REQ_ONE) && n != 1)
		wrong("%llu extents for one", (unsigned long long)n);
	for (uint64_t i = 0; i < n; i++) {
		const uint8_t *ext = p + head + i * each;
		uint64_t ext_len = j->extended ? be64_at(ext) : be32_at(ext);

		if (!ext_len)
			wrong("an extent of nothing");
		/* Of a filtered request the length is in the payload. */
		if (!nbd_payload_len(&a->nbd) && sum >= a->nbd.len)
			wrong("extents beyond what was asked for");
		sum += ext_len;
	}
}

static void chunk_content(struct requests *r, struct asked *a, uint16_t type,
			  const uint8_t *p, uint64_t len)
{
	bool read = a->nbd.type == NBD_CMD_READ;

	if (type == NBD_CHUNK_NONE && !len)
		return;
	if (type == NBD_CHUNK_OFFSET_DATA && read && len > 8)
		check_read(r, a, be64_at(p), len - 8, p + 8);
	else if (type == NBD_CHUNK_OFFSET_HOLE && read && len == 12)
		check_read(r, a, be64_at(p), be32_at(p + 8), NULL);
	else if ((type == NBD_CHUNK_BLOCK_STATUS ||
		  type == NBD_CHUNK_BLOCK_STATUS_EXT) &&
		 a->nbd.type == NBD_CMD_BLOCK_STATUS &&
		 r->j->extended == (type == NBD_CHUNK_BLOCK_STATUS_EXT))
		check_status(r->j, a, p, len);
	else if (type == NBD_CHUNK_ERROR && len >= 6)
		a->error = be32_at(p);
	else if (type == NBD_CHUNK_ERROR_OFFSET && len >= 14)
		a->error = be32_at(p);
	else
		wrong("a chunk of type %#x and %llu bytes", type,
		      (unsigned long long)len);
	if ((type & 0x8000) && !a->error)
		wrong("an error that is none");
}

static bool chunk(struct requests *r)
{
	struct judge *j = r->j;
	const uint8_t *p = take(&j->heard, j->extended ?
				sizeof(struct nbd_wire_extended_chunk) :
				sizeof(struct nbd_wire_chunk));
	const uint8_t *content;
	struct asked *a;
	uint64_t len;

	if (!p)
		wrong("half a chunk");
	len = j->extended ? be64_at(p + 24) : be32_at(p + 16);
	content = take(&j->heard, len);
	if (!content)
		wrong("a chunk was cut off");
	a = find(r, p + 8);
	if (!a)
		return false;
	if (j->extended && be64_at(p + 16) != a->nbd.pos)
		wrong("the offset is not the request's");
	chunk_content(r, a, be16_at(p + 6), content, len);
	if (be16_at(p + 4) & NBD_CHUNK_FLAG_DONE) {
		finish(a, a->error);
		if (!a->error && a->nbd.type == NBD_CMD_READ &&
		    a->covered != a->nbd.len)
			wrong("%llu of %llu bytes were read",
			      (unsigned long long)a->covered,
			      (unsigned long long)a->nbd.len);
	}
	return true;
}

/* False if not all could be judged. */
static bool answers(struct requests *r)
{
	struct judge *j = r->j;

	while (j->heard.left >= sizeof(uint32_t)) {
		uint32_t magic = be32_at(j->heard.p);

		if (magic == NBD_SIMPLE_REPLY_MAGIC && !j->extended) {
			if (!simple_reply(r))
				return false;
		} else if (j->structured && magic == (j->extended ?
			   NBD_EXTENDED_CHUNK_MAGIC : NBD_CHUNK_MAGIC)) {
			if (!chunk(r))
				return false;
		} else {
			wrong("a reply with the magic %#x", magic);
		}
	}
	if (j->heard.left)
		wrong("half a magic");
	for (unsigned int i = 0; i < r->nr; i++)
		if (r->list[i].whole && !r->list[i].done &&
		    !j->session->may_fail)
			wrong("request %u of %u was not answered", i, r->nr);
	return true;
}

/* ---- the volume ---- */

/* [@pos, @end) is what is at @bytes, or zeroes. */
static bool holds(const struct requests *r, uint64_t pos, uint64_t end,
		  const uint8_t *bytes)
{
	const char *data = r->fv->data + pos;

	return bytes ? !memcmp(data, bytes, end - pos) :
		       is_zero(data, end - pos);
}

static void check_change(const struct requests *r, const struct asked *a)
{
	uint64_t pos = a->nbd.pos, end = end_of(r, a);
	bool served = a->whole && a->done && !a->error;
	bool cut = !a->whole || (a->done && a->error && a->error != NBD_EIO);

	if (pos >= end || is_contested(r, a, pos, end))
		return;
	if (served && (r->j->session->exports->exports[r->j->export].read_only ||
		       end - pos != a->nbd.len))
		wrong("request %u changed what it may not",
		      (unsigned int)(a - r->list));
	if (served && !holds(r, pos, end, a->nbd.type == NBD_CMD_WRITE ?
					  a->payload : NULL))
		wrong("request %u was acknowledged and not done",
		      (unsigned int)(a - r->list));
	if (cut && !holds(r, pos, end, r->before + pos))
		wrong("request %u was refused or cut off, and changed something",
		      (unsigned int)(a - r->list));
}

/* What has changed is what will have been there before. */
static void take_over(struct requests *r)
{
	for (unsigned int i = 0; i < r->nr; i++) {
		const struct asked *a = &r->list[i];
		uint64_t pos = a->nbd.pos, end = end_of(r, a);

		if (changes(a) && a->whole && pos < end)
			memcpy(r->before + pos, r->fv->data + pos, end - pos);
	}
}

void judge_requests(struct judge *j)
{
	static struct requests r;
	static unsigned int nr_judged;

	r.j = j;
	r.fv = j->session->volumes[j->export];
	r.before = j->session->before[j->export];
	r.nr = 0;
	if (!get_all_asked(&r)) {
		memcpy(r.before, r.fv->data, r.fv->vol.size);
		return;
	}
	if (answers(&r))
		for (unsigned int i = 0; i < r.nr; i++)
			if (changes(&r.list[i]))
				check_change(&r, &r.list[i]);
	take_over(&r);
	/* And nothing else has. */
	if (nr_judged++ % 16 == 0 &&
	    memcmp(r.before, r.fv->data, r.fv->vol.size))
		wrong("something has changed that nobody asked for");
}
