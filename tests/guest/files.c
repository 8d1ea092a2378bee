/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * files.c - work on many small files, and tell what of it has to survive.
 *
 *	files work DIR LIST SEED OPERATIONS
 *	files check DIR LIST MINIMUM
 *
 * "work" creates, writes, cuts, renames, removes and syncs files in DIR, in
 * random order.  LIST, which lies where no crash of the disk reaches it, gets
 * one line at a time, each before or after what it speaks of:
 *
 *	touch NAME		NAME is about to change: nothing is promised
 *	keep NAME SIZE HASH	NAME and its directory are synced, and so
 *	gone NAME		its directory is synced, and NAME not in it
 *
 * "check" reads LIST: the last line about each name has to be true in DIR, and
 * MINIMUM names at least have one that promises something.  It serves after a
 * crash at any time, and after none.  Exit status 1: a file is not as it has to
 * be; 2: usage; 3: "work" met an error, as it does once its disk has gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NR_DIRS		4
#define NR_FILES	64
#define SIZE_MAX_FILE	(128 * 1024)
#define NAME_SIZE	32

/* What is to be in a file; it has none while @exists is false. */
struct file {
	bool		exists;
	bool		checked;	/* "check" has seen a promise */
	size_t		size;
	uint64_t	hash;		/* "check" only */
	unsigned char	data[SIZE_MAX_FILE];
};

static struct file files[NR_FILES];
static uint64_t random_state;
static int dir_fd, list_fd;

static __attribute__((noreturn, format(printf, 2, 3)))
void die(int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "files: ");
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	exit(status);
}

/* splitmix64 */
static uint64_t next_random(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static size_t below(size_t n)
{
	return next_random() % n;
}

/* FNV-1a */
static uint64_t hash_of(const unsigned char *data, size_t size)
{
	uint64_t hash = 0xcbf29ce484222325;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ data[i]) * 0x100000001b3;
	return hash;
}

static void name_of(char *name, unsigned int nr)
{
	snprintf(name, NAME_SIZE, "d%u/f%u", nr % NR_DIRS, nr);
}

static __attribute__((format(printf, 1, 2)))
void note(const char *fmt, ...)
{
	char line[128];
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (write(list_fd, line, len) != len)
		die(2, "cannot write to the list: %s", strerror(errno));
}

static void touch(unsigned int nr)
{
	char name[NAME_SIZE];

	name_of(name, nr);
	note("touch %s\n", name);
}

static int open_file(unsigned int nr, int flags)
{
	char name[NAME_SIZE];
	int fd;

	name_of(name, nr);
	fd = openat(dir_fd, name, flags, 0644);
	if (fd < 0)
		die(3, "cannot open %s: %s", name, strerror(errno));
	return fd;
}

static void must(bool good, const char *what, unsigned int nr)
{
	if (!good)
		die(3, "cannot %s file %u: %s", what, nr, strerror(errno));
}

/* --- Work --------------------------------------------------------------- */

static void do_write(unsigned int nr)
{
	struct file *file = &files[nr];
	size_t end = file->exists ? file->size : 0;
	size_t pos = below(2) ? below(SIZE_MAX_FILE / 2) : end;
	size_t len = 1 + below(below(8) ? 6000 : SIZE_MAX_FILE / 2);
	int fd;

	if (pos + len > SIZE_MAX_FILE)
		len = SIZE_MAX_FILE - pos;
	touch(nr);
	fd = open_file(nr, O_RDWR | O_CREAT);
	if (!file->exists) {
		file->exists = true;
		file->size = 0;
		memset(file->data, 0, sizeof(file->data));
	}
	for (size_t i = 0; i < len; i++)
		file->data[pos + i] = (unsigned char)next_random();
	must(pwrite(fd, file->data + pos, len, (off_t)pos) == (ssize_t)len,
	     "write to", nr);
	if (pos + len > file->size)
		file->size = pos + len;
	close(fd);
}

static void do_truncate(unsigned int nr)
{
	struct file *file = &files[nr];
	size_t size = below(SIZE_MAX_FILE);
	int fd;

	touch(nr);
	fd = open_file(nr, O_RDWR);
	must(!ftruncate(fd, (off_t)size), "truncate", nr);
	if (size < file->size)
		memset(file->data + size, 0, file->size - size);
	file->size = size;
	close(fd);
}

static void sync_dir(unsigned int nr)
{
	char name[NAME_SIZE];
	int fd;

	snprintf(name, sizeof(name), "d%u", nr % NR_DIRS);
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY);
	must(fd >= 0 && !fsync(fd), "sync the directory of", nr);
	close(fd);
}

static void do_unlink(unsigned int nr)
{
	char name[NAME_SIZE];

	touch(nr);
	name_of(name, nr);
	must(!unlinkat(dir_fd, name, 0), "remove", nr);
	files[nr].exists = false;
	if (below(2)) {
		sync_dir(nr);
		note("gone %s\n", name);
	}
}

