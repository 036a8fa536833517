/* SPDX-License-Identifier: GPL-2.0-or-later */
/* LDFLAGS: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc */
/* LDFLAGS: -Wl,--wrap=strdup,--wrap=strndup */
/*
 * Each allocation fails in turn. Random operations on files, their history and
 * the store; of each the first allocation fails, then the second, and so on,
 * until it succeeds. One that says ENOMEM has changed nothing that is shown.
 * The store may stop, with a reason; then, as after a power cut at any time,
 * opening it again finds what was acknowledged.
 */
#include "fs/fs_internal.h" /* fs_sweep: what happens in the background */

#include "fs/adopt.h"
#include "fs/plain.h"
#include "tests/lib/digest.h"
#include "tests/lib/nomem.h"
#include "tests/lib/simfs.h"
#include "tests/lib/test.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAMES = 10, STATES_MAX = 400, BLOCK = 4096, BUF = 80 * BLOCK };

struct fixture {
	struct simfs s;
	struct rng rng;
	uint8_t buf[BUF];
	uint64_t head; /* the last acknowledged commit */
	/* The working view: as it was last made durable, and all it was
	 * since. */
	uint64_t states[STATES_MAX];
	size_t nstates;
	uint64_t stops, refused, ops;
};

static const struct fs_cred cred = { 0 };

static int open_on(struct fixture *f, bool create)
{
	struct store_error text;

	return simfs_try_open(&f->s, f->s.sim, create, &text);
}

/* --- what is shown, and what has to be there after a crash --- */

static uint64_t shown(struct fixture *f)
{
	uint64_t d;

	assert_int_equal(digest_view(fs_working(f->s.fs), &d), 0);
	return d;
}

static uint64_t shown_head(struct fixture *f)
{
	struct fs_view *v = simfs_head_view(&f->s);
	uint64_t d;

	assert_int_equal(digest_view(v, &d), 0);
	fs_view_put(v);
	return d;
}

static void note_state(struct fixture *f, uint64_t d)
{
	if (f->nstates && f->states[f->nstates - 1] == d)
		return;
	assert_true(f->nstates < STATES_MAX);
	f->states[f->nstates++] = d;
}

static void note_durable(struct fixture *f, uint64_t d)
{
	f->nstates = 0;
	note_state(f, d);
}

static bool was_a_state(const struct fixture *f, uint64_t d)
{
	for (size_t i = 0; i < f->nstates; i++)
		if (f->states[i] == d)
			return true;
	return false;
}

/* The store as it is after a power cut now. committing: what a commit that was
 * not acknowledged would have made head; 0: none. */
static void crash(struct fixture *f, uint64_t committing)
{
	char why[256];
	uint64_t d;

	simfs_lose_power(&f->s, SIM_DROP, 1);
	simfs_open(&f->s);
	if (fs_check(fs_working(f->s.fs), true, why, sizeof(why)) ||
	    store_check(f->s.store, why, sizeof(why)))
		fail_msg("%s", why);
	d = shown_head(f);
	assert_true(d == f->head || (committing && d == committing));
	f->head = d;
	d = shown(f);
	assert_true(was_a_state(f, d));
	note_durable(f, d);
	simdev_settle(f->s.sim);
}

/* --- operations: 0, an errno that there is a good reason for, -ENOMEM --- */

static size_t pick_name(struct fixture *f, char buf[24])
{
	return (size_t)snprintf(buf, 24, "n%u",
				(unsigned int)rng_below(&f->rng, NAMES));
}

/* A directory: the root, or one in it. */
static uint64_t pick_dir(struct fixture *f)
{
	struct fs_attr a;
	char name[24];
	size_t len = pick_name(f, name);

	if (rng_below(&f->rng, 2) ||
	    fs_lookup(fs_working(f->s.fs), FS_ROOT_INO, name, len, &a) ||
	    !S_ISDIR(a.mode))
		return FS_ROOT_INO;
	return a.ino;
}

static int pick(struct fixture *f, struct fs_attr *a)
{
	uint64_t dir = pick_dir(f);
	char name[24];
	size_t len = pick_name(f, name);

	return fs_lookup(fs_working(f->s.fs), dir, name, len, a);
}

