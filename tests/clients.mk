# SPDX-License-Identifier: BSD-3-Clause
#
# The program as real clients see it; a client that is not installed is
# skipped.  See tests/clients.sh.

dist_check_SCRIPTS += \
	tests/test-client-block-device.sh \
	tests/test-client-captive.sh \
	tests/test-client-drain.sh \
	tests/test-client-exports.sh \
	tests/test-client-fio.sh \
	tests/test-client-handoff.sh \
	tests/test-client-kill.sh \
	tests/test-client-many.sh \
	tests/test-client-memory-fs.sh \
	tests/test-client-nbdcopy.sh \
	tests/test-client-nbddump.sh \
	tests/test-client-nbdfuse.sh \
	tests/test-client-nbdinfo.sh \
	tests/test-client-nbdsh.sh \
	tests/test-client-no-space.sh \
	tests/test-client-odd-size.sh \
	tests/test-client-qemu-img.sh \
	tests/test-client-qemu-io.sh \
	tests/test-client-qemu-nbd.sh \
	tests/test-client-resize-load.sh \
	tests/test-client-resize.sh \
	tests/test-client-restart.sh \
	tests/test-client-shrink.sh \
	tests/test-client-threads.sh \
	tests/test-client-tls-access.sh \
	tests/test-client-tls.sh \
	$(NULL)

# A launcher for test-client-threads.sh, no test by itself.
noinst_PROGRAMS += tests/no-uring
tests_no_uring_SOURCES = tests/no-uring.c

EXTRA_DIST += \
	tests/clients.sh \
	tests/handoff-client.py \
	tests/namespace.sh \
	tests/note-acked.py \
	tests/tls.sh \
	$(NULL)
