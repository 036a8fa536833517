/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "txn/store_internal.h"

#include "tests/lib/beside.h"
#include "tests/lib/simfs.h"
#include "tests/lib/test.h"

#include <unistd.h>

enum { KEYS = 64, VALUE = 400, UPDATES = 3, DEADLINE = 60 };
/* Updates at once, and keys that each of them puts. */
enum { TOGETHER = 32, EACH = 60 };

struct fixture {
	struct simfs s;
	struct view *v;
};

static struct key key_of(unsigned int i)
{
	return KEY(100 + i, 1, 0);
}

struct change {
	unsigned int from, to; /* keys [from, to) are put, or deleted */
	bool del;
	int look_at; /* and this one is read first; -1: none */
	struct cache *cache; /* is emptied then; NULL: no */
	int result;
};

static int change_fn(struct vtx *tx, void *arg)
{
	static const uint8_t value[VALUE];
	struct change *c = arg;
	struct key key;
	struct val val;
	int err = 0;

	if (c->look_at >= 0) {
		key = key_of((unsigned int)c->look_at);
		err = vtx_get(tx, &key, &val);
	}
	if (c->cache)
		cache_drop(c->cache);
	for (unsigned int i = c->from; i < c->to && !err; i++) {
		key = key_of(i);
		err = c->del ? vtx_del(tx, &key)
			     : vtx_put(tx, &key, value, sizeof(value));
	}
	return err ? err : c->result;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct change all = { .to = KEYS, .look_at = -1 };

	assert_non_null(f);
	*state = f;
	simfs_init(&f->s, 512 << 10);
	f->s.store_only = true;
	simfs_create(&f->s);
	f->v = store_working(f->s.store);
	assert_int_equal(view_update(f->v, 0, change_fn, NULL, &all), 0);
	assert_int_equal(store_checkpoint(f->s.store, f->v), 0);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	simfs_release(&f->s);
	free(f);
	return 0;
}

static bool is_there(struct fixture *f, unsigned int i)
{
	struct change look = { .look_at = (int)i };
	int err = view_read(f->v, change_fn, &look);

	assert_in_range(err, 0, 1);
	return !err;
}

static void test_a_refused_update_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct change c = { .to = 20, .del = true, .look_at = -1, .result = 7 };
	uint64_t version = view_version(f->v);

	assert_int_equal(view_update(f->v, 0, change_fn, NULL, &c), 7);
	for (unsigned int i = 0; i < KEYS; i++)
		assert_true(is_there(f, i));
	assert_int_equal(view_version(f->v), version);
}

/* A leaf that became small is merged with a neighbour that the operation holds
 * and the cache does not. */
static void test_merging_with_a_node_that_is_only_held(void **state)
{
	struct fixture *f = *state;
	struct rng rng = { .s = test_seed(1) };
	bool there[KEYS];
	char why[256];

	memset(there, true, sizeof(there));
	for (unsigned int r = 0; r < 400; r++) {
		unsigned int from = (unsigned int)rng_below(&rng, KEYS - 6);
		struct change c = { .from = from,
				    .to = from + 1 +
					  (unsigned int)rng_below(&rng, 5),
				    .del = rng_below(&rng, 4) != 0,
				    .cache = f->s.store->cache };

		/* One that is there, near by if possible. */
		c.look_at = (int)(from + rng_below(&rng, 16)) - 8;
		if (c.look_at < 0 || c.look_at >= KEYS || !there[c.look_at])
			c.look_at = 0;
		assert_int_equal(view_update(f->v, 0, change_fn, NULL, &c), 0);
		for (unsigned int i = c.from; i < c.to; i++)
			there[i] = !c.del;
		if (view_check(f->v, why, sizeof(why)))
			fail_msg("%s", why);
		assert_int_equal(store_checkpoint(f->s.store, f->v), 0);
		there[0] = true;
		c = (struct change){ .to = 1, .look_at = -1 };
		assert_int_equal(view_update(f->v, 0, change_fn, NULL, &c), 0);
	}
	for (unsigned int i = 0; i < KEYS; i++)
		assert_int_equal(is_there(f, i), there[i]);
}