static int op_make(struct fixture *f)
{
	static const uint32_t modes[] = { S_IFREG, S_IFREG, S_IFREG,
					  S_IFDIR, S_IFLNK, S_IFIFO };
	struct fs_new n = { .mode = modes[rng_below(&f->rng, 6)] | 0755,
			    .target = (const char *)f->buf,
			    .target_len = 1 + rng_below(&f->rng, 3000) };
	uint64_t dir = pick_dir(f);
	struct fs_attr a;
	char name[24];
	size_t len = pick_name(f, name);

	memset(f->buf, 't', n.target_len);
	return fs_make(fs_working(f->s.fs), &cred, dir, name, len, &n, &a,
		       NULL);
}

static int op_write(struct fixture *f)
{
	size_t len = 1 + rng_below(&f->rng, rng_below(&f->rng, 2) ? BUF : 900);
	uint64_t off = rng_below(&f->rng, 3) ? 0 : rng_below(&f->rng, BUF);
	struct fs_file *file;
	struct fs_attr a;
	int err;

	memset(f->buf, (int)rng_below(&f->rng, 256), len);
	err = pick(f, &a);
	if (!err)
		err = fs_file_open(fs_working(f->s.fs), a.ino, &file);
	if (err)
		return err;
	err = fs_write(file, &cred, off, f->buf, len, !rng_below(&f->rng, 8));
	fs_file_put(file);
	return err;
}

static int op_range(struct fixture *f)
{
	uint64_t off = rng_below(&f->rng, BUF);
	uint64_t len = 1 + rng_below(&f->rng, BUF);
	unsigned int which = (unsigned int)rng_below(&f->rng, 5);
	struct fs_file *file, *to;
	struct fs_attr a, b;
	size_t got;
	int err;

	err = pick(f, &a);
	if (!err)
		err = pick(f, &b);
	if (!err)
		err = fs_file_open(fs_working(f->s.fs), a.ino, &file);
	if (err)
		return err;
	if (which == 0)
		err = fs_truncate(file, off);
	else if (which == 1)
		err = fs_fallocate(file,
				   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   off, len);
	else if (which == 2)
		err = fs_fallocate(file, 0, off, len);
	else if (which == 3)
		err = fs_seek(file, off, SEEK_HOLE, &off);
	else
		err = fs_file_open(fs_working(f->s.fs), b.ino, &to);
	if (which == 4 && !err) {
		err = fs_copy_range(file, off & ~4095, to, len & ~4095, BUF / 2,
				    &got);
		fs_file_put(to);
	}
	fs_file_put(file);
	return err;
}

static int op_rename(struct fixture *f)
{
	static const unsigned int flags[] = { 0, 0, FS_RENAME_NOREPLACE,
					      FS_RENAME_EXCHANGE,
					      FS_RENAME_WHITEOUT };
	struct fs_view *w = fs_working(f->s.fs);
	uint64_t dir = pick_dir(f), dir2 = pick_dir(f);
	unsigned int flag = flags[rng_below(&f->rng, 5)];
	char name[24], name2[24];
	size_t len = pick_name(f, name), len2 = pick_name(f, name2);
	struct fs_attr a;
	int err;

	if (rng_below(&f->rng, 3))
		return fs_rename(w, &cred, dir, name, len, dir2, name2, len2,
				 flag, NULL);
	err = pick(f, &a);
	return err ? err : fs_link(w, a.ino, dir, name, len, NULL);
}

static int op_remove(struct fixture *f)
{
	struct fs_view *w = fs_working(f->s.fs);
	uint64_t dir = pick_dir(f);
	char name[24];
	size_t len = pick_name(f, name);
	int err;

	err = fs_unlink(w, dir, name, len, NULL);
	return err == -EISDIR ? fs_rmdir(w, dir, name, len, NULL) : err;
}

