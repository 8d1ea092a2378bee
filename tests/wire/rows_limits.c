/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rows_limits.c - sizes, several connections, the end of a session, and
 * what holds for all replies: rows 46 to 56.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/wire/rows.h"
#include "tests/wire/server.h"
#include "tests/wire/wire.h"

/* The most address space the server has ever had, in KiB; 0 if unknown. */
static uint64_t server_peak_kib(void)
{
	char path[64], line[256];
	uint64_t kib = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)env.pid);
	f = env.pid ? fopen(path, "re") : NULL;
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "VmPeak: %" SCNu64, &kib) == 1)
			break;
	fclose(f);
	return kib;
}

static void row46_write_of_4_gib_is_not_waited_for(void)
{
	struct request rq = { .type = CMD_WRITE, .len = 0xffffffff };
	uint64_t before = server_peak_kib(), after;
	struct conn *c = open_default(OPEN_SR);
	uint8_t head[20];
	int ret;

	request_send_header(c, &rq);
	/* Enough payload to be past any buffer, far from all of it. */
	ret = try_send_zeroes(c, 200 * MIB);
	if (ret == 0)
		ret = try_recv(c, head, sizeof(head));
	if (ret == -ETIMEDOUT)
		fail("the server waits for all of it");
	after = server_peak_kib();
	if (after > before + 2 * KIB * KIB)
		fail("the server's memory grew by %" PRIu64 " MiB",
		     (after - before) / KIB);
	step("after that");
	alive(open_default(OPEN_SR));
}

static void row46_writes_to_32_mib_are_never_cut_off(void)
{
	static const uint32_t lens[] = { 1, 8, 16, 31, 32 };
	struct conn *c = open_default(OPEN_SR);

	need_size(c, 40 * MIB);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		uint32_t len = lens[i] * MIB, error;

		step("WRITE of %u MiB", lens[i]);
		error = do_write(c, 0, 0, len, NULL);
		if (c->has_block_size && len > c->bs_max && error)
			expect_error(error, WIRE_EINVAL);
		else
			expect_error(error, 0);
		alive(c);
	}
}

/* Mark [@off, @off + @len), zero it, and see that nothing of it is left. */
static void zero_large(struct conn *c, uint16_t flags, uint64_t off,
		       uint32_t len)
{
	const uint32_t piece = 16 * MIB;
	uint32_t error;

	for (uint64_t pos = 0; pos + 4096 <= len; pos += 1 * MIB)
		fill(c, off + pos, 4096, 0x47);
	fill(c, off + len - 4096, 4096, 0x47);
	step("ZEROES of %u flags %#x", len, flags);
	error = command(c, flags, CMD_WRITE_ZEROES, off, len);
	if ((flags & CF_FAST_ZERO) && error) {
		expect_error(error, WIRE_ENOTSUP);
		return;
	}
	if (error && error != WIRE_EOVERFLOW && error != WIRE_EINVAL)
		fail("got %s", wire_errname(error));
	if (error) {
		note("ZEROES of %u got %s", len, wire_errname(error));
		alive(c);
		return;
	}
	for (uint32_t pos = 0; pos < len; pos += piece)
		expect_bytes(c, off + pos,
			     len - pos < piece ? len - pos : piece, 0);
}

static void row47_zeroes_of_128_mib_really_zero(void)
{
	struct conn *c = open_default(OPEN_SR);

	need_flag(c, TF_SEND_WRITE_ZEROES, "SEND_WRITE_ZEROES");
	need_size(c, 140 * MIB);
	zero_large(c, 0, 4 * MIB, 128 * MIB);
	zero_large(c, CF_NO_HOLE, 4096, 65 * MIB);
	if (c->tflags & TF_SEND_FAST_ZERO)
		zero_large(c, CF_FAST_ZERO, 8192, 129 * MIB);
}

static void row47_large_trim_does_not_disconnect(void)
{
	struct conn *c = open_default(OPEN_SR);
	uint32_t error;

	need_flag(c, TF_SEND_TRIM, "SEND_TRIM");
	need_size(c, 140 * MIB);
	fill(c, 140 * MIB - 4096, 4096, 0x48);
	error = command(c, 0, CMD_TRIM, 0, 140 * MIB - 4096);
	if (error && error != WIRE_EOVERFLOW)
		expect_error(error, WIRE_EINVAL);
	alive(c);
	expect_bytes(c, 140 * MIB - 4096, 4096, 0x48);
}

