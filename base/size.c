/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * size.c - parsing and printing of sizes and numbers.
 *
 * Strict, unlike strtoull(): no blanks, no sign, no octal, nothing left over.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "base/util.h"

static const struct {
	const char	*suffix;
	unsigned int	shift;
} suffixes[] = {
	{ "", 0 }, { "B", 0 },
	{ "k", 10 }, { "K", 10 }, { "KiB", 10 },
	{ "M", 20 }, { "MiB", 20 },
	{ "G", 30 }, { "GiB", 30 },
	{ "T", 40 }, { "TiB", 40 },
};

/*
 * Parse the digits that @text begins with.  Returns where they end, or NULL
 * if there are none; *@overflow says whether they made no uint64_t.
 */
static const char *parse_digits(const char *text, uint64_t *valp,
				bool *overflow)
{
	const char *p = text;
	uint64_t val = 0;

	*overflow = false;
	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(val, 10, &val) ||
		    __builtin_add_overflow(val, (uint64_t)(*p - '0'), &val))
			*overflow = true;
	*valp = val;
	return p == text ? NULL : p;
}

int size_parse(const char *text, uint64_t *sizep)
{
	const char *suffix;
	bool overflow;
	uint64_t val;
	unsigned int i;

	suffix = parse_digits(text, &val, &overflow);
	if (!suffix)
		return -EINVAL;
	for (i = 0; i < ARRAY_SIZE(suffixes); i++)
		if (strcmp(suffix, suffixes[i].suffix) == 0)
			break;
	if (i == ARRAY_SIZE(suffixes))
		return -EINVAL;
	if (overflow || val > (uint64_t)INT64_MAX >> suffixes[i].shift)
		return -ERANGE;
	*sizep = val << suffixes[i].shift;
	return 0;
}

const char *size_to_text(uint64_t size, char *buf, size_t buflen)
{
	static const char units[] = "\0kMGT";
	unsigned int unit = 0;

	while (unit < 4 && size && size % 1024 == 0) {
		size /= 1024;
		unit++;
	}
	/* Without a unit the text ends with the 0 that stands first. */
	snprintf(buf, buflen, "%llu%.1s", (unsigned long long)size,
		 &units[unit]);
	return buf;
}

int number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *valp)
{
	const char *end;
	bool overflow;
	uint64_t val;

	end = parse_digits(text, &val, &overflow);
	if (!end || *end)
		return -EINVAL;
	if (overflow || val < min || val > max)
		return -ERANGE;
	*valp = val;
	return 0;
}
