/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * export_option.c - [NAME=]PATH and the value of --export.
 *
 * What concerns several exports (duplicates, the default) is options.c's.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "base/suggest.h"
#include "server/export.h"
#include "server/options.h"

#define BLOCK_MIN_MAX	(UINT64_C(64) << 10)
/* Bytes of a description: on the wire its UUID follows. */
#define TEXT_MAX	(4096 - EXPORT_UUID_NOTE)

static const char *const mode_names[] = VOLUME_MODE_NAMES;

int option_error(char **errorp, const char *fmt, ...)
{
	va_list ap;
	int ret;

	free(*errorp);
	va_start(ap, fmt);
	ret = vasprintf(errorp, fmt, ap);
	va_end(ap);
	if (ret < 0) {
		*errorp = NULL;
		return -ENOMEM;
	}
	return -EINVAL;
}

const char *volume_mode_to_text(enum volume_mode mode)
{
	return mode_names[mode];
}

int mode_parse(const char *what, const char *text, enum volume_mode *modep,
	       char **errorp)
{
	const char *near;

	for (unsigned int i = 0; i < ARRAY_SIZE(mode_names); i++) {
		if (strcmp(text, mode_names[i]) == 0) {
			*modep = i;
			return 0;
		}
	}
	near = suggest(text, mode_names, ARRAY_SIZE(mode_names));
	return option_error(errorp, "%s: unknown mode '%s'%s%s%s; the modes "
			    "are writeback, writethrough, writeout, none, "
			    "directsync and unsafe", what, text,
			    near ? ", did you mean '" : "", near ? near : "",
			    near ? "'?" : "");
}

int tls_mode_parse(const char *what, const char *text, enum tls_mode *modep,
		   char **errorp)
{
	static const char *const modes[] = {
		[TLS_OFF]	= "off",
		[TLS_ON]	= "on",
		[TLS_REQUIRE]	= "require",
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(modes); i++) {
		if (strcmp(text, modes[i]) == 0) {
			*modep = i;
			return 0;
		}
	}
	return option_error(errorp, "%s: '%s' is not off, on or require", what,
			    text);
}

void export_option_fini(struct export_option *exp)
{
	free(exp->name);
	free(exp->path);
	free(exp->description);
	access_fini(&exp->access);
	memset(exp, 0, sizeof(*exp));
}

/* ---- [NAME=]PATH ---- */

static bool is_name_char(char c, bool first)
{
	if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	    (c >= '0' && c <= '9'))
		return true;
	return !first && (c == '.' || c == '_' || c == '-');
}

/*
 * The '=' that ends the NAME of NAME=PATH, or of =PATH, or NULL if all of it
 * is a PATH.
 */
static const char *name_end(const char *arg)
{
	const char *p = arg;

	while (is_name_char(*p, p == arg))
		p++;
	return *p == '=' ? p : NULL;
}

/* The last part of @path, without slashes at its end. */
static char *base_name(const char *path)
{
	size_t end = strlen(path), start;

	while (end && path[end - 1] == '/')
		end--;
	for (start = end; start && path[start - 1] != '/'; start--)
		;
	return strndup(path + start, end - start);
}

int export_option_from_argument(struct export_option *exp, const char *arg,
				char **errorp)
{
	const char *eq = name_end(arg);
	const char *path = eq ? eq + 1 : arg;

	if (!*path)
		return option_error(errorp, "'%s': the path is empty; give "
				    "NAME=PATH or PATH", arg);
	exp->bare = !eq;
	exp->name = eq ? strndup(arg, eq - arg) : base_name(path);
	exp->path = strdup(path);
	if (!exp->name || !exp->path)
		return -ENOMEM;
	if (strlen(exp->name) > EXPORT_NAME_MAX)
		return option_error(errorp, "the export name of '%.60s...' is "
				    "longer than %d bytes", arg,
				    EXPORT_NAME_MAX);
	return 0;
}

/* ---- --export ---- */

enum export_key {
	KEY_NAME, KEY_PATH, KEY_MODE, KEY_READ_ONLY, KEY_DESCRIPTION,
	KEY_BLOCK_SIZE, KEY_UUID, KEY_ALLOW, KEY_TLS, NR_KEYS,
};

static const char *const key_names[NR_KEYS] = {
	[KEY_NAME]		= "name",
	[KEY_PATH]		= "path",
	[KEY_MODE]		= "mode",
	[KEY_READ_ONLY]		= "read-only",
	[KEY_DESCRIPTION]	= "description",
	[KEY_BLOCK_SIZE]	= "block-size",
	[KEY_UUID]		= "uuid",
	[KEY_ALLOW]		= "allow",
	[KEY_TLS]		= "tls",
};

static int unknown_key(const char *key, char **errorp)
{
	const char *near = suggest(key, key_names, NR_KEYS);

	return option_error(errorp, "--export: unknown key '%s'%s%s%s; the "
			    "keys are name, path, mode, read-only, "
			    "description, block-size, uuid, allow and tls", key,
			    near ? ", did you mean '" : "", near ? near : "",
			    near ? "'?" : "");
}

