/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire.h - an NBD client for tests that sees every byte.
 *
 * Unlike a real client it sends what it is told to, however wrong, and it
 * judges every reply: a malformed one fails the row that provoked it.  Every
 * wait has a bound.  A call that cannot get its answer leaves the row
 * through fatal(); the try_ calls return instead.
 *
 * wire.c has the socket, handshake.c and request.c the two phases.
 */
#ifndef TESTS_WIRE_WIRE_H
#define TESTS_WIRE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define NBDMAGIC		0x4e42444d41474943ull
#define IHAVEOPT		0x49484156454f5054ull
#define REP_MAGIC		0x0003e889045565a9ull
#define REQUEST_MAGIC		0x25609513u
#define SIMPLE_MAGIC		0x67446698u
#define CHUNK_MAGIC		0x668e33efu
#define EXT_REQUEST_MAGIC	0x21e41c71u
#define EXT_CHUNK_MAGIC		0x6e8a278cu

#define HS_FIXED_NEWSTYLE	1u
#define HS_NO_ZEROES		2u

enum {
	OPT_EXPORT_NAME = 1, OPT_ABORT, OPT_LIST, OPT_PEEK_EXPORT,
	OPT_STARTTLS, OPT_INFO, OPT_GO, OPT_STRUCTURED_REPLY,
	OPT_LIST_META_CONTEXT, OPT_SET_META_CONTEXT, OPT_EXTENDED_HEADERS,
};

#define REP_ACK			1u
#define REP_SERVER		2u
#define REP_INFO		3u
#define REP_META_CONTEXT	4u
#define REP_ERR			0x80000000u
#define REP_ERR_UNSUP		(REP_ERR + 1)
#define REP_ERR_POLICY		(REP_ERR + 2)
#define REP_ERR_INVALID		(REP_ERR + 3)
#define REP_ERR_PLATFORM	(REP_ERR + 4)
#define REP_ERR_TLS_REQD	(REP_ERR + 5)
#define REP_ERR_UNKNOWN		(REP_ERR + 6)
#define REP_ERR_SHUTDOWN	(REP_ERR + 7)
#define REP_ERR_BLOCK_SIZE_REQD	(REP_ERR + 8)
#define REP_ERR_TOO_BIG		(REP_ERR + 9)
#define REP_ERR_EXT_HEADER_REQD	(REP_ERR + 10)

enum { INFO_EXPORT, INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE };

#define TF_HAS_FLAGS		(1u << 0)
#define TF_READ_ONLY		(1u << 1)
#define TF_SEND_FLUSH		(1u << 2)
#define TF_SEND_FUA		(1u << 3)
#define TF_SEND_TRIM		(1u << 5)
#define TF_SEND_WRITE_ZEROES	(1u << 6)
#define TF_SEND_DF		(1u << 7)
#define TF_CAN_MULTI_CONN	(1u << 8)
#define TF_SEND_CACHE		(1u << 10)
#define TF_SEND_FAST_ZERO	(1u << 11)
#define TF_STATUS_PAYLOAD	(1u << 12)

enum {
	CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH, CMD_TRIM, CMD_CACHE,
	CMD_WRITE_ZEROES, CMD_BLOCK_STATUS, CMD_RESIZE,
};

#define CF_FUA			(1u << 0)
#define CF_NO_HOLE		(1u << 1)
#define CF_DF			(1u << 2)
#define CF_REQ_ONE		(1u << 3)
#define CF_FAST_ZERO		(1u << 4)
#define CF_PAYLOAD_LEN		(1u << 5)

#define CHUNK_DONE		1u
enum {
	CHUNK_NONE, CHUNK_DATA, CHUNK_HOLE, CHUNK_STATUS = 5, CHUNK_STATUS_EXT,
};
#define CHUNK_ERROR		0x8001u
#define CHUNK_ERROR_OFFSET	0x8002u

/* The error numbers of the wire, which are not the system's errno. */
enum {
	WIRE_EPERM = 1, WIRE_EIO = 5, WIRE_ENOMEM = 12, WIRE_EINVAL = 22,
	WIRE_ENOSPC = 28, WIRE_EOVERFLOW = 75, WIRE_ENOTSUP = 95,
	WIRE_ESHUTDOWN = 108,
};

