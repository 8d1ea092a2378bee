#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# --pid-file: complete when it appears, after the listeners, gone at the end.

. "$(dirname "$0")/functions.sh" || exit 99
requires nbdinfo --version

truncate -s 1M "$dir/disk"

start_foliod --pid-file "$dir/pid" "$dir/disk"
[ "$(cat "$dir/pid")" = "$pid" ] || fail "$(cat "$dir/pid") is not $pid"
[ "$(nbdinfo --size "$uri")" = 1048576 ] || fail "no client gets in"
[ "$(find "$dir" -name 'pid*' | wc -l)" -eq 1 ] || fail "there is more than it"
stop_foliod
[ ! -e "$dir/pid" ] || fail "it is still there"

# One that was left behind is replaced.
echo 1 >"$dir/pid"
start_foliod --pid-file "$dir/pid" "$dir/disk"
[ "$(cat "$dir/pid")" = "$pid" ] || fail "$(cat "$dir/pid") is not $pid"
# And one that is another process's by now is left alone.
echo 1 >"$dir/pid"
stop_foliod
[ "$(cat "$dir/pid")" = 1 ] || fail "it was not ours to remove"

# Where it cannot be written nothing is served.
fails_with_listening()
{
	local status=0

	timeout 60 "$foliod" -U "$dir/sock" --pid-file "$1" "$dir/disk" \
		2>"$dir/err" || status=$?
	[ "$status" -eq 1 ] || fail "status $status"
	grep -q "cannot write the pid file $1: $2" "$dir/err" || {
		cat "$dir/err"
		fail "the error does not say '$2'"
	}
	[ ! -e "$dir/sock" ] || fail "the socket is still there"
}
fails_with_listening "$dir/no/such/pid" 'No such file or directory'
mkdir "$dir/directory"
fails_with_listening "$dir/directory" 'Is a directory'

# A FIFO is written to, and not replaced.
mkfifo "$dir/fifo"
"$foliod" -U "$dir/sock" --pid-file "$dir/fifo" "$dir/disk" 2>"$dir/err" &
pid=$!
started+=("$pid")
[ "$(timeout 20 cat "$dir/fifo")" = "$pid" ] || fail "not the pid"
stop_foliod "$pid"
[ -p "$dir/fifo" ] || fail "the FIFO is gone"
