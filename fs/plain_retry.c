/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plain_retry.c - what an earlier caller might not do to the plain files is
 * tried again. The state shown becomes one that is honest about it: what is not
 * there is not in it, what is there has other attributes. From then on it is a
 * difference to the last commit like any other, and plain_sync() applies it.
 */
#include "fs/plain_internal.h"

struct refused {
	uint64_t ino;
	struct plain_stat p;
};

struct retry {
	struct fs *fs;
	struct fs_view *fv; /* the state shown to be */
	struct refused *v;
	size_t n, cap;
};

static int find_refused(struct retry *r)
{
	uint64_t ino = 0;
	int err;

	for (;; ino++) {
		struct plain_stat p = { 0 };

		err = plain_next_stat(r->fs, &ino, &p);
		if (err)
			return err == 1 ? 0 : err;
		if (!(p.flags & (PLAIN_UNLIKE | PLAIN_ABSENT)) ||
		    p.flags & PLAIN_LEFT)
			continue;
		err = array_grow((void **)&r->v, &r->cap, r->n + 1,
				 sizeof(*r->v));
		if (err)
			return err;
		r->v[r->n++] = (struct refused){ ino, p };
	}
}

struct one {
	uint64_t dir;
	size_t len;
	char name[FS_NAME_MAX + 1];
};

static int take_one(void *arg, uint64_t dir, const char *name, size_t len)
{
	struct one *o = arg;

	o->dir = dir;
	o->len = len;
	memcpy(o->name, name, len);
	o->name[len] = '\0';
	return 1;
}

/* What lies below an absent directory goes with it. */
static int drop_absent(struct retry *r, uint64_t ino)
{
	struct fs_attr a;
	struct one one;
	int err;

	for (;;) {
		err = fs_getattr(r->fv, ino, &a);
		if (err)
			break;
		err = fv_each_name(r->fv, ino, take_one, &one);
		if (err != 1)
			break;
		err = fv_remove_tree(r->fv, one.dir, one.name, one.len, a.mode,
				     ino);
		if (!err)
			err = plain_del_name(r->fs, one.dir, one.name, one.len);
		if (err)
			return err;
	}
	return err && err != -ENOENT ? err : plain_del(r->fs, ino);
}

/* The time is another one in any case: attributes that were refused may be
 * those that stat does not show. */
static int show_unlike(struct retry *r, const struct refused *x)
{
	struct fs_attr a = { .mode = x->p.mode,
			     .uid = x->p.uid,
			     .gid = x->p.gid,
			     .mtime_ns = x->p.mtime_ns ^ 1 };
	int err =
		fs_setattr(r->fv, x->ino,
			   FS_SET_MODE | FS_SET_UID | FS_SET_GID | FS_SET_MTIME,
			   &a, NULL);

	return err == -ENOENT ? 0 : err;
}

/* No name of it is there, so the table has no place for it either. */
static bool goes(const struct refused *x)
{
	return x->p.flags & PLAIN_ABSENT && !x->p.mode;
}

static int make_shown(struct retry *r, struct plain_state *shown)
{
	struct root root = ROOT_EMPTY;
	int err = 0;

	for (size_t i = 0; i < r->n && !err; i++)
		err = goes(&r->v[i]) ? drop_absent(r, r->v[i].ino)
				     : show_unlike(r, &r->v[i]);
	if (err)
		return err;
	view_freeze(r->fv->view, &root);
	err = tree_write_out(store_tree(r->fs->store), &root, NULL);
	if (!err) {
		shown->root = root.ptr;
		err = plain_put_state(r->fs, PLAIN_STATE_SHOWN, shown);
	}
	if (!err)
		err = store_checkpoint(r->fs->store, r->fs->working->view);
	root_put(store_tree(r->fs->store), &root);
	return err;
}

int plain_retry(struct fs *fs, bool *any_out)
{
	struct root before = ROOT_EMPTY, dropped = ROOT_EMPTY;
	struct retry r = { .fs = fs };
	struct plain_state shown, target;
	int err;

	*any_out = false;
	err = plain_get_state(fs, PLAIN_STATE_TARGET, &target);
	if (err != 1)
		return err; /* an interrupted run is finished first */
	err = plain_get_state(fs, PLAIN_STATE_SHOWN, &shown);
	if (err || !shown.root.pos)
		return err == 1 ? 0 : err;
	err = find_refused(&r);
	if (!err && r.n)
		err = fv_new_private(fs, &(struct root){ .ptr = shown.root },
				     &r.fv);
	if (!err && r.n) {
		view_freeze(store_plain(fs->store), &before);
		err = make_shown(&r, &shown);
		if (err && !store_failed(fs->store, NULL)) {
			/* The table goes with the state. */
			int undo = view_flip(store_plain(fs->store), &before,
					     NULL, NULL, NULL, &dropped);

			ASSERT(!undo); /* nothing to apply, nothing to load */
			root_put(store_tree(fs->store), &dropped);
		}
		root_put(store_tree(fs->store), &before);
	}
	for (size_t i = 0; i < r.n && !err; i++)
		if (goes(&r.v[i]))
			plain_count(fs, &r.v[i].p, -1);
	*any_out = !err && r.n;
	if (r.fv && err)
		fv_drop_all(r.fv);
	fs_view_put(r.fv);
	free(r.v);
	return err;
}
