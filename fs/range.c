/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * range.c - ranges of files: fallocate, looking for data and holes.
 *
 * Punching and shifting happens in the tree: what is buffered is entered first,
 * and with the write lock held nothing new comes.
 */
#include "fs/fs_internal.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

struct range_op {
	struct fs_op op; /* first */
	struct fs_file *f;
	uint64_t first, end; /* blocks */
	bool insert; /* else, in a shift: collapse */
	uint64_t size; /* after it */
};

static void fmap_set(struct item_window *m, unsigned int i,
		     const struct item_window *from, unsigned int k)
{
	if (!(from->mask >> k & 1))
		return;
	m->mask |= (uint64_t)1 << i;
	m->pos[i] = from->pos[k];
	m->sum[i] = from->sum[k];
	m->len[i] = from->len[k];
}

static int range_get(struct vtx *tx, struct range_op *r, struct item_attr *a)
{
	int err;

	if (!file_is_in(r->f, &r->op))
		return FS_MOVED;
	if (r->f->stale)
		return -ESTALE;
	err = tx_get_attr(tx, r->f->ino, a);
	if (!err)
		ASSERT(!r->f->dirty && !(a->flags & ATTR_FLAG_INLINE));
	return err;
}

static int range_put(struct vtx *tx, struct range_op *r, struct item_attr *a)
{
	a->mtime_ns = r->op.now_ns;
	a->ctime_ns = r->op.now_ns;
	a->data_version = store_new_obj(r->op.fv->fs->store);
	return tx_put_attr(tx, &r->op, r->f->ino, a);
}

/* The blocks of one window that lie in [first, end) go. */
static int punch_window(struct vtx *tx, struct range_op *r, uint64_t widx,
			uint64_t *nblocks)
{
	struct item_window m;
	unsigned int before;
	int err;

	err = fmap_load(tx, r->f->ino, widx, &m);
	if (err)
		return err;
	before = bits_count(m.mask);
	for (unsigned int i = 0; i < WINDOW_BLOCKS; i++) {
		uint64_t blk = widx * WINDOW_BLOCKS + i;

		if (blk >= r->first && blk < r->end)
			m.mask &= ~((uint64_t)1 << i);
	}
	if (bits_count(m.mask) == before)
		return 0;
	*nblocks -= before - bits_count(m.mask);
	return fmap_store(tx, r->f->ino, widx, &m);
}

static int punch_blocks(struct vtx *tx, struct range_op *r, uint64_t *nblocks)
{
	uint64_t first = (r->first + WINDOW_BLOCKS - 1) / WINDOW_BLOCKS;
	uint64_t last = r->end / WINDOW_BLOCKS;
	int err = 0;

	if (first < last)
		err = extents_remove(tx, r->f->ino, first, last, nblocks);
	if (!err && r->first % WINDOW_BLOCKS)
		err = punch_window(tx, r, r->first / WINDOW_BLOCKS, nblocks);
	if (!err && r->end % WINDOW_BLOCKS &&
	    (last >= first || !(r->first % WINDOW_BLOCKS)))
		err = punch_window(tx, r, last, nblocks);
	return err;
}

static int punch_fn(struct vtx *tx, void *arg)
{
	struct range_op *r = arg;
	struct item_attr a;
	int err;

	err = range_get(tx, r, &a);
	if (!err)
		err = punch_blocks(tx, r, &a.blocks);
	return err ? err : range_put(tx, r, &a);
}

/* --- shifting --- */

/* What window widx holds after the shift. */
static int shifted_window(struct vtx *tx, struct range_op *r, uint64_t widx,
			  struct item_window *out)
{
	uint64_t n = r->end - r->first, loaded = UINT64_MAX;
	struct item_window m = { .mask = 0 };
	int err;

	out->mask = 0;
	for (unsigned int i = 0; i < WINDOW_BLOCKS; i++) {
		uint64_t blk = widx * WINDOW_BLOCKS + i;

		if (blk >= r->first) {
			if (r->insert && blk < r->end)
				continue;
			blk = r->insert ? blk - n : blk + n;
		}
		if (blk / WINDOW_BLOCKS != loaded) {
			loaded = blk / WINDOW_BLOCKS;
			err = fmap_load(tx, r->f->ino, loaded, &m);
			if (err)
				return err;
		}
		fmap_set(out, i, &m, blk % WINDOW_BLOCKS);
	}
	return 0;
}

