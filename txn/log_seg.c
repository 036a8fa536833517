/* SPDX-License-Identifier: GPL-2.0-or-later */
/* log_seg.c - the segments and their files; see log_internal.h. */
#include "txn/log_internal.h"

#include "txn/pace.h"

#include <inttypes.h>

enum { ZERO_BYTES = 256 * 1024, NUMBER_DIGITS = 16 };

void log_seg_name(const struct seg *s, char name[DEV_NAME_MAX])
{
	if (s->moved) {
		moved_name(s->moved, name);
		return;
	}
	(void)snprintf(name, DEV_NAME_MAX, "log/%016" PRIx64 ".%c", s->number,
		       s->head == LOG_SMALL ? 's' : 'b');
}

/* The number in a segment's file name; -EINVAL for other files. */
static int parse_name(const char *name, uint64_t *number_out,
		      enum log_head *head_out)
{
	uint64_t n = 0;

	if (strlen(name) != NUMBER_DIGITS + 2 || name[NUMBER_DIGITS] != '.')
		return -EINVAL;
	for (size_t i = 0; i < NUMBER_DIGITS; i++) {
		char c = name[i];

		if (c >= '0' && c <= '9')
			n = n << 4 | (unsigned int)(c - '0');
		else if (c >= 'a' && c <= 'f')
			n = n << 4 | (unsigned int)(c - 'a' + 10);
		else
			return -EINVAL;
	}
	*head_out = name[NUMBER_DIGITS + 1] == 's' ? LOG_SMALL : LOG_BULK;
	if (name[NUMBER_DIGITS + 1] != 's' && name[NUMBER_DIGITS + 1] != 'b')
		return -EINVAL;
	if (n < 2 || n >> (64 - LOG_SEG_SHIFT) ||
	    (n & 1) != (*head_out == LOG_BULK))
		return -EINVAL;
	*number_out = n;
	return 0;
}

