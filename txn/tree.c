/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tree.c - roots, cursors and looking things up; see tree.h. */
#include "txn/tree_internal.h"

#include "txn/repair.h"

/* --- roots --- */

struct root root_get(const struct root *r)
{
	if (r->node)
		node_get(r->node);
	return *r;
}

void root_put(const struct tree *t, struct root *r)
{
	tree_node_put(t, r->node);
	*r = ROOT_EMPTY;
}

bool root_is_dirty(const struct root *r)
{
	return r->node && !node_is_written(r->node);
}

bool root_same(const struct root *a, const struct root *b)
{
	const struct ptr *pa, *pb;

	if (a->node && a->node == b->node)
		return true;
	if (root_is_dirty(a) || root_is_dirty(b))
		return false;
	pa = a->node ? &a->node->ptr : &a->ptr;
	pb = b->node ? &b->node->ptr : &b->ptr;
	return ptr_eq(pa, pb);
}

/* --- nodes --- */

/* A clean node if it is in memory: what the cursor holds counts too, or a
 * restart could miss for ever in a cache that is under pressure. */
static int find_clean(const struct cursor *c, const struct ptr *ptr,
		      struct node **out, bool *held_out, struct ptr *miss)
{
	*out = cache_find(c->tree->cache, ptr);
	*held_out = true;
	if (*out)
		return 0;
	for (size_t i = c->nheld; i-- > 0;)
		if (ptr_eq(&c->held[i]->ptr, ptr)) {
			*out = c->held[i];
			*held_out = false;
			return 0;
		}
	*miss = *ptr;
	return -EAGAIN;
}

int tree_top(const struct cursor *c, const struct root *r, struct node **out,
	     bool *held_out, struct ptr *miss)
{
	if (r->node) {
		*out = r->node;
		*held_out = false;
		return 0;
	}
	if (!r->ptr.pos)
		return 1;
	return find_clean(c, &r->ptr, out, held_out, miss);
}

int tree_child(const struct cursor *c, const struct node *node,
	       unsigned int idx, struct node **out, bool *held_out,
	       struct ptr *miss)
{
	struct ptr ptr;

	if (node->child && node->child[idx]) {
		*out = node->child[idx];
		*held_out = false;
		return 0;
	}
	ptr = node_ptr(node, idx);
	return find_clean(c, &ptr, out, held_out, miss);
}

int tree_fetch_node(const struct tree *t, const struct ptr *ptr, int level,
		    struct node **out)
{
	uint8_t buf[TREE_NODE_MAX];
	int err;

	if (ptr->len < NODE_HEADER_BYTES || ptr->len > TREE_NODE_MAX ||
	    log_head_of(ptr->pos) != LOG_SMALL)
		return -EFSCORRUPTED;
	err = log_read(t->log, ptr->pos, buf, ptr->len);
	if (!err)
		err = node_decode(buf, ptr->len, ptr, level, out);
	if (t->repair && (err == -EFSBADCRC || err == -ENXIO || err == -EIO)) {
		err = repair_node(t->repair, ptr, buf);
		if (!err)
			err = node_decode(buf, ptr->len, ptr, level, out);
	}
	return err == -ENXIO ? -EFSCORRUPTED : err;
}

int tree_read_node(const struct tree *t, const struct ptr *ptr, int level,
		   struct node **out)
{
	struct node *node;
	int err;

	err = tree_fetch_node(t, ptr, level, &node);
	if (err)
		return err;
	cache_add(t->cache, node);
	*out = node;
	return 0;
}

int tree_find_node(const struct tree *t, const struct ptr *ptr, int level,
		   struct node **out)
{
	struct node *node = cache_find(t->cache, ptr);

	if (!node)
		return tree_read_node(t, ptr, level, out);
	if (level >= 0 && node->level != level) {
		clean_node_put(node);
		return -EFSCORRUPTED;
	}
	*out = node;
	return 0;
}

int tree_load_top(const struct tree *t, const struct root *r, struct node **out)
{
	if (r->node) {
		*out = node_get(r->node);
		return 0;
	}
	if (!r->ptr.pos)
		return 1;
	return tree_find_node(t, &r->ptr, -1, out);
}

