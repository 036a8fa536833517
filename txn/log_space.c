/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * log_space.c - preparing segments ahead, claims, and the thread that keeps
 * prepared what will be needed next; "Space" in log.h.
 *
 * A segment's last LOG_APPEND_MAX bytes are not counted on: an append that
 * does not fit leaves them unused.
 */
#include "txn/log_internal.h"

#include "txn/pace.h"

enum {
	KEEP_BYTES = 4 << 20,
	BURST_MAX_BYTES = 32 << 20, /* prepared for one */
	BURST_PART = 16, /* of the host's space, at most */
	CUT_PART = 4, /* of a segment, at least */
	KEEP_PART = 8, /* of it, at most */
	/* The least that is made of a segment where the host has no more:
	 * enough for one update, or one turn of the queue. */
	PART_MIN_BYTES = LOG_APPEND_MAX + (128 << 10),
};

uint64_t log_seg_size(const struct log *log, enum log_head id)
{
	return id == LOG_SMALL ? log->p.small_segment_bytes
			       : log->p.bulk_segment_bytes;
}

struct seg *log_new_seg(struct log *log, struct head *h)
{
	struct seg *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	h->last_number += 2;
	s->number = h->last_number;
	s->head = h->id;
	s->bytes = log_seg_size(log, h->id);
	return s;
}

uint64_t log_countable(uint64_t bytes)
{
	return bytes > LOG_APPEND_MAX ? bytes - LOG_APPEND_MAX : 0;
}

uint64_t log_head_free(const struct head *h)
{
	uint64_t bytes = h->prepared_free;

	if (h->cur && __atomic_load_n(&h->cur->made, __ATOMIC_RELAXED))
		bytes += log_countable(seg_bytes(h->cur) -
				       (h->tail - seg_start(h->cur)));
	return bytes;
}

void log_note_free(struct head *h)
{
	if (h->cur || h->prepared)
		__atomic_store_n(&h->used, true, __ATOMIC_RELAXED);
	/* See is_short() for the order. */
	__atomic_store_n(&h->free, log_head_free(h), __ATOMIC_SEQ_CST);
}

/* What has to stay. */
static uint64_t reserve_of(const struct log *log, const struct head *h,
			   enum log_use use)
{
	if (h->id == LOG_BULK)
		return 0;
	switch (use) {
	case LOG_USE_TO_FREE:
		return log->p.reserve_bytes / 2;
	case LOG_USE_TO_KEEP:
		return log->p.reserve_bytes / 4;
	case LOG_USE_TO_FINISH:
		return 0;
	default:
		return log->p.reserve_bytes;
	}
}

/* What must be prepared for the head besides `need`. */
static uint64_t wanted(const struct log *log, const struct head *h,
		       enum log_use use)
{
	return __atomic_load_n(&h->claimed, __ATOMIC_ACQUIRE) +
	       reserve_of(log, h, use);
}

/* Claims are looked at first: what is given up was appended before. */
static bool has_room(struct log *log, enum log_head id, uint64_t need,
		     enum log_use use)
{
	const struct head *h = &log->heads[id];
	uint64_t want = wanted(log, h, use) + need;

	return __atomic_load_n(&h->free, __ATOMIC_ACQUIRE) >= want;
}

/* The same, and it is claimed, so that nobody else counts on it. */
static bool take_room(struct log *log, enum log_head id, uint64_t need,
		      enum log_use use)
{
	struct head *h = &log->heads[id];
	uint64_t now = __atomic_load_n(&h->claimed, __ATOMIC_ACQUIRE);
	uint64_t spare = reserve_of(log, h, use);

	do {
		if (__atomic_load_n(&h->free, __ATOMIC_ACQUIRE) <
		    now + spare + need)
			return false;
	} while (!__atomic_compare_exchange_n(&h->claimed, &now, now + need,
					      false, __ATOMIC_SEQ_CST,
					      __ATOMIC_ACQUIRE));
	/* Others' claims may have gone meanwhile, with what they appended, and
	 * as many come; or prepared segments, see is_short(). */
	if (__atomic_load_n(&h->free, __ATOMIC_SEQ_CST) >= now + spare + need)
		return true;
	log_unclaim(log, id, need);
	return false;
}

