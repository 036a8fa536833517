/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check.c - do the items of a state fit together (I20 to I26)? And what
 * recovery asks of data that lies beside the tree.
 */
#include "fs/fs_internal.h"

#include <inttypes.h>

struct seen_inode {
	uint64_t ino;
	struct item_attr a;
	uint64_t names; /* entries that name it */
	uint64_t subdirs, entries; /* of a directory */
	uint64_t blocks, end_block; /* of its extents */
	uint64_t links; /* LINK items */
	bool has_inline;
};

struct seen_entry {
	uint64_t dir, cookie, ino;
	uint32_t type;
};

struct check {
	struct fs *fs;
	bool verify_data;
	struct seen_inode *inodes; /* ascending */
	size_t ninodes, inodes_cap;
	struct seen_entry *entries; /* ascending by (dir, cookie) */
	size_t nentries, entries_cap;
	struct seen_entry *refs; /* LINK items: ino, dir, cookie */
	size_t nrefs, refs_cap;
	uint64_t *orphans;
	size_t norphans, orphans_cap;
	char *why;
	size_t why_bytes;
};

static int bad(struct check *c, uint64_t ino, const char *what)
{
	snprintf(c->why, c->why_bytes, "inode %" PRIu64 ": %s", ino, what);
	return -EFSCORRUPTED;
}

static struct seen_inode *find_inode(struct check *c, uint64_t ino)
{
	size_t i = array_lower_bound(c->inodes, c->ninodes, sizeof(*c->inodes),
				     offsetof(struct seen_inode, ino), ino);

	return i < c->ninodes && c->inodes[i].ino == ino ? &c->inodes[i] : NULL;
}

/* The blocks of a window, at or above a position of the small head (or, with
 * limit 0, all of them). */
static int verify_window(struct log *log, const struct item_window *w,
			 uint64_t limit)
{
	uint8_t *buf = malloc(ITEM_WINDOW_BYTES);
	unsigned int n;
	int err = buf ? 0 : -ENOMEM;

	for (unsigned int i = 0; !err && (n = item_window_extent(w, &i));
	     i += n) {
		/* The bulk head was flushed before the record was written. */
		if (limit &&
		    (log_head_of(w->pos[i]) != LOG_SMALL || w->pos[i] < limit))
			continue;
		err = log_read(log, w->pos[i], buf, item_window_bytes(w, i, n));
		if (err == -ENXIO)
			err = -EFSCORRUPTED;
		for (unsigned int k = 0; k < n && !err; k++)
			if (!item_stored_matches(
				    w, i + k, buf + (size_t)k * FS_BLOCK_BYTES))
				err = -EFSBADCRC;
	}
	free(buf);
	return err;
}

int fs_check_item(void *arg, struct log *log, uint64_t small_limit,
		  const struct key *key, const struct val *val)
{
	struct item_window w;
	int err;

	if (key->kind != ITEM_KIND_EXTENT || key->obj == ITEM_OBJ_ORPHANS)
		return 0;
	err = item_window_decode(val, key->off, &w);
	return err ? err : verify_window(log, &w, small_limit);
}

/* --- gathering --- */

static int see_entry(struct check *c, const struct key *key,
		     const struct val *val)
{
	struct seen_inode *dir = &c->inodes[c->ninodes - 1];
	struct item_entry e;
	int err;

	err = item_entry_decode(val, &e);
	if (err)
		return bad(c, key->obj, "an entry is damaged");
	if (key->off >> ENTRY_COLLISION_BITS != name_hash(c->fs, e.name, e.len))
		return bad(c, key->obj, "an entry lies at a wrong hash");
	err = array_grow((void **)&c->entries, &c->entries_cap, c->nentries + 1,
			 sizeof(*c->entries));
	if (err)
		return err;
	c->entries[c->nentries++] =
		(struct seen_entry){ key->obj, key->off, e.ino, e.type };
	dir->entries++;
	if (S_ISDIR(e.type))
		dir->subdirs++;
	return 0;
}

