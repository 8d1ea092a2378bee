#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# --handoff: a new foliod takes the clients over from the one that serves, and
# they see nothing but a pause; whatever goes wrong, the old one goes on.
# FOLIOD_HANDOFFS says how often under load (4).

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
requires nbdsh --version

export FOLIOD_SEED=$seed
export PYTHONDONTWRITEBYTECODE=1
client=$tests_dir/handoff-client.py

# serve_at ARGUMENT...: a foliod that takes over from the last one, or is the
# first.
serve_at()
{
	start_foliod --threads 2 --cache-size 32M --handoff "$dir/handoff" \
		--pid-file "$dir/pid" --unix "$dir/sock" "$@"
}

have_sockets()
{
	local name

	for name in sock handoff; do
		[ -S "$dir/$name" ] || fail "the socket '$name' is gone"
	done
}

# The same for all but the first: the old one ends well.
hand_over()
{
	local old=$pid old_log=$log

	serve_at "$@"
	reap "$old" || fail "the old server ended with status $?"
	[ "$(cat "$dir/pid")" = "$pid" ] || fail "the pid file is not the new one's"
	have_sockets
	[ "$(stat -c %a "$dir/handoff")" = 600 ] || fail "others may connect"
	grep -q "over to pid $pid" "$old_log" || fail "the old one says nothing"
	grep -qE "took over [0-9]+ connections? from pid $old, which paused for" \
		"$log" || fail "the new one says nothing"
}

# A new server with these arguments fails with status 1 and these words; the
# old one goes on.
new_fails()
{
	local words=$1 status=0
	shift

	timeout 60 "$foliod" --threads 2 --cache-size 32M \
		--handoff "$dir/handoff" --unix "$dir/sock" "$@" \
		</dev/null >"$dir/out" 2>"$dir/err" || status=$?
	[ "$status" -eq 1 ] || {
		cat "$dir/err"
		fail "the new server ended with status $status"
	}
	grep -qF -- "$words" "$dir/err" || {
		cat "$dir/err"
		fail "the new server does not say '$words'"
	}
}

# Does the old one go on, with its files, for old clients and new ones?
goes_on()
{
	! has_ended "$pid" || fail "$1: the old server has ended"
	have_sockets
	timeout 60 nbdsh -u "$uri" -c "
h.pwrite(b'$1' * 100, 50 << 20)
assert h.pread(len('$1') * 100, 50 << 20) == b'$1' * 100" ||
		fail "$1: the old server does not go on"
}

# begin KIND: a client that waits for next() once it is in the middle.
begin()
{
	# shellcheck disable=SC2034
	coproc talk { python3 "$client" "$1" "$dir/sock"; }
	# shellcheck disable=SC2154
	talk_pid=$talk_PID
	started+=("$talk_pid")
	exec {from}<&"${talk[0]}" {to}>&"${talk[1]}"
	hears ready
}

hears()
{
	local line

	read -r -t 60 -u "$from" line || fail "the client has gone"
	[ "$line" = "$1" ] || fail "the client said '$line'"
}

finish()
{
	echo >&"$to"
	hears "done"
	reap "$talk_pid" || fail "the client ended with status $?"
	exec {from}<&- {to}>&-
}

truncate -s 64M "$dir/disk" "$dir/other"
truncate -s 32M "$dir/small"

serve_at vol="$dir/disk"

# Connections in the middle of everything, of every kind.
begin clients
hand_over vol="$dir/disk"
grep -qE 'took over 1[5-9] connections' "$log" || fail "some are missing"
finish
# Twice while the client waits; and what it was in the middle of is taken back.
begin clients
hand_over vol="$dir/disk"
timeout 60 python3 "$client" new "$dir/handoff" told
hand_over vol="$dir/disk"
finish

# A server that gives up at any step leaves the old one as it was.
begin steady
for step in connected noise version type unknown long fds body half asked \
	listener conn told refuses confused noisy silence; do
	timeout 60 python3 "$client" new "$dir/handoff" $step ||
		fail "step '$step'"
	goes_on $step
