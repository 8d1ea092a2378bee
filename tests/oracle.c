/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * oracle.c - histories of granules, and who may be met in them.
 */
#include "tests/oracle.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define READERS_MAX	64u
#define PRUNE_AT	8u	/* versions of a granule before it is looked at */
#define NEVER		UINT32_MAX

struct op {
	enum oracle_kind	kind;
	uint64_t		pos, len;
	uint32_t		submitted;
	uint32_t		answered;	/* NEVER: in flight */
	bool			acked, durable;
};

/* One version in a granule's history. */
struct entry {
	uint32_t	id;
	/* It came back (or was what the world began with) at that time, and
	 * counts as answered then; 0: as its op says. */
	uint32_t	renewed;
	/* A read that began then met it, and it was no longer in flight: all
	 * that was answered by then came before it. */
	uint32_t	seen;
	bool		base;		/* the world began with it: durable */
};

struct granule {
	struct entry	*entries;
	uint32_t	nr, max;
};

struct oracle {
	uint64_t	size;
	unsigned int	unit;		/* bytes of a granule */
	enum volume_mode mode;
	uint32_t	now;
	uint64_t	nr_granules;
	struct granule	*granules;
	struct op	*ops;
	uint32_t	nr_ops, max_ops;
	uint32_t	readers[READERS_MAX];	/* since when; 0: free */
	char		message[1024];
};

static void *grow(void *mem, uint32_t nr, uint32_t *max, size_t size)
{
	if (nr < *max)
		return mem;
	*max = *max ? *max * 2 : 4;
	mem = realloc(mem, *max * size);
	if (!mem)
		abort();
	return mem;
}

static uint32_t tick(struct oracle *oracle)
{
	assert(oracle->now < NEVER - 1);
	return ++oracle->now;
}

/* ---- patterns ---- */

/* The first word names version and granule, the others follow from it. */
static uint64_t pattern(uint32_t id, uint64_t granule, unsigned int word)
{
	uint64_t name = (uint64_t)id << 32 | granule;

	return word ? name * UINT64_C(0x9e3779b97f4a7c15) +
		      word * UINT64_C(0xc2b2ae3d27d4eb4f) : name;
}

void oracle_fill(const struct oracle *oracle, uint32_t id, uint64_t pos,
		 void *buf, uint64_t len)
{
	unsigned int words = oracle->unit / 8;
	uint64_t *to = buf;

	for (uint64_t g = pos / oracle->unit; g < (pos + len) / oracle->unit;
	     g++)
		for (unsigned int i = 0; i < words; i++)
			*to++ = pattern(id, g, i);
}

/* Which version @granule holds; 0 for zeroes.  False: none that ever was. */
static bool recognise(const struct oracle *oracle, uint64_t granule,
		      const void *buf, uint32_t *idp)
{
	const uint64_t *words = buf;
	unsigned int nr = oracle->unit / 8;

	*idp = (uint32_t)(words[0] >> 32);
	for (unsigned int i = 0; i < nr; i++) {
		uint64_t want = *idp ? pattern(*idp, granule, i) : 0;

		if (words[i] != want)
			return false;
	}
	return *idp < oracle->nr_ops;
}

/* ---- life ---- */

struct oracle *oracle_new(uint64_t size, unsigned int granule,
			  enum volume_mode mode)
{
	struct oracle *oracle = calloc(1, sizeof(*oracle));

	assert(size % granule == 0 && granule % 8 == 0);
	if (!oracle)
		abort();
	oracle->size = size;
	oracle->unit = granule;
	oracle->mode = mode;
	oracle->nr_granules = size / granule;
	oracle->granules = calloc(oracle->nr_granules, sizeof(struct granule));
	if (!oracle->granules)
		abort();
	/* Number 0 is zeroes that were always there. */
	(void)oracle_phantom(oracle);
	oracle->ops[0].kind = ORACLE_ZERO;
	(void)oracle_restart(oracle, NULL);
	return oracle;
}

void oracle_free(struct oracle *oracle)
{
	if (!oracle)
		return;
	for (uint64_t g = 0; g < oracle->nr_granules; g++)
		free(oracle->granules[g].entries);
	free(oracle->granules);
	free(oracle->ops);
	free(oracle);
}

static void add_entry(struct granule *granule, uint32_t id)
{
	granule->entries = grow(granule->entries, granule->nr, &granule->max,
				sizeof(struct entry));
	granule->entries[granule->nr++] = (struct entry){ .id = id };
}

static bool is_zeroes(const struct oracle *oracle, uint32_t id)
{
	return oracle->ops[id].kind == ORACLE_ZERO;
}

static void complain(struct oracle *oracle, const char *what, uint64_t granule,
		     const void *found, uint32_t since);

bool oracle_restart(struct oracle *oracle, const void *image)
{
	uint32_t now = tick(oracle);

	for (uint64_t g = 0; g < oracle->nr_granules; g++) {
		struct granule *granule = &oracle->granules[g];
		const char *bytes = image;
		uint32_t id = 0;

		if (image && !recognise(oracle, g, bytes + g * oracle->unit,
					&id)) {
			complain(oracle, "at the start", g,
				 bytes + g * oracle->unit, now);
			return false;
		}
		granule->nr = 0;
		add_entry(granule, id);
		granule->entries[0].renewed = now;
		granule->entries[0].base = true;
	}
	return true;
}

