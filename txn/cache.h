/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cache.h - the clean nodes of all trees of a store, found by position, bounded
 * in bytes; the least recently used go first. A node that somebody holds stays
 * alive after it was dropped here.
 *
 * Threads: any.
 */
#ifndef TXN_CACHE_H
#define TXN_CACHE_H

#include "txn/node.h"

struct cache;

int cache_new(uint64_t max_bytes, struct cache **cache_out);
void cache_free(struct cache *cache); /* NULL is fine */

/* A reference for the caller; NULL: not here (or another node is at pos). */
struct node *cache_find(struct cache *cache, const struct ptr *ptr);
/* Takes a reference of its own. A node that is here already stays. */
void cache_add(struct cache *cache, struct node *node);
/* Forget everything (tests). */
void cache_drop(struct cache *cache);
uint64_t cache_bytes(struct cache *cache);

/* Drop a reference to a clean node. */
void clean_node_put(struct node *node);

#endif
