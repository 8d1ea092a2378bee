#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Files that grow and shrink under their server: whoever asks is told the new
# size at once, clients that are connected may use what is new and are refused
# what is gone, and old bytes do not come back.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
requires nbdinfo --version
requires nbdsh --version

size_is()
{
	[ "$(nbdinfo --size "$uri")" -eq "$1" ] ||
		fail "the size is not $1 but $(nbdinfo --size "$uri")"
}

for mode in writeback writethrough none; do
	random_file "$dir/disk" $((1048576 + 777))
	cp "$dir/disk" "$dir/want"
	start_foliod --mode $mode vol="$dir/disk"
	size_is $((1048576 + 777))

	# All within one client's session; others come and have a look.
	nbdsh -c "
import errno, os, signal
disk = '$dir/disk'
want = bytearray(open(disk, 'rb').read())
def resize(size):
    os.truncate(disk, size)
    del want[size:]
    want.extend(bytes(size - len(want)))
def look():
    o = nbd.NBD()
    o.connect_uri('$uri')
    size = o.get_size()
    o.shutdown()
    return size
def put(h, data, pos):
    h.pwrite(data, pos)
    want[pos:pos + len(data)] = data
def refused(call):
    try:
        call()
    except nbd.Error as e:
        return e.errnum
    return 0
old = $((1048576 + 777))
h.connect_uri('$uri')
h.set_strict_mode(0)
put(h, b'e' * 500, old - 500)

# It grows: EXPORT_NAME, INFO and GO tell, and the old connection may use it.
resize(3 << 20)
i = nbd.NBD()
i.set_opt_mode(True)
i.connect_uri('$uri')
i.opt_info()
assert i.get_size() == 3 << 20, i.get_size()
resize(2 << 20)
i.opt_info()
assert i.get_size() == 2 << 20, i.get_size()
resize(3 << 20)
i.opt_go()
assert i.get_size() == 3 << 20, i.get_size()
i.shutdown()
assert h.get_size() == old
assert h.pread(4096, old - 1000) == want[old - 1000:old + 3096]
put(h, b'new' * 1000, old - 3)
put(h, b'z' * 65536, (3 << 20) - 65536)
assert h.pread(3 << 20, 0) == want
h.flush()
assert open(disk, 'rb').read() == want

# It shrinks, into a block: what is gone is refused, what is not is served.
end = 1000001
resize(end)
assert look() == end
assert refused(lambda: h.pread(1, end)) == errno.EINVAL
assert refused(lambda: h.pread(4096, 2 << 20)) == errno.EINVAL
assert refused(lambda: h.pwrite(b'x' * 100, end - 99)) == errno.ENOSPC
assert refused(lambda: h.pwrite(b'x' * 70000, 2 << 20)) == errno.ENOSPC
assert refused(lambda: h.zero(4096, 2 << 20)) == errno.ENOSPC
assert refused(lambda: h.trim(4096, 2 << 20)) == errno.EINVAL
put(h, b'last', end - 4)
h.flush()
assert os.stat(disk).st_size == end
assert h.pread(end, 0) == want
assert open(disk, 'rb').read() == want

# It grows again: zeroes, in the block that was cut as well.
resize(2 << 20)
assert look() == 2 << 20
assert h.pread(2 << 20, 0) == want
put(h, b'again', end + 10)

# What is dirty behind the end is dropped.
resize(65536)
assert look() == 65536
h.flush()
assert os.stat(disk).st_size == 65536
assert h.pread(65536, 0) == want

# To nothing and back.
resize(0)
assert look() == 0
assert refused(lambda: h.pread(1, 0)) == errno.EINVAL
resize(8192)
assert look() == 8192
put(h, b'!' * 8192, 0)
h.shutdown()

# What somebody appends is there.
with open(disk, 'ab') as f:
    f.write(b'tail')
    want.extend(b'tail')
assert look() == 8196
open('$dir/want', 'wb').write(want)
" || fail "mode $mode"
	size_is 8196
	stop_foliod
	same "$dir/want" "$dir/disk"
done

# SIGHUP is enough, nobody has to ask.
random_file "$dir/disk" 1048576
start_foliod vol="$dir/disk"
nbdsh -c "
import errno, os, signal, time
def has_size(size):
    for _ in range(600):
        if b'has %d bytes now' % size in open('$log', 'rb').read():
            return
        time.sleep(0.05)
    assert False, size
h.connect_uri('$uri')
h.set_strict_mode(0)
h.pwrite(b'd' * 200000, 800000)
os.truncate('$dir/disk', 2 << 20)
os.kill($pid, signal.SIGHUP)
has_size(2 << 20)
h.pwrite(b'g' * 4096, (2 << 20) - 4096)
os.truncate('$dir/disk', 500000)
os.kill($pid, signal.SIGHUP)
has_size(500000)
try:
    h.pwrite(b'x', 500000)
    assert False, 'written beyond the end'
except nbd.Error as e:
    assert e.errnum == errno.ENOSPC, e
h.flush()
" || fail "SIGHUP"
grep -q "disk was made smaller: [0-9]* bytes that clients have written" \
	"$log" || fail "nothing is said of what is lost"
stop_foliod
[ "$(stat -c %s "$dir/disk")" -eq 500000 ] || fail "the file has grown"

# A size that the export cannot have is refused, said once, and forgotten.
truncate -s 1M "$dir/disk"
start_foliod --export "name=vol,path=$dir/disk,block-size=4k"
truncate -s 1000000 "$dir/disk"
size_is 1048576
size_is 1048576
[ "$(grep -c 'not a multiple of its block-size' "$log")" -eq 1 ] ||
	fail "refused, but not said once"
truncate -s 1M "$dir/disk"
size_is 1048576
truncate -s 2M "$dir/disk"
size_is 2097152
stop_foliod