static int shift_store(struct vtx *tx, struct range_op *r, uint64_t widx)
{
	struct item_window m;
	int err;

	if ((widx + 1) * WINDOW_BLOCKS <= r->first)
		return 0;
	err = shifted_window(tx, r, widx, &m);
	return err ? err : fmap_store(tx, r->f->ino, widx, &m);
}

/* Windows are built from the old state alone, so one may be built twice. */
static int shift_from(struct vtx *tx, struct range_op *r, uint64_t old)
{
	uint64_t n = r->end - r->first, blk = old * WINDOW_BLOCKS, to;
	int err;

	err = shift_store(tx, r, old);
	if (r->insert)
		to = blk + n;
	else
		to = blk > n ? blk - n : 0;
	for (unsigned int i = 0; i < 2 && !err; i++)
		if (to / WINDOW_BLOCKS + i != old)
			err = shift_store(tx, r, to / WINDOW_BLOCKS + i);
	return err;
}

/* Blocks in [first, end). */
static int count_blocks(struct vtx *tx, struct range_op *r, uint64_t *n)
{
	uint64_t w = r->first / WINDOW_BLOCKS;
	int err;

	*n = 0;
	for (;;) {
		struct item_window m;

		err = extents_next_window(tx, r->f->ino, w, &w);
		if (err || w * WINDOW_BLOCKS >= r->end)
			return err == 1 ? 0 : err;
		err = fmap_load(tx, r->f->ino, w, &m);
		if (err)
			return err;
		for (unsigned int i = 0; i < WINDOW_BLOCKS; i++) {
			uint64_t blk = w * WINDOW_BLOCKS + i;

			*n += blk >= r->first && blk < r->end &&
			      m.mask >> i & 1;
		}
		w++;
	}
}

static int shift_fn(struct vtx *tx, void *arg)
{
	struct range_op *r = arg;
	uint64_t w = r->first / WINDOW_BLOCKS, gone = 0;
	struct item_attr a;
	int err;

	err = range_get(tx, r, &a);
	if (!err && !r->insert)
		err = count_blocks(tx, r, &gone);
	while (!err) {
		err = extents_next_window(tx, r->f->ino, w, &w);
		if (!err)
			err = shift_from(tx, r, w);
		w++;
	}
	if (err < 0)
		return err;
	if (err == FS_MOVED)
		return err;
	a.blocks -= gone;
	a.size = r->size;
	return range_put(tx, r, &a);
}

static void shift_done(void *arg)
{
	struct range_op *r = arg;

	r->f->size = r->size;
	r->f->seq++;
}

/* --- fallocate --- */

/* Write zeros, except over holes at or past the end. */
static int zero_bytes(struct fs_file *f, uint64_t off, uint64_t end)
{
	int err = 0;

	end = min_u64(end, f->size);
	while (!err && off < end) {
		size_t n = min_u64(end - off, FS_BLOCK_BYTES);

		err = file_zero(f, off, n);
		off += n;
	}
	return err;
}

/* --- packed blocks may only be where they are --- */

struct packed_op {
	struct fs_op op;
	struct fs_file *f;
	uint64_t blocks; /* out: bits */
};

static int packed_fn(struct vtx *tx, void *arg)
{
	struct packed_op *p = arg;
	struct item_window m;
	int err;

	if (!file_is_in(p->f, &p->op))
		return FS_MOVED;
	p->blocks = 0;
	err = fmap_load(tx, p->f->ino, 0, &m);
	for (uint64_t b = m.mask; !err && b; b &= b - 1) {
		unsigned int i = (unsigned int)__builtin_ctzll(b);

		p->blocks |= (uint64_t)item_is_packed(&m, i) << i;
	}
	return err;
}

static int rewrite_block(struct fs_file *f, uint64_t blk)
{
	struct lbuf *b = NULL;
	struct change_set c = { .f = f,
				.drop_from = CUT_NONE,
				.first = blk,
				.n = 1,
				.bufs = &b,
				.size = f->size };
	int err = file_load_block(f, blk, &b);

	if (!err)
		err = file_change(&c);
	lbuf_put(b);
	lbuf_put(c.head);
	return err;
}

