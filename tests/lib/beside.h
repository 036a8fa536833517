/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * beside.h - a thread that does one thing beside a test, which may have to
 * wait: the test goes on when it is done, or is seen to wait, and so knows who
 * waits for whom without sleeping itself.
 *
 *	beside_start(&b, fn, arg);
 *	assert_false(beside_is_done(&b));
 *	... what it waits for ...
 *	beside_join(&b);
 */
#ifndef TESTS_LIB_BESIDE_H
#define TESTS_LIB_BESIDE_H

#include <pthread.h>
#include <stdbool.h>

struct beside {
	void (*fn)(void *arg);
	void *arg;
	pthread_t thread;
	long tid; /* atomic; 0: it has not begun */
	bool done; /* atomic */
};

void beside_start(struct beside *b, void (*fn)(void *arg), void *arg);
bool beside_is_done(const struct beside *b);
void beside_join(struct beside *b);

#endif
