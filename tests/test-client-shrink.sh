#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A file that shrinks under its server: reads of what is gone are errors, there
# is no crash, and the other exports do not notice.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
requires nbdsh --version

random_file "$dir/other" 1048576

for mode in writeback writeout none; do
	random_file "$dir/disk" $((8 * 1048576))
	start_foliod --mode $mode vol="$dir/disk" other="$dir/other"
	nbdsh -c "
h.connect_uri('$uri')
h.pwrite(b'a' * 65536, 6 << 20)
h.flush()
import errno, os
os.truncate('$dir/disk', 1 << 20)
def refused(call):
    try:
        call()
    except nbd.Error as e:
        assert e.errnum in (errno.EIO, errno.EINVAL), e
        return 1
    return 0
for pos in range(1 << 20, 6 << 20, 1 << 20):
    assert refused(lambda: h.pread(65536, pos + 65536)), pos
# These may also succeed: the file grows by them again.
for pos in range(0, 8 << 20, 1 << 20):
    refused(lambda: h.pwrite(b'x' * 5000, pos + 100))
    refused(lambda: h.zero(65536, pos + 131072))
    refused(lambda: h.trim(65536, pos + 262144))
    refused(lambda: h.flush())
    refused(lambda: h.pread(100000, pos))
# What is still there is served.
want = open('$dir/disk', 'rb').read(65536)
assert h.pread(50, 10) == want[10:60]
o = nbd.NBD()
o.connect_uri('$(uri_of other)')
o.pwrite(b'fine', 77)
o.flush()
assert o.pread(4, 77) == b'fine'
assert o.pread(65536, 65536) == \
    open('$dir/other', 'rb').read(131072)[65536:]
" || fail "mode $mode"
	! has_ended "$pid" || fail "foliod is gone"
	status=0
	kill -TERM "$pid"
	reap "$pid" || status=$?
	# A flush that fails at the end is told by the status.
	[ "$status" -le 1 ] || fail "foliod ended with status $status"
done
[ "$(dd if="$dir/other" bs=1 skip=77 count=4 status=none)" = fine ] ||
	fail "the other export"
