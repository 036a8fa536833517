/* SPDX-License-Identifier: GPL-2.0-or-later */
/* extent.c - contents of files in the tree: extents and inline items. */
#include "fs/fs_internal.h"

int fmap_load(struct vtx *tx, uint64_t ino, uint64_t widx, struct fmap *m)
{
	struct key from = KEY(ino, ITEM_KIND_EXTENT, widx * WINDOW_BYTES);
	struct key to = KEY(ino, ITEM_KIND_EXTENT, from.off + WINDOW_BYTES - 1);
	struct item_extent e;
	struct key at;
	struct val val;
	int err;

	m->mask = 0;
	for (;;) {
		uint64_t first;

		err = vtx_next(tx, &from, &to, &at, &val);
		if (err)
			return err == 1 ? 0 : err;
		err = item_extent_decode(&val, at.off, &e);
		if (err)
			return err;
		first = (at.off - widx * WINDOW_BYTES) / FS_BLOCK_BYTES;
		for (uint32_t i = 0; i < e.nblocks; i++) {
			m->mask |= (uint64_t)1 << (first + i);
			m->pos[first + i] =
				e.pos + (uint64_t)i * FS_BLOCK_BYTES;
			m->sum[first + i] = item_extent_sum(&e, i);
		}
		from.off = at.off + (uint64_t)e.nblocks * FS_BLOCK_BYTES;
		if (from.off > to.off)
			return 0;
	}
}

void fmap_cut(struct fmap *m, uint64_t widx, uint64_t cut)
{
	uint64_t start = widx * WINDOW_BYTES, keep;

	if (cut >= start + WINDOW_BYTES)
		return;
	keep = cut <= start ? 0 : (cut - start) / FS_BLOCK_BYTES;
	m->mask &= ((uint64_t)1 << keep) - 1;
}

/* The run of blocks from i on that lie one behind the other in the log. */
static unsigned int run_length(const struct fmap *m, unsigned int i)
{
	unsigned int n = 1;

	while (i + n < WINDOW_BLOCKS && m->mask >> (i + n) & 1 &&
	       m->pos[i + n] == m->pos[i] + (uint64_t)n * FS_BLOCK_BYTES)
		n++;
	return n;
}

int fmap_store(struct vtx *tx, uint64_t ino, uint64_t widx,
	       const struct fmap *m)
{
	struct key from = KEY(ino, ITEM_KIND_EXTENT, widx * WINDOW_BYTES);
	struct key to = KEY(ino, ITEM_KIND_EXTENT, from.off + WINDOW_BYTES - 1);
	uint8_t buf[ITEM_EXTENT_MAX];
	int err;

	err = vtx_del_range(tx, &from, &to);
	for (unsigned int i = 0; !err && i < WINDOW_BLOCKS;) {
		unsigned int n;
		struct key key = from;

		if (!(m->mask >> i & 1)) {
			i++;
			continue;
		}
		n = run_length(m, i);
		key.off += (uint64_t)i * FS_BLOCK_BYTES;
		err = vtx_put(tx, &key, buf,
			      item_extent_encode(m->pos[i], n, m->sum + i,
						 buf));
		i += n;
	}
	return err;
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
			struct item_extent e;

			err = vtx_next(tx, &from, &to, &at, &val);
			if (!err)
				err = item_extent_decode(&val, at.off, &e);
			if (!err && *nblocks < e.nblocks)
				err = -EFSCORRUPTED;
			if (err)
				break;
			*nblocks -= e.nblocks;
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
