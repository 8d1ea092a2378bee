# SPDX-License-Identifier: BSD-3-Clause
#
# Devices: files and block devices by io_uring or threads, and the simulated
# disk of the tests; see bdev/bdev.h and bdev/sim.h.

noinst_LIBRARIES += libbdev.a
libbdev_a_SOURCES = \
	bdev/bdev.c \
	bdev/bdev.h \
	bdev/engine.c \
	bdev/file.c \
	bdev/file.h \
	bdev/file_io.c \
	bdev/inner.h \
	bdev/lock.c \
	bdev/lock.h \
	bdev/probe.c \
	bdev/probe.h \
	bdev/sim.c \
	bdev/sim.h \
	bdev/sim_control.c \
	bdev/sim_crash.c \
	bdev/sim_inner.h \
	bdev/sim_media.c \
	bdev/sync_group.c \
	bdev/sync_group.h \
	bdev/threads.c \
	bdev/threads.h \
	bdev/uring.c \
	bdev/uring.h \
	bdev/zero.c \
	$(NULL)
