/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as a record: nothing but an error or a record that encodes again
 * to the same bytes. */
#include "txn/format.h"
#include "txn/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t zero[16];
	struct record rec;
	const uint8_t *uuid = zero;
	uint64_t pos = 0;
	size_t need;

	if (size >= REC_HEADER_BYTES) {
		/* Let the input pass the cheap checks. */
		uuid = data + REC_OFF_UUID;
		pos = get_le64(data + REC_OFF_POS);
	}
	if (!record_decode(data, size, pos, uuid, &rec, &need)) {
		uint8_t *buf = malloc(record_bytes(&rec));

		if (buf) {
			record_encode(&rec, buf);
			ASSERT(!memcmp(buf, data, record_bytes(&rec)));
		}
		free(buf);
		record_release(&rec);
	}
	return 0;
}
