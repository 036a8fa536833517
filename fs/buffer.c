/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * buffer.c - the table of files in use and the blocks that were written to
 * them and are not in the tree yet.
 *
 * A file is in the table while somebody uses it or while it is dirty. Blocks
 * in the buffer are never changed in place: a write puts new ones, so readers
 * copy without locks.
 */
#include "fs/fs_internal.h"

#include "txn/sum.h"

/* --- locks --- */

struct fs_view *file_lock(struct fs_file *f)
{
	for (;;) {
		struct fs_view *fv = __atomic_load_n(&f->fv, __ATOMIC_ACQUIRE);

		view_lock_data(fv->view);
		if (__atomic_load_n(&f->fv, __ATOMIC_ACQUIRE) == fv) {
			pthread_mutex_lock(&f->lock);
			return fv;
		}
		view_unlock_data(fv->view);
	}
}

void file_unlock(struct fs_file *f, struct fs_view *fv)
{
	pthread_mutex_unlock(&f->lock);
	view_unlock_data(fv->view);
}

int file_lock_to_change(struct fs_file *f, struct fs_view **fv_out)
{
	struct fs_view *fv = file_lock(f);
	int err = 0;

	if (f->stale)
		err = -ESTALE;
	else if (fs_view_is_read_only(fv) || store_failed(fv->fs->store, NULL))
		err = -EROFS;
	else if (f->gone)
		err = -ENOENT;
	if (err)
		file_unlock(f, fv);
	else
		*fv_out = fv;
	return err;
}

int file_read_op(struct fs_file *f, struct fs_op *op)
{
	int err;

	do {
		err = fv_read(__atomic_load_n(&f->fv, __ATOMIC_ACQUIRE), op);
	} while (err == FS_MOVED);
	return err;
}

int file_update_op(struct fs_file *f, unsigned int flags, struct fs_op *op)
{
	int err;

	do {
		err = fv_update(__atomic_load_n(&f->fv, __ATOMIC_ACQUIRE),
				flags, op);
	} while (err == FS_MOVED);
	return err == -EROFS && fs_file_is_stale(f) ? -ESTALE : err;
}

/* --- the table --- */

static struct fs_file **bucket(struct fs_view *fv, uint64_t ino)
{
	return &fv->buckets[XXH3_64bits(&ino, sizeof(ino)) &
			    (fv->nbuckets - 1)];
}

/* Larger when it is full; without memory it stays as it is and gets slower. */
static void table_grow(struct fs_view *fv)
{
	size_t n = fv->nbuckets * 2;
	struct fs_file **old = fv->buckets;
	struct fs_file **buckets = calloc(n, sizeof(struct fs_file *));
	size_t nold = fv->nbuckets;

	if (!buckets)
		return;
	fv->buckets = buckets;
	fv->nbuckets = n;
	for (size_t i = 0; i < nold; i++) {
		struct fs_file *f = old[i];

		while (f) {
			struct fs_file *next = f->hash_next;
			struct fs_file **b = bucket(fv, f->ino);

			f->hash_next = *b;
			*b = f;
			f = next;
		}
	}
	free(old);
}

static void table_add(struct fs_view *fv, struct fs_file *f)
{
	struct fs_file **b;

	if (fv->nfiles >= fv->nbuckets)
		table_grow(fv);
	b = bucket(fv, f->ino);
	f->hash_next = *b;
	*b = f;
	f->prev = NULL;
	f->next = fv->first;
	if (f->next)
		f->next->prev = f;
	fv->first = f;
	fv->nfiles++;
}

static void table_remove(struct fs_view *fv, struct fs_file *f)
{
	struct fs_file **p = bucket(fv, f->ino);

	while (*p != f)
		p = &(*p)->hash_next;
	*p = f->hash_next;
	if (f->prev)
		f->prev->next = f->next;
	else
		fv->first = f->next;
	if (f->next)
		f->next->prev = f->prev;
	fv->nfiles--;
}

static struct fs_file *table_find(struct fs_view *fv, uint64_t ino)
{
	struct fs_file *f = *bucket(fv, ino);

	while (f && f->ino != ino)
		f = f->hash_next;
	return f;
}

struct fs_file *file_peek(struct fs_view *fv, uint64_t ino)
{
	struct fs_file *f;

	pthread_mutex_lock(&fv->files_lock);
	f = table_find(fv, ino);
	pthread_mutex_unlock(&fv->files_lock);
	return f;
}

