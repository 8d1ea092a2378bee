/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bad-disk.c - run a command for which all reads of files fail from an offset
 * on, see tests/wire/bad_disk.h:
 *
 *	bad-disk BYTES COMMAND [ARGUMENT]...
 *
 * Ends with 77 if a filter cannot be set here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/wire/bad_disk.h"

int main(int argc, char **argv)
{
	unsigned long from = argc < 2 ? 0 : strtoul(argv[1], NULL, 10);
	int ret;

	if (argc < 3 || from == 0 || from > UINT32_MAX) {
		fprintf(stderr, "usage: %s BYTES COMMAND [ARGUMENT]...\n",
			argv[0]);
		return 2;
	}
	ret = bad_disk_install(from);
	if (ret) {
		fprintf(stderr, "seccomp: %s\n", strerror(-ret));
		return 77;
	}
	execvp(argv[2], argv + 2);
	perror(argv[2]);
	return 127;
}
