/* SPDX-License-Identifier: BSD-3-Clause */
/* thread.c - threads that leave signals to others. */
#include <signal.h>

#include "base/thread.h"
#include "base/util.h"

int thread_start(pthread_t *thread, void *(*fn)(void *arg), void *arg)
{
	static const int own[] = { SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV,
				   SIGSYS, SIGTRAP };
	sigset_t others, old;
	int ret;

	sigfillset(&others);
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		sigdelset(&others, own[i]);
	/* It begins with its maker's mask. */
	pthread_sigmask(SIG_BLOCK, &others, &old);
	ret = -pthread_create(thread, NULL, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ret;
}