static int see_extent(struct check *c, const struct key *key,
		      const struct val *val)
{
	struct seen_inode *in = &c->inodes[c->ninodes - 1];
	struct item_window w;
	int err;

	if (item_window_decode(val, key->off, &w))
		return bad(c, key->obj, "an extent is damaged");
	in->blocks += bits_count(w.mask);
	in->end_block = key->off / FS_BLOCK_BYTES + WINDOW_BLOCKS -
			(uint64_t)__builtin_clzll(w.mask);
	if (!c->verify_data)
		return 0;
	err = verify_window(c->fs->log, &w, 0);
	if (err == -EFSBADCRC)
		return bad(c, key->obj, "contents do not match their checksum");
	return err;
}

static int see_link(struct check *c, const struct key *key,
		    const struct val *val)
{
	struct item_link l;
	int err;

	if (item_link_decode(val, &l))
		return bad(c, key->obj, "a link item is damaged");
	err = array_grow((void **)&c->refs, &c->refs_cap, c->nrefs + 1,
			 sizeof(*c->refs));
	if (err)
		return err;
	c->refs[c->nrefs++] =
		(struct seen_entry){ l.parent, l.cookie, key->obj, 0 };
	c->inodes[c->ninodes - 1].links++;
	return 0;
}

static int see_orphan(struct check *c, uint64_t ino)
{
	int err = array_grow((void **)&c->orphans, &c->orphans_cap,
			     c->norphans + 1, sizeof(*c->orphans));

	if (!err)
		c->orphans[c->norphans++] = ino;
	return err;
}

static int see_item(void *arg, const struct key *key, const struct val *a,
		    const struct val *val)
{
	struct check *c = arg;
	struct seen_inode in = { .ino = key->obj };
	int err;

	if (key->obj == ITEM_OBJ_ORPHANS)
		return see_orphan(c, key->off);
	if (item_check(key, val))
		return bad(c, key->obj, "an item is damaged");
	if (key->kind == ITEM_KIND_ATTR) {
		err = array_grow((void **)&c->inodes, &c->inodes_cap,
				 c->ninodes + 1, sizeof(*c->inodes));
		if (err || item_attr_decode(val, &in.a))
			return err ? err : bad(c, key->obj, "attributes");
		c->inodes[c->ninodes++] = in;
		return 0;
	}
	if (!c->ninodes || c->inodes[c->ninodes - 1].ino != key->obj)
		return bad(c, key->obj, "items without attributes");
	switch (key->kind) {
	case ITEM_KIND_ENTRY:
		return see_entry(c, key, val);
	case ITEM_KIND_EXTENT:
		return see_extent(c, key, val);
	case ITEM_KIND_LINK:
		return see_link(c, key, val);
	case ITEM_KIND_INLINE:
		c->inodes[c->ninodes - 1].has_inline = true;
		return 0;
	default:
		return 0;
	}
}

/* --- judging --- */

static int entry_cmp(const void *pa, const void *pb)
{
	const struct seen_entry *a = pa, *b = pb;

	if (a->dir != b->dir)
		return a->dir < b->dir ? -1 : 1;
	return a->cookie < b->cookie ? -1 : a->cookie > b->cookie;
}

static int judge_ref(struct check *c, uint64_t ino, uint64_t dir,
		     uint64_t cookie)
{
	struct seen_entry want = { .dir = dir, .cookie = cookie };
	const struct seen_entry *e;

	e = c->nentries ? bsearch(&want, c->entries, c->nentries, sizeof(want),
				  entry_cmp)
			: NULL;
	if (!e || e->ino != ino)
		return bad(c, ino, "a back-reference names no entry (I21)");
	return 0;
}

static int judge_entries(struct check *c)
{
	for (size_t i = 0; i < c->nentries; i++) {
		const struct seen_entry *e = &c->entries[i];
		struct seen_inode *in = find_inode(c, e->ino);
		struct seen_inode *dir = find_inode(c, e->dir);

		if (!in || (in->a.mode & S_IFMT) != e->type)
			return bad(c, e->ino,
				   "an entry names it, and it is "
				   "not there or another type (I20)");
		if (!dir || !S_ISDIR(dir->a.mode))
			return bad(c, e->dir, "has entries, is no directory");
		in->names++;
	}
	return 0;
}

