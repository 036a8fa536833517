/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files under failing calls: a recorded run of file operations, commits,
 * checkpoints, fsyncs, aborts, snapshots, deletions and sweeps in which one
 * fails, and then the power. Head is the last acknowledged commit (or the one
 * under way), whole; what is staged is a state that was made durable, not older
 * than the last acknowledged; every invariant of files holds.
 */
#include "fs/fs_internal.h" /* fs_sweep: what happens in the background */

#include "tests/lib/digest.h"
#include "tests/lib/simfs.h"
#include "tests/lib/test.h"

#include <errno.h>
#include <sched.h>
#include <sys/stat.h>

enum { FILES = 12, EVENTS_MAX = 400, BLOCK = 4096 };

/* A moment that made a state durable, or tried to. */
struct event {
	size_t before, after; /* device operations */
	uint64_t digest; /* of the working state */
	uint64_t file_ino, file_digest; /* fsync: of this file alone */
	bool commit, done;
};

struct fixture {
	struct simfs s;
	struct rng rng;
	struct event ev[EVENTS_MAX];
	size_t nev;
};

/* --- judging states --- */

static int head_digest(struct fixture *f, uint64_t *out)
{
	struct fs_view *v = simfs_head_view(&f->s);
	char why[256] = "it cannot be read";
	int err;

	err = digest_view(v, out);
	if (!err)
		err = fs_check(v, true, why, sizeof(why));
	/* Or the call that fails is one of these. */
	if (err && !simdev_has_failed(f->s.sim))
		fail_msg("head: %s", why);
	fs_view_put(v);
	return err;
}

/* --- the run --- */

static struct event *event_begin(struct fixture *f)
{
	struct event *e = &f->ev[f->nev];

	assert_true(f->nev < EVENTS_MAX);
	*e = (struct event){ .before = simdev_ops(f->s.sim),
			     .after = SIZE_MAX };
	f->nev++;
	return e;
}

static void name_of(char buf[16], uint64_t i)
{
	snprintf(buf, 16, "f%u", (unsigned int)i);
}

static int random_change(struct fixture *f)
{
	struct fs_view *w = fs_working(f->s.fs);
	struct fs_new new_ = { .mode = S_IFREG | 0644 };
	char name[16], other[16];
	struct fs_attr attr;
	struct fs_file *file;
	static uint8_t buf[40 * BLOCK];
	size_t len;
	int err;

	name_of(name, rng_below(&f->rng, FILES));
	name_of(other, rng_below(&f->rng, FILES));
	err = fs_lookup(w, FS_ROOT_INO, name, strlen(name), &attr);
	if (err == -ENOENT)
		err = fs_make(w, &simfs_cred, FS_ROOT_INO, name, strlen(name),
			      &new_, &attr, NULL);
	if (err)
		return err;
	switch (rng_below(&f->rng, 8)) {
	case 0:
		return fs_unlink(w, FS_ROOT_INO, name, strlen(name), NULL);
	case 1:
	case 2:
		return fs_rename(w, NULL, FS_ROOT_INO, name, strlen(name),
				 FS_ROOT_INO, other, strlen(other), 0, NULL);
	case 3:
		err = fs_link(w, attr.ino, FS_ROOT_INO, other, strlen(other),
			      NULL);
		return err == -EEXIST ? 0 : err;
	default:
		break;
	}
	err = fs_file_open(w, attr.ino, &file);
	if (err)
		return err;
	len = rng_below(&f->rng, 3) ? rng_below(&f->rng, 800) + 1
				    : rng_below(&f->rng, sizeof(buf)) + 1;
	memset(buf, (int)rng_below(&f->rng, 256), len);
	if (rng_below(&f->rng, 5))
		err = fs_write(file, &simfs_cred, rng_below(&f->rng, 3 * BLOCK),
			       buf, len, false);
	else
		err = fs_truncate(file, len);
	fs_file_put(file);
	return err;
}