static void do_rename(unsigned int from, unsigned int to)
{
	char from_name[NAME_SIZE], to_name[NAME_SIZE];

	if (from == to)
		return;
	touch(from);
	touch(to);
	name_of(from_name, from);
	name_of(to_name, to);
	must(!renameat(dir_fd, from_name, dir_fd, to_name), "rename", from);
	files[to] = files[from];
	files[from].exists = false;
}

static void do_sync(unsigned int nr)
{
	const struct file *file = &files[nr];
	char name[NAME_SIZE];
	int fd = open_file(nr, O_RDWR);

	must(!fsync(fd), "sync", nr);
	close(fd);
	sync_dir(nr);
	name_of(name, nr);
	note("keep %s %zu %016" PRIx64 "\n", name, file->size,
	     hash_of(file->data, file->size));
}

static void do_any(void)
{
	unsigned int nr = (unsigned int)below(NR_FILES);

	if (!files[nr].exists) {
		do_write(nr);
		return;
	}
	switch (below(10)) {
	case 0:
		do_truncate(nr);
		break;
	case 1:
		do_unlink(nr);
		break;
	case 2:
		do_rename(nr, (unsigned int)below(NR_FILES));
		break;
	case 3:
	case 4:
	case 5:
	case 6:
		do_sync(nr);
		break;
	default:
		do_write(nr);
		break;
	}
}

static int work(const char *list, uint64_t seed, unsigned long nr_operations)
{
	char name[NAME_SIZE];

	list_fd = open(list, O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (list_fd < 0)
		die(2, "cannot open %s: %s", list, strerror(errno));
	random_state = seed;
	for (unsigned int i = 0; i < NR_DIRS; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		must(!mkdirat(dir_fd, name, 0755), "make directory", i);
	}
	must(!fsync(dir_fd), "sync the directory of directory", 0);
	while (nr_operations--)
		do_any();
	for (unsigned int nr = 0; nr < NR_FILES; nr++)
		if (files[nr].exists)
			do_sync(nr);
	return 0;
}

/* --- Check --------------------------------------------------------------- */

/* The last line about each name; one without its end was never written. */
static void read_list(const char *list)
{
	char line[128], verb[8];
	FILE *f = fopen(list, "r");
	struct file read;
	unsigned int nr;

	if (!f)
		die(2, "cannot open %s: %s", list, strerror(errno));
	while (fgets(line, sizeof(line), f) && strchr(line, '\n')) {
		read.size = 0;
		read.hash = 0;
		if (sscanf(line, "%7s d%*u/f%u %zu %" SCNx64, verb, &nr,
			   &read.size, &read.hash) < 2 || nr >= NR_FILES)
			die(2, "%s has a line that is none: %s", list, line);
		files[nr].checked = strcmp(verb, "touch") != 0;
		files[nr].exists = strcmp(verb, "keep") == 0;
		files[nr].size = read.size;
		files[nr].hash = read.hash;
	}
	fclose(f);
}

static bool check_file(unsigned int nr)
{
	struct file *file = &files[nr];
	char name[NAME_SIZE];
	ssize_t size;
	int fd;

	name_of(name, nr);
	fd = openat(dir_fd, name, O_RDONLY);
	if (!file->exists) {
		if (fd < 0 && errno == ENOENT)
			return true;
		printf("%s was removed, and is there\n", name);
		return false;
	}
	if (fd < 0) {
		printf("%s is lost: %s\n", name, strerror(errno));
		return false;
	}
	size = pread(fd, file->data, sizeof(file->data), 0);
	close(fd);
	if (size == (ssize_t)file->size &&
	    hash_of(file->data, file->size) == file->hash)
		return true;
	printf("%s has %zd bytes (%zu expected) that are others\n", name, size,
	       file->size);
	return false;
}

static int check(const char *list, unsigned long minimum)
{
	unsigned long nr_checked = 0, nr_bad = 0;

	read_list(list);
	for (unsigned int nr = 0; nr < NR_FILES; nr++) {
		if (!files[nr].checked)
			continue;
		nr_checked++;
		nr_bad += !check_file(nr);
	}
	printf("%s: %lu files checked, %lu bad\n", list, nr_checked, nr_bad);
	if (nr_checked < minimum)
		printf("these are fewer than %lu\n", minimum);
	return nr_bad || nr_checked < minimum;
}

int main(int argc, char **argv)
{
	bool works = argc == 6 && strcmp(argv[1], "work") == 0;

	if (!works && !(argc == 5 && strcmp(argv[1], "check") == 0))
		die(2, "usage: files work DIR LIST SEED OPERATIONS, "
		    "or files check DIR LIST MINIMUM");
	dir_fd = open(argv[2], O_RDONLY | O_DIRECTORY);
	if (dir_fd < 0)
		die(works ? 3 : 1, "cannot open %s: %s", argv[2],
		    strerror(errno));
	if (works)
		return work(argv[3], strtoull(argv[4], NULL, 10),
			    strtoul(argv[5], NULL, 10));
	return check(argv[3], strtoul(argv[4], NULL, 10));
}
