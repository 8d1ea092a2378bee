#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# nbdinfo: what it shows of an export, of all of them, and of their extents.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
requires nbdinfo --version

truncate -s 8M "$dir/disk"
random_file "$dir/data" 65536
dd if="$dir/data" of="$dir/disk" bs=64k seek=16 conv=notrunc status=none
truncate -s 4M "$dir/ro"

start_foliod --export "name=disk,path=$dir/disk,description=A disk" \
	--export "name=ro,path=$dir/ro,read-only"
ro=$(uri_of ro)

has()
{
	grep -qF -- "$1" "$dir/out" || {
		cat "$dir/out"
		fail "nbdinfo does not show '$1'"
	}
}

nbdinfo "$uri" >"$dir/out"
has 'protocol: newstyle-fixed without TLS, using structured packets'
has 'export="disk":'
has 'export-size: 8388608 (8M)'
has 'base:allocation'
for yes in can_cache can_df can_fast_zero can_flush can_fua can_multi_conn \
	can_trim can_zero; do
	has "$yes: true"
done
has 'is_read_only: false'
# As the disk below is.
has 'is_rotational: '
has 'block_size_minimum: 1'
has 'block_size_preferred: 4096'
has 'block_size_maximum: 33554432'

nbdinfo --list "$base_uri" >"$dir/out"
has 'export="disk":'
has 'description: A disk'
has 'export="ro":'
has 'is_read_only: true'
nbdinfo --list --json "$base_uri" | python3 -c '
import json, sys
found = json.load(sys.stdin)["exports"]
assert [e["export-name"] for e in found] == ["disk", "ro"], found
assert [e["export-size"] for e in found] == [8 << 20, 4 << 20], found
assert found[0]["contexts"] == ["base:allocation"], found
assert found[0]["block_size_maximum"] == 32 << 20, found
' || fail "--list --json"

for can in cache connect df fast-zero flush fua multi-conn read \
	structured-reply trim write zero; do
	nbdinfo --can "$can" "$uri" || fail "nbdinfo --can $can fails"
done
for can in write trim zero fast-zero; do
	! nbdinfo --can "$can" "$ro" || fail "a read-only export can $can"
done
for can in read flush fua cache multi-conn; do
	nbdinfo --can "$can" "$ro" || fail "a read-only export cannot $can"
done
nbdinfo --is read-only "$ro" || fail "not read-only"
! nbdinfo --is read-only "$uri" || fail "read-only"
if nbdinfo "$uri" | grep -q 'is_rotational: true'; then
	nbdinfo --is rotational "$uri" || fail "not rotational"
else
	! nbdinfo --is rotational "$uri" || fail "rotational"
fi
! nbdinfo --is tls "$uri" || fail "TLS"

# The map: a hole, 64 KiB of data, a hole; and after writes through us.
nbdinfo --map "$uri" | sed 's/^ *//; s/  */ /g' >"$dir/out"
printf '%s\n' '0 1048576 3 hole,zero' '1048576 65536 0 data' \
	'1114112 7274496 3 hole,zero' >"$dir/want"
diff "$dir/want" "$dir/out" || fail "the map"
nbdinfo --map --totals "$uri" | grep -qE '^ *65536 +0\.8% +0 data' ||
	fail "the totals"

requires nbdsh --version
nbdsh -u "$uri" -c 'h.pwrite(b"x" * 8192, 4 << 20)
h.trim(32768, 1 << 20)'
nbdinfo --map "$uri" | sed 's/^ *//; s/  */ /g' >"$dir/out"
printf '%s\n' '0 1081344 3 hole,zero' '1081344 32768 0 data' \
	'1114112 3080192 3 hole,zero' '4194304 8192 0 data' \
	'4202496 4186112 3 hole,zero' >"$dir/want"
diff "$dir/want" "$dir/out" || fail "the map after a write and a trim"
stop_foliod
