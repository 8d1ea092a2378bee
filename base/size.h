/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * size.h - sizes as users write them: 4096, 64k, 1M, 2G, 1T, 512KiB, 1MiB...
 */
#ifndef FOLIOD_BASE_SIZE_H
#define FOLIOD_BASE_SIZE_H

#include <stddef.h>
#include <stdint.h>

/*
 * Parse all of @text as a size in bytes.  Suffixes k K M G T and KiB MiB GiB
 * TiB count in powers of 1024; "B" or nothing counts bytes.  Returns 0,
 * -EINVAL for what is not a size, or -ERANGE where it exceeds INT64_MAX.
 */
int size_parse(const char *text, uint64_t *sizep);

/* Shortest exact form ("64k", "1G", "4095") into @buf; returns @buf. */
const char *size_to_text(uint64_t size, char *buf, size_t buflen);

/* Parse a decimal number in [@min, @max].  Returns 0, -EINVAL or -ERANGE. */
int number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *valp);

#endif