static int do_checkpoint(struct fixture *f)
{
	struct event *e = event_begin(f);
	int err = digest_view(fs_working(f->s.fs), &e->digest);

	if (!err)
		err = fs_checkpoint(f->s.fs);
	e->after = err ? SIZE_MAX : simdev_ops(f->s.sim);
	e->done = !err;
	return err;
}

/* More than a window, so that it goes to the bulk head. */
static int write_much(struct fixture *f, uint64_t ino)
{
	static uint8_t buf[70 * BLOCK];
	struct fs_file *file;
	int err;

	memset(buf, (int)rng_below(&f->rng, 256), sizeof(buf));
	err = fs_file_open(fs_working(f->s.fs), ino, &file);
	if (err)
		return err;
	err = fs_write(file, &simfs_cred, 0, buf, sizeof(buf), false);
	fs_file_put(file);
	return err;
}

static int do_fsync(struct fixture *f)
{
	struct fs_view *w = fs_working(f->s.fs);
	struct fs_attr attr;
	struct event *e;
	char name[16];
	int err;

	name_of(name, rng_below(&f->rng, FILES));
	err = fs_lookup(w, FS_ROOT_INO, name, strlen(name), &attr);
	if (err)
		return err == -ENOENT ? 0 : err;
	/* Only this file is dirty afterwards, so the state is one of ours. */
	err = do_checkpoint(f);
	if (!err)
		err = write_much(f, attr.ino);
	if (err)
		return err;
	e = event_begin(f);
	err = digest_view(w, &e->digest);
	e->file_ino = attr.ino;
	if (!err)
		err = digest_file(w, attr.ino, &e->file_digest);
	if (!err)
		err = fs_fsync(w, attr.ino);
	if (!err) {
		e->after = simdev_ops(f->s.sim);
		e->done = true;
	}
	return err;
}

/* Names and sweeps change nothing that is shown, but what may be given back.
 * One of them may happen while changes are staged that no record has yet. */
static int do_names(struct fixture *f)
{
	char name[16];
	struct catalog_change c = { .op = CATALOG_DELETE, .name = name };
	int err;

	name_of(name, rng_below(&f->rng, 3));
	err = do_checkpoint(f);
	if (!err)
		err = fs_snapshot(f->s.fs, name, 0, NULL, 0);
	if (err == -EEXIST)
		err = store_change_catalog(f->s.store,
					   store_working(f->s.store), &c);
	if (!err && rng_below(&f->rng, 2))
		return fs_gc(f->s.fs, NULL);
	for (uint64_t n = rng_below(&f->rng, 4); !err && n; n--)
		err = random_change(f);
	return err ? err : fs_sweep(f->s.fs);
}

static int do_event(struct fixture *f)
{
	struct event *e;
	uint64_t number;
	int kind = (int)rng_below(&f->rng, 5), err;

	if (kind == 4)
		return do_names(f);
	if (kind == 3)
		return do_fsync(f);
	if (kind == 0)
		return do_checkpoint(f);
	e = event_begin(f);
	e->commit = kind == 1;
	if (kind == 2) { /* abort: head's state, staged anew */
		err = head_digest(f, &e->digest);
		if (!err)
			err = fs_abort(f->s.fs);
	} else {
		err = digest_view(fs_working(f->s.fs), &e->digest);
		if (!err)
			err = fs_commit(f->s.fs, 0, NULL, 0, &number);
	}
	if (err < 0)
		return err;
	e->after = simdev_ops(f->s.sim);
	e->done = true;
	return 0;
}

static int run(struct fixture *f, unsigned int events)
{
	struct event *e = event_begin(f);
	uint64_t number;
	int err;

	e->commit = true;
	err = digest_view(fs_working(f->s.fs), &e->digest);
	if (!err)
		err = fs_commit(f->s.fs, 0, NULL, 0, &number);
	if (err < 0)
		return err;
	e->after = simdev_ops(f->s.sim);
	e->done = true;
	for (unsigned int i = 0; i < events; i++) {
		for (uint64_t n = rng_below(&f->rng, 6); n; n--) {
			err = random_change(f);
			if (err)
				return err;
		}
		err = do_event(f);
		if (err)
			return err;
	}
	return 0;
}