struct fs_file *file_find(struct fs_view *fv, uint64_t ino)
{
	struct fs_file *f;

	view_lock_data(fv->view);
	pthread_mutex_lock(&fv->files_lock);
	f = table_find(fv, ino);
	if (f)
		f->users++;
	pthread_mutex_unlock(&fv->files_lock);
	view_unlock_data(fv->view);
	return f;
}

bool file_is_used(struct fs_view *fv, uint64_t ino)
{
	struct fs_file *f;
	bool used;

	pthread_mutex_lock(&fv->files_lock);
	f = table_find(fv, ino);
	used = f && f->users;
	pthread_mutex_unlock(&fv->files_lock);
	return used;
}

bool file_lacks_caps(struct fs_view *fv, uint64_t ino)
{
	const struct fs_file *f;
	bool lacks;

	view_lock_data(fv->view);
	pthread_mutex_lock(&fv->files_lock);
	f = table_find(fv, ino);
	lacks = f && !f->gone && __atomic_load_n(&f->no_caps, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&fv->files_lock);
	view_unlock_data(fv->view);
	return lacks;
}

struct fs_file *file_new(uint64_t ino)
{
	struct fs_file *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->ino = ino;
	f->cut = CUT_NONE;
	f->users = 1;
	pthread_mutex_init(&f->write_lock, NULL);
	pthread_mutex_init(&f->lock, NULL);
	return f;
}

void file_free(struct fs_file *f)
{
	if (!f)
		return;
	ASSERT(!f->dirty && !f->nwin);
	pthread_mutex_destroy(&f->write_lock);
	pthread_mutex_destroy(&f->lock);
	free(f->win);
	free(f);
}

struct fs_file *file_insert(struct fs_view *fv, struct fs_file *nf)
{
	struct fs_file *f;

	pthread_mutex_lock(&fv->files_lock);
	f = table_find(fv, nf->ino);
	if (f) {
		f->users++;
	} else {
		f = nf;
		__atomic_store_n(&f->fv, fs_view_get(fv), __ATOMIC_RELEASE);
		table_add(fv, f);
	}
	pthread_mutex_unlock(&fv->files_lock);
	if (f != nf)
		file_free(nf);
	return f;
}

void file_set_from_attr(struct fs_file *f, const struct item_attr *a)
{
	f->size = a->size;
	f->is_inline = a->flags & ATTR_FLAG_INLINE;
	f->mtime_ns = a->mtime_ns;
	f->ctime_ns = a->ctime_ns;
	f->orphan = !a->nlink;
}

void file_move(struct fs_file *f, struct fs_view *to)
{
	struct fs_view *from = f->fv;

	ASSERT(!f->dirty && !f->listed && from->is_working);
	/* Both at once: its last user may give it up as soon as it has the new
	 * view, which nobody keeps from changing but this lock. */
	pthread_mutex_lock(&from->files_lock);
	pthread_mutex_lock(&to->files_lock);
	table_remove(from, f);
	f->stale = true;
	__atomic_store_n(&f->fv, fs_view_get(to), __ATOMIC_RELEASE);
	table_add(to, f);
	pthread_mutex_unlock(&to->files_lock);
	pthread_mutex_unlock(&from->files_lock);
}

void fv_each_file(struct fs_view *fv, void (*fn)(void *arg, struct fs_file *f),
		  void *arg)
{
	struct fs_file *next;

	/* Not by the table: that stays as large as it ever had to be. */
	for (struct fs_file *f = fv->first; f; f = next) {
		next = f->next;
		fn(arg, f);
	}
}

struct fs_file *fv_next_dirty(struct fs_view *fv, struct fs_file *after)
{
	struct fs_file *f;

	view_lock_data(fv->view);
	pthread_mutex_lock(&fv->files_lock);
	f = after && after->listed && after->fv == fv ? after->dirty_next
						      : fv->dirty_first;
	if (f)
		f->users++;
	pthread_mutex_unlock(&fv->files_lock);
	view_unlock_data(fv->view);
	fs_file_put(after);
	return f;
}

size_t fv_count_dirty(struct fs_view *fv)
{
	size_t n;

	pthread_mutex_lock(&fv->files_lock);
	n = fv->ndirty_files;
	pthread_mutex_unlock(&fv->files_lock);
	return n;
}

/* --- users --- */

