#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Listeners: unix and TCP, several at a time, a port of 0, sockets that were
# left behind, and what is gone afterwards.

. "$(dirname "$0")/functions.sh" || exit 99
requires nbdinfo --version

truncate -s 1M "$dir/disk"

size_is_1M()
{
	[ "$(nbdinfo --size "$1")" = 1048576 ] || fail "no client gets to $1"
}

# One unix socket, whose file goes with the server.
start_foliod --unix "$dir/a sock" "$dir/disk"
[ "$base_uri" = "nbd+unix:///?socket=$dir/a%20sock" ] || fail "$base_uri"
size_is_1M "$base_uri"
[ "$(grep -c '^listening on ' "$log")" -eq 1 ] || fail "more than one listener"
stop_foliod
[ ! -e "$dir/a sock" ] || fail "the socket is still there"

# One that was killed leaves its file, and the next one replaces it.
start_foliod --unix "$dir/sock" "$dir/disk"
kill_foliod
[ -S "$dir/sock" ] || fail "the socket of the killed one is gone"
start_foliod --unix "$dir/sock" "$dir/disk"
size_is_1M "$uri"
stop_foliod

# A relative path is absolute in the URI.
cd "$dir"
start_foliod --unix rel disk
[ "$base_uri" = "nbd+unix:///?socket=$(pwd)/rel" ] || fail "$base_uri"
size_is_1M "$uri"
stop_foliod
[ ! -e rel ] || fail "the socket is still there"
cd /

# Any port, on one address.
start_foliod --bind 127.0.0.1:0 "$dir/disk"
[ "$port" -gt 0 ] || fail "no port"
[ "$base_uri" = "nbd://127.0.0.1:$port/" ] || fail "$base_uri"
size_is_1M "$uri"
stop_foliod

# Any port on loopback: one port for all addresses, and no warning.
start_foliod -p 0 "$dir/disk"
ports=$(sed -nE 's/^listening on nbd:.*:([0-9]+)\/$/\1/p' "$log" | sort -u)
[ "$ports" = "$port" ] || fail "more than one port: $ports"
while read -r line; do
	size_is_1M "${line#listening on }"
done < <(grep '^listening on ' "$log")
! grep -q 'warning' "$log" || fail "there is a warning about loopback"
stop_foliod

# Everything at once, with clients on all of it; the order is kept.
start_foliod -b 127.0.0.1:0 -U "$dir/one" -b localhost:0 -U "$dir/two" -U - \
	"$dir/disk"
[ "$(grep -c '^listening on ' "$log")" -ge 5 ] || fail "a listener is missing"
[ "$sock" = "$dir/one" ] || fail "$sock is not the first unix socket"
while read -r line; do
	size_is_1M "${line#listening on }"
done < <(grep '^listening on ' "$log")
private=$(sed -n 's/^listening on nbd+unix.*=//p' "$log" | tail -n 1)
[ -S "$private" ] || fail "no private socket at $private"
stop_foliod
for path in "$dir/one" "$dir/two" "$private" "$(dirname "$private")"; do
	[ ! -e "$path" ] || fail "$path is still there"
done

# IPv6, where the machine has it.
if grep -q '^0\{31\}1 ' /proc/net/if_inet6 2>/dev/null; then
	start_foliod -b '[::1]:0' "$dir/disk"
	[ "$base_uri" = "nbd://[::1]:$port/" ] || fail "$base_uri"
	size_is_1M "$uri"
	stop_foliod
fi

# Whoever listens to everybody is told what that means.
start_foliod -b 0.0.0.0:0 "$dir/disk"
grep -q 'warning: .*0\.0\.0\.0.*not authenticated' "$log" ||
	fail "no warning about 0.0.0.0"
size_is_1M "nbd://127.0.0.1:$port/"
stop_foliod

# What somebody else put in our socket's place is not removed.
start_foliod --unix "$dir/sock" "$dir/disk"
rm "$dir/sock"
echo precious >"$dir/sock"
stop_foliod
[ "$(cat "$dir/sock")" = precious ] || fail "a file was removed"
