/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * copy.c - copying between files without reading: the target's buffer gets the
 * places of the source's blocks, and holes stay holes. Only the edges, where
 * blocks do not align, are read and written. Also blocks that are shared with a
 * file of the host.
 */
#include "fs/fs_internal.h"

#include <fcntl.h>
#include <linux/falloc.h>

/* Steps (a window each at most) between two looks at the bounds. */
enum { STEPS_AT_ONCE = STEP_BYTES / WINDOW_BYTES };

struct copy {
	struct fs_file *src, *dst;
	uint64_t src_off, dst_off;
	uint64_t len; /* that is left */
};

/* --- what the source has --- */

struct source_op {
	struct fs_op op;
	struct fs_file *f;
	uint64_t blk;
	/* Of the window that blk is in. */
	struct item_window m;
	uint64_t hole_end; /* a block; when blk is not in m */
};

static uint64_t first_block(const struct item_window *m, uint64_t widx)
{
	return widx * WINDOW_BLOCKS + (uint64_t)__builtin_ctzll(m->mask);
}

static int find_hole_end(struct vtx *tx, struct source_op *s)
{
	uint64_t widx = s->blk / WINDOW_BLOCKS;
	struct item_window m = s->m;
	int err;

	m.mask &= UINT64_MAX << (s->blk % WINDOW_BLOCKS);
	while (!m.mask) {
		err = extents_next_window(tx, s->op.ino, widx + 1, &widx);
		if (err == 1) {
			s->hole_end = UINT64_MAX;
			return 0;
		}
		if (!err)
			err = fmap_load(tx, s->op.ino, widx, &m);
		if (err)
			return err;
	}
	s->hole_end = first_block(&m, widx);
	return 0;
}

static bool source_has(const struct source_op *s)
{
	return s->m.mask >> (s->blk % WINDOW_BLOCKS) & 1;
}

/* -ENODATA: it has no blocks, but lies in its inode. */
static int source_fn(struct vtx *tx, void *arg)
{
	struct source_op *s = arg;
	struct item_attr a;
	int err;

	if (!file_is_in(s->f, &s->op))
		return FS_MOVED;
	err = tx_get_attr(tx, s->op.ino, &a);
	if (err)
		return err;
	if (a.flags & ATTR_FLAG_INLINE)
		return -ENODATA;
	err = fmap_load(tx, s->op.ino, s->blk / WINDOW_BLOCKS, &s->m);
	if (!err && !source_has(s))
		err = find_hole_end(tx, s);
	return err;
}

/* --- steps: each goes forward by *n_out bytes --- */

static int copy_bytes(const struct copy *c, uint64_t len, uint64_t *n_out)
{
	uint8_t *buf = malloc(len);
	size_t got;
	int err;

	if (!buf)
		return -ENOMEM;
	err = fs_read(c->src, c->src_off, buf, len, &got);
	if (!err && got)
		err = fs_write(c->dst, NULL, c->dst_off, buf, got, false);
	free(buf);
	*n_out = len;
	return err;
}

int file_put_stored(struct fs_file *f, uint64_t blk, const uint64_t *pos,
		    const uint64_t *sum, const uint16_t *len, unsigned int n,
		    uint64_t size)
{
	struct change_set ch = { .f = f,
				 .drop_from = CUT_NONE,
				 .first = blk,
				 .n = n,
				 .pos = pos,
				 .sum = sum,
				 .len = len,
				 .size = max_u64(f->size, size) };
	int err = file_change(&ch);

	lbuf_put(ch.head);
	return err;
}

/* May block i of a window be block blk of a file as it lies? */
static bool fits(const struct item_window *m, unsigned int i, uint64_t blk)
{
	return blk < EXTENT_PACKED_MAX || !item_is_packed(m, i);
}

