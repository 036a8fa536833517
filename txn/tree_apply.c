/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tree_apply.c - changing a tree: all of a batch or nothing.
 *
 * The batch is put in order first: what wins for each key, and ranges to
 * delete that do not overlap. Then two passes over the touched part of the
 * tree, which take the same steps (work_next): the first one only
 * asks (is every node in memory? how many new nodes at most?), the second one
 * cannot fail.
 *
 * Most batches are a few changes in leaves of the view's own generation that
 * neither overflow nor get small: those are made there, without either pass.
 *
 * A node of the view's own generation changes in place when the result fits;
 * any other is rebuilt as new nodes, and its parent with it. A node that lost
 * items and is small is merged with a neighbour that is in memory.
 */
#include "txn/tree_internal.h"

enum {
	CHILD_ITEM_BYTES = ITEM_HEADER_BYTES + PTR_BYTES,
	SMALL_BYTES = NODE_PAYLOAD_MAX / 4, /* try to merge below this */
	MERGED_MAX_BYTES = NODE_PAYLOAD_MAX / 4 * 3, /* room to grow again */
	PATH_FIRST = 24,
	FEW = 8 /* changes that need no memory of their own */
};

/* Keys to delete; those of a batch ascend and do not overlap. */
struct range {
	struct key from, to;
};

/* Ranges that overlap, v[first..last), as one. */
struct cluster {
	size_t first, last;
};

/* Where the arrays begin. */
struct few {
	struct change points[FEW];
	struct range ranges[FEW];
	struct node *path[PATH_FIRST];
};

struct apply {
	struct cursor *c;
	const struct tree *t;
	uint64_t gen;
	const uint8_t *bytes; /* of values */
	struct change *points; /* ascending keys, one each; PUT or DEL */
	size_t npoints;
	struct range *ranges;
	size_t nranges;
	/* Touched nodes in the order of both passes. */
	struct node **path;
	size_t npath, path_cap, path_at;
	size_t need; /* new nodes at most */
	struct node *pool; /* taken ahead */
	struct few *few;
};

/* What is to be done in the part of the tree that holds [lo, hi]. */
struct work {
	const struct change *p, *pend;
	const struct range *r, *rend;
	struct key lo, hi;
};

struct step {
	unsigned int idx; /* of the child */
	bool covered; /* all of it goes */
	struct work work;
};

/* What became of a node. */
struct result {
	bool kept; /* still the same node; else replaced by the list */
	bool shrunk; /* lost items, perhaps small now */
	unsigned int n;
	struct node *first, *last;
};

/* --- the batch in order --- */

static int cmp_change(const void *pa, const void *pb)
{
	const struct change *a = pa, *b = pb;
	int c = key_cmp(&a->key, &b->key);

	if (c)
		return c;
	return a->seq < b->seq ? -1 : a->seq > b->seq;
}

/* Does a later range of v[0..n) delete the point? *covered_out: an earlier one
 * deletes what was there before it. */
static bool is_undone(const struct change *v, size_t n,
		      const struct change *point, bool *covered_out)
{
	bool covered = false;

	for (size_t i = 0; i < n; i++) {
		if (key_cmp(&v[i].to, &point->key) < 0 ||
		    key_cmp(&v[i].key, &point->key) > 0)
			continue;
		covered = true;
		if (v[i].seq > point->seq)
			return true;
	}
	*covered_out = covered;
	return false;
}

static void merge_ranges(struct apply *a, const struct change *v, size_t n,
			 struct cluster *clusters)
{
	size_t m = 0;

	for (size_t i = 0; i < n; i++) {
		struct range *last = m ? &a->ranges[m - 1] : NULL;

		if (last && key_cmp(&v[i].key, &last->to) <= 0) {
			if (key_cmp(&v[i].to, &last->to) > 0)
				last->to = v[i].to;
			clusters[m - 1].last = i + 1;
			continue;
		}
		a->ranges[m] = (struct range){ v[i].key, v[i].to };
		clusters[m] = (struct cluster){ i, i + 1 };
		m++;
	}
	a->nranges = m;
}