/* ---- who is out of whose way ---- */

static uint32_t answered(const struct oracle *oracle, const struct entry *entry)
{
	uint32_t at = oracle->ops[entry->id].answered;

	return entry->renewed ? entry->renewed : at;
}

/* Is @entry one that, answered by @before, displaces older ones? */
static bool displaces(const struct oracle *oracle, const struct entry *entry,
		      bool durable, uint32_t before)
{
	const struct op *op = &oracle->ops[entry->id];

	if (entry->base)
		return true;
	return op->acked && op->answered < before && (!durable || op->durable);
}

/*
 * Has @entry come out of the way of one that displaces it?  Of all but
 * @entry's own time of being seen, which is no reason against itself.
 */
static bool is_gone(const struct oracle *oracle, const struct granule *granule,
		    const struct entry *entry, bool durable, uint32_t before)
{
	uint32_t at = answered(oracle, entry);

	for (uint32_t i = 0; i < granule->nr; i++) {
		const struct entry *other = &granule->entries[i];

		if (!displaces(oracle, other, durable, before))
			continue;
		if (at < oracle->ops[other->id].submitted ||
		    (other != entry && at < other->seen))
			return true;
	}
	return false;
}

/*
 * May @id (0: any zeroes) be met in @granule?  Returns as how many of the
 * versions, the last of which is in *@entryp.
 */
static unsigned int may_meet(const struct oracle *oracle,
			     const struct granule *granule, uint32_t id,
			     bool durable, uint32_t before,
			     struct entry **entryp)
{
	unsigned int nr = 0;

	for (uint32_t i = 0; i < granule->nr; i++) {
		struct entry *entry = &granule->entries[i];

		if (entry->id != id && (id || !is_zeroes(oracle, entry->id)))
			continue;
		if (is_gone(oracle, granule, entry, durable, before))
			continue;
		*entryp = entry;
		nr++;
	}
	return nr;
}

static uint32_t oldest_reader(const struct oracle *oracle)
{
	uint32_t oldest = NEVER;

	for (unsigned int i = 0; i < READERS_MAX; i++) {
		if (oracle->readers[i])
			oldest = MIN(oldest, oracle->readers[i]);
	}
	return oldest;
}

/* Forget what neither a reader nor a crash can meet. */
static void prune(struct oracle *oracle, struct granule *granule)
{
	uint32_t before = oldest_reader(oracle), kept = 0;
	struct granule old = *granule;

	granule->entries = NULL;
	granule->nr = granule->max = 0;
	for (uint32_t i = 0; i < old.nr; i++) {
		if (is_gone(oracle, &old, &old.entries[i], true, before))
			continue;
		granule->entries = grow(granule->entries, kept, &granule->max,
					sizeof(struct entry));
		granule->entries[kept++] = old.entries[i];
	}
	granule->nr = kept;
	free(old.entries);
}

/* ---- requests ---- */

uint32_t oracle_phantom(struct oracle *oracle)
{
	oracle->ops = grow(oracle->ops, oracle->nr_ops, &oracle->max_ops,
			   sizeof(*oracle->ops));
	oracle->ops[oracle->nr_ops] = (struct op){ .answered = NEVER };
	return oracle->nr_ops++;
}

uint32_t oracle_begin(struct oracle *oracle, enum oracle_kind kind,
		      uint64_t pos, uint64_t len)
{
	uint32_t id = oracle_phantom(oracle);
	struct op *op = &oracle->ops[id];

	assert(pos % oracle->unit == 0 && len % oracle->unit == 0);
	assert(range_within(pos, len, oracle->size));
	op->kind = kind;
	op->pos = pos;
	op->len = len;
	op->submitted = tick(oracle);
	for (uint64_t g = pos / oracle->unit; g < (pos + len) / oracle->unit;
	     g++) {
		if (oracle->granules[g].nr >= PRUNE_AT)
			prune(oracle, &oracle->granules[g]);
		add_entry(&oracle->granules[g], id);
	}
	return id;
}

/* A ZERO failed: whatever the device may have had can be met again. */
static void renew(struct oracle *oracle, const struct op *op)
{
	uint64_t end = (op->pos + op->len) / oracle->unit;

	for (uint64_t g = op->pos / oracle->unit; g < end; g++) {
		struct granule *granule = &oracle->granules[g];

		/* What has gone for good goes before the rest comes back. */
		prune(oracle, granule);
		for (uint32_t i = 0; i < granule->nr; i++) {
			struct entry *entry = &granule->entries[i];

			if (answered(oracle, entry) < op->answered)
				entry->renewed = op->answered;
		}
	}
}

