/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gc.c - giving space back. A sweep marks everything that can be reached from
 * the pins, waits for those who may hold something older, and punches what is
 * not marked, below what was durable when it began. DESIGN.md 7.
 *
 * Pages (4 KiB) are given back when nothing in them is marked. Subtrees that
 * states share are walked once: a node is at least 35 bytes, so at most one
 * begins in each 32 bytes of a small segment, and a bit for each of those says
 * that it was met.
 */
#include "txn/store_internal.h"

#include <time.h>

#include "txn/format.h"
#include "txn/node.h"
#include "txn/pace.h"

enum { NODE_CELL = 32, PAGE = LOG_PAGE_BYTES, NODES_BETWEEN_RESTS = 512 };

/* Blocks of files that a scan has seen, by where they begin. NULL: none yet. */
struct places {
	uint64_t *pages; /* bit for each page: at its beginning */
	uint64_t *units; /* bit for each EXTENT_UNIT_BYTES: elsewhere */
};

struct gcseg {
	uint64_t number, bytes;
	uint64_t limit; /* nothing at or above is touched */
	uint64_t *live; /* of a sweep: bit for each page */
	uint64_t *met; /* small: bit for each cell */
	struct places seen, bad; /* of a scan */
};

struct gc {
	struct store *store;
	const struct gc_params *p; /* of a sweep */
	const struct scan_params *scan; /* of a scan; one of the two */
	uint64_t limit[LOG_HEADS]; /* of segments of their own */
	struct gcseg *segs; /* ascending by number */
	size_t nsegs;
	uint64_t nodes; /* read, for resting */
	struct gc_stats stats;
};

static void set_bit(uint64_t *bits, uint64_t i)
{
	bits[i / 64] |= (uint64_t)1 << (i % 64);
}

static bool get_bit(const uint64_t *bits, uint64_t i)
{
	return bits[i / 64] >> (i % 64) & 1;
}

/* --- readers that may hold what is gone --- */

unsigned int store_pin(struct store *store)
{
	for (;;) {
		uint64_t e =
			__atomic_load_n(&store->pin_epoch, __ATOMIC_SEQ_CST);

		__atomic_add_fetch(&store->pins[e & 1], 1, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&store->pin_epoch, __ATOMIC_SEQ_CST) == e)
			return e & 1;
		store_unpin(store, e & 1);
	}
}

void store_unpin(struct store *store, unsigned int pin)
{
	__atomic_sub_fetch(&store->pins[pin], 1, __ATOMIC_SEQ_CST);
}

/* Those who were there before are gone after this; nobody is kept waiting by
 * it. */
static void wait_for_pins(struct store *store)
{
	const struct timespec tick = { .tv_nsec = 1000000 };
	uint64_t old =
		__atomic_fetch_add(&store->pin_epoch, 1, __ATOMIC_SEQ_CST);

	while (__atomic_load_n(&store->pins[old & 1], __ATOMIC_SEQ_CST))
		nanosleep(&tick, NULL);
}

/* --- marking --- */

static struct gcseg *find_seg(struct gc *g, uint64_t number)
{
	size_t i = array_lower_bound(g->segs, g->nsegs, sizeof(*g->segs),
				     offsetof(struct gcseg, number), number);

	return i < g->nsegs && g->segs[i].number == number ? &g->segs[i] : NULL;
}

static int mark_range(void *arg, uint64_t pos, uint64_t len)
{
	struct gc *g = arg;
	uint64_t off = pos & (((uint64_t)1 << LOG_SEG_SHIFT) - 1);
	struct gcseg *s = find_seg(g, pos >> LOG_SEG_SHIFT);

	if (!s)
		return 0; /* above the limit */
	if (!len || off >= s->bytes || len > s->bytes - off)
		return -EFSCORRUPTED;
	for (uint64_t p = off / PAGE; p <= (off + len - 1) / PAGE && !g->scan;
	     p++)
		set_bit(s->live, p);
	return 0;
}

