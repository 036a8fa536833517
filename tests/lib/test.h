/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test.h - what every test program includes: cmocka with its prerequisites,
 * a random generator whose seed is printed and can be given in SEED, and a look
 * at other threads.
 */
#ifndef TESTS_LIB_TEST_H
#define TESTS_LIB_TEST_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* xorshift64*; the same numbers everywhere. */
struct rng {
	uint64_t s;
};

static inline uint64_t rng_next(struct rng *r)
{
	r->s ^= r->s >> 12;
	r->s ^= r->s << 25;
	r->s ^= r->s >> 27;
	return r->s * 0x2545f4914f6cdd1dULL;
}

/* 0 <= result < n */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
	return rng_next(r) % n;
}

/* SEED from the environment, else fallback; told on stderr. */
static inline uint64_t test_seed(uint64_t fallback)
{
	const char *s = getenv("SEED");
	uint64_t seed = s ? strtoull(s, NULL, 0) : fallback;

	fprintf(stderr, "SEED=%" PRIu64 "\n", seed);
	return seed ? seed : 1;
}

/* Environment variable as a number, for longer runs. */
static inline uint64_t test_param(const char *name, uint64_t fallback)
{
	const char *s = getenv(name);

	return s ? strtoull(s, NULL, 0) : fallback;
}

/* A thread that was about to make a call which may wait: does it? 0: it has
 * not told its number yet. */
static inline bool thread_is_asleep(long tid)
{
	char path[64], text[256] = "", state = '?';
	const char *at;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%ld/stat", tid);
	file = tid ? fopen(path, "re") : NULL;
	if (!file)
		return false;
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	(void)fclose(file);
	at = strrchr(text, ')');
	return at && sscanf(at, ") %c", &state) == 1 && state == 'S';
}

#endif
