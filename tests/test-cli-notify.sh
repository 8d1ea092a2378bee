#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What the service manager is told: when foliod can serve, rereads, stops, and
# that it is alive; at a path and at an abstract socket.

. "$(dirname "$0")/functions.sh" || exit 99
requires python3 --version
requires nbdinfo --version

truncate -s 1M "$dir/a" "$dir/b"

# Each message becomes a line, with | between its own.  An abstract socket's
# name is written to the file first, when it listens.
cat >"$dir/listen.py" <<'END'
import os, socket, sys
kind, file = sys.argv[1:]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
if kind == "abstract":
    s.bind("")
    name = "@" + s.getsockname()[1:].decode()
else:
    name = file + ".sock"
    s.bind(name)
with open(file, "a") as f:
    print(name, file=f, flush=True)
    while True:
        print(s.recv(4096).decode().replace("\n", "|"), file=f, flush=True)
END

# listen KIND: sets $said, the file, and NOTIFY_SOCKET.
listen()
{
	said=$dir/said-$1
	python3 "$dir/listen.py" "$1" "$said" &
	started+=("$!")
	wait_for 20 test -s "$said" || fail "nobody listens"
	NOTIFY_SOCKET=$(head -n 1 "$said")
	export NOTIFY_SOCKET
}

# says PATTERN: a whole message, sooner or later.
says()
{
	wait_for 20 grep -qxE -- "$1" "$said" || {
		cat "$said"
		fail "nobody was told '$1'"
	}
}

number_of()
{
	grep -cxE -- "$1" "$said" || :
}

has_number_of()
{
	[ "$(number_of "$1")" -ge "$2" ]
}

monotonic_usec()
{
	python3 -c 'import time; print(time.monotonic_ns() // 1000)'
}

reloading='RELOADING=1\|MONOTONIC_USEC=[0-9]+\|STATUS=.*'
ready='READY=1\|STATUS=Serving 2 exports'

# A watchdog that is not meant for it is not fed.
export WATCHDOG_USEC=3000 WATCHDOG_PID=1
for kind in path abstract; do
	listen "$kind"
	start_foliod a="$dir/a" b="$dir/b"
	says "$ready"
	# It can be used by then.
	nbdinfo --size "$uri" >/dev/null

	before=$(monotonic_usec)
	kill -HUP "$pid"
	says "$reloading"
	wait_for 20 has_number_of "$ready" 2 || fail "it never was ready again"
	usec=$(sed -n 's/.*MONOTONIC_USEC=\([0-9]*\).*/\1/p' "$said")
	if [ "$usec" -lt "$before" ] || [ "$usec" -gt "$(monotonic_usec)" ]; then
		fail "it was not reread at $usec"
	fi

	stop_foliod
	says 'STOPPING=1\|STATUS=.*'
	says 'STATUS=Writing .*'
	# In this order, and nothing else.
	order=$(sed 's/[=|].*//' "$said" | tail -n +2 | tr '\n' ' ')
	[ "$order" = 'READY RELOADING READY STOPPING STATUS ' ] ||
		fail "the order: $order"
done

# One that is meant for it is, to the end, and never before it is ready.
unset WATCHDOG_PID
listen fed
start_foliod a="$dir/a" --threads 2
wait_for 20 has_number_of 'WATCHDOG=1' 5 || fail "the watchdog is not fed"
stop_foliod
[[ $(sed -n 2p "$said") = READY=1* ]] || fail "it was fed before it was ready"
unset WATCHDOG_USEC

# Commands are not services of their own.
# shellcheck disable=SC2016 # the command's shell expands it
out=$("$foliod" --run 'echo "${NOTIFY_SOCKET-no} ${WATCHDOG_USEC-no}"' \
	"$dir/a" 2>"$dir/err")
[ "$out" = 'no no' ] || fail "the command has $out"
says 'READY=1\|STATUS=Serving 1 export'

# What cannot be used is said once, and nothing is lost by it.
NOTIFY_SOCKET=nowhere start_foliod a="$dir/a"
nbdinfo --size "$uri" >/dev/null
stop_foliod
grep -q "cannot use NOTIFY_SOCKET='nowhere'" "$log" || fail "no warning"
NOTIFY_SOCKET=$dir/nobody start_foliod a="$dir/a"
nbdinfo --size "$uri" >/dev/null
stop_foliod
[ "$(grep -c 'cannot notify' "$log")" -eq 1 ] || fail "not one warning"
