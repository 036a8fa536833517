# SPDX-License-Identifier: GPL-2.0-or-later
#
# make help lists the targets. Objects go to build/; SAN=address,undefined (or
# SAN=thread) switches sanitizers on for any target, WERROR=1 makes warnings
# fatal, V=1 shows the commands. LIBFUSE=3.18.3 uses that release instead of the
# system's; "make deps LIBFUSE=3.18.3" builds it, below build/.

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:

CC ?= cc
ifeq ($(origin CC),default)
CC := cc
endif
CLANG ?= clang
PREFIX ?= /usr/local
DESTDIR ?=
PKG_CONFIG ?= pkg-config
Q := $(if $(V),,@)
SHELL := /bin/bash

LIBFUSE ?=
B := build$(if $(LIBFUSE),/libfuse-$(LIBFUSE))
LIBFUSE_PREFIX := $(B)/prefix
ifneq ($(LIBFUSE),)
PKG_CONFIG := PKG_CONFIG_PATH=$(LIBFUSE_PREFIX)/lib/pkgconfig $(PKG_CONFIG)
endif
comma := ,
ifneq ($(SAN),)
B := $(B)/san-$(subst $(comma),-,$(SAN))
endif

pkg = $(shell $(PKG_CONFIG) $(1) $(2) 2>/dev/null)

CPPFLAGS_ALL = -I. -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 $(CPPFLAGS)
WARN = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wpointer-arith -Wcast-qual -Wwrite-strings -Wvla -Wundef -Wformat=2 \
	-Wold-style-definition -Wno-unused-parameter \
	$(if $(WERROR),-Werror)
CFLAGS ?= -O2 -g
SANFLAGS = $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all \
	-fno-omit-frame-pointer)
CFLAGS_ALL = -std=c11 -pthread $(WARN) $(SANFLAGS) $(CFLAGS)
LDFLAGS_ALL = -pthread $(SANFLAGS) $(LDFLAGS)

LIBS_TXN = $(call pkg,--libs,libxxhash)
LIBS_JSON = $(call pkg,--libs,jansson)
LIBS_FUSE = $(call pkg,--libs,fuse3 liburing)
LIBS_TEST = $(call pkg,--libs,cmocka)

