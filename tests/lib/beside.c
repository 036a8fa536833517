/* SPDX-License-Identifier: GPL-2.0-or-later */
/* beside.c - see beside.h. */
#include "tests/lib/beside.h"

#include "tests/lib/test.h"

#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { DEADLINE_SECONDS = 60 };

static void *run(void *arg)
{
	struct beside *b = arg;

	__atomic_store_n(&b->tid, syscall(SYS_gettid), __ATOMIC_SEQ_CST);
	b->fn(b->arg);
	__atomic_store_n(&b->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

static bool waits(const struct beside *b)
{
	long tid = __atomic_load_n(&b->tid, __ATOMIC_SEQ_CST);
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

void beside_start(struct beside *b, void (*fn)(void *arg), void *arg)
{
	time_t end = time(NULL) + DEADLINE_SECONDS;

	*b = (struct beside){ .fn = fn, .arg = arg };
	assert_int_equal(pthread_create(&b->thread, NULL, run, b), 0);
	while (!beside_is_done(b) && !waits(b)) {
		assert_true(time(NULL) < end);
		sched_yield();
	}
}

bool beside_is_done(const struct beside *b)
{
	return __atomic_load_n(&b->done, __ATOMIC_SEQ_CST);
}

void beside_join(struct beside *b)
{
	assert_int_equal(pthread_join(b->thread, NULL), 0);
}
