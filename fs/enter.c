/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * enter.c - bringing what is buffered into the tree: size, times and extents
 * of a file in one step. Also the bounds of what may be buffered.
 *
 * Blocks are appended to the log first; that may be repeated, the tree's update
 * that refers to them happens once. What went to the bulk head is flushed
 * before the next record (store_require_bulk).
 */
#include "fs/fs_internal.h"
#include "txn/pace.h"

static bool wants_inline(struct fs_file *f)
{
	const struct fs_window *w;

	if (!f->size || f->size > INLINE_FILE_MAX || f->nwin != 1)
		return false;
	w = f->win[0];
	return !w->idx && w->present == 1 && !w->appended;
}

/* What is past the cut, and the window that the cut goes through when that is
 * not in the buffer. */
static int enter_cut(struct vtx *tx, struct fs_file *f, uint64_t *nblocks)
{
	const struct fs_window *w;
	uint64_t void_from, idx;
	struct item_window m;
	unsigned int before;
	int err;

	if (f->cut == CUT_NONE)
		return 0;
	void_from = (f->cut + WINDOW_BYTES - 1) / WINDOW_BYTES;
	err = extents_remove(tx, f->ino, void_from, UINT64_MAX, nblocks);
	idx = f->cut / WINDOW_BYTES;
	w = file_window(f, idx);
	if (err || idx == void_from || (w && w->present))
		return err;
	err = fmap_load(tx, f->ino, idx, &m);
	before = bits_count(m.mask);
	if (err || !before)
		return err;
	fmap_cut(&m, idx, f->cut);
	if (bits_count(m.mask) == before)
		return 0;
	*nblocks -= before - bits_count(m.mask);
	return fmap_store(tx, f->ino, idx, &m);
}

static int enter_window(struct vtx *tx, struct fs_file *f,
			const struct fs_window *w, uint64_t *nblocks)
{
	struct item_window m = { .mask = 0 };
	unsigned int before = 0;
	int err;

	if (!w->present)
		return 0;
	if (f->cut == CUT_NONE || w->idx * WINDOW_BYTES < f->cut) {
		err = fmap_load(tx, f->ino, w->idx, &m);
		if (err)
			return err;
		before = bits_count(m.mask);
		fmap_cut(&m, w->idx, f->cut);
	}
	for (unsigned int i = 0; i < WINDOW_BLOCKS; i++) {
		if (!(w->present >> i & 1))
			continue;
		m.pos[i] = w->pos[i];
		m.sum[i] = w->sum[i];
		m.len[i] = w->len[i];
	}
	m.mask |= w->present;
	*nblocks += bits_count(m.mask);
	*nblocks -= before;
	return fmap_store(tx, f->ino, w->idx, &m);
}

static int enter_extents(struct vtx *tx, struct fs_file *f, struct item_attr *a)
{
	int err = 0;

	if (a->flags & ATTR_FLAG_INLINE) {
		err = inline_remove(tx, f->ino);
		a->flags &= ~(uint32_t)ATTR_FLAG_INLINE;
	} else {
		err = enter_cut(tx, f, &a->blocks);
	}
	for (size_t i = 0; i < f->nwin && !err; i++)
		err = enter_window(tx, f, f->win[i], &a->blocks);
	return err;
}

static int enter_inline(struct vtx *tx, struct fs_file *f, struct item_attr *a)
{
	struct key key = KEY(f->ino, ITEM_KIND_INLINE, 0);
	int err = 0;

	if (!(a->flags & ATTR_FLAG_INLINE) && a->blocks)
		err = extents_remove(tx, f->ino, 0, UINT64_MAX, &a->blocks);
	a->flags |= ATTR_FLAG_INLINE;
	a->blocks = 0;
	if (!err)
		err = vtx_put(tx, &key, f->win[0]->blk[0]->data, f->size);
	return err;
}

int tx_enter(struct vtx *tx, struct fs_op *op, struct fs_file *f,
	     enum log_head head)
{
	struct item_attr a;
	int err;

	if (!f->dirty)
		return 0;
	err = tx_get_attr(tx, f->ino, &a);
	if (err)
		return err == -ENOENT ? -EFSCORRUPTED : err;
	f->enter_inline = wants_inline(f);
	if (f->enter_inline) {
		err = enter_inline(tx, f, &a);
	} else {
		err = file_append(f, head, false);
		if (!err)
			err = enter_extents(tx, f, &a);
	}
	if (err)
		return err;
	a.size = f->size;
	a.mtime_ns = f->mtime_ns;
	if (f->ctime_ns > a.ctime_ns)
		a.ctime_ns = f->ctime_ns;
	a.data_version = store_new_obj(f->fv->fs->store);
	return tx_put_attr(tx, op, f->ino, &a);
}