/* Index of the first segment with a number >= n. Under seg_lock. */
static size_t lower_bound(const struct log *log, uint64_t n)
{
	size_t lo = 0, hi = log->nsegs;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (log->segs[mid]->number < n)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Room for one more. Under seg_lock. */
static int grow_segs(struct log *log)
{
	size_t cap = log->cap_segs ? log->cap_segs * 2 : 64;
	struct seg **v;

	if (log->nsegs < log->cap_segs)
		return 0;
	v = realloc(log->segs, cap * sizeof(*v));
	if (!v)
		return -ENOMEM;
	log->segs = v;
	log->cap_segs = cap;
	return 0;
}

int log_push_seg(struct log *log, struct seg *s)
{
	int err;

	pthread_mutex_lock(&log->seg_lock);
	err = grow_segs(log);
	if (!err)
		log->segs[log->nsegs++] = s;
	pthread_mutex_unlock(&log->seg_lock);
	return err;
}

int log_add_seg(struct log *log, struct seg *s)
{
	size_t i;
	int err;

	pthread_mutex_lock(&log->seg_lock);
	err = grow_segs(log);
	if (err)
		goto out;
	i = lower_bound(log, s->number);
	ASSERT(i == log->nsegs || log->segs[i]->number != s->number);
	memmove(&log->segs[i + 1], &log->segs[i],
		(log->nsegs - i) * sizeof(*log->segs));
	log->segs[i] = s;
	log->nsegs++;
out:
	pthread_mutex_unlock(&log->seg_lock);
	return err;
}

/* Under seg_lock. */
static void add_file(struct log *log, struct seg *s, struct dev_file *f)
{
	s->file = f;
	s->prev_open = NULL;
	s->next_open = log->open;
	if (log->open)
		log->open->prev_open = s;
	log->open = s;
	log->nopen++;
}

/* Under seg_lock. */
static void close_file(struct log *log, struct seg *s)
{
	if (!s->file)
		return;
	ASSERT(!s->pins);
	log->p.dev->ops->close(s->file);
	s->file = NULL;
	if (s->next_open)
		s->next_open->prev_open = s->prev_open;
	if (s->prev_open)
		s->prev_open->next_open = s->next_open;
	else
		log->open = s->next_open;
	log->nopen--;
}

static void free_seg(struct seg *s)
{
	if (s->moved && !--s->moved->npieces)
		free(s->moved);
	free(s->punched);
	free(s);
}

void log_remove_seg(struct log *log, struct seg *s)
{
	size_t i;

	pthread_mutex_lock(&log->seg_lock);
	i = lower_bound(log, s->number);
	ASSERT(i < log->nsegs && log->segs[i] == s);
	close_file(log, s);
	memmove(&log->segs[i], &log->segs[i + 1],
		(log->nsegs - i - 1) * sizeof(*log->segs));
	log->nsegs--;
	free_seg(s);
	pthread_mutex_unlock(&log->seg_lock);
}

void log_free_segs(struct log *log)
{
	for (size_t i = 0; i < log->nsegs; i++) {
		close_file(log, log->segs[i]);
		free_seg(log->segs[i]);
	}
	free(log->segs);
}

struct seg *log_find_seg(struct log *log, uint64_t pos)
{
	uint64_t n = pos >> LOG_SEG_SHIFT;
	struct seg *s = NULL;
	size_t i;

	pthread_mutex_lock(&log->seg_lock);
	i = lower_bound(log, n);
	if (i < log->nsegs && log->segs[i]->number == n)
		s = log->segs[i];
	pthread_mutex_unlock(&log->seg_lock);
	return s;
}

/* Close the file that was not used for the longest time. Under seg_lock. A walk
 * over all that are open: cheap next to the open(2) that follows it. */
static void close_oldest(struct log *log)
{
	struct seg *oldest = NULL;

	for (struct seg *s = log->open; s; s = s->next_open)
		if (!s->pins && (!oldest || s->used < oldest->used))
			oldest = s;
	if (oldest)
		close_file(log, oldest);
}

int log_pin(struct log *log, struct seg *s, struct dev_file **out)
{
	/* A moved file may be a program that runs: nobody may open it for
	 * writing then. */
	bool write = !log->p.read_only && !s->moved;
	char name[DEV_NAME_MAX];
	struct dev_file *f;
	int err = 0;

	pthread_mutex_lock(&log->seg_lock);
	if (!s->file) {
		if (log->nopen >= LOG_OPEN_FILES)
			close_oldest(log);
		log_seg_name(s, name);
		err = log->p.dev->ops->open(log->p.dev, name, write, &f);
		if (!err)
			add_file(log, s, f);
	}
	if (!err) {
		s->pins++;
		s->used = ++log->clock;
		*out = s->file;
	}
	pthread_mutex_unlock(&log->seg_lock);
	return err;
}

void log_unpin(struct log *log, struct seg *s)
{
	pthread_mutex_lock(&log->seg_lock);
	ASSERT(s->pins);
	s->pins--;
	pthread_mutex_unlock(&log->seg_lock);
}

/* --- making one --- */

/* In pieces, each on the device before the next: what others flush meanwhile
 * waits for one of them, not for all of a segment. */
static int fill_zeros(struct log *log, struct dev_file *f, uint64_t bytes)
{
	uint8_t *zeros = calloc(1, ZERO_BYTES);
	int err = 0;

	if (!zeros)
		return -ENOMEM;
	for (uint64_t off = 0; off < bytes && !err; off += ZERO_BYTES) {
		struct dev_iov iov = { zeros,
				       min_u64(ZERO_BYTES, bytes - off) };

		err = log->p.dev->ops->writev(f, off, &iov, 1);
		if (!err)
			err = log->p.dev->ops->sync_pace(f, off, iov.len);
		pace();
	}
	free(zeros);
	return err;
}

/*
 * All that a later flush would otherwise wait for: space, size, zeros (small
 * segments: their flushes then change no metadata of the host) and the name.
 */
static int fill_seg(struct log *log, struct seg *s, struct dev_file *f)
{
	const struct dev_ops *ops = log->p.dev->ops;
	int err;

	err = ops->allocate(f, 0, s->bytes);
	if (err == -EOPNOTSUPP || err == -ENOSYS)
		err = ops->truncate(f, s->bytes);
	if (!err && s->head == LOG_SMALL)
		err = fill_zeros(log, f, s->bytes);
	/* A file that is shorter has lost its end: store_recover.c. */
	if (!err && s->bytes < log_seg_size(log, s->head))
		err = ops->truncate(f, log_seg_size(log, s->head));
	if (!err)
		err = ops->sync(f);
	if (!err)
		err = ops->sync_dir(log->p.dev, "log");
	return err;
}

int log_make_seg(struct log *log, struct seg *s)
{
	const struct dev_ops *ops = log->p.dev->ops;
	struct dev_file *f;
	char name[DEV_NAME_MAX];
	int err;

	log_seg_name(s, name);
	err = ops->create(log->p.dev, name, &f);
	if (err)
		return err;
	err = fill_seg(log, s, f);
	if (err) {
		ops->close(f);
		/* Left behind, it is empty of records and goes at the next
		 * start. */
		(void)ops->remove(log->p.dev, name);
		return err;
	}
	pthread_mutex_lock(&log->seg_lock);
	if (log->nopen >= LOG_OPEN_FILES)
		close_oldest(log);
	add_file(log, s, f);
	s->used = ++log->clock;
	pthread_mutex_unlock(&log->seg_lock);
	return 0;
}

/* --- what is there --- */

static int scan_one(void *arg, const char *name)
{
	struct log *log = arg;
	struct moved m;
	struct seg *s;
	struct dev_file *f;
	enum log_head id;
	uint64_t number;
	int err;

	if (!moved_parse(name, &m))
		return moved_scan(log, &m);
	if (parse_name(name, &number, &id))
		return 0; /* not ours */
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->number = number;
	s->head = id;
	s->old = true;
	s->made = true;
	err = log_pin(log, s, &f);
	if (!err) {
		err = log->p.dev->ops->size(f, &s->bytes);
		log_unpin(log, s);
	}
	if (!err) {
		/* Not kept open: there may be many. */
		pthread_mutex_lock(&log->seg_lock);
		close_file(log, s);
		pthread_mutex_unlock(&log->seg_lock);
		err = log_push_seg(log, s);
	}
	if (err) {
		free(s);
		return err;
	}
	if (number > log->heads[id].last_number)
		log->heads[id].last_number = number;
	return 0;
}

/* By number; of two with one number the moved file's piece is first. */
static int seg_cmp(const void *pa, const void *pb)
{
	const struct seg *a = *(struct seg *const *)pa;
	const struct seg *b = *(struct seg *const *)pb;

	if (a->number != b->number)
		return a->number < b->number ? -1 : 1;
	if (!a->moved != !b->moved)
		return a->moved ? -1 : 1;
	return a->moved && a->moved->first != b->moved->first
		       ? (a->moved->first < b->moved->first ? -1 : 1)
		       : 0;
}

/* Two files never have one number, but in a log that somebody put together. */
static void sort_segs(struct log *log)
{
	size_t n = 0;

	if (log->nsegs)
		qsort(log->segs, log->nsegs, sizeof(struct seg *), seg_cmp);
	for (size_t i = 0; i < log->nsegs; i++) {
		struct seg *s = log->segs[i];

		if (n && log->segs[n - 1]->number == s->number)
			free_seg(s);
		else
			log->segs[n++] = s;
	}
	log->nsegs = n;
}

int log_scan(struct log *log)
{
	int err;

	log->heads[LOG_SMALL].last_number = 0;
	log->heads[LOG_BULK].last_number = 1;
	err = log->p.dev->ops->list(log->p.dev, "log", scan_one, log);
	sort_segs(log);
	return err;
}

int log_list_segments(struct log *log, struct log_segment **segs_out,
		      size_t *n_out)
{
	struct log_segment *v;
	size_t n = 0;

	pthread_mutex_lock(&log->seg_lock);
	v = calloc(log->nsegs + 1, sizeof(*v));
	for (size_t i = 0; v && i < log->nsegs; i++) {
		const struct seg *s = log->segs[i];

		if (__atomic_load_n(&s->made, __ATOMIC_RELAXED))
			v[n++] = (struct log_segment){
				.number = s->number,
				.head = s->head,
				.bytes = s->bytes,
				.writable = !s->old,
				.moved = s->moved,
			};
	}
	pthread_mutex_unlock(&log->seg_lock);
	*segs_out = v;
	*n_out = n;
	return v ? 0 : -ENOMEM;
}

uint64_t log_segment_end(struct log *log, uint64_t pos, uint64_t *made_end_out)
{
	struct seg *s = log_find_seg(log, pos);

	if (!s)
		return 0;
	*made_end_out = seg_start(s) +
			(s->moved ? s->bytes : log_seg_size(log, s->head));
	return seg_start(s) + seg_bytes(s);
}

/* --- giving back --- */

static bool is_punched(const struct seg *s, uint64_t page)
{
	return s->punched && s->punched[page / 64] >> (page % 64) & 1;
}

/* Pages [page, end) as far as they were not given back, in runs. */
static int punch_pages(struct log *log, struct seg *s, struct dev_file *f,
		       uint64_t page, uint64_t end, uint64_t *freed)
{
	int err = 0;

	while (page < end && !err) {
		uint64_t n = 0;

		if (is_punched(s, page)) {
			page++;
			continue;
		}
		while (page + n < end && !is_punched(s, page + n))
			n++;
		err = log->p.dev->ops->punch(
			f, seg_base(s) + page * LOG_PAGE_BYTES,
			n * LOG_PAGE_BYTES);
		if (err)
			break;
		*freed += n * LOG_PAGE_BYTES;
		for (uint64_t i = page; i < page + n; i++)
			s->punched[i / 64] |= (uint64_t)1 << (i % 64);
		page += n;
	}
	return err;
}

/* Moved files are open for reading only. */
static int pin_to_write(struct log *log, struct seg *s, struct dev_file **out)
{
	char name[DEV_NAME_MAX];

	if (!s->moved)
		return log_pin(log, s, out);
	log_seg_name(s, name);
	return log->p.dev->ops->open(log->p.dev, name, true, out);
}

static void unpin_written(struct log *log, struct seg *s, struct dev_file *f)
{
	if (s->moved)
		log->p.dev->ops->close(f);
	else
		log_unpin(log, s);
}

int log_punch(struct log *log, uint64_t pos, uint64_t len, uint64_t *freed)
{
	struct seg *s = log_find_seg(log, pos);
	uint64_t page = seg_offset(pos) / LOG_PAGE_BYTES;
	struct dev_file *f;
	int err;

	if (!s)
		return -ENXIO;
	if (!s->punched)
		s->punched = calloc(seg_bytes(s) / LOG_PAGE_BYTES / 64 + 1, 8);
	if (!s->punched)
		return -ENOMEM;
	err = pin_to_write(log, s, &f);
	if (err)
		return err == -ETXTBSY ? 0 : err; /* a later sweep */
	err = punch_pages(log, s, f, page, page + len / LOG_PAGE_BYTES, freed);
	unpin_written(log, s, f);
	return err == -EOPNOTSUPP || err == -ENOSYS ? 0 : err;
}

int log_drop_segment(struct log *log, uint64_t number)
{
	struct seg *s = log_find_seg(log, number << LOG_SEG_SHIFT);
	char name[DEV_NAME_MAX];
	bool busy;
	int err;

	if (!s)
		return 0;
	pthread_mutex_lock(&log->seg_lock);
	busy = s->pins;
	pthread_mutex_unlock(&log->seg_lock);
	for (int id = 0; id < LOG_HEADS && !busy; id++) {
		pthread_mutex_lock(&log->heads[id].write_lock);
		busy = s->unsynced;
		pthread_mutex_unlock(&log->heads[id].write_lock);
		pthread_mutex_lock(&log->heads[id].lock);
		busy |= log->heads[id].cur == s;
		pthread_mutex_unlock(&log->heads[id].lock);
	}
	if (busy)
		return -EBUSY;
	if (s->moved)
		return moved_drop(log, s);
	log_seg_name(s, name);
	err = log->p.dev->ops->remove(log->p.dev, name);
	if (!err)
		log_remove_seg(log, s);
	return err;
}

/* --- recovery --- */

static int sync_seg(struct log *log, struct seg *s)
{
	struct dev_file *f;
	int err;

	err = log_pin(log, s, &f);
	if (err)
		return err;
	err = log->p.dev->ops->sync(f);
	log_unpin(log, s);
	return err;
}

/* The old segments, as an array of their own: they come and go only here. */
static int old_segs(struct log *log, struct seg ***out, size_t *n_out)
{
	struct seg **v;
	size_t n = 0;

	pthread_mutex_lock(&log->seg_lock);
	v = calloc(log->nsegs + 1, sizeof(*v));
	if (v)
		for (size_t i = 0; i < log->nsegs; i++)
			if (log->segs[i]->old)
				v[n++] = log->segs[i];
	pthread_mutex_unlock(&log->seg_lock);
	*out = v;
	*n_out = n;
	return v ? 0 : -ENOMEM;
}

int log_sync_old(struct log *log, uint64_t small_from, uint64_t bulk_from)
{
	struct seg **v;
	size_t n;
	int err;

	err = old_segs(log, &v, &n);
	for (size_t i = 0; i < n && !err; i++) {
		uint64_t from =
			v[i]->head == LOG_SMALL ? small_from : bulk_from;

		/* Moved files were durable before anything named them. */
		if (v[i]->moved && bulk_from)
			continue;
		if (seg_start(v[i]) + v[i]->bytes > from)
			err = sync_seg(log, v[i]);
	}
	free(v);
	if (!err)
		err = log->p.dev->ops->sync_dir(log->p.dev, "log");
	return err;
}

/* Cut or remove one segment so that it ends at the position. */
static int cut_seg(struct log *log, struct seg *s, uint64_t end)
{
	const struct dev_ops *ops = log->p.dev->ops;
	char name[DEV_NAME_MAX];
	struct dev_file *f;
	int err;

	if (seg_start(s) + s->bytes <= end)
		return 0;
	if (seg_start(s) >= end) {
		log_seg_name(s, name);
		err = ops->remove(log->p.dev, name);
		if (!err)
			log_remove_seg(log, s);
		return err;
	}
	err = log_pin(log, s, &f);
	if (err)
		return err;
	err = ops->truncate(f, end - seg_start(s));
	if (!err)
		err = ops->sync(f);
	log_unpin(log, s);
	if (!err)
		s->bytes = end - seg_start(s);
	return err;
}

int log_discard_after(struct log *log, uint64_t small_end, uint64_t bulk_end)
{
	struct seg **v;
	size_t n;
	int err;

	err = old_segs(log, &v, &n);
	/* From the end: what a crash leaves is again a beginning. */
	while (!err && n--) {
		/* It may be the last name of somebody's file: a sweep knows. */
		if (v[n]->moved)
			continue;
		err = cut_seg(log, v[n],
			      v[n]->head == LOG_SMALL ? small_end : bulk_end);
	}
	free(v);
	if (!err)
		err = log->p.dev->ops->sync_dir(log->p.dev, "log");
	return err;
}

/* --- repair --- */

static int add_lost_seg(struct log *log, uint64_t pos, struct seg **out)
{
	struct seg *s = calloc(1, sizeof(*s));
	struct dev_file *f;
	char name[DEV_NAME_MAX];
	int err;

	if (!s)
		return -ENOMEM;
	s->number = pos >> LOG_SEG_SHIFT;
	s->head = log_head_of(pos);
	s->old = true;
	s->made = true;
	log_seg_name(s, name);
	err = log->p.dev->ops->create(log->p.dev, name, &f);
	if (!err) {
		log->p.dev->ops->close(f);
		err = log_add_seg(log, s);
	}
	if (err)
		free(s);
	else
		*out = s;
	return err;
}

int log_rewrite(struct log *log, uint64_t pos, const void *buf, size_t len)
{
	struct seg *s = log_find_seg(log, pos);
	struct dev_iov iov = { buf, len };
	struct dev_file *f;
	char name[DEV_NAME_MAX];
	uint64_t end = seg_offset(pos) + len;
	int err;

	ASSERT(!s || s->old);
	if (log_head_of(pos) == LOG_SMALL && (!s || end > s->bytes))
		return -ENXIO;
	if (s && s->moved && end > s->bytes)
		return -ENXIO;
	if (!s) {
		err = add_lost_seg(log, pos, &s);
		if (err)
			return err;
	}
	/* The log itself may be open for reading only. */
	log_seg_name(s, name);
	err = log->p.dev->ops->open(log->p.dev, name, true, &f);
	if (err)
		return err;
	if (s->moved && end > s->moved->bytes - seg_base(s))
		iov.len -= end - (s->moved->bytes - seg_base(s));
	err = log->p.dev->ops->writev(f, seg_base(s) + seg_offset(pos), &iov,
				      1);
	log->p.dev->ops->close(f);
	if (!err && end > s->bytes)
		s->bytes = end;
	return err;
}
