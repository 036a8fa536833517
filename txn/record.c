/* SPDX-License-Identifier: GPL-2.0-or-later */
/* record.c - see record.h. Bytes: FORMAT.md 3. */
#include "txn/record.h"

#include "txn/format.h"
#include "txn/sum.h"

enum { SCAN_BYTES = 256 * 1024 };

void record_release(struct record *rec)
{
	free(rec->roots);
	*rec = (struct record){ 0 };
}

int record_add_root(struct record *rec, uint32_t kind, uint64_t id,
		    const struct ptr *ptr)
{
	struct record_root *v;

	v = realloc(rec->roots, (rec->nroots + 1) * sizeof(*v));
	if (!v)
		return -ENOMEM;
	rec->roots = v;
	v[rec->nroots++] = (struct record_root){ kind, id, *ptr };
	return 0;
}

struct ptr record_find_root(const struct record *rec, uint32_t kind,
			    uint64_t id)
{
	for (size_t i = 0; i < rec->nroots; i++)
		if (rec->roots[i].kind == kind && rec->roots[i].id == id)
			return rec->roots[i].ptr;
	return (struct ptr){ 0 };
}

bool record_same_state(const struct record *a, const struct record *b)
{
	if (a->head_number != b->head_number || a->nroots != b->nroots)
		return false;
	for (size_t i = 0; i < a->nroots; i++) {
		const struct record_root *r = &a->roots[i];
		struct ptr ptr = record_find_root(b, r->kind, r->id);

		if (!ptr_eq(&r->ptr, &ptr))
			return false;
	}
	return true;
}

int record_copy(const struct record *rec, struct record *out)
{
	struct record_root *roots = calloc(rec->nroots + 1, sizeof(*roots));

	if (!roots)
		return -ENOMEM;
	if (rec->nroots)
		memcpy(roots, rec->roots, rec->nroots * sizeof(*roots));
	*out = *rec;
	out->roots = roots;
	return 0;
}

size_t record_bytes(const struct record *rec)
{
	return REC_HEADER_BYTES + rec->nroots * REC_ROOT_BYTES;
}

/* The sum covers everything but its own field. */
static uint64_t record_sum(const uint8_t *buf, size_t len)
{
	return XXH3_64bits_withSeed(buf + REC_OFF_SUM + 8,
				    len - REC_OFF_SUM - 8,
				    XXH3_64bits(buf, REC_OFF_SUM));
}

void record_encode(struct record *rec, uint8_t *buf)
{
	size_t len = record_bytes(rec);

	ASSERT(len <= LOG_APPEND_MAX);
	put_le32(buf + REC_OFF_MAGIC, REC_MAGIC);
	put_le16(buf + REC_OFF_VERSION, REC_VERSION);
	put_le16(buf + REC_OFF_FLAGS, rec->flags);
	put_le32(buf + REC_OFF_LEN, (uint32_t)len);
	put_le32(buf + REC_OFF_NROOTS, (uint32_t)rec->nroots);
	put_le64(buf + REC_OFF_SEQ, rec->seq);
	put_le64(buf + REC_OFF_POS, rec->pos);
	put_le64(buf + REC_OFF_PREV_POS, rec->prev_pos);
	put_le64(buf + REC_OFF_PREV_SUM, rec->prev_sum);
	memcpy(buf + REC_OFF_UUID, rec->uuid, sizeof(rec->uuid));
	put_le64(buf + REC_OFF_LINEAGE, rec->lineage);
	put_le64(buf + REC_OFF_SMALL_FLUSHED, rec->small_flushed);
	put_le64(buf + REC_OFF_BULK_FLUSHED, rec->bulk_flushed);
	put_le64(buf + REC_OFF_NEXT_OBJ, rec->next_obj);
	put_le64(buf + REC_OFF_NEXT_VIEW, rec->next_view);
	put_le64(buf + REC_OFF_HEAD_NUMBER, rec->head_number);
	put_le64(buf + REC_OFF_TIME, (uint64_t)rec->time_ns);
	for (size_t i = 0; i < rec->nroots; i++) {
		const struct record_root *r = &rec->roots[i];
		uint8_t *p = buf + REC_HEADER_BYTES + i * REC_ROOT_BYTES;

		put_le32(p + REC_ROOT_OFF_KIND, r->kind);
		put_le32(p + REC_ROOT_OFF_PTR_LEN, r->ptr.len);
		put_le64(p + REC_ROOT_OFF_ID, r->id);
		put_le64(p + REC_ROOT_OFF_PTR_POS, r->ptr.pos);
		put_le64(p + REC_ROOT_OFF_PTR_SUM, r->ptr.sum);
	}
	rec->sum = record_sum(buf, len);
	put_le64(buf + REC_OFF_SUM, rec->sum);
}

