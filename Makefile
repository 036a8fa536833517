# SPDX-License-Identifier: GPL-2.0-or-later
#
# make help lists the targets. Objects go to build/; SAN=address,undefined (or
# SAN=thread) switches sanitizers on for any target, WERROR=1 makes warnings
# fatal, V=1 shows the commands.

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

B := build
comma := ,
ifneq ($(SAN),)
B := build/san-$(subst $(comma),-,$(SAN))
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
LIBS_FUSE = $(call pkg,--libs,fuse3)
LIBS_TEST = $(call pkg,--libs,cmocka)

# The daemon's files are fs/mount_*.c; the rest of fs/ knows no libfuse.
TXN_SRC := $(sort $(wildcard txn/*.c))
MOUNT_SRC := $(sort $(wildcard fs/mount_*.c))
FS_SRC := $(sort $(filter-out $(MOUNT_SRC),$(wildcard fs/*.c)))
TOOL_SRC := $(sort $(wildcard tools/*.c))
TESTLIB_SRC := $(sort $(wildcard tests/lib/*.c))
TEST_SRC := $(sort $(wildcard tests/unit/test_*.c tests/model/test_*.c \
	tests/crash/test_*.c))
MOUNT_TESTS := $(sort $(wildcard tests/mount/test_*.sh))
MOUNT_HELPERS := $(patsubst tests/%.c,$(B)/tests/%,$(sort \
	$(wildcard tests/mount/*.c)))
FUZZ_SRC := $(sort $(wildcard tests/fuzz/fuzz_*.c))

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
	CFLAGS_FILE = $(call pkg,--cflags,fuse3)

$(B)/rel/lib%.a $(B)/chk/lib%.a:
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

# Programs that the mount tests run.
$(B)/tests/mount/%: tests/mount/%.c Makefile
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LD      $@")
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $<

# Fuzz targets replay their corpus in check; make fuzz searches with libFuzzer.
$(B)/tests/fuzz/%: $(B)/chk/tests/fuzz/%.o $(B)/chk/tests/fuzz/replay.o \
		$(B)/chk/libtest.a $(B)/chk/libfs.a $(B)/chk/libtxn.a
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LD      $@")
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS_JSON) $(LIBS_TXN)

.PHONY: check
check: $(TESTS) $(FUZZ_REPLAY) ## unit, model and crash tests (no root, no FUSE)
	$(Q)tests/run-check $(B) $(TESTS) $(FUZZ_REPLAY)

.PHONY: test-mount
test-mount: $(PROGRAMS) $(MOUNT_HELPERS) ## tests on real mounts (/dev/fuse)
	$(Q)tests/run-mount $(B) $(if $(T),$(T:%=tests/mount/test_%.sh),$(MOUNT_TESTS))

.PHONY: clean
clean: ## remove build/
	rm -rf build

.PHONY: format
format: ## lay the code out (.clang-format)
	clang-format -i txn/*.[ch] $(wildcard fs/*.[ch] tools/*.[ch] \
		tests/*/*.[ch])

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | sort

# Keep the objects of tests.
.SECONDARY:
-include $(shell find $(B) -name '*.d' 2>/dev/null)
