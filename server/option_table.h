/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * option_table.h - the options of foliod, once, for parsing and for --help.
 *
 * SECTION(heading) stands before the options that --help lists under it.
 * OPTION(id, short name or 0, long name, value's name or NULL, help); a
 * newline in the help begins another line, and no line begins with '-'.
 */
#ifndef FOLIOD_SERVER_OPTION_TABLE_H
#define FOLIOD_SERVER_OPTION_TABLE_H

#define OPTION_TABLE(SECTION, OPTION) \
	SECTION("Where to listen") \
	OPTION(PORT, 'p', "port", "N", \
	       "TCP port (default 10809); 0 lets the system pick one") \
	OPTION(BIND, 'b', "bind", "HOST[:PORT]", \
	       "listen on this address instead of loopback; can be\n" \
	       "repeated; ends in ,tls=MODE where its clients need\n" \
	       "more of --tls than the exports, as do the next three") \
	OPTION(UNIX, 'U', "unix", "PATH", \
	       "listen on a Unix-domain socket; can be repeated;\n" \
	       "'-' is a private one, @NAME an abstract one") \
	OPTION(VSOCK, 0, "vsock", "[CID:]PORT", \
	       "listen for virtual machines, or for the host in one;\n" \
	       "can be repeated") \
	OPTION(FD, 0, "fd", "N", \
	       "listen on an inherited descriptor, or serve the one\n" \
	       "client that it is connected to; can be repeated") \
	OPTION(SINGLE, 's', "single", NULL, \
	       "serve one client on standard input and output") \
	SECTION("What to serve") \
	OPTION(EXPORT, 0, "export", "name=NAME,path=PATH[,KEY[=VALUE]...]", \
	       "an export with settings of its own: mode=MODE,\n" \
	       "read-only, description=TEXT, block-size=MIN,\n" \
	       "uuid=UUID, allow=WHO, tls=MODE; can be repeated;\n" \
	       "a comma in a value is ',,'") \
	OPTION(DEFAULT_EXPORT, 0, "default-export", "NAME", \
	       "the export that answers to the empty name") \
	OPTION(MODE, 'm', "mode", "MODE", \
	       "how writes reach the disk: writeback (default),\n" \
	       "writethrough, writeout, none, directsync or unsafe") \
	OPTION(READ_ONLY, 'r', "read-only", NULL, \
	       "refuse writes on all exports") \
	SECTION("Who may connect") \
	OPTION(ALLOW, 0, "allow", "WHO", \
	       "clients for whom exports without an allow= of their\n" \
	       "own are there: uid:N, gid:N, cid:N, ADDRESS[/BITS],\n" \
	       "or, proved under TLS, dn:NAME, san:KIND:NAME and\n" \
	       "psk:USER; or any (default); can be repeated") \
	OPTION(MAX_CONNECTIONS, 0, "max-connections", "N", \
	       "most connections at a time (default: as many as\n" \
	       "there are descriptors for, at most 65536)") \
	OPTION(MAX_CONNECTIONS_PER_PEER, 0, "max-connections-per-peer", "N", \
	       "most of them from one address, user or context id\n" \
	       "(default: no limit)") \
	SECTION("Encryption") \
	OPTION(TLS, 0, "tls", "MODE", \
	       "off (default): exports without a tls= of their own\n" \
	       "are for plain clients; on: for all; require: for\n" \
	       "those that use TLS") \
	OPTION(TLS_CERTIFICATES, 0, "tls-certificates", "DIR", \
	       "server-cert.pem, server-key.pem, ca-cert.pem and\n" \
	       "perhaps ca-crl.pem are here; SIGHUP rereads them") \
	OPTION(TLS_PSK, 0, "tls-psk", "FILE", \
	       "lines of USER:HEXKEY: clients that know a key") \
	OPTION(TLS_VERIFY_PEER, 0, "tls-verify-peer", NULL, \
	       "clients need a certificate that ca-cert.pem signed") \
	SECTION("Memory and threads") \
	OPTION(CACHE_SIZE, 0, "cache-size", "SIZE", \
	       "memory for cached data (default: a quarter of the\n" \
	       "machine's, at most 4G; at least 16M, 4M a thread)") \
	OPTION(THREADS, 0, "threads", "N", \
	       "threads that serve clients (default: as many as\n" \
	       "there are processors)") \
	SECTION("How to run") \
	OPTION(RUN, 0, "run", "COMMAND", \
	       "run a shell command that finds $uri, $unixsocket,\n" \
	       "$port and $exportname, and exit with its status") \
	OPTION(PID_FILE, 0, "pid-file", "FILE", \
	       "write the process id here once clients can connect") \
	OPTION(HANDOFF, 0, "handoff", "PATH", \
	       "take over, with all clients, from the foliod that\n" \
	       "answers at this socket, and answer there for the next") \
	OPTION(DAEMONIZE, 0, "daemonize", NULL, \
	       "go into the background once clients can connect") \
	OPTION(VERSION, 'V', "version", NULL, \
	       "print the version and exit") \
	OPTION(HELP, 'h', "help", NULL, \
	       "print this and exit")

#endif
