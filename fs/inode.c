/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inode.c - attributes of objects and targets of symlinks. What is shown is
 * the tree's item with the size and times of a dirty file laid over it.
 */
#include "fs/fs_internal.h"

int tx_get_attr(struct vtx *tx, uint64_t ino, struct item_attr *out)
{
	struct key key = KEY(ino, ITEM_KIND_ATTR, 0);
	struct val val;
	int err;

	/* Low numbers have other meanings, and hold nothing here. */
	err = vtx_get(tx, &key, &val);
	if (err)
		return err == 1 ? -ENOENT : err;
	return item_attr_decode(&val, out);
}

int tx_put_attr(struct vtx *tx, struct fs_op *op, uint64_t ino,
		const struct item_attr *a)
{
	struct key key = KEY(ino, ITEM_KIND_ATTR, 0);
	uint8_t buf[ATTR_BYTES];

	if (!op->enters) {
		ASSERT(op->ntouched < OP_TOUCHED_MAX);
		op->touched[op->ntouched++] = ino;
	}
	item_attr_encode(a, buf);
	return vtx_put(tx, &key, buf, sizeof(buf));
}

/* free() it. */
static int tx_get_target(struct vtx *tx, uint64_t ino,
			 const struct item_attr *a, char **target_out)
{
	struct val val = { 0 };
	int err = 0;
	char *s;

	if (a->size > FS_SYMLINK_MAX)
		return -EFSCORRUPTED;
	s = malloc(a->size + 1);
	if (!s)
		return -ENOMEM;
	for (size_t off = 0; off < a->size && !err; off += val.len) {
		struct key key = KEY(ino, ITEM_KIND_INLINE, off);

		err = vtx_get(tx, &key, &val);
		if (err == 1 || (!err && (!val.len || val.len > a->size - off)))
			err = -EFSCORRUPTED;
		if (!err)
			memcpy(s + off, val.p, val.len);
	}
	if (err) {
		free(s);
		return err;
	}
	s[a->size] = '\0';
	*target_out = s;
	return 0;
}

/* What cannot be read is removed all the same. -EAGAIN: a node is to be loaded.
 */
static int note_gone(struct vtx *tx, uint64_t ino, const struct item_attr *a,
		     struct fs_gone *g)
{
	struct key from = KEY(ino, ITEM_KIND_XATTR, 0), at;
	struct key to = KEY(ino, ITEM_KIND_XATTR, UINT64_MAX);
	struct val val;
	int err = 0;

	if (S_ISLNK(a->mode))
		err = tx_get_target(tx, ino, a, &g->target);
	if (err != -EAGAIN)
		err = vtx_next(tx, &from, &to, &at, &val);
	g->has_xattrs = err <= 0;
	return err == -EAGAIN ? err : 0;
}

int tx_del_object(struct vtx *tx, struct fs_op *op, uint64_t ino,
		  const struct item_attr *a)
{
	struct key from = KEY(ino, 0, 0);
	struct key to = KEY(ino, UINT8_MAX, UINT64_MAX);
	int err = 0;

	ASSERT(op->ntouched < OP_TOUCHED_MAX);
	op->touched[op->ntouched++] = ino;
	ASSERT(!op->gone_ino);
	op->gone_ino = ino;
	op->gone_attr = *a;
	op->gone_attr.nlink = 0;
	if (op->fv->is_working && op->fv->fs->gone)
		err = note_gone(tx, ino, a, &op->gone);
	return err ? err : vtx_del_range(tx, &from, &to);
}

static uint64_t shown_blocks(const struct item_attr *a)
{
	if (a->flags & ATTR_FLAG_INLINE)
		return (a->size + 511) / 512;
	return a->blocks * (FS_BLOCK_BYTES / 512);
}

void fv_show(struct fs_view *fv, uint64_t ino, const struct item_attr *a,
	     struct fs_attr *out)
{
	struct fs_file *f = NULL;

