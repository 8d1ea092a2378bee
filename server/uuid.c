/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * uuid.c - what a file or device is known by for good, as a UUID.
 *
 * Device numbers are not: they change from one boot to the next.
 */
#include "server/uuid.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <openssl/sha.h>

#include "base/base.h"

#define NAME_MAX_LEN	(PATH_MAX + 256)

/* ---- text ---- */

static bool is_dash(unsigned int i)
{
	return i == 8 || i == 13 || i == 18 || i == 23;
}

bool uuid_parse(const char *text, char uuid[UUID_TEXT_SIZE])
{
	bool zero = true;

	if (strlen(text) != UUID_TEXT_SIZE - 1)
		return false;
	for (unsigned int i = 0; i < UUID_TEXT_SIZE; i++) {
		char c = text[i];

		if (c >= 'A' && c <= 'F')
			c = (char)(c - 'A' + 'a');
		if (is_dash(i) ? c != '-' :
		    i < UUID_TEXT_SIZE - 1 && !((c >= '0' && c <= '9') ||
						(c >= 'a' && c <= 'f')))
			return false;
		zero &= c == '0' || c == '-' || !c;
		uuid[i] = c;
	}
	return !zero;
}

/* RFC 9562, 5.5, of @name in a name space of foliod's own. */
static void hash_name(const char *name, char uuid[UUID_TEXT_SIZE])
{
	static const uint8_t space[16] = {
		0x6d, 0x2f, 0x0a, 0x1e, 0x53, 0x9b, 0x4c, 0x47,
		0x8e, 0x70, 0x91, 0x5c, 0xd8, 0x23, 0xb6, 0x04,
	};
	uint8_t data[sizeof(space) + NAME_MAX_LEN], md[SHA_DIGEST_LENGTH];
	size_t len = MIN(strlen(name), (size_t)NAME_MAX_LEN);
	char *to = uuid;

	memcpy(data, space, sizeof(space));
	memcpy(data + sizeof(space), name, len);
	SHA1(data, sizeof(space) + len, md);
	md[6] = (md[6] & 0x0f) | 0x50;
	md[8] = (md[8] & 0x3f) | 0x80;
	for (unsigned int i = 0; i < 16; i++)
		to += sprintf(to, i == 4 || i == 6 || i == 8 || i == 10 ?
			      "-%02x" : "%02x", md[i]);
}

/* ---- what it is made of ---- */

/* The first line of a small file; false if there is none. */
static bool read_line(const char *path, char *line, size_t size)
{
	FILE *file = fopen(path, "re");
	bool ok;

	if (!file)
		return false;
	ok = fgets(line, (int)size, file) != NULL;
	fclose(file);
	if (!ok)
		return false;
	line[strcspn(line, "\n")] = '\0';
	return line[0];
}

static void machine_id(char *line, size_t size)
{
	if (!read_line("/etc/machine-id", line, size) &&
	    !read_line("/var/lib/dbus/machine-id", line, size))
		snprintf(line, size, "unknown");
}

static int name_file(const char *path, const struct statx *stx, char *name,
		     size_t size)
{
	struct statfs fs;
	uint64_t id;

	if ((stx->stx_mask & STATX_BTIME) && stx->stx_btime.tv_sec) {
		snprintf(name, size, "file:%llu:%lld.%09u",
			 (unsigned long long)stx->stx_ino,
			 (long long)stx->stx_btime.tv_sec,
			 stx->stx_btime.tv_nsec);
		return 0;
	}
	if (statfs(path, &fs))
		return -errno;
	memcpy(&id, &fs.f_fsid, sizeof(id));
	snprintf(name, size, "file:%llu@%llx", (unsigned long long)stx->stx_ino,
		 (unsigned long long)id);
	return 0;
}

/* What sysfs has under @dir that tells one device from all others. */
static bool name_disk(const char *dir, char *name, size_t size)
{
	static const char *const attrs[] = {
		"dm/uuid", "md/uuid", "wwid", "device/wwid", "serial",
		"device/serial", "loop/backing_file",
	};
	char path[PATH_MAX], line[PATH_MAX];

	for (unsigned int i = 0; i < ARRAY_SIZE(attrs); i++) {
		snprintf(path, sizeof(path), "%.200s/%s", dir, attrs[i]);
		if (read_line(path, line, sizeof(line))) {
			snprintf(name, size, "device:%s:%s", attrs[i], line);
			return true;
		}
	}
	return false;
}

static void name_device(const char *path, const struct statx *stx, char *name,
			size_t size)
{
	char dir[64], sub[96], nr[32];
	CLEANUP_FREE char *real = realpath(path, NULL);
	bool part;

	snprintf(dir, sizeof(dir), "/sys/dev/block/%u:%u", stx->stx_rdev_major,
		 stx->stx_rdev_minor);
	snprintf(sub, sizeof(sub), "%s/partition", dir);
	part = read_line(sub, nr, sizeof(nr));
	/* The link leads into the disk's directory. */
	snprintf(sub, sizeof(sub), part ? "%s/.." : "%s", dir);
	if (!name_disk(sub, name, size)) {
		snprintf(name, size, "device:%s", real ? real : path);
	} else if (part) {
		size_t len = strlen(name);

		snprintf(name + len, size - len, ":%s", nr);
	}
}

int uuid_of_path(const char *path, char uuid[UUID_TEXT_SIZE])
{
	char name[NAME_MAX_LEN], machine[64];
	struct statx stx;
	size_t len;
	int ret = 0;

	if (statx(AT_FDCWD, path, 0, STATX_BASIC_STATS | STATX_BTIME, &stx))
		return -errno;
	machine_id(machine, sizeof(machine));
	snprintf(name, sizeof(name), "%s:", machine);
	len = strlen(name);
	if (S_ISBLK(stx.stx_mode))
		name_device(path, &stx, name + len, sizeof(name) - len);
	else
		ret = name_file(path, &stx, name + len, sizeof(name) - len);
	if (!ret)
		hash_name(name, uuid);
	return ret;
}
