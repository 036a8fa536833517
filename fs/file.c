/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * file.c - reading, writing and truncating files.
 *
 * A reader gathers under the locks where each block is (in a buffer, in the
 * log, nowhere) and fetches and verifies outside of them. A writer prepares
 * whole blocks outside the locks and puts them in under them.
 */
#include "fs/fs_internal.h"

/* --- reading --- */

/* A part of one window. */
struct read_op {
	struct fs_op op;
	struct fs_file *f;
	uint64_t widx;
	uint64_t want; /* bit for each block */
	/* out: */
	uint64_t size;
	bool is_inline; /* bytes has the contents */
	uint64_t in_mem, in_log; /* bits; neither: a hole */
	struct lbuf *blk[WINDOW_BLOCKS];
	struct item_window m;
	uint8_t bytes[INLINE_FILE_MAX];
};

static void read_forget(struct read_op *r)
{
	for (uint64_t m = r->in_mem; m; m &= m - 1)
		lbuf_put(r->blk[__builtin_ctzll(m)]);
	r->in_mem = 0;
	r->in_log = 0;
	r->is_inline = false;
}

static void read_buffered(struct read_op *r, const struct fs_window *w)
{
	uint64_t mem = w->present & ~w->appended & r->want;

	for (uint64_t m = mem; m; m &= m - 1) {
		unsigned int i = (unsigned int)__builtin_ctzll(m);

		r->blk[i] = lbuf_get(w->blk[i]);
	}
	r->in_mem = mem;
	r->in_log |= w->appended & r->want;
	for (uint64_t m = w->appended & r->want; m; m &= m - 1) {
		unsigned int i = (unsigned int)__builtin_ctzll(m);

		r->m.pos[i] = w->pos[i];
		r->m.sum[i] = w->sum[i];
		r->m.len[i] = w->len[i];
	}
}

static int read_tree(struct vtx *tx, struct read_op *r, uint64_t missing)
{
	struct fs_file *f = r->f;
	struct item_attr a;
	int err;

	if (f->is_inline) {
		if (!f->cut || !(missing & 1) || r->widx)
			return 0;
		err = tx_get_attr(tx, f->ino, &a);
		if (!err)
			err = inline_load(tx, f->ino, &a, r->bytes);
		if (!err) {
			memset(r->bytes + a.size, 0, INLINE_FILE_MAX - a.size);
			r->is_inline = true;
		}
		return err;
	}
	if (r->widx * WINDOW_BYTES >= f->cut)
		return 0;
	err = fmap_load(tx, f->ino, r->widx, &r->m);
	if (err)
		return err;
	fmap_cut(&r->m, r->widx, f->cut);
	r->in_log = r->m.mask & missing;
	return 0;
}

static int read_fn(struct vtx *tx, void *arg)
{
	struct read_op *r = arg;
	struct fs_file *f = r->f;
	const struct fs_window *w;
	uint64_t missing;
	int err = 0;

	read_forget(r);
	if (!file_is_in(f, &r->op))
		return FS_MOVED;
	pthread_mutex_lock(&f->lock);
	r->size = f->size;
	w = file_window(f, r->widx);
	missing = w ? r->want & ~w->present : r->want;
	if (missing)
		err = read_tree(tx, r, missing);
	if (!err && w)
		read_buffered(r, w);
	pthread_mutex_unlock(&f->lock);
	return err;
}

static int read_gather(struct read_op *r)
{
	int err;

	r->in_mem = 0;
	err = file_read_op(r->f, &r->op);
	if (err)
		read_forget(r);
	return err;
}

/* A block as it lies in the log, which is made whole. */
static int read_verify(struct read_op *r, unsigned int i, uint8_t *block)
{
	uint16_t len = r->m.len[i];

	if (item_stored_matches(&r->m, i, block)) {
		memset(block + len, 0, FS_BLOCK_BYTES - (size_t)len);
		return 0;
	}
	fs_tell_damage(__atomic_load_n(&r->f->fv, __ATOMIC_ACQUIRE), r->f->ino,
		       r->m.pos[i], -EFSBADCRC, "contents");
	return -EFSBADCRC;
}

/* Bytes [from, to) of the window, to buf. bounce has room for two blocks: what
 * is not asked for whole is read there, or its sum could not be checked. */