/* Unlinked while it is open, it goes with the last put. */
static int op_orphan(struct fixture *f)
{
	struct fs_view *w = fs_working(f->s.fs);
	struct fs_file *file;
	struct fs_attr a;
	char name[24];
	size_t len = pick_name(f, name);
	int err;

	err = fs_lookup(w, FS_ROOT_INO, name, len, &a);
	if (!err)
		err = fs_file_open(w, a.ino, &file);
	if (err)
		return err;
	err = fs_unlink(w, FS_ROOT_INO, name, len, NULL);
	fs_file_put(file);
	return err;
}

static int op_attr(struct fixture *f)
{
	struct fs_attr set = { .mode = rng_below(&f->rng, 2) ? 0640 : 04755,
			       .uid = (uint32_t)rng_below(&f->rng, 3) };
	struct fs_view *w = fs_working(f->s.fs);
	struct fs_attr a;
	char name[24];
	int err;

	err = pick(f, &a);
	if (err)
		return err;
	if (rng_below(&f->rng, 2))
		return fs_setattr(w, a.ino, FS_SET_MODE | FS_SET_UID, &set,
				  NULL);
	snprintf(name, sizeof(name), "user.x%u",
		 (unsigned int)rng_below(&f->rng, 4));
	if (!rng_below(&f->rng, 3))
		return fs_removexattr(w, a.ino, name);
	memset(f->buf, 'x', 5000);
	return fs_setxattr(w, a.ino, name, f->buf, rng_below(&f->rng, 5000), 0);
}

/* Everything that only looks. */
static int op_look(struct fixture *f)
{
	struct root head = ROOT_EMPTY, now = ROOT_EMPTY;
	struct fs_change_totals t;
	struct fs_delta *d = NULL;
	char *path = NULL;
	struct fs_attr a;
	uint64_t sum;
	int err;

	switch (rng_below(&f->rng, 3)) {
	case 0:
		return digest_view(fs_working(f->s.fs), &sum);
	case 1:
		err = pick(f, &a);
		if (!err)
			err = fs_path(fs_working(f->s.fs), a.ino, &path);
		free(path);
		return err;
	default:
		break;
	}
	store_head(f->s.store, &head, NULL);
	err = fs_freeze(f->s.fs, &now);
	if (!err)
		err = fs_change_totals(f->s.fs, &head, &now, &t);
	if (!err)
		err = fs_delta_new(f->s.fs, &head, &now, &d);
	fs_delta_free(d);
	root_put(store_tree(f->s.store), &head);
	root_put(store_tree(f->s.store), &now);
	return err;
}

static void told(void *arg, const char *state, const char *path,
		 const char *what)
{
	fail_msg("%s: %s: %s", state, path ? path : "-", what);
}

static int op_verify(struct fixture *f)
{
	struct fs_verify_params p = { .damaged = told };
	struct fs_verify_stats st;

	return fs_verify(f->s.fs, &p, &st);
}

static int op_sweep(struct fixture *f)
{
	return rng_below(&f->rng, 2) ? fs_gc(f->s.fs, NULL) : fs_sweep(f->s.fs);
}

/* --- operations that make something durable; all is, before them --- */

static int op_fsync(struct fixture *f)
{
	struct fs_attr a;
	int err = pick(f, &a);

	return err ? err : fs_fsync(fs_working(f->s.fs), a.ino);
}

static int op_checkpoint(struct fixture *f)
{
	return fs_checkpoint(f->s.fs);
}

static int op_commit(struct fixture *f)
{
	uint64_t number;
	int err = fs_commit(f->s.fs, 7, "a message", 9, &number);

	return err == 1 ? 0 : err;
}

static int op_snapshot(struct fixture *f)
{
	char name[24];

	pick_name(f, name);
	return fs_snapshot(f->s.fs, name, 7, "why", 3);
}

static int op_names(struct fixture *f)
{
	char name[24];
	struct catalog_change c = { .name = name, .uid = 7 };
	struct commit_info *info = malloc(sizeof(*info));
	struct root head;

	if (!info)
		return -ENOMEM;
	store_head(f->s.store, &head, info);
	root_put(store_tree(f->s.store), &head);
	c.number = info->number;
	free(info);
	pick_name(f, name);
	c.op = rng_below(&f->rng, 3) ? CATALOG_DELETE : CATALOG_TAG;
	return store_change_catalog(f->s.store, store_working(f->s.store), &c);
}

