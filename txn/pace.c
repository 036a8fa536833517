/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pace.c - see pace.h. */
#include "txn/pace.h"

#include "txn/base.h"

#include <time.h>

#define PACE_NS 500000
#define PACE_SLEEP_NS 1000
/* Who did not call for so long was waiting for something, or begins. */
#define PACE_BEGIN_NS 10000000

static _Thread_local int64_t last_ns;
static _Thread_local bool paces;

static int64_t now_ns(void)
{
	struct timespec ts;

	if (clock_gettime(CLOCK_MONOTONIC, &ts))
		abort();
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void pace_begin(void)
{
	paces = true;
	last_ns = now_ns();
}

void pace_end(void)
{
	paces = false;
}

void pace(void)
{
	const struct timespec moment = { .tv_nsec = PACE_SLEEP_NS };
	int64_t now;

	if (!paces)
		return;
	now = now_ns();
	if (now - last_ns < PACE_NS)
		return;
	if (now - last_ns < PACE_BEGIN_NS) {
		(void)nanosleep(&moment, NULL);
		now = now_ns();
	}
	last_ns = now;
}