# The daemon's files are fs/mount_*.c; the rest of fs/ knows no libfuse.
TXN_SRC := $(sort $(wildcard txn/*.c))
MOUNT_SRC := $(sort $(wildcard fs/mount_*.c))
FS_SRC := $(sort $(filter-out $(MOUNT_SRC),$(wildcard fs/*.c)))
TOOL_SRC := $(sort $(wildcard tools/*.c))
TESTLIB_SRC := $(sort $(wildcard tests/lib/*.c))
TEST_SRC := $(sort $(wildcard tests/unit/test_*.c tests/model/test_*.c \
	tests/crash/test_*.c))
# PostgreSQL is a large package: for test-long alone.
MOUNT_TESTS := $(filter-out tests/mount/test_postgres.sh,$(sort \
	$(wildcard tests/mount/test_*.sh)))
MOUNT_HELPERS := $(patsubst tests/%.c,$(B)/tests/%,$(sort \
	$(wildcard tests/mount/*.c)))
FUZZ_SRC := $(sort $(wildcard tests/fuzz/fuzz_*.c))
BENCH := $(patsubst tests/%.c,$(B)/%,$(sort $(wildcard tests/bench/*.c)))

# Two sets of objects: release, and check (slow assertions, for tests).
rel = $(patsubst %.c,$(B)/rel/%.o,$(1))
chk = $(patsubst %.c,$(B)/chk/%.o,$(1))
TESTS := $(patsubst tests/%.c,$(B)/tests/%,$(TEST_SRC))
FUZZ_REPLAY := $(patsubst tests/fuzz/%.c,$(B)/tests/fuzz/%,$(FUZZ_SRC))
PROGRAMS := $(if $(MOUNT_SRC),$(B)/txnfs) $(if $(TOOL_SRC),$(B)/txn)

.PHONY: all
all: $(PROGRAMS) ## build txnfs and txn

$(B)/rel/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC      $@")
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(CFLAGS_$(firstword \
		$(subst /, ,$*))) $(CFLAGS_FILE) -MMD -MP -c -o $@ $<

$(B)/chk/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC      $@")
	$(Q)$(CC) $(CPPFLAGS_ALL) -DTXN_SLOW_CHECKS $(CFLAGS_ALL) \
		$(CFLAGS_$(firstword $(subst /, ,$*))) $(CFLAGS_FILE) \
		-MMD -MP -c -o $@ $<

CFLAGS_txn = -Wconversion -Wno-sign-conversion
$(call rel,$(MOUNT_SRC)) $(call chk,$(MOUNT_SRC)): \
	CFLAGS_FILE = $(call pkg,--cflags,fuse3 liburing)

# Two rules: a pattern with two targets makes both at once.
$(B)/rel/lib%.a:
	$(Q)rm -f $@ && ar rcs $@ $^
$(B)/chk/lib%.a:
	$(Q)rm -f $@ && ar rcs $@ $^
$(B)/rel/libtxn.a: $(call rel,$(TXN_SRC))
$(B)/chk/libtxn.a: $(call chk,$(TXN_SRC))
$(B)/rel/libfs.a: $(call rel,$(FS_SRC))
$(B)/chk/libfs.a: $(call chk,$(FS_SRC))
$(B)/chk/libtest.a: $(call chk,$(TESTLIB_SRC))

$(B)/txnfs: $(call rel,$(MOUNT_SRC)) $(B)/rel/libfs.a $(B)/rel/libtxn.a
	$(if $(V),,@echo "  LD      $@")
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS_FUSE) $(LIBS_JSON) $(LIBS_TXN)

$(B)/txn: $(call rel,$(TOOL_SRC)) $(B)/rel/libfs.a $(B)/rel/libtxn.a
	$(if $(V),,@echo "  LD      $@")
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS_JSON) $(LIBS_TXN)

# A test may name extra linker flags in a line "/* LDFLAGS: ... */".
$(B)/tests/%: $(B)/chk/tests/%.o $(B)/chk/libtest.a $(B)/chk/libfs.a \
		$(B)/chk/libtxn.a
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LD      $@")
	$(Q)$(CC) $(LDFLAGS_ALL) $$(sed -n 's|^/\* LDFLAGS: \(.*\) \*/$$|\1|p' \
		tests/$*.c) -o $@ $< $(B)/chk/libtest.a $(B)/chk/libfs.a \
		$(B)/chk/libtxn.a $(LIBS_TEST) $(LIBS_JSON) $(LIBS_TXN)

# Programs that the mount tests run, and what they preload ("LDFLAGS:" too).
$(B)/tests/mount/%: tests/mount/%.c Makefile
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LD      $@")
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS_ALL) $$(sed -n \
		's|^/\* LDFLAGS: \(.*\) \*/$$|\1|p' $<) -o $@ $<

# Fuzz targets replay their corpus in check; make fuzz searches with libFuzzer.
$(B)/tests/fuzz/%: $(B)/chk/tests/fuzz/%.o $(B)/chk/tests/fuzz/replay.o \
		$(B)/chk/libtest.a $(B)/chk/libfs.a $(B)/chk/libtxn.a
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LD      $@")
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS_JSON) $(LIBS_TXN)

.PHONY: check
check: $(TESTS) $(FUZZ_REPLAY) ## unit, model and crash tests (no root, no FUSE)
	$(Q)$(if $(SAN),STATES=$${STATES:-10000} TEST_TIMEOUT=$${TEST_TIMEOUT:-1200}) \
		tests/run-check $(B) \
		$(TESTS) $(FUZZ_REPLAY)

STATES ?= 10000000
.PHONY: test-cuts
test-cuts: $(B)/tests/crash/test_fs_cuts ## power cuts: STATES of a disk, 10 million (14 minutes)
	$(Q)tests/run-cuts $< $(STATES)

.PHONY: test-mount
test-mount: $(PROGRAMS) $(MOUNT_HELPERS) ## tests on real mounts (T="a b": only these)
	$(Q)tests/run-mount $(B) $(if $(T),$(T:%=tests/mount/test_%.sh),$(MOUNT_TESTS))

.PHONY: deps
deps: ## install what building and testing needs, or name it
	$(Q)tools/deps.sh $(if $(LIBFUSE),--libfuse)
	$(if $(LIBFUSE),$(Q)tools/libfuse.sh $(LIBFUSE) $(LIBFUSE_PREFIX))

