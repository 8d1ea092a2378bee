# SPDX-License-Identifier: BSD-3-Clause
noinst_LIBRARIES += libstore.a
libstore_a_SOURCES = \
	store/raw.c \
	store/raw.h \
	store/raw_map.c \
	store/raw_map.h \
	$(NULL)
