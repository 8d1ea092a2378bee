#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The UUID of an export: the same for the same file after a restart and under
# another name, another one for another file, and what the user says.

. "$(dirname "$0")/functions.sh" || exit 99
requires nbdinfo --version

truncate -s 1M "$dir/one" "$dir/two"

# Of export $1, as INFO and as LIST have it.
uuid_of()
{
	local info list

	info=$(nbdinfo "$(uri_of "$1")" |
		sed -n 's/^\tdescription: .*\[uuid \(.*\)\]$/\1/p')
	list=$(nbdinfo --list "$base_uri" | grep -A 1 "^export=\"$1\"" |
		sed -n 's/^\tdescription: .*\[uuid \(.*\)\]$/\1/p')
	[ "$info" = "$list" ] || fail "INFO says '$info', LIST '$list'"
	[[ $info =~ ^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$ ]] ||
		fail "'$info' is no UUID"
	echo "$info"
}

start_foliod a="$dir/one" b="$dir/two"
one=$(uuid_of a)
two=$(uuid_of b)
[ "$one" != "$two" ] || fail "two files have one UUID"
# Made of a name (version 5).
[ "${one:14:1}" = 5 ] || fail "the version of $one"
stop_foliod

# The file is the same, whatever else is not.
mv "$dir/one" "$dir/moved"
truncate -s 2M "$dir/moved"
echo data | dd of="$dir/moved" conv=notrunc status=none
start_foliod --mode none \
	--export "name=other,path=$dir/moved,description=Some [text]" \
	a="$dir/two"
[ "$(uuid_of other)" = "$one" ] || fail "it has changed"
[ "$(uuid_of a)" = "$two" ] || fail "that of the second has changed"
nbdinfo "$(uri_of other)" |
	grep -qxF "	description: Some [text] [uuid $one]" ||
	fail "the description"
stop_foliod

# A copy is another file.
cp "$dir/moved" "$dir/one"
start_foliod a="$dir/one"
[ "$(uuid_of a)" != "$one" ] || fail "a copy has the same UUID"
stop_foliod

# As the user says.
mine=6f9619ff-8b86-4d01-b42d-00c04fc964ff
start_foliod --export "name=a,path=$dir/one,uuid=${mine^^}"
[ "$(uuid_of a)" = "$mine" ] || fail "uuid="
stop_foliod
fails_with 2 "exports 'a' and 'b' have the same uuid=$mine" -- \
	--export "name=a,path=$dir/one,uuid=$mine" \
	--export "name=b,path=$dir/two,uuid=${mine^^}"
for bad in '' x "${mine}0" "${mine%f}" "${mine/-/}" "${mine/6/g}" \
	"${mine//-/0}" 00000000-0000-0000-0000-000000000000; do
	fails_with 2 'is no UUID' -- \
		--export "name=a,path=$dir/one,uuid=$bad"
done

# The longest description still ends in it.
long=$(printf 'd%.0s' {1..4052})
start_foliod --export "name=a,path=$dir/moved,description=$long"
[ "$(uuid_of a)" = "$one" ] || fail "behind a long description"
stop_foliod
fails_with 2 'longer than 4052 bytes' -- \
	--export "name=a,path=$dir/one,description=${long}d"
