/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * log.c - appending, writing out, flushing and reading; see log.h and
 * log_internal.h. What is appended waits in a ring of chunks for each head,
 * readable at once, until log_write_out() has handed it to the host.
 */
#include "txn/log_internal.h"

#include "txn/pace.h"

static const uint8_t zero_page[LOG_PAGE_BYTES];

/* --- buffers --- */

struct lbuf *lbuf_new(size_t len)
{
	struct lbuf *b;

	ASSERT(len <= LOG_APPEND_MAX);
	b = malloc(sizeof(*b) + len);
	if (b) {
		b->refs = 1;
		b->len = (uint32_t)len;
	}
	return b;
}

struct lbuf *lbuf_get(struct lbuf *b)
{
	__atomic_add_fetch(&b->refs, 1, __ATOMIC_RELAXED);
	return b;
}

void lbuf_put(struct lbuf *b)
{
	if (b && !__atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL))
		free(b);
}

/* --- opening --- */

static void head_init(struct log *log, enum log_head id)
{
	struct head *h = &log->heads[id];

	h->id = id;
	h->prepared_last = &h->prepared;
	pthread_mutex_init(&h->write_lock, NULL);
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->flushed_cond, NULL);
}

static uint64_t segment_bytes(uint64_t bytes)
{
	bytes = round_up_u64(max_u64(bytes, LOG_SEG_MIN_BYTES), LOG_PAGE_BYTES);
	return min_u64(bytes, (uint64_t)1 << LOG_SEG_SHIFT);
}

int log_open(const struct log_params *params, struct log **log_out)
{
	struct log *log;
	int err;

	log = calloc(1, sizeof(*log));
	if (!log)
		return -ENOMEM;
	log->p = *params;
	log->p.small_segment_bytes = segment_bytes(params->small_segment_bytes);
	log->p.bulk_segment_bytes = segment_bytes(params->bulk_segment_bytes);
	log->p.reserve_bytes =
		min_u64(params->reserve_bytes, (uint64_t)1 << LOG_SEG_SHIFT);
	pthread_mutex_init(&log->seg_lock, NULL);
	pthread_mutex_init(&log->prep_lock, NULL);
	pthread_mutex_init(&log->wake_lock, NULL);
	pthread_mutex_init(&log->error_lock, NULL);
	pthread_cond_init(&log->wake_cond, NULL);
	head_init(log, LOG_SMALL);
	head_init(log, LOG_BULK);
	err = log_scan(log);
	if (err) {
		log_close(log, false);
		return err;
	}
	*log_out = log;
	return 0;
}

int log_start(struct log *log, enum log_use use)
{
	int err;

	if (log->p.read_only)
		return -EROFS;
	for (int i = 0; i < LOG_HEADS; i++) {
		struct head *h = &log->heads[i];

		pthread_mutex_lock(&h->lock);
		if (!h->tail) { /* not a second try */
			h->tail = (h->last_number + 2) << LOG_SEG_SHIFT;
			h->written = h->tail;
			h->flushed = h->tail;
		}
		pthread_mutex_unlock(&h->lock);
	}
	log->started = true;
	err = log_room(log, 0, 0, use);
	if (!err)
		err = log_start_preparer(log);
	if (err)
		log->started = false;
	return err;
}

/* Give back what was prepared and not used. Best effort: the next start does
 * not rely on it. */
static void tidy_head(struct log *log, struct head *h)
{
	const struct dev_ops *ops = log->p.dev->ops;
	char name[DEV_NAME_MAX];
	struct dev_file *f;

	while (h->prepared) {
		struct seg *s = h->prepared;

		h->prepared = s->next_prepared;
		log_seg_name(s, name);
		(void)ops->remove(log->p.dev, name);
	}
	if (h->cur && h->cur->made && !log_pin(log, h->cur, &f)) {
		(void)ops->truncate(f, h->tail - seg_start(h->cur));
		log_unpin(log, h->cur);
	}
}

