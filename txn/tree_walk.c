/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tree_walk.c - whole trees: writing out, comparing, walking, checking. */
#include "txn/pace.h"
#include "txn/tree_internal.h"

#include <inttypes.h>
#include <stdarg.h>

/* --- writing out --- */

static void seal_node(void *arg, uint64_t pos, struct lbuf *buf)
{
	struct ptr *ptr = arg;

	*ptr = node_seal(pos, buf->data, buf->len);
}

/* Readers of later generations find the node by its pointer from now on. */
static void cache_copy(const struct tree *t, const struct node *node,
		       struct lbuf *buf, const struct ptr *ptr)
{
	struct node *copy = node_of_encoded(node, buf, ptr);

	/* Without memory for it the node is read when it is needed. */
	if (!copy)
		return;
	cache_add(t->cache, copy);
	clean_node_put(copy);
}

static int write_node(const struct tree *t, struct node *node, uint64_t *bytes)
{
	struct lbuf *buf;
	struct ptr ptr;
	uint64_t pos;
	int err;

	if (!node || node_is_written(node))
		return 0;
	pace();
	if (node->level)
		for (unsigned int i = 0; i < node->n; i++) {
			err = write_node(t, node->child[i], bytes);
			if (err)
				return err;
		}
	buf = lbuf_new(node_encoded_bytes(node));
	if (!buf)
		return -ENOMEM;
	node_encode(node, buf->data);
	lbuf_get(buf);
	err = log_append_sealed(t->log, LOG_SMALL, 1, buf, seal_node, &ptr,
				&pos);
	if (err) {
		lbuf_put(buf);
		lbuf_put(buf);
		return err;
	}
	cache_copy(t, node, buf, &ptr);
	*bytes += buf->len;
	lbuf_put(buf);
	node_set_written(node, &ptr);
	pool_written(t, node);
	return 0;
}

int tree_write_out(const struct tree *t, struct root *root, uint64_t *bytes_out)
{
	uint64_t bytes = 0;
	int err;

	err = write_node(t, root->node, &bytes);
	if (bytes_out)
		*bytes_out = bytes;
	if (err)
		return err;
	if (root->node)
		root->ptr = root->node->ptr;
	return 0;
}

/* --- comparing --- */

/* What an iterator stands on: an item of a leaf, or a subtree that was not
 * entered. No key from here on is below low; none of the subtree above high. */
struct entry {
	bool is_item;
	uint8_t level; /* of the subtree's top */
	struct key low; /* the key of an item */
	struct key high;
	struct node *node; /* the subtree in memory, or NULL */
	struct ptr ptr;
};

struct iter {
	const struct tree *t;
	const struct root *root;
	int depth; /* -1: stands on the whole tree; -2: at the end */
	struct node *node[TREE_HEIGHT_MAX]; /* held */
	unsigned int idx[TREE_HEIGHT_MAX];
	struct key low[TREE_HEIGHT_MAX], high[TREE_HEIGHT_MAX];
	struct entry at;
};

static void entry_of_node(struct entry *e, struct node *node)
{
	e->node = node;
	e->level = node->level;
	e->ptr = node_is_written(node) ? node->ptr : (struct ptr){ 0 };
}

static void iter_look(struct iter *it)
{
	struct node *node = it->node[it->depth];
	unsigned int i = it->idx[it->depth];
	struct entry *e = &it->at;

	*e = (struct entry){ .is_item = !node->level };
	e->low = node->level && !i ? it->low[it->depth] : node_key(node, i);
	if (!node->level)
		return;
	e->level = (uint8_t)(node->level - 1);
	e->high = it->high[it->depth];
	if (i + 1u < node->n)
		e->high = key_before(node_key(node, i + 1u));
	if (node->child && node->child[i])
		entry_of_node(e, node->child[i]);
	else
		e->ptr = node_ptr(node, i);
}

