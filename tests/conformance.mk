# The NBD protocol on the raw socket.  Both programs start ./foliod by
# themselves and end with the line "N passed, N failed, N skipped".

wire_sources = \
	tests/wire/bad_disk.c \
	tests/wire/bad_disk.h \
	tests/wire/handshake.c \
	tests/wire/harness.c \
	tests/wire/harness.h \
	tests/wire/request.c \
	tests/wire/server.c \
	tests/wire/server.h \
	tests/wire/tls.c \
	tests/wire/tls.h \
	tests/wire/wire.c \
	tests/wire/wire.h \
	$(NULL)

check_PROGRAMS += tests/conformance tests/hostile

tests_conformance_SOURCES = \
	tests/certs.c \
	tests/certs.h \
	tests/conformance.c \
	tests/wire/rows.h \
	tests/wire/rows_command.c \
	tests/wire/rows_export.c \
	tests/wire/rows_extended.c \
	tests/wire/rows_foliod.c \
	tests/wire/rows_handshake.c \
	tests/wire/rows_limits.c \
	tests/wire/rows_meta.c \
	tests/wire/rows_tls.c \
	$(wire_sources) \
	$(NULL)

tests_hostile_SOURCES = \
	tests/hostile.c \
	tests/wire/hostile.h \
	tests/wire/hostile_crowd.c \
	tests/wire/hostile_cve_nbd.c \
	tests/wire/hostile_cve_nbdkit.c \
	tests/wire/hostile_cve_qemu.c \
	tests/wire/hostile_data.c \
	tests/wire/hostile_good.c \
	tests/wire/hostile_session.c \
	$(wire_sources) \
	$(NULL)

# So that another server can be judged on a disk with bad blocks.
noinst_PROGRAMS += tests/bad-disk
tests_bad_disk_SOURCES = \
	tests/bad-disk.c \
	tests/wire/bad_disk.c \
	tests/wire/bad_disk.h \
	$(NULL)

tests_conformance_LDADD = $(OPENSSL_LIBS)
tests_hostile_LDADD = $(OPENSSL_LIBS)

# They run ./foliod, which must have been built by then.
tests/conformance.log tests/hostile.log: foliod$(EXEEXT)

# Who does what the protocol demands, as docs/protocol-matrix.md.
matrix: foliod$(EXEEXT) tests/conformance$(EXEEXT) tests/bad-disk$(EXEEXT)
	@$(AM_TESTS_ENVIRONMENT) $(srcdir)/tests/matrix
EXTRA_DIST += tests/matrix