/* Put a segment whose file was made in line. 1: an append made a later one
 * meanwhile, in need; positions only grow, so this one is not used. */
static int line_up(const struct log *log, struct head *h, struct seg *s)
{
	int overtaken;

	pthread_mutex_lock(&h->lock);
	overtaken = h->cur && h->cur->number > s->number;
	if (!overtaken) {
		__atomic_store_n(&s->made, true, __ATOMIC_RELAXED);
		*h->prepared_last = s;
		h->prepared_last = &s->next_prepared;
		h->prepared_free += log_countable(s->bytes);
	}
	log_note_free(h);
	pthread_mutex_unlock(&h->lock);
	return overtaken;
}

int log_host_space(struct log *log, uint64_t *bytes_out)
{
	return log->p.dev->ops->space(log->p.dev, bytes_out);
}

/* Nothing was appended to it. Its file, when it stays, goes with a sweep after
 * the next opening. */
static void drop_prepared(struct log *log, struct seg *s)
{
	char name[DEV_NAME_MAX];

	log_seg_name(s, name);
	(void)log->p.dev->ops->remove(log->p.dev, name);
	log_remove_seg(log, s);
}

/* Whoever takes room claims it and then looks at what is free: so whoever makes
 * that less (log_note_free()) looks at the claims after, and all of this is in
 * one order. (By the operations themselves: TSan knows no fences.) Under
 * head->lock. */
static bool is_short(const struct log *log, const struct head *h)
{
	return __atomic_load_n(&h->claimed, __ATOMIC_SEQ_CST) +
		       reserve_of(log, h, LOG_USE) >
	       log_head_free(h);
}

/* Out of the line: the last one, when what is before it is enough besides keep
 * bytes, with something for those who were told that there is room and have not
 * claimed it. Under head->lock. */
static struct seg *take_surplus(const struct log *log, struct head *h,
				uint64_t keep)
{
	uint64_t size = log_countable(log_seg_size(log, h->id));
	uint64_t need =
		wanted(log, h, LOG_USE) + min_u64(size / 2, KEEP_BYTES) + keep;
	struct seg **at = &h->prepared, *s;

	if (!h->prepared)
		return NULL;
	while ((*at)->next_prepared)
		at = &(*at)->next_prepared;
	s = *at;
	size = log_countable(s->bytes);
	if (log_head_free(h) < need + size)
		return NULL;
	*at = NULL;
	h->prepared_last = at;
	h->prepared_free -= size;
	log_note_free(h);
	if (is_short(log, h)) {
		*at = s;
		h->prepared_last = &s->next_prepared;
		h->prepared_free += size;
		log_note_free(h);
		return NULL;
	}
	/* No sweep finds it while it is removed. */
	__atomic_store_n(&s->made, false, __ATOMIC_RELAXED);
	return s;
}

/* Under prep_lock. false: there was none. */
static bool drop_surplus(struct log *log, struct head *h, uint64_t keep)
{
	struct seg *s;

	pthread_mutex_lock(&h->lock);
	s = take_surplus(log, h, keep);
	pthread_mutex_unlock(&h->lock);
	if (s)
		drop_prepared(log, s);
	return s;
}

/*
 * Space of the host for a segment: for bulk data with what the small head has
 * ahead, too. Not the other way: who was told that there is room for bulk data
 * may not have claimed it yet, and nothing but what is in line backs him; the
 * small head has its reserve. What frees space or makes it durable takes less
 * than a segment, if that is what there is. Under prep_lock.
 */
static int find_host_space(struct log *log, const struct head *h,
			   enum log_use use, uint64_t *bytes_out)
{
	uint64_t space, size = log_seg_size(log, h->id);
	int err;