/* The first one fits. */
static int copy_data(const struct source_op *s, const struct copy *c,
		     uint64_t *n_out)
{
	uint64_t blk = c->dst_off / FS_BLOCK_BYTES;
	unsigned int from = s->blk % WINDOW_BLOCKS, n = 0;
	uint64_t room = WINDOW_BYTES - c->dst_off % WINDOW_BYTES;
	uint64_t most = min_u64(c->len, room) / FS_BLOCK_BYTES;
	int err;

	while (from + n < WINDOW_BLOCKS && n < most &&
	       s->m.mask >> (from + n) & 1 && fits(&s->m, from + n, blk + n))
		n++;
	err = file_put_stored(c->dst, blk, s->m.pos + from, s->m.sum + from,
			      s->m.len + from, n, (blk + n) * FS_BLOCK_BYTES);
	*n_out = (uint64_t)n * FS_BLOCK_BYTES;
	return err;
}

static int copy_hole(const struct source_op *s, const struct copy *c,
		     uint64_t *n_out)
{
	uint64_t whole = c->len / FS_BLOCK_BYTES;
	uint64_t n = min_u64(s->hole_end - s->blk, whole) * FS_BLOCK_BYTES;
	int err = 0;

	if (c->dst_off < c->dst->size)
		err = fs_fallocate(c->dst,
				   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   c->dst_off, n);
	if (!err)
		err = file_grow(c->dst, c->dst_off + n);
	*n_out = n;
	return err;
}

static int copy_step(const struct copy *c, uint64_t *n_out)
{
	struct fs *fs = __atomic_load_n(&c->dst->fv, __ATOMIC_ACQUIRE)->fs;
	struct source_op s = { .op = { .fn = source_fn, .ino = c->src->ino },
			       .f = c->src,
			       .blk = c->src_off / FS_BLOCK_BYTES };
	uint64_t in_block = c->dst_off % FS_BLOCK_BYTES;
	bool shared = false, has;
	int err;

	if (c->len < FS_BLOCK_BYTES)
		return copy_bytes(c, c->len, n_out);
	if (c->src_off % FS_BLOCK_BYTES != in_block)
		return copy_bytes(c, min_u64(c->len, WINDOW_BYTES), n_out);
	if (in_block)
		return copy_bytes(c, FS_BLOCK_BYTES - in_block, n_out);
	/* A sweep comes before this or after it: between, it would not know
	 * that the target needs the blocks. Behind the gate: who waits there
	 * may be waiting for a graft, which a sweep that waits for us keeps
	 * out. */
	file_write_lock(c->dst);
	rwlock_lock_shared(&fs->copy_lock);
	err = file_read_op(c->src, &s.op);
	has = !err && source_has(&s);
	if (has &&
	    fits(&s.m, s.blk % WINDOW_BLOCKS, c->dst_off / FS_BLOCK_BYTES)) {
		err = copy_data(&s, c, n_out);
		shared = true;
	}
	rwlock_unlock_shared(&fs->copy_lock);
	file_write_unlock(c->dst);
	if (err == -ENODATA)
		return copy_bytes(c, min_u64(c->len, WINDOW_BYTES), n_out);
	if (err || shared)
		return err;
	return has ? copy_bytes(c, FS_BLOCK_BYTES, n_out)
		   : copy_hole(&s, c, n_out);
}

/* Some steps, then within the bounds again. */
static int copy_some(struct fs *fs, struct copy *c)
{
	const uint64_t windows =
		min_u64(c->len / WINDOW_BYTES + 2, STEPS_AT_ONCE);
	const uint64_t small = FILE_CLAIM_BYTES + windows * WINDOW_CLAIM_BYTES;
	uint64_t n;
	int err;

	err = log_take_room(fs->log, small, 0, LOG_USE);
	if (err == -ENOSPC && fs_find_space(fs))
		err = log_take_room(fs->log, small, 0, LOG_USE);
	if (err)
		return err;
	for (int i = 0; !err && c->len && i < STEPS_AT_ONCE; i++) {
		err = copy_step(c, &n);
		if (err)
			break;
		c->src_off += n;
		c->dst_off += n;
		c->len -= n;
	}
	log_give_room(fs->log, small, 0);
	return err ? err
		   : fs_balance(__atomic_load_n(&c->dst->fv, __ATOMIC_ACQUIRE));
}

