/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * log_clone.c - bytes that the log and files of the host share, where the host
 * can (XFS, btrfs). What is shared there is copied by the host when either is
 * written, and stays with the other when one gives it back.
 */
#include "txn/log_internal.h"

/* The place is free again, if nothing was appended behind it and no flush has
 * taken its end for that of the log: what is appended next would lie below what
 * is known durable, and a flush that waits to reach that end never would. */
static void give_back(struct log *log, struct head *h, uint64_t pos, size_t len)
{
	pthread_mutex_lock(&h->lock);
	if (h->tail == pos + len && h->asked <= pos)
		h->tail = pos;
	log_note_free(h);
	pthread_mutex_unlock(&h->lock);
}

/*
 * Under write_lock: a flush that began before ends before the place is given
 * out; one that begins later waits for the lock, and finds the segment among
 * those that are to be synced.
 */
static int clone_in(struct log *log, struct head *h, int fd, uint64_t off,
		    size_t len, uint64_t *pos_out)
{
	struct dev_file *f;
	struct seg *s;
	int err;

	/* Reading takes the bytes from the file when nothing before them waits
	 * in memory. */
	pthread_mutex_lock(&h->lock);
	err = log_place(log, h, LOG_PAGE_BYTES, len, pos_out);
	if (!err) {
		s = h->cur;
		h->tail = *pos_out + len;
		log_note_free(h);
	}
	pthread_mutex_unlock(&h->lock);
	if (err)
		return err;
	err = log_write_below(log, h, *pos_out);
	if (!err)
		err = log_begin_write(log, h, s, &f);
	if (err)
		return err;
	err = log->p.dev->ops->clone(f, seg_offset(*pos_out), fd, off, len);
	log_unpin(log, s);
	if (err) {
		give_back(log, h, *pos_out, len);
		return err;
	}
	pthread_mutex_lock(&h->lock);
	h->appended_bytes += len;
	pthread_mutex_unlock(&h->lock);
	return 0;
}

int log_clone_in(struct log *log, int fd, uint64_t off, size_t len,
		 uint64_t *pos_out)
{
	struct head *h = &log->heads[LOG_BULK];
	int err;

	ASSERT(len && len <= LOG_APPEND_MAX && !(len % LOG_PAGE_BYTES));
	if (log->p.read_only || !log->started)
		return -EROFS;
	if (log_error(log, NULL))
		return -EIO;
	pthread_mutex_lock(&h->write_lock);
	err = clone_in(log, h, fd, off, len, pos_out);
	pthread_mutex_unlock(&h->write_lock);
	return err;
}

int log_clone_out(struct log *log, uint64_t pos, size_t len, int fd,
		  uint64_t off)
{
	struct seg *s = log_find_seg(log, pos);
	struct dev_file *f;
	int err;

	if (!s || seg_offset(pos) + len > seg_bytes(s))
		return -ENXIO;
	if (log->started && !s->old) {
		err = log_write_out(log, s->head);
		if (err)
			return err;
	}
	err = log_pin(log, s, &f);
	if (err)
		return err;
	err = log->p.dev->ops->share(f, seg_base(s) + seg_offset(pos), len, fd,
				     off);
	log_unpin(log, s);
	return err;
}
