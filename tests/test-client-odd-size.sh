#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A file whose size is no multiple of a block: the export has exactly its
# size, the last bytes are right, and it does not grow.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
requires nbdinfo --version
requires nbdcopy --version
requires nbdsh --version

size=$((1048576 + 777))
for mode in writeback writethrough none; do
	random_file "$dir/disk" $size
	cp "$dir/disk" "$dir/want"
	start_foliod --mode $mode vol="$dir/disk"
	[ "$(nbdinfo --size "$uri")" -eq $size ] || fail "the size"
	nbdcopy "$uri" "$dir/out"
	same "$dir/want" "$dir/out"

	nbdsh --base-allocation -u "$uri" -c "
import errno
size = $size
want = bytearray(open('$dir/want', 'rb').read())
h.set_strict_mode(0)
def put(data, pos, flags=0):
    h.pwrite(data, pos, flags)
    want[pos:pos + len(data)] = data
put(b'e', size - 1)
put(b'f' * 777, size - 777, nbd.CMD_FLAG_FUA)
put(b'g' * 1000, size - 1005)
put(b'h' * 5000, size - 5000)
h.zero(600, size - 600)
want[size - 600:] = bytes(600)
h.zero(4096, size - 4096 - 10, nbd.CMD_FLAG_NO_HOLE)
want[size - 4096 - 10:size - 10] = bytes(4096)
put(b'i' * 3, size - 3)
for call in (lambda: h.pread(1, size), lambda: h.pread(2, size - 1),
             lambda: h.pwrite(b'12', size - 1), lambda: h.pwrite(b'1', size),
             lambda: h.zero(778, size - 777), lambda: h.trim(2, size - 1)):
    try:
        call()
    except nbd.Error as e:
        assert e.errnum in (errno.EINVAL, errno.ENOSPC), e
    else:
        assert False, 'beyond the end'
assert h.pread(778, size - 778) == want[-778:]
total = 0
def extent(context, pos, extents, error):
    global total
    total = sum(extents[::2])
h.block_status(size, 0, extent)
assert total == size, total
h.flush()
assert open('$dir/disk', 'rb').read() == want
open('$dir/want', 'wb').write(want)
" || fail "mode $mode"
	stop_foliod
	same "$dir/want" "$dir/disk"
done

# From less than a sector on.
for size in 1 511 513 4095 4097; do
	random_file "$dir/disk" $size
	random_file "$dir/want" $size
	start_foliod vol="$dir/disk"
	[ "$(nbdinfo --size "$uri")" -eq $size ] || fail "size $size"
	nbdcopy "$uri" - | cmp - "$dir/disk" || fail "size $size: reading"
	nbdcopy "$dir/want" "$uri"
	stop_foliod
	same "$dir/want" "$dir/disk"
done

# A trim over the tail takes at most what was asked for.
random_file "$dir/disk" $((65536 + 99))
head -c 4096 "$dir/disk" >"$dir/want"
start_foliod vol="$dir/disk"
nbdsh -u "$uri" -c 'h.trim(65536 + 99 - 4096, 4096); h.flush()'
nbdcopy "$uri" "$dir/out"
stop_foliod
truncate -s $((65536 + 99)) "$dir/want"
same "$dir/want" "$dir/disk"
same "$dir/want" "$dir/out"
