/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The store under power cuts and failing calls: a recorded run of changes,
 * commits, checkpoints and flips; after a cut at any point what was
 * acknowledged is there, whole, and staged changes are one of the states that
 * the view really had.
 */
#include "txn/store.h"

#include "tests/lib/simdev.h"
#include "tests/lib/test.h"

enum { KEYS = 60, STEPS_MAX = 4000 };

/* A state: the tag of each key's value, 0: absent. */
struct model {
	uint32_t tag[KEYS];
};

struct history {
	struct model state[STEPS_MAX]; /* of the working view, by step */
	size_t ops_at[STEPS_MAX]; /* of the device, when the step began */
	size_t n;
	/* Acknowledged: head is commits[i], which was state at step. */
	struct {
		size_t step, ops;
	} commits[STEPS_MAX], durable[STEPS_MAX];
	size_t ncommits, ndurable;
};

struct fixture {
	struct simdev *sim;
	struct env env;
	struct store *store;
	struct rng rng;
	struct history h;
	struct model now;
};

static struct key key_of(unsigned int i)
{
	return KEY(20 + i % 7, 3, i * 1000);
}

static size_t value_of(unsigned int i, uint32_t tag,
		       uint8_t buf[TREE_VALUE_MAX])
{
	size_t len = 4 + (tag * 37 + i) % 700;

	for (size_t k = 0; k < len; k++)
		buf[k] = (uint8_t)(tag + k);
	put_le32(buf, tag);
	return len;
}

static struct store_params params(struct fixture *f, struct simdev *sim)
{
	return (struct store_params){ .dev = simdev_dev(sim),
				      .env = &f->env,
				      .cache_bytes = 64 << 10,
				      .small_segment_bytes = 512 << 10,
				      .bulk_segment_bytes = 512 << 10,
				      .reserve_bytes = 512 << 10 };
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct store_error err = { "" };
	struct store_params p;

	assert_non_null(f);
	*state = f;
	f->sim = simdev_new();
	test_env_init(&f->env);
	f->rng.s = test_seed(1);
	p = params(f, f->sim);
	if (store_create(&p, &f->store, &err))
		fail_msg("%s", err.text);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->store)
		store_abandon(f->store);
	simdev_free(f->sim);
	free(f);
	return 0;
}

/* --- changing --- */

struct change_arg {
	unsigned int n;
	struct {
		unsigned int key;
		uint32_t tag;
	} c[8];
};

static int change_fn(struct vtx *tx, void *arg)
{
	struct change_arg *a = arg;
	uint8_t buf[TREE_VALUE_MAX];
	int err = 0;

	for (unsigned int i = 0; !err && i < a->n; i++) {
		struct key key = key_of(a->c[i].key);

		if (!a->c[i].tag)
			err = vtx_del(tx, &key);
		else
			err = vtx_put(tx, &key, buf,
				      value_of(a->c[i].key, a->c[i].tag, buf));
	}
	return err;
}

static void random_changes(struct fixture *f, struct change_arg *a)
{
	a->n = 1 + (unsigned int)rng_below(&f->rng, 8);
	for (unsigned int i = 0; i < a->n; i++) {
		a->c[i].key = (unsigned int)rng_below(&f->rng, KEYS);
		a->c[i].tag = rng_below(&f->rng, 4)
				      ? (uint32_t)rng_next(&f->rng) | 1
				      : 0;
	}
}

static void step_begin(struct fixture *f)
{
	assert_true(f->h.n < STEPS_MAX);
	f->h.ops_at[f->h.n] = simdev_ops(f->sim);
}

static void step_end(struct fixture *f)
{
	f->h.state[f->h.n++] = f->now;
}

static int do_change(struct fixture *f)
{
	struct change_arg a;
	int err;

	random_changes(f, &a);
	step_begin(f);
	err = view_update(store_working(f->store), 0, change_fn, NULL, &a);
	if (err)
		return err;
	for (unsigned int i = 0; i < a.n; i++)
		f->now.tag[a.c[i].key] = a.c[i].tag;
	step_end(f);
	return 0;
}

