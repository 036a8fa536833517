/* SPDX-License-Identifier: GPL-2.0-or-later */
/* xattr.c - extended attributes: items by a hash of the name, the value in
 * chunks behind one another. */
#include "fs/fs_internal.h"

#include "txn/sum.h"

#include <sys/xattr.h>

enum { XATTR_COLLISIONS = 256, XATTR_SPAN = XATTR_COLLISIONS << 8 };

static uint64_t xattr_first_off(const struct fs *fs, const char *name,
				size_t len)
{
	uint64_t h = XXH3_64bits_withSeed(name, len, fs->name_seed ^ 1);

	return ((h >> 16) & fs->hash_mask) << 16;
}

int tx_find_xattr(struct vtx *tx, const struct fs *fs, uint64_t ino,
		  const char *name, size_t len, uint64_t *off_out,
		  struct item_xattr *out)
{
	uint64_t first = xattr_first_off(fs, name, len);
	struct key from = KEY(ino, ITEM_KIND_XATTR, first);
	struct key to = KEY(ino, ITEM_KIND_XATTR, first + XATTR_SPAN - 1);
	uint64_t free_off = first;
	bool full = false;

	for (;;) {
		struct item_xattr x;
		struct key at;
		struct val val;
		int err = vtx_next(tx, &from, &to, &at, &val);

		if (err == 1)
			break;
		if (!err)
			err = item_xattr_decode(&val, &x);
		if (err)
			return err;
		if (x.name_len == len && !memcmp(x.name, name, len)) {
			*off_out = at.off;
			*out = x;
			return 0;
		}
		if (at.off == free_off)
			free_off += 256;
		full = free_off > to.off;
		from.off = (at.off | 0xff) + 1; /* past its chunks */
		if (from.off > to.off)
			break;
	}
	if (full)
		return -ENOSPC;
	*off_out = free_off;
	return 1;
}

int tx_has_capability(struct vtx *tx, const struct fs *fs, uint64_t ino)
{
	struct item_xattr x;
	uint64_t off;
	int err;

	err = tx_find_xattr(tx, fs, ino, XATTR_CAPABILITY,
			    strlen(XATTR_CAPABILITY), &off, &x);
	return err < 0 ? err : !err;
}

int tx_del_xattr(struct vtx *tx, uint64_t ino, uint64_t off)
{
	struct key from = KEY(ino, ITEM_KIND_XATTR, off);
	struct key to = KEY(ino, ITEM_KIND_XATTR, off | 0xff);

	return vtx_del_range(tx, &from, &to);
}

int tx_put_xattr(struct vtx *tx, uint64_t ino, uint64_t off, const char *name,
		 size_t name_len, const void *value, size_t size)
{
	struct item_xattr x = { .name = name,
				.name_len = name_len,
				.value = value,
				.value_len = (uint32_t)size };
	struct key key = KEY(ino, ITEM_KIND_XATTR, off);
	const uint8_t *v = value;
	uint8_t buf[TREE_VALUE_MAX];
	size_t at = item_xattr_first(name_len, size);
	int err;

	err = tx_del_xattr(tx, ino, off);
	if (!err)
		err = vtx_put(tx, &key, buf, item_xattr_encode(&x, buf));
	while (!err && at < size) {
		size_t n = min_u64(size - at, XATTR_CHUNK_BYTES);

		key.off++;
		err = vtx_put(tx, &key, v + at, n);
		at += n;
	}
	return err;
}

/* The whole value; out has room for it. */
static int xattr_value(struct vtx *tx, uint64_t ino, uint64_t off,
		       const struct item_xattr *x, uint8_t *out)
{
	struct key key = KEY(ino, ITEM_KIND_XATTR, off);
	size_t at = x->here_len;
	struct val val;

	if (at)
		memcpy(out, x->value, at);
	while (at < x->value_len) {
		int err;

		key.off++;
		err = vtx_get(tx, &key, &val);
		if (err == 1 ||
		    (!err && (!val.len || val.len > x->value_len - at)))
			err = -EFSCORRUPTED;
		if (err)
			return err;
		memcpy(out + at, val.p, val.len);
		at += val.len;
	}
	return 0;
}

int tx_get_xattr(struct vtx *tx, const struct fs *fs, uint64_t ino,
		 const char *name, uint8_t *buf, size_t size, size_t *len_out)
{
	struct item_xattr x;
	uint64_t off;
	int err;

	err = tx_find_xattr(tx, fs, ino, name, strlen(name), &off, &x);
	if (err)
		return err;
	*len_out = x.value_len;
	if (x.value_len > size)
		return size ? -ERANGE : 0;
	return xattr_value(tx, ino, off, &x, buf);
}

/* --- the interface --- */

struct xattr_op {
	struct fs_op op;
	const char *name;
	uint8_t *value; /* get: out */
	size_t size, len;
	int flags;
	bool del;
};

static bool is_caps(const char *name)
{
	return !strcmp(name, XATTR_CAPABILITY);
}

/* Whoever gives it some needs the view's locks exclusive. */
static void note_no_caps(const struct xattr_op *x)
{
	struct fs_file *f = file_peek(x->op.fv, x->op.ino);

	if (f)
		__atomic_store_n(&f->no_caps, true, __ATOMIC_RELAXED);
}