	*out = (struct fs_attr){
		.ino = ino,
		.size = a->size,
		.blocks = shown_blocks(a),
		.rdev = a->rdev,
		.data_version = a->data_version,
		.parent = a->parent,
		.atime_ns = a->atime_ns,
		.mtime_ns = a->mtime_ns,
		.ctime_ns = a->ctime_ns,
		.btime_ns = a->btime_ns,
		.mode = a->mode,
		.nlink = a->nlink,
		.uid = a->uid,
		.gid = a->gid,
	};
	if (S_ISREG(a->mode))
		f = file_peek(fv, ino);
	if (!f)
		return;
	pthread_mutex_lock(&f->lock);
	if (f->dirty) {
		out->size = f->size;
		out->mtime_ns = f->mtime_ns;
		/* The tree's is later after a link, an unlink, a rename. */
		if (f->ctime_ns > out->ctime_ns)
			out->ctime_ns = f->ctime_ns;
		/* As good as is known before they are entered. */
		if (f->cut != CUT_NONE)
			out->blocks = min_u64(out->blocks, f->cut / 512);
		out->blocks +=
			(f->ndirty + f->npending) * (FS_BLOCK_BYTES / 512);
	}
	pthread_mutex_unlock(&f->lock);
}

int tx_get_shown(struct vtx *tx, struct fs_view *fv, uint64_t ino,
		 struct fs_attr *out)
{
	struct item_attr a;
	int err;

	err = tx_get_attr(tx, ino, &a);
	if (!err)
		fv_show(fv, ino, &a, out);
	return err;
}

/* --- getattr --- */

struct getattr_op {
	struct fs_op op;
	struct fs_attr attr;
};

static int getattr_fn(struct vtx *tx, void *arg)
{
	struct getattr_op *g = arg;

	return tx_get_shown(tx, g->op.fv, g->op.ino, &g->attr);
}

int fs_getattr(struct fs_view *fv, uint64_t ino, struct fs_attr *attr_out)
{
	struct getattr_op g = { .op = { .fn = getattr_fn, .ino = ino } };
	int err;

	err = fv_read(fv, &g.op);
	if (!err)
		*attr_out = g.attr;
	return err;
}

struct file_getattr_op {
	struct fs_op op;
	struct fs_file *f;
	struct fs_attr attr;
};

static int file_getattr_fn(struct vtx *tx, void *arg)
{
	struct file_getattr_op *g = arg;

	if (!file_is_in(g->f, &g->op))
		return FS_MOVED;
	return tx_get_shown(tx, g->op.fv, g->op.ino, &g->attr);
}

int fs_file_getattr(struct fs_file *f, struct fs_attr *attr_out)
{
	struct file_getattr_op g = {
		.op = { .fn = file_getattr_fn, .ino = f->ino }, .f = f
	};
	int err;

	err = file_read_op(f, &g.op);
	if (err)
		return err;
	if (fs_file_is_stale(f))
		g.attr.nlink = 0;
	*attr_out = g.attr;
	return 0;
}

/* --- setattr --- */

struct setattr_op {
	struct fs_op op;
	struct fs_file *f; /* the view has to be where it is; may be NULL */
	unsigned int set;
	const struct fs_attr *want;
	struct item_attr attr;
	struct fs_attr shown;
};

/* Drop what gives the owner's rights to whoever runs the file. */
static int kill_priv(struct vtx *tx, const struct fs *fs, uint64_t ino,
		     struct item_attr *a, bool bits)
{
	struct item_xattr x;
	uint64_t off;
	int err;

	if (bits && !S_ISDIR(a->mode)) {
		a->mode &= ~(uint32_t)S_ISUID;
		if (a->mode & S_IXGRP)
			a->mode &= ~(uint32_t)S_ISGID;
	}
	err = tx_find_xattr(tx, fs, ino, XATTR_CAPABILITY,
			    strlen(XATTR_CAPABILITY), &off, &x);
	if (err)
		return err == 1 ? 0 : err;
	return tx_del_xattr(tx, ino, off);
}

static int setattr_fn(struct vtx *tx, void *arg)
{
	struct setattr_op *s = arg;
	const struct fs_attr *w = s->want;
	struct item_attr *a = &s->attr;
	int err;

	if (s->f && !file_is_in(s->f, &s->op))
		return FS_MOVED;
	err = tx_get_attr(tx, s->op.ino, a);
	if (err)
		return err;
	if (s->set & (FS_SET_KILL_PRIV | FS_SET_KILL_CAPS)) {
		err = kill_priv(tx, s->op.fv->fs, s->op.ino, a,
				s->set & FS_SET_KILL_PRIV);
		if (err)
			return err;
	}
	if (s->set & FS_SET_MODE) {
		a->mode = (a->mode & S_IFMT) | (w->mode & 07777);
		err = tx_chmod_acl(tx, s->op.fv->fs, s->op.ino, a->mode);
		if (err)
			return err;
	}
	if (s->set & FS_SET_UID)
		a->uid = w->uid;
	if (s->set & FS_SET_GID)
		a->gid = w->gid;
	if (s->set & FS_SET_ATIME)
		a->atime_ns = w->atime_ns;
	if (s->set & FS_SET_MTIME)
		a->mtime_ns = w->mtime_ns;
	a->ctime_ns = s->set & FS_SET_CTIME ? w->ctime_ns : s->op.now_ns;
	return tx_put_attr(tx, &s->op, s->op.ino, a);
}

