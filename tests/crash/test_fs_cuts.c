/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files under every power cut (lib/cuts.h): a chain of lives with random
 * changes of files, commits, checkpoints, fsyncs, aborts, snapshots, tags,
 * restores whole and of paths, rollbacks, deletions, sweeps and clean ends.
 * Whatever was acknowledged is there after a cut anywhere, and `verify` finds
 * nothing, in any state that is kept.
 */
#include "fs/adopt.h"
#include "fs/fs_internal.h" /* fs_sweep, ROOT_*: what a record says */
#include "txn/store_internal.h"

#include "tests/lib/cuts.h"

#include <sys/xattr.h>
#include <xxhash.h>

enum { FILES = 6, FOLDERS = 3, NAMES = 3, BLOCK = 4096, WHY_BYTES = 256 };

/* Digests of states by their roots: equal pointers, equal contents, where
 * verify has found nothing. */
struct known {
	struct {
		struct ptr ptr;
		uint64_t digest;
	} * v;
	size_t n, cap;
};

struct world {
	struct cuts_world ops;
	struct simdev *disk;
	struct env *env;
	struct store *store;
	struct fs *fs;
	struct known known;
	const char *dir; /* to be read into the store */
	bool clones; /* sharing what it can */
	char *why;
};

static const struct fs_cred cred = { .fsetid = true };

static struct world *world_of(struct cuts_world *w)
{
	return CONTAINER_OF(w, struct world, ops);
}

/* --- opening and closing --- */

static struct store_params params(struct world *w)
{
	return (struct store_params){ .dev = simdev_dev(w->disk),
				      .env = w->env,
				      .cache_bytes = 64 << 10,
				      .check_item = fs_check_item,
				      .small_segment_bytes = 512 << 10,
				      .bulk_segment_bytes = 512 << 10,
				      .reserve_bytes = 64 << 10,
				      .no_thread = true };
}

static int open_files(struct world *w)
{
	struct fs_params fp = { .buffer_bytes = 1 << 20 };
	int err = fs_open(w->store, &fp, &w->fs);

	if (err) {
		w->fs = NULL;
		store_abandon(w->store);
	}
	return err;
}

static int world_open(struct cuts_world *ops, struct simdev *disk,
		      struct env *env, bool read_only, char *why)
{
	struct world *w = world_of(ops);
	struct store_error text = { "" };
	struct store_params p;
	int err;

	w->disk = disk;
	w->env = env;
	p = params(w);
	p.read_only = read_only;
	err = store_open(&p, &w->store, &text);
	if (!err)
		err = open_files(w);
	if (err)
		snprintf(why, WHY_BYTES, "cannot open: %.200s (%s)", text.text,
			 strerror(-err));
	return err;
}

static void world_close(struct cuts_world *ops)
{
	struct world *w = world_of(ops);

	fs_abandon(w->fs);
	store_abandon(w->store);
}

/* --- what a state holds, as one number --- */

struct digest {
	struct fs_view *v;
	XXH3_state_t *x;
};

static void digest_add(struct digest *d, const void *p, size_t len)
{
	XXH3_64bits_update(d->x, p, len);
}

static void digest_file(struct digest *d, uint64_t ino)
{
	static uint8_t buf[64 * BLOCK];
	struct fs_file *file;
	uint64_t off = 0;
	size_t got = 1;

	assert_int_equal(fs_file_open(d->v, ino, &file), 0);
	while (got) {
		assert_int_equal(fs_read(file, off, buf, sizeof(buf), &got), 0);
		digest_add(d, buf, got);
		off += got;
	}
	fs_file_put(file);
}

static int digest_entry(void *arg, const struct fs_dirent *e)
{
	struct digest *d = arg;
	uint64_t v[] = { e->ino,	 e->attr->mode,	    e->attr->size,
			 e->attr->nlink, e->attr->mtime_ns, e->attr->uid };
	char value[16];
	size_t len = 0;

	digest_add(d, e->name, e->len);
	digest_add(d, v, sizeof(v));
	if (!fs_getxattr(d->v, e->ino, "user.a", value, sizeof(value), &len))
		digest_add(d, value, len);
	if (S_ISREG(e->attr->mode))
		digest_file(d, e->ino);
	else if (S_ISDIR(e->attr->mode))
		assert_int_equal(
			fs_readdir(d->v, e->ino, 0, true, digest_entry, d), 0);
	return 0;
}

