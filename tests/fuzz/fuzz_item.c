/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as an item of a file: 1 byte kind, 8 bytes off, the value. */
#include "fs/item.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(const struct item_window *a, const struct item_window *b)
{
	ASSERT(a->mask == b->mask);
	for (uint64_t m = a->mask; m; m &= m - 1) {
		unsigned int i = (unsigned int)__builtin_ctzll(m);

		ASSERT(a->pos[i] == b->pos[i] && a->len[i] == b->len[i] &&
		       a->sum[i] == b->sum[i]);
		ASSERT(a->len[i] && a->len[i] <= EXTENT_BLOCK_BYTES);
		ASSERT(i < EXTENT_PACKED_MAX || !item_is_packed(a, i));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct item_attr a;
	uint8_t buf[ATTR_BYTES];
	struct key key;
	struct val v;

	if (size < 9)
		return 0;
	key = KEY(5, data[0], get_le64(data + 1));
	v = (struct val){ .p = data + 9, .len = size - 9 };
	if (!item_check(&key, &v) && key.kind == ITEM_KIND_ATTR) {
		ASSERT(!item_attr_decode(&v, &a));
		item_attr_encode(&a, buf);
		put_le32(buf + ATTR_OFF_ZERO, get_le32(v.p + ATTR_OFF_ZERO));
		ASSERT(!memcmp(buf, v.p, sizeof(buf)));
	}
	if (!item_check(&key, &v) && key.kind == ITEM_KIND_EXTENT) {
		struct item_window w, again;
		uint8_t out[ITEM_EXTENT_MAX];
		struct val val = { .p = out };

		ASSERT(!item_window_decode(&v, key.off, &w));
		val.len = item_window_encode(&w, out);
		ASSERT(!item_window_decode(&val, key.off, &again));
		check_same(&w, &again);
	}
	return 0;
}
