/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sum.h - XXH3-64, the checksum of everything in the store (FORMAT.md), and
 * the hash of tables.
 *
 * On x86 the library has its loops for SSE2, AVX2 and AVX-512 and takes the
 * widest that the processor knows, where it was built so (Debian's is, and
 * installs this header then): 4 KiB take 160 ns instead of 350 to 500. Short
 * inputs have no such loop, and the way there costs them more than it brings.
 * The result is the same everywhere.
 */
#ifndef TXN_SUM_H
#define TXN_SUM_H

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#define XXH_DISPATCH_DISABLE_REPLACE
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#define XXH3_64bits_dispatch XXH3_64bits
#endif

enum { SUM_SHORT_MAX = 240 };

static inline uint64_t sum64(const void *buf, size_t len)
{
	return len > SUM_SHORT_MAX ? XXH3_64bits_dispatch(buf, len)
				   : XXH3_64bits(buf, len);
}

#endif
