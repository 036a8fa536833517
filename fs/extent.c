/* SPDX-License-Identifier: GPL-2.0-or-later */
/* extent.c - contents of files in the tree: extents and inline items. */
#include "fs/fs_internal.h"

static struct key window_key(uint64_t ino, uint64_t widx)
{
	return KEY(ino, ITEM_KIND_EXTENT, widx * WINDOW_BYTES);
}

int fmap_load(struct vtx *tx, uint64_t ino, uint64_t widx,
	      struct item_window *m)
{
	struct key key = window_key(ino, widx);
	struct val val;
	int err;

	m->mask = 0;
	err = vtx_get(tx, &key, &val);
	if (err)
		return err == 1 ? 0 : err;
	return item_window_decode(&val, key.off, m);
}

void fmap_cut(struct item_window *m, uint64_t widx, uint64_t cut)
{
	uint64_t start = widx * WINDOW_BYTES, keep;

	if (cut >= start + WINDOW_BYTES)
		return;
	keep = cut <= start ? 0 : (cut - start) / FS_BLOCK_BYTES;
	m->mask &= ((uint64_t)1 << keep) - 1;
}

int fmap_store(struct vtx *tx, uint64_t ino, uint64_t widx,
	       const struct item_window *m)
{
	struct key key = window_key(ino, widx);
	uint8_t buf[ITEM_EXTENT_MAX];

	if (!m->mask)
		return vtx_del(tx, &key);
	return vtx_put(tx, &key, buf, item_window_encode(m, buf));
}

int extents_remove(struct vtx *tx, uint64_t ino, uint64_t from_widx,
		   uint64_t to_widx, uint64_t *nblocks)
{
	struct key from = KEY(ino, ITEM_KIND_EXTENT, from_widx * WINDOW_BYTES);
	struct key to = KEY(ino, ITEM_KIND_EXTENT, UINT64_MAX);
	struct key first = from, at;
	struct val val;
	int err = 0;

	if (from_widx >= to_widx)
		return 0;
	if (to_widx != UINT64_MAX)
		to.off = to_widx * WINDOW_BYTES - 1;
	if (!from_widx && to_widx == UINT64_MAX)
		*nblocks = 0; /* no need to count: unread, they go at once */
	else
		while (!err) {
			struct item_window w;

			err = vtx_next(tx, &from, &to, &at, &val);
			if (!err)
				err = item_window_decode(&val, at.off, &w);
			if (!err && *nblocks < bits_count(w.mask))
				err = -EFSCORRUPTED;
			if (err)
				break;
			*nblocks -= bits_count(w.mask);
			from.off = at.off + 1;
		}
	if (err < 0)
		return err;
	return vtx_del_range(tx, &first, &to);
}

int extents_next_window(struct vtx *tx, uint64_t ino, uint64_t widx,
			uint64_t *widx_out)
{
	struct key from = KEY(ino, ITEM_KIND_EXTENT, widx * WINDOW_BYTES);
	struct key to = KEY(ino, ITEM_KIND_EXTENT, UINT64_MAX);
	struct key at;
	struct val val;
	int err = vtx_next(tx, &from, &to, &at, &val);

	if (!err)
		*widx_out = at.off / WINDOW_BYTES;
	return err;
}

int inline_load(struct vtx *tx, uint64_t ino, const struct item_attr *a,
		uint8_t buf[INLINE_FILE_MAX])
{
	struct key key = KEY(ino, ITEM_KIND_INLINE, 0);
	struct val val;
	int err;

	if (!a->size)
		return 0;
	err = vtx_get(tx, &key, &val);
	if (err == 1 ||
	    (!err && (val.len != a->size || val.len > INLINE_FILE_MAX)))
		err = -EFSCORRUPTED;
	if (!err)
		memcpy(buf, val.p, val.len);
	return err;
}

int inline_remove(struct vtx *tx, uint64_t ino)
{
	struct key from = KEY(ino, ITEM_KIND_INLINE, 0);
	struct key to = KEY(ino, ITEM_KIND_INLINE, UINT64_MAX);

	return vtx_del_range(tx, &from, &to);
}