static int decode_roots(const uint8_t *buf, size_t n, struct record *rec)
{
	rec->roots = calloc(n ? n : 1, sizeof(*rec->roots));
	if (!rec->roots)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const uint8_t *p = buf + i * REC_ROOT_BYTES;
		struct record_root *r = &rec->roots[i];

		r->kind = get_le32(p + REC_ROOT_OFF_KIND);
		r->id = get_le64(p + REC_ROOT_OFF_ID);
		r->ptr.len = get_le32(p + REC_ROOT_OFF_PTR_LEN);
		r->ptr.pos = get_le64(p + REC_ROOT_OFF_PTR_POS);
		r->ptr.sum = get_le64(p + REC_ROOT_OFF_PTR_SUM);
	}
	rec->nroots = n;
	return 0;
}

static void decode_header(const uint8_t *buf, struct record *rec)
{
	rec->flags = get_le16(buf + REC_OFF_FLAGS);
	rec->sum = get_le64(buf + REC_OFF_SUM);
	rec->seq = get_le64(buf + REC_OFF_SEQ);
	rec->pos = get_le64(buf + REC_OFF_POS);
	rec->prev_pos = get_le64(buf + REC_OFF_PREV_POS);
	rec->prev_sum = get_le64(buf + REC_OFF_PREV_SUM);
	memcpy(rec->uuid, buf + REC_OFF_UUID, sizeof(rec->uuid));
	rec->lineage = get_le64(buf + REC_OFF_LINEAGE);
	rec->small_flushed = get_le64(buf + REC_OFF_SMALL_FLUSHED);
	rec->bulk_flushed = get_le64(buf + REC_OFF_BULK_FLUSHED);
	rec->next_obj = get_le64(buf + REC_OFF_NEXT_OBJ);
	rec->next_view = get_le64(buf + REC_OFF_NEXT_VIEW);
	rec->head_number = get_le64(buf + REC_OFF_HEAD_NUMBER);
	rec->time_ns = (int64_t)get_le64(buf + REC_OFF_TIME);
}

int record_decode(const uint8_t *buf, size_t len, uint64_t pos,
		  const uint8_t uuid[16], struct record *rec_out,
		  size_t *need_out)
{
	struct record rec = { 0 };
	size_t bytes, n;
	int err;

	if (len < REC_HEADER_BYTES || get_le32(buf) != REC_MAGIC)
		return -EFSCORRUPTED;
	/* An intact record of another place or another store is none here. */
	if (get_le64(buf + REC_OFF_POS) != pos ||
	    memcmp(buf + REC_OFF_UUID, uuid, 16))
		return -EFSCORRUPTED;
	bytes = get_le32(buf + REC_OFF_LEN);
	if (bytes < REC_HEADER_BYTES || bytes > LOG_APPEND_MAX)
		return -EFSCORRUPTED;
	if (bytes > len) {
		*need_out = bytes;
		return -EAGAIN;
	}
	if (get_le64(buf + REC_OFF_SUM) != record_sum(buf, bytes))
		return -EFSBADCRC;
	if (get_le16(buf + REC_OFF_VERSION) != REC_VERSION)
		return -EPROTONOSUPPORT;
	n = get_le32(buf + REC_OFF_NROOTS);
	if ((bytes - REC_HEADER_BYTES) / REC_ROOT_BYTES != n ||
	    (bytes - REC_HEADER_BYTES) % REC_ROOT_BYTES)
		return -EFSCORRUPTED;
	decode_header(buf, &rec);
	err = decode_roots(buf + REC_HEADER_BYTES, n, &rec);
	if (err)
		return err;
	*rec_out = rec;
	return 0;
}

