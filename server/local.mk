# SPDX-License-Identifier: BSD-3-Clause
noinst_LIBRARIES += libserver.a
libserver_a_SOURCES = \
	server/access.c \
	server/access.h \
	server/conn.c \
	server/conn.h \
	server/conn_handoff.c \
	server/conn_input.c \
	server/conn_internal.h \
	server/conn_state.c \
	server/conn_state.h \
	server/conn_tls.c \
	server/dn.c \
	server/dn.h \
	server/export.c \
	server/export.h \
	server/export_size.c \
	server/handshake.c \
	server/identity.c \
	server/identity.h \
	server/output.c \
	server/peer.c \
	server/peer.h \
	server/peers.c \
	server/peers.h \
	server/reply.c \
	server/request.c \
	server/request_read.c \
	server/timeout.c \
	server/tls.c \
	server/tls.h \
	server/tls_context.c \
	server/transmit.c \
	$(NULL)

# The program around the connections.
libserver_a_SOURCES += \
	server/accept.c \
	server/accept.h \
	server/activation.c \
	server/activation.h \
	server/daemon.c \
	server/daemon.h \
	server/export_option.c \
	server/exports.c \
	server/exports.h \
	server/handoff.c \
	server/handoff.h \
	server/handoff_door.c \
	server/handoff_internal.h \
	server/handoff_wire.c \
	server/handoff_wire.h \
	server/help.c \
	server/holder.c \
	server/holder.h \
	server/listen.c \
	server/listen.h \
	server/listen_fd.c \
	server/listen_internal.h \
	server/listen_pass.c \
	server/listen_unix.c \
	server/loops.c \
	server/loops.h \
	server/notify.c \
	server/notify.h \
	server/option_listen.c \
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
	server/takeover.c \
	server/takeover.h \
	server/turned_away.c \
	server/turned_away.h \
	server/uri.c \
	server/uri.h \
	server/uuid.c \
	server/uuid.h \
	server/watchdog.c \
	server/watchdog.h \
	$(NULL)

bin_PROGRAMS += foliod
foliod_SOURCES = server/main.c
foliod_LDADD = $(FOLIOD_LIBS) $(SYSTEM_LIBS)