static int read_fetch(struct read_op *r, uint32_t from, uint32_t to,
		      uint8_t *buf, uint8_t *bounce)
{
	struct log_range ranges[WINDOW_BLOCKS];
	size_t n = 0;
	int err = 0;

	for (uint64_t m = r->in_log; m; m &= m - 1) {
		uint32_t start = (uint32_t)__builtin_ctzll(m) * FS_BLOCK_BYTES;
		bool whole = start >= from && start + FS_BLOCK_BYTES <= to;
		uint8_t *at;

		if (whole)
			at = buf + (start - from);
		else
			at = start < from ? bounce : bounce + FS_BLOCK_BYTES;
		ranges[n++] = (struct log_range){
			.pos = r->m.pos[start / FS_BLOCK_BYTES],
			.buf = at,
			.len = r->m.len[start / FS_BLOCK_BYTES]
		};
	}
	if (n)
		err = log_readv(r->op.fv->fs->log, ranges, n);
	if (err == -ENXIO)
		err = -EFSCORRUPTED;
	if (err == -EFSCORRUPTED)
		fs_tell_damage(r->op.fv, r->f->ino, ranges[0].pos, err,
			       "contents");
	n = 0;
	for (uint64_t m = r->in_log; m && !err; m &= m - 1)
		err = read_verify(r, (unsigned int)__builtin_ctzll(m),
				  ranges[n++].buf);
	return err;
}

static void read_copy(struct read_op *r, uint32_t from, uint32_t to,
		      uint8_t *buf, const uint8_t *bounce)
{
	for (uint32_t at = from; at < to;) {
		uint32_t i = at / FS_BLOCK_BYTES, in = at % FS_BLOCK_BYTES;
		uint32_t n = FS_BLOCK_BYTES - in;
		uint8_t *out = buf + (at - from);

		if (n > to - at)
			n = to - at;
		if (r->in_mem >> i & 1) {
			memcpy(out, r->blk[i]->data + in, n);
		} else if (r->in_log >> i & 1) {
			if (n < FS_BLOCK_BYTES)
				memcpy(out,
				       bounce +
					       (i * FS_BLOCK_BYTES < from
							? 0
							: FS_BLOCK_BYTES) +
					       in,
				       n);
		} else {
			memset(out, 0, n);
			if (r->is_inline && !i && in < INLINE_FILE_MAX)
				memcpy(out, r->bytes + in,
				       min_u64(n, INLINE_FILE_MAX - in));
		}
		at += n;
	}
}

static uint64_t want_bits(uint32_t from, uint32_t to)
{
	unsigned int first = from / FS_BLOCK_BYTES;
	unsigned int end = (to + FS_BLOCK_BYTES - 1) / FS_BLOCK_BYTES;
	uint64_t below_end = end < 64 ? ((uint64_t)1 << end) - 1 : UINT64_MAX;

	return below_end & ~(((uint64_t)1 << first) - 1);
}

static struct store *file_store(struct fs_file *f)
{
	return __atomic_load_n(&f->fv, __ATOMIC_ACQUIRE)->fs->store;
}

/* At most to the end of a window. */
static int read_part(struct read_op *r, uint64_t off, uint8_t *buf, size_t len,
		     size_t *got_out)
{
	uint8_t bounce[2 * FS_BLOCK_BYTES];
	uint32_t from = (uint32_t)(off % WINDOW_BYTES), to;
	struct store *store = file_store(r->f);
	unsigned int pin;
	int err;

	r->widx = off / WINDOW_BYTES;
	to = (uint32_t)min_u64(from + len, WINDOW_BYTES);
	r->want = want_bits(from, to);
	pin = store_pin(store);
	err = read_gather(r);
	if (err) {
		store_unpin(store, pin);
		return err;
	}
	if (off >= r->size)
		to = from;
	else
		to = (uint32_t)min_u64(to, r->size - off + from);
	if (to > from) {
		r->in_log &= want_bits(from, to);
		err = read_fetch(r, from, to, buf, bounce);
		if (!err)
			read_copy(r, from, to, buf, bounce);
	}
	store_unpin(store, pin);
	read_forget(r);
	*got_out = to - from;
	return err;
}