static void keep_points(struct apply *a, const struct change *v,
			const struct cluster *clusters)
{
	size_t n = a->npoints, m = 0, r = 0;

	for (size_t i = 0; i < n; i++) {
		struct change *p = &a->points[i];
		bool covered = false;

		if (i + 1 < n && !key_cmp(&p->key, &a->points[i + 1].key))
			continue; /* a later one wins */
		while (r < a->nranges && key_cmp(&a->ranges[r].to, &p->key) < 0)
			r++;
		if (r < a->nranges &&
		    is_undone(v + clusters[r].first,
			      clusters[r].last - clusters[r].first, p,
			      &covered))
			continue;
		if (covered && p->op == CHANGE_DEL)
			continue;
		a->points[m++] = *p;
	}
	a->npoints = m;
}

static void sort_changes(struct change *v, size_t n)
{
	if (n > FEW) {
		qsort(v, n, sizeof(*v), cmp_change);
		return;
	}
	for (size_t i = 1; i < n; i++) {
		struct change c = v[i];
		size_t at = i;

		for (; at && cmp_change(&v[at - 1], &c) > 0; at--)
			v[at] = v[at - 1];
		v[at] = c;
	}
}

/* few, when there are no more; else NULL without memory. */
static void *array_of(size_t n, size_t size, void *few)
{
	return n <= FEW ? few : malloc(n * size);
}

static void array_free(void *v, const void *few)
{
	if (v != few)
		free(v);
}

static int put_in_order(struct apply *a, const struct batch *b)
{
	struct change ranges_few[FEW], *ranges = ranges_few;
	struct cluster clusters_few[FEW], *clusters = clusters_few;
	size_t nr = 0, n = 0;
	int err = -ENOMEM;

	for (size_t i = 0; i < b->n; i++)
		nr += b->v[i].op == CHANGE_DEL_RANGE;
	a->points = array_of(b->n - nr, sizeof(*a->points), a->few->points);
	a->ranges = array_of(nr, sizeof(*a->ranges), a->few->ranges);
	ranges = array_of(nr, sizeof(*ranges), ranges_few);
	clusters = array_of(nr, sizeof(*clusters), clusters_few);
	if (!a->points || !a->ranges || !ranges || !clusters)
		goto out;
	for (size_t i = 0; i < b->n; i++)
		if (b->v[i].op == CHANGE_DEL_RANGE)
			ranges[n++] = b->v[i];
		else
			a->points[a->npoints++] = b->v[i];
	sort_changes(a->points, a->npoints);
	sort_changes(ranges, nr);
	merge_ranges(a, ranges, nr, clusters);
	keep_points(a, ranges, clusters);
	err = 0;
out:
	array_free(ranges, ranges_few);
	array_free(clusters, clusters_few);
	return err;
}

/* --- steps --- */

/* The next child of node that the work touches; false: no more. */
static bool work_next(struct work *w, const struct node *node, struct step *s)
{
	struct key at, next;
	struct work *cw = &s->work;

	while (w->r < w->rend && key_cmp(&w->r->to, &w->lo) < 0)
		w->r++;
	if (w->p == w->pend && w->r == w->rend)
		return false;
	if (w->r < w->rend) {
		at = key_cmp(&w->r->from, &w->lo) > 0 ? w->r->from : w->lo;
		if (w->p < w->pend && key_cmp(&w->p->key, &at) < 0)
			at = w->p->key;
	} else {
		at = w->p->key;
	}
	s->idx = node_child_idx(node, &at);
	*cw = *w;
	if (s->idx)
		cw->lo = node_key(node, s->idx);
	if (s->idx + 1u < node->n) {
		next = node_key(node, s->idx + 1u);
		cw->hi = key_before(next);
	}
	while (w->p < w->pend && key_cmp(&w->p->key, &cw->hi) <= 0)
		w->p++;
	cw->pend = w->p;
	for (cw->rend = cw->r; cw->rend < w->rend; cw->rend++)
		if (key_cmp(&cw->rend->from, &cw->hi) > 0)
			break;
	s->covered = cw->p == cw->pend && cw->r < cw->rend &&
		     key_cmp(&cw->r->from, &cw->lo) <= 0 &&
		     key_cmp(&cw->r->to, &cw->hi) >= 0;
	if (s->idx + 1u < node->n)
		w->lo = next;
	else
		w->r = w->rend;
	return true;
}

static bool is_own(const struct apply *a, const struct node *node)
{
	return node->dirty && node->gen == a->gen;
}

