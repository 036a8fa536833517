/* SPDX-License-Identifier: GPL-2.0-or-later */
/* make.c - new objects and new names for old ones. */
#include "fs/fs_internal.h"

struct make_op {
	struct fs_op op;
	uint64_t ino; /* of the new object */
	const struct fs_cred *cred;
	const char *name;
	size_t len;
	const struct fs_new *want;
	struct fs_file *file; /* made beforehand; NULL: not wanted */
	struct item_attr attr;
	struct fs_attr shown;
};

int tx_put_orphan(struct vtx *tx, uint64_t ino)
{
	struct key key = KEY(ITEM_OBJ_ORPHANS, ITEM_KIND_ORPHAN, ino);

	return vtx_put(tx, &key, "", 0);
}

/* Take a new entry into a directory. */
static void dir_grow(struct item_attr *dir, uint32_t type, int64_t now_ns)
{
	dir->size++;
	if (S_ISDIR(type))
		dir->nlink++;
	dir->mtime_ns = now_ns;
	dir->ctime_ns = now_ns;
}

static void make_attr(struct make_op *m, const struct item_attr *dir)
{
	const struct fs_new *w = m->want;
	struct item_attr *a = &m->attr;

	*a = (struct item_attr){
		.mode = w->mode,
		.nlink = S_ISDIR(w->mode) ? 2 : 1,
		.uid = m->cred->uid,
		.gid = m->cred->gid,
		.atime_ns = m->op.now_ns,
		.mtime_ns = m->op.now_ns,
		.ctime_ns = m->op.now_ns,
		.btime_ns = m->op.now_ns,
	};
	if (S_ISCHR(w->mode) || S_ISBLK(w->mode))
		a->rdev = w->rdev;
	if (S_ISLNK(w->mode))
		a->size = w->target_len;
	if (dir->mode & S_ISGID) {
		a->gid = dir->gid;
		if (S_ISDIR(a->mode))
			a->mode |= S_ISGID;
	}
}

static int make_name(struct vtx *tx, struct make_op *m, struct item_attr *dir)
{
	int err;

	err = tx_find_place(tx, m->op.fv->fs, m->op.ino, m->name, m->len,
			    &m->attr.cookie);
	if (err)
		return err;
	m->attr.parent = m->op.ino;
	dir_grow(dir, m->attr.mode, m->op.now_ns);
	err = tx_put_entry(tx, m->op.ino, m->attr.cookie, m->ino, m->attr.mode,
			   m->name, m->len);
	if (!err)
		err = tx_put_attr(tx, &m->op, m->op.ino, dir);
	return err;
}

static int make_fn(struct vtx *tx, void *arg)
{
	struct make_op *m = arg;
	const struct fs_new *w = m->want;
	struct item_attr dir;
	int err;

	err = tx_get_dir(tx, m->op.ino, &dir);
	if (err)
		return err;
	make_attr(m, &dir);
	m->attr.data_version = m->ino;
	err = tx_inherit_acl(tx, m->op.fv->fs, m->op.ino, m->ino, w->umask,
			     &m->attr.mode);
	if (err)
		return err;
	if (m->name) {
		err = make_name(tx, m, &dir);
	} else {
		m->attr.nlink = 0;
		err = tx_put_orphan(tx, m->ino);
	}
	if (!err && S_ISLNK(w->mode))
		err = tx_put_target(tx, m->ino, w->target, w->target_len);
	if (!err)
		err = tx_put_attr(tx, &m->op, m->ino, &m->attr);
	return err;
}

static void make_done(void *arg)
{
	struct make_op *m = arg;

	if (m->file) {
		file_set_from_attr(m->file, &m->attr);
		/* What is new has no security.capability. */
		m->file->priv_clean = !(m->attr.mode & (S_ISUID | S_ISGID));
		m->file->no_caps = true;
		m->file = file_insert(m->op.fv, m->file);
		m->file->orphan = !m->name;
	}
	fv_show(m->op.fv, m->ino, &m->attr, &m->shown);
}

