/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * notify.c - tell the service manager how far we are.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "server/notify.h"

#define MESSAGE_MAX	256

/* A path, or '@' and the name of an abstract socket. */
static int parse_address(struct notify *notify, const char *text)
{
	size_t len = strlen(text);

	if ((text[0] != '/' && text[0] != '@') || !text[1] ||
	    len >= sizeof(notify->addr.sun_path))
		return -EAFNOSUPPORT;
	notify->addr.sun_family = AF_UNIX;
	memcpy(notify->addr.sun_path, text, len + 1);
	notify->addr_len = offsetof(struct sockaddr_un, sun_path) + len;
	if (text[0] == '@')
		notify->addr.sun_path[0] = '\0';
	else
		notify->addr_len++;
	return 0;
}

void notify_init(struct notify *notify)
{
	const char *text = getenv("NOTIFY_SOCKET");
	int ret;

	memset(notify, 0, sizeof(*notify));
	notify->fd = -1;
	if (!text || !*text)
		return;
	ret = parse_address(notify, text);
	if (!ret) {
		notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		ret = notify->fd < 0 ? -errno : 0;
	}
	if (ret)
		log_warn("cannot use NOTIFY_SOCKET='%s': %s", text,
			 strerror(-ret));
	unsetenv("NOTIFY_SOCKET");
}

void notify_fini(struct notify *notify)
{
	if (notify->fd >= 0)
		close(notify->fd);
	notify->fd = -1;
}

static void send_message(struct notify *notify, int flags, const char *text)
{
	ssize_t n;

	if (notify->fd < 0)
		return;
	do
		n = sendto(notify->fd, text, strlen(text), flags | MSG_NOSIGNAL,
			   (struct sockaddr *)&notify->addr, notify->addr_len);
	while (n < 0 && errno == EINTR);
	if (n >= 0 || errno == EAGAIN)
		return;
	log_warn("cannot notify the service manager any more: %s",
		 strerror(errno));
	notify_fini(notify);
}

static __attribute__((format(printf, 2, 3)))
void say(struct notify *notify, const char *fmt, ...)
{
	char text[MESSAGE_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	send_message(notify, 0, text);
}

void notify_ready(struct notify *notify, unsigned int nr_exports)
{
	notify->serving = true;
	say(notify, "READY=1\nSTATUS=Serving %u export%s", nr_exports,
	    nr_exports == 1 ? "" : "s");
}

void notify_reloading(struct notify *notify)
{
	struct timespec ts;

	if (!notify->serving)
		return;
	/* To be compared with when the manager asked: the system's clock, not
	 * the loops'. */
	clock_gettime(CLOCK_MONOTONIC, &ts);
	say(notify, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\n"
	    "STATUS=Rereading files", (uint64_t)ts.tv_sec * 1000000 +
	    (uint64_t)ts.tv_nsec / 1000);
}

void notify_reloaded(struct notify *notify, unsigned int nr_exports)
{
	if (notify->serving)
		notify_ready(notify, nr_exports);
}

void notify_stopping(struct notify *notify)
{
	notify->serving = false;
	say(notify, "STOPPING=1\nSTATUS=Finishing what clients have asked for");
}

void notify_flushing(struct notify *notify)
{
	say(notify, "STATUS=Writing what is not yet on disk");
}

void notify_alive(struct notify *notify)
{
	send_message(notify, MSG_DONTWAIT, "WATCHDOG=1");
}
