/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run.c - the command of --run.
 *
 * It is spawned and not forked, since threads run by then.  All our
 * descriptors are close-on-exec.
 */
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/base.h"
#include "server/run.h"

#define NR_VARS	4

static bool is_ours(const char *entry, const char *const *ours)
{
	for (unsigned int i = 0; i < NR_VARS; i++)
		if (strncmp(entry, ours[i], strchr(ours[i], '=') - ours[i] + 1)
		    == 0)
			return true;
	return false;
}

/* Our environment with @ours, NAME=VALUE, instead of what it had of them.
 * The array is to be freed, its strings are not. */
static char **make_environment(char *const *ours)
{
	unsigned int nr = 0, n = 0;
	char **envp;

	while (environ && environ[nr])
		nr++;
	envp = calloc(nr + NR_VARS + 1, sizeof(*envp));
	if (!envp)
		return NULL;
	for (unsigned int i = 0; i < nr; i++)
		if (!is_ours(environ[i], (const char *const *)ours))
			envp[n++] = environ[i];
	for (unsigned int i = 0; i < NR_VARS; i++)
		envp[n++] = ours[i];
	return envp;
}

static int spawn_shell(struct run_child *child, const char *command,
		       char **envp, const struct signal_state *before)
{
	char sh[] = "sh", c[] = "-c", end[] = "--";
	char *argv[] = { sh, c, end, (char *)(uintptr_t)command, NULL };
	posix_spawnattr_t attr;
	int ret;

	ret = posix_spawnattr_init(&attr);
	if (ret)
		return -ret;
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK |
				 POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attr, &before->blocked);
	posix_spawnattr_setsigdefault(&attr, &before->defaults);
	ret = posix_spawn(&child->pid, "/bin/sh", NULL, &attr, argv, envp);
	posix_spawnattr_destroy(&attr);
	if (ret)
		child->pid = 0;
	return -ret;
}

int run_start(struct run_child *child, const char *command,
	      const struct run_vars *vars, const struct signal_state *before)
{
	const char *const names[NR_VARS] = { "uri", "unixsocket", "port",
					     "exportname" };
	const char *const values[NR_VARS] = { vars->uri, vars->unixsocket,
					      vars->port, vars->exportname };
	char *ours[NR_VARS] = { NULL }, **envp = NULL;
	int ret = -ENOMEM;

	for (unsigned int i = 0; i < NR_VARS; i++) {
		if (asprintf(&ours[i], "%s=%s", names[i],
			     values[i] ? values[i] : "") < 0) {
			ours[i] = NULL;
			goto out_free;
		}
	}
	envp = make_environment(ours);
	if (envp)
		ret = spawn_shell(child, command, envp, before);
out_free:
	free(envp);
	for (unsigned int i = 0; i < NR_VARS; i++)
		free(ours[i]);
	return ret;
}

bool run_reap(struct run_child *child)
{
	int status;

	if (!child->pid || waitpid(child->pid, &status, WNOHANG) != child->pid)
		return false;
	child->pid = 0;
	if (WIFEXITED(status))
		child->exit_status = WEXITSTATUS(status);
	else
		child->exit_status = 128 + WTERMSIG(status);
	return true;
}