	do {
		err = log_host_space(log, &space);
		if (err)
			return err;
	} while (space < size && h->id == LOG_BULK &&
		 drop_surplus(log, &log->heads[LOG_SMALL], 0));
	*bytes_out = min_u64(space, size) / LOG_PAGE_BYTES * LOG_PAGE_BYTES;
	if (*bytes_out == size)
		return 0;
	return h->id == LOG_SMALL && use != LOG_USE &&
			       *bytes_out >= PART_MIN_BYTES
		       ? 0
		       : -ENOSPC;
}

/* Of space, quota, memory or descriptors: the program that writes hears of it.
 * Anything else is a device that cannot be trusted with a commit either. */
static bool is_want(int err)
{
	return err == -ENOSPC || err == -EDQUOT || err == -ENOMEM ||
	       err == -EMFILE || err == -ENFILE;
}

/* One more segment. Under prep_lock. */
static int prepare_one(struct log *log, struct head *h, enum log_use use)
{
	uint64_t bytes;
	struct seg *s;
	int err;

	err = find_host_space(log, h, use, &bytes);
	if (err)
		return err;
	pthread_mutex_lock(&h->lock);
	s = log_new_seg(log, h);
	pthread_mutex_unlock(&h->lock);
	if (!s)
		return -ENOMEM;
	s->bytes = bytes;
	err = log_add_seg(log, s);
	if (err) {
		free(s);
		return err;
	}
	err = log_make_seg(log, s);
	if (!err) {
		if (line_up(log, h, s))
			drop_prepared(log, s);
		return 0;
	}
	if (!is_want(err))
		err = log_fail(log, err, "preparing", s);
	log_remove_seg(log, s);
	return err == -EDQUOT ? -ENOSPC : err;
}

/* Is there room, or is it the caller's now? */
typedef bool (*look_fn)(struct log *log, enum log_head id, uint64_t need,
			enum log_use use);

static int prepare_until(struct log *log, enum log_head id, uint64_t need,
			 enum log_use use, look_fn look)
{
	int err = 0;

	pthread_mutex_lock(&log->prep_lock);
	while (!err && !look(log, id, need, use)) {
		if (log_error(log, NULL))
			err = -EIO;
		else
			err = prepare_one(log, &log->heads[id], use);
	}
	pthread_mutex_unlock(&log->prep_lock);
	return err;
}

/* Is there more in line than what is needed now? (Bulk segments only once
 * somebody has asked for one.) */
static bool is_ahead(struct log *log, enum log_head id)
{
	const struct head *h = &log->heads[id];

	if (id == LOG_BULK && !__atomic_load_n(&h->used, __ATOMIC_RELAXED))
		return true;
	return has_room(log, id, log_countable(log_seg_size(log, id)) / 2,
			LOG_USE);
}

/* Without waiting. */
static bool look_now(struct log *log, enum log_head id, uint64_t need,
		     enum log_use use, look_fn look)
{
	if (!look(log, id, need, use))
		return false;
	if (!is_ahead(log, id))
		log_wake_preparer(log);
	return true;
}

static int room_in(struct log *log, enum log_head id, uint64_t need,
		   enum log_use use, look_fn look)
{
	return look_now(log, id, need, use, look)
		       ? 0
		       : prepare_until(log, id, need, use, look);
}

bool log_try_room(struct log *log, uint64_t small_bytes, enum log_use use)
{
	return look_now(log, LOG_SMALL, small_bytes, use, take_room);
}

/* In both heads, or in none. */
static int room_in_both(struct log *log, uint64_t small_bytes,
			uint64_t bulk_bytes, enum log_use use, look_fn look)
{
	int err;

	if (log->p.read_only || log_error(log, NULL))
		return -EROFS;
	err = room_in(log, LOG_SMALL, small_bytes, use, look);
	if (err || !bulk_bytes)
		return err;
	err = room_in(log, LOG_BULK, bulk_bytes, use, look);
	if (err && look == take_room)
		log_unclaim(log, LOG_SMALL, small_bytes);
	return err;
}