/* 1: it was met before. */
static int meet(struct gc *g, const struct ptr *ptr)
{
	uint64_t off = ptr->pos & (((uint64_t)1 << LOG_SEG_SHIFT) - 1);
	struct gcseg *s = find_seg(g, ptr->pos >> LOG_SEG_SHIFT);

	if (!s)
		return 0;
	if (!s->met || off >= s->bytes)
		return -EFSCORRUPTED;
	if (get_bit(s->met, off / NODE_CELL))
		return 1;
	set_bit(s->met, off / NODE_CELL);
	return mark_range(g, ptr->pos, ptr->len);
}

/* What the items of a tree refer to. */
/* OTHER: a tree whose items are not looked at. */
enum tree_kind { TREE_FILES, TREE_CATALOG, TREE_PLAIN, TREE_OTHER };

static int mark_ptr(struct gc *g, const struct ptr *ptr, const struct key *low,
		    int level, enum tree_kind kind);

/* What an item of the store's own trees names. */
static int mark_named_state(struct gc *g, enum tree_kind kind,
			    const struct key *key, const struct val *val)
{
	struct ptr ptr = { 0 };
	bool names = kind == TREE_PLAIN ? plain_item_root(key, val, &ptr)
					: catalog_item_root(key, val, &ptr);

	return names && ptr.pos ? mark_ptr(g, &ptr, NULL, -1, TREE_FILES) : 0;
}

/* Let others have the device now and then. */
static int rest(struct gc *g, const struct ptr *ptr)
{
	const struct timespec ts = { .tv_nsec = 1000000 };

	if (g->scan)
		return g->scan->progress
			       ? g->scan->progress(g->scan->arg, ptr->len)
			       : 0;

	pace();
	if (++g->nodes % NODES_BETWEEN_RESTS)
		return 0;
	if (!g->p->hurry)
		nanosleep(&ts, NULL);
	return __atomic_load_n(&g->store->gc_stop, __ATOMIC_RELAXED)
		       ? -ECANCELED
		       : 0;
}

static int mark_node(struct gc *g, const struct node *node, enum tree_kind kind)
{
	int err = 0;

	for (unsigned int i = 0; i < node->n && !err; i++) {
		struct key key = node_key(node, i);
		struct val val = node_val(node, i);

		if (node->level && node->child && node->child[i]) {
			const struct node *child = node->child[i];

			if (node_is_written(child))
				err = meet(g, &child->ptr);
			if (!err)
				err = mark_node(g, child, kind);
			if (err == 1)
				err = 0;
		} else if (node->level) {
			struct ptr ptr = node_ptr(node, i);

			err = mark_ptr(g, &ptr, &key, node->level - 1, kind);
		} else if (kind == TREE_FILES && g->scan) {
			err = g->scan->item(g->scan->arg, (struct scan *)g,
					    &key, &val);
		} else if (kind == TREE_FILES) {
			err = g->p->mark_item(g->p->arg, &key, &val, mark_range,
					      g);
		} else if (kind != TREE_OTHER && !g->scan) {
			err = mark_named_state(g, kind, &key, &val);
		}
	}
	return err;
}

/* Not through the cache: a sweep looks at everything once. */
static int load(struct gc *g, const struct ptr *ptr, int level,
		struct node **out)
{
	/* A scan wants to know what the disk holds. */
	*out = g->scan ? NULL : cache_find(g->store->cache, ptr);
	return *out ? 0 : tree_fetch_node(&g->store->tree, ptr, level, out);
}

static int mark_ptr(struct gc *g, const struct ptr *ptr, const struct key *low,
		    int level, enum tree_kind kind)
{
	struct node *node;
	int err;

	err = meet(g, ptr);
	if (err == 1)
		return 0;
	if (!err)
		err = rest(g, ptr);
	if (!err)
		err = load(g, ptr, level, &node);
	if (g->scan &&
	    (err == -EFSCORRUPTED || err == -EFSBADCRC || err == -EIO)) {
		g->scan->damaged(g->scan->arg, ptr, low, err);
		return 0;
	}
	if (err)
		return err;
	err = mark_node(g, node, kind);
	clean_node_put(node);
	return err;
}

