/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * forge.c - see forge.h. An edit is 12 bytes: what, node, item, how, value (8,
 * little-endian). Node, item and the rest are taken modulo what there is, so
 * every edit means something.
 */
#include "tests/lib/forge.h"

#include <xxhash.h>

#include "txn/node.h"
#include "txn/record.h"
#include "txn/store_internal.h"

enum {
	ROOM = 256 << 10, /* behind the last record */
	NODES = 512,
	NEW_NODES = 24,
	/* A node may grow beyond what a store would take. */
	BUF = 2 * TREE_NODE_MAX,
	RAW = 8, /* edits of a node's finished bytes */
	INOS = 64
};

enum { KIND_FILES, KIND_CATALOG, KIND_OTHER };

struct raw {
	uint32_t off;
	uint8_t len;
	uint64_t value;
	bool after; /* the sum is made: it will be wrong */
};

struct fnode {
	uint64_t pos; /* in the store; of new ones: where it goes */
	uint32_t len, base_len;
	uint8_t kind;
	uint8_t level;
	bool edited, sealed, busy;
	struct ptr now; /* once sealed */
	uint8_t *base; /* bytes in the store; NULL: new */
	uint8_t *buf; /* BUF bytes, once edited */
	struct raw raw[RAW];
	unsigned int nraw;
};

struct forge {
	struct simdev *sim;
	struct fnode n[NODES];
	unsigned int nbase, count;
	struct record rec, work; /* work: of the image being made */
	uint64_t ino[INOS];
	unsigned int nino;
	/* of the image being made */
	struct simdev *img;
	uint64_t scratch, rec_pos; /* positions */
	struct raw rec_raw[RAW];
	unsigned int nrec_raw;
};

struct edit {
	uint8_t what, node, item, how;
	uint64_t value;
};

enum {
	EDIT_KEY, /* of an item: obj, kind, off, length of the value */
	EDIT_VALUE, /* bytes of an item's value */
	EDIT_REMOVE, /* an item */
	EDIT_COPY, /* an item again, at another key */
	EDIT_RESIZE, /* an item's value */
	EDIT_POINT, /* an item's pointer at another node */
	EDIT_NEW, /* a node above another one */
	EDIT_RAW, /* finished bytes of a node */
	EDIT_ROOT, /* of the record */
	EDIT_RECORD, /* fields of the record */
	EDIT_RECORD_RAW,
	EDIT_SEGMENT, /* missing, short, overwritten */
	EDIT_FORMAT,
	EDIT_LEVEL, /* of a node */
	EDITS
};

/* --- reading the store --- */

static void segment_name(uint64_t pos, char name[DEV_NAME_MAX])
{
	(void)snprintf(name, DEV_NAME_MAX, "log/%016llx.%c",
		       (unsigned long long)(pos >> LOG_SEG_SHIFT),
		       log_head_of(pos) == LOG_SMALL ? 's' : 'b');
}

static uint64_t offset_of(uint64_t pos)
{
	return pos & (((uint64_t)1 << LOG_SEG_SHIFT) - 1);
}

static size_t read_at(struct simdev *sim, uint64_t pos, uint8_t *buf,
		      size_t len)
{
	struct dev *dev = simdev_dev(sim);
	struct dev_file *file;
	char name[DEV_NAME_MAX];
	size_t got = 0;

	segment_name(pos, name);
	if (dev->ops->open(dev, name, false, &file))
		return 0;
	if (dev->ops->read(file, offset_of(pos), buf, len, &got))
		got = 0;
	dev->ops->close(file);
	return got;
}

static void write_at(struct simdev *sim, uint64_t pos, const uint8_t *buf,
		     size_t len)
{
	struct dev *dev = simdev_dev(sim);
	struct dev_iov iov = { buf, len };
	struct dev_file *file;
	char name[DEV_NAME_MAX];

	segment_name(pos, name);
	if (dev->ops->open(dev, name, true, &file))
		return; /* an edit removed it */
	ASSERT(!dev->ops->writev(file, offset_of(pos), &iov, 1));
	dev->ops->close(file);
}

static struct fnode *find_node(struct forge *f, uint64_t pos)
{
	for (unsigned int i = 0; i < f->count; i++)
		if (f->n[i].pos == pos)
			return &f->n[i];
	return NULL;
}

