/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fakevolume.c - a volume in plain memory, for tests of what stands above.
 *
 * There is no cache: a "pin" points into the one copy of the data, so a test
 * must not write what it has not yet received.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "tests/fakevolume.h"

#define PAGE	UINT64_C(4096)

const char volume_zeroes[VOLUME_ZERO_MAX];
uint64_t fake_pinned_bytes, fake_pinned_max;
unsigned int fake_pins, fake_stages;

static struct fakevolume *fake(struct volume *vol)
{
	return container_of(vol, struct fakevolume, vol);
}

struct fakevolume *fakevolume_new(uint64_t size)
{
	struct fakevolume *fv = calloc(1, sizeof(*fv));

	if (!fv)
		abort();
	fv->nr_pages = (size + PAGE - 1) / PAGE;
	fv->data = mmap(NULL, size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	fv->present = calloc(fv->nr_pages, sizeof(*fv->present));
	if (fv->data == MAP_FAILED || !fv->present)
		abort();
	fv->vol.name = "fake";
	fv->vol.size = size;
	fv->vol.block_shift = 9;
	return fv;
}

void fakevolume_free(struct fakevolume *fv)
{
	munmap(fv->data, fv->nr_pages * PAGE);
	free(fv->present);
	free(fv);
}

static void mark(struct fakevolume *fv, uint64_t pos, uint64_t len,
		 bool present)
{
	for (uint64_t i = pos / PAGE; len && i <= (pos + len - 1) / PAGE; i++)
		fv->present[i] = present;
}

void fakevolume_fill(struct fakevolume *fv, uint64_t pos, uint64_t len)
{
	for (uint64_t i = pos; i < pos + len; i++)
		fv->data[i] = fake_byte(i);
	mark(fv, pos, len, true);
}

/* What every waiting call begins with: 0, or the error it shall have. */
static int wait_here(struct fakevolume *fv)
{
	int error = FAKE_GET(fv->error);

	assert(coroutine_self());
	__atomic_add_fetch(&fv->waiting, 1, __ATOMIC_SEQ_CST);
	if (FAKE_GET(fv->relax))
		coroutine_relax();
	while (FAKE_GET(fv->hold))
		coroutine_sleep_ns(NSEC_PER_MSEC / 2);
	__atomic_sub_fetch(&fv->waiting, 1, __ATOMIC_SEQ_CST);
	if (!error)
		return 0;
	if (FAKE_GET(fv->error_after)) {
		__atomic_sub_fetch(&fv->error_after, 1, __ATOMIC_SEQ_CST);
		return 0;
	}
	return error;
}

static void count(unsigned int *counter)
{
	__atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
}

static void count_flags(struct fakevolume *fv, unsigned int flags)
{
	if (flags & VOLUME_FUA)
		count(&fv->fua);
}

static void check_range(struct volume *vol, uint64_t pos, uint64_t len)
{
	assert(range_within(pos, len, vol->size));
	assert(len);
}

/* ---- reading ---- */

static void pin_range(struct fakevolume *fv, uint64_t pos, uint32_t len,
		      struct pinvec *pv)
{
	uint64_t bytes = 0;

	assert(pv->max - pv->nr >= volume_pins_max(len));
	while (len) {
		struct pin *pin = &pv->pins[pv->nr++];
		uint64_t page = pos / PAGE;

		pin->len = MIN((uint64_t)len, PAGE - pos % PAGE);
		if (fv->present[page]) {
			pin->base = fv->data + pos;
			pin->frame = page + 1;
			bytes += pin->len;
			count(&fake_pins);
		} else {
			pin->base = (void *)(uintptr_t)volume_zeroes;
			pin->frame = 0;
		}
		pos += pin->len;
		len -= pin->len;
	}
	bytes = __atomic_add_fetch(&fake_pinned_bytes, bytes,
				   __ATOMIC_SEQ_CST);
	/* One loop's thread pins; the test's may read this. */
	if (bytes > FAKE_GET(fake_pinned_max))
		FAKE_SET(fake_pinned_max, bytes);
}

int volume_read_inline(struct volume *vol, uint64_t pos, uint32_t len,
		       struct pinvec *pv, struct readahead *ra)
{
	struct fakevolume *fv = fake(vol);

