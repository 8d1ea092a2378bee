#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A block device as an export: a loop device.  Size, data, discard, read-only
# devices, devices that are in use, and one that loses its end.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
requires nbdcopy --version
requires nbdinfo --version
requires nbdsh --version
requires losetup --version

# attach BACKING [OPTION]...: sets $loop.  The device is let go as soon as
# nobody has it open: neither foliod, nor descriptor $hold of this shell.
attach()
{
	loop=$(losetup --find --show "${@:2}" "$1" 2>"$dir/err") ||
		skip "no loop devices: $(cat "$dir/err")"
	exec {hold}<"$loop" || skip "cannot open $loop"
	losetup --detach "$loop"
}

sparse_file "$dir/source"
truncate -s 32M "$dir/backing"
attach "$dir/backing"

start_foliod vol="$loop"
[ "$(nbdinfo --size "$uri")" -eq 33554432 ] || fail "the size"
# A second one is told who has it.
fails_with 1 "$loop" 'in use' -- -U "$dir/sock2" "$loop"
nbdcopy --flush "$dir/source" "$uri"
nbdcopy "$uri" "$dir/out"
same "$dir/source" "$dir/out"
# A discard reaches the file below; zeroes read zero.
before=$(allocated "$dir/backing")
nbdsh -u "$uri" -c '
h.trim(524288, 12 << 20)
h.zero(100000, 123456)
h.zero(65536, 524288, nbd.CMD_FLAG_NO_HOLE)
h.pwrite(b"z" * 5000, 33554432 - 5000, nbd.CMD_FLAG_FUA)
assert h.pread(524288, 12 << 20) == bytes(524288)
assert h.pread(100000, 123456) == bytes(100000)
h.flush()
' || fail "trims and zeroes"
[ "$(allocated "$dir/backing")" -lt "$before" ] ||
	fail "a trim freed nothing: $before, then $(allocated "$dir/backing")"
nbdcopy "$uri" "$dir/out"
stop_foliod
same "$dir/out" "$dir/backing"
[ "$(tail -c 5000 "$dir/backing" | tr -d z | wc -c)" -eq 0 ] ||
	fail "the last bytes"

# Direct modes, and what fits no sector.
for mode in none directsync writethrough; do
	start_foliod --mode $mode vol="$loop"
	nbdsh -u "$uri" -c "
for pos, n in (1, 1), (511, 2), (4095, 4098), (999999, 70001):
    h.pwrite(b'$mode'[:1] * n, pos)
    assert h.pread(n + 2, pos - 1)[1:-1] == b'$mode'[:1] * n
" || fail "mode $mode"
	nbdcopy "$uri" "$dir/out"
	stop_foliod
	same "$dir/out" "$dir/backing"
done

# In use by somebody else, here by a mount of the kernel's kind: O_EXCL.
/usr/bin/python3 -c '
import os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR | os.O_EXCL)
open(sys.argv[2], "w").close()
time.sleep(600)
' "$loop" "$dir/opened" &
other=$!
started+=("$other")
wait_for 20 test -e "$dir/opened" || fail "cannot open $loop exclusively"
fails_with 1 "$loop" 'in use' -- -U "$dir/sock2" "$loop"
kill "$other"
reap "$other" || :

# It loses its end: errors, no crash, and it ends when asked to.
start_foliod --mode writeout vol="$loop"
nbdsh -u "$uri" -c "
import errno, subprocess
subprocess.run(['truncate', '-s', '1M', '$dir/backing'], check=True)
subprocess.run(['losetup', '--set-capacity', '$loop'], check=True)
errors = 0
for pos in range(2 << 20, 32 << 20, 4 << 20):
    for call in (lambda: h.pread(65536, pos), lambda: h.pwrite(b'x' * 4096, pos),
                 lambda: h.flush()):
        try:
            call()
        except nbd.Error as e:
            assert e.errnum in (errno.EIO, errno.ENOSPC), e
            errors += 1
assert errors >= 8, errors
h.pread(4096, 8192)
# Whoever comes now is told, and then it is clear what is beyond the end.
o = nbd.NBD()
o.connect_uri('$uri')
assert o.get_size() == 1 << 20, o.get_size()
try:
    h.pwrite(b'x' * 4096, 2 << 20)
    assert False, 'written behind the end'
except nbd.Error as e:
    assert e.errnum == errno.ENOSPC, e
" || fail "a device that has lost its end"
! has_ended "$pid" || fail "foliod is gone"
kill "$pid"
reap "$pid" || :
exec {hold}<&-

# A read-only device.
random_file "$dir/backing" 1048576
attach "$dir/backing" --read-only
fails_with 1 "$loop" 'ead-only' -- -U "$dir/sock2" "$loop"
start_foliod -r vol="$loop"
nbdinfo --is read-only "$uri" || fail "not read-only"
nbdcopy "$uri" - | cmp - "$dir/backing" || fail "a read-only device"
stop_foliod
exec {hold}<&-
