/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_options.c - the command line: options.h, suggest.h.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "base/suggest.h"
#include "server/export.h"
#include "server/options.h"

#define ARGS_MAX	16

static struct options opt;

static int parse_args(const char *const *args)
{
	char *argv[ARGS_MAX + 2] = { (char *)"foliod" };
	int argc = 1;

	while (args[argc - 1]) {
		ck_assert_int_lt(argc, ARGS_MAX);
		argv[argc] = (char *)args[argc - 1];
		argc++;
	}
	return options_parse(&opt, argc, argv);
}

#define ARGS(...)	((const char *const []) { __VA_ARGS__, NULL })

static void check_parses(const char *const *args)
{
	int ret = parse_args(args);

	ck_assert_msg(ret == 0, "%s: %d: %s", args[0] ? args[0] : "", ret,
		      opt.error ? opt.error : "(no message)");
	ck_assert_ptr_null(opt.error);
}
#define PARSES(...)	check_parses(ARGS(__VA_ARGS__))

/* Fails with a line that has all of @texts. */
static void check_fails(const char *const *texts, const char *const *args)
{
	int ret = parse_args(args);

	ck_assert_int_eq(ret, -EINVAL);
	ck_assert_ptr_nonnull(opt.error);
	for (; *texts; texts++)
		ck_assert_msg(strstr(opt.error, *texts), "'%s' is not in: %s",
			      *texts, opt.error);
	ck_assert_ptr_null(strchr(opt.error, '\n'));
	options_fini(&opt);
}
#define FAILS(texts, ...)	check_fails(texts, ARGS(__VA_ARGS__))
#define SAYS(...)		ARGS(__VA_ARGS__)

static void check_export(unsigned int i, const char *name, const char *path)
{
	ck_assert_uint_lt(i, opt.nr_exports);
	ck_assert_str_eq(opt.exports[i].name, name);
	ck_assert_str_eq(opt.exports[i].path, path);
}

static void teardown(void)
{
	options_fini(&opt);
}

/* ---- exports ---- */

START_TEST(one_bare_path_answers_to_the_empty_name_and_to_its_base_name)
{
	PARSES("/dev/vg/root");
	ck_assert_uint_eq(opt.nr_exports, 1);
	check_export(0, "root", "/dev/vg/root");
	ck_assert_int_eq(opt.default_export, 0);
	ck_assert_int_eq(opt.exports[0].mode, VOLUME_WRITEBACK);
	ck_assert(!opt.exports[0].read_only);
	ck_assert_uint_eq(opt.exports[0].block_min, 0);
	ck_assert_ptr_null(opt.exports[0].description);
}
END_TEST

START_TEST(the_base_name_is_what_follows_the_last_slash)
{
	static const struct {
		const char *path, *name;
	} cases[] = {
		{ "disk", "disk" }, { "./disk", "disk" }, { "a/b/c", "c" },
		{ "a/b//", "b" }, { "/", "" }, { "///", "" }, { "-", "-" },
		{ "x@y", "x@y" }, { "a b", "a b" },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		PARSES("--", cases[i].path);
		check_export(0, cases[i].name, cases[i].path);
		options_fini(&opt);
	}
}
END_TEST

START_TEST(an_argument_is_name_and_path_only_if_the_name_is_well_formed)
{
	static const struct {
		const char *arg, *name, *path;
	} cases[] = {
		{ "a=b", "a", "b" },
		{ "9=b", "9", "b" },
		{ "A.b_c-9=/x=y", "A.b_c-9", "/x=y" },
		{ "=b", "", "b" },
		{ "==b", "", "=b" },
		{ "./a=b", "a=b", "./a=b" },
		{ "_a=b", "_a=b", "_a=b" },
		{ ".a=b", ".a=b", ".a=b" },
		{ "a/b=c", "b=c", "a/b=c" },
		{ "a b=c", "a b=c", "a b=c" },
		{ "a,b=c", "a,b=c", "a,b=c" },
		{ "\xc3\xa4=c", "\xc3\xa4=c", "\xc3\xa4=c" },
		{ "a@b=c", "a@b=c", "a@b=c" },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		PARSES(cases[i].arg);
		check_export(0, cases[i].name, cases[i].path);
		options_fini(&opt);
	}
}
END_TEST

START_TEST(a_named_path_does_not_answer_to_the_empty_name)
{
	PARSES("vol=disk");
	check_export(0, "vol", "disk");
	ck_assert_int_eq(opt.default_export, -1);
}
END_TEST

START_TEST(among_several_exports_the_empty_name_is_unknown)
{
	PARSES("a", "dir/b");
	check_export(0, "a", "a");
	check_export(1, "b", "dir/b");
	ck_assert_int_eq(opt.default_export, -1);
	options_fini(&opt);
	PARSES("a", "--export", "name=b,path=b");
	ck_assert_int_eq(opt.default_export, -1);
}
END_TEST

START_TEST(a_path_without_a_name_answers_to_the_empty_name)
{
	PARSES("a=x", "=y");
	check_export(1, "", "y");
	ck_assert_int_eq(opt.default_export, 1);
	options_fini(&opt);
	PARSES("=y");
	ck_assert_int_eq(opt.default_export, 0);
	options_fini(&opt);
	PARSES("a=x", "--export=name=,path=y");
	ck_assert_int_eq(opt.default_export, 1);
}
END_TEST