void file_entered(struct fs_file *f)
{
	if (!f->dirty)
		return;
	if (f->bulk_end)
		store_require_bulk(f->fv->fs->store, f->bulk_end);
	f->is_inline = f->enter_inline;
	file_discard(f);
}

/* --- one file: others' are written meanwhile --- */

struct enter_file_op {
	struct fs_op op;
	struct fs_file *f;
};

/* Where so many bytes go; with room in the small head, until it is given back
 * by room_used(). */
static enum log_head choose_head(struct fs *fs, uint64_t bytes)
{
	return bytes <= SMALL_MAX_BYTES && log_try_room(fs->log, bytes, LOG_USE)
		       ? LOG_SMALL
		       : LOG_BULK;
}

static void room_used(struct fs *fs, enum log_head head, uint64_t bytes)
{
	if (head == LOG_SMALL)
		log_give_room(fs->log, bytes, 0);
}

static int enter_file_fn(struct vtx *tx, void *arg)
{
	struct enter_file_op *e = arg;
	struct fs *fs = e->op.fv->fs;
	struct fs_file *f = e->f;
	enum log_head head;
	uint64_t bytes;
	int err;

	if (!file_is_in(f, &e->op))
		return FS_MOVED;
	if (f->gone)
		return 0;
	bytes = f->ndirty * FS_BLOCK_BYTES;
	head = choose_head(fs, bytes);
	err = tx_enter(tx, &e->op, f, head);
	room_used(fs, head, bytes);
	return err;
}

static void enter_file_done(void *arg)
{
	struct enter_file_op *e = arg;

	file_entered(e->f);
}

int file_enter(struct fs_file *f)
{
	struct enter_file_op e = {
		.op = { .fn = enter_file_fn,
			.done = enter_file_done,
			.ino = f->ino,
			.enters = true,
			.beside = &f->lock },
		.f = f,
	};

	if (fs_view_is_read_only(__atomic_load_n(&f->fv, __ATOMIC_ACQUIRE)))
		return 0;
	return file_update_op(f, VIEW_FINISHES | VIEW_WHEN_STOPPED, &e.op);
}

/* --- all files --- */

int tx_enter_all(struct vtx *tx, struct fs_op *op)
{
	struct fs_view *fv = op->fv;
	uint64_t bytes =
		__atomic_load_n(&fv->fs->dirty_bytes, __ATOMIC_RELAXED);
	enum log_head head = choose_head(fv->fs, bytes);
	int err = 0;

	/* Listing a file needs the data_lock shared: nobody does now. */
	for (struct fs_file *f = fv->dirty_first; f && !err; f = f->dirty_next)
		err = tx_enter(tx, op, f, head);
	room_used(fv->fs, head, bytes);
	return err;
}

void fv_entered_all(struct fs_view *fv)
{
	while (fv->dirty_first)
		file_entered(fv->dirty_first);
}

/* *small_left: what may still go to the small head. It has to have room for all
 * of the file as it is now: writers go on between two files. */
static int append_one(struct fs_file *f, uint64_t *small_left)
{
	struct fs_view *fv = file_lock(f);
	uint64_t bytes = f->ndirty * FS_BLOCK_BYTES;
	enum log_head head = LOG_BULK;
	int err = 0;

	if (bytes <= *small_left)
		head = choose_head(fv->fs, bytes);
	if (head == LOG_SMALL)
		*small_left -= bytes;
	if (f->dirty && !f->gone && !wants_inline(f))
		err = file_append(f, head, false);
	room_used(fv->fs, head, bytes);
	file_unlock(f, fv);
	return err;
}

/* Hand what is dirty now to the log, file by file: summing all of it is more
 * than a writer may wait for. Unless it is to stay in memory, what that makes
 * goes to the host at once: it would be left to the writers. */
static int append_all(struct fs_view *fv, enum enter_how how,
		      size_t *nfiles_out)
{
	uint64_t dirty =
		__atomic_load_n(&fv->fs->dirty_bytes, __ATOMIC_RELAXED);
	uint64_t small_left = dirty <= SMALL_MAX_BYTES ? SMALL_MAX_BYTES : 0;
	size_t n = fv_count_dirty(fv);
	struct fs_file *f = NULL;
	int err = 0;

	*nfiles_out = n;
	while (n-- && !err) {
		f = fv_next_dirty(fv, f);
		if (!f)
			break;
		err = append_one(f, &small_left);
		pace();
		if (!err && how != ENTER_IN_MEMORY &&
		    log_unwritten_bytes(fv->fs->log, LOG_BULK) >=
			    WRITE_BEHIND_BYTES)
			err = log_write_some(fv->fs->log, LOG_BULK);
	}
	fs_file_put(f);
	return err;
}

