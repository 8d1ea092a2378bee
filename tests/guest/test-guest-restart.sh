#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The server is ended with SIGTERM while the kernel writes, and started again:
# every acknowledged write is there, in writeback too, and every synced file.

. "$(dirname "$0")/guest.sh" || exit 99
. "$(dirname "$0")/ends.sh" || exit 99

acked_blocks_survive TERM writeback
synced_files_survive TERM writeback ext4
synced_files_survive TERM writeback xfs
