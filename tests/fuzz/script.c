/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * script.c - inputs of fuzz_session, between bytes and structs.
 */
#include <string.h>

#include "tests/fuzz/script.h"

void script_parse(struct script *script, const uint8_t *data, size_t size)
{
	memset(script, 0, sizeof(*script));
	if (size > 0)
		script->how = data[0];
	if (size > 1)
		script->setup = data[1];
	for (size_t at = 2; at + STEP_HEAD <= size &&
	     script->nr < SCRIPT_STEPS;) {
		struct step *step = &script->steps[script->nr++];
		size_t len = data[at + 1] << 8 | data[at + 2];

		step->kind = data[at] % NR_STEPS;
		at += STEP_HEAD;
		step->len = len < size - at ? len : size - at;
		step->data = data + at;
		at += step->len;
	}
}

size_t script_write(const struct script *script, uint8_t *buf, size_t max)
{
	size_t n = 2;

	if (max < 2)
		return 0;
	buf[0] = script->how;
	buf[1] = script->setup;
	for (unsigned int i = 0; i < script->nr; i++) {
		const struct step *step = &script->steps[i];

		if (n + STEP_HEAD + step->len > max)
			break;
		buf[n++] = step->kind;
		buf[n++] = step->len >> 8;
		buf[n++] = step->len;
		if (step->len)
			memcpy(buf + n, step->data, step->len);
		n += step->len;
	}
	return n;
}
