/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stubstore.c - see stubstore.h.
 */
#include <errno.h>
#include <stdlib.h>

#include "bdev/bdev.h"
#include "tests/stubstore.h"

static void set_map(struct stub *stub, struct iomap *iomap, uint64_t pos)
{
	uint64_t unit = stub->boundary ? stub->boundary : stub->bdev->size;

	iomap->type = IOMAP_MAPPED;
	iomap->bdev = stub->bdev;
	iomap->offset = pos / unit * unit;
	iomap->addr = iomap->offset;
	iomap->length = MIN(unit, stub->bdev->size - iomap->offset);
	iomap->cookie = __atomic_load_n(&stub->vol.map_seq, __ATOMIC_ACQUIRE);
}

static int stub_iomap_begin(struct volume *vol, uint64_t pos, uint64_t length,
			    unsigned int flags, struct iomap *iomap,
			    struct iomap *srcmap)
{
	(void)length;
	(void)flags;
	(void)srcmap;
	set_map(to_stub(vol), iomap, pos);
	return 0;
}

static const struct iomap_ops stub_iomap_ops = {
	.iomap_begin	= stub_iomap_begin,
};

/* Whole blocks, though the volume may end within the last one. */
static struct wb_range add(struct stub *stub, struct writepage_ctx *wpc,
			   struct folio *folio, uint64_t pos, uint32_t len)
{
	uint64_t end = round_up64(pos + len, 1u << wpc->vol->block_shift);
	uint32_t whole = (uint32_t)(MIN(end, stub->bdev->size) - pos);
	struct wb_range range;

	set_map(stub, &wpc->iomap, pos);
	wpc->iomap.flags = stub->iomap_flags;
	if (stub->boundary)
		wpc->iomap.flags |= IOMAP_F_BOUNDARY;
	range = ioend_add_range(wpc, folio, pos, whole);
	range.handled = MIN(range.handled, len);
	range.submitted = MIN(range.submitted, len);
	return range;
}

static struct wb_range stub_range(struct writepage_ctx *wpc,
				  struct folio *folio, uint64_t pos,
				  uint32_t len)
{
	struct stub *stub = to_stub(wpc->vol);
	uint32_t block = 1u << wpc->vol->block_shift;
	uint32_t n = stub->step ? MIN(len, stub->step) : len;
	struct wb_range range;

	stub->nr_range_calls++;
	switch (stub->answer) {
	case STUB_NOTHING:
		return (struct wb_range){ 0 };
	case STUB_TOO_MUCH:
		return (struct wb_range){ .handled = len + 1 };
	case STUB_HOLE:
		return (struct wb_range){ .handled = n };
	case STUB_HALF_HOLE:
		range = add(stub, wpc, folio, pos, MIN(n, block));
		range.handled = n;
		return range;
	case STUB_FAIL:
		if (stub->nr_range_calls == stub->fail_call)
			return (struct wb_range){ .error = -stub->fail_err };
		break;
	case STUB_ADD:
		break;
	}
	return add(stub, wpc, folio, pos, n);
}

static void stub_discard_folio(struct volume *vol, struct folio *folio,
			       uint64_t pos)
{
	(void)folio;
	(void)pos;
	to_stub(vol)->nr_discards++;
}

static int stub_end_io(struct volume *vol, struct ioend *ioend)
{
	struct stub *stub = to_stub(vol);

	stub->nr_end_io++;
	stub->end_io_bytes += ioend->size;
	return stub->end_io ? stub->end_io(stub->end_io_arg, ioend) : 0;
}

static const struct writeback_ops stub_wb_ops = {
	.writeback_range	= stub_range,
	.discard_folio		= stub_discard_folio,
};

static const struct writeback_ops stub_end_io_wb_ops = {
	.writeback_range	= stub_range,
	.discard_folio		= stub_discard_folio,
	.end_io			= stub_end_io,
};

static int stub_unmap(struct volume *vol, uint64_t pos, uint64_t len,
		      unsigned int flags)
{
	(void)flags;
	return bdev_range_op(to_stub(vol)->bdev, BDEV_DISCARD, pos, len, 0);
}

static int stub_zero(struct volume *vol, uint64_t pos, uint64_t len,
		     unsigned int flags)
{
	(void)flags;
	return bdev_range_op(to_stub(vol)->bdev, BDEV_ZERO, pos, len, 0);
}

static int stub_flush(struct volume *vol)
{
	to_stub(vol)->nr_flushes++;
	return bdev_flush(to_stub(vol)->bdev);
}

static bool stub_fua_by_write(struct volume *vol)
{
	(void)vol;
	return false;
}

static void stub_release(struct volume *vol)
{
	bdev_close(&to_stub(vol)->bdev);
	free(to_stub(vol));
}

static const struct store_ops stub_store_ops = {
	.unmap		= stub_unmap,
	.zero		= stub_zero,
	.flush		= stub_flush,
	.release	= stub_release,
};

static const struct store_ops stub_flushing_store_ops = {
	.unmap		= stub_unmap,
	.zero		= stub_zero,
	.flush		= stub_flush,
	.fua_by_write	= stub_fua_by_write,
	.release	= stub_release,
};

static const struct stub_params stub_defaults;

int stub_open(struct cache *cache, struct loop *home, struct bdev **bdevp,
	      void *arg, struct volume **volp)
{
	const struct stub_params *params = arg ? arg : &stub_defaults;
	struct stub *stub = calloc(1, sizeof(*stub));
	struct bdev *bdev = *bdevp;
	struct volume *vol;
	int ret;

	if (!stub)
		return -ENOMEM;
	stub->bdev = bdev;
	vol = &stub->vol;
	vol->name = "stub";
	vol->iomap_ops = &stub_iomap_ops;
	vol->wb_ops = params->end_io ? &stub_end_io_wb_ops : &stub_wb_ops;
	vol->store_ops = params->fua_needs_flush ? &stub_flushing_store_ops :
						   &stub_store_ops;
	vol->size = params->size ? params->size : bdev->size;
	vol->block_shift = params->block_shift ? params->block_shift : 12;
	vol->mode = params->mode;
	vol->can_unmap = vol->can_fast_zero = true;
	vol->max_io = params->max_io ? params->max_io : bdev->max_io;
	ret = volume_start(vol, cache, home);
	if (ret) {
		free(stub);
		return ret;
	}
	*bdevp = NULL;
	*volp = vol;
	return 0;
}