static size_t put_bytes(const struct work *w)
{
	size_t bytes = 0;

	for (const struct change *p = w->p; p < w->pend; p++)
		if (p->op == CHANGE_PUT)
			bytes += item_bytes(p->val_len);
	return bytes;
}

/* --- first pass --- */

static int path_add(struct apply *a, struct node *node)
{
	if (a->npath == a->path_cap) {
		size_t cap = a->path_cap * 2;
		struct node **v = malloc(cap * sizeof(struct node *));

		if (!v)
			return -ENOMEM;
		memcpy(v, a->path, a->npath * sizeof(struct node *));
		array_free(a->path, a->few->path);
		a->path = v;
		a->path_cap = cap;
	}
	a->path[a->npath++] = node;
	return 0;
}

/* The pieces that `bytes` of items may become, see build_start. 0: the node
 * stays in place. */
static size_t pieces(const struct apply *a, const struct node *node,
		     size_t bytes)
{
	if (node && is_own(a, node) && bytes <= NODE_PAYLOAD_MAX)
		return 0;
	return bytes / NODE_SPLIT_BYTES + 1;
}

static int prepare(struct apply *a, struct node *node, struct work w,
		   size_t *pieces_out);

static int prepare_child(struct apply *a, struct node *node,
			 const struct step *s, size_t *pieces_out)
{
	struct node *child;
	bool held;
	int err;

	err = tree_child(a->c, node, s->idx, &child, &held, &a->c->miss);
	if (!err && held)
		err = cursor_hold(a->c, child);
	if (err)
		return err;
	if (child->level + 1 != node->level ||
	    (!child->dirty && !node_in_bounds(child, &s->work.lo, &s->work.hi)))
		return -EFSCORRUPTED;
	return prepare(a, child, s->work, pieces_out);
}

static int prepare(struct apply *a, struct node *node, struct work w,
		   size_t *pieces_out)
{
	size_t bytes = node->live, n;
	struct step s;
	int err;

	err = path_add(a, node);
	if (err)
		return err;
	if (!node->level)
		bytes += put_bytes(&w);
	else
		while (work_next(&w, node, &s)) {
			if (s.covered)
				continue;
			err = prepare_child(a, node, &s, &n);
			if (err)
				return err;
			bytes += n * CHILD_ITEM_BYTES;
		}
	*pieces_out = pieces(a, node, bytes);
	a->need += *pieces_out;
	return 0;
}

static int take_nodes(struct apply *a, size_t top_pieces)
{
	while (top_pieces > 1) {
		top_pieces = pieces(a, NULL, top_pieces * CHILD_ITEM_BYTES);
		a->need += top_pieces;
	}
	for (size_t i = 0; i < a->need; i++) {
		struct node *node = pool_take(a->t);

		if (!node)
			return -ENOMEM;
		node->next = a->pool;
		a->pool = node;
	}
	return 0;
}

/* --- building new nodes --- */

struct build {
	struct apply *a;
	uint8_t level;
	size_t target_bytes; /* a piece is complete when it holds this */
	struct result *res;
};

/*
 * Even pieces: of k = total / NODE_SPLIT_BYTES + 1 pieces each holds total / k
 * bytes and less than one item more, so none overflows and none is left over.
 * full: fill each piece as far as it goes.
 */
static void build_start(struct build *b, struct apply *a, uint8_t level,
			size_t total, bool full, struct result *res)
{
	size_t k = total <= NODE_PAYLOAD_MAX ? 1 : total / NODE_SPLIT_BYTES + 1;

	*b = (struct build){ .a = a,
			     .level = level,
			     .target_bytes = full || k == 1 ? NODE_PAYLOAD_MAX
							    : total / k + 1,
			     .res = res };
	*res = (struct result){ 0 };
}

/* One of those that were taken ahead. */
static struct node *next_node(struct apply *a)
{
	struct node *node = a->pool;

	ASSERT(node);
	a->pool = node->next;
	node->gen = a->gen;
	node->next = NULL;
	return node;
}

/* A node in which everything but a few items stays is a copy, changed in
 * place. */
static struct node *copy_start(struct apply *a, const struct node *old)
{
	struct node *node = next_node(a);

	node_copy(node, old);
	return node;
}

