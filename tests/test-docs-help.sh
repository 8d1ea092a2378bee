#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# foliod(1) and foliod --help name the same options: what the page describes
# exists, and what exists is described.  And every mode that the page lists
# under MODES is one that --mode accepts, as --help has it.

. "${0%/*}/functions.sh"

pod=$top_srcdir/docs/foliod.pod

# Print the section of the page that is headed $1.
section()
{
	sed -n "/^=head1 $1\$/,/^=head1 /p" "$pod" | sed 1d | grep -v '^=head1 '
}

# The page: "=item B<-p> I<N>, B<--port> I<N>".  An option's short and long
# name become one line, "-p,--port".
section OPTIONS | grep -E '^=item B<-' |
	grep -oE '^=item|B<--?[A-Za-z][A-Za-z-]*' |
	awk '
		/^=item/ { if (line) print line; line = ""; next }
		{ sub(/^B</, ""); line = line (line ? "," : "") $0 }
		END { if (line) print line }' | sort >"$dir/page"

# The help: lines that begin with "  -p, --port N" or "      --run COMMAND".
"$foliod" --help >"$dir/help.txt"
sed -nE 's/^[[:space:]]+(-[A-Za-z]), (--[A-Za-z][A-Za-z-]*).*/\1,\2/p
	t
	s/^[[:space:]]+(--?[A-Za-z][A-Za-z-]*).*/\1/p' "$dir/help.txt" |
	sort >"$dir/help"

# A comparison of nothing with nothing would pass.
for list in page help; do
	if [ "$(wc -l <"$dir/$list")" -lt 10 ]; then
		echo "only these options were found in the $list:"
		cat "$dir/$list"
		exit 1
	fi
done
if ! diff -u --label "docs/foliod.pod" --label "foliod --help" \
	"$dir/page" "$dir/help"; then
	echo "the man page and --help differ in their options"
	exit 1
fi

status=0
modes=$(section MODES | sed -nE 's/^=item C<([a-z]+)>$/\1/p')
[ "$(wc -w <<<"$modes")" -eq 6 ] || {
	echo "the page does not list six modes: $modes"
	status=1
}
for mode in $modes; do
	grep -qw -- "$mode" "$dir/help.txt" || {
		echo "mode $mode is in the man page and not in --help"
		status=1
	}
done
exit "$status"
