# shellcheck shell=bash disable=SC2154
# SPDX-License-Identifier: BSD-3-Clause
#
# clients.sh - what the tests with real clients share beside functions.sh.

# The seed of everything random in a test; FOLIOD_SEED repeats a run.
seed=${FOLIOD_SEED:-$((RANDOM * 32768 + RANDOM))}
echo "FOLIOD_SEED=$seed"
nr_random=0
tests_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# random_file FILE BYTES: of these many bytes that do not compress.
random_file()
{
	nr_random=$((nr_random + 1))
	python3 -c '
import random, sys
r = random.Random(sys.argv[1])
left = int(sys.argv[2])
while left:
    n = min(left, 1 << 20)
    sys.stdout.buffer.write(r.randbytes(n))
    left -= n
' "$seed.$nr_random" "$2" >"$1"
}

# sparse_file FILE: 32 MiB with data in three places, the end among them.
sparse_file()
{
	truncate -s 32M "$1"
	random_file "$1.part" 1000000
	dd if="$1.part" of="$1" bs=64k conv=notrunc status=none
	dd if="$1.part" of="$1" bs=64k seek=12M oflag=seek_bytes conv=notrunc \
		status=none
	dd if="$1.part" of="$1" bs=64k seek=$((32 * 1048576 - 65536)) count=1 \
		oflag=seek_bytes conv=notrunc status=none
	rm "$1.part"
}

# Bytes that a file takes on its file system.
allocated()
{
	echo $(($(stat -c %b "$1") * 512))
}

# same FILE FILE: the same bytes; says where not.
same()
{
	cmp "$1" "$2" || fail "$1 and $2 differ"
}

# takes_at_most BYTES FILE
takes_at_most()
{
	[ "$(allocated "$2")" -le "$1" ] ||
		fail "$2 takes $(allocated "$2") bytes, more than $1"
}

# note_acked LIST PID SIGNAL NUMBER FLAGS: see note-acked.py; into $uri.
note_acked()
{
	timeout 60 /usr/bin/python3 "$tests_dir/note-acked.py" \
		"$uri" "$@" "$seed" || fail "the client that notes"
}

# check_acked LIST FILE MINIMUM: a line "block acked sent" of LIST says that
# block (of 4 KiB) number "block" was written with 8-byte numbers, up to
# "acked" with an answer, up to "sent" without: FILE has one in that range.
check_acked()
{
	python3 -c '
import sys
nr = 0
with open(sys.argv[2], "rb") as f:
    for line in open(sys.argv[1]):
        block, acked, sent = map(int, line.split())
        f.seek(block * 4096)
        data = f.read(4096)
        found = {int.from_bytes(data[i:i + 8], "big")
                 for i in range(0, 4096, 8)}
        ok = len(found) == 1 and (acked in found or sent in found)
        assert ok, f"block {block}: {sorted(found)[:4]}, acked {acked}, sent {sent}"
        nr += 1
assert nr >= int(sys.argv[3]), f"only {nr} blocks"
' "$@" || fail "an acknowledged write is not in $2"
}

# foliod was sent a SIGKILL by a client: it is gone on return.
see_killed()
{
	local status=0

	reap "$pid" || status=$?
	[ "$status" -eq 137 ] || fail "foliod ended with status $status"
}