static void copy_end(struct apply *a, struct node *node, struct result *res)
{
	if (!node->n) {
		node->next = a->pool;
		a->pool = node;
		return;
	}
	node->low = node_key(node, 0);
	res->first = res->last = node;
	res->n = 1;
}

static void build_add(struct build *b, const struct key *key,
		      const struct val *val, struct node *child)
{
	struct result *res = b->res;
	struct node *node = res->last;

	if (!node || node->live >= b->target_bytes ||
	    !node_fits(node, val->len)) {
		node = next_node(b->a);
		node_clear(node, b->level);
		node->low = *key;
		if (res->last)
			res->last->next = node;
		else
			res->first = node;
		res->last = node;
		res->n++;
	}
	node_insert(node, node->n, key, val->p, val->len, child);
}

/* --- second pass: leaves --- */

/* Old items and changes, merged. */
struct merge {
	const struct apply *a;
	const struct node *old; /* may be NULL */
	unsigned int i;
	struct work w;
};

static bool in_ranges(struct work *w, const struct key *key)
{
	while (w->r < w->rend && key_cmp(&w->r->to, key) < 0)
		w->r++;
	return w->r < w->rend && key_cmp(&w->r->from, key) <= 0;
}

static bool merge_next(struct merge *m, struct key *key, struct val *val)
{
	for (;;) {
		bool has_old = m->old && m->i < m->old->n;
		int c;

		if (has_old)
			*key = node_key(m->old, m->i);
		else if (m->w.p == m->w.pend)
			return false;
		c = m->w.p == m->w.pend ? -1
		    : !has_old		? 1
					: key_cmp(key, &m->w.p->key);
		if (c <= 0)
			m->i++;
		if (c >= 0) {
			const struct change *p = m->w.p++;

			if (p->op == CHANGE_DEL)
				continue;
			*key = p->key;
			*val = (struct val){ m->a->bytes + p->val_off,
					     p->val_len };
			return true;
		}
		if (in_ranges(&m->w, key))
			continue;
		*val = node_val(m->old, m->i - 1);
		return true;
	}
}

/* Do all puts lie behind what is there, as when names or numbers ascend? */
static bool is_append(const struct node *old, const struct work *w)
{
	struct key last;

	if (!old || w->p == w->pend)
		return false;
	last = node_key(old, old->n - 1u);
	return key_cmp(&w->p->key, &last) > 0;
}

static void rebuild_leaf(struct apply *a, const struct node *old,
			 const struct work *w, struct result *res)
{
	struct merge m = { a, old, 0, *w };
	size_t total = 0;
	struct build b;
	struct key key;
	struct val val;

	while (merge_next(&m, &key, &val))
		total += item_bytes(val.len);
	m = (struct merge){ a, old, 0, *w };
	build_start(&b, a, 0, total, is_append(old, w), res);
	while (merge_next(&m, &key, &val))
		build_add(&b, &key, &val, NULL);
	res->shrunk = old && total < old->live;
}

/* Does the work change anything here? */
static bool leaf_changes(const struct node *leaf, struct work w)
{
	for (const struct change *p = w.p; p < w.pend; p++) {
		unsigned int i;
		struct key k;

		if (p->op == CHANGE_PUT)
			return true;
		i = node_lower_bound(leaf, &p->key);
		if (i == leaf->n)
			continue;
		k = node_key(leaf, i);
		if (!key_cmp(&k, &p->key))
			return true;
	}
	for (unsigned int i = 0; w.r < w.rend && i < leaf->n; i++) {
		struct key k = node_key(leaf, i);

		if (in_ranges(&w, &k))
			return true;
	}
	return false;
}

static void leaf_remove_range(struct node *leaf, const struct range *r)
{
	unsigned int i = node_lower_bound(leaf, &r->from);

	while (i < leaf->n) {
		struct key k = node_key(leaf, i);

		if (key_cmp(&k, &r->to) > 0)
			break;
		node_remove(leaf, i);
	}
}

static void leaf_edit(const struct apply *a, struct node *leaf,
		      const struct change *p)
{
	unsigned int i = node_lower_bound(leaf, &p->key);
	bool found = false;

	if (i < leaf->n) {
		struct key k = node_key(leaf, i);

		found = !key_cmp(&k, &p->key);
	}
	if (found && p->op == CHANGE_PUT &&
	    node_val(leaf, i).len == p->val_len) {
		node_set_val(leaf, i, a->bytes + p->val_off);
		return;
	}
	if (found)
		node_remove(leaf, i);
	if (p->op == CHANGE_PUT)
		node_insert(leaf, i, &p->key, a->bytes + p->val_off, p->val_len,
			    NULL);
}

