/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * store_copy.c - the file "last": a copy of a durable record, beside the log.
 *
 * A log that lost its end, or of which an older version was put back, looks
 * like one that never had it. The copy says that there was more, and stands in
 * for the record where only that was lost. It is written after the first record
 * of a run that changes something, after the first such record of each small
 * segment, and at a clean close: so the loss of a segment is always seen.
 *
 * Nothing depends on its being new: whatever fails here is told and left.
 */
#include "txn/store_internal.h"

#include "txn/format.h"

static const char name[] = "last";

static uint64_t segment_of(uint64_t pos)
{
	return pos >> LOG_SEG_SHIFT;
}

void store_keep_copy(struct store *store)
{
	struct record rec = { 0 };
	uint8_t *buf = NULL;
	int err;

	err = store_last_record(store, &rec);
	if (err)
		goto out;
	buf = malloc(record_bytes(&rec));
	if (!buf) {
		err = -ENOMEM;
		goto out;
	}
	record_encode(&rec, buf);
	err = dev_replace(store->dev, name, buf, record_bytes(&rec));
	if (!err)
		store->copied_pos = rec.pos;
out:
	if (err)
		env_logf(store->env, ENV_NOTICE,
			 "the copy of the last record is not renewed: %s",
			 strerror(-err));
	record_release(&rec);
	free(buf);
}

void store_note_record(struct store *store)
{
	if (segment_of(store->copied_pos) != segment_of(store->last.pos))
		store_keep_copy(store);
}

int store_read_copy(struct store *store, struct record *out)
{
	char *buf = NULL;
	size_t len = 0, need;
	uint64_t pos = 0;
	int err;

	err = dev_read_all(store->dev, name, LOG_APPEND_MAX, &buf, &len);
	if (!err && len >= REC_HEADER_BYTES)
		pos = get_le64((uint8_t *)buf + REC_OFF_POS);
	if (!err)
		err = record_decode((uint8_t *)buf, len, pos, store->uuid, out,
				    &need);
	free(buf);
	if (err == -ENOMEM)
		return err;
	if (err)
		env_logf(store->env, ENV_WARNING,
			 "the copy of the last record, .txn/last, cannot be "
			 "read (%s): had the log lost its end, nothing would "
			 "show that",
			 strerror(-err));
	return err ? 1 : 0;
}