/* Decode what begins at buf; what does not end there is read from the log. */
static int decode_or_read(struct log *log, const uint8_t *buf, size_t len,
			  uint64_t pos, const uint8_t uuid[16],
			  struct record *rec_out)
{
	uint8_t *all = NULL;
	size_t need = 0;
	int err;

	err = record_decode(buf, len, pos, uuid, rec_out, &need);
	if (err != -EAGAIN)
		return err;
	all = malloc(need);
	if (!all)
		return -ENOMEM;
	err = log_read(log, pos, all, need);
	if (!err) {
		err = record_decode(all, need, pos, uuid, rec_out, &need);
		if (err == -EAGAIN)
			err = -EFSCORRUPTED; /* changed between two reads */
	}
	free(all);
	return err;
}

int record_read(struct log *log, uint64_t pos, const uint8_t uuid[16],
		struct record *rec_out)
{
	uint8_t head[REC_HEADER_BYTES];
	int err;

	err = log_read(log, pos, head, sizeof(head));
	if (err)
		return err;
	return decode_or_read(log, head, sizeof(head), pos, uuid, rec_out);
}

/* Is err only "no record here"? Damage of the medium and lack of memory are
 * not: taking them for an empty page would choose an older state. */
static bool is_no_record(int err)
{
	return err == -EFSCORRUPTED || err == -EFSBADCRC || err == -ENXIO;
}

static int find_in_segment(struct log *log, const struct log_segment *seg,
			   const uint8_t uuid[16], uint64_t below, uint8_t *buf,
			   struct record *rec_out)
{
	uint64_t base = seg->number << LOG_SEG_SHIFT;
	uint64_t end = below <= base ? 0 : min_u64(seg->bytes, below - base);

	while (end) {
		/* Chunks begin at multiples of their size; the last may be
		 * short, and end within a record's page: segments are cut
		 * right behind their last record. */
		uint64_t start = (end - 1) / SCAN_BYTES * SCAN_BYTES;
		uint64_t off = round_up_u64(end, REC_ALIGN);
		int err = log_read(log, base + start, buf, end - start);

		if (err)
			return err;
		while (off > start) {
			off -= REC_ALIGN;
			if (end - off < REC_HEADER_BYTES ||
			    get_le32(buf + (off - start)) != REC_MAGIC)
				continue;
			err = decode_or_read(log, buf + (off - start),
					     end - off, base + off, uuid,
					     rec_out);
			if (!is_no_record(err))
				return err;
		}
		end = start;
	}
	return 1;
}

int record_find_last(struct log *log, const uint8_t uuid[16], uint64_t below,
		     struct record *rec_out)
{
	struct log_segment *segs = NULL;
	uint8_t *buf = NULL;
	size_t n = 0;
	int err;

	err = log_list_segments(log, &segs, &n);
	if (err)
		return err;
	buf = malloc(SCAN_BYTES);
	if (!buf) {
		err = -ENOMEM;
		goto out;
	}
	err = 1;
	while (err == 1 && n--)
		if (segs[n].head == LOG_SMALL)
			err = find_in_segment(log, &segs[n], uuid, below, buf,
					      rec_out);
out:
	free(buf);
	free(segs);
	return err;
}
