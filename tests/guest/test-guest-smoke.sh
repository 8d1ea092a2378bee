#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The kernel attaches an export over TCP, and finds over four connections what
# it wrote over one.

. "$(dirname "$0")/guest.sh" || exit 99

truncate -s 256M "$dir/disk"
start_foliod --port 0 vol="$dir/disk"
guest_run <<'EOF'
attach 1
make_fs ext4
mount_fs ext4
dd if=/dev/urandom of=/mnt/data bs=64k count=128 conv=fsync 2>/dev/null
sum=$(sha256sum </mnt/data)
umount /mnt
detach

attach 4
mount_fs ext4
[ "$(sha256sum </mnt/data)" = "$sum" ] || die "the data has changed"
umount /mnt
fsck_fs ext4
detach
EOF
no_io_errors
stop_foliod
fsck_image ext4 "$dir/disk"
