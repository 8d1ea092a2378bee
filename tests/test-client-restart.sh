#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A new server serves what the last one left, in any mode and in any other;
# SIGHUP harms nothing; a small cache changes nothing but the speed.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
requires nbdcopy --version
requires nbdsh --version

random_file "$dir/data" $((24 * 1048576))
truncate -s 24M "$dir/disk"

# Each mode overwrites a part of what the one before left.
last=none
for mode in writeback writethrough writeout directsync none unsafe; do
	start_foliod --mode $mode --threads 1 --cache-size 16M vol="$dir/disk"
	nbdcopy "$uri" - | cmp - "$dir/disk" ||
		fail "mode $mode does not serve what mode $last left"
	kill -HUP "$pid"
	nbdcopy "$dir/data" "$uri"
	kill -HUP "$pid"
	nbdsh -u "$uri" -c "h.pwrite(b'$mode' * 1000, 3210123)"
	nbdcopy "$uri" "$dir/out"
	stop_foliod
	same "$dir/disk" "$dir/out"
	printf "$mode%.0s" $(seq 1000) >"$dir/part"
	cp "$dir/data" "$dir/want"
	dd if="$dir/part" of="$dir/want" bs=64k seek=3210123 \
		oflag=seek_bytes conv=notrunc status=none
	same "$dir/want" "$dir/disk"
	last=$mode
done

# More data than cache, several times over, by two clients.
start_foliod --threads 2 --cache-size 16M vol="$dir/disk"
nbdsh -c "
import random
rnd = random.Random($seed)
hs = [nbd.NBD(), nbd.NBD()]
for h in hs:
    h.connect_uri('$uri')
model = bytearray(open('$dir/disk', 'rb').read())
for i in range(600):
    pos = rnd.randrange(len(model) - 262144)
    n = rnd.randrange(1, 262144)
    if i % 3 == 0:
        data = rnd.randbytes(n)
        hs[i % 2].pwrite(data, pos)
        model[pos:pos + n] = data
    else:
        assert hs[i % 2].pread(n, pos) == model[pos:pos + n], (i, pos, n)
open('$dir/want', 'wb').write(model)
" || fail "a small cache"
kill -HUP "$pid"
stop_foliod
same "$dir/want" "$dir/disk"

# The minimum is told.
fails_with 2 --cache-size 16M -- --cache-size 15M "$dir/disk"
fails_with 2 --cache-size -- --cache-size 16M --threads 8 "$dir/disk"
