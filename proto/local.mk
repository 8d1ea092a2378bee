# SPDX-License-Identifier: BSD-3-Clause
noinst_LIBRARIES += libproto.a
libproto_a_SOURCES = \
	proto/handshake.c \
	proto/handshake.h \
	proto/nbd.h \
	proto/reply.c \
	proto/reply.h \
	proto/request.c \
	proto/request.h \
	$(NULL)