static void note_durable(struct fixture *f)
{
	f->h.durable[f->h.ndurable].step = f->h.n - 1;
	f->h.durable[f->h.ndurable++].ops = simdev_ops(f->sim);
}

static int do_commit(struct fixture *f)
{
	char message[3000];
	struct commit_req req = { .uid = 7, .message = message };
	uint64_t number;
	int err;

	memset(message, 'm', sizeof(message));
	req.message_bytes = rng_below(&f->rng, sizeof(message));
	err = store_commit(f->store, store_working(f->store), &req, &number);
	if (err < 0)
		return err;
	assert_int_equal(number, f->h.ncommits + !err);
	if (!err) {
		f->h.commits[f->h.ncommits].step = f->h.n - 1;
		f->h.commits[f->h.ncommits++].ops = simdev_ops(f->sim);
	}
	note_durable(f);
	return 0;
}

static int do_abort(struct fixture *f)
{
	struct view *v = store_working(f->store);
	struct root head, old;
	int err;

	if (!f->h.ncommits)
		return 0;
	step_begin(f);
	store_head(f->store, &head, NULL);
	err = view_flip(v, &head, NULL, NULL, NULL, &old);
	root_put(store_tree(f->store), &head);
	if (err)
		return err;
	root_put(store_tree(f->store), &old);
	f->now = f->h.state[f->h.commits[f->h.ncommits - 1].step];
	step_end(f);
	err = store_checkpoint(f->store, v);
	if (!err)
		note_durable(f);
	return err;
}

static int random_step(struct fixture *f)
{
	int err;

	switch (rng_below(&f->rng, 10)) {
	case 0:
	case 1:
		return do_commit(f);
	case 2:
		return do_abort(f);
	case 3:
		err = store_checkpoint(f->store, store_working(f->store));
		if (!err)
			note_durable(f);
		return err;
	default:
		return do_change(f);
	}
}

/* --- looking --- */

static int load_fn(struct vtx *tx, void *arg)
{
	struct model *m = arg;
	struct key from = KEY(20, 0, 0), last = KEY_LAST, key;
	uint8_t want[TREE_VALUE_MAX];
	size_t found = 0, expect = 0;
	struct val val;
	int err;

	for (unsigned int i = 0; i < KEYS; i++) {
		key = key_of(i);
		err = vtx_get(tx, &key, &val);
		if (err < 0)
			return err;
		m->tag[i] = 0;
		if (err)
			continue;
		assert_true(val.len >= 4);
		m->tag[i] = get_le32(val.p);
		assert_int_equal(val.len, value_of(i, m->tag[i], want));
		assert_memory_equal(val.p, want, val.len);
		expect++;
	}
	while ((err = vtx_next(tx, &from, &last, &key, &val)) == 0) {
		found++;
		from = key;
		from.off++;
	}
	if (err < 0)
		return err;
	assert_int_equal(found, expect);
	return 0;
}

static void load_head(struct store *s, struct model *m, uint64_t *number)
{
	struct commit_info *info = malloc(sizeof(*info));
	struct view *v;
	struct root head;

	assert_non_null(info);
	store_head(s, &head, info);
	*number = info->number;
	free(info);
	assert_int_equal(view_new(s, store_new_view_id(s), &head, true, &v), 0);
	root_put(store_tree(s), &head);
	assert_int_equal(view_read(v, load_fn, m), 0);
	view_free(v);
}

static struct store *reopen(struct fixture *f, struct simdev *sim,
			    bool read_only)
{
	struct store_params p = params(f, sim);
	struct store_error err = { "" };
	struct store *s;
	char why[256];

	p.read_only = read_only;
	if (store_open(&p, &s, &err))
		fail_msg("%s", err.text);
	if (store_check(s, why, sizeof(why)))
		fail_msg("%s", why);
	return s;
}

/* What is there now counts as acknowledged. */
static void begin_history(struct fixture *f)
{
	struct history *h = &f->h;
	uint64_t number;

	simdev_settle(f->sim);
	h->ndurable = 0;
	h->n = 2;
	h->ops_at[0] = h->ops_at[1] = 0;
	load_head(f->store, &h->state[0], &number);
	for (uint64_t i = 0; i < number; i++) {
		h->commits[i].step = 0;
		h->commits[i].ops = 0;
	}
	h->ncommits = number;
	h->state[1] = f->now;
	note_durable(f);
}