struct open_op {
	struct fs_op op;
	struct fs_file *nf, *f;
};

static int open_fn(struct vtx *tx, void *arg)
{
	struct open_op *o = arg;
	struct item_attr a;
	int err;

	err = tx_get_attr(tx, o->op.ino, &a);
	if (err)
		return err;
	if (!S_ISREG(a.mode))
		return S_ISDIR(a.mode) ? -EISDIR : -EINVAL;
	file_set_from_attr(o->nf, &a);
	o->f = file_insert(o->op.fv, o->nf);
	return 0;
}

int fs_file_open(struct fs_view *fv, uint64_t ino, struct fs_file **out)
{
	struct open_op o = { .op = { .fn = open_fn, .ino = ino } };
	int err;

	o.nf = file_new(ino);
	if (!o.nf)
		return -ENOMEM;
	err = fv_read(fv, &o.op);
	if (err)
		file_free(o.nf);
	else
		*out = o.f;
	return err;
}

struct fs_file *fs_file_get(struct fs_file *f)
{
	struct fs_view *fv;

	for (;;) {
		fv = __atomic_load_n(&f->fv, __ATOMIC_ACQUIRE);
		pthread_mutex_lock(&fv->files_lock);
		if (f->fv == fv)
			break;
		pthread_mutex_unlock(&fv->files_lock);
	}
	f->users++;
	pthread_mutex_unlock(&fv->files_lock);
	return f;
}

/* Give up one user of several. */
static bool put_shared(struct fs_file *f)
{
	struct fs_view *fv = __atomic_load_n(&f->fv, __ATOMIC_ACQUIRE);
	bool done = false;

	pthread_mutex_lock(&fv->files_lock);
	if (f->fv == fv && f->users > 1) {
		f->users--;
		done = true;
	}
	pthread_mutex_unlock(&fv->files_lock);
	return done;
}

enum put_result { PUT_AGAIN, PUT_ORPHAN, PUT_KEPT, PUT_FREE };

/* With what may be the last user. The view's lock exclusive: nobody looks at it
 * without being a user. */
static enum put_result put_last(struct fs_file *f, struct fs_view *fv,
				bool tried)
{
	enum put_result r = PUT_KEPT;

	pthread_mutex_lock(&fv->files_lock);
	if (f->fv != fv) {
		r = PUT_AGAIN;
	} else if (f->users == 1 && f->orphan && !f->gone && !tried &&
		   !fs_view_is_read_only(fv)) {
		r = PUT_ORPHAN;
	} else if (!--f->users && !f->dirty) {
		table_remove(fv, f);
		r = PUT_FREE;
	}
	pthread_mutex_unlock(&fv->files_lock);
	return r;
}

static enum put_result put(struct fs_file *f, bool tried)
{
	struct fs_view *fv;
	enum put_result r;

	if (put_shared(f))
		return PUT_KEPT;
	fv = __atomic_load_n(&f->fv, __ATOMIC_ACQUIRE);
	view_lock_tree(fv->view);
	r = put_last(f, fv, tried);
	view_unlock_tree(fv->view);
	if (r == PUT_FREE) {
		file_free(f);
		fs_view_put(fv);
	}
	return r;
}

void fs_file_put(struct fs_file *f)
{
	enum put_result r = PUT_AGAIN;
	bool tried = false;

	while (f && (r == PUT_AGAIN || r == PUT_ORPHAN)) {
		r = put(f, tried);
		if (r == PUT_ORPHAN) {
			/* When it fails, the next mount removes it. */
			(void)orphan_remove(f);
			tried = true;
		}
	}
}

uint64_t fs_file_ino(const struct fs_file *f)
{
	return f->ino;
}

bool fs_file_is_stale(const struct fs_file *f)
{
	const struct fs_view *fv = __atomic_load_n(&f->fv, __ATOMIC_ACQUIRE);

	return !fv->is_working && __atomic_load_n(&f->stale, __ATOMIC_RELAXED);
}

/* --- blocks --- */