int log_room(struct log *log, uint64_t small_bytes, uint64_t bulk_bytes,
	     enum log_use use)
{
	return room_in_both(log, small_bytes, bulk_bytes, use, has_room);
}

int log_take_room(struct log *log, uint64_t small_bytes, uint64_t bulk_bytes,
		  enum log_use use)
{
	return room_in_both(log, small_bytes, bulk_bytes, use, take_room);
}

void log_give_room(struct log *log, uint64_t small_bytes, uint64_t bulk_bytes)
{
	log_unclaim(log, LOG_SMALL, small_bytes);
	log_unclaim(log, LOG_BULK, bulk_bytes);
}

/* The last segment in line, or else the one that is appended to; NULL. Under
 * head->lock. */
static struct seg *last_made(const struct head *h)
{
	struct seg *s = h->prepared;

	while (s && s->next_prepared)
		s = s->next_prepared;
	if (!s)
		s = h->cur;
	return s && __atomic_load_n(&s->made, __ATOMIC_RELAXED) ? s : NULL;
}

/* What it keeps: what was appended and may be claimed. As in take_surplus()
 * with something for those who have not claimed yet. Under head->lock. */
static uint64_t size_needed(const struct log *log, const struct head *h,
			    const struct seg *s)
{
	uint64_t size = log_seg_size(log, h->id);
	uint64_t used = s == h->cur ? h->tail - seg_start(s) : 0;

	return round_up_u64(used + wanted(log, h, LOG_USE) +
				    min_u64(size / KEEP_PART, KEEP_BYTES) +
				    LOG_APPEND_MAX,
			    LOG_PAGE_BYTES);
}

/* Under head->lock. */
static void resize(struct log *log, struct head *h, struct seg *s,
		   uint64_t bytes)
{
	if (s != h->cur)
		h->prepared_free +=
			log_countable(bytes) - log_countable(s->bytes);
	pthread_mutex_lock(&log->seg_lock);
	__atomic_store_n(&s->bytes, bytes, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&log->seg_lock);
	log_note_free(h);
}

/*
 * A bulk segment has its space from the host when it is made, however little
 * comes into it: what lies far behind is given back. Best effort: a file that
 * stays longer is as good.
 */
static void cut_bulk(struct log *log)
{
	struct head *h = &log->heads[LOG_BULK];
	uint64_t bytes = 0, was = 0;
	struct dev_file *f;
	struct seg *s;

	pthread_mutex_lock(&h->write_lock); /* nobody writes into it */
	pthread_mutex_lock(&h->lock);
	s = last_made(h);
	if (s) {
		was = s->bytes;
		bytes = size_needed(log, h, s);
	}
	if (bytes + log_seg_size(log, h->id) / CUT_PART > was) {
		s = NULL;
	} else {
		resize(log, h, s, bytes);
		if (is_short(log, h)) {
			resize(log, h, s, was);
			s = NULL;
		}
	}
	/* Nobody asks for more of it now: none is made ahead. */
	if (s)
		__atomic_store_n(&h->used, false, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&h->lock);
	if (s && !log_pin(log, s, &f)) {
		(void)log->p.dev->ops->truncate(f, bytes);
		log_unpin(log, s);
	}
	pthread_mutex_unlock(&h->write_lock);
}

void log_trim(struct log *log, bool all)
{
	uint64_t keep;

	/* What the thread prepares for one at this moment is not wanted. */
	if (all)
		__atomic_store_n(&log->burst, 0, __ATOMIC_RELAXED);
	keep = __atomic_load_n(&log->burst, __ATOMIC_RELAXED);
	pthread_mutex_lock(&log->prep_lock);
	for (int id = 0; id < LOG_HEADS && !log_error(log, NULL); id++)
		while (drop_surplus(log, &log->heads[id],
				    id == LOG_SMALL ? keep : 0))
			;
	if (!log_error(log, NULL))
		cut_bulk(log);
	pthread_mutex_unlock(&log->prep_lock);
}