# pkg-config is asked when make starts: after deps a new make has to look.
.PHONY: test
test: deps ## everything, real mounts included; installs what is missing
	$(Q)$(MAKE) --no-print-directory check all bench-programs
	$(Q)$(MAKE) --no-print-directory test-mount
	$(Q)MOUNT_OPTIONS=open=fast $(MAKE) --no-print-directory test-mount \
		T="basic calls handles matrix snapshots"
	$(Q)MOUNT_OPTIONS=transport=io_uring $(MAKE) --no-print-directory \
		test-mount T="basic calls handles matrix snapshots"

.PHONY: test-long
test-long: deps ## longer random, kill and power cut tests, PostgreSQL, sanitizers (an hour)
	$(Q)tools/deps.sh --long
	$(Q)TEST_TIMEOUT=3600 ROUNDS=20000 PLAIN_ROUNDS=4000 MOVE_ROUNDS=300 CRASHES=1000 \
		ROT_ROUNDS=60 MEMORY_ROUNDS=6000 \
		$(MAKE) --no-print-directory check
	$(Q)$(MAKE) --no-print-directory test-cuts
	$(Q)$(MAKE) --no-print-directory $(B)/bench/work
	$(Q)tests/bench/instructions $(B)
	$(Q)ROUNDS=200 ENTRIES=1000000 $(MAKE) --no-print-directory test-mount \
		T="switch kill stress posix"
	$(Q)ROUNDS=10 $(MAKE) --no-print-directory test-mount T="abrupt"
	$(Q)ROUNDS=20000 $(MAKE) --no-print-directory test-mount T="hostile"
	$(Q)ROUNDS=60 $(MAKE) --no-print-directory test-mount T="apps"
	$(Q)ROUNDS=5 $(MAKE) --no-print-directory test-mount T="postgres"
	$(Q)MOUNT_OPTIONS=open=fast $(MAKE) --no-print-directory test-mount
	$(Q)MOUNT_OPTIONS=transport=io_uring $(MAKE) --no-print-directory test-mount
	$(Q)ROUNDS=30 $(MAKE) --no-print-directory SAN=thread test-mount \
		T="stress switch handles history matrix acl direct apps slow hostile \
		edits fault"
	$(Q)$(MAKE) --no-print-directory SAN=thread check
	$(Q)ROUNDS=10 $(MAKE) --no-print-directory SAN=address,undefined \
		test-mount ENTRIES=3000 \
		T="basic ctl kill handles history stress matrix posix apps \
		edits fault"

.PHONY: demo
demo: deps ## the main job on real input, told while it runs
	$(Q)$(MAKE) --no-print-directory all
	$(Q)BUILD=$(B) tools/demo.sh

# The programs that measure; nullfs alone needs libfuse.
$(B)/bench/nullfs: BENCH_LIBS = fs/mount_ring.c $(LIBS_FUSE) \
	$(call pkg,--cflags,fuse3 liburing)
$(B)/bench/nullfs: fs/mount_ring.c fs/mount_ring.h
$(B)/bench/work: $(B)/rel/tests/bench/work.o $(B)/rel/libfs.a $(B)/rel/libtxn.a
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LD      $@")
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS_JSON) $(LIBS_TXN)
$(B)/bench/%: tests/bench/%.c tests/bench/bench.h Makefile
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LD      $@")
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $< \
		$(BENCH_LIBS)

.PHONY: bench-programs
bench-programs: all $(BENCH)

# With every libfuse that "make deps LIBFUSE=..." has built.
OTHER_LIBFUSE = $(patsubst build/libfuse-%/prefix,%,$(wildcard \
	build/libfuse-*/prefix))
REPEAT ?= 5
SIZE ?= normal
.PHONY: bench
bench: ## measure (ROWS="stat create" REPEAT=5 SIZE=small|normal|large)
	$(Q)tools/deps.sh && tools/deps.sh --bench
	$(Q)$(MAKE) --no-print-directory bench-programs
	$(Q)for v in $(OTHER_LIBFUSE); do \
		$(MAKE) --no-print-directory bench-programs LIBFUSE=$$v || exit 1; \
	done
	$(Q)python3 tests/bench/bench.py --builds $(B) \
		$(OTHER_LIBFUSE:%=build/libfuse-%) --rows "$(ROWS)" \
		--targets "$(TARGETS)" --repeat $(REPEAT) --size $(SIZE)