static int make_check(const struct fs_new *w, const char *name, size_t len,
		      bool wants_file)
{
	if (S_ISLNK(w->mode)) {
		if (!w->target_len || !w->target)
			return -ENOENT;
		if (w->target_len > FS_SYMLINK_MAX)
			return -ENAMETOOLONG;
	}
	if (!S_ISREG(w->mode) && (wants_file || !name))
		return -EINVAL;
	switch (w->mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return name ? name_check(name, len) : 0;
	default:
		return -EINVAL;
	}
}

int fs_make(struct fs_view *fv, const struct fs_cred *cred, uint64_t dir,
	    const char *name, size_t len, const struct fs_new *new_,
	    struct fs_attr *attr_out, struct fs_file **file_out)
{
	struct make_op m = {
		.op = { .fn = make_fn, .done = make_done, .ino = dir },
		.cred = cred,
		.name = name,
		.len = len,
		.want = new_
	};
	int err;

	err = make_check(new_, name, len, file_out != NULL);
	if (err)
		return err;
	if (fs_view_is_read_only(fv))
		return -EROFS;
	m.ino = store_new_obj(fv->fs->store);
	if (file_out) {
		m.file = file_new(m.ino);
		if (!m.file)
			return -ENOMEM;
	}
	err = fv_update(fv, 0, &m.op);
	if (err) {
		file_free(m.file);
		return err;
	}
	if (attr_out)
		*attr_out = m.shown;
	if (file_out)
		*file_out = m.file;
	return 0;
}

/* --- link --- */

struct link_op {
	struct fs_op op;
	uint64_t dir;
	const char *name;
	size_t len;
	struct item_attr attr;
	bool was_orphan;
	struct fs_attr shown;
};

/* A nameless object gets a name. */
static int unorphan(struct vtx *tx, uint64_t ino)
{
	struct key key = KEY(ITEM_OBJ_ORPHANS, ITEM_KIND_ORPHAN, ino);

	return vtx_del(tx, &key);
}

static int link_fn(struct vtx *tx, void *arg)
{
	struct link_op *l = arg;
	struct item_attr dir, *a = &l->attr;
	uint64_t cookie;
	int err;

	err = tx_get_dir(tx, l->dir, &dir);
	if (!err)
		err = tx_get_attr(tx, l->op.ino, a);
	if (err)
		return err;
	if (S_ISDIR(a->mode))
		return -EPERM;
	if (a->nlink >= FS_LINK_MAX)
		return -EMLINK;
	err = tx_find_place(tx, l->op.fv->fs, l->dir, l->name, l->len, &cookie);
	if (err)
		return err;
	l->was_orphan = !a->nlink;
	if (l->was_orphan)
		err = unorphan(tx, l->op.ino);
	if (!err)
		err = tx_ref_add(tx, l->op.ino, a, l->dir, cookie);
	a->nlink++;
	a->ctime_ns = l->op.now_ns;
	dir_grow(&dir, 0, l->op.now_ns);
	if (!err)
		err = tx_put_entry(tx, l->dir, cookie, l->op.ino, a->mode,
				   l->name, l->len);
	if (!err)
		err = tx_put_attr(tx, &l->op, l->op.ino, a);
	if (!err)
		err = tx_put_attr(tx, &l->op, l->dir, &dir);
	return err;
}

static void link_done(void *arg)
{
	struct link_op *l = arg;
	struct fs_file *f = file_peek(l->op.fv, l->op.ino);

	if (f)
		f->orphan = false;
	fv_show(l->op.fv, l->op.ino, &l->attr, &l->shown);
}

int fs_link(struct fs_view *fv, uint64_t ino, uint64_t dir, const char *name,
	    size_t len, struct fs_attr *attr_out)
{
	struct link_op l = {
		.op = { .fn = link_fn, .done = link_done, .ino = ino },
		.dir = dir,
		.name = name,
		.len = len
	};
	int err;

	err = name_check(name, len);
	if (err)
		return err;
	err = fv_update(fv, 0, &l.op);
	if (!err && attr_out)
		*attr_out = l.shown;
	return err;
}