static int get_fn(struct vtx *tx, void *arg)
{
	struct xattr_op *x = arg;
	struct item_attr a;
	int err;

	err = tx_get_xattr(tx, x->op.fv->fs, x->op.ino, x->name, x->value,
			   x->size, &x->len);
	if (err != 1)
		return err;
	err = tx_get_attr(tx, x->op.ino, &a);
	if (err)
		return err;
	if (is_caps(x->name))
		note_no_caps(x);
	return -ENODATA;
}

int fs_getxattr(struct fs_view *fv, uint64_t ino, const char *name, void *value,
		size_t size, size_t *len_out)
{
	struct xattr_op x = { .op = { .fn = get_fn, .ino = ino },
			      .name = name,
			      .value = value,
			      .size = size };
	int err;

	/* Without killpriv v2 the kernel asks before each write. */
	if (is_caps(name) && file_lacks_caps(fv, ino))
		return -ENODATA;
	err = fv_read(fv, &x.op);
	if (!err)
		*len_out = x.len;
	return err;
}

static int list_fn(struct vtx *tx, void *arg)
{
	struct xattr_op *x = arg;
	struct key from = KEY(x->op.ino, ITEM_KIND_XATTR, 0);
	struct key to = KEY(x->op.ino, ITEM_KIND_XATTR, UINT64_MAX);
	struct item_attr a;
	int err;

	x->len = 0;
	err = tx_get_attr(tx, x->op.ino, &a);
	while (!err) {
		struct item_xattr item;
		struct key at;
		struct val val;

		err = vtx_next(tx, &from, &to, &at, &val);
		if (!err)
			err = item_xattr_decode(&val, &item);
		if (err)
			break;
		if (x->size) {
			if (item.name_len + 1 > x->size - x->len)
				return -ERANGE;
			memcpy(x->value + x->len, item.name, item.name_len);
			x->value[x->len + item.name_len] = '\0';
		}
		x->len += item.name_len + 1;
		from.off = (at.off | 0xff) + 1;
	}
	return err == 1 ? 0 : err;
}

int fs_listxattr(struct fs_view *fv, uint64_t ino, char *list, size_t size,
		 size_t *len_out)
{
	struct xattr_op x = { .op = { .fn = list_fn, .ino = ino },
			      .value = (uint8_t *)list,
			      .size = size };
	int err;

	err = fv_read(fv, &x.op);
	if (!err)
		*len_out = x.len;
	return err;
}

static int list_has_room(struct vtx *tx, const struct xattr_op *x)
{
	struct xattr_op l = { .op = { .ino = x->op.ino } };
	int err = list_fn(tx, &l);

	if (err)
		return err;
	return l.len + strlen(x->name) + 1 > FS_XATTR_LIST_MAX ? -ENOSPC : 0;
}

/* An access ACL is also the permission bits: 1 when those say it all. */
static int set_special(struct xattr_op *x, struct item_attr *a)
{
	if (strcmp(x->name, XATTR_ACL_ACCESS) != 0 || x->del)
		return 0;
	if (x->flags & FS_XATTR_KILL_SGID)
		a->mode &= ~(uint32_t)S_ISGID;
	return acl_to_mode(x->value, x->size, &a->mode);
}

static int set_fn(struct vtx *tx, void *arg)
{
	struct xattr_op *x = arg;
	struct item_xattr old;
	struct item_attr a;
	uint64_t off;
	int err, found;

	err = tx_get_attr(tx, x->op.ino, &a);
	if (err)
		return err;
	found = tx_find_xattr(tx, x->op.fv->fs, x->op.ino, x->name,
			      strlen(x->name), &off, &old);
	if (found < 0)
		return found;
	if (!found && x->flags & XATTR_CREATE)
		return -EEXIST;
	if (found && (x->del || x->flags & XATTR_REPLACE))
		return -ENODATA;
	err = set_special(x, &a);
	if (err < 0)
		return err;
	if (x->del || err == 1) {
		err = found ? 0 : tx_del_xattr(tx, x->op.ino, off);
	} else {
		err = found ? list_has_room(tx, x) : 0;
		if (!err)
			err = tx_put_xattr(tx, x->op.ino, off, x->name,
					   strlen(x->name), x->value, x->size);
	}
	a.ctime_ns = x->op.now_ns;
	return err ? err : tx_put_attr(tx, &x->op, x->op.ino, &a);
}

static void set_done(void *arg)
{
	struct xattr_op *x = arg;
	struct fs_file *f = file_peek(x->op.fv, x->op.ino);

	if (!f)
		return;
	f->ctime_ns = x->op.now_ns;
	f->priv_clean = false;
	f->no_caps = false;
}

int fs_setxattr(struct fs_view *fv, uint64_t ino, const char *name,
		const void *value, size_t size, int flags)
{
	struct xattr_op x = {
		.op = { .fn = set_fn, .done = set_done, .ino = ino },
		.name = name,
		.value = (uint8_t *)(uintptr_t)value,
		.size = size,
		.flags = flags
	};

	if (!*name || strlen(name) > FS_XATTR_NAME_MAX)
		return -ERANGE;
	if (size > FS_XATTR_VALUE_MAX)
		return -E2BIG;
	return fv_update(fv, 0, &x.op);
}

int fs_removexattr(struct fs_view *fv, uint64_t ino, const char *name)
{
	struct xattr_op x = {
		.op = { .fn = set_fn, .done = set_done, .ino = ino },
		.name = name,
		.del = true
	};

	if (!*name || strlen(name) > FS_XATTR_NAME_MAX)
		return -ERANGE;
	return fv_update(fv, 0, &x.op);
}
