/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * script.h - an input of fuzz_session: what a client does, step by step.
 *
 *	byte 0		how the volume behaves, DRIVE_* of drive.h
 *	byte 1		SETUP_*
 *	then steps	a byte: enum step_kind, modulo NR_STEPS
 *			2 bytes, big-endian: the length of what follows
 *			what follows
 *
 * A length beyond the input's end is cut to it, so that any bytes are a script.
 */
#ifndef FOLIOD_TESTS_FUZZ_SCRIPT_H
#define FOLIOD_TESTS_FUZZ_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SETUP_TLS	(3u << 0)	/* of the exports: enum tls_mode; 3: each
					 * another */
#define SETUP_TLS_1_2	(1u << 2)
#define SETUP_DEAF	(1u << 3)	/* takes no answers for a while */

enum step_kind {
	STEP_SAY,	/* the bytes; under TLS if there is a session */
	STEP_RAW,	/* the bytes as they are, always */
	STEP_FILL,	/* be24 how many times which byte: a payload */
	STEP_WAIT,	/* for an answer, but not long */
	STEP_TLS,	/* the client's side of a TLS handshake */
	STEP_END,	/* nothing more is sent, without a word */
	NR_STEPS
};

#define STEP_HEAD	3
#define FILL_SIZE	4
#define FILL_MAX	(1u << 20)
#define SCRIPT_STEPS	96

struct step {
	enum step_kind	kind;
	uint16_t	len;
	const uint8_t	*data;
};

struct script {
	uint8_t		how, setup;
	unsigned int	nr;
	struct step	steps[SCRIPT_STEPS];
};

/* The steps' bytes stay where they are. */
void script_parse(struct script *script, const uint8_t *data, size_t size);
/* Returns its size; what does not fit into @max is left out. */
size_t script_write(const struct script *script, uint8_t *buf, size_t max);

/* Of a STEP_FILL. */
static inline uint32_t fill_len(const struct step *step)
{
	uint32_t len;

	if (step->len < FILL_SIZE)
		return 0;
	len = (uint32_t)step->data[0] << 16 | step->data[1] << 8 |
		step->data[2];
	return len < FILL_MAX ? len : FILL_MAX;
}

#endif
