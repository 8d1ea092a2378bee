/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * options_internal.h - between the files of the command line.
 */
#ifndef FOLIOD_SERVER_OPTIONS_INTERNAL_H
#define FOLIOD_SERVER_OPTIONS_INTERNAL_H

#include "server/options.h"

/* The command line on its way into a struct options. */
struct parser {
	struct options		*opt;
	char			**argv;
	int			argc;
	int			next;		/* of argv */
	enum volume_mode	mode;
	bool			read_only;
	enum tls_mode		tls;
	int			port;		/* -1: not given */
	bool			bound;		/* --bind was given */
	bool			single, daemonize;
	const char		*default_name;
	struct access		allow;		/* for exports without a list */
};

/* One more listener; NULL, with opt->error set, if there are too many. */
struct listen_option *options_add_listen(struct options *opt,
					 enum listen_kind kind);

/*
 * Take @text as a listener with @parse, one of those below, and then ",tls=MODE"
 * if it ends in that.  Of those the last counts: a path may have one as well.
 */
int parse_listener(struct parser *p, const char *as, const char *text,
		   int (*parse)(struct parser *p, const char *as,
				const char *text));
/* The values of --vsock and --fd; @as is how the option was spelled. */
int parse_vsock(struct parser *p, const char *as, const char *text);
int parse_fd(struct parser *p, const char *as, const char *text);

/* All arguments have been read: check what concerns several of them, and
 * choose what follows from them.  As options_parse(). */
int options_finish(struct parser *p);

#endif
