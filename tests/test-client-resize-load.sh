#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A file that grows and shrinks all the time under clients on several threads:
# nothing below the smallest size is lost, requests end well or are refused,
# and what is new is zero or what a client has written there.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
requires nbdinfo --version
requires nbdsh --version

seed=${FOLIOD_SEED:-$RANDOM}
echo "FOLIOD_SEED=$seed"

for mode in writeback none; do
	rm -f "$dir/disk"
	truncate -s 8M "$dir/disk"
	start_foliod --threads 4 --cache-size 64M --mode $mode vol="$dir/disk"
	clients=()
	for nr in 0 1 2 3; do
		# Each has every fourth unit to itself.
		timeout 120 nbdsh -c "
import errno, random
rnd = random.Random($seed * 4 + $nr)
unit, floor = 12345, 1 << 20
h.connect_uri('$uri')
h.set_strict_mode(0)
last = {}
for _ in range(400):
    k = rnd.randrange((8 << 20) // unit // 4) * 4 + $nr
    pos = k * unit
    low = pos + unit <= floor
    try:
        if rnd.randrange(3):
            c = rnd.randrange(256)
            last[k] = c
            h.pwrite(bytes([c]) * unit, pos,
                     nbd.CMD_FLAG_FUA if rnd.randrange(8) == 0 else 0)
        else:
            got = h.pread(unit, pos)
            assert not low or got == bytes([last.get(k, 0)]) * unit, pos
        if rnd.randrange(20) == 0:
            h.flush()
    except nbd.Error as e:
        # A file that is cut short under a read is an error of the disk.
        assert not low and e.errnum in (errno.EINVAL, errno.ENOSPC,
                                        errno.EIO), (pos, e)
h.flush()
for k, c in last.items():
    if k * unit + unit <= floor:
        assert h.pread(unit, k * unit) == bytes([c]) * unit, k
h.shutdown()
" &
		clients+=($!)
	done
	timeout 120 python3 -c "
import os, random, signal, subprocess
rnd = random.Random($seed)
for i in range(60):
    os.truncate('$dir/disk', rnd.randrange(1 << 20, 8 << 20))
    if i % 2:
        os.kill($pid, signal.SIGHUP)
    else:
        subprocess.run(['nbdinfo', '--size', '$uri'], check=True,
                       stdout=subprocess.DEVNULL)
" || fail "the one that resizes"
	for client in "${clients[@]}"; do
		wait "$client" || fail "a client, in mode $mode, seed $seed"
	done
	truncate -s 3000001 "$dir/disk"
	[ "$(nbdinfo --size "$uri")" -eq 3000001 ] || fail "the last size"
	stop_foliod
	[ "$(stat -c %s "$dir/disk")" -eq 3000001 ] || fail "the file's size"
done
