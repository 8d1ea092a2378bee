# SPDX-License-Identifier: BSD-3-Clause
#
# The unit tests; each folder's author keeps a block.

# base/
BASE_TEST_LIBS = libbase.a $(LIBEVENT_LIBS) $(CHECK_LIBS)

check_PROGRAMS += \
	tests/check_coroutine \
	tests/check_hist \
	tests/check_log \
	tests/check_idle \
	tests/check_loop \
	tests/check_loop_thread \
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
tests_check_idle_SOURCES = tests/check_idle.c
tests_check_idle_LDADD = $(BASE_TEST_LIBS)
tests_check_loop_SOURCES = tests/check_loop.c
tests_check_loop_LDADD = $(BASE_TEST_LIBS)
tests_check_loop_thread_SOURCES = tests/check_loop_thread.c
tests_check_loop_thread_LDADD = $(BASE_TEST_LIBS)
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
	tests/check_sync_group \
	$(NULL)
tests_check_bdev_SOURCES = tests/check_bdev.c tests/corun.h
tests_check_bdev_LDADD = $(BDEV_TEST_LIBS)
tests_check_bdev_file_SOURCES = tests/check_bdev_file.c tests/corun.h
tests_check_bdev_file_LDADD = $(BDEV_TEST_LIBS)
tests_check_sim_SOURCES = tests/check_sim.c tests/corun.h
tests_check_sim_LDADD = $(BDEV_TEST_LIBS)
tests_check_sync_group_SOURCES = tests/check_sync_group.c tests/corun.h
tests_check_sync_group_LDADD = $(BDEV_TEST_LIBS)

# server/, the program around the connections
check_PROGRAMS += \
	tests/check_handoff \
	tests/check_listen \
	tests/check_options \
	tests/check_watchdog \
	$(NULL)
tests_check_handoff_SOURCES = tests/check_handoff.c
tests_check_handoff_LDADD = libserver.a $(BASE_TEST_LIBS) $(OPENSSL_LIBS)
tests_check_listen_SOURCES = tests/check_listen.c
tests_check_listen_LDADD = libserver.a $(BASE_TEST_LIBS) $(OPENSSL_LIBS)
tests_check_options_SOURCES = tests/check_options.c
tests_check_options_LDADD = libserver.a $(BASE_TEST_LIBS) $(OPENSSL_LIBS)
tests_check_watchdog_SOURCES = tests/check_watchdog.c
tests_check_watchdog_LDADD = libserver.a $(BASE_TEST_LIBS)

# The program as a whole; see tests/functions.sh.
dist_check_SCRIPTS += \
	tests/test-cli-access.sh \
	tests/test-cli-activation.sh \
	tests/test-cli-daemonize.sh \
	tests/test-cli-drain.sh \
	tests/test-cli-errors.sh \
	tests/test-cli-exports.sh \
	tests/test-cli-held.sh \
	tests/test-cli-listen.sh \
	tests/test-cli-many.sh \
	tests/test-cli-notify.sh \
	tests/test-cli-pid-file.sh \
	tests/test-cli-run.sh \
	tests/test-cli-single.sh \
	tests/test-cli-units.sh \
	tests/test-cli-unwritten.sh \
	tests/test-cli-uuid.sh \
	tests/test-quickstart-held.sh \
	$(NULL)
EXTRA_DIST += tests/functions.sh

# proto/ and server/conn.c, on a volume in memory
CONN_TEST_SOURCES = \
	tests/conntest.c \
	tests/conntest.h \
	tests/fakevolume.c \
	tests/fakevolume.h \
	$(NULL)
CONN_TEST_LIBS = libserver.a libproto.a libbase.a $(LIBEVENT_LIBS) \
	$(OPENSSL_LIBS) $(CHECK_LIBS)

check_PROGRAMS += \
	tests/check_access \
	tests/check_conn \
	tests/check_conn_cut \
	tests/check_conn_extended \
	tests/check_conn_handoff \
	tests/check_conn_handshake \
	tests/check_conn_random \
	tests/check_identity \
	tests/check_nbd_proto \
	tests/check_tls \
	$(NULL)
tests_check_access_SOURCES = tests/check_access.c $(CONN_TEST_SOURCES)
tests_check_access_LDADD = $(CONN_TEST_LIBS)
tests_check_conn_SOURCES = tests/check_conn.c $(CONN_TEST_SOURCES)
tests_check_conn_LDADD = $(CONN_TEST_LIBS)
tests_check_conn_cut_SOURCES = \
	tests/check_conn_cut.c \
	tests/psk.h \
	$(CONN_TEST_SOURCES)
