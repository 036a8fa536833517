/* SPDX-License-Identifier: GPL-2.0-or-later */
/* batch.c - changes to apply together; see tree.h. */
#include "txn/tree_internal.h"

void batch_init(struct batch *b)
{
	*b = (struct batch){ 0 };
}

void batch_reset(struct batch *b)
{
	b->n = 0;
	b->nbytes = 0;
}

void batch_release(struct batch *b)
{
	free(b->v);
	free(b->bytes);
	*b = (struct batch){ 0 };
}

static int add(struct batch *b, const struct change *c)
{
	if (b->n == b->cap) {
		size_t cap = b->cap ? 2 * b->cap : 16;
		struct change *v = realloc(b->v, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		b->v = v;
		b->cap = cap;
	}
	b->v[b->n] = *c;
	b->v[b->n].seq = b->n;
	b->n++;
	return 0;
}

int batch_put(struct batch *b, const struct key *key, const void *val,
	      size_t len)
{
	struct change c = { .op = CHANGE_PUT,
			    .key = *key,
			    .val_off = b->nbytes,
			    .val_len = len };
	int err;

	ASSERT(len <= TREE_VALUE_MAX);
	if (b->bytes_cap - b->nbytes < len) {
		size_t cap = (b->bytes_cap + len) * 2;
		uint8_t *p = realloc(b->bytes, cap);

		if (!p)
			return -ENOMEM;
		b->bytes = p;
		b->bytes_cap = cap;
	}
	err = add(b, &c);
	if (err)
		return err;
	if (len)
		memcpy(b->bytes + b->nbytes, val, len);
	b->nbytes += len;
	return 0;
}

int batch_del(struct batch *b, const struct key *key)
{
	struct change c = { .op = CHANGE_DEL, .key = *key };

	return add(b, &c);
}

int batch_del_range(struct batch *b, const struct key *from,
		    const struct key *to)
{
	struct change c = { .op = CHANGE_DEL_RANGE, .key = *from, .to = *to };

	if (key_cmp(from, to) > 0)
		return 0;
	return add(b, &c);
}
