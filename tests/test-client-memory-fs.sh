#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# File systems that lack something: tmpfs, and ramfs, which takes no O_DIRECT
# and can neither reserve space nor punch holes.

. "$(dirname "$0")/namespace.sh" || exit 99
. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
requires nbdcopy --version
requires nbdsh --version

sparse_file "$dir/source"
mkdir "$dir/mnt"
tried=0
for type in tmpfs ramfs; do
	mount -t $type none "$dir/mnt" 2>/dev/null || continue
	tried=$((tried + 1))
	for mode in writeback writethrough none; do
		rm -f "$dir/mnt/disk"
		truncate -s 32M "$dir/mnt/disk"
		start_foliod --mode $mode vol="$dir/mnt/disk"
		nbdcopy --flush "$dir/source" "$uri"
		same "$dir/source" "$dir/mnt/disk"
		nbdcopy "$uri" "$dir/out"
		same "$dir/source" "$dir/out"
		nbdsh -u "$uri" -c '
h.pwrite(b"a" * 100000, 5000001, nbd.CMD_FLAG_FUA)
h.zero(50000, 5000001)
h.zero(8192, 5070848, nbd.CMD_FLAG_NO_HOLE)
h.trim(8192, 5083136)           # may do nothing, but to what it names
h.pwrite(b"b" * 1000, 5055555)
want = bytearray(b"a" * 100000)
want[:50000] = bytes(50000)
want[70847:79039] = bytes(8192)
want[55554:56554] = b"b" * 1000
found = h.pread(100000, 5000001)
assert found[:83135] == want[:83135]
assert found[91327:] == want[91327:]
assert found[83135:91327] in (want[83135:91327], bytes(8192))
h.flush()
' || fail "$type, mode $mode"
		nbdcopy "$uri" "$dir/out"
		stop_foliod
		same "$dir/out" "$dir/mnt/disk"
	done
	umount "$dir/mnt"
done
[ $tried -gt 0 ] || skip "neither tmpfs nor ramfs can be mounted"
