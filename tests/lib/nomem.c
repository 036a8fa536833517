/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nomem.c - see nomem.h. The names are those that the linker makes. */
#include "tests/lib/nomem.h"

#include "tests/lib/simdev.h"

static struct {
	uint64_t left; /* atomic: until one fails; 0: off */
	uint64_t refused; /* atomic */
	bool for_ever;
} state;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

void nomem_start(uint64_t nth, bool for_ever)
{
	state.for_ever = for_ever;
	__atomic_store_n(&state.refused, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&state.left, nth, __ATOMIC_SEQ_CST);
}

uint64_t nomem_stop(void)
{
	__atomic_store_n(&state.left, 0, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&state.refused, __ATOMIC_SEQ_CST);
}

static bool refuse(void)
{
	uint64_t left = __atomic_load_n(&state.left, __ATOMIC_SEQ_CST), next;

	if (simdev_is_inside())
		return false;
	do {
		if (!left)
			return false;
		next = left > 1 ? left - 1 : state.for_ever;
	} while (!__atomic_compare_exchange_n(&state.left, &left, next, false,
					      __ATOMIC_SEQ_CST,
					      __ATOMIC_SEQ_CST));
	if (left > 1)
		return false;
	__atomic_add_fetch(&state.refused, 1, __ATOMIC_SEQ_CST);
	return true;
}

void *__wrap_malloc(size_t size)
{
	return refuse() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return refuse() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return refuse() ? NULL : __real_realloc(p, size);
}

char *__wrap_strdup(const char *s)
{
	return refuse() ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n)
{
	return refuse() ? NULL : __real_strndup(s, n);
}
