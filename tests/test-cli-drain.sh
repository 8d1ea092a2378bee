#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# SIGTERM under load: what is under way is answered, what comes later is told
# ESHUTDOWN, what was acknowledged is in the file, and the status is 0.

. "$(dirname "$0")/functions.sh" || exit 99
requires nbdsh --version

size=$((64 << 20))
truncate -s "$size" "$dir/one" "$dir/two"

# Write 4 KiB blocks, many at a time, until the server ends that.  Prints the
# numbers of the blocks that were acknowledged, and when the first are.
cat >"$dir/writer.py" <<'END'
import errno, nbd, sys
uri, ready, acked_path = sys.argv[1:]
h = nbd.NBD()
h.connect_uri(uri)
blocks = h.get_size() // 4096
acked, errors, pending, block = [], set(), 0, 0

def done(block):
    def callback(error):
        global pending
        pending -= 1
        if error.value:
            errors.add(error.value)
        else:
            acked.append(block)
        return 1
    return callback

try:
    while block < blocks and not errors:
        while pending < 64 and block < blocks:
            data = block.to_bytes(8, "big") * 512
            h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)),
                         block * 4096, completion=done(block))
            pending += 1
            block += 1
        h.poll(-1)
        if block == 128:
            open(ready, "w").close()
        # Slow enough to be at it when the signal comes.
        if block > 128:
            h.poll(1)
    while pending and h.aio_is_ready():
        h.poll(-1)
except nbd.Error as e:
    # The server has gone while we were about to send more.
    assert e.errnum in (errno.ENOTCONN, errno.EPIPE, errno.ECONNRESET,
                        errno.EINVAL, errno.ESHUTDOWN, None, 0), e
assert errors <= {errno.ESHUTDOWN, errno.ENOTCONN}, errors
with open(acked_path, "w") as f:
    f.writelines(f"{b}\n" for b in acked)
assert len(acked) >= 64, len(acked)
END
cat >"$dir/verify.py" <<'END'
import sys
disk, acked = sys.argv[1:]
with open(disk, "rb") as f:
    for line in open(acked):
        block = int(line)
        f.seek(block * 4096)
        assert f.read(4096) == block.to_bytes(8, "big") * 512, block
END

start_foliod one="$dir/one" two="$dir/two"
writers=()
for name in one two; do
	timeout 120 /usr/bin/python3 "$dir/writer.py" "$(uri_of $name)" \
		"$dir/$name.ready" "$dir/$name.acked" &
	writers+=("$!")
	started+=("$!")
done
for name in one two; do
	wait_for 60 test -e "$dir/$name.ready" || fail "no load on $name"
done
stop_foliod
for writer in "${writers[@]}"; do
	reap "$writer" || fail "a writer saw what it should not"
done
for name in one two; do
	/usr/bin/python3 "$dir/verify.py" "$dir/$name" "$dir/$name.acked" ||
		fail "acknowledged data of $name is not in the file"
	[ "$(stat -c %s "$dir/$name")" -eq "$size" ] || fail "the size changed"
done

# Nobody new gets in once it stops, a client that is idle hears ESHUTDOWN or
# the end, and a second signal does not wait for it.
start_foliod "$dir/one"
cat >"$dir/idle.py" <<'END'
import errno, nbd, sys, time
uri, ready, stopping, refused = sys.argv[1:]
h = nbd.NBD()
h.connect_uri(uri)
h.pread(512, 0)
open(ready, "w").close()
import os
while not os.path.exists(stopping):
    time.sleep(0.02)
try:
    h.pread(512, 0)
    assert False, "a request was served"
except nbd.Error as e:
    assert e.errnum in (errno.ESHUTDOWN, errno.ENOTCONN), e
try:
    nbd.NBD().connect_uri(uri)
    assert False, "a new client got in"
except nbd.Error:
    pass
open(refused, "w").close()
# Sit there until the server hangs up.
while h.aio_is_ready():
    h.poll(1000)
END
timeout 120 /usr/bin/python3 "$dir/idle.py" "$uri" "$dir/ready" \
	"$dir/stopping" "$dir/refused" &
idle=$!
started+=("$idle")
wait_for 60 test -e "$dir/ready" || fail "no idle client"
kill -TERM "$pid"
wait_for 20 test ! -S "$sock" || fail "it still listens"
touch "$dir/stopping"
wait_for 20 test -e "$dir/refused" || fail "not refused"
stop_foliod
reap "$idle" || fail "the idle client"

# SIGHUP ends nothing.
start_foliod "$dir/one"
kill -HUP "$pid"
wait_for 20 grep -q SIGHUP "$log" || fail "nothing about SIGHUP in the log"
nbdsh -u "$uri" -c 'h.pread(512, 0)' || fail "gone after SIGHUP"
stop_foliod

# SIGTERM while it starts, at a random moment: status 0, or ended by the signal
# before it was taken care of; and nothing left behind.
for delay in 0 0.002 0.005 0.01 0.02; do
	"$foliod" -U "$dir/early" --pid-file "$dir/early.pid" "$dir/one" \
		"$dir/two" 2>"$dir/err" &
	pid=$!
	started+=("$pid")
	sleep "$delay"
	kill -TERM "$pid"
	status=0
	reap "$pid" || status=$?
	case $status in
	0 | 143) ;;
	*) cat "$dir/err"; fail "status $status" ;;
	esac
	[ ! -e "$dir/early" ] || fail "a socket was left behind"
	[ ! -e "$dir/early.pid" ] || fail "a pid file was left behind"
done
