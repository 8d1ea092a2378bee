/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_listen.c - listening sockets, their URIs, who holds a port, and the
 * limits of the machine: listen.h, uri.h, holder.h, limits.h.
 */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/base.h"
#include "base/limits.h"
#include "cache/cache.h"
#include "server/holder.h"
#include "server/listen.h"
#include "server/uri.h"

static char dir[64];
static char sock_path[96];
static char *error;
static struct listeners set, other;

static void setup(void)
{
	snprintf(dir, sizeof(dir), "/tmp/check_listen.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chdir(dir), 0);
	snprintf(sock_path, sizeof(sock_path), "%s/sock", dir);
}

static void teardown(void)
{
	listeners_close(&set);
	listeners_close(&other);
	free(error);
	error = NULL;
	ck_assert_int_eq(chdir("/"), 0);
	/* All that a test left has been removed by then. */
	ck_assert_int_eq(rmdir(dir), 0);
}

static int open_one(struct listeners *to, struct listen_option opt)
{
	return listeners_open(to, &opt, 1, &error);
}

static struct listen_option tcp(const char *host, int port)
{
	return (struct listen_option) { .kind = LISTEN_TCP,
					.host = (char *)host, .port = port };
}

static struct listen_option unix_at(const char *path)
{
	return (struct listen_option) { .kind = LISTEN_UNIX,
					.path = (char *)path };
}

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static bool can_connect_unix(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), ret;

	strcpy(addr.sun_path, path);
	ret = connect(fd, (struct sockaddr *)&addr, sizeof(addr));
	close(fd);
	return ret == 0;
}

static bool can_connect_tcp(uint16_t port)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), ret;

	ret = connect(fd, (struct sockaddr *)&addr, sizeof(addr));
	close(fd);
	return ret == 0;
}

static void check_error(const char *text)
{
	ck_assert_ptr_nonnull(error);
	ck_assert_msg(strstr(error, text), "'%s' is not in: %s", text, error);
}

/* ---- TCP ---- */

START_TEST(port_0_becomes_the_port_that_was_picked)
{
	ck_assert_int_eq(open_one(&set, tcp("127.0.0.1", 0)), 0);
	ck_assert_uint_eq(set.nr, 1);
	ck_assert_uint_ne(set.list[0].port, 0);
	ck_assert_str_eq(set.list[0].host, "127.0.0.1");
	ck_assert(!set.list[0].open);
	ck_assert(can_connect_tcp(set.list[0].port));
}
END_TEST

START_TEST(loopback_has_one_port_on_all_its_addresses)
{
	struct listen_option opt = { .kind = LISTEN_LOOPBACK };

	ck_assert_int_eq(open_one(&set, opt), 0);
	ck_assert_uint_ge(set.nr, 1);
	for (unsigned int i = 0; i < set.nr; i++) {
		ck_assert_uint_eq(set.list[i].port, set.list[0].port);
		ck_assert(!set.list[i].open);
	}
}
END_TEST

START_TEST(an_address_for_everybody_is_told_apart)
{
	ck_assert_int_eq(open_one(&set, tcp("0.0.0.0", 0)), 0);
	ck_assert(set.list[0].open);
	listeners_close(&set);
	ck_assert_int_eq(open_one(&set, tcp("127.1.2.3", 0)), 0);
	ck_assert(!set.list[0].open);
}
END_TEST

START_TEST(a_held_port_is_an_error_that_names_the_holder)
{
	char by[64];

	ck_assert_int_eq(open_one(&set, tcp("127.0.0.1", 0)), 0);
	ck_assert_int_eq(open_one(&other,
				  tcp("127.0.0.1", set.list[0].port)),
			 -EADDRINUSE);
	ck_assert_uint_eq(other.nr, 0);
	check_error("127.0.0.1 port");
	snprintf(by, sizeof(by), "in use by pid %d (", (int)getpid());
	check_error(by);
	check_error("--port");
}
END_TEST

