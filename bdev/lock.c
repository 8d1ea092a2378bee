/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lock.c - keep two servers off one file, and say who holds it.
 *
 * Locks belong to the open file description (OFD), so that closing some other
 * descriptor of the file does not drop them.  For such a lock the kernel does
 * not name a process; /proc/<pid>/fdinfo does.
 */
#include "bdev/lock.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

/* For about two seconds. */
#define TRIES		20
#define PAUSE_NS	((long)(100 * NSEC_PER_MSEC))

/* What a descriptor must be to be the one looked for. */
struct search {
	const struct stat	*st;
	bool			device;		/* st_rdev, not st_ino */
	bool			locked;		/* holds an OFD lock */
	bool			exclusively;	/* an exclusive one */
	pid_t			not_pid;
};

static void read_line(const char *path, char *buf, size_t size)
{
	FILE *file = fopen(path, "re");

	buf[0] = '\0';
	if (!file)
		return;
	if (fgets(buf, size, file))
		buf[strcspn(buf, "\n")] = '\0';
	fclose(file);
}

static bool descriptor_locks(const struct search *search, const char *pid,
			     const char *fd)
{
	char path[64], line[256];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%.20s/fdinfo/%.20s", pid, fd);
	file = fopen(path, "re");
	if (!file)
		return false;
	while (!found && fgets(line, sizeof(line), file))
		found = strncmp(line, "lock:", 5) == 0 &&
			strstr(line, "OFDLCK") &&
			(!search->exclusively || strstr(line, "WRITE"));
	fclose(file);
	return found;
}

/* Asks no server of a network file system, which may be gone. */
static bool descriptor_matches(const struct search *search, int dir,
			       const char *fd)
{
	const struct stat *st = search->st;
	struct statx stx;

	if (statx(dir, fd, AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, &stx))
		return false;
	if (search->device)
		return S_ISBLK(stx.stx_mode) &&
		       stx.stx_rdev_major == major(st->st_rdev) &&
		       stx.stx_rdev_minor == minor(st->st_rdev);
	return stx.stx_ino == st->st_ino &&
	       stx.stx_dev_major == major(st->st_dev) &&
	       stx.stx_dev_minor == minor(st->st_dev);
}

static bool process_matches(const struct search *search, const char *pid)
{
	struct dirent *entry;
	bool found = false;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	dir = opendir(path);
	if (!dir)
		return false;
	while (!found && (entry = readdir(dir)))
		found = isdigit((unsigned char)entry->d_name[0]) &&
			descriptor_matches(search, dirfd(dir), entry->d_name) &&
			(!search->locked ||
			 descriptor_locks(search, pid, entry->d_name));
	closedir(dir);
	return found;
}

static void set_holder(struct lock_holder *holder, pid_t pid)
{
	char path[64];

	holder->pid = pid;
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	read_line(path, holder->name, sizeof(holder->name));
}

static void find_holder(const struct search *search, struct lock_holder *holder)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;

	memset(holder, 0, sizeof(*holder));
	if (!dir)
		return;
	while (!holder->pid && (entry = readdir(dir))) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (pid > 0 && pid != search->not_pid &&
		    process_matches(search, entry->d_name))
			set_holder(holder, pid);
	}
	closedir(dir);
}

static int try_lock(int fd, bool exclusive, struct lock_holder *holder)
{
	struct flock lock = {
		.l_type = exclusive ? F_WRLCK : F_RDLCK,
		.l_whence = SEEK_SET,
	};
	struct search search = { .locked = true, .exclusively = !exclusive };
	struct stat st;

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno != EAGAIN && errno != EACCES)
		return -errno;

	memset(holder, 0, sizeof(*holder));
	/* A plain POSIX lock is known by its process, an OFD lock is not. */
	if (fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK &&
	    lock.l_pid > 0) {
		set_holder(holder, lock.l_pid);
	} else if (fstat(fd, &st) == 0) {
		search.st = &st;
		find_holder(&search, holder);
	}
	return -EBUSY;
}

/*
 * A lock that no process has may be that of one that was killed, whose last
 * I/O the kernel has yet to finish: that takes as long as the disk does, and
 * must end before another one writes.
 */
int lock_file(int fd, bool exclusive, struct lock_holder *holder)
{
	const struct timespec pause = { .tv_nsec = PAUSE_NS };
	int ret;

	for (unsigned int i = 0; i < TRIES; i++) {
		ret = try_lock(fd, exclusive, holder);
		if (ret != -EBUSY || holder->pid)
			break;
		nanosleep(&pause, NULL);
	}
	return ret;
}

void lock_find_opener(const struct stat *st, struct lock_holder *holder)
{
	struct search search = {
		.st = st, .device = true, .not_pid = getpid(),
	};

	find_holder(&search, holder);
}

bool lock_find_mount(const struct stat *st, char *dir, size_t size)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char line[4096], device[32];
	bool found = false;

	if (!file)
		return false;
	snprintf(device, sizeof(device), "%u:%u", major(st->st_rdev),
		 minor(st->st_rdev));
	while (!found && fgets(line, sizeof(line), file)) {
		/* id, parent, device, root, where; the rest may stay. */
		char *field[6] = { NULL }, *next = line;
		unsigned int i;

		for (i = 0; i < 6 && next; i++)
			field[i] = strsep(&next, " ");
		found = field[5] && strcmp(field[2], device) == 0;
		if (found)
			snprintf(dir, size, "%s", field[4]);
	}
	fclose(file);
	return found;
}
