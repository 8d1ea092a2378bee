#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The guest's power fails under load, alone or together with the server's: a
# new guest finds every synced file, and the file system is clean.  Together
# with the server's goes all that foliod had cached and not been told to flush.

. "$(dirname "$0")/guest.sh" || exit 99

# powercut FSTYPE alone|together
powercut()
{
	echo "--- $1, $2"
	rm -f "$dir/disk" "$share"/kept-*
	truncate -s 512M "$dir/disk"
	start_foliod --port 0 --cache-size 64M vol="$dir/disk"
	guest_start <<EOF
attach 4
make_fs $1
mount_fs $1
start_files kept 1000000000
wait
EOF
	await_lines 150 keep kept-1
	await_lines 150 keep kept-2
	if [ "$2" = alone ]; then
		guest_cut
		kernel_is_well
		no_io_errors
		stop_foliod
	else
		kill_foliod
		guest_cut
		await_unlocked "$dir/disk"
	fi

	# What the host's tools can do without the kernel's help: ext4's
	# journal is replayed, on a copy.
	if [ "$1" = ext4 ]; then
		cp --sparse=always "$dir/disk" "$dir/copy"
		requires e2fsck -V
		e2fsck -f -p "$dir/copy" >"$dir/fsck" 2>&1 || [ $? -eq 1 ] || {
			cat "$dir/fsck"
			fail "e2fsck finds more than a journal to replay"
		}
		fsck_image ext4 "$dir/copy"
		rm "$dir/copy"
	fi

	start_foliod --port 0 vol="$dir/disk"
	guest_run <<EOF
attach 1
mount_fs $1
check_files kept 8
umount /mnt
fsck_fs $1
detach
EOF
	no_io_errors
	grep 'files checked' "$share/out" | tail -n 2
	stop_foliod
	fsck_image "$1" "$dir/disk"
}

powercut ext4 alone
powercut ext4 together
powercut xfs alone
powercut xfs together
