# SPDX-License-Identifier: BSD-3-Clause
#
# What every part of foliod may use; see base/base.h.

noinst_LIBRARIES += libbase.a
libbase_a_SOURCES = \
	base/base.h \
	base/clock.c \
	base/clock.h \
	base/context.c \
	base/context.h \
	base/coroutine.c \
	base/coroutine.h \
	base/hist.c \
	base/hist.h \
	base/log.c \
	base/log.h \
	base/idle.c \
	base/limits.c \
	base/limits.h \
	base/loop.c \
	base/loop.h \
	base/loop_thread.c \
	base/loop_thread.h \
	base/mutex.c \
	base/mutex.h \
	base/random.c \
	base/random.h \
	base/sched.h \
	base/size.c \
	base/size.h \
	base/suggest.c \
	base/suggest.h \
	base/thread.c \
	base/thread.h \
	base/timer.c \
	base/util.h \
	base/waitq.c \
	base/waitq.h \
	$(NULL)