static uint64_t digest_of_view(struct fs_view *v)
{
	struct digest d = { v, XXH3_createState() };
	uint64_t sum;

	assert_non_null(d.x);
	XXH3_64bits_reset(d.x);
	assert_int_equal(fs_readdir(v, FS_ROOT_INO, 0, true, digest_entry, &d),
			 0);
	sum = XXH3_64bits_digest(d.x);
	XXH3_freeState(d.x);
	return sum;
}

static int digest_commit(void *arg, const struct commit_info *info)
{
	struct digest *d = arg;
	uint64_t v[] = {
		info->number, (uint64_t)info->time_ns, info->uid,
		info->names,  info->root.pos,	       info->root.sum
	};

	digest_add(d, v, sizeof(v));
	digest_add(d, info->message, info->message_bytes);
	return 0;
}

static int digest_name(void *arg, const struct name_info *info)
{
	struct digest *d = arg;
	uint64_t v[] = { info->kind, info->number, info->root.pos,
			 info->root.sum };

	digest_add(d, info->name, strlen(info->name));
	digest_add(d, v, sizeof(v));
	return 0;
}

static uint64_t digest_of_catalog(struct store *s)
{
	struct digest d = { NULL, XXH3_createState() };
	uint64_t sum = store_get_setting(s, STORE_KEEP_LAST);

	assert_non_null(d.x);
	XXH3_64bits_reset(d.x);
	digest_add(&d, &sum, sizeof(sum));
	assert_int_equal(store_each_commit(s, UINT64_MAX, digest_commit, &d),
			 0);
	assert_int_equal(store_each_name(s, digest_name, &d), 0);
	sum = XXH3_64bits_digest(d.x);
	XXH3_freeState(d.x);
	return sum;
}

static uint64_t digest_of_state(struct world *w, const struct ptr *ptr)
{
	struct root root = { .ptr = *ptr };
	struct fs_view *v;
	uint64_t sum;

	if (!ptr->pos)
		return 0;
	assert_int_equal(fs_view_new(w->fs, &root, &v), 0);
	sum = digest_of_view(v);
	fs_view_put(v);
	return sum;
}

static uint64_t known_digest(struct world *w, const struct ptr *ptr,
			     bool catalog)
{
	struct known *k = &w->known;
	uint64_t sum;

	for (size_t i = k->n; i--;)
		if (ptr_eq(&k->v[i].ptr, ptr))
			return k->v[i].digest;
	sum = catalog ? digest_of_catalog(w->store) : digest_of_state(w, ptr);
	assert_int_equal(array_grow((void **)&k->v, &k->cap, k->n + 1,
				    sizeof(*k->v)),
			 0);
	k->v[k->n].ptr = *ptr;
	k->v[k->n++].digest = sum;
	return sum;
}

static void world_forget(struct cuts_world *ops)
{
	struct world *w = world_of(ops);

	free(w->known.v);
	w->known = (struct known){ 0 };
}

/* As the newest record says; views and head say the same. */
static void world_shown(struct cuts_world *ops, struct shown *out)
{
	struct world *w = world_of(ops);
	struct ptr head, staged, catalog;
	struct root root;
	struct record rec;

	*out = (struct shown){ 0 };
	assert_int_equal(store_last_record(w->store, &rec), 0);
	head = record_find_root(&rec, ROOT_HEAD, 0);
	staged = record_find_root(&rec, ROOT_VIEW, STORE_WORKING_ID);
	catalog = record_find_root(&rec, ROOT_CATALOG, 0);
	store_head(w->store, &root, NULL);
	assert_true(ptr_eq(&root.ptr, &head));
	root_put(store_tree(w->store), &root);
	if (rec.head_number) {
		out->head = known_digest(w, &head, false) ^ rec.head_number;
		out->staged = known_digest(w, &staged, false);
		out->names = known_digest(w, &catalog, true);
	}
	record_release(&rec);
}

static void damaged(void *arg, const char *state, const char *path,
		    const char *what)
{
	struct world *w = arg;

	snprintf(w->why, WHY_BYTES, "verify: %s: %s: %s", state,
		 path ? path : "-", what);
}

