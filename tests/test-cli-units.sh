#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The units of systemd are well formed, and name a program and options that
# there are.

. "$(dirname "$0")/functions.sh" || exit 99
requires systemd-analyze --version

units=$top_srcdir/systemd
sed "s|@bindir@/foliod|$foliod|" "$units/foliod.service.in" \
	>"$dir/foliod.service"
cp "$units/foliod.socket" "$dir"
! grep -q '@[a-z]*@' "$dir/foliod.service" ||
	fail "something is left to be replaced"

# Whatever it says is a mistake, with a status of 0 too.
timeout 60 systemd-analyze verify --man=no "$dir/foliod.service" \
	"$dir/foliod.socket" >"$dir/out" 2>&1 || {
	cat "$dir/out"
	# It needs a running system's directories.
	! grep -q 'Failed to \(initialize\|set up\)' "$dir/out" ||
		skip "systemd-analyze cannot verify here"
	fail "systemd-analyze verify"
}
grep -E "foliod\.(service|socket)" "$dir/out" >"$dir/said" &&
	fail "systemd-analyze says: $(cat "$dir/said")"

# What the example in the unit gives is taken.
example=$(sed -n 's/^#.*FOLIOD_OPTIONS=//p' "$dir/foliod.service")
[ -n "$example" ] || fail "no example in the unit"
truncate -s 1M "$dir/disk.img"
# shellcheck disable=SC2086 # several words, as systemd splits them
start_foliod ${example//\/var\/lib\/foliod/$dir}
stop_foliod