static bool was_a_state(const struct history *h, size_t first, size_t cut,
			const struct model *m)
{
	for (size_t i = first; i < h->n && h->ops_at[i] <= cut; i++)
		if (!memcmp(m, &h->state[i], sizeof(*m)))
			return true;
	return false;
}

/* The promise, for a disk on which the power went after `cut` changes. */
static void assert_promises(struct fixture *f, struct store *s, size_t cut)
{
	const struct history *h = &f->h;
	size_t acked = 0, first = 0;
	struct model m;
	uint64_t number;

	while (acked < h->ncommits && h->commits[acked].ops <= cut)
		acked++;
	for (size_t i = 0; i < h->ndurable && h->durable[i].ops <= cut; i++)
		first = h->durable[i].step;
	load_head(s, &m, &number);
	assert_true(number == acked || number == acked + 1);
	if (number && number <= h->ncommits)
		assert_memory_equal(&m, &h->state[h->commits[number - 1].step],
				    sizeof(m));
	assert_int_equal(view_read(store_working(s), load_fn, &m), 0);
	assert_true(was_a_state(h, first, cut, &m));
}

/* Lives and crashes again and again, with the thread that prepares segments:
 * what test_fs_cuts.c, which replays, has to leave out. */
static void test_crash_after_crash(void **state)
{
	struct fixture *f = *state;
	uint64_t rounds = test_param("CRASHES", 30);

	for (uint64_t r = 0; r < rounds; r++) {
		struct simdev *img;
		size_t cut;

		begin_history(f);
		for (uint64_t i = rng_below(&f->rng, 25); i > 0; i--)
			assert_int_equal(random_step(f), 0);
		cut = rng_below(&f->rng, simdev_ops(f->sim) + 1);
		img = simdev_image(f->sim, cut, rng_below(&f->rng, SIM_MODES),
				   rng_next(&f->rng));
		store_abandon(f->store);
		simdev_free(f->sim);
		f->sim = img;
		f->store = NULL;
		f->store = reopen(f, img, false);
		assert_promises(f, f->store, cut);
		assert_int_equal(view_read(store_working(f->store), load_fn,
					   &f->now),
				 0);
	}
}

/* Stopped: reading goes on, and nothing is acknowledged any more, though the
 * device works again. */
static void check_stopped(struct fixture *f)
{
	struct history *h = &f->h;
	size_t n = h->n, ncommits = h->ncommits, ndurable = h->ndurable;
	const char *reason = NULL;
	struct model m;

	assert_true(store_failed(f->store, &reason));
	assert_non_null(strstr(reason, ".txn/log/"));
	for (int i = 0; i < 20; i++)
		(void)random_step(f);
	assert_int_equal(do_change(f), -EROFS);
	assert_int_equal(do_commit(f), -EIO);
	assert_int_equal(store_checkpoint(f->store, store_working(f->store)),
			 -EIO);
	assert_int_equal(ncommits, h->ncommits);
	assert_int_equal(ndurable, h->ndurable);
	assert_int_equal(view_read(store_working(f->store), load_fn, &m), 0);
	h->n = n; /* what a flip in memory showed was never durable */
}

