/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_transmission.c - any bytes where requests are expected.
 *
 * The first byte says how the volume behaves and what was negotiated: simple
 * or structured replies, or extended headers.
 */
#include <endian.h>
#include <string.h>

#include "proto/nbd.h"
#include "tests/fuzz/drive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t add(char *to, const void *from, size_t len)
{
	memcpy(to, from, len);
	return len;
}

static size_t add_option(char *to, uint32_t option, const void *data,
			 uint32_t len)
{
	struct nbd_option_head head = {
		htobe64(NBD_OPTION_MAGIC), htobe32(option), htobe32(len),
	};
	size_t n = add(to, &head, sizeof(head));

	return n + add(to + n, data, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char set_meta[] =
		"\0\0\0\1a\0\0\0\1\0\0\0\17base:allocation";
	static const char go_a[] = "\0\0\0\1a\0\0";
	static const char go_read_only[] = "\0\0\0\11read-only\0\0";
	uint32_t flags = htobe32(NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
	unsigned int how;
	char head[256];
	size_t n;

	if (size == 0)
		return 0;
	how = data[0];
	n = add(head, &flags, sizeof(flags));
	if (how & DRIVE_EXTENDED)
		n += add_option(head + n, NBD_OPT_EXTENDED_HEADERS, "", 0);
	else if (how & DRIVE_STRUCTURED)
		n += add_option(head + n, NBD_OPT_STRUCTURED_REPLY, "", 0);
	if (how & DRIVE_META)
		n += add_option(head + n, NBD_OPT_SET_META_CONTEXT, set_meta,
				sizeof(set_meta) - 1);
	if (how & DRIVE_READ_ONLY)
		n += add_option(head + n, NBD_OPT_GO, go_read_only,
				sizeof(go_read_only) - 1);
	else
		n += add_option(head + n, NBD_OPT_GO, go_a, sizeof(go_a) - 1);
	/* Draining refuses what comes before, too. */
	drive(how & ~DRIVE_DRAINING, head, n, data + 1, size - 1);
	return 0;
}
