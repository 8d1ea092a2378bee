#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Several exports: names, the list, defaults, descriptions, read-only ones.

. "$(dirname "$0")/functions.sh" || exit 99
requires nbdinfo --version
requires nbdsh --version

truncate -s 1M "$dir/one"
truncate -s 2M "$dir/two"
truncate -s 3M "$dir/three"

size_of()
{
	nbdinfo --size "$(uri_of "$1")"
}

is_unknown()
{
	! nbdinfo --size "$(uri_of "$1")" 2>"$dir/err" ||
		fail "the export '$1' is known"
	# The server says so, it does not hang up.
	nbdsh -c "
import errno
h.set_opt_mode(True)
h.connect_uri('$base_uri')
h.set_export_name('$1')
try:
    h.opt_go()
    assert False, 'it is known'
except nbd.Error as e:
    assert e.errnum == errno.ENOENT, e
h.opt_abort()
" || fail "asking for '$1'"
}

# One bare path: the empty name, and the base name.
start_foliod "$dir/one"
[ "$(size_of '')" = 1048576 ] || fail "the empty name"
[ "$(size_of one)" = 1048576 ] || fail "the base name"
is_unknown two
is_unknown "$dir/one"
stop_foliod

# One with a name: nothing else.
start_foliod vol="$dir/one"
[ "$(size_of vol)" = 1048576 ] || fail "its name"
is_unknown ''
is_unknown one
stop_foliod

# Several: their names, in their order.
start_foliod "$dir/one" vol="$dir/two" --export \
	"name=with,, comma,path=$dir/three,read-only,description=Third,, and last"
is_unknown ''
[ "$(size_of one)" = 1048576 ] || fail "one"
[ "$(size_of vol)" = 2097152 ] || fail "vol"
[ "$(size_of 'with,%20comma')" = 3145728 ] || fail "with, comma"
timeout 60 nbdsh -c "
h.set_opt_mode(True)
h.connect_uri('$base_uri')
found = []
h.opt_list(lambda name, description: found.append((name, description)) or 0)
h.opt_abort()
# Each description ends in the UUID of the file.
import re
found = [(n, re.sub(r' ?\[uuid [0-9a-f-]{36}\]\$', '', d)) for n, d in found]
assert found == [('one', ''), ('vol', ''),
                 ('with, comma', 'Third, and last')], found
" || fail "the list"
nbdinfo --list "$base_uri" >"$dir/list" || fail "nbdinfo --list"
[ "$(grep -c '^export=' "$dir/list")" -eq 3 ] || fail "$(cat "$dir/list")"

# Read-only is per export, here.
nbdinfo --is read-only "$(uri_of 'with,%20comma')" || fail "not read-only"
! nbdinfo --is read-only "$(uri_of vol)" || fail "read-only"
nbdsh -u "$(uri_of vol)" -c 'h.pwrite(b"x", 0)' || fail "vol refuses writes"
stop_foliod

# All of them.
start_foliod -r a="$dir/one" b="$dir/two"
for name in a b; do
	nbdinfo --is read-only "$(uri_of $name)" || fail "$name is writable"
done
stop_foliod

# The empty name can be given, in two ways.
start_foliod a="$dir/one" ="$dir/two"
[ "$(size_of '')" = 2097152 ] || fail "=PATH"
[ "$(size_of a)" = 1048576 ] || fail "a beside =PATH"
is_unknown two
stop_foliod
start_foliod --default-export b a="$dir/one" b="$dir/two"
[ "$(size_of '')" = 2097152 ] || fail "--default-export"
[ "$(size_of b)" = 2097152 ] || fail "b"
stop_foliod

# A minimum block size is told to clients; the default is 1.
start_foliod --export name=a,path="$dir/one",block-size=4k b="$dir/two"
[ "$(nbdsh -u "$(uri_of a)" -c 'print(h.get_block_size(nbd.SIZE_MINIMUM))')" \
	= 4096 ] || fail "block-size=4k"
[ "$(nbdsh -u "$(uri_of b)" -c 'print(h.get_block_size(nbd.SIZE_MINIMUM))')" \
	= 1 ] || fail "the default block size"
stop_foliod

# Each mode, per export.
modes='writeback writethrough writeout none directsync unsafe'
args=()
for mode in $modes; do
	truncate -s 1M "$dir/$mode"
	args+=(--export "name=$mode,path=$dir/$mode,mode=$mode")
done
start_foliod "${args[@]}"
for mode in $modes; do
	nbdsh -u "$(uri_of "$mode")" -c "
h.pwrite(b'$mode', 1234)
assert h.pread(${#mode}, 1234) == b'$mode'
h.flush()" || fail "mode $mode"
done
stop_foliod
for mode in $modes; do
	[ "$(dd if="$dir/$mode" bs=1 skip=1234 count=${#mode} status=none |
		tr '\0' ' ')" = "$mode" ] || fail "the data of mode $mode is not in the file"
	[ "$(stat -c %s "$dir/$mode")" -eq 1048576 ] || fail "the size changed"
done

# Many.
args=()
for i in $(seq 100); do
	truncate -s "$((i * 4096))" "$dir/many$i"
	args+=("$dir/many$i")
done
start_foliod "${args[@]}"
for i in 1 50 100; do
	[ "$(size_of "many$i")" = $((i * 4096)) ] || fail "many$i"
done
# It asks several things about each of them, on one connection.
nbdinfo --list "$base_uri" >"$dir/list" || fail "nbdinfo --list of many"
[ "$(grep -c '^export=' "$dir/list")" -eq 100 ] || fail "$(cat "$dir/list")"
timeout 60 nbdsh -c "
h.set_opt_mode(True)
h.connect_uri('$base_uri')
found = []
h.opt_list(lambda name, description: found.append(name) or 0)
h.opt_abort()
assert found == ['many%d' % i for i in range(1, 101)], found
" || fail "the list of many"
stop_foliod
