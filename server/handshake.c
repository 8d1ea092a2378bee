/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * handshake.c - negotiation: the client's options and what we say to them.
 *
 * Only options that need their data have it gathered, up to 64 KiB; the data
 * of others is dropped as it comes.  Time, the number of options and their
 * bytes are bounded before a client may do anything; who looks at one export
 * after the other gets more of each.
 */
#include <errno.h>
#include <string.h>

#include "server/conn_internal.h"

/* ---- answers ---- */

static void reply_option(struct conn *conn, uint32_t option, uint32_t type)
{
	char buf[sizeof(struct nbd_option_reply)];

	reply_bytes(conn, buf, nbd_put_option_reply(buf, option, type, 0));
}

/* The text is never the client's, so its length and encoding are ours. */
static void reply_error(struct conn *conn, uint32_t option, uint32_t type,
			const char *text)
{
	char buf[sizeof(struct nbd_option_reply)];

	reply_bytes(conn, buf,
		    nbd_put_option_reply(buf, option, type, strlen(text)));
	reply_bytes(conn, text, strlen(text));
}

static const char *error_text(uint32_t type)
{
	switch (type) {
	case NBD_REP_ERR_UNSUP:
		return "option is not supported";
	case NBD_REP_ERR_POLICY:
		return "option is not allowed";
	case NBD_REP_ERR_UNKNOWN:
		return "no such export";
	case NBD_REP_ERR_SHUTDOWN:
		return "the server is shutting down";
	case NBD_REP_ERR_TLS_REQD:
		return "TLS is required";
	case NBD_REP_ERR_TOO_BIG:
		return "option is too long";
	case NBD_REP_ERR_EXT_HEADER_REQD:
		return "extended headers have been agreed on";
	default:
		return "option is malformed or out of order";
	}
}

/* Was base:allocation selected for @export? */
static bool has_allocation(const struct conn *conn, const struct export *export)
{
	return conn->meta_allocation && conn->meta_export == export;
}

uint16_t transmission_flags(bool structured, bool extended, bool allocation,
			    const struct export *export)
{
	uint16_t flags = NBD_HAS_FLAGS | NBD_SEND_FLUSH | NBD_SEND_FUA |
		NBD_CAN_MULTI_CONN | NBD_SEND_CACHE;

	if (export->read_only || export->vol->read_only)
		flags |= NBD_READ_ONLY;
	else
		flags |= NBD_SEND_TRIM | NBD_SEND_WRITE_ZEROES |
			NBD_SEND_FAST_ZERO;
	if (structured)
		flags |= NBD_SEND_DF;
	if (extended && allocation)
		flags |= NBD_BLOCK_STATUS_PAYLOAD;
	if (export->vol->rotational)
		flags |= NBD_ROTATIONAL;
	return flags;
}

static uint16_t export_flags(const struct conn *conn,
			     const struct export *export)
{
	return transmission_flags(conn->session.structured,
				  conn->session.extended,
				  has_allocation(conn, export), export);
}

/* Begin to transmit; the last answer to an option is already queued. */
static void enter(struct conn *conn, struct export *export)
{
	struct nbd_session *session = &conn->session;

	timer_cancel(&conn->timeout);
	peer_fini(&conn->peer);
	session->size = volume_size(export->vol);
	session->block_min = export->block_min;
	session->payload_max = PAYLOAD_MAX;
	session->flags = export_flags(conn, export);
	session->allocation = has_allocation(conn, export);
	transmit_start(conn, export);
}

/* May a client that speaks as this one does use @export?  Of the export and the
 * listener, the stricter one counts. */
static bool fits_tls(const struct conn *conn, const struct export *export)
{
	enum tls_mode mode = MAX(export->tls, conn->tls_least);

	return conn->tls ? mode != TLS_OFF : mode != TLS_REQUIRE;
}

/* Is there anything that needs TLS? */
static bool some_need_tls(const struct conn *conn)
{
	return conn->tls_least == TLS_REQUIRE ||
		conn->cl->shared->exports->nr_tls_only;
}

/* The export, or NULL with *@errorp what to answer.  Without TLS, a name that
 * needs it looks like one that nobody has. */
static struct export *find(const struct conn *conn, const char *name,
			   size_t len, uint32_t *errorp)
{
	const struct export_table *table = conn->cl->shared->exports;
	struct export *export = export_find(table, name, len, &conn->peer);

	if (likely(export && fits_tls(conn, export)))
		return export;
	if (!conn->tls && some_need_tls(conn))
		*errorp = NBD_REP_ERR_TLS_REQD;
	else
		*errorp = export ? NBD_REP_ERR_POLICY : NBD_REP_ERR_UNKNOWN;
	return NULL;
}

