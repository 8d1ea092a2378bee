/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * accept.c - takes clients from listening sockets, in batches.
 *
 * When the process is out of descriptors the kernel goes on reporting the
 * client that waits, for ever.  One descriptor is kept in reserve: given up, it
 * lets us accept that client and close it, so that it sees an end and we no
 * busy loop.
 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base.h"
#include "server/accept.h"
#include "server/turned_away.h"

/* Clients taken from one socket before others get their turn. */
#define ACCEPT_BATCH	64
/* How long to leave a socket alone for which there are no resources. */
#define PAUSE_USEC	100000

struct accept_event {
	struct acceptor	*acceptor;
	int		fd;
	enum tls_mode	tls;
	struct event	*readable;
};

struct acceptor {
	void			(*accepted)(void *arg, int fd, enum tls_mode tls);
	void			*arg;
	int			reserve_fd;	/* -1 while there is none */
	struct event		*resume;
	unsigned int		nr;
	struct accept_event	events[];
};

static void get_reserve(struct acceptor *acceptor)
{
	if (acceptor->reserve_fd < 0)
		acceptor->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* No events for a while, for any of the sockets: what lacks, lacks for all. */
static void pause_all(struct acceptor *acceptor)
{
	const struct timeval delay = { .tv_usec = PAUSE_USEC };

	for (unsigned int i = 0; i < acceptor->nr; i++)
		event_del(acceptor->events[i].readable);
	evtimer_add(acceptor->resume, &delay);
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct acceptor *acceptor = arg;

	(void)fd;
	(void)what;
	get_reserve(acceptor);
	for (unsigned int i = 0; i < acceptor->nr; i++)
		event_add(acceptor->events[i].readable, NULL);
}

/*
 * Out of descriptors: let the client that waits know.  True: look for another;
 * accept4() says that there is no descriptor even where there is no client.
 */
static bool turn_away(struct accept_event *ae, int why)
{
	struct acceptor *acceptor = ae->acceptor;
	int fd, err;

	if (acceptor->reserve_fd < 0) {
		turned_away(strerror(why));
		pause_all(acceptor);
		return false;
	}
	close(acceptor->reserve_fd);
	acceptor->reserve_fd = -1;
	fd = accept4(ae->fd, NULL, NULL, SOCK_CLOEXEC);
	err = errno;
	if (fd >= 0) {
		close(fd);
		turned_away(strerror(why));
	}
	get_reserve(acceptor);
	if (fd < 0 && (err == EMFILE || err == ENFILE))
		pause_all(acceptor);
	return fd >= 0;
}

/* One client of @ae.  False: no more for now. */
static bool accept_one(struct accept_event *ae)
{
	int fd = accept4(ae->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	int err = errno;

	if (fd >= 0) {
		ae->acceptor->accepted(ae->acceptor->arg, fd, ae->tls);
		return true;
	}
	switch (err) {
	case EAGAIN:
		return false;
	case EMFILE:
	case ENFILE:
		return turn_away(ae, err);
	case ENOBUFS:
	case ENOMEM:
		turned_away(strerror(err));
		pause_all(ae->acceptor);
		return false;
	default:
		/* That client's own trouble, such as ECONNABORTED. */
		return true;
	}
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct accept_event *ae = arg;

	(void)fd;
	(void)what;
	for (unsigned int i = 0; i < ACCEPT_BATCH; i++)
		if (!accept_one(ae))
			break;
}

int acceptor_start(const struct listeners *set, struct event_base *base,
		   void (*accepted)(void *arg, int fd, enum tls_mode tls),
		   void *arg, struct acceptor **acceptorp)
{
	struct acceptor *acceptor;

	acceptor = calloc(1, sizeof(*acceptor) +
			  set->nr * sizeof(acceptor->events[0]));
	if (!acceptor)
		return -ENOMEM;
	acceptor->accepted = accepted;
	acceptor->arg = arg;
	acceptor->reserve_fd = -1;
	get_reserve(acceptor);
	acceptor->resume = evtimer_new(base, on_resume, acceptor);
	if (!acceptor->resume)
		goto out_stop;
	for (unsigned int i = 0; i < set->nr; i++) {
		struct accept_event *ae = &acceptor->events[i];

		ae->acceptor = acceptor;
		ae->fd = set->list[i].fd;
		ae->tls = set->list[i].tls;
		ae->readable = event_new(base, ae->fd, EV_READ | EV_PERSIST,
					 on_readable, ae);
		if (!ae->readable)
			goto out_stop;
		acceptor->nr++;
		if (event_add(ae->readable, NULL))
			goto out_stop;
	}
	*acceptorp = acceptor;
	return 0;

out_stop:
	acceptor_stop(&acceptor);
	return -ENOMEM;
}

void acceptor_stop(struct acceptor **acceptorp)
{
	struct acceptor *acceptor = *acceptorp;

	*acceptorp = NULL;
	if (!acceptor)
		return;
	for (unsigned int i = 0; i < acceptor->nr; i++)
		event_free(acceptor->events[i].readable);
	if (acceptor->resume)
		event_free(acceptor->resume);
	if (acceptor->reserve_fd >= 0)
		close(acceptor->reserve_fd);
	free(acceptor);
}
