/* SPDX-License-Identifier: GPL-2.0-or-later */
/* repair.c - see repair.h. */
#include "txn/repair.h"

#include "txn/format.h"
#include "txn/node.h"
#include "txn/sum.h"

enum {
	SCAN_BYTES = 256 << 10,
	PAGE = REPAIR_BLOCK_BYTES,
	UNIT = EXTENT_UNIT_BYTES
};

struct want {
	uint64_t pos, sum;
	uint32_t len;
	bool is_node, done;
};

struct repair {
	struct log *log;
	struct want *v; /* ascending by position, but for new ones at the end */
	size_t n, cap;
	struct want **by_sum; /* blocks, while searching */
	size_t nby_sum;
	uint32_t lens[REPAIR_LENGTHS_MAX]; /* of packed ones among them */
	size_t nlens;
	uint8_t *scan;
	struct repair_stats st;
};

int repair_new(struct log *log, struct repair **out)
{
	struct repair *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->log = log;
	r->scan = malloc(SCAN_BYTES);
	if (!r->scan) {
		free(r);
		return -ENOMEM;
	}
	*out = r;
	return 0;
}

void repair_free(struct repair *r)
{
	if (!r)
		return;
	free(r->v);
	free(r->by_sum);
	free(r->scan);
	free(r);
}

void repair_get_stats(const struct repair *r, struct repair_stats *out)
{
	*out = r->st;
}

int repair_sync(struct repair *r)
{
	return log_sync_old(r->log, 0, 0);
}

/* --- what is wanted --- */

static size_t lower_bound(const struct repair *r, uint64_t pos)
{
	return array_lower_bound(r->v, r->n, sizeof(*r->v),
				 offsetof(struct want, pos), pos);
}

static struct want *find(const struct repair *r, uint64_t pos)
{
	size_t i = lower_bound(r, pos);

	return i < r->n && r->v[i].pos == pos ? &r->v[i] : NULL;
}

