#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# --run: the command's environment, its status, and signals meanwhile.

. "$(dirname "$0")/functions.sh" || exit 99
requires nbdinfo --version

truncate -s 1M "$dir/disk"

run()
{
	timeout --kill-after=5 60 "$foliod" "$@" </dev/null 2>"$dir/err"
}

# The environment, with a private socket that goes with the server.
# shellcheck disable=SC2016 # the command's variables, here and below
run --run 'echo "$uri $unixsocket [$port] [$exportname]"
	nbdinfo --size "$uri"' "$dir/disk" >"$dir/out"
{ read -r uri unixsocket port exportname; read -r size; } <"$dir/out"
[ "$uri" = "nbd+unix:///?socket=$unixsocket" ] || fail "uri $uri"
[ "$port $exportname $size" = '[] [] 1048576' ] || fail "$(cat "$dir/out")"
[ ! -e "$(dirname "$unixsocket")" ] || fail "$unixsocket is still there"

# TCP, and a name where the empty one is unknown.
run -p 0 --run 'echo "$uri [$unixsocket] $port $exportname"
	nbdinfo --size "$uri"' vol="$dir/disk" >"$dir/out"
{ read -r uri unixsocket port exportname; read -r size; } <"$dir/out"
[ "$uri" = "nbd://127.0.0.1:$port/vol" ] || fail "uri $uri"
[ "$unixsocket $exportname $size" = '[] vol 1048576' ] ||
	fail "$(cat "$dir/out")"

# Both kinds at once: each variable is of the first of its kind.
run -U "$dir/s1" -b 127.0.0.1:0 -U "$dir/s2" \
	--run 'echo "$uri $unixsocket $port"; nbdinfo --size nbd://127.0.0.1:$port' \
	"$dir/disk" >"$dir/out"
{ read -r uri unixsocket port; read -r size; } <"$dir/out"
[ "$uri" = "nbd+unix:///?socket=$dir/s1" ] || fail "uri $uri"
[ "$unixsocket $size" = "$dir/s1 1048576" ] || fail "$(cat "$dir/out")"

# An older value of ours in the environment does not reach the command.
port=1234 uri=old run --run 'test "$port" = "" && test "$uri" != old' \
	"$dir/disk" || fail "an old value was seen"

# The command's status is ours, also if a signal killed it.
for want in 0 1 7 255; do
	status=0
	run --run "exit $want" "$dir/disk" || status=$?
	[ "$status" -eq "$want" ] || fail "status $status, not $want"
done
status=0
run --run 'kill -KILL $$' "$dir/disk" || status=$?
[ "$status" -eq 137 ] || fail "status $status of a killed command"
status=0
run --run '/no/such/command' "$dir/disk" || status=$?
[ "$status" -eq 127 ] || fail "status $status of a command that is not there"

# What the command wrote is in the file when foliod ends.
run --run 'printf %s "$uri" >'"$dir/uri"' && head -c 1048576 /dev/zero |
	tr "\0" x | nbdcopy -- - "$uri"' "$dir/disk" || fail "$(cat "$dir/err")"
[ "$(tr -d x <"$dir/disk" | wc -c)" -eq 0 ] || fail "the data is not there"

# The command does not hold our descriptors, and takes signals.
run --run 'ls -l /proc/self/fd' "$dir/disk" >"$dir/out"
! grep -qE 'disk|socket|eventfd|io_uring' "$dir/out" || {
	cat "$dir/out"
	fail "the command has descriptors of foliod"
}
# The 31 classic ones: those above are the C library's business.
signals='while read -r key value; do
	case $key in
	SigBlk: | SigIgn:) echo "$key $((0x$value & 0x7fffffff))" ;;
	esac
done </proc/self/status'
bash -c "$signals" >"$dir/want"
run --run "bash -c '$signals'" "$dir/disk" >"$dir/out"
[ "$(wc -l <"$dir/out")" -eq 2 ] || fail "no signals: $(cat "$dir/out")"
cmp "$dir/want" "$dir/out" ||
	fail "blocked or ignored signals: $(cat "$dir/out")"

# SIGTERM ends the command, and with it foliod, with the command's status.
for signal in TERM INT; do
	rm -f "$dir/ready"
	# A background job of a script ignores SIGINT; bash resets that only for
	# a job of its own group.
	set -m
	"$foliod" --run 'trap "exit 9" TERM INT; touch '"$dir/ready"'
		while :; do sleep 0.05; done' "$dir/disk" 2>"$dir/err" &
	pid=$!
	set +m
	started+=("$pid")
	wait_for 20 test -e "$dir/ready" || fail "the command did not start"
	kill "-$signal" "$pid"
	status=0
	reap "$pid" || status=$?
	[ "$status" -eq 9 ] || fail "status $status after SIG$signal"
done

# A second one does not wait for a command that does not listen.
rm -f "$dir/ready"
"$foliod" --run 'trap "" TERM; touch '"$dir/ready"'
	while :; do sleep 0.05; done' "$dir/disk" 2>"$dir/err" &
pid=$!
started+=("$pid")
wait_for 20 test -e "$dir/ready" || fail "the command did not start"
kill -TERM "$pid"
sleep 0.2
kill -TERM "$pid"
status=0
reap "$pid" || status=$?
[ "$status" -eq 137 ] || fail "status $status after two SIGTERM"

# The pid file is there while the command runs.
run --pid-file "$dir/pid" --run 'test "$(cat '"$dir/pid"')" = "$PPID"' \
	"$dir/disk" || fail "no pid file for the command"
[ ! -e "$dir/pid" ] || fail "the pid file is still there"