static int mark_root(struct gc *g, const struct root *r, enum tree_kind kind)
{
	int err = 0;

	if (!r->node)
		return r->ptr.pos ? mark_ptr(g, &r->ptr, NULL, -1, kind) : 0;
	if (node_is_written(r->node))
		err = meet(g, &r->node->ptr);
	if (!err)
		err = mark_node(g, r->node, kind);
	return err == 1 ? 0 : err;
}

/* --- the pins --- */

static int mark_record(struct gc *g, const struct record *rec)
{
	int err = mark_range(g, rec->pos, record_bytes(rec));

	/* The one before it is found by it; its place stays readable. */
	if (!err && rec->prev_pos)
		(void)mark_range(g, rec->prev_pos, PAGE);
	for (size_t i = 0; i < rec->nroots && !err; i++) {
		const struct record_root *r = &rec->roots[i];
		enum tree_kind kind = r->kind == ROOT_CATALOG ? TREE_CATALOG
				      : r->kind == ROOT_PLAIN ? TREE_PLAIN
							      : TREE_FILES;

		if (r->ptr.pos)
			err = mark_ptr(g, &r->ptr, NULL, -1, kind);
	}
	return err;
}

static int mark_view(struct gc *g, struct view *v, enum tree_kind kind)
{
	struct root root;
	int err;

	view_freeze(v, &root);
	err = mark_root(g, &root, kind);
	root_put(&g->store->tree, &root);
	return err;
}

/* Read-only views that somebody has: their roots never change. */
static int mark_open_views(struct gc *g)
{
	struct root *roots = NULL;
	size_t n = 0;
	int err = 0;

	pthread_mutex_lock(&g->store->views_lock);
	for (const struct view *v = g->store->views; v; v = v->next)
		n++;
	roots = calloc(n + 1, sizeof(*roots));
	n = 0;
	for (struct view *v = g->store->views; v && roots; v = v->next)
		roots[n++] = root_get(&v->root);
	pthread_mutex_unlock(&g->store->views_lock);
	if (!roots)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (!err)
			err = mark_root(g, &roots[i], TREE_FILES);
		root_put(&g->store->tree, &roots[i]);
	}
	free(roots);
	return err;
}

/* What durable states and names reach now, and who reads. */
static int mark_now(struct gc *g)
{
	struct store *s = g->store;
	struct record rec = { 0 };
	int err;

	err = store_last_record(s, &rec);
	if (!err)
		err = mark_record(g, &rec);
	record_release(&rec);
	if (!err)
		err = mark_view(g, s->catalog, TREE_CATALOG);
	if (!err)
		err = mark_view(g, s->shown, TREE_CATALOG);
	if (!err)
		err = mark_view(g, s->plain, TREE_PLAIN);
	return err ? err : mark_open_views(g);
}

/*
 * A turn of the queue may have frozen a state before the working view is frozen
 * here, and have no record and no name for it yet: what that has of older data,
 * durable and in no record, may be replaced in the view by now. After the first
 * wait it is in the newest record, or in the catalog. Whoever has taken a root
 * from there since, and has made it a view or the working state, is there after
 * the second. And what is read until the freeze may be copied behind it.
 */
static int mark_all(struct gc *g)
{
	struct root working = ROOT_EMPTY;
	int err;

	err = mark_now(g);
	if (!err)
		err = g->p->freeze(g->p->arg, &working);
	if (!err)
		err = mark_root(g, &working, TREE_FILES);
	root_put(&g->store->tree, &working);
	for (int i = 0; i < 2 && !err; i++) {
		wait_for_pins(g->store);
		err = mark_now(g);
	}
	return err;
}

/* --- giving back --- */

