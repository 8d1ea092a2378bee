#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# fio's nbd engine with verify=crc32c: mixed block sizes, trims, fsyncs, four
# jobs each on a region of its own, in every mode.  What fio wrote it reads
# back by itself, and once more from the file after the server has ended.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
requires fio --version
requires fio --enghelp=nbd

modes='writeback writethrough writeout none directsync unsafe'
args=()
for mode in $modes; do
	truncate -s 32M "$dir/$mode"
	args+=(--export "name=$mode,path=$dir/$mode,mode=$mode")
done
start_foliod --cache-size 32M "${args[@]}"

# The state files go where it stands.
cd "$dir"
verify='--verify=crc32c --verify_fatal=1 --thread --group_reporting
	--serialize_overlap=1 --numjobs=4 --size=2M --offset_increment=8M'

run_fio()
{
	# shellcheck disable=SC2086 # several words
	timeout 60 fio $verify --randseed="$seed" "$@" >"$dir/out" 2>&1 || {
		cat "$dir/out"
		fail "fio $*"
	}
	! grep -qE 'verify: bad|err=[^ ]*[1-9]' "$dir/out" || {
		cat "$dir/out"
		fail "fio $*"
	}
}

for mode in $modes; do
	# Sizes that fit no block, and those that do, beside trims.
	run_fio --ioengine=nbd --uri="$(uri_of "$mode")" --iodepth=16 \
		--name=mixed --rw=randrw --rwmixread=30 --bsrange=512-64k \
		--fsync=32 \
		--name=trims --rw=randtrimwrite --bs=8k --fsync=16 --offset=4M
done
stop_foliod

for mode in $modes; do
	run_fio --filename="$dir/$mode" --ioengine=psync --name=mixed \
		--rw=randrw --rwmixread=30 --bsrange=512-64k --verify_only
	[ "$(stat -c %s "$dir/$mode")" -eq $((32 * 1048576)) ] ||
		fail "the size of the file of mode $mode"
done
