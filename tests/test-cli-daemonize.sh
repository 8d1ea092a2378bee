#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# --daemonize: the command returns when clients can connect, errors before
# that are its own, and what stays has nothing of the terminal.

. "$(dirname "$0")/functions.sh" || exit 99
requires nbdinfo --version
requires nbdsh --version

truncate -s 1M "$dir/disk"
cd "$dir"

# Relative paths mean what they meant at the start.
timeout 60 "$foliod" --daemonize --pid-file pid --unix sock disk </dev/null \
	>out 2>err || fail "it did not start: $(cat err)"
daemon=$(cat pid)
trap 'kill -KILL "$daemon" 2>/dev/null; cleanup' EXIT
grep -qx "listening on nbd+unix:///?socket=$(pwd)/sock" err ||
	fail "it does not say where it listens: $(cat err)"
[ ! -s out ] || fail "it wrote to standard output"
[ "$(nbdinfo --size "nbd+unix:///?socket=$dir/sock")" = 1048576 ] ||
	fail "no client gets in"
[ "$(readlink "/proc/$daemon/cwd")" = / ] || fail "it holds its directory"
for fd in 0 1; do
	[ "$(readlink "/proc/$daemon/fd/$fd")" = /dev/null ] ||
		fail "descriptor $fd is $(readlink "/proc/$daemon/fd/$fd")"
done
[ "$(readlink "/proc/$daemon/fd/2")" != "$dir/err" ] ||
	fail "it holds standard error"
read -r _ _ _ _ group session _ <"/proc/$daemon/stat"
[ "$group $session" = "$daemon $daemon" ] || fail "it has no session of its own"

# Two at a time: the second one's error is told, with its status.
status=0
timeout 60 "$foliod" --daemonize --unix sock2 disk </dev/null 2>err ||
	status=$?
[ "$status" -eq 1 ] || fail "status $status for a held file"
grep -q "disk: in use by pid $daemon" err || fail "$(cat err)"
[ ! -e sock2 ] || fail "a socket was left behind"

status=0
timeout 60 "$foliod" --daemonize --unix sock2 nothing </dev/null 2>err ||
	status=$?
[ "$status" -eq 1 ] || fail "status $status for a missing file"
grep -q 'nothing: no such file' err || fail "$(cat err)"

# SIGTERM ends it, having written what it has.
nbdsh -u "nbd+unix:///?socket=$dir/sock" -c 'h.pwrite(b"daemon", 0)'
kill -TERM "$daemon"
wait_for 30 has_ended "$daemon" || fail "it does not end"
[ "$(head -c 6 disk)" = daemon ] || fail "the data is not there"
[ ! -e pid ] || fail "the pid file is still there"
[ ! -e sock ] || fail "the socket is still there"