size_t file_window_idx(const struct fs_file *f, uint64_t idx)
{
	size_t lo = 0, hi = f->nwin;

	/* Most writes go to the last one or behind it. */
	if (f->nwin && f->win[f->nwin - 1]->idx < idx)
		return f->nwin;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (f->win[mid]->idx < idx)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct fs_window *file_window(struct fs_file *f, uint64_t idx)
{
	size_t i = file_window_idx(f, idx);

	return i < f->nwin && f->win[i]->idx == idx ? f->win[i] : NULL;
}

static void claim_small(struct fs_file *f, uint64_t bytes)
{
	log_claim(f->fv->fs->log, LOG_SMALL, bytes);
	f->claimed_small += bytes;
}

static void unclaim_small(struct fs_file *f, uint64_t bytes)
{
	log_unclaim(f->fv->fs->log, LOG_SMALL, bytes);
	f->claimed_small -= bytes;
}

int file_reserve_window(struct fs_file *f, uint64_t idx)
{
	size_t i = file_window_idx(f, idx);
	struct fs_window *w;

	if (i < f->nwin && f->win[i]->idx == idx)
		return 0;
	if (f->nwin == f->win_cap) {
		size_t cap = f->win_cap ? f->win_cap * 2 : 4;
		struct fs_window **win =
			realloc(f->win, cap * sizeof(struct fs_window *));

		if (!win)
			return -ENOMEM;
		f->win = win;
		f->win_cap = cap;
	}
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->idx = idx;
	memmove(f->win + i + 1, f->win + i,
		(f->nwin - i) * sizeof(struct fs_window *));
	f->win[i] = w;
	f->nwin++;
	claim_small(f, WINDOW_CLAIM_BYTES);
	return 0;
}

/* Counters follow a block that is dirty from now on, or not any more. */
static void count_dirty(struct fs_file *f, int64_t blocks)
{
	struct fs *fs = f->fv->fs;
	uint64_t bytes =
		(uint64_t)(blocks < 0 ? -blocks : blocks) * FS_BLOCK_BYTES;

	if (blocks > 0) {
		log_claim(fs->log, LOG_BULK, bytes);
		f->claimed_bulk += bytes;
		__atomic_add_fetch(&fs->dirty_bytes, bytes, __ATOMIC_RELAXED);
	} else if (blocks < 0) {
		log_unclaim(fs->log, LOG_BULK, bytes);
		f->claimed_bulk -= bytes;
		__atomic_sub_fetch(&fs->dirty_bytes, bytes, __ATOMIC_RELAXED);
	}
	f->ndirty += (uint64_t)blocks;
}

static void count_pending(struct fs_file *f, int64_t blocks)
{
	__atomic_add_fetch(&f->fv->fs->pending_bytes,
			   (uint64_t)(blocks * FS_BLOCK_BYTES),
			   __ATOMIC_RELAXED);
	f->npending += (uint64_t)blocks;
}

static void drop_blocks(struct fs_file *f, struct fs_window *w, uint64_t mask)
{
	uint64_t pending = w->appended & mask;
	uint64_t dirty = w->present & mask & ~pending;

	for (uint64_t m = dirty; m; m &= m - 1) {
		unsigned int i = (unsigned int)__builtin_ctzll(m);

		lbuf_put(w->blk[i]);
		w->blk[i] = NULL;
	}
	w->present &= ~mask;
	w->appended &= ~mask;
	count_dirty(f, -(int64_t)bits_count(dirty));
	count_pending(f, -(int64_t)bits_count(pending));
}

void file_set_block(struct fs_file *f, uint64_t blk, struct lbuf *b)
{
	struct fs_window *w = file_window(f, blk / WINDOW_BLOCKS);
	unsigned int i = blk % WINDOW_BLOCKS;
	uint64_t bit = (uint64_t)1 << i;

	ASSERT(w && b->len == FS_BLOCK_BYTES);
	drop_blocks(f, w, bit);
	w->blk[i] = b;
	w->present |= bit;
	count_dirty(f, 1);
}

void file_set_stored(struct fs_file *f, uint64_t blk, const uint64_t *pos,
		     const uint64_t *sum, const uint16_t *len, unsigned int n)
{
	struct fs_window *w = file_window(f, blk / WINDOW_BLOCKS);
	unsigned int at = blk % WINDOW_BLOCKS;
	uint64_t mask;

	ASSERT(w && n && at + n <= WINDOW_BLOCKS);
	mask = UINT64_MAX >> (WINDOW_BLOCKS - n) << at;
	drop_blocks(f, w, mask);
	memcpy(w->pos + at, pos, n * sizeof(*pos));
	memcpy(w->sum + at, sum, n * sizeof(*sum));
	w->present |= mask;
	w->appended |= mask;
	for (unsigned int i = 0; i < n; i++) {
		w->len[at + i] = len ? len[i] : FS_BLOCK_BYTES;
		if (log_head_of(pos[i]) == LOG_BULK)
			f->bulk_end =
				max_u64(f->bulk_end, pos[i] + w->len[at + i]);
	}
	count_pending(f, n);
}

static void remove_window(struct fs_file *f, size_t i)
{
	drop_blocks(f, f->win[i], UINT64_MAX);
	free(f->win[i]);
	f->nwin--;
	memmove(f->win + i, f->win + i + 1,
		(f->nwin - i) * sizeof(struct fs_window *));
	unclaim_small(f, WINDOW_CLAIM_BYTES);
}

void file_drop_empty_windows(struct fs_file *f)
{
	for (size_t i = f->nwin; i--;)
		if (!f->win[i]->present)
			remove_window(f, i);
}

void file_drop_blocks_from(struct fs_file *f, uint64_t blk)
{
	struct fs_window *w;

	while (f->nwin && f->win[f->nwin - 1]->idx * WINDOW_BLOCKS >= blk)
		remove_window(f, f->nwin - 1);
	w = file_window(f, blk / WINDOW_BLOCKS);
	if (w)
		drop_blocks(f, w, UINT64_MAX << (blk % WINDOW_BLOCKS));
}

/* --- dirty files --- */

static void list_dirty(struct fs_file *f)
{
	struct fs_view *fv = f->fv;

	pthread_mutex_lock(&fv->files_lock);
	f->dirty_prev = fv->dirty_last;
	f->dirty_next = NULL;
	if (fv->dirty_last)
		fv->dirty_last->dirty_next = f;
	else
		__atomic_store_n(&fv->dirty_first, f, __ATOMIC_RELAXED);
	fv->dirty_last = f;
	fv->ndirty_files++;
	f->listed = true;
	pthread_mutex_unlock(&fv->files_lock);
}

static void unlist_dirty(struct fs_file *f)
{
	struct fs_view *fv = f->fv;

	pthread_mutex_lock(&fv->files_lock);
	if (f->listed) {
		if (f->dirty_prev)
			f->dirty_prev->dirty_next = f->dirty_next;
		else
			__atomic_store_n(&fv->dirty_first, f->dirty_next,
					 __ATOMIC_RELAXED);
		if (f->dirty_next)
			f->dirty_next->dirty_prev = f->dirty_prev;
		else
			fv->dirty_last = f->dirty_prev;
		fv->ndirty_files--;
		f->listed = false;
	}
	pthread_mutex_unlock(&fv->files_lock);
}

void file_mark_dirty(struct fs_file *f, int64_t now_ns)
{
	f->mtime_ns = now_ns;
	f->ctime_ns = now_ns;
	if (f->dirty)
		return;
	f->dirty = true;
	claim_small(f, FILE_CLAIM_BYTES);
	list_dirty(f);
}

void file_discard(struct fs_file *f)
{
	struct fs_view *fv = f->fv;
	bool unused;

	while (f->nwin)
		remove_window(f, f->nwin - 1);
	if (f->claimed_small)
		unclaim_small(f, f->claimed_small);
	ASSERT(!f->claimed_bulk && !f->ndirty && !f->npending);
	f->dirty = false;
	f->cut = CUT_NONE;
	f->bulk_end = 0;
	f->seq++;
	unlist_dirty(f);
	pthread_mutex_lock(&fv->files_lock);
	unused = !f->users;
	if (unused)
		table_remove(fv, f);
	pthread_mutex_unlock(&fv->files_lock);
	if (unused) {
		file_free(f);
		fs_view_put(fv);
	}
}

static void drop_file(void *arg, struct fs_file *f)
{
	f->users = 0;
	file_discard(f);
}

void fv_drop_all(struct fs_view *fv)
{
	fv_each_file(fv, drop_file, NULL);
}

/* --- to the log --- */

void count_appended(struct fs *fs, uint64_t bytes)
{
	__atomic_add_fetch(&fs->new_bytes, bytes, __ATOMIC_RELAXED);
	__atomic_add_fetch(&fs->since_checkpoint, bytes, __ATOMIC_RELAXED);
}

/*
 * How much is stored of the last of n blocks, from block i of a window on. The
 * end of a small file takes no more of the log than it has bytes: the run is
 * packed. Of others whole pages are stored, so that each can be given back
 * alone, and shared with the host.
 */
static uint32_t stored_tail(const struct fs_file *f, const struct fs_window *w,
			    unsigned int i, unsigned int n)
{
	uint32_t tail = f->size % FS_BLOCK_BYTES;
	bool packs = tail && !w->idx && i + n <= EXTENT_PACKED_MAX &&
		     i + n == f->size / FS_BLOCK_BYTES + 1;

	return packs && f->fv->fs->packs && !f->unpacked ? tail
							 : FS_BLOCK_BYTES;
}

/* Of a dirty block only so much is to be stored: itself, when nobody reads it
 * (who begins to takes f->lock, which is held), or a copy. */
static int cut_block(struct lbuf **at, uint32_t len, struct lbuf **whole_out)
{
	struct lbuf *b = *at, *cut;

	*whole_out = b;
	if (len == FS_BLOCK_BYTES)
		return 0;
	if (__atomic_load_n(&b->refs, __ATOMIC_ACQUIRE) == 1) {
		b->len = len;
		return 0;
	}
	cut = lbuf_new(len);
	if (!cut)
		return -ENOMEM;
	memcpy(cut->data, b->data, len);
	*at = cut;
	return 0;
}

/* It was given to the log, or, after an error, was not. */
static void cut_block_done(struct lbuf **at, struct lbuf *whole, int err)
{
	struct lbuf *cut = *at;

	if (err)
		*at = whole;
	if (cut != whole)
		lbuf_put(err ? cut : whole);
	else if (err)
		whole->len = FS_BLOCK_BYTES;
}

/* Blocks [i, i+n) of a window, all dirty, as one run. */
static int append_run(struct fs_file *f, struct fs_window *w, unsigned int i,
		      unsigned int n, enum log_head head)
{
	struct fs *fs = f->fv->fs;
	uint32_t tail = stored_tail(f, w, i, n);
	uint32_t align =
		tail < FS_BLOCK_BYTES ? EXTENT_UNIT_BYTES : FS_BLOCK_BYTES;
	struct lbuf **last = &w->blk[i + n - 1], *whole;
	uint64_t sums[WINDOW_BLOCKS], pos, bytes;
	int err;

	for (unsigned int k = 0; k < n; k++)
		sums[k] = sum64(w->blk[i + k]->data,
				k + 1 < n ? FS_BLOCK_BYTES : tail);
	err = cut_block(last, tail, &whole);
	if (err)
		return err;
	/* What was claimed holds the gaps, too: a unit ends with a page at the
	 * latest where the run would end if it took pages. */
	err = log_append(fs->log, head, align, w->blk + i, n, &pos);
	cut_block_done(last, whole, err);
	if (err)
		return err;
	for (unsigned int k = 0; k < n; k++) {
		w->pos[i + k] = pos + (uint64_t)k * FS_BLOCK_BYTES;
		w->sum[i + k] = sums[k];
		w->len[i + k] = (uint16_t)(k + 1 < n ? FS_BLOCK_BYTES : tail);
		w->blk[i + k] = NULL; /* the log has the reference now */
		w->appended |= (uint64_t)1 << (i + k);
	}
	count_dirty(f, -(int64_t)n);
	count_pending(f, n);
	bytes = (uint64_t)(n - 1) * FS_BLOCK_BYTES + tail;
	if (head == LOG_BULK)
		f->bulk_end = max_u64(f->bulk_end, pos + bytes);
	count_appended(fs, bytes);
	return 0;
}

static int append_window(struct fs_file *f, struct fs_window *w,
			 enum log_head head)
{
	uint64_t dirty = w->present & ~w->appended;
	int err = 0;

	while (dirty && !err) {
		unsigned int i = (unsigned int)__builtin_ctzll(dirty), n = 1;

		while (i + n < WINDOW_BLOCKS && dirty >> (i + n) & 1)
			n++;
		err = append_run(f, w, i, n, head);
		dirty = w->present & ~w->appended;
	}
	return err;
}

int file_append(struct fs_file *f, enum log_head head, bool full)
{
	int err = 0;

	for (size_t i = 0; i < f->nwin && f->ndirty && !err; i++) {
		struct fs_window *w = f->win[i];

		if (full && w->present & ~w->appended &&
		    w->present != UINT64_MAX)
			continue;
		err = append_window(f, w, head);
	}
	return err;
}