	(void)ra;
	check_range(vol, pos, len);
	if (FAKE_GET(fv->miss))
		return -EAGAIN;
	count(&fv->reads);
	pin_range(fv, pos, len, pv);
	return 0;
}

int volume_read(struct volume *vol, uint64_t pos, uint32_t len,
		struct pinvec *pv, struct readahead *ra)
{
	struct fakevolume *fv = fake(vol);
	uint64_t bad = FAKE_GET(fv->bad_pos);
	int ret = wait_here(fv);

	(void)ra;
	check_range(vol, pos, len);
	count(&fv->reads);
	if (bad && pos <= bad && bad - pos < len)
		ret = -EIO;
	if (__atomic_exchange_n(&fv->fail_once, 0, __ATOMIC_SEQ_CST))
		ret = -EIO;
	if (!ret)
		pin_range(fv, pos, len, pv);
	return ret;
}

uint64_t volume_pinned_bytes(const struct cache *cache, const struct pin *pins,
			     unsigned int nr)
{
	uint64_t bytes = 0;

	(void)cache;
	for (unsigned int i = 0; i < nr; i++)
		bytes += pins[i].frame ? PAGE : 0;
	return bytes;
}

void volume_unpin(struct cache *cache, const struct pin *pins, unsigned int nr)
{
	uint64_t bytes = 0;

	(void)cache;
	for (unsigned int i = 0; i < nr; i++) {
		if (!pins[i].frame)
			continue;
		bytes += pins[i].len;
		__atomic_sub_fetch(&fake_pins, 1, __ATOMIC_SEQ_CST);
	}
	__atomic_sub_fetch(&fake_pinned_bytes, bytes, __ATOMIC_SEQ_CST);
}

/* No index to fetch. */
void volume_hint_index(const struct volume *vol, uint64_t pos)
{
	(void)vol;
	(void)pos;
}

void volume_hint_folio(const struct volume *vol, uint64_t pos)
{
	(void)vol;
	(void)pos;
}

int volume_prefetch(struct volume *vol, uint64_t pos, uint64_t len)
{
	struct fakevolume *fv = fake(vol);

	check_range(vol, pos, len);
	count(&fv->prefetches);
	return wait_here(fv);
}

/* ---- writing ---- */

int volume_write_inline(struct volume *vol, uint64_t pos, uint32_t len,
			const void *buf, unsigned int flags)
{
	struct fakevolume *fv = fake(vol);

	check_range(vol, pos, len);
	assert(len <= 64 << 10);
	if (FAKE_GET(fv->miss) || (flags & VOLUME_FUA))
		return -EAGAIN;
	count(&fv->writes);
	memcpy(fv->data + pos, buf, len);
	mark(fv, pos, len, true);
	return 0;
}

int volume_write(struct volume *vol, uint64_t pos, uint32_t len,
		 const void *buf, unsigned int flags)
{
	struct fakevolume *fv = fake(vol);
	int ret = wait_here(fv);

	check_range(vol, pos, len);
	assert(len <= 64 << 10);
	count(&fv->writes);
	count_flags(fv, flags);
	if (ret)
		return ret;
	memcpy(fv->data + pos, buf, len);
	mark(fv, pos, len, true);
	return 0;
}

static struct stage *stage_new(struct volume *vol, uint64_t pos, uint32_t len)
{
	unsigned int max = len / PAGE + 2;
	struct stage *stage = calloc(1, sizeof(*stage) +
				     max * sizeof(*stage->iov));
	char *data = malloc(len);

	if (!stage || !data)
		abort();
	stage->vol = vol;
	stage->pos = pos;
	stage->len = len;
	stage->iov = (struct iovec *)(stage + 1);
	while (len) {
		size_t n = MIN((uint64_t)len, PAGE - pos % PAGE);

		stage->iov[stage->nr_iov++] = (struct iovec){ data, n };
		data += n;
		pos += n;
		len -= n;
	}
	count(&fake_stages);
	return stage;
}

int stage_alloc(struct volume *vol, uint64_t pos, uint32_t len,
		struct stage **stagep)
{
	check_range(vol, pos, len);
	if (FAKE_GET(fake(vol)->no_stages))
		return -EAGAIN;
	*stagep = stage_new(vol, pos, len);
	return 0;
}

int stage_alloc_wait(struct volume *vol, uint64_t pos, uint32_t len,
		     struct stage **stagep)
{
	int ret = wait_here(fake(vol));

