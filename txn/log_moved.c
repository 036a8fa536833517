/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * log_moved.c - files of the host that lie in the log as they are; "moved
 * files" in log.h. A file's name in log/ has its number and its size: how many
 * numbers it takes is known without looking at it, though there may be many
 * files, and also when it is damaged.
 */
#include "txn/log_internal.h"

#include <inttypes.h>

enum { PIECE_BYTES = 1 << LOG_SEG_SHIFT };

static uint64_t count_pieces(uint64_t bytes)
{
	return (bytes + PIECE_BYTES - 1) / PIECE_BYTES;
}

void moved_name(const struct moved *m, char name[DEV_NAME_MAX])
{
	(void)snprintf(name, DEV_NAME_MAX, "log/%016" PRIx64 "-%" PRIx64 ".m",
		       m->first, m->bytes);
}

/* Hexadecimal digits, at most max; returns how many. */
static size_t parse_hex(const char *s, size_t max, uint64_t *out)
{
	static const char digits[] = "0123456789abcdef";
	size_t n = 0;

	*out = 0;
	while (n < max && s[n] && strchr(digits, s[n])) {
		*out = *out << 4 | (uint64_t)(strchr(digits, s[n]) - digits);
		n++;
	}
	return n;
}

int moved_parse(const char *name, struct moved *out)
{
	const uint64_t numbers = (uint64_t)1 << (64 - LOG_SEG_SHIFT);
	struct moved m = { 0 };
	size_t n;

	if (parse_hex(name, 16, &m.first) != 16 || name[16] != '-')
		return -EINVAL;
	n = parse_hex(name + 17, 15, &m.bytes);
	if (!n || name[17] == '0' || strcmp(name + 17 + n, ".m") != 0)
		return -EINVAL;
	if (m.first < 2 || !(m.first & 1) || m.first >= numbers ||
	    (count_pieces(m.bytes) - 1) * 2 >= numbers - m.first)
		return -EINVAL;
	*out = m;
	return 0;
}

/* --- into the registry --- */

static int add_piece(struct log *log, struct moved *m, uint64_t i, bool old)
{
	struct seg *s = calloc(1, sizeof(*s));
	uint64_t left = m->bytes - i * PIECE_BYTES;
	int err;

	if (!s)
		return -ENOMEM;
	s->number = m->first + 2 * i;
	s->head = LOG_BULK;
	s->bytes = round_up_u64(min_u64(left, PIECE_BYTES), LOG_PAGE_BYTES);
	s->moved = m;
	s->old = old;
	s->made = true;
	err = old ? log_push_seg(log, s) : log_add_seg(log, s);
	if (err)
		free(s);
	else
		m->npieces++;
	return err;
}

/* What is there of a large file, so that a name cannot ask for any number of
 * segments. */
static int real_bytes(struct log *log, const struct moved *m, uint64_t *out)
{
	char name[DEV_NAME_MAX];
	struct dev_file *f;
	int err;

	moved_name(m, name);
	err = log->p.dev->ops->open(log->p.dev, name, false, &f);
	if (err)
		return err;
	err = log->p.dev->ops->size(f, out);
	log->p.dev->ops->close(f);
	*out = min_u64(*out, m->bytes);
	return err;
}

int moved_scan(struct log *log, const struct moved *found)
{
	uint64_t last = found->first + 2 * (count_pieces(found->bytes) - 1);
	struct head *h = &log->heads[LOG_BULK];
	uint64_t bytes = found->bytes, n;
	struct moved *m;
	int err = 0;

	if (last > h->last_number)
		h->last_number = last;
	if (bytes > PIECE_BYTES)
		err = real_bytes(log, found, &bytes);
	if (err)
		return err;
	n = count_pieces(bytes);
	m = malloc(sizeof(*m));
	if (!m)
		return -ENOMEM;
	*m = *found;
	for (uint64_t i = 0; i < n && !err; i++)
		err = add_piece(log, m, i, true);
	if (!m->npieces)
		free(m);
	return err;
}

