/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * watchdog.c - tell the service manager that no loop is stuck.
 *
 *	timer -> a question to each loop -> answers -> the last: WATCHDOG=1
 *	  ^                                                    |
 *	  '----------------------------------------------------'
 *
 * A loop that does not take its turn leaves its question unanswered, and the
 * chain ends there.
 */
#include <errno.h>
#include <unistd.h>

#include "base/base.h"
#include "server/watchdog.h"

#define PER_PERIOD	3

struct question {
	struct work		work;
	struct work		answer;		/* for the first loop */
	struct watchdog		*watchdog;
	struct loop		*loop;
};

/* The first loop's, but for the questions on their way. */
struct watchdog {
	struct notify		*notify;
	uint64_t		interval_ns;
	struct timer		timer;
	unsigned int		nr, nr_answers;
	struct question		questions[];
};

static void take_answer(struct work *work)
{
	struct question *question = container_of(work, struct question, answer);
	struct watchdog *watchdog = question->watchdog;

	if (++watchdog->nr_answers < watchdog->nr)
		return;
	notify_alive(watchdog->notify);
	timer_arm(&watchdog->timer, clock_now_ns() + watchdog->interval_ns);
}

/* On the loop that is asked. */
static void answer(struct work *work)
{
	struct question *question = container_of(work, struct question, work);

	loop_post(question->watchdog->questions[0].loop, &question->answer);
}

static void ask_all(struct timer *timer)
{
	struct watchdog *watchdog = container_of(timer, struct watchdog, timer);

	watchdog->nr_answers = 0;
	for (unsigned int i = 0; i < watchdog->nr; i++)
		loop_post(watchdog->questions[i].loop,
			  &watchdog->questions[i].work);
}

/* The manager's patience; 0: it does not want to hear from this process. */
static uint64_t read_period_ns(void)
{
	const char *usec_text = getenv("WATCHDOG_USEC");
	const char *pid_text = getenv("WATCHDOG_PID");
	uint64_t usec, pid;

	if (!usec_text || number_parse(usec_text, 1, UINT64_MAX / NSEC_PER_USEC,
				       &usec))
		return 0;
	if (pid_text && (number_parse(pid_text, 1, INT32_MAX, &pid) ||
			 (pid_t)pid != getpid()))
		return 0;
	return usec * NSEC_PER_USEC;
}

int watchdog_start(struct notify *notify, unsigned int nr,
		   struct loop *(*loop)(void *arg, unsigned int i), void *arg,
		   struct watchdog **watchdogp)
{
	uint64_t period_ns = read_period_ns();
	struct watchdog *watchdog;

	*watchdogp = NULL;
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	if (!period_ns || notify->fd < 0)
		return 0;
	watchdog = calloc(1, sizeof(*watchdog) +
			  nr * sizeof(watchdog->questions[0]));
	if (!watchdog)
		return -ENOMEM;
	watchdog->notify = notify;
	watchdog->interval_ns = period_ns / PER_PERIOD;
	watchdog->nr = nr;
	for (unsigned int i = 0; i < nr; i++) {
		watchdog->questions[i].work.fn = answer;
		watchdog->questions[i].answer.fn = take_answer;
		watchdog->questions[i].watchdog = watchdog;
		watchdog->questions[i].loop = loop(arg, i);
	}
	loop_enter(watchdog->questions[0].loop);
	timer_init(&watchdog->timer, ask_all);
	timer_arm(&watchdog->timer, clock_now_ns() + watchdog->interval_ns);
	loop_enter(NULL);
	*watchdogp = watchdog;
	return 0;
}

void watchdog_stop(struct watchdog *watchdog)
{
	if (!watchdog)
		return;
	loop_enter(watchdog->questions[0].loop);
	timer_cancel(&watchdog->timer);
	loop_enter(NULL);
}

void watchdog_free(struct watchdog *watchdog)
{
	free(watchdog);
}