static int iter_start(struct iter *it, const struct tree *t,
		      const struct root *root)
{
	struct node *top;
	int err;

	*it = (struct iter){ .t = t, .root = root, .depth = -1 };
	err = tree_load_top(t, root, &top);
	if (err == 1) {
		it->depth = -2;
		return 0;
	}
	if (err)
		return err;
	it->at.low = KEY(0, 0, 0);
	it->at.high = KEY_LAST;
	entry_of_node(&it->at, top);
	tree_node_put(t, top); /* the root holds it, or it is found again */
	if (!root->node)
		it->at.node = NULL;
	return 0;
}

static void iter_release(struct iter *it)
{
	while (it->depth >= 0)
		tree_node_put(it->t, it->node[it->depth--]);
	it->depth = -2;
}

/* Past the item or the subtree. */
static void iter_skip(struct iter *it)
{
	if (it->depth == -1)
		it->depth = -2;
	while (it->depth >= 0) {
		if (++it->idx[it->depth] < it->node[it->depth]->n) {
			iter_look(it);
			return;
		}
		tree_node_put(it->t, it->node[it->depth]);
		if (--it->depth < 0)
			it->depth = -2;
	}
}

/* Into the subtree. */
static int iter_enter(struct iter *it)
{
	struct node *node;
	int err;

	pace();
	if (it->depth == -1)
		err = tree_load_top(it->t, it->root, &node);
	else
		err = tree_load_child(it->t, it->node[it->depth],
				      it->idx[it->depth], &node);
	if (err)
		return err;
	if (it->depth + 1 >= TREE_HEIGHT_MAX ||
	    !node_in_bounds(node, &it->at.low, &it->at.high)) {
		tree_node_put(it->t, node);
		return -EFSCORRUPTED;
	}
	it->depth++;
	it->node[it->depth] = node;
	it->idx[it->depth] = 0;
	it->low[it->depth] = it->at.low;
	it->high[it->depth] = it->at.high;
	iter_look(it);
	return 0;
}

static bool same_subtree(const struct entry *a, const struct entry *b)
{
	if (a->is_item || b->is_item)
		return false;
	if (a->node && a->node == b->node)
		return true;
	return a->ptr.pos && ptr_eq(&a->ptr, &b->ptr);
}

static struct val iter_val(const struct iter *it)
{
	return node_val(it->node[it->depth], it->idx[it->depth]);
}

/* Report the item of a, of b or, when both are given, of both. */
static int report(struct iter *a, struct iter *b, tree_diff_fn fn, void *arg)
{
	struct val va, vb;
	struct key key;
	int err = 0;

	ASSERT(a || b);
	/* cppcheck-suppress nullPointerRedundantCheck */
	key = a ? a->at.low : b->at.low;
	if (a)
		va = iter_val(a);
	if (b)
		vb = iter_val(b);
	if (!a || !b || va.len != vb.len || memcmp(va.p, vb.p, va.len))
		err = fn(arg, &key, a ? &va : NULL, b ? &vb : NULL);
	if (a)
		iter_skip(a);
	if (b)
		iter_skip(b);
	return err;
}

/* The same item, or a subtree that has the same address. */
static bool same_place(const struct node *a, unsigned int i,
		       const struct node *b, unsigned int j)
{
	const struct node *ca = a->child ? a->child[i] : NULL;
	const struct node *cb = b->child ? b->child[j] : NULL;

	if (a->level && (ca || cb))
		return ca == cb;
	return node_same_item(a, i, b, j);
}

/* Where both stand in nodes of one level, most of what follows is the same:
 * past all of it but the last of a node at once. */
static void skip_same(struct iter *a, struct iter *b)
{
	const struct node *na, *nb;
	unsigned int i, j;

	if (a->depth < 0 || b->depth < 0)
		return;
	na = a->node[a->depth];
	nb = b->node[b->depth];
	i = a->idx[a->depth];
	j = b->idx[b->depth];
	if (na->level != nb->level)
		return;
	while (i + 1u < na->n && j + 1u < nb->n && same_place(na, i, nb, j)) {
		i++;
		j++;
	}
	if (i == a->idx[a->depth])
		return;
	a->idx[a->depth] = i;
	b->idx[b->depth] = j;
	iter_look(a);
	iter_look(b);
}