static int judge_dir(struct check *c, struct seen_inode *in)
{
	uint64_t up = in->ino;

	if (in->a.size != in->entries)
		return bad(c, in->ino, "size is not its entries (I23)");
	if (in->a.nlink != 2 + in->subdirs)
		return bad(c, in->ino, "link count of a directory (I21)");
	if (in->links || in->names != (in->ino != FS_ROOT_INO))
		return bad(c, in->ino, "names of a directory (I22)");
	for (size_t n = 0; up != FS_ROOT_INO; n++) {
		const struct seen_inode *p = find_inode(c, up);

		if (!p || n > c->ninodes)
			return bad(c, in->ino, "not below the root (I22)");
		up = p->a.parent;
	}
	return 0;
}

static int judge_contents(struct check *c, struct seen_inode *in)
{
	bool is_inline = in->a.flags & ATTR_FLAG_INLINE;

	if (S_ISLNK(in->a.mode))
		return in->has_inline && !in->blocks
			       ? 0
			       : bad(c, in->ino, "target of a symlink");
	if (in->has_inline != is_inline ||
	    (is_inline && (in->blocks || !in->a.size)))
		return bad(c, in->ino, "inline and extents (I24)");
	if (in->blocks != in->a.blocks)
		return bad(c, in->ino, "count of blocks (I24)");
	if (in->end_block > (in->a.size + FS_BLOCK_BYTES - 1) / FS_BLOCK_BYTES)
		return bad(c, in->ino, "blocks past its end (I24)");
	return 0;
}

static int u64_cmp(const void *pa, const void *pb)
{
	uint64_t a = *(const uint64_t *)pa, b = *(const uint64_t *)pb;

	return a < b ? -1 : a > b;
}

static int judge_inode(struct check *c, struct seen_inode *in)
{
	bool orphan = c->norphans && bsearch(&in->ino, c->orphans, c->norphans,
					     sizeof(in->ino), u64_cmp);
	int err = 0;

	if (S_ISDIR(in->a.mode)) {
		err = judge_dir(c, in);
	} else {
		if (in->a.nlink != in->names)
			return bad(c, in->ino, "link count (I21)");
		if (in->names != in->links + (in->a.cookie != 0))
			return bad(c, in->ino, "back-references (I21)");
		if (orphan != !in->a.nlink)
			return bad(c, in->ino, "orphan item (I21)");
		err = judge_contents(c, in);
	}
	if (!err && in->a.cookie)
		err = judge_ref(c, in->ino, in->a.parent, in->a.cookie);
	return err;
}

static int judge(struct check *c)
{
	int err;

	if (c->nentries)
		qsort(c->entries, c->nentries, sizeof(*c->entries), entry_cmp);
	err = judge_entries(c);
	for (size_t i = 0; i < c->nrefs && !err; i++)
		err = judge_ref(c, c->refs[i].ino, c->refs[i].dir,
				c->refs[i].cookie);
	for (size_t i = 0; i < c->ninodes && !err; i++)
		err = judge_inode(c, &c->inodes[i]);
	for (size_t i = 0; i < c->norphans && !err; i++)
		if (!find_inode(c, c->orphans[i]))
			err = bad(c, c->orphans[i], "an orphan is not there");
	if (!err && !find_inode(c, FS_ROOT_INO))
		err = bad(c, FS_ROOT_INO, "there is no root directory");
	return err;
}

int fs_check(struct fs_view *fv, bool verify_data, char *why, size_t why_bytes)
{
	struct check c = { .fs = fv->fs,
			   .verify_data = verify_data,
			   .why = why,
			   .why_bytes = why_bytes };
	struct root none = ROOT_EMPTY, root = ROOT_EMPTY;
	const struct tree *tree = store_tree(fv->fs->store);
	int err = 0;

	why[0] = '\0';
	if (fv->is_working)
		err = fs_freeze(fv->fs, &root);
	else
		view_freeze(fv->view, &root);
	if (!err)
		err = tree_diff(tree, &none, &root, see_item, &c);
	if (!err)
		err = judge(&c);
	if (err && !why[0])
		snprintf(why, why_bytes, "%s", strerror(-err));
	root_put(tree, &root);
	free(c.inodes);
	free(c.entries);
	free(c.refs);
	free(c.orphans);
	return err;
}

void fs_dump(struct fs_view *fv, FILE *out)
{
	struct root root;

	view_freeze(fv->view, &root);
	tree_dump(store_tree(fv->fs->store), &root, out);
	root_put(store_tree(fv->fs->store), &root);
}
