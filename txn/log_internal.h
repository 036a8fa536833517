/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * log_internal.h - what log.c (appending, flushing, reading), log_seg.c (the
 * segments and their files) and log_space.c (preparing ahead) share.
 *
 * Locks, in this order: log->prep_lock (one preparer at a time; held over
 * device calls), head->write_lock (one writer at a time; held over device
 * calls), head->lock, log->seg_lock. The last two are never held over a call
 * of the device, but for opening a segment's file under seg_lock.
 */
#ifndef TXN_LOG_INTERNAL_H
#define TXN_LOG_INTERNAL_H

#include <pthread.h>

#include "txn/log.h"

/* A file of the host that was moved into the log (log_moved.c): each piece of
 * it is a segment. */
struct moved {
	uint64_t first, bytes; /* number of the first piece; size of the file */
	uint64_t npieces; /* in the registry */
	uint64_t ndead; /* of those; the sweep's */
};

struct seg {
	uint64_t number;
	enum log_head head;
	/* atomic; file size; of new ones: size to be. The last bulk segment is
	 * cut behind what was appended, under head->lock and seg_lock. */
	uint64_t bytes;
	struct moved *moved; /* NULL: a file of its own, made by us */
	bool dead; /* a moved piece that nothing reaches; the sweep's */
	bool old; /* existed at log_open */
	/* atomic: the file exists with all its space, and is old, in line or
	 * appended to. Else it is its maker's alone: no sweep may drop it. */
	bool made;
	/* written since its last sync, and pinned; both head->write_lock: */
	bool unsynced;
	struct seg *next_unsynced;
	/* guarded by seg_lock: */
	struct dev_file *file;
	struct seg *prev_open, *next_open; /* while it has one */
	unsigned int pins;
	uint64_t used; /* clock of the last use */
	struct seg *next_prepared; /* head->lock */
	uint64_t *punched; /* bit for each page given back; the sweep's */
};

/* Bytes appended and still in memory. */
struct chunk {
	uint64_t pos;
	struct lbuf *buf;
};

enum { WRITE_BATCH = 512, WRITE_BATCH_BYTES = 2 << 20 };

/* Some chunks of one segment, oldest first, with the gaps between them. */
struct batch_out {
	struct dev_iov iov[2 * WRITE_BATCH];
	size_t niov;
	size_t nchunks;
	uint64_t start, end;
	uint64_t bytes;
};

struct head {
	enum log_head id;
	pthread_mutex_t write_lock; /* guards the next two */
	struct seg *unsynced;
	/* Here, so that writing out needs no memory: once a record is
	 * appended a failure stops the store. */
	struct batch_out out;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t flushed_cond;
	struct seg *cur; /* NULL before the first append */
	uint64_t tail;
	uint64_t written; /* below: in the file */
	uint64_t flushed; /* below: durable */
	uint64_t asked; /* the furthest tail that a flush is to reach */
	bool flushing;
	struct seg *prepared, **prepared_last;
	uint64_t prepared_free; /* what appends may count on in these */
	/* atomic, so that who asks for room waits for nobody: what is claimed,
	 * log_head_free(), and whether anything was ever prepared */
	uint64_t claimed, free;
	bool used;
	/* ring of chunks, ascending by position; cap is a power of two */
	struct chunk *ring;
	size_t first, n, cap;
	uint64_t unwritten_bytes; /* atomic */
	uint64_t appended_bytes, written_bytes;
	uint64_t last_number; /* highest segment number used or made */
};

struct log {
	struct log_params p;
	struct head heads[LOG_HEADS];
	bool started; /* set once, before any append */

	pthread_mutex_t seg_lock; /* guards what follows */
	struct seg **segs; /* ascending by number */
	size_t nsegs, cap_segs;
	struct seg *open; /* those with a file */
	size_t nopen;
	uint64_t clock;

	pthread_mutex_t prep_lock;
	pthread_mutex_t wake_lock; /* guards what follows */
	pthread_cond_t wake_cond;
	bool wake, quit, expects;
	pthread_t preparer;
	bool preparer_runs;

	/* atomic */
	int error;
	uint64_t flushes, late_segments;
	uint64_t burst; /* what log_expect() was told last */
	pthread_mutex_t error_lock; /* guards error_text's first writing */
	char error_text[256];
};

static inline uint64_t seg_start(const struct seg *s)
{
	return s->number << LOG_SEG_SHIFT;
}

static inline uint64_t seg_bytes(const struct seg *s)
{
	return __atomic_load_n(&s->bytes, __ATOMIC_RELAXED);
}

static inline uint64_t seg_offset(uint64_t pos)
{
	return pos & (((uint64_t)1 << LOG_SEG_SHIFT) - 1);
}

/* Where a segment's bytes begin in its file. */
static inline uint64_t seg_base(const struct seg *s)
{
	return s->moved ? (s->number - s->moved->first) / 2 << LOG_SEG_SHIFT
			: 0;
}

/* log_seg.c */
int log_scan(struct log *log);
/* For the scan: at the end, in any order. */
int log_push_seg(struct log *log, struct seg *s);
void log_free_segs(struct log *log);
/* The segment that holds pos, NULL when there is none. */
struct seg *log_find_seg(struct log *log, uint64_t pos);
int log_add_seg(struct log *log, struct seg *s);
void log_remove_seg(struct log *log, struct seg *s);
void log_seg_name(const struct seg *s, char name[DEV_NAME_MAX]);
/* Its file, open; release with log_unpin. */
int log_pin(struct log *log, struct seg *s, struct dev_file **out);
void log_unpin(struct log *log, struct seg *s);
/* Create the file with all its space; small ones zero-filled and flushed. On
 * failure nothing stays. */
int log_make_seg(struct log *log, struct seg *s);

/* log_moved.c */
/* The name of a moved file in log/; -EINVAL: it is none. */
int moved_parse(const char *name, struct moved *out);
void moved_name(const struct moved *m, char name[DEV_NAME_MAX]);
/* Its pieces into the registry, for the scan. */
int moved_scan(struct log *log, const struct moved *m);
/* log_drop_segment() of a piece; 1: others of its file live. */
int moved_drop(struct log *log, struct seg *s);

/* log_space.c */
uint64_t log_seg_size(const struct log *log, enum log_head id);
/* Of so many bytes of a segment, those that appends may count on. */
uint64_t log_countable(uint64_t bytes);
/* A new entry (not in the registry, no file) with the head's next number.
 * Under head->lock. */
struct seg *log_new_seg(struct log *log, struct head *h);
/* Free bytes that appends may count on. Under head->lock. */
uint64_t log_head_free(const struct head *h);
/* It has changed. Under head->lock. */
void log_note_free(struct head *h);
int log_start_preparer(struct log *log);
void log_stop_preparer(struct log *log);
void log_wake_preparer(struct log *log);

/* log.c */
int log_fail(struct log *log, int err, const char *what, const struct seg *s);
/* A place for len bytes. Under head->lock. */
int log_place(struct log *log, struct head *h, uint32_t align, size_t len,
	      uint64_t *pos_out);
/* Under write_lock: the segment's file, made if it was not, to be written and
 * synced; release with log_unpin. A failure stops the log. */
int log_begin_write(struct log *log, struct head *h, struct seg *s,
		    struct dev_file **out);
/* Under write_lock: everything below limit. */
int log_write_below(struct log *log, struct head *h, uint64_t limit);

#endif
