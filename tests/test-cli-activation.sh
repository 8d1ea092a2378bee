#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Sockets that come open: systemd's LISTEN_FDS, and --fd, listening or
# connected; and what is said about those that are neither.

. "$(dirname "$0")/functions.sh" || exit 99
requires nbdinfo --version
requires nbdsh --version

truncate -s 1M "$dir/disk" "$dir/other"

# with.py [--env NAME=VALUE]... [--pid] SOCKET... -- COMMAND...: run it with
# these as descriptors from 3 on: unix=PATH, abstract=NAME, tcp, tcp6 (for
# both families) listening; idle, datagram, file; pair, whose other end is
# descriptor 9.  With --pid, LISTEN_PID is its pid.
cat >"$dir/with.py" <<'END'
import os, socket, sys
args = sys.argv[1:]
env, fds, other = dict(os.environ), [], None
while args[0] != "--":
    arg = args.pop(0)
    kind, _, value = arg.partition("=")
    if arg == "--env":
        name, _, value = args.pop(0).partition("=")
        env[name] = value
        continue
    if arg == "--pid":
        env["LISTEN_PID"] = str(os.getpid())
        continue
    if kind == "file":
        fds.append(os.open("/dev/null", os.O_RDWR))
        continue
    if kind == "pair":
        s, other = socket.socketpair()
        other = other.detach()
    elif kind == "datagram":
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    elif kind == "tcp6":
        s = socket.socket(socket.AF_INET6)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        s.bind(("::", 0))
    elif kind in ("unix", "abstract"):
        s = socket.socket(socket.AF_UNIX)
        s.bind(value if kind == "unix" else "\0" + value)
    else:
        s = socket.socket()
        s.bind(("127.0.0.1", 0))
    if kind in ("unix", "abstract", "tcp", "tcp6"):
        s.listen()
    fds.append(s.detach())
# Out of the way first.
fds = [os.dup2(fd, 100 + i) for i, fd in enumerate(fds)]
if other is not None:
    os.dup2(other, 9)
for i, fd in enumerate(fds):
    os.dup2(fd, 3 + i)
    os.close(fd)
os.execvpe(args[1], args[1:], env)
END

# start_with WITH... -- FOLIOD-ARGUMENT...: like start_foliod.
start_with()
{
	local with=()

	while [ "$1" != -- ]; do
		with+=("$1")
		shift
	done
	shift
	nr_started=$((nr_started + 1))
	log=$dir/with-$nr_started.log
	rm -f "$dir/pid"
	/usr/bin/python3 "$dir/with.py" "${with[@]}" -- "$foliod" \
		--pid-file "$dir/pid" "$@" </dev/null 2>"$log" &
	pid=$!
	started+=("$pid")
	logs+=("$log")
	until [ "$(cat "$dir/pid" 2>/dev/null)" = "$pid" ]; do
		! has_ended "$pid" || {
			cat "$log"
			fail "foliod did not start: ${with[*]} -- $*"
		}
		sleep 0.05
	done
}

# with_fails STATUS TEXT -- WITH... -- FOLIOD-ARGUMENT...
with_fails()
{
	local want=$1 text=$2 status=0 with=()
	shift 3

	while [ "$1" != -- ]; do
		with+=("$1")
		shift
	done
	shift
	timeout --kill-after=5 60 /usr/bin/python3 "$dir/with.py" "${with[@]}" \
		-- "$foliod" "$@" </dev/null >"$dir/out" 2>"$dir/err" ||
		status=$?
	[ "$status" -eq "$want" ] ||
		fail "status $status of ${with[*]}: $(cat "$dir/err")"
	[ "$(wc -l <"$dir/err")" -eq 1 ] || {
		cat "$dir/err"
		fail "not one line of error for ${with[*]}"
	}
	grep -qF -- "$text" "$dir/err" || {
		cat "$dir/err"
		fail "the error of ${with[*]} does not say '$text'"
	}
}

uris()
{
	sed -n 's/^listening on //p' "$log"
}

size_is_1M()
{
	[ "$(nbdinfo --size "$1")" = 1048576 ] || fail "no client gets to $1"
}

# ---- LISTEN_FDS ----

# Several sockets, with names, and no default listener beside them.
start_with --pid --env LISTEN_FDS=3 --env LISTEN_FDNAMES=one:two: \
	unix="$dir/one" tcp unix="$dir/two" -- "$dir/disk"
