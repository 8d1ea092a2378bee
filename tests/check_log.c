/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_log.c - what reaches stderr, byte by byte and write by write.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

/* A datagram socket: each write(2) arrives as one message. */
static int reader, saved_stderr;
static char line[8192];

static void setup(void)
{
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds),
			 0);
	saved_stderr = dup(STDERR_FILENO);
	ck_assert_int_ge(saved_stderr, 0);
	ck_assert_int_ge(dup2(fds[1], STDERR_FILENO), 0);
	close(fds[1]);
	reader = fds[0];
}

static void teardown(void)
{
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	close(reader);
}

/* The next line, or NULL if none was written. */
static const char *next_line(void)
{
	ssize_t n = recv(reader, line, sizeof(line) - 1, MSG_DONTWAIT);

	if (n < 0) {
		ck_assert_int_eq(errno, EAGAIN);
		return NULL;
	}
	line[n] = '\0';
	ck_assert_int_eq((int)strlen(line), (int)n);
	return line;
}

START_TEST(each_level_has_its_prefix)
{
	log_set_level(LOG_DEBUG_LEVEL);
	ck_assert_int_eq(log_get_level(), LOG_DEBUG_LEVEL);
	log_error("%s: %d", "a", 1);
	ck_assert_str_eq(next_line(), "foliod: a: 1\n");
	log_warn("b");
	ck_assert_str_eq(next_line(), "foliod: warning: b\n");
	log_info("c");
	ck_assert_str_eq(next_line(), "foliod: c\n");
	log_debug("%c", 'd');
	ck_assert_str_eq(next_line(), "foliod: debug: d\n");
	log_info("%s", "");
	ck_assert_str_eq(next_line(), "foliod: \n");
	ck_assert_ptr_null(next_line());
}
END_TEST

static enum log_level sunk_level;
static char sunk_text[2048];

static void sink(enum log_level level, const char *text)
{
	sunk_level = level;
	strcpy(sunk_text, text);
}

START_TEST(a_sink_gets_messages_instead_without_prefix_and_newline)
{
	log_set_sink(sink);
	log_warn("a %s", "b\nc");
	ck_assert_int_eq(sunk_level, LOG_WARN_LEVEL);
	ck_assert_str_eq(sunk_text, "a b\\x0ac");
	log_debug("no");
	ck_assert_str_eq(sunk_text, "a b\\x0ac");
	ck_assert_ptr_null(next_line());
	log_set_sink(NULL);
	log_info("d");
	ck_assert_str_eq(next_line(), "foliod: d\n");
	ck_assert_str_eq(sunk_text, "a b\\x0ac");
}
END_TEST

START_TEST(messages_above_the_level_are_dropped)
{
	ck_assert_int_eq(log_get_level(), LOG_INFO_LEVEL);
	log_debug("no");
	ck_assert_ptr_null(next_line());
	log_info("yes");
	ck_assert_str_eq(next_line(), "foliod: yes\n");
	log_set_level(LOG_ERROR_LEVEL);
	log_info("no");
	log_warn("no");
	ck_assert_ptr_null(next_line());
	log_error("yes");
	ck_assert_str_eq(next_line(), "foliod: yes\n");
}
END_TEST

START_TEST(a_name_cannot_forge_a_line)
{
	log_info("export '%s'", "x\nfoliod: y\r\t\x1b[31m\x7f");
	ck_assert_str_eq(next_line(), "foliod: export "
			 "'x\\x0afoliod: y\\x0d\\x09\\x1b[31m\\x7f'\n");
	/* UTF-8 stays, but for the control characters in it. */
	log_info("%s", "caf\xc3\xa9 \xc2\x9b" "2J \xc2\xa9");
	ck_assert_str_eq(next_line(), "foliod: caf\xc3\xa9 \\xc2\\x9b"
			 "2J \xc2\xa9\n");
	/* Half a character at the end is no invitation to read on. */
	log_info("%s", "\xc2");
	ck_assert_str_eq(next_line(), "foliod: \xc2\n");
}
END_TEST

