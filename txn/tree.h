/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tree.h - the copy-on-write B+tree: fixed-size keys, small values, immutable
 * nodes addressed by (position, length, checksum).
 *
 * A struct root names one complete state. Nodes in memory are either clean
 * (decoded from the log, in the cache, shared by everybody) or dirty: not yet
 * written, carrying the generation of the view that made them. A dirty node
 * may be changed in place only under that very generation; anybody else
 * copies it first. So whoever wants a state to stay takes its root and gives
 * the view a new generation (I6): freezing costs nothing.
 *
 * The tree knows no locks. Readers and the one writer of a root are kept apart
 * by its owner (view.h); roots that are frozen may be read by any number of
 * threads. No function here waits for the device while reading or changing:
 * where a node is not in memory the call returns -EAGAIN with the pointer in
 * cursor->miss; load it with tree_load() outside every lock and start again.
 * A change is prepared in full before the first byte changes, so that
 * -EAGAIN, -ENOMEM and damage leave the root as it was.
 *
 * Values are at most TREE_VALUE_MAX bytes. Bytes on disk: FORMAT.md 4.
 */
#ifndef TXN_TREE_H
#define TXN_TREE_H

#include "txn/base.h"

struct log;
struct cache;
struct node;

enum {
	TREE_NODE_MAX = 4096, /* encoded bytes of a node */
	TREE_VALUE_MAX = 1000, /* so that at least three items share a leaf */
	TREE_HEIGHT_MAX = 16
};

/* Ordered by obj, kind, off. The meaning is the user's (fs/item.h, catalog). */
struct key {
	uint64_t obj;
	uint64_t off;
	uint8_t kind;
};

#define KEY(o, k, f) ((struct key){ .obj = (o), .off = (f), .kind = (k) })
#define KEY_LAST KEY(UINT64_MAX, UINT8_MAX, UINT64_MAX)

static inline int key_cmp(const struct key *a, const struct key *b)
{
	if (a->obj != b->obj)
		return a->obj < b->obj ? -1 : 1;
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	if (a->off != b->off)
		return a->off < b->off ? -1 : 1;
	return 0;
}

/* The key before k, which is not the lowest. */
static inline struct key key_before(struct key k)
{
	if (k.off--)
		return k;
	if (k.kind--)
		return k;
	k.obj--;
	return k;
}

struct val {
	const uint8_t *p;
	size_t len;
};

/* Address of a node. pos 0: the empty tree. */
struct ptr {
	uint64_t pos;
	uint64_t sum;
	uint32_t len;
};

static inline bool ptr_eq(const struct ptr *a, const struct ptr *b)
{
	return a->pos == b->pos && a->len == b->len && a->sum == b->sum;
}

/* One state. node (one reference held) is set while the root is dirty, or was
 * written but is still held in memory; else ptr names it. */
struct root {
	struct node *node;
	struct ptr ptr;
};

#define ROOT_EMPTY ((struct root){ 0 })

/* What the trees of one store share. Owned by the store. */
struct tree {
	struct log *log;
	struct cache *cache;
	struct tree_pool *pool; /* spare nodes, counters of dirty ones */
	struct repair *repair; /* may be NULL: heals nodes as they are read */
};

int tree_init(struct tree *t, struct log *log, struct cache *cache);
void tree_release(struct tree *t); /* a zeroed one is fine */

struct root root_get(const struct root *r); /* another reference */
/* Becomes empty; the last reference frees dirty nodes. */
void root_put(const struct tree *t, struct root *r);
/* Same state for certain; false may still be equal contents. */
bool root_same(const struct root *a, const struct root *b);
bool root_is_dirty(const struct root *r); /* has nodes not yet written */

/* The nodes from the top to a leaf, and which child of each comes next. */
struct path {
	struct node *node[TREE_HEIGHT_MAX]; /* node[0] NULL: none yet */
	unsigned int idx[TREE_HEIGHT_MAX];
	int depth; /* of the last */
};

/*
 * A reader's hold on the nodes that it looked at: values stay valid until
 * cursor_release() (dirty nodes: until the owner's lock is dropped).
 */
struct cursor {
	const struct tree *tree;
	const struct root *root;
	struct ptr miss; /* set with -EAGAIN */
	struct node **held; /* clean nodes kept in memory */
	size_t nheld, cap;
	struct node *leaf; /* of the last hit, for the next one */
	struct path path; /* the last one gone, for the next */
};