	if (!ret)
		*stagep = stage_new(vol, pos, len);
	return ret;
}

void stage_free(struct stage *stage)
{
	if (!stage)
		return;
	free(stage->iov[0].iov_base);
	free(stage);
	__atomic_sub_fetch(&fake_stages, 1, __ATOMIC_SEQ_CST);
}

static void stage_commit(struct stage *stage)
{
	struct fakevolume *fv = fake(stage->vol);

	memcpy(fv->data + stage->pos, stage->iov[0].iov_base, stage->len);
	mark(fv, stage->pos, stage->len, true);
}

int volume_write_stage_inline(struct stage **stagep, unsigned int flags)
{
	struct fakevolume *fv = fake((*stagep)->vol);

	if (FAKE_GET(fv->miss) || (flags & VOLUME_FUA))
		return -EAGAIN;
	count(&fv->writes);
	stage_commit(*stagep);
	stage_free(*stagep);
	*stagep = NULL;
	return 0;
}

int volume_write_stage(struct stage **stagep, unsigned int flags)
{
	struct fakevolume *fv = fake((*stagep)->vol);
	int ret = wait_here(fv);

	count(&fv->writes);
	count_flags(fv, flags);
	if (!ret)
		stage_commit(*stagep);
	stage_free(*stagep);
	*stagep = NULL;
	return ret;
}

/* ---- the rest ---- */

bool volume_flush_inline(struct volume *vol)
{
	return !FAKE_GET(fake(vol)->dirty);
}

int64_t volume_present_size(struct volume *vol)
{
	uint64_t size = FAKE_GET(fake(vol)->present_size);

	return (int64_t)(size ? size : volume_size(vol));
}

int volume_resize(struct volume *vol, uint64_t size, uint64_t *lostp)
{
	int ret = wait_here(fake(vol));

	*lostp = 0;
	if (ret || size == volume_size(vol))
		return ret;
	__atomic_store_n(&vol->size, size, __ATOMIC_RELEASE);
	return 1;
}

int volume_flush(struct volume *vol)
{
	count(&fake(vol)->flushes);
	return wait_here(fake(vol));
}

static int zero(struct volume *vol, uint64_t pos, uint64_t len)
{
	struct fakevolume *fv = fake(vol);
	uint64_t start = round_up64(pos, PAGE);
	uint64_t end = round_down64(pos + len, PAGE);
	int ret = wait_here(fv);

	check_range(vol, pos, len);
	if (ret)
		return ret;
	memset(fv->data + pos, 0, len);
	if (start < end)
		mark(fv, start, end - start, false);
	return 0;
}

int volume_trim(struct volume *vol, uint64_t pos, uint64_t len,
		unsigned int flags)
{
	count(&fake(vol)->trims);
	count_flags(fake(vol), flags);
	return zero(vol, pos, len);
}

int volume_zero(struct volume *vol, uint64_t pos, uint64_t len,
		unsigned int flags)
{
	count(&fake(vol)->zeroes);
	count_flags(fake(vol), flags);
	if ((flags & VOLUME_FAST_ZERO) && !fake(vol)->vol.can_fast_zero)
		return -EOPNOTSUPP;
	return zero(vol, pos, len);
}

int volume_extents(struct volume *vol, uint64_t pos, uint64_t len,
		   struct volume_extent *extents, unsigned int *nrp)
{
	struct fakevolume *fv = fake(vol);
	unsigned int nr = 0;
	int ret = wait_here(fv);

	check_range(vol, pos, len);
	while (!ret && len) {
		bool hole = !fv->present[pos / PAGE];
		uint64_t n = MIN(len, PAGE - pos % PAGE);

		if (nr && extents[nr - 1].hole == hole) {
			extents[nr - 1].len += n;
		} else if (nr < *nrp) {
			extents[nr++] = (struct volume_extent){ n, hole, hole };
		} else {
			break;
		}
		pos += n;
		len -= n;
	}
	*nrp = nr;
	return ret;
}
