# SPDX-License-Identifier: BSD-3-Clause
#
# libFuzzer targets; they are linked with --enable-fuzzers only.

FUZZERS += \
	tests/fuzz/fuzz_handshake \
	tests/fuzz/fuzz_session \
	tests/fuzz/fuzz_transmission \
	$(NULL)

FUZZ_CONN_SOURCES = \
	tests/fakevolume.c \
	tests/fakevolume.h \
	tests/fuzz/drive.c \
	tests/fuzz/drive.h \
	tests/fuzz/world.c \
	tests/fuzz/world.h \
	$(NULL)
FUZZ_CONN_LIBS = libserver.a libproto.a libbase.a $(LIBEVENT_LIBS) \
	$(OPENSSL_LIBS)

tests_fuzz_fuzz_handshake_SOURCES = \
	tests/fuzz/fuzz_handshake.c \
	$(FUZZ_CONN_SOURCES)
tests_fuzz_fuzz_handshake_LDADD = $(FUZZ_CONN_LIBS)
tests_fuzz_fuzz_handshake_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
FUZZ_SESSION_SOURCES = \
	tests/fakevolume.c \
	tests/fakevolume.h \
	tests/fuzz/drive.h \
	tests/fuzz/fuzz_session.c \
	tests/fuzz/judge.c \
	tests/fuzz/judge.h \
	tests/fuzz/judge_internal.h \
	tests/fuzz/judge_requests.c \
	tests/fuzz/script.c \
	tests/fuzz/script.h \
	tests/fuzz/world.c \
	tests/fuzz/world.h \
	tests/psk.h \
	$(NULL)
tests_fuzz_fuzz_session_SOURCES = \
	tests/fuzz/mutate.c \
	$(FUZZ_SESSION_SOURCES)
tests_fuzz_fuzz_session_LDADD = $(FUZZ_CONN_LIBS)
tests_fuzz_fuzz_session_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_transmission_SOURCES = \
	tests/fuzz/fuzz_transmission.c \
	$(FUZZ_CONN_SOURCES)
tests_fuzz_fuzz_transmission_LDADD = $(FUZZ_CONN_LIBS)
tests_fuzz_fuzz_transmission_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)

# Its seeds, in every build.
check_PROGRAMS += tests/check_sessions
tests_check_sessions_SOURCES = tests/check_sessions.c $(FUZZ_SESSION_SOURCES)
tests_check_sessions_LDADD = $(FUZZ_CONN_LIBS)

EXTRA_DIST += \
	tests/fuzz/corpus \
	tests/fuzz/session-seeds \
	$(NULL)
