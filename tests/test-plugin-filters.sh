#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The plugin under nbdkit's filters.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
. "$(dirname "$0")/plugin.sh" || exit 99
requires nbdsh --version
requires nbdcopy --version

random_file "$dir/disk" $((8 * 1048576))
cp "$dir/disk" "$dir/want"

# has_filter NAME
has_filter()
{
	nbdkit --filter="$1" "$plugin" --dump-plugin >/dev/null 2>&1 || {
		echo "there is no filter $1 here"
		return 1
	}
}

# Writes go to a copy that is thrown away; the file is not even writable.
if has_filter cow; then
	start_nbdkit --filter=cow -- $cache read-only=true "$dir/disk"
	arg1="$dir/want" nbdsh -u "$uri" -c '
import os
want = bytearray(open(os.environ["arg1"], "rb").read())
assert h.pread(len(want), 0) == want
h.pwrite(b"c" * 100000, 12345)
want[12345:112345] = b"c" * 100000
h.flush()
assert h.pread(len(want), 0) == want
'
	stop_nbdkit
	same "$dir/want" "$dir/disk"
fi

# It asks for CACHE ahead of a client that reads on.
if has_filter readahead; then
	start_nbdkit --filter=readahead -- $cache "$dir/disk"
	nbdcopy --request-size=65536 "$uri" - >"$dir/out"
	same "$dir/want" "$dir/out"
	stop_nbdkit
fi

# What it counted is what was asked.
if has_filter stats; then
	start_nbdkit --filter=stats -- $cache "$dir/disk" \
		statsfile="$dir/stats"
	nbdsh -u "$uri" -c '
h.pwrite(h.pread(4096 * 3, 0), 0, nbd.CMD_FLAG_FUA)
h.flush()
'
	stop_nbdkit
	for what in read write flush; do
		grep -q "^$what: 1 ops" "$dir/stats" || {
			cat "$dir/stats"
			fail "not one $what"
		}
	done
	same "$dir/want" "$dir/disk"
fi

# Requests that are no blocks become ones that are.
if has_filter blocksize; then
	start_nbdkit --filter=blocksize -- $cache "$dir/disk" minblock=4k \
		maxdata=64k
	arg1="$dir/want" nbdsh -u "$uri" -c '
import os
want = bytearray(open(os.environ["arg1"], "rb").read())
h.pwrite(b"b" * 70000, 777)
want[777:70777] = b"b" * 70000
h.zero(200000, 100001)
want[100001:300001] = bytes(200000)
h.flush()
assert h.pread(300000, 5) == want[5:300005]
open(os.environ["arg1"], "wb").write(want)
'
	same "$dir/want" "$dir/disk"
	stop_nbdkit
fi

# Errors from above do not upset what is below.
if has_filter error; then
	start_nbdkit --filter=error -- $cache "$dir/disk" error-rate=30%
	arg1="$dir/want" nbdsh -u "$uri" -c '
import os
want = bytearray(open(os.environ["arg1"], "rb").read())
good = bad = 0
for i in range(400):
    pos = i * 4096
    try:
        h.pwrite(bytes([i % 256]) * 4096, pos)
        want[pos:pos + 4096] = bytes([i % 256]) * 4096
        good += 1
    except nbd.Error:
        bad += 1
    try:
        assert h.pread(4096, pos) == want[pos:pos + 4096]
    except nbd.Error:
        bad += 1
assert good > 100 and bad > 50, (good, bad)
open(os.environ["arg1"], "wb").write(want)
'
	stop_nbdkit
	same "$dir/want" "$dir/disk"
fi
