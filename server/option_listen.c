/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * option_listen.c - the values of --vsock and --fd, and what those of all
 * listeners may end in.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/vm_sockets.h>

#include "base/base.h"
#include "server/options_internal.h"

int parse_listener(struct parser *p, const char *as, const char *text,
		   int (*parse)(struct parser *p, const char *as,
				const char *text))
{
	static const char key[] = ",tls=";
	const char *at, *last = NULL;
	char what[64], *rest;
	enum tls_mode mode;
	int ret;

	for (at = strstr(text, key); at; at = strstr(at + 1, key))
		last = at;
	if (!last)
		return parse(p, as, text);
	snprintf(what, sizeof(what), "%s: tls", as);
	ret = tls_mode_parse(what, last + strlen(key), &mode, &p->opt->error);
	if (ret)
		return ret;
	rest = strndup(text, last - text);
	if (!rest)
		return -ENOMEM;
	ret = parse(p, as, rest);
	free(rest);
	if (!ret)
		p->opt->listens[p->opt->nr_listens - 1].tls = mode;
	return ret;
}

static int bad_vsock(struct parser *p, const char *as, const char *text)
{
	return option_error(&p->opt->error, "%s: '%s' is not [CID:]PORT (two "
			    "numbers; port 0 has one picked)", as, text);
}

int parse_vsock(struct parser *p, const char *as, const char *text)
{
	const char *colon = strchr(text, ':');
	uint64_t cid = VMADDR_CID_ANY, port;
	struct listen_option *listen;
	char digits[16];
	size_t len;

	if (colon) {
		len = colon - text;
		if (len >= sizeof(digits))
			return bad_vsock(p, as, text);
		memcpy(digits, text, len);
		digits[len] = '\0';
		if (number_parse(digits, 0, UINT32_MAX, &cid))
			return bad_vsock(p, as, text);
	}
	if (number_parse(colon ? colon + 1 : text, 0, UINT32_MAX - 1, &port))
		return bad_vsock(p, as, text);
	listen = options_add_listen(p->opt, LISTEN_VSOCK);
	if (!listen)
		return -EINVAL;
	listen->cid = cid;
	listen->vsock_port = port;
	return 0;
}

int parse_fd(struct parser *p, const char *as, const char *text)
{
	struct listen_option *listen;
	uint64_t fd;

	if (number_parse(text, 0, INT_MAX, &fd))
		return option_error(&p->opt->error, "%s: '%s' is not the "
				    "number of a descriptor", as, text);
	for (unsigned int i = 0; i < p->opt->nr_listens; i++)
		if (p->opt->listens[i].kind == LISTEN_FD &&
		    p->opt->listens[i].fd == (int)fd)
			return option_error(&p->opt->error, "%s: %s is given "
					    "twice", as, text);
	listen = options_add_listen(p->opt, LISTEN_FD);
	if (!listen)
		return -EINVAL;
	listen->fd = fd;
	return 0;
}
