# SPDX-License-Identifier: BSD-3-Clause
#
# The kernel's client, in a guest; see tests/guest/README.md.  These tests are
# not among make check's: the kernel has to be downloaded, and they take minutes.

GUEST_TESTS = \
	tests/guest/test-guest-files.sh \
	tests/guest/test-guest-kill.sh \
	tests/guest/test-guest-powercut.sh \
	tests/guest/test-guest-qemu.sh \
	tests/guest/test-guest-restart.sh \
	tests/guest/test-guest-smoke.sh \
	tests/guest/test-guest-tls.sh \
	tests/guest/test-guest-vsock.sh \
	$(NULL)
EXTRA_DIST += \
	$(GUEST_TESTS) \
	tests/guest/README.md \
	tests/guest/ends.sh \
	tests/guest/guest.sh \
	tests/guest/init \
	tests/guest/inside.sh \
	tests/guest/prepare.py \
	tests/guest/run \
	$(NULL)

# They run in the guest: without the instruments of a sanitizer's build.
noinst_PROGRAMS += \
	tests/guest/blocks \
	tests/guest/files \
	$(NULL)
tests_guest_blocks_SOURCES = tests/guest/blocks.c
tests_guest_blocks_CFLAGS = -std=gnu11 $(WARN_CFLAGS)
tests_guest_blocks_LDFLAGS =
tests_guest_files_SOURCES = tests/guest/files.c
tests_guest_files_CFLAGS = -std=gnu11 $(WARN_CFLAGS)
tests_guest_files_LDFLAGS =

# GUEST_TESTS=tests/guest/test-guest-smoke.sh runs one.
check-guest: foliod tests/guest/blocks tests/guest/files
	@$(AM_TESTS_ENVIRONMENT) \
	cd $(srcdir) && tests/guest/run $(GUEST_TESTS)
.PHONY: check-guest

CLEANFILES += tests/guest/*.log
