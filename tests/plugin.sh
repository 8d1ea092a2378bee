# shellcheck shell=bash disable=SC2034,SC2154
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin.sh - what the tests of the nbdkit plugin share beside functions.sh and
# clients.sh.  They are skipped where nbdkit, or the plugin, is not there.

plugin=${abs_top_builddir:-..}/plugins/nbdkit-folio-plugin.so
[ -f "$plugin" ] || skip "the nbdkit plugin was not built"
plugin=$(cd "$(dirname "$plugin")" && pwd)/$(basename "$plugin")
requires nbdkit "$plugin" --dump-plugin
# Small enough to be full now and then.
cache="cache-size=16M"

# start_nbdkit [OPTION... --] PARAMETER...: run nbdkit with the plugin, on a
# unix socket in $dir; what stands before -- are options of nbdkit's.  Sets $pid,
# $log and $uri.
start_nbdkit()
{
	local options=() pid_file

	if [[ " $* " == *" -- "* ]]; then
		while [ "$1" != -- ]; do
			options+=("$1")
			shift
		done
		shift
	fi
	nr_started=$((nr_started + 1))
	log=$dir/nbdkit-$nr_started.log
	pid_file=$dir/nbdkit-$nr_started.pid
	sock=$dir/nbdkit-$nr_started.sock
	nbdkit -f -P "$pid_file" -U "$sock" ${options[@]+"${options[@]}"} \
		"$plugin" "$@" </dev/null >"$log" 2>&1 &
	pid=$!
	started+=("$pid")
	logs+=("$log")
	until [ "$(cat "$pid_file" 2>/dev/null)" = "$pid" ]; do
		! has_ended "$pid" || {
			cat "$log"
			fail "nbdkit did not start: $*"
		}
		sleep 0.05
	done
	uri="nbd+unix:///?socket=$sock"
}

# SIGTERM, and see it end well.
stop_nbdkit()
{
	local status=0

	kill -TERM "${1:-$pid}"
	reap "${1:-$pid}" || status=$?
	[ "$status" -eq 0 ] || fail "nbdkit ended with status $status"
}

kill_nbdkit()
{
	kill -KILL "${1:-$pid}"
	reap "${1:-$pid}" || :
}

# nbdkit_fails TEXT... -- PARAMETER...: nbdkit does not start, and its error has
# each TEXT in it.
nbdkit_fails()
{
	local texts=() text

	while [ "$1" != -- ]; do
		texts+=("$1")
		shift
	done
	shift
	! timeout --kill-after=5 60 nbdkit -f -U - "$plugin" "$@" </dev/null \
		>"$dir/err" 2>&1 || fail "'nbdkit folio $*' did not fail"
	for text in "${texts[@]}"; do
		grep -qF -- "$text" "$dir/err" || {
			cat "$dir/err"
			fail "the error of 'nbdkit folio $*' does not say '$text'"
		}
	done
}
