/* SPDX-License-Identifier: GPL-2.0-or-later */
/* rename.c - moving, replacing and exchanging names. */
#include "fs/fs_internal.h"

enum { RENAME_ENTER = 3 }; /* from rename_fn: the source is dirty */

struct rename_end {
	uint64_t dir;
	const char *name;
	size_t len;
	struct dir_slot slot;
	struct item_attr attr; /* of the object that the name is */
};

struct rename_op {
	struct fs_op op; /* ino: the directory of the old name */
	struct rename_end from, to;
	unsigned int flags;
	struct item_attr dirs[2]; /* from's; to's, when that is another one */
	struct fs_renamed out;
	bool last; /* the replaced object lost its last name */
	const struct fs_cred *cred; /* of a whiteout, */
	uint64_t whiteout; /* its inode; 0: none is wanted */
};

static struct item_attr *to_dir(struct rename_op *r)
{
	return r->from.dir == r->to.dir ? &r->dirs[0] : &r->dirs[1];
}

/* Is dir the directory ino, or below it? */
static int is_below(struct vtx *tx, uint64_t dir, uint64_t ino, bool *below)
{
	struct item_attr a;
	unsigned int depth = 0;

	*below = false;
	while (dir != FS_ROOT_INO) {
		int err;

		if (dir == ino) {
			*below = true;
			return 0;
		}
		err = tx_get_attr(tx, dir, &a);
		/* I22; a loop must not hold us for ever either. */
		if (err == -ENOENT || (!err && ++depth > 1u << 20))
			err = -EFSCORRUPTED;
		if (err)
			return err;
		dir = a.parent;
	}
	*below = ino == FS_ROOT_INO;
	return 0;
}

static int end_load(struct vtx *tx, struct rename_op *r, struct rename_end *e)
{
	int err;

	err = tx_find(tx, r->op.fv->fs, e->dir, e->name, e->len, &e->slot);
	if (err || !e->slot.ino)
		return err;
	err = tx_get_attr(tx, e->slot.ino, &e->attr);
	return err == -ENOENT ? -EFSCORRUPTED : err;
}

/* 1: nothing to do. */
static int rename_check(struct vtx *tx, struct rename_op *r)
{
	bool exchange = r->flags & FS_RENAME_EXCHANGE;
	bool below = false;
	int err = 0;

	if (!r->from.slot.ino || (exchange && !r->to.slot.ino))
		return -ENOENT;
	if ((r->flags & FS_RENAME_NOREPLACE) && r->to.slot.ino)
		return -EEXIST;
	if (r->from.slot.ino == r->to.slot.ino)
		return 1;
	if (S_ISDIR(r->from.attr.mode))
		err = is_below(tx, r->to.dir, r->from.slot.ino, &below);
	if (!err && !below && exchange && S_ISDIR(r->to.attr.mode))
		err = is_below(tx, r->from.dir, r->to.slot.ino, &below);
	if (err || below)
		return err ? err : -EINVAL;
	if (!r->to.slot.ino)
		return r->to.slot.cookie ? 0 : -ENOSPC;
	if (exchange)
		return 0;
	if (S_ISDIR(r->from.attr.mode) && !S_ISDIR(r->to.attr.mode))
		return -ENOTDIR;
	if (!S_ISDIR(r->from.attr.mode) && S_ISDIR(r->to.attr.mode))
		return -EISDIR;
	if (S_ISDIR(r->to.attr.mode) && r->to.attr.size)
		return -ENOTEMPTY;
	return 0;
}

/* The object of e is called by (dir, cookie) now. */
static int ref_move(struct vtx *tx, struct rename_op *r, struct rename_end *e,
		    uint64_t dir, uint64_t cookie)
{
	struct item_attr *a = &e->attr;
	int err = 0;

	if (a->parent == e->dir && a->cookie == e->slot.cookie) {
		a->parent = dir;
		a->cookie = cookie;
	} else {
		err = tx_ref_del(tx, e->slot.ino, a, e->dir, e->slot.cookie);
		if (!err)
			err = tx_ref_add(tx, e->slot.ino, a, dir, cookie);
	}
	a->ctime_ns = r->op.now_ns;
	if (!err)
		err = tx_put_attr(tx, &r->op, e->slot.ino, a);
	return err;
}

static int put_dirs(struct vtx *tx, struct rename_op *r)
{
	struct item_attr *to = to_dir(r);
	int err;

	r->dirs[0].mtime_ns = r->op.now_ns;
	r->dirs[0].ctime_ns = r->op.now_ns;
	err = tx_put_attr(tx, &r->op, r->from.dir, &r->dirs[0]);
	if (err || to == &r->dirs[0])
		return err;
	to->mtime_ns = r->op.now_ns;
	to->ctime_ns = r->op.now_ns;
	return tx_put_attr(tx, &r->op, r->to.dir, to);
}

static int do_exchange(struct vtx *tx, struct rename_op *r)
{
	struct rename_end *f = &r->from, *t = &r->to;
	bool fdir = S_ISDIR(f->attr.mode), tdir = S_ISDIR(t->attr.mode);
	int err;

	err = tx_put_entry(tx, f->dir, f->slot.cookie, t->slot.ino,
			   t->attr.mode, f->name, f->len);
	if (!err)
		err = tx_put_entry(tx, t->dir, t->slot.cookie, f->slot.ino,
				   f->attr.mode, t->name, t->len);
	if (!err)
		err = ref_move(tx, r, f, t->dir, t->slot.cookie);
	if (!err)
		err = ref_move(tx, r, t, f->dir, f->slot.cookie);
	if (fdir != tdir) {
		r->dirs[0].nlink += tdir ? 1u : -1u;
		to_dir(r)->nlink += fdir ? 1u : -1u;
	}
	return err ? err : put_dirs(tx, r);
}

