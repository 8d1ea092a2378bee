# SPDX-License-Identifier: BSD-3-Clause
#
# Units, installed where configure --with-systemdsystemunitdir says.
EXTRA_DIST += \
	systemd/foliod.service.in \
	systemd/foliod.socket \
	$(NULL)

# bindir is known to make only.
systemd/foliod.service: systemd/foliod.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) $(@D) && \
	$(SED) 's|@bindir[@]|$(bindir)|g' $(srcdir)/systemd/foliod.service.in \
		>$@.tmp && mv $@.tmp $@
CLEANFILES += systemd/foliod.service

if INSTALL_UNITS
systemdsystemunit_DATA = \
	systemd/foliod.service \
	systemd/foliod.socket \
	$(NULL)
endif