/* The pointer that an item holds; false: it holds none. */
static bool item_ptr(const struct fnode *n, const uint8_t *item)
{
	struct val val = { item + ITEM_HEADER_BYTES,
			   get_le16(item + ITEM_OFF_VALUE_LEN) };
	struct key key = KEY(get_le64(item + ITEM_OFF_OBJ), item[ITEM_OFF_KIND],
			     get_le64(item + ITEM_OFF_OFF));
	struct ptr ptr;

	if (n->level)
		return val.len == PTR_BYTES;
	return n->kind == KIND_CATALOG && catalog_item_root(&key, &val, &ptr);
}

static const uint8_t *node_bytes(const struct fnode *n)
{
	return n->buf ? n->buf : n->base;
}

/* Item i of a node and its length; NULL: there is none. */
static const uint8_t *node_item(const struct fnode *n, unsigned int i,
				size_t *len)
{
	const uint8_t *p = node_bytes(n);
	size_t at = NODE_HEADER_BYTES;

	while (n->len - at >= ITEM_HEADER_BYTES) {
		*len = item_bytes(get_le16(p + at + ITEM_OFF_VALUE_LEN));
		if (*len > n->len - at)
			break;
		if (!i--)
			return p + at;
		at += *len;
	}
	return NULL;
}

static unsigned int node_count(const struct fnode *n)
{
	unsigned int i = 0;
	size_t len;

	while (node_item(n, i, &len))
		i++;
	return i;
}

static void note_ino(struct forge *f, const struct fnode *n,
		     const uint8_t *item)
{
	if (n->kind == KIND_FILES && !n->level &&
	    item[ITEM_OFF_KIND] == ITEM_KIND_ATTR && f->nino < INOS)
		f->ino[f->nino++] = get_le64(item + ITEM_OFF_OBJ);
}

static void add_nodes(struct forge *f, const struct ptr *ptr, uint8_t kind)
{
	struct fnode *n = &f->n[f->count];
	const uint8_t *item;
	size_t len;

	if (!ptr->pos || find_node(f, ptr->pos))
		return;
	ASSERT(f->count < NODES - NEW_NODES);
	n->base = malloc(ptr->len);
	ASSERT(n->base &&
	       read_at(f->sim, ptr->pos, n->base, ptr->len) == ptr->len);
	n->pos = ptr->pos;
	n->len = n->base_len = ptr->len;
	n->kind = kind;
	n->level = n->base[NODE_OFF_LEVEL];
	f->count++;
	for (unsigned int i = 0; (item = node_item(n, i, &len)); i++) {
		struct ptr child;

		note_ino(f, n, item);
		if (!item_ptr(n, item))
			continue;
		child = ptr_decode(item + ITEM_HEADER_BYTES);
		add_nodes(f, &child, n->level ? kind : KIND_FILES);
	}
}

/* The record with the highest position. */
static void find_record(struct forge *f, const uint8_t uuid[16])
{
	uint8_t buf[REC_HEADER_BYTES + 16 * REC_ROOT_BYTES];
	size_t need;

	for (size_t i = 0; i < simdev_file_count(f->sim); i++) {
		const char *name = simdev_file_name(f->sim, i);
		uint64_t bytes = simdev_file_bytes(f->sim, i), base;
		struct record rec;

		if (strncmp(name, "log/", 4))
			continue;
		base = strtoull(name + 4, NULL, 16) << LOG_SEG_SHIFT;
		for (uint64_t off = 0; off < bytes; off += REC_ALIGN) {
			size_t got =
				read_at(f->sim, base + off, buf, sizeof(buf));

			if (record_decode(buf, got, base + off, uuid, &rec,
					  &need))
				continue;
			if (rec.pos < f->rec.pos) {
				record_release(&rec);
				continue;
			}
			record_release(&f->rec);
			f->rec = rec;
		}
	}
}

struct forge *forge_new(struct simdev *sim, const uint8_t uuid[16])
{
	struct forge *f = calloc(1, sizeof(*f));

	ASSERT(f);
	f->sim = sim;
	find_record(f, uuid);
	ASSERT(f->rec.pos);
	for (size_t i = f->rec.nroots; i-- > 0;) {
		const struct record_root *r = &f->rec.roots[i];

		add_nodes(f, &r->ptr,
			  r->kind == ROOT_CATALOG ? KIND_CATALOG
			  : r->kind == ROOT_PLAIN ? KIND_OTHER
						  : KIND_FILES);
	}
	f->nbase = f->count;
	ASSERT(f->nbase && f->nino);
	return f;
}