void oracle_end(struct oracle *oracle, uint32_t id, int ret, bool fua)
{
	struct op *op = &oracle->ops[id];

	op->answered = tick(oracle);
	if (ret) {
		/* Refused for want of a fast way: nothing was touched. */
		if (op->kind == ORACLE_ZERO && ret != -EOPNOTSUPP)
			renew(oracle, op);
		return;
	}
	op->acked = true;
	if (oracle->mode == VOLUME_WRITETHROUGH ||
	    oracle->mode == VOLUME_DIRECTSYNC)
		op->durable = true;
	else if (oracle->mode != VOLUME_UNSAFE)
		op->durable = fua;
}

uint32_t oracle_now(struct oracle *oracle)
{
	return tick(oracle);
}

void oracle_flushed(struct oracle *oracle, uint32_t since, int ret)
{
	(void)tick(oracle);
	if (ret || oracle->mode == VOLUME_UNSAFE)
		return;
	for (uint32_t id = 0; id < oracle->nr_ops; id++) {
		struct op *op = &oracle->ops[id];

		if (op->acked && op->answered < since)
			op->durable = true;
	}
}

/* ---- looking ---- */

static void describe(struct oracle *oracle, uint64_t granule, char *to,
		     size_t len)
{
	const struct granule *gr = &oracle->granules[granule];
	size_t used = 0;

	*to = '\0';
	for (uint32_t i = 0; i < gr->nr && used < len; i++) {
		const struct entry *entry = &gr->entries[i];
		const struct op *op = &oracle->ops[entry->id];
		int n;

		n = snprintf(to + used, len - used, " %s%" PRIu32 "[%" PRIu32
			     "..%" PRId32 "]%s", is_zeroes(oracle, entry->id) ?
			     "zero" : "", entry->id, op->submitted,
			     (int32_t)answered(oracle, entry), entry->base ?
			     "base" : op->durable ? "durable" : op->acked ?
			     "acked" : op->answered == NEVER ? "in-flight" :
			     "failed");
		used += (size_t)n;
	}
}

static void complain(struct oracle *oracle, const char *what, uint64_t granule,
		     const void *found, uint32_t since)
{
	char history[640];
	uint32_t id;
	bool known = recognise(oracle, granule, found, &id);
	const uint64_t *words = found;

	describe(oracle, granule, history, sizeof(history));
	snprintf(oracle->message, sizeof(oracle->message),
		 "%s, at byte %" PRIu64 ": found %s%" PRIu32
		 " (word %016" PRIx64 ") at time %" PRIu32
		 "; versions [submitted..answered]:%s", what,
		 granule * oracle->unit, known ? "version " :
		 "torn or foreign bytes, ", id, words[0], since, history);
}

uint32_t oracle_read_begin(struct oracle *oracle)
{
	uint32_t since = tick(oracle);
	unsigned int i = 0;

	while (i < READERS_MAX && oracle->readers[i])
		i++;
	assert(i < READERS_MAX);
	oracle->readers[i] = since;
	return since;
}

void oracle_read_end(struct oracle *oracle, uint32_t since)
{
	for (unsigned int i = 0; i < READERS_MAX; i++) {
		if (oracle->readers[i] == since)
			oracle->readers[i] = 0;
	}
}

bool oracle_read_check(struct oracle *oracle, uint32_t since, uint64_t pos,
		       const void *buf, uint64_t len)
{
	const char *bytes = buf;

	assert(pos % oracle->unit == 0 && len % oracle->unit == 0);
	for (uint64_t g = pos / oracle->unit; g < (pos + len) / oracle->unit;
	     g++, bytes += oracle->unit) {
		const struct granule *granule = &oracle->granules[g];
		struct entry *entry;
		unsigned int nr = 0;
		uint32_t id;

		if (recognise(oracle, g, bytes, &id))
			nr = may_meet(oracle, granule, id, false, since,
				      &entry);
		if (!nr) {
			complain(oracle, "a read", g, bytes, since);
			return false;
		}
		/* Of several that are alike it is not known which it was. */
		if (nr == 1 && displaces(oracle, entry, false, since))
			entry->seen = MAX(entry->seen, since);
	}
	return true;
}

/* Does an acknowledgement mean that the device has it? */
static bool acks_are_handed_over(const struct oracle *oracle)
{
	return oracle->mode != VOLUME_WRITEBACK &&
	       oracle->mode != VOLUME_UNSAFE;
}

bool oracle_check_image(struct oracle *oracle, enum oracle_crash crash,
			const void *image)
{
	bool durable = crash == ORACLE_CUT || !acks_are_handed_over(oracle);
	const char *bytes = image;

	for (uint64_t g = 0; g < oracle->nr_granules;
	     g++, bytes += oracle->unit) {
		const struct granule *granule = &oracle->granules[g];
		struct entry *entry;
		uint32_t id;

		if (recognise(oracle, g, bytes, &id) &&
		    may_meet(oracle, granule, id, durable, NEVER, &entry))
			continue;
		complain(oracle, crash == ORACLE_CUT ? "after a power cut" :
			 "after kill -9", g, bytes, oracle->now);
		return false;
	}
	return true;
}

const char *oracle_message(const struct oracle *oracle)
{
	return oracle->message;
}
