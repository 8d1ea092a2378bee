#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# qemu-nbd -L lists all exports with what they can, over TCP and unix.

. "$(dirname "$0")/functions.sh" || exit 99
requires qemu-nbd --version

truncate -s 1M "$dir/one"
truncate -s 2M "$dir/two"
start_foliod -p 0 -U "$dir/sock" \
	--export "name=one,path=$dir/one,description=The first" \
	--export "name=two,path=$dir/two,read-only,block-size=512"

for to in "-k $dir/sock" "-b 127.0.0.1 -p $port"; do
	# shellcheck disable=SC2086 # several words
	qemu-nbd -L $to >"$dir/out" || fail "qemu-nbd -L $to"
	# The disk below may be a rotational one.
	rw='0xded ( flush fua trim'
	ro='0x58f ( readonly flush fua df'
	if grep -q rotational "$dir/out"; then
		rw='0xdfd ( flush fua rotational trim'
		ro='0x59f ( readonly flush fua rotational df'
	fi
	cat >"$dir/want" <<EOF
exports available: 2
export: 'one'
description: The first
size: 1048576
flags: $rw zeroes df multi cache fast-zero )
min block: 1
opt block: 4096
max block: 33554432
available meta contexts: 1
base:allocation
export: 'two'
size: 2097152
flags: $ro multi cache )
min block: 512
opt block: 4096
max block: 33554432
available meta contexts: 1
base:allocation
EOF
	# Where there is no description, there still is the UUID of the file.
	sed 's/^ *//; s/  */ /g; s/ *\[uuid [0-9a-f-]*\]$//' "$dir/out" |
		sed '/^description:$/d' | diff "$dir/want" - || fail "qemu-nbd -L $to"
done
stop_foliod