/* Is it nothing but TLS that this client may ask for? */
static bool must_start_tls(const struct conn *conn)
{
	const struct export_table *table = conn->cl->shared->exports;

	return !conn->tls && (conn->tls_least == TLS_REQUIRE ||
			      (table->nr && table->nr_tls_only == table->nr));
}

/* Is there nothing that this client could use with TLS? */
static bool must_stay_plain(const struct conn *conn)
{
	const struct export_table *table = conn->cl->shared->exports;

	return !conn->cl->shared->tls ||
		(conn->tls_least == TLS_OFF &&
		 table->nr_plain_only == table->nr);
}

/* ---- options ---- */

static void do_export_name(struct conn *conn, const char *name, size_t len)
{
	static const char zeroes[NBD_EXPORT_NAME_ZEROES];
	char buf[sizeof(struct nbd_export_name_reply)];
	struct export *export = NULL;
	uint32_t error;

	/* Extended headers are for those who use GO. */
	if (!conn->cl->draining && !conn->session.extended)
		export = find(conn, name, len, &error);
	if (!export) {
		conn->finishing = true;
		return;
	}
	reply_bytes(conn, buf, nbd_put_export_name(buf, volume_size(export->vol),
					export_flags(conn, export)));
	if (!(conn->client_flags & NBD_NO_ZEROES))
		reply_bytes(conn, zeroes, sizeof(zeroes));
	enter(conn, export);
}

static void do_list(struct conn *conn)
{
	const struct export_table *table = conn->cl->shared->exports;
	char buf[NBD_INFO_REPLY_MAX];

	for (unsigned int i = 0; i < table->nr && !conn->dead; i++) {
		const struct export *export = &table->exports[i];
		const char *text = export->description ? export->description :
							 "";
		size_t len = strlen(export->name);
		size_t more = MIN(strlen(text), (size_t)NBD_STRING_MAX);

		if (!access_allows(&export->access, &conn->peer) ||
		    !fits_tls(conn, export))
			continue;
		reply_bytes(conn, buf, nbd_put_server(buf, NBD_OPT_LIST, len,
						      more));
		reply_bytes(conn, export->name, len);
		reply_bytes(conn, text, more);
	}
	reply_option(conn, NBD_OPT_LIST, NBD_REP_ACK);
}

static void reply_info_string(struct conn *conn, uint32_t option, uint16_t type,
			      const char *text)
{
	size_t len = MIN(strlen(text), (size_t)NBD_STRING_MAX);
	char buf[NBD_INFO_REPLY_MAX];

	reply_bytes(conn, buf, nbd_put_info_string(buf, option, type, len));
	reply_bytes(conn, text, len);
}

static uint32_t do_info(struct conn *conn, uint32_t option, const char *data,
			size_t len)
{
	struct nbd_info_request req;
	char buf[NBD_INFO_REPLY_MAX];
	struct export *export;
	uint32_t error;

	if (nbd_get_info(data, len, &req))
		return NBD_REP_ERR_INVALID;
	export = find(conn, req.name, req.name_len, &error);
	if (!export)
		return error;
	reply_bytes(conn, buf,
		    nbd_put_info_export(buf, option, volume_size(export->vol),
					export_flags(conn, export)));
	/* Unasked too where a client would run into it. */
	if (req.wants_block_size || export->block_min > 1)
		reply_bytes(conn, buf,
			    nbd_put_info_block_size(buf, option,
						    export->block_min,
						    export->block_preferred,
						    export->block_max));
	if (req.wants_name)
		reply_info_string(conn, option, NBD_INFO_NAME, export->name);
	if (req.wants_description && export->description)
		reply_info_string(conn, option, NBD_INFO_DESCRIPTION,
				  export->description);
	reply_option(conn, option, NBD_REP_ACK);
	if (option == NBD_OPT_GO)
		enter(conn, export);
	else
		timeout_handshake(conn);
	return NBD_REP_ACK;
}

