/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tree_pool.c - dirty nodes: where they come from and go. A few spare ones are
 * kept, because every change of a tree takes some ahead and gives most of them
 * back. Each dirty node that is not yet written has a claim on the log.
 */
#include "txn/tree_internal.h"

#include <pthread.h>

enum { SPARE_MAX = 64 };

struct tree_pool {
	pthread_mutex_t lock; /* guards the next two */
	struct node *spare;
	unsigned int nspare;
	uint64_t dirty_nodes; /* atomic */
};

int tree_init(struct tree *t, struct log *log, struct cache *cache)
{
	struct tree_pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return -ENOMEM;
	pthread_mutex_init(&pool->lock, NULL);
	*t = (struct tree){ .log = log, .cache = cache, .pool = pool };
	return 0;
}

void tree_release(struct tree *t)
{
	struct tree_pool *pool = t->pool;

	if (!pool)
		return;
	while (pool->spare) {
		struct node *node = pool->spare;

		pool->spare = node->next;
		node_free_memory(node);
	}
	pthread_mutex_destroy(&pool->lock);
	free(pool);
	*t = (struct tree){ 0 };
}

static void count(const struct tree *t, bool more)
{
	if (more) {
		__atomic_add_fetch(&t->pool->dirty_nodes, 1, __ATOMIC_RELAXED);
		log_claim(t->log, LOG_SMALL, TREE_NODE_MAX);
	} else {
		__atomic_sub_fetch(&t->pool->dirty_nodes, 1, __ATOMIC_RELAXED);
		log_unclaim(t->log, LOG_SMALL, TREE_NODE_MAX);
	}
}

struct node *pool_take(const struct tree *t)
{
	struct tree_pool *pool = t->pool;
	struct node *node;

	pthread_mutex_lock(&pool->lock);
	node = pool->spare;
	if (node) {
		pool->spare = node->next;
		pool->nspare--;
	}
	pthread_mutex_unlock(&pool->lock);
	if (!node)
		node = node_new();
	if (!node)
		return NULL;
	node->refs = 1;
	node->written = 0;
	node->ptr = (struct ptr){ 0 };
	node->next = NULL;
	count(t, true);
	return node;
}

static void recycle(const struct tree *t, struct node *node)
{
	struct tree_pool *pool = t->pool;

	pthread_mutex_lock(&pool->lock);
	if (pool->nspare < SPARE_MAX) {
		node->next = pool->spare;
		pool->spare = node;
		pool->nspare++;
		node = NULL;
	}
	pthread_mutex_unlock(&pool->lock);
	if (node)
		node_free_memory(node);
}

void pool_give(const struct tree *t, struct node *node)
{
	count(t, false);
	recycle(t, node);
}

void pool_written(const struct tree *t, struct node *node)
{
	count(t, false);
}

void tree_node_put(const struct tree *t, struct node *node)
{
	if (!node || __atomic_sub_fetch(&node->refs, 1, __ATOMIC_ACQ_REL))
		return;
	if (!node->dirty) {
		node_free_memory(node);
		return;
	}
	if (node->level)
		for (unsigned int i = 0; i < node->n; i++)
			tree_node_put(t, node->child[i]);
	if (!node_is_written(node))
		count(t, false);
	recycle(t, node);
}

void tree_get_stats(const struct tree *t, struct tree_stats *out)
{
	out->dirty_nodes =
		__atomic_load_n(&t->pool->dirty_nodes, __ATOMIC_RELAXED);
	out->dirty_bytes = out->dirty_nodes * TREE_NODE_MAX;
}
