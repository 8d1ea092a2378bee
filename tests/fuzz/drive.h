/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * drive.h - feed bytes to the real connection code, for libFuzzer targets.
 *
 * One loop and one fake volume for the whole process; each input is a
 * connection of its own over a socketpair, driven until it is gone.
 */
#ifndef FOLIOD_TESTS_FUZZ_DRIVE_H
#define FOLIOD_TESTS_FUZZ_DRIVE_H

#include <stddef.h>
#include <stdint.h>

/* How the volume behaves; bits of the input's first byte. */
#define DRIVE_MISS	(1u << 0)
#define DRIVE_RELAX	(1u << 1)
#define DRIVE_NO_STAGES	(1u << 2)
#define DRIVE_ERROR	(1u << 3)
#define DRIVE_DRAINING	(1u << 4)
/* For the targets' own use; who cannot be draining has one more. */
#define DRIVE_EXTENDED	DRIVE_DRAINING
#define DRIVE_STRUCTURED (1u << 5)
#define DRIVE_META	(1u << 6)
#define DRIVE_READ_ONLY	(1u << 7)

/*
 * Send @head, then @data, then end the client's side; read all replies.
 * Aborts if anything is left behind.
 */
void drive(unsigned int how, const void *head, size_t head_len,
	   const uint8_t *data, size_t len);

#endif