START_TEST(an_address_that_is_not_ours_is_an_error)
{
	/* Reserved for documentation. */
	ck_assert_int_eq(open_one(&set, tcp("192.0.2.1", 0)), -EADDRNOTAVAIL);
	check_error("192.0.2.1");
	check_error("no such address");
}
END_TEST

START_TEST(a_name_that_is_none_is_an_error)
{
	ck_assert_int_lt(open_one(&set, tcp("no such host", 0)), 0);
	check_error("no such host");
}
END_TEST

START_TEST(one_bad_listener_closes_the_others)
{
	struct listen_option opts[] = { unix_at(sock_path),
					tcp("192.0.2.1", 0) };

	ck_assert_int_eq(listeners_open(&set, opts, 2, &error),
			 -EADDRNOTAVAIL);
	ck_assert_uint_eq(set.nr, 0);
	ck_assert(!exists(sock_path));
}
END_TEST

START_TEST(a_port_that_nobody_holds_has_no_holder)
{
	uint16_t port;
	char buf[64];

	ck_assert_int_eq(open_one(&set, tcp("127.0.0.1", 0)), 0);
	port = set.list[0].port;
	ck_assert_int_eq(holder_of_port(AF_INET, port), getpid());
	listeners_close(&set);
	ck_assert_int_eq(holder_of_port(AF_INET, port), 0);
	ck_assert_str_eq(holder_to_text(0, buf, sizeof(buf)), "");
}
END_TEST

/* ---- unix ---- */

START_TEST(a_unix_socket_is_removed_at_the_end)
{
	ck_assert_int_eq(open_one(&set, unix_at(sock_path)), 0);
	ck_assert(can_connect_unix(sock_path));
	listeners_close(&set);
	ck_assert(!exists(sock_path));
}
END_TEST

START_TEST(a_relative_path_is_absolute_from_then_on)
{
	ck_assert_int_eq(open_one(&set, unix_at("sock")), 0);
	ck_assert_str_eq(set.list[0].path, sock_path);
	ck_assert_int_eq(chdir("/"), 0);
	listeners_close(&set);
	ck_assert(!exists(sock_path));
}
END_TEST

START_TEST(a_socket_that_nobody_listens_on_is_replaced)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(addr.sun_path, sock_path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	ck_assert(exists(sock_path));
	ck_assert_int_eq(open_one(&set, unix_at(sock_path)), 0);
	ck_assert(can_connect_unix(sock_path));
}
END_TEST

START_TEST(a_socket_that_somebody_listens_on_stays)
{
	char by[64];

	ck_assert_int_eq(open_one(&set, unix_at(sock_path)), 0);
	ck_assert_int_eq(open_one(&other, unix_at(sock_path)), -EADDRINUSE);
	check_error(sock_path);
	snprintf(by, sizeof(by), "in use by pid %d (", (int)getpid());
	check_error(by);
	ck_assert(can_connect_unix(sock_path));
}
END_TEST

START_TEST(a_file_that_is_no_socket_stays)
{
	int fd = open(sock_path, O_CREAT | O_WRONLY, 0600);

	close(fd);
	ck_assert_int_eq(open_one(&set, unix_at(sock_path)), -EEXIST);
	check_error("not a socket");
	ck_assert(exists(sock_path));
	unlink(sock_path);
	/* Nor is a link followed to one. */
	ck_assert_int_eq(symlink("nowhere", sock_path), 0);
	ck_assert_int_eq(open_one(&set, unix_at(sock_path)), -EEXIST);
	unlink(sock_path);
}
END_TEST

START_TEST(a_socket_that_took_our_place_stays)
{
	ck_assert_int_eq(open_one(&set, unix_at(sock_path)), 0);
	unlink(sock_path);
	ck_assert_int_eq(open_one(&other, unix_at(sock_path)), 0);
	listeners_close(&set);
	ck_assert(can_connect_unix(sock_path));
}
END_TEST