static void create(struct fixture *f)
{
	simfs_init(&f->s, 512 << 10);
	f->s.params.cache_bytes = 64 << 10;
	f->s.fs_params.buffer_bytes = 1 << 20;
	simfs_create(&f->s);
	simfs_set(&f->s, STORE_KEEP_LAST, 2); /* so that commits are dropped */
	simdev_settle(f->s.sim);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	*state = f;
	create(f);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	simfs_release(&f->s);
	free(f);
	return 0;
}

/* --- after a cut --- */

/* May the state be the one of event i after a cut at op? */
static bool began(const struct event *e, size_t cut)
{
	return e->before <= cut;
}

static void told(void *arg, const char *state, const char *path,
		 const char *what)
{
	fail_msg("cut %zu: %s: %s: %s", *(size_t *)arg, state,
		 path ? path : "-", what);
}

/* Every state that is kept is whole, whatever was given back. */
static void judge_all(struct fixture *f, size_t cut)
{
	struct fs_verify_params p = { .damaged = told, .arg = &cut };
	struct fs_verify_stats st;

	assert_int_equal(fs_verify(f->s.fs, &p, &st), 0);
	assert_int_equal(st.damaged, 0);
}

static void judge(struct fixture *f, struct simdev *img, size_t cut)
{
	uint64_t head, now;
	size_t acked_commit = SIZE_MAX, acked = SIZE_MAX;
	bool head_ok = false, now_ok = false;
	struct store_error text;
	char why[256];

	for (size_t i = 0; i < f->nev; i++) {
		if (!f->ev[i].done || f->ev[i].after > cut)
			continue;
		acked = i;
		if (f->ev[i].commit)
			acked_commit = i;
	}
	if (simfs_try_open(&f->s, img, false, &text))
		fail_msg("cut %zu: cannot open: %s", cut, text.text);
	if (fs_check(fs_working(f->s.fs), true, why, sizeof(why)))
		fail_msg("cut %zu: %s", cut, why);
	judge_all(f, cut);
	if (acked_commit != SIZE_MAX) {
		assert_int_equal(head_digest(f, &head), 0);
		assert_int_equal(digest_view(fs_working(f->s.fs), &now), 0);
		for (size_t i = acked_commit; i < f->nev; i++)
			if (f->ev[i].commit && began(&f->ev[i], cut))
				head_ok |= head == f->ev[i].digest;
		for (size_t i = acked; i < f->nev; i++)
			if (began(&f->ev[i], cut))
				now_ok |= now == f->ev[i].digest;
		if (!head_ok)
			fail_msg("cut %zu: head is no commit's state", cut);
		if (!now_ok)
			fail_msg("cut %zu: staged state was never durable",
				 cut);
	}
	if (acked != SIZE_MAX && f->ev[acked].file_ino &&
	    (acked + 1 == f->nev || !began(&f->ev[acked + 1], cut))) {
		uint64_t got;

		assert_int_equal(digest_file(fs_working(f->s.fs),
					     f->ev[acked].file_ino, &got),
				 0);
		assert_int_equal(got, f->ev[acked].file_digest);
	}
	simfs_abandon(&f->s);
}

/* The device works again. A store that has stopped is read on and acknowledges
 * nothing; another one goes on. */