START_TEST(a_long_message_is_cut_at_1024_bytes)
{
	static const size_t prefix = sizeof("foliod: ") - 1;
	char text[5000];

	memset(text, 'x', sizeof(text));
	text[1024] = '\0';
	log_info("%s", text);
	ck_assert_uint_eq(strlen(next_line()), prefix + 1024 + 1);
	ck_assert_ptr_null(strstr(line, "."));

	text[1024] = 'x';
	text[1025] = '\0';
	log_info("%s", text);
	ck_assert_uint_eq(strlen(next_line()), prefix + 1024 + 1);
	ck_assert_str_eq(line + prefix + 1020, "x...\n");

	text[1025] = 'x';
	text[sizeof(text) - 1] = '\0';
	log_info("%s", text);
	ck_assert_uint_eq(strlen(next_line()), prefix + 1024 + 1);
	ck_assert_str_eq(line + prefix + 1020, "x...\n");
}
END_TEST

START_TEST(a_long_message_is_not_cut_within_an_escape)
{
	static const size_t prefix = sizeof("foliod: ") - 1;
	char text[1024], *end;

	/* All alignments of the cut to the four bytes of an escape. */
	for (size_t lead = 0; lead < 4; lead++) {
		memset(text, 1, sizeof(text));
		memset(text, 'x', lead);
		text[sizeof(text) - 1] = '\0';
		log_info("%s", text);
		ck_assert_ptr_nonnull(next_line());
		ck_assert_uint_le(strlen(line), prefix + 1024 + 1);
		ck_assert_uint_ge(strlen(line), prefix + 1024 + 1 - 3);
		end = line + strlen(line) - 4;
		ck_assert_str_eq(end, "...\n");
		ck_assert_uint_eq((size_t)(end - line - (long)prefix) % 4, lead);
		ck_assert_mem_eq(end - 4, "\\x01", 4);
	}
}
END_TEST

START_TEST(errno_survives)
{
	errno = ERANGE;
	log_info("x");
	ck_assert_int_eq(errno, ERANGE);
	close(STDERR_FILENO);
	errno = ERANGE;
	log_info("nobody reads this");
	ck_assert_int_eq(errno, ERANGE);
}
END_TEST

static void *log_many(void *arg)
{
	for (int i = 0; i < 100; i++)
		log_info("%s", (const char *)arg);
	return NULL;
}

START_TEST(lines_of_several_threads_do_not_mix)
{
	char long_one[] = "aaaaaaaaaaaaaaaaaaaaaaaa", short_one[] = "bbbb";
	pthread_t threads[2];
	int nr_a = 0, nr_b = 0;

	pthread_create(&threads[0], NULL, log_many, long_one);
	pthread_create(&threads[1], NULL, log_many, short_one);
	for (int i = 0; i < 200; i++) {
		ssize_t n = recv(reader, line, sizeof(line) - 1, 0);

		ck_assert_int_gt((int)n, 0);
		line[n] = '\0';
		nr_a += !strcmp(line, "foliod: aaaaaaaaaaaaaaaaaaaaaaaa\n");
		nr_b += !strcmp(line, "foliod: bbbb\n");
	}
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	ck_assert_int_eq(nr_a, 100);
	ck_assert_int_eq(nr_b, 100);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("log");
	TCase *tc = tcase_create("log");
	SRunner *runner;
	int nr_failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, each_level_has_its_prefix);
	tcase_add_test(tc,
		       a_sink_gets_messages_instead_without_prefix_and_newline);
	tcase_add_test(tc, messages_above_the_level_are_dropped);
	tcase_add_test(tc, a_name_cannot_forge_a_line);
	tcase_add_test(tc, a_long_message_is_cut_at_1024_bytes);
	tcase_add_test(tc, a_long_message_is_not_cut_within_an_escape);
	tcase_add_test(tc, errno_survives);
	tcase_add_test(tc, lines_of_several_threads_do_not_mix);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	nr_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return nr_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