[ "$(uris | wc -l)" -eq 3 ] || fail "not three listeners: $(uris)"
[ "$(uris | head -n 1)" = "nbd+unix:///?socket=$dir/one" ] ||
	fail "the first listener is $(uris | head -n 1)"
while read -r uri; do
	size_is_1M "$uri"
done < <(uris)
stop_foliod
# They are not ours to remove.
for path in "$dir/one" "$dir/two"; do
	[ -S "$path" ] || fail "a passed socket was removed"
done
rm "$dir/one" "$dir/two"

# Both families in one socket, for everybody: a warning, by its name.
start_with --pid --env LISTEN_FDS=1 --env LISTEN_FDNAMES=everywhere tcp6 -- \
	"$dir/disk"
grep -q "warning: .*('everywhere').*not authenticated" "$log" ||
	fail "no warning about a socket for everybody"
stop_foliod

# The same without a name, and with a list of IPv4 addresses, which holds.
start_with --pid --env LISTEN_FDS=1 tcp6 -- --allow 127.0.0.1 "$dir/disk"
! grep -q warning "$log" || fail "a warning in spite of a list"
port=$(uris | sed -n 's|^nbd://\[::\]:\([0-9]*\)/$|\1|p')
[ -n "$port" ] || fail "it listens on $(uris)"
size_is_1M "nbd://127.0.0.1:$port"
! nbdinfo --size "nbd://[::1]:$port" >"$dir/out" 2>&1 ||
	fail "who is not in the list gets in"
stop_foliod

# What is meant for another process is left alone: the default listener is
# there, and the command of --run sees none of it in any case.
cat >"$dir/show" <<'END'
env | grep '^LISTEN_'
echo "uri=$uri"
END
with_fails 0 "listening on nbd+unix" -- --env LISTEN_PID=1 \
	--env LISTEN_FDS=1 tcp -- --run "sh $dir/show" "$dir/disk"
grep -q '^uri=nbd+unix:' "$dir/out" || fail "$(cat "$dir/out")"
! grep -q LISTEN_ "$dir/out" || fail "the command sees $(cat "$dir/out")"
with_fails 0 "listening on nbd://127.0.0.1" -- --pid --env LISTEN_FDS=1 \
	--env LISTEN_FDNAMES=x tcp -- --run "sh $dir/show" "$dir/disk"
grep -q '^uri=nbd://127.0.0.1:' "$dir/out" || fail "$(cat "$dir/out")"
! grep -q LISTEN_ "$dir/out" || fail "the command sees $(cat "$dir/out")"

# The rule: either these sockets, or listeners of the command line.
for args in "-p 0" "-b 127.0.0.1:0" "-U -" "--fd 3" "--vsock 0"; do
	# shellcheck disable=SC2086 # two words
	with_fails 2 "leave out --port, --bind, --unix, --vsock and --fd" -- \
		--pid --env LISTEN_FDS=1 tcp -- $args "$dir/disk"
done
with_fails 2 "--single serves standard input" -- --pid --env LISTEN_FDS=2 \
	tcp tcp -- --single "$dir/disk"

with_fails 2 "LISTEN_FDS is 'x'" -- --pid --env LISTEN_FDS=x tcp -- \
	"$dir/disk"
with_fails 2 "LISTEN_FDS is '65'" -- --pid --env LISTEN_FDS=65 tcp -- \
	"$dir/disk"
with_fails 2 "2 names for 1 sockets" -- --pid --env LISTEN_FDS=1 \
	--env LISTEN_FDNAMES=a:b tcp -- "$dir/disk"
with_fails 2 "descriptor 4 ('b') is not a socket" -- --pid \
	--env LISTEN_FDS=2 --env LISTEN_FDNAMES=a:b tcp file -- "$dir/disk"
with_fails 2 "descriptor 3 is not a stream socket" -- --pid \
	--env LISTEN_FDS=1 datagram -- "$dir/disk"
with_fails 2 "descriptor 3 is a socket that neither listens nor" -- --pid \
	--env LISTEN_FDS=1 idle -- "$dir/disk"

