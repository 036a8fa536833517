/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as a tree node: an error, or a node whose every item can be read
 * and which encodes again to the same bytes. */
#include "txn/cache.h"
#include "txn/node.h"

#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ptr ptr = { .len = (uint32_t)size };
	struct node *node;

	if (size > TREE_NODE_MAX)
		return 0;
	/* Let the input pass the cheap checks. */
	ptr.sum = XXH3_64bits(data, size);
	if (size >= NODE_HEADER_BYTES)
		ptr.pos = get_le64(data + NODE_OFF_POS);
	if (!node_decode(data, size, &ptr, -1, &node)) {
		uint8_t buf[TREE_NODE_MAX];
		volatile uint64_t sink = 0;

		for (unsigned int i = 0; i < node->n; i++) {
			struct key k = node_key(node, i);
			struct val v = node_val(node, i);

			sink += k.off + (v.len ? v.p[v.len - 1] : 0);
		}
		(void)sink;
		ASSERT(node_encoded_bytes(node) == size);
		node_encode(node, buf);
		(void)node_seal(ptr.pos, buf, size);
		ASSERT(!memcmp(buf, data, size));
		clean_node_put(node);
	}
	return 0;
}
