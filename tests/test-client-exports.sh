#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Several exports through several listeners to several clients at once: each
# gets its own bytes, all listeners show the same ones, a read-only export
# takes none.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
requires nbdcopy --version
requires nbdsh --version

for i in 1 2 3 4; do
	truncate -s 8M "$dir/disk$i"
	random_file "$dir/data$i" 8388608
done
cp "$dir/data4" "$dir/disk4"
start_foliod -U "$dir/sock-a" -b 127.0.0.1:0 -U "$dir/sock-b" \
	a="$dir/disk1" b="$dir/disk2" c="$dir/disk3" \
	--export "name=d,path=$dir/disk4,read-only,description=Only to read"

unix_a="nbd+unix:///NAME?socket=$dir/sock-a"
unix_b="nbd+unix:///NAME?socket=$dir/sock-b"
tcp=nbd://127.0.0.1:$port/NAME

# All at once, each through another listener.
nbdcopy --flush "$dir/data1" "${unix_a/NAME/a}" &
one=$!
nbdcopy --flush "$dir/data2" "${tcp/NAME/b}" &
two=$!
nbdcopy --flush "$dir/data3" "${unix_b/NAME/c}" &
three=$!
nbdcopy "${tcp/NAME/d}" "$dir/out4" || fail "nbdcopy of d"
wait "$one" || fail "nbdcopy to a"
wait "$two" || fail "nbdcopy to b"
wait "$three" || fail "nbdcopy to c"
same "$dir/data4" "$dir/out4"
i=0
for name in a b c d; do
	i=$((i + 1))
	for listener in "$unix_a" "$tcp" "$unix_b"; do
		nbdcopy "${listener/NAME/$name}" - | cmp - "$dir/data$i" ||
			fail "$name over $listener"
	done
	same "$dir/data$i" "$dir/disk$i"
done

# What was written by TCP is read by unix at once.
nbdsh -c "
a, b = nbd.NBD(), nbd.NBD()
a.connect_uri('${tcp/NAME/a}')
b.connect_uri('${unix_b/NAME/a}')
for i in range(100):
    a.pwrite(bytes([i]) * 3000, i * 1000)
    assert b.pread(3000, i * 1000) == bytes([i]) * 3000
" || fail "two listeners"

# Read-only: each command that writes is refused, whatever the client thinks.
nbdsh -c "
import errno
h.set_strict_mode(0)
h.connect_uri('${tcp/NAME/d}')
assert h.is_read_only()
for call in (lambda: h.pwrite(b'x' * 4096, 0), lambda: h.zero(4096, 0),
             lambda: h.trim(4096, 0), lambda: h.pwrite(b'x', 0, 1)):
    try:
        call()
    except nbd.Error as e:
        assert e.errnum in (errno.EPERM, errno.EINVAL), e
    else:
        assert False, 'a write was taken'
h.flush()
assert h.pread(4096, 0) == open('$dir/data4', 'rb').read(4096)
" || fail "a read-only export"
stop_foliod
same "$dir/data4" "$dir/disk4"

# A file that may only be read can be served, read-only.
chmod 444 "$dir/disk4"
start_foliod -r "$dir/disk4"
nbdcopy "$uri" - | cmp - "$dir/data4" || fail "a file that is read-only"
stop_foliod