static void after_failure(struct fixture *f)
{
	const struct root none = ROOT_EMPTY;
	struct fs_view *w = fs_working(f->s.fs);
	struct fs_new new_ = { .mode = S_IFDIR | 0755 };
	struct root root = ROOT_EMPTY;
	struct fs_change_totals t;
	struct fs_file *file;
	struct fs_attr attr;
	int err;
	uint64_t d, number;

	if (!store_failed(f->s.store, NULL)) {
		err = run(f, 4);
		if (!err)
			return;
		/* It met the thread that prepares segments, which says so in a
		 * moment. */
		assert_int_equal(err, -EIO);
		assert_true(store_failed(f->s.store, NULL));
	}
	assert_int_equal(digest_view(w, &d), 0);
	assert_int_equal(fs_make(w, &simfs_cred, FS_ROOT_INO, "late", 4, &new_,
				 &attr, NULL),
			 -EROFS);
	assert_int_equal(fs_checkpoint(f->s.fs), -EIO);
	assert_int_equal(fs_fsync(w, FS_ROOT_INO), -EIO);
	assert_int_equal(fs_commit(f->s.fs, 0, NULL, 0, &number), -EIO);
	assert_int_equal(fs_snapshot(f->s.fs, "late", 0, NULL, 0), -EIO);
	assert_int_equal(fs_gc(f->s.fs, NULL), -EIO);
	/* What is staged can still be told, buffers included. */
	assert_int_equal(fs_freeze(f->s.fs, &root), 0);
	assert_int_equal(fs_change_totals(f->s.fs, &none, &root, &t), 0);
	root_put(store_tree(f->s.store), &root);
	assert_int_equal(digest_view(w, &number), 0);
	assert_true(d == number);
	if (!fs_lookup(w, FS_ROOT_INO, "f1", 2, &attr)) {
		assert_int_equal(fs_file_open(w, attr.ino, &file), 0);
		err = fs_seek(file, 0, SEEK_HOLE, &d);
		assert_true(!err || err == -ENXIO);
		fs_file_put(file);
	}
}

/* Each call of the device fails in turn, for ever after: nothing acknowledged
 * is lost, and the store says that it stopped or goes on. */
static void failing_calls(struct fixture *f, unsigned int mask, int err_no,
			  bool for_ever, bool is_short)
{
	uint64_t seed = test_seed(9);

	for (uint64_t nth = 1;; nth++) {
		struct simdev *img;
		int err;

		simfs_release(&f->s);
		f->nev = 0;
		f->rng.s = seed;
		create(f);
		simdev_set_short(f->s.sim, is_short);
		simdev_fail(f->s.sim, mask, nth, err_no, for_ever);
		err = run(f, 12);
		if (!simdev_has_failed(f->s.sim)) {
			assert_int_equal(err, 0);
			assert_true(nth > 5);
			break;
		}
		assert_true(!err || err == -err_no || err == -EIO ||
			    (err == -EROFS && store_failed(f->s.store, NULL)));
		simdev_fail(f->s.sim, 0, 0, 0, false);
		after_failure(f);
		simfs_abandon(&f->s);
		img = simdev_image(f->s.sim, simdev_ops(f->s.sim), SIM_DROP, 1);
		judge(f, img, simdev_ops(f->s.sim));
		simdev_free(img);
	}
}

static void test_failing_writes_and_syncs(void **state)
{
	failing_calls(*state, SIM_WRITE | SIM_SYNC | SIM_SYNC_DIR, EIO, true,
		      false);
}

static void test_a_failure_that_does_not_last(void **state)
{
	failing_calls(*state, SIM_WRITE | SIM_SYNC, EIO, false, false);
}

static void test_no_space(void **state)
{
	failing_calls(*state, SIM_WRITE | SIM_ALLOCATE | SIM_CREATE, ENOSPC,
		      true, false);
}

static void test_short_writes(void **state)
{
	failing_calls(*state, SIM_WRITE, ENOSPC, false, true);
	failing_calls(*state, SIM_WRITE, EIO, true, true);
}

static void test_any_other_call(void **state)
{
	const unsigned int all = SIM_ALL & ~(SIM_WRITE | SIM_SYNC);

	failing_calls(*state, all, EIO, false, false);
	failing_calls(*state, all & ~SIM_READ, ENOSPC, false, false);
}

/* --- a full disk --- */

