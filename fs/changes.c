/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * changes.c - the difference of two states as people read it: by path, with
 * renames recognised by inode number.
 */
#include "fs/fs_internal.h"

/* One name that appeared or vanished. */
struct moved {
	uint64_t ino;
	const struct fs_delta_name *e;
	size_t partner; /* index in the other list; SIZE_MAX: none */
};

struct moved_list {
	struct moved *v;
	size_t n;
};

struct changes {
	struct fs *fs;
	struct fs_view *a, *b;
	struct fs_delta *d;
	struct moved_list gone, came; /* ascending by inode */
	struct fs_change_totals *totals; /* these alone are asked for */
	struct fs_change *v;
	size_t n, cap;
	/* the directory whose path was asked for last, on each side */
	struct {
		uint64_t ino;
		char *path;
	} last[2];
};

/* --- paths; NULL when nobody asks for them --- */

static int dir_path(struct changes *c, bool in_b, uint64_t dir,
		    const char **out)
{
	int err = 0;

	if (!c->last[in_b].path || c->last[in_b].ino != dir) {
		char *p;

		err = fs_path(in_b ? c->b : c->a, dir, &p);
		if (err)
			return err;
		free(c->last[in_b].path);
		c->last[in_b].path = p;
		c->last[in_b].ino = dir;
	}
	*out = c->last[in_b].path;
	return 0;
}

static int full_path(struct changes *c, bool in_b, uint64_t dir,
		     const char *name, size_t len, char **out)
{
	const char *d = NULL;
	size_t dlen;
	int err;
	char *p;

	*out = NULL;
	if (c->totals)
		return 0;
	err = dir_path(c, in_b, dir, &d);
	if (err)
		return err;
	dlen = strlen(d);
	p = malloc(dlen + len + 2);
	if (!p)
		return -ENOMEM;
	memcpy(p, d, dlen);
	if (dlen)
		p[dlen++] = '/';
	memcpy(p + dlen, name, len);
	p[dlen + len] = '\0';
	*out = p;
	return 0;
}

static int entry_path(struct changes *c, bool in_b,
		      const struct fs_delta_name *e, char **out)
{
	return full_path(c, in_b, e->dir, c->d->names + e->name_off,
			 e->name_len, out);
}

/* --- collecting --- */

static int get_side(struct fs_view *fv, uint64_t ino, uint32_t *mode,
		    uint64_t *size)
{
	struct fs_attr attr;
	int err;

	*mode = 0;
	*size = 0;
	if (!ino)
		return 0;
	err = fs_getattr(fv, ino, &attr);
	if (err)
		return err;
	*mode = attr.mode;
	if (S_ISREG(attr.mode) || S_ISLNK(attr.mode))
		*size = attr.size;
	return 0;
}

static void count_change(struct fs_change_totals *t, const struct fs_change *ch)
{
	switch (ch->op) {
	case 'A':
		t->added++;
		break;
	case 'D':
		t->deleted++;
		return;
	case 'R':
		t->renamed++;
		return;
	case 'T':
		t->retyped++;
		break;
	default:
		t->modified++;
		break;
	}
	t->bytes += ch->new_size;
}

/* Takes over path and from. */
static int add_change(struct changes *c, char op, char *path, char *from,
		      uint64_t a_ino, uint64_t b_ino)
{
	struct fs_change ch = { .op = op, .path = path, .from = from };
	int err;

	err = get_side(c->a, a_ino, &ch.old_mode, &ch.old_size);
	if (!err)
		err = get_side(c->b, b_ino, &ch.new_mode, &ch.new_size);
	if (op == 'M' && (ch.old_mode & S_IFMT) != (ch.new_mode & S_IFMT))
		ch.op = 'T';
	if (!err && c->totals) {
		count_change(c->totals, &ch);
		free(path);
		free(from);
		return 0;
	}
	if (!err && c->n == c->cap) {
		size_t cap = c->cap ? c->cap * 2 : 64;
		struct fs_change *v = realloc(c->v, cap * sizeof(*v));

		if (v) {
			c->v = v;
			c->cap = cap;
		} else {
			err = -ENOMEM;
		}
	}
	if (err) {
		free(path);
		free(from);
		return err;
	}
	c->v[c->n++] = ch;
	return 0;
}

static int moved_cmp(const void *pa, const void *pb)
{
	const struct moved *a = pa, *b = pb;

	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	return a->e < b->e ? -1 : a->e > b->e;
}