done
[ "$(grep -c 'going on here' "$log")" -ge 5 ] || fail "it did not take back"

# One that cannot serve what it is to serve: seen before, and after.
new_fails "$dir/missing: No such file" vol="$dir/missing"
goes_on missing
start_foliod --threads 1 --cache-size 16M other="$dir/other"
holder=$pid
log=$dir/foliod-$((nr_started - 1)).log
pid=$(cat "$dir/pid")
uri="nbd+unix:///vol?socket=$dir/sock"
new_fails "$dir/other" vol="$dir/disk" other="$dir/other"
goes_on held
stop_foliod "$holder"
new_fails "block-size" --export "name=vol,path=$dir/disk,block-size=4k" \
	--export "name=odd,path=$(printf x >"$dir/odd"; echo "$dir/odd"),block-size=4k"
goes_on odd
new_fails "cannot listen" --unix "$dir/no/such/dir/sock" vol="$dir/disk"
goes_on listen
finish

# What the new one does not want is closed, and what it wants beside is opened.
old=$pid
serve_at --unix "$dir/sock2" --port 0 vol="$dir/disk"
reap "$old" || fail "status $?"
tcp=$(sed -n 's/^listening on nbd:/nbd:/p' "$log" | head -n 1)
old=$pid
serve_at --port 0 vol="$dir/disk"
reap "$old" || fail "status $?"
[ ! -e "$dir/sock2" ] || fail "a socket that nobody wants is left"
[ "$(sed -n 's/^listening on nbd:/nbd:/p' "$log" | head -n 1)" = "$tcp" ] ||
	fail "the port is another one"
hand_over vol="$dir/disk"

# A connection that does not fit is closed, and the others live.
for misfit in gone small; do
	old=$pid
	serve_at vol="$dir/disk" $misfit="$dir/other"
	reap "$old" || fail "status $?"
	begin steady
	rm -f "$dir/there" "$dir/go"
	timeout 60 nbdsh -u "nbd+unix:///$misfit?socket=$dir/sock" -c "
import os, time
open('$dir/there', 'w').close()
while not os.path.exists('$dir/go'):
    time.sleep(0.05)
try:
    h.pread(512, 0)
    raise SystemExit('it was not closed')
except nbd.Error:
    pass
" &
	watcher=$!
	started+=("$watcher")
	wait_for 60 test -e "$dir/there" || fail "no client"
	if [ $misfit = gone ]; then
		hand_over vol="$dir/disk"
		why='no such export'
	else
		hand_over vol="$dir/disk" small="$dir/small"
		why='its export is smaller'
	fi
	grep -q "closing a connection to export '$misfit'.*$why" "$log" ||
		fail "it is not told which was closed"
	touch "$dir/go"
	reap "$watcher" || fail "status $?"
	finish
done

# In the background, with a relative path.
( cd "$dir" && "$foliod" --daemonize --threads 2 --cache-size 32M \
	--handoff handoff --pid-file pid --unix sock vol=disk ) \
	2>"$dir/background.log" || fail "it does not start in the background"
reap "$pid" || fail "status $?"
pid=$(cat "$dir/pid")
started+=("$pid")
timeout 60 python3 "$client" new "$dir/handoff" told
goes_on background
old=$pid
serve_at vol="$dir/disk"
wait_for 60 test ! -e "/proc/$old" || fail "the one in the background stays"

# The other user's.
if [ "$(id -u)" -eq 0 ] && setpriv --reuid=65534 --clear-groups true 2>/dev/null
then
	chmod 711 "$dir"
	status=0
	setpriv --reuid=65534 --clear-groups python3 - "$dir/handoff" \
		2>/dev/null <<'END' || status=$?
