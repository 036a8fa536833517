/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * base.h - what every file of the project relies on: assertions, integer
 * access to bytes on disk, the errors for damage, refused functions.
 *
 * ASSERT is for our own mistakes and stays on in release builds; it is never
 * used on what comes from the disk, the kernel or the user.
 */
#ifndef TXN_BASE_H
#define TXN_BASE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#ifndef EFSCORRUPTED
#define EFSCORRUPTED EUCLEAN /* damage found: impossible contents */
#endif
#ifndef EFSBADCRC
#define EFSBADCRC EBADMSG /* damage found: a checksum does not match */
#endif

#define ASSERT(c)                                                              \
	((c) ? (void)0 : assert_failed(__FILE__, __LINE__, __func__, #c))

#ifdef TXN_SLOW_CHECKS
#define ASSERT_SLOW(c) ASSERT(c)
#else
#define ASSERT_SLOW(c) ((void)0)
#endif

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(p, type, member)                                          \
	((type *)(void *)((char *)(p)-offsetof(type, member)))

/* Told on standard error and, since a daemon has none, in the system log. */
_Noreturn void assert_failed(const char *file, int line, const char *func,
			     const char *cond);

/*
 * For programs, before they open anything: what a caller left behind does no
 * harm. Descriptors 0 to 2 are there, and using one that was closed fails (else
 * a file of the store gets its number, and what is meant for people is written
 * into it); no signal is blocked; children can be waited for; what is made is
 * for us to open again, and nobody else's to change (umask 022); files may be
 * as large as we are allowed to have them, and one that is larger is an error,
 * not the end. 0 or -errno.
 */
int process_begin(void);

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Of n elements of `size` bytes, ascending by a uint64_t `off` bytes into each:
 * the first one in which that is not below value, or n. */
static inline size_t array_lower_bound(const void *v, size_t n, size_t size,
				       size_t off, uint64_t value)
{
	size_t lo = 0, hi = n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		uint64_t at;

		memcpy(&at, (const uint8_t *)v + mid * size + off, sizeof(at));
		if (at < value)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* align is a power of two */
static inline uint64_t round_up_u64(uint64_t v, uint64_t align)
{
	return (v + align - 1) & ~(align - 1);
}

static inline uint16_t get_le16(const void *p)
{
	const uint8_t *b = p;

	return (uint16_t)(b[0] | (unsigned int)b[1] << 8);
}

static inline uint32_t get_le32(const void *p)
{
	const uint8_t *b = p;

	return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 |
	       (uint32_t)b[3] << 24;
}

static inline uint64_t get_le64(const void *p)
{
	const uint8_t *b = p;

	return (uint64_t)get_le32(b) | (uint64_t)get_le32(b + 4) << 32;
}

static inline void put_le16(void *p, uint16_t v)
{
	uint8_t *b = p;

	b[0] = (uint8_t)v;
	b[1] = (uint8_t)(v >> 8);
}

static inline void put_le32(void *p, uint32_t v)
{
	uint8_t *b = p;

	b[0] = (uint8_t)v;
	b[1] = (uint8_t)(v >> 8);
	b[2] = (uint8_t)(v >> 16);
	b[3] = (uint8_t)(v >> 24);
}

static inline void put_le64(void *p, uint64_t v)
{
	uint8_t *b = p;

	put_le32(b, (uint32_t)v);
	put_le32(b + 4, (uint32_t)(v >> 32));
}

#include "banned.h"

#endif
