/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mutate.c - change a script of fuzz_session and have it still be one.
 *
 * libFuzzer's own mutator knows bytes; this one knows steps, and in steps the
 * messages: it inserts whole options and requests with payloads, deletes,
 * doubles, reorders, splits and joins steps, and sets fields to values at which
 * something may go wrong.  What has no form it leaves to libFuzzer.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "proto/nbd.h"
#include "tests/fuzz/script.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
			       unsigned int seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1,
				 const uint8_t *data2, size_t size2,
				 uint8_t *out, size_t max_out,
				 unsigned int seed);

static struct random rnd;

/* The bytes of new and changed steps; anew for each mutation. */
static uint8_t arena[1 << 20];
static size_t arena_used;

static uint8_t *alloc_bytes(size_t len)
{
	uint8_t *p = arena + arena_used;

	if (len > sizeof(arena) - arena_used)
		return NULL;
	arena_used += len;
	return p;
}

static unsigned int below(unsigned int n)
{
	return random_below(&rnd, n);
}

/* ---- values ---- */

static uint64_t interesting(void)
{
	static const uint64_t values[] = {
		0, 1, 2, 7, 8, 27, 28, 511, 512, 513, 4095, 4096, 4097, 32768,
		32769, 65535, 65536, 65537, 1 << 20, (1 << 20) + 1, 4 << 20,
		(4 << 20) - 1, (4 << 20) + 1, 64 << 20, (64 << 20) + 1,
		128 << 20, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff,
		UINT64_C(1) << 32, INT64_MAX, UINT64_MAX - 4095, UINT64_MAX,
	};

	return below(8) ? values[below(ARRAY_SIZE(values))] :
			  random_u64(&rnd) >> below(64);
}

static uint64_t some_pos(void)
{
	uint64_t pos = below(4 << 20);

	return below(8) == 0 ? interesting() : below(2) ? pos & ~4095u : pos;
}

static uint32_t some_len(void)
{
	static const uint32_t lens[] = {
		0, 1, 100, 512, 4096, 8192, 20000, 32768, 33000, 65536, 70000,
		300000, FILL_MAX,
	};

	return below(8) == 0 ? interesting() : lens[below(ARRAY_SIZE(lens))];
}

static void put16(uint8_t *p, uint16_t val)
{
	val = htobe16(val);
	memcpy(p, &val, sizeof(val));
}

static void put32(uint8_t *p, uint32_t val)
{
	val = htobe32(val);
	memcpy(p, &val, sizeof(val));
}

static void put64(uint8_t *p, uint64_t val)
{
	val = htobe64(val);
	memcpy(p, &val, sizeof(val));
}

/* ---- new steps ---- */

static struct step new_step(enum step_kind kind, size_t len)
{
	struct step step = { .kind = kind, .len = len };

	step.data = alloc_bytes(len);
	if (!step.data)
		step.len = 0;
	return step;
}

static uint8_t *bytes_of(const struct step *step)
{
	return (uint8_t *)(uintptr_t)step->data;
}

/* A name behind its length. */
static size_t put_name(uint8_t *p)
{
	static const char *const names[] = {
		"a", "read-only", "", "a", "none", "a\0b",
	};
	const char *name = names[below(ARRAY_SIZE(names))];
	size_t len = strlen(name);

	put32(p, len);
	memcpy(p + 4, name, len);
	return 4 + len;
}

static size_t put_option_data(uint32_t option, uint8_t *p)
{
	static const char context[] = "base:allocation";
	size_t n;

	switch (option) {
	case NBD_OPT_EXPORT_NAME:
		n = put_name(p) - 4;
		memmove(p, p + 4, n);
		return n;
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		n = put_name(p);
		put16(p + n, below(3));
		put16(p + n + 2, below(4));
		put16(p + n + 4, below(4));
		return n + 2 + 2 * p[n + 1];
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		n = put_name(p);
		put32(p + n, 1);
		put32(p + n + 4, sizeof(context) - 1);
		memcpy(p + n + 8, context, sizeof(context) - 1);
		return n + 8 + sizeof(context) - 1;
	default:
		return below(8) ? 0 : below(40);
	}
}

static struct step new_option(void)
{
	static const uint32_t options[] = {
		NBD_OPT_EXPORT_NAME, NBD_OPT_ABORT, NBD_OPT_LIST,
		NBD_OPT_STARTTLS, NBD_OPT_INFO, NBD_OPT_GO, NBD_OPT_GO,
		NBD_OPT_STRUCTURED_REPLY, NBD_OPT_LIST_META_CONTEXT,
		NBD_OPT_SET_META_CONTEXT, NBD_OPT_EXTENDED_HEADERS, 4711,
	};
	uint32_t option = options[below(ARRAY_SIZE(options))];
	uint8_t data[128] = { 0 };
	size_t len = put_option_data(option, data);
	struct step step = new_step(STEP_SAY, 16 + len);

	if (!step.len)
		return step;
	put64(bytes_of(&step), NBD_OPTION_MAGIC);
	put32(bytes_of(&step) + 8, option);
	put32(bytes_of(&step) + 12, len);
	memcpy(bytes_of(&step) + 16, data, len);
	return step;
}

