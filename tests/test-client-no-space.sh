#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A full file system under a sparse file: ENOSPC is told by the write itself,
# what was acknowledged is kept, and the server goes on.

. "$(dirname "$0")/namespace.sh" || exit 99
. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
requires nbdsh --version
requires mke2fs -V

truncate -s 16M "$dir/fs"
mke2fs -q -F -t ext4 -O ^has_journal "$dir/fs"
mkdir "$dir/mnt"
mount -o loop "$dir/fs" "$dir/mnt" 2>"$dir/err" ||
	skip "no loop mounts: $(cat "$dir/err")"

for mode in writeback writeout none; do
	rm -f "$dir/mnt/disk"
	truncate -s 64M "$dir/mnt/disk"
	truncate -s 4M "$dir/other"
	start_foliod --mode $mode vol="$dir/mnt/disk" other="$dir/other"
	nbdsh -c "
import errno, random
h.connect_uri('$uri')
rnd = random.Random($seed)
kept, refused = {}, 0
for i in range(512):
    data = rnd.randbytes(65536)
    try:
        h.pwrite(data, i * 131072)
        kept[i] = data
    except nbd.Error as e:
        assert e.errnum == errno.ENOSPC, e
        refused += 1
assert len(kept) > 64, len(kept)
assert refused > 64, refused
# All that was taken can be stored: no error comes late.
h.flush()
for i, data in kept.items():
    assert h.pread(65536, i * 131072) == data, i
# What has its space can be written again, and what is given back is free for
# others.
for i in list(kept)[:20]:
    kept[i] = rnd.randbytes(65536)
    h.pwrite(kept[i], i * 131072)
for i in list(kept)[20:40]:
    h.trim(65536, i * 131072)
    assert h.pread(65536, i * 131072) == bytes(65536)
    del kept[i]
h.flush()
data = rnd.randbytes(65536)
h.pwrite(data, 65536)
h.flush()
assert h.pread(65536, 65536) == data
# Zeroes in full need space, a hole does not.
try:
    for i in range(1, 512):
        h.zero(131072, i * 131072 - 65536 if i % 2 else 65536,
               nbd.CMD_FLAG_NO_HOLE)
except nbd.Error as e:
    assert e.errnum == errno.ENOSPC, e
h.zero(65536, 65536)
h.flush()
# The other export is not touched by any of that.
o = nbd.NBD()
o.connect_uri('$(uri_of other)')
o.pwrite(b'o' * 4096, 8192)
o.flush()
assert o.pread(4096, 8192) == b'o' * 4096
first = min(kept)
open('$dir/first', 'wb').write(h.pread(65536, first * 131072))
print(first * 131072)
" >"$dir/first.pos" || fail "mode $mode"
	# A flush at the end has nothing to complain about.
	stop_foliod
	[ "$(stat -c %s "$dir/mnt/disk")" -eq 67108864 ] || fail "the size"
	dd if="$dir/mnt/disk" bs=65536 count=1 iflag=skip_bytes \
		skip="$(cat "$dir/first.pos")" status=none |
		cmp - "$dir/first" || fail "mode $mode: the data"
done
umount "$dir/mnt"
