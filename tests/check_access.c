/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check_access.c - who may use an export: access.h, peer.h, peers.h, export.h,
 * and what a connection says to who may not.
 */
#include <arpa/inet.h>
#include <check.h>
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "base/base.h"
#include "server/access.h"
#include "server/peers.h"
#include "tests/conntest.h"

static struct access list;
static char *error;

static void teardown(void)
{
	access_fini(&list);
	free(error);
	error = NULL;
}

static void allow(const char *text)
{
	int ret = access_add(&list, "--allow", text, &error);

	ck_assert_msg(ret == 0, "%s: %s", text, error ? error : "(nothing)");
}

static void only(const char *text)
{
	access_fini(&list);
	allow(text);
}

/* A peer at @text, an address of IPv4 or IPv6. */
static struct peer at(const char *text)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	struct peer peer;

	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
		peer_set_address(&peer, (struct sockaddr *)&v4);
	} else {
		ck_assert_int_eq(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
		peer_set_address(&peer, (struct sockaddr *)&v6);
	}
	return peer;
}

static struct peer user(uid_t uid, gid_t gid)
{
	return (struct peer) { .kind = PEER_UNIX, .uid = uid, .gid = gid };
}

static struct peer machine(uint32_t cid)
{
	const struct sockaddr_vm addr = {
		.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = 1,
	};
	struct peer peer;

	peer_set_address(&peer, (const struct sockaddr *)&addr);
	return peer;
}

static bool in(struct peer peer)
{
	return access_allows(&list, &peer);
}

/* ---- rules ---- */

START_TEST(an_empty_list_lets_everybody_in)
{
	ck_assert(in(at("192.0.2.1")));
	ck_assert(in(user(0, 0)));
	ck_assert(in((struct peer) { .kind = PEER_UNKNOWN }));
	allow("192.0.2.1");
	ck_assert(!in((struct peer) { .kind = PEER_UNKNOWN }));
}
END_TEST

START_TEST(one_rule_that_matches_is_enough)
{
	allow("uid:1000");
	allow("192.0.2.0/24");
	allow("cid:3");
	ck_assert(in(user(1000, 1)));
	ck_assert(in(at("192.0.2.77")));
	ck_assert(in(machine(3)));
	ck_assert(!in(user(1001, 1000)));
	ck_assert(!in(at("192.0.3.77")));
	ck_assert(!in(machine(4)));
}
END_TEST

START_TEST(a_rule_matches_its_own_kind_of_peer_only)
{
	/* All of these peers hold the same bytes. */
	struct peer v4 = at("3.0.0.0"), v6 = at("300::");
	struct peer unix_peer = user(be32toh(0x03000000), 0);
	struct peer vsock = machine(be32toh(0x03000000));
	char id[32];

	ck_assert(!memcmp(v4.addr, v6.addr, 4));
	only("3.0.0.0");
	ck_assert(in(v4) && !in(v6) && !in(unix_peer) && !in(vsock));
	only("300::/8");
	ck_assert(!in(v4) && in(v6) && !in(unix_peer) && !in(vsock));
	snprintf(id, sizeof(id), "uid:%u", unix_peer.uid);
	only(id);
	ck_assert(!in(v4) && !in(v6) && in(unix_peer) && !in(vsock));
	memcpy(id, "cid", 3);
	only(id);
	ck_assert(!in(v4) && !in(v6) && !in(unix_peer) && in(vsock));
	only("gid:0");
	ck_assert(!in(v4) && !in(v6) && in(unix_peer) && !in(vsock));
}
END_TEST

START_TEST(any_is_everybody_and_the_unknown_is_nobody_else)
{
	static const char *const texts[] = {
		"uid:0", "gid:0", "cid:0", "0.0.0.0/0", "::/0",
	};
	struct peer unknown = { .kind = PEER_UNKNOWN };

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		allow(texts[i]);
	ck_assert(!in(unknown));
	allow("any");
	ck_assert(in(unknown));
	ck_assert(in(user(7, 7)));
}
END_TEST

