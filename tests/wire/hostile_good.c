/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostile_good.c - the good clients beside the hostile ones, and servers with a
 * shared key for both.
 */
#include <stdio.h>

#include "tests/wire/hostile.h"
#include "tests/wire/server.h"
#include "tests/wire/tls.h"

#define GOOD_OFF	(12ull << 20)
#define PSK_HEX		"0f0e0d0c0b0a09080706050403020100"

static const struct tls_client alice = {
	.psk_user = "alice", .psk_hex = PSK_HEX,
};

void good_client(void)
{
	static uint8_t byte;
	struct conn *c = open_default(OPEN_META);

	byte++;
	fill(c, GOOD_OFF, 8192, byte);
	expect_bytes(c, GOOD_OFF, 8192, byte);
	disconnect(c);
	conn_close(c);
}

struct conn *connect_tcp(void)
{
	return conn_connect_tcp("127.0.0.1", env.tcp_port);
}

const char *psk_file(void)
{
	static char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/alice.psk", env.server->dir);
	f = fopen(path, "we");
	if (!f || fprintf(f, "alice:%s\n", PSK_HEX) < 0 || fclose(f))
		fatal("cannot write %s", path);
	return path;
}

struct server *psk_server(const char *mode)
{
	const char *const args[] = {
		"-b", "127.0.0.1:0", "--tls-psk", psk_file(), "--tls", mode,
		"--export", "name=rw,path=@a.img", NULL
	};

	return row_server(args);
}

void upgrade(struct conn *c)
{
	tls_upgrade(c, &alice);
}

struct conn *psk_hello(void)
{
	struct conn *c = hello();

	upgrade(c);
	return c;
}

void good_tls_client(void)
{
	struct conn *c = psk_hello();

	expect_rep(option_info(c, OPT_GO, "rw"), REP_ACK);
	alive(c);
	conn_close(c);
}