int fs_read(struct fs_file *f, uint64_t off, void *buf, size_t len,
	    size_t *got_out)
{
	struct read_op r = { .op = { .fn = read_fn, .ino = f->ino }, .f = f };
	size_t done = 0;

	if (off > FS_FILE_MAX_BYTES) {
		*got_out = 0;
		return 0;
	}
	while (done < len) {
		size_t got, want = min_u64(len - done,
					   WINDOW_BYTES -
						   (off + done) % WINDOW_BYTES);
		int err = read_part(&r, off + done, (uint8_t *)buf + done, want,
				    &got);

		if (err)
			return err;
		done += got;
		if (got < want)
			break;
	}
	*got_out = done;
	return 0;
}

static int load_gathered(struct read_op *r, uint32_t from, struct lbuf **out)
{
	struct lbuf *b = lbuf_new(FS_BLOCK_BYTES);
	int err;

	if (!b)
		return -ENOMEM;
	err = read_fetch(r, from, from + FS_BLOCK_BYTES, b->data, NULL);
	if (err) {
		lbuf_put(b);
		return err;
	}
	read_copy(r, from, from + FS_BLOCK_BYTES, b->data, NULL);
	*out = b;
	return 0;
}

int file_load_block(struct fs_file *f, uint64_t blk, struct lbuf **out)
{
	struct read_op r = { .op = { .fn = read_fn, .ino = f->ino }, .f = f };
	uint32_t from = (uint32_t)(blk % WINDOW_BLOCKS) * FS_BLOCK_BYTES;
	struct store *store = file_store(f);
	unsigned int pin = store_pin(store);
	int err;

	*out = NULL;
	r.widx = blk / WINDOW_BLOCKS;
	r.want = want_bits(from, from + FS_BLOCK_BYTES);
	err = read_gather(&r);
	if (!err && (r.in_mem | r.in_log | r.is_inline))
		err = load_gathered(&r, from, out);
	store_unpin(store, pin);
	read_forget(&r);
	return err;
}

/* --- changing --- */

/* Writers of contents pass a gate that a flip closes for a moment. */
void fs_gate_enter(struct fs *fs)
{
	for (;;) {
		__atomic_add_fetch(&fs->writers, 1, __ATOMIC_SEQ_CST);
		if (!__atomic_load_n(&fs->parked, __ATOMIC_SEQ_CST))
			return;
		fs_gate_leave(fs);
		pthread_mutex_lock(&fs->park_lock);
		while (__atomic_load_n(&fs->parked, __ATOMIC_SEQ_CST))
			pthread_cond_wait(&fs->park_cond, &fs->park_lock);
		pthread_mutex_unlock(&fs->park_lock);
	}
}

void fs_gate_leave(struct fs *fs)
{
	if (__atomic_sub_fetch(&fs->writers, 1, __ATOMIC_SEQ_CST) ||
	    !__atomic_load_n(&fs->parked, __ATOMIC_SEQ_CST))
		return;
	pthread_mutex_lock(&fs->park_lock);
	pthread_cond_broadcast(&fs->park_cond);
	pthread_mutex_unlock(&fs->park_lock);
}

void file_write_lock(struct fs_file *f)
{
	fs_gate_enter(__atomic_load_n(&f->fv, __ATOMIC_ACQUIRE)->fs);
	pthread_mutex_lock(&f->write_lock);
}

void file_write_unlock(struct fs_file *f)
{
	pthread_mutex_unlock(&f->write_lock);
	fs_gate_leave(__atomic_load_n(&f->fv, __ATOMIC_ACQUIRE)->fs);
}

/* A file that was inline has its block in the buffer while it is dirty. */
static bool lacks_head(struct fs_file *f, const struct change_set *c)
{
	const struct fs_window *w;

	if (!f->is_inline || !f->cut || !c->drop_from || c->head)
		return false;
	if (c->n && !c->first && (c->pos || c->bufs[0]))
		return false;
	if (c->nwhole && !c->whole_first)
		return false;
	w = file_window(f, 0);
	return !w || !(w->present & 1);
}

static int reserve_windows(struct fs_file *f, const struct change_set *c)
{
	int err = 0;

	if (c->head)
		err = file_reserve_window(f, 0);
	for (uint64_t b = c->first; !err && b < c->first + c->n;
	     b = (b / WINDOW_BLOCKS + 1) * WINDOW_BLOCKS)
		err = file_reserve_window(f, b / WINDOW_BLOCKS);
	if (err)
		file_drop_empty_windows(f);
	return err;
}

