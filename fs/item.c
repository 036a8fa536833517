/* SPDX-License-Identifier: GPL-2.0-or-later */
/* item.c - see item.h. */
#include "fs/item.h"

#include "txn/sum.h"

#include <sys/stat.h>

static bool type_is_known(uint32_t type)
{
	switch (type) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFBLK:
	case S_IFCHR:
	case S_IFIFO:
	case S_IFSOCK:
		return true;
	default:
		return false;
	}
}

void item_attr_encode(const struct item_attr *a, uint8_t buf[ATTR_BYTES])
{
	put_le32(buf + ATTR_OFF_MODE, a->mode);
	put_le32(buf + ATTR_OFF_NLINK, a->nlink);
	put_le32(buf + ATTR_OFF_UID, a->uid);
	put_le32(buf + ATTR_OFF_GID, a->gid);
	put_le32(buf + ATTR_OFF_FLAGS, a->flags);
	put_le32(buf + ATTR_OFF_ZERO, 0);
	put_le64(buf + ATTR_OFF_SIZE, a->size);
	put_le64(buf + ATTR_OFF_BLOCKS, a->blocks);
	put_le64(buf + ATTR_OFF_RDEV, a->rdev);
	put_le64(buf + ATTR_OFF_DATA_VERSION, a->data_version);
	put_le64(buf + ATTR_OFF_PARENT, a->parent);
	put_le64(buf + ATTR_OFF_COOKIE, a->cookie);
	put_le64(buf + ATTR_OFF_ATIME, (uint64_t)a->atime_ns);
	put_le64(buf + ATTR_OFF_MTIME, (uint64_t)a->mtime_ns);
	put_le64(buf + ATTR_OFF_CTIME, (uint64_t)a->ctime_ns);
	put_le64(buf + ATTR_OFF_BTIME, (uint64_t)a->btime_ns);
}

int item_attr_decode(const struct val *v, struct item_attr *out)
{
	const uint8_t *p = v->p;
	struct item_attr a;

	if (v->len != ATTR_BYTES)
		return -EFSCORRUPTED;
	a.mode = get_le32(p + ATTR_OFF_MODE);
	a.nlink = get_le32(p + ATTR_OFF_NLINK);
	a.uid = get_le32(p + ATTR_OFF_UID);
	a.gid = get_le32(p + ATTR_OFF_GID);
	a.flags = get_le32(p + ATTR_OFF_FLAGS);
	a.size = get_le64(p + ATTR_OFF_SIZE);
	a.blocks = get_le64(p + ATTR_OFF_BLOCKS);
	a.rdev = get_le64(p + ATTR_OFF_RDEV);
	a.data_version = get_le64(p + ATTR_OFF_DATA_VERSION);
	a.parent = get_le64(p + ATTR_OFF_PARENT);
	a.cookie = get_le64(p + ATTR_OFF_COOKIE);
	a.atime_ns = (int64_t)get_le64(p + ATTR_OFF_ATIME);
	a.mtime_ns = (int64_t)get_le64(p + ATTR_OFF_MTIME);
	a.ctime_ns = (int64_t)get_le64(p + ATTR_OFF_CTIME);
	a.btime_ns = (int64_t)get_le64(p + ATTR_OFF_BTIME);
	if (!type_is_known(a.mode & S_IFMT) || a.mode > 0177777)
		return -EFSCORRUPTED;
	if (a.flags & ~(uint32_t)ATTR_FLAG_INLINE)
		return -EFSCORRUPTED;
	if (a.size > (uint64_t)1 << 60 || a.blocks > (uint64_t)1 << 48)
		return -EFSCORRUPTED;
	*out = a;
	return 0;
}

size_t item_entry_encode(const struct item_entry *e,
			 uint8_t buf[ITEM_ENTRY_MAX])
{
	ASSERT(e->len && e->len <= ENTRY_NAME_MAX);
	put_le64(buf + ENTRY_OFF_INO, e->ino);
	buf[ENTRY_OFF_TYPE] = (uint8_t)(e->type >> 12);
	memcpy(buf + ENTRY_OFF_NAME, e->name, e->len);
	return ENTRY_OFF_NAME + e->len;
}