static int list_moved(struct changes *c)
{
	const struct fs_delta *d = c->d;

	c->gone.v = calloc(d->nentries + 1, sizeof(struct moved));
	c->came.v = calloc(d->nentries + 1, sizeof(struct moved));
	if (!c->gone.v || !c->came.v)
		return -ENOMEM;
	for (size_t i = 0; i < d->nentries; i++) {
		const struct fs_delta_name *e = &d->entries[i];

		if (e->a_ino == e->b_ino)
			continue;
		if (e->a_ino)
			c->gone.v[c->gone.n++] =
				(struct moved){ e->a_ino, e, SIZE_MAX };
		if (e->b_ino)
			c->came.v[c->came.n++] =
				(struct moved){ e->b_ino, e, SIZE_MAX };
	}
	qsort(c->gone.v, c->gone.n, sizeof(struct moved), moved_cmp);
	qsort(c->came.v, c->came.n, sizeof(struct moved), moved_cmp);
	for (size_t i = 0, j = 0; i < c->gone.n && j < c->came.n;) {
		if (c->gone.v[i].ino < c->came.v[j].ino) {
			i++;
		} else if (c->gone.v[i].ino > c->came.v[j].ino) {
			j++;
		} else {
			c->gone.v[i].partner = j;
			c->came.v[j++].partner = i++;
		}
	}
	return 0;
}

static const struct moved *find_moved(const struct moved_list *l, uint64_t ino,
				      const struct fs_delta_name *e)
{
	struct moved want = { .ino = ino, .e = e };

	return bsearch(&want, l->v, l->n, sizeof(want), moved_cmp);
}

/* Index of the first one of an inode. */
static size_t first_moved(const struct moved_list *l, uint64_t ino)
{
	return array_lower_bound(l->v, l->n, sizeof(*l->v),
				 offsetof(struct moved, ino), ino);
}

static int add_gone(struct changes *c, const struct moved *m)
{
	char *path;
	int err;

	/* Something else has the name now: that is what is told. */
	if (m->partner != SIZE_MAX || m->e->b_ino)
		return 0;
	err = entry_path(c, false, m->e, &path);
	return err ? err : add_change(c, 'D', path, NULL, m->ino, 0);
}

static int add_came(struct changes *c, const struct moved *m)
{
	const struct moved *before = NULL;
	char *path, *from = NULL;
	int err;

	err = entry_path(c, true, m->e, &path);
	if (err)
		return err;
	if (m->partner != SIZE_MAX) {
		err = entry_path(c, false, c->gone.v[m->partner].e, &from);
		if (err) {
			free(path);
			return err;
		}
		return add_change(c, 'R', path, from, m->ino, m->ino);
	}
	if (m->e->a_ino)
		before = find_moved(&c->gone, m->e->a_ino, m->e);
	if (before && before->partner == SIZE_MAX)
		return add_change(c, 'M', path, NULL, m->e->a_ino, m->ino);
	return add_change(c, 'A', path, NULL, 0, m->ino);
}

/* --- objects that are in both --- */

struct modified {
	struct changes *c;
	const struct fs_delta_inode *in;
	bool owner_or_data;
};

static int add_modified_name(void *arg, uint64_t dir, const char *name,
			     size_t len)
{
	struct modified *m = arg;
	struct changes *c = m->c;
	char *path;
	int err;

	for (size_t i = first_moved(&c->came, m->in->ino);
	     i < c->came.n && c->came.v[i].ino == m->in->ino; i++) {
		const struct moved *mv = &c->came.v[i];

		if (mv->e->dir != dir || mv->e->name_len != len ||
		    memcmp(c->d->names + mv->e->name_off, name, len) != 0)
			continue;
		if (mv->partner == SIZE_MAX || !m->owner_or_data)
			return 0;
	}
	err = full_path(c, true, dir, name, len, &path);
	if (err)
		return err;
	return add_change(c, 'M', path, NULL, m->in->ino, m->in->ino);
}

static bool is_in_both(const struct fs_delta_inode *in)
{
	return !(in->flags & (FS_DELTA_NEW | FS_DELTA_GONE | FS_DELTA_ORPHAN));
}

static bool owner_or_data(const struct fs_delta_inode *in, uint32_t mode)
{
	return in->flags & FS_DELTA_OWNER ||
	       (in->flags & FS_DELTA_DATA && !S_ISDIR(mode));
}

/* Is it told that the object itself changed? */
static bool is_modified(const struct fs_delta_inode *in, uint32_t mode)
{
	return owner_or_data(in, mode) ||
	       (!S_ISDIR(mode) && in->flags & FS_DELTA_MTIME);
}

static int add_modified(struct changes *c, const struct fs_delta_inode *in)
{
	struct modified m = { .c = c, .in = in };
	struct fs_attr attr;
	char *path;
	int err;

	if (!is_in_both(in))
		return 0;
	err = fs_getattr(c->b, in->ino, &attr);
	if (err || !is_modified(in, attr.mode))
		return err;
	m.owner_or_data = owner_or_data(in, attr.mode);
	if (in->ino == FS_ROOT_INO) {
		path = strdup(".");
		return path ? add_change(c, 'M', path, NULL, in->ino, in->ino)
			    : -ENOMEM;
	}
	return fv_each_name(c->b, in->ino, add_modified_name, &m);
}