import socket, sys
socket.socket(socket.AF_UNIX).connect(sys.argv[1])
END
	[ "$status" -ne 0 ] || fail "another user could connect"
	chmod 666 "$dir/handoff"
	setpriv --reuid=65534 --clear-groups python3 - "$dir/handoff" <<'END' ||
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
s.connect(sys.argv[1])
assert b"another user" in s.recv(1000)
END
		fail "another user is not turned away"
	chmod 600 "$dir/handoff"
	grep -q 'is turned away: it belongs to another user' "$log" ||
		fail "it is not told"
	goes_on user
fi

# The socket goes with a server that stops; one that was killed leaves it.
stop_foliod
for left in handoff sock; do
	[ ! -e "$dir/$left" ] || fail "its socket '$left' is left"
done
serve_at vol="$dir/disk"
kill_foliod
serve_at vol="$dir/disk"

# An old one that dies, or is none, is told of.
kill -STOP "$pid"
"$foliod" --threads 1 --cache-size 16M --handoff "$dir/handoff" \
	--unix "$dir/sock" vol="$dir/disk" 2>"$dir/err" &
new=$!
started+=("$new")
sleep 0.3
kill_foliod
status=0
reap "$new" || status=$?
[ "$status" -eq 1 ] || fail "status $status"
grep -q "cannot take over from pid $pid: it has gone" "$dir/err" || {
	cat "$dir/err"
	fail "it is not told that the old one died"
}
rm -f "$dir/handoff" "$dir/sock"
for says in noise refused version end no-fd no-listener bad-conn go too-few \
	dies; do
	rm -f "$dir/ready"
	python3 "$client" old "$dir/pretender" $says >"$dir/ready" &
	pretender=$!
	started+=("$pretender")
	wait_for 60 grep -q ready "$dir/ready" || fail "no pretender"
	fails_with 1 "cannot take over from pid $pretender" -- \
		--threads 1 --cache-size 16M --handoff "$dir/pretender" \
		--unix "$dir/sock" vol="$dir/disk"
	reap "$pretender" || fail "pretender '$says'"
	rm "$dir/pretender"
done

# What it does not go with.
fails_with 2 --handoff --single -- --single --handoff "$dir/h" "$dir/disk"
fails_with 2 --handoff --run -- --run true --handoff "$dir/h" "$dir/disk"
fails_with 2 --handoff @name -- --handoff @name "$dir/disk"
echo stuff >"$dir/file"
fails_with 1 --handoff "$dir/file" -- --handoff "$dir/file" \
	--unix "$dir/sock" "$dir/disk"

# One command, as qemu-io looks at its input anew for each, and what it says.
qemu_io()
{
	echo "$1" >&"$commands"
	wait_for 60 grep -q "$2" "$dir/qemu-io.out" || {
		cat "$dir/qemu-io.out"
		fail "qemu-io does not '$1'"
	}
}

# Clients as they are: one that waits between its commands, and one that copies
# as fast as it can.
serve_at vol="$dir/disk"
if command -v qemu-io >/dev/null; then
	mkfifo "$dir/commands"
	qemu-io -f raw "$uri" <"$dir/commands" >"$dir/qemu-io.out" 2>&1 &
	qemu_io_pid=$!
	started+=("$qemu_io_pid")
	exec {commands}>"$dir/commands"
	qemu_io 'write -P 0x5a 1M 3M' 'wrote 3145728'
	hand_over vol="$dir/disk"
	qemu_io 'read -P 0x5a 1M 3M' 'read 3145728'
	qemu_io 'write -z 2M 1M' 'wrote 1048576'
	hand_over vol="$dir/disk"
	qemu_io 'read -P 0 2M 1M' 'read 1048576.*at offset 2097152'
	qemu_io 'read -P 0x5a 3M 1M' 'read 1048576.*at offset 3145728'
	echo quit >&"$commands"
	exec {commands}>&-
	reap "$qemu_io_pid" || fail "qemu-io ended with status $?"
	! grep -qiE 'fail|error' "$dir/qemu-io.out" || {
		cat "$dir/qemu-io.out"
		fail "qemu-io saw errors"
	}