#define NAME_MAX_LEN		4096u
#define KIB			1024u
#define MIB			(1024u * 1024u)
#define REQUEST_SIZE		28u
#define REQUEST_MAX		32u	/* with extended headers */

void put16(void *p, uint16_t v);
void put32(void *p, uint32_t v);
void put64(void *p, uint64_t v);
uint16_t get16(const void *p);
uint32_t get32(const void *p);
uint64_t get64(const void *p);

#define MAX_SERVERS		32
#define MAX_META		16

struct listed {
	char		name[NAME_MAX_LEN + 1], desc[NAME_MAX_LEN + 1];
};

struct context {
	uint32_t	id;
	char		name[256];
};

/* One connection; lives until conn_close() or the end of the row. */
struct conn {
	struct conn	*next;
	int		fd;
	struct ssl_st	*tls;		/* NULL: plain, see tls.h */
	uint16_t	hflags;		/* handshake flags the server offered */
	bool		structured;	/* STRUCTURED_REPLY was acknowledged */
	bool		extended;	/* EXTENDED_HEADERS was; implies it */
	bool		has_status;	/* base:allocation is selected */
	uint64_t	next_cookie;

	/* From INFO, GO or EXPORT_NAME. */
	bool		has_export, has_block_size;
	uint64_t	size;
	uint16_t	tflags;
	uint32_t	bs_min, bs_pref, bs_max;
	char		name[NAME_MAX_LEN + 1], desc[NAME_MAX_LEN + 1];
	bool		has_name, has_desc;

	/* From the option that was finished last. */
	struct context	meta[MAX_META];
	unsigned int	nr_meta;
	struct listed	*servers;	/* MAX_SERVERS of them, on LIST */
	unsigned int	nr_servers;
	char		err_text[NAME_MAX_LEN + 1];
	uint32_t	err_len;
};

/* -- sockets (wire.c) -- */

/* Connect; the greeting is not yet read. */
struct conn *conn_connect(void);
struct conn *conn_connect_tcp(const char *host, const char *port);
/* A socket that is connected already; it is taken over. */
struct conn *conn_adopt(int fd);
void conn_close(struct conn *c);
/* The same with what TCP has for "go away": a reset. */
void conn_reset(struct conn *c);
void conn_close_all(void);

/* 0, or -ETIMEDOUT, -EPIPE, -ECONNRESET ... */
int try_send(struct conn *c, const void *buf, size_t len);
/* 1 if all came, 0 at end of file (also a late one), or a negative errno. */
int try_recv(struct conn *c, void *buf, size_t len);

void conn_send(struct conn *c, const void *buf, size_t len);
void conn_recv(struct conn *c, void *buf, size_t len);

/* Send @len zero bytes. */
void send_zeroes(struct conn *c, uint64_t len);
int try_send_zeroes(struct conn *c, uint64_t len);

/*
 * Read until the server closes.  Returns the number of bytes that came
 * first, or -ETIMEDOUT if it did not close.
 */
int64_t read_to_close(struct conn *c);

/* Wait until there is something to receive; leave it there. */
void wait_readable(struct conn *c);

/* The server must close, silently. */
void expect_close(struct conn *c);

/* Nothing must come for @ms milliseconds. */
void expect_silence(struct conn *c, int ms);

/* -- handshake (handshake.c) -- */

/* Read the greeting and answer with exactly @cflags. */
void greet(struct conn *c, uint32_t cflags);

/* Connect and greet as a modern client does. */
struct conn *hello(void);

void option_header(struct conn *c, uint32_t opt, uint32_t len);
void option_send(struct conn *c, uint32_t opt, const void *data, uint32_t len);

/*
 * Read replies to @opt up to the final one and return its type.  What they
 * held is in *@c.
 */
uint32_t option_finish(struct conn *c, uint32_t opt);

/* option_send() and option_finish(). */
uint32_t option(struct conn *c, uint32_t opt, const void *data, uint32_t len);

/* The data of INFO and GO into @p.  Returns its length. */
size_t info_data(uint8_t *p, const void *name, size_t namelen,
		 const uint16_t *infos, unsigned int nr);
/* The data of LIST_META and SET_META into @p.  Returns its length. */
size_t meta_data(uint8_t *p, const char *name, const char *const *queries,
		 unsigned int nr);