tests_check_conn_cut_LDADD = $(CONN_TEST_LIBS)
tests_check_conn_extended_SOURCES = \
	tests/check_conn_extended.c \
	$(CONN_TEST_SOURCES)
tests_check_conn_extended_LDADD = $(CONN_TEST_LIBS)
tests_check_conn_handoff_SOURCES = \
	tests/check_conn_handoff.c \
	$(CONN_TEST_SOURCES)
tests_check_conn_handoff_LDADD = $(CONN_TEST_LIBS)
tests_check_conn_handshake_SOURCES = \
	tests/check_conn_handshake.c \
	$(CONN_TEST_SOURCES)
tests_check_conn_handshake_LDADD = $(CONN_TEST_LIBS)
tests_check_conn_random_SOURCES = \
	tests/check_conn_random.c \
	$(CONN_TEST_SOURCES)
tests_check_conn_random_LDADD = $(CONN_TEST_LIBS)
tests_check_identity_SOURCES = tests/check_identity.c
tests_check_identity_LDADD = $(CONN_TEST_LIBS)
tests_check_nbd_proto_SOURCES = tests/check_nbd_proto.c
tests_check_nbd_proto_LDADD = libproto.a libbase.a $(CHECK_LIBS)
tests_check_tls_SOURCES = \
	tests/certs.c \
	tests/certs.h \
	tests/check_tls.c \
	tests/psk.h \
	$(CONN_TEST_SOURCES)
tests_check_tls_LDADD = $(CONN_TEST_LIBS)

# cache/: what needs no device, and the store that tests of the engine run on
check_PROGRAMS += \
	tests/check_errseq \
	tests/check_iomap \
	tests/check_range \
	$(NULL)
tests_check_errseq_SOURCES = tests/check_errseq.c
tests_check_errseq_LDADD = libcache.a libbase.a $(CHECK_LIBS)
tests_check_iomap_SOURCES = tests/check_iomap.c tests/corun.h
tests_check_iomap_LDADD = libcache.a $(BASE_TEST_LIBS)
tests_check_range_SOURCES = tests/check_range.c tests/corun.h
tests_check_range_LDADD = libcache.a $(BASE_TEST_LIBS)

# store/, and tests/mapstore
STORE_TEST_LIBS = $(ENGINE_LIBS) $(SYSTEM_LIBS) $(CHECK_LIBS)

check_PROGRAMS += \
	tests/check_mapstore \
	tests/check_raw \
	tests/check_raw_map \
	$(NULL)
tests_check_mapstore_SOURCES = \
	tests/check_mapstore.c \
	tests/corun.h \
	tests/mapstore.c \
	tests/mapstore.h \
	$(NULL)
tests_check_mapstore_LDADD = $(STORE_TEST_LIBS)
tests_check_raw_SOURCES = tests/check_raw.c tests/corun.h
tests_check_raw_LDADD = $(STORE_TEST_LIBS)
tests_check_raw_map_SOURCES = tests/check_raw_map.c tests/corun.h
tests_check_raw_map_LDADD = $(STORE_TEST_LIBS)

# The crash explorer; tests/crash --help, make soak.
check_PROGRAMS += tests/crash
tests_crash_SOURCES = \
	tests/corun.h \
	tests/crash.c \
	tests/crash.h \
	tests/crash_gen.c \
	tests/crash_inner.h \
	tests/crash_min.c \
	tests/crash_ops.c \
	tests/crash_run.c \
	tests/crash_text.c \
	tests/engine.c \
	tests/engine.h \
	tests/engine_check.c \
	tests/mapstore.c \
	tests/mapstore.h \
	tests/oracle.c \
	tests/oracle.h \
	$(NULL)
tests_crash_LDADD = $(ENGINE_LIBS) $(SYSTEM_LIBS)

# bench/; what is measured with must be right itself.
dist_check_SCRIPTS += \
	tests/test-bench-load.sh \
	tests/test-bench-replay.sh \
	$(NULL)

# cache/: the whole engine on a virtual loop, with faults, and on threads.
# T-02 to T-12, T-28 to T-44 are in check_proof_*.
ENGINE_TEST_SOURCES = \
	tests/corun.h \
	tests/engine.c \
	tests/engine.h \
	tests/engine_check.c \
	tests/proof.h \
	tests/stubstore.c \
	tests/stubstore.h \
	$(NULL)
ENGINE_TEST_LIBS = $(ENGINE_LIBS) $(SYSTEM_LIBS) $(CHECK_LIBS)

