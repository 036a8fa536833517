/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test.h - what every test program includes: cmocka with its prerequisites,
 * a random generator whose seed is printed and can be given in SEED, parameters
 * from the environment, and a struct env that is silent.
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

#include "txn/env.h"

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

static inline void test_log_nothing(struct env *env, enum env_level level,
				    const char *text)
{
}

/* The host's clock and randomness; what is said goes nowhere. */
static inline void test_env_init(struct env *env)
{
	env_init_host(env);
	env->log = test_log_nothing;
}

#endif
