/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * options_finish.c - what concerns several options: what excludes each other,
 * names, and what is chosen where nothing was said.
 */
#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "base/suggest.h"
#include "server/options_internal.h"

static int choose_style(struct parser *p)
{
	struct options *opt = p->opt;

	if (p->single && opt->command)
		return option_error(&opt->error, "--single and --run exclude "
				    "each other");
	if (p->single && p->daemonize)
		return option_error(&opt->error, "--single and --daemonize "
				    "exclude each other");
	if (opt->command && p->daemonize)
		return option_error(&opt->error, "--run and --daemonize "
				    "exclude each other");
	if (opt->handoff && (p->single || opt->command))
		return option_error(&opt->error, "--handoff excludes --single "
				    "and --run");
	if (opt->handoff && opt->handoff[0] == '@')
		return option_error(&opt->error, "--handoff: '%s' is no path: "
				    "name a file, whose mode says who may use "
				    "it", opt->handoff);
	if (p->single && (p->port >= 0 || opt->nr_listens))
		return option_error(&opt->error, "--single serves standard "
				    "input and output: leave out --port, "
				    "--bind, --unix, --vsock and --fd");
	if (p->single)
		opt->style = RUN_SINGLE;
	else if (p->daemonize)
		opt->style = RUN_DAEMON;
	else if (opt->command)
		opt->style = RUN_COMMAND;
	return 0;
}

static int choose_listens(struct parser *p)
{
	struct options *opt = p->opt;
	int port = p->port >= 0 ? p->port : DEFAULT_PORT;
	struct listen_option *listen;

	opt->listens_chosen = p->port >= 0 || opt->nr_listens;
	for (unsigned int i = 0; i < opt->nr_listens; i++)
		if (opt->listens[i].port < 0)
			opt->listens[i].port = port;
	if (opt->style == RUN_SINGLE)
		return 0;
	if (p->port >= 0 && !p->bound) {
		listen = options_add_listen(opt, LISTEN_LOOPBACK);
	} else if (opt->nr_listens) {
		return 0;
	} else {
		listen = options_add_listen(opt, opt->style == RUN_COMMAND ?
					    LISTEN_PRIVATE : LISTEN_LOOPBACK);
	}
	if (!listen)
		return -EINVAL;
	listen->port = port;
	return 0;
}

/* An array of all, which the caller frees; NULL: no memory. */
static const struct export_option **
sort_exports(const struct options *opt, int (*compare)(const void *, const void *))
{
	const struct export_option **sorted;

	sorted = calloc(opt->nr_exports, sizeof(*sorted));
	if (!sorted)
		return NULL;
	for (unsigned int i = 0; i < opt->nr_exports; i++)
		sorted[i] = &opt->exports[i];
	qsort(sorted, opt->nr_exports, sizeof(*sorted), compare);
	return sorted;
}

static int compare_names(const void *a, const void *b)
{
	const struct export_option *const *ea = a, *const *eb = b;

	return strcmp((*ea)->name, (*eb)->name);
}

static int check_duplicates(struct options *opt)
{
	const struct export_option **sorted;
	int ret = 0;

	sorted = sort_exports(opt, compare_names);
	if (!sorted)
		return -ENOMEM;
	for (unsigned int i = 1; i < opt->nr_exports && !ret; i++)
		if (compare_names(&sorted[i - 1], &sorted[i]) == 0)
			ret = option_error(&opt->error, "two exports are "
					   "called '%s': %s and %s; give one "
					   "another name with NAME=PATH",
					   sorted[i]->name,
					   sorted[i - 1]->path,
					   sorted[i]->path);
	free(sorted);
	return ret;
}

static int compare_uuids(const void *a, const void *b)
{
	const struct export_option *const *ea = a, *const *eb = b;

	return strcmp((*ea)->uuid, (*eb)->uuid);
}

/* Those that are given; what files have by themselves, options do not know. */
static int check_uuids(struct options *opt)
{
	const struct export_option **sorted;
	int ret = 0;

	sorted = sort_exports(opt, compare_uuids);
	if (!sorted)
		return -ENOMEM;
	for (unsigned int i = 1; i < opt->nr_exports && !ret; i++)
		if (sorted[i]->uuid[0] &&
		    compare_uuids(&sorted[i - 1], &sorted[i]) == 0)
			ret = option_error(&opt->error, "exports '%s' and '%s' "
					   "have the same uuid=%s; give each "
					   "one of its own",
					   sorted[i - 1]->name, sorted[i]->name,
					   sorted[i]->uuid);
	free(sorted);
	return ret;
}

static int find_export(const struct options *opt, const char *name)
{
	for (unsigned int i = 0; i < opt->nr_exports; i++)
		if (strcmp(opt->exports[i].name, name) == 0)
			return i;
	return -1;
}