static int sweep_seg(struct gc *g, const struct gcseg *s)
{
	uint64_t start = s->number << LOG_SEG_SHIFT;
	uint64_t end = min_u64(s->bytes, s->limit - start);
	uint64_t pages = end / PAGE, live = 0;
	int err = 0;

	for (uint64_t p = 0; p < pages; p++)
		live += get_bit(s->live, p);
	g->stats.live_bytes += live * PAGE;
	if (!live && end == s->bytes) {
		err = log_drop_segment(g->store->log, s->number);
		if (!err)
			g->stats.freed_bytes += s->bytes;
		if (err <= 0)
			return err == -EBUSY ? 0 : err;
		err = 0; /* a piece of a file of which others live */
	}
	if (g->p->whole)
		return 0;
	for (uint64_t p = 0; p < pages && !err;) {
		uint64_t n = 0;

		while (p + n < pages && !get_bit(s->live, p + n))
			n++;
		if (n)
			err = log_punch(g->store->log, start + p * PAGE,
					n * PAGE, &g->stats.freed_bytes);
		p += n + 1;
	}
	return err;
}

/* Moved files lie beside what is appended. While they are moved, by the one
 * thread that sweeps, what nothing reaches is known wherever it lies. */
static uint64_t limit_of(const struct gc *g, const struct log_segment *s)
{
	return s->moved && g->p && g->p->whole ? UINT64_MAX : g->limit[s->head];
}

/* Segments that lie below the limit at least in part. */
static int list_segs(struct gc *g)
{
	struct log_segment *v;
	size_t n;
	int err;

	err = log_list_segments(g->store->log, &v, &n);
	if (err)
		return err;
	g->segs = calloc(n + 1, sizeof(*g->segs));
	if (!g->segs)
		err = -ENOMEM;
	for (size_t i = 0; i < n && !err; i++) {
		struct gcseg *s = &g->segs[g->nsegs];

		s->limit = limit_of(g, &v[i]);
		if (v[i].number << LOG_SEG_SHIFT >= s->limit)
			continue;
		s->number = v[i].number;
		s->bytes = v[i].bytes;
		if (!g->scan)
			s->live = calloc(s->bytes / PAGE / 64 + 1, 8);
		if (v[i].head == LOG_SMALL)
			s->met = calloc(s->bytes / NODE_CELL / 64 + 1, 8);
		g->nsegs++;
		if ((!g->scan && !s->live) ||
		    (v[i].head == LOG_SMALL && !s->met))
			err = -ENOMEM;
	}
	free(v);
	return err;
}

static uint64_t limit(uint64_t flushed, uint64_t below)
{
	return below ? min_u64(flushed, below) : flushed;
}

static int run(struct gc *g)
{
	struct store *s = g->store;
	struct record rec = { 0 };
	uint64_t before = __atomic_load_n(&s->n_dropped, __ATOMIC_RELAXED);
	int err;

	/* The record first: what is durable above it is not touched. */
	err = store_last_record(s, &rec);
	g->limit[LOG_SMALL] = limit(rec.small_flushed, g->p->small_below);
	g->limit[LOG_BULK] = limit(rec.bulk_flushed, g->p->bulk_below);
	record_release(&rec);
	if (!err)
		err = list_segs(g);
	if (!err)
		err = mark_all(g);
	log_begin_dropping(s->log);
	for (size_t i = 0; i < g->nsegs && !err; i++) {
		if (store_failed(s, NULL))
			err = -EIO;
		else
			err = sweep_seg(g, &g->segs[i]);
		if (!err && __atomic_load_n(&s->gc_stop, __ATOMIC_RELAXED))
			err = -ECANCELED;
	}
	if (!err)
		__atomic_sub_fetch(&s->n_dropped, before, __ATOMIC_RELAXED);
	return err;
}

static void free_places(struct places *p)
{
	free(p->pages);
	free(p->units);
}

static void free_segs(struct gc *g)
{
	for (size_t i = 0; i < g->nsegs; i++) {
		free(g->segs[i].live);
		free(g->segs[i].met);
		free_places(&g->segs[i].seen);
		free_places(&g->segs[i].bad);
	}
	free(g->segs);
}

int store_gc(struct store *store, const struct gc_params *p,
	     struct gc_stats *out)
{
	struct gc g = { .store = store, .p = p };
	int err;

	if (store->read_only)
		return -EROFS;
	if (store_failed(store, NULL))
		return -EIO;
	pthread_mutex_lock(&store->gc_lock);
	err = run(&g);
	pthread_mutex_unlock(&store->gc_lock);
	free_segs(&g);
	if (!err && out)
		*out = g.stats;
	return err;
}

