# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: BSD-3-Clause
#
# functions.sh - what the shell tests share.  A test begins with
#
#	. "$(dirname "$0")/functions.sh" || exit 99
#	requires nbdsh --version
#
# and has then: $foliod, the program; $dir, a directory of its own that is
# removed at the end; and the functions below.  Whatever start_foliod() started
# is ended with the test, and what a sanitizer said about it fails the test.
# A test that takes longer than $FOLIOD_TEST_TIMEOUT seconds (600) is ended.

set -euo pipefail

if [ -z "${FOLIOD_TEST_TIMED:-}" ]; then
	export FOLIOD_TEST_TIMED=1
	exec timeout --kill-after=20 "${FOLIOD_TEST_TIMEOUT:-600}" \
		bash "$0" "$@"
fi
unset FOLIOD_TEST_TIMED

# nbdsh wants the system's Python before any other.
PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH
export PATH LC_ALL=C
unset uri unixsocket port exportname

top_srcdir=${abs_top_srcdir:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
foliod=${FOLIOD:-${abs_top_builddir:-..}/foliod}
case $foliod in
*/*) foliod=$(cd "$(dirname "$foliod")" && pwd)/$(basename "$foliod") ;;
*) foliod=$(command -v "$foliod" || echo "$foliod") ;;
esac
[ -x "$foliod" ] || {
	echo "there is no program $foliod: build it, or set FOLIOD" >&2
	exit 99
}

dir=$(mktemp -d "${TMPDIR:-/tmp}/foliod-test.XXXXXX")
started=()		# pids of this shell's children
logs=()			# their standard errors
nr_started=0

cleanup()
{
	local status=$? p log

	trap - EXIT
	set +e
	for p in ${started[@]+"${started[@]}"}; do
		kill -KILL "$p" 2>/dev/null
	done
	wait 2>/dev/null
	for log in ${logs[@]+"${logs[@]}"}; do
		if grep -qE 'Sanitizer|runtime error:|Assertion .* failed' \
			"$log" 2>/dev/null; then
			echo "foliod broke a rule of its own, see below"
			[ "$status" -ne 0 ] || status=1
		fi
	done
	if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then
		for log in ${logs[@]+"${logs[@]}"}; do
			echo "--- $(basename "$log"):"
			tail -n 200 "$log"
		done
	fi
	rm -rf "$dir"
	exit "$status"
}
trap cleanup EXIT
trap 'echo "interrupted, or out of time"; exit 1' INT TERM HUP

fail()
{
	echo "FAIL: $*"
	exit 1
}

skip()
{
	echo "SKIP: $*"
	exit 77
}

# requires COMMAND [ARGUMENT]...: skip the test where this does not work.
requires()
{
	"$@" >/dev/null 2>&1 </dev/null || skip "'$*' does not work here"
}

# wait_for SECONDS COMMAND...: until it succeeds; 1 if it never does.
wait_for()
{
	local turns=$(($1 * 20))
	shift

	until "$@" >/dev/null 2>&1; do
		[ $((turns--)) -gt 0 ] || return 1
		sleep 0.05
	done
}

# Has this child of ours ended?
has_ended()
{
	local state

	state=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) || return 0
	case ${state%% *} in
	Z | X | '') return 0 ;;
	esac
	return 1
}

# option_value NAME ARGUMENT...: the value of the long option NAME, if given.
option_value()
{
	local name=$1
	shift

	while [ $# -gt 0 ]; do
		case $1 in
		"$name") [ $# -lt 2 ] || printf '%s' "$2"; return ;;
		"$name"=*) printf '%s' "${1#*=}"; return ;;
		esac
		shift
	done
}

# first_export ARGUMENT...: the name that a client asks for to get the first
# export that these arguments name; empty where the empty name will do.
first_export()
{
	local name

	[ -z "$(option_value --default-export "$@")" ] || return 0
	while [ $# -gt 0 ]; do
		case $1 in
		--export | --export=*)
			name=${1#--export}
			name=${name#=}
			[ -n "$name" ] || name=$2
			name=,${name//,,/$'\n'},
			name=${name#*,name=}
			name=${name%%,*}
			printf '%s' "${name//$'\n'/,}"
			return
			;;
		-p | --port | -b | --bind | -U | --unix | --vsock | --fd | \
			-m | --mode | --allow | --max-connections | \
			--max-connections-per-peer | --cache-size | \
			--threads | --run | --pid-file | --handoff | --tls | \
			--tls-certificates | --tls-psk)
			shift
			;;
		-*) ;;
		*)
			if [[ $1 =~ ^([A-Za-z0-9][A-Za-z0-9._-]*)= ]]; then
				printf '%s' "${BASH_REMATCH[1]}"
			fi
			return
			;;
		esac
		shift
	done
}

# The URI for the export $1 at the first listener of the last start_foliod().
uri_of()
{
	case $base_uri in
	nbd*+unix:///\?*) printf '%s' "${base_uri%%\?*}$1?${base_uri#*\?}" ;;
	*) printf '%s' "$base_uri$1" ;;
	esac
}

# start_foliod ARGUMENT...: run foliod in the background and wait until it
# listens, on a unix socket in $dir unless the arguments ask for something
# else.  Sets $pid; $log, its standard error; $uri, for the first export (see
# uri_of() for others); $base_uri, without an export; $sock and $port, those
# of its first listeners of the kind, or empty.
start_foliod()
{
	local pid_file listen=()

	nr_started=$((nr_started + 1))
	log=$dir/foliod-$nr_started.log
	pid_file=$(option_value --pid-file "$@")
	if [ -z "$pid_file" ]; then
		pid_file=$dir/foliod-$nr_started.pid
		listen+=(--pid-file "$pid_file")
	fi
	if ! [[ " $* " =~ \ (-p|--port|-b|--bind|-U|--unix|--vsock|--fd)[\ =0-9] ]]; then
		listen+=(--unix "$dir/sock-$nr_started")
	fi

	"$foliod" ${listen[@]+"${listen[@]}"} "$@" </dev/null 2>"$log" &
	pid=$!
	started+=("$pid")
	logs+=("$log")
	# The pid file comes after the lines that say where it listens.
	until [ "$(cat "$pid_file" 2>/dev/null)" = "$pid" ]; do
		! has_ended "$pid" || {
			cat "$log"
			fail "foliod did not start: $*"
		}
		sleep 0.05
	done
	base_uri=$(sed -n 's/^listening on //p' "$log" | head -n 1)
	uri=$(uri_of "$(first_export "$@")")
	sock=$(sed -n 's/^listening on nbds*+unix:.*[?]socket=//p' "$log" |
		head -n 1)
	port=$(sed -nE 's/^listening on nbds?:.*:([0-9]+)\/$/\1/p' "$log" |
		head -n 1)
}

# Forget a child that has ended; its status.
reap()
{
	local p left=() status=0

	wait "$1" 2>/dev/null || status=$?
	for p in "${started[@]}"; do
		[ "$p" = "$1" ] || left+=("$p")
	done
	started=(${left[@]+"${left[@]}"})
	return "$status"
}

# stop_foliod [PID]: SIGTERM, and see it end well.
# shellcheck disable=SC2120 # the argument is optional
stop_foliod()
{
	local status=0

	kill -TERM "${1:-$pid}"
	reap "${1:-$pid}" || status=$?
	[ "$status" -eq 0 ] || fail "foliod ended with status $status"
}

# kill_foliod [PID]: SIGKILL; it is gone on return, its last I/O soon after.
# shellcheck disable=SC2120 # the argument is optional
kill_foliod()
{
	kill -KILL "${1:-$pid}"
	reap "${1:-$pid}" || :
}

# fails_with STATUS TEXT... -- ARGUMENT...: foliod with these arguments ends
# with STATUS, having written one line of error that has each TEXT in it, and
# nothing to standard output.
fails_with()
{
	local want=$1 status=0 texts=() text
	shift

	while [ "$1" != -- ]; do
		texts+=("$1")
		shift
	done
	shift
	timeout --kill-after=5 60 "$foliod" "$@" </dev/null \
		>"$dir/out" 2>"$dir/err" || status=$?
	[ "$status" -eq "$want" ] || {
		cat "$dir/err"
		fail "'foliod $*' ended with status $status, not $want"
	}
	[ ! -s "$dir/out" ] ||
		fail "'foliod $*' wrote to standard output: $(cat "$dir/out")"
	[ "$(wc -l <"$dir/err")" -eq 1 ] || {
		cat "$dir/err"
		fail "the error of 'foliod $*' is not one line"
	}
	for text in "${texts[@]}"; do
		grep -qF -- "$text" "$dir/err" || {
			cat "$dir/err"
			fail "the error of 'foliod $*' does not say '$text'"
		}
	done
}
