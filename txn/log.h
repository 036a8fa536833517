/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * log.h - the append-only log: segment files log/NNNNNNNNNNNNNNNN.s and .b
 * behind two append heads, and moved files beside them. Positions are logical,
 * grow for ever and name a byte: position = segment number << LOG_SEG_SHIFT |
 * offset in the file. Even segment numbers are small segments, odd ones bulk,
 * so a position tells its head. Position 0 is never used (segment numbers start
 * at 2).
 *
 * Appending assigns a position and takes the bytes into memory; it never
 * touches the device and fails only with -ENOMEM. The bytes can be read back
 * at once. log_write_out() hands them to the host, log_flush() makes them
 * durable. Nothing spans segments; an append that does not fit starts the next
 * segment. Two appends never share a 4 KiB page across a flush: log_flush
 * continues at the next page, so bytes of a durable record are never written
 * again (I3).
 *
 * Space: staged work must be backed before it is accepted. Each head has
 * prepared segments (made, and given space by the host, beforehand) and claims
 * (what is dirty in memory and will be appended to it). log_room() makes sure
 * that prepared segments hold the claims, the new need and, for the small
 * head, the reserve, preparing segments when they do not; -ENOSPC goes to
 * the program that writes. What frees space may use half of the reserve, what
 * makes a state durable all of it. Of several who are told at once that there
 * is room each counts on the same: so what is asked for is taken
 * (log_take_room), for the time until it is appended or has claims of its own.
 * An append that finds no prepared segment all the same makes one when it is
 * written out; if the host has no space then, the log stops.
 *
 * A failed write or sync stops the log: every later write out and flush
 * returns -EIO, log_room() -EROFS. Nothing is retried. Reads go on, and so do
 * appends, in memory alone: what was accepted before can still be looked at as
 * one state, and saved elsewhere.
 *
 * Threads: any. Internal locks only; callbacks none. log_append may be called
 * under the caller's locks; log_room, log_take_room, log_write_out, log_flush
 * and log_read may wait for the device and must not be.
 */
#ifndef TXN_LOG_H
#define TXN_LOG_H

#include "txn/dev.h"
#include "txn/env.h"

enum log_head { LOG_SMALL, LOG_BULK, LOG_HEADS };

/* What space is taken for. How much of the reserve has to stay goes down to
 * nothing, so that however much is deleted on a full host, that can be made
 * durable: all of it, half, a quarter when a state is kept by a name. */
enum log_use { LOG_USE, LOG_USE_TO_FREE, LOG_USE_TO_KEEP, LOG_USE_TO_FINISH };

enum {
	LOG_SEG_SHIFT = 26, /* 64 MiB of positions for each segment */
	LOG_PAGE_BYTES = 4096,
	LOG_APPEND_MAX = 256 << 10, /* bytes of one append */
	LOG_SEG_MIN_BYTES = 512 << 10, /* smaller parameters are raised */
	LOG_OPEN_FILES = 128 /* segments kept open for reading */
};

struct log;

/* Bytes handed to the log by reference; see lbuf_new. */
struct lbuf {
	int refs; /* atomic */
	uint32_t len;
	uint8_t data[];
};

struct lbuf *lbuf_new(size_t len); /* one reference; NULL: no memory */
struct lbuf *lbuf_get(struct lbuf *b);
void lbuf_put(struct lbuf *b); /* NULL is fine */

struct log_params {
	struct dev *dev;
	struct env *env;
	bool read_only;
	uint64_t small_segment_bytes; /* file size of a small segment */
	uint64_t bulk_segment_bytes;
	uint64_t reserve_bytes; /* see enum log_use */
	bool no_thread; /* nothing is prepared ahead: store_params */
};

/*
 * Scan log/ and open it for reading; nothing is written and appends fail with
 * -EROFS until log_start(). Empty or missing segments are no error here:
 * recovery decides.
 */
int log_open(const struct log_params *params, struct log **log_out);

/*
 * Begin appending, in new segments numbered above everything that exists, and
 * start the thread that prepares segments ahead. -ENOSPC when what has to stay
 * of the reserve for that use (below) cannot be prepared (then reading and
 * log_start() again still work).
 */
int log_start(struct log *log, enum log_use use);

/* Drops what is not written out. tidy (after everything was flushed): prepared
 * segments that were not used are removed and the used ones cut to their
 * length; best effort. NULL is fine. */
void log_close(struct log *log, bool tidy);

