/* SPDX-License-Identifier: GPL-2.0-or-later */
/* utf8.c - see utf8.h. */
#include "fs/utf8.h"

size_t utf8_printable(const char *str, size_t len)
{
	const unsigned char *s = (const unsigned char *)str;
	uint32_t c;
	size_t n;

	if (!len)
		return 0;
	if (s[0] < 0x80)
		return s[0] >= 0x20 && s[0] != 0x7f;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		n = 2;
	else if ((s[0] & 0xf0) == 0xe0)
		n = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		n = 4;
	else
		return 0;
	if (n > len)
		return 0;
	c = s[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3fu);
	}
	if ((n == 2 && c < 0xa0) || (n == 3 && c < 0x800) ||
	    (n == 4 && (c < 0x10000 || c > 0x10ffff)) ||
	    (c >= 0xd800 && c <= 0xdfff))
		return 0; /* C1 controls, overlong, surrogates */
	return n;
}

void utf8_clip(char *s)
{
	size_t len = strlen(s), at = len;

	while (at && len - at < 4 && (s[at - 1] & 0xc0) == 0x80)
		at--;
	/* What begins there, if its bytes are not all there. */
	if (at && (s[at - 1] & 0xc0) == 0xc0 &&
	    utf8_printable(s + at - 1, len - at + 1) != len - at + 1)
		s[at - 1] = '\0';
}