/* So many of the files that are dirty for the longest time. */
static int enter_first(struct fs_view *fv, size_t n)
{
	int err = 0;

	while (!err && n--) {
		struct fs_file *f = fv_next_dirty(fv, NULL);

		if (!f)
			break;
		err = file_enter(f);
		/* A switch took it meanwhile: it is not dirty any more. */
		if (err == -ESTALE)
			err = 0;
		fs_file_put(f);
		pace();
	}
	return err;
}

int fv_enter_all(struct fs_view *fv, enum enter_how how)
{
	struct log *log = fv->fs->log;
	uint64_t flushed;
	size_t nfiles;
	int err;

	err = append_all(fv, how, &nfiles);
	if (err || !nfiles)
		return err;
	if (how == ENTER_FLUSHED)
		err = log_flush(log, LOG_BULK, &flushed);
	else if (how == ENTER_WRITTEN)
		err = log_write_out(log, LOG_BULK);
	/* Files that become dirty meanwhile are not waited for. */
	return err ? err : enter_first(fv, nfiles);
}

/* --- bounds --- */

/* What is dirty for the longest time, as much as is worth a flush: one for each
 * small file would make a large import wait for the device again and again. */
static int enter_oldest(struct fs_view *fv)
{
	struct fs *fs = fv->fs;
	struct fs_file *f = NULL;
	uint64_t start = log_tail(fs->log, LOG_BULK), flushed, small_left = 0;
	size_t n = 0;
	int err = 0;

	do {
		f = fv_next_dirty(fv, f);
		if (!f)
			break;
		err = append_one(f, &small_left);
		n++;
	} while (!err && n < fv_count_dirty(fv) &&
		 log_tail(fs->log, LOG_BULK) - start < ENTER_BYTES);
	fs_file_put(f);
	/* So that a later fsync of another file does not wait for these. */
	if (!err)
		err = log_flush(fs->log, LOG_BULK, &flushed);
	return err ? err : enter_first(fv, n);
}

static bool is_over(struct fs *fs)
{
	return __atomic_load_n(&fs->dirty_bytes, __ATOMIC_RELAXED) >
		       fs->buffer_bytes ||
	       __atomic_load_n(&fs->pending_bytes, __ATOMIC_RELAXED) >
		       PENDING_MAX_BYTES;
}

/* Hand some of what was appended to the host. Not all of it: most may be
 * somebody else's, who is writing it out just now. */
static int write_out_some(struct fs *fs)
{
	uint64_t bytes = log_unwritten_bytes(fs->log, LOG_BULK);

	if (bytes >= UNWRITTEN_MAX_BYTES)
		return log_write_out(fs->log, LOG_BULK);
	return bytes >= WRITE_OUT_BYTES ? log_write_some(fs->log, LOG_BULK) : 0;
}

int fs_balance(struct fs_view *fv)
{
	struct fs *fs = fv->fs;
	int err = write_out_some(fs);

	while (!err && is_over(fs) && fv->dirty_first)
		err = enter_oldest(fv);
	if (__atomic_load_n(&fs->since_checkpoint, __ATOMIC_RELAXED) >=
	    CHECKPOINT_BYTES)
		fs_thread_kick(fs);
	return err;
}

void fs_write_behind(struct fs *fs)
{
	pace_begin();
	(void)log_write_behind(fs->log, LOG_BULK, WRITE_BEHIND_BYTES);
	pace_end();
}

bool fs_is_behind(struct fs *fs)
{
	return log_unwritten_bytes(fs->log, LOG_BULK) >= WRITE_BEHIND_BYTES;
}

/* What a change of so many bytes may take of each head. */
static uint64_t small_room(uint64_t bytes)
{
	uint64_t windows = bytes / WINDOW_BYTES + 3;

	return FILE_CLAIM_BYTES + windows * WINDOW_CLAIM_BYTES;
}

static uint64_t bulk_room(uint64_t bytes)
{
	return round_up_u64(bytes, FS_BLOCK_BYTES) + 2 * FS_BLOCK_BYTES;
}

/* Whoever finds none looks for space once. */
static int take_room(struct fs *fs, uint64_t small, uint64_t bulk,
		     enum log_use use)
{
	int err = log_take_room(fs->log, small, bulk, use);

	if (err == -ENOSPC && fs_find_space(fs))
		err = log_take_room(fs->log, small, bulk, use);
	return err;
}

int fs_take_room(struct fs *fs, uint64_t bytes, bool frees)
{
	return take_room(fs, small_room(bytes), bulk_room(bytes),
			 frees ? LOG_USE_TO_FREE : LOG_USE);
}

void fs_give_room(struct fs *fs, uint64_t bytes)
{
	log_give_room(fs->log, small_room(bytes), bulk_room(bytes));
}

int fs_take_room_to_free(struct fs *fs)
{
	return take_room(fs, small_room(0), 0, LOG_USE_TO_FREE);
}

void fs_give_room_to_free(struct fs *fs)
{
	log_give_room(fs->log, small_room(0), 0);
}