START_TEST(a_missing_directory_is_named)
{
	ck_assert_int_eq(open_one(&set, unix_at("no/sock")), -ENOENT);
	check_error("no/sock");
	check_error("directory");
}
END_TEST

START_TEST(a_private_socket_has_a_directory_that_goes_with_it)
{
	struct listen_option opt = { .kind = LISTEN_PRIVATE };
	struct stat st;
	char *copy;

	setenv("TMPDIR", dir, 1);
	ck_assert_int_eq(open_one(&set, opt), 0);
	ck_assert_int_eq(strncmp(set.list[0].path, dir, strlen(dir)), 0);
	ck_assert_int_eq(stat(set.list[0].private_dir, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0700);
	ck_assert(can_connect_unix(set.list[0].path));
	copy = strdup(set.list[0].private_dir);
	listeners_close(&set);
	ck_assert(!exists(copy));
	free(copy);
}
END_TEST

/* ---- uri.h ---- */

START_TEST(uris_are_what_clients_take)
{
	static const struct {
		const char *host, *path, *name, *uri;
		uint16_t port;
	} cases[] = {
		{ "127.0.0.1", NULL, "", "nbd://127.0.0.1:10809/", 10809 },
		{ "::1", NULL, "a/b", "nbd://[::1]:1/a/b", 1 },
		{ "h", NULL, "a b%", "nbd://h:2/a%20b%25", 2 },
		{ NULL, "/run/s", "", "nbd+unix:///?socket=/run/s", 0 },
		{ NULL, "/a b&c?#+", "x?y",
		  "nbd+unix:///x%3Fy?socket=/a%20b%26c%3F%23%2B", 0 },
		{ NULL, "/\xc3\xa4~._-", "",
		  "nbd+unix:///?socket=/%C3%A4~._-", 0 },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		char *uri = cases[i].path ?
			uri_unix(cases[i].path, cases[i].name) :
			uri_tcp(cases[i].host, cases[i].port, cases[i].name);

		ck_assert_str_eq(uri, cases[i].uri);
		free(uri);
	}
}
END_TEST

/* ---- sockets of other kinds ---- */

START_TEST(an_abstract_socket_has_no_file_and_names_its_holder)
{
	char name[64], by[64];
	char *uri;

	snprintf(name, sizeof(name), "@check_listen %d", (int)getpid());
	ck_assert_int_eq(open_one(&set, unix_at(name)), 0);
	ck_assert(!exists(name));
	ck_assert_str_eq(set.list[0].path, name);
	uri = listener_uri(&set.list[0], "x");
	snprintf(by, sizeof(by), "nbd+unix:///x?socket=%%40check_listen%%20%d",
		 (int)getpid());
	ck_assert_str_eq(uri, by);
	free(uri);
	ck_assert_int_eq(open_one(&other, unix_at(name)), -EADDRINUSE);
	check_error(name);
	snprintf(by, sizeof(by), "in use by pid %d (", (int)getpid());
	check_error(by);
	listeners_close(&set);
	ck_assert_int_eq(open_one(&set, unix_at(name)), 0);
}
END_TEST

/* A listener of ours, as one that came open; its file, if any, stays. */
static void pass_on(struct listen_option opt)
{
	struct listen_option passed = { .kind = LISTEN_FD };
	char name[] = "a name";
	char *uris[2];

	ck_assert_int_eq(open_one(&set, opt), 0);
	passed.fd = dup(set.list[0].fd);
	passed.fd_name = name;
	ck_assert_int_eq(open_one(&other, passed), 0);
	ck_assert_uint_eq(other.nr, 1);
	ck_assert_int_eq(other.list[0].family, set.list[0].family);
	ck_assert_int_eq(other.list[0].open, set.list[0].open);
	ck_assert_str_eq(other.list[0].fd_name, name);
	ck_assert_int_ne(fcntl(passed.fd, F_GETFD) & FD_CLOEXEC, 0);
	uris[0] = listener_uri(&set.list[0], "e");
	uris[1] = listener_uri(&other.list[0], "e");
	ck_assert_str_eq(uris[0], uris[1]);
	free(uris[0]);
	free(uris[1]);
	listeners_close(&other);
	if (opt.kind == LISTEN_UNIX && opt.path[0] != '@')
		ck_assert(exists(opt.path));
	listeners_close(&set);
}

START_TEST(a_socket_that_came_open_is_described_as_our_own)
{
	char name[64];

	snprintf(name, sizeof(name), "@check_listen %d", (int)getpid());
	pass_on(tcp("127.0.0.1", 0));
	pass_on(tcp("0.0.0.0", 0));
	pass_on(unix_at(sock_path));
	pass_on(unix_at(name));
	ck_assert_int_eq(open_one(&set, (struct listen_option) {
					.kind = LISTEN_FD, .fd = 9999 }),
			 -EBADF);
	check_error("descriptor 9999");
}
END_TEST

START_TEST(vsock_is_described_or_said_to_be_missing)
{
	struct listen_option opt = {
		.kind = LISTEN_VSOCK, .cid = UINT32_MAX,
	};
	int ret = open_one(&set, opt);
	char expected[64], *uri;

	if (ret) {
		check_error("vsock port 0");
		return;
	}
	ck_assert_uint_ne(set.list[0].vsock_port, 0);
	/* libnbd takes no more. */
	ck_assert_uint_le(set.list[0].vsock_port, INT32_MAX);
	ck_assert_uint_ne(set.list[0].cid, UINT32_MAX);
	ck_assert(set.list[0].open);
	snprintf(expected, sizeof(expected), "nbd+vsock://%u:%u/a%%20b",
		 set.list[0].cid, set.list[0].vsock_port);
	uri = listener_uri(&set.list[0], "a b");
	ck_assert_str_eq(uri, expected);
	free(uri);
	opt.vsock_port = set.list[0].vsock_port;
	ck_assert_int_eq(open_one(&other, opt), -EADDRINUSE);
	check_error("in use");
	/* A context id that no machine has. */
	opt.cid = UINT32_MAX - 7;
	ck_assert_int_eq(open_one(&other, opt), -EADDRNOTAVAIL);
	check_error("no such context id");
}
END_TEST

START_TEST(a_listener_has_the_uri_of_its_kind)
{
	char *uri, expected[160];

	ck_assert_int_eq(open_one(&set, tcp("127.0.0.1", 0)), 0);
	uri = listener_uri(&set.list[0], "x");
	snprintf(expected, sizeof(expected), "nbd://127.0.0.1:%u/x",
		 set.list[0].port);
	ck_assert_str_eq(uri, expected);
	free(uri);
	ck_assert_int_eq(open_one(&other, unix_at(sock_path)), 0);
	uri = listener_uri(&other.list[0], "");
	snprintf(expected, sizeof(expected), "nbd+unix:///?socket=%s",
		 sock_path);
	ck_assert_str_eq(uri, expected);
	free(uri);
}
END_TEST

/* ---- limits.h ---- */

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	ck_assert_ptr_nonnull(file);
	fputs(text, file);
	fclose(file);
}

