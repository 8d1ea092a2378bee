#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# --single: one client on standard input and output, over sockets and pipes.

. "$(dirname "$0")/functions.sh" || exit 99
requires nbdinfo --version
requires nbdsh --version

truncate -s 1M "$dir/disk"

# libnbd starts it, with a socket for both.
timeout 60 nbdsh -c "
h.connect_command(['$foliod', '-s', '--pid-file', '$dir/pid', '$dir/disk'])
assert h.get_size() == 1 << 20
assert open('$dir/pid').read().strip().isdigit()
h.pwrite(b'single', 4096)
h.shutdown()
" || fail "a client over a socket"
wait_for 20 test ! -e "$dir/pid" || fail "foliod stays without its client"
[ "$(dd if="$dir/disk" bs=1 skip=4096 count=6 status=none)" = single ] ||
	fail "the data is not there"

# Two pipes, and a client that leaves in the middle of the handshake.
cat >"$dir/pipes.py" <<'END'
import subprocess, sys
foliod, disk = sys.argv[1:]
p = subprocess.Popen([foliod, "--single", disk], stdin=subprocess.PIPE,
                     stdout=subprocess.PIPE)
greeting = p.stdout.read(18)
assert greeting[:16] == b"NBDMAGICIHAVEOPT", greeting
p.stdin.write(b"\0\0\0\1" b"IHAVEOPT" b"\0\0\0\2" b"\0\0\0\0")  # ABORT
p.stdin.flush()
reply = p.stdout.read(20)
assert reply[12:16] == b"\0\0\0\1", reply
assert p.stdout.read() == b""
assert p.wait(30) == 0, p.returncode

p = subprocess.Popen([foliod, "--single", disk], stdin=subprocess.PIPE,
                     stdout=subprocess.PIPE)
p.stdout.read(18)
p.stdin.close()
assert p.stdout.read() == b""
assert p.wait(30) == 0, p.returncode
END
timeout 60 /usr/bin/python3 "$dir/pipes.py" "$foliod" "$dir/disk" ||
	fail "a client over pipes"

# Input that ends at once.
: | timeout 60 "$foliod" -s "$dir/disk" 2>"$dir/err" | cat >"$dir/out" ||
	fail "no input: $(cat "$dir/err")"
[ "$(wc -c <"$dir/out")" -eq 18 ] || fail "no greeting"

# A file is no client.
status=0
timeout 60 "$foliod" -s "$dir/disk" <"$dir/disk" >"$dir/out" 2>"$dir/err" ||
	status=$?
[ "$status" -eq 1 ] || fail "status $status with a file for a client"
[ "$(wc -l <"$dir/err")" -eq 1 ] || fail "not one line: $(cat "$dir/err")"
grep -q 'standard input' "$dir/err" || fail "it says $(cat "$dir/err")"

# SIGTERM ends it although the client is there.
mkfifo "$dir/in"
mkfifo "$dir/reply"
exec 9<>"$dir/in" 8<>"$dir/reply"
"$foliod" -s --pid-file "$dir/pid" "$dir/disk" <&9 >&8 9<&- 8<&- &
pid=$!
started+=("$pid")
wait_for 20 test -s "$dir/pid" || fail "no pid file"
stop_foliod "$pid"
