/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * judge_internal.h - what the files of the judge share.
 */
#ifndef FOLIOD_TESTS_FUZZ_JUDGE_INTERNAL_H
#define FOLIOD_TESTS_FUZZ_JUDGE_INTERNAL_H

#include <endian.h>
#include <string.h>

#include "proto/nbd.h"
#include "tests/fuzz/judge.h"

/* What is left of a log. */
struct cursor {
	const uint8_t	*p;
	size_t		left;
};

struct judge {
	const struct session_log *session;
	struct cursor	said, heard;
	uint32_t	flags;		/* the client's */
	unsigned int	nr_options;
	uint64_t	option_bytes;
	bool		tls, structured, extended;
	bool		saw_export;	/* INFO_EXPORT, of this option */
	int		export;		/* -1: in the handshake */
};

void wrong(const char *fmt, ...)
	__attribute__((noreturn, format(printf, 1, 2)));
/* The next @len bytes, or NULL if there are not so many. */
const uint8_t *take(struct cursor *c, size_t len);

/* What stands at @p. */
static inline uint16_t be16_at(const uint8_t *p)
{
	uint16_t val;

	memcpy(&val, p, sizeof(val));
	return be16toh(val);
}

static inline uint32_t be32_at(const uint8_t *p)
{
	uint32_t val;

	memcpy(&val, p, sizeof(val));
	return be32toh(val);
}

static inline uint64_t be64_at(const uint8_t *p)
{
	uint64_t val;

	memcpy(&val, p, sizeof(val));
	return be64toh(val);
}

/* From where the handshake has ended. */
void judge_requests(struct judge *j);

#endif
