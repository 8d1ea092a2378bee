#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Two processes at work on many small files, on ext4 and xfs, over one
# connection and over four, with discards: all is there after the disk was
# attached anew, and the file systems are clean, for the guest and the host.

. "$(dirname "$0")/guest.sh" || exit 99

truncate -s 512M "$dir/ext4" "$dir/xfs"
start_foliod --port 0 --cache-size 32M --threads 2 \
	ext4="$dir/ext4" xfs="$dir/xfs"
guest_run <<'EOF'
for export in ext4 xfs; do
	attach 1
	make_fs $export
	for number in 1 4; do
		detach
		attach $number
		mount_fs $export discard
		rm -rf /mnt/1 /mnt/2
		start_files $export-$number 1000
		end_files
		umount /mnt
		detach

		attach $((5 - number))
		mount_fs $export
		check_files $export-$number 30
		umount /mnt
		fsck_fs $export
	done
	detach
done
EOF
no_io_errors
grep 'files checked' "$share/out"
stop_foliod
fsck_image ext4 "$dir/ext4"
fsck_image xfs "$dir/xfs"