static void leaf_in_place(const struct apply *a, struct node *leaf,
			  const struct work *w)
{
	for (const struct range *r = w->r; r < w->rend; r++)
		leaf_remove_range(leaf, r);
	for (const struct change *p = w->p; p < w->pend; p++)
		leaf_edit(a, leaf, p);
}

static void apply_leaf(struct apply *a, struct node *leaf, const struct work *w,
		       struct result *res)
{
	uint16_t before = leaf->live;
	struct node *copy;

	*res = (struct result){ 0 };
	if (leaf->live + put_bytes(w) > NODE_PAYLOAD_MAX) {
		if (leaf_changes(leaf, *w))
			rebuild_leaf(a, leaf, w, res);
		else
			res->kept = true;
	} else if (is_own(a, leaf)) {
		leaf_in_place(a, leaf, w);
		res->kept = leaf->n > 0;
		res->shrunk = leaf->live < before;
	} else if (leaf_changes(leaf, *w)) {
		copy = copy_start(a, leaf);
		leaf_in_place(a, copy, w);
		res->shrunk = copy->live < before;
		copy_end(a, copy, res);
	} else {
		res->kept = true;
	}
}

/* --- second pass: internal nodes --- */

struct edit {
	unsigned int idx;
	struct result res; /* of that child */
};

/*
 * The separator of the first piece of child idx: the old one. What lies under
 * the first child may be below its separator (its bound comes from above);
 * then the separator moves down, so that it stays below the second piece's.
 */
static struct key first_sep(const struct node *node, unsigned int idx,
			    const struct node *first)
{
	struct key sep = node_key(node, idx);

	return !idx && key_cmp(&first->low, &sep) < 0 ? first->low : sep;
}

/* What goes, goes first: then all that comes fits. */
static void edit_in_place(struct apply *a, struct node *node,
			  const struct edit *edits, unsigned int nedits)
{
	unsigned int gone = 0;

	for (unsigned int e = nedits; e-- > 0;) {
		const struct result *res = &edits[e].res;

		if (res->kept)
			continue;
		tree_node_put(a->t, node->child[edits[e].idx]);
		node->child[edits[e].idx] = NULL;
		if (res->n)
			continue;
		node_remove(node, edits[e].idx);
		gone++;
	}
	for (unsigned int e = nedits; e-- > 0;) {
		const struct result *res = &edits[e].res;
		unsigned int at = edits[e].idx - gone;
		struct key sep, old;

		if (res->kept)
			continue;
		if (!res->n) {
			gone--;
			continue;
		}
		sep = first_sep(node, at, res->first);
		old = node_key(node, at);
		if (res->n == 1 && !key_cmp(&sep, &old)) {
			node->child[at] = res->first;
			continue;
		}
		node_remove(node, at);
		node_insert(node, at, &sep, NULL, PTR_BYTES, res->first);
		for (struct node *n = res->first->next; n; n = n->next)
			node_insert(node, ++at, &n->low, NULL, PTR_BYTES, n);
	}
}

/* The same in new nodes. The first piece of a child keeps its separator. */
static void edit_rebuild(struct apply *a, struct node *node, size_t total,
			 const struct edit *edits, unsigned int nedits,
			 struct result *res)
{
	static const uint8_t zeros[PTR_BYTES];
	struct val none = { zeros, PTR_BYTES };
	unsigned int e = 0;
	struct build b;

	build_start(&b, a, node->level, total, false, res);
	for (unsigned int i = 0; i < node->n; i++) {
		struct key key = node_key(node, i);
		struct val val = node_val(node, i);

		if (e < nedits && edits[e].idx == i && !edits[e].res.kept) {
			struct node *n = edits[e].res.first;

			if (n)
				key = first_sep(node, i, n);
			for (; n; n = n->next, key = n ? n->low : key)
				build_add(&b, &key, &none, n);
			e++;
			continue;
		}
		if (e < nedits && edits[e].idx == i)
			e++;
		if (node->child && node->child[i])
			build_add(&b, &key, &val, node_get(node->child[i]));
		else
			build_add(&b, &key, &val, NULL);
	}
}