static int world_look(struct cuts_world *ops, struct shown *out, char *why)
{
	struct world *w = world_of(ops);
	struct fs_verify_params p = { .damaged = damaged, .arg = w };
	struct fs_verify_stats st;
	struct record rec;
	uint64_t commits;
	int err;

	assert_int_equal(store_last_record(w->store, &rec), 0);
	commits = rec.head_number;
	record_release(&rec);
	*out = (struct shown){ 0 };
	if (!commits) /* init has not come to its end */
		return store_check(w->store, why, WHY_BYTES);
	w->why = why;
	err = fs_verify(w->fs, &p, &st);
	if (err)
		snprintf(why, WHY_BYTES, "verify: %s", strerror(-err));
	if (err || st.damaged)
		return -EFSCORRUPTED;
	world_shown(ops, out);
	return 0;
}

/* --- steps that make a state durable --- */

/* Acknowledged: what programs see is what the record says, all of it unless
 * only one file was asked for. */
static void done(struct world *w, struct life *life, bool all)
{
	struct shown now;

	world_shown(&w->ops, &now);
	if (all)
		assert_true(now.staged == digest_of_view(fs_working(w->fs)));
	life_done(life, &now);
}

static void ok(int err)
{
	if (err < 0)
		fail_msg("a step failed: %s", strerror(-err));
}

static void do_commit(struct world *w, struct life *life, struct rng *rng)
{
	char message[600];
	uint64_t number;

	memset(message, 'm', sizeof(message));
	life_begin(life);
	ok(fs_commit(w->fs, 7, message, rng_below(rng, sizeof(message)),
		     &number));
	done(w, life, true);
}

static void do_checkpoint(struct world *w, struct life *life)
{
	life_begin(life);
	ok(fs_checkpoint(w->fs));
	done(w, life, true);
}

/* Others may be buffered: they are not in the record. This file is. */
static void do_fsync(struct world *w, struct life *life, uint64_t ino)
{
	struct digest d = { fs_working(w->fs), XXH3_createState() };
	struct root root;
	uint64_t sum;

	assert_non_null(d.x);
	life_begin(life);
	ok(fs_fsync(d.v, ino));
	done(w, life, false);
	XXH3_64bits_reset(d.x);
	digest_file(&d, ino);
	sum = XXH3_64bits_digest(d.x);
	view_freeze(store_working(w->store), &root);
	assert_int_equal(fs_view_new(w->fs, &root, &d.v), 0);
	XXH3_64bits_reset(d.x);
	digest_file(&d, ino);
	assert_true(sum == XXH3_64bits_digest(d.x));
	fs_view_put(d.v);
	root_put(store_tree(w->store), &root);
	XXH3_freeState(d.x);
}

static void change_catalog(struct world *w, struct life *life,
			   struct catalog_change *c)
{
	life_begin(life);
	ok(store_change_catalog(w->store, store_working(w->store), c));
	done(w, life, false);
}

/* A name comes, or goes when it is there: a snapshot or a tag. */
static void do_name(struct world *w, struct life *life, struct rng *rng)
{
	char name[16];
	struct catalog_change c = { .op = CATALOG_DELETE, .name = name };
	struct name_info *info = malloc(sizeof(*info));
	struct root head;
	struct commit_info *commit = malloc(sizeof(*commit));

	assert_true(info && commit);
	snprintf(name, sizeof(name), "n%u",
		 (unsigned int)rng_below(rng, NAMES));
	store_head(w->store, &head, commit);
	root_put(store_tree(w->store), &head);
	if (store_get_name(w->store, name, info) != 1) {
		change_catalog(w, life, &c);
	} else if (rng_below(rng, 3)) {
		life_begin(life);
		ok(fs_snapshot(w->fs, name, 7, "s", 1));
		done(w, life, true);
	} else {
		c.op = CATALOG_TAG;
		c.number = commit->number;
		change_catalog(w, life, &c);
	}
	free(info);
	free(commit);
}

static void do_keep(struct world *w, struct life *life, struct rng *rng)
{
	struct catalog_change c = { .op = CATALOG_SET,
				    .setting = STORE_KEEP_LAST,
				    .number = 1 + rng_below(rng, 3) };

	change_catalog(w, life, &c);
}

/* --- changes of files --- */

static void name_of(char name[16], struct rng *rng)
{
	snprintf(name, 16, "f%u", (unsigned int)rng_below(rng, FILES));
}

