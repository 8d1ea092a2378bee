# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
#
# namespace.sh - sourced before functions.sh by a test that mounts something:
# run it again in a mount namespace of its own, so that no mount is left behind
# however it ends.  Skips the test where that is not allowed.

if [ -z "${FOLIOD_TEST_MOUNTS:-}" ]; then
	unshare --mount --propagation private true 2>/dev/null || {
		echo "SKIP: no mount namespaces here"
		exit 77
	}
	# What was mounted in it can be removed when the mounts are gone.
	outer=$(mktemp -d "${TMPDIR:-/tmp}/foliod-outer.XXXXXX")
	trap 'rm -rf "$outer"' EXIT
	status=0
	FOLIOD_TEST_MOUNTS=1 TMPDIR=$outer \
		unshare --mount --propagation private bash "$0" "$@" ||
		status=$?
	exit "$status"
fi