FUZZ_SECONDS ?= 60
# Of tests/lib what needs no cmocka.
FUZZ_LIB := $(addprefix tests/lib/,forge.c simdev.c simdev_cut.c)
# pointer-overflow: 0 added to a null pointer is fine with us, and with C2y.
.PHONY: fuzz
fuzz: ## search with libFuzzer (clang), FUZZ_SECONDS for each target
	$(Q)mkdir -p $(B)/fuzz
	$(Q)for t in $(FUZZ_SRC); do \
		n=$$(basename $$t .c); mkdir -p $(B)/fuzz/$$n; \
		$(CLANG) $(CPPFLAGS_ALL) -std=c11 -g -O1 -pthread \
			-fsanitize=fuzzer,address,undefined \
			-fno-sanitize-recover=all \
			-fno-sanitize=pointer-overflow -o $(B)/fuzz/$$n.bin \
			$$t $(FUZZ_LIB) $(TXN_SRC) $(FS_SRC) $(LIBS_JSON) $(LIBS_TXN) && \
		$(B)/fuzz/$$n.bin -max_total_time=$(FUZZ_SECONDS) \
			-artifact_prefix=$(B)/fuzz/$$n- $(B)/fuzz/$$n \
			tests/fuzz/corpus/$${n#fuzz_} || exit 1; \
	done

.PHONY: install uninstall
install: all ## to PREFIX (/usr/local), below DESTDIR
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/sbin \
		$(DESTDIR)$(PREFIX)/share/man/man1 \
		$(DESTDIR)$(PREFIX)/share/man/man8 \
		$(DESTDIR)$(PREFIX)/lib/systemd/system \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -m 755 $(B)/txn $(B)/txnfs $(DESTDIR)$(PREFIX)/bin
	install -m 755 tools/mount.fuse.txnfs $(DESTDIR)$(PREFIX)/sbin
	install -m 644 tools/txn.1 $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 tools/txnfs.8 $(DESTDIR)$(PREFIX)/share/man/man8
	sed 's|/usr/local|$(PREFIX)|' tools/txnfs@.service \
		>$(DESTDIR)$(PREFIX)/lib/systemd/system/txnfs@.service
	install -m 644 tools/completion.bash \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/txn

uninstall: ## what install made
	rm -f $(DESTDIR)$(PREFIX)/bin/txn $(DESTDIR)$(PREFIX)/bin/txnfs \
		$(DESTDIR)$(PREFIX)/sbin/mount.fuse.txnfs \
		$(DESTDIR)$(PREFIX)/share/man/man1/txn.1 \
		$(DESTDIR)$(PREFIX)/share/man/man8/txnfs.8 \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/txnfs@.service \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/txn

.PHONY: lint
lint: ## cppcheck, shellcheck, man pages (tools/deps.sh --extra)
	cppcheck --quiet --std=c11 --error-exitcode=1 --inline-suppr -I. \
		--enable=warning,portability --suppress=missingIncludeSystem \
		--suppress=nullPointerOutOfMemory --suppress=normalCheckLevelMaxBranches \
		txn fs tools tests
	shellcheck -x -P SCRIPTDIR -S warning -e SC2010,SC2046,SC2183 \
		$$(git ls-files '*.sh' tests/run-check tests/run-mount \
		tests/run-cuts 'tests/suites/run-*' tests/bench/instructions \
		tools/mount.fuse.txnfs .ci/run)

.PHONY: tidy
tidy: ## our own rules: layering, lengths, documents
	$(Q)tools/tidy.sh

.PHONY: clean
clean: ## remove build/
	rm -rf build

.PHONY: format
format: ## lay the code out (.clang-format)
	clang-format -i $$(git ls-files '*.[ch]')

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z -]*\):.*## \(.*\)/  \1\t\2/p' Makefile | sort | \
		expand -t 24

# Keep the objects of tests.
.SECONDARY:
-include $(shell find $(B) -name '*.d' 2>/dev/null)
