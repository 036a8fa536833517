/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dir.c - directories: where a name lies, looking it up, listing, and the
 * back-references from inodes to their names.
 *
 * An entry's key is a keyed hash of its name and a collision number; names
 * with equal hashes lie side by side and are told apart by comparing. The key
 * is also the position for readdir: it stays while the entry exists.
 */
#include "fs/fs_internal.h"

#include "txn/sum.h"

enum {
	COLLISIONS = 1 << ENTRY_COLLISION_BITS,
	LINK_COLLISIONS = 1 << LINK_COLLISION_BITS,
	/* At once, on the stack: names are mostly short. */
	READDIR_ENTRIES = 64,
	READDIR_NAMES_BYTES = 4096
};

uint64_t name_hash(const struct fs *fs, const char *name, size_t len)
{
	uint64_t h = XXH3_64bits_withSeed(name, len, fs->name_seed);

	h = (h >> (64 - ENTRY_HASH_BITS)) & fs->hash_mask;
	return h ? h : 1; /* so that cookies are never below 128 */
}

int name_check(const char *name, size_t len)
{
	if (!len)
		return -ENOENT;
	if (len > FS_NAME_MAX)
		return -ENAMETOOLONG;
	if (memchr(name, '/', len) || memchr(name, '\0', len))
		return -EINVAL;
	if (name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')))
		return -EEXIST;
	return 0;
}

int tx_find(struct vtx *tx, const struct fs *fs, uint64_t dir, const char *name,
	    size_t len, struct dir_slot *slot)
{
	uint64_t first = name_hash(fs, name, len) << ENTRY_COLLISION_BITS;
	struct key key = KEY(dir, ITEM_KIND_ENTRY, first);
	struct key to = KEY(dir, ITEM_KIND_ENTRY, first + COLLISIONS - 1);
	uint64_t free_cookie = first;

	for (;;) {
		struct item_entry e;
		struct key at;
		struct val val;
		int err;

		err = vtx_next(tx, &key, &to, &at, &val);
		if (err == 1)
			break;
		if (!err)
			err = item_entry_decode(&val, &e);
		if (err)
			return err;
		if (e.len == len && !memcmp(e.name, name, len)) {
			*slot = (struct dir_slot){ at.off, e.ino, e.type };
			return 0;
		}
		if (at.off == free_cookie)
			free_cookie++;
		if (at.off == to.off)
			break;
		key.off = at.off + 1;
	}
	*slot = (struct dir_slot){ 0 };
	if (free_cookie <= to.off)
		slot->cookie = free_cookie;
	return 0;
}

int tx_find_place(struct vtx *tx, const struct fs *fs, uint64_t dir,
		  const char *name, size_t len, uint64_t *cookie_out)
{
	struct dir_slot slot;
	int err = tx_find(tx, fs, dir, name, len, &slot);

	if (err)
		return err;
	if (slot.ino)
		return -EEXIST;
	if (!slot.cookie)
		return -ENOSPC;
	*cookie_out = slot.cookie;
	return 0;
}

int tx_put_entry(struct vtx *tx, uint64_t dir, uint64_t cookie, uint64_t ino,
		 uint32_t type, const char *name, size_t len)
{
	struct item_entry e = { ino, type & S_IFMT, name, len };
	struct key key = KEY(dir, ITEM_KIND_ENTRY, cookie);
	uint8_t buf[ITEM_ENTRY_MAX];
	size_t n = item_entry_encode(&e, buf);

	return vtx_put(tx, &key, buf, n);
}

int tx_del_entry(struct vtx *tx, uint64_t dir, uint64_t cookie)
{
	struct key key = KEY(dir, ITEM_KIND_ENTRY, cookie);

	return vtx_del(tx, &key);
}

int tx_get_dir(struct vtx *tx, uint64_t ino, struct item_attr *out)
{
	int err = tx_get_attr(tx, ino, out);

	if (!err && !S_ISDIR(out->mode))
		err = -ENOTDIR;
	if (!err && !out->nlink)
		err = -ENOENT;
	return err;
}

/* --- back-references --- */

static uint64_t link_first(uint64_t parent, uint64_t cookie)
{
	uint64_t v[2] = { parent, cookie };

	return XXH3_64bits(v, sizeof(v)) & ~(uint64_t)(LINK_COLLISIONS - 1);
}

/* The LINK item of a reference, or (1) a free place for one in *off_out. */
static int link_find(struct vtx *tx, uint64_t ino, uint64_t parent,
		     uint64_t cookie, uint64_t *off_out)
{
	uint64_t first = link_first(parent, cookie);

	for (unsigned int i = 0; i < LINK_COLLISIONS; i++) {
		uint64_t off = first + i;
		struct key key = KEY(ino, ITEM_KIND_LINK, off);
		struct item_link l;
		struct val val;
		int err;

		err = vtx_get(tx, &key, &val);
		*off_out = off;
		if (err) /* 1: not there; deletion closes the gaps */
			return err;
		err = item_link_decode(&val, &l);
		if (err)
			return err;
		if (l.parent == parent && l.cookie == cookie)
			return 0;
	}
	return -EMLINK;
}

static int link_put(struct vtx *tx, uint64_t ino, uint64_t off,
		    const struct item_link *l)
{
	struct key key = KEY(ino, ITEM_KIND_LINK, off);
	uint8_t buf[LINK_BYTES];

	item_link_encode(l, buf);
	return vtx_put(tx, &key, buf, sizeof(buf));
}

/* The last one of a hash group moves into the gap. */
static int link_del(struct vtx *tx, uint64_t ino, uint64_t off)
{
	uint64_t end = (off | (LINK_COLLISIONS - 1)) + 1;
	struct key gap = KEY(ino, ITEM_KIND_LINK, off);
	struct key from = KEY(ino, ITEM_KIND_LINK, off + 1);
	struct key to = KEY(ino, ITEM_KIND_LINK, end - 1);
	struct key last;
	struct val val;
	int err;

	if (off + 1 == end)
		return vtx_del(tx, &gap);
	err = vtx_prev(tx, &from, &to, &last, &val);
	if (err == 1)
		return vtx_del(tx, &gap);
	if (!err)
		err = vtx_put(tx, &gap, val.p, val.len);
	if (!err)
		err = vtx_del(tx, &last);
	return err;
}

int tx_ref_next(struct vtx *tx, uint64_t ino, uint64_t *link_off,
		struct item_link *out)
{
	struct key from = KEY(ino, ITEM_KIND_LINK, *link_off);
	struct key to = KEY(ino, ITEM_KIND_LINK, UINT64_MAX);
	struct key at;
	struct val val;
	int err;

	err = vtx_next(tx, &from, &to, &at, &val);
	if (err)
		return err;
	*link_off = at.off;
	return item_link_decode(&val, out);
}

int tx_ref_add(struct vtx *tx, uint64_t ino, struct item_attr *a,
	       uint64_t parent, uint64_t cookie)
{
	struct item_link l = { parent, cookie };
	uint64_t off;
	int err;

	if (!a->cookie) {
		a->parent = parent;
		a->cookie = cookie;
		return 0;
	}
	err = link_find(tx, ino, parent, cookie, &off);
	if (err != 1)
		return err ? err : -EFSCORRUPTED;
	return link_put(tx, ino, off, &l);
}

int tx_ref_del(struct vtx *tx, uint64_t ino, struct item_attr *a,
	       uint64_t parent, uint64_t cookie)
{
	struct item_link l;
	uint64_t off = 0;
	int err;

	if (a->parent != parent || a->cookie != cookie) {
		err = link_find(tx, ino, parent, cookie, &off);
		if (err)
			return err == 1 ? -EFSCORRUPTED : err;
		return link_del(tx, ino, off);
	}
	/* The first name goes: another one becomes the first. */
	err = tx_ref_next(tx, ino, &off, &l);
	if (err < 0)
		return err;
	if (err == 1)
		l = (struct item_link){ 0 };
	a->parent = l.parent;
	a->cookie = l.cookie;
	return err == 1 ? 0 : link_del(tx, ino, off);
}

/* --- lookup --- */

struct lookup_op {
	struct fs_op op;
	const char *name;
	size_t len;
	struct fs_attr attr;
};

static int lookup_fn(struct vtx *tx, void *arg)
{
	struct lookup_op *l = arg;
	struct item_attr dir;
	struct dir_slot slot;
	int err;

	err = tx_find(tx, l->op.fv->fs, l->op.ino, l->name, l->len, &slot);
	if (err)
		return err;
	if (slot.ino) {
		err = tx_get_shown(tx, l->op.fv, slot.ino, &l->attr);
		/* I20 */
		return err == -ENOENT ? -EFSCORRUPTED : err;
	}
	err = tx_get_attr(tx, l->op.ino, &dir);
	if (!err)
		err = S_ISDIR(dir.mode) ? -ENOENT : -ENOTDIR;
	return err;
}

int fs_lookup(struct fs_view *fv, uint64_t dir, const char *name, size_t len,
	      struct fs_attr *attr_out)
{
	struct lookup_op l = { .op = { .fn = lookup_fn, .ino = dir },
			       .name = name,
			       .len = len };
	int err;

	if (len > FS_NAME_MAX)
		return -ENAMETOOLONG;
	err = fv_read(fv, &l.op);
	if (!err)
		*attr_out = l.attr;
	return err;
}

/* --- readdir --- */

struct readdir_op {
	struct fs_op op;
	uint64_t from; /* first cookie wanted */
	bool with_attr, eof;
	size_t n, names_bytes;
	struct fs_dirent ents[READDIR_ENTRIES];
	struct fs_attr attrs[READDIR_ENTRIES];
	char names[READDIR_NAMES_BYTES];
};

static bool readdir_has_room(const struct readdir_op *r)
{
	return r->n < READDIR_ENTRIES &&
	       r->names_bytes + FS_NAME_MAX <= sizeof(r->names);
}

static int readdir_take(struct vtx *tx, struct readdir_op *r, uint64_t cookie,
			const struct item_entry *e)
{
	struct fs_dirent *d = &r->ents[r->n];
	char *name = r->names + r->names_bytes;
	int err = 0;

	memcpy(name, e->name, e->len);
	*d = (struct fs_dirent){ .name = name,
				 .len = e->len,
				 .ino = e->ino,
				 .cookie = cookie,
				 .type = e->type };
	if (r->with_attr) {
		err = tx_get_shown(tx, r->op.fv, e->ino, &r->attrs[r->n]);
		if (err == -ENOENT)
			err = -EFSCORRUPTED;
		d->attr = &r->attrs[r->n];
	}
	r->names_bytes += e->len;
	r->n++;
	return err;
}

static int readdir_fn(struct vtx *tx, void *arg)
{
	struct readdir_op *r = arg;
	struct key key = KEY(r->op.ino, ITEM_KIND_ENTRY, r->from);
	struct key to = KEY(r->op.ino, ITEM_KIND_ENTRY, UINT64_MAX);
	struct item_attr dir;
	int err;

	r->n = 0;
	r->names_bytes = 0;
	r->eof = false;
	err = tx_get_attr(tx, r->op.ino, &dir);
	if (!err && !S_ISDIR(dir.mode))
		err = -ENOTDIR;
	while (!err && readdir_has_room(r)) {
		struct item_entry e;
		struct key at;
		struct val val;

		err = vtx_next(tx, &key, &to, &at, &val);
		if (err == 1) {
			r->eof = true;
			return 0;
		}
		if (!err)
			err = item_entry_decode(&val, &e);
		if (!err && at.off > INT64_MAX)
			err = -EFSCORRUPTED; /* no hash gives that */
		if (!err)
			err = readdir_take(tx, r, at.off, &e);
		key.off = at.off + 1;
	}
	return err;
}

int fs_readdir(struct fs_view *fv, uint64_t dir, uint64_t cookie,
	       bool with_attr, fs_dirent_fn fn, void *arg)
{
	struct readdir_op r;
	int err = 0;

	if (cookie >= INT64_MAX)
		return 0;
	r.n = 0;
	r.eof = false;
	r.from = cookie + 1;
	r.with_attr = with_attr;
	do {
		r.op = (struct fs_op){ .fn = readdir_fn, .ino = dir };
		err = fv_read(fv, &r.op);
		for (size_t i = 0; !err && i < r.n; i++) {
			err = fn(arg, &r.ents[i]);
			r.from = r.ents[i].cookie + 1;
		}
	} while (!err && !r.eof);
	return err == 1 ? 0 : err;
}
