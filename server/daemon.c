/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * daemon.c - the way into the background.
 *
 * The parent stays until the child can serve, so that what goes wrong before
 * is told on the user's terminal and by the exit status.  After that nobody
 * reads standard error: it becomes a pipe to a thread that hands each line to
 * syslog.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "base/base.h"
#include "server/daemon.h"

static pthread_t log_thread;
static bool log_thread_runs;

/* In the parent. */
static __attribute__((noreturn)) void wait_for_child(pid_t pid, int fd)
{
	int status;
	char byte;
	ssize_t n;

	do
		n = read(fd, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		_exit(0);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			_exit(1);
	if (WIFSIGNALED(status))
		log_error("ended by signal %d before it could serve",
			  WTERMSIG(status));
	_exit(WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) :
							 1);
}

int daemon_fork(int *ready_fdp)
{
	int fds[2], err;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid < 0) {
		err = errno;
		close(fds[0]);
		close(fds[1]);
		return -err;
	}
	if (pid) {
		close(fds[1]);
		wait_for_child(pid, fds[0]);
	}
	close(fds[0]);
	setsid();
	*ready_fdp = fds[1];
	return 0;
}

/* Lines begin with "foliod: " and perhaps the level; syslog adds its own. */
static void log_to_syslog(char *line)
{
	static const char program[] = "foliod: ", warning[] = "warning: ";
	int priority = LOG_NOTICE;

	line[strcspn(line, "\n")] = '\0';
	if (strncmp(line, program, strlen(program)) == 0)
		line += strlen(program);
	if (strncmp(line, warning, strlen(warning)) == 0)
		priority = LOG_WARNING;
	syslog(priority, "%s", line);
}

static void *forward_log(void *arg)
{
	FILE *file = arg;
	char *line = NULL;
	size_t size = 0;

	openlog("foliod", LOG_PID, LOG_DAEMON);
	while (getline(&line, &size, file) > 0)
		log_to_syslog(line);
	free(line);
	fclose(file);
	closelog();
	return NULL;
}

/* Start the thread; what is written to *@fdp goes to syslog. */
static int start_log_thread(int *fdp)
{
	int fds[2], ret;
	FILE *file;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	file = fdopen(fds[0], "r");
	if (!file) {
		ret = -errno;
		close(fds[0]);
		close(fds[1]);
		return ret;
	}
	ret = -pthread_create(&log_thread, NULL, forward_log, file);
	if (ret) {
		fclose(file);
		close(fds[1]);
		return ret;
	}
	log_thread_runs = true;
	*fdp = fds[1];
	return 0;
}

/* Until the parent has gone, errors are for its terminal: what can fail comes
 * first. */
int daemon_ready(int *ready_fdp)
{
	int null_fd, log_fd = -1, ret;

	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0)
		return -errno;
	ret = start_log_thread(&log_fd);
	if (ret)
		goto out_close;
	if (chdir("/") || dup2(null_fd, STDIN_FILENO) < 0 ||
	    dup2(null_fd, STDOUT_FILENO) < 0 || write(*ready_fdp, "", 1) != 1)
		ret = -errno;
	else
		dup2(log_fd, STDERR_FILENO);
	close(log_fd);
	close(*ready_fdp);
	*ready_fdp = -1;
out_close:
	close(null_fd);
	return ret;
}

void daemon_flush_log(void)
{
	int null_fd;

	if (!log_thread_runs)
		return;
	/* The thread reads to the end of the pipe, of which this is the only
	 * other side. */
	null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (null_fd < 0 || dup2(null_fd, STDERR_FILENO) < 0)
		return;
	close(null_fd);
	pthread_join(log_thread, NULL);
	log_thread_runs = false;
}