static void head_release(struct log *log, struct head *h)
{
	for (struct seg *s = h->unsynced; s; s = s->next_unsynced)
		log_unpin(log, s);
	for (size_t i = 0; i < h->n; i++)
		lbuf_put(h->ring[(h->first + i) & (h->cap - 1)].buf);
	free(h->ring);
	pthread_cond_destroy(&h->flushed_cond);
	pthread_mutex_destroy(&h->lock);
	pthread_mutex_destroy(&h->write_lock);
}

void log_close(struct log *log, bool tidy)
{
	if (!log)
		return;
	log_stop_preparer(log);
	for (int i = 0; i < LOG_HEADS; i++) {
		struct head *h = &log->heads[i];

		if (tidy && !h->n && !log_error(log, NULL))
			tidy_head(log, h);
		head_release(log, h);
	}
	log_free_segs(log);
	pthread_cond_destroy(&log->wake_cond);
	pthread_mutex_destroy(&log->error_lock);
	pthread_mutex_destroy(&log->wake_lock);
	pthread_mutex_destroy(&log->prep_lock);
	pthread_mutex_destroy(&log->seg_lock);
	free(log);
}

/* --- stopping --- */

void log_stop(struct log *log, int err, const char *reason)
{
	pthread_mutex_lock(&log->error_lock);
	if (!log->error) {
		(void)snprintf(log->error_text, sizeof(log->error_text), "%s",
			       reason);
		env_logf(log->p.env, ENV_ERROR, "the store has stopped: %s",
			 reason);
		/* After the text: whoever sees the error may read it. */
		__atomic_store_n(&log->error, err ? err : -EIO,
				 __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&log->error_lock);
}

int log_fail(struct log *log, int err, const char *what, const struct seg *s)
{
	char name[DEV_NAME_MAX], text[256];

	log_seg_name(s, name);
	(void)snprintf(text, sizeof(text), "%s .txn/%s: %s", what, name,
		       strerror(-err));
	log_stop(log, err, text);
	return -EIO;
}

int log_error(struct log *log, const char **text_out)
{
	int err = __atomic_load_n(&log->error, __ATOMIC_ACQUIRE);

	if (text_out)
		*text_out = err ? log->error_text : NULL;
	return err;
}

/* --- appending --- */

/* Room for n more chunks. Under head->lock. */
static int ring_grow(struct head *h, size_t n)
{
	struct chunk *ring;
	size_t cap = h->cap ? h->cap : 64;

	while (cap < h->n + n)
		cap *= 2;
	if (cap == h->cap)
		return 0;
	ring = malloc(cap * sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	for (size_t i = 0; i < h->n; i++)
		ring[i] = h->ring[(h->first + i) & (h->cap - 1)];
	free(h->ring);
	h->ring = ring;
	h->first = 0;
	h->cap = cap;
	return 0;
}

/* The next segment to append to. Under head->lock. */
static int next_seg(struct log *log, struct head *h)
{
	struct seg *s = h->prepared;

	if (s) {
		h->prepared = s->next_prepared;
		if (!h->prepared)
			h->prepared_last = &h->prepared;
		h->prepared_free -= log_countable(seg_bytes(s));
	} else {
		/* Claims were overshot: it is made when written out. */
		int err;

		s = log_new_seg(log, h);
		if (!s)
			return -ENOMEM;
		err = log_add_seg(log, s);
		if (err) {
			free(s);
			return err;
		}
		__atomic_add_fetch(&log->late_segments, 1, __ATOMIC_RELAXED);
	}
	h->cur = s;
	h->tail = seg_start(s);
	return 0;
}

int log_place(struct log *log, struct head *h, uint32_t align, size_t len,
	      uint64_t *pos_out)
{
	uint64_t pos = round_up_u64(h->tail, align);
	int err;

	if (!h->cur || pos - seg_start(h->cur) + len > h->cur->bytes) {
		err = next_seg(log, h);
		if (err)
			return err;
		pos = h->tail;
	}
	*pos_out = pos;
	return 0;
}

static int append(struct log *log, enum log_head id, uint32_t align,
		  struct lbuf *const *bufs, size_t n,
		  void (*seal)(void *, uint64_t, struct lbuf *), void *arg,
		  uint64_t *pos_out)
{
	struct head *h = &log->heads[id];
	uint64_t pos = 0, at;
	size_t len = 0;
	int err;

	for (size_t i = 0; i < n; i++)
		len += bufs[i]->len;
	ASSERT(len && len <= LOG_APPEND_MAX);
	if (log->p.read_only || !log->started)
		return -EROFS;
	pthread_mutex_lock(&h->lock);
	err = ring_grow(h, n);
	if (!err)
		err = log_place(log, h, align, len, &pos);
	if (err)
		goto out;
	if (seal)
		seal(arg, pos, bufs[0]);
	at = pos;
	for (size_t i = 0; i < n; i++) {
		h->ring[(h->first + h->n++) & (h->cap - 1)] =
			(struct chunk){ at, bufs[i] };
		at += bufs[i]->len;
	}
	h->tail = at;
	log_note_free(h);
	__atomic_add_fetch(&h->unwritten_bytes, len, __ATOMIC_RELAXED);
	h->appended_bytes += len;
	*pos_out = pos;
out:
	pthread_mutex_unlock(&h->lock);
	return err;
}

int log_append(struct log *log, enum log_head head, uint32_t align,
	       struct lbuf *const *bufs, size_t n, uint64_t *pos_out)
{
	return append(log, head, align, bufs, n, NULL, NULL, pos_out);
}

int log_append_sealed(struct log *log, enum log_head head, uint32_t align,
		      struct lbuf *buf,
		      void (*seal)(void *arg, uint64_t pos, struct lbuf *buf),
		      void *arg, uint64_t *pos_out)
{
	return append(log, head, align, &buf, 1, seal, arg, pos_out);
}

uint64_t log_tail(struct log *log, enum log_head head)
{
	struct head *h = &log->heads[head];
	uint64_t tail;

	pthread_mutex_lock(&h->lock);
	tail = h->tail;
	pthread_mutex_unlock(&h->lock);
	return tail;
}

uint64_t log_unwritten_bytes(struct log *log, enum log_head head)
{
	return __atomic_load_n(&log->heads[head].unwritten_bytes,
			       __ATOMIC_RELAXED);
}

/* --- writing out --- */

/* Under head->lock and write_lock; chunks stay in the ring meanwhile. */
static void batch_collect(struct head *h, uint64_t limit, struct batch_out *b)
{
	b->niov = 0;
	b->nchunks = 0;
	b->bytes = 0;
	while (b->nchunks < h->n && b->nchunks < WRITE_BATCH &&
	       b->bytes < WRITE_BATCH_BYTES) {
		struct chunk *c =
			&h->ring[(h->first + b->nchunks) & (h->cap - 1)];

		if (c->pos >= limit)
			break;
		if (!b->nchunks)
			b->start = b->end = c->pos;
		else if (c->pos >> LOG_SEG_SHIFT != b->start >> LOG_SEG_SHIFT)
			break;
		/* Cloned bytes lie between. */
		if (c->pos - b->end >= LOG_PAGE_BYTES)
			break;
		if (c->pos > b->end) {
			b->iov[b->niov++] =
				(struct dev_iov){ zero_page, c->pos - b->end };
		}
		b->iov[b->niov++] =
			(struct dev_iov){ c->buf->data, c->buf->len };
		b->end = c->pos + c->buf->len;
		b->bytes += c->buf->len;
		b->nchunks++;
	}
}

static void batch_drop(struct head *h, const struct batch_out *b)
{
	struct lbuf *bufs[WRITE_BATCH];

	pthread_mutex_lock(&h->lock);
	for (size_t i = 0; i < b->nchunks; i++) {
		bufs[i] = h->ring[h->first].buf;
		h->first = (h->first + 1) & (h->cap - 1);
	}
	h->n -= b->nchunks;
	h->written = b->end;
	__atomic_sub_fetch(&h->unwritten_bytes, b->bytes, __ATOMIC_RELAXED);
	h->written_bytes += b->end - b->start;
	pthread_mutex_unlock(&h->lock);
	for (size_t i = 0; i < b->nchunks; i++)
		lbuf_put(bufs[i]);
}

int log_begin_write(struct log *log, struct head *h, struct seg *s,
		    struct dev_file **out)
{
	int err;

	if (!__atomic_load_n(&s->made, __ATOMIC_RELAXED)) {
		err = log_make_seg(log, s);
		if (err)
			return log_fail(log, err, "making", s);
		pthread_mutex_lock(&h->lock);
		__atomic_store_n(&s->made, true, __ATOMIC_RELAXED);
		log_note_free(h);
		pthread_mutex_unlock(&h->lock);
	}
	err = log_pin(log, s, out);
	if (err)
		return log_fail(log, err, "opening", s);
	if (!s->unsynced) {
		/* Its file stays open until it is synced: an error of writing
		 * back may not be told to who opens it anew. */
		(void)log_pin(log, s, out);
		s->unsynced = true;
		s->next_unsynced = h->unsynced;
		h->unsynced = s;
	}
	return 0;
}

/* Under write_lock. */
static int batch_write(struct log *log, struct head *h,
		       const struct batch_out *b)
{
	struct seg *s = log_find_seg(log, b->start);
	struct dev_file *f;
	int err;

	ASSERT(s);
	/* I3: nothing that was flushed is written again. */
	ASSERT(b->start >= __atomic_load_n(&h->flushed, __ATOMIC_RELAXED));
	err = log_begin_write(log, h, s, &f);
	if (err)
		return err;
	err = log->p.dev->ops->writev(f, seg_offset(b->start), b->iov, b->niov);
	if (!err && h->id == LOG_BULK)
		log->p.dev->ops->sync_start(f, seg_offset(b->start),
					    b->end - b->start);
	log_unpin(log, s);
	return err ? log_fail(log, err, "writing", s) : 0;
}

/* 1: nothing is left below limit. Under write_lock. */
static int write_batch(struct log *log, struct head *h, uint64_t limit)
{
	struct batch_out *b = &h->out;
	int err;

	if (log_error(log, NULL))
		return -EIO;
	pthread_mutex_lock(&h->lock);
	batch_collect(h, limit, b);
	pthread_mutex_unlock(&h->lock);
	if (!b->nchunks)
		return 1;
	err = batch_write(log, h, b);
	if (!err)
		batch_drop(h, b);
	return err;
}

int log_write_below(struct log *log, struct head *h, uint64_t limit)
{
	int err;

	do {
		err = write_batch(log, h, limit);
		pace(); /* who waits for the lock waits for all of this */
	} while (!err);
	return err == 1 ? 0 : err;
}

/* Everything below limit. */
static int write_out(struct log *log, struct head *h, uint64_t limit)
{
	int err;

	pthread_mutex_lock(&h->write_lock);
	err = log_write_below(log, h, limit);
	pthread_mutex_unlock(&h->write_lock);
	return err;
}

int log_write_out(struct log *log, enum log_head head)
{
	return write_out(log, &log->heads[head], log_tail(log, head));
}

int log_write_some(struct log *log, enum log_head head)
{
	struct head *h = &log->heads[head];
	int err;

	if (pthread_mutex_trylock(&h->write_lock))
		return 0;
	err = write_batch(log, h, UINT64_MAX);
	pthread_mutex_unlock(&h->write_lock);
	return err == 1 ? 0 : err;
}

int log_write_behind(struct log *log, enum log_head head, uint64_t bytes)
{
	struct head *h = &log->heads[head];
	int err = 0;

	/* Looked at again after the lock is free: whoever appended meanwhile
	 * and did not get it has left it to us. */
	while (!err && log_unwritten_bytes(log, head) >= bytes) {
		uint64_t limit = log_tail(log, head);

		if (pthread_mutex_trylock(&h->write_lock))
			break;
		err = log_write_below(log, h, limit);
		pthread_mutex_unlock(&h->write_lock);
	}
	return err;
}

/* --- flushing --- */

static int sync_written(struct log *log, struct head *h)
{
	for (;;) {
		struct dev_file *f;
		struct seg *s;
		int err;

		/* Taken off the list before the sync: what is written during
		 * it puts it there again. */
		pthread_mutex_lock(&h->write_lock);
		s = h->unsynced;
		if (s) {
			h->unsynced = s->next_unsynced;
			s->unsynced = false;
		}
		pthread_mutex_unlock(&h->write_lock);
		if (!s)
			return 0;
		err = log_pin(log, s, &f); /* it is open */
		if (!err) {
			err = log->p.dev->ops->sync(f);
			log_unpin(log, s);
		}
		log_unpin(log, s);
		if (err)
			return log_fail(log, err, "flushing", s);
	}
}

/* One flush for all who wait. Under head->lock, dropped in between. */
static int flush_once(struct log *log, struct head *h)
{
	uint64_t upto;
	int err;

	h->flushing = true;
	/* What is appended from here on starts on a page of its own. */
	h->tail = round_up_u64(h->tail, LOG_PAGE_BYTES);
	log_note_free(h);
	upto = h->asked = h->tail;
	pthread_mutex_unlock(&h->lock);
	err = write_out(log, h, upto);
	if (!err)
		err = sync_written(log, h);
	pthread_mutex_lock(&h->lock);
	h->flushing = false;
	if (!err) {
		__atomic_store_n(&h->flushed, upto, __ATOMIC_RELAXED);
		__atomic_add_fetch(&log->flushes, 1, __ATOMIC_RELAXED);
	}
	pthread_cond_broadcast(&h->flushed_cond);
	return err;
}

int log_flush(struct log *log, enum log_head head, uint64_t *flushed_out)
{
	struct head *h = &log->heads[head];
	uint64_t target;
	int err = 0;

	pthread_mutex_lock(&h->lock);
	target = h->asked = h->tail;
	while (!err && h->flushed < target) {
		if (log_error(log, NULL))
			err = -EIO;
		else if (h->flushing)
			pthread_cond_wait(&h->flushed_cond, &h->lock);
		else
			err = flush_once(log, h);
	}
	if (!err && log_error(log, NULL))
		err = -EIO;
	if (!err && flushed_out)
		*flushed_out = h->flushed;
	pthread_mutex_unlock(&h->lock);
	return err;
}

uint64_t log_flushed(struct log *log, enum log_head head)
{
	struct head *h = &log->heads[head];
	uint64_t flushed;

	pthread_mutex_lock(&h->lock);
	flushed = h->flushed;
	pthread_mutex_unlock(&h->lock);
	return flushed;
}

/* --- reading --- */

/* The chunk that holds pos. Under head->lock. */
static size_t ring_find(const struct head *h, uint64_t pos)
{
	size_t lo = 0, hi = h->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (h->ring[(h->first + mid) & (h->cap - 1)].pos <= pos)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo; /* one past it */
}

/* 1: not in memory, as the first *in_file_out bytes; what waits for writing
 * behind them is read next. */
static int read_memory(struct log *log, uint64_t pos, uint8_t *buf, size_t len,
		       size_t *in_file_out)
{
	struct head *h = &log->heads[log_head_of(pos)];
	size_t i;
	int err = 1;

	*in_file_out = len;
	if (!log->started)
		return 1;
	pthread_mutex_lock(&h->lock);
	if (!h->n)
		goto out;
	if (pos < h->ring[h->first].pos) {
		*in_file_out = min_u64(len, h->ring[h->first].pos - pos);
		goto out;
	}
	for (i = ring_find(h, pos) - 1; len; i++) {
		const struct chunk *c;
		uint64_t off;
		size_t n;

		err = -ENXIO;
		if (i >= h->n)
			goto out;
		c = &h->ring[(h->first + i) & (h->cap - 1)];
		if (pos < c->pos || pos - c->pos >= c->buf->len) {
			/* Moved files lie between what is appended. */
			err = log_is_moved(log, pos) ? 1 : -ENXIO;
			goto out;
		}
		off = pos - c->pos;
		n = min_u64(len, c->buf->len - off);
		memcpy(buf, c->buf->data + off, n);
		buf += n;
		pos += n;
		len -= n;
	}
	err = 0;
out:
	pthread_mutex_unlock(&h->lock);
	return err;
}

static int read_file(struct log *log, uint64_t pos, void *buf, size_t len)
{
	struct seg *s = log_find_seg(log, pos);
	struct dev_file *f;
	uint64_t bytes = s ? seg_bytes(s) : 0;
	size_t got = 0;
	int err;

	if (!s || seg_offset(pos) > bytes || len > bytes - seg_offset(pos))
		return -ENXIO;
	err = log_pin(log, s, &f);
	if (err)
		return err == -ENOENT ? -ENXIO : err;
	err = log->p.dev->ops->read(f, seg_base(s) + seg_offset(pos), buf, len,
				    &got);
	log_unpin(log, s);
	if (err || got == len)
		return err;
	/* Past the end of a moved file its last page is zeros. */
	if (!s->moved || seg_base(s) + seg_offset(pos) + got != s->moved->bytes)
		return -ENXIO;
	memset((uint8_t *)buf + got, 0, len - got);
	return 0;
}

int log_read(struct log *log, uint64_t pos, void *buf, size_t len)
{
	uint8_t *p = buf;

	while (len) {
		size_t n;
		int err = read_memory(log, pos, p, len, &n);

		if (err <= 0)
			return err;
		/* The file is as long as it will be: reading more of it than
		 * was written gives zeros, not an error. */
		err = read_file(log, pos, p, n);
		if (err)
			return err;
		pos += n;
		p += n;
		len -= n;
	}
	return 0;
}

int log_readv(struct log *log, const struct log_range *r, size_t n)
{
	size_t i = 0;

	while (i < n) {
		size_t len = r[i].len, j = i + 1;
		int err;

		/* Neighbours in the log and in memory are one read. */
		while (j < n && r[j].pos == r[i].pos + len &&
		       (uint8_t *)r[j].buf == (uint8_t *)r[i].buf + len)
			len += r[j++].len;
		err = log_read(log, r[i].pos, r[i].buf, len);
		if (err)
			return err;
		i = j;
	}
	return 0;
}

/* --- statistics and checks --- */

void log_get_stats(struct log *log, struct log_stats *out)
{
	*out = (struct log_stats){ 0 };
	for (int i = 0; i < LOG_HEADS; i++) {
		struct head *h = &log->heads[i];

		pthread_mutex_lock(&h->lock);
		out->appended_bytes[i] = h->appended_bytes;
		out->written_bytes[i] = h->written_bytes;
		out->claimed_bytes +=
			__atomic_load_n(&h->claimed, __ATOMIC_RELAXED);
		out->prepared_bytes += log_head_free(h);
		pthread_mutex_unlock(&h->lock);
	}
	out->flushes = __atomic_load_n(&log->flushes, __ATOMIC_RELAXED);
	out->unprepared_segments =
		__atomic_load_n(&log->late_segments, __ATOMIC_RELAXED);
	pthread_mutex_lock(&log->seg_lock);
	out->segments = log->nsegs;
	for (size_t i = 0; i < log->nsegs; i++)
		out->segment_file_bytes += log->segs[i]->bytes;
	pthread_mutex_unlock(&log->seg_lock);
}

/* Under head->lock. */
static const char *check_head(const struct head *h)
{
	uint64_t last = h->written;

	if (h->flushed > h->tail || h->written > h->tail)
		return "flushed or written beyond the tail";
	for (size_t i = 0; i < h->n; i++) {
		const struct chunk *c = &h->ring[(h->first + i) & (h->cap - 1)];

		if (c->pos < last)
			return "appended bytes overlap";
		if (c->pos >> LOG_SEG_SHIFT !=
		    (c->pos + c->buf->len - 1) >> LOG_SEG_SHIFT)
			return "an append spans segments";
		last = c->pos + c->buf->len;
	}
	return last > h->tail ? "an append lies beyond the tail" : NULL;
}

int log_check(struct log *log, char *why, size_t why_bytes)
{
	for (int i = 0; i < LOG_HEADS; i++) {
		struct head *h = &log->heads[i];
		const char *text;

		pthread_mutex_lock(&h->lock);
		text = check_head(h);
		pthread_mutex_unlock(&h->lock);
		if (text) {
			(void)snprintf(why, why_bytes, "log, %s head: %s",
				       i == LOG_SMALL ? "small" : "bulk", text);
			return -EFSCORRUPTED;
		}
	}
	return 0;
}
