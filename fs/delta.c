/* SPDX-License-Identifier: GPL-2.0-or-later */
/* delta.c - the difference of two states by inode, from a walk that skips what
 * they share. */
#include "fs/fs_internal.h"
#include "txn/pace.h"

struct delta_walk {
	struct fs *fs;
	struct fs_delta *d;
	size_t inodes_cap, entries_cap, names_cap;
};

/* Keys come in the order of their inodes. */
static int add_inode(struct delta_walk *w, uint64_t ino, unsigned int flags)
{
	struct fs_delta *d = w->d;
	int err;

	if (d->ninodes && d->inodes[d->ninodes - 1].ino == ino) {
		d->inodes[d->ninodes - 1].flags |= flags;
		return 0;
	}
	err = array_grow((void **)&d->inodes, &w->inodes_cap, d->ninodes + 1,
			 sizeof(*d->inodes));
	if (!err)
		d->inodes[d->ninodes++] = (struct fs_delta_inode){ ino, flags };
	return err;
}

static int add_entry(struct delta_walk *w, uint64_t dir, const char *name,
		     size_t len, uint64_t a_ino, uint64_t b_ino)
{
	struct fs_delta *d = w->d;
	int err;

	err = array_grow((void **)&d->entries, &w->entries_cap, d->nentries + 1,
			 sizeof(*d->entries));
	if (!err)
		err = array_grow((void **)&d->names, &w->names_cap,
				 d->names_bytes + len, 1);
	if (err)
		return err;
	if (d->names_bytes + len > UINT32_MAX)
		return -ENOMEM;
	memcpy(d->names + d->names_bytes, name, len);
	d->entries[d->nentries++] =
		(struct fs_delta_name){ .dir = dir,
					.a_ino = a_ino,
					.b_ino = b_ino,
					.name_off = (uint32_t)d->names_bytes,
					.name_len = (uint16_t)len };
	d->names_bytes += len;
	return 0;
}

static int walk_attr(struct delta_walk *w, uint64_t ino, const struct val *va,
		     const struct val *vb)
{
	struct item_attr a, b;
	unsigned int flags = 0;
	int err = 0;

	if (va)
		err = item_attr_decode(va, &a);
	if (!err && vb)
		err = item_attr_decode(vb, &b);
	if (err)
		return err;
	if (vb && !b.nlink)
		flags |= FS_DELTA_ORPHAN;
	if (!va)
		return add_inode(w, ino, flags | FS_DELTA_NEW);
	if (!vb)
		return add_inode(w, ino, FS_DELTA_GONE);
	flags |= FS_DELTA_ATTR;
	if ((a.mode & S_IFMT) != (b.mode & S_IFMT) || a.rdev != b.rdev ||
	    a.data_version != b.data_version)
		flags |= FS_DELTA_DATA;
	if (S_ISDIR(a.mode)) {
		if (a.parent != b.parent || a.cookie != b.cookie)
			flags |= FS_DELTA_MOVED;
	} else if (a.size != b.size) {
		flags |= FS_DELTA_DATA;
	}
	if (a.mode != b.mode || a.uid != b.uid || a.gid != b.gid)
		flags |= FS_DELTA_OWNER;
	if (a.mtime_ns != b.mtime_ns)
		flags |= FS_DELTA_MTIME;
	return add_inode(w, ino, flags);
}

static int walk_entry(struct delta_walk *w, uint64_t dir, const struct val *va,
		      const struct val *vb)
{
	struct item_entry a = { 0 }, b = { 0 };
	int err;

	err = va ? item_entry_decode(va, &a) : 0;
	if (!err && vb)
		err = item_entry_decode(vb, &b);
	if (!err)
		err = add_inode(w, dir, FS_DELTA_LIST);
	if (err)
		return err;
	if (va && vb && a.len == b.len && !memcmp(a.name, b.name, a.len))
		return add_entry(w, dir, a.name, a.len, a.ino, b.ino);
	if (va)
		err = add_entry(w, dir, a.name, a.len, a.ino, 0);
	if (!err && vb)
		err = add_entry(w, dir, b.name, b.len, 0, b.ino);
	return err;
}