static int write_f(struct fixture *f, const char *name, uint64_t off, int byte,
		   size_t len)
{
	static uint8_t buf[64 * BLOCK];
	struct fs_view *w = fs_working(f->s.fs);
	struct fs_new new_ = { .mode = S_IFREG | 0644 };
	struct fs_attr attr;
	struct fs_file *file;
	int err;

	err = fs_make(w, &simfs_cred, FS_ROOT_INO, name, strlen(name), &new_,
		      &attr, NULL);
	if (err == -EEXIST)
		err = fs_lookup(w, FS_ROOT_INO, name, strlen(name), &attr);
	if (!err)
		err = fs_file_open(w, attr.ino, &file);
	if (err)
		return err;
	memset(buf, byte, sizeof(buf));
	err = fs_write(file, &simfs_cred, off, buf, len, false);
	fs_file_put(file);
	return err;
}

/* Far more than the disk holds is written over, staged and committed: what is
 * dead is given back before anybody hears that there is no space. */
static void test_dead_space_is_found(void **state)
{
	struct fixture *f = *state;
	uint64_t number;

	simdev_set_capacity(f->s.sim, 12 << 20);
	for (int i = 0; i < 400; i++) {
		assert_int_equal(write_f(f, "a", (uint64_t)(i % 4) * 64 * BLOCK,
					 i, 64 * BLOCK),
				 0);
		if (i % 7 == 0)
			assert_true(fs_commit(f->s.fs, 0, NULL, 0, &number) >=
				    0);
	}
}

/* Live data fills it: the writer hears of it, everything that ends or frees
 * something works, and then there is space again. */