START_TEST(the_least_limit_of_a_group_and_those_above_it_counts)
{
	ck_assert_int_eq(mkdir("a", 0700) | mkdir("a/b", 0700), 0);
	ck_assert_uint_eq(limits_of_cgroup(dir, "/a/b", "max"), UINT64_MAX);
	write_file("a/b/max", "max\n");
	ck_assert_uint_eq(limits_of_cgroup(dir, "/a/b", "max"), UINT64_MAX);
	write_file("a/max", "1000000\n");
	ck_assert_uint_eq(limits_of_cgroup(dir, "/a/b", "max"), 1000000);
	write_file("a/b/max", "2000000\n");
	ck_assert_uint_eq(limits_of_cgroup(dir, "/a/b", "max"), 1000000);
	write_file("max", "500000\n");
	ck_assert_uint_eq(limits_of_cgroup(dir, "/a/b", "max"), 500000);
	ck_assert_uint_eq(limits_of_cgroup(dir, "/", "max"), 500000);
	write_file("a/b/max", "3000\n");
	ck_assert_uint_eq(limits_of_cgroup(dir, "/a/b", "max"), 3000);
	ck_assert_uint_eq(limits_of_cgroup(dir, "/no/where", "max"), 500000);
	unlink("a/b/max");
	unlink("a/max");
	unlink("max");
	ck_assert_int_eq(rmdir("a/b") | rmdir("a"), 0);
}
END_TEST

