/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_watchdog.c - the service manager hears that all loops live, and does
 * not when one is stuck: watchdog.h, and who is told: notify.h.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base.h"
#include "server/notify.h"
#include "server/watchdog.h"

#define NR_LOOPS	3
#define PERIOD_USEC	"3000"

/* Loop 0 is this thread's. */
static struct {
	struct loop	*loop;
	pthread_t	thread;
	sem_t		started;
	bool		stop;		/* atomic */
} loops[NR_LOOPS];

static int manager;			/* its end of the socket */
static struct notify notify;
static struct watchdog *watchdog;

static void *loop_main(void *arg)
{
	unsigned int i = (unsigned int)(uintptr_t)arg;

	ck_assert_int_eq(loop_new(&loops[i].loop), 0);
	sem_post(&loops[i].started);
	while (!__atomic_load_n(&loops[i].stop, __ATOMIC_ACQUIRE))
		loop_run(loops[i].loop);
	return NULL;
}

static struct loop *nth_loop(void *arg, unsigned int i)
{
	ck_assert_ptr_eq(arg, loops);
	ck_assert_uint_lt(i, NR_LOOPS);
	return loops[i].loop;
}

/* A manager on an abstract socket whose name the kernel chooses. */
static void open_manager(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(sa_family_t);
	char text[sizeof(addr.sun_path) + 1];

	manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(manager, 0);
	ck_assert_int_eq(bind(manager, (struct sockaddr *)&addr, len), 0);
	len = sizeof(addr);
	ck_assert_int_eq(getsockname(manager, (struct sockaddr *)&addr, &len),
			 0);
	snprintf(text, sizeof(text), "@%.*s",
		 (int)(len - sizeof(sa_family_t) - 1), addr.sun_path + 1);
	setenv("NOTIFY_SOCKET", text, 1);
	notify_init(&notify);
	ck_assert_int_ge(notify.fd, 0);
	ck_assert_ptr_null(getenv("NOTIFY_SOCKET"));
}

static void setup(void)
{
	memset(loops, 0, sizeof(loops));
	ck_assert_int_eq(loop_new(&loops[0].loop), 0);
	for (unsigned int i = 1; i < NR_LOOPS; i++) {
		sem_init(&loops[i].started, 0, 0);
		ck_assert_int_eq(pthread_create(&loops[i].thread, NULL,
						loop_main,
						(void *)(uintptr_t)i), 0);
		sem_wait(&loops[i].started);
	}
	watchdog = NULL;
	open_manager();
	setenv("WATCHDOG_USEC", PERIOD_USEC, 1);
	unsetenv("WATCHDOG_PID");
}

static void teardown(void)
{
	watchdog_stop(watchdog);
	for (unsigned int i = 1; i < NR_LOOPS; i++) {
		__atomic_store_n(&loops[i].stop, true, __ATOMIC_RELEASE);
		loop_stop(loops[i].loop);
		pthread_join(loops[i].thread, NULL);
		sem_destroy(&loops[i].started);
	}
	for (unsigned int i = 0; i < NR_LOOPS; i++)
		loop_free(loops[i].loop);
	watchdog_free(watchdog);
	notify_fini(&notify);
	close(manager);
}

static void start(void)
{
	ck_assert_int_eq(watchdog_start(&notify, NR_LOOPS, nth_loop, loops,
					&watchdog), 0);
	ck_assert_ptr_null(getenv("WATCHDOG_USEC"));
}

/* How often the manager has heard of us since. */
static unsigned int heard(void)
{
	unsigned int nr = 0;
	char buf[64];
	ssize_t n;

	while ((n = recv(manager, buf, sizeof(buf), 0)) > 0) {
		ck_assert_int_eq(n, strlen("WATCHDOG=1"));
		ck_assert_mem_eq(buf, "WATCHDOG=1", n);
		nr++;
	}
	return nr;
}

static void end_of_nap(struct timer *timer)
{
	(void)timer;
	loop_stop(loops[0].loop);
}

/* Run the first loop for as long as a period takes. */
static void nap(void)
{
	struct timer timer;

	loop_enter(loops[0].loop);
	timer_init(&timer, end_of_nap);
	timer_arm(&timer, clock_now_ns() + 3000 * NSEC_PER_USEC);
	loop_enter(NULL);
	ck_assert_int_eq(loop_run(loops[0].loop), 0);
}

static void hear(unsigned int nr)
{
	for (unsigned int got = 0; got < nr; got += heard())
		nap();
}

START_TEST(it_is_fed_while_all_loops_run)
{
	start();
	ck_assert_ptr_nonnull(watchdog);
	hear(5);
}
END_TEST

struct blocker {
	struct work	work;
	sem_t		blocked, release;
};

