/* SPDX-License-Identifier: GPL-2.0-or-later */
/* remove.c - unlink and rmdir, and what remains of an object in use. */
#include "fs/fs_internal.h"

int tx_drop_name(struct vtx *tx, struct fs_op *op, uint64_t ino,
		 uint64_t parent, uint64_t cookie, bool *last)
{
	struct item_attr a;
	int err;

	err = tx_get_attr(tx, ino, &a);
	if (err)
		return err == -ENOENT ? -EFSCORRUPTED : err; /* I20 */
	if (!a.nlink)
		return -EFSCORRUPTED;
	err = tx_ref_del(tx, ino, &a, parent, cookie);
	if (err)
		return err;
	a.nlink--;
	a.ctime_ns = op->now_ns;
	*last = !a.nlink;
	if (a.nlink)
		return tx_put_attr(tx, op, ino, &a);
	if (!file_is_used(op->fv, ino))
		return tx_del_object(tx, op, ino, &a);
	err = tx_put_orphan(tx, ino);
	if (!err)
		err = tx_put_attr(tx, op, ino, &a);
	return err;
}

void file_lost_name(struct fs_view *fv, uint64_t ino, bool last)
{
	struct fs_file *f;

	if (!last)
		return;
	f = file_peek(fv, ino);
	if (!f)
		return;
	if (file_is_used(fv, ino)) {
		f->orphan = true;
	} else {
		f->gone = true;
		file_discard(f);
	}
}

struct remove_op {
	struct fs_op op; /* ino: the directory */
	const char *name;
	size_t len;
	uint64_t ino;
	bool want_dir, last;
};

static int remove_dir(struct vtx *tx, struct remove_op *r,
		      struct item_attr *dir)
{
	struct item_attr a;
	int err;

	err = tx_get_attr(tx, r->ino, &a);
	if (err)
		return err == -ENOENT ? -EFSCORRUPTED : err;
	if (a.size)
		return -ENOTEMPTY;
	dir->nlink--;
	return tx_del_object(tx, &r->op, r->ino, &a);
}

static int remove_fn(struct vtx *tx, void *arg)
{
	struct remove_op *r = arg;
	struct item_attr dir;
	struct dir_slot slot;
	int err;

	r->last = false;
	err = tx_get_dir(tx, r->op.ino, &dir);
	if (!err)
		err = tx_find(tx, r->op.fv->fs, r->op.ino, r->name, r->len,
			      &slot);
	if (err)
		return err;
	if (!slot.ino)
		return -ENOENT;
	if (S_ISDIR(slot.type) != r->want_dir)
		return r->want_dir ? -ENOTDIR : -EISDIR;
	r->ino = slot.ino;
	if (r->want_dir)
		err = remove_dir(tx, r, &dir);
	else
		err = tx_drop_name(tx, &r->op, slot.ino, r->op.ino, slot.cookie,
				   &r->last);
	if (!err)
		err = tx_del_entry(tx, r->op.ino, slot.cookie);
	dir.size--;
	dir.mtime_ns = r->op.now_ns;
	dir.ctime_ns = r->op.now_ns;
	if (!err)
		err = tx_put_attr(tx, &r->op, r->op.ino, &dir);
	return err;
}

static void remove_done(void *arg)
{
	struct remove_op *r = arg;

	file_lost_name(r->op.fv, r->ino, r->last);
}

static int remove_name(struct fs_view *fv, uint64_t dir, const char *name,
		       size_t len, bool want_dir, uint64_t *ino_out)
{
	struct remove_op r = {
		.op = { .fn = remove_fn, .done = remove_done, .ino = dir },
		.name = name,
		.len = len,
		.want_dir = want_dir
	};
	int err;

	if (len > FS_NAME_MAX)
		return -ENAMETOOLONG;
	err = fv_update(fv, VIEW_PRIVILEGED, &r.op);
	/* What was deleted before is dead once that is written. */
	if (err == -ENOSPC && fv->is_working && fs_find_space(fv->fs))
		err = fv_update(fv, VIEW_PRIVILEGED, &r.op);
	if (!err && ino_out)
		*ino_out = r.ino;
	return err;
}

int fs_unlink(struct fs_view *fv, uint64_t dir, const char *name, size_t len,
	      uint64_t *ino_out)
{
	return remove_name(fv, dir, name, len, false, ino_out);
}

int fs_rmdir(struct fs_view *fv, uint64_t dir, const char *name, size_t len,
	     uint64_t *ino_out)
{
	if (len == 1 && name[0] == '.')
		return -EINVAL;
	return remove_name(fv, dir, name, len, true, ino_out);
}