/* --- adopting --- */

static uint64_t take_numbers(struct log *log, uint64_t n)
{
	struct head *h = &log->heads[LOG_BULK];
	uint64_t first;

	pthread_mutex_lock(&h->lock);
	first = h->last_number + 2;
	h->last_number += 2 * n;
	pthread_mutex_unlock(&h->lock);
	return first;
}

static void forget(struct log *log, uint64_t first, uint64_t n)
{
	while (n--) {
		struct seg *s =
			log_find_seg(log, (first + 2 * n) << LOG_SEG_SHIFT);

		if (s)
			log_remove_seg(log, s);
	}
}

int log_adopt(struct log *log, int fd, uint64_t bytes, uint64_t *number_out)
{
	const struct dev_ops *ops = log->p.dev->ops;
	uint64_t n = count_pieces(bytes), first, added = 0;
	char name[DEV_NAME_MAX];
	struct moved *m;
	int err = 0;

	ASSERT(bytes);
	if (log->p.read_only || !log->started || log_error(log, NULL))
		return -EROFS;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->bytes = bytes;
	first = m->first = take_numbers(log, n);
	moved_name(m, name);
	while (!err && added < n) {
		err = add_piece(log, m, added, false);
		added += !err;
	}
	if (!added)
		free(m);
	if (!err)
		err = ops->link(log->p.dev, fd, name);
	if (err) {
		forget(log, first, added);
		return err;
	}
	*number_out = first;
	return 0;
}

int log_sync_names(struct log *log)
{
	int err;

	if (log_error(log, NULL))
		return -EIO;
	err = log->p.dev->ops->sync_dir(log->p.dev, "log");
	if (err)
		log_stop(log, err, "flushing .txn/log");
	return err ? -EIO : 0;
}

/* --- asking --- */

int log_get_moved(struct log *log, uint64_t pos, uint64_t *number_out,
		  uint64_t *bytes_out, char name_out[DEV_NAME_MAX])
{
	struct seg *s = log_find_seg(log, pos);

	if (!s || !s->moved)
		return 1;
	*number_out = s->moved->first;
	*bytes_out = s->moved->bytes;
	moved_name(s->moved, name_out);
	return 0;
}

bool log_is_moved(struct log *log, uint64_t pos)
{
	struct seg *s = log_find_seg(log, pos);

	return s && s->moved;
}

/* --- giving back --- */

static bool is_pinned(struct log *log, const struct moved *m)
{
	bool pinned = false;

	for (uint64_t i = 0; i < count_pieces(m->bytes) && !pinned; i++) {
		struct seg *s =
			log_find_seg(log, (m->first + 2 * i) << LOG_SEG_SHIFT);

		pthread_mutex_lock(&log->seg_lock);
		pinned = s && s->pins;
		pthread_mutex_unlock(&log->seg_lock);
	}
	return pinned;
}

/* A piece that nothing reached may be reached now: its file was on its way. */
void log_begin_dropping(struct log *log)
{
	pthread_mutex_lock(&log->seg_lock);
	for (size_t i = 0; i < log->nsegs; i++) {
		struct seg *s = log->segs[i];

		s->dead = false;
		if (s->moved)
			s->moved->ndead = 0;
	}
	pthread_mutex_unlock(&log->seg_lock);
}

int moved_drop(struct log *log, struct seg *s)
{
	struct moved *m = s->moved;
	uint64_t first = m->first, n = count_pieces(m->bytes);
	char name[DEV_NAME_MAX];
	int err;

	if (!s->dead) {
		s->dead = true;
		m->ndead++;
	}
	if (m->ndead < m->npieces)
		return 1;
	if (is_pinned(log, m))
		return -EBUSY;
	moved_name(m, name);
	err = log->p.dev->ops->remove(log->p.dev, name);
	if (!err)
		forget(log, first, n);
	return err;
}