int fs_copy_range(struct fs_file *src, uint64_t src_off, struct fs_file *dst,
		  uint64_t dst_off, size_t len, size_t *copied_out)
{
	struct fs *fs = __atomic_load_n(&dst->fv, __ATOMIC_ACQUIRE)->fs;
	struct copy c = {
		.src = src, .dst = dst, .src_off = src_off, .dst_off = dst_off
	};
	struct fs_attr attr;
	int err;

	*copied_out = 0;
	err = fs_file_getattr(src, &attr);
	if (err)
		return err;
	if (src_off >= attr.size || !len)
		return 0;
	len = min_u64(len, attr.size - src_off);
	if (dst_off > FS_FILE_MAX_BYTES || len > FS_FILE_MAX_BYTES - dst_off)
		return -EFBIG;
	if (src == dst && src_off < dst_off + len && dst_off < src_off + len)
		return -EINVAL;
	if (fs_file_is_stale(dst))
		return -ESTALE;
	err = file_enter(src);
	c.len = len;
	while (!err && c.len)
		err = copy_some(fs, &c);
	*copied_out = len - c.len;
	return *copied_out ? 0 : err;
}

/* --- from a file of the host --- */

/* The sums are of what the log has now, whatever the file was before. */
static int sum_blocks(struct fs *fs, uint64_t pos, unsigned int n,
		      uint64_t *poss, uint64_t *sums)
{
	size_t len = (size_t)n * FS_BLOCK_BYTES;
	uint8_t *buf = malloc(len);
	int err = buf ? log_read(fs->log, pos, buf, len) : -ENOMEM;

	for (unsigned int i = 0; i < n && !err; i++) {
		poss[i] = pos + (uint64_t)i * FS_BLOCK_BYTES;
		sums[i] = item_block_sum(buf + (size_t)i * FS_BLOCK_BYTES);
	}
	free(buf);
	return err;
}

static int clone_blocks(struct fs *fs, struct fs_file *f, uint64_t off, int fd,
			unsigned int n)
{
	uint64_t poss[WINDOW_BLOCKS], sums[WINDOW_BLOCKS], pos;
	uint64_t len = (uint64_t)n * FS_BLOCK_BYTES;
	struct change_set ch = { .f = f,
				 .drop_from = CUT_NONE,
				 .first = off / FS_BLOCK_BYTES,
				 .n = n,
				 .pos = poss,
				 .sum = sums };
	int err;

	err = log_clone_in(fs->log, fd, off, len, &pos);
	if (!err)
		err = sum_blocks(fs, pos, n, poss, sums);
	if (err)
		return err;
	count_appended(fs, len);
	ch.size = max_u64(f->size, off + len);
	err = file_change(&ch);
	lbuf_put(ch.head);
	return err;
}

int fs_clone_in(struct fs_file *f, uint64_t off, int fd, size_t len)
{
	struct fs *fs = __atomic_load_n(&f->fv, __ATOMIC_ACQUIRE)->fs;
	int err;

	ASSERT(len && !(off % FS_BLOCK_BYTES) && !(len % FS_BLOCK_BYTES) &&
	       off % WINDOW_BYTES + len <= WINDOW_BYTES);
	err = fs_take_room(fs, len, false);
	if (err)
		return err;
	/* As for copies: no sweep before the file has them. */
	file_write_lock(f);
	rwlock_lock_shared(&fs->copy_lock);
	err = clone_blocks(fs, f, off, fd,
			   (unsigned int)(len / FS_BLOCK_BYTES));
	rwlock_unlock_shared(&fs->copy_lock);
	fs_give_room(fs, len);
	file_write_unlock(f);
	if (!err)
		(void)fs_balance(__atomic_load_n(&f->fv, __ATOMIC_ACQUIRE));
	return err;
}