static int unknown_default(struct options *opt, const char *name)
{
	const char **known = calloc(opt->nr_exports, sizeof(*known));
	const char *near;

	if (!known)
		return -ENOMEM;
	for (unsigned int i = 0; i < opt->nr_exports; i++)
		known[i] = opt->exports[i].name;
	near = suggest(name, known, opt->nr_exports);
	free(known);
	return option_error(&opt->error, "--default-export: no export is "
			    "called '%s'%s%s%s", name,
			    near ? "; did you mean '" : "", near ? near : "",
			    near ? "'?" : "");
}

static int choose_default(struct parser *p)
{
	struct options *opt = p->opt;
	int unnamed = find_export(opt, "");

	opt->default_export = unnamed;
	if (p->default_name) {
		opt->default_export = find_export(opt, p->default_name);
		if (opt->default_export < 0)
			return unknown_default(opt, p->default_name);
		if (unnamed >= 0 && unnamed != opt->default_export)
			return option_error(&opt->error, "both "
					    "--default-export %s and %s would "
					    "answer to the empty name",
					    p->default_name,
					    opt->exports[unnamed].path);
	} else if (opt->nr_exports == 1 && opt->exports[0].bare) {
		opt->default_export = 0;
	}
	return 0;
}

/* Can anybody be who the list of @exp asks for? */
static int check_identities(struct options *opt,
			    const struct export_option *exp, bool any_listener)
{
	bool names = access_has(&exp->access, ACCESS_DN) ||
		access_has(&exp->access, ACCESS_SAN);
	bool users = access_has(&exp->access, ACCESS_PSK);

	if (names && !(opt->tls_verify_peer && opt->tls_certificates))
		return option_error(&opt->error, "allow: nobody can be who "
				    "export '%s' is for: dn: and san: need "
				    "--tls-verify-peer with "
				    "--tls-certificates DIR", exp->name);
	if (users && !opt->tls_psk)
		return option_error(&opt->error, "allow: nobody can be who "
				    "export '%s' is for: psk: needs --tls-psk "
				    "FILE", exp->name);
	if ((names || users) && exp->tls == TLS_OFF && !any_listener)
		return option_error(&opt->error, "allow: nobody can be who "
				    "export '%s' is for, as it is for plain "
				    "clients: dn:, san: and psk: need --tls "
				    "require, or tls=require for the export "
				    "or a listener", exp->name);
	return 0;
}

/* Is there all that the exports' and listeners' ways to use TLS need, and a use
 * for it? */
static int check_tls(struct options *opt)
{
	bool used = false;
	int ret;

	for (unsigned int i = 0; i < opt->nr_listens; i++)
		used |= opt->listens[i].tls != TLS_OFF;
	for (unsigned int i = 0; i < opt->nr_exports; i++) {
		ret = check_identities(opt, &opt->exports[i], used);
		if (ret)
			return ret;
	}
	for (unsigned int i = 0; i < opt->nr_exports; i++)
		used |= opt->exports[i].tls != TLS_OFF;
	if (used && !opt->tls_certificates && !opt->tls_psk)
		return option_error(&opt->error, "TLS needs --tls-certificates "
				    "DIR or --tls-psk FILE, or both");
	if (opt->tls_verify_peer && !opt->tls_certificates)
		return option_error(&opt->error, "--tls-verify-peer needs "
				    "--tls-certificates DIR");
	if (!used && (opt->tls_certificates || opt->tls_psk))
		return option_error(&opt->error, "no export and no listener "
				    "uses TLS: add --tls require, or --tls on "
				    "to let plain clients in as well");
	return 0;
}

int options_finish(struct parser *p)
{
	struct options *opt = p->opt;
	int ret;

	ret = choose_style(p);
	if (ret)
		return ret;
	if (!opt->nr_exports)
		return option_error(&opt->error, "there is nothing to serve: "
				    "name a file or a block device (see "
				    "foliod --help)");
	if (opt->cache_size && opt->threads &&
	    opt->cache_size < opt->threads * CACHE_SIZE_PER_THREAD)
		return option_error(&opt->error, "--cache-size: %u threads "
				    "need at least %lluM, 4M each",
				    opt->threads, (unsigned long long)
				    (opt->threads * CACHE_SIZE_PER_THREAD >>
				     20));
	for (unsigned int i = 0; i < opt->nr_exports; i++) {
		struct export_option *exp = &opt->exports[i];

		if (!exp->mode_set)
			exp->mode = p->mode;
		exp->read_only |= p->read_only;
		if (!exp->tls_set)
			exp->tls = p->tls;
		if (!exp->access.nr)
			ret = access_copy(&exp->access, &p->allow);
		if (ret)
			return ret;
	}
	ret = check_duplicates(opt);
	if (!ret)
		ret = check_uuids(opt);
	if (!ret)
		ret = choose_default(p);
	if (!ret)
		ret = check_tls(opt);
	if (!ret)
		ret = choose_listens(p);
	return ret;
}
