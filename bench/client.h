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

/* Nothing received for so long means that the server hangs. */
#define CLIENT_PATIENCE_SEC	30

struct client_target {
	char	*path;			/* unix socket, or NULL: TCP */
	char	*host, *port;
	char	*export_name;
};

struct client_export {
	uint64_t	size;		/* bytes */
	uint16_t	flags;		/* WIRE_HAS_FLAGS... */
};

/* nbd://HOST[:PORT]/[NAME] or nbd+unix:///[NAME]?socket=PATH */
void client_parse_uri(const char *uri, struct client_target *target);
void client_target_fini(struct client_target *target);

/* A blocking socket in the transmission phase. */
int client_connect(const struct client_target *target, bool structured,
		   struct client_export *export);

/* Say goodbye and close. */
void client_disconnect(int fd);

#endif