static bool name_is_valid(const char *name, size_t len)
{
	if (memchr(name, '/', len) || memchr(name, '\0', len))
		return false;
	return !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

int item_entry_decode(const struct val *v, struct item_entry *out)
{
	struct item_entry e;

	if (v->len <= ENTRY_OFF_NAME || v->len > ITEM_ENTRY_MAX)
		return -EFSCORRUPTED;
	e.ino = get_le64(v->p + ENTRY_OFF_INO);
	e.type = (uint32_t)v->p[ENTRY_OFF_TYPE] << 12;
	e.name = (const char *)v->p + ENTRY_OFF_NAME;
	e.len = v->len - ENTRY_OFF_NAME;
	if (!e.ino || !type_is_known(e.type) || !name_is_valid(e.name, e.len))
		return -EFSCORRUPTED;
	*out = e;
	return 0;
}

size_t item_xattr_first(size_t name_len, size_t value_len)
{
	size_t room = TREE_VALUE_MAX - XATTR_OFF_NAME - name_len;

	return value_len < room ? value_len : room;
}

size_t item_xattr_encode(const struct item_xattr *x,
			 uint8_t buf[TREE_VALUE_MAX])
{
	size_t n = item_xattr_first(x->name_len, x->value_len);

	ASSERT(x->name_len && x->name_len <= XATTR_ITEM_NAME_MAX);
	put_le32(buf + XATTR_OFF_VALUE_LEN, x->value_len);
	buf[XATTR_OFF_NAME_LEN] = (uint8_t)x->name_len;
	memcpy(buf + XATTR_OFF_NAME, x->name, x->name_len);
	if (n)
		memcpy(buf + XATTR_OFF_NAME + x->name_len, x->value, n);
	return XATTR_OFF_NAME + x->name_len + n;
}

int item_xattr_decode(const struct val *v, struct item_xattr *out)
{
	struct item_xattr x;

	if (v->len <= XATTR_OFF_NAME || v->len > TREE_VALUE_MAX)
		return -EFSCORRUPTED;
	x.value_len = get_le32(v->p + XATTR_OFF_VALUE_LEN);
	x.name_len = v->p[XATTR_OFF_NAME_LEN];
	if (!x.name_len || x.name_len > v->len - XATTR_OFF_NAME)
		return -EFSCORRUPTED;
	if (x.value_len > XATTR_ITEM_VALUE_MAX)
		return -EFSCORRUPTED;
	x.name = (const char *)v->p + XATTR_OFF_NAME;
	x.value = v->p + XATTR_OFF_NAME + x.name_len;
	x.here_len = v->len - XATTR_OFF_NAME - x.name_len;
	if (x.here_len != item_xattr_first(x.name_len, x.value_len) ||
	    memchr(x.name, '\0', x.name_len))
		return -EFSCORRUPTED;
	*out = x;
	return 0;
}

unsigned int item_window_extent(const struct item_window *w, unsigned int *i)
{
	unsigned int n = 1, at = *i;

	while (at < EXTENT_BLOCKS_MAX && !(w->mask >> at & 1))
		at++;
	*i = at;
	if (at == EXTENT_BLOCKS_MAX)
		return 0;
	while (at + n < EXTENT_BLOCKS_MAX && w->mask >> (at + n) & 1 &&
	       w->pos[at + n] == w->pos[at] + (uint64_t)n * EXTENT_BLOCK_BYTES)
		n++;
	for (unsigned int k = 1; at + k <= EXTENT_PACKED_MAX && k < n; k++)
		if (w->len[at + k - 1] != EXTENT_BLOCK_BYTES)
			return k;
	return n;
}

/* Its header. A run that begins with a page has either only whole blocks, then
 * it is none of the packed ones, wherever it was. */
static size_t encode_run(const struct item_window *w, unsigned int i,
			 unsigned int n, uint8_t *p)
{
	uint64_t pos = w->pos[i], block = pos / EXTENT_BLOCK_BYTES;
	uint16_t tail = w->len[i + n - 1];

	ASSERT(block && tail && tail <= EXTENT_BLOCK_BYTES);
	p[0] = (uint8_t)n;
	if (!(pos % EXTENT_BLOCK_BYTES) && tail == EXTENT_BLOCK_BYTES) {
		put_le32(p + 1, (uint32_t)block);
		put_le16(p + 5, (uint16_t)(block >> 32));
		return EXTENT_RUN_BYTES;
	}
	ASSERT(i + n <= EXTENT_PACKED_MAX && !(pos % EXTENT_UNIT_BYTES));
	p[0] |= EXTENT_PACKED;
	put_le64(p + 1,
		 pos / EXTENT_UNIT_BYTES << EXTENT_TAIL_BITS | (tail - 1u));
	return EXTENT_PACKED_BYTES;
}

size_t item_window_encode(const struct item_window *w,
			  uint8_t buf[ITEM_EXTENT_MAX])
{
	uint8_t *p = buf + EXTENT_HEADER_BYTES;
	unsigned int runs = 0, n;

	ASSERT(w->mask);
	for (unsigned int i = 0; (n = item_window_extent(w, &i)); i += n) {
		p += encode_run(w, i, n, p);
		runs++;
	}
	for (unsigned int i = 0; i < EXTENT_BLOCKS_MAX; i++) {
		if (!(w->mask >> i & 1))
			continue;
		put_le64(p, w->sum[i]);
		p += 8;
	}
	put_le64(buf + EXTENT_OFF_MASK, w->mask);
	buf[EXTENT_OFF_RUNS] = (uint8_t)runs;
	return (size_t)(p - buf);
}

/* The places of one run, from block i on: n blocks, of which only the last may
 * be short. */
static int put_run(struct item_window *w, unsigned int i, unsigned int n,
		   uint64_t pos, uint16_t tail)
{
	for (unsigned int k = 0; k < n; k++) {
		if (!(w->mask >> (i + k) & 1))
			return -EFSCORRUPTED;
		w->pos[i + k] = pos + (uint64_t)k * EXTENT_BLOCK_BYTES;
	}
	w->len[i + n - 1] = tail;
	return 0;
}

/* One run from block i on; *p goes forward, to end at most. */
static int decode_run(const uint8_t **p, const uint8_t *end, unsigned int i,
		      bool may_pack, struct item_window *w, unsigned int *n_out)
{
	size_t left = (size_t)(end - *p);
	const uint8_t *at = *p;
	uint64_t v, pos;
	bool packed;

	if (left < EXTENT_RUN_BYTES)
		return -EFSCORRUPTED;
	packed = at[0] & EXTENT_PACKED;
	*n_out = at[0] & (EXTENT_PACKED - 1u);
	if (!*n_out || *n_out > EXTENT_BLOCKS_MAX - i)
		return -EFSCORRUPTED;
	if (!packed) {
		*p += EXTENT_RUN_BYTES;
		v = get_le32(at + 1) | (uint64_t)get_le16(at + 5) << 32;
		return v ? put_run(w, i, *n_out, v * EXTENT_BLOCK_BYTES,
				   EXTENT_BLOCK_BYTES)
			 : -EFSCORRUPTED;
	}
	if (left < EXTENT_PACKED_BYTES || !may_pack ||
	    i + *n_out > EXTENT_PACKED_MAX)
		return -EFSCORRUPTED;
	*p += EXTENT_PACKED_BYTES;
	v = get_le64(at + 1);
	pos = (v >> EXTENT_TAIL_BITS) * EXTENT_UNIT_BYTES;
	v &= EXTENT_BLOCK_BYTES - 1;
	return pos / EXTENT_BLOCK_BYTES
		       ? put_run(w, i, *n_out, pos, (uint16_t)(v + 1))
		       : -EFSCORRUPTED;
}

static unsigned int next_there(const struct item_window *w, unsigned int i)
{
	while (i < EXTENT_BLOCKS_MAX && !(w->mask >> i & 1))
		i++;
	return i;
}

int item_window_decode(const struct val *v, uint64_t off,
		       struct item_window *out)
{
	const uint8_t *p = v->p + EXTENT_HEADER_BYTES, *end;
	unsigned int runs, i = 0, n;
	size_t blocks;
	int err;

	if (v->len < EXTENT_HEADER_BYTES || off % ITEM_WINDOW_BYTES)
		return -EFSCORRUPTED;
	out->mask = get_le64(v->p + EXTENT_OFF_MASK);
	runs = v->p[EXTENT_OFF_RUNS];
	blocks = (size_t)__builtin_popcountll(out->mask);
	if (!blocks || v->len < EXTENT_HEADER_BYTES + 8 * blocks)
		return -EFSCORRUPTED;
	end = v->p + v->len - 8 * blocks;
	for (n = 0; n < EXTENT_BLOCKS_MAX; n++)
		out->len[n] = EXTENT_BLOCK_BYTES;
	for (; runs; runs--) {
		i = next_there(out, i);
		err = decode_run(&p, end, i, !off, out, &n);
		if (err)
			return err;
		i += n;
	}
	/* Blocks without a place, or more than belongs there. */
	if (next_there(out, i) < EXTENT_BLOCKS_MAX || p != end)
		return -EFSCORRUPTED;
	for (i = 0; i < EXTENT_BLOCKS_MAX; i++) {
		if (!(out->mask >> i & 1))
			continue;
		out->sum[i] = get_le64(p);
		p += 8;
	}
	return 0;
}

void item_link_encode(const struct item_link *l, uint8_t buf[LINK_BYTES])
{
	put_le64(buf + LINK_OFF_PARENT, l->parent);
	put_le64(buf + LINK_OFF_COOKIE, l->cookie);
}

int item_link_decode(const struct val *v, struct item_link *out)
{
	struct item_link l;

	if (v->len != LINK_BYTES)
		return -EFSCORRUPTED;
	l.parent = get_le64(v->p + LINK_OFF_PARENT);
	l.cookie = get_le64(v->p + LINK_OFF_COOKIE);
	if (!l.parent || !l.cookie)
		return -EFSCORRUPTED;
	*out = l;
	return 0;
}

uint64_t item_block_sum(const void *block)
{
	return sum64(block, EXTENT_BLOCK_BYTES);
}

bool item_stored_matches(const struct item_window *w, unsigned int i,
			 const void *stored)
{
	return sum64(stored, w->len[i]) == w->sum[i];
}

bool item_block_matches(const struct item_window *w, unsigned int i,
			const uint8_t block[EXTENT_BLOCK_BYTES])
{
	static const uint8_t zeros[EXTENT_BLOCK_BYTES];

	return item_stored_matches(w, i, block) &&
	       !memcmp(block + w->len[i], zeros,
		       EXTENT_BLOCK_BYTES - w->len[i]);
}

int item_check(const struct key *key, const struct val *v)
{
	struct item_attr a;
	struct item_entry e;
	struct item_xattr x;
	struct item_window w;
	struct item_link l;

	switch (key->kind) {
	case ITEM_KIND_ATTR:
		return key->off ? -EFSCORRUPTED : item_attr_decode(v, &a);
	case ITEM_KIND_ENTRY:
		return item_entry_decode(v, &e);
	case ITEM_KIND_XATTR:
		if (key->off & 0xff)
			return v->len && v->len <= XATTR_CHUNK_BYTES
				       ? 0
				       : -EFSCORRUPTED;
		return item_xattr_decode(v, &x);
	case ITEM_KIND_INLINE:
		return v->len && v->len <= INLINE_CHUNK_BYTES ? 0
							      : -EFSCORRUPTED;
	case ITEM_KIND_EXTENT:
		return item_window_decode(v, key->off, &w);
	case ITEM_KIND_LINK:
		return item_link_decode(v, &l);
	case ITEM_KIND_ORPHAN:
		return v->len ? -EFSCORRUPTED : 0;
	default:
		return -EFSCORRUPTED;
	}
}
