/* SPDX-License-Identifier: GPL-2.0-or-later */
/* node.c - see node.h. */
#include "txn/node.h"

#include "txn/sum.h"

static struct node *node_alloc(size_t data_bytes, size_t items, size_t children)
{
	size_t off_bytes = items * sizeof(uint16_t);
	size_t child_bytes = children * sizeof(struct node *);
	struct node *node;
	uint8_t *p;

	node = malloc(sizeof(*node) + child_bytes + off_bytes + data_bytes);
	if (!node)
		return NULL;
	memset(node, 0, sizeof(*node));
	p = (uint8_t *)(node + 1);
	node->refs = 1;
	node->cap = (uint16_t)data_bytes;
	node->child = children ? (struct node **)(void *)p : NULL;
	node->off = (uint16_t *)(void *)(p + child_bytes);
	node->data = p + child_bytes + off_bytes;
	return node;
}

struct node *node_new(void)
{
	struct node *node;

	node = node_alloc(NODE_PAYLOAD_MAX, NODE_ITEMS_MAX, NODE_CHILDREN_MAX);
	if (node)
		node->dirty = true;
	return node;
}

struct node *node_get(struct node *node)
{
	__atomic_add_fetch(&node->refs, 1, __ATOMIC_RELAXED);
	return node;
}

void node_free_memory(struct node *node)
{
	lbuf_put(node->buf);
	free(node);
}

bool node_is_written(const struct node *node)
{
	return __atomic_load_n(&node->written, __ATOMIC_ACQUIRE);
}

void node_set_written(struct node *node, const struct ptr *ptr)
{
	node->ptr = *ptr;
	__atomic_store_n(&node->written, 1, __ATOMIC_RELEASE);
}

/* --- items --- */

static const uint8_t *item(const struct node *node, unsigned int idx)
{
	return node->data + node->off[idx];
}

struct key node_key(const struct node *node, unsigned int idx)
{
	const uint8_t *p = item(node, idx);

	return KEY(get_le64(p + ITEM_OFF_OBJ), p[ITEM_OFF_KIND],
		   get_le64(p + ITEM_OFF_OFF));
}

struct val node_val(const struct node *node, unsigned int idx)
{
	const uint8_t *p = item(node, idx);

	return (struct val){ p + ITEM_HEADER_BYTES,
			     get_le16(p + ITEM_OFF_VALUE_LEN) };
}

struct ptr node_ptr(const struct node *node, unsigned int idx)
{
	return ptr_decode(item(node, idx) + ITEM_HEADER_BYTES);
}

bool node_same_item(const struct node *a, unsigned int i, const struct node *b,
		    unsigned int j)
{
	const uint8_t *pa = item(a, i), *pb = item(b, j);
	size_t len = get_le16(pa + ITEM_OFF_VALUE_LEN);

	return len == get_le16(pb + ITEM_OFF_VALUE_LEN) &&
	       !memcmp(pa, pb, item_bytes(len));
}