static inline enum log_head log_head_of(uint64_t pos)
{
	return (pos >> LOG_SEG_SHIFT) & 1 ? LOG_BULK : LOG_SMALL;
}

/*
 * Take n buffers as one contiguous run (total <= LOG_APPEND_MAX); one
 * reference of each is consumed on success, none on failure. align is a power
 * of two <= LOG_PAGE_BYTES for the start. The buffers must not change after.
 */
int log_append(struct log *log, enum log_head head, uint32_t align,
	       struct lbuf *const *bufs, size_t n, uint64_t *pos_out);

/*
 * Whole pages of an open file (len <= LOG_APPEND_MAX) as a run of the bulk
 * head, shared by the host's clone operation: nothing is read or written. What
 * was appended before is written out. The bytes are those of the file at one
 * moment in the call for each page; read them from *pos_out. After log_room().
 * -EOPNOTSUPP, -EXDEV, -EINVAL and other errors of the host: nothing was
 * appended, and the log goes on.
 */
int log_clone_in(struct log *log, int fd, uint64_t off, size_t len,
		 uint64_t *pos_out);

/* The other way: whole pages that were appended become the bytes of a range of
 * an open file, shared. The caller verifies them there. */
int log_clone_out(struct log *log, uint64_t pos, size_t len, int fd,
		  uint64_t off);

/*
 * log_append() for one buffer that contains its own address: seal(arg, pos,
 * buf) is called with the position, under the head's lock, before anybody can
 * read it.
 */
int log_append_sealed(struct log *log, enum log_head head, uint32_t align,
		      struct lbuf *buf,
		      void (*seal)(void *arg, uint64_t pos, struct lbuf *buf),
		      void *arg, uint64_t *pos_out);

/* End of what was appended to a head so far. */
uint64_t log_tail(struct log *log, enum log_head head);

/* Write queued bytes of a head to the host, in this thread; waits for other
 * writers of it. */
int log_write_out(struct log *log, enum log_head head);
/* A few MiB of them at most, and nothing when somebody else is writing. */
int log_write_some(struct log *log, enum log_head head);

/* As long as so many wait: write them out, unless somebody is at it. */
int log_write_behind(struct log *log, enum log_head head, uint64_t bytes);

/* Bytes appended and not yet written out. */
uint64_t log_unwritten_bytes(struct log *log, enum log_head head);

/*
 * Durable on return: everything appended to that head before the call, with
 * the names of its segments. Returns at once when it already is.
 * *flushed_out: every position of this head below it is durable.
 */
int log_flush(struct log *log, enum log_head head, uint64_t *flushed_out);
/* What is durable already. */
uint64_t log_flushed(struct log *log, enum log_head head);

/*
 * Read len bytes that were appended, from memory or the file. -ENXIO: no such
 * segment or past its end (damage, unless the caller is probing).
 */
int log_read(struct log *log, uint64_t pos, void *buf, size_t len);

/* Several ranges with as few reads of the host as their neighbourhood
 * allows; all or an error. */
struct log_range {
	uint64_t pos;
	void *buf;
	size_t len;
};
int log_readv(struct log *log, const struct log_range *r, size_t n);

/* Bytes that the host could give beyond what is prepared. */
int log_host_space(struct log *log, uint64_t *bytes_out);
/* See "Space" above. May wait for the device. */
int log_room(struct log *log, uint64_t small_bytes, uint64_t bulk_bytes,
	     enum log_use use);
/* The same, and it is claimed for the caller, who gives it back. */
int log_take_room(struct log *log, uint64_t small_bytes, uint64_t bulk_bytes,
		  enum log_use use);
void log_give_room(struct log *log, uint64_t small_bytes, uint64_t bulk_bytes);
/* Give prepared segments back that claims and the reserve do not need, and the
 * end of the last bulk segment, when nobody appends; they are made again when
 * somebody does. all: those for a burst too. */
void log_trim(struct log *log, bool all);
/* Nobody appends, and before the small head took so many bytes: be ready for as
 * many, up to 32 MiB (in the background; where the host has plenty). While
 * segments are filled with zeros, the flushes of others wait for that. */
void log_expect(struct log *log, uint64_t bytes);
void log_claim(struct log *log, enum log_head head, uint64_t bytes);
void log_unclaim(struct log *log, enum log_head head, uint64_t bytes);
/* log_take_room() for the small head, without waiting: false, it has to. */
bool log_try_room(struct log *log, uint64_t small_bytes, enum log_use use);

