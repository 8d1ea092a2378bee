/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * conn_state.c - the bytes of a connection's state.
 *
 * Numbers are big-endian and of fixed size, so that the two processes need not
 * be built alike.  What is read is believed no more than a client is: it comes
 * from whoever could connect.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "cache/volume.h"
#include "server/conn_state.h"
#include "server/export.h"

#define SKIP_MAX	(UINT32_C(128) << 20)	/* of a payload */
#define BLOCK_MIN_MAX	(UINT32_C(64) << 10)

enum {
	FLAG_FINISHING		= 1 << 0,
	FLAG_STRUCTURED		= 1 << 1,
	FLAG_EXTENDED		= 1 << 2,
	FLAG_ALLOCATION		= 1 << 3,
	FLAG_NAMED		= 1 << 4,
	FLAG_REFUSED_EXTENDED	= 1 << 5,
	FLAGS_ALL		= (1 << 6) - 1,
};

/* All of it in 64 bits: there is one of these for each connection, once. */
enum field {
	F_PHASE, F_FLAGS, F_SIZE, F_BLOCK_MIN_AND_MAX, F_SESSION_FLAGS,
	F_CLIENT, F_OPTION_BYTES, F_OPTION, F_SKIP, F_COOKIE, F_POS, F_LEN,
	F_TYPE, F_NR,
};

static_assert((F_NR + 1) * sizeof(uint64_t) == CONN_STATE_RECORD,
	      "the fields and the lengths of name and input");

static uint64_t pair(uint32_t high, uint32_t low)
{
	return (uint64_t)high << 32 | low;
}

void conn_state_encode(const struct conn_state *state, char *record,
		       struct iovec iov[4])
{
	const struct nbd_session *session = &state->session;
	const struct nbd_request *refused = &state->refused;
	uint64_t flags = (state->finishing ? FLAG_FINISHING : 0) |
		(session->structured ? FLAG_STRUCTURED : 0) |
		(session->extended ? FLAG_EXTENDED : 0) |
		(state->allocation ? FLAG_ALLOCATION : 0) |
		(state->name ? FLAG_NAMED : 0) |
		(refused->extended ? FLAG_REFUSED_EXTENDED : 0);
	uint64_t fields[F_NR + 1] = {
		[F_PHASE] = pair(state->tls_least, state->phase),
		[F_FLAGS] = flags,
		[F_SIZE] = session->size,
		[F_BLOCK_MIN_AND_MAX] = pair(session->block_min,
					     session->payload_max),
		[F_SESSION_FLAGS] = session->flags,
		[F_CLIENT] = pair(state->client_flags, state->nr_options),
		[F_OPTION_BYTES] = state->option_bytes,
		[F_OPTION] = pair(state->option, state->option_reply),
		[F_SKIP] = pair(state->skip, state->skip_error),
		[F_COOKIE] = refused->cookie,
		[F_POS] = refused->pos,
		[F_LEN] = refused->len,
		[F_TYPE] = pair(refused->type, refused->flags),
		[F_NR] = pair(state->name_len, (uint32_t)state->input_len),
	};

	for (unsigned int i = 0; i <= F_NR; i++)
		fields[i] = htobe64(fields[i]);
	memcpy(record, fields, sizeof(fields));
	iov[0] = (struct iovec){ record, CONN_STATE_RECORD };
	iov[1] = (struct iovec){ (char *)(uintptr_t)state->name,
				 state->name_len };
	iov[2] = (struct iovec){ (char *)(uintptr_t)state->input,
				 state->input_len };
	iov[3] = (struct iovec){ (char *)(uintptr_t)state->output,
				 state->output_len };
}

