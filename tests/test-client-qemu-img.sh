#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# qemu-img: info, convert both ways as raw and as qcow2, compare, map, bench.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
requires qemu-img --version

sparse_file "$dir/source"
truncate -s 32M "$dir/disk"
start_foliod vol="$dir/disk"

qemu-img info "$uri" >"$dir/out"
grep -qF 'file format: raw' "$dir/out" || fail "info: the format"
grep -qF 'virtual size: 32 MiB (33554432 bytes)' "$dir/out" ||
	fail "info: the size: $(cat "$dir/out")"

# In, and out again; sparse stays sparse both ways.
qemu-img convert -n -f raw -O raw "$dir/source" "$uri"
qemu-img compare -f raw -F raw "$dir/source" "$uri" >"$dir/out" ||
	fail "$(cat "$dir/out")"
qemu-img convert -f raw -O raw "$uri" "$dir/out.raw"
same "$dir/source" "$dir/out.raw"
takes_at_most $((3 * 1048576)) "$dir/disk"
takes_at_most $((3 * 1048576)) "$dir/out.raw"
qemu-img convert -f raw -O qcow2 "$uri" "$dir/out.qcow2"
qemu-img compare -f qcow2 -F raw "$dir/out.qcow2" "$uri" >"$dir/out" ||
	fail "$(cat "$dir/out")"
qemu-img convert -f qcow2 -O raw "$dir/out.qcow2" "$dir/out.raw"
same "$dir/source" "$dir/out.raw"

# The map: what QEMU knows of the data are the pieces that were written.
qemu-img map -f raw --output=json "$uri" | python3 -c '
import json, sys
found = [(e["start"], e["length"]) for e in json.load(sys.stdin) if e["data"]]
assert [p for p, n in found] == [0, 12 << 20, (32 << 20) - 65536], found
assert sum(n for p, n in found) <= 3 << 20, found
' || fail "the map"

# A difference is seen, and where.
requires qemu-io --version
qemu-io -f raw -c 'write -P 0x55 16000k 512' "$uri" >/dev/null
status=0
qemu-img compare -f raw -F raw "$dir/source" "$uri" >"$dir/out" || status=$?
[ "$status" -eq 1 ] || fail "compare ended with status $status"
grep -qF 'mismatch at offset 16384000' "$dir/out" || fail "$(cat "$dir/out")"

# Out of order, with many requests, over old data.
qemu-img convert -n -W -m 16 -f raw -O raw "$dir/source" "$uri"
qemu-img compare -f raw -F raw "$dir/source" "$uri" >/dev/null ||
	fail "convert -W"

qemu-img bench -f raw -c 2000 -d 32 -s 4096 "$uri" >/dev/null ||
	fail "bench, reads"
qemu-img bench -f raw -w -c 2000 -d 32 -s 4096 -o 16M --pattern=0x77 \
	--flush-interval=100 "$uri" >/dev/null || fail "bench, writes"
qemu-img bench -f raw -w -c 15 -d 8 -s 1M "$uri" >/dev/null ||
	fail "bench, large writes"
stop_foliod
[ "$(dd if="$dir/disk" bs=4k skip=4096 count=2000 status=none |
	tr -d '\167' | wc -c)" -eq 0 ] || fail "what bench wrote"

# A qcow2 image inside the volume.
truncate -s 0 "$dir/disk"
truncate -s 32M "$dir/disk"
start_foliod vol="$dir/disk"
qemu-img create -q -f qcow2 "$uri" 32M
qemu-img convert -n -f raw -O qcow2 "$dir/source" "$uri"
qemu-img check -q -f qcow2 "$uri" || fail "the qcow2 image is broken"
qemu-img info "$uri" | grep -qF 'file format: qcow2' || fail "not qcow2"
stop_foliod
qemu-img compare -f raw -F qcow2 "$dir/source" "$dir/disk" >/dev/null ||
	fail "the qcow2 image in the file differs"