START_TEST(default_export_names_what_answers_to_the_empty_name)
{
	PARSES("--default-export", "b", "a=x", "b=y");
	ck_assert_int_eq(opt.default_export, 1);
	options_fini(&opt);
	PARSES("dir/base", "--default-export=base");
	ck_assert_int_eq(opt.default_export, 0);
	options_fini(&opt);
	FAILS(SAYS("--default-export", "'alhpa'", "did you mean 'alpha'?"),
	      "--default-export", "alhpa", "alpha=x", "beta=y");
	FAILS(SAYS("--default-export a", " y "), "--default-export=a", "a=x",
	      "=y");
	FAILS(SAYS("''"), "--default-export=", "a=x");
}
END_TEST

START_TEST(duplicate_names_are_errors_that_name_both_paths)
{
	FAILS(SAYS("'a'", "x", "y", "NAME=PATH"), "a=x", "b=z", "a=y");
	FAILS(SAYS("'disk'", "one/disk", "two/disk"), "one/disk", "two/disk");
	FAILS(SAYS("'a'"), "a", "--export", "path=b,name=a");
	FAILS(SAYS("''"), "=x", "=y");
}
END_TEST

START_TEST(nothing_to_serve_is_an_error)
{
	FAILS(SAYS("nothing to serve", "--help"), "-r");
	FAILS(SAYS("'a='", "empty"), "a=");
	FAILS(SAYS("'='", "empty"), "=");
	FAILS(SAYS("empty"), "");
}
END_TEST

START_TEST(export_takes_all_its_keys)
{
	PARSES("--export", "name=n,path=/p,mode=none,read-only,"
	       "description=Some text = more,block-size=4k,"
	       "uuid=6F9619ff-8b86-4d01-b42d-00c04fc964ff");
	check_export(0, "n", "/p");
	ck_assert_int_eq(opt.exports[0].mode, VOLUME_NONE);
	ck_assert(opt.exports[0].read_only);
	ck_assert_str_eq(opt.exports[0].description, "Some text = more");
	ck_assert_uint_eq(opt.exports[0].block_min, 4096);
	ck_assert_str_eq(opt.exports[0].uuid,
			 "6f9619ff-8b86-4d01-b42d-00c04fc964ff");
	ck_assert_int_eq(opt.default_export, -1);
}
END_TEST

START_TEST(allow_is_for_exports_without_a_list_wherever_it_stands)
{
	PARSES("--allow", "uid:1", "a", "--export",
	       "name=b,path=b,allow=uid:2,read-only,allow=::1,allow=uid:3",
	       "--allow=192.0.2.0/24");
	ck_assert_uint_eq(opt.exports[0].access.nr, 2);
	ck_assert_int_eq(opt.exports[0].access.rules[0].kind, ACCESS_UID);
	ck_assert_uint_eq(opt.exports[0].access.rules[0].id, 1);
	ck_assert_int_eq(opt.exports[0].access.rules[1].kind, ACCESS_V4);
	ck_assert_uint_eq(opt.exports[1].access.nr, 3);
	ck_assert_uint_eq(opt.exports[1].access.rules[0].id, 2);
	ck_assert_uint_eq(opt.exports[1].access.rules[2].id, 3);
	options_fini(&opt);
	PARSES("a");
	ck_assert_uint_eq(opt.exports[0].access.nr, 0);
	options_fini(&opt);
	FAILS(SAYS("--export: allow: 'x' is not uid:N"),
	      "--export=name=a,path=b,allow=uid:1,allow=x");
	FAILS(SAYS("'allow'", "needs a value"), "--export=name=a,path=b,allow");
	FAILS(SAYS("--allow: '' is not"), "--allow=", "x");
}
END_TEST

START_TEST(the_caps_on_connections_are_read)
{
	PARSES("--max-connections", "5", "--max-connections-per-peer=2", "x");
	ck_assert_uint_eq(opt.max_conns, 5);
	ck_assert_uint_eq(opt.max_conns_per_peer, 2);
	options_fini(&opt);
	PARSES("x");
	ck_assert_uint_eq(opt.max_conns, 0);
	ck_assert_uint_eq(opt.max_conns_per_peer, 0);
	options_fini(&opt);
	FAILS(SAYS("--max-connections:", "'0'"), "--max-connections", "0", "x");
	FAILS(SAYS("--max-connections-per-peer:", "'-1'"),
	      "--max-connections-per-peer=-1", "x");
	FAILS(SAYS("'4294967297'"), "--max-connections=4294967297", "x");
}
END_TEST

START_TEST(two_commas_in_an_export_are_one)
{
	PARSES("--export=name=a,,b,path=c,,,,d,description=,,");
	check_export(0, "a,b", "c,,d");
	ck_assert_str_eq(opt.exports[0].description, ",");
	options_fini(&opt);
	/* Three: one of the value, and the end of the item. */
	PARSES("--export=name=a,,,path=b");
	check_export(0, "a,", "b");
}
END_TEST

