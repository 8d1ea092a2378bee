# shellcheck shell=bash disable=SC2154
# SPDX-License-Identifier: BSD-3-Clause
#
# ends.sh - the server ends under load, by KILL or TERM, and another one takes
# its place.  The guest, which lives on, attaches the disk anew, and finds what
# it has been promised.

# end_server SIGNAL
end_server()
{
	case $1 in
	KILL)
		kill_foliod
		await_unlocked "$dir/disk"
		;;
	TERM) stop_foliod ;;
	esac
}

# acked_blocks_survive SIGNAL MODE: with no FLUSH at all.
acked_blocks_survive()
{
	local again i

	echo "--- acknowledged blocks, $1, $2"
	rm -f "$dir/disk" "$share"/acked-*
	truncate -s 64M "$dir/disk"
	start_foliod --port 0 --mode "$2" vol="$dir/disk"
	again=$port
	guest_start <<'EOF'
attach 4 -timeout 8
writers=
for i in 1 2 3 4; do
	/share/blocks work $dev "/share/acked-$i" "$seed$i" $((i * 1024)) \
		1000000000 &
	writers="$writers $!"
done
for pid in $writers; do
	status=0
	wait "$pid" || status=$?
	[ "$status" -eq 3 ] || die "a writer ended with $status"
done
forget_dead
tell gone
await back
attach 4 -timeout 8
for i in 1 2 3 4; do
	/share/blocks check $dev "/share/acked-$i" 50
done
detach
EOF
	await_lines 2000 acked acked-1 acked-2 acked-3 acked-4
	end_server "$1"
	for i in 1 2 3 4; do
		await_lines 50 acked "acked-$i"
	done
	await gone
	for i in 1 2 3 4; do
		"$programs/blocks" check "$dir/disk" "$share/acked-$i" 50 ||
			fail "acknowledged writes are not in the file"
	done
	start_foliod --port "$again" --mode "$2" vol="$dir/disk"
	tell back
	guest_end
	stop_foliod
}

# synced_files_survive SIGNAL MODE FSTYPE
synced_files_survive()
{
	local again

	echo "--- synced files, $1, $2, $3"
	rm -f "$dir/disk" "$share"/kept-*
	truncate -s 512M "$dir/disk"
	start_foliod --port 0 --mode "$2" vol="$dir/disk"
	again=$port
	guest_start <<EOF
attach 4 -timeout 8
make_fs $3
mount_fs $3
start_files kept 1000000000
end_files_at_error
umount /mnt
forget_dead
tell gone
await back
attach 4 -timeout 8
mount_fs $3
check_files kept 8
umount /mnt
fsck_fs $3
detach
EOF
	await_lines 150 keep kept-1
	await_lines 150 keep kept-2
	end_server "$1"
	await gone
	start_foliod --port "$again" --mode "$2" vol="$dir/disk"
	tell back
	guest_end
	grep 'files checked' "$share/out" | tail -n 2
	stop_foliod
	fsck_image "$3" "$dir/disk"
}