/* One step of whichever of the two is behind. */
static int diff_step(struct iter *a, struct iter *b, tree_diff_fn fn, void *arg)
{
	bool has_a = a->depth != -2, has_b = b->depth != -2;
	int c, err;

	if (has_a && has_b && same_subtree(&a->at, &b->at)) {
		iter_skip(a);
		iter_skip(b);
		return 0;
	}
	c = !has_b ? -1 : !has_a ? 1 : key_cmp(&a->at.low, &b->at.low);
	if (c < 0)
		return a->at.is_item ? report(a, NULL, fn, arg) : iter_enter(a);
	if (c > 0)
		return b->at.is_item ? report(NULL, b, fn, arg) : iter_enter(b);
	if (a->at.is_item && b->at.is_item)
		return report(a, b, fn, arg);
	if (b->at.is_item || (!a->at.is_item && a->at.level > b->at.level))
		return iter_enter(a);
	if (a->at.is_item || b->at.level > a->at.level)
		return iter_enter(b);
	err = iter_enter(a);
	return err ? err : iter_enter(b);
}

int tree_diff(const struct tree *t, const struct root *a, const struct root *b,
	      tree_diff_fn fn, void *arg)
{
	struct iter ia, ib;
	int err;

	if (root_same(a, b))
		return 0;
	err = iter_start(&ia, t, a);
	if (err)
		return err;
	err = iter_start(&ib, t, b);
	while (!err && (ia.depth != -2 || ib.depth != -2)) {
		skip_same(&ia, &ib);
		err = diff_step(&ia, &ib, fn, arg);
	}
	iter_release(&ia);
	iter_release(&ib);
	return err;
}

/* --- walking what is new --- */

struct walk {
	const struct tree *t;
	uint64_t small_limit;
	tree_item_fn fn;
	void *arg;
};

static int walk(const struct walk *w, const struct ptr *ptr, int level,
		const struct key *lo, const struct key *hi)
{
	struct node *node;
	int err;

	if (ptr->pos < w->small_limit)
		return 0;
	pace();
	err = tree_read_node(w->t, ptr, level, &node);
	if (err)
		return err;
	if (!node_in_bounds(node, lo, hi))
		err = -EFSCORRUPTED;
	for (unsigned int i = 0; !err && i < node->n; i++) {
		struct key key = node_key(node, i), from = *lo, to = *hi;

		if (node->level) {
			struct ptr child = node_ptr(node, i);

			if (i)
				from = key;
			if (i + 1u < node->n)
				to = key_before(node_key(node, i + 1u));
			err = walk(w, &child, node->level - 1, &from, &to);
		} else if (w->fn) {
			struct val val = node_val(node, i);

			err = w->fn(w->arg, &key, &val);
		}
	}
	clean_node_put(node);
	return err;
}

int tree_walk_new(const struct tree *t, const struct ptr *root,
		  uint64_t small_limit, tree_item_fn fn, void *arg)
{
	const struct walk w = { t, small_limit, fn, arg };
	const struct key first = KEY(0, 0, 0), last = KEY_LAST;

	if (!root->pos)
		return 0;
	return walk(&w, root, -1, &first, &last);
}

/* --- checking --- */

struct check {
	const struct tree *t;
	char *why;
	size_t why_bytes;
};

