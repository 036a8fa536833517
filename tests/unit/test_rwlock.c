/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "txn/rwlock.h"

#include "tests/lib/test.h"

#include <sched.h>

enum { THREADS = 4, ROUNDS = 20000 };

struct shared {
	struct rwlock lock;
	uint64_t a, b; /* equal, but while somebody has the lock exclusive */
	uint64_t seen_apart; /* atomic */
	uint64_t inside; /* atomic: who has it shared */
};

static void *change(void *arg)
{
	struct shared *s = arg;

	for (int i = 0; i < ROUNDS; i++) {
		rwlock_lock_exclusive(&s->lock);
		s->a++;
		if (!(i % 64))
			sched_yield();
		s->b++;
		rwlock_unlock_exclusive(&s->lock);
	}
	return NULL;
}

static void *look(void *arg)
{
	struct shared *s = arg;

	for (int i = 0; i < ROUNDS; i++) {
		rwlock_lock_shared(&s->lock);
		if (s->a != s->b)
			__atomic_add_fetch(&s->seen_apart, 1, __ATOMIC_RELAXED);
		if (!(i % 64))
			sched_yield();
		rwlock_unlock_shared(&s->lock);
	}
	return NULL;
}

static void test_nobody_sees_a_change_half_done(void **state)
{
	pthread_t t[2 * THREADS];
	struct shared s = { 0 };

	rwlock_init(&s.lock);
	for (int i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_create(&t[i], NULL, change, &s), 0);
		assert_int_equal(pthread_create(&t[THREADS + i], NULL, look,
						&s),
				 0);
	}
	for (int i = 0; i < 2 * THREADS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(s.a, THREADS * ROUNDS);
	assert_int_equal(s.b, THREADS * ROUNDS);
	assert_int_equal(s.seen_apart, 0);
	rwlock_destroy(&s.lock);
}

/* Each waits, inside, until all are. */
static void *meet(void *arg)
{
	struct shared *s = arg;

	rwlock_lock_shared(&s->lock);
	__atomic_add_fetch(&s->inside, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&s->inside, __ATOMIC_SEQ_CST) < THREADS)
		sched_yield();
	rwlock_unlock_shared(&s->lock);
	return NULL;
}

static void test_many_have_it_shared_at_once(void **state)
{
	struct shared s = { 0 };
	pthread_t t[THREADS];

	rwlock_init(&s.lock);
	rwlock_lock_exclusive(&s.lock);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, meet, &s), 0);
	assert_int_equal(__atomic_load_n(&s.inside, __ATOMIC_SEQ_CST), 0);
	rwlock_unlock_exclusive(&s.lock);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	rwlock_lock_exclusive(&s.lock); /* nobody is left inside */
	rwlock_unlock_exclusive(&s.lock);
	rwlock_destroy(&s.lock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nobody_sees_a_change_half_done),
		cmocka_unit_test(test_many_have_it_shared_at_once)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