static int walk_item(void *arg, const struct key *key, const struct val *va,
		     const struct val *vb)
{
	struct delta_walk *w = arg;

	if (key->obj == ITEM_OBJ_ORPHANS)
		return 0;
	switch (key->kind) {
	case ITEM_KIND_ATTR:
		return walk_attr(w, key->obj, va, vb);
	case ITEM_KIND_ENTRY:
		return walk_entry(w, key->obj, va, vb);
	case ITEM_KIND_XATTR:
		return add_inode(w, key->obj, FS_DELTA_ATTR | FS_DELTA_OWNER);
	case ITEM_KIND_LINK:
		return add_inode(w, key->obj, FS_DELTA_ATTR);
	case ITEM_KIND_INLINE:
	case ITEM_KIND_EXTENT:
		return add_inode(w, key->obj, FS_DELTA_DATA);
	default:
		return -EFSCORRUPTED;
	}
}

/* --- the other names of inodes that get a new node --- */

static int entry_cmp(const void *pa, const void *pb)
{
	const struct fs_delta_name *a = pa, *b = pb;

	return a->dir < b->dir ? -1 : a->dir > b->dir;
}

/* Differing names of a directory lie together (ascending by dir). */
static bool has_entry(const struct fs_delta *d, size_t ndiffer, uint64_t dir,
		      const char *name, size_t len)
{
	struct fs_delta_name want = { .dir = dir };
	const struct fs_delta_name *e;

	e = ndiffer ? bsearch(&want, d->entries, ndiffer, sizeof(want),
			      entry_cmp)
		    : NULL;
	if (!e)
		return false;
	while (e > d->entries && e[-1].dir == dir)
		e--;
	for (; e < d->entries + ndiffer && e->dir == dir; e++)
		if (e->name_len == len &&
		    !memcmp(d->names + e->name_off, name, len))
			return true;
	return false;
}

/* The name of a link, at most FS_NAME_MAX bytes. */
static int tx_name_of(struct vtx *tx, const struct item_link *l, char *name,
		      size_t *len_out)
{
	struct key key = KEY(l->parent, ITEM_KIND_ENTRY, l->cookie);
	struct item_entry e;
	struct val val;
	int err;

	err = vtx_get(tx, &key, &val);
	if (!err)
		err = item_entry_decode(&val, &e);
	if (err)
		return err == 1 ? -EFSCORRUPTED : err;
	memcpy(name, e.name, e.len);
	*len_out = e.len;
	return 0;
}

struct names_op {
	struct fs_op op;
	struct item_link first; /* cookie 0: it has no name */
	char name[FS_NAME_MAX]; /* of the first */
	size_t len;
	struct item_link *more;
	size_t n, cap;
};

static int names_fn(struct vtx *tx, void *arg)
{
	struct names_op *o = arg;
	struct item_attr a;
	struct item_link l;
	uint64_t off = 0;
	int err;

	o->n = 0;
	err = tx_get_attr(tx, o->op.ino, &a);
	if (err)
		return err;
	o->first = (struct item_link){ a.parent, a.cookie };
	if (a.cookie)
		err = tx_name_of(tx, &o->first, o->name, &o->len);
	if (S_ISDIR(a.mode) || a.nlink < 2)
		return err;
	while (!err) {
		err = tx_ref_next(tx, o->op.ino, &off, &l);
		if (!err)
			err = array_grow((void **)&o->more, &o->cap, o->n + 1,
					 sizeof(*o->more));
		if (!err)
			o->more[o->n++] = l;
		if (!++off) /* there is no place behind it */
			break;
	}
	return err == 1 ? 0 : err;
}

struct name_op {
	struct fs_op op;
	struct item_link link;
	char name[FS_NAME_MAX];
	size_t len;
};

static int name_fn(struct vtx *tx, void *arg)
{
	struct name_op *n = arg;

	return tx_name_of(tx, &n->link, n->name, &n->len);
}

int fv_each_name(struct fs_view *fv, uint64_t ino, fv_name_fn fn, void *arg)
{
	struct names_op o = { .op = { .fn = names_fn, .ino = ino } };
	int err;

	err = fv_read(fv, &o.op);
	if (!err && o.first.cookie)
		err = fn(arg, o.first.parent, o.name, o.len);
	for (size_t i = 0; i < o.n && !err; i++) {
		struct name_op n = { .op = { .fn = name_fn, .ino = ino },
				     .link = o.more[i] };

		err = fv_read(fv, &n.op);
		if (!err)
			err = fn(arg, n.link.parent, n.name, n.len);
	}
	free(o.more);
	return err;
}

struct other_names {
	struct delta_walk *w;
	uint64_t ino;
	size_t ndiffer;
};

static int add_other_name(void *arg, uint64_t dir, const char *name, size_t len)
{
	struct other_names *o = arg;

	if (has_entry(o->w->d, o->ndiffer, dir, name, len))
		return 0;
	return add_entry(o->w, dir, name, len, o->ino, o->ino);
}

