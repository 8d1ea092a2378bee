/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * options.h - the command line as a struct.
 *
 * Parsing looks at nothing but its arguments: no file, no network, no memory
 * size.  Defaults that depend on the machine are chosen in limits.h.
 */
#ifndef FOLIOD_SERVER_OPTIONS_H
#define FOLIOD_SERVER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/cache.h"
#include "server/access.h"
#include "server/tls.h"
#include "server/uuid.h"

#define DEFAULT_PORT		10809
#define OPTIONS_THREADS_MAX	256
#define OPTIONS_LISTEN_MAX	64
#define OPTIONS_EXPORTS_MAX	4096
#define OPTIONS_CONNS_MAX	(1 << 30)

enum run_style {
	RUN_FOREGROUND,
	RUN_DAEMON,
	RUN_COMMAND,		/* --run */
	RUN_SINGLE,
	RUN_HELP,
	RUN_VERSION,
};

enum listen_kind {
	LISTEN_TCP,
	LISTEN_LOOPBACK,	/* 127.0.0.1, and ::1 where there is one */
	LISTEN_UNIX,
	LISTEN_PRIVATE,		/* a unix socket in a directory of its own */
	LISTEN_VSOCK,
	LISTEN_FD,		/* a descriptor that came open */
};

struct listen_option {
	enum listen_kind	kind;
	char			*host;	/* LISTEN_TCP; without brackets */
	int			port;	/* LISTEN_TCP, LISTEN_LOOPBACK; 0: any */
	char			*path;	/* LISTEN_UNIX; "@NAME": abstract */
	uint32_t		cid, vsock_port;	/* LISTEN_VSOCK */
	enum tls_mode		tls;	/* of its clients, at least */
	int			fd;	/* LISTEN_FD */
	char			*fd_name;	/* LISTEN_FD: or NULL */
};

struct export_option {
	char			*name;
	char			*path;
	char			*description;	/* or NULL */
	enum volume_mode	mode;
	bool			mode_set;	/* otherwise the general one */
	bool			read_only;
	bool			bare;		/* a PATH without a name */
	enum tls_mode		tls;
	bool			tls_set;	/* likewise */
	uint32_t		block_min;	/* 0: the default */
	char			uuid[UUID_TEXT_SIZE];	/* "": the file's own */
	struct access		access;
};

/* All strings are owned. */
struct options {
	enum run_style		style;
	struct listen_option	*listens;	/* empty with RUN_SINGLE */
	unsigned int		nr_listens;
	bool			listens_chosen;	/* by the user */
	int			single_fd;	/* RUN_SINGLE: the client's socket,
						 * or -1 for stdin and stdout */
	struct export_option	*exports;	/* in the order of the arguments */
	unsigned int		nr_exports;
	int			default_export;	/* index, or -1 */
	uint64_t		cache_size;	/* bytes; 0: the default */
	unsigned int		threads;	/* 0: the default */
	unsigned int		max_conns;	/* 0: the default */
	unsigned int		max_conns_per_peer;	/* 0: no limit */
	char			*command;	/* RUN_COMMAND */
	char			*pid_file;	/* or NULL */
	char			*handoff;	/* path of a socket, or NULL */
	char			*tls_certificates;	/* directory, or NULL */
	char			*tls_psk;	/* file, or NULL */
	bool			tls_verify_peer;
	char			*error;		/* see options_parse() */
};

/*
 * Fill @opt from the command line (@argv[0] is not looked at).  Returns 0, or
 * -EINVAL with one line in @opt->error that names the argument and says what
 * to do, or -ENOMEM.  options_fini() is due in all cases.  --help and
 * --version end the parsing where they stand.
 */
int options_parse(struct options *opt, int argc, char **argv);
void options_fini(struct options *opt);

const char *volume_mode_to_text(enum volume_mode mode);

/*
 * Take @arg, an argument that is no option, as [NAME=]PATH into @exp, which
 * is zeroed.  0, or -errno with *@errorp set as above.
 */
int export_option_from_argument(struct export_option *exp, const char *arg,
				char **errorp);
/* The same with the value of --export. */
int export_option_from_list(struct export_option *exp, const char *list,
			    char **errorp);
void export_option_fini(struct export_option *exp);
void listen_option_fini(struct listen_option *listen);

/* Parse @text as a mode: 0, or -EINVAL with *@errorp set; @what precedes the
 * message. */
int mode_parse(const char *what, const char *text, enum volume_mode *modep,
	       char **errorp);

/* The same for a TLS mode. */
int tls_mode_parse(const char *what, const char *text, enum tls_mode *modep,
		   char **errorp);

/* Set *@errorp to a line made by @fmt and return -EINVAL (-ENOMEM if there is no
 * memory for it).  It may repeat what the user typed: log_error() escapes. */
int option_error(char **errorp, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Print the help to standard output: 0, or -errno if that failed. */
int help_print(void);
int version_print(void);

#endif
