#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A file system on a volume, made and checked through nbdfuse without mounting
# it: mkfs.ext4, files put in and taken out by debugfs, e2fsck.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
requires nbdfuse --version
requires mke2fs -V
requires debugfs -V
[ -w /dev/fuse ] || skip "there is no /dev/fuse"
command -v fusermount3 >/dev/null || skip "there is no fusermount3"

mounted=
unmount()
{
	if [ -n "$mounted" ]; then
		fusermount3 -u "$dir/mnt" || fusermount3 -u -z "$dir/mnt"
		wait "$mounted" 2>/dev/null
		mounted=
	fi
}
end()
{
	local status=$?

	unmount || :
	# cleanup() takes it from here.
	set +e
	(exit "$status")
	cleanup
}
trap end EXIT


mkdir "$dir/mnt" "$dir/tree"
truncate -s 64M "$dir/disk"
start_foliod vol="$dir/disk"

nbdfuse -P "$dir/fuse.pid" "$dir/mnt/nbd" "$uri" &
mounted=$!
wait_for 20 test -s "$dir/fuse.pid" || skip "nbdfuse does not work here"
[ "$(stat -c %s "$dir/mnt/nbd")" -eq 67108864 ] || fail "the size"

for i in $(seq 20); do
	random_file "$dir/tree/file$i" $((i * 12345))
done
mke2fs -q -F -t ext4 -d "$dir/tree" "$dir/mnt/nbd" || fail "mke2fs"
e2fsck -fn "$dir/mnt/nbd" >"$dir/out" 2>&1 || fail "$(cat "$dir/out")"
random_file "$dir/big" 8000000
debugfs -w -R "write $dir/big big" "$dir/mnt/nbd" >/dev/null 2>&1
debugfs -w -R 'rm file7' "$dir/mnt/nbd" >/dev/null 2>&1
debugfs -R "dump big $dir/out" "$dir/mnt/nbd" 2>/dev/null
same "$dir/big" "$dir/out"
unmount
stop_foliod

# All that is in the file, and through a new server.
check_files()
{
	e2fsck -fn "$1" >"$dir/out" 2>&1 || fail "$(cat "$dir/out")"
	for i in 1 13 20; do
		debugfs -R "dump file$i $dir/out" "$1" 2>/dev/null
		same "$dir/tree/file$i" "$dir/out"
	done
	debugfs -R "dump big $dir/out" "$1" 2>/dev/null
	same "$dir/big" "$dir/out"
	! debugfs -R 'stat file7' "$1" 2>/dev/null | grep -q Inode ||
		fail "file7 is still there"
}
check_files "$dir/disk"
start_foliod -r vol="$dir/disk"
rm "$dir/fuse.pid"
nbdfuse -r -P "$dir/fuse.pid" "$dir/mnt/nbd" "$uri" &
mounted=$!
wait_for 20 test -s "$dir/fuse.pid" || fail "nbdfuse -r"
check_files "$dir/mnt/nbd"
unmount
stop_foliod