/* --- looking at everything --- */

/* A scan is a marking without the sweep. */
int store_scan_new(struct store *store, const struct scan_params *params,
		   struct scan **out)
{
	struct gc *g = calloc(1, sizeof(*g));
	int err;

	if (!g)
		return -ENOMEM;
	g->store = store;
	g->scan = params;
	g->limit[LOG_SMALL] = UINT64_MAX;
	g->limit[LOG_BULK] = UINT64_MAX;
	err = list_segs(g);
	*out = (struct scan *)g;
	if (err) {
		store_scan_free(*out);
		*out = NULL;
	}
	return err;
}

void store_scan_free(struct scan *scan)
{
	struct gc *g = (struct gc *)scan;

	if (!g)
		return;
	free_segs(g);
	free(g);
}

int store_scan_state(struct scan *scan, const struct root *root)
{
	return mark_root((struct gc *)scan, root, TREE_FILES);
}

int store_scan_own(struct scan *scan)
{
	struct gc *g = (struct gc *)scan;
	int err = mark_view(g, g->store->catalog, TREE_OTHER);

	return err ? err : mark_view(g, g->store->plain, TREE_OTHER);
}

int store_scan_catalog(struct scan *scan)
{
	struct gc *g = (struct gc *)scan;

	/* As the items of any tree, to whoever scans. */
	return mark_view(g, g->store->catalog, TREE_FILES);
}

/* The bit of a place, in *i of the map. make: there is to be a map; NULL: there
 * is none, or no memory for it. */
static uint64_t *place_bits(const struct gcseg *s, struct places *p,
			    uint64_t off, bool make, uint64_t *i)
{
	uint64_t unit = off % PAGE ? EXTENT_UNIT_BYTES : PAGE;
	uint64_t **map = off % PAGE ? &p->units : &p->pages;

	if (!*map && make)
		*map = calloc(s->bytes / unit / 64 + 1, 8);
	*i = off / unit;
	return *map;
}

bool store_scan_meet(struct scan *scan, uint64_t pos)
{
	struct gc *g = (struct gc *)scan;
	uint64_t off = pos & (((uint64_t)1 << LOG_SEG_SHIFT) - 1);
	struct gcseg *s = find_seg(g, pos >> LOG_SEG_SHIFT);
	uint64_t *map, i;

	if (!s || off >= s->bytes)
		return false; /* reading it will tell */
	map = place_bits(s, &s->seen, off, true, &i);
	if (!map)
		return false;
	if (get_bit(map, i))
		return true;
	set_bit(map, i);
	return false;
}

bool store_scan_is_bad(struct scan *scan, uint64_t pos)
{
	struct gcseg *s = find_seg((struct gc *)scan, pos >> LOG_SEG_SHIFT);
	uint64_t off = pos & (((uint64_t)1 << LOG_SEG_SHIFT) - 1);
	const uint64_t *map;
	uint64_t i;

	if (!s || off >= s->bytes)
		return false;
	map = place_bits(s, &s->bad, off, false, &i);
	return map && get_bit(map, i);
}

int store_scan_set_bad(struct scan *scan, uint64_t pos)
{
	struct gcseg *s = find_seg((struct gc *)scan, pos >> LOG_SEG_SHIFT);
	uint64_t off = pos & (((uint64_t)1 << LOG_SEG_SHIFT) - 1);
	uint64_t *map, i;

	if (!s || off >= s->bytes)
		return 0; /* met anew each time */
	map = place_bits(s, &s->bad, off, true, &i);
	if (!map)
		return -ENOMEM;
	set_bit(map, i);
	return 0;
}

void store_gc_stop(struct store *store)
{
	__atomic_store_n(&store->gc_stop, true, __ATOMIC_RELAXED);
}

uint64_t store_dropped(struct store *store)
{
	return __atomic_load_n(&store->n_dropped, __ATOMIC_RELAXED);
}

void store_note_dropped(struct store *store)
{
	__atomic_add_fetch(&store->n_dropped, 1, __ATOMIC_RELAXED);
}
