/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log.c - one write(2) a line; what came from outside cannot forge one.
 *
 * Export names and paths are printed as they are, so control characters, C1
 * ones in UTF-8 too, are shown as \xNN: no second line, no terminal escapes.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

/* Longest message after escaping; a longer one ends in "...". */
#define MESSAGE_MAX	1024
#define PREFIX_MAX	32

static int log_level = LOG_INFO_LEVEL;
static void (*log_sink)(enum log_level level, const char *text);

static const char *const prefixes[] = {
	[LOG_ERROR_LEVEL]	= "foliod: ",
	[LOG_WARN_LEVEL]	= "foliod: warning: ",
	[LOG_INFO_LEVEL]	= "foliod: ",
	[LOG_DEBUG_LEVEL]	= "foliod: debug: ",
};

void log_set_level(enum log_level level)
{
	__atomic_store_n(&log_level, (int)level, __ATOMIC_RELAXED);
}

enum log_level log_get_level(void)
{
	return (enum log_level)__atomic_load_n(&log_level, __ATOMIC_RELAXED);
}

void log_set_sink(void (*sink)(enum log_level level, const char *text))
{
	log_sink = sink;
}

/* How many bytes at @p are a control character; 0 if it is something else. */
static size_t control_length(const unsigned char *p)
{
	if (p[0] < 0x20 || p[0] == 0x7f)
		return 1;
	if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f)
		return 2;
	return 0;
}

/*
 * Write @text to @out, MESSAGE_MAX bytes at most without a 0; returns how
 * many.  @cut: there was more of it.
 */
static size_t escape(const char *text, bool cut, char *out)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *p = (const unsigned char *)text;
	size_t len = 0, safe = 0, control;

	while (*p) {
		control = control_length(p);
		if (len + (control ? 4 * control : 1) > MESSAGE_MAX) {
			cut = true;
			break;
		}
		if (!control)
			out[len++] = (char)*p++;
		for (; control; control--, p++) {
			out[len++] = '\\';
			out[len++] = 'x';
			out[len++] = hex[*p >> 4];
			out[len++] = hex[*p & 15];
		}
		if (len <= MESSAGE_MAX - 3)
			safe = len;
	}
	if (!cut)
		return len;
	/* Back to the last place with room, never into an escape. */
	memcpy(out + safe, "...", 3);
	return safe + 3;
}

__attribute__((format(printf, 2, 0)))
static void log_line(enum log_level level, const char *fmt, va_list ap)
{
	char text[MESSAGE_MAX + 1], line[PREFIX_MAX + MESSAGE_MAX + 1];
	int saved_errno = errno;
	size_t len;
	ssize_t ret;
	int n;

	if (level > log_get_level())
		return;
	n = vsnprintf(text, sizeof(text), fmt, ap);
	if (n < 0)
		strcpy(text, "(message that cannot be formatted)");
	len = log_sink ? 0 : strlen(prefixes[level]);
	memcpy(line, prefixes[level], len);
	len += escape(text, n >= (int)sizeof(text), line + len);
	if (log_sink) {
		line[len] = '\0';
		log_sink(level, line);
	} else {
		line[len++] = '\n';
		/* There is nobody left to tell that stderr does not work. */
		ret = write(STDERR_FILENO, line, len);
		(void)ret;
	}
	errno = saved_errno;
}

#define DEFINE_LOG(name, level)				\
	void name(const char *fmt, ...)			\
	{						\
		va_list ap;				\
							\
		va_start(ap, fmt);			\
		log_line(level, fmt, ap);		\
		va_end(ap);				\
	}

DEFINE_LOG(log_error, LOG_ERROR_LEVEL)
DEFINE_LOG(log_warn, LOG_WARN_LEVEL)
DEFINE_LOG(log_info, LOG_INFO_LEVEL)
DEFINE_LOG(log_debug, LOG_DEBUG_LEVEL)
