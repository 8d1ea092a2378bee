#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What another process has: files, ports, sockets.  The message says which.

. "$(dirname "$0")/functions.sh" || exit 99
requires nbdinfo --version

truncate -s 1M "$dir/disk" "$dir/other"

start_foliod -b 127.0.0.1:0 -U "$dir/sock" "$dir/disk"
first=$pid
held_port=$port

# The file, also by another way to it.
fails_with 1 "$dir/disk" "in use by pid $first (foliod)" -- \
	-U "$dir/sock2" "$dir/disk"
ln "$dir/disk" "$dir/link"
fails_with 1 "$dir/link" "in use by pid $first" -- -U "$dir/sock2" "$dir/link"
fails_with 1 "$dir/disk" "in use by pid $first" -- -r -U "$dir/sock2" \
	"$dir/disk"
[ ! -e "$dir/sock2" ] || fail "a socket was left behind"

# The port and the socket.
fails_with 1 "127.0.0.1 port $held_port" "in use by pid $first (foliod)" \
	--port -- -b "127.0.0.1:$held_port" "$dir/other"
fails_with 1 "$dir/sock" "in use by pid $first (foliod)" -- -U "$dir/sock" \
	"$dir/other"
# A file is no socket to be replaced.
fails_with 1 "$dir/other" 'not a socket' -- -U "$dir/other" "$dir/other"
[ "$(stat -c %s "$dir/other")" -eq 1048576 ] || fail "the file was touched"

# None of that disturbed the first one, and what failed holds nothing.
[ "$(nbdinfo --size "$uri")" = 1048576 ] || fail "the first one is gone"
[ "$(nbdinfo --size "nbd+unix:///?socket=$sock")" = 1048576 ] ||
	fail "the first one's socket is gone"
start_foliod "$dir/other"
stop_foliod
stop_foliod "$first"

# Readers share a file with each other, and with no writer.
start_foliod -r "$dir/disk"
first=$pid
start_foliod -r "$dir/disk"
fails_with 1 "$dir/disk" 'in use by pid' -- -U "$dir/sock2" "$dir/disk"
stop_foliod
stop_foliod "$first"

# A killed one's file is free at once.
start_foliod "$dir/disk"
kill_foliod
start_foliod "$dir/disk"
stop_foliod