static void set_unpacked(struct fs_file *f, bool unpacked)
{
	struct fs_view *fv = file_lock(f);

	f->unpacked = unpacked;
	file_unlock(f, fv);
}

/* Make it a file without packed blocks. It is entered, under the write lock,
 * with room for a window. */
static int unpack(struct fs_file *f)
{
	struct packed_op p = { .op = { .fn = packed_fn, .ino = f->ino },
			       .f = f };
	int err = file_read_op(f, &p.op);

	if (err || !p.blocks)
		return err;
	set_unpacked(f, true);
	for (; !err && p.blocks; p.blocks &= p.blocks - 1)
		err = rewrite_block(f, (uint64_t)__builtin_ctzll(p.blocks));
	if (!err)
		err = file_enter(f);
	set_unpacked(f, false);
	return err;
}

/* shifts: blocks go to other places of the file */
static int settled_op(struct fs_file *f, struct range_op *r, view_fn fn,
		      view_done_fn done, bool shifts)
{
	struct fs *fs = __atomic_load_n(&f->fv, __ATOMIC_ACQUIRE)->fs;
	int err;

	r->op = (struct fs_op){ .fn = fn, .done = done, .ino = f->ino };
	r->f = f;
	/* Asked here: behind the gate nothing may wait for the queue, whose
	 * leader may be waiting for us. */
	err = shifts ? fs_take_room(fs, WINDOW_BYTES, false)
		     : fs_take_room_to_free(fs);
	if (err)
		return err;
	file_write_lock(f);
	err = fs_file_is_stale(f) ? -ESTALE : file_enter(f);
	if (!err && shifts)
		err = unpack(f);
	if (!err)
		err = file_update_op(f, VIEW_FINISHES, &r->op);
	if (shifts)
		fs_give_room(fs, WINDOW_BYTES);
	else
		fs_give_room_to_free(fs);
	file_write_unlock(f);
	return err;
}

static int punch(struct fs_file *f, uint64_t off, uint64_t end)
{
	struct range_op r = { .first = (off + FS_BLOCK_BYTES - 1) /
				       FS_BLOCK_BYTES,
			      .end = end / FS_BLOCK_BYTES };
	int err;

	/* A small file is in its inode: zeros are what a hole is there. */
	if (f->size <= FS_BLOCK_BYTES || r.first >= r.end)
		return zero_bytes(f, off, end);
	err = zero_bytes(f, off, r.first * FS_BLOCK_BYTES);
	if (!err)
		err = zero_bytes(f, r.end * FS_BLOCK_BYTES, end);
	return err ? err : settled_op(f, &r, punch_fn, NULL, false);
}

static int shift(struct fs_file *f, uint64_t off, uint64_t len, bool insert)
{
	struct range_op r = { .first = off / FS_BLOCK_BYTES,
			      .end = (off + len) / FS_BLOCK_BYTES,
			      .insert = insert };

	if (off % FS_BLOCK_BYTES || len % FS_BLOCK_BYTES)
		return -EINVAL;
	if (off >= f->size || (!insert && len >= f->size - off))
		return -EINVAL;
	if (insert && len > FS_FILE_MAX_BYTES - f->size)
		return -EFBIG;
	r.size = insert ? f->size + len : f->size - len;
	if (f->size <= INLINE_FILE_MAX) {
		/* Only inserting before all of it is possible: make it a file
		 * with blocks first. */
		int err = fs_truncate(f, FS_BLOCK_BYTES);
		uint64_t back = r.size;

		r.size = FS_BLOCK_BYTES + len;
		if (!err)
			err = settled_op(f, &r, shift_fn, shift_done, true);
		return err ? err : fs_truncate(f, back);
	}
	return settled_op(f, &r, shift_fn, shift_done, true);
}

/* Blocks are written elsewhere each time, so none are set aside: the log has
 * room now, and the host has what the file has not. */
static int reserve(struct fs_file *f, uint64_t len)
{
	struct fs *fs = f->fv->fs;
	struct fs_attr attr = { 0 };
	uint64_t space = 0, have, step = min_u64(len, STEP_BYTES);
	int err;

	/* As df told: what making room takes now is there for the file. */
	err = log_host_space(fs->log, &space);
	if (!err)
		err = fs_take_room(fs, step, false);
	if (err)
		return err;
	fs_give_room(fs, step);
	err = fs_file_getattr(f, &attr);
	if (err)
		return err;
	have = attr.blocks * 512;
	return len > have && len - have > space ? -ENOSPC : 0;
}