static int bad(struct check *c, const struct node *node, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int bad(struct check *c, const struct node *node, const char *fmt, ...)
{
	va_list ap;
	int n = snprintf(c->why, c->why_bytes,
			 "node at %#" PRIx64 ", level %u: ", node->ptr.pos,
			 node->level);

	va_start(ap, fmt);
	if (n >= 0 && (size_t)n < c->why_bytes)
		vsnprintf(c->why + n, c->why_bytes - (size_t)n, fmt, ap);
	va_end(ap);
	return -EFSCORRUPTED;
}

static int check_items(struct check *c, const struct node *node,
		       const struct key *lo, const struct key *hi)
{
	size_t live = 0;

	if (!node->n)
		return bad(c, node, "no items");
	for (unsigned int i = 0; i < node->n; i++) {
		struct key key = node_key(node, i), prev;
		struct val val = node_val(node, i);

		live += item_bytes(val.len);
		/* The first separator of an internal node may be anything at
		 * or below its child's keys: its bound comes from above. */
		if ((i || !node->level) && key_cmp(&key, lo) < 0)
			return bad(c, node, "item %u below the bound", i);
		if (hi && key_cmp(&key, hi) >= 0)
			return bad(c, node, "item %u above the bound", i);
		if (i) {
			prev = node_key(node, i - 1);
			if (key_cmp(&prev, &key) >= 0)
				return bad(c, node, "item %u out of order", i);
		}
		if (node->level ? val.len != PTR_BYTES
				: val.len > TREE_VALUE_MAX)
			return bad(c, node, "item %u: %zu bytes", i, val.len);
	}
	if (live != node->live || live > NODE_PAYLOAD_MAX)
		return bad(c, node, "%zu bytes of items, not %u", live,
			   node->live);
	return 0;
}

static int check_node(struct check *c, const struct node *node,
		      const struct key *lo, const struct key *hi)
{
	int err = check_items(c, node, lo, hi);

	if (err || !node->level)
		return err;
	for (unsigned int i = 0; !err && i < node->n; i++) {
		bool last = i + 1u == node->n;
		struct key from = *lo, to = { 0 };
		struct node *child;

		if (i)
			from = node_key(node, i);
		if (!last)
			to = node_key(node, i + 1u);
		err = tree_load_child(c->t, node, i, &child);
		if (err) {
			(void)bad(c, node, "child %u: %s", i, strerror(-err));
			return err;
		}
		if (child->level + 1 != node->level)
			err = bad(c, node, "child %u has level %u", i,
				  child->level);
		else
			err = check_node(c, child, &from, last ? hi : &to);
		tree_node_put(c->t, child);
	}
	return err;
}

int tree_check(const struct tree *t, const struct root *r, char *why,
	       size_t why_bytes)
{
	struct check c = { t, why, why_bytes };
	struct key lo = KEY(0, 0, 0);
	struct node *top;
	int err;

	err = tree_load_top(t, r, &top);
	if (err == 1)
		return 0;
	if (err) {
		snprintf(why, why_bytes, "top node: %s", strerror(-err));
		return err;
	}
	if (top->level && top->n < 2)
		err = bad(&c, top, "a top with one child");
	else
		err = check_node(&c, top, &lo, NULL);
	tree_node_put(t, top);
	return err;
}

static void dump_node(const struct tree *t, const struct node *node, FILE *out)
{
	int indent = 2 * (TREE_HEIGHT_MAX - node->level) % 32;

	fprintf(out, "%*slevel %u, %u items, %u bytes, %s %#" PRIx64 "\n",
		indent, "", node->level, node->n, node->live,
		node_is_written(node) ? "at" : "dirty, generation",
		node_is_written(node) ? node->ptr.pos : node->gen);
	for (unsigned int i = 0; i < node->n; i++) {
		struct key key = node_key(node, i);
		struct node *child;
		int err;

		fprintf(out, "%*s  (%#" PRIx64 ", %u, %#" PRIx64 ")", indent,
			"", key.obj, key.kind, key.off);
		if (!node->level) {
			fprintf(out, " %zu bytes\n", node_val(node, i).len);
			continue;
		}
		fputc('\n', out);
		err = tree_load_child(t, node, i, &child);
		if (err) {
			fprintf(out, "%*s  %s\n", indent, "", strerror(-err));
			continue;
		}
		dump_node(t, child, out);
		tree_node_put(t, child);
	}
}

void tree_dump(const struct tree *t, const struct root *r, FILE *out)
{
	struct node *top;
	int err = tree_load_top(t, r, &top);

	if (err == 1) {
		fputs("empty\n", out);
	} else if (err) {
		fprintf(out, "top node: %s\n", strerror(-err));
	} else {
		dump_node(t, top, out);
		tree_node_put(t, top);
	}
}
