/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * options.c - argv -> struct options, or one line that says what is wrong.
 *
 * Not getopt_long(), which takes abbreviations and reports errors on its own.
 * What is in an export's description is export_option.c's, what concerns
 * several options at a time options_finish.c's.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "base/base.h"
#include "base/suggest.h"
#include "server/option_table.h"
#include "server/options_internal.h"

#define NOTHING(...)
#define OPTION_ID(id, short_name, name, value, help) OPT_##id,
enum option_id {
	OPTION_TABLE(NOTHING, OPTION_ID)
	NR_OPTIONS,
};

struct option_def {
	char		short_name;
	const char	*name;
	const char	*value;		/* what it is called, or NULL */
};

#define OPTION_DEF(id, short_name, name, value, help) \
	[OPT_##id] = { short_name, name, value },
static const struct option_def defs[NR_OPTIONS] = {
	OPTION_TABLE(NOTHING, OPTION_DEF)
};

#define OPTION_NAME(id, short_name, name, value, help) [OPT_##id] = name,
static const char *const names[NR_OPTIONS] = {
	OPTION_TABLE(NOTHING, OPTION_NAME)
};

/* What fingers know from nbdkit and qemu-nbd. */
static const struct habit {
	const char	*spelling;
	const char	*advice;
} habits[] = {
	{ "-f", "foliod stays in the foreground unless --daemonize is given, "
		"and serves raw bytes: leave it out" },
	{ "--foreground", "foliod stays in the foreground unless --daemonize "
		"is given: leave it out" },
	{ "--format", "foliod serves the bytes of a file as they are: leave it "
		"out" },
	{ "--fork", "use --daemonize" },
	{ "-P", "use --pid-file FILE" },
	{ "--pidfile", "use --pid-file FILE" },
	{ "-k", "use -U PATH or --unix PATH" },
	{ "--socket", "use -U PATH or --unix PATH" },
	{ "-t", "foliod stays when a client leaves: leave it out; or use "
		"--threads N" },
	{ "--persistent", "foliod stays when a client leaves: leave it out" },
	{ "-x", "use NAME=PATH" },
	{ "--exportname", "use NAME=PATH" },
	{ "--export-name", "use NAME=PATH" },
	{ "-e", "use NAME=PATH; or --max-connections N" },
	{ "--shared", "use --max-connections N" },
	{ "-i", "use -b HOST[:PORT] or --bind HOST[:PORT]" },
	{ "--ipaddr", "use -b HOST[:PORT] or --bind HOST[:PORT]" },
	{ "--cache", "use -m MODE or --mode MODE" },
	{ "-c", "foliod has no nbd device of its own: use nbd-client" },
	{ "-D", "use --export name=NAME,path=PATH,description=TEXT" },
	{ "--description", "use --export name=NAME,path=PATH,"
		"description=TEXT" },
	{ "-v", "foliod has no verbose mode" },
	{ "--tls-creds", "use --tls require, with --tls-certificates DIR or "
		"--tls-psk FILE" },
};

/* ---- the options' values ---- */

/* Make room for one more in an array; the new one is zeroed. */
static void *array_add(void *arrayp, unsigned int *nrp, unsigned int max,
		       size_t size)
{
	char **array = arrayp, *grown;

	if (*nrp == max)
		return NULL;
	grown = realloc(*array, (*nrp + 1) * size);
	if (!grown)
		return NULL;
	*array = grown;
	return memset(grown + (*nrp)++ * size, 0, size);
}

struct listen_option *options_add_listen(struct options *opt,
					 enum listen_kind kind)
{
	struct listen_option *listen;

	listen = array_add(&opt->listens, &opt->nr_listens, OPTIONS_LISTEN_MAX,
			   sizeof(*listen));
	if (!listen) {
		option_error(&opt->error, "more than %d listeners",
			     OPTIONS_LISTEN_MAX);
		return NULL;
	}
	listen->kind = kind;
	return listen;
}

static struct export_option *add_export(struct options *opt)
{
	struct export_option *exp;

	exp = array_add(&opt->exports, &opt->nr_exports, OPTIONS_EXPORTS_MAX,
			sizeof(*exp));
	if (!exp)
		option_error(&opt->error, "more than %d exports",
			     OPTIONS_EXPORTS_MAX);
	return exp;
}

static int parse_port(struct parser *p, const char *as, const char *text,
		      int *portp)
{
	uint64_t port;

	if (number_parse(text, 0, 65535, &port))
		return option_error(&p->opt->error, "%s: '%s' is not a TCP "
				    "port (1 to 65535, or 0 to have one "
				    "picked)", as, text);
	*portp = port;
	return 0;
}

/* HOST, HOST:PORT, [V6], [V6]:PORT or a bare V6, which has several colons. */
static int parse_bind(struct parser *p, const char *as, const char *text)
{
	const char *host = text, *end, *colon;
	struct listen_option *listen;

	p->bound = true;
	listen = options_add_listen(p->opt, LISTEN_TCP);
	if (!listen)
		return -EINVAL;
	listen->port = -1;
	if (*text == '[') {
		host++;
		end = strchr(text, ']');
		if (!end || (end[1] && end[1] != ':'))
			return option_error(&p->opt->error, "%s: '%s' is not "
					    "HOST[:PORT] (an IPv6 address "
					    "stands in brackets: [::1]:%d)",
					    as, text, DEFAULT_PORT);
		colon = end[1] ? end + 1 : NULL;
	} else {
		colon = strchr(text, ':');
		if (colon && strchr(colon + 1, ':'))
			colon = NULL;
		end = colon ? colon : text + strlen(text);
	}
	if (end == host)
		return option_error(&p->opt->error, "%s: '%s' names no host "
				    "(0.0.0.0 and [::] are all addresses)",
				    as, text);
	listen->host = strndup(host, end - host);
	if (!listen->host)
		return -ENOMEM;
	return colon ? parse_port(p, as, colon + 1, &listen->port) : 0;
}

static int parse_unix(struct parser *p, const char *as, const char *path)
{
	const size_t max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
	struct listen_option *listen;
	bool private = strcmp(path, "-") == 0;

	if (!*path)
		return option_error(&p->opt->error, "%s needs the path of a "
				    "socket, or '-' for a private one", as);
	if (strlen(path) > max)
		return option_error(&p->opt->error, "%s: the path '%s' is "
				    "longer than the %zu bytes that a unix "
				    "socket's can have; use a shorter or a "
				    "relative one", as, path, max);
	listen = options_add_listen(p->opt, private ? LISTEN_PRIVATE :
							LISTEN_UNIX);
	if (!listen)
		return -EINVAL;
	if (private)
		return 0;
	listen->path = strdup(path);
	return listen->path ? 0 : -ENOMEM;
}

static int parse_cache_size(struct parser *p, const char *as, const char *text)
{
	uint64_t size;
	int ret = size_parse(text, &size);

	if (ret)
		return option_error(&p->opt->error, "%s: '%s' is not a size "
				    "such as 512M or 2G", as, text);
	if (size < CACHE_SIZE_MIN)
		return option_error(&p->opt->error, "%s: %s is below the "
				    "minimum of 16M", as, text);
	p->opt->cache_size = size;
	return 0;
}

static int parse_threads(struct parser *p, const char *as, const char *text)
{
	uint64_t nr;

	if (number_parse(text, 1, OPTIONS_THREADS_MAX, &nr))
		return option_error(&p->opt->error, "%s: '%s' is not a number "
				    "of threads from 1 to %d", as, text,
				    OPTIONS_THREADS_MAX);
	p->opt->threads = nr;
	return 0;
}

/* The last one given counts. */
static int set_text(struct parser *p, const char *as, const char *value,
		    const char *what, char **strp)
{
	if (!*value)
		return option_error(&p->opt->error, "%s needs %s", as, what);
	free(*strp);
	*strp = strdup(value);
	return *strp ? 0 : -ENOMEM;
}

static int parse_max(struct parser *p, const char *as, const char *text,
		     unsigned int *maxp)
{
	uint64_t nr;

	if (number_parse(text, 1, OPTIONS_CONNS_MAX, &nr))
		return option_error(&p->opt->error, "%s: '%s' is not a number "
				    "of connections from 1 to %d", as, text,
				    OPTIONS_CONNS_MAX);
	*maxp = nr;
	return 0;
}

static int add_export_list(struct parser *p, const char *value)
{
	struct export_option *exp = add_export(p->opt);

	if (!exp)
		return -EINVAL;
	return export_option_from_list(exp, value, &p->opt->error);
}

static int apply(struct parser *p, enum option_id id, const char *as,
		 const char *value)
{
	struct options *opt = p->opt;

	switch (id) {
	case OPT_PORT:
		return parse_port(p, as, value, &p->port);
	case OPT_BIND:
		return parse_listener(p, as, value, parse_bind);
	case OPT_UNIX:
		return parse_listener(p, as, value, parse_unix);
	case OPT_VSOCK:
		return parse_listener(p, as, value, parse_vsock);
	case OPT_FD:
		return parse_listener(p, as, value, parse_fd);
	case OPT_SINGLE:
		p->single = true;
		return 0;
	case OPT_EXPORT:
		return add_export_list(p, value);
	case OPT_DEFAULT_EXPORT:
		p->default_name = value;
		return 0;
	case OPT_MODE:
		return mode_parse(as, value, &p->mode, &opt->error);
	case OPT_READ_ONLY:
		p->read_only = true;
		return 0;
	case OPT_ALLOW:
		return access_add(&p->allow, as, value, &opt->error);
	case OPT_MAX_CONNECTIONS:
		return parse_max(p, as, value, &opt->max_conns);
	case OPT_MAX_CONNECTIONS_PER_PEER:
		return parse_max(p, as, value, &opt->max_conns_per_peer);
	case OPT_TLS:
		return tls_mode_parse(as, value, &p->tls, &opt->error);
	case OPT_TLS_CERTIFICATES:
		return set_text(p, as, value, "a directory",
				&opt->tls_certificates);
	case OPT_TLS_PSK:
		return set_text(p, as, value, "a file", &opt->tls_psk);
	case OPT_TLS_VERIFY_PEER:
		opt->tls_verify_peer = true;
		return 0;
	case OPT_CACHE_SIZE:
		return parse_cache_size(p, as, value);
	case OPT_THREADS:
		return parse_threads(p, as, value);
	case OPT_RUN:
		return set_text(p, as, value, "a command", &opt->command);
	case OPT_PID_FILE:
		return set_text(p, as, value, "a file", &opt->pid_file);
	case OPT_HANDOFF:
		return set_text(p, as, value, "a path", &opt->handoff);
	case OPT_DAEMONIZE:
		p->daemonize = true;
		return 0;
	case OPT_VERSION:
		opt->style = RUN_VERSION;
		return 0;
	case OPT_HELP:
		opt->style = RUN_HELP;
		return 0;
	case NR_OPTIONS:
		break;
	}
	return -EINVAL;
}

/* ---- finding options ---- */

static int unknown_option(struct parser *p, const char *as)
{
	const char *near = NULL;

	for (unsigned int i = 0; i < ARRAY_SIZE(habits); i++)
		if (strcmp(as, habits[i].spelling) == 0)
			return option_error(&p->opt->error, "%s is not an "
					    "option of foliod: %s", as,
					    habits[i].advice);
	if (as[1] == '-')
		near = suggest(as + 2, names, NR_OPTIONS);
	if (near)
		return option_error(&p->opt->error, "unknown option %s; did "
				    "you mean --%s?", as, near);
	return option_error(&p->opt->error, "unknown option %s; see foliod "
			    "--help", as);
}

/* @value is what is attached, or NULL. */
static int take_option(struct parser *p, enum option_id id, const char *as,
		       const char *value)
{
	const struct option_def *def = &defs[id];

	if (def->value && !value) {
		if (p->next == p->argc)
			return option_error(&p->opt->error, "%s needs a value: "
					    "%s %s", as, as, def->value);
		value = p->argv[p->next++];
	}
	return apply(p, id, as, value);
}

static int parse_long(struct parser *p, const char *arg)
{
	const char *eq = strchr(arg, '=');
	char *as = strndup(arg, eq ? (size_t)(eq - arg) : strlen(arg));
	unsigned int id;
	int ret;

	if (!as)
		return -ENOMEM;
	for (id = 0; id < NR_OPTIONS; id++)
		if (strcmp(as + 2, defs[id].name) == 0)
			break;
	if (id == NR_OPTIONS)
		ret = unknown_option(p, as);
	else if (eq && !defs[id].value)
		ret = option_error(&p->opt->error, "%s takes no value (leave "
				   "out '%s')", as, eq);
	else
		ret = take_option(p, id, as, eq ? eq + 1 : NULL);
	free(as);
	return ret;
}

/* One or more letters; the first that takes a value takes the rest. */
static int parse_short(struct parser *p, const char *arg)
{
	int ret = 0;

	for (const char *c = arg + 1; *c && !ret; c++) {
		const char as[] = { '-', *c, '\0' };
		unsigned int id;

		for (id = 0; id < NR_OPTIONS; id++)
			if (defs[id].short_name == *c)
				break;
		if (id == NR_OPTIONS)
			return unknown_option(p, as);
		if (defs[id].value)
			return take_option(p, id, as, c[1] ? c + 1 : NULL);
		ret = take_option(p, id, as, NULL);
		if (p->opt->style >= RUN_HELP)
			break;
	}
	return ret;
}

static int parse_argument(struct parser *p, const char *arg)
{
	struct export_option *exp = add_export(p->opt);

	if (!exp)
		return -EINVAL;
	return export_option_from_argument(exp, arg, &p->opt->error);
}

static int parse_all(struct parser *p)
{
	bool only_arguments = false;
	int ret = 0;

	while (!ret && p->next < p->argc && p->opt->style < RUN_HELP) {
		const char *arg = p->argv[p->next++];

		if (only_arguments || arg[0] != '-' || !arg[1])
			ret = parse_argument(p, arg);
		else if (strcmp(arg, "--") == 0)
			only_arguments = true;
		else if (arg[1] == '-')
			ret = parse_long(p, arg);
		else
			ret = parse_short(p, arg);
	}
	return ret;
}

int options_parse(struct options *opt, int argc, char **argv)
{
	struct parser p = {
		.opt = opt, .argv = argv, .argc = argc, .next = 1, .port = -1,
		.mode = VOLUME_WRITEBACK,
	};
	int ret;

	memset(opt, 0, sizeof(*opt));
	opt->default_export = -1;
	opt->single_fd = -1;
	ret = parse_all(&p);
	if (!ret && opt->style < RUN_HELP)
		ret = options_finish(&p);
	access_fini(&p.allow);
	return ret;
}

void listen_option_fini(struct listen_option *listen)
{
	free(listen->host);
	free(listen->path);
	free(listen->fd_name);
	memset(listen, 0, sizeof(*listen));
}

void options_fini(struct options *opt)
{
	for (unsigned int i = 0; i < opt->nr_listens; i++)
		listen_option_fini(&opt->listens[i]);
	free(opt->listens);
	for (unsigned int i = 0; i < opt->nr_exports; i++)
		export_option_fini(&opt->exports[i]);
	free(opt->exports);
	free(opt->command);
	free(opt->pid_file);
	free(opt->handoff);
	free(opt->tls_certificates);
	free(opt->tls_psk);
	free(opt->error);
	memset(opt, 0, sizeof(*opt));
}