START_TEST(the_default_cache_is_a_quarter_of_memory_within_bounds)
{
	const uint64_t mib = 1 << 20, gib = 1 << 30;

	ck_assert_uint_eq(cache_default_size(8 * gib, 2), 2 * gib);
	ck_assert_uint_eq(cache_default_size(64 * gib, 2), 4 * gib);
	ck_assert_uint_eq(cache_default_size(32 * mib, 2), 16 * mib);
	ck_assert_uint_eq(cache_default_size(128 * mib, 16), 64 * mib);
}
END_TEST

START_TEST(the_machine_has_memory_a_processor_and_descriptors)
{
	ck_assert_uint_ge(limits_cpus(), 1);
	ck_assert_uint_ge(limits_memory(), 1 << 20);
	ck_assert_uint_ge(limits_raise(), 64);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("listen");
	TCase *tcp_case = tcase_create("tcp");
	TCase *unix_case = tcase_create("unix");
	TCase *others = tcase_create("others");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tcp_case, setup, teardown);
	tcase_add_test(tcp_case, port_0_becomes_the_port_that_was_picked);
	tcase_add_test(tcp_case, loopback_has_one_port_on_all_its_addresses);
	tcase_add_test(tcp_case, an_address_for_everybody_is_told_apart);
	tcase_add_test(tcp_case, a_held_port_is_an_error_that_names_the_holder);
	tcase_add_test(tcp_case, an_address_that_is_not_ours_is_an_error);
	tcase_add_test(tcp_case, a_name_that_is_none_is_an_error);
	tcase_add_test(tcp_case, one_bad_listener_closes_the_others);
	tcase_add_test(tcp_case, a_port_that_nobody_holds_has_no_holder);
	suite_add_tcase(suite, tcp_case);

	tcase_add_checked_fixture(unix_case, setup, teardown);
	tcase_add_test(unix_case, a_unix_socket_is_removed_at_the_end);
	tcase_add_test(unix_case, a_relative_path_is_absolute_from_then_on);
	tcase_add_test(unix_case, a_socket_that_nobody_listens_on_is_replaced);
	tcase_add_test(unix_case, a_socket_that_somebody_listens_on_stays);
	tcase_add_test(unix_case, a_file_that_is_no_socket_stays);
	tcase_add_test(unix_case, a_socket_that_took_our_place_stays);
	tcase_add_test(unix_case, a_missing_directory_is_named);
	tcase_add_test(unix_case, a_private_socket_has_a_directory_that_goes_with_it);
	suite_add_tcase(suite, unix_case);

	tcase_add_checked_fixture(others, setup, teardown);
	tcase_add_test(others, uris_are_what_clients_take);
	tcase_add_test(others, an_abstract_socket_has_no_file_and_names_its_holder);
	tcase_add_test(others, a_socket_that_came_open_is_described_as_our_own);
	tcase_add_test(others, vsock_is_described_or_said_to_be_missing);
	tcase_add_test(others, a_listener_has_the_uri_of_its_kind);
	tcase_add_test(others, the_least_limit_of_a_group_and_those_above_it_counts);
	tcase_add_test(others, the_default_cache_is_a_quarter_of_memory_within_bounds);
	tcase_add_test(others, the_machine_has_memory_a_processor_and_descriptors);
	suite_add_tcase(suite, others);

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