static int op_abort(struct fixture *f)
{
	return fs_abort(f->s.fs);
}

/* Restore or rollback, as the mount does it. */
struct going {
	struct fixture *f;
	const struct root *to;
};

static int go(void *arg, struct root *old_out)
{
	struct going *g = arg;
	struct fs *fs = g->f->s.fs;
	struct fs_delta *delta = NULL;
	struct root now = ROOT_EMPTY;
	uint64_t version = fs_version(fs);
	int err;

	err = fs_freeze(fs, &now);
	if (!err)
		err = fs_delta_new(fs, &now, g->to, &delta);
	if (!err)
		err = fs_flip(fs, g->to, delta, version, true, NULL, NULL,
			      old_out);
	fs_delta_free(delta);
	root_put(store_tree(fs->store), &now);
	return err;
}

static int switch_to(struct fixture *f, const struct root *to, bool commit)
{
	struct going g = { f, to };
	struct switch_req req = {
		.flip = go, .arg = &g, .discard = true, .to = commit ? to : NULL
	};
	uint64_t number;
	int err;

	err = store_switch(f->s.store, store_working(f->s.store), &req,
			   &number);
	if (!err && commit)
		fs_flip_is_head(f->s.fs);
	return err;
}

static int op_restore(struct fixture *f)
{
	struct root from = ROOT_EMPTY, now = ROOT_EMPTY, to = ROOT_EMPTY;
	bool whole = rng_below(&f->rng, 2);
	char name[24], path[24];
	int err;

	pick_name(f, name);
	pick_name(f, path);
	err = fs_resolve(f->s.fs, rng_below(&f->rng, 3) ? name : "head", &from);
	if (!err && !whole)
		err = fs_freeze(f->s.fs, &now);
	if (!err && !whole)
		err = fs_graft(f->s.fs, &now, &from, path, &to);
	if (!err)
		err = switch_to(f, whole ? &from : &to, false);
	root_put(store_tree(f->s.store), &from);
	root_put(store_tree(f->s.store), &now);
	root_put(store_tree(f->s.store), &to);
	return err;
}

static int op_rollback(struct fixture *f)
{
	struct root to = ROOT_EMPTY;
	char name[24];
	int err;

	pick_name(f, name);
	err = fs_resolve(f->s.fs, name, &to);
	if (!err)
		err = switch_to(f, &to, true);
	root_put(store_tree(f->s.store), &to);
	return err;
}

/* --- the run --- */

enum {
	MAKES_DURABLE = 1,
	MAKES_HEAD = 2,
	SHOWS_ANOTHER = 4,
	IN_STEPS = 8 /* set-id bits go first; edges of a range do */
};

static const struct op {
	const char *name;
	int (*fn)(struct fixture *f);
	unsigned int weight, what;
} ops[] = {
	{ "make", op_make, 8, 0 },
	{ "write", op_write, 10, IN_STEPS },
	{ "range", op_range, 6, IN_STEPS },
	{ "rename", op_rename, 5, 0 },
	{ "remove", op_remove, 2, 0 },
	{ "orphan", op_orphan, 2, 0 },
	{ "attr", op_attr, 5, 0 },
	{ "look", op_look, 3, 0 },
	{ "verify", op_verify, 1, 0 },
	{ "sweep", op_sweep, 2, MAKES_DURABLE },
	{ "fsync", op_fsync, 3, MAKES_DURABLE },
	{ "checkpoint", op_checkpoint, 3, MAKES_DURABLE },
	{ "commit", op_commit, 4, MAKES_DURABLE | MAKES_HEAD },
	{ "snapshot", op_snapshot, 4, MAKES_DURABLE },
	{ "names", op_names, 2, MAKES_DURABLE },
	{ "abort", op_abort, 2, MAKES_DURABLE | SHOWS_ANOTHER },
	{ "restore", op_restore, 4, MAKES_DURABLE | SHOWS_ANOTHER },
	{ "rollback", op_rollback, 2,
	  MAKES_DURABLE | MAKES_HEAD | SHOWS_ANOTHER },
};

