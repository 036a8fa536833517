/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * flip.c - giving the working view another state: noticing what is written
 * meanwhile, holding writers back for a moment, the flip itself.
 */
#include "fs/fs_internal.h"

enum { FLIP_CHANGED = 3 }; /* from the flip's view_fn */

/* --- what is written meanwhile --- */

uint64_t fs_version(struct fs *fs)
{
	uint64_t version;

	/* Whoever counts and tracks a change holds the view's lock: none is
	 * between the two now, to be counted before and tracked after. */
	view_lock_exclusive(fs->working->view);
	pthread_mutex_lock(&fs->track_lock);
	fs->ntrack = 0;
	fs->track_lost = false;
	__atomic_store_n(&fs->tracking, true, __ATOMIC_SEQ_CST);
	version = __atomic_load_n(&fs->clock, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&fs->track_lock);
	view_unlock_exclusive(fs->working->view);
	return version;
}

/* Under the view's lock: one that misses the start of tracking is over before
 * the freeze that follows it. */
void fs_track(struct fs *fs, uint64_t ino)
{
	if (!__atomic_load_n(&fs->tracking, __ATOMIC_SEQ_CST))
		return;
	pthread_mutex_lock(&fs->track_lock);
	if (fs->ntrack && fs->track[fs->ntrack - 1] == ino)
		goto out;
	if (fs->ntrack == fs->track_cap) {
		size_t cap = fs->track_cap ? fs->track_cap * 2 : 64;
		uint64_t *t = NULL;

		if (cap <= TRACK_MAX)
			t = realloc(fs->track, cap * sizeof(*t));
		if (!t) {
			fs->track_lost = true;
			goto out;
		}
		fs->track = t;
		fs->track_cap = cap;
	}
	fs->track[fs->ntrack++] = ino;
out:
	pthread_mutex_unlock(&fs->track_lock);
}

static void track_stop(struct fs *fs)
{
	pthread_mutex_lock(&fs->track_lock);
	__atomic_store_n(&fs->tracking, false, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&fs->track_lock);
}

static int u64_cmp(const void *pa, const void *pb)
{
	uint64_t a = *(const uint64_t *)pa, b = *(const uint64_t *)pb;

	return a < b ? -1 : a > b;
}

/* Of those tracked, in order and once each, the ones that the delta does not
 * give other contents anyhow. */
static size_t track_late(struct fs *fs, const struct fs_delta *delta)
{
	uint64_t last = 0;
	size_t n = 0;

	if (fs->ntrack)
		qsort(fs->track, fs->ntrack, sizeof(*fs->track), u64_cmp);
	for (size_t i = 0; i < fs->ntrack; i++) {
		uint64_t ino = fs->track[i];
		const struct fs_delta_inode *d = fs_delta_find(delta, ino);

		if (ino == last ||
		    (d && d->flags & (FS_DELTA_DATA | FS_DELTA_GONE)))
			continue;
		last = ino;
		fs->track[n++] = ino;
	}
	return n;
}

/* --- holding writers back --- */

void fs_park_writes(struct fs *fs)
{
	pthread_mutex_lock(&fs->park_lock);
	__atomic_add_fetch(&fs->parked, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&fs->writers, __ATOMIC_SEQ_CST))
		pthread_cond_wait(&fs->park_cond, &fs->park_lock);
	pthread_mutex_unlock(&fs->park_lock);
}

void fs_unpark_writes(struct fs *fs)
{
	pthread_mutex_lock(&fs->park_lock);
	__atomic_sub_fetch(&fs->parked, 1, __ATOMIC_SEQ_CST);
	pthread_cond_broadcast(&fs->park_cond);
	pthread_mutex_unlock(&fs->park_lock);
}

/* --- the flip --- */

struct flip_op {
	struct fs_op op; /* first */
	const struct fs_delta *delta;
	uint64_t version;
	bool force, to_head;
	struct root *old_root; /* set when the flip happens */
	struct fs_view *old; /* made beforehand, over nothing */
	size_t nlate;
	fs_flip_fn at;
	void *arg;
};

static int flip_fn(struct vtx *tx, void *arg)
{
	struct flip_op *f = arg;
	struct fs *fs = f->op.fv->fs;

	if (!f->force &&
	    __atomic_load_n(&fs->op_clock, __ATOMIC_SEQ_CST) > f->version)
		return FLIP_CHANGED;
	if (fs->track_lost)
		return -ENOMEM;
	return tx_enter_all(tx, &f->op);
}

static bool is_late(struct flip_op *f, uint64_t ino)
{
	struct fs *fs = f->op.fv->fs;

	return f->nlate &&
	       bsearch(&ino, fs->track, f->nlate, sizeof(*fs->track), u64_cmp);
}

