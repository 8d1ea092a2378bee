/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * client.h - reach an NBD server by its URI and come to transmission.
 *
 * Whatever goes wrong here ends the program with a line that says what: a
 * measurement with half of its connections is worth nothing.
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Nothing received for so long means that the server hangs. */
#define CLIENT_PATIENCE_SEC	30

struct ssl_st;

struct client_target {
	char	*path;			/* unix socket, or NULL: TCP */
	char	*host, *port;
	char	*export_name;
	bool	wants_tls;		/* nbds */
	char	*user;			/* of a shared key, or NULL */
	/* For TLS; the caller's. */
	struct client_tls *tls;
};

struct client_link {
	int		fd;
	struct ssl_st	*ssl;		/* NULL: plain */
};

struct client_export {
	uint64_t	size;		/* bytes */
	uint16_t	flags;		/* WIRE_HAS_FLAGS... */
};

/* nbd://HOST[:PORT]/[NAME] or nbd+unix:///[NAME]?socket=PATH; or nbds, with
 * USER@ before the host. */
void client_parse_uri(const char *uri, struct client_target *target);
void client_target_fini(struct client_target *target);

/* A connection in the transmission phase. */
struct client_link client_connect(const struct client_target *target,
				  bool structured,
				  struct client_export *export);

/*
 * Send from @iov without waiting; receive what there is, waiting for
 * CLIENT_PATIENCE_SEC with @wait.  Bytes, 0 at the end of input, or -1 with
 * errno, EAGAIN for later.  Under TLS, what is received is all that there is
 * but for a full buffer: that may be all that epoll tells of.
 */
ssize_t client_send(const struct client_link *link, struct iovec *iov,
		    unsigned int nr);
ssize_t client_recv(const struct client_link *link, void *buf, size_t len,
		    bool wait);

/* "TLSv1.3 CIPHER", or "none"; constant. */
const char *client_encryption(const struct client_link *link);

/* Say goodbye and close. */
void client_disconnect(struct client_link *link);

#endif