void forge_free(struct forge *f)
{
	if (!f)
		return;
	for (unsigned int i = 0; i < f->count; i++)
		free(f->n[i].base);
	record_release(&f->rec);
	free(f);
}

/* --- edits --- */

/* Values that code trips over, when the top byte says so. */
static uint64_t value_of(const struct forge *f, uint64_t v)
{
	static const uint64_t odd[] = { 0,
					1,
					2,
					255,
					4095,
					4096,
					65536,
					262144,
					INT32_MAX,
					UINT32_MAX,
					(uint64_t)1 << 47,
					(uint64_t)1 << 48,
					((uint64_t)1 << 60) - 1,
					(uint64_t)1 << 60,
					INT64_MAX,
					(uint64_t)1 << 63,
					UINT64_MAX };
	uint8_t top = (uint8_t)(v >> 56), i = (uint8_t)(v >> 48);
	int8_t add = (int8_t)v;

	switch (top & 0xf) {
	case 1:
		return odd[i % ARRAY_LEN(odd)] + (uint64_t)(int64_t)add;
	case 2:
		return f->ino[i % f->nino];
	case 3:
		return f->n[i % f->count].pos + (uint64_t)(int64_t)add;
	case 4:
		return f->rec.pos + (uint64_t)(int64_t)add;
	case 5:
		return v & 0xffff;
	default:
		return v;
	}
}

static uint8_t *edit_node(struct fnode *n)
{
	if (!n->buf) {
		n->buf = calloc(1, BUF);
		ASSERT(n->buf);
		memcpy(n->buf, n->base, n->len);
	}
	n->edited = true;
	return n->buf;
}

static uint8_t *edit_item(struct fnode *n, const struct edit *e, size_t *len)
{
	unsigned int count = node_count(n);
	const uint8_t *p;

	if (!count)
		return NULL;
	(void)edit_node(n);
	p = node_item(n, e->item % count, len);
	return n->buf + (p - n->buf);
}

/* Room for (or without) bytes at p; false: too long. */
static bool shift(struct fnode *n, uint8_t *p, size_t old, size_t new)
{
	size_t at = (size_t)(p - n->buf);

	if (n->len - old + new > BUF)
		return false;
	memmove(p + new, p + old, n->len - at - old);
	if (new > old)
		memset(p + old, 0, new - old);
	n->len = (uint32_t)(n->len - old + new);
	return true;
}

static void edit_key(struct fnode *n, const struct edit *e, uint64_t v)
{
	size_t len;
	uint8_t *p = edit_item(n, e, &len);

	if (!p)
		return;
	switch (e->how % 4) {
	case 0:
		put_le64(p + ITEM_OFF_OBJ, v);
		break;
	case 1:
		p[ITEM_OFF_KIND] = (uint8_t)v;
		break;
	case 2:
		put_le64(p + ITEM_OFF_OFF, v);
		break;
	default:
		put_le64(p + ITEM_OFF_OFF,
			 get_le64(p + ITEM_OFF_OFF) + (uint64_t)(int8_t)v);
	}
}

static void edit_value(struct fnode *n, const struct edit *e, uint64_t v)
{
	static const uint8_t widths[4] = { 8, 4, 1, 2 };
	size_t len, at = e->how >> 2, width = widths[e->how % 4];
	uint8_t *p = edit_item(n, e, &len), bytes[8];

	if (!p)
		return;
	/* Offsets of fields: bytes at the start, words further on. */
	if (at >= 16)
		at = 16 + (at - 16) * 4;
	if (len == ITEM_HEADER_BYTES)
		return;
	at %= len - ITEM_HEADER_BYTES;
	width = min_u64(width, len - ITEM_HEADER_BYTES - at);
	put_le64(bytes, v);
	memcpy(p + ITEM_HEADER_BYTES + at, bytes, width);
}

static void edit_resize(struct fnode *n, const struct edit *e, uint64_t v)
{
	size_t len, new = v % 1100;
	uint8_t *p = edit_item(n, e, &len);

	if (!p)
		return;
	if (e->how & 1)
		new = len - ITEM_HEADER_BYTES + (size_t)(v % 17) - 8;
	if (new > UINT16_MAX ||
	    !shift(n, p + ITEM_HEADER_BYTES, len - ITEM_HEADER_BYTES, new))
		return;
	put_le16(p + ITEM_OFF_VALUE_LEN, (uint16_t) new);
}

