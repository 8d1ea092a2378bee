/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lock.h - keep two servers off one file, and say who holds it.
 */
#ifndef FOLIOD_BDEV_LOCK_H
#define FOLIOD_BDEV_LOCK_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

struct lock_holder {
	pid_t	pid;		/* 0: not known */
	char	name[32];	/* of its program; "" if not known */
};

/*
 * Lock all of the open file @fd, for ever, for this open file description:
 * exclusively or shared.  Returns 0, -EBUSY with *@holder filled in, or what
 * a file system without locks answers.  Waits for two seconds for a lock whose
 * holder cannot be found.
 */
int lock_file(int fd, bool exclusive, struct lock_holder *holder);

/*
 * Fill in *@holder with a process, other than this one, that has the device
 * of @st open.
 */
void lock_find_opener(const struct stat *st, struct lock_holder *holder);

/* Is the device of @st mounted?  Writes where to @dir, of @size bytes. */
bool lock_find_mount(const struct stat *st, char *dir, size_t size);

#endif