void log_claim(struct log *log, enum log_head head, uint64_t bytes)
{
	struct head *h = &log->heads[head];

	__atomic_add_fetch(&h->claimed, bytes, __ATOMIC_RELAXED);
}

void log_unclaim(struct log *log, enum log_head head, uint64_t bytes)
{
	struct head *h = &log->heads[head];

	uint64_t before =
		__atomic_fetch_sub(&h->claimed, bytes, __ATOMIC_ACQ_REL);

	ASSERT(before >= bytes);
}

/* --- the thread --- */

static void prepare_ahead(struct log *log)
{
	for (int id = 0; id < LOG_HEADS; id++) {
		int err = 0;

		/* A lack of space is told to whoever needs it. */
		while (!err && !log_error(log, NULL) && !is_ahead(log, id)) {
			pthread_mutex_lock(&log->prep_lock);
			if (!is_ahead(log, id))
				err = prepare_one(log, &log->heads[id],
						  LOG_USE);
			pthread_mutex_unlock(&log->prep_lock);
		}
	}
}

/* Is there, or would too little be left for others? */
static bool is_ready_for_burst(struct log *log)
{
	uint64_t burst = __atomic_load_n(&log->burst, __ATOMIC_RELAXED), space;

	return has_room(log, LOG_SMALL, burst, LOG_USE) ||
	       log_error(log, NULL) || log_host_space(log, &space) ||
	       space / BURST_PART < burst;
}

static void prepare_for_burst(struct log *log)
{
	int err = 0;

	while (!err && !is_ready_for_burst(log)) {
		pthread_mutex_lock(&log->prep_lock);
		err = prepare_one(log, &log->heads[LOG_SMALL], LOG_USE);
		pthread_mutex_unlock(&log->prep_lock);
	}
}

static void *preparer(void *arg)
{
	struct log *log = arg;
	bool expects;

	pace_begin();
	pthread_mutex_lock(&log->wake_lock);
	while (!log->quit) {
		if (!log->wake) {
			pthread_cond_wait(&log->wake_cond, &log->wake_lock);
			continue;
		}
		log->wake = false;
		expects = log->expects;
		log->expects = false;
		pthread_mutex_unlock(&log->wake_lock);
		prepare_ahead(log);
		if (expects)
			prepare_for_burst(log);
		pthread_mutex_lock(&log->wake_lock);
	}
	pthread_mutex_unlock(&log->wake_lock);
	return NULL;
}

int log_start_preparer(struct log *log)
{
	int err;

	if (log->p.no_thread)
		return 0;
	err = pthread_create(&log->preparer, NULL, preparer, log);
	if (err)
		return -err;
	log->preparer_runs = true;
	return 0;
}

void log_stop_preparer(struct log *log)
{
	if (!log->preparer_runs)
		return;
	/* What is prepared for a burst is not waited for. */
	__atomic_store_n(&log->burst, 0, __ATOMIC_RELAXED);
	pthread_mutex_lock(&log->wake_lock);
	log->quit = true;
	pthread_cond_signal(&log->wake_cond);
	pthread_mutex_unlock(&log->wake_lock);
	(void)pthread_join(log->preparer, NULL);
	log->preparer_runs = false;
}

void log_wake_preparer(struct log *log)
{
	pthread_mutex_lock(&log->wake_lock);
	if (!log->wake) {
		log->wake = true;
		pthread_cond_signal(&log->wake_cond);
	}
	pthread_mutex_unlock(&log->wake_lock);
}

void log_expect(struct log *log, uint64_t bytes)
{
	__atomic_store_n(&log->burst, min_u64(bytes, BURST_MAX_BYTES),
			 __ATOMIC_RELAXED);
	pthread_mutex_lock(&log->wake_lock);
	log->expects = true;
	log->wake = true;
	pthread_cond_signal(&log->wake_cond);
	pthread_mutex_unlock(&log->wake_lock);
}