/* Behind the original, so that the order of keys can stay right. */
static void edit_copy(struct fnode *n, const struct edit *e, uint64_t v)
{
	size_t len;
	uint8_t *p = edit_item(n, e, &len), item[2048], *q;

	if (!p || len > sizeof(item))
		return;
	memcpy(item, p, len);
	if (!shift(n, p + len, 0, len))
		return;
	q = p + len;
	memcpy(q, item, len);
	if (e->how & 1)
		put_le64(q + ITEM_OFF_OBJ, v);
	else
		put_le64(q + ITEM_OFF_OFF,
			 get_le64(q + ITEM_OFF_OFF) + (v & 0xffffff));
}

/* The highest numbers are the newest nodes. */
static struct fnode *node_of(struct forge *f, uint8_t i)
{
	if (i >= 256 - NEW_NODES / 2)
		return &f->n[f->count - 1 - (255u - i)];
	return &f->n[i % f->count];
}

static void edit_point(struct forge *f, struct fnode *n, const struct edit *e)
{
	const struct fnode *to = node_of(f, e->how);
	size_t len;
	uint8_t *p = edit_item(n, e, &len);

	if (!p || !item_ptr(n, p))
		return;
	put_le64(p + ITEM_HEADER_BYTES + PTR_OFF_POS, to->pos);
	put_le32(p + ITEM_HEADER_BYTES + PTR_OFF_LEN,
		 e->value ? (uint32_t)e->value : to->len);
}

/* A node whose items all point at one other: many ways to one place. */
static void edit_new(struct forge *f, const struct fnode *to,
		     const struct edit *e)
{
	unsigned int items = 1 + e->item % NODE_CHILDREN_MAX;
	struct fnode *n = &f->n[f->count];
	uint8_t *p;

	if (f->count == NODES || f->count - f->nbase == NEW_NODES)
		return;
	*n = (struct fnode){ .kind = to->kind, .level = to->level + 1 };
	n->buf = calloc(1, BUF);
	ASSERT(n->buf);
	n->edited = true;
	n->pos = f->scratch;
	f->scratch += BUF;
	n->buf[NODE_OFF_LEVEL] = n->level;
	p = n->buf + NODE_HEADER_BYTES;
	for (unsigned int i = 0; i < items; i++) {
		put_le64(p + ITEM_OFF_OBJ, e->how & 1 ? i : e->value);
		put_le64(p + ITEM_OFF_OFF, e->how & 1 ? 0 : i);
		put_le16(p + ITEM_OFF_VALUE_LEN, PTR_BYTES);
		put_le64(p + ITEM_HEADER_BYTES + PTR_OFF_POS, to->pos);
		p += ITEM_HEADER_BYTES + PTR_BYTES;
	}
	n->len = (uint32_t)(p - n->buf);
	f->count++;
}

static void add_raw(struct raw *raw, unsigned int *n, const struct edit *e,
		    uint64_t v)
{
	if (*n == RAW)
		return;
	raw[(*n)++] = (struct raw){ .off = e->item,
				    .len = (uint8_t)(1 + (e->how & 7)),
				    .value = v,
				    .after = e->how & 8 };
	if (e->how & 16)
		raw[*n - 1].off *= 16;
}

static void edit_root(struct forge *f, const struct fnode *to,
		      const struct edit *e, uint64_t v)
{
	struct record *rec = &f->work;
	struct record_root *r = &rec->roots[e->item % rec->nroots];

	switch (e->how % 5) {
	case 0:
		r->ptr = (struct ptr){ .pos = to->pos, .len = to->len };
		break;
	case 1:
		r->kind = (uint32_t)v;
		break;
	case 2:
		r->id = v;
		break;
	case 3:
		r->ptr.pos = v;
		break;
	default:
		r->ptr.len = (uint32_t)v;
	}
}

static void edit_record(struct forge *f, const struct edit *e, uint64_t v)
{
	struct record *rec = &f->work;
	uint64_t *const fields[] = { &rec->seq,		  &rec->prev_pos,
				     &rec->prev_sum,	  &rec->lineage,
				     &rec->small_flushed, &rec->bulk_flushed,
				     &rec->next_obj,	  &rec->next_view,
				     &rec->head_number };
	unsigned int i = e->how % 11;

	if (i < ARRAY_LEN(fields))
		*fields[i] = v;
	else if (i == 9)
		rec->flags = (uint16_t)v;
	else if (rec->nroots > 1)
		rec->nroots--;
}