static void test_a_frozen_state_stays(void **state)
{
	struct fixture *f = *state;
	struct change c = { .to = KEYS, .del = true, .look_at = -1 };
	struct root frozen;
	struct view *old;

	view_freeze(f->v, &frozen);
	assert_int_equal(view_update(f->v, 0, change_fn, NULL, &c), 0);
	assert_false(is_there(f, 5));
	assert_int_equal(view_new(f->s.store, store_new_view_id(f->s.store),
				  &frozen, true, &old),
			 0);
	f->v = old;
	for (unsigned int i = 0; i < KEYS; i++)
		assert_true(is_there(f, i));
	assert_int_equal(view_update(old, 0, change_fn, NULL, &c), -EROFS);
	view_free(old);
	root_put(store_tree(f->s.store), &frozen);
}

/* What is looked at while a flush is under way; sync has no argument. Only
 * by who commits: segments are flushed beside that at any time. */
static struct fixture *syncing;
static pthread_t committing;
static const struct dev_ops *sim_ops;
static unsigned int looks;

static int sync_looking(struct dev_file *file)
{
	struct fixture *f = syncing;
	struct commit_info *head;
	struct root root;
	char why[256];

	if (!pthread_equal(pthread_self(), committing))
		return sim_ops->sync(file);
	head = malloc(2 * sizeof(*head));
	assert_non_null(head);
	store_head(f->s.store, &root, head);
	root_put(store_tree(f->s.store), &root);
	assert_int_equal(
		store_get_commit(f->s.store, head->number + 1, &head[1]), 1);
	if (head->number)
		assert_int_equal(store_get_commit(f->s.store, head->number,
						  &head[1]),
				 0);
	if (store_check(f->s.store, why, sizeof(why)))
		fail_msg("%s", why);
	free(head);
	looks++;
	return sim_ops->sync(file);
}

/* A commit is in the list of commits when it is head: when it is durable. */
static void test_a_commit_is_listed_when_it_is_durable(void **state)
{
	struct fixture *f = *state;
	struct commit_req creq = { .message = "m", .message_bytes = 1 };
	struct dev *dev = simdev_dev(f->s.sim);
	static struct dev_ops ops;
	uint64_t number;

	ops = *dev->ops;
	syncing = f;
	committing = pthread_self();
	sim_ops = dev->ops;
	looks = 0;
	ops.sync = sync_looking;
	dev->ops = &ops;
	for (unsigned int i = 0; i < 5; i++) {
		struct change c = {
			.from = i, .to = i + 1, .del = true, .look_at = -1
		};

		assert_int_equal(view_update(f->v, 0, change_fn, NULL, &c), 0);
		assert_int_equal(store_commit(f->s.store, f->v, &creq, &number),
				 0);
		assert_int_equal(number, i + 1);
	}
	dev->ops = sim_ops;
	assert_in_range(looks, 5, 1000);
}

/* --- who gets the lock next --- */

struct line {
	struct view *v;
	unsigned int n; /* atomic: who had it so far */
};

struct waiter {
	struct line *l;
	struct beside b;
	unsigned int place; /* in which it had the lock */
};

static void take_place(struct waiter *w)
{
	w->place = __atomic_fetch_add(&w->l->n, 1, __ATOMIC_SEQ_CST);
}

static void update(void *arg)
{
	struct waiter *w = arg;

	view_lock_exclusive(w->l->v);
	take_place(w);
	view_unlock_exclusive(w->l->v);
}

static void write_data(void *arg)
{
	struct waiter *w = arg;

	view_lock_data(w->l->v);
	take_place(w);
	view_unlock_data(w->l->v);
}

static int read_fn(struct vtx *tx, void *arg)
{
	take_place(arg);
	return 0;
}

static void read_it(void *arg)
{
	struct waiter *w = arg;

	(void)view_read(w->l->v, read_fn, w);
}

static void join_line(struct waiter *w, struct line *l, void (*fn)(void *arg))
{
	w->l = l;
	beside_start(&w->b, fn, w);
}