static uint64_t find_or_make(struct world *w, struct life *life, uint64_t dir,
			     const char *name, uint32_t mode)
{
	struct fs_new new_ = { .mode = mode };
	struct fs_attr attr;
	int err;

	err = fs_lookup(fs_working(w->fs), dir, name, strlen(name), &attr);
	if (err == -ENOENT) {
		err = fs_make(fs_working(w->fs), &cred, dir, name, strlen(name),
			      &new_, &attr, NULL);
		if (!err)
			life_new_number(life, attr.ino);
	}
	ok(err);
	return attr.ino;
}

/* The root, or a folder in it. */
static uint64_t some_folder(struct world *w, struct life *life, struct rng *rng)
{
	uint64_t i = rng_below(rng, FOLDERS);
	char name[16];

	if (!i)
		return FS_ROOT_INO;
	snprintf(name, sizeof(name), "d%u", (unsigned int)i - 1);
	return find_or_make(w, life, FS_ROOT_INO, name, S_IFDIR | 0755);
}

static void change_contents(struct world *w, uint64_t ino, struct rng *rng)
{
	static uint8_t buf[70 * BLOCK];
	size_t len = 1 + rng_below(rng, rng_below(rng, 2) ? 700 : 3 * BLOCK);
	uint64_t off = rng_below(rng, 2) ? 0 : rng_below(rng, 2 * BLOCK);
	struct fs_file *file;
	int err;

	if (rng_below(rng, 20) == 0) /* a window: it goes to the bulk head */
		len = 64 * BLOCK + 100;
	memset(buf, (int)rng_below(rng, 256), len);
	ok(fs_file_open(fs_working(w->fs), ino, &file));
	switch (rng_below(rng, 8)) {
	case 0:
		err = fs_truncate(file, len);
		break;
	case 1:
		err = fs_fallocate(file, 3 /* PUNCH_HOLE | KEEP_SIZE */, off,
				   len);
		break;
	default:
		err = fs_write(file, &cred, off, buf, len, false);
		fs_write_behind(w->fs);
	}
	fs_file_put(file);
	ok(err);
}

static void copy_range(struct world *w, uint64_t from, uint64_t to)
{
	struct fs_file *a, *b;
	size_t copied;

	if (from == to)
		return;
	ok(fs_file_open(fs_working(w->fs), from, &a));
	ok(fs_file_open(fs_working(w->fs), to, &b));
	ok(fs_copy_range(a, 0, b, 0, 3 * BLOCK, &copied));
	fs_file_put(a);
	fs_file_put(b);
}

static void random_change(struct world *w, struct life *life, struct rng *rng)
{
	struct fs_view *v = fs_working(w->fs);
	uint64_t dir = some_folder(w, life, rng);
	uint64_t to = some_folder(w, life, rng), ino;
	struct fs_attr attr;
	char name[16], other[16];
	int err;

	name_of(name, rng);
	name_of(other, rng);
	ino = find_or_make(w, life, dir, name, S_IFREG | 0644);
	switch (rng_below(rng, 13)) {
	case 0:
		ok(fs_unlink(v, dir, name, strlen(name), NULL));
		break;
	case 1:
	case 2:
		ok(fs_rename(v, NULL, dir, name, strlen(name), to, other,
			     strlen(other), 0, NULL));
		break;
	case 3:
		err = fs_link(v, ino, to, other, strlen(other), NULL);
		if (err != -EEXIST)
			ok(err);
		break;
	case 4:
		ok(fs_setxattr(v, ino, "user.a", other, strlen(other), 0));
		break;
	case 5:
	case 6:
		if (!fs_lookup(v, to, other, strlen(other), &attr))
			copy_range(w, ino, attr.ino);
		break;
	default:
		change_contents(w, ino, rng);
	}
}

/* --- going back --- */

struct flip {
	struct world *w;
	const struct root *root;
	const char *path; /* NULL: all */
};

static int flip(void *arg, struct root *old_out)
{
	struct flip *f = arg;
	struct fs *fs = f->w->fs;
	struct root now = ROOT_EMPTY, to = ROOT_EMPTY;
	struct fs_delta *delta = NULL;
	uint64_t version = fs_version(fs);
	int err = fs_freeze(fs, &now);

	if (!err && f->path)
		err = fs_graft(fs, &now, f->root, f->path, &to);
	else
		to = root_get(f->root);
	if (!err)
		err = fs_delta_new(fs, &now, &to, &delta);
	if (!err)
		err = fs_flip(fs, &to, delta, version, true, NULL, NULL,
			      old_out);
	fs_delta_free(delta);
	root_put(store_tree(f->w->store), &now);
	root_put(store_tree(f->w->store), &to);
	return err;
}