/* Times that wait in a buffer follow, or entering would undo them. */
static void setattr_done(void *arg)
{
	struct setattr_op *s = arg;
	struct fs_file *f = file_peek(s->op.fv, s->op.ino);

	if (f) {
		f->ctime_ns = s->attr.ctime_ns;
		if (s->set & FS_SET_MTIME)
			f->mtime_ns = s->attr.mtime_ns;
		if (s->set & FS_SET_MODE)
			f->priv_clean = false;
	}
	fv_show(s->op.fv, s->op.ino, &s->attr, &s->shown);
}

/* Of an inode of fv, or of f, wherever that is. */
static int set_attr(struct fs_view *fv, uint64_t ino, struct fs_file *f,
		    unsigned int set, const struct fs_attr *attr,
		    struct fs_attr *attr_out)
{
	struct setattr_op s = {
		.op = { .fn = setattr_fn, .done = setattr_done, .ino = ino },
		.f = f,
		.set = set,
		.want = attr
	};
	unsigned int flags =
		set & (FS_SET_SIZE | FS_SET_KILL_PRIV | FS_SET_KILL_CAPS)
			? VIEW_PRIVILEGED
			: 0;
	int err = f ? file_update_op(f, flags, &s.op)
		    : fv_update(fv, flags, &s.op);

	if (!err && attr_out)
		*attr_out = s.shown;
	return err;
}

int fs_file_setattr(struct fs_file *f, unsigned int set,
		    const struct fs_attr *attr, struct fs_attr *attr_out)
{
	const unsigned int kill = FS_SET_KILL_PRIV | FS_SET_KILL_CAPS;
	int err = 0;

	if (set & FS_SET_SIZE) {
		if (set & kill)
			err = fs_drop_priv(f, !(set & FS_SET_KILL_PRIV));
		if (err >= 0)
			err = fs_truncate(f, attr->size);
		if (err)
			return err;
		set &= ~kill;
	}
	return set_attr(NULL, f->ino, f, set, attr, attr_out);
}

int fs_setattr(struct fs_view *fv, uint64_t ino, unsigned int set,
	       const struct fs_attr *attr, struct fs_attr *attr_out)
{
	struct fs_file *f;
	int err;

	if (fs_view_is_read_only(fv))
		return -EROFS;
	if (!(set & FS_SET_SIZE))
		return set_attr(fv, ino, NULL, set, attr, attr_out);
	err = fs_file_open(fv, ino, &f);
	if (err)
		return err;
	err = fs_file_setattr(f, set, attr, attr_out);
	fs_file_put(f);
	return err;
}

/* --- symlinks --- */

int tx_put_target(struct vtx *tx, uint64_t ino, const char *s, size_t len)
{
	for (size_t off = 0; off < len; off += INLINE_CHUNK_BYTES) {
		struct key key = KEY(ino, ITEM_KIND_INLINE, off);
		int err;

		err = vtx_put(tx, &key, s + off,
			      min_u64(len - off, INLINE_CHUNK_BYTES));
		if (err)
			return err;
	}
	return 0;
}

struct readlink_op {
	struct fs_op op;
	char *target;
	size_t len;
};

static int readlink_fn(struct vtx *tx, void *arg)
{
	struct readlink_op *r = arg;
	struct item_attr a;
	int err;

	free(r->target); /* run again */
	r->target = NULL;
	err = tx_get_attr(tx, r->op.ino, &a);
	if (err)
		return err;
	r->len = a.size;
	return S_ISLNK(a.mode)
		       ? tx_get_target(tx, r->op.ino, &a, &r->target)
		       : -EINVAL;
}

int fs_readlink(struct fs_view *fv, uint64_t ino, char **target_out,
		size_t *len_out)
{
	struct readlink_op r = { .op = { .fn = readlink_fn, .ino = ino } };
	int err;

	err = fv_read(fv, &r.op);
	if (err) {
		free(r.target);
		return err;
	}
	*target_out = r.target;
	*len_out = r.len;
	return 0;
}
