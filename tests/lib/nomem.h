/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nomem.h - allocations that fail. A program that uses this is linked with the
 * functions wrapped, by lines as in tests/crash/test_memory.c (malloc, calloc,
 * realloc, strdup and strndup; see Makefile), so it reaches every allocation of
 * our own code, of any thread, but not those of libraries. Those of a simulated
 * device do not count.
 */
#ifndef TESTS_LIB_NOMEM_H
#define TESTS_LIB_NOMEM_H

#include "txn/base.h"

/* From now on the nth (1, ...) allocation fails, or all from it on. */
void nomem_start(uint64_t nth, bool for_ever);
/* How many failed. From now on none does. */
uint64_t nomem_stop(void);

#endif