START_TEST(what_is_wrong_in_an_export_is_named)
{
	static char long_name[EXPORT_NAME_MAX + 32];

	FAILS(SAYS("'path'", "needs a value"), "--export=name=a,path");
	FAILS(SAYS("no path=PATH", "name=a"), "--export=name=a");
	FAILS(SAYS("no name=NAME"), "--export=path=a");
	FAILS(SAYS("path= is empty"), "--export=name=a,path=");
	FAILS(SAYS("'pth'", "did you mean 'path'?", "block-size"),
	      "--export=name=a,pth=b");
	FAILS(SAYS("'readonly'", "did you mean 'read-only'?"),
	      "--export=name=a,path=b,readonly");
	FAILS(SAYS("'xyzzy'", "the keys are"), "--export=name=a,xyzzy=1");
	FAILS(SAYS("'name'", "twice"), "--export=name=a,path=b,name=c");
	FAILS(SAYS("read-only takes no value", "=yes"),
	      "--export=name=a,path=b,read-only=yes");
	FAILS(SAYS("',,'"), "--export=name=a,path=b,");
	FAILS(SAYS("',,'"), "--export=");
	FAILS(SAYS("'wrong'", "writeback"), "--export=name=a,path=b,mode=wrong");
	FAILS(SAYS("'a@b'", "'@'"), "--export=name=a@b,path=c");
	FAILS(SAYS("'12'", "no UUID"), "--export=name=a,path=b,uuid=12");
	FAILS(SAYS("'a'", "'c'", "same uuid"), "--export=name=a,path=b,uuid="
	      "6f9619ff-8b86-4d01-b42d-00c04fc964ff",
	      "--export=name=c,path=d,uuid="
	      "6F9619FF-8b86-4d01-b42d-00c04fc964ff");
	snprintf(long_name, sizeof(long_name), "--export=path=x,name=%*d",
		 EXPORT_NAME_MAX + 1, 7);
	FAILS(SAYS("longer than 4096 bytes"), long_name);
	long_name[strlen(long_name) - 1] = '\0';
	PARSES(long_name);
}
END_TEST

