/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes written to ctl: refused as a whole, or every line is a command. */
#include "fs/ctl_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *s = (const char *)data;
	bool good = !ctl_check(s, size);

	for (size_t at = 0; at < size;) {
		struct ctl_command c;
		size_t used;

		if (ctl_parse_line(s + at, size - at, &c, &used)) {
			ASSERT(!good);
			break;
		}
		ASSERT(used && used <= size - at);
		ASSERT(c.arg >= s && c.arg + c.arg_len <= s + size);
		ASSERT(!memchr(c.arg, '\n', c.arg_len));
		at += used;
	}
	return 0;
}