/* Without extended headers the flag is an unknown one. */
static void row48_payload_len_flag_is_einval(void)
{
	static const uint16_t types[] = {
		CMD_READ, CMD_FLUSH, CMD_TRIM, CMD_CACHE, CMD_WRITE_ZEROES,
		CMD_BLOCK_STATUS,
	};
	struct conn *c = open_default(OPEN_META);
	uint8_t *buf = row_alloc(64 * KIB);

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		step("command %u with PAYLOAD_LEN", types[i]);
		expect_error(command(c, CF_PAYLOAD_LEN, types[i], 0,
				     types[i] == CMD_FLUSH ? 0 : 4096),
			     WIRE_EINVAL);
		alive(c);
	}
	step("WRITE with PAYLOAD_LEN");
	memset(buf, 0xee, 64 * KIB);
	expect_error(do_write(c, CF_PAYLOAD_LEN, 0, 64 * KIB, buf),
		     WIRE_EINVAL);
	alive(c);
}

static void row49_flush_on_another_connection(void)
{
	struct conn *a = open_default(OPEN_SR), *b = open_default(OPEN_SR);
	struct conn *third;

	need_flag(a, TF_CAN_MULTI_CONN, "CAN_MULTI_CONN");
	need_flag(a, TF_SEND_FLUSH, "SEND_FLUSH");
	if (!(b->tflags & TF_CAN_MULTI_CONN))
		fail("only the first connection is told CAN_MULTI_CONN");
	for (unsigned int i = 0; i < 16; i++) {
		step("round %u", i);
		fill(a, i * 64 * KIB, 64 * KIB, 0x49 + i);
		expect_error(command(b, 0, CMD_FLUSH, 0, 0), 0);
		expect_bytes(b, i * 64 * KIB, 64 * KIB, 0x49 + i);
	}
	conn_close(a);
	third = open_default(OPEN_SR);
	for (unsigned int i = 0; i < 16; i++)
		expect_bytes(third, i * 64 * KIB, 64 * KIB, 0x49 + i);
}

#define IN_FLIGHT	48

static void disc_in_flight(unsigned int how)
{
	struct request rqs[IN_FLIGHT] = { { 0 } };
	struct conn *c = open_default(how);
	const uint32_t slot = 32 * KIB;
	size_t size = 0;
	uint8_t *out;

	step("DISC behind %u requests", IN_FLIGHT);
	need_size(c, IN_FLIGHT * slot);
	out = row_alloc(IN_FLIGHT * (REQUEST_MAX + slot) + REQUEST_MAX);
	for (unsigned int i = 0; i < IN_FLIGHT; i++) {
		rqs[i].type = i % 2 ? CMD_WRITE : CMD_READ;
		rqs[i].cookie = i + 1;
		rqs[i].off = i * slot;
		/* Unread replies must fit into the socket's buffers. */
		rqs[i].len = i % 2 ? slot : 4096;
		size += put_header(c, out + size, 0, rqs[i].type, i + 1,
				   rqs[i].off, rqs[i].len);
		if (rqs[i].type == CMD_WRITE) {
			memset(out + size, 0x50 + i, slot);
			size += slot;
		}
	}
	size += put_header(c, out + size, 0, CMD_DISC, 0xd15c, 0, 0);
	conn_send(c, out, size);
	replies(c, rqs, IN_FLIGHT);
	for (unsigned int i = 0; i < IN_FLIGHT; i++)
		expect_error(rqs[i].error, 0);
	step("after the replies");
	expect_close(c);
	step("the writes before DISC");
	c = open_default(how);
	for (unsigned int i = 1; i < IN_FLIGHT; i += 2)
		expect_bytes(c, i * slot, slot, 0x50 + i);
}

static void row50_disc_finishes_what_is_in_flight(void)
{
	disc_in_flight(OPEN_SR);
	disc_in_flight(OPEN_PLAIN);
}

static void row50_disc_alone_closes(void)
{
	struct conn *c = open_default(OPEN_SR);

	alive(c);
	disconnect(c);
	expect_close(c);
}

/* Ask until the server says that it is going; no sooner can it be tested. */
static void wait_for_shutdown(struct conn *c)
{
	int64_t deadline = now_ms() + env.timeout_ms;
	uint32_t error;

	do {
		error = do_read(c, 0, 512, NULL);
		if (error == WIRE_ESHUTDOWN)
			return;
		if (error)
			fatal("READ got %s", wire_errname(error));
	} while (now_ms() < deadline);
	fatal("requests are still served long after SIGTERM");
}

/* The same by options, of which a connection has not so many: its thread may
 * learn of the signal later than others. */
static uint32_t list_until_shutdown(struct conn *c)
{
	uint32_t rep = REP_ACK;

	for (int i = 0; i < 100 && rep == REP_ACK; i++) {
		if (i)
			usleep(50000);
		rep = option(c, OPT_LIST, NULL, 0);
	}
	return rep;
}

