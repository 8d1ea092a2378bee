#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# nbdsh: each command and flag of the protocol as libnbd sends them, and the
# bytes that come of it, also in the file.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
requires nbdsh --version

truncate -s 16M "$dir/disk"
start_foliod vol="$dir/disk"
size=$((16 * 1048576))

# Reads and writes of odd places and lengths, many at a time, against a model.
nbdsh -u "$uri" -c "
import random
rnd = random.Random($seed)
size = $size
model = bytearray(size)
for turn in range(40):
    writes, taken = [], []
    for i in range(16):
        len_ = rnd.choice([1, 511, 512, 513, 4095, 4096, 4097, 65536,
                           rnd.randrange(1, 200000)])
        pos = rnd.randrange(size - len_)
        # What overlaps in flight has no order.
        if any(pos < e and s < pos + len_ for s, e in taken):
            continue
        taken.append((pos, pos + len_))
        data = rnd.randbytes(len_)
        model[pos:pos + len_] = data
        flags = nbd.CMD_FLAG_FUA if rnd.random() < 0.2 else 0
        writes.append(h.aio_pwrite(data, pos, flags=flags))
    while writes:
        h.poll(-1)
        writes = [c for c in writes if not h.aio_command_completed(c)]
    reads = []
    for i in range(16):
        len_ = rnd.randrange(1, 300000)
        pos = rnd.randrange(size - len_)
        buf = nbd.Buffer(len_)
        reads.append((h.aio_pread(buf, pos), buf, pos, len_))
    while reads:
        h.poll(-1)
        left = []
        for c, buf, pos, len_ in reads:
            if not h.aio_command_completed(c):
                left.append((c, buf, pos, len_))
                continue
            assert buf.to_bytearray() == model[pos:pos + len_], (pos, len_)
        reads = left
h.flush()
open('$dir/model', 'wb').write(model)
" || fail "random reads and writes"
same "$dir/model" "$dir/disk"

# Zeroes and trims, with their flags.
nbdsh -u "$uri" -c '
h.pwrite(b"a" * 1048576, 0)
h.zero(5000, 3000)                              # no block boundaries
assert h.pread(9000, 0) == b"a" * 3000 + bytes(5000) + b"a" * 1000
h.zero(65536, 131072, nbd.CMD_FLAG_NO_HOLE)
assert h.pread(65536 + 2, 131071) == b"a" + bytes(65536) + b"a"
h.zero(65536, 262144, nbd.CMD_FLAG_FUA)
h.zero(65536, 393216, nbd.CMD_FLAG_FAST_ZERO)
h.zero(131072, 524288, nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_NO_HOLE)
for pos, len_ in (262144, 65536), (393216, 65536), (524288, 131072):
    assert h.pread(len_ + 2, pos - 1) == b"a" + bytes(len_) + b"a", pos
h.trim(65536, 786432)
h.trim(65536, 917504, nbd.CMD_FLAG_FUA)
for pos in 786432, 917504:
    assert h.pread(65536 + 2, pos - 1) == b"a" + bytes(65536) + b"a", pos
h.cache(1048576, 4194304)
h.cache(1, 16777215)
h.flush()
' || fail "zeroes and trims"

# Structured replies: holes come as holes, and with DF in one piece.
nbdsh --base-allocation -u "$uri" -c '
assert h.get_structured_replies_negotiated()
h.trim(4194304, 4194304)
h.pwrite(b"b" * 65536, 6291456)
chunks = []
def chunk(data, pos, status, error):
    chunks.append((pos, len(data), status))
    return 0
data = h.pread_structured(4194304, 4194304, chunk)
assert data == bytes(2097152) + b"b" * 65536 + bytes(2031616)
# Zeroes that are cached may come as data.
holes = [c for c in chunks if c[2] == nbd.READ_HOLE]
assert sum(c[1] for c in holes) >= 2097152, chunks
chunks = []
data = h.pread_structured(1048576, 5767168, chunk, nbd.CMD_FLAG_DF)
assert data == bytes(524288) + b"b" * 65536 + bytes(458752)
assert len([c for c in chunks if c[2] != nbd.READ_ERROR]) == 1, chunks

# And block status says the same.
found = []
def extent(context, pos, extents, error):
    assert context == nbd.CONTEXT_BASE_ALLOCATION
    found.append((pos, list(extents)))
    return 0
h.block_status(4194304, 4194304, extent)
both = nbd.STATE_HOLE | nbd.STATE_ZERO
assert found == [(4194304, [2097152, both, 65536, 0, 2031616, both])], found
found = []
h.block_status(4194304, 4194304, extent, nbd.CMD_FLAG_REQ_ONE)
assert found == [(4194304, [2097152, both])], found
' || fail "structured replies"

# The same bytes for a client without structured replies.
nbdsh -c "
h.set_request_structured_replies(False)
h.connect_uri('$uri')
assert not h.get_structured_replies_negotiated()
assert h.pread(4194304, 4194304) == \
    bytes(2097152) + b'b' * 65536 + bytes(2031616)
" || fail "simple replies"

# Errors have their numbers, and the connection goes on.
nbdsh -u "$uri" -c "
import errno
h.set_strict_mode(0)
def expect(number, call):
    try:
        call()
    except nbd.Error as e:
        assert e.errnum == number, (e.errnum, number)
    else:
        assert False, 'no error'
expect(errno.EINVAL, lambda: h.pread(2, $size - 1))
expect(errno.ENOSPC, lambda: h.pwrite(b'xx', $size - 1))
expect(errno.ENOSPC, lambda: h.zero(2, $size - 1))
expect(errno.EINVAL, lambda: h.trim(2, $size - 1))
expect(errno.EINVAL, lambda: h.pread(512, 1 << 62))
expect(errno.EINVAL, lambda: h.pwrite(b'x', 0, 1 << 7))
h.pwrite(b'end', $size - 3)
assert h.pread(3, $size - 3) == b'end'
h.flush()
" || fail "errors"
stop_foliod
[ "$(tail -c 3 "$dir/disk")" = end ] || fail "the last bytes"

# What one connection wrote and another flushed is there after kill -9.
start_foliod vol="$dir/disk"
nbdsh -c "
a, b = nbd.NBD(), nbd.NBD()
a.connect_uri('$uri')
b.connect_uri('$uri')
assert a.can_multi_conn() and b.can_multi_conn()
a.pwrite(b'A' * 100000, 12345)
assert b.pread(100000, 12345) == b'A' * 100000
b.flush()
import os, signal
os.kill($pid, signal.SIGKILL)
" || fail "two connections"
see_killed
[ "$(dd if="$dir/disk" bs=1 skip=12345 count=100000 status=none | tr -d A |
	wc -c)" -eq 0 ] || fail "a flush on another connection lost data"
start_foliod vol="$dir/disk"
nbdsh -u "$uri" -c "assert h.pread(100000, 12345) == b'A' * 100000" ||
	fail "after kill -9"
stop_foliod
