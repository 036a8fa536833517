/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * env.h - what the store takes from the world besides its device: the clock,
 * randomness and a place for messages. Passed in, so that tests decide.
 *
 * All functions may be called from any thread.
 */
#ifndef TXN_ENV_H
#define TXN_ENV_H

#include "txn/base.h"

enum env_level { ENV_ERROR, ENV_WARNING, ENV_NOTICE, ENV_DEBUG };

struct env {
	/* Wall clock, nanoseconds since 1970. */
	int64_t (*now_ns)(struct env *env);
	/* Fill buf with random bytes; cannot fail (abort instead). */
	void (*random)(struct env *env, void *buf, size_t len);
	/* One message, without a newline at its end. */
	void (*log)(struct env *env, enum env_level level, const char *msg);
	void *priv;
};

/* The real world: clock_gettime, getrandom, stderr. */
void env_init_host(struct env *env);

void env_logf(struct env *env, enum env_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