static void take_fields(struct conn_state *state, const uint64_t *fields)
{
	struct nbd_session *session = &state->session;
	struct nbd_request *refused = &state->refused;
	uint64_t flags = fields[F_FLAGS];

	state->phase = (enum conn_state_phase)(uint32_t)fields[F_PHASE];
	state->tls_least = (enum tls_mode)(fields[F_PHASE] >> 32);
	state->finishing = flags & FLAG_FINISHING;
	state->allocation = flags & FLAG_ALLOCATION;
	session->structured = flags & FLAG_STRUCTURED;
	session->extended = flags & FLAG_EXTENDED;
	session->size = fields[F_SIZE];
	session->block_min = fields[F_BLOCK_MIN_AND_MAX] >> 32;
	session->payload_max = (uint32_t)fields[F_BLOCK_MIN_AND_MAX];
	session->flags = fields[F_SESSION_FLAGS];
	session->allocation = state->allocation &&
		state->phase == CONN_STATE_TRANSMISSION;
	state->client_flags = fields[F_CLIENT] >> 32;
	state->nr_options = (uint32_t)fields[F_CLIENT];
	state->option_bytes = fields[F_OPTION_BYTES];
	state->option = fields[F_OPTION] >> 32;
	state->option_reply = (uint32_t)fields[F_OPTION];
	state->skip = fields[F_SKIP] >> 32;
	state->skip_error = (uint32_t)fields[F_SKIP];
	refused->cookie = fields[F_COOKIE];
	refused->pos = fields[F_POS];
	refused->len = fields[F_LEN];
	refused->type = (fields[F_TYPE] >> 32) & UINT16_MAX;
	refused->flags = fields[F_TYPE] & UINT16_MAX;
	refused->extended = flags & FLAG_REFUSED_EXTENDED;
}

static bool transmission_is_possible(const struct conn_state *state)
{
	const struct nbd_session *session = &state->session;

	return state->name && session->size <= VOLUME_SIZE_MAX &&
		session->block_min && session->block_min <= BLOCK_MIN_MAX &&
		!(session->block_min & (session->block_min - 1)) &&
		session->payload_max && session->flags &&
		(!state->skip || (state->skip <= SKIP_MAX && state->skip_error));
}

static bool is_possible(const struct conn_state *state, const uint64_t *fields)
{
	if ((uint32_t)fields[F_PHASE] >= CONN_STATE_NR ||
	    fields[F_PHASE] >> 32 > TLS_REQUIRE ||
	    fields[F_FLAGS] & ~(uint64_t)FLAGS_ALL ||
	    fields[F_SESSION_FLAGS] > UINT16_MAX)
		return false;
	if (state->name_len > EXPORT_NAME_MAX ||
	    (state->name_len && !(fields[F_FLAGS] & FLAG_NAMED)))
		return false;
	if (state->session.extended && !state->session.structured)
		return false;
	if (state->allocation && !state->name)
		return false;
	return state->phase != CONN_STATE_TRANSMISSION ||
		transmission_is_possible(state);
}

int conn_state_decode(struct conn_state *state, char **bufp, size_t len)
{
	uint64_t fields[F_NR + 1];
	const char *p = *bufp;

	memset(state, 0, sizeof(*state));
	state->fd = -1;
	if (len < sizeof(fields) || len > CONN_STATE_MAX)
		return -EPROTO;
	memcpy(fields, p, sizeof(fields));
	for (unsigned int i = 0; i <= F_NR; i++)
		fields[i] = be64toh(fields[i]);
	p += sizeof(fields);
	len -= sizeof(fields);
	take_fields(state, fields);
	state->name_len = fields[F_NR] >> 32;
	state->input_len = (uint32_t)fields[F_NR];
	if (state->name_len > len || state->input_len > len - state->name_len)
		return -EPROTO;
	state->name = fields[F_FLAGS] & FLAG_NAMED ? p : NULL;
	state->input = p + state->name_len;
	state->output = state->input + state->input_len;
	state->output_len = len - state->name_len - state->input_len;
	if (!is_possible(state, fields))
		return -EPROTO;
	state->buf = *bufp;
	*bufp = NULL;
	return 0;
}

void conn_state_fini(struct conn_state *state)
{
	free(state->buf);
	state->buf = NULL;
}

void conn_states_free(struct conn_states *list, bool close_fds)
{
	struct conn_state *state;

	while ((state = STAILQ_FIRST(list))) {
		STAILQ_REMOVE_HEAD(list, link);
		if (close_fds && state->fd >= 0)
			close(state->fd);
		conn_state_fini(state);
		free(state);
	}
}
