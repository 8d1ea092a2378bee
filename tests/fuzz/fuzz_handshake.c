/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_handshake.c - any bytes from the client's flags on.
 *
 * The first byte says how the volume behaves.  What follows a successful
 * handshake are requests, so this reaches the whole protocol; it is
 * fuzz_transmission.c that concentrates on those.
 */
#include "tests/fuzz/drive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	drive(data[0], "", 0, data + 1, size - 1);
	return 0;
}
