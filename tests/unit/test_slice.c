/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/slice.h"

#include "tests/lib/test.h"

#include <pthread.h>
#include <sys/resource.h>

static void *look(void *arg)
{
	*(uint64_t *)arg = slice_get();
	return NULL;
}

static uint64_t slice_of_new_thread(void)
{
	uint64_t ns = 1;
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, look, &ns), 0);
	assert_int_equal(pthread_join(t, NULL), 0);
	return ns;
}

static void test_a_slice_is_for_the_threads_that_follow(void **state)
{
	uint64_t before = slice_get();
	int nice = getpriority(PRIO_PROCESS, 0);

	if (!before)
		skip(); /* this kernel has none */
	slice_set(SLICE_BACKGROUND_NS);
	assert_int_equal(slice_get(), SLICE_BACKGROUND_NS);
	assert_int_equal(slice_of_new_thread(), SLICE_BACKGROUND_NS);
	slice_set(SLICE_DEFAULT);
	assert_true(slice_get() < SLICE_BACKGROUND_NS);
	assert_int_equal(slice_of_new_thread(), slice_get());
	assert_int_equal(getpriority(PRIO_PROCESS, 0), nice);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_slice_is_for_the_threads_that_follow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
