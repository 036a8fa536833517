/* SPDX-License-Identifier: GPL-2.0-or-later */
/* LDFLAGS: -shared -fPIC -ldl */
/*
 * jitter.c - preloaded into the daemon: now and then a thread waits for a
 * moment before it takes a lock, so that what two do at once comes in every
 * order.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

enum { ONE_OF = 16, WAIT_US = 300 };

int pthread_mutex_lock(pthread_mutex_t *lock)
{
	static int (*next)(pthread_mutex_t *);
	static _Thread_local uint32_t x;

	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "pthread_mutex_lock");
	if (!x)
		x = (uint32_t)(uintptr_t)&x | 1;
	x = x * 1664525 + 1013904223;
	if (!((x >> 16) % ONE_OF))
		(void)usleep((x >> 8) % WAIT_US);
	return next(lock);
}