static uint32_t do_meta(struct conn *conn, uint32_t option, const char *data,
			size_t len)
{
	bool set = option == NBD_OPT_SET_META_CONTEXT;
	char buf[NBD_INFO_REPLY_MAX];
	struct nbd_meta_request req;
	struct export *export;
	uint32_t error;
	bool wanted;

	if (set)
		conn->meta_allocation = false;
	if (!conn->session.structured || nbd_get_meta(data, len, &req))
		return NBD_REP_ERR_INVALID;
	export = find(conn, req.name, req.name_len, &error);
	if (!export)
		return error;
	wanted = req.allocation ||
		(!set && (req.all_base || req.nr_queries == 0));
	if (wanted)
		reply_bytes(conn, buf,
			    nbd_put_meta_context(buf, option,
						 set ? META_CONTEXT_ID : 0));
	if (set) {
		conn->meta_allocation = wanted;
		conn->meta_export = export;
	}
	reply_option(conn, option, NBD_REP_ACK);
	return NBD_REP_ACK;
}

/* An option whose data is wanted, and whole. */
static void do_option(struct conn *conn, uint32_t option, const char *data,
		      size_t len)
{
	uint32_t type;

	if (option == NBD_OPT_EXPORT_NAME) {
		do_export_name(conn, data, len);
		return;
	}
	if (conn->cl->draining)
		type = NBD_REP_ERR_SHUTDOWN;
	else if (option == NBD_OPT_INFO || option == NBD_OPT_GO)
		type = do_info(conn, option, data, len);
	else
		type = do_meta(conn, option, data, len);
	if (type & NBD_REP_ERROR)
		reply_error(conn, option, type, error_text(type));
}

/* The client's next bytes are TLS.  What was agreed on so far, anybody may have
 * said. */
static void start_tls(struct conn *conn)
{
	memset(&conn->session, 0, sizeof(conn->session));
	conn->meta_allocation = false;
	conn->meta_export = NULL;
	conn->phase = HANDSHAKE_TLS;
}

/* An option whose data, if any, was dropped: conn->option_reply says what to
 * answer. */
static void end_option(struct conn *conn)
{
	uint32_t option = conn->option.option, type = conn->option_reply;

	if (type & NBD_REP_ERROR)
		reply_error(conn, option, type, error_text(type));
	else if (option == NBD_OPT_LIST)
		do_list(conn);
	else
		reply_option(conn, option, type);
	if (option == NBD_OPT_ABORT)
		conn->finishing = true;
	if (option == NBD_OPT_STRUCTURED_REPLY && type == NBD_REP_ACK)
		conn->session.structured = true;
	if (option == NBD_OPT_EXTENDED_HEADERS && type == NBD_REP_ACK)
		conn->session.structured = conn->session.extended = true;
	if (option == NBD_OPT_STARTTLS && type == NBD_REP_ACK)
		start_tls(conn);
}

static bool needs_data(uint32_t option)
{
	return option == NBD_OPT_EXPORT_NAME || option == NBD_OPT_INFO ||
		option == NBD_OPT_GO || option == NBD_OPT_LIST_META_CONTEXT ||
		option == NBD_OPT_SET_META_CONTEXT;
}

static uint32_t answer_starttls(const struct conn *conn,
				const struct nbd_option_request *req)
{
	if (conn->cl->draining)
		return NBD_REP_ERR_SHUTDOWN;
	if (req->len || conn->tls)
		return NBD_REP_ERR_INVALID;
	return must_stay_plain(conn) ? NBD_REP_ERR_UNSUP : NBD_REP_ACK;
}

/* What to say to an option whose data is of no interest. */
static uint32_t answer_without_data(const struct conn *conn,
				    const struct nbd_option_request *req)
{
	if (req->option == NBD_OPT_ABORT)
		return NBD_REP_ACK;
	if (req->option == NBD_OPT_STARTTLS)
		return answer_starttls(conn, req);
	if (must_start_tls(conn))
		return conn->cl->draining ? NBD_REP_ERR_SHUTDOWN :
					    NBD_REP_ERR_TLS_REQD;
	switch (req->option) {
	case NBD_OPT_LIST:
	case NBD_OPT_STRUCTURED_REPLY:
	case NBD_OPT_EXTENDED_HEADERS:
		if (conn->cl->draining)
			return NBD_REP_ERR_SHUTDOWN;
		if (req->len)
			return NBD_REP_ERR_INVALID;
		if (req->option == NBD_OPT_STRUCTURED_REPLY &&
		    conn->session.extended)
			return NBD_REP_ERR_EXT_HEADER_REQD;
		return NBD_REP_ACK;
	case NBD_OPT_SET_META_CONTEXT:
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		return NBD_REP_ERR_TOO_BIG;
	default:
		return conn->cl->draining ? NBD_REP_ERR_SHUTDOWN :
					    NBD_REP_ERR_UNSUP;
	}
}