int fs_fallocate(struct fs_file *f, int mode, uint64_t off, uint64_t len)
{
	bool keep = mode & FALLOC_FL_KEEP_SIZE;
	uint64_t end = off + len;
	int err = 0;

	if (!len)
		return -EINVAL;
	if (off > FS_FILE_MAX_BYTES || len > FS_FILE_MAX_BYTES - off)
		return -EFBIG;
	if (fs_file_is_stale(f))
		return -ESTALE;
	if (fs_view_is_read_only(f->fv))
		return -EROFS;
	switch (mode & ~FALLOC_FL_KEEP_SIZE) {
	case 0:
		err = reserve(f, len);
		break;
	case FALLOC_FL_PUNCH_HOLE:
		if (!keep)
			return -EOPNOTSUPP;
		err = punch(f, off, end);
		break;
	case FALLOC_FL_ZERO_RANGE:
		err = punch(f, off, end);
		break;
	case FALLOC_FL_COLLAPSE_RANGE:
		return keep ? -EOPNOTSUPP : shift(f, off, len, false);
	case FALLOC_FL_INSERT_RANGE:
		return keep ? -EOPNOTSUPP : shift(f, off, len, true);
	default:
		return -EOPNOTSUPP;
	}
	if (!err && !keep)
		err = file_grow(f, end);
	return err;
}

/* --- seek --- */

struct seek_op {
	struct fs_op op;
	struct fs_file *f;
	bool hole;
	uint64_t off, found;
};

/* Is a block there? *next: the first one that may differ from it. */
static bool block_is_there(const struct item_window *w, uint64_t blk,
			   uint64_t *next)
{
	unsigned int i = blk % WINDOW_BLOCKS;
	uint64_t rest = (w->mask >> i & 1 ? ~w->mask : w->mask) >> i;

	*next = rest ? blk + (uint64_t)__builtin_ctzll(rest)
		     : (blk / WINDOW_BLOCKS + 1) * WINDOW_BLOCKS;
	return w->mask >> i & 1;
}

static int seek_fn(struct vtx *tx, void *arg)
{
	struct seek_op *s = arg;
	uint64_t blk = s->off / FS_BLOCK_BYTES, widx, next;
	struct item_window w;
	struct item_attr a;
	int err;

	if (!file_is_in(s->f, &s->op))
		return FS_MOVED;
	err = tx_get_attr(tx, s->op.ino, &a);
	if (err)
		return err;
	if (s->off >= a.size)
		return -ENXIO;
	s->found = s->hole ? a.size : s->off;
	if (a.flags & ATTR_FLAG_INLINE)
		return 0;
	while (blk * FS_BLOCK_BYTES < a.size) {
		err = extents_next_window(tx, s->op.ino, blk / WINDOW_BLOCKS,
					  &widx);
		if (err < 0)
			return err;
		if (err == 1 || widx > blk / WINDOW_BLOCKS) {
			/* Nothing here. */
			if (s->hole)
				break;
			if (err == 1)
				return -ENXIO;
			blk = widx * WINDOW_BLOCKS;
		}
		err = fmap_load(tx, s->op.ino, blk / WINDOW_BLOCKS, &w);
		if (err)
			return err;
		if (block_is_there(&w, blk, &next) != s->hole)
			break;
		blk = next;
	}
	if (blk * FS_BLOCK_BYTES >= a.size && !s->hole)
		return -ENXIO;
	s->found = min_u64(a.size, max_u64(s->off, blk * FS_BLOCK_BYTES));
	return 0;
}

int fs_seek(struct fs_file *f, uint64_t off, int whence, uint64_t *off_out)
{
	struct seek_op s = { .op = { .fn = seek_fn, .ino = f->ino },
			     .f = f,
			     .hole = whence == SEEK_HOLE,
			     .off = off };
	int err;

	if (whence != SEEK_HOLE && whence != SEEK_DATA)
		return -EINVAL;
	err = file_enter(f);
	if (!err)
		err = file_read_op(f, &s.op);
	if (!err)
		*off_out = s.found;
	return err;
}
