#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Who may connect: allow= and --allow, by user, group and address; what those
# who may not are told; the warning about listeners for everybody; caps on
# connections; and keepalive.

. "$(dirname "$0")/functions.sh" || exit 99
requires nbdinfo --version
requires nbdsh --version

truncate -s 1M "$dir/disk" "$dir/other"
me=$(id -u)
group=$(id -g)
nobody=$((me + 1))

# list_is URI NAME...: exactly these are listed there.
list_is()
{
	local uri=$1 got want name
	shift

	got=$(nbdinfo --list "$uri" 2>&1 | sed -n 's/^export="\(.*\)":$/\1/p' |
		sort | tr '\n' ' ')
	want=$(for name in "$@"; do
		echo "$name"
	done | sort | tr '\n' ' ')
	[ "$got" = "$want" ] ||
		fail "$uri lists '$got', not '$*'"
}

gets_in()
{
	[ "$(nbdinfo --size "$1" 2>"$dir/err")" = 1048576 ] ||
		fail "refused at $1: $(cat "$dir/err")"
}

# The answer for $1 is that for a name that nobody has.
is_unknown()
{
	if nbdinfo --size "$1" >"$dir/out" 2>"$dir/err"; then
		fail "$1 is there"
	fi
	nbdinfo --size "${1/$2/nobody-has-this}" >"$dir/out" 2>"$dir/err2" &&
		fail "a name that nobody has is there"
	[ "$(sed "s/$2/NAME/g" "$dir/err")" = \
	  "$(sed "s/nobody-has-this/NAME/g" "$dir/err2")" ] || {
		diff "$dir/err" "$dir/err2"
		fail "another answer than for an unknown name"
	}
}

# By user and group, on a unix socket; an export's own list, and the default.
start_foliod --allow "uid:$nobody" plain="$dir/disk" \
	--export "name=mine,path=$dir/other,allow=uid:$nobody,allow=uid:$me"
list_is "$base_uri" mine
gets_in "$(uri_of mine)"
is_unknown "$(uri_of plain)" plain
stop_foliod

start_foliod --allow "gid:$group" plain="$dir/disk" \
	--export "name=hidden,path=$dir/other,allow=gid:$((group + 1))"
list_is "$base_uri" plain
gets_in "$(uri_of plain)"
is_unknown "$(uri_of hidden)" hidden
stop_foliod

# Supplementary groups, where we may choose ours.
if [ "$me" -eq 0 ] && setpriv --version >/dev/null 2>&1; then
	chmod 711 "$dir"
	start_foliod --allow gid:54321 -U "$dir/open" "$dir/disk"
	chmod 666 "$dir/open"
	is_unknown "$(uri_of disk)" disk
	setpriv --reuid=54322 --regid=54323 --groups=54320,54321 \
		nbdinfo --size "$uri" >"$dir/out" 2>&1 ||
		fail "a supplementary group: $(cat "$dir/out")"
	! setpriv --reuid=54322 --regid=54323 --groups=54320,54322 \
		nbdinfo --size "$uri" >"$dir/out" 2>&1 ||
		fail "a user of other groups gets in"
	stop_foliod
fi

# The empty name of an export that is not there is unknown as well.
start_foliod --allow "uid:$nobody" "$dir/disk"
! nbdinfo --size "$base_uri" >"$dir/out" 2>&1 || fail "the empty name answers"
list_is "$base_uri"
stop_foliod

# By address; uid rules are nothing to TCP, nor addresses to unix sockets.
start_foliod -b 127.0.0.1:0 -U "$dir/sock" \
	--export "name=v4,path=$dir/disk,read-only,allow=127.0.0.0/8" \
	--export "name=far,path=$dir/disk,read-only,allow=192.0.2.0/24" \
	--export "name=user,path=$dir/disk,read-only,allow=uid:$me" \
	--export "name=all,path=$dir/disk,read-only,allow=any"
list_is "nbd://127.0.0.1:$port" v4 all
list_is "nbd+unix:///?socket=$dir/sock" user all
gets_in "nbd://127.0.0.1:$port/v4"
is_unknown "nbd://127.0.0.1:$port/far" far
is_unknown "nbd://127.0.0.1:$port/user" user
stop_foliod

if grep -q '^0\{31\}1 ' /proc/net/if_inet6 2>/dev/null; then
	start_foliod -b '[::1]:0' \
		--export "name=v6,path=$dir/disk,read-only,allow=::1" \
		--export "name=v4,path=$dir/disk,read-only,allow=0.0.0.0/0"
	list_is "$base_uri" v6
	stop_foliod
fi

