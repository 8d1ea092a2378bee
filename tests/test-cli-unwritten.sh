#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Data that was acknowledged and cannot be written: foliod says at its end
# which export it was of, and fails.  A limit on the size of files stands for
# the disk that fails.

. "$(dirname "$0")/functions.sh" || exit 99
requires nbdsh --version

head -c 1M /dev/zero >"$dir/good"
head -c 4M /dev/zero >"$dir/bad"
(
	ulimit -f 2048			# KiB; the file is longer
	exec "$foliod" -U "$dir/sock" --pid-file "$dir/pid" good="$dir/good" \
		bad="$dir/bad"
) 2>"$dir/log" &
pid=$!
started+=("$pid")
logs+=("$dir/log")
wait_for 20 test -s "$dir/pid" || fail "it does not start"
base_uri="nbd+unix:///?socket=$dir/sock"

# Both exports take a write; one of them cannot keep it, and FLUSH says so.
timeout 60 nbdsh -u "$(uri_of good)" -c 'h.pwrite(b"good" * 1024, 8192)' ||
	fail "the good export"
timeout 60 nbdsh -u "$(uri_of bad)" -c "
h.pwrite(b'lost' * 1024, 3 << 20)
for i in range(2):
    try:
        h.flush()
        assert False, 'FLUSH succeeds'
    except nbd.Error:
        pass
assert h.pread(4, 3 << 20) == b'lost'
" || fail "the bad export"

kill -TERM "$pid"
status=0
reap "$pid" || status=$?
[ "$status" -eq 1 ] || fail "status $status although data was lost"
grep -q "data of export 'bad' ($dir/bad) could not be written" "$dir/log" ||
	fail "it does not say which export"
! grep -q "data of export 'good'" "$dir/log" || fail "it blames the good one"
[ "$(dd if="$dir/good" bs=1 skip=8192 count=4 status=none)" = good ] ||
	fail "the good export's data is not in its file"
[ ! -e "$dir/sock" ] || fail "the socket is still there"
