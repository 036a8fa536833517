/* SPDX-License-Identifier: GPL-2.0-or-later */
/* env.c - the real clock, randomness and stderr; see env.h. */
#include "txn/env.h"

#include <stdarg.h>
#include <sys/random.h>
#include <time.h>

static int64_t host_now_ns(struct env *env)
{
	struct timespec ts;

	(void)env;
	if (clock_gettime(CLOCK_REALTIME, &ts))
		abort();
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void host_random(struct env *env, void *buf, size_t len)
{
	uint8_t *p = buf;

	(void)env;
	while (len) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			abort();
		p += n;
		len -= (size_t)n;
	}
}

static void host_log(struct env *env, enum env_level level, const char *msg)
{
	static const char *const names[] = { "error", "warning", "notice",
					     "debug" };

	(void)env;
	fprintf(stderr, "txnfs: %s: %s\n", names[level], msg);
}

void env_init_host(struct env *env)
{
	*env = (struct env){ .now_ns = host_now_ns,
			     .random = host_random,
			     .log = host_log };
}

void env_logf(struct env *env, enum env_level level, const char *fmt, ...)
{
	char msg[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	env->log(env, level, msg);
}