static int want(struct repair *r, uint64_t pos, uint64_t sum, uint32_t len,
		bool is_node)
{
	size_t i = lower_bound(r, pos);

	if (i < r->n && r->v[i].pos == pos) {
		r->v[i].done = false;
		return 0;
	}
	if (r->n == r->cap) {
		size_t cap = r->cap ? r->cap * 2 : 64;
		struct want *v = realloc(r->v, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		r->v = v;
		r->cap = cap;
	}
	memmove(&r->v[i + 1], &r->v[i], (r->n - i) * sizeof(*r->v));
	r->v[i] = (struct want){ pos, sum, len, is_node, false };
	r->n++;
	return 0;
}

int repair_want_block(struct repair *r, uint64_t pos, uint64_t sum,
		      uint32_t len)
{
	ASSERT(len && len <= PAGE);
	return want(r, pos, sum, len, false);
}

bool repair_is_wanted(const struct repair *r, uint64_t pos)
{
	const struct want *w = find(r, pos);

	return w && !w->done;
}

/* --- writing --- */

/* 0: the bytes are the right ones, and written; 1: they are not. */
static int try_bytes(struct repair *r, struct want *w, const uint8_t *buf)
{
	int err;

	if (sum64(buf, w->len) != w->sum)
		return 1;
	err = log_rewrite(r->log, w->pos, buf, w->len);
	if (err)
		return err == -ENXIO ? 1 : err; /* its place is gone */
	w->done = true;
	if (w->is_node)
		r->st.nodes++;
	else
		r->st.blocks++;
	return 0;
}

/* 0: buf has that sum now. */
static int find_flip(uint8_t *buf, size_t len, uint64_t sum)
{
	for (size_t i = 0; i < len * 8; i++) {
		buf[i / 8] ^= (uint8_t)(1u << (i % 8));
		if (sum64(buf, len) == sum)
			return 0;
		buf[i / 8] ^= (uint8_t)(1u << (i % 8));
	}
	return 1;
}

int repair_node(struct repair *r, const struct ptr *ptr, uint8_t *buf)
{
	struct want *w;
	int err = want(r, ptr->pos, ptr->sum, ptr->len, true);

	if (err)
		return err;
	w = find(r, ptr->pos);
	if (log_read(r->log, ptr->pos, buf, ptr->len) ||
	    find_flip(buf, ptr->len, ptr->sum))
		return -EFSBADCRC;
	err = try_bytes(r, w, buf);
	return err == 1 ? -EFSBADCRC : err;
}

int repair_offer(struct repair *r, uint64_t pos,
		 const uint8_t block[REPAIR_BLOCK_BYTES])
{
	struct want *w = find(r, pos);

	return w && !w->is_node ? try_bytes(r, w, block) : 1;
}

int repair_flip(struct repair *r, uint64_t pos)
{
	static const uint8_t zeros[PAGE];
	uint8_t buf[PAGE];
	struct want *w = find(r, pos);

	/* Zeros are what a lost write leaves: spare the time. */
	if (!w || w->is_node || log_read(r->log, pos, buf, w->len) ||
	    !memcmp(buf, zeros, w->len) || find_flip(buf, w->len, w->sum))
		return 1;
	return try_bytes(r, w, buf);
}

/* --- searching --- */

static int sum_cmp(const void *pa, const void *pb)
{
	const struct want *const *a = pa, *const *b = pb;

	return (*a)->sum < (*b)->sum ? -1 : (*a)->sum > (*b)->sum;
}

static bool is_packed(const struct want *w)
{
	return w->pos % PAGE || w->len != PAGE;
}

static void note_length(struct repair *r, const struct want *w)
{
	for (size_t i = 0; i < r->nlens; i++)
		if (r->lens[i] == w->len)
			return;
	if (r->nlens < REPAIR_LENGTHS_MAX)
		r->lens[r->nlens++] = w->len;
}

static int index_blocks(struct repair *r)
{
	free(r->by_sum);
	r->nby_sum = 0;
	r->nlens = 0;
	r->by_sum = calloc(r->n + 1, sizeof(*r->by_sum));
	if (!r->by_sum)
		return -ENOMEM;
	for (size_t i = 0; i < r->n; i++) {
		if (r->v[i].is_node || r->v[i].done)
			continue;
		r->by_sum[r->nby_sum++] = &r->v[i];
		if (is_packed(&r->v[i]))
			note_length(r, &r->v[i]);
	}
	if (r->nby_sum)
		qsort(r->by_sum, r->nby_sum, sizeof(*r->by_sum), sum_cmp);
	return 0;
}

/* Bytes that may be a wanted block, or several of them. */
static int see_block(struct repair *r, const uint8_t *buf, uint32_t len)
{
	uint64_t sum = sum64(buf, len);
	size_t lo = 0, hi = r->nby_sum;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (r->by_sum[mid]->sum < sum)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < r->nby_sum && r->by_sum[lo]->sum == sum; lo++) {
		struct want *w = r->by_sum[lo];
		int err = w->done || w->len != len ? 0 : try_bytes(r, w, buf);

		if (err < 0)
			return err;
	}
	return 0;
}

/* Packed blocks that begin in the first `from` bytes of what was read. */
static int see_packed(struct repair *r, const uint8_t *buf, size_t from,
		      size_t len)
{
	int err = 0;

	for (size_t i = 0; i < from && !err; i += UNIT)
		for (size_t k = 0; k < r->nlens && !err; k++)
			if (r->lens[k] <= len - i)
				err = see_block(r, buf + i, r->lens[k]);
	return err;
}

/*
 * A page at pos where a wanted node may begin: a page goes astray whole, so the
 * node lies at the same offset. Its end may be in the next page, of there or of
 * where it belongs.
 */
static int see_node(struct repair *r, struct want *w, const uint8_t page[PAGE],
		    uint64_t pos)
{
	size_t at = w->pos % PAGE, here = min_u64(PAGE - at, w->len);
	uint8_t buf[TREE_NODE_MAX];
	int err = 1;

	if (here < NODE_HEADER_BYTES ||
	    get_le16(page + at + NODE_OFF_MAGIC) != NODE_MAGIC ||
	    get_le64(page + at + NODE_OFF_POS) != w->pos)
		return 0;
	memcpy(buf, page + at, here);
	for (int i = 0; i < 2 && err == 1; i++) {
		uint64_t rest = i ? pos + PAGE : w->pos + here;

		if (here < w->len &&
		    log_read(r->log, rest, buf + here, w->len - here))
			continue;
		err = try_bytes(r, w, buf);
	}
	return err == 1 ? 0 : err;
}

static int see_page(struct repair *r, const uint8_t page[PAGE], uint64_t pos)
{
	int err = r->nby_sum ? see_block(r, page, PAGE) : 0;

	for (size_t i = 0; i < r->n && !err; i++)
		if (r->v[i].is_node && !r->v[i].done)
			err = see_node(r, &r->v[i], page, pos);
	return err;
}

