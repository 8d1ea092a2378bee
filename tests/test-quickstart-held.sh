#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# ./quickstart where its port or its volume is held: it says by whom, prints
# the lines to attach if it is a foliod with that volume, and builds nothing.

. "$(dirname "$0")/functions.sh" || exit 99
requires python3 --version
requires find --version
requires awk 'BEGIN { }'
quickstart=$top_srcdir/quickstart
[ -r /proc/self/fdinfo/0 ] || skip "there is no /proc"

volume=$dir/data/quickstart.img
mkdir "$dir/data"
truncate -s 1M "$volume" "$dir/other"

# quickstart_says STATUS PORT TEXT...: it ends with STATUS, having said each TEXT.
quickstart_says()
{
	local want=$1 port=$2 status=0 text
	shift 2

	FOLIOD_DIR=$dir/data FOLIOD_PORT=$port FOLIOD_BUILD=$dir/build \
		timeout 60 bash "$quickstart" </dev/null >"$dir/out" 2>&1 ||
		status=$?
	for text; do
		grep -q -F -e "$text" "$dir/out" || {
			cat "$dir/out"
			fail "it does not say '$text'"
		}
	done
	[ "$status" -eq "$want" ] || {
		cat "$dir/out"
		fail "status $status, not $want"
	}
	[ ! -e "$dir/build" ] || fail "it began to build"
}

# A port that nobody has: that of a server that is gone.
start_foliod -b 127.0.0.1:0 "$dir/other"
free=$port
stop_foliod

# Our own foliod, asked for at its port and at another one.
start_foliod -b 127.0.0.1:0 "$volume"
served=$port
quickstart_says 0 "$served" "foliod (pid $pid) serves $volume already" \
	"on port $served" "nbd-client 127.0.0.1 $served /dev/nbd0" \
	"file=nbd://127.0.0.1:$served" "nbdcopy disk.img nbd://127.0.0.1:$served"
quickstart_says 0 "$free" "foliod (pid $pid) serves $volume already" \
	"nbd-client 127.0.0.1 $served /dev/nbd0"
stop_foliod

# On a unix socket there is nothing to attach to by TCP.
start_foliod -U "$dir/sock" "$volume"
quickstart_says 0 "$free" "foliod (pid $pid) serves $volume already" \
	'on other listeners'
stop_foliod

# A foliod that serves something else has the port.
start_foliod -b 127.0.0.1:0 "$dir/other"
quickstart_says 1 "$port" "port $port is held by pid $pid (foliod)" FOLIOD_PORT
stop_foliod

# Another program has the file, or the port.
python3 -c '
import signal, sys
f = open(sys.argv[1], "r+b")
print("open", flush=True)
signal.pause()' "$volume" >"$dir/ready" &
holder=$!
started+=("$holder")
wait_for 30 grep -q open "$dir/ready" || fail "the holder does not start"
quickstart_says 1 "$free" "$volume is held by pid $holder (python3"
kill "$holder"
reap "$holder" || :

python3 -c '
import signal, socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen()
print(s.getsockname()[1], flush=True)
signal.pause()' >"$dir/port" &
holder=$!
started+=("$holder")
wait_for 30 test -s "$dir/port" || fail "the holder does not start"
port=$(cat "$dir/port")
quickstart_says 1 "$port" "port $port is held by pid $holder (python3" \
	FOLIOD_PORT
kill "$holder"
reap "$holder" || :

# What is no port.
quickstart_says 1 70000 'FOLIOD_PORT=70000 is not a port number'
quickstart_says 1 x 'FOLIOD_PORT=x is not a port number'