static void flip_file(void *arg, struct fs_file *file)
{
	struct flip_op *f = arg;
	const struct fs_delta_inode *d = fs_delta_find(f->delta, file->ino);

	if (file->gone || is_late(f, file->ino) ||
	    (d && d->flags & (FS_DELTA_DATA | FS_DELTA_GONE))) {
		file_move(file, f->old);
		return;
	}
	if (d && d->flags & FS_DELTA_ATTR) {
		file->orphan = d->flags & FS_DELTA_ORPHAN;
		file->priv_clean = false;
		file->no_caps = false;
	}
}

static void flip_done(void *arg)
{
	struct flip_op *f = arg;
	struct fs *fs = f->op.fv->fs;
	uint64_t now;

	fv_entered_all(f->op.fv);
	view_adopt(f->old->view, f->old_root);
	f->nlate = track_late(fs, f->delta);
	fv_each_file(f->op.fv, flip_file, f);
	now = __atomic_add_fetch(&fs->clock, 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(&fs->op_clock, now, __ATOMIC_SEQ_CST);
	__atomic_store_n(&fs->flip_clock, now, __ATOMIC_SEQ_CST);
	if (f->to_head) {
		__atomic_store_n(&fs->same_clock, now, __ATOMIC_SEQ_CST);
		__atomic_store_n(&fs->new_bytes, 0, __ATOMIC_SEQ_CST);
	}
	if (f->at)
		f->at(f->arg, f->old, fs->track, f->nlate);
}

static bool is_head(struct fs *fs, const struct root *r)
{
	struct root head;
	bool same;

	store_head(fs->store, &head, NULL);
	same = root_same(&head, r);
	root_put(store_tree(fs->store), &head);
	return same;
}

int fs_flip(struct fs *fs, const struct root *to, const struct fs_delta *delta,
	    uint64_t version, bool force, fs_flip_fn at, void *arg,
	    struct root *old_out)
{
	struct root old_root = ROOT_EMPTY, none = ROOT_EMPTY;
	struct flip_op f = {
		.op = { .fn = flip_fn, .done = flip_done, .enters = true },
		.delta = delta,
		.version = version,
		.force = force,
		.old_root = &old_root,
		.at = at,
		.arg = arg
	};
	int err;

	if (store_is_read_only(fs->store))
		return -EROFS;
	if (store_failed(fs->store, NULL))
		return -EIO;
	f.to_head = is_head(fs, to);
	err = fs_view_new(fs, &none, &f.old);
	if (err)
		return err;
	op_start(fs->working, &f.op);
	err = view_flip(fs->working->view, to, op_run, op_finish, &f.op,
			&old_root);
	if (err != FLIP_CHANGED)
		track_stop(fs);
	if (err)
		root_put(store_tree(fs->store), &old_root);
	else
		*old_out = old_root;
	fs_view_put(f.old);
	return err == FLIP_CHANGED ? -EAGAIN : err;
}

void fs_flip_is_head(struct fs *fs)
{
	uint64_t at = __atomic_load_n(&fs->flip_clock, __ATOMIC_SEQ_CST);

	__atomic_store_n(&fs->same_clock, at, __ATOMIC_SEQ_CST);
	__atomic_store_n(&fs->new_bytes, 0, __ATOMIC_SEQ_CST);
}

struct anyhow {
	struct fs_delta *delta;
	fs_flipped_fn at;
	void *arg;
};

static void anyhow_at(void *arg, struct fs_view *old, const uint64_t *late,
		      size_t nlate)
{
	const struct anyhow *a = arg;

	if (a->at)
		a->at(a->arg, a->delta, old);
}

int fs_flip_anyhow(struct fs *fs, const struct root *to, fs_flipped_fn at,
		   void *arg, struct root *old_out)
{
	struct anyhow a = { .at = at, .arg = arg };
	struct root now = ROOT_EMPTY;
	uint64_t version = fs_version(fs);
	int err;

	err = fs_freeze(fs, &now);
	if (!err)
		err = fs_delta_new(fs, &now, to, &a.delta);
	if (!err)
		err = fs_flip(fs, to, a.delta, version, true, anyhow_at, &a,
			      old_out);
	track_stop(fs);
	fs_delta_free(a.delta);
	root_put(store_tree(fs->store), &now);
	return err;
}

struct abort_arg {
	struct fs *fs;
	const struct root *head;
};

static int abort_flip(void *arg, struct root *old_out)
{
	struct abort_arg *a = arg;

	return fs_flip_anyhow(a->fs, a->head, NULL, NULL, old_out);
}

int fs_abort(struct fs *fs)
{
	struct root head = ROOT_EMPTY;
	struct abort_arg a = { fs, &head };
	struct switch_req req = { .flip = abort_flip,
				  .arg = &a,
				  .discard = true };
	struct commit_info *info;
	int err;

	info = malloc(sizeof(*info));
	if (!info)
		return -ENOMEM;
	store_head(fs->store, &head, info);
	err = info->number ? 0 : -EINVAL;
	free(info);
	if (!err)
		err = store_switch(fs->store, fs->working->view, &req, NULL);
	root_put(store_tree(fs->store), &head);
	return err;
}