void cursor_init(struct cursor *c, const struct tree *t, const struct root *r);
/* Forget the position, keep the holds: before looking again after a restart
 * or a change of the root. */
void cursor_reset(struct cursor *c, const struct root *r);
void cursor_release(struct cursor *c);

/* 0 found, 1 not there, -EAGAIN, -EFSBADCRC, -EFSCORRUPTED, -EIO, -ENOMEM. */
int tree_get(struct cursor *c, const struct key *key, struct val *val_out);
/* First item with from <= key <= to; 1: none. */
int tree_next(struct cursor *c, const struct key *from, const struct key *to,
	      struct key *key_out, struct val *val_out);
/* Last item with from <= key <= to; 1: none. */
int tree_prev(struct cursor *c, const struct key *from, const struct key *to,
	      struct key *key_out, struct val *val_out);

/* Read a node from the log and verify it, past the cache. level -1: any. */
int tree_fetch_node(const struct tree *t, const struct ptr *ptr, int level,
		    struct node **out);

/* Bring c->miss into memory and hold it. May wait for the device. */
int tree_load(struct cursor *c);

/* Changes to apply together. Keys may come in any order; later ones win. */
enum change_op { CHANGE_PUT, CHANGE_DEL, CHANGE_DEL_RANGE };

struct batch {
	struct change *v;
	size_t n, cap;
	uint8_t *bytes; /* values, appended */
	size_t nbytes, bytes_cap;
};

void batch_init(struct batch *b);
void batch_reset(struct batch *b); /* empty, memory kept */
void batch_release(struct batch *b);
int batch_put(struct batch *b, const struct key *key, const void *val,
	      size_t len);
int batch_del(struct batch *b, const struct key *key); /* absent: no error */
int batch_del_range(struct batch *b, const struct key *from,
		    const struct key *to);

/*
 * Apply all of a batch to *root under generation gen, or nothing. c is used to
 * hold nodes and report a miss (its root is ignored). A range deletion drops
 * whole subtrees without reading them: its cost is the tree's height.
 */
int tree_apply(struct cursor *c, struct root *root, uint64_t gen,
	       const struct batch *b);

/*
 * Append all dirty nodes of a frozen root to the log's small head, children
 * first, and set root->ptr; the written copies enter the cache. The caller
 * keeps others from writing the same nodes at the same time (commit queue).
 * The nodes in memory stay valid for readers that hold them. *bytes_out (may
 * be NULL): bytes appended.
 */
int tree_write_out(const struct tree *t, struct root *root,
		   uint64_t *bytes_out);

/*
 * Walk two roots and report every key whose value differs, in key order;
 * subtrees with equal pointers are skipped without being read. a or b is NULL
 * where the key does not exist. Both roots are frozen. May wait for the
 * device. A return of fn other than 0 ends the walk with it.
 */
typedef int (*tree_diff_fn)(void *arg, const struct key *key,
			    const struct val *a, const struct val *b);
int tree_diff(const struct tree *t, const struct root *a, const struct root *b,
	      tree_diff_fn fn, void *arg);

/*
 * Visit every node at or above a position limit for each head, parents first:
 * recovery (limits: what was known flushed) and verification (limits 0) use
 * it. Each node is read and verified; fn is called for each leaf's items (fn
 * may be NULL). A pointer below the limit is skipped with its subtree.
 */
typedef int (*tree_item_fn)(void *arg, const struct key *key,
			    const struct val *val);
int tree_walk_new(const struct tree *t, const struct ptr *root,
		  uint64_t small_limit, tree_item_fn fn, void *arg);

/* Invariants of one state (I5): order, bounds, levels, fill. 0 or
 * -EFSCORRUPTED with a text. May wait for the device. */
int tree_check(const struct tree *t, const struct root *r, char *why,
	       size_t why_bytes);
/* Readable form of a state, for debugging. */
void tree_dump(const struct tree *t, const struct root *r, FILE *out);

struct tree_stats {
	uint64_t dirty_nodes; /* all generations, all views */
	uint64_t dirty_bytes;
};
void tree_get_stats(const struct tree *t, struct tree_stats *out);

#endif