# A listener for everybody is warned of, until each export has a list.
for args in "" "--allow 0.0.0.0/0 --export name=x,path=$dir/disk"; do
	# shellcheck disable=SC2086 # several words
	start_foliod -b 0.0.0.0:0 $args "$dir/other"
	case $args in
	"") grep -q 'warning: .*not authenticated' "$log" ||
		fail "no warning" ;;
	*) ! grep -q warning "$log" || fail "a warning in spite of lists" ;;
	esac
	stop_foliod
done
start_foliod -b 0.0.0.0:0 x="$dir/disk" \
	--export "name=y,path=$dir/other,allow=192.0.2.1"
grep -q 'warning: .*not authenticated' "$log" ||
	fail "no warning about the export without a list"
stop_foliod

# What is wrong with a list is said.
fails_with 2 "--allow: '10.0.0.1/8'" "10.0.0.0/8" -- --allow 10.0.0.1/8 \
	"$dir/disk"
fails_with 2 "--export: allow: 'uid:x'" -- \
	--export "name=x,path=$dir/disk,allow=uid:x"
fails_with 2 "--max-connections: '0'" -- --max-connections 0 "$dir/disk"
fails_with 2 "--max-connections-per-peer: 'many'" -- \
	--max-connections-per-peer many "$dir/disk"

# Caps: the client over them sees the end at once, and it is logged once.
cat >"$dir/caps.py" <<'END'
"""caps.py PATH HOST PORT TOTAL PER_PEER; 0 where there is no such cap."""
import socket, sys
path, host = sys.argv[1:3]
port, total, per_peer = (int(arg) for arg in sys.argv[3:])

def connect(where):
    s = socket.socket(socket.AF_UNIX if where == path else socket.AF_INET)
    s.settimeout(60)
    s.connect(where)
    data = s.recv(18, socket.MSG_WAITALL)
    assert len(data) in (0, 18), data
    return s if data else None

def fill(where, most):
    clients = [connect(where) for _ in range(most)]
    assert all(clients), "turned away too early"
    for _ in range(20):
        assert connect(where) is None, "one too many"
    return clients

if per_peer:
    a = fill(path, per_peer)
    b = fill((host, port), per_peer)
    # One that leaves makes room for one.
    a.pop().close()
    while True:
        s = connect(path)
        if s:
            break
    a.append(s)
    assert connect(path) is None
else:
    a = fill(path, total)
    assert connect((host, port)) is None
END
start_foliod -U "$dir/sock" -b 127.0.0.1:0 --max-connections 3 "$dir/disk"
timeout 100 /usr/bin/python3 "$dir/caps.py" "$dir/sock" 127.0.0.1 "$port" 3 0 ||
	fail "--max-connections"
grep -q 'turned away: .*--max-connections ' "$log" || fail "nothing in the log"
[ "$(grep -c 'turned away' "$log")" -le 3 ] || fail "a flood of messages"
stop_foliod
start_foliod -U "$dir/sock" -b 127.0.0.1:0 --max-connections-per-peer 2 \
	"$dir/disk"
timeout 100 /usr/bin/python3 "$dir/caps.py" "$dir/sock" 127.0.0.1 "$port" 0 2 ||
	fail "--max-connections-per-peer"
grep -q 'turned away: .*--max-connections-per-peer ' "$log" ||
	fail "nothing in the log"
[ "$(grep -c 'turned away' "$log")" -le 3 ] || fail "a flood of messages"
# The others did not stay: there is room again.
wait_for 20 nbdinfo --size "nbd+unix:///?socket=$dir/sock" ||
	fail "the places of those who left are not free"
stop_foliod

# An idle TCP connection is probed, and not only after the system's two hours.
start_foliod -b 127.0.0.1:0 "$dir/disk"
cat >"$dir/keepalive.py" <<'END'
import os, socket, sys, time
port = int(sys.argv[1])
s = socket.create_connection(("127.0.0.1", port))
s.settimeout(60)
assert len(s.recv(18, socket.MSG_WAITALL)) == 18
ours = "0100007F:%04X" % port
peer = "0100007F:%04X" % s.getsockname()[1]
for _ in range(200):
    for line in open("/proc/net/tcp"):
        f = line.split()
        if f[1] == ours and f[2] == peer:
            kind, when = f[5].split(":")
            # 2 is keepalive; before that, the greeting may be unacknowledged.
            if int(kind, 16) == 2:
                seconds = int(when, 16) / os.sysconf("SC_CLK_TCK")
                assert seconds <= 120, seconds
                sys.exit(0)
    time.sleep(0.05)
sys.exit("no keepalive timer")
END
timeout 60 /usr/bin/python3 "$dir/keepalive.py" "$port" || fail "keepalive"
stop_foliod
