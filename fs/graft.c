/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * graft.c - bringing a path of one state into another: items are copied from
 * tree to tree, contents are shared. The work happens in a private view, so
 * nothing is seen before it is whole; what is the same afterwards makes no
 * difference between the states.
 */
#include "fs/fs_internal.h"

enum { COPY_ITEMS = 256, COPY_BYTES = 128 << 10 };

/* Which inode of the source became which. */
struct grafted {
	uint64_t from, to; /* from 0: a free place */
};

struct graft {
	struct fs *fs;
	struct fs_view *from, *to;
	struct grafted *map; /* a hash table, of those with several names */
	size_t nmap, map_cap;
};

static struct grafted *map_place(struct grafted *t, size_t cap, uint64_t ino)
{
	size_t i = ino * 0x9e3779b97f4a7c15ull >> 20 & (cap - 1);

	while (t[i].from && t[i].from != ino)
		i = (i + 1) & (cap - 1);
	return &t[i];
}

static int map_add(struct graft *g, uint64_t from, uint64_t to)
{
	if (g->nmap * 2 >= g->map_cap) {
		size_t cap = g->map_cap ? g->map_cap * 2 : 64;
		struct grafted *t = calloc(cap, sizeof(*t));

		if (!t)
			return -ENOMEM;
		for (size_t i = 0; i < g->map_cap; i++)
			if (g->map[i].from)
				*map_place(t, cap, g->map[i].from) = g->map[i];
		free(g->map);
		g->map = t;
		g->map_cap = cap;
	}
	*map_place(g->map, g->map_cap, from) = (struct grafted){ from, to };
	g->nmap++;
	return 0;
}

/* --- copying the items of one inode --- */

struct copied {
	struct key key;
	uint32_t off, len; /* in bytes */
};

struct copy_op {
	struct fs_op op;
	uint64_t from_ino, to_ino;
	struct key next; /* where to go on reading */
	bool eof;
	size_t n, nbytes;
	struct copied v[COPY_ITEMS];
	uint8_t bytes[COPY_BYTES];
};

/* A part of the source's items: what belongs to it alone, no names. */
static int copy_read(struct vtx *tx, void *arg)
{
	struct copy_op *c = arg;
	struct key from = c->next;
	struct key to = KEY(c->from_ino, ITEM_KIND_EXTENT, UINT64_MAX);

	c->n = 0;
	c->nbytes = 0;
	c->eof = false;
	while (c->n < COPY_ITEMS && c->nbytes + TREE_VALUE_MAX <= COPY_BYTES) {
		struct key at;
		struct val val;
		int err = vtx_next(tx, &from, &to, &at, &val);

		if (err == 1) {
			c->eof = true;
			return 0;
		}
		if (err)
			return err;
		memcpy(c->bytes + c->nbytes, val.p, val.len);
		c->v[c->n++] = (struct copied){ at, (uint32_t)c->nbytes,
						(uint32_t)val.len };
		c->nbytes += val.len;
		from = at;
		from.off++;
		if (!from.off)
			from.kind++;
	}
	return 0;
}

static int copy_write(struct vtx *tx, void *arg)
{
	struct copy_op *c = arg;
	int err = 0;

	for (size_t i = 0; i < c->n && !err; i++) {
		struct key key = c->v[i].key;

		key.obj = c->to_ino;
		err = vtx_put(tx, &key, c->bytes + c->v[i].off, c->v[i].len);
	}
	return err;
}

static int copy_items(struct graft *g, uint64_t from_ino, uint64_t to_ino)
{
	struct copy_op *c = malloc(sizeof(*c));
	int err = 0;

	if (!c)
		return -ENOMEM;
	c->from_ino = from_ino;
	c->to_ino = to_ino;
	c->next = KEY(from_ino, ITEM_KIND_XATTR, 0);
	do {
		c->op = (struct fs_op){ .fn = copy_read, .ino = from_ino };
		err = fv_read(g->from, &c->op);
		if (err || !c->n)
			break;
		c->next = c->v[c->n - 1].key;
		c->next.off++;
		if (!c->next.off)
			c->next.kind++;
		c->op = (struct fs_op){ .fn = copy_write,
					.ino = to_ino,
					.enters = true };
		err = fv_update(g->to, 0, &c->op);
	} while (!err && !c->eof);
	free(c);
	return err;
}

