#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# SIGTERM while clients write as fast as they can: the server ends well, and
# everything it acknowledged is in the file.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
requires fio --version
requires fio --enghelp=nbd
requires nbdsh --version

truncate -s 64M "$dir/disk"
start_foliod vol="$dir/disk"

# fio makes the load, in the second half; it ends with the server, in an error.
cd "$dir"
fio --name=load --ioengine=nbd --uri="$uri" --rw=randwrite --bsrange=512-64k \
	--iodepth=16 --numjobs=2 --thread --offset=32M --size=32M --time_based \
	--runtime=60 --fsync=64 --randseed="$seed" >"$dir/fio.out" 2>&1 &
fio_pid=$!
started+=("$fio_pid")
wait_for 20 grep -q 'connected to NBD server' "$dir/fio.out" ||
	fail "fio does not start"

note_acked "$dir/acked" "$pid" TERM 1000 0
status=0
reap "$pid" || status=$?
[ "$status" -eq 0 ] || fail "foliod ended with status $status"
reap "$fio_pid" || :

check_acked "$dir/acked" "$dir/disk" 1000
[ "$(stat -c %s "$dir/disk")" -eq 67108864 ] || fail "the size"
start_foliod vol="$dir/disk"
nbdsh -u "$uri" -c 'h.pwrite(b"again", 0); h.flush()' || fail "a new server"
stop_foliod