/* To a snapshot or tag, to a commit before, to what an abort threw away; all of
 * it or one path; or committed at once (rollback). */
static void do_restore(struct world *w, struct life *life, struct rng *rng)
{
	static const char *const names[] = { "n0", "n1", "n2", "head~1",
					     "head" };
	static const char *const paths[] = { "d0", "d1/f0", "f1", "f2" };
	bool rollback = rng_below(rng, 4) == 0;
	struct root root = ROOT_EMPTY;
	struct flip f = { w, &root, NULL };
	struct switch_req req = { .flip = flip,
				  .arg = &f,
				  .discard = true,
				  .message = "back",
				  .message_bytes = 4 };
	int err = fs_resolve(w->fs, names[rng_below(rng, ARRAY_LEN(names))],
			     &root);

	if (!rollback && rng_below(rng, 2))
		f.path = paths[rng_below(rng, ARRAY_LEN(paths))];
	if (rollback)
		req.to = &root;
	if (err == -ENOENT)
		return;
	ok(err);
	life_begin(life);
	err = store_switch(w->store, store_working(w->store), &req, NULL);
	if (err != -ENOENT && err != -ENOTDIR)
		ok(err);
	done(w, life, !err);
	root_put(store_tree(w->store), &root);
}

static void do_abort(struct world *w, struct life *life)
{
	life_begin(life);
	ok(fs_abort(w->fs));
	done(w, life, true);
}

struct meanwhile {
	struct world *w;
	struct life *life;
	struct rng *rng;
};

static void commit_meanwhile(void *arg)
{
	struct meanwhile *m = arg;

	random_change(m->w, m->life, m->rng);
	random_change(m->w, m->life, m->rng);
	do_commit(m->w, m->life, m->rng);
}

/* In the background: now and then there is a commit between two of the places
 * that it gives back. */
static void do_sweep(struct world *w, struct life *life, struct rng *rng)
{
	struct meanwhile m = { w, life, rng };

	if (rng_below(rng, 2))
		simdev_interrupt(w->disk, SIM_PUNCH | SIM_REMOVE,
				 1 + rng_below(rng, 4), commit_meanwhile, &m);
	ok(fs_sweep(w->fs));
	simdev_interrupt(w->disk, 0, 0, NULL, NULL);
}

/* The daemon ends as it should, and the next one begins. */
static void do_reopen(struct world *w, struct life *life)
{
	char why[WHY_BYTES] = "";

	life_begin(life);
	ok(fs_close(w->fs));
	ok(store_close(w->store));
	if (world_open(&w->ops, w->disk, w->env, false, why))
		fail_msg("%s", why);
	done(w, life, true);
}

static void fsync_some(struct world *w, struct life *life, struct rng *rng)
{
	uint64_t dir = some_folder(w, life, rng);
	struct fs_attr attr;
	char name[16];

	name_of(name, rng);
	if (!fs_lookup(fs_working(w->fs), dir, name, strlen(name), &attr))
		do_fsync(w, life, attr.ino);
}

static void world_step(struct cuts_world *ops, struct life *life,
		       struct rng *rng)
{
	struct world *w = world_of(ops);

	for (uint64_t n = rng_below(rng, 5); n; n--)
		random_change(w, life, rng);
	switch (rng_below(rng, 14)) {
	case 0:
	case 1:
	case 2:
		do_commit(w, life, rng);
		break;
	case 3:
		do_checkpoint(w, life);
		break;
	case 4:
	case 5:
		/* What others have only in their buffers is not given back. */
		fsync_some(w, life, rng);
		if (rng_below(rng, 2))
			do_sweep(w, life, rng);
		break;
	case 6:
		do_abort(w, life);
		break;
	case 7:
	case 8:
		do_name(w, life, rng);
		break;
	case 9:
	case 10:
		do_restore(w, life, rng);
		break;
	case 11:
		do_keep(w, life, rng);
		break;
	case 12:
		if (rng_below(rng, 4) == 0)
			do_reopen(w, life);
		break;
	default:
		break;
	}
	/* What the last record freed may go, with changes staged or not. */
	if (rng_below(rng, 4) == 0)
		do_sweep(w, life, rng);
}