static void block(struct work *work)
{
	struct blocker *blocker = container_of(work, struct blocker, work);

	sem_post(&blocker->blocked);
	sem_wait(&blocker->release);
}

START_TEST(it_is_not_fed_while_any_loop_is_stuck)
{
	struct blocker blocker = { .work.fn = block };

	sem_init(&blocker.blocked, 0, 0);
	sem_init(&blocker.release, 0, 0);
	start();
	hear(1);
	loop_post(loops[_i].loop, &blocker.work);
	sem_wait(&blocker.blocked);
	/* That one may have answered the last question before. */
	nap();
	nap();
	ck_assert_uint_le(heard(), 1);
	for (unsigned int i = 0; i < 10; i++)
		nap();
	ck_assert_uint_eq(heard(), 0);
	sem_post(&blocker.release);
	hear(3);
	sem_destroy(&blocker.blocked);
	sem_destroy(&blocker.release);
}
END_TEST

static void not_started(void)
{
	ck_assert_int_eq(watchdog_start(&notify, NR_LOOPS, nth_loop, loops,
					&watchdog), 0);
	ck_assert_ptr_null(watchdog);
	ck_assert_ptr_null(getenv("WATCHDOG_USEC"));
	ck_assert_ptr_null(getenv("WATCHDOG_PID"));
}

START_TEST(it_is_only_for_whom_it_is_meant)
{
	char pid[16];

	setenv("WATCHDOG_PID", "1", 1);
	not_started();
	not_started();
	setenv("WATCHDOG_USEC", "nonsense", 1);
	not_started();
	setenv("WATCHDOG_USEC", "0", 1);
	not_started();
	setenv("WATCHDOG_USEC", PERIOD_USEC, 1);
	setenv("WATCHDOG_PID", "1x", 1);
	not_started();
	setenv("WATCHDOG_USEC", PERIOD_USEC, 1);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("WATCHDOG_PID", pid, 1);
	start();
	ck_assert_ptr_nonnull(watchdog);
	hear(1);
}
END_TEST

START_TEST(nobody_waits_nobody_is_told)
{
	static const char *const bad[] = {
		"", "nowhere", "./nowhere", "vsock:2:1", "@", "/",
	};
	char longest[200];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		notify_fini(&notify);
		setenv("NOTIFY_SOCKET", bad[i], 1);
		notify_init(&notify);
		ck_assert_int_eq(notify.fd, -1);
		/* They do nothing then. */
		notify_ready(&notify, 1);
		notify_alive(&notify);
		setenv("WATCHDOG_USEC", PERIOD_USEC, 1);
		not_started();
	}
	memset(longest, 'a', sizeof(longest));
	longest[0] = '/';
	longest[sizeof(longest) - 1] = '\0';
	setenv("NOTIFY_SOCKET", longest, 1);
	notify_init(&notify);
	ck_assert_int_eq(notify.fd, -1);
	unsetenv("NOTIFY_SOCKET");
	notify_init(&notify);
	ck_assert_int_eq(notify.fd, -1);
}
END_TEST

static void take(const char *begin)
{
	char buf[300];
	ssize_t n = recv(manager, buf, sizeof(buf) - 1, 0);

	ck_assert_int_gt(n, 0);
	buf[n] = '\0';
	ck_assert_msg(strncmp(buf, begin, strlen(begin)) == 0,
		      "'%s' instead of '%s'", buf, begin);
}

/* A reload before that or after would tell of a service that is not there. */
START_TEST(only_who_serves_reloads)
{
	char buf[8];

	notify_reloading(&notify);
	notify_reloaded(&notify, 1);
	ck_assert_int_lt(recv(manager, buf, sizeof(buf), 0), 0);
	notify_ready(&notify, 1);
	take("READY=1\nSTATUS=Serving 1 export");
	notify_reloading(&notify);
	take("RELOADING=1\nMONOTONIC_USEC=");
	notify_reloaded(&notify, 2);
	take("READY=1\nSTATUS=Serving 2 exports");
	notify_stopping(&notify);
	take("STOPPING=1\nSTATUS=");
	notify_reloading(&notify);
	notify_reloaded(&notify, 1);
	ck_assert_int_lt(recv(manager, buf, sizeof(buf), 0), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("watchdog");
	TCase *tcase = tcase_create("watchdog");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, it_is_fed_while_all_loops_run);
	tcase_add_loop_test(tcase, it_is_not_fed_while_any_loop_is_stuck, 1,
			    NR_LOOPS);
	tcase_add_test(tcase, it_is_only_for_whom_it_is_meant);
	tcase_add_test(tcase, nobody_waits_nobody_is_told);
	tcase_add_test(tcase, only_who_serves_reloads);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