START_TEST(an_unknown_family_is_an_unknown_peer)
{
	struct sockaddr addr = { .sa_family = AF_NETLINK };
	int fds[2], fd = socket(AF_INET, SOCK_STREAM, 0);
	struct peer peer = at("192.0.2.1");

	peer_set_address(&peer, &addr);
	ck_assert_int_eq(peer.kind, PEER_UNKNOWN);
	ck_assert_int_eq(pipe(fds), 0);
	peer_get(&peer, fds[0], true);
	ck_assert_int_eq(peer.kind, PEER_UNKNOWN);
	close(fds[0]);
	close(fds[1]);
	/* A client that has gone, or was never there. */
	peer_get(&peer, fd, true);
	ck_assert_int_eq(peer.kind, PEER_UNKNOWN);
	close(fd);
	peer_get(&peer, -1, true);
	ck_assert_int_eq(peer.kind, PEER_UNKNOWN);
}
END_TEST

/* ---- users ---- */

START_TEST(a_groups_members_are_those_that_have_it_first_or_beside)
{
	gid_t groups[] = { 5, 6, 7 };
	struct peer peer = user(1000, 1000);

	peer.groups = groups;
	peer.nr_groups = ARRAY_SIZE(groups);
	only("gid:1000");
	ck_assert(in(peer));
	only("gid:7");
	ck_assert(in(peer));
	only("gid:8");
	ck_assert(!in(peer));
	ck_assert(access_asks_groups(&list));
	/* A user is no group. */
	only("uid:7");
	ck_assert(!in(peer));
	ck_assert(!access_asks_groups(&list));
}
END_TEST

