/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log.h - one line a message, to stderr, from any thread.
 *
 * A line is written with a single write(2): "foliod: <message>\n", with
 * "warning: " or "debug: " before the message for these levels.
 */
#ifndef FOLIOD_BASE_LOG_H
#define FOLIOD_BASE_LOG_H

enum log_level {
	LOG_ERROR_LEVEL,
	LOG_WARN_LEVEL,
	LOG_INFO_LEVEL,
	LOG_DEBUG_LEVEL,
};

/* Messages above @level are dropped; the default is LOG_INFO_LEVEL. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/*
 * Have messages taken by @sink instead of being written, without prefix and
 * newline and from any thread; NULL ends that.  Set while no other thread logs.
 */
void log_set_sink(void (*sink)(enum log_level level, const char *text));

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