/* Take the items of src, whose separator in the parent is sep, before or after
 * those of dst. */
static void absorb(struct node *dst, const struct node *src, bool before,
		   const struct key *right_sep)
{
	unsigned int at = before ? 0 : dst->n;

	/* What is first in the right one may hold keys below its separator:
	 * in the middle of a node the separator must be a lower bound. */
	if (dst->level && before) {
		struct val val = node_val(dst, 0);
		uint8_t ptr[PTR_BYTES];
		struct node *child = dst->child[0];

		memcpy(ptr, val.p, sizeof(ptr));
		node_remove(dst, 0);
		node_insert(dst, 0, right_sep, ptr, sizeof(ptr), child);
	}
	for (unsigned int i = 0; i < src->n; i++) {
		struct key key = node_key(src, i);
		struct val val = node_val(src, i);
		struct node *child = NULL;

		if (src->level && !before && !i)
			key = *right_sep;
		if (src->level && src->child && src->child[i])
			child = node_get(src->child[i]);
		node_insert(dst, at++, &key, val.p, val.len, child);
	}
}

/* Merge child idx, which is our own, with its neighbour to the left or right
 * if that is in memory and small enough. */
static bool merge_with(struct apply *a, struct node *parent, unsigned int idx,
		       bool left)
{
	struct node *own = parent->child[idx], *other;
	unsigned int o = left ? idx - 1 : idx + 1;
	unsigned int r = left ? idx : idx + 1;
	struct key right_sep = node_key(parent, r);
	/* A clean one is the cache's, or the cursor's, or ours for a moment. */
	bool ours = parent->child[o] != NULL;
	struct ptr miss;
	bool held;

	if (tree_child(a->c, parent, o, &other, &held, &miss))
		return false;
	if (other->level != own->level ||
	    other->live + own->live > MERGED_MAX_BYTES) {
		if (held)
			clean_node_put(other);
		return false;
	}
	absorb(own, other, left, &right_sep);
	/* The left item stays, with its separator; the right one goes. */
	if (left)
		parent->child[idx - 1] = own;
	node_remove(parent, r);
	if (held)
		clean_node_put(other);
	else if (ours)
		tree_node_put(a->t, other);
	return true;
}

static void merge_child(struct apply *a, struct node *node, unsigned int i)
{
	while (i < node->n) {
		struct node *child = node->child[i];

		if (!child || !is_own(a, child) || child->live >= SMALL_BYTES)
			return;
		if (i && merge_with(a, node, i, true))
			i--;
		else if (i + 1u >= node->n || !merge_with(a, node, i, false))
			return;
	}
}

static void merge_children(struct apply *a, struct node *node)
{
	for (unsigned int i = node->n; i-- > 0;)
		merge_child(a, node, i);
}

/* The same for what the edits left: the others did not get smaller, and each
 * look at one is a miss of the processor's cache. */
static void merge_edited(struct apply *a, struct node *node,
			 const struct edit *edits, unsigned int nedits)
{
	long moved = 0; /* how far what lies behind an edit went */

	for (unsigned int e = 0; e < nedits; e++)
		if (!edits[e].res.kept)
			moved += (long)edits[e].res.n - 1;
	for (unsigned int e = nedits; e-- > 0;) {
		const struct result *res = &edits[e].res;
		unsigned int n = res->kept ? 1 : res->n;

		moved -= (long)n - 1;
		if (res->shrunk)
			while (n-- > 0)
				merge_child(a, node,
					    (unsigned int)(edits[e].idx +
							   moved + n));
	}
}

static void apply_node(struct apply *a, const struct work *w,
		       struct result *res);

/* What becomes of the touched children; those that stay as they were are left
 * out. Returns how the bytes of the node change. */
static long edit_children(struct apply *a, const struct node *node,
			  struct work w, struct edit *edits,
			  unsigned int *nedits_out, bool *replaced_out)
{
	unsigned int n = 0;
	long bytes = 0;
	struct step s;

	*replaced_out = false;
	while (work_next(&w, node, &s)) {
		struct edit *e = &edits[n];

		*e = (struct edit){ .idx = s.idx, .res = { .shrunk = true } };
		if (!s.covered)
			apply_node(a, &s.work, &e->res);
		if (!e->res.kept) {
			bytes += ((long)e->res.n - 1) * CHILD_ITEM_BYTES;
			*replaced_out = true;
		} else if (!e->res.shrunk) {
			continue;
		}
		n++;
	}
	*nedits_out = n;
	return bytes;
}