static struct simdev *world_make(struct cuts_world *ops, struct env *env)
{
	struct world *w = world_of(ops);
	struct store_error text = { "" };
	struct store_params p;
	uint64_t number;

	w->disk = simdev_new();
	w->env = env;
	p = params(w);
	if (store_create(&p, &w->store, &text))
		fail_msg("%s", text.text);
	ok(open_files(w));
	ok(fs_commit(w->fs, 0, NULL, 0, &number));
	world_close(ops);
	simdev_settle(w->disk);
	return w->disk;
}

static const struct cuts_world world_ops = { .open = world_open,
					     .look = world_look,
					     .shown = world_shown,
					     .close = world_close,
					     .step = world_step,
					     .forget = world_forget };

static void run(const struct cuts_params *p)
{
	struct world w = { .ops = world_ops };

	cuts_run(&w.ops, p, world_make);
}

/* --- init --- */

static void make_file(const char *dir, const char *name, size_t len)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	while (len--)
		putc((int)len % 251, f);
	assert_int_equal(fclose(f), 0);
}

static void adopt_folder(struct cuts_world *ops, struct life *life,
			 struct simdev *disk, struct env *env)
{
	struct world *w = world_of(ops);
	struct adopt_params p = { .dir = w->dir,
				  .env = env,
				  .no_thread = true };
	struct adopt_progress got;
	struct store_error text;
	char why[WHY_BYTES] = "";
	struct shown now;

	simdev_set_capacity(disk, 64 << 20);
	simdev_set_clones(disk, w->clones);
	life_begin(life);
	if (adopt_into(&p, simdev_dev(disk), &got, &text))
		fail_msg("%s", text.text);
	assert_int_equal(got.objects, 4);
	if (world_open(ops, disk, env, true, why) || world_look(ops, &now, why))
		fail_msg("%s", why);
	assert_true(now.head != 0 && now.head == (now.staged ^ 1));
	life_done(life, &now);
	world_close(ops);
}

static int init_setup(void **state)
{
	char *dir = strdup("/tmp/txnfs-cuts-XXXXXX"), path[128];

	assert_non_null(dir);
	assert_non_null(mkdtemp(dir));
	*state = dir;
	snprintf(path, sizeof(path), "%s/d", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	make_file(dir, "a", 100);
	make_file(dir, "b", 9000);
	make_file(dir, "d/c", 70 * BLOCK);
	return 0;
}

static int init_teardown(void **state)
{
	static const char *const names[] = { "a", "b", "d/c", "d", "" };
	char path[128];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", (char *)*state, names[i]);
		assert_int_equal(remove(path), 0);
	}
	free(*state);
	return cuts_teardown(state);
}

/* A folder is read into a new store: before the end there is nothing that
 * counts, after it there is commit 1. */
static void test_init(void **state)
{
	struct world w = { .ops = world_ops, .dir = *state };
	struct cuts_params p = { .seed = test_seed(1),
				 .states = 20000,
				 .picks = 200,
				 .picks_again = 6,
				 .again = 100 };

	cuts_first_life(&w.ops, &p, adopt_folder);
	w.clones = true;
	cuts_first_life(&w.ops, &p, adopt_folder);
}

/* Every case of every point, also after the second cut. */
static void test_short_runs(void **state)
{
	struct cuts_params p = { .seed = test_seed(1),
				 .states = test_param("STATES", 100000) / 5,
				 .lives = 3,
				 .steps = 3,
				 .picks = UINT64_MAX,
				 .picks_again = UINT64_MAX,
				 .again = 500 };

	run(&p);
}

static void test_long_runs(void **state)
{
	uint64_t states = test_param("STATES", 100000);
	struct cuts_params p = { .seed = test_seed(1),
				 .states = states - states / 5,
				 .lives = 20,
				 .steps = 12,
				 .picks = 64,
				 .picks_again = 6,
				 .again = 64 };

	run(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_init, init_setup,
						init_teardown),
		cmocka_unit_test_teardown(test_short_runs, cuts_teardown),
		cmocka_unit_test_teardown(test_long_runs, cuts_teardown)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
