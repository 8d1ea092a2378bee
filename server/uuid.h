/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * uuid.h - a name for what is behind an export, which stays when the server is
 * started again and whatever the export is called.
 */
#ifndef FOLIOD_SERVER_UUID_H
#define FOLIOD_SERVER_UUID_H

#include <stdbool.h>

#define UUID_TEXT_SIZE	37	/* 36 characters in lower case, and NUL */

/* Take @text, in the usual form of 8-4-4-4-12 hexadecimal digits; false if it
 * is not one, or all zero. */
bool uuid_parse(const char *text, char uuid[UUID_TEXT_SIZE]);

/*
 * The UUID of the file or block device at @path: version 5, made of this
 * machine's id and
 *
 *	a file's	inode number and time of birth, or else its file system's
 *			id and its inode number
 *	a device's	id as the kernel has it in sysfs (of its disk, and the
 *			partition's number), or else its path
 *
 * 0 or -errno.
 */
int uuid_of_path(const char *path, char uuid[UUID_TEXT_SIZE]);

#endif