static void apply_internal(struct apply *a, struct node *node,
			   const struct work *w, struct result *res)
{
	struct edit edits[NODE_CHILDREN_MAX];
	unsigned int n;
	bool replaced, shrunk = false;
	size_t total;

	total = (size_t)(node->live +
			 edit_children(a, node, *w, edits, &n, &replaced));
	for (unsigned int e = 0; e < n; e++)
		shrunk |= edits[e].res.shrunk;
	*res = (struct result){ 0 };
	if (is_own(a, node) && total <= NODE_PAYLOAD_MAX) {
		uint16_t before = node->n;

		edit_in_place(a, node, edits, n);
		merge_edited(a, node, edits, n);
		res->kept = node->n > 0;
		res->shrunk = node->n < before;
		return;
	}
	if (!replaced) {
		res->kept = true;
		return;
	}
	if (total <= NODE_PAYLOAD_MAX) {
		struct node *copy = copy_start(a, node);

		edit_in_place(a, copy, edits, n);
		copy_end(a, copy, res);
	} else {
		edit_rebuild(a, node, total, edits, n, res);
	}
	if (shrunk)
		for (struct node *p = res->first; p; p = p->next)
			merge_children(a, p);
	res->shrunk = total < node->live;
}

static void apply_node(struct apply *a, const struct work *w,
		       struct result *res)
{
	struct node *node = a->path[a->path_at++];

	if (node->level)
		apply_internal(a, node, w, res);
	else
		apply_leaf(a, node, w, res);
}

/* --- a few changes, in leaves that stay --- */

/* A range or a point, and the leaf that it is in. */
struct quick {
	struct node *leaf;
	size_t put_bytes, lost_bytes;
};

static bool quick_range(struct quick *q, const struct range *r)
{
	unsigned int i = node_lower_bound(q->leaf, &r->from);

	for (; i < q->leaf->n; i++) {
		struct key k = node_key(q->leaf, i);

		if (key_cmp(&k, &r->to) > 0)
			return true;
		q->lost_bytes += item_bytes(node_val(q->leaf, i).len);
	}
	return false; /* there may be more in the next one */
}

static void quick_point(struct quick *q, const struct change *p)
{
	unsigned int i = node_lower_bound(q->leaf, &p->key);
	struct key k;

	if (p->op == CHANGE_PUT)
		q->put_bytes = item_bytes(p->val_len);
	if (i == q->leaf->n)
		return;
	k = node_key(q->leaf, i);
	if (!key_cmp(&k, &p->key))
		q->lost_bytes = item_bytes(node_val(q->leaf, i).len);
}

/* Of our own, and neither split nor merged after all that is done to it? */
static bool quick_stays(const struct apply *a, const struct node *leaf,
			const struct quick *q, size_t n)
{
	size_t put = 0, lost = 0;

	for (size_t i = 0; i < n; i++)
		if (q[i].leaf == leaf) {
			put += q[i].put_bytes;
			lost += q[i].lost_bytes;
		}
	return is_own(a, leaf) && leaf->live + put <= NODE_PAYLOAD_MAX &&
	       (lost <= put || leaf->live + put >= SMALL_BYTES + lost);
}

/* 0: all can be done in the leaves found, 1: not so. */
static int quick_find(struct apply *a, struct quick *q)
{
	size_t n = 0;
	int err;

	for (size_t i = 0; i < a->nranges; i++, n++) {
		q[n] = (struct quick){ .leaf = NULL };
		err = tree_leaf(a->c, &a->ranges[i].from, &q[n].leaf);
		if (err)
			return err;
		if (!quick_range(&q[n], &a->ranges[i]))
			return 1;
	}
	for (size_t i = 0; i < a->npoints; i++, n++) {
		q[n] = (struct quick){ .leaf = NULL };
		err = tree_leaf(a->c, &a->points[i].key, &q[n].leaf);
		if (err)
			return err;
		quick_point(&q[n], &a->points[i]);
	}
	for (size_t i = 0; i < n; i++)
		if (!quick_stays(a, q[i].leaf, q, n))
			return 1;
	return 0;
}

