# shellcheck shell=bash disable=SC2034,SC2154
# SPDX-License-Identifier: BSD-3-Clause
#
# guest.sh - what the tests in a guest share: a Linux machine of its own for
# the kernel's NBD client, in QEMU without KVM.  A test begins with
#
#	. "$(dirname "$0")/guest.sh" || exit 99
#
# and has then the functions below beside those of tests/functions.sh.  What
# the guest does is a shell script, which finds the functions of inside.sh.
# $share of the host is /share in the guest; what is written there, on either
# side, is on the other at once, and stays when the guest's power fails.

guest_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$guest_dir/../functions.sh" || exit 99

guest_cache=${FOLIOD_GUEST_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/foliod-guest}
programs=${abs_top_builddir:-$(dirname "$foliod")}/tests/guest
seed=${FOLIOD_SEED:-$((RANDOM * 32768 + RANDOM))}
echo "FOLIOD_SEED=$seed"

[ "$(uname -m)" = x86_64 ] || skip "the guest is an x86_64; this is not"
command -v qemu-system-x86_64 >/dev/null ||
	skip "there is no qemu-system-x86_64 (the package qemu-system-x86)"
for program in files blocks; do
	[ -x "$programs/$program" ] ||
		fail "there is no $programs/$program; use make check-guest"
done
python3 -B "$guest_dir/prepare.py" "$guest_cache" "$guest_dir/init" || {
	status=$?
	[ "$status" -ne 77 ] || exit 77
	fail "the guest cannot be prepared"
}

share=$dir/share
nr_guests=0

# guest_start [QEMU'S ARGUMENT]... <SCRIPT: boot, and run SCRIPT in the guest.
# Sets $guest, QEMU's pid, and $console, the kernel's messages.
guest_start()
{
	local append="console=ttyS0 loglevel=6 panic=-1 oops=panic"
	append+=" mitigations=off cryptomgr.notests tsc=unstable"
	append+=" no_timer_check random.trust_cpu=on ${guest_append:-}"

	nr_guests=$((nr_guests + 1))
	console=$dir/console-$nr_guests
	mkdir -p "$share"
	rm -f "$share/status" "$share"/tell-*
	cp "$guest_dir/inside.sh" "$programs/files" "$programs/blocks" "$share/"
	{
		echo "port=${port:-0} export=vol seed=$seed"
		echo ". /share/inside.sh"
		cat
	} >"$share/run"
	# An input of its own: QEMU would take the test's.
	qemu-system-x86_64 -accel tcg -cpu max,la57=off -m 512 \
		-nodefaults -display none -no-reboot \
		-kernel "$guest_cache/vmlinux" -initrd "$guest_cache/initrd" \
		-append "$append" -serial "file:$console" \
		-netdev user,id=net \
		-device virtio-net-pci,netdev=net,romfile= \
		-virtfs "local,path=$share,mount_tag=share,security_model=none,multidevs=remap" \
		"$@" </dev/null 2>"$dir/qemu-$nr_guests.log" &
	guest=$!
	started+=("$guest")
	logs+=("$dir/qemu-$nr_guests.log" "$console" "$share/out")
}

# share_program PROGRAM...: for the guest, where it is /share/bin/PROGRAM, with
# its libraries in /share/lib.
share_program()
{
	local program lib

	mkdir -p "$share/bin" "$share/lib"
	for program; do
		program=$(command -v "$program") || skip "there is no $program"
		cp "$program" "$share/bin/"
		ldd "$program" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p' >"$dir/libs"
		while read -r lib; do
			cp -u "$lib" "$share/lib/"
		done <"$dir/libs"
	done
}

# guest_end: wait until the guest's script has ended, which it has to do well,
# and see that its kernel had nothing to complain of.
guest_end()
{
	local status

	reap "$guest" || fail "QEMU ended with status $?"
	[ -f "$share/status" ] || fail "the guest died"
	status=$(cat "$share/status")
	[ "$status" -eq 0 ] || fail "the guest's script ended with status $status"
	kernel_is_well
}

guest_run()
{
	guest_start "$@"
	guest_end
}

kernel_is_well()
{
	! grep -aE 'WARNING:|BUG:|Oops|Kernel panic|blocked for more than' \
		"$console" || fail "the guest's kernel complains"
}

# In a guest whose disks never went away no request has failed.
no_io_errors()
{
	! grep -aE 'I/O error|EXT4-fs error|XFS .*(shut ?down|orruption)' \
		"$console" || fail "there were I/O errors in the guest"
}

# The guest's power fails, now.
guest_cut()
{
	! has_ended "$guest" || fail "the guest ended before its power was cut"
	kill_foliod "$guest"
}

# await_unlocked FILE: the kernel goes on with what a killed server had asked of
# io_uring, and the server's lock on the file is there until that is done.
await_unlocked()
{
	wait_for 60 lacks_lock "$(stat -c %i "$1")" ||
		fail "$1 is locked by a server that was killed"
}

lacks_lock()
{
	! grep -q ":$1 " /proc/locks
}

# await WORD: until the guest has told WORD.
await()
{
	local turns=6000

	until [ -e "$share/tell-$1" ]; do
		! has_ended "$guest" ||
			fail "the guest ended without telling '$1'"
		[ $((turns--)) -gt 0 ] || fail "the guest does not tell '$1'"
		sleep 0.05
	done
}

# tell WORD: what the guest awaits.
tell()
{
	: >"$share/tell-$1"
}

# await_lines NUMBER WORD FILE...: until the guest has written that many lines
# that begin with WORD to the files of $share.
await_lines()
{
	local number=$1 word=$2 turns=6000
	shift 2

	until [ "$(cd "$share" && cat "$@" 2>/dev/null |
		grep -c "^$word ")" -ge "$number" ]; do
		! has_ended "$guest" || fail "the guest ended too early"
		[ $((turns--)) -gt 0 ] || fail "there are no $number in $*"
		sleep 0.05
	done
}

# fsck_image FSTYPE FILE: the file system is clean.
fsck_image()
{
	case $1 in
	ext4) requires e2fsck -V && set -- e2fsck -f -n "$2" ;;
	xfs) requires xfs_repair -V && set -- xfs_repair -n -f "$2" ;;
	esac
	"$@" >"$dir/fsck" 2>&1 || {
		cat "$dir/fsck"
		fail "'$*' finds errors"
	}
}
