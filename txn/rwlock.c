/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rwlock.c - see rwlock.h. RWLOCK_EXCLUSIVE is set from when somebody asks for
 * it exclusive: from then on nobody gets it shared but those whom the one
 * before lets in when he gives it up. It is set and taken back under the lock
 * only.
 */
#include "txn/rwlock.h"

#define RWLOCK_EXCLUSIVE ((uint64_t)1)
#define RWLOCK_SHARED ((uint64_t)2)

void rwlock_init(struct rwlock *l)
{
	*l = (struct rwlock){ 0 };
	pthread_mutex_init(&l->turn, NULL);
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->shared_cond, NULL);
	pthread_cond_init(&l->exclusive_cond, NULL);
}

void rwlock_destroy(struct rwlock *l)
{
	pthread_cond_destroy(&l->exclusive_cond);
	pthread_cond_destroy(&l->shared_cond);
	pthread_mutex_destroy(&l->lock);
	pthread_mutex_destroy(&l->turn);
}

static bool try_shared(struct rwlock *l)
{
	uint64_t state = __atomic_load_n(&l->state, __ATOMIC_RELAXED);

	while (!(state & RWLOCK_EXCLUSIVE))
		if (__atomic_compare_exchange_n(
			    &l->state, &state, state + RWLOCK_SHARED, true,
			    __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return true;
	return false;
}

void rwlock_lock_shared(struct rwlock *l)
{
	uint64_t phase;

	if (try_shared(l))
		return;
	pthread_mutex_lock(&l->lock);
	if (!try_shared(l)) {
		l->nwaiting++;
		/* Who ends the phase counts us as holders. */
		phase = l->phase;
		while (l->phase == phase)
			pthread_cond_wait(&l->shared_cond, &l->lock);
	}
	pthread_mutex_unlock(&l->lock);
}

void rwlock_unlock_shared(struct rwlock *l)
{
	uint64_t state = __atomic_sub_fetch(&l->state, RWLOCK_SHARED,
					    __ATOMIC_RELEASE);

	if (state != RWLOCK_EXCLUSIVE)
		return;
	pthread_mutex_lock(&l->lock);
	pthread_cond_signal(&l->exclusive_cond);
	pthread_mutex_unlock(&l->lock);
}

void rwlock_lock_exclusive(struct rwlock *l)
{
	pthread_mutex_lock(&l->turn);
	pthread_mutex_lock(&l->lock);
	__atomic_or_fetch(&l->state, RWLOCK_EXCLUSIVE, __ATOMIC_ACQUIRE);
	while (__atomic_load_n(&l->state, __ATOMIC_ACQUIRE) !=
	       RWLOCK_EXCLUSIVE)
		pthread_cond_wait(&l->exclusive_cond, &l->lock);
	pthread_mutex_unlock(&l->lock);
}

void rwlock_unlock_exclusive(struct rwlock *l)
{
	pthread_mutex_lock(&l->lock);
	ASSERT(__atomic_load_n(&l->state, __ATOMIC_RELAXED) ==
	       RWLOCK_EXCLUSIVE);
	__atomic_store_n(&l->state, l->nwaiting * RWLOCK_SHARED,
			 __ATOMIC_RELEASE);
	if (l->nwaiting) {
		l->nwaiting = 0;
		l->phase++;
		pthread_cond_broadcast(&l->shared_cond);
	}
	pthread_mutex_unlock(&l->lock);
	pthread_mutex_unlock(&l->turn);
}