/* --- names and attributes --- */

struct attr_op {
	struct fs_op op;
	struct item_attr attr;
};

static int attr_read(struct vtx *tx, void *arg)
{
	struct attr_op *a = arg;

	return tx_get_attr(tx, a->op.ino, &a->attr);
}

struct add_op {
	struct fs_op op; /* ino: the directory */
	uint64_t ino;
	const char *name;
	size_t len;
	struct item_attr attr; /* of the source */
};

/* The object with its first name. */
static int add_fn(struct vtx *tx, void *arg)
{
	struct add_op *a = arg;
	struct item_attr dir, in = a->attr;
	int err;

	err = tx_get_dir(tx, a->op.ino, &dir);
	if (!err)
		err = tx_find_place(tx, a->op.fv->fs, a->op.ino, a->name,
				    a->len, &in.cookie);
	if (err)
		return err;
	in.parent = a->op.ino;
	in.nlink = S_ISDIR(in.mode) ? 2 : 1;
	if (S_ISDIR(in.mode))
		in.size = 0;
	dir.size++;
	if (S_ISDIR(in.mode))
		dir.nlink++;
	dir.mtime_ns = a->op.now_ns;
	dir.ctime_ns = a->op.now_ns;
	err = tx_put_entry(tx, a->op.ino, in.cookie, a->ino, in.mode, a->name,
			   a->len);
	if (!err)
		err = tx_put_attr(tx, &a->op, a->ino, &in);
	return err ? err : tx_put_attr(tx, &a->op, a->op.ino, &dir);
}

/* A directory's times, which its children's coming has changed. */
static int set_times(struct graft *g, uint64_t ino, const struct item_attr *a)
{
	struct fs_attr t = { .mtime_ns = a->mtime_ns,
			     .atime_ns = a->atime_ns,
			     .ctime_ns = a->ctime_ns };

	return fs_setattr(g->to, ino,
			  FS_SET_MTIME | FS_SET_ATIME | FS_SET_CTIME, &t, NULL);
}

static int graft_object(struct graft *g, uint64_t from_ino, uint64_t dir,
			const char *name, size_t len, uint64_t *ino_out);

struct children {
	struct graft *g;
	uint64_t dir; /* in the target */
};

static int graft_child(void *arg, const struct fs_dirent *ent)
{
	struct children *c = arg;
	uint64_t ino;

	return graft_object(c->g, ent->ino, c->dir, ent->name, ent->len, &ino);
}

static int graft_new(struct graft *g, uint64_t from_ino, uint64_t dir,
		     const char *name, size_t len, struct item_attr *attr,
		     uint64_t *ino_out)
{
	struct add_op a = { .op = { .fn = add_fn, .ino = dir },
			    .ino = from_ino,
			    .name = name,
			    .len = len,
			    .attr = *attr };
	struct fs_attr there;
	int err;

	/* The number is taken when the object lives on by another name. */
	err = fs_getattr(g->to, from_ino, &there);
	if (!err)
		a.ino = store_new_obj(g->fs->store);
	else if (err != -ENOENT)
		return err;
	err = fv_update(g->to, 0, &a.op);
	if (!err)
		err = copy_items(g, from_ino, a.ino);
	if (!err && attr->nlink > 1 && !S_ISDIR(attr->mode))
		err = map_add(g, from_ino, a.ino);
	*ino_out = a.ino;
	return err;
}

