/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * help.c - what --help and --version print, from the table of options.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "server/option_table.h"
#include "server/options.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION	"(built by hand)"
#endif

#define HELP_COLUMN	26

static const char intro[] =
	"Usage: foliod [options] [NAME=]PATH...\n"
	"Serve files and block devices over NBD, through a cache.\n"
	"\n"
	"One PATH alone answers to the empty export name and to its base "
	"name.\n"
	"With no listener given, foliod listens on port 10809 of loopback.\n"
	"Sizes take k, M, G and T, or KiB, MiB, GiB and TiB.\n";

/* Rows are headings (text alone) and options. */
struct help_row {
	char		short_name;
	const char	*name;
	const char	*value;
	const char	*text;
};

#define HELP_SECTION(heading) { 0, NULL, NULL, heading },
#define HELP_OPTION(id, short_name, name, value, help) \
	{ short_name, name, value, help },
static const struct help_row rows[] = {
	OPTION_TABLE(HELP_SECTION, HELP_OPTION)
};

static void print_row(const struct help_row *row)
{
	const char *line, *end;
	int width;

	if (!row->name) {
		printf("\n%s:\n", row->text);
		return;
	}
	if (row->short_name)
		width = printf("  -%c, --%s", row->short_name, row->name);
	else
		width = printf("      --%s", row->name);
	if (row->value)
		width += printf(" %s", row->value);
	if (width > HELP_COLUMN - 2) {
		putchar('\n');
		width = 0;
	}
	for (line = row->text; line; line = *end ? end + 1 : NULL) {
		end = strchrnul(line, '\n');
		printf("%*s%.*s\n", HELP_COLUMN - width, "", (int)(end - line),
		       line);
		width = 0;
	}
}

static int finish_stdout(void)
{
	return fflush(stdout) || ferror(stdout) ? -EIO : 0;
}

int help_print(void)
{
	fputs(intro, stdout);
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++)
		print_row(&rows[i]);
	return finish_stdout();
}

int version_print(void)
{
	puts("foliod " PACKAGE_VERSION);
	return finish_stdout();
}
