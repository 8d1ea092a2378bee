#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# QEMU is the client: a guest whose root is an export, as /dev/vda, works on
# two others; its power fails, and it finds all again when it comes back from
# the same exports.

. "$(dirname "$0")/guest.sh" || exit 99
requires mkfs.ext4 -V

# boot_from_exports <SCRIPT
boot_from_exports()
{
	local args=() name

	for name in root ext4 xfs; do
		args+=(-drive "file=$(uri_of "$name"),format=raw,if=virtio,discard=unmap")
	done
	guest_append=guest.root=/dev/vda guest_start "${args[@]}"
}

truncate -s 128M "$dir/root"
truncate -s 512M "$dir/ext4" "$dir/xfs"
mkfs.ext4 -q -F -d "$guest_cache/root" "$dir/root"
start_foliod root="$dir/root" ext4="$dir/ext4" xfs="$dir/xfs"

boot_from_exports <<'EOF'
grep -q '^/dev/root / ext4 \|^/dev/vda / ext4 ' /proc/mounts ||
	die "the root is not the export"
for fs in ext4 xfs; do
	dev=/dev/vdb
	[ $fs = ext4 ] || dev=/dev/vdc
	make_fs $fs
	mount_fs $fs discard
	start_files whole-$fs 1000
	end_files
	umount /mnt
	fsck_fs $fs
done
mkdir /mnt/root
mount --bind /mnt/root /mnt
start_files root 1000000000
wait
EOF
await_lines 100 keep root-1
await_lines 100 keep root-2
guest_cut
kernel_is_well
no_io_errors

boot_from_exports <<'EOF'
mount --bind /mnt/root /mnt
check_files root 8
umount /mnt
for fs in ext4 xfs; do
	dev=/dev/vdb
	[ $fs = ext4 ] || dev=/dev/vdc
	mount_fs $fs
	check_files whole-$fs 30
	umount /mnt
	fsck_fs $fs
done
EOF
guest_end
no_io_errors
grep 'files checked' "$share/out"
stop_foliod

# Its root was made read-only before its end.
fsck_image ext4 "$dir/root"
fsck_image ext4 "$dir/ext4"
fsck_image xfs "$dir/xfs"
