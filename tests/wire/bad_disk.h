/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * bad_disk.h - a disk with bad blocks, for whoever is executed after this.
 *
 * A system call filter stands in for the disk, so that neither root nor a
 * server's cooperation is needed.  It cannot see into io_uring, and forbids
 * it, as many containers do.
 */
#ifndef TESTS_WIRE_BAD_DISK_H
#define TESTS_WIRE_BAD_DISK_H

#include <stdint.h>

/*
 * From now on, and in what is executed, reads fail with EIO that touch what
 * is at offset @from and beyond; of preadv(), those that begin there.  @from
 * is below 4 GiB.  Returns 0 or a negative errno.
 */
int bad_disk_install(uint32_t from);

#endif
