# SPDX-License-Identifier: BSD-3-Clause
#
# bench/: what measures foliod.  Built with the rest, never installed.

noinst_PROGRAMS += \
	bench/nbd-echo \
	bench/nbd-load \
	$(NULL)

bench_nbd_echo_SOURCES = \
	bench/nbd-echo.c \
	bench/wire.h \
	$(NULL)

bench_nbd_load_SOURCES = \
	bench/client.c \
	bench/client.h \
	bench/conn.h \
	bench/cpu.c \
	bench/cpu.h \
	bench/load.c \
	bench/load.h \
	bench/nbd-load.c \
	bench/pattern.h \
	bench/reply.c \
	bench/tls.c \
	bench/tls.h \
	bench/wire.h \
	$(NULL)
bench_nbd_load_LDADD = libbase.a $(OPENSSL_LIBS)

if HAVE_LIBZSTD
noinst_PROGRAMS += bench/replay
bench_replay_SOURCES = bench/replay.c
bench_replay_LDADD = $(ENGINE_LIBS) $(LIBZSTD_LIBS) $(SYSTEM_LIBS)
endif

EXTRA_DIST += \
	bench/README.md \
	bench/compare \
	bench/connections \
	bench/eviction \
	bench/handoff \
	bench/hostile \
	bench/report.py \
	bench/servers.py \
	bench/workloads.py \
	$(NULL)