static const struct op *pick_op(struct fixture *f)
{
	uint64_t sum = 0, at;
	size_t i = 0;

	for (i = 0; i < ARRAY_LEN(ops); i++)
		sum += ops[i].weight;
	at = rng_below(&f->rng, sum);
	for (i = 0; at >= ops[i].weight; i++)
		at -= ops[i].weight;
	return &ops[i];
}

/* The store has stopped, and says why. */
static void after_stop(struct fixture *f, const struct op *op, uint64_t before)
{
	const char *reason = NULL;

	assert_true(store_failed(f->s.store, &reason));
	assert_non_null(reason);
	assert_true(*reason);
	f->stops++;
	note_state(f, before);
	/* What a switch or a commit would have shown is not known here. */
	if (op->what & SHOWS_ANOTHER)
		note_state(f, shown(f));
	crash(f, op->what & MAKES_HEAD ? shown(f) : 0);
}

/* One operation, with ever later allocations failing until it succeeds. */
static void run_op(struct fixture *f, const struct op *op)
{
	struct rng start;
	uint64_t before, now, step = 1 + rng_below(&f->rng, 3), refused;
	bool for_ever = rng_below(&f->rng, 3) == 0;
	int err = -ENOMEM;

	if (op->what & MAKES_DURABLE) {
		assert_int_equal(fs_checkpoint(f->s.fs), 0);
		note_durable(f, shown(f));
	}
	before = shown(f);
	start = f->rng;
	for (uint64_t nth = 1; err == -ENOMEM; nth += step + nth / 8) {
		f->rng = start;
		nomem_start(nth, for_ever);
		err = op->fn(f);
		refused = nomem_stop();
		f->refused += refused;
		if (store_failed(f->s.store, NULL)) {
			assert_true(err == -EIO || err == -ENOMEM || !err);
			after_stop(f, op, before);
			return;
		}
		if (err != -ENOMEM)
			break;
		now = shown(f);
		if (refused && now != before && op->what & IN_STEPS) {
			note_state(f, now);
			before = now;
		}
		if (!refused || now != before)
			fail_msg("%s: allocation %" PRIu64 ": %s", op->name,
				 nth,
				 refused ? "ENOMEM, and something changed"
					 : "ENOMEM for no reason");
	}
	now = shown(f);
	if (err && (now != before || err == -EIO))
		fail_msg("%s: %s, and something changed", op->name,
			 strerror(-err));
	note_state(f, now);
	if (!err && op->what & MAKES_DURABLE)
		note_durable(f, now);
	if (!err && op->what & MAKES_HEAD)
		f->head = now;
}

/* Closing and opening, with allocations failing. */
static void reopen(struct fixture *f)
{
	uint64_t before = shown(f), step = 1 + rng_below(&f->rng, 20);
	int err;

	nomem_start(1 + rng_below(&f->rng, 20), rng_below(&f->rng, 2));
	err = fs_close(f->s.fs);
	if (!err)
		err = store_close(f->s.store);
	else
		store_abandon(f->s.store);
	nomem_stop();
	f->s.fs = NULL;
	f->s.store = NULL;
	assert_true(!err || err == -ENOMEM || err == -EIO);
	note_state(f, before);
	if (!err)
		note_durable(f, before);
	for (uint64_t nth = step;; nth += step + nth / 2) {
		nomem_start(nth, rng_below(&f->rng, 2));
		err = open_on(f, false);
		f->refused += nomem_stop();
		if (!err)
			break;
		/* The first record may already be under way. */
		assert_true(err == -ENOMEM || err == -EIO);
	}
	assert_true(was_a_state(f, shown(f)));
	note_durable(f, shown(f));
	assert_true(shown_head(f) == f->head);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int err;

	assert_non_null(f);
	*state = f;
	f->rng.s = test_seed(5);
	/* What was half made is left behind by each: a new disk every time. */
	for (uint64_t nth = 1;; nth++) {
		simfs_init(&f->s, 512 << 10);
		f->s.params.cache_bytes = 16 << 10;
		f->s.fs_params.buffer_bytes = 1 << 20;
		nomem_start(nth, false);
		err = open_on(f, true);
		if (!nomem_stop())
			break;
		assert_true(!err || err == -ENOMEM || err == -EIO);
		simfs_release(&f->s);
	}
	assert_int_equal(err, 0);
	simfs_set(&f->s, STORE_KEEP_LAST, 2);
	assert_int_equal(op_commit(f), 0);
	f->head = shown(f);
	note_durable(f, f->head);
	simdev_settle(f->s.sim);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	simfs_release(&f->s);
	free(f);
	return 0;
}