/* In the hold of the locks in which the file gets them, so that no sweep is
 * between. After an error their bytes are in the log for nothing. */
static int append_whole(struct fs *fs, struct change_set *c)
{
	for (size_t k = 0; k < c->nwhole; k++) {
		struct whole_window *w = &c->whole[k];
		uint64_t pos;
		int err = log_append(fs->log, LOG_BULK, FS_BLOCK_BYTES, &w->buf,
				     1, &pos);

		if (err)
			return err;
		w->buf = NULL;
		for (unsigned int i = 0; i < WINDOW_BLOCKS; i++)
			w->pos[i] = pos + (uint64_t)i * FS_BLOCK_BYTES;
		count_appended(fs, WINDOW_BYTES);
	}
	return 0;
}

/* With the locks; cannot fail. Takes over the buffers. */
static void change_put(struct fs_file *f, struct change_set *c)
{
	if (c->drop_from != CUT_NONE) {
		uint64_t cut = c->drop_from * FS_BLOCK_BYTES;

		file_drop_blocks_from(f, c->drop_from);
		f->cut = min_u64(f->cut, cut);
	}
	if (c->head)
		file_set_block(f, 0, c->head);
	c->head = NULL;
	if (c->pos)
		file_set_stored(f, c->first, c->pos, c->sum, c->len,
				(unsigned int)c->n);
	for (size_t k = 0; k < c->nwhole; k++)
		file_set_stored(f, (c->whole_first + k) * WINDOW_BLOCKS,
				c->whole[k].pos, c->whole[k].sum, NULL,
				WINDOW_BLOCKS);
	for (size_t i = 0; i < c->n && c->bufs; i++) {
		if (c->bufs[i])
			file_set_block(f, c->first + i, c->bufs[i]);
		c->bufs[i] = NULL;
	}
	f->size = c->size;
	f->seq++;
	file_mark_dirty(f, fs_now(f->fv->fs));
}

int file_change(struct change_set *c)
{
	struct fs_file *f = c->f;
	struct fs_view *fv;
	int err;

	for (;;) {
		err = file_lock_to_change(f, &fv);
		if (err)
			return err;
		if (!lacks_head(f, c))
			break;
		file_unlock(f, fv);
		err = file_load_block(f, 0, &c->head);
		if (err)
			return err;
	}
	err = reserve_windows(f, c);
	if (!err) {
		err = append_whole(fv->fs, c);
		if (err)
			file_drop_empty_windows(f);
	}
	if (!err) {
		change_put(f, c);
		if (fv->is_working) {
			__atomic_add_fetch(&fv->fs->clock, 1, __ATOMIC_SEQ_CST);
			fs_track(fv->fs, f->ino);
		}
		/* Without memory they go out later. */
		if (f->ndirty >= WINDOW_BLOCKS)
			(void)file_append(f, LOG_BULK, true);
	}
	file_unlock(f, fv);
	return err;
}

static void change_release(struct change_set *c)
{
	lbuf_put(c->head);
	for (size_t i = 0; i < c->n; i++)
		lbuf_put(c->bufs[i]);
	free(c->bufs);
	for (size_t k = 0; k < c->nwhole; k++)
		lbuf_put(c->whole[k].buf);
	free(c->whole);
}

/* --- set-id bits --- */

struct priv_op {
	struct fs_op op;
	struct fs_file *f;
	bool bits, caps; /* it has them */
};

static int priv_fn(struct vtx *tx, void *arg)
{
	struct priv_op *p = arg;
	struct item_attr a;
	int err;

	if (!file_is_in(p->f, &p->op))
		return FS_MOVED;
	err = tx_get_attr(tx, p->op.ino, &a);
	if (err)
		return err;
	p->bits = a.mode & S_ISUID || (a.mode & S_ISGID && a.mode & S_IXGRP);
	err = tx_has_capability(tx, p->op.fv->fs, p->op.ino);
	p->caps = err == 1;
	if (err == 1)
		err = 0;
	/* Whoever gives it such bits again needs the lock exclusive. */
	if (!err && !p->bits && !p->caps)
		__atomic_store_n(&p->f->priv_clean, true, __ATOMIC_RELAXED);
	return err;
}

