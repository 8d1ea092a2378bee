#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# nbdcopy: in, out and across, with one connection and with four.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
requires nbdcopy --version

sparse_file "$dir/source"
random_file "$dir/full" $((16 * 1048576))
data_max=$((3 * 1048576))	# what the three pieces take, with some room

for connections in 1 4; do
	truncate -s 0 "$dir/disk" "$dir/out"
	truncate -s 32M "$dir/disk"
	start_foliod vol="$dir/disk"

	# In: what was sparse stays so, also where the file system says it.
	nbdcopy --connections=$connections --flush "$dir/source" "$uri"
	same "$dir/source" "$dir/disk"
	takes_at_most $data_max "$dir/disk"

	# Out.
	nbdcopy --connections=$connections "$uri" "$dir/out"
	same "$dir/source" "$dir/out"
	takes_at_most $data_max "$dir/out"

	# No holes, over old data; the rest of the volume stays.
	head -c $((16 * 1048576)) "$dir/full" >"$dir/want"
	dd if="$dir/source" bs=1M skip=16 status=none >>"$dir/want"
	nbdcopy --connections=$connections --flush "$dir/full" "$uri"
	same "$dir/want" "$dir/disk"
	nbdcopy --connections=$connections --requests=8 "$uri" - >"$dir/out"
	same "$dir/want" "$dir/out"

	# Holes over old data: they must read as zeroes then.
	nbdcopy --connections=$connections --flush "$dir/source" "$uri"
	same "$dir/source" "$dir/disk"
	takes_at_most $data_max "$dir/disk"
	stop_foliod
done

# A target known to be zero gets no zeroes, so nothing but data.
truncate -s 0 "$dir/disk"
truncate -s 32M "$dir/disk"
start_foliod vol="$dir/disk"
nbdcopy --destination-is-zero --flush "$dir/source" "$uri"
same "$dir/source" "$dir/disk"
takes_at_most $data_max "$dir/disk"
# Zeroes written in full are no holes.
truncate -s 2M "$dir/zeroes"
nbdcopy --allocated --no-extents --sparse=0 --flush "$dir/zeroes" "$uri"
[ "$(head -c 2M "$dir/disk" | tr -d '\0' | wc -c)" -eq 0 ] ||
	fail "not all zero"
[ "$(allocated "$dir/disk")" -ge $((2 * 1048576)) ] ||
	fail "--allocated left holes"
nbdcopy --flush "$dir/source" "$uri"

# Between two servers.
truncate -s 32M "$dir/other"
first=$uri first_pid=$pid
start_foliod -p 0 other="$dir/other"
nbdcopy --flush "$first" "$uri"
same "$dir/source" "$dir/other"
takes_at_most $data_max "$dir/other"
stop_foliod
stop_foliod "$first_pid"