/* One call of the host fails. Returns whether it came to that. */
static bool one_failing_call(struct fixture *f, unsigned int kind, uint64_t nth,
			     int err_no, bool is_short)
{
	struct fixture *g = malloc(sizeof(*g));
	bool failed;
	int err = 0;

	assert_non_null(g);
	*g = *f;
	g->sim = simdev_image(f->sim, simdev_ops(f->sim), SIM_KEEP, 1);
	g->store = reopen(g, g->sim, false);
	begin_history(g);
	simdev_set_short(g->sim, is_short);
	simdev_fail(g->sim, kind, nth, err_no, false);
	for (int i = 0; i < 60 && !err; i++)
		err = random_step(g);
	failed = simdev_has_failed(g->sim);
	simdev_fail(g->sim, 0, 0, 0, false);
	if (store_failed(g->store, NULL)) {
		check_stopped(g);
	} else {
		/* That errno, or nobody noticed; and everything goes on. */
		assert_true(!err || (failed && err == -err_no));
		for (int i = 0; i < 20; i++)
			assert_int_equal(random_step(g), 0);
	}
	store_abandon(g->store);
	for (int mode = 0; mode < SIM_MODES; mode++) {
		struct simdev *img = simdev_image(g->sim, simdev_ops(g->sim),
						  mode, rng_next(&f->rng));
		struct store *s = reopen(g, img, false);

		assert_promises(g, s, simdev_ops(g->sim));
		store_abandon(s);
		simdev_free(img);
	}
	simdev_free(g->sim);
	free(g);
	return failed;
}

/* A call of the host fails once: either everything goes on, or the store
 * stops, and what was acknowledged is there after opening again. */
static void test_every_failing_call(void **state)
{
	struct fixture *f = *state;
	const int errs[] = { EIO, ENOSPC };
	uint64_t nth, seen = 0;

	for (unsigned int kind = 1; kind < SIM_ALL; kind *= 2) {
		for (size_t k = 0; k < 4; k++) {
			bool is_short = k & 2;

			if (is_short && kind != SIM_WRITE)
				continue;
			nth = 1;
			while (nth < 40 &&
			       one_failing_call(f, kind, nth, errs[k & 1],
						is_short))
				nth++;
			seen += nth - 1;
		}
	}
	fprintf(stderr, "%" PRIu64 " failing calls\n", seen);
	assert_true(seen > 100);
}

static bool same_states(struct store *a, struct store *b)
{
	struct model ma, mb;
	uint64_t na, nb;

	load_head(a, &ma, &na);
	load_head(b, &mb, &nb);
	if (na != nb || memcmp(&ma, &mb, sizeof(ma)) != 0)
		return false;
	assert_int_equal(view_read(store_working(a), load_fn, &ma), 0);
	assert_int_equal(view_read(store_working(b), load_fn, &mb), 0);
	return !memcmp(&ma, &mb, sizeof(ma));
}

/* After `shown` changes of the device the store at f->store was open. */
static void check_cuts_from(struct fixture *f, size_t first, size_t shown)
{
	size_t last = simdev_ops(f->sim);

	for (size_t cut = first; cut <= last; cut++) {
		for (int mode = 0; mode < SIM_MODES; mode++) {
			struct simdev *img;
			struct store *s;

			img = simdev_image(f->sim, cut, mode,
					   rng_next(&f->rng));
			s = reopen(f, img, false);
			assert_promises(f, s, cut);
			if (cut >= shown)
				assert_true(same_states(f->store, s));
			store_abandon(s);
			simdev_free(img);
		}
	}
}

/*
 * A daemon dies with writes that it has not flushed; the next one finds them in
 * the host's cache and goes on from them; then the power goes. What the second
 * one has shown, or acknowledged, stays.
 */
static void test_a_power_cut_after_a_death(void **state)
{
	struct fixture *f = *state;

	for (uint64_t nth = 1; nth < test_param("DEATHS", 25); nth++) {
		struct fixture g = *f;
		size_t died;
		int err = 0;

		g.sim = simdev_image(f->sim, simdev_ops(f->sim), SIM_KEEP, 1);
		g.store = reopen(&g, g.sim, false);
		begin_history(&g);
		simdev_fail(g.sim, SIM_SYNC, nth, EIO, true);
		for (int i = 0; i < 200 && !err; i++)
			err = random_step(&g);
		assert_true(err);
		store_abandon(g.store);
		simdev_fail(g.sim, 0, 0, 0, false);
		died = simdev_ops(g.sim);
		g.store = reopen(&g, g.sim, false);
		check_cuts_from(&g, died, simdev_ops(g.sim));
		store_abandon(g.store);
		simdev_free(g.sim);
		f->rng = g.rng;
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_crash_after_crash),
		TEST(test_every_failing_call),
		TEST(test_a_power_cut_after_a_death),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
