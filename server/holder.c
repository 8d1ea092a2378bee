/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * holder.c - which process has the port that we want?
 *
 * The kernel tells the inode of a listening socket in /proc/net, and which
 * process has a descriptor of that inode in /proc/PID/fd.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/util.h"
#include "server/holder.h"

#define TCP_STATE_LISTEN	0x0a

/* The fields of a line of /proc/net/tcp, from 0. */
enum {
	FIELD_LOCAL	= 1,	/* address:port, in hexadecimal */
	FIELD_STATE	= 3,
	FIELD_INODE	= 9,
	NR_FIELDS,
};

/* The inode in @line, which is cut up, if it is a socket that listens on
 * @port; 0 if it is not. */
static unsigned long inode_of_line(char *line, uint16_t port)
{
	char *fields[NR_FIELDS], *save, *field, *colon;
	unsigned int nr = 0;

	for (field = strtok_r(line, " ", &save); field && nr < NR_FIELDS;
	     field = strtok_r(NULL, " ", &save))
		fields[nr++] = field;
	if (nr < NR_FIELDS)
		return 0;
	colon = strrchr(fields[FIELD_LOCAL], ':');
	if (!colon || strtoul(colon + 1, NULL, 16) != port ||
	    strtoul(fields[FIELD_STATE], NULL, 16) != TCP_STATE_LISTEN)
		return 0;
	return strtoul(fields[FIELD_INODE], NULL, 10);
}

/* The inode of the socket that listens on @port; 0 if none does. */
static unsigned long listening_inode(const char *table, uint16_t port)
{
	unsigned long inode = 0;
	FILE *file = fopen(table, "re");
	char *line = NULL;
	size_t size = 0;

	if (!file)
		return 0;
	while (!inode && getline(&line, &size, file) > 0)
		inode = inode_of_line(line, port);
	free(line);
	fclose(file);
	return inode;
}

static bool has_descriptor(int proc_fd, const char *pid, const char *link)
{
	char path[280], target[64];
	struct dirent *entry;
	bool found = false;
	ssize_t len;
	int fd;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/fd", pid);
	fd = openat(proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return false;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return false;
	}
	while (!found && (entry = readdir(dir))) {
		len = readlinkat(fd, entry->d_name, target, sizeof(target) - 1);
		if (len <= 0)
			continue;
		target[len] = '\0';
		found = strcmp(target, link) == 0;
	}
	closedir(dir);
	return found;
}

static pid_t process_with_descriptor(const char *link)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	pid_t pid = 0;

	if (!proc)
		return 0;
	while (!pid && (entry = readdir(proc)))
		if (isdigit((unsigned char)entry->d_name[0]) &&
		    has_descriptor(dirfd(proc), entry->d_name, link))
			pid = strtol(entry->d_name, NULL, 10);
	closedir(proc);
	return pid;
}

pid_t holder_of_port(int family, uint16_t port)
{
	/* A socket of IPv6 may hold the port for IPv4 as well. */
	static const char *const tables[] = { "/proc/net/tcp",
					      "/proc/net/tcp6" };
	int first = family == AF_INET6;
	unsigned long inode;
	char link[64];

	inode = listening_inode(tables[first], port);
	if (!inode)
		inode = listening_inode(tables[!first], port);
	if (!inode)
		return 0;
	snprintf(link, sizeof(link), "socket:[%lu]", inode);
	return process_with_descriptor(link);
}

const char *holder_to_text(pid_t pid, char *buf, size_t buflen)
{
	char path[64], program[32] = "";
	FILE *file;

	buf[0] = '\0';
	if (pid <= 0)
		return buf;
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	file = fopen(path, "re");
	if (file) {
		if (!fgets(program, sizeof(program), file))
			program[0] = '\0';
		program[strcspn(program, "\n")] = '\0';
		fclose(file);
	}
	snprintf(buf, buflen, program[0] ? " by pid %d (%s)" : " by pid %d",
		 (int)pid, program);
	return buf;
}