START_TEST(a_unix_peer_is_who_the_kernel_says)
{
	gid_t groups[1024];
	int nr = getgroups(ARRAY_SIZE(groups), groups);
	struct peer peer;
	int fds[2];

	ck_assert_int_ge(nr, 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	peer_get(&peer, fds[0], true);
	ck_assert_int_eq(peer.kind, PEER_UNIX);
	ck_assert_uint_eq(peer.uid, geteuid());
	ck_assert_uint_eq(peer.gid, getegid());
	ck_assert_uint_eq(peer.nr_groups, nr);
	for (int i = 0; i < nr; i++)
		ck_assert_uint_eq(peer.groups[i], groups[i]);
	peer_fini(&peer);
	ck_assert_ptr_null(peer.groups);
	peer_get(&peer, fds[0], false);
	ck_assert_ptr_null(peer.groups);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

/* ---- addresses ---- */

START_TEST(a_prefix_is_compared_as_bits_and_not_as_text)
{
	/* CVE-2013-6410: what begins like the address is not the address. */
	only("192.0.2.1");
	ck_assert(in(at("192.0.2.1")));
	ck_assert(!in(at("192.0.2.10")));
	ck_assert(!in(at("192.0.2.100")));
	ck_assert(!in(at("192.0.2.12")));
	only("192.0.2.0/28");
	ck_assert(in(at("192.0.2.0")));
	ck_assert(in(at("192.0.2.15")));
	ck_assert(!in(at("192.0.2.16")));
	ck_assert(!in(at("192.0.20.1")));
	only("2001:db8::1");
	ck_assert(in(at("2001:db8::1")));
	ck_assert(!in(at("2001:db8::10")));
	ck_assert(!in(at("2001:db8::1:1")));
}
END_TEST

/* Prefixes of all lengths, each against an address with one bit changed. */
static void each_bit_counts(const char *text, int family, unsigned int bits)
{
	uint8_t addr[16], net[16], other[16];
	char rule[INET6_ADDRSTRLEN + 8], name[INET6_ADDRSTRLEN];

	ck_assert_int_eq(inet_pton(family, text, addr), 1);
	for (unsigned int n = 0; n <= bits; n++) {
		memcpy(net, addr, sizeof(net));
		for (unsigned int i = n; i < bits; i++)
			net[i / 8] &= ~(0x80 >> i % 8);
		inet_ntop(family, net, name, sizeof(name));
		snprintf(rule, sizeof(rule), "%s/%u", name, n);
		only(rule);
		ck_assert_msg(in(at(text)), "%s not in %s", text, rule);
		for (unsigned int i = 0; i < bits; i++) {
			memcpy(other, addr, sizeof(other));
			other[i / 8] ^= 0x80 >> i % 8;
			inet_ntop(family, other, name, sizeof(name));
			ck_assert_msg(in(at(name)) == (i >= n),
				      "%s and %s", name, rule);
		}
	}
}

START_TEST(each_bit_of_a_prefix_counts_and_none_behind)
{
	each_bit_counts("192.0.2.171", AF_INET, 32);
	each_bit_counts("255.255.255.255", AF_INET, 32);
	each_bit_counts("2001:db8:5a:a5:1234:5678:9abc:def1", AF_INET6, 128);
	each_bit_counts("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", AF_INET6,
			128);
}
END_TEST

START_TEST(an_ipv4_address_mapped_into_ipv6_is_one_of_ipv4)
{
	struct peer peer = at("::ffff:192.0.2.1");

	ck_assert_int_eq(peer.kind, PEER_V4);
	only("192.0.2.0/24");
	ck_assert(in(peer));
	/* Not one of IPv6, however short the prefix. */
	only("::/0");
	ck_assert(!in(peer));
	only("::fffe:0:0/95");
	ck_assert(!in(peer));
	ck_assert(!in(at("192.0.2.1")));
	/* And so are rules. */
	only("::ffff:192.0.2.0/120");
	ck_assert(in(peer));
	ck_assert(in(at("192.0.2.255")));
	ck_assert(!in(at("192.0.3.1")));
	only("::ffff:192.0.2.1");
	ck_assert(in(at("192.0.2.1")));
	ck_assert(!in(at("192.0.2.2")));
	only("::ffff:0:0/96");
	ck_assert(in(at("0.0.0.0")));
	ck_assert(in(at("255.255.255.255")));
	ck_assert(!in(at("::1")));
	/* What is only like it. */
	only("::ffff:0:192.0.2.1");
	ck_assert(!in(at("192.0.2.1")));
	only("::192.0.2.1");
	ck_assert(!in(at("192.0.2.1")));
}
END_TEST

/* ---- mistakes ---- */

static void refused(const char *text, const char *says)
{
	unsigned int nr = list.nr;

	ck_assert_msg(access_add(&list, "--allow", text, &error) == -EINVAL,
		      "'%s' is a rule", text);
	ck_assert_ptr_nonnull(error);
	ck_assert_ptr_eq(strstr(error, "--allow: "), error);
	ck_assert_msg(strstr(error, says), "'%s' is not in: %s", says, error);
	ck_assert_uint_eq(list.nr, nr);
}

START_TEST(what_is_no_rule_is_refused)
{
	static const char *const texts[] = {
		"", " ", "ANY", "any ", "all", "none", "uid", "user:1",
		"localhost", "192.0.2", "192.0.2.", "192.0.2.1.", "192.0.2.256",
		"192.0.2.01", "192.0.2.1 ", " 192.0.2.1", "0x7f.0.0.1",
		"2130706433", "[::1]", "::1%lo", ":::", "1:2:3:4:5:6:7",
		"g::", "192.0.2.0,192.0.3.0", "/24", "/", "192.0.2.*",
		"2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff:2001:db8:aaaa:bbbb",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		refused(texts[i], "is not uid:N, gid:N, cid:N, an IP address");
	ck_assert(in(at("192.0.2.1")));
}
END_TEST

START_TEST(a_bad_mask_is_refused)
{
	static const char *const v4[] = {
		"192.0.2.0/", "192.0.2.0/33", "192.0.2.0/-1", "192.0.2.0/+8",
		"192.0.2.0/ 8", "192.0.2.0/8 ", "192.0.2.0/24/24",
		"192.0.2.0/255.255.255.0", "192.0.2.0/0x18",
		"192.0.2.0/18446744073709551640", "192.0.2.0/4294967320",
	};

	for (size_t i = 0; i < ARRAY_SIZE(v4); i++)
		refused(v4[i], "a number of bits from 0 to 32");
	refused("2001:db8::/129", "a number of bits from 0 to 128");
	refused("::/", "a number of bits from 0 to 128");
	refused("::ffff:192.0.2.0/129", "a number of bits from 0 to 128");
}
END_TEST

START_TEST(bits_behind_the_prefix_are_refused_with_the_network)
{
	refused("192.0.2.1/24", "192.0.2.0/24");
	refused("192.0.2.128/24", "192.0.2.0/24");
	refused("192.0.2.1/0", "0.0.0.0/0");
	refused("192.0.2.1/31", "192.0.2.0/31");
	refused("2001:db8::1/64", "2001:db8::/64");
	refused("::1/127", "::/127");
	refused("::ffff:192.0.2.1/120", "/120");
	allow("192.0.2.1/32");
	allow("::1/128");
	allow("0.0.0.0/0");
	allow("::/0");
}
END_TEST

START_TEST(an_id_is_a_number_that_somebody_can_have)
{
	static const char *const texts[] = {
		"uid:", "uid:root", "uid:-1", "uid:4294967295", "uid:1 ",
		"uid:4294967296", "gid:x", "cid:", "cid:4294967295", "uid::1",
		"gid:18446744073709551616",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		refused(texts[i], "does not end in a number");
	allow("uid:0");
	allow("uid:4294967294");
	ck_assert(in(user(4294967294, 0)));
}
END_TEST

START_TEST(a_list_has_a_limit)
{
	for (unsigned int i = 0; i < ACCESS_RULES_MAX; i++)
		allow("uid:1");
	refused("uid:1", "more than 1024");
}
END_TEST

START_TEST(a_copy_is_its_own)
{
	struct access copy;

	allow("192.0.2.0/24");
	allow("uid:9");
	ck_assert_int_eq(access_copy(&copy, &list), 0);
	access_fini(&list);
	list = copy;
	ck_assert_uint_eq(list.nr, 2);
	ck_assert(in(user(9, 9)) && in(at("192.0.2.9")) && !in(user(8, 8)));
}
END_TEST

/* ---- the counts of peers ---- */

START_TEST(each_peer_has_a_limit_of_its_own)
{
	struct peer all[] = {
		at("192.0.2.1"), at("192.0.2.2"), at("::1"), at("::2"),
		user(0, 1), user(1, 1), machine(0), machine(1),
	};
	struct peers *peers;

	ck_assert_int_eq(peers_new(2, &peers), 0);
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		ck_assert_int_eq(peers_enter(peers, &all[i]), 0);
		ck_assert_int_eq(peers_enter(peers, &all[i]), 0);
		ck_assert_int_eq(peers_enter(peers, &all[i]), -EDQUOT);
	}
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		peers_leave(peers, &all[i]);
		ck_assert_int_eq(peers_enter(peers, &all[i]), 0);
		peers_leave(peers, &all[i]);
		peers_leave(peers, &all[i]);
	}
	peers_free(peers);
}
END_TEST

START_TEST(a_peer_is_its_user_or_address)
{
	struct peer mapped = at("::ffff:192.0.2.1"), v4 = at("192.0.2.1");
	struct peer a = user(5, 1), b = user(5, 2);
	char text[64];

	ck_assert(peer_equal(&mapped, &v4));
	ck_assert(peer_hash(&mapped, 7) == peer_hash(&v4, 7));
	ck_assert(peer_equal(&a, &b));
	ck_assert(peer_hash(&a, 7) == peer_hash(&b, 7));
	b = machine(5);
	ck_assert(!peer_equal(&a, &b));
	ck_assert_str_eq(peer_to_text(&mapped, text, sizeof(text)),
			 "192.0.2.1");
	ck_assert_str_eq(peer_to_text(&a, text, sizeof(text)), "uid 5");
	ck_assert_str_eq(peer_to_text(&b, text, sizeof(text)), "cid 5");
	v4 = at("2001:db8::1");
	ck_assert_str_eq(peer_to_text(&v4, text, sizeof(text)), "2001:db8::1");
}
END_TEST

/* ---- what a connection says ---- */

static struct conntest ct;

/* Of the exports "rw", "ro", "b4k" hide @hidden from us, or show it to us only.
 * "rw" answers to "" too. */
static void start_with(const char *name, bool hidden)
{
	char rule[32];

	conntest_start(&ct, NULL);
	snprintf(rule, sizeof(rule), "uid:%u", geteuid() + hidden);
	for (unsigned int i = 0; i < ct.table.nr; i++)
		if (!strcmp(ct.exports[i].name, name))
			ck_assert_int_eq(access_add(&ct.exports[i].access, "",
						    rule, &error), 0);
}

static void stop(void)
{
	conntest_stop(&ct);
	for (unsigned int i = 0; i < CT_EXPORTS; i++)
		access_fini(&ct.exports[i].access);
}

/* All that comes in answer to @option about @name, into @buf. */
static size_t ask(int fd, uint32_t option, const char *name, char *buf,
		  size_t max)
{
	size_t len = strlen(name), head = sizeof(struct nbd_option_reply), n;
	char data[64] = { 0 };
	struct nbd_option_reply reply;

	data[3] = len;
	memcpy(data + 4, name, len);
	/* No information requests, or no queries. */
	n = 4 + len + (option == NBD_OPT_GO || option == NBD_OPT_INFO ? 2 : 4);
	put_option(fd, option, data, n);
	ck_assert_uint_ge(max, head);
	recv_all(fd, buf, head);
	memcpy(&reply, buf, head);
	n = be32toh(reply.len);
	ck_assert_uint_le(n, max - head);
	recv_all(fd, buf + head, n);
	return head + n;
}

START_TEST(a_denied_export_answers_as_a_name_that_nobody_has)
{
	static const uint32_t options[] = {
		NBD_OPT_INFO, NBD_OPT_GO, NBD_OPT_SET_META_CONTEXT,
		NBD_OPT_LIST_META_CONTEXT,
	};
	char denied[512], unknown[512];
	size_t len;
	int fd;

	start_with("ro", true);
	fd = conntest_connect(&ct);
	greet(fd);
	put_option(fd, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
	ck_assert_uint_eq(get_final_reply(fd, NBD_OPT_STRUCTURED_REPLY),
			  NBD_REP_ACK);
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		len = ask(fd, options[i], "ro", denied, sizeof(denied));
		ck_assert_uint_eq(ask(fd, options[i], "xx", unknown,
				      sizeof(unknown)), len);
		ck_assert(!memcmp(denied, unknown, len));
		ck_assert_uint_eq(be32toh(((struct nbd_option_reply *)
					   denied)->type),
				  NBD_REP_ERR_UNKNOWN);
	}
	put_option(fd, NBD_OPT_EXPORT_NAME, "ro", 2);
	expect_close(fd, 0);
	fd = open_export(&ct, "rw", 0);
	expect_alive(fd, false);
	close(fd);
	stop();
}
END_TEST

/* How many LIST shows, and whether @name is among them. */
static unsigned int listed(const char *name, bool *therep)
{
	int fd = conntest_connect(&ct);
	unsigned int nr = 0;
	uint32_t len, type;
	char buf[256];

	greet(fd);
	*therep = false;
	put_option(fd, NBD_OPT_LIST, NULL, 0);
	while ((type = get_option_reply(fd, NBD_OPT_LIST, buf, sizeof(buf),
					&len)) == NBD_REP_SERVER) {
		nr++;
		*therep |= (uint8_t)buf[3] == strlen(name) &&
			!memcmp(buf + 4, name, strlen(name));
	}
	ck_assert_uint_eq(type, NBD_REP_ACK);
	close(fd);
	return nr;
}

START_TEST(a_list_shows_what_is_there_for_this_client)
{
	bool there;

	start_with("ro", true);
	ck_assert_uint_eq(listed("ro", &there), CT_EXPORTS - 1);
	ck_assert(!there);
	stop();
	start_with("ro", false);
	ck_assert_uint_eq(listed("ro", &there), CT_EXPORTS);
	ck_assert(there);
	stop();
}
END_TEST

START_TEST(a_denied_default_does_not_answer_to_the_empty_name)
{
	int fd;

	start_with("rw", true);
	fd = conntest_connect(&ct);
	greet(fd);
	put_option(fd, NBD_OPT_EXPORT_NAME, "", 0);
	expect_close(fd, 0);
	stop();
	start_with("rw", false);
	fd = open_export(&ct, "", 0);
	expect_alive(fd, false);
	close(fd);
	stop();
}
END_TEST

/* The number of LISTs that are answered before the connection is closed. */
static unsigned int options_taken(void)
{
	int fd = conntest_connect(&ct);
	struct nbd_option_reply reply;
	unsigned int nr = 0;
	struct nbd_option_head head = {
		htobe64(NBD_OPTION_MAGIC), htobe32(0x4711), 0,
	};

	greet(fd);
	/* Each has an answer, an error with a text. */
	while (send(fd, &head, sizeof(head), MSG_NOSIGNAL) == sizeof(head) &&
	       recv(fd, &reply, sizeof(reply), MSG_WAITALL) ==
	       sizeof(reply)) {
		char text[256];

		ck_assert_uint_lt(be32toh(reply.len), sizeof(text));
		recv_all(fd, text, be32toh(reply.len));
		nr++;
	}
	close(fd);
	return nr;
}

START_TEST(the_patience_for_options_does_not_count_denied_exports)
{
	unsigned int all, without;

	start_with("ro", false);
	all = options_taken();
	stop();
	start_with("ro", true);
	without = options_taken();
	stop();
	ck_assert_uint_gt(without, 100);
	ck_assert_uint_gt(all, without);
}
END_TEST

START_TEST(a_peer_with_too_many_connections_is_turned_away)
{
	struct conn_shared shared = { .max_conns = 10 };
	int a, b, fds[2];

	ck_assert_int_eq(peers_new(2, &shared.peers), 0);
	conntest_start(&ct, &shared);
	a = conntest_connect(&ct);
	greet(a);
	b = open_export(&ct, "rw", 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	ck_assert_int_eq(conntest_start_fds(&ct, fds[1], fds[1]), -EDQUOT);
	expect_close(fds[0], 0);
	close(a);
	conntest_wait_conns(&ct, 1);
	a = open_export(&ct, "rw", 0);
	expect_alive(a, false);
	expect_alive(b, false);
	close(a);
	close(b);
	conntest_stop(&ct);
	peers_free(shared.peers);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("access");
	TCase *rules = tcase_create("rules");
	TCase *conns = tcase_create("connections");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(rules, NULL, teardown);
	tcase_add_test(rules, an_empty_list_lets_everybody_in);
	tcase_add_test(rules, one_rule_that_matches_is_enough);
	tcase_add_test(rules, a_rule_matches_its_own_kind_of_peer_only);
	tcase_add_test(rules, any_is_everybody_and_the_unknown_is_nobody_else);
	tcase_add_test(rules, an_unknown_family_is_an_unknown_peer);
	tcase_add_test(rules, a_groups_members_are_those_that_have_it_first_or_beside);
	tcase_add_test(rules, a_unix_peer_is_who_the_kernel_says);
	tcase_add_test(rules, a_prefix_is_compared_as_bits_and_not_as_text);
	tcase_add_test(rules, each_bit_of_a_prefix_counts_and_none_behind);
	tcase_add_test(rules, an_ipv4_address_mapped_into_ipv6_is_one_of_ipv4);
	tcase_add_test(rules, what_is_no_rule_is_refused);
	tcase_add_test(rules, a_bad_mask_is_refused);
	tcase_add_test(rules, bits_behind_the_prefix_are_refused_with_the_network);
	tcase_add_test(rules, an_id_is_a_number_that_somebody_can_have);
	tcase_add_test(rules, a_list_has_a_limit);
	tcase_add_test(rules, a_copy_is_its_own);
	tcase_add_test(rules, each_peer_has_a_limit_of_its_own);
	tcase_add_test(rules, a_peer_is_its_user_or_address);
	suite_add_tcase(suite, rules);

	tcase_add_test(conns, a_denied_export_answers_as_a_name_that_nobody_has);
	tcase_add_test(conns, a_list_shows_what_is_there_for_this_client);
	tcase_add_test(conns, a_denied_default_does_not_answer_to_the_empty_name);
	tcase_add_test(conns, the_patience_for_options_does_not_count_denied_exports);
	tcase_add_test(conns, a_peer_with_too_many_connections_is_turned_away);
	suite_add_tcase(suite, conns);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