int fs_drop_priv(struct fs_file *f, bool fsetid)
{
	struct priv_op p = { .op = { .fn = priv_fn, .ino = f->ino }, .f = f };
	unsigned int set = fsetid ? FS_SET_KILL_CAPS : FS_SET_KILL_PRIV;
	struct fs_attr none = { 0 };
	int err;

	if (__atomic_load_n(&f->priv_clean, __ATOMIC_RELAXED))
		return 0;
	err = file_read_op(f, &p.op);
	if (err || (!p.caps && (fsetid || !p.bits)))
		return err;
	err = fs_file_setattr(f, set, &none, NULL);
	return err ? err : 1;
}

/* --- writing --- */

/* A block that will hold data from byte `from` to `to`; the rest is what is
 * there already. */
static int prepare_block(struct fs_file *f, uint64_t blk, uint32_t from,
			 uint32_t to, const uint8_t *data, struct lbuf **out)
{
	struct lbuf *old = NULL, *b;
	int err = 0;

	if ((from || to < FS_BLOCK_BYTES) && blk * FS_BLOCK_BYTES < f->size)
		err = file_load_block(f, blk, &old);
	if (err)
		return err;
	b = lbuf_new(FS_BLOCK_BYTES);
	if (!b) {
		lbuf_put(old);
		return -ENOMEM;
	}
	if (old)
		memcpy(b->data, old->data, FS_BLOCK_BYTES);
	else if (from || to < FS_BLOCK_BYTES)
		memset(b->data, 0, FS_BLOCK_BYTES);
	if (data)
		memcpy(b->data + from, data, to - from);
	else
		memset(b->data + from, 0, to - from);
	lbuf_put(old);
	*out = b;
	return 0;
}

static int prepare_window(struct whole_window *w, const uint8_t *data)
{
	w->buf = lbuf_new(WINDOW_BYTES);
	if (!w->buf)
		return -ENOMEM;
	for (unsigned int i = 0; i < WINDOW_BLOCKS; i++) {
		uint8_t *block = w->buf->data + i * FS_BLOCK_BYTES;

		memcpy(block, data + i * FS_BLOCK_BYTES, FS_BLOCK_BYTES);
		w->sum[i] = item_block_sum(block);
	}
	return 0;
}

/* What is written of whole windows. */
static int prepare_whole(struct change_set *c, uint64_t off, const uint8_t *buf,
			 size_t len)
{
	uint64_t first = (off + WINDOW_BYTES - 1) / WINDOW_BYTES;
	uint64_t end = (off + len) / WINDOW_BYTES;
	int err = 0;

	if (first >= end)
		return 0;
	c->whole = calloc((size_t)(end - first), sizeof(*c->whole));
	if (!c->whole)
		return -ENOMEM;
	c->whole_first = first;
	while (!err && first + c->nwhole < end) {
		uint64_t at = (first + c->nwhole) * WINDOW_BYTES;

		err = prepare_window(&c->whole[c->nwhole++], buf + (at - off));
	}
	return err;
}

static bool is_whole(const struct change_set *c, uint64_t blk)
{
	uint64_t w = blk / WINDOW_BLOCKS;

	return w >= c->whole_first && w - c->whole_first < c->nwhole;
}

static int write_prepare(struct change_set *c, uint64_t off, const uint8_t *buf,
			 size_t len)
{
	uint64_t end = off + len;
	int err = buf ? prepare_whole(c, off, buf, len) : 0;

	if (err)
		return err;

	c->first = off / FS_BLOCK_BYTES;
	c->n = (size_t)((end - 1) / FS_BLOCK_BYTES - c->first + 1);
	c->bufs = calloc(c->n, sizeof(struct lbuf *));
	if (!c->bufs) {
		c->n = 0;
		return -ENOMEM;
	}
	for (size_t i = 0; i < c->n && !err; i++) {
		uint64_t start = (c->first + i) * FS_BLOCK_BYTES;
		uint32_t from = start < off ? (uint32_t)(off - start) : 0;
		uint32_t to = (uint32_t)min_u64(end - start, FS_BLOCK_BYTES);

		if (is_whole(c, c->first + i))
			continue;
		err = prepare_block(c->f, c->first + i, from, to,
				    buf ? buf + (start + from - off) : NULL,
				    &c->bufs[i]);
	}
	return err;
}

/* Where: what the offset means, or that nothing is written past the end. */
enum write_where { WRITE_AT, WRITE_APPEND, WRITE_WITHIN };

