/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as an item of the catalog: 1 byte object, 1 byte kind, 8 bytes off,
 * the value. */
#include "txn/store_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ptr ptr;
	struct key key;
	struct val v;

	if (size < 10)
		return 0;
	key = KEY(data[0], data[1], get_le64(data + 2));
	v = (struct val){ .p = data + 10, .len = size - 10 };
	(void)catalog_check_item(&key, &v);
	(void)catalog_item_root(&key, &v, &ptr);
	return 0;
}
