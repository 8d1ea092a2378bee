#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# qemu-io: patterns, zeroes, discards, flushes, places that fit no block.

. "$(dirname "$0")/functions.sh" || exit 99
requires qemu-io --version

truncate -s 8M "$dir/disk"

# Its status is 0 also when a pattern is not what was expected.
io()
{
	local options=() c

	for c in "$@"; do
		options+=(-c "$c")
	done
	timeout 60 qemu-io -f raw "${options[@]}" "$uri" >"$dir/out" 2>&1 || {
		cat "$dir/out"
		fail "qemu-io $*"
	}
	! grep -qiE 'verification failed|error|failed' "$dir/out" || {
		cat "$dir/out"
		fail "qemu-io $*"
	}
}

for mode in writeback writethrough none; do
	start_foliod --mode $mode vol="$dir/disk"
	io 'write -P 0xa1 0 1M' 'read -P 0xa1 0 1M' \
		'write -P 0xa2 123 457' 'read -P 0xa1 0 123' \
		'read -P 0xa2 123 457' 'read -P 0xa1 580 4k' \
		'write -P 0xa3 65535 131073' 'read -P 0xa3 65535 131073' \
		'read -P 0xa1 196608 1k' 'flush'
	io 'write -f -P 0xa4 2M 64k' 'read -P 0xa4 2M 64k' \
		'write -z 2113536 8k' 'read -P 0 2113536 8k' \
		'write -z -u 2129920 8k' 'read -P 0 2129920 8k' \
		'write -z -u 2097153 99' 'read -P 0 2097153 99' \
		'read -P 0xa4 2097252 3k'
	io 'write -P 0xa5 4M 2M' 'discard 4M 1M' 'read -P 0 4M 1M' \
		'read -P 0xa5 5M 1M' 'discard 5242881 511' \
		'read -P 0xa5 5243392 1k' 'flush'
	# Many at once.
	io 'aio_write -P 0xb1 6M 64k' 'aio_write -P 0xb2 6356992 64k' \
		'aio_write -P 0xb3 6422528 64k' 'aio_write -z 6488064 64k' \
		'aio_flush' 'aio_read -P 0xb1 6M 64k' \
		'aio_read -P 0xb2 6356992 64k' 'aio_read -P 0xb3 6422528 64k' \
		'aio_read -P 0 6488064 64k' 'aio_flush'
	io 'writev -P 0xc1 7M 1k 3k 512' 'readv -P 0xc1 7M 512 4k'
	# Another client sees it, and so does the file.
	io 'read -P 0xa1 0 123' 'read -P 0xa2 123 457' \
		'read -P 0xa3 65535 131073' 'read -P 0xc1 7M 4608'
	stop_foliod
	timeout 60 qemu-io -f raw -r -c 'read -P 0xa2 123 457' \
		-c 'read -P 0xa3 65535 131073' -c 'read -P 0 4M 1M' \
		-c 'read -P 0xb2 6356992 64k' -c 'read -P 0xc1 7M 4608' \
		"$dir/disk" >"$dir/out" 2>&1
	! grep -qiE 'verification failed|error' "$dir/out" || {
		cat "$dir/out"
		fail "the file, mode $mode"
	}
	# Nothing in it is what the next mode writes.
	head -c 8M /dev/zero | tr '\0' '\252' >"$dir/disk"
done

# Read-only: refused, and nothing changes.
start_foliod -r vol="$dir/disk"
! qemu-io -f raw -c 'write -P 1 0 512' "$uri" >"$dir/out" 2>&1 ||
	fail "a write to a read-only export"
timeout 60 qemu-io -r -f raw -c 'read -P 0xaa 0 8M' "$uri" >"$dir/out" 2>&1
! grep -qiE 'verification failed|error' "$dir/out" || fail "$(cat "$dir/out")"
stop_foliod
[ "$(stat -c %s "$dir/disk")" -eq 8388608 ] || fail "the size of the file"