/* Gives the room for len bytes back, which was taken. */
static int write_file(struct fs_file *f, uint64_t off, const void *buf,
		      size_t len, enum write_where where)
{
	struct fs *fs = __atomic_load_n(&f->fv, __ATOMIC_ACQUIRE)->fs;
	struct change_set c = { .f = f, .drop_from = CUT_NONE };
	const size_t room = len;
	int err = 0;

	file_write_lock(f);
	if (where == WRITE_APPEND)
		off = f->size;
	if (where == WRITE_WITHIN)
		len = off < f->size ? min_u64(len, f->size - off) : 0;
	if (off > FS_FILE_MAX_BYTES || len > FS_FILE_MAX_BYTES - off)
		err = -EFBIG;
	if (!err && len)
		err = write_prepare(&c, off, buf, len);
	c.size = max_u64(f->size, off + len);
	if (!err && len)
		err = file_change(&c);
	fs_give_room(fs, room);
	file_write_unlock(f);
	change_release(&c);
	/* A failure stops the log, and is met by whoever makes this durable. */
	if (!err)
		(void)fs_balance(__atomic_load_n(&f->fv, __ATOMIC_ACQUIRE));
	return err;
}

int fs_write(struct fs_file *f, const struct fs_cred *cred, uint64_t off,
	     const void *buf, size_t len, bool append)
{
	struct fs *fs = __atomic_load_n(&f->fv, __ATOMIC_ACQUIRE)->fs;
	int err;

	if (!len)
		return 0;
	err = fs_take_room(fs, len, false);
	if (err)
		return err;
	if (cred)
		err = fs_drop_priv(f, cred->fsetid);
	if (err < 0) {
		fs_give_room(fs, len);
		return err;
	}
	return write_file(f, off, buf, len, append ? WRITE_APPEND : WRITE_AT);
}

int file_zero(struct fs_file *f, uint64_t off, size_t len)
{
	struct fs *fs = __atomic_load_n(&f->fv, __ATOMIC_ACQUIRE)->fs;
	int err = fs_take_room(fs, len, false);

	return err ? err : write_file(f, off, NULL, len, WRITE_WITHIN);
}

/* Under the write_lock: the new end, and the block that it goes through. */
static int prepare_size(struct change_set *c, bool only_grow)
{
	struct fs_file *f = c->f;
	uint64_t size = c->size;
	struct lbuf *b = NULL;
	int err = 0;

	if (only_grow && size < f->size) {
		c->size = f->size;
	} else if (size < f->size) {
		c->drop_from = (size + FS_BLOCK_BYTES - 1) / FS_BLOCK_BYTES;
		if (size % FS_BLOCK_BYTES)
			err = file_load_block(f, size / FS_BLOCK_BYTES, &b);
		lbuf_put(b);
		if (!err && b)
			err = write_prepare(c, size, NULL,
					    FS_BLOCK_BYTES -
						    size % FS_BLOCK_BYTES);
	}
	return err;
}

static int set_size(struct fs_file *f, uint64_t size, bool only_grow)
{
	struct fs *fs = __atomic_load_n(&f->fv, __ATOMIC_ACQUIRE)->fs;
	struct change_set c = { .f = f, .size = size, .drop_from = CUT_NONE };
	/* Cut in the middle of a block, that block is written anew. */
	bool cuts = size % FS_BLOCK_BYTES;
	int err;

	if (size > FS_FILE_MAX_BYTES)
		return -EFBIG;
	err = cuts ? fs_take_room(fs, FS_BLOCK_BYTES, true)
		   : fs_take_room_to_free(fs);
	if (err)
		return err;
	file_write_lock(f);
	err = prepare_size(&c, only_grow);
	if (!err)
		err = file_change(&c);
	if (cuts)
		fs_give_room(fs, FS_BLOCK_BYTES);
	else
		fs_give_room_to_free(fs);
	file_write_unlock(f);
	change_release(&c);
	return err;
}

int fs_truncate(struct fs_file *f, uint64_t size)
{
	return set_size(f, size, false);
}

int file_grow(struct fs_file *f, uint64_t size)
{
	return size > __atomic_load_n(&f->size, __ATOMIC_RELAXED)
		       ? set_size(f, size, true)
		       : 0;
}