static struct step new_request(bool extended, uint16_t type, uint32_t len)
{
	struct step step = new_step(STEP_SAY, extended ? 32 : 28);
	uint16_t flags = below(4) ? 0 : 1u << below(7);
	uint8_t *p = bytes_of(&step);

	if (!step.len)
		return step;
	if (extended && type == NBD_CMD_WRITE && below(4))
		flags |= NBD_CMD_FLAG_PAYLOAD_LEN;
	put32(p, extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
	put16(p + 4, flags);
	put16(p + 6, type);
	put64(p + 8, random_u64(&rnd));
	put64(p + 16, some_pos());
	if (extended)
		put64(p + 24, len);
	else
		put32(p + 24, len);
	return step;
}

static struct step new_fill(uint32_t len)
{
	struct step step = new_step(STEP_FILL, FILL_SIZE);

	if (!step.len)
		return step;
	put32(bytes_of(&step), len << 8 | below(256));
	return step;
}

/* The list of contexts behind a filtered BLOCK_STATUS. */
static struct step new_contexts(void)
{
	struct step step = new_step(STEP_SAY, 12);

	if (!step.len)
		return step;
	put64(bytes_of(&step), some_len());
	put32(bytes_of(&step) + 8, below(4) ? 1 : below(3));
	return step;
}

/* ---- changes to the list ---- */

static void insert(struct script *s, unsigned int at, struct step step)
{
	if (s->nr == SCRIPT_STEPS || at > s->nr)
		return;
	memmove(&s->steps[at + 1], &s->steps[at],
		(s->nr - at) * sizeof(step));
	s->steps[at] = step;
	s->nr++;
}

static void delete(struct script *s, unsigned int at, unsigned int nr)
{
	nr = MIN(nr, s->nr - at);
	memmove(&s->steps[at], &s->steps[at + nr],
		(s->nr - at - nr) * sizeof(s->steps[0]));
	s->nr -= nr;
}

/* In the form that the script speaks already, mostly. */
static bool speaks_extended(const struct script *s)
{
	for (unsigned int i = 0; i < s->nr; i++) {
		uint32_t option;

		if (s->steps[i].kind != STEP_SAY || s->steps[i].len < 16)
			continue;
		memcpy(&option, s->steps[i].data + 8, sizeof(option));
		if (be32toh(option) == NBD_OPT_EXTENDED_HEADERS)
			return below(16);
	}
	return !below(16);
}

static void insert_request(struct script *s, unsigned int at)
{
	bool extended = speaks_extended(s);
	uint16_t type = below(16) ? below(NBD_CMD_BLOCK_STATUS + 1) :
				    below(65536);
	uint32_t len = some_len();

	if (type == NBD_CMD_FLUSH && below(8))
		len = 0;
	insert(s, at, new_request(extended, type, len));
	if (type == NBD_CMD_WRITE && below(8))
		insert(s, at + 1, new_fill(len));
	if (extended && type == NBD_CMD_BLOCK_STATUS && below(4) == 0)
		insert(s, at + 1, new_contexts());
}

static void insert_something(struct script *s, unsigned int at)
{
	struct step step;

	switch (below(16)) {
	case 0 ... 4:
		insert(s, at, new_option());
		break;
	case 5 ... 11:
		insert_request(s, at);
		break;
	case 12:
		step = new_step(STEP_RAW, below(40));
		for (unsigned int i = 0; i < step.len; i++)
			bytes_of(&step)[i] = random_u64(&rnd);
		insert(s, at, step);
		break;
	case 13:
		insert(s, at, new_fill(some_len()));
		break;
	default:
		step = (struct step){ .kind = STEP_WAIT + below(3) };
		insert(s, at, step);
	}
}

static void split(struct script *s, unsigned int at)
{
	struct step *step = &s->steps[at], rest = *step;

	if (step->len < 2 || step->kind == STEP_FILL)
		return;
	step->len = 1 + below(step->len - 1);
	rest.data += step->len;
	rest.len -= step->len;
	insert(s, at + 1, rest);
	if (below(2))
		insert(s, at + 1, (struct step){ .kind = STEP_WAIT });
}

static void join(struct script *s, unsigned int at)
{
	struct step *a = &s->steps[at], *b = a + 1, both;

	if (at + 1 >= s->nr || a->kind != b->kind || a->kind > STEP_RAW ||
	    a->len + b->len > UINT16_MAX)
		return;
	both = new_step(a->kind, a->len + b->len);
	if (!both.len)
		return;
	memcpy(bytes_of(&both), a->data, a->len);
	memcpy(bytes_of(&both) + a->len, b->data, b->len);
	*a = both;
	delete(s, at + 1, 1);
}

static void swap(struct script *s, unsigned int at)
{
	unsigned int with = below(s->nr);
	struct step step = s->steps[at];

	s->steps[at] = s->steps[with];
	s->steps[with] = step;
}

/* ---- changes to a step ---- */

struct field {
	uint8_t	off, len;
};

static void set_field(uint8_t *p, const struct field *f)
{
	uint64_t val = interesting();

	switch (f->len) {
	case 2:
		put16(p + f->off, below(2) ? 1u << below(16) : val);
		break;
	case 4:
		put32(p + f->off, val);
		break;
	default:
		put64(p + f->off, val);
	}
}

/* A message's field, if it is one: true if something was set. */
static bool change_field(uint8_t *p, size_t len)
{
	static const struct field option[] = { { 8, 4 }, { 12, 4 }, { 16, 4 } };
	static const struct field request[] = {
		{ 4, 2 }, { 6, 2 }, { 16, 8 }, { 24, 4 }, { 24, 8 },
	};
	const struct field *f = NULL;
	uint32_t magic;

	if (len < 16)
		return false;
	memcpy(&magic, p, sizeof(magic));
	magic = be32toh(magic);
	if (magic == NBD_OPTION_MAGIC >> 32)
		f = &option[below(ARRAY_SIZE(option))];
	else if (magic == NBD_REQUEST_MAGIC)
		f = &request[below(4)];
	else if (magic == NBD_EXTENDED_REQUEST_MAGIC)
		f = &request[below(4) == 3 ? 4 : below(3)];
	if (!f || (size_t)f->off + f->len > len)
		return false;
	set_field(p, f);
	return true;
}

static void change_step(struct script *s, unsigned int at)
{
	struct step *step = &s->steps[at], changed;
	size_t room = step->len + 16u;

	if (step->kind > STEP_FILL) {
		step->kind = below(NR_STEPS);
		return;
	}
	changed = new_step(step->kind, MIN(room, (size_t)UINT16_MAX));
	if (!changed.len)
		return;
	if (step->len)
		memcpy(bytes_of(&changed), step->data, step->len);
	room = changed.len;
	changed.len = step->len;
	if (step->kind == STEP_FILL && below(2))
		changed = new_fill(some_len());
	else if (below(4) == 0 || !change_field(bytes_of(&changed),
						changed.len))
		changed.len = LLVMFuzzerMutate(bytes_of(&changed), step->len,
					       room);
	*step = changed;
}

static void change_setup(struct script *s)
{
	if (below(2))
		s->how ^= 1u << below(5);
	else
		s->setup ^= 1u << below(4);
}

static void mutate_once(struct script *s)
{
	unsigned int at = s->nr ? below(s->nr) : 0;

	if (!s->nr) {
		insert_something(s, 0);
		return;
	}
	switch (below(16)) {
	case 0 ... 4:
		insert_something(s, below(s->nr + 1));
		break;
	case 5 ... 9:
		change_step(s, at);
		break;
	case 10:
		delete(s, at, 1 + below(3));
		break;
	case 11:
		insert(s, at, s->steps[at]);
		break;
	case 12:
		swap(s, at);
		break;
	case 13:
		split(s, at);
		break;
	case 14:
		join(s, at);
		break;
	default:
		change_setup(s);
	}
}

/* Requests whose cookies are the same are all that the judge is blind to. */
static void tell_cookies_apart(struct script *s)
{
	for (unsigned int i = 0; i < s->nr; i++) {
		struct step *step = &s->steps[i], copy;
		uint32_t magic;

		if (step->kind != STEP_SAY || step->len < 28)
			continue;
		memcpy(&magic, step->data, sizeof(magic));
		magic = be32toh(magic);
		if (magic != NBD_REQUEST_MAGIC &&
		    magic != NBD_EXTENDED_REQUEST_MAGIC)
			continue;
		copy = new_step(STEP_SAY, step->len);
		if (!copy.len)
			return;
		memcpy(bytes_of(&copy), step->data, step->len);
		put64(bytes_of(&copy) + 8, i);
		*step = copy;
	}
}

/* ---- what libFuzzer calls ---- */

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
			       unsigned int seed)
{
	static uint8_t out[1 << 20];
	static struct script script;
	size_t n;

	random_init(&rnd, seed);
	arena_used = 0;
	script_parse(&script, data, size);
	for (unsigned int i = 1 + below(4); i; i--)
		mutate_once(&script);
	if (below(16))
		tell_cookies_apart(&script);
	n = script_write(&script, out, MIN(max_size, sizeof(out)));
	memcpy(data, out, n);
	return n;
}

/* The beginning of one and the end of the other. */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *data1, size_t size1,
				 const uint8_t *data2, size_t size2,
				 uint8_t *out, size_t max_out,
				 unsigned int seed)
{
	static struct script a, b;
	unsigned int from;

	random_init(&rnd, seed);
	arena_used = 0;
	script_parse(&a, data1, size1);
	script_parse(&b, data2, size2);
	a.nr = a.nr ? below(a.nr + 1) : 0;
	from = b.nr ? below(b.nr) : 0;
	for (unsigned int i = from; i < b.nr && a.nr < SCRIPT_STEPS; i++)
		a.steps[a.nr++] = b.steps[i];
	tell_cookies_apart(&a);
	return script_write(&a, out, max_out);
}