/* INFO or GO for @name, asking for block sizes. */
uint32_t option_info(struct conn *c, uint32_t opt, const char *name);
/* LIST_META or SET_META. */
uint32_t option_meta(struct conn *c, uint32_t opt, const char *name,
		     const char *const *queries, unsigned int nr);
uint32_t set_allocation(struct conn *c, const char *name);

/*
 * Read the answer to EXPORT_NAME, 10 bytes and 124 zeroes or none, and check
 * that the transmission phase has begun.
 */
void finish_export_name(struct conn *c, bool zeroes);

/* Check: the next option is read as one and answered. */
void in_sync(struct conn *c);

const char *rep_name(uint32_t type);
void expect_rep(uint32_t got, uint32_t want);
void expect_rep_or(uint32_t got, uint32_t want, uint32_t other);

/* -- transmission (request.c) -- */

enum {
	OPEN_PLAIN	= 0,
	OPEN_SR		= 1,		/* structured replies */
	OPEN_META	= 2 | OPEN_SR,	/* and base:allocation */
	OPEN_EXT	= 4 | OPEN_SR,	/* extended headers instead */
};

/* Leave the row, failed, if open_export() did not get what was asked for. */
void need_structured(const struct conn *c);
void need_status(const struct conn *c);

/* A connection in transmission, through GO with a block size request. */
struct conn *open_export(const char *name, unsigned int how);
struct conn *open_default(unsigned int how);

struct extent {
	uint64_t	length;
	uint32_t	flags;
};

struct range {
	uint64_t	off, len;
};

/* A request and, once done, its reply. */
struct request {
	uint16_t	flags, type;
	uint64_t	cookie, off;
	uint64_t	len;
	uint64_t	effect;		/* if not 0: len is a payload's */
	bool		bare;		/* no PAYLOAD_LEN for an extended WRITE */
	uint8_t		*buf;		/* READ: where to, or NULL; WRITE: what */

	bool		done, simple;
	uint32_t	error;		/* of the first error chunk */
	bool		has_error_off;	/* it was an ERROR_OFFSET: */
	uint64_t	error_off;
	bool		has_text;	/* it had a text */
	unsigned int	nr_chunks, nr_data, nr_hole, nr_status, nr_error;
	uint64_t	covered, top;	/* READ: bytes so far, end of the last */
	struct range	*ranges;
	unsigned int	nr_ranges;
	struct extent	*ext;		/* BLOCK_STATUS */
	unsigned int	nr_ext;
};

void request_header(void *p, uint16_t flags, uint16_t type, uint64_t cookie,
		    uint64_t off, uint32_t len);
/* The same as @c has agreed on; its length, at most REQUEST_MAX. */
size_t put_header(const struct conn *c, void *p, uint16_t flags, uint16_t type,
		  uint64_t cookie, uint64_t off, uint64_t len);
/* Send the header alone; gives rq a cookie of its own. */
void request_send_header(struct conn *c, struct request *rq);
/* The header, and what a WRITE carries. */
void request_send(struct conn *c, struct request *rq);

/*
 * Read one message; it must belong to one of @rqs that is not done.
 * Returns that one.
 */
struct request *reply_step(struct conn *c, struct request *rqs, size_t nr);
/* Read until all of @rqs are done. */
void replies(struct conn *c, struct request *rqs, size_t nr);

/* Send, wait, return the error.  The rest is in *@rq. */
uint32_t perform(struct conn *c, struct request *rq);
uint32_t command(struct conn *c, uint16_t flags, uint16_t type, uint64_t off,
		 uint64_t len);
uint32_t do_read(struct conn *c, uint64_t off, uint32_t len, void *buf);
/* Any command with @len bytes of payload. */
uint32_t do_write(struct conn *c, uint16_t flags, uint64_t off, uint32_t len,
		  const void *buf);
void disconnect(struct conn *c);

/* Check: the next request on this connection works. */
void alive(struct conn *c);

/* Check: writes of @byte succeed, [@off, @off + @len) is all @byte. */
void fill(struct conn *c, uint64_t off, uint32_t len, uint8_t byte);
void expect_bytes(struct conn *c, uint64_t off, uint32_t len, uint8_t byte);

const char *wire_errname(uint32_t error);
void expect_error(uint32_t got, uint32_t want);
void need_size(const struct conn *c, uint64_t size);
void need_flag(const struct conn *c, uint16_t tflag, const char *name);

#endif