static void shutdown_options(struct conn *c)
{
	step("LIST after SIGTERM");
	expect_rep(list_until_shutdown(c), REP_ERR_SHUTDOWN);
	step("STRUCTURED_REPLY after SIGTERM");
	expect_rep(option(c, OPT_STRUCTURED_REPLY, NULL, 0),
		   REP_ERR_SHUTDOWN);
	step("GO after SIGTERM");
	expect_rep(option_info(c, OPT_GO, "a"), REP_ERR_SHUTDOWN);
	step("ABORT after SIGTERM");
	expect_rep(option(c, OPT_ABORT, NULL, 0), REP_ACK);
	expect_close(c);
}

static void row51_sigterm_drains(void)
{
	static const char *const args[] = {
		"--export", "name=a,path=@a.img", "--default-export", "a",
		/* All connections hear of it at the same time. */
		"--threads", "1", NULL
	};
	struct server *s = row_server(args);
	struct request rqs[9] = { { 0 } };
	struct conn *busy, *haggling, *idle;
	uint8_t out[9 * REQUEST_MAX];
	size_t size = 0;
	int status;

	busy = open_export("a", OPEN_SR);
	haggling = hello();
	idle = open_export("a", OPEN_SR);
	for (unsigned int i = 0; i < 9; i++) {
		rqs[i].type = CMD_READ;
		rqs[i].len = 1 * MIB;
		rqs[i].off = i * MIB;
		rqs[i].cookie = i + 1;
		if (i < 8)
			size += put_header(busy, out + size, 0, CMD_READ,
					   i + 1, rqs[i].off, rqs[i].len);
	}
	/*
	 * Unread replies keep eight in flight however fast the server is;
	 * the first byte of them says that it has read the requests.
	 */
	conn_send(busy, out, size);
	wait_readable(busy);
	kill(s->pid, SIGTERM);
	step("an idle connection after SIGTERM");
	wait_for_shutdown(idle);
	expect_error(do_write(idle, 0, 0, 64 * KIB, NULL), WIRE_ESHUTDOWN);
	expect_error(command(idle, 0, CMD_FLUSH, 0, 0), WIRE_ESHUTDOWN);
	shutdown_options(haggling);
	step("requests in flight at SIGTERM");
	request_send(busy, &rqs[8]);
	replies(busy, rqs, 9);
	for (unsigned int i = 0; i < 8; i++)
		expect_error(rqs[i].error, 0);
	step("a request sent after SIGTERM");
	expect_error(rqs[8].error, WIRE_ESHUTDOWN);
	step("the end");
	disconnect(busy);
	disconnect(idle);
	expect_close(busy);
	status = server_stop(s, false);
	if (status)
		fail("exit status %d", status);
}

static void row52_only_the_protocols_errors(void)
{
	static const uint32_t lens[] = { 0x7fffffff, 0xffffffff };
	struct conn *c = open_default(OPEN_META);

	/* Every reply of every row is held to the list of numbers too. */
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		step("READ of %u", lens[i]);
		expect_error(command(c, 0, CMD_READ, 0, lens[i]), WIRE_EINVAL);
		alive(c);
	}
}

static void row52_large_read_is_not_enomem(void)
{
	struct conn *c = open_default(OPEN_SR);
	uint32_t error;

	need_size(c, 128 * MIB);
	for (uint32_t mib = 65; mib <= 128; mib += 63) {
		step("READ of %u MiB", mib);
		error = command(c, 0, CMD_READ, 0, mib * MIB);
		if (error == WIRE_ENOMEM)
			fail("got ENOMEM");
		alive(c);
	}
}

static void row55_cookies_are_opaque(void)
{
	static const uint64_t cookies[] = {
		UINT64_MAX, 1, 0x8000000000000000, 0x2560951367446698,
		0x668e33ef668e33ef, 0x21e41c716e8a278c, 0xff,
	};

	for (unsigned int sr = 0; sr < 2; sr++) {
		struct conn *c = open_default(sr ? OPEN_SR : OPEN_PLAIN);

		for (size_t i = 0; i < sizeof(cookies) / sizeof(*cookies); i++) {
			struct request rq = {
				.type = CMD_READ, .len = 4096,
				.cookie = cookies[i],
			};

			step("cookie %#" PRIx64, cookies[i]);
			expect_error(perform(c, &rq), 0);
		}
	}
}