/* Pages that cannot be read are none. *len_out: read into r->scan. */
static void scan_read(struct repair *r, uint64_t pos, size_t *len_out)
{
	if (log_read(r->log, pos, r->scan, *len_out)) {
		*len_out = min_u64(*len_out, PAGE);
		if (log_read(r->log, pos, r->scan, *len_out))
			*len_out = 0;
	}
}

static int search_segment(struct repair *r, const struct log_segment *seg)
{
	uint64_t base = seg->number << LOG_SEG_SHIFT;
	int err = 0;

	for (uint64_t off = 0; off < seg->bytes && !err;) {
		size_t len = min_u64(SCAN_BYTES, seg->bytes - off), step;

		scan_read(r, base + off, &len);
		/* The last page is read again: what begins there ends in the
		 * next one. */
		step = len == SCAN_BYTES && r->nlens ? len - PAGE
						     : max_u64(len, PAGE);
		for (size_t i = 0; i + PAGE <= len && !err; i += PAGE)
			err = see_page(r, r->scan + i, base + off + i);
		if (!err)
			err = see_packed(r, r->scan, min_u64(step, len), len);
		off += step;
	}
	return err;
}

int repair_search(struct repair *r, uint64_t *healed_out)
{
	uint64_t before = r->st.nodes + r->st.blocks;
	struct log_segment *segs = NULL;
	bool any = false;
	size_t n = 0;
	int err;

	*healed_out = 0;
	for (size_t i = 0; i < r->n; i++)
		any |= !r->v[i].done;
	if (!any)
		return 0;
	err = log_list_segments(r->log, &segs, &n);
	if (!err)
		err = index_blocks(r);
	for (size_t i = 0; i < n && !err; i++)
		err = search_segment(r, &segs[i]);
	free(segs);
	*healed_out = r->st.nodes + r->st.blocks - before;
	return err;
}

/* --- records --- */

int repair_put_record(struct repair *r, const struct record *rec)
{
	struct record copy = *rec;
	uint8_t *buf = malloc(record_bytes(rec));
	int err;

	if (!buf)
		return -ENOMEM;
	record_encode(&copy, buf);
	err = log_rewrite(r->log, rec->pos, buf, record_bytes(rec));
	if (!err)
		r->st.records++;
	free(buf);
	return err;
}

/* 0: there was one, and it is as it was; 1: none. */
static int flip_record(struct repair *r, uint8_t *page, uint64_t pos,
		       const uint8_t uuid[16])
{
	struct record rec = { 0 };
	size_t len, need;
	int err;

	/* One bit is wrong: at least one of these is right. */
	if (get_le32(page + REC_OFF_MAGIC) != REC_MAGIC &&
	    get_le64(page + REC_OFF_POS) != pos)
		return 1;
	len = min_u64(max_u64(get_le32(page + REC_OFF_LEN), REC_HEADER_BYTES),
		      PAGE);
	for (size_t i = 0; i < len * 8; i++) {
		page[i / 8] ^= (uint8_t)(1u << (i % 8));
		err = record_decode(page, PAGE, pos, uuid, &rec, &need);
		page[i / 8] ^= (uint8_t)(1u << (i % 8));
		if (err == -ENOMEM)
			return err;
		if (err)
			continue;
		err = repair_put_record(r, &rec);
		record_release(&rec);
		return err;
	}
	return 1;
}

int repair_records(struct repair *r, uint64_t above, const uint8_t uuid[16])
{
	struct log_segment *segs = NULL;
	uint8_t page[PAGE];
	size_t n = 0;
	int err = log_list_segments(r->log, &segs, &n);

	for (size_t i = 0; i < n && err >= 0; i++) {
		uint64_t base = segs[i].number << LOG_SEG_SHIFT;

		if (segs[i].head != LOG_SMALL || base + segs[i].bytes <= above)
			continue;
		for (uint64_t off = 0; off < segs[i].bytes && err >= 0;
		     off += PAGE) {
			size_t len = min_u64(PAGE, segs[i].bytes - off);

			if (base + off <= above)
				continue;
			memset(page, 0, sizeof(page));
			if (!log_read(r->log, base + off, page, len))
				err = flip_record(r, page, base + off, uuid);
		}
	}
	free(segs);
	return err < 0 ? err : 0;
}
