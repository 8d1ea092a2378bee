/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pidfile.c - a file that says our process id while clients can connect.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "server/pidfile.h"

static int write_pid(const char *path, int flags)
{
	char text[32];
	int fd, len, ret = 0;

	fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY | flags, 0644);
	if (fd < 0)
		return -errno;
	len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (write(fd, text, len) != len)
		ret = errno ? -errno : -ENOSPC;
	if (close(fd) && !ret)
		ret = -errno;
	return ret;
}

/* Something that is no file, a FIFO or /dev/stderr, must not be replaced. */
static bool is_special(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && !S_ISREG(st.st_mode);
}

int pidfile_write(const char *path, char **absolutep)
{
	char *temporary;
	int ret;

	if (is_special(path))
		return write_pid(path, 0);
	if (asprintf(&temporary, "%s.%d", path, (int)getpid()) < 0)
		return -ENOMEM;
	ret = write_pid(temporary, O_CREAT | O_EXCL | O_NOFOLLOW);
	if (!ret && rename(temporary, path)) {
		ret = -errno;
		unlink(temporary);
	}
	free(temporary);
	if (!ret)
		*absolutep = realpath(path, NULL);
	return ret;
}

void pidfile_remove(char **absolutep)
{
	char *path = *absolutep, line[32] = "";
	FILE *file;

	*absolutep = NULL;
	if (!path)
		return;
	/* Another foliod may have been told the same file. */
	file = fopen(path, "re");
	if (file) {
		if (fgets(line, sizeof(line), file) &&
		    strtol(line, NULL, 10) == getpid())
			unlink(path);
		fclose(file);
	}
	free(path);
}
