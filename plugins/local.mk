# SPDX-License-Identifier: BSD-3-Clause
#
# foliod's engine inside other programs.

# For threads that run no loop; tests use it without nbdkit.
noinst_LIBRARIES += libplugin.a
libplugin_a_SOURCES = \
	plugins/door.c \
	plugins/door.h \
	plugins/runner.c \
	plugins/runner.h \
	$(NULL)

# A shared object is to automake a program that is linked with -shared.
if HAVE_NBDKIT
nbdkitplugindir = $(NBDKIT_PLUGINDIR)
nbdkitplugin_PROGRAMS = plugins/nbdkit-folio-plugin.so
plugins_nbdkit_folio_plugin_so_SOURCES = plugins/folio.c
plugins_nbdkit_folio_plugin_so_CFLAGS = $(AM_CFLAGS) $(NBDKIT_CFLAGS)
plugins_nbdkit_folio_plugin_so_LDFLAGS = $(AM_LDFLAGS) -shared
plugins_nbdkit_folio_plugin_so_LDADD = \
	libplugin.a \
	$(ENGINE_LIBS) \
	$(SYSTEM_LIBS) \
	$(NULL)
endif