static int set_string(char **strp, const char *value)
{
	*strp = strdup(value);
	return *strp ? 0 : -ENOMEM;
}

static int set_name(struct export_option *exp, const char *value,
		    char **errorp)
{
	if (strlen(value) > EXPORT_NAME_MAX)
		return option_error(errorp, "--export: the name '%.60s...' is "
				    "longer than %d bytes", value,
				    EXPORT_NAME_MAX);
	if (strchr(value, '@'))
		return option_error(errorp, "--export: the name '%s' contains "
				    "'@', which names cannot", value);
	return set_string(&exp->name, value);
}

static int set_description(struct export_option *exp, const char *value,
			   char **errorp)
{
	if (strlen(value) > TEXT_MAX)
		return option_error(errorp, "--export: the description "
				    "'%.60s...' is longer than %d bytes",
				    value, TEXT_MAX);
	return set_string(&exp->description, value);
}

static int set_block_min(struct export_option *exp, const char *value,
			 char **errorp)
{
	uint64_t size;

	if (size_parse(value, &size) || !is_power_of_2(size) ||
	    size > BLOCK_MIN_MAX)
		return option_error(errorp, "--export: block-size=%s is not a "
				    "power of two from 1 to 64k", value);
	exp->block_min = size;
	return 0;
}

static int set_key(struct export_option *exp, enum export_key key,
		   const char *value, char **errorp)
{
	switch (key) {
	case KEY_NAME:
		return set_name(exp, value, errorp);
	case KEY_PATH:
		if (!*value)
			return option_error(errorp, "--export: path= is empty");
		return set_string(&exp->path, value);
	case KEY_MODE:
		exp->mode_set = true;
		return mode_parse("--export: mode", value, &exp->mode, errorp);
	case KEY_READ_ONLY:
		exp->read_only = true;
		return 0;
	case KEY_DESCRIPTION:
		return set_description(exp, value, errorp);
	case KEY_BLOCK_SIZE:
		return set_block_min(exp, value, errorp);
	case KEY_UUID:
		if (uuid_parse(value, exp->uuid))
			return 0;
		return option_error(errorp, "--export: uuid='%.60s' is no "
				    "UUID, like 6f9619ff-8b86-4d01-b42d-"
				    "00c04fc964ff", value);
	case KEY_ALLOW:
		return access_add(&exp->access, "--export: allow", value,
				  errorp);
	case KEY_TLS:
		exp->tls_set = true;
		return tls_mode_parse("--export: tls", value, &exp->tls,
				      errorp);
	case NR_KEYS:
		break;
	}
	return -EINVAL;
}

/* One KEY or KEY=VALUE, which is cut in two; @seen has a bit per key. */
static int set_item(struct export_option *exp, char *item, unsigned int *seen,
		    char **errorp)
{
	char *value = strchr(item, '=');
	unsigned int key;

	if (!*item)
		return option_error(errorp, "--export: there is nothing before "
				    "or between commas (a comma in a value is "
				    "written ',,')");
	if (value)
		*value++ = '\0';
	for (key = 0; key < NR_KEYS; key++)
		if (strcmp(item, key_names[key]) == 0)
			break;
	if (key == NR_KEYS)
		return unknown_key(item, errorp);
	if (*seen & 1u << key && key != KEY_ALLOW)
		return option_error(errorp, "--export: the key '%s' is given "
				    "twice", item);
	*seen |= 1u << key;
	if (key == KEY_READ_ONLY && value)
		return option_error(errorp, "--export: read-only takes no "
				    "value (leave out '=%s')", value);
	if (key != KEY_READ_ONLY && !value)
		return option_error(errorp, "--export: the key '%s' needs a "
				    "value: %s=VALUE", item, item);
	return set_key(exp, key, value, errorp);
}

/*
 * Cut the first item off @*restp at a single comma, making each ',,' before it
 * a ',' in place.  @*restp is NULL after the last one.
 */
static char *next_item(char **restp)
{
	char *item = *restp, *to = item, *from;

	for (from = item; *from; from++) {
		if (*from == ',') {
			if (from[1] != ',')
				break;
			from++;
		}
		*to++ = *from;
	}
	*restp = *from ? from + 1 : NULL;
	*to = '\0';
	return item;
}

int export_option_from_list(struct export_option *exp, const char *list,
			    char **errorp)
{
	char *copy = strdup(list), *rest = copy;
	unsigned int seen = 0;
	int ret = 0;

	if (!copy)
		return -ENOMEM;
	while (rest && !ret)
		ret = set_item(exp, next_item(&rest), &seen, errorp);
	free(copy);
	if (ret)
		return ret;
	if (!exp->name)
		return option_error(errorp, "--export '%s' has no name=NAME",
				    list);
	if (!exp->path)
		return option_error(errorp, "--export '%s' has no path=PATH",
				    list);
	return 0;
}
