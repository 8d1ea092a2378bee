# SPDX-License-Identifier: BSD-3-Clause
#
# plugins/: the door by itself, and the plugin in a stock nbdkit.

check_PROGRAMS += tests/check_plugin_door
tests_check_plugin_door_SOURCES = tests/check_plugin_door.c tests/corun.h
tests_check_plugin_door_LDADD = \
	libplugin.a \
	$(ENGINE_LIBS) \
	$(SYSTEM_LIBS) \
	$(CHECK_LIBS) \
	$(NULL)

dist_check_SCRIPTS += \
	tests/test-plugin-clients.sh \
	tests/test-plugin-durable.sh \
	tests/test-plugin-errors.sh \
	tests/test-plugin-filters.sh \
	tests/test-plugin-info.sh \
	$(NULL)
EXTRA_DIST += tests/plugin.sh
