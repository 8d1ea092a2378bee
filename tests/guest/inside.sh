# shellcheck shell=dash disable=SC2154
# SPDX-License-Identifier: BSD-3-Clause
#
# inside.sh - what the scripts that run in the guest share.  guest.sh sets
# $port, $export and $seed; $dev is the disk, /dev/nbd0 if nothing else.

set -eu
dev=/dev/nbd0

die()
{
	echo "guest: $*"
	exit 1
}

# tell WORD, await WORD: to the test on the host, and from it.
tell()
{
	: >"/share/tell-$1"
}

await()
{
	until [ -e "/share/tell-$1" ]; do
		sleep 0.1
	done
}

# Connections to the server that are open.
connections()
{
	grep -c "0202000A:$(printf %04X "$port") 01 " /proc/net/tcp || :
}

# attach NUMBER [OPTION]...: the export as $dev, over so many connections.
attach()
{
	local number=$1
	shift

	/usr/bin/nbd-client -N "$export" -C "$number" "$@" host "$port" $dev \
		>/tmp/attach 2>&1 || {
		cat /tmp/attach
		die "nbd-client -C $number failed"
	}
	[ "$(connections)" -eq "$number" ] ||
		die "there are $(connections) connections, not $number"
}

detach()
{
	/usr/bin/nbd-client -d $dev >/dev/null 2>&1 || die "cannot detach"
}

# forget_dead: detach the disk that its server has left.
forget_dead()
{
	/usr/bin/nbd-client -d $dev >/dev/null 2>&1 || :
	while [ -e "/sys/block/${dev#/dev/}/pid" ]; do
		sleep 0.1
	done
}

# make_fs FSTYPE
make_fs()
{
	case $1 in
	ext4) mkfs.ext4 -q -F $dev ;;
	xfs) mkfs.xfs -q -f $dev ;;
	esac || die "mkfs.$1 failed"
}

# fsck_fs FSTYPE: clean, and stays as it is.
fsck_fs()
{
	case $1 in
	ext4) e2fsck -f -n $dev ;;
	xfs) xfs_repair -n $dev ;;
	esac >/tmp/fsck 2>&1 || {
		cat /tmp/fsck
		die "$1 is not clean"
	}
}

# mount_fs FSTYPE [OPTIONS]
mount_fs()
{
	mount -t "$1" -o "${2:-rw}" $dev /mnt || die "cannot mount $1"
}

# start_files LIST OPERATIONS: two processes that work on files under /mnt,
# and note in /share/LIST-1 and /share/LIST-2 what has to be there.
start_files()
{
	for i in 1 2; do
		mkdir -p "/mnt/$i"
		/share/files work "/mnt/$i" "/share/$1-$i" "$seed$i" "$2" &
		eval "files_$i=$!"
	done
}

# Both have done all of it.
end_files()
{
	wait "$files_1" || die "files 1 failed"
	wait "$files_2" || die "files 2 failed"
}

# Both have met the end of their disk.
end_files_at_error()
{
	local status

	for pid in "$files_1" "$files_2"; do
		status=0
		wait "$pid" 2>/dev/null || status=$?
		[ "$status" -eq 3 ] || die "files ended with $status"
	done
}

# check_files LIST MINIMUM: what was noted is there, so many files at least.
check_files()
{
	for i in 1 2; do
		/share/files check "/mnt/$i" "/share/$1-$i" "$2" ||
			die "the files of $1-$i"
	done
}