static void edit_segment(struct forge *f, const struct fnode *n,
			 const struct edit *e, uint64_t v)
{
	struct dev *dev = simdev_dev(f->img);
	struct dev_file *file;
	char name[DEV_NAME_MAX];
	uint64_t pos = n->pos;
	uint8_t bytes[8];

	if (e->how & 4) /* its neighbour, a bulk one */
		pos ^= (uint64_t)1 << LOG_SEG_SHIFT;
	segment_name(pos, name);
	put_le64(bytes, v);
	if (e->how % 4 == 0) {
		(void)dev->ops->remove(dev, name);
	} else if (e->how % 4 == 1) {
		if (dev->ops->open(dev, name, true, &file))
			return;
		(void)dev->ops->truncate(file, v & 0x1fffff);
		dev->ops->close(file);
	} else {
		write_at(f->img, (pos & ~(uint64_t)0xfffff) | (v & 0x3fffff),
			 bytes, sizeof(bytes));
	}
}

static void edit_format(struct forge *f, const struct edit *e)
{
	struct dev *dev = simdev_dev(f->img);
	uint8_t byte = (uint8_t)e->value;
	struct dev_iov iov = { &byte, 1 };
	struct dev_file *file;

	if (dev->ops->open(dev, "format", true, &file))
		return;
	(void)dev->ops->writev(file, e->item, &iov, 1);
	dev->ops->close(file);
}

static void edit_one(struct forge *f, const struct edit *e)
{
	struct fnode *n = node_of(f, e->node);
	uint64_t v = value_of(f, e->value);
	size_t len;
	uint8_t *p;

	switch (e->what % EDITS) {
	case EDIT_KEY:
		edit_key(n, e, v);
		break;
	case EDIT_VALUE:
		edit_value(n, e, v);
		break;
	case EDIT_REMOVE:
		p = edit_item(n, e, &len);
		if (p)
			(void)shift(n, p, len, 0);
		break;
	case EDIT_COPY:
		edit_copy(n, e, v);
		break;
	case EDIT_RESIZE:
		edit_resize(n, e, v);
		break;
	case EDIT_POINT:
		edit_point(f, n, e);
		break;
	case EDIT_NEW:
		edit_new(f, n, e);
		break;
	case EDIT_RAW:
		(void)edit_node(n);
		add_raw(n->raw, &n->nraw, e, v);
		break;
	case EDIT_ROOT:
		edit_root(f, n, e, v);
		break;
	case EDIT_RECORD:
		edit_record(f, e, v);
		break;
	case EDIT_RECORD_RAW:
		add_raw(f->rec_raw, &f->nrec_raw, e, v);
		break;
	case EDIT_SEGMENT:
		edit_segment(f, n, e, v);
		break;
	case EDIT_FORMAT:
		edit_format(f, e);
		break;
	default:
		edit_node(n)[NODE_OFF_LEVEL] = e->how % TREE_HEIGHT_MAX;
		n->level = e->how % TREE_HEIGHT_MAX;
	}
}

/* --- making sums right --- */

static void apply_raw(const struct raw *raw, unsigned int n, bool after,
		      uint8_t *buf, size_t len)
{
	for (unsigned int i = 0; i < n; i++) {
		uint8_t bytes[8];

		if (raw[i].after != after || raw[i].off >= len)
			continue;
		put_le64(bytes, raw[i].value);
		memcpy(buf + raw[i].off, bytes,
		       min_u64(raw[i].len, len - raw[i].off));
	}
}

static void seal(struct forge *f, struct fnode *n);

/* What a pointer says of a node that was changed. Pointers that edits made
 * lie about the length keep it. */
static bool mend_ptr(struct forge *f, struct ptr *ptr)
{
	struct fnode *to = ptr->pos ? find_node(f, ptr->pos) : NULL;
	struct ptr was = *ptr;

	if (!to || to->busy)
		return false;
	seal(f, to);
	if (!ptr->len || ptr->len == to->base_len || !to->base)
		ptr->len = to->now.len;
	ptr->pos = to->now.pos;
	ptr->sum = to->now.sum;
	return !ptr_eq(&was, ptr);
}

