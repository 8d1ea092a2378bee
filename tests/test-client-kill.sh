#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# T-44 on the real process: after kill -9 under load, every write that was
# acknowledged is there in the modes that promise it, and with FUA in the one
# that does not; a new server serves the same.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
requires nbdsh --version
requires nbdcopy --version

# t44_acked_writes_survive_kill MODE FLAGS
t44_acked_writes_survive_kill()
{
	rm -f "$dir/disk"
	truncate -s 16M "$dir/disk"
	start_foliod --mode "$1" vol="$dir/disk"
	note_acked "$dir/acked" "$pid" KILL 500 "$2"
	see_killed
	check_acked "$dir/acked" "$dir/disk" 500

	start_foliod --mode "$1" vol="$dir/disk"
	nbdcopy "$uri" "$dir/out"
	check_acked "$dir/acked" "$dir/out" 500
	same "$dir/disk" "$dir/out"
	stop_foliod
	same "$dir/disk" "$dir/out"
}

for mode in writeout writethrough none directsync; do
	t44_acked_writes_survive_kill $mode 0
done
t44_acked_writes_survive_kill writeback 1