/* 0: done; 1: it takes the two passes. */
static int quick_apply(struct apply *a)
{
	struct quick found[2 * FEW], *q = found;
	int err;

	if (a->nranges > FEW || a->npoints > FEW)
		return 1;
	err = quick_find(a, q);
	if (err)
		return err;
	for (size_t i = 0; i < a->nranges; i++)
		leaf_remove_range((q++)->leaf, &a->ranges[i]);
	for (size_t i = 0; i < a->npoints; i++)
		leaf_edit(a, (q++)->leaf, &a->points[i]);
	return 0;
}

/* --- the top --- */

static void grow_top(struct apply *a, struct result *res)
{
	static const uint8_t zeros[PTR_BYTES];
	struct val none = { zeros, PTR_BYTES };

	while (res->n > 1) {
		struct node *n = res->first;
		struct build b;

		build_start(&b, a, (uint8_t)(n->level + 1),
			    res->n * CHILD_ITEM_BYTES, false, res);
		while (n) {
			struct node *next = n->next;

			n->next = NULL;
			build_add(&b, &n->low, &none, n);
			n = next;
		}
	}
}

/* A top with one child is none. */
static void collapse_top(struct apply *a, struct root *root)
{
	while (root->node && root->node->level && root->node->n == 1) {
		struct root down = ROOT_EMPTY;

		if (root->node->child && root->node->child[0])
			down.node = node_get(root->node->child[0]);
		else
			down.ptr = node_ptr(root->node, 0);
		root_put(a->t, root);
		*root = down;
	}
}

static void set_top(struct apply *a, struct root *root, struct result *res)
{
	if (res->kept)
		goto out;
	grow_top(a, res);
	root_put(a->t, root);
	root->node = res->first;
out:
	collapse_top(a, root);
}

static int prepare_top(struct apply *a, const struct root *root,
		       struct node **top_out, const struct work *w)
{
	struct node *top;
	size_t n;
	bool held;
	int err;

	*top_out = NULL;
	err = tree_top(a->c, root, &top, &held, &a->c->miss);
	if (err == 1) {
		n = pieces(a, NULL, put_bytes(w));
		a->need = n;
		return take_nodes(a, n);
	}
	if (!err && held)
		err = cursor_hold(a->c, top);
	if (!err && top->level >= TREE_HEIGHT_MAX)
		err = -EFSCORRUPTED;
	if (!err)
		err = prepare(a, top, *w, &n);
	if (!err)
		err = take_nodes(a, n);
	if (!err && a->need && top->level == TREE_HEIGHT_MAX - 1)
		err = -EFBIG;
	*top_out = top;
	return err;
}

int tree_apply(struct cursor *c, struct root *root, uint64_t gen,
	       const struct batch *b)
{
	struct few few;
	struct apply a = { .c = c,
			   .t = c->tree,
			   .gen = gen,
			   .bytes = b->bytes,
			   .few = &few,
			   .path = few.path,
			   .path_cap = ARRAY_LEN(few.path) };
	struct result res = { 0 };
	struct node *top;
	struct work w;
	int err;

	if (!b->n)
		return 0;
	if (c->root != root)
		cursor_reset(c, root);
	err = put_in_order(&a, b);
	if (!err)
		err = quick_apply(&a);
	if (err <= 0)
		goto out;
	w = (struct work){ a.points,	 a.points + a.npoints,
			   a.ranges,	 a.ranges + a.nranges,
			   KEY(0, 0, 0), KEY_LAST };
	err = prepare_top(&a, root, &top, &w);
	if (err)
		goto out;
	/* Nothing from here on can fail. */
	if (top)
		apply_node(&a, &w, &res);
	else
		rebuild_leaf(&a, NULL, &w, &res);
	ASSERT(a.path_at == a.npath);
	set_top(&a, root, &res);
out:
	/* they may be others now */
	c->leaf = NULL;
	c->path.node[0] = NULL;
	while (a.pool) {
		struct node *node = a.pool;

		a.pool = node->next;
		pool_give(a.t, node);
	}
	array_free(a.path, few.path);
	array_free(a.points, few.points);
	array_free(a.ranges, few.ranges);
	return err;
}