static void row55_cookie_zero_and_duplicates(void)
{
	struct request rqs[32] = { { 0 } };
	uint8_t out[32 * REQUEST_SIZE];
	struct conn *c = open_default(OPEN_PLAIN);

	for (unsigned int i = 0; i < 32; i++) {
		rqs[i].type = CMD_READ;
		rqs[i].len = 4096;
		request_header(out + i * REQUEST_SIZE, 0, CMD_READ, 0, 0,
			       4096);
	}
	step("32 requests with cookie 0 in flight");
	conn_send(c, out, sizeof(out));
	replies(c, rqs, 32);
	for (unsigned int i = 0; i < 32; i++)
		expect_error(rqs[i].error, 0);
	alive(c);
}

/* The inode of the established socket from @server_port to @client_port. */
static unsigned long socket_inode(unsigned int server_port,
				  unsigned int client_port)
{
	static const char *const tables[] = { "/proc/net/tcp", "/proc/net/tcp6" };
	unsigned int local, remote, state;
	unsigned long inode, found = 0;
	char line[512];

	for (size_t i = 0; i < 2; i++) {
		FILE *f = fopen(tables[i], "re");

		while (f && fgets(line, sizeof(line), f))
			if (sscanf(line, " %*d: %*[0-9A-Fa-f]:%x "
				   "%*[0-9A-Fa-f]:%x %x %*s %*s %*s %*d %*d %lu",
				   &local, &remote, &state, &inode) == 4 &&
			    local == server_port && remote == client_port)
				found = inode;
		if (f)
			fclose(f);
	}
	return found;
}

/* The number under which process @pid holds socket @inode, or -1. */
static int fd_of_inode(pid_t pid, unsigned long inode)
{
	char path[300], link[64], want[64];
	struct dirent *de;
	int fd = -1;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	snprintf(want, sizeof(want), "socket:[%lu]", inode);
	dir = opendir(path);
	while (dir && (de = readdir(dir))) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)pid,
			 de->d_name);
		n = readlink(path, link, sizeof(link) - 1);
		if (n < 0)
			continue;
		link[n] = '\0';
		if (strcmp(link, want) == 0)
			fd = atoi(de->d_name);
	}
	if (dir)
		closedir(dir);
	return fd;
}

/* Not seen on the wire: borrow the server's own socket and ask it. */
static void row56_tcp_nodelay(void)
{
	const char *port = env.tcp ? env.port : env.tcp_port;
	union {
		struct sockaddr		any;
		struct sockaddr_in	in;	/* its port is where in6's is */
		struct sockaddr_in6	in6;
	} addr = { .in.sin_port = 0 };
	socklen_t len = sizeof(addr);
	int pidfd, fd, theirs, on = 0;
	unsigned long inode;
	struct conn *c;

	if (!port[0] || !env.pid)
		skip("needs a TCP port and the server's pid");
	c = conn_connect_tcp(env.tcp ? env.host : "127.0.0.1", port);
	greet(c, HS_FIXED_NEWSTYLE | HS_NO_ZEROES);
	in_sync(c);
	if (getsockname(c->fd, &addr.any, &len) < 0)
		fatal("getsockname: %s", strerror(errno));
	inode = socket_inode(atoi(port), ntohs(addr.in.sin_port));
	fd = inode ? fd_of_inode(env.pid, inode) : -1;
	if (fd < 0)
		skip("the server's end of the socket is not in process %d",
		     (int)env.pid);
	pidfd = syscall(SYS_pidfd_open, env.pid, 0);
	theirs = pidfd < 0 ? -1 : syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (theirs < 0)
		skip("cannot borrow the server's socket: %s", strerror(errno));
	len = sizeof(on);
	if (getsockopt(theirs, IPPROTO_TCP, TCP_NODELAY, &on, &len) < 0)
		fail("getsockopt: %s", strerror(errno));
	else if (!on)
		fail("TCP_NODELAY is not set on the server's socket");
	close(theirs);
	close(pidfd);
}

const struct row rows_limits[] = {
	ROW(46, row46_write_of_4_gib_is_not_waited_for, 0),
	ROW(46, row46_writes_to_32_mib_are_never_cut_off, 0),
	ROW(47, row47_zeroes_of_128_mib_really_zero, 0),
	ROW(47, row47_large_trim_does_not_disconnect, 0),
	ROW(48, row48_payload_len_flag_is_einval, ONLY_COMPACT),
	ROW(49, row49_flush_on_another_connection, 0),
	ROW(50, row50_disc_finishes_what_is_in_flight, 0),
	ROW(50, row50_disc_alone_closes, 0),
	ROW(51, row51_sigterm_drains, NEEDS_FOLIOD),
	ROW(52, row52_only_the_protocols_errors, 0),
	ROW(52, row52_large_read_is_not_enomem, 0),
	ROW(55, row55_cookies_are_opaque, 0),
	ROW(55, row55_cookie_zero_and_duplicates, 0),
	ROW(56, row56_tcp_nodelay, 0),
	ROW_END
};
