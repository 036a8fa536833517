/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node.h - one node of a tree in memory: sorted items in a block of bytes, and
 * its form on disk (FORMAT.md 4).
 *
 * A clean node was decoded from the log: it has a pointer, never changes and
 * lives as long as somebody holds it (the cache does). A dirty node was made
 * in memory under a generation; it may be changed only by the owner of that
 * generation, and is frozen once the owner goes on to another. Frozen nodes
 * are written out by one thread while others read them: node_set_written() is
 * the only thing that happens to them.
 *
 * Dirty internal nodes hold their dirty children in memory; where child is
 * NULL the item's value is the child's pointer.
 *
 * Reference counts are atomic; all else follows the rules above.
 */
#ifndef TXN_NODE_H
#define TXN_NODE_H

#include "txn/format.h"
#include "txn/log.h"
#include "txn/tree.h"

enum {
	NODE_PAYLOAD_MAX = TREE_NODE_MAX - NODE_HEADER_BYTES,
	NODE_ITEMS_MAX = NODE_PAYLOAD_MAX / ITEM_HEADER_BYTES,
	NODE_CHILDREN_MAX = NODE_PAYLOAD_MAX / (ITEM_HEADER_BYTES + PTR_BYTES),
	/* A node may be split into pieces none of which is fuller than this, so
	 * that one more item always fits. */
	NODE_SPLIT_BYTES = NODE_PAYLOAD_MAX - ITEM_HEADER_BYTES - TREE_VALUE_MAX
};

struct node {
	int refs; /* atomic */
	bool dirty; /* made in memory; ptr is valid once written */
	uint8_t level;
	uint16_t n; /* items */
	uint16_t live; /* bytes of items */
	uint16_t used; /* bytes of data, items no longer live too */
	uint16_t cap; /* size of data */
	int written; /* atomic */
	uint64_t gen;
	struct ptr ptr;
	struct key low; /* while being built: separator for the parent */
	struct node *next; /* pool, result lists; cache chains (clean) */
	struct node *lru_prev, *lru_next; /* cache (clean) */
	struct node **child; /* dirty internal nodes: by item */
	uint16_t *off; /* of items in data, sorted by key */
	uint8_t *data;
	struct lbuf *buf; /* that holds data; NULL: it follows the node */
};

/* A dirty node with full capacity, empty; NULL: no memory. */
struct node *node_new(void);
struct node *node_get(struct node *node);
/* Releases the memory of this node only; children are the tree's business. */
void node_free_memory(struct node *node);

bool node_is_written(const struct node *node);
void node_set_written(struct node *node, const struct ptr *ptr);

struct key node_key(const struct node *node, unsigned int idx);
struct val node_val(const struct node *node, unsigned int idx);
struct ptr node_ptr(const struct node *node, unsigned int idx);
/* The same key and value? Of dirty internal nodes: where there is no child. */
bool node_same_item(const struct node *a, unsigned int i, const struct node *b,
		    unsigned int j);
/* First item with a key >= *key; n when there is none. */
unsigned int node_lower_bound(const struct node *node, const struct key *key);
/* The child whose range holds *key. */
unsigned int node_child_idx(const struct node *node, const struct key *key);

static inline size_t item_bytes(size_t value_len)
{
	return ITEM_HEADER_BYTES + value_len;
}

/*
 * Do the keys lie between *lo and *hi, which its parents give it (I5)? The
 * first separator of an internal node may be lower: there the parent's bound
 * counts. A tree in which this holds for each node on the way is walked in the
 * time that its leaves take, however its pointers were made.
 */
bool node_in_bounds(const struct node *node, const struct key *lo,
		    const struct key *hi);

/* Does an item fit (after tidying)? */
bool node_fits(const struct node *node, size_t value_len);
/* Dirty nodes. The item must fit and not exist; val may be NULL: zeros. child
 * may be NULL (its reference is taken over). */
void node_insert(struct node *node, unsigned int idx, const struct key *key,
		 const uint8_t *val, size_t len, struct node *child);
void node_remove(struct node *node, unsigned int idx);
/* Empty again. */
void node_clear(struct node *node, uint8_t level);
/* Another value of the same length. */
void node_set_val(struct node *node, unsigned int idx, const uint8_t *val);
/* What src holds, to a dirty node; children get one more reference. */
void node_copy(struct node *dst, const struct node *src);

void ptr_encode(const struct ptr *ptr, uint8_t buf[PTR_BYTES]);
struct ptr ptr_decode(const uint8_t buf[PTR_BYTES]);

/* --- on disk --- */

size_t node_encoded_bytes(const struct node *node);
/* Everything but the position, see node_seal. Children must be written. */
void node_encode(const struct node *node, uint8_t *buf);
/* Fill in the position and return the whole pointer. */
struct ptr node_seal(uint64_t pos, uint8_t *buf, size_t len);

/* The clean node that node_decode() would make of what node_encode() and
 * node_seal() have made of node. It shares the bytes; NULL: no memory. */
struct node *node_of_encoded(const struct node *node, struct lbuf *buf,
			     const struct ptr *ptr);

/*
 * Any bytes. A clean node with one reference, or -EFSBADCRC, -EFSCORRUPTED,
 * -ENOMEM. level: what the parent expects, -1: any.
 */
int node_decode(const uint8_t *buf, size_t len, const struct ptr *ptr,
		int level, struct node **node_out);

#endif
