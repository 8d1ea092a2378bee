#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Where io_uring is forbidden foliod does its I/O in threads: the same bytes,
# and kill -9 loses as little.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
requires nbdcopy --version
requires nbdsh --version

# There need not be memory for a ring either; root's would be without limit.
little=(prlimit --memlock=4096)
[ "$(id -u)" -ne 0 ] || little+=(setpriv --inh-caps=-ipc_lock
	'--bounding-set=-ipc_lock,-sys_resource')
if "${little[@]}" true 2>/dev/null; then
	truncate -s 1M "$dir/small"
	"${little[@]}" "$foliod" --threads 2 --run 'nbdinfo --size "$uri"' \
		"$dir/small" >"$dir/out" || fail "no start with little locked memory"
	[ "$(cat "$dir/out")" = 1048576 ] || fail "$(cat "$dir/out")"
fi

no_uring=${NO_URING:-${abs_top_builddir:-..}/tests/no-uring}
[ -x "$no_uring" ] || skip "there is no $no_uring"
"$no_uring" true || skip "io_uring cannot be forbidden here"

# foliod replaces the launcher, so its pid is the one that is known.
cat >"$dir/foliod" <<EOF
#!/bin/sh
exec "$no_uring" "$foliod" "\$@"
EOF
chmod +x "$dir/foliod"
foliod=$dir/foliod

sparse_file "$dir/source"
truncate -s 32M "$dir/disk"
for mode in writeback writeout none; do
	start_foliod --mode $mode vol="$dir/disk"
	# It runs under the filter, and found another way.
	[ "$(sed -n 's/^Seccomp:[[:space:]]*//p' "/proc/$pid/status")" = 2 ] ||
		fail "foliod does not run under the filter"
	! readlink "/proc/$pid/fd"/* | grep -q io_uring ||
		fail "foliod has an io_uring"
	nbdcopy --connections=4 --flush "$dir/source" "$uri"
	same "$dir/source" "$dir/disk"
	takes_at_most $((3 * 1048576)) "$dir/disk"
	nbdcopy --connections=4 "$uri" "$dir/out"
	same "$dir/source" "$dir/out"
	stop_foliod
done

start_foliod --mode writethrough vol="$dir/disk"
note_acked "$dir/acked" "$pid" KILL 300 0
see_killed
check_acked "$dir/acked" "$dir/disk" 300

if command -v fio >/dev/null && fio --enghelp=nbd >/dev/null 2>&1; then
	start_foliod vol="$dir/disk"
	cd "$dir"
	timeout 60 fio --name=threads --ioengine=nbd --uri="$uri" \
		--rw=randrw --bsrange=512-64k --iodepth=16 --size=8M \
		--fsync=32 --verify=crc32c --verify_fatal=1 \
		--serialize_overlap=1 --randseed="$seed" >"$dir/out" 2>&1 || {
		cat "$dir/out"
		fail "fio"
	}
	stop_foliod
fi
