#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What the plugin says of itself, and what its clients find.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
. "$(dirname "$0")/plugin.sh" || exit 99
requires nbdinfo --version
requires nbdcopy --version

says()
{
	grep -qF -- "$1" "$2" || {
		cat "$2"
		fail "no '$1' there"
	}
}

# Without a file, and before any.
nbdkit "$plugin" --dump-plugin >"$dir/dump"
for line in name=folio api_version=2 thread_model=parallel \
	magic_config_key=file has_can_fast_zero=1 has_block_size=1 \
	has_list_exports=1 has_default_export=1 has_export_description=1 \
	has_after_fork=1 has_cleanup=1 has_extents=1 has_cache=1 \
	'folio_modes=writeback writethrough writeout none directsync unsafe'; do
	says "$line" "$dir/dump"
done

# The same parameters in the help, in the man page, and in the dump.
pod=$top_srcdir/docs/nbdkit-folio-plugin.pod
sed -n 's/^folio_parameters=//p' "$dir/dump" | tr ' ' '\n' | sort >"$dir/keys"
sed -nE 's/^=item \[?B<([a-z-]+)=>.*/\1/p' "$pod" | sort >"$dir/page"
nbdkit "$plugin" --help | sed -nE 's/^ *([a-z-]+)=[A-Z]+( .*|$)/\1/p' |
	sort >"$dir/help"
[ "$(wc -l <"$dir/keys")" -ge 5 ] || fail "only these keys: $(cat "$dir/keys")"
diff -u "$dir/keys" "$dir/page" || fail "the man page has other parameters"
diff -u "$dir/keys" "$dir/help" || fail "--help has other parameters"

# An export of an odd size.
random_file "$dir/disk one" 1000001
start_nbdkit $cache "$dir/disk one"
nbdinfo --json "$uri" >"$dir/json"
python3 -c '
import json, sys
e = json.load(open(sys.argv[1]))["exports"][0]
for key in ("can_cache", "can_df", "can_fast_zero", "can_flush", "can_fua",
            "can_multi_conn", "can_trim", "can_zero"):
    assert e[key], key
assert not e["is_read_only"]
assert e["export-size"] == 1000001, e
assert e["block_size_minimum"] == 1, e
assert e["block_size_preferred"] == 4096, e
assert e["block_size_maximum"] == 32 << 20, e
assert "base:allocation" in e["contexts"], e
assert "disk one" in e["description"], e
assert "writeback" in e["description"], e
' "$dir/json" || fail "$(cat "$dir/json")"
# By its name, by none, and by no other; it is the one in the list.
nbdinfo --size "nbd+unix:///disk%20one?socket=$sock" >"$dir/size"
says 1000001 "$dir/size"
nbdinfo --list "$uri" >"$dir/list"
says 'export="disk one"' "$dir/list"
[ "$(grep -c ^export= "$dir/list")" -eq 1 ] || fail "more than one export"
! nbdinfo --size "nbd+unix:///other?socket=$sock" 2>/dev/null ||
	fail "an export that there is not"
says "no export 'other'" "$log"
stop_nbdkit
[ "$(stat -c %s "$dir/disk one")" -eq 1000001 ] || fail "its size has changed"

# To be read only: by the parameter, beside another reader, or by nbdkit's -r.
start_nbdkit $cache "$dir/disk one" read-only=true mode=unsafe
first=$pid
nbdinfo "$uri" >"$dir/out"
says 'is_read_only: true' "$dir/out"
says 'mode unsafe' "$dir/out"
start_nbdkit $cache "file=$dir/disk one" read-only=true
stop_nbdkit
stop_nbdkit "$first"
start_nbdkit -r -- $cache "$dir/disk one"
nbdinfo "$uri" >"$dir/out"
says 'is_read_only: true' "$dir/out"
stop_nbdkit

# In the background: by then its directory is another one.
cd "$dir"
random_file disk 300000
nbdkit -P "$dir/pid" -U "$dir/sock" "$plugin" $cache disk
wait_for 20 test -s "$dir/pid" || fail "nbdkit did not go into the background"
pid=$(cat "$dir/pid")
started+=("$pid")
good=yes
uri="nbd+unix:///?socket=$dir/sock"
head -c 200000 "disk one" >in
# shellcheck disable=SC2015 # nbdkit is to be ended whatever fails
[ "$(nbdinfo --size "$uri")" = 300000 ] && nbdcopy "$uri" - >out &&
	nbdcopy "$dir/in" "$uri" || good=no
kill "$pid"
wait_for 20 has_ended "$pid" || fail "nbdkit does not end"
started=()
[ $good = yes ] || fail "not served in the background"
same in <(head -c 200000 disk)
same <(tail -c 100000 out) <(tail -c 100000 disk)