START_TEST(a_minimum_block_size_is_a_power_of_two_up_to_64k)
{
	static const char *const bad[] = {
		"--export=name=a,path=b,block-size=0",
		"--export=name=a,path=b,block-size=3",
		"--export=name=a,path=b,block-size=128k",
		"--export=name=a,path=b,block-size=x",
		"--export=name=a,path=b,block-size=",
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		FAILS(SAYS("block-size=", "power of two"), bad[i]);
	PARSES("--export=name=a,path=b,block-size=1");
	ck_assert_uint_eq(opt.exports[0].block_min, 1);
	options_fini(&opt);
	PARSES("--export=name=a,path=b,block-size=64KiB");
	ck_assert_uint_eq(opt.exports[0].block_min, 65536);
}
END_TEST

START_TEST(mode_and_read_only_are_defaults_wherever_they_stand)
{
	PARSES("a=x", "--export=name=b,path=y,mode=unsafe", "-m", "writeout",
	       "-r");
	ck_assert_int_eq(opt.exports[0].mode, VOLUME_WRITEOUT);
	ck_assert_int_eq(opt.exports[1].mode, VOLUME_UNSAFE);
	ck_assert(opt.exports[0].read_only);
	ck_assert(opt.exports[1].read_only);
	options_fini(&opt);
	PARSES("a=x", "--export=name=b,path=y,read-only");
	ck_assert(!opt.exports[0].read_only);
	ck_assert(opt.exports[1].read_only);
}
END_TEST

START_TEST(all_six_modes_have_their_names)
{
	static const struct {
		const char *name;
		enum volume_mode mode;
	} modes[] = {
		{ "writeback", VOLUME_WRITEBACK },
		{ "writethrough", VOLUME_WRITETHROUGH },
		{ "writeout", VOLUME_WRITEOUT },
		{ "none", VOLUME_NONE },
		{ "directsync", VOLUME_DIRECTSYNC },
		{ "unsafe", VOLUME_UNSAFE },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(modes); i++) {
		PARSES("--mode", modes[i].name, "x");
		ck_assert_int_eq(opt.exports[0].mode, modes[i].mode);
		ck_assert_str_eq(volume_mode_to_text(modes[i].mode),
				 modes[i].name);
		options_fini(&opt);
	}
	FAILS(SAYS("-m", "'writebak'", "did you mean 'writeback'?"), "-m",
	      "writebak", "x");
	FAILS(SAYS("--mode", "'NONE'", "directsync"), "--mode=NONE", "x");
}
END_TEST

/* ---- listeners ---- */

static void check_tcp(unsigned int i, const char *host, int port)
{
	ck_assert_uint_lt(i, opt.nr_listens);
	ck_assert_int_eq(opt.listens[i].kind, LISTEN_TCP);
	ck_assert_str_eq(opt.listens[i].host, host);
	ck_assert_int_eq(opt.listens[i].port, port);
}

START_TEST(without_a_listener_it_is_port_10809_on_loopback)
{
	PARSES("x");
	ck_assert_uint_eq(opt.nr_listens, 1);
	ck_assert_int_eq(opt.listens[0].kind, LISTEN_LOOPBACK);
	ck_assert_int_eq(opt.listens[0].port, 10809);
}
END_TEST

START_TEST(a_port_alone_is_on_loopback)
{
	PARSES("-p", "0", "x");
	ck_assert_uint_eq(opt.nr_listens, 1);
	ck_assert_int_eq(opt.listens[0].kind, LISTEN_LOOPBACK);
	ck_assert_int_eq(opt.listens[0].port, 0);
	options_fini(&opt);
	PARSES("-U", "s", "-p", "1", "x");
	ck_assert_uint_eq(opt.nr_listens, 2);
	ck_assert_int_eq(opt.listens[0].kind, LISTEN_UNIX);
	ck_assert_int_eq(opt.listens[1].kind, LISTEN_LOOPBACK);
	options_fini(&opt);
	PARSES("--run", "cmd", "-p", "1", "x");
	ck_assert_uint_eq(opt.nr_listens, 1);
	ck_assert_int_eq(opt.listens[0].kind, LISTEN_LOOPBACK);
}
END_TEST

START_TEST(run_without_a_listener_gets_a_private_socket)
{
	PARSES("--run", "cmd $uri", "x");
	ck_assert_int_eq(opt.style, RUN_COMMAND);
	ck_assert_str_eq(opt.command, "cmd $uri");
	ck_assert_uint_eq(opt.nr_listens, 1);
	ck_assert_int_eq(opt.listens[0].kind, LISTEN_PRIVATE);
}
END_TEST

START_TEST(bind_takes_names_addresses_and_ports)
{
	PARSES("-b", "host", "-b", "1.2.3.4:5", "-b", "[::1]:6", "-b", "[::]",
	       "-b", "fe80::1", "--bind=h:0", "x");
	ck_assert_uint_eq(opt.nr_listens, 6);
	check_tcp(0, "host", 10809);
	check_tcp(1, "1.2.3.4", 5);
	check_tcp(2, "::1", 6);
	check_tcp(3, "::", 10809);
	check_tcp(4, "fe80::1", 10809);
	check_tcp(5, "h", 0);
}
END_TEST

START_TEST(the_port_option_is_the_default_of_bind_wherever_it_stands)
{
	PARSES("-b", "a", "-p", "7", "-b", "b:8", "x");
	ck_assert_uint_eq(opt.nr_listens, 2);
	check_tcp(0, "a", 7);
	check_tcp(1, "b", 8);
}
END_TEST

START_TEST(bad_ports_and_hosts_are_named)
{
	static const char *const ports[] = { "65536", "-1", "", "x", "1x",
					     " 1", "0x10", "1.5" };

	for (unsigned int i = 0; i < ARRAY_SIZE(ports); i++)
		FAILS(SAYS("--port", ports[i], "TCP port"), "--port", ports[i],
		      "x");
	FAILS(SAYS("-b", "'70000'"), "-b", "host:70000", "x");
	FAILS(SAYS("-b", "''", "TCP port"), "-b", "host:", "x");
	FAILS(SAYS("-b", "'[::1'", "[::1]:10809"), "-b", "[::1", "x");
	FAILS(SAYS("-b", "'[::1]5'"), "-b", "[::1]5", "x");
	FAILS(SAYS("-b", "names no host", "0.0.0.0"), "-b", ":5", "x");
	FAILS(SAYS("-b", "names no host"), "-b", "", "x");
	FAILS(SAYS("-b", "names no host"), "-b", "[]:5", "x");
}
END_TEST

START_TEST(unix_takes_paths_and_a_dash)
{
	PARSES("-U", "a", "--unix=-", "-Ub", "x");
	ck_assert_uint_eq(opt.nr_listens, 3);
	ck_assert_int_eq(opt.listens[0].kind, LISTEN_UNIX);
	ck_assert_str_eq(opt.listens[0].path, "a");
	ck_assert_int_eq(opt.listens[1].kind, LISTEN_PRIVATE);
	ck_assert_str_eq(opt.listens[2].path, "b");
}
END_TEST

START_TEST(a_unix_path_that_no_socket_can_have_is_an_error)
{
	char path[109];

	memset(path, 'a', sizeof(path));
	path[108] = '\0';
	FAILS(SAYS("-U", path, "107 bytes"), "-U", path, "x");
	path[107] = '\0';
	PARSES("-U", path, "x");
	options_fini(&opt);
	FAILS(SAYS("--unix", "path"), "--unix=", "x");
}
END_TEST

START_TEST(vsock_takes_a_port_with_a_context_id_or_without)
{
	static const char *const bad[] = {
		"", ":", "1:", ":1", "x", "1:x", "x:1", "1:2:3", "-1", "1 ",
		"4294967295", "1:4294967295", "4294967296:1", "any:1",
		"00000000000000000001:1",
	};

	PARSES("--vsock", "10809", "--vsock=2:0", "--vsock", "4294967295:1",
	       "--vsock", "1:4294967294", "x");
	ck_assert_uint_eq(opt.nr_listens, 4);
	for (unsigned int i = 0; i < 4; i++)
		ck_assert_int_eq(opt.listens[i].kind, LISTEN_VSOCK);
	ck_assert_uint_eq(opt.listens[0].cid, UINT32_MAX);
	ck_assert_uint_eq(opt.listens[0].vsock_port, 10809);
	ck_assert_uint_eq(opt.listens[1].cid, 2);
	ck_assert_uint_eq(opt.listens[1].vsock_port, 0);
	ck_assert_uint_eq(opt.listens[2].cid, UINT32_MAX);
	ck_assert_uint_eq(opt.listens[3].vsock_port, 4294967294);
	options_fini(&opt);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		FAILS(SAYS("--vsock", bad[i], "[CID:]PORT"), "--vsock", bad[i],
		      "x");
	FAILS(SAYS("--single", "--vsock"), "-s", "--vsock", "1", "x");
}
END_TEST

START_TEST(fd_takes_a_descriptor_once)
{
	static const char *const bad[] = { "", "x", "-1", "2147483648", "3," };

	PARSES("--fd", "3", "--fd=0", "x");
	ck_assert_uint_eq(opt.nr_listens, 2);
	ck_assert_int_eq(opt.listens[0].kind, LISTEN_FD);
	ck_assert_int_eq(opt.listens[0].fd, 3);
	ck_assert_int_eq(opt.listens[1].fd, 0);
	ck_assert(opt.listens_chosen);
	ck_assert_int_eq(opt.single_fd, -1);
	options_fini(&opt);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		FAILS(SAYS("--fd", bad[i], "descriptor"), "--fd", bad[i], "x");
	FAILS(SAYS("--fd", "3", "twice"), "--fd", "3", "--fd", "4", "--fd",
	      "03", "x");
	FAILS(SAYS("--single", "--fd"), "-s", "--fd", "3", "x");
}
END_TEST

START_TEST(listeners_that_nobody_asked_for_are_told_apart)
{
	PARSES("x");
	ck_assert(!opt.listens_chosen);
	options_fini(&opt);
	PARSES("--run", "true", "x");
	ck_assert(!opt.listens_chosen);
	options_fini(&opt);
	PARSES("-p", "1", "x");
	ck_assert(opt.listens_chosen);
	options_fini(&opt);
	PARSES("-U-", "x");
	ck_assert(opt.listens_chosen);
}
END_TEST

START_TEST(the_number_of_listeners_has_a_limit)
{
	char *argv[2 * OPTIONS_LISTEN_MAX + 4];
	int argc = 0;

	argv[argc++] = (char *)"foliod";
	for (unsigned int i = 0; i < OPTIONS_LISTEN_MAX; i++) {
		argv[argc++] = (char *)"-U";
		argv[argc++] = (char *)"s";
	}
	argv[argc++] = (char *)"x";
	ck_assert_int_eq(options_parse(&opt, argc, argv), 0);
	ck_assert_uint_eq(opt.nr_listens, OPTIONS_LISTEN_MAX);
	options_fini(&opt);
	argv[argc++] = (char *)"-U-";
	ck_assert_int_eq(options_parse(&opt, argc, argv), -EINVAL);
	ck_assert_ptr_nonnull(strstr(opt.error, "listeners"));
}
END_TEST

/* ---- memory and threads ---- */

START_TEST(cache_size_and_threads_are_read)
{
	PARSES("x");
	ck_assert_uint_eq(opt.cache_size, 0);
	ck_assert_uint_eq(opt.threads, 0);
	options_fini(&opt);
	PARSES("--cache-size", "2G", "--threads=3", "x");
	ck_assert_uint_eq(opt.cache_size, UINT64_C(2) << 30);
	ck_assert_uint_eq(opt.threads, 3);
	options_fini(&opt);
	PARSES("--cache-size=16MiB", "--threads=4", "x");
	ck_assert_uint_eq(opt.cache_size, UINT64_C(16) << 20);
}
END_TEST

START_TEST(too_little_cache_is_an_error_that_says_the_minimum)
{
	FAILS(SAYS("--cache-size", "16777215", "16M"), "--cache-size=16777215",
	      "x");
	FAILS(SAYS("--cache-size", "5 threads", "20M", "4M each"),
	      "--cache-size=16M", "--threads=5", "x");
	FAILS(SAYS("--cache-size", "'lots'"), "--cache-size=lots", "x");
	FAILS(SAYS("--cache-size", "'1M2'"), "--cache-size=1M2", "x");
	FAILS(SAYS("--cache-size", "'99999999T'"), "--cache-size=99999999T",
	      "x");
	FAILS(SAYS("--threads", "'0'", "256"), "--threads=0", "x");
	FAILS(SAYS("--threads", "'257'"), "--threads=257", "x");
	FAILS(SAYS("--threads", "'two'"), "--threads", "two", "x");
}
END_TEST

/* ---- how to run ---- */

START_TEST(styles_are_told_apart)
{
	PARSES("x");
	ck_assert_int_eq(opt.style, RUN_FOREGROUND);
	options_fini(&opt);
	PARSES("--daemonize", "--pid-file=p", "x");
	ck_assert_int_eq(opt.style, RUN_DAEMON);
	ck_assert_str_eq(opt.pid_file, "p");
	options_fini(&opt);
	PARSES("-s", "x");
	ck_assert_int_eq(opt.style, RUN_SINGLE);
	ck_assert_uint_eq(opt.nr_listens, 0);
}
END_TEST

START_TEST(single_run_and_daemonize_exclude_each_other)
{
	FAILS(SAYS("--single", "--run", "exclude"), "-s", "--run=c", "x");
	FAILS(SAYS("--single", "--daemonize", "exclude"), "--daemonize", "-s",
	      "x");
	FAILS(SAYS("--run", "--daemonize", "exclude"), "--run", "c",
	      "--daemonize", "x");
	FAILS(SAYS("--single", "--unix"), "-s", "-U", "-", "x");
	FAILS(SAYS("--single", "--port"), "-s", "-p", "0", "x");
	FAILS(SAYS("--single", "--bind"), "-b", "localhost", "-s", "x");
}
END_TEST

START_TEST(help_and_version_end_the_parsing)
{
	PARSES("--help", "--bogus");
	ck_assert_int_eq(opt.style, RUN_HELP);
	options_fini(&opt);
	PARSES("-rhZ");
	ck_assert_int_eq(opt.style, RUN_HELP);
	options_fini(&opt);
	PARSES("-V");
	ck_assert_int_eq(opt.style, RUN_VERSION);
	options_fini(&opt);
	FAILS(SAYS("--bogus"), "--bogus", "--help");
}
END_TEST

/* ---- the shape of options ---- */

START_TEST(values_are_attached_or_separate)
{
	PARSES("-p1", "x");
	ck_assert_int_eq(opt.listens[0].port, 1);
	options_fini(&opt);
	PARSES("-rp", "2", "x");
	ck_assert_int_eq(opt.listens[0].port, 2);
	ck_assert(opt.exports[0].read_only);
	options_fini(&opt);
	PARSES("--port=3", "x");
	ck_assert_int_eq(opt.listens[0].port, 3);
	options_fini(&opt);
	PARSES("--port", "4", "x");
	ck_assert_int_eq(opt.listens[0].port, 4);
	options_fini(&opt);
	FAILS(SAYS("--port needs a value", "--port N"), "x", "--port");
	FAILS(SAYS("-p needs a value"), "x", "-p");
	FAILS(SAYS("--read-only takes no value", "=1"), "--read-only=1", "x");
	FAILS(SAYS("--run needs a command"), "--run=", "x");
	FAILS(SAYS("--pid-file needs a file"), "--pid-file", "", "x");
}
END_TEST

START_TEST(the_last_of_a_repeated_option_counts)
{
	PARSES("-p1", "-p2", "-mnone", "-munsafe", "--pid-file=a",
	       "--pid-file=b", "x");
	ck_assert_uint_eq(opt.nr_listens, 1);
	ck_assert_int_eq(opt.listens[0].port, 2);
	ck_assert_int_eq(opt.exports[0].mode, VOLUME_UNSAFE);
	ck_assert_str_eq(opt.pid_file, "b");
}
END_TEST

START_TEST(two_dashes_end_the_options)
{
	PARSES("-r", "--", "-p", "--help");
	ck_assert_uint_eq(opt.nr_exports, 2);
	check_export(0, "-p", "-p");
	check_export(1, "--help", "--help");
	options_fini(&opt);
	/* Options may also follow arguments, and "-" is one. */
	PARSES("x", "-r", "-");
	ck_assert_uint_eq(opt.nr_exports, 2);
	ck_assert(opt.exports[0].read_only);
	check_export(1, "-", "-");
}
END_TEST

START_TEST(unknown_options_name_the_nearest_known_one)
{
	FAILS(SAYS("--read_only", "did you mean --read-only?"), "--read_only",
	      "x");
	FAILS(SAYS("--thraeds", "did you mean --threads?"), "--thraeds=1",
	      "x");
	FAILS(SAYS("--zzzzzz", "--help"), "--zzzzzz", "x");
	FAILS(SAYS("-z", "--help"), "-rz", "x");
	/* Not of this step. */
	FAILS(SAYS("--config"), "--config=f", "x");
	FAILS(SAYS("--tls"), "--tls", "on", "x");
}
END_TEST

START_TEST(tls_is_off_unless_an_export_uses_it)
{
	PARSES("a", "b");
	ck_assert_int_eq(opt.exports[0].tls, TLS_OFF);
	ck_assert_ptr_null(opt.tls_certificates);
	options_fini(&opt);
	PARSES("--tls=require", "--tls-certificates", "dir", "a",
	       "--export", "name=b,path=b,tls=on",
	       "--export", "name=c,path=c,tls=off", "--tls-verify-peer");
	ck_assert_int_eq(opt.exports[0].tls, TLS_REQUIRE);
	ck_assert_int_eq(opt.exports[1].tls, TLS_ON);
	ck_assert_int_eq(opt.exports[2].tls, TLS_OFF);
	ck_assert_str_eq(opt.tls_certificates, "dir");
	ck_assert(opt.tls_verify_peer);
	options_fini(&opt);
	PARSES("--export", "name=b,path=b,tls=on", "a", "--tls-psk=keys");
	ck_assert_int_eq(opt.exports[0].tls, TLS_ON);
	ck_assert_int_eq(opt.exports[1].tls, TLS_OFF);
	ck_assert_str_eq(opt.tls_psk, "keys");
}
END_TEST

START_TEST(a_listener_can_have_a_tls_mode)
{
	PARSES("--bind", "[::]:1,tls=require", "-U", "/a,tls=off,b,tls=on",
	       "--vsock=2:3,tls=require", "--fd", "7,tls=on", "-b", "h:2",
	       "-U", "a,b", "--tls-psk", "keys", "x");
	ck_assert_uint_eq(opt.nr_listens, 6);
	ck_assert_int_eq(opt.listens[0].tls, TLS_REQUIRE);
	ck_assert_str_eq(opt.listens[0].host, "::");
	ck_assert_int_eq(opt.listens[0].port, 1);
	ck_assert_int_eq(opt.listens[1].tls, TLS_ON);
	ck_assert_str_eq(opt.listens[1].path, "/a,tls=off,b");
	ck_assert_int_eq(opt.listens[2].tls, TLS_REQUIRE);
	ck_assert_uint_eq(opt.listens[2].vsock_port, 3);
	ck_assert_int_eq(opt.listens[3].tls, TLS_ON);
	ck_assert_int_eq(opt.listens[3].fd, 7);
	ck_assert_int_eq(opt.listens[4].tls, TLS_OFF);
	ck_assert_int_eq(opt.listens[5].tls, TLS_OFF);
	ck_assert_str_eq(opt.listens[5].path, "a,b");
	ck_assert_int_eq(opt.exports[0].tls, TLS_OFF);
	options_fini(&opt);
	FAILS(SAYS("--unix: tls", "'yes'", "require"), "--unix", "a,tls=yes",
	      "x");
	FAILS(SAYS("-U", "needs the path"), "-U", ",tls=on", "x");
	FAILS(SAYS("TLS needs --tls-certificates"), "-U", "a,tls=require", "x");
}
END_TEST

START_TEST(a_rule_about_who_a_client_is_needs_a_way_to_prove_it)
{
	static const char *const rules[] = { "dn:CN=a", "san:DNS:a" };

	PARSES("--tls=require", "--tls-psk=k", "--allow=psk:a,b", "x");
	ck_assert_str_eq(opt.exports[0].access.rules[0].name, "a,b");
	options_fini(&opt);
	PARSES("-U", "s,tls=require", "--tls-psk=k", "--allow=psk:a", "x");
	options_fini(&opt);
	PARSES("--tls=on", "--tls-certificates=d", "--tls-verify-peer",
	       "--export", "name=x,path=x,allow=dn:CN=a\\,,b,,O=X,allow=any");
	ck_assert_uint_eq(opt.exports[0].access.nr, 2);
	ck_assert_str_eq(opt.exports[0].access.rules[0].name,
			 "2.5.4.3=3:a,b,2.5.4.10=1:X,");
	options_fini(&opt);
	for (unsigned int i = 0; i < ARRAY_SIZE(rules); i++) {
		FAILS(SAYS("allow", "'x'", "--tls-verify-peer"), "--allow",
		      rules[i], "x");
		FAILS(SAYS("allow", "--tls-verify-peer"), "--allow", rules[i],
		      "--tls=require", "--tls-certificates=d", "--tls-psk=k",
		      "x");
		FAILS(SAYS("allow", "plain clients", "--tls require"),
		      "--allow", rules[i], "--tls-certificates=d",
		      "--tls-verify-peer", "x");
	}
	FAILS(SAYS("allow", "'x'", "--tls-psk"), "--allow=psk:a", "--tls=on",
	      "--tls-certificates=d", "x");
	FAILS(SAYS("allow", "'y'", "plain clients"), "--tls=on",
	      "--tls-psk=k", "x", "--export",
	      "name=y,path=y,tls=off,allow=psk:a");
}
END_TEST

START_TEST(tls_needs_credentials_and_credentials_need_a_use)
{
	FAILS(SAYS("--tls-certificates", "--tls-psk"), "--tls", "on", "a");
	FAILS(SAYS("--tls-certificates"), "--export",
	      "name=a,path=a,tls=require");
	FAILS(SAYS("--tls require"), "--tls-certificates", "dir", "a");
	FAILS(SAYS("--tls require"), "--tls-psk", "keys", "--tls=off", "a");
	FAILS(SAYS("--tls-verify-peer"), "--tls-verify-peer", "a");
	FAILS(SAYS("--tls-verify-peer"), "--tls-verify-peer", "--tls=on",
	      "--tls-psk", "keys", "a");
	FAILS(SAYS("--tls", "'yes'", "require"), "--tls", "yes", "a");
	FAILS(SAYS("tls", "'1'"), "--export", "name=a,path=a,tls=1");
	FAILS(SAYS("--tls-psk needs"), "--tls-psk=", "a");
}
END_TEST

START_TEST(long_options_are_not_abbreviated)
{
	FAILS(SAYS("--read", "did you mean --read-only?"), "--read", "x");
	FAILS(SAYS("--daemon", "did you mean --daemonize?"), "--daemon", "x");
	FAILS(SAYS("--cache-siz", "did you mean --cache-size?"),
	      "--cache-siz=1G", "x");
}
END_TEST

START_TEST(habits_of_other_servers_get_our_spelling)
{
	static const struct {
		const char *option, *ours;
	} habits[] = {
		{ "-f", "--daemonize" },
		{ "-P", "--pid-file" },
		{ "-k", "--unix" },
		{ "-t", "--threads" },
		{ "-x", "NAME=PATH" },
		{ "-e", "NAME=PATH" },
		{ "-e", "--max-connections" },
		{ "--shared", "--max-connections" },
		{ "-i", "--bind" },
		{ "--cache", "--mode" },
		{ "--tls-creds", "--tls-certificates" },
		{ "--cache=none", "--mode" },
		{ "--pidfile", "--pid-file" },
		{ "--socket", "--unix" },
		{ "--exportname", "NAME=PATH" },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(habits); i++) {
		FAILS(SAYS("is not an option of foliod", habits[i].ours),
		      habits[i].option, "x");
	}
	FAILS(SAYS("-f is not an option"), "-rf", "raw", "x");
}
END_TEST

START_TEST(random_arguments_parse_or_are_refused_with_a_message)
{
	static const char *const words[] = {
		"-", "--", "-p", "-p=", "-U", "-b", "[", "]:", "::", "=", "a=",
		"--export", "--export=", "name=", ",path=", ",,", ",", "x",
		"--mode=", "none", "-r", "-s", "-rs", "--run", "--threads=",
		"1", "65536", "16M", "--cache-size", "--default-export", "",
		"-h", "-V", "--daemonize", "-\xff", "--\n", "@", "a=b", "=b",
		"--vsock=", "--fd", "--allow=", "uid:", "allow=", "/", ":",
		"--max-connections", "dn:CN=a", "psk:", ",tls=", "on",
		"--tls-psk=k",
	};
	uint64_t seed = random_seed_from_env("FOLIOD_SEED");
	unsigned int parsed = 0, refused = 0;
	struct random rnd;

	printf("FOLIOD_SEED=%llu\n", (unsigned long long)seed);
	random_init(&rnd, seed);
	for (unsigned int i = 0; i < 50000; i++) {
		char args[6][128], *argv[7] = { (char *)"foliod" };
		int argc = 1 + random_below(&rnd, 6), ret;

		for (int arg = 1; arg < argc; arg++) {
			unsigned int nr = 1 + random_below(&rnd, 4);

			argv[arg] = args[arg];
			args[arg][0] = '\0';
			while (nr--)
				strcat(args[arg], words[random_below(&rnd,
						ARRAY_SIZE(words))]);
		}
		ret = options_parse(&opt, argc, argv);
		if (ret) {
			ck_assert_int_eq(ret, -EINVAL);
			ck_assert_ptr_nonnull(opt.error);
			refused++;
		} else {
			ck_assert(opt.style >= RUN_HELP || opt.nr_exports);
			parsed++;
		}
		options_fini(&opt);
	}
	ck_assert_uint_gt(parsed, 100);
	ck_assert_uint_gt(refused, 100);
}
END_TEST

/* ---- suggest.h ---- */

START_TEST(edit_distance_counts_changes)
{
	static const struct {
		const char *a, *b;
		unsigned int distance;
	} cases[] = {
		{ "", "", 0 }, { "a", "", 1 }, { "", "abc", 3 },
		{ "port", "port", 0 }, { "prot", "port", 1 },
		{ "por", "port", 1 }, { "xport", "port", 1 },
		{ "part", "port", 1 }, { "kitten", "sitting", 3 },
		{ "ab", "ba", 1 }, { "abcd", "dcba", 3 },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		ck_assert_uint_eq(edit_distance(cases[i].a, cases[i].b),
				  cases[i].distance);
		ck_assert_uint_eq(edit_distance(cases[i].b, cases[i].a),
				  cases[i].distance);
	}
}
END_TEST

START_TEST(only_what_is_near_is_suggested)
{
	static const char *const known[] = { "read-only", "run", "threads" };
	char longer[SUGGEST_WORD_MAX + 2];

	ck_assert_str_eq(suggest("readonly", known, 3), "read-only");
	ck_assert_str_eq(suggest("re", known, 3), "read-only");
	ck_assert_str_eq(suggest("rn", known, 3), "run");
	ck_assert_ptr_null(suggest("verbose", known, 3));
	ck_assert_ptr_null(suggest("", known, 3));
	memset(longer, 'r', sizeof(longer));
	longer[SUGGEST_WORD_MAX + 1] = '\0';
	ck_assert_ptr_null(suggest(longer, known, 3));
	ck_assert_ptr_null(suggest("r", (const char *const []) { longer }, 1));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("options");
	TCase *exports = tcase_create("exports");
	TCase *listens = tcase_create("listeners");
	TCase *others = tcase_create("others");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(exports, NULL, teardown);
	tcase_add_test(exports, one_bare_path_answers_to_the_empty_name_and_to_its_base_name);
	tcase_add_test(exports, the_base_name_is_what_follows_the_last_slash);
	tcase_add_test(exports, an_argument_is_name_and_path_only_if_the_name_is_well_formed);
	tcase_add_test(exports, a_named_path_does_not_answer_to_the_empty_name);
	tcase_add_test(exports, among_several_exports_the_empty_name_is_unknown);
	tcase_add_test(exports, a_path_without_a_name_answers_to_the_empty_name);
	tcase_add_test(exports, default_export_names_what_answers_to_the_empty_name);
	tcase_add_test(exports, duplicate_names_are_errors_that_name_both_paths);
	tcase_add_test(exports, nothing_to_serve_is_an_error);
	tcase_add_test(exports, export_takes_all_its_keys);
	tcase_add_test(exports, allow_is_for_exports_without_a_list_wherever_it_stands);
	tcase_add_test(exports, the_caps_on_connections_are_read);
	tcase_add_test(exports, two_commas_in_an_export_are_one);
	tcase_add_test(exports, what_is_wrong_in_an_export_is_named);
	tcase_add_test(exports, a_minimum_block_size_is_a_power_of_two_up_to_64k);
	tcase_add_test(exports, mode_and_read_only_are_defaults_wherever_they_stand);
	tcase_add_test(exports, all_six_modes_have_their_names);
	suite_add_tcase(suite, exports);

	tcase_add_checked_fixture(listens, NULL, teardown);
	tcase_add_test(listens, without_a_listener_it_is_port_10809_on_loopback);
	tcase_add_test(listens, a_port_alone_is_on_loopback);
	tcase_add_test(listens, run_without_a_listener_gets_a_private_socket);
	tcase_add_test(listens, bind_takes_names_addresses_and_ports);
	tcase_add_test(listens, the_port_option_is_the_default_of_bind_wherever_it_stands);
	tcase_add_test(listens, bad_ports_and_hosts_are_named);
	tcase_add_test(listens, unix_takes_paths_and_a_dash);
	tcase_add_test(listens, a_unix_path_that_no_socket_can_have_is_an_error);
	tcase_add_test(listens, vsock_takes_a_port_with_a_context_id_or_without);
	tcase_add_test(listens, fd_takes_a_descriptor_once);
	tcase_add_test(listens, listeners_that_nobody_asked_for_are_told_apart);
	tcase_add_test(listens, the_number_of_listeners_has_a_limit);
	suite_add_tcase(suite, listens);

	tcase_add_checked_fixture(others, NULL, teardown);
	tcase_add_test(others, cache_size_and_threads_are_read);
	tcase_add_test(others, too_little_cache_is_an_error_that_says_the_minimum);
	tcase_add_test(others, styles_are_told_apart);
	tcase_add_test(others, single_run_and_daemonize_exclude_each_other);
	tcase_add_test(others, help_and_version_end_the_parsing);
	tcase_add_test(others, values_are_attached_or_separate);
	tcase_add_test(others, the_last_of_a_repeated_option_counts);
	tcase_add_test(others, two_dashes_end_the_options);
	tcase_add_test(others, unknown_options_name_the_nearest_known_one);
	tcase_add_test(others, tls_is_off_unless_an_export_uses_it);
	tcase_add_test(others, a_listener_can_have_a_tls_mode);
	tcase_add_test(others, a_rule_about_who_a_client_is_needs_a_way_to_prove_it);
	tcase_add_test(others, tls_needs_credentials_and_credentials_need_a_use);
	tcase_add_test(others, long_options_are_not_abbreviated);
	tcase_add_test(others, habits_of_other_servers_get_our_spelling);
	tcase_add_test(others, random_arguments_parse_or_are_refused_with_a_message);
	tcase_add_test(others, edit_distance_counts_changes);
	tcase_add_test(others, only_what_is_near_is_suggested);
	suite_add_tcase(suite, others);

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