static int graft_object(struct graft *g, uint64_t from_ino, uint64_t dir,
			const char *name, size_t len, uint64_t *ino_out)
{
	struct attr_op src = { .op = { .fn = attr_read, .ino = from_ino } };
	struct children c = { .g = g };
	int err;

	err = fv_read(g->from, &src.op);
	if (err)
		return err;
	if (src.attr.nlink > 1 && !S_ISDIR(src.attr.mode) && g->map_cap) {
		const struct grafted *m =
			map_place(g->map, g->map_cap, from_ino);

		if (m->from)
			return fs_link(g->to, m->to, dir, name, len, NULL);
	}
	err = graft_new(g, from_ino, dir, name, len, &src.attr, ino_out);
	if (err || !S_ISDIR(src.attr.mode))
		return err;
	c.dir = *ino_out;
	err = fs_readdir(g->from, from_ino, 0, false, graft_child, &c);
	return err ? err : set_times(g, *ino_out, &src.attr);
}

/* --- making room --- */

struct removing {
	struct fs_view *fv;
	uint64_t dir;
};

static int remove_child(void *arg, const struct fs_dirent *ent)
{
	struct removing *r = arg;

	return fv_remove_tree(r->fv, r->dir, ent->name, ent->len, ent->type,
			      ent->ino);
}

int fv_remove_tree(struct fs_view *fv, uint64_t dir, const char *name,
		   size_t len, uint32_t mode, uint64_t ino)
{
	struct removing r = { fv, ino };
	int err;

	if (!S_ISDIR(mode))
		return fs_unlink(fv, dir, name, len, NULL);
	err = fs_readdir(fv, ino, 0, false, remove_child, &r);
	return err ? err : fs_rmdir(fv, dir, name, len, NULL);
}

/* --- the way down --- */

/* One directory above the path: it is there, or comes along. */
static int step_down(struct graft *g, uint64_t *from_dir, uint64_t *to_dir,
		     const char *name, size_t len)
{
	struct attr_op src;
	struct fs_attr from, to;
	int err;

	err = fs_lookup(g->from, *from_dir, name, len, &from);
	if (err)
		return err;
	if (!S_ISDIR(from.mode))
		return -ENOENT;
	err = fs_lookup(g->to, *to_dir, name, len, &to);
	if (!err && !S_ISDIR(to.mode))
		return -ENOTDIR;
	if (err == -ENOENT) {
		src = (struct attr_op){ .op = { .fn = attr_read,
						.ino = from.ino } };
		err = fv_read(g->from, &src.op);
		if (!err)
			err = graft_new(g, from.ino, *to_dir, name, len,
					&src.attr, &to.ino);
	}
	*from_dir = from.ino;
	*to_dir = to.ino;
	return err;
}

static int graft_path(struct graft *g, const char *path)
{
	uint64_t from_dir = FS_ROOT_INO, to_dir = FS_ROOT_INO, ino;
	struct fs_attr from, to;
	size_t len;
	int err;

	for (;;) {
		path += strspn(path, "/");
		len = strcspn(path, "/");
		if (!path[len + strspn(path + len, "/")])
			break;
		err = step_down(g, &from_dir, &to_dir, path, len);
		if (err)
			return err;
		path += len;
	}
	if (!len)
		return -EINVAL;
	err = fs_lookup(g->from, from_dir, path, len, &from);
	if (err)
		return err;
	err = fs_lookup(g->to, to_dir, path, len, &to);
	if (!err)
		err = fv_remove_tree(g->to, to_dir, path, len, to.mode, to.ino);
	else if (err == -ENOENT)
		err = 0;
	return err ? err : graft_object(g, from.ino, to_dir, path, len, &ino);
}

int fv_graft(struct fs_view *to, struct fs_view *from, const char *path)
{
	struct graft g = { .fs = to->fs, .from = from, .to = to };
	int err = graft_path(&g, path);

	free(g.map);
	return err;
}

int fs_graft(struct fs *fs, const struct root *now, const struct root *from,
	     const char *path, struct root *to_out)
{
	struct fs_view *fv = NULL, *to = NULL;
	int err;

	rwlock_lock_shared(&fs->copy_lock);
	err = fs_view_new(fs, from, &fv);
	if (!err)
		err = fv_new_private(fs, now, &to);
	if (!err)
		err = fv_graft(to, fv, path);
	if (!err)
		view_freeze(to->view, to_out);
	fs_view_put(fv);
	fs_view_put(to);
	rwlock_unlock_shared(&fs->copy_lock);
	return err;
}