unsigned int node_lower_bound(const struct node *node, const struct key *key)
{
	unsigned int lo = 0, hi = node->n;

	while (lo < hi) {
		unsigned int mid = lo + (hi - lo) / 2;
		struct key k = node_key(node, mid);

		if (key_cmp(&k, key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

unsigned int node_child_idx(const struct node *node, const struct key *key)
{
	unsigned int i = node_lower_bound(node, key);
	struct key k;

	if (i == node->n)
		return i - 1;
	k = node_key(node, i);
	/* The first child holds everything below the second. */
	return i && key_cmp(&k, key) ? i - 1 : i;
}

bool node_in_bounds(const struct node *node, const struct key *lo,
		    const struct key *hi)
{
	unsigned int first = node->level ? 1 : 0;
	struct key k;

	if (!node->n)
		return true;
	k = node_key(node, node->n - 1u);
	if (key_cmp(&k, hi) > 0)
		return false;
	if (first >= node->n)
		return true;
	k = node_key(node, first);
	return key_cmp(&k, lo) >= 0;
}

bool node_fits(const struct node *node, size_t value_len)
{
	return node->live + item_bytes(value_len) <= NODE_PAYLOAD_MAX;
}

void node_clear(struct node *node, uint8_t level)
{
	node->level = level;
	node->n = 0;
	node->live = 0;
	node->used = 0;
}

void node_set_val(struct node *node, unsigned int idx, const uint8_t *val)
{
	uint8_t *p = node->data + node->off[idx];

	ASSERT(node->dirty);
	memcpy(p + ITEM_HEADER_BYTES, val, get_le16(p + ITEM_OFF_VALUE_LEN));
}

void node_copy(struct node *dst, const struct node *src)
{
	ASSERT(dst->dirty && src->used <= dst->cap);
	dst->level = src->level;
	dst->n = src->n;
	dst->live = src->live;
	dst->used = src->used;
	memcpy(dst->off, src->off, src->n * sizeof(*src->off));
	memcpy(dst->data, src->data, src->used);
	if (!src->level)
		return;
	for (unsigned int i = 0; i < src->n; i++)
		dst->child[i] = src->child && src->child[i]
					? node_get(src->child[i])
					: NULL;
}

/* Move the live items together. */
static void node_tidy(struct node *node)
{
	uint8_t copy[NODE_PAYLOAD_MAX];
	uint16_t at = 0;

	memcpy(copy, node->data, node->used);
	for (unsigned int i = 0; i < node->n; i++) {
		const uint8_t *p = copy + node->off[i];
		size_t len = item_bytes(get_le16(p + ITEM_OFF_VALUE_LEN));

		memcpy(node->data + at, p, len);
		node->off[i] = at;
		at = (uint16_t)(at + len);
	}
	node->used = at;
}

void node_insert(struct node *node, unsigned int idx, const struct key *key,
		 const uint8_t *val, size_t len, struct node *child)
{
	size_t bytes = item_bytes(len);
	uint8_t *p;

	ASSERT(node->dirty);
	ASSERT(node_fits(node, len));
	ASSERT(idx <= node->n);
	if (node->used + bytes > node->cap)
		node_tidy(node);
	p = node->data + node->used;
	put_le64(p + ITEM_OFF_OBJ, key->obj);
	p[ITEM_OFF_KIND] = key->kind;
	put_le64(p + ITEM_OFF_OFF, key->off);
	put_le16(p + ITEM_OFF_VALUE_LEN, (uint16_t)len);
	if (val)
		memcpy(p + ITEM_HEADER_BYTES, val, len);
	else
		memset(p + ITEM_HEADER_BYTES, 0, len);
	memmove(node->off + idx + 1, node->off + idx,
		(node->n - idx) * sizeof(*node->off));
	node->off[idx] = node->used;
	if (node->level) {
		memmove(node->child + idx + 1, node->child + idx,
			(node->n - idx) * sizeof(struct node *));
		node->child[idx] = child;
	}
	node->n++;
	node->used = (uint16_t)(node->used + bytes);
	node->live = (uint16_t)(node->live + bytes);
}

void node_remove(struct node *node, unsigned int idx)
{
	ASSERT(idx < node->n);
	node->live =
		(uint16_t)(node->live - item_bytes(node_val(node, idx).len));
	node->n--;
	memmove(node->off + idx, node->off + idx + 1,
		(node->n - idx) * sizeof(*node->off));
	if (node->level)
		memmove(node->child + idx, node->child + idx + 1,
			(node->n - idx) * sizeof(struct node *));
}

/* --- on disk --- */

void ptr_encode(const struct ptr *ptr, uint8_t buf[PTR_BYTES])
{
	put_le64(buf + PTR_OFF_POS, ptr->pos);
	put_le64(buf + PTR_OFF_SUM, ptr->sum);
	put_le32(buf + PTR_OFF_LEN, ptr->len);
}

struct ptr ptr_decode(const uint8_t buf[PTR_BYTES])
{
	return (struct ptr){ .pos = get_le64(buf + PTR_OFF_POS),
			     .sum = get_le64(buf + PTR_OFF_SUM),
			     .len = get_le32(buf + PTR_OFF_LEN) };
}

size_t node_encoded_bytes(const struct node *node)
{
	return NODE_HEADER_BYTES + node->live;
}

void node_encode(const struct node *node, uint8_t *buf)
{
	uint8_t *at = buf + NODE_HEADER_BYTES;

	put_le16(buf + NODE_OFF_MAGIC, NODE_MAGIC);
	buf[NODE_OFF_LEVEL] = node->level;
	buf[NODE_OFF_ZERO] = 0;
	put_le16(buf + NODE_OFF_COUNT, node->n);
	put_le16(buf + NODE_OFF_LEN, (uint16_t)node_encoded_bytes(node));
	put_le64(buf + NODE_OFF_POS, 0);
	for (unsigned int i = 0; i < node->n; i++) {
		const uint8_t *p = item(node, i);
		size_t len = item_bytes(get_le16(p + ITEM_OFF_VALUE_LEN));

		memcpy(at, p, len);
		if (node->level && node->child && node->child[i]) {
			ASSERT(node_is_written(node->child[i]));
			ptr_encode(&node->child[i]->ptr,
				   at + ITEM_HEADER_BYTES);
		}
		at += len;
	}
}

struct ptr node_seal(uint64_t pos, uint8_t *buf, size_t len)
{
	put_le64(buf + NODE_OFF_POS, pos);
	return (struct ptr){ .pos = pos,
			     .sum = sum64(buf, len),
			     .len = (uint32_t)len };
}

struct node *node_of_encoded(const struct node *node, struct lbuf *buf,
			     const struct ptr *ptr)
{
	struct node *copy = node_alloc(0, node->n, 0);
	uint16_t at = 0;

	if (!copy)
		return NULL;
	copy->level = node->level;
	copy->n = node->n;
	copy->live = copy->used = copy->cap = node->live;
	copy->ptr = *ptr;
	copy->written = 1;
	copy->buf = lbuf_get(buf);
	copy->data = buf->data + NODE_HEADER_BYTES;
	for (unsigned int i = 0; i < node->n; i++) {
		copy->off[i] = at;
		at = (uint16_t)(at + item_bytes(node_val(node, i).len));
	}
	ASSERT(at == node->live);
	return copy;
}

/* Find the items and see that they are in order and end where the node does. */
static int decode_items(const uint8_t *buf, size_t len, struct node *node)
{
	size_t at = 0, size = len - NODE_HEADER_BYTES;
	struct key last = { 0 };

	for (unsigned int i = 0; i < node->n; i++) {
		const uint8_t *p = buf + NODE_HEADER_BYTES + at;
		struct key key;
		size_t vlen;

		if (size - at < ITEM_HEADER_BYTES)
			return -EFSCORRUPTED;
		vlen = get_le16(p + ITEM_OFF_VALUE_LEN);
		if (size - at - ITEM_HEADER_BYTES < vlen ||
		    vlen > TREE_VALUE_MAX || (node->level && vlen != PTR_BYTES))
			return -EFSCORRUPTED;
		key = KEY(get_le64(p + ITEM_OFF_OBJ), p[ITEM_OFF_KIND],
			  get_le64(p + ITEM_OFF_OFF));
		if (i && key_cmp(&last, &key) >= 0)
			return -EFSCORRUPTED;
		last = key;
		node->off[i] = (uint16_t)at;
		at += item_bytes(vlen);
	}
	if (at != size)
		return -EFSCORRUPTED;
	memcpy(node->data, buf + NODE_HEADER_BYTES, size);
	node->used = node->live = (uint16_t)size;
	return 0;
}

int node_decode(const uint8_t *buf, size_t len, const struct ptr *ptr,
		int level, struct node **node_out)
{
	struct node *node;
	unsigned int n;
	int err;

	if (len < NODE_HEADER_BYTES || len > TREE_NODE_MAX || len != ptr->len)
		return -EFSCORRUPTED;
	if (sum64(buf, len) != ptr->sum)
		return -EFSBADCRC;
	n = get_le16(buf + NODE_OFF_COUNT);
	if (get_le16(buf + NODE_OFF_MAGIC) != NODE_MAGIC ||
	    buf[NODE_OFF_LEVEL] >= TREE_HEIGHT_MAX || buf[NODE_OFF_ZERO] ||
	    get_le16(buf + NODE_OFF_LEN) != len ||
	    get_le64(buf + NODE_OFF_POS) != ptr->pos || !n ||
	    n > NODE_ITEMS_MAX)
		return -EFSCORRUPTED;
	if (level >= 0 && buf[NODE_OFF_LEVEL] != level)
		return -EFSCORRUPTED;
	node = node_alloc(len - NODE_HEADER_BYTES, n, 0);
	if (!node)
		return -ENOMEM;
	node->level = buf[NODE_OFF_LEVEL];
	node->n = (uint16_t)n;
	node->ptr = *ptr;
	node->written = 1;
	err = decode_items(buf, len, node);
	if (err) {
		node_free_memory(node);
		return err;
	}
	*node_out = node;
	return 0;
}
