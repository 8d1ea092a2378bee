# SPDX-License-Identifier: BSD-3-Clause
noinst_LIBRARIES += libserver.a
libserver_a_SOURCES = \
	server/conn.c \
	server/conn.h \
	server/conn_internal.h \
	server/export.c \
	server/export.h \
	server/handshake.c \
	server/output.c \
	server/reply.c \
	server/request.c \
	server/timeout.c \
	server/transmit.c \
	$(NULL)

# The program around the connections.
libserver_a_SOURCES += \
	server/accept.c \
	server/accept.h \
	server/daemon.c \
	server/daemon.h \
	server/export_option.c \
	server/help.c \
	server/holder.c \
	server/holder.h \
	server/limits.c \
	server/limits.h \
	server/listen.c \
	server/listen.h \
	server/listen_internal.h \
	server/listen_unix.c \
	server/loops.c \
	server/loops.h \
	server/option_table.h \
	server/options.c \
	server/options.h \
	server/options_finish.c \
	server/options_internal.h \
	server/pidfile.c \
	server/pidfile.h \
	server/run.c \
	server/run.h \
	server/server.c \
	server/server.h \
	server/signals.c \
	server/signals.h \
	server/suggest.c \
	server/suggest.h \
	server/uri.c \
	server/uri.h \
	$(NULL)

bin_PROGRAMS += foliod
foliod_SOURCES = server/main.c
foliod_LDADD = $(FOLIOD_LIBS) $(SYSTEM_LIBS)
