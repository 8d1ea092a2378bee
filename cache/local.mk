# cache/: the engine.

noinst_LIBRARIES += libcache.a
libcache_a_SOURCES = \
	cache/cache.c \
	cache/cache.h \
	cache/cache_internal.h \
	cache/direct.c \
	cache/discard.c \
	cache/errseq.c \
	cache/errseq.h \
	cache/evict.c \
	cache/extents.c \
	cache/fill.c \
	cache/flush.c \
	cache/flusher.c \
	cache/flusher.h \
	cache/folio.c \
	cache/folio.h \
	cache/ioend.c \
	cache/ioend.h \
	cache/iomap.c \
	cache/iomap.h \
	cache/pool.c \
	cache/pool.h \
	cache/pool_internal.h \
	cache/prefault.c \
	cache/prefault.h \
	cache/range.c \
	cache/range.h \
	cache/read.c \
	cache/readahead.c \
	cache/resize.c \
	cache/shard.c \
	cache/shard.h \
	cache/stage.c \
	cache/stage.h \
	cache/throttle.c \
	cache/throttle.h \
	cache/volume.c \
	cache/volume.h \
	cache/write.c \
	cache/write_request.c \
	cache/write.h \
	cache/writeback.c \
	cache/writeback.h \
	$(NULL)
