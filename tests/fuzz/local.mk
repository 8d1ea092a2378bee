# SPDX-License-Identifier: BSD-3-Clause
#
# libFuzzer targets; they are linked with --enable-fuzzers only.

FUZZERS += \
	tests/fuzz/fuzz_handshake \
	tests/fuzz/fuzz_transmission \
	$(NULL)

FUZZ_CONN_SOURCES = \
	tests/fakevolume.c \
	tests/fakevolume.h \
	tests/fuzz/drive.c \
	tests/fuzz/drive.h \
	$(NULL)
FUZZ_CONN_LIBS = libserver.a libproto.a libbase.a $(LIBEVENT_LIBS) \
	$(OPENSSL_LIBS)

tests_fuzz_fuzz_handshake_SOURCES = \
	tests/fuzz/fuzz_handshake.c \
	$(FUZZ_CONN_SOURCES)
tests_fuzz_fuzz_handshake_LDADD = $(FUZZ_CONN_LIBS)
tests_fuzz_fuzz_handshake_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_transmission_SOURCES = \
	tests/fuzz/fuzz_transmission.c \
	$(FUZZ_CONN_SOURCES)
tests_fuzz_fuzz_transmission_LDADD = $(FUZZ_CONN_LIBS)
tests_fuzz_fuzz_transmission_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)

EXTRA_DIST += tests/fuzz/corpus