static int add_other_names(struct delta_walk *w, const struct root *a)
{
	struct other_names o = { .w = w, .ndiffer = w->d->nentries };
	struct fs_view *av;
	int err;

	err = fs_view_new(w->fs, a, &av);
	if (err)
		return err;
	for (size_t i = 0; i < w->d->ninodes && !err; i++) {
		const struct fs_delta_inode *in = &w->d->inodes[i];

		if (in->flags & FS_DELTA_DATA && !(in->flags & FS_DELTA_NEW) &&
		    !(in->flags & FS_DELTA_GONE)) {
			o.ino = in->ino;
			err = fv_each_name(av, in->ino, add_other_name, &o);
			pace();
		}
	}
	fs_view_put(av);
	return err;
}

int delta_new(struct fs *fs, const struct root *a, const struct root *b,
	      bool other_names, struct fs_delta **out)
{
	struct delta_walk w = { .fs = fs };
	int err;

	w.d = calloc(1, sizeof(*w.d));
	if (!w.d)
		return -ENOMEM;
	err = tree_diff(store_tree(fs->store), a, b, walk_item, &w);
	if (!err && other_names)
		err = add_other_names(&w, a);
	if (err)
		fs_delta_free(w.d);
	else
		*out = w.d;
	return err;
}

int fs_delta_new(struct fs *fs, const struct root *a, const struct root *b,
		 struct fs_delta **out)
{
	return delta_new(fs, a, b, true, out);
}

/* What has no name in either state has its attributes before its contents. */
static int shows(void *arg, const struct key *key, const struct val *va,
		 const struct val *vb)
{
	struct item_attr a = { 0 }, b = { 0 };
	uint64_t *nameless = arg;
	int err;

	if (key->obj == ITEM_OBJ_ORPHANS || key->obj == *nameless)
		return 0;
	if (key->kind != ITEM_KIND_ATTR)
		return 1;
	err = va ? item_attr_decode(va, &a) : 0;
	if (!err && vb)
		err = item_attr_decode(vb, &b);
	if (err || a.nlink || b.nlink)
		return err ? err : 1;
	*nameless = key->obj;
	return 0;
}

int fs_delta_shows(struct fs *fs, const struct root *a, const struct root *b)
{
	uint64_t nameless = 0;

	return tree_diff(store_tree(fs->store), a, b, shows, &nameless);
}

/* In its place, ascending. */
static int mark_differing(struct delta_walk *w, uint64_t ino)
{
	struct fs_delta *d = w->d;
	size_t at = 0;
	int err;

	err = array_grow((void **)&d->inodes, &w->inodes_cap, d->ninodes + 1,
			 sizeof(*d->inodes));
	if (err)
		return err;
	while (at < d->ninodes && d->inodes[at].ino < ino)
		at++;
	if (at < d->ninodes && d->inodes[at].ino == ino) {
		d->inodes[at].flags |= FS_DELTA_DATA;
		return 0;
	}
	memmove(d->inodes + at + 1, d->inodes + at,
		(d->ninodes - at) * sizeof(*d->inodes));
	d->inodes[at] = (struct fs_delta_inode){ ino, FS_DELTA_DATA };
	d->ninodes++;
	return 0;
}

int fs_delta_add(struct fs *fs, struct fs_delta *d, const struct root *a,
		 uint64_t ino)
{
	struct delta_walk w = { .fs = fs,
				.d = d,
				.inodes_cap = d->ninodes,
				.entries_cap = d->nentries,
				.names_cap = d->names_bytes };
	struct other_names o = { .w = &w, .ino = ino };
	struct fs_view *av;
	int err;

	err = fs_view_new(fs, a, &av);
	if (err)
		return err;
	err = fv_each_name(av, ino, add_other_name, &o);
	if (!err)
		err = mark_differing(&w, ino);
	fs_view_put(av);
	return err;
}

void fs_delta_free(struct fs_delta *d)
{
	if (!d)
		return;
	free(d->inodes);
	free(d->entries);
	free(d->names);
	free(d);
}

const struct fs_delta_inode *fs_delta_find(const struct fs_delta *d,
					   uint64_t ino)
{
	size_t i = array_lower_bound(d->inodes, d->ninodes, sizeof(*d->inodes),
				     offsetof(struct fs_delta_inode, ino), ino);

	return i < d->ninodes && d->inodes[i].ino == ino ? &d->inodes[i] : NULL;
}