# With systemd's own program.
if systemd-socket-activate --version >/dev/null 2>&1; then
	systemd-socket-activate -l "$dir/sd" --fdname=disks \
		"$foliod" --pid-file "$dir/sd.pid" "$dir/disk" \
		</dev/null 2>"$dir/sd.log" &
	pid=$!
	started+=("$pid")
	wait_for 20 test -S "$dir/sd" || fail "no socket of systemd's"
	size_is_1M "nbd+unix:///?socket=$dir/sd"
	[ "$(cat "$dir/sd.pid")" = "$pid" ] || fail "it is another process"
	stop_foliod
fi

# ---- --fd ----

start_with unix="$dir/one" tcp abstract="foliod-test-$$" -- \
	--fd 3 --fd=4 --fd 5 -U "$dir/own" "$dir/disk"
[ "$(uris | wc -l)" -eq 4 ] || fail "not four listeners: $(uris)"
size_is_1M "nbd+unix:///?socket=$dir/one"
size_is_1M "nbd+unix:///?socket=$dir/own"
size_is_1M "$(uris | sed -n 2p)"
[ "$(uris | sed -n 3p)" = "nbd+unix:///?socket=%40foliod-test-$$" ] ||
	fail "the abstract socket is $(uris | sed -n 3p)"
stop_foliod
[ ! -e "$dir/own" ] || fail "our own socket is still there"
[ -S "$dir/one" ] || fail "a passed socket was removed"

# One on standard input, as inetd has it, stays one in the background.
rm -f "$dir/pid"
timeout 60 /usr/bin/python3 "$dir/with.py" unix="$dir/stdin" -- \
	sh -c 'exec "$@" 0<&3 3<&-' - "$foliod" --daemonize \
	--pid-file "$dir/pid" --fd 0 "$dir/disk" 2>"$dir/err" ||
	fail "--fd 0: $(cat "$dir/err")"
daemon=$(cat "$dir/pid")
size=$(nbdinfo --size "nbd+unix:///?socket=$dir/stdin" 2>&1) || :
kill -TERM "$daemon"
wait_for 20 test ! -e "$dir/pid" || {
	kill -KILL "$daemon"
	fail "the one in the background stays"
}
[ "$size" = 1048576 ] || fail "no client of the one in the background: $size"

# A connected one is a client, which is served alone.
cat >"$dir/client.py" <<'END'
import os, socket, subprocess, sys
import nbd
how, foliod, disk = sys.argv[1:]
ours, theirs = socket.socketpair()
args = [foliod]
if how == "systemd":
    # As a service with Accept=yes has it; the pid is filled in by the shell.
    args = ["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 '
            'LISTEN_FDNAMES=connection exec "$@"', "-", foliod]
else:
    args += ["--fd", "3"]
p = subprocess.Popen(args + [disk], preexec_fn=lambda: os.dup2(
    theirs.fileno(), 3), pass_fds=(3,))
theirs.close()
h = nbd.NBD()
h.connect_socket(ours.detach())
assert h.get_size() == 1 << 20
h.pwrite(how.encode().ljust(512), 4096)
h.shutdown()
assert p.wait(60) == 0, p.returncode
with open(disk, "rb") as f:
    f.seek(4096)
    assert f.read(512).rstrip() == how.encode()
END
for how in fd systemd; do
	timeout 100 /usr/bin/python3 "$dir/client.py" $how "$foliod" \
		"$dir/disk" || fail "a connected socket, $how"
done

with_fails 2 "descriptor 7 is not open" -- tcp -- --fd 7 "$dir/disk"
with_fails 2 "descriptor 3 is not a socket" -- file -- --fd 3 "$dir/disk"
with_fails 2 "leave out the other listeners" -- pair tcp -- --fd 3 --fd 4 \
	"$dir/disk"
with_fails 2 "leave out the other listeners" -- pair -- --fd 3 -p 0 \
	"$dir/disk"
with_fails 2 "excludes --run, --daemonize and --handoff" -- pair -- --fd 3 \
	--run true "$dir/disk"
with_fails 2 "excludes --run, --daemonize and --handoff" -- pair -- --fd 3 \
	--handoff "$dir/handoff" "$dir/disk"
fails_with 2 "--fd: 'x' is not the number" -- --fd x "$dir/disk"
fails_with 2 "--fd: 3 is given twice" -- --fd 3 --fd 3 "$dir/disk"
fails_with 2 "leave out" -- --single --fd 3 "$dir/disk"