/* However many updates were in line before it. */
static void expect_first(struct fixture *f, void (*reader)(void *arg))
{
	struct line l = { .v = f->v };
	struct waiter w[UPDATES + 1];

	view_lock_exclusive(f->v);
	for (int i = 0; i < UPDATES; i++)
		join_line(&w[i], &l, update);
	join_line(&w[UPDATES], &l, reader);
	view_unlock_exclusive(f->v);
	for (int i = 0; i <= UPDATES; i++)
		beside_join(&w[i].b);
	assert_int_equal(l.n, UPDATES + 1);
	assert_int_equal(w[UPDATES].place, 0);
}

static void test_a_reader_waits_for_one_update(void **state)
{
	expect_first(*state, read_it);
}

static void test_a_writer_of_data_waits_for_one_update(void **state)
{
	expect_first(*state, write_data);
}

/* And an update for those who have it, not for those that come. */
static void test_an_update_waits_for_the_readers_there(void **state)
{
	struct fixture *f = *state;
	struct line l = { .v = f->v };
	struct waiter w[3];

	view_lock_data(f->v);
	join_line(&w[0], &l, update);
	join_line(&w[1], &l, write_data);
	join_line(&w[2], &l, read_it);
	view_unlock_data(f->v);
	for (int i = 0; i < 3; i++)
		beside_join(&w[i].b);
	assert_int_equal(w[0].place, 0);
}

struct within {
	struct line l;
	struct waiter writer, reader;
};

static int within_fn(struct vtx *tx, void *arg)
{
	struct within *i = arg;

	/* Somebody else's data can be written within the update. */
	join_line(&i->writer, &i->l, write_data);
	beside_join(&i->writer.b);
	join_line(&i->reader, &i->l, read_it);
	return 0;
}

static void test_an_update_of_one_part_stops_no_writer_of_others(void **state)
{
	struct fixture *f = *state;
	pthread_mutex_t part = PTHREAD_MUTEX_INITIALIZER;
	struct within i = { .l = { .v = f->v } };

	(void)alarm(DEADLINE);
	assert_int_equal(
		view_update_beside(f->v, 0, &part, within_fn, NULL, &i), 0);
	beside_join(&i.reader.b);
	(void)alarm(0);
	assert_int_equal(i.writer.place, 0);
	assert_int_equal(i.reader.place, 1);
	assert_int_equal(pthread_mutex_trylock(&part), 0);
}

struct changer {
	struct view *v;
	struct beside b;
	struct change change;
	int err;
};

static void change_it(void *arg)
{
	struct changer *c = arg;

	c->err = view_update(c->v, VIEW_PRIVILEGED, change_fn, NULL,
			     &c->change);
}

/* All of them were told that there is room, and it is there for some. */
static void test_updates_that_waited_together_fit(void **state)
{
	struct fixture *f = *state;
	struct changer c[TOGETHER];
	struct log_stats st;
	unsigned int done = 0;

	simdev_fill(f->s.sim);
	(void)alarm(DEADLINE);
	view_lock_exclusive(f->v);
	for (unsigned int i = 0; i < TOGETHER; i++) {
		c[i].v = f->v;
		c[i].change = (struct change){ .from = KEYS + i * EACH,
					       .to = KEYS + (i + 1) * EACH,
					       .look_at = -1 };
		beside_start(&c[i].b, change_it, &c[i]);
	}
	view_unlock_exclusive(f->v);
	for (unsigned int i = 0; i < TOGETHER; i++) {
		beside_join(&c[i].b);
		assert_true(!c[i].err || c[i].err == -ENOSPC);
		done += !c[i].err;
	}
	(void)alarm(0);
	assert_in_range(done, 2, TOGETHER - 1);
	log_get_stats(f->s.store->log, &st);
	assert_true(st.claimed_bytes <= st.prepared_bytes);
	simdev_set_capacity(f->s.sim, 0);
	assert_int_equal(store_checkpoint(f->s.store, f->v), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_a_refused_update_changes_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_merging_with_a_node_that_is_only_held, setup,
			teardown),
		cmocka_unit_test_setup_teardown(test_a_frozen_state_stays,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_commit_is_listed_when_it_is_durable, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_a_reader_waits_for_one_update, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_writer_of_data_waits_for_one_update, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_an_update_of_one_part_stops_no_writer_of_others,
			setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_an_update_waits_for_the_readers_there, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_updates_that_waited_together_fit, setup, teardown)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
