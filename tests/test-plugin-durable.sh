#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What the plugin acknowledged and must keep is in the file after kill -9.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
. "$(dirname "$0")/plugin.sh" || exit 99
requires nbdsh --version

# block NUMBER BYTE: is that block of 4 KiB all that byte?
block()
{
	[ "$(tail -c +$(($1 * 4096 + 1)) "$dir/disk" | head -c 4096 |
		tr -d "$2" | wc -c)" -eq 0 ] &&
		[ "$(tail -c +$(($1 * 4096 + 1)) "$dir/disk" | head -c 4096 |
			wc -c)" -eq 4096 ] || fail "block $1 is not all '$2'"
}

fresh()
{
	rm -f "$dir/disk"
	truncate -s 16M "$dir/disk"
}

# FUA of all three kinds; a FLUSH on one connection covers the other's writes.
fresh
start_nbdkit $cache "$dir/disk"
arg1="$uri" arg2="$pid" nbdsh -c '
import os, signal
a, b = nbd.NBD(), nbd.NBD()
a.connect_uri(os.environ["arg1"])
b.connect_uri(os.environ["arg1"])
a.pwrite(b"x" * 4096 * 16, 0)
b.flush()
a.pwrite(b"f" * 4096, 20 * 4096, nbd.CMD_FLAG_FUA)
a.pwrite(b"r" * 4096, 21 * 4096)
a.zero(4096, 1 * 4096, nbd.CMD_FLAG_FUA)
a.zero(4096, 2 * 4096, nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_NO_HOLE)
a.trim(4096, 3 * 4096, nbd.CMD_FLAG_FUA)
os.kill(int(os.environ["arg2"]), signal.SIGKILL)
'
see_killed
block 0 x
block 1 '\0'
block 2 '\0'
block 3 '\0'
block 15 x
block 20 f

# Written through: every acknowledged write, by its number, under load.
for mode in writeout writethrough directsync; do
	fresh
	start_nbdkit $cache mode=$mode "$dir/disk"
	note_acked "$dir/list" "$pid" KILL 300 0
	see_killed
	check_acked "$dir/list" "$dir/disk" 20
done

# And with FUA alone.
fresh
start_nbdkit $cache "$dir/disk"
note_acked "$dir/list" "$pid" KILL 200 1
see_killed
check_acked "$dir/list" "$dir/disk" 20

# An orderly end writes what nobody flushed.
fresh
start_nbdkit $cache "$dir/disk"
nbdsh -u "$uri" -c 'h.pwrite(b"t" * (5 << 20), 4096)'
stop_nbdkit
block 1 t
block 1280 t
block 1281 '\0'

# A killed one's file is free at once, and as it was.
start_nbdkit $cache "$dir/disk"
kill_nbdkit
start_nbdkit $cache "$dir/disk"
nbdsh -u "$uri" -c 'assert h.pread(4096, 4096) == b"t" * 4096'
stop_nbdkit