/* --- counting them --- */

static bool has_come(const struct changes *c, uint64_t ino)
{
	size_t i = first_moved(&c->came, ino);

	return i < c->came.n && c->came.v[i].ino == ino;
}

struct count_op {
	struct fs_op op;
	struct changes *c;
	size_t i; /* of the inode that is next */
};

static int count_fn(struct vtx *tx, void *arg)
{
	struct count_op *o = arg;
	struct changes *c = o->c;
	struct item_attr a;
	int err;

	for (; o->i < c->d->ninodes; o->i++) {
		const struct fs_delta_inode *in = &c->d->inodes[o->i];
		uint64_t names;

		if (!is_in_both(in) || has_come(c, in->ino))
			continue;
		o->op.ino = in->ino;
		err = tx_get_attr(tx, in->ino, &a);
		if (err)
			return err;
		if (!is_modified(in, a.mode))
			continue;
		names = S_ISDIR(a.mode) ? 1 : a.nlink;
		c->totals->modified += names;
		if (S_ISREG(a.mode) || S_ISLNK(a.mode))
			c->totals->bytes += names * a.size;
	}
	return 0;
}

/* Objects without a new name: none of their names matters, only how many. In
 * one reading: a commit waits for it. */
static int count_unmoved(struct changes *c)
{
	struct count_op o = { .op = { .fn = count_fn }, .c = c };

	return fv_read(c->b, &o.op);
}

/* --- order --- */

static int change_cmp(const void *pa, const void *pb)
{
	const struct fs_change *a = pa, *b = pb;
	int r;

	if ((a->op == 'D') != (b->op == 'D'))
		return a->op == 'D' ? -1 : 1;
	r = strcmp(a->path, b->path);
	if (a->op == 'D')
		return -r;
	return r ? r : (b->op == 'R') - (a->op == 'R');
}

static int changes_collect(struct changes *c, const struct root *a,
			   const struct root *b)
{
	int err;

	err = delta_new(c->fs, a, b, false, &c->d);
	if (!err)
		err = fs_view_new(c->fs, a, &c->a);
	if (!err)
		err = fs_view_new(c->fs, b, &c->b);
	if (!err)
		err = list_moved(c);
	for (size_t i = 0; i < c->gone.n && !err; i++)
		err = add_gone(c, &c->gone.v[i]);
	for (size_t i = 0; i < c->came.n && !err; i++)
		err = add_came(c, &c->came.v[i]);
	if (!err && c->totals)
		err = count_unmoved(c);
	for (size_t i = 0; !err && i < c->d->ninodes; i++)
		if (!c->totals || has_come(c, c->d->inodes[i].ino))
			err = add_modified(c, &c->d->inodes[i]);
	if (!err && c->n)
		qsort(c->v, c->n, sizeof(*c->v), change_cmp);
	return err;
}

static void changes_release(struct changes *c)
{
	for (size_t i = 0; i < c->n; i++) {
		free((char *)(uintptr_t)c->v[i].path);
		free((char *)(uintptr_t)c->v[i].from);
	}
	free(c->v);
	free(c->gone.v);
	free(c->came.v);
	free(c->last[0].path);
	free(c->last[1].path);
	fs_view_put(c->a);
	fs_view_put(c->b);
	fs_delta_free(c->d);
}

int fs_changes(struct fs *fs, const struct root *a, const struct root *b,
	       fs_change_fn fn, void *arg)
{
	struct changes c = { .fs = fs };
	int err;

	err = changes_collect(&c, a, b);
	for (size_t i = 0; i < c.n && !err; i++)
		err = fn(arg, &c.v[i]);
	changes_release(&c);
	return err;
}

int fs_change_totals(struct fs *fs, const struct root *a, const struct root *b,
		     struct fs_change_totals *out)
{
	struct changes c = { .fs = fs, .totals = out };
	int err;

	*out = (struct fs_change_totals){ 0 };
	err = changes_collect(&c, a, b);
	changes_release(&c);
	return err;
}

int fs_has_changes(struct fs *fs, bool *any_out)
{
	struct root head = ROOT_EMPTY, now = ROOT_EMPTY;
	struct fs_change_totals t = { 0 };
	struct fs_staged st;
	int err = 0;

	fs_get_staged(fs, &st);
	if (st.any) {
		store_head(fs->store, &head, NULL);
		err = fs_freeze(fs, &now);
		if (!err)
			err = fs_change_totals(fs, &head, &now, &t);
		root_put(store_tree(fs->store), &head);
		root_put(store_tree(fs->store), &now);
	}
	*any_out = t.added || t.modified || t.deleted || t.renamed || t.retyped;
	return err;
}