static void test_full_of_live_data(void **state)
{
	struct fixture *f = *state;
	struct fs_view *w = fs_working(f->s.fs);
	struct fs_attr attr;
	struct fs_file *file;
	struct catalog_change c = { .op = CATALOG_DELETE,
				    .name = "@discarded-1" };
	uint64_t number, head, now;
	unsigned int n = 0;
	char name[24];
	int err;

	simdev_set_capacity(f->s.sim, 12 << 20);
	assert_int_equal(write_f(f, "kept", 0, 1, 64 * BLOCK), 0);
	assert_int_equal(fs_commit(f->s.fs, 0, NULL, 0, &number), 0);
	do {
		snprintf(name, sizeof(name), "n%u", n++);
		err = write_f(f, name, 0, (int)n, 64 * BLOCK);
	} while (!err);
	assert_int_equal(err, -ENOSPC);
	assert_true(n > 10);
	assert_int_equal(fs_commit(f->s.fs, 0, NULL, 0, &number), 0);
	assert_int_equal(head_digest(f, &head), 0);
	/* A file shorter, a hole in one, one gone; kept by the last commit,
	 * so this gives nothing back yet. */
	assert_int_equal(fs_lookup(w, FS_ROOT_INO, "n0", 2, &attr), 0);
	assert_int_equal(fs_file_open(w, attr.ino, &file), 0);
	assert_int_equal(fs_fallocate(file, 3, 0, 8 * BLOCK), 0);
	assert_int_equal(fs_truncate(file, 0), 0);
	fs_file_put(file);
	assert_int_equal(fs_abort(f->s.fs), 0);
	assert_int_equal(digest_view(w, &now), 0);
	assert_true(now == head);
	assert_int_equal(write_f(f, "more", 0, 1, 64 * BLOCK), -ENOSPC);
	for (unsigned int i = 0; i < n / 2; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		assert_int_equal(
			fs_unlink(w, FS_ROOT_INO, name, strlen(name), NULL), 0);
	}
	assert_int_equal(fs_commit(f->s.fs, 0, NULL, 0, &number), 0);
	/* keep.last 2: the full one goes with the next but one; what the abort
	 * replaced holds it too. */
	assert_int_equal(store_change_catalog(f->s.store,
					      store_working(f->s.store), &c),
			 0);
	assert_int_equal(fs_unlink(w, FS_ROOT_INO, "kept", 4, NULL), 0);
	assert_int_equal(fs_commit(f->s.fs, 0, NULL, 0, &number), 0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(write_f(f, "more", 0, i, 64 * BLOCK), 0);
	assert_int_equal(fs_commit(f->s.fs, 0, NULL, 0, &number), 0);
	assert_false(store_failed(f->s.store, NULL));
}

/* Small files fill it, and deleting one takes more of the tree than it gives
 * back at once: that may come to an end, but not what makes it durable. */
static void test_deletions_leave_room_for_a_commit(void **state)
{
	struct fixture *f = *state;
	struct fs_view *w = fs_working(f->s.fs);
	unsigned int n = 0, i = 0;
	uint64_t number, now, head;
	char name[24];
	int err;

	simdev_set_capacity(f->s.sim, 24 << 20);
	assert_int_equal(write_f(f, "kept", 0, 1, 100), 0);
	assert_int_equal(fs_commit(f->s.fs, 0, NULL, 0, &number), 0);
	do {
		snprintf(name, sizeof(name), "n%u", n++);
		err = write_f(f, name, 0, (int)n, 800);
	} while (!err);
	assert_int_equal(err, -ENOSPC);
	assert_true(n > 5000 && (n - 1) % 7919);
	do { /* all over the tree */
		snprintf(name, sizeof(name), "n%u", i * 7919 % (n - 1));
		err = fs_unlink(w, FS_ROOT_INO, name, strlen(name), NULL);
	} while (!err && ++i < n - 1);
	assert_true(!err || err == -ENOSPC);
	assert_true(i > 100);
	assert_int_equal(fs_fsync(w, FS_ROOT_INO), 0);
	assert_int_equal(fs_commit(f->s.fs, 0, NULL, 0, &number), 0);
	assert_int_equal(fs_snapshot(f->s.fs, "full", 0, NULL, 0), 0);
	assert_int_equal(head_digest(f, &head), 0);
	(void)fs_unlink(w, FS_ROOT_INO, "kept", 4, NULL);
	assert_int_equal(fs_abort(f->s.fs), 0);
	assert_int_equal(digest_view(w, &now), 0);
	assert_true(now == head);
	assert_int_equal(fs_gc(f->s.fs, NULL), 0);
	assert_false(store_failed(f->s.store, NULL));
}

/* Symlinks fill it: nothing but the tree. */
static void fill_with_links(struct fixture *f)
{
	static const char target[] =
		"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd"
		"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd"
		"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abc"
		"d";
	struct fs_new new_ = { .mode = S_IFLNK | 0777,
			       .target = target,
			       .target_len = sizeof(target) - 1 };
	struct fs_attr attr;
	unsigned int n = 0;
	char name[24];
	int err;

	do {
		snprintf(name, sizeof(name), "n%u", n++);
		err = fs_make(fs_working(f->s.fs), &simfs_cred, FS_ROOT_INO,
			      name, strlen(name), &new_, &attr, NULL);
	} while (!err);
	assert_int_equal(err, -ENOSPC);
}

/* Changes of the catalog, each of which takes some of the reserve, until no
 * more than so much of it is left; or nothing. */
static void use_reserve(struct fixture *f, uint64_t left)
{
	struct catalog_change set = { .op = CATALOG_SET,
				      .setting = STORE_KEEP_LAST };
	struct log_stats st;
	int err;

	do {
		set.number = 2 + set.number % 2;
		err = store_change_catalog(f->s.store, store_plain(f->s.store),
					   &set);
		log_get_stats(f->s.fs->log, &st);
	} while (!err && st.prepared_bytes > left);
	assert_int_equal(err, left ? 0 : -ENOSPC);
}

/* Half of the reserve is gone, and the host has no more than what the store
 * gives back when it is closed, or killed: it opens, and what fills it can
 * go. */
static void full_store_opens(struct fixture *f, bool killed)
{
	struct catalog_change c = { .op = CATALOG_DELETE,
				    .name = "@discarded-1" };
	uint64_t number;

	simdev_set_capacity(f->s.sim, 12 << 20);
	assert_int_equal(fs_commit(f->s.fs, 0, NULL, 0, &number), 0);
	fill_with_links(f);
	assert_int_equal(fs_fsync(fs_working(f->s.fs), FS_ROOT_INO), 0);
	simdev_fill(f->s.sim);
	use_reserve(f, 256 << 10);
	if (killed)
		simfs_abandon(&f->s);
	else
		simfs_close(&f->s);
	simfs_open(&f->s);
	assert_int_equal(fs_abort(f->s.fs), 0);
	assert_int_equal(store_change_catalog(f->s.store,
					      store_working(f->s.store), &c),
			 0);
	assert_int_equal(fs_gc(f->s.fs, NULL), 0);
	assert_int_equal(write_f(f, "again", 0, 1, 64 * BLOCK), 0);
	assert_int_equal(fs_commit(f->s.fs, 0, NULL, 0, &number), 0);
}

static void test_a_full_store_opens(void **state)
{
	full_store_opens(*state, false);
}

static void test_a_full_store_opens_after_a_kill(void **state)
{
	full_store_opens(*state, true);
}

/* As many names as there is room for, of what is deleted bit by bit. What they
 * leave is enough for what ends that. */
static void test_names_leave_room(void **state)
{
	struct fixture *f = *state;
	struct catalog_change c = { .op = CATALOG_DELETE, .name = "s0" };
	struct fs_view *w = fs_working(f->s.fs);
	unsigned int n = 0;
	uint64_t number;
	char name[24];
	int err;

	simdev_set_capacity(f->s.sim, 12 << 20);
	assert_int_equal(fs_commit(f->s.fs, 0, NULL, 0, &number), 0);
	fill_with_links(f);
	assert_int_equal(fs_commit(f->s.fs, 0, NULL, 0, &number), 0);
	simdev_fill(f->s.sim);
	do {
		snprintf(name, sizeof(name), "n%u", 1 + n * 97);
		(void)fs_unlink(w, FS_ROOT_INO, name, strlen(name), NULL);
		snprintf(name, sizeof(name), "s%u", n);
		err = fs_snapshot(f->s.fs, name, 0, NULL, 0);
	} while (!err && ++n);
	assert_int_equal(err, -ENOSPC);
	assert_true(n > 5);
	assert_int_equal(fs_commit(f->s.fs, 0, NULL, 0, &number), 0);
	(void)fs_unlink(w, FS_ROOT_INO, "n0", 2, NULL);
	assert_int_equal(fs_abort(f->s.fs), 0);
	assert_int_equal(store_change_catalog(f->s.store,
					      store_working(f->s.store), &c),
			 0);
}

/* Changes of the catalog took all of the reserve. Nothing of that lives, and gc
 * finds it though it has no room for what is staged. */
static void test_gc_finds_what_the_reserve_became(void **state)
{
	struct fixture *f = *state;
	uint64_t number;

	simdev_set_capacity(f->s.sim, 12 << 20);
	assert_int_equal(fs_commit(f->s.fs, 0, NULL, 0, &number), 0);
	fill_with_links(f);
	assert_int_equal(fs_commit(f->s.fs, 0, NULL, 0, &number), 0);
	simdev_fill(f->s.sim);
	assert_int_equal(
		fs_unlink(fs_working(f->s.fs), FS_ROOT_INO, "n0", 2, NULL), 0);
	use_reserve(f, 0);
	assert_int_equal(fs_commit(f->s.fs, 0, NULL, 0, &number), -ENOSPC);
	assert_int_equal(fs_gc(f->s.fs, NULL), 0);
	assert_int_equal(fs_commit(f->s.fs, 0, NULL, 0, &number), 0);
	assert_int_equal(fs_abort(f->s.fs), 0);
}

/* --- many writers at once on a full disk --- */

enum { WRITERS = 32 };

struct writers {
	size_t len; /* of each write */
	/* atomic */
	unsigned int arrived, accepted;
};

struct writer {
	struct writers *all;
	pthread_t thread;
	struct fs_file *file;
};

static _Thread_local struct writers *waits;

/* Asked between the look for room and the change: all of them have looked when
 * the first one changes something. */
static int64_t meet_there(struct env *env)
{
	struct writers *w = waits;

	if (w) {
		waits = NULL;
		__atomic_add_fetch(&w->arrived, 1, __ATOMIC_SEQ_CST);
		while (__atomic_load_n(&w->arrived, __ATOMIC_SEQ_CST) < WRITERS)
			sched_yield();
	}
	return 1;
}

static void *write_at_once(void *arg)
{
	static uint8_t buf[64 * BLOCK];
	struct writer *w = arg;
	int err;

	waits = w->all;
	err = fs_write(w->file, &simfs_cred, 0, buf, w->all->len, false);
	if (!err)
		__atomic_add_fetch(&w->all->accepted, 1, __ATOMIC_SEQ_CST);
	/* Who was refused before that is not waited for. */
	if (waits)
		__atomic_add_fetch(&w->all->arrived, 1, __ATOMIC_SEQ_CST);
	return err && err != -ENOSPC ? w : NULL;
}

/* There is room for a few of them: the others hear of it, and what was accepted
 * is committed. */
static void write_all_at_once(struct fixture *f, size_t len)
{
	struct fs_new new_ = { .mode = S_IFREG | 0644 };
	struct fs_view *v = fs_working(f->s.fs);
	struct writers all = { .len = len };
	struct writer w[WRITERS];
	struct fs_attr attr;
	uint64_t number;
	char name[24];
	void *failed;

	for (int i = 0; i < WRITERS; i++) {
		snprintf(name, sizeof(name), "w%d", i);
		w[i].all = &all;
		assert_int_equal(fs_make(v, &simfs_cred, FS_ROOT_INO, name,
					 strlen(name), &new_, &attr, NULL),
				 0);
		/* So it is looked at for set-id bits: see meet_there(). */
		assert_int_equal(fs_file_open(v, attr.ino, &w[i].file), 0);
	}
	/* Nothing is left that a sweep would find. */
	assert_int_equal(fs_gc(f->s.fs, NULL), 0);
	simdev_set_capacity(f->s.sim, 6 << 20);
	f->s.env.now_ns = meet_there;
	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&w[i].thread, NULL,
						write_at_once, &w[i]),
				 0);
	for (int i = 0; i < WRITERS; i++) {
		assert_int_equal(pthread_join(w[i].thread, &failed), 0);
		assert_null(failed);
		fs_file_put(w[i].file);
	}
	fprintf(stderr, "%u accepted\n", all.accepted);
	assert_true(all.accepted > 0 && all.accepted < WRITERS);
	assert_int_equal(fs_commit(f->s.fs, 0, NULL, 0, &number), 0);
	assert_false(store_failed(f->s.store, NULL));
}

static void test_many_writers_at_once(void **state)
{
	write_all_at_once(*state, 64 * (size_t)BLOCK);
}

static void test_many_small_writers_at_once(void **state)
{
	write_all_at_once(*state, 40 * (size_t)BLOCK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_failing_writes_and_syncs,
						setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_failure_that_does_not_last, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_space, setup, teardown),
		cmocka_unit_test_setup_teardown(test_short_writes, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_any_other_call, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_dead_space_is_found, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_full_store_opens, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			test_a_full_store_opens_after_a_kill, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names_leave_room, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			test_gc_finds_what_the_reserve_became, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_of_live_data, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			test_deletions_leave_room_for_a_commit, setup,
			teardown),
		cmocka_unit_test_setup_teardown(test_many_writers_at_once,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_small_writers_at_once,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