int tree_load_child(const struct tree *t, const struct node *node,
		    unsigned int idx, struct node **out)
{
	struct ptr ptr;

	if (node->child && node->child[idx]) {
		*out = node_get(node->child[idx]);
		return 0;
	}
	ptr = node_ptr(node, idx);
	return tree_find_node(t, &ptr, node->level - 1, out);
}

/* --- cursors --- */

void cursor_init(struct cursor *c, const struct tree *t, const struct root *r)
{
	/* Not all of the path, for each operation. */
	c->tree = t;
	c->held = NULL;
	c->nheld = c->cap = 0;
	cursor_reset(c, r);
}

void cursor_reset(struct cursor *c, const struct root *r)
{
	c->root = r;
	c->leaf = NULL;
	c->path.node[0] = NULL;
	c->miss = (struct ptr){ 0 };
}

void cursor_release(struct cursor *c)
{
	for (size_t i = 0; i < c->nheld; i++)
		clean_node_put(c->held[i]);
	free(c->held);
	c->held = NULL;
	c->nheld = c->cap = 0;
	cursor_reset(c, NULL);
}

int cursor_hold(struct cursor *c, struct node *node)
{
	if (c->nheld == c->cap) {
		size_t cap = c->cap ? 2 * c->cap : 16;
		struct node **v = realloc(c->held, cap * sizeof(struct node *));

		if (!v) {
			clean_node_put(node);
			return -ENOMEM;
		}
		c->held = v;
		c->cap = cap;
	}
	c->held[c->nheld++] = node;
	return 0;
}

int tree_load(struct cursor *c)
{
	struct node *node;
	int err;

	ASSERT(c->miss.pos);
	err = tree_find_node(c->tree, &c->miss, -1, &node);
	if (err)
		return err;
	c->miss = (struct ptr){ 0 };
	return cursor_hold(c, node);
}

static int hold_if(struct cursor *c, struct node *node, bool held)
{
	return held ? cursor_hold(c, node) : 0;
}

/* The first and the last key that child idx of the last node may hold. */
static void child_bounds(const struct path *p, unsigned int idx, struct key *lo,
			 struct key *hi)
{
	unsigned int i = idx;

	*lo = KEY(0, 0, 0);
	*hi = KEY_LAST;
	for (int d = p->depth; d >= 0; i = d ? p->idx[d - 1] : 0, d--)
		if (i) {
			*lo = node_key(p->node[d], i);
			break;
		}
	i = idx;
	for (int d = p->depth; d >= 0; i = d ? p->idx[d - 1] : 0, d--)
		if (i + 1u < p->node[d]->n) {
			*hi = key_before(node_key(p->node[d], i + 1u));
			break;
		}
}

/* A tree whose levels do not count down by one, or whose nodes hold what
 * belongs to others, came from bad pointers. */
static int step_down(struct cursor *c, struct path *p, unsigned int idx)
{
	struct node *parent = p->node[p->depth], *node;
	struct key lo, hi;
	bool held;
	int err;

	err = tree_child(c, parent, idx, &node, &held, &c->miss);
	if (!err)
		err = hold_if(c, node, held);
	if (err)
		return err;
	if (node->level + 1 != parent->level)
		return -EFSCORRUPTED;
	/* What we made of nodes that were within theirs is, too. */
	if (!node->dirty) {
		child_bounds(p, idx, &lo, &hi);
		if (!node_in_bounds(node, &lo, &hi))
			return -EFSCORRUPTED;
	}
	p->idx[p->depth] = idx;
	p->node[++p->depth] = node;
	return 0;
}

static int start_path(struct cursor *c)
{
	struct node *node;
	bool held;
	int err;

	err = tree_top(c, c->root, &node, &held, &c->miss);
	if (err)
		return err;
	err = hold_if(c, node, held);
	if (err)
		return err;
	if (node->level >= TREE_HEIGHT_MAX)
		return -EFSCORRUPTED;
	c->path.depth = 0;
	c->path.node[0] = node;
	return 0;
}

/* To the leaf for key, c->path; as far as it goes the same way as the last one,
 * nothing is looked for. 1: the tree is empty. */
