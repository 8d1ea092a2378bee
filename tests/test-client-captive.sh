#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Captive servers with real clients: --run, and -s as a client starts it.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
requires nbdcopy --version
requires nbdsh --version

sparse_file "$dir/source"
truncate -s 32M "$dir/disk"

# --run: what the command wrote is in the file, its status is ours.
# shellcheck disable=SC2016 # the command's variable
timeout 60 "$foliod" --run 'nbdcopy '"$dir/source"' "$uri"' "$dir/disk" \
	2>"$dir/err" || fail "--run: $(cat "$dir/err")"
same "$dir/source" "$dir/disk"
if command -v qemu-img >/dev/null; then
	# shellcheck disable=SC2016
	timeout 60 "$foliod" -r -p 0 --run 'qemu-img compare -f raw -F raw \
		'"$dir/source"' "nbd://localhost:$port/$exportname"' \
		"$dir/disk" >/dev/null 2>"$dir/err" ||
		fail "--run over TCP: $(cat "$dir/err")"
	status=0
	printf x | dd of="$dir/disk" bs=1 seek=77 conv=notrunc status=none
	# shellcheck disable=SC2016
	timeout 60 "$foliod" -r --run 'qemu-img compare -f raw -F raw \
		'"$dir/source"' "$uri"' "$dir/disk" >/dev/null 2>&1 ||
		status=$?
	[ "$status" -eq 1 ] || fail "the status of --run is $status, not 1"
fi

# -s: over standard input and output of a child.
truncate -s 0 "$dir/disk"
truncate -s 32M "$dir/disk"
nbdsh -c "
h.connect_command(['$foliod', '-s', '$dir/disk'])
assert h.get_size() == 32 << 20
h.pwrite(b'single' * 1000, 1000001)
assert h.pread(6000, 1000001) == b'single' * 1000
h.zero(1000, 1001001)
h.shutdown()
" || fail "nbdsh with -s"
# The child is not waited for by its parent.
wait_for 20 "$foliod" -r --run true "$dir/disk" || fail "it does not end"
[ "$(dd if="$dir/disk" bs=1 skip=1000001 count=6000 status=none | tr -d '\0' |
	wc -c)" -eq 5000 ] || fail "not all written with -s is in the file"
nbdsh -c "
h.connect_command(['$foliod', '-s', '-r', '$dir/disk'])
assert h.is_read_only()
assert h.pread(6, 1000001) == b'single'
" || fail "nbdsh with -s -r"
# Beside a listener there is no -s.
fails_with 2 --single -- -s -U "$dir/sock" "$dir/disk"
