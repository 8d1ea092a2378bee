#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Listeners: unix and TCP, several at a time, a port of 0, sockets that were
# left behind, and what is gone afterwards.

. "$(dirname "$0")/functions.sh" || exit 99
requires nbdinfo --version

truncate -s 1M "$dir/disk" "$dir/other"

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

# An abstract socket: no file, and a second one of that name is told by whom
# it is held.
abstract="@foliod test $$"
start_foliod -U "$abstract" "$dir/disk"
[ "$base_uri" = "nbd+unix:///?socket=%40foliod%20test%20$$" ] ||
	fail "$base_uri"
[ ! -e "$abstract" ] || fail "an abstract socket has a file"
cat >"$dir/abstract.py" <<'END'
import nbd, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect("\0" + sys.argv[1][1:])
h = nbd.NBD()
h.connect_socket(s.detach())
assert h.get_size() == 1 << 20
h.shutdown()
END
/usr/bin/python3 "$dir/abstract.py" "$abstract" || fail "no client gets in"
fails_with 1 "$abstract" "in use by pid $pid" -- -U "$abstract" "$dir/other"
stop_foliod
start_foliod -U "$abstract" "$dir/disk"
stop_foliod
# A file that begins with @ is one with a directory.
cd "$dir"
start_foliod -U ./@file disk
[ -S ./@file ] || fail "no socket ./@file"
stop_foliod
cd /

# vsock, where the kernel has it; a client only where it has a loopback.
cat >"$dir/vsock.py" <<'END'
import socket, sys
try:
    listener = socket.socket(socket.AF_VSOCK)
    listener.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
    listener.listen()
except OSError as e:
    sys.exit(1 if sys.argv[1] == "listen" else 2)
if sys.argv[1] == "loopback":
    s = socket.socket(socket.AF_VSOCK)
    s.settimeout(2)
    try:
        s.connect((1, listener.getsockname()[1]))
    except OSError:
        sys.exit(1)
END
if /usr/bin/python3 "$dir/vsock.py" listen; then
	start_foliod --vsock 0 "$dir/disk"
	[[ $base_uri =~ ^nbd\+vsock://[0-9]+:[1-9][0-9]*/$ ]] || fail "$base_uri"
	grep -q 'warning: .*not authenticated' "$log" ||
		fail "no warning about machines beside us"
	vsock_port=${base_uri##*:}
	fails_with 1 "vsock port ${vsock_port%/}" "in use" -- \
		--vsock "${vsock_port%/}" "$dir/other"
	if /usr/bin/python3 "$dir/vsock.py" loopback; then
		size_is_1M "nbd+vsock://1:$vsock_port"
	else
		echo "vsock has no loopback here: no client was tried"
	fi
	stop_foliod
	if /usr/bin/python3 "$dir/vsock.py" loopback; then
		start_foliod --vsock 1:0 "$dir/disk"
		! grep -q warning "$log" || fail "a warning about loopback"
		size_is_1M "$uri"
		stop_foliod
		start_foliod --vsock 1:0 --allow cid:77 "$dir/disk"
		! nbdinfo --size "$uri" >"$dir/out" 2>&1 || fail "cid 1 gets in"
		stop_foliod
		start_foliod --vsock 1:0 --allow cid:1 "$dir/disk"
		size_is_1M "$uri"
		stop_foliod
	fi
else
	echo "the kernel has no vsock: not tried"
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
