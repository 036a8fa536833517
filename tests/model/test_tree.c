/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A tree against a sorted array: random batches, old states, write-outs,
 * comparisons, a cache that forgets. */
#include "txn/tree.h"

#include "tests/lib/simdev.h"
#include "tests/lib/test.h"
#include "txn/cache.h"
#include "txn/log.h"

/* --- the model --- */

struct item {
	struct key key;
	uint64_t tag; /* its value is made from this */
	size_t len;
};

struct model {
	struct item *v;
	size_t n, cap;
};

static size_t model_find(const struct model *m, const struct key *key)
{
	size_t lo = 0, hi = m->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (key_cmp(&m->v[mid].key, key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void model_del_range(struct model *m, const struct key *from,
			    const struct key *to)
{
	size_t i = model_find(m, from), j = i;

	while (j < m->n && key_cmp(&m->v[j].key, to) <= 0)
		j++;
	if (j > i)
		memmove(m->v + i, m->v + j, (m->n - j) * sizeof(*m->v));
	m->n -= j - i;
}

static void model_put(struct model *m, const struct item *it)
{
	size_t i = model_find(m, &it->key);

	if (i < m->n && !key_cmp(&m->v[i].key, &it->key)) {
		m->v[i] = *it;
		return;
	}
	if (m->n == m->cap) {
		m->cap = m->cap ? 2 * m->cap : 64;
		m->v = realloc(m->v, m->cap * sizeof(*m->v));
		assert_non_null(m->v);
	}
	memmove(m->v + i + 1, m->v + i, (m->n - i) * sizeof(*m->v));
	m->v[i] = *it;
	m->n++;
}

static struct model model_copy(const struct model *m)
{
	struct model c = { .n = m->n, .cap = m->n };

	c.v = malloc(m->n * sizeof(*c.v) + 1);
	assert_non_null(c.v);
	if (m->n)
		memcpy(c.v, m->v, m->n * sizeof(*c.v));
	return c;
}

static void fill(uint8_t *buf, const struct item *it)
{
	for (size_t i = 0; i < it->len; i++)
		buf[i] = (uint8_t)(it->tag * 31 + i * 7);
}

static void assert_val(const struct val *val, const struct item *it)
{
	uint8_t buf[TREE_VALUE_MAX];

	fill(buf, it);
	assert_int_equal(val->len, it->len);
	if (it->len)
		assert_memory_equal(val->p, buf, it->len);
}

/* --- the tree --- */

struct fixture {
	struct simdev *sim;
	struct env env;
	struct log *log;
	struct cache *cache;
	struct tree tree;
	uint64_t gen;
	struct rng rng;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct log_params p = { .small_segment_bytes = 4 << 20 };
	struct dev *dev;

	assert_non_null(f);
	*state = f;
	f->sim = simdev_new();
	dev = simdev_dev(f->sim);
	env_init_host(&f->env);
	assert_int_equal(dev->ops->mkdir(dev, "log"), 0);
	p.dev = dev;
	p.env = &f->env;
	assert_int_equal(log_open(&p, &f->log), 0);
	assert_int_equal(log_start(f->log, LOG_USE), 0);
	assert_int_equal(cache_new(1 << 20, &f->cache), 0);
	assert_int_equal(tree_init(&f->tree, f->log, f->cache), 0);
	f->rng.s = test_seed(1);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	struct tree_stats st;

	tree_get_stats(&f->tree, &st);
	assert_int_equal(st.dirty_nodes, 0);
	cache_free(f->cache);
	tree_release(&f->tree);
	log_close(f->log, false);
	simdev_free(f->sim);
	free(f);
	return 0;
}

static void apply(struct fixture *f, struct root *root, const struct batch *b)
{
	struct cursor c;
	int err;

	cursor_init(&c, &f->tree, root);
	do {
		cursor_reset(&c, root);
		err = tree_apply(&c, root, f->gen, b);
		if (err == -EAGAIN)
			assert_int_equal(tree_load(&c), 0);
	} while (err == -EAGAIN);
	assert_int_equal(err, 0);
	cursor_release(&c);
}

static struct key random_key(struct fixture *f, unsigned int objs)
{
	return KEY(rng_below(&f->rng, objs), (uint8_t)rng_below(&f->rng, 3),
		   rng_below(&f->rng, 400));
}

static void random_put(struct fixture *f, struct batch *b, struct model *m,
		       const struct key *key)
{
	struct item it = { .key = *key, .tag = rng_next(&f->rng) };
	uint8_t buf[TREE_VALUE_MAX];

	it.len = rng_below(&f->rng, 20)
			 ? rng_below(&f->rng, 60)
			 : rng_below(&f->rng, TREE_VALUE_MAX + 1);
	fill(buf, &it);
	assert_int_equal(batch_put(b, key, buf, it.len), 0);
	model_put(m, &it);
}

/* The last operation on each key wins, as in the batch. */
static void random_op(struct fixture *f, struct batch *b, struct model *m)
{
	struct key key = random_key(f, 40), to = key;

	switch (rng_below(&f->rng, 12)) {
	case 0:
		to.off += rng_below(&f->rng, 300);
		if (!rng_below(&f->rng, 3))
			to.kind = 255;
		if (!rng_below(&f->rng, 20))
			to.obj += 1 + rng_below(&f->rng, 10);
		assert_int_equal(batch_del_range(b, &key, &to), 0);
		model_del_range(m, &key, &to);
		return;
	case 1:
	case 2:
	case 3:
		if (m->n && rng_below(&f->rng, 2))
			key = m->v[rng_below(&f->rng, m->n)].key;
		assert_int_equal(batch_del(b, &key), 0);
		model_del_range(m, &key, &key);
		return;
	case 4:
		for (int i = 0; i < 30; i++) {
			random_put(f, b, m, &key);
			key.off++;
		}
		return;
	default:
		random_put(f, b, m, &key);
	}
}

static void random_batch(struct fixture *f, struct root *root, struct model *m)
{
	struct batch b;
	uint64_t n = rng_below(&f->rng, 4) ? rng_below(&f->rng, 5)
					   : rng_below(&f->rng, 60);

	batch_init(&b);
	while (n--)
		random_op(f, &b, m);
	apply(f, root, &b);
	batch_release(&b);
}

static int get(struct fixture *f, struct cursor *c, const struct root *root,
	       int which, const struct key *a, const struct key *b,
	       struct key *key, struct val *val)
{
	int err;

	for (;;) {
		err = which == 0  ? tree_get(c, a, val)
		      : which > 0 ? tree_next(c, a, b, key, val)
				  : tree_prev(c, a, b, key, val);
		if (err != -EAGAIN)
			return err;
		assert_int_equal(tree_load(c), 0);
		cursor_reset(c, root);
	}
}

static void assert_state(struct fixture *f, const struct root *root,
			 const struct model *m)
{
	struct key last = KEY_LAST, from = KEY(0, 0, 0), key;
	struct cursor c;
	struct val val;
	char why[200];

	if (tree_check(&f->tree, root, why, sizeof(why)))
		fail_msg("%s", why);
	cursor_init(&c, &f->tree, root);
	for (size_t i = 0; i < m->n; i++) {
		assert_int_equal(get(f, &c, root, 1, &from, &last, &key, &val),
				 0);
		assert_int_equal(key_cmp(&key, &m->v[i].key), 0);
		assert_val(&val, &m->v[i]);
		from = key;
		from.off++;
	}
	assert_int_equal(get(f, &c, root, 1, &from, &last, &key, &val), 1);
	cursor_release(&c);
}

static void assert_lookups(struct fixture *f, const struct root *root,
			   const struct model *m)
{
	struct key first = KEY(0, 0, 0), key, found;
	struct cursor c;
	struct val val;

	cursor_init(&c, &f->tree, root);
	for (int i = 0; i < 50; i++) {
		size_t at;
		bool there;

		key = random_key(f, 42);
		at = model_find(m, &key);
		there = at < m->n && !key_cmp(&m->v[at].key, &key);
		assert_int_equal(get(f, &c, root, 0, &key, NULL, NULL, &val),
				 !there);
		if (there)
			assert_val(&val, &m->v[at]);
		if (there)
			at++;
		assert_int_equal(
			get(f, &c, root, -1, &first, &key, &found, &val), !at);
		if (at)
			assert_int_equal(key_cmp(&found, &m->v[at - 1].key), 0);
	}
	cursor_release(&c);
}

/* --- comparing --- */

struct diff_check {
	const struct model *a, *b;
	size_t ia, ib, seen;
};

static const struct item *next_item(const struct model *m, size_t i)
{
	return i < m->n ? &m->v[i] : NULL;
}

/* Step over what is equal; the next difference. */
static int model_diff(struct diff_check *d, const struct item **a,
		      const struct item **b)
{
	for (;;) {
		int c;

		*a = next_item(d->a, d->ia);
		*b = next_item(d->b, d->ib);
		if (!*a && !*b)
			return 0;
		c = !*b ? -1 : !*a ? 1 : key_cmp(&(*a)->key, &(*b)->key);
		if (c <= 0)
			d->ia++;
		if (c >= 0)
			d->ib++;
		if (c < 0)
			*b = NULL;
		else if (c > 0)
			*a = NULL;
		else if ((*a)->len == (*b)->len &&
			 (!(*a)->len ||
			  (uint8_t)(*a)->tag == (uint8_t)(*b)->tag))
			continue;
		return 1;
	}
}

static int on_diff(void *arg, const struct key *key, const struct val *a,
		   const struct val *b)
{
	struct diff_check *d = arg;
	const struct item *ma, *mb;

	assert_true(model_diff(d, &ma, &mb));
	assert_int_equal(key_cmp(key, ma ? &ma->key : &mb->key), 0);
	assert_int_equal(!a, !ma);
	assert_int_equal(!b, !mb);
	if (a)
		assert_val(a, ma);
	if (b)
		assert_val(b, mb);
	d->seen++;
	return 0;
}

static void assert_diff(struct fixture *f, const struct root *ra,
			const struct model *ma, const struct root *rb,
			const struct model *mb)
{
	struct diff_check d = { .a = ma, .b = mb };
	const struct item *a, *b;

	assert_int_equal(tree_diff(&f->tree, ra, rb, on_diff, &d), 0);
	assert_false(model_diff(&d, &a, &b));
}

struct state {
	struct root root;
	struct model model;
};

static void freeze(struct fixture *f, struct state *into, struct root *root,
		   struct model *m)
{
	root_put(&f->tree, &into->root);
	free(into->model.v);
	into->root = root_get(root);
	into->model = model_copy(m);
	f->gen++;
}

static void write_out(struct fixture *f, struct root *root)
{
	struct root frozen = root_get(root);

	f->gen++;
	assert_int_equal(log_room(f->log, 0, 0, true), 0);
	assert_int_equal(tree_write_out(&f->tree, &frozen, NULL), 0);
	assert_false(root_is_dirty(&frozen));
	root_put(&f->tree, root);
	*root = (struct root){ .ptr = frozen.ptr };
	root_put(&f->tree, &frozen);
}

static void test_random_batches(void **state)
{
	struct fixture *f = *state;
	uint64_t rounds = test_param("ROUNDS", 3000);
	struct state old[4] = { 0 };
	struct root root = ROOT_EMPTY;
	struct model m = { 0 };

	f->gen = 1;
	for (uint64_t i = 0; i < rounds; i++) {
		size_t k = rng_below(&f->rng, ARRAY_LEN(old));

		random_batch(f, &root, &m);
		assert_lookups(f, &root, &m);
		if (!rng_below(&f->rng, 5))
			assert_state(f, &root, &m);
		if (!rng_below(&f->rng, 10))
			freeze(f, &old[k], &root, &m);
		if (!rng_below(&f->rng, 15))
			write_out(f, &root);
		if (!rng_below(&f->rng, 30))
			cache_drop(f->cache);
		if (!rng_below(&f->rng, 10)) {
			f->gen++;
			assert_diff(f, &old[k].root, &old[k].model, &root, &m);
			assert_diff(f, &root, &m, &old[k].root, &old[k].model);
			assert_state(f, &old[k].root, &old[k].model);
		}
	}
	for (size_t k = 0; k < ARRAY_LEN(old); k++) {
		root_put(&f->tree, &old[k].root);
		free(old[k].model.v);
	}
	root_put(&f->tree, &root);
	free(m.v);
}

static void build_ascending(struct fixture *f, struct root *root, size_t n)
{
	uint8_t value[60] = { 1 };
	struct batch b;

	batch_init(&b);
	for (size_t i = 0; i < n; i++) {
		struct key key = KEY(7, 1, i);

		batch_reset(&b);
		assert_int_equal(batch_put(&b, &key, value, sizeof(value)), 0);
		apply(f, root, &b);
	}
	batch_release(&b);
}

/* Names and numbers often ascend: nodes are left nearly full then. */
static void test_ascending_keys_fill_nodes(void **state)
{
	struct fixture *f = *state;
	struct root root = ROOT_EMPTY;
	uint64_t bytes;

	f->gen = 1;
	build_ascending(f, &root, 20000);
	assert_int_equal(tree_write_out(&f->tree, &root, &bytes), 0);
	assert_true(bytes < 20000 * (60 + 19) * 115 / 100);
	root_put(&f->tree, &root);
}

static void del_one(struct fixture *f, struct root *root, uint64_t off)
{
	struct key key = KEY(7, 1, off);
	struct batch b;

	batch_init(&b);
	assert_int_equal(batch_del(&b, &key), 0);
	apply(f, root, &b);
	batch_release(&b);
}

/* One by one, in no order: no crowd of small nodes stays, and no empty one. */
static void test_nodes_that_get_small_are_merged(void **state)
{
	enum { ITEMS = 20000, STRIDE = 7919, KEPT = 100 };
	struct fixture *f = *state;
	struct root root = ROOT_EMPTY;
	struct tree_stats st;
	char why[256] = "";

	f->gen = 1;
	build_ascending(f, &root, ITEMS);
	for (uint64_t i = 0; i < ITEMS; i++) {
		uint64_t off = i * STRIDE % ITEMS;

		if (off % KEPT)
			del_one(f, &root, off);
		if (i % 1000 == 0 &&
		    tree_check(&f->tree, &root, why, sizeof(why)))
			fail_msg("%s", why);
	}
	/* 16,000 bytes of items, in nodes of 1,000 at least */
	tree_get_stats(&f->tree, &st);
	assert_true(st.dirty_nodes <= 20);
	for (uint64_t off = 0; off < ITEMS; off += KEPT) {
		del_one(f, &root, off);
		if (tree_check(&f->tree, &root, why, sizeof(why)))
			fail_msg("%s", why);
	}
	assert_null(root.node);
	assert_int_equal(root.ptr.pos, 0);
}

/* The cost of deleting a range does not depend on what lies in it. */
static void test_a_range_goes_unread(void **state)
{
	struct fixture *f = *state;
	struct key from = KEY(7, 0, 0), to = KEY(7, 255, UINT64_MAX);
	struct simdev_counts before, after;
	struct root root = ROOT_EMPTY;
	struct batch b;

	f->gen = 1;
	build_ascending(f, &root, 20000);
	write_out(f, &root);
	assert_int_equal(log_flush(f->log, LOG_SMALL, NULL), 0);
	cache_drop(f->cache);
	before = simdev_counts(f->sim);
	batch_init(&b);
	assert_int_equal(batch_del_range(&b, &from, &to), 0);
	apply(f, &root, &b);
	batch_release(&b);
	after = simdev_counts(f->sim);
	assert_true(after.reads - before.reads <= 6);
	assert_null(root.node);
	assert_int_equal(root.ptr.pos, 0);
}

static int count_diff(void *arg, const struct key *key, const struct val *a,
		      const struct val *b)
{
	++*(size_t *)arg;
	return 0;
}

/* Comparing costs what changed, not what is there. */
static void test_a_comparison_skips_what_is_shared(void **state)
{
	struct fixture *f = *state;
	struct key key = KEY(7, 1, 9000);
	struct simdev_counts before, after;
	struct root root = ROOT_EMPTY, old;
	struct batch b;
	size_t n = 0;

	f->gen = 1;
	build_ascending(f, &root, 20000);
	write_out(f, &root);
	old = root_get(&root);
	batch_init(&b);
	assert_int_equal(batch_put(&b, &key, "x", 1), 0);
	apply(f, &root, &b);
	batch_release(&b);
	write_out(f, &root);
	assert_int_equal(log_flush(f->log, LOG_SMALL, NULL), 0);
	cache_drop(f->cache);
	before = simdev_counts(f->sim);
	assert_int_equal(tree_diff(&f->tree, &old, &root, count_diff, &n), 0);
	after = simdev_counts(f->sim);
	assert_int_equal(n, 1);
	assert_true(after.reads - before.reads <= 8);
	root_put(&f->tree, &old);
	root_put(&f->tree, &root);
}

/* Damage in a node is told, never served. */
static void test_a_flipped_bit_is_found(void **state)
{
	struct fixture *f = *state;
	struct key key = KEY(7, 1, 0);
	struct root root = ROOT_EMPTY;
	struct cursor c;
	struct val val;
	bool found = false;

	f->gen = 1;
	build_ascending(f, &root, 10);
	write_out(f, &root);
	assert_int_equal(log_flush(f->log, LOG_SMALL, NULL), 0);
	cache_drop(f->cache);
	for (size_t i = 0; i < simdev_file_count(f->sim); i++)
		if (simdev_file_bytes(f->sim, i) > 64 &&
		    simdev_get_byte(f->sim, i, 0)) {
			simdev_set_byte(f->sim, i, 60, 0xff);
			found = true;
		}
	assert_true(found);
	cursor_init(&c, &f->tree, &root);
	assert_int_equal(tree_get(&c, &key, &val), -EAGAIN);
	assert_int_equal(tree_load(&c), -EFSBADCRC);
	cursor_release(&c);
	root_put(&f->tree, &root);
}

static void put_tag(struct fixture *f, struct cursor *c, struct root *root,
		    uint64_t obj, uint64_t tag)
{
	struct item it = { .key = KEY(obj, 1, 0), .tag = tag, .len = 100 };
	uint8_t buf[100];
	struct batch b;

	fill(buf, &it);
	batch_init(&b);
	assert_int_equal(batch_put(&b, &it.key, buf, it.len), 0);
	assert_int_equal(tree_apply(c, root, f->gen, &b), 0);
	batch_release(&b);
}

static void assert_tag(struct cursor *c, uint64_t obj, uint64_t tag)
{
	struct item it = { .key = KEY(obj, 1, 0), .tag = tag, .len = 100 };
	struct val val;

	assert_int_equal(tree_get(c, &it.key, &val), 0);
	assert_val(&val, &it);
}

/* What a cursor keeps of where it was is never of another state. */
static void test_a_cursor_follows_its_root(void **state)
{
	struct fixture *f = *state;
	struct root root = ROOT_EMPTY, old;
	struct cursor c;

	cursor_init(&c, &f->tree, &root);
	for (uint64_t i = 0; i < 5000; i++)
		put_tag(f, &c, &root, i, 1);
	old = root_get(&root);
	f->gen++;
	for (uint64_t i = 0; i < 5000; i += 499) {
		cursor_reset(&c, &root);
		assert_tag(&c, i, 1);
		put_tag(f, &c, &root, i, 2);
		assert_tag(&c, i, 2);
		assert_tag(&c, i + 1, 1);
		cursor_reset(&c, &old);
		assert_tag(&c, i, 1);
		cursor_reset(&c, &root);
		assert_tag(&c, i, 2);
	}
	cursor_release(&c);
	root_put(&f->tree, &old);
	root_put(&f->tree, &root);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_cursor_follows_its_root),
		TEST(test_random_batches),
		TEST(test_ascending_keys_fill_nodes),
		TEST(test_nodes_that_get_small_are_merged),
		TEST(test_a_range_goes_unread),
		TEST(test_a_comparison_skips_what_is_shared),
		TEST(test_a_flipped_bit_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