/* 0, or the negative errno that stopped the log (with a text for people). */
int log_error(struct log *log, const char **text_out);
/* Stop it from outside (the reason is copied; the first one stays). */
void log_stop(struct log *log, int err, const char *reason);

/* Segments, ascending by number, but for those that are just being made or
 * given up. bytes: the file's size. */
struct log_segment {
	uint64_t number;
	enum log_head head;
	uint64_t bytes;
	bool writable; /* made by this log_start(): may still be appended to */
	bool moved; /* a piece of a moved file */
};
int log_list_segments(struct log *log, struct log_segment **segs_out,
		      size_t *n_out); /* free() *segs_out */

/* Of the segment that holds pos: where its file ends, as a position, and where
 * it does when it is as long as segments are made. 0: there is none. */
uint64_t log_segment_end(struct log *log, uint64_t pos, uint64_t *made_end_out);

/*
 * --- moved files: files of the host that are bulk data as they are ---
 *
 * log_adopt gives an open file of the host one more name, in log/, so that
 * each 64 MiB of it are the bytes of a bulk segment: byte `off` of it has the
 * position log_moved_pos(number, off). Nothing is written, and it is never
 * appended to; whoever adopts it sees to it that nobody else writes into it,
 * and that its bytes are durable before. -EXDEV, -EMLINK, -EPERM: the host
 * does not make that name. Its name is durable after log_sync_names().
 *
 * Flushed positions say nothing of moved files, and what follows a record is
 * not discarded when it is one (it may be the last name of the file): a sweep
 * removes what nothing reaches, with the last of its pieces.
 */
int log_adopt(struct log *log, int fd, uint64_t bytes, uint64_t *number_out);
int log_sync_names(struct log *log);
static inline uint64_t log_moved_pos(uint64_t number, uint64_t off)
{
	uint64_t in = ((uint64_t)1 << LOG_SEG_SHIFT) - 1;

	return (number + (off >> LOG_SEG_SHIFT) * 2) << LOG_SEG_SHIFT |
	       (off & in);
}
bool log_is_moved(struct log *log, uint64_t pos);
/* The moved file that holds pos: its number, size and name in the store's
 * folder. 1: there is none. */
int log_get_moved(struct log *log, uint64_t pos, uint64_t *number_out,
		  uint64_t *bytes_out, char name_out[DEV_NAME_MAX]);

/* Give a range of whole pages of one segment back to the host: its bytes are
 * undefined from here on. Where the host cannot, nothing happens. *freed is
 * raised by what was not given back before. One thread at a time. */
int log_punch(struct log *log, uint64_t pos, uint64_t len, uint64_t *freed);
/* Remove a segment that nobody reads and nothing is appended to. -EBUSY:
 * somebody does. 1: it is a piece of a moved file; that goes when all of them
 * were to be removed since log_begin_dropping(). */
void log_begin_dropping(struct log *log);
int log_drop_segment(struct log *log, uint64_t number);

/*
 * For recovery. sync_old: fdatasync the segments that existed at log_open and
 * hold positions at or above the limits, and the folder, so that what was read
 * is what stays. discard_after: remove the old small segments above small_end,
 * the old bulk ones above bulk_end, and cut the segments that hold these
 * positions (they are ends: positions just past the last byte to keep; 0 keeps
 * nothing). Durable on return.
 */
int log_sync_old(struct log *log, uint64_t small_from, uint64_t bulk_from);
int log_discard_after(struct log *log, uint64_t small_end, uint64_t bulk_end);

/* Bytes of an old segment that are not what they were (repair.h) as they should
 * be; durable after log_sync_old(). What lies beyond the end of a bulk segment
 * makes it longer, or anew; in small ones -ENXIO. */
int log_rewrite(struct log *log, uint64_t pos, const void *buf, size_t len);

/* Statistics for status and metrics, since log_open. */
struct log_stats {
	uint64_t appended_bytes[LOG_HEADS];
	uint64_t written_bytes[LOG_HEADS];
	uint64_t flushes;
	uint64_t segments;
	uint64_t segment_file_bytes; /* sum of sizes, prepared ones too */
	uint64_t prepared_bytes; /* ready and not yet appended to */
	uint64_t claimed_bytes;
	uint64_t unprepared_segments; /* made late: see Space */
};
void log_get_stats(struct log *log, struct log_stats *out);

/* Check what is in memory: appends do not overlap (I1), none spans segments
 * (I2), flushed and written lie below the tail. 0 or -EFSCORRUPTED with a
 * text. */
int log_check(struct log *log, char *why, size_t why_bytes);

#endif
