#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Each mistake gets one line that names it: status 2 where the command line is
# wrong by itself, 1 where something else is.

. "$(dirname "$0")/functions.sh" || exit 99

truncate -s 1M "$dir/disk"
disk=$dir/disk

# --- The command line ---

fails_with 2 'nothing to serve' --
fails_with 2 '--bogus' --help -- --bogus "$disk"
fails_with 2 '--thread' '--threads' -- --thread=2 "$disk"
fails_with 2 '-z' -- -z "$disk"
for habit in -f -P -k -t -x -e -i --cache; do
	fails_with 2 "$habit is not an option of foliod" -- "$habit" "$disk"
done
fails_with 2 '--port' "'99999'" -- --port 99999 "$disk"
fails_with 2 '-b' "'[::1'" -- -b '[::1' "$disk"
fails_with 2 "'writebak'" "'writeback'" -- -m writebak "$disk"
fails_with 2 '--cache-size' "'2 G'" -- --cache-size '2 G' "$disk"
fails_with 2 '--cache-size' 16M -- --cache-size 1M "$disk"
fails_with 2 '--cache-size' 32M -- --cache-size 16M --threads 8 "$disk"
fails_with 2 '--threads' "'0'" -- --threads 0 "$disk"
fails_with 2 '--single' '--run' -- --single --run true "$disk"
fails_with 2 '--run' '--daemonize' -- --daemonize --run true "$disk"
fails_with 2 '--single' '--unix' -- --single -U - "$disk"
fails_with 2 "'a'" "$disk" "$dir/other" -- a="$disk" a="$dir/other"
fails_with 2 '--default-export' "'b'" -- --default-export b a="$disk"
fails_with 2 'colour' 'description' -- --export "name=a,path=$disk,colour=red"
fails_with 2 'path=PATH' -- --export name=a
fails_with 2 'block-size=1000' -- --export "name=a,path=$disk,block-size=1000"
fails_with 2 'needs a value' -- "$disk" --mode
fails_with 2 '107 bytes' -- -U "$dir/$(printf '%0120d' 0)" "$disk"
# What is typed is shown, but not obeyed.
fails_with 2 '\x1b[31m' -- "--$(printf '\033[31m')" "$disk"
fails_with 2 '\x0a' -- --"two
lines" "$disk"

# --- Files ---

fails_with 1 "$dir/nothing" 'no such file' -- "$dir/nothing"
fails_with 1 "$dir" 'is a directory' -- vol="$dir"
mkfifo "$dir/fifo"
fails_with 1 "$dir/fifo" 'FIFO' -- "$dir/fifo"
fails_with 1 /dev/null 'character device' -- /dev/null
# The second export's trouble, with the first one open.
fails_with 1 "$dir/nothing" -- a="$disk" b="$dir/nothing"
fails_with 1 "$dir/odd" 'block-size=4096' -- \
	--export "name=a,path=$(truncate -s 5000 "$dir/odd" && echo "$dir/odd"),block-size=4k"

# Without the right to write; root has it all the same.
if [ "$(id -u)" -ne 0 ]; then
	truncate -s 1M "$dir/ro"
	chmod a-w "$dir/ro"
	fails_with 1 "$dir/ro" '--read-only' -- "$dir/ro"
	fails_with 1 'port 1:' 'root' -- -b 127.0.0.1:1 "$disk"
fi
if [ "$(id -u)" -eq 0 ] && unshare -m true 2>/dev/null; then
	mkdir "$dir/mnt"
	# In a mount namespace of its own: nothing of it is left behind.
	# shellcheck disable=SC2016 # the inner shell's
	unshare -m bash -c '
		mount -t tmpfs none "$1/mnt" && truncate -s 1M "$1/mnt/ro" &&
		mount -o remount,ro "$1/mnt" || exit 0
		! timeout 60 "$2" "$1/mnt/ro" 2>"$1/err" || exit 1
		grep -q "$1/mnt/ro.*read-only.*add --read-only" "$1/err" || exit 1
		timeout 60 "$2" -r --run true "$1/mnt/ro" 2>"$1/err"
	' bash "$dir" "$foliod" || {
		cat "$dir/err"
		fail "a read-only file system"
	}
fi

# --- Listeners ---

fails_with 1 "$dir/no/sock" 'directory is not there' -- -U "$dir/no/sock" \
	"$disk"
fails_with 1 '192.0.2.1 port 10809' 'no such address' -- -b 192.0.2.1 "$disk"
fails_with 1 "'no.such.host.invalid'" -- -b no.such.host.invalid "$disk"

# --- What is printed on request ---

"$foliod" --help >"$dir/out" 2>"$dir/err" || fail "--help fails"
grep -q '^Usage: foliod' "$dir/out" || fail "--help does not say the usage"
[ ! -s "$dir/err" ] || fail "--help writes to standard error"
[ "$(awk 'length > 80' "$dir/out" | wc -l)" -eq 0 ] || fail "--help is too wide"
"$foliod" -V >"$dir/out" || fail "-V fails"
grep -qxE 'foliod [0-9].*' "$dir/out" || fail "-V says $(cat "$dir/out")"
! "$foliod" --help >/dev/full 2>/dev/null || fail "--help to a full disk"