static int find_leaf(struct cursor *c, const struct key *key)
{
	struct path *p = &c->path;
	int err = 0;

	if (!p->node[0])
		err = start_path(c);
	for (int d = 0; !err && p->node[d]->level; d++) {
		unsigned int idx = node_child_idx(p->node[d], key);

		if (d < p->depth && idx == p->idx[d])
			continue;
		p->depth = d;
		err = step_down(c, p, idx);
	}
	return err;
}

/* The leaf of the last hit, when it holds key's place for certain. */
static bool in_last_leaf(const struct cursor *c, const struct key *key)
{
	struct key k;

	if (!c->leaf || !c->leaf->n)
		return false;
	k = node_key(c->leaf, 0);
	if (key_cmp(key, &k) < 0)
		return false;
	k = node_key(c->leaf, c->leaf->n - 1u);
	return key_cmp(key, &k) <= 0;
}

int tree_leaf(struct cursor *c, const struct key *key, struct node **leaf_out)
{
	int err;

	*leaf_out = c->leaf;
	if (in_last_leaf(c, key))
		return 0;
	err = find_leaf(c, key);
	if (!err)
		*leaf_out = c->path.node[c->path.depth];
	return err;
}

static int take_item(struct cursor *c, struct node *leaf, unsigned int idx,
		     struct key *key_out, struct val *val_out)
{
	c->leaf = leaf;
	if (key_out)
		*key_out = node_key(leaf, idx);
	if (val_out)
		*val_out = node_val(leaf, idx);
	return 0;
}

int tree_get(struct cursor *c, const struct key *key, struct val *val_out)
{
	struct node *leaf;
	struct key k;
	unsigned int i;
	int err;

	err = tree_leaf(c, key, &leaf);
	if (err)
		return err;
	i = node_lower_bound(leaf, key);
	if (i == leaf->n)
		return 1;
	k = node_key(leaf, i);
	if (key_cmp(&k, key))
		return 1;
	return take_item(c, leaf, i, NULL, val_out);
}

/* From the end of one leaf to the first item of the next. 1: there is none. */
static int next_leaf(struct cursor *c, struct path *p)
{
	int err;

	while (p->depth) {
		const struct node *parent = p->node[--p->depth];

		if (p->idx[p->depth] + 1u >= parent->n)
			continue;
		err = step_down(c, p, p->idx[p->depth] + 1u);
		while (!err && p->node[p->depth]->level)
			err = step_down(c, p, 0);
		return err;
	}
	return 1;
}

static int prev_leaf(struct cursor *c, struct path *p)
{
	int err;

	while (p->depth) {
		p->depth--;
		if (!p->idx[p->depth])
			continue;
		err = step_down(c, p, p->idx[p->depth] - 1u);
		while (!err && p->node[p->depth]->level)
			err = step_down(c, p, p->node[p->depth]->n - 1u);
		return err;
	}
	return 1;
}

int tree_next(struct cursor *c, const struct key *from, const struct key *to,
	      struct key *key_out, struct val *val_out)
{
	struct node *leaf;
	unsigned int i;
	struct key k;
	int err;

	err = tree_leaf(c, from, &leaf);
	if (err)
		return err;
	i = node_lower_bound(leaf, from);
	if (i == leaf->n) {
		err = next_leaf(c, &c->path);
		if (err)
			return err;
		leaf = c->path.node[c->path.depth];
		i = 0;
	}
	k = node_key(leaf, i);
	if (key_cmp(&k, to) > 0)
		return 1;
	return take_item(c, leaf, i, key_out, val_out);
}

int tree_prev(struct cursor *c, const struct key *from, const struct key *to,
	      struct key *key_out, struct val *val_out)
{
	struct node *leaf;
	unsigned int i;
	struct key k;
	int err;

	err = find_leaf(c, to);
	if (err)
		return err;
	leaf = c->path.node[c->path.depth];
	i = node_lower_bound(leaf, to);
	if (i < leaf->n) {
		k = node_key(leaf, i);
		if (!key_cmp(&k, to))
			i++;
	}
	if (!i) {
		err = prev_leaf(c, &c->path);
		if (err)
			return err;
		leaf = c->path.node[c->path.depth];
		i = leaf->n;
	}
	k = node_key(leaf, --i);
	if (key_cmp(&k, from) < 0)
		return 1;
	return take_item(c, leaf, i, key_out, val_out);
}