fi
if command -v nbdcopy >/dev/null; then
	random_file "$dir/data" $((64 << 20))
	touch "$dir/copying"
	(
		while [ -e "$dir/copying" ]; do
			nbdcopy "$dir/data" "$uri" &&
				nbdcopy "$uri" - | cmp - "$dir/data" || exit 1
		done
	) &
	copier=$!
	started+=("$copier")
	for _ in 1 2 3; do
		sleep 0.3
		hand_over vol="$dir/disk"
	done
	rm "$dir/copying"
	reap "$copier" || fail "what was copied is not what there is"
fi

# TLS cannot go over: a failed handoff costs its client nothing, another one the
# connection, once all is answered.
if timeout 60 nbdsh -c 'assert h.supports_tls()' 2>/dev/null; then
	echo "alice:$(printf '42%.0s' {1..32})" >"$dir/keys"
	old=$pid
	serve_at --tls on --tls-psk "$dir/keys" vol="$dir/disk"
	reap "$old" || fail "status $?"
	rm -f "$dir/there" "$dir/back" "$dir/go"
	timeout 60 nbdsh -c "
import os, time
def until(name):
    while not os.path.exists('$dir/' + name):
        time.sleep(0.05)
h.set_tls(nbd.TLS_REQUIRE)
h.set_tls_psk_file('$dir/keys')
h.set_tls_username('alice')
h.set_export_name('vol')
h.connect_unix('$dir/sock')
h.pwrite(b't' * 70000, 5 << 20)
open('$dir/there', 'w').close()
until('back')
assert h.pread(70000, 5 << 20) == b't' * 70000
os.rename('$dir/there', '$dir/there2')
until('go')
try:
    h.pread(512, 0)
    raise SystemExit('it was not closed')
except nbd.Error:
    pass
" &
	watcher=$!
	started+=("$watcher")
	wait_for 60 test -e "$dir/there" || fail "no client under TLS"
	timeout 60 python3 "$client" new "$dir/handoff" told
	touch "$dir/back"
	wait_for 60 test -e "$dir/there2" || fail "TLS did not survive"
	begin steady
	old_log=$log
	hand_over --tls on --tls-psk "$dir/keys" vol="$dir/disk"
	grep -q '1 connection under TLS closed' "$old_log" ||
		fail "it is not told that TLS was closed"
	touch "$dir/go"
	reap "$watcher" || fail "status $?"
	finish
fi
stop_foliod

# Under load, again and again: no read finds anything but what was written.
if command -v fio >/dev/null && fio --enghelp=nbd >/dev/null 2>&1; then
	serve_at vol="$dir/disk"
	fio --output="$dir/fio.log" --name=verify --ioengine=nbd --uri="$uri" \
		--numjobs=4 --size=12M --offset_increment=12M --rw=randrw \
		--bsrange=4k-128k --iodepth=16 --verify=crc32c \
		--verify_backlog=64 --verify_fatal=1 --loops=1000 \
		--time_based --runtime=600 --randseed="$seed" &
	load=$!
	started+=("$load")
	for ((i = 0; i < ${FOLIOD_HANDOFFS:-4}; i++)); do
		sleep 0.5
		! has_ended "$load" || {
			cat "$dir/fio.log"
			fail "the load ended after $i handoffs"
		}
		hand_over vol="$dir/disk"
		grep -q 'took over 4 connections' "$log" ||
			[ "$i" -eq 0 ] || fail "not all were taken over"
	done
	sleep 0.5
	# Its status then is that of a signal; what it found is in its words.
	kill -INT "$load"
	reap "$load" || :
	if [ "$(grep -c '): err= 0: ' "$dir/fio.log")" -ne 4 ] ||
		grep -qiE 'verify failed|bad magic' "$dir/fio.log"; then
		cat "$dir/fio.log"
		fail "the load found errors"
	fi
	stop_foliod
else
	echo "fio has no nbd engine: no load"
fi
