/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cache.c - see cache.h: hash tables with a lock and an LRU list each. */
#include "txn/cache.h"

#include <pthread.h>

enum { SHARDS = 16, BUCKETS_FIRST = 64 };

struct shard {
	pthread_mutex_t lock; /* guards what follows */
	struct node **buckets;
	size_t nbuckets; /* power of two */
	size_t n;
	struct node *newest, *oldest;
	uint64_t bytes;
};

struct cache {
	uint64_t shard_bytes; /* bound of each */
	struct shard shards[SHARDS];
};

static uint64_t mix(uint64_t pos)
{
	pos *= 0x9e3779b97f4a7c15ULL;
	return pos ^ pos >> 32;
}

static struct shard *shard_of(struct cache *cache, uint64_t pos)
{
	return &cache->shards[mix(pos) % SHARDS];
}

static struct node **bucket_of(struct shard *s, uint64_t pos)
{
	return &s->buckets[(mix(pos) / SHARDS) & (s->nbuckets - 1)];
}

static uint64_t node_memory(const struct node *node)
{
	return sizeof(*node) + node->cap + node->n * sizeof(*node->off);
}

void clean_node_put(struct node *node)
{
	if (node && !__atomic_sub_fetch(&node->refs, 1, __ATOMIC_ACQ_REL))
		node_free_memory(node);
}

int cache_new(uint64_t max_bytes, struct cache **cache_out)
{
	struct cache *cache;

	cache = calloc(1, sizeof(*cache));
	if (!cache)
		return -ENOMEM;
	cache->shard_bytes = max_bytes / SHARDS;
	for (int i = 0; i < SHARDS; i++)
		pthread_mutex_init(&cache->shards[i].lock, NULL);
	for (int i = 0; i < SHARDS; i++) {
		struct shard *s = &cache->shards[i];

		s->buckets = calloc(BUCKETS_FIRST, sizeof(*s->buckets));
		if (!s->buckets) {
			cache_free(cache);
			return -ENOMEM;
		}
		s->nbuckets = BUCKETS_FIRST;
	}
	*cache_out = cache;
	return 0;
}

/* Under the lock, as all that follow. */
static void lru_remove(struct shard *s, struct node *node)
{
	if (node->lru_prev)
		node->lru_prev->lru_next = node->lru_next;
	else
		s->newest = node->lru_next;
	if (node->lru_next)
		node->lru_next->lru_prev = node->lru_prev;
	else
		s->oldest = node->lru_prev;
}

static void lru_add(struct shard *s, struct node *node)
{
	node->lru_prev = NULL;
	node->lru_next = s->newest;
	if (s->newest)
		s->newest->lru_prev = node;
	else
		s->oldest = node;
	s->newest = node;
}

static void drop(struct shard *s, struct node *node)
{
	struct node **p = bucket_of(s, node->ptr.pos);

	while (*p != node)
		p = &(*p)->next;
	*p = node->next;
	lru_remove(s, node);
	s->n--;
	s->bytes -= node_memory(node);
	clean_node_put(node);
}

/* Longer chains are slower, not wrong: no memory is no error here. */
static void grow(struct shard *s)
{
	size_t n = s->nbuckets * 2;
	struct node **old = s->buckets, **v = calloc(n, sizeof(*v));
	size_t nold = s->nbuckets;

	if (!v)
		return;
	s->buckets = v;
	s->nbuckets = n;
	for (size_t i = 0; i < nold; i++) {
		while (old[i]) {
			struct node *node = old[i];
			struct node **p = bucket_of(s, node->ptr.pos);

			old[i] = node->next;
			node->next = *p;
			*p = node;
		}
	}
	free(old);
}

struct node *cache_find(struct cache *cache, const struct ptr *ptr)
{
	struct shard *s = shard_of(cache, ptr->pos);
	struct node *node;

	pthread_mutex_lock(&s->lock);
	node = *bucket_of(s, ptr->pos);
	while (node && node->ptr.pos != ptr->pos)
		node = node->next;
	if (node && !ptr_eq(&node->ptr, ptr))
		node = NULL;
	if (node) {
		node_get(node);
		if (s->newest != node) {
			lru_remove(s, node);
			lru_add(s, node);
		}
	}
	pthread_mutex_unlock(&s->lock);
	return node;
}

void cache_add(struct cache *cache, struct node *node)
{
	struct shard *s = shard_of(cache, node->ptr.pos);
	struct node **p, *old;

	pthread_mutex_lock(&s->lock);
	p = bucket_of(s, node->ptr.pos);
	for (old = *p; old; old = old->next)
		if (old->ptr.pos == node->ptr.pos)
			break;
	if (old)
		goto out;
	if (s->n >= s->nbuckets) {
		grow(s);
		p = bucket_of(s, node->ptr.pos);
	}
	node_get(node);
	node->next = *p;
	*p = node;
	lru_add(s, node);
	s->n++;
	s->bytes += node_memory(node);
	while (s->bytes > cache->shard_bytes && s->oldest != node)
		drop(s, s->oldest);
out:
	pthread_mutex_unlock(&s->lock);
}

void cache_drop(struct cache *cache)
{
	for (int i = 0; i < SHARDS; i++) {
		struct shard *s = &cache->shards[i];

		pthread_mutex_lock(&s->lock);
		while (s->oldest)
			drop(s, s->oldest);
		pthread_mutex_unlock(&s->lock);
	}
}

void cache_free(struct cache *cache)
{
	if (!cache)
		return;
	cache_drop(cache);
	for (int i = 0; i < SHARDS; i++) {
		free(cache->shards[i].buckets);
		pthread_mutex_destroy(&cache->shards[i].lock);
	}
	free(cache);
}

uint64_t cache_bytes(struct cache *cache)
{
	uint64_t bytes = 0;

	for (int i = 0; i < SHARDS; i++) {
		struct shard *s = &cache->shards[i];

		pthread_mutex_lock(&s->lock);
		bytes += s->bytes;
		pthread_mutex_unlock(&s->lock);
	}
	return bytes;
}