static void seal(struct forge *f, struct fnode *n)
{
	const uint8_t *item;
	size_t len;

	if (n->sealed)
		return;
	n->busy = true;
	for (unsigned int i = 0; (item = node_item(n, i, &len)); i++) {
		size_t at = (size_t)(item - node_bytes(n)) + ITEM_HEADER_BYTES;
		struct ptr ptr;

		if (!item_ptr(n, item))
			continue;
		ptr = ptr_decode(item + ITEM_HEADER_BYTES);
		if (mend_ptr(f, &ptr))
			ptr_encode(&ptr, edit_node(n) + at);
	}
	n->busy = false;
	n->sealed = true;
	n->now = (struct ptr){ .pos = n->pos, .len = n->len };
	if (!n->edited) {
		n->now.sum = XXH3_64bits(n->base, n->len);
		return;
	}
	if (n->base && n->len > n->base_len) {
		n->now.pos = f->scratch;
		f->scratch += BUF;
	}
	put_le16(n->buf + NODE_OFF_MAGIC, NODE_MAGIC);
	put_le16(n->buf + NODE_OFF_COUNT, (uint16_t)node_count(n));
	put_le16(n->buf + NODE_OFF_LEN, (uint16_t)n->len);
	put_le64(n->buf + NODE_OFF_POS, n->now.pos);
	apply_raw(n->raw, n->nraw, false, n->buf, n->len);
	n->now.sum = XXH3_64bits(n->buf, n->len);
	apply_raw(n->raw, n->nraw, true, n->buf, n->len);
	if (n->now.pos + n->len <= f->rec_pos)
		write_at(f->img, n->now.pos, n->buf, n->len);
}

/* The record goes behind the nodes that were moved. */
static void seal_record(struct forge *f)
{
	struct record *rec = &f->work;
	size_t bytes = record_bytes(rec);
	uint8_t *buf = calloc(1, bytes);

	ASSERT(buf);
	for (size_t i = 0; i < rec->nroots; i++)
		(void)mend_ptr(f, &rec->roots[i].ptr);
	rec->pos = f->rec_pos;
	record_encode(rec, buf);
	if (f->nrec_raw) {
		apply_raw(f->rec_raw, f->nrec_raw, false, buf, bytes);
		put_le64(buf + REC_OFF_SUM,
			 XXH3_64bits_withSeed(buf + REC_OFF_SUM + 8,
					      bytes - REC_OFF_SUM - 8,
					      XXH3_64bits(buf, REC_OFF_SUM)));
		apply_raw(f->rec_raw, f->nrec_raw, true, buf, bytes);
	}
	write_at(f->img, rec->pos, buf, bytes);
	free(buf);
}

static void copy_record(struct record *to, const struct record *from)
{
	*to = *from;
	to->roots = calloc(from->nroots, sizeof(*to->roots));
	ASSERT(to->roots);
	memcpy(to->roots, from->roots, from->nroots * sizeof(*to->roots));
}

static void start(struct forge *f)
{
	for (unsigned int i = 0; i < f->nbase; i++) {
		struct fnode *n = &f->n[i];

		n->len = n->base_len;
		n->level = n->base[NODE_OFF_LEVEL];
		n->edited = n->sealed = false;
		n->nraw = 0;
	}
	f->count = f->nbase;
	f->nrec_raw = 0;
	f->scratch = f->rec.pos + REC_ALIGN;
	f->rec_pos = f->rec.pos + ROOM - REC_ALIGN;
	copy_record(&f->work, &f->rec);
	f->img = simdev_image(f->sim, simdev_ops(f->sim), SIM_KEEP, 1);
}

static void finish(struct forge *f)
{
	for (unsigned int i = 0; i < f->count; i++) {
		free(f->n[i].buf);
		f->n[i].buf = NULL;
	}
	record_release(&f->work);
	simdev_settle(f->img);
}

struct simdev *forge_image(struct forge *f, const uint8_t *edits, size_t len)
{
	start(f);
	for (; len >= FORGE_EDIT_BYTES; len -= FORGE_EDIT_BYTES) {
		struct edit e = { edits[0], edits[1], edits[2], edits[3],
				  get_le64(edits + 4) };

		edit_one(f, &e);
		edits += FORGE_EDIT_BYTES;
	}
	seal_record(f);
	finish(f);
	return f->img;
}
