#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Real clients of the plugin: what they copied in is in the file, and what is in
# the file is what they copy out.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
. "$(dirname "$0")/plugin.sh" || exit 99
requires nbdcopy --version
requires nbdsh --version

sparse_file "$dir/source"
data_max=$((3 * 1048576))	# what the three pieces take, with some room

# In, what was sparse stays so, and out; one connection and four, threads few
# and many.
for mode in writeback writethrough none; do
	for connections in 1 4; do
		rm -f "$dir/disk" "$dir/out"
		truncate -s 32M "$dir/disk"
		truncate -s 0 "$dir/out"
		start_nbdkit -t $((connections * 8)) -- $cache mode=$mode \
			threads=2 "$dir/disk"
		nbdcopy --connections=$connections --flush "$dir/source" "$uri"
		same "$dir/source" "$dir/disk"
		takes_at_most $data_max "$dir/disk"
		nbdcopy --connections=$connections "$uri" "$dir/out"
		same "$dir/source" "$dir/out"
		stop_nbdkit
		same "$dir/source" "$dir/disk"
	done
done

# Through a cache smaller than the disk, with nothing flushed by the client.
random_file "$dir/full" $((32 * 1048576 - 1234))
truncate -s "$(stat -c %s "$dir/full")" "$dir/other"
start_nbdkit $cache "$dir/other"
nbdcopy --requests=16 "$dir/full" "$uri"
nbdcopy --requests=16 "$uri" - >"$dir/out"
same "$dir/full" "$dir/out"
stop_nbdkit
same "$dir/full" "$dir/other"

# Between foliod and the plugin.
start_foliod disk="$dir/disk"
from=$uri foliod_pid=$pid
truncate -s 32M "$dir/third"
start_nbdkit $cache "$dir/third"
nbdcopy --flush "$from" "$uri"
stop_nbdkit
stop_foliod "$foliod_pid"
same "$dir/source" "$dir/third"

# What is no multiple of anything, zeroes of every kind, and large requests.
random_file "$dir/odd" 1000001
cp "$dir/odd" "$dir/odd.copy"
start_nbdkit $cache "$dir/odd"
arg1="$dir/odd.copy" arg2="$dir/want" nbdsh -u "$uri" -c '
import os
want = bytearray(open(os.environ["arg1"], "rb").read())
size = h.get_size()
assert size == len(want)
def put(pos, data, flags=0):
    h.pwrite(data, pos, flags)
    want[pos:pos + len(data)] = data
put(1, b"a" * 5000)
put(size - 3, b"xyz")
put(4095, b"b", nbd.CMD_FLAG_FUA)
put(100000, bytes(range(256)) * 2500)
def drop(pos, n):
    want[pos:pos + n] = bytes(n)
h.zero(70000, 8001, 0); drop(8001, 70000)
h.zero(9000, 300001, nbd.CMD_FLAG_NO_HOLE); drop(300001, 9000)
h.trim(50000, 500001, nbd.CMD_FLAG_FUA); drop(500001, 50000)
try:
    h.zero(40960, 409600, nbd.CMD_FLAG_FAST_ZERO); drop(409600, 40960)
except nbd.Error as ex:
    assert ex.errno == "EOPNOTSUPP" or ex.errno == "ENOTSUP", ex
h.cache(size, 0)
assert h.pread(size, 0) == want
for pos in (0, 4095, 4096, 8000, 99999, size - 4097):
    assert h.pread(4097, pos) == want[pos:pos + 4097], pos
for call in (lambda: h.pread(2, size - 1), lambda: h.pwrite(b"no", size - 1)):
    try:
        call()
        assert False, "beyond the end"
    except nbd.Error:
        pass
h.flush()
open(os.environ["arg2"], "wb").write(want)
'
same "$dir/want" "$dir/odd"
stop_nbdkit
same "$dir/want" "$dir/odd"

# QEMU's tools.
if qemu-img --version >/dev/null 2>&1; then
	rm "$dir/disk"
	truncate -s 32M "$dir/disk"
	start_nbdkit $cache "$dir/disk"
	qemu-img convert -n -f raw -O raw "$dir/source" "$uri"
	qemu-img compare -f raw -F raw "$dir/source" "$uri"
	qemu-img convert -f raw -O qcow2 "$uri" "$dir/copy.qcow2"
	qemu-img compare -f raw -F qcow2 "$dir/source" "$dir/copy.qcow2"
	qemu-io -f raw -c 'write -P 7 1M 64k' -c 'write -z 2M 1M' \
		-c 'discard 4M 1M' -c 'flush' -c 'read -P 7 1M 64k' \
		-c 'read -P 0 2M 1M' "$uri" >"$dir/out"
	! grep -qiE 'fail|error' "$dir/out" || fail "$(cat "$dir/out")"
	stop_nbdkit
fi

# Several jobs that check what they wrote.
if fio --enghelp=nbd >/dev/null 2>&1; then
	truncate -s 32M "$dir/disk"
	start_nbdkit -t 32 -- $cache threads=2 "$dir/disk"
	timeout 120 fio --output="$dir/fio.log" --ioengine=nbd --uri="$uri" \
		--rw=randrw --bssplit=512/20:4k/50:64k/30 --iodepth=16 \
		--numjobs=4 --size=8M --offset_increment=8M --verify=crc32c \
		--verify_backlog=64 --verify_fatal=1 --fsync=200 \
		--randseed="$seed" --name=job || {
		cat "$dir/fio.log"
		fail "fio found wrong data"
	}
	stop_nbdkit
fi
