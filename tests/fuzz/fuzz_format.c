/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as .txn/format: what is accepted is the same after writing. */
#include "txn/format_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct format_text f, g;
	char text[FORMAT_TEXT_MAX_BYTES];

	if (!format_text_parse((const char *)data, size, &f)) {
		format_text_write(&f, text);
		ASSERT(!format_text_parse(text, strlen(text), &g));
		ASSERT(!strcmp(f.uuid, g.uuid));
		ASSERT(f.reserve_bytes == g.reserve_bytes);
	}
	return 0;
}
