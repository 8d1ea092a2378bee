#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# nbddump: it shows the bytes that are there, and leaves out the holes.

. "$(dirname "$0")/functions.sh" || exit 99
requires nbddump --version
requires nbdsh --version

truncate -s 1M "$dir/disk"
start_foliod vol="$dir/disk"
nbdsh -u "$uri" -c 'h.pwrite(b"Hello, folio", 0x2000)'
nbddump "$uri" >"$dir/out"
cat >"$dir/want" <<'EOF'
0000000000: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 |................|
*
0000002000: 48 65 6c 6c 6f 2c 20 66  6f 6c 69 6f 00 00 00 00 |Hello, folio....|
0000002010: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 |................|
*
00000ffff0: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 |................|
EOF
diff -w "$dir/want" "$dir/out" || fail "the dump"
[ "$(nbddump --length=8192 "$uri" | grep -c Hello)" -eq 0 ] ||
	fail "a dump of the first 8192 bytes shows what follows"
stop_foliod
