#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# bench/replay counts what it should: traces that are small enough to say
# beforehand what misses, and what the device is asked for.

. "$(dirname "$0")/functions.sh" || exit 99
replay=${abs_top_builddir:-..}/bench/replay
[ -x "$replay" ] || skip "bench/replay is not built: it needs libzstd"
requires zstd --version
requires python3 --version

# trace NAME LIST: make $dir/NAME.ftr.zst of a Python list of (op, pos, len).
trace()
{
	python3 -c '
import struct, sys
READ, WRITE, FLUSH, DISCARD = range(4)
P = 4096
for us, (op, pos, length) in enumerate(eval(f"({sys.argv[1]})")):
    sys.stdout.buffer.write(struct.pack("<QQIB3x", us, pos, length, op))
' "$2" >"$dir/$1.ftr"
	zstd -q "$dir/$1.ftr"
}

# counts NAME ARGUMENTS KEY=VALUE...: what replay says with these arguments.
counts()
{
	local name=$1 arguments=$2
	shift 2

	# shellcheck disable=SC2086 # several words
	"$replay" $arguments "$dir/$name.ftr.zst" >"$dir/out" || fail "$name"
	python3 -c '
import json, sys
(line,) = sys.stdin
result = json.loads(line)
wrong = 0
for arg in sys.argv[1:]:
    key, value = arg.split("=")
    if result[key] != type(result[key])(value):
        print(f"{key} is {result[key]}, and should be {value}")
        wrong = 1
sys.exit(wrong)
' "$@" <"$dir/out" || fail "$name with $arguments: $(cat "$dir/out")"
}

mib=1048576

# 1 MiB, page by page, twice: all of the second pass hits in a cache that
# holds it; in one of half the size each page is gone before it is wanted.
trace scan '[(READ, i % 256 * P, P) for i in range(512)]'
counts scan '--cache 1' trace=scan.ftr.zst cache_pages=256 \
	footprint_pages=256 accesses=512 misses=256 miss_ratio=0.5 \
	request_miss_ratio=0.5 device_reads=256 device_read_bytes=$mib \
	device_writes=0 device_flushes=0
counts scan '--cache 0.5' cache_pages=128 accesses=512 misses=512 \
	miss_ratio=1 device_reads=512 device_read_bytes=$((2 * mib))
# Readahead: the same bytes in fewer reads, and most misses are spared.
counts scan '--cache 1 --readahead' device_read_bytes=$mib
reads=$(sed -nE 's/.*"device_reads": ([0-9]+).*/\1/p' "$dir/out")
misses=$(sed -nE 's/.*"misses": ([0-9]+).*/\1/p' "$dir/out")
if [ "$reads" -gt 64 ] || [ "$misses" -gt 64 ]; then
	fail "readahead: $reads reads, $misses misses"
fi

# Several shards share the frames, and nothing is counted twice.
trace wide '[(READ, i % 4096 * P, P) for i in range(8192)]'
counts wide '--cache 1 --shards 4' cache_pages=4096 accesses=8192 misses=4096 \
	device_reads=4096 device_read_bytes=$((16 * mib))

# What is used again and again outlives a scan that would fill the cache:
# by LRU the 64 pages would all be missed a second time.
trace hot '[(READ, i * P, P) for _ in range(3) for i in range(64)] +
	[(READ, (64 + i) * P, P) for i in range(192)] +
	[(READ, i * P, P) for i in range(64)]'
counts hot '--cache 0.5' cache_pages=128 footprint_pages=256 accesses=448
misses=$(sed -nE 's/.*"misses": ([0-9]+).*/\1/p' "$dir/out")
if [ "$misses" -lt 256 ] || [ "$misses" -gt 272 ]; then
	fail "$misses misses around a scan"
fi

# Few enough dirty pages wait for the FLUSH: sixteen pages dirtied sixteen
# times are written once.  Reads of eight find two in memory, and no more.
trace write '[(WRITE, i % 16 * P, P) for i in range(256)] + [(FLUSH, 0, 0)] +
	[(READ, i * 8 * P, 8 * P) for i in range(32)]'
counts write '--cache 1' footprint_pages=256 accesses=512 misses=256 \
	device_write_bytes=65536 device_flushes=1 device_reads=30 \
	device_read_bytes=$((mib - 65536))

# Two bytes may touch two pages; one dropped is missed again; and a large
# request comes in pieces.
trace odd '[(READ, P - 1, 2), (READ, 100 * P + 512, 512), (READ, 100 * P, 1),
	(DISCARD, 100 * P, P), (READ, 100 * P, P), (READ, 1024 * P, 512 * P)]'
counts odd '--cache 1' footprint_pages=515 accesses=517 misses=516 \
	request_miss_ratio=0.8 device_reads=5 device_read_bytes=$((516 * 4096))

# What is no trace is an error, and no result.
for bad in cut empty missing; do
	case $bad in
	cut) head -c 40 "$dir/scan.ftr.zst" >"$dir/cut" ;;
	empty) : >"$dir/empty" ;;
	esac
	status=0
	"$replay" "$dir/$bad" >"$dir/out" 2>"$dir/err" || status=$?
	[ "$status" -eq 1 ] || fail "$bad: status $status"
	[ ! -s "$dir/out" ] || fail "$bad: a result"
	grep -q "^replay: $dir/$bad: " "$dir/err" || fail "$bad: no error"
done
echo "bench/replay: all counts as computed"
