#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The server is killed with SIGKILL while the kernel writes: under writethrough
# every acknowledged write is there, under writeback every synced file.

. "$(dirname "$0")/guest.sh" || exit 99
. "$(dirname "$0")/ends.sh" || exit 99

acked_blocks_survive KILL writethrough
synced_files_survive KILL writeback ext4
synced_files_survive KILL writeback xfs
