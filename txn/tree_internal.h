/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tree_internal.h - what the tree*.c files share. */
#ifndef TXN_TREE_INTERNAL_H
#define TXN_TREE_INTERNAL_H

#include "txn/cache.h"
#include "txn/node.h"
#include "txn/tree.h"

/* One change of a batch; its value lies in batch->bytes. */
struct change {
	enum change_op op;
	struct key key, to; /* to: last key of a range */
	size_t val_off, val_len;
	size_t seq;
};

/* --- tree_pool.c: dirty nodes --- */

/* A dirty node of this tree, claimed and counted; NULL: no memory. */
struct node *pool_take(const struct tree *t);
/* Nodes that were taken ahead and not used come back by this. */
void pool_give(const struct tree *t, struct node *node);
/* It was written: its claim ends. */
void pool_written(const struct tree *t, struct node *node);
/* Drop a reference to any node, dirty ones with what only they hold. */
void tree_node_put(const struct tree *t, struct node *node);

/* --- tree.c --- */

/* The top node. 0, 1: the tree is empty, -EAGAIN with *miss. A clean node is
 * returned with a reference (held_out true) unless the cursor holds it, a
 * dirty one without. */
int tree_top(const struct cursor *c, const struct root *r, struct node **out,
	     bool *held_out, struct ptr *miss);
int tree_child(const struct cursor *c, const struct node *node,
	       unsigned int idx, struct node **out, bool *held_out,
	       struct ptr *miss);
/* The leaf in which key is or would be; 1: the tree is empty. Kept by the
 * cursor, when it is clean. */
int tree_leaf(struct cursor *c, const struct key *key, struct node **leaf_out);
/* Keep a clean node, whose reference is taken over, until cursor_release. On
 * -ENOMEM the reference is dropped. */
int cursor_hold(struct cursor *c, struct node *node);
/* Read, verify, add to the cache; a reference for the caller. level -1: any. */
int tree_read_node(const struct tree *t, const struct ptr *ptr, int level,
		   struct node **out);
/* The same, the cache first. */
int tree_find_node(const struct tree *t, const struct ptr *ptr, int level,
		   struct node **out);
/* As tree_top and tree_child, reading what is not in memory; always with a
 * reference (dirty nodes too), tree_node_put() it. */
int tree_load_top(const struct tree *t, const struct root *r,
		  struct node **out);
int tree_load_child(const struct tree *t, const struct node *node,
		    unsigned int idx, struct node **out);

#endif
