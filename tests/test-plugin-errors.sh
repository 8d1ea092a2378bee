#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Wrong parameters, files that are held, and what goes wrong while serving: the
# message says what, and names the file.

. "$(dirname "$0")/functions.sh" || exit 99
. "$(dirname "$0")/clients.sh" || exit 99
. "$(dirname "$0")/plugin.sh" || exit 99
requires nbdsh --version

truncate -s 1M "$dir/disk" "$dir/other"

nbdkit_fails 'file=PATH' --
nbdkit_fails 'file= is empty' -- file=
nbdkit_fails "$dir/none" 'no such file' -- "$dir/none"
nbdkit_fails "$dir" 'is a directory' -- "$dir"
nbdkit_fails 'one file only' "$dir/disk" "$dir/other" -- "$dir/disk" \
	file="$dir/other"
nbdkit_fails "unknown parameter 'cache-sise'" "'cache-size'" -- "$dir/disk" \
	cache-sise=16M
nbdkit_fails "unknown parameter 'pool'" -- pool="$dir/disk" volume=a
nbdkit_fails "unknown parameter 'export'" -- "$dir/disk" export=a
nbdkit_fails 'mode=writeback2' "'writeback'" directsync -- "$dir/disk" \
	mode=writeback2
nbdkit_fails 'cache-size=lots' -- "$dir/disk" cache-size=lots
nbdkit_fails 'cache-size=1M' 16M -- "$dir/disk" cache-size=1M
nbdkit_fails '8 threads' 32M -- "$dir/disk" cache-size=16M threads=8
nbdkit_fails 'threads=0' -- "$dir/disk" threads=0
nbdkit_fails 'cache of' "$dir/disk" -- "$dir/disk" cache-size=1000000T
nbdkit_fails maybe -- "$dir/disk" read-only=maybe
if [ "$(id -u)" -ne 0 ]; then
	chmod a-w "$dir/other"
	nbdkit_fails "$dir/other" 'add read-only=true' -- "$dir/other"
	chmod u+w "$dir/other"
fi

# A file has one writer: foliod, or the plugin.
start_foliod "$dir/disk"
nbdkit_fails "$dir/disk" "in use by pid $pid (foliod)" -- "$dir/disk"
nbdkit_fails "$dir/disk" "in use by pid $pid" -- "$dir/disk" read-only=true
stop_foliod
start_nbdkit $cache "$dir/disk"
fails_with 1 "$dir/disk" "in use by pid $pid (nbdkit)" -- -U "$dir/sock" \
	"$dir/disk"
nbdkit_fails "$dir/disk" "in use by pid $pid (nbdkit)" -- "$dir/disk"
stop_nbdkit
start_foliod -r "$dir/disk"
first=$pid
start_nbdkit $cache "$dir/disk" read-only=true
stop_nbdkit
stop_foliod "$first"

# A file that shrinks while it is served: errors, named, and no crash.
random_file "$dir/disk" $((8 * 1048576))
start_nbdkit $cache "$dir/disk"
arg1="$dir/disk" nbdsh -u "$uri" -c '
import errno, os
h.pread(65536, 0)
os.truncate(os.environ["arg1"], 1 << 20)
for pos in range(2 << 20, 8 << 20, 1 << 20):
    try:
        h.pread(65536, pos)
        assert False, "read what is gone"
    except nbd.Error as e:
        assert e.errnum == errno.EIO, e
want = open(os.environ["arg1"], "rb").read()
assert h.pread(1 << 20, 0) == want
'
grep -qF "$dir/disk: cannot read 65536 bytes at 2097152" "$log" || {
	cat "$log"
	fail "the error does not say what could not be read"
}
stop_nbdkit