/* ---- parsing ---- */

static size_t give_up(struct conn *conn, const char *why)
{
	log_debug("closing a connection in its handshake: %s", why);
	conn->finishing = true;
	return 0;
}

static size_t parse_flags(struct conn *conn, const char *p, size_t len)
{
	if (len < sizeof(conn->client_flags))
		return 0;
	if (nbd_get_client_flags(p, &conn->client_flags))
		return give_up(conn, "unknown client flags");
	conn->phase = HANDSHAKE_OPTION;
	return sizeof(conn->client_flags);
}

/* Why this client may not send that option at all; NULL if it may. */
static const char *refuse_option(const struct conn *conn,
				 const struct nbd_option_request *req)
{
	uint64_t nr_exports = conn->nr_exports;

	if (conn->nr_options >= OPTIONS_MAX + nr_exports * OPTIONS_PER_EXPORT)
		return "too many options";
	if (conn->option_bytes + req->len >
	    OPTION_BYTES_MAX + nr_exports * OPTION_BYTES_PER_EXPORT)
		return "too many bytes of options";
	if (req->option == NBD_OPT_EXPORT_NAME)
		return req->len > EXPORT_NAME_MAX ? "name is too long" :
		       must_start_tls(conn) ? "TLS is required" : NULL;
	if (!(conn->client_flags & NBD_FIXED_NEWSTYLE))
		return "option without fixed newstyle";
	return NULL;
}

/* Must this option, whose answer has a size in it, wait for that? */
static bool waits_for_size(struct conn *conn, uint32_t option,
			   const char *data, size_t len)
{
	struct nbd_info_request req = { .name = data, .name_len = len };
	struct export *export;
	uint32_t error;

	if (conn->cl->draining)
		return false;
	if (option == NBD_OPT_INFO || option == NBD_OPT_GO) {
		if (nbd_get_info(data, len, &req))
			return false;
	} else if (option != NBD_OPT_EXPORT_NAME) {
		return false;
	}
	export = find(conn, req.name, req.name_len, &error);
	return export && export_size_wait(conn, export);
}

static size_t parse_option(struct conn *conn, const char *p, size_t len)
{
	const size_t head = sizeof(struct nbd_option_head);
	struct nbd_option_request req;
	bool whole;
	const char *why;

	if (len < head)
		return 0;
	if (nbd_get_option(p, &req))
		return give_up(conn, "bad option magic");
	why = refuse_option(conn, &req);
	if (why)
		return give_up(conn, why);
	whole = needs_data(req.option) && req.len <= OPTION_DATA_MAX &&
		!must_start_tls(conn);
	if (whole && len - head < req.len)
		return 0;
	if (whole && waits_for_size(conn, req.option, p + head, req.len))
		return 0;
	conn->nr_options++;
	conn->option_bytes += req.len;
	if (whole) {
		do_option(conn, req.option, p + head, req.len);
		return head + req.len;
	}
	if (req.option == NBD_OPT_SET_META_CONTEXT)
		conn->meta_allocation = false;
	conn->option = req;
	conn->option_reply = answer_without_data(conn, &req);
	conn->skip = req.len;
	if (!conn->skip)
		end_option(conn);
	return head;
}

size_t handshake_parse(struct conn *conn, const char *p, size_t len)
{
	size_t used = 0, n;

	/* Whoever does not read the answers is not asked for more. */
	while (!conn->dead && !conn->finishing && !conn->blocked &&
	       conn->phase != TRANSMISSION && conn->phase != HANDSHAKE_TLS) {
		if (conn->skip) {
			n = MIN(len - used, (size_t)conn->skip);
			conn->skip -= n;
			if (n && !conn->skip)
				end_option(conn);
		} else if (conn->phase == HANDSHAKE_FLAGS) {
			n = parse_flags(conn, p + used, len - used);
		} else {
			n = parse_option(conn, p + used, len - used);
		}
		if (!n)
			break;
		used += n;
		if (conn->out.bytes >= OUT_FLUSH)
			output_flush(conn);
	}
	/* Nobody but an intruder says more before the answer to STARTTLS. */
	if (unlikely(conn->phase == HANDSHAKE_TLS && used < len))
		give_up(conn, "bytes behind STARTTLS");
	return used;
}
