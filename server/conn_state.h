/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conn_state.h - a connection without its process: what another one needs to
 * go on with it where this one stopped.
 *
 * It is made of a connection that rests: nothing is in flight, and no pin,
 * event or timer is left of it.  What of a request had been received stands in
 * @input as it came, head included, so that there is no half-done request to
 * describe; only of a payload that is being dropped it is told how much is
 * still to come.
 */
#ifndef FOLIOD_SERVER_CONN_STATE_H
#define FOLIOD_SERVER_CONN_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "proto/request.h"
#include "server/tls.h"

enum conn_state_phase {
	CONN_STATE_FLAGS,		/* the client's flags come next, */
	CONN_STATE_OPTION,		/* an option */
	CONN_STATE_TRANSMISSION,	/* or a request */
	CONN_STATE_NR,
};

struct conn_state {
	STAILQ_ENTRY(conn_state) link;
	int			fd;	/* not owned, see the functions */

	enum conn_state_phase	phase;
	bool			finishing;	/* takes no more input */
	bool			allocation;	/* base:allocation, for @name */
	enum tls_mode		tls_least;	/* of where it came in */
	struct nbd_session	session;	/* in the handshake: its kind of
						 * replies alone */
	/* The handshake. */
	uint32_t		client_flags;
	uint32_t		nr_options;
	uint64_t		option_bytes;
	uint32_t		option, option_reply;
	/* Input to be dropped; in transmission it is the payload of @refused,
	 * which @skip_error answers then. */
	uint32_t		skip, skip_error;
	struct nbd_request	refused;

	/* Of @name and for its client, once who takes it over has looked. */
	struct export		*export;

	/* In @buf, which is owned; none ends in a NUL. */
	const char		*name;	/* of the export; NULL if there is none */
	const char		*input, *output;	/* not parsed; not sent */
	uint32_t		name_len;
	size_t			input_len, output_len;
	char			*buf;
};

STAILQ_HEAD(conn_states, conn_state);

/* The record that stands before name, input and output. */
#define CONN_STATE_RECORD	112u
/* All of it, at most. */
#define CONN_STATE_MAX		(UINT32_C(192) << 20)

/*
 * The bytes of @state but for its descriptor: @record gets CONN_STATE_RECORD of
 * them, and @iov all four parts.  @state and @record stay until these are sent.
 */
void conn_state_encode(const struct conn_state *state, char *record,
		       struct iovec iov[4]);

/*
 * The same back: @state takes *@bufp, of @len bytes, over on success, and has
 * no descriptor.  0, or -EPROTO if any of it cannot be.
 */
int conn_state_decode(struct conn_state *state, char **bufp, size_t len);

/* Frees what @state points to, not itself. */
void conn_state_fini(struct conn_state *state);

/* Free all of @list; with @close_fds their descriptors are closed. */
void conn_states_free(struct conn_states *list, bool close_fds);

#endif