static void test_every_allocation(void **state)
{
	struct fixture *f = *state;
	uint64_t rounds = test_param("MEMORY_ROUNDS", 600);

	for (uint64_t i = 0; i < rounds; i++) {
		run_op(f, pick_op(f));
		if (!rng_below(&f->rng, 20))
			crash(f, 0);
		if (!rng_below(&f->rng, 40))
			reopen(f);
	}
	fprintf(stderr,
		"%" PRIu64 " operations, %" PRIu64
		" allocations refused, the store stopped %" PRIu64 " times\n",
		rounds, f->refused, f->stops);
	assert_true(f->refused > rounds);
}

/* --- reading a plain directory into a store --- */

static void make_file(const char *dir, const char *name, size_t len)
{
	char path[64], buf[5000];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	memset(buf, 'p', sizeof(buf));
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(buf, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static void check_adopted(struct fixture *f, const char *txn)
{
	struct store_params p = { .env = &f->s.env, .read_only = true };
	struct store_error text = { "" };
	struct fs_attr attr;
	struct store *s;
	struct fs *fs;
	int fd = open(txn, O_RDONLY | O_DIRECTORY);

	assert_true(fd >= 0);
	assert_int_equal(dev_host_new(fd, true, &p.dev), 0);
	close(fd);
	if (store_open(&p, &s, &text))
		fail_msg("%s", text.text);
	assert_int_equal(fs_open(s, NULL, &fs), 0);
	assert_int_equal(fs_walk(fs_working(fs), "sub/again", &attr), 0);
	assert_int_equal(attr.nlink, 2);
	assert_int_equal(attr.size, 5000);
	assert_int_equal(fs_walk(fs_working(fs), "link", &attr), 0);
	fs_abandon(fs);
	store_abandon(s);
	p.dev->ops->release(p.dev);
}

/* While it fails there is no store; in the end there is one. */
static void test_init(void **state)
{
	char dir[] = "/tmp/txnfs-memory.XXXXXX", path[64], other[64];
	struct fixture *f = *state;
	struct adopt_params p = { .dir = dir, .env = &f->s.env };
	struct adopt_progress progress;
	struct store_error text;
	uint64_t nth, refused = 1;
	int err = -ENOMEM;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/sub", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	make_file(dir, "a", 5000);
	make_file(dir, "sub/b", 10);
	snprintf(path, sizeof(path), "%s/a", dir);
	snprintf(other, sizeof(other), "%s/sub/again", dir);
	assert_int_equal(link(path, other), 0);
	snprintf(other, sizeof(other), "%s/link", dir);
	assert_int_equal(symlink("a", other), 0);
	snprintf(path, sizeof(path), "%s/.txn", dir);
	/* What the thread that prepares segments is refused it tries again. */
	for (nth = 1; refused; nth++) {
		if (!err)
			assert_int_equal(plain_remove_tree(AT_FDCWD, path), 0);
		nomem_start(nth, false);
		err = adopt(&p, &progress, &text);
		refused = nomem_stop();
		assert_true(!err || err == -ENOMEM);
		assert_true(!err == !access(path, F_OK));
	}
	assert_int_equal(err, 0);
	assert_int_equal(progress.objects, 5);
	assert_true(nth > 50);
	check_adopted(f, path);
	snprintf(path, sizeof(path), "rm -rf %s", dir);
	assert_int_equal(system(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_allocation, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_init, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