check_PROGRAMS += \
	tests/check_direct \
	tests/check_discard \
	tests/check_engine_threads \
	tests/check_faults \
	tests/check_flush \
	tests/check_folio \
	tests/check_limits \
	tests/check_nomem \
	tests/check_pool \
	tests/check_prefault \
	tests/check_proof_ioend \
	tests/check_proof_through \
	tests/check_proof_volume \
	tests/check_proof_write \
	tests/check_proof_writeback \
	tests/check_readahead \
	tests/check_resize \
	tests/check_shard \
	tests/check_stage \
	tests/check_throttle \
	$(NULL)
tests_check_folio_SOURCES = tests/check_folio.c tests/corun.h
tests_check_folio_LDADD = libcache.a $(BASE_TEST_LIBS)
tests_check_prefault_SOURCES = tests/check_prefault.c
tests_check_prefault_LDADD = libcache.a $(BASE_TEST_LIBS)
tests_check_pool_SOURCES = tests/check_pool.c tests/corun.h
tests_check_pool_LDADD = libcache.a $(BASE_TEST_LIBS)
tests_check_direct_SOURCES = tests/check_direct.c $(ENGINE_TEST_SOURCES)
tests_check_direct_LDADD = $(ENGINE_TEST_LIBS)
tests_check_resize_SOURCES = tests/check_resize.c $(ENGINE_TEST_SOURCES)
tests_check_resize_LDADD = $(ENGINE_TEST_LIBS)
tests_check_discard_SOURCES = tests/check_discard.c $(ENGINE_TEST_SOURCES)
tests_check_discard_LDADD = $(ENGINE_TEST_LIBS)
tests_check_engine_threads_SOURCES = \
	tests/check_engine_threads.c \
	$(ENGINE_TEST_SOURCES) \
	$(NULL)
tests_check_engine_threads_LDADD = $(ENGINE_TEST_LIBS)
tests_check_faults_SOURCES = tests/check_faults.c $(ENGINE_TEST_SOURCES)
tests_check_faults_LDADD = $(ENGINE_TEST_LIBS)
tests_check_flush_SOURCES = tests/check_flush.c $(ENGINE_TEST_SOURCES)
tests_check_flush_LDADD = $(ENGINE_TEST_LIBS)
tests_check_limits_SOURCES = tests/check_limits.c $(ENGINE_TEST_SOURCES)
tests_check_limits_LDADD = $(ENGINE_TEST_LIBS)
tests_check_nomem_SOURCES = tests/check_nomem.c $(ENGINE_TEST_SOURCES)
tests_check_nomem_LDADD = $(ENGINE_TEST_LIBS)
tests_check_nomem_LDFLAGS = \
	$(AM_LDFLAGS) \
	-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc \
	$(NULL)
tests_check_proof_ioend_SOURCES = \
	tests/check_proof_ioend.c \
	$(ENGINE_TEST_SOURCES) \
	$(NULL)
tests_check_proof_ioend_LDADD = $(ENGINE_TEST_LIBS)
tests_check_proof_through_SOURCES = \
	tests/check_proof_through.c \
	$(ENGINE_TEST_SOURCES) \
	$(NULL)
tests_check_proof_through_LDADD = $(ENGINE_TEST_LIBS)
tests_check_proof_volume_SOURCES = \
	tests/check_proof_volume.c \
	$(ENGINE_TEST_SOURCES) \
	$(NULL)
tests_check_proof_volume_LDADD = $(ENGINE_TEST_LIBS)
tests_check_proof_write_SOURCES = \
	tests/check_proof_write.c \
	tests/mapstore.c \
	tests/mapstore.h \
	$(ENGINE_TEST_SOURCES) \
	$(NULL)
tests_check_proof_write_LDADD = $(ENGINE_TEST_LIBS)
tests_check_proof_writeback_SOURCES = \
	tests/check_proof_writeback.c \
	$(ENGINE_TEST_SOURCES) \
	$(NULL)
tests_check_proof_writeback_LDADD = $(ENGINE_TEST_LIBS)
tests_check_readahead_SOURCES = tests/check_readahead.c $(ENGINE_TEST_SOURCES)
tests_check_readahead_LDADD = $(ENGINE_TEST_LIBS)
tests_check_shard_SOURCES = tests/check_shard.c $(ENGINE_TEST_SOURCES)
tests_check_shard_LDADD = $(ENGINE_TEST_LIBS)
tests_check_stage_SOURCES = tests/check_stage.c $(ENGINE_TEST_SOURCES)
tests_check_stage_LDADD = $(ENGINE_TEST_LIBS)
tests_check_throttle_SOURCES = tests/check_throttle.c $(ENGINE_TEST_SOURCES)
tests_check_throttle_LDADD = $(ENGINE_TEST_LIBS)
