# SPDX-License-Identifier: BSD-3-Clause
#
# The unit tests; each folder's author keeps a block.

# base/
BASE_TEST_LIBS = libbase.a $(LIBEVENT_LIBS) $(CHECK_LIBS)

check_PROGRAMS += \
	tests/check_coroutine \
	tests/check_hist \
	tests/check_log \
	tests/check_loop \
	tests/check_mutex \
	tests/check_random \
	tests/check_size \
	tests/check_waitq \
	$(NULL)
tests_check_coroutine_SOURCES = tests/check_coroutine.c
tests_check_coroutine_LDADD = $(BASE_TEST_LIBS)
tests_check_hist_SOURCES = tests/check_hist.c
tests_check_hist_LDADD = $(BASE_TEST_LIBS)
tests_check_log_SOURCES = tests/check_log.c
tests_check_log_LDADD = $(BASE_TEST_LIBS)
tests_check_loop_SOURCES = tests/check_loop.c
tests_check_loop_LDADD = $(BASE_TEST_LIBS)
tests_check_mutex_SOURCES = tests/check_mutex.c
tests_check_mutex_LDADD = $(BASE_TEST_LIBS)
tests_check_random_SOURCES = tests/check_random.c
tests_check_random_LDADD = $(BASE_TEST_LIBS)
tests_check_size_SOURCES = tests/check_size.c
tests_check_size_LDADD = $(BASE_TEST_LIBS)
tests_check_waitq_SOURCES = tests/check_waitq.c
tests_check_waitq_LDADD = $(BASE_TEST_LIBS)

# bdev/
BDEV_TEST_LIBS = libbdev.a libbase.a $(SYSTEM_LIBS) $(CHECK_LIBS)

check_PROGRAMS += \
	tests/check_bdev \
	tests/check_bdev_file \
	tests/check_sim \
	$(NULL)
tests_check_bdev_SOURCES = tests/check_bdev.c tests/corun.h
tests_check_bdev_LDADD = $(BDEV_TEST_LIBS)
tests_check_bdev_file_SOURCES = tests/check_bdev_file.c tests/corun.h
tests_check_bdev_file_LDADD = $(BDEV_TEST_LIBS)
tests_check_sim_SOURCES = tests/check_sim.c tests/corun.h
tests_check_sim_LDADD = $(BDEV_TEST_LIBS)

# server/, the program around the connections
check_PROGRAMS += \
	tests/check_listen \
	tests/check_options \
	$(NULL)
tests_check_listen_SOURCES = tests/check_listen.c
tests_check_listen_LDADD = libserver.a $(BASE_TEST_LIBS)
tests_check_options_SOURCES = tests/check_options.c
tests_check_options_LDADD = libserver.a $(BASE_TEST_LIBS)

# The program as a whole; see tests/functions.sh.
dist_check_SCRIPTS += \
	tests/test-cli-daemonize.sh \
	tests/test-cli-drain.sh \
	tests/test-cli-errors.sh \
	tests/test-cli-exports.sh \
	tests/test-cli-held.sh \
	tests/test-cli-listen.sh \
	tests/test-cli-many.sh \
	tests/test-cli-pid-file.sh \
	tests/test-cli-run.sh \
	tests/test-cli-single.sh \
	$(NULL)
EXTRA_DIST += tests/functions.sh