/* Take away what the new name was. */
static int drop_replaced(struct vtx *tx, struct rename_op *r)
{
	struct rename_end *t = &r->to;

	to_dir(r)->size--;
	if (!S_ISDIR(t->attr.mode))
		return tx_drop_name(tx, &r->op, t->slot.ino, t->dir,
				    t->slot.cookie, &r->last);
	to_dir(r)->nlink--;
	return tx_del_object(tx, &r->op, t->slot.ino, &t->attr);
}

/* What the old name is afterwards: nothing, or a whiteout. */
static int leave_name(struct vtx *tx, struct rename_op *r)
{
	struct rename_end *f = &r->from;
	struct item_attr a;
	int err;

	if (!r->whiteout)
		return tx_del_entry(tx, f->dir, f->slot.cookie);
	a = (struct item_attr){ .mode = S_IFCHR,
				.nlink = 1,
				.uid = r->cred->uid,
				.gid = r->cred->gid,
				.parent = f->dir,
				.cookie = f->slot.cookie,
				.data_version = r->whiteout,
				.atime_ns = r->op.now_ns,
				.mtime_ns = r->op.now_ns,
				.ctime_ns = r->op.now_ns,
				.btime_ns = r->op.now_ns };
	err = tx_put_entry(tx, f->dir, f->slot.cookie, r->whiteout, S_IFCHR,
			   f->name, f->len);
	return err ? err : tx_put_attr(tx, &r->op, r->whiteout, &a);
}

static int do_rename(struct vtx *tx, struct rename_op *r)
{
	struct rename_end *f = &r->from, *t = &r->to;
	int err = 0;

	if (t->slot.ino)
		err = drop_replaced(tx, r);
	if (!err)
		err = leave_name(tx, r);
	if (!err)
		err = tx_put_entry(tx, t->dir, t->slot.cookie, f->slot.ino,
				   f->attr.mode, t->name, t->len);
	if (!err)
		err = ref_move(tx, r, f, t->dir, t->slot.cookie);
	if (err)
		return err;
	if (!r->whiteout)
		r->dirs[0].size--;
	to_dir(r)->size++;
	if (S_ISDIR(f->attr.mode)) {
		r->dirs[0].nlink--;
		to_dir(r)->nlink++;
	}
	return put_dirs(tx, r);
}

/* A crash must not leave the new name with the old contents gone and the new
 * ones not yet there: what is buffered goes in first. */
static bool source_is_dirty(struct rename_op *r)
{
	const struct fs_file *f = file_peek(r->op.fv, r->from.slot.ino);

	return f && f->dirty;
}

static int rename_fn(struct vtx *tx, void *arg)
{
	struct rename_op *r = arg;
	int err;

	r->last = false;
	err = tx_get_dir(tx, r->from.dir, &r->dirs[0]);
	if (!err && r->from.dir != r->to.dir)
		err = tx_get_dir(tx, r->to.dir, &r->dirs[1]);
	if (!err)
		err = end_load(tx, r, &r->from);
	if (!err)
		err = end_load(tx, r, &r->to);
	if (!err)
		err = rename_check(tx, r);
	if (err < 0)
		return err;
	r->out = (struct fs_renamed){ .ino = r->from.slot.ino };
	if (err == 1)
		return err;
	r->out.other_ino = r->to.slot.ino;
	if (r->to.slot.ino && source_is_dirty(r))
		return RENAME_ENTER;
	return r->flags & FS_RENAME_EXCHANGE ? do_exchange(tx, r)
					     : do_rename(tx, r);
}

static void rename_done(void *arg)
{
	struct rename_op *r = arg;

	if (r->last)
		file_lost_name(r->op.fv, r->to.slot.ino, true);
}

static int enter_source(struct fs_view *fv, uint64_t ino)
{
	struct fs_file *f = file_find(fv, ino);
	int err = 0;

	if (f)
		err = file_enter(f);
	fs_file_put(f);
	return err;
}

static bool flags_are_valid(unsigned int flags)
{
	unsigned int all =
		FS_RENAME_NOREPLACE | FS_RENAME_EXCHANGE | FS_RENAME_WHITEOUT;

	return !(flags & ~all) &&
	       (!(flags & FS_RENAME_EXCHANGE) || flags == FS_RENAME_EXCHANGE);
}

int fs_rename(struct fs_view *fv, const struct fs_cred *cred, uint64_t dir,
	      const char *name, size_t len, uint64_t new_dir,
	      const char *new_name, size_t new_len, unsigned int flags,
	      struct fs_renamed *out)
{
	struct rename_op r = {
		.op = { .fn = rename_fn, .done = rename_done, .ino = dir },
		.from = { .dir = dir, .name = name, .len = len },
		.to = { .dir = new_dir, .name = new_name, .len = new_len },
		.flags = flags,
		.cred = cred
	};
	int err;

	if (!flags_are_valid(flags))
		return -EINVAL;
	err = name_check(name, len);
	if (!err)
		err = name_check(new_name, new_len);
	if (err)
		return err == -EEXIST ? -EBUSY : err; /* . and .. */
	if (fs_view_is_read_only(fv))
		return -EROFS;
	if (flags & FS_RENAME_WHITEOUT)
		r.whiteout = store_new_obj(fv->fs->store);
	while ((err = fv_update(fv, 0, &r.op)) == RENAME_ENTER) {
		err = enter_source(fv, r.out.ino);
		if (err)
			break;
	}
	if (err < 0)
		return err;
	if (out)
		*out = r.out;
	return 0;
}
