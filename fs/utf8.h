/* SPDX-License-Identifier: GPL-2.0-or-later */
/* utf8.h - which bytes may be shown to people as they are. */
#ifndef FS_UTF8_H
#define FS_UTF8_H

#include "txn/base.h"

/* Bytes of the character at s (of at most len bytes, NUL counts as control);
 * 0: a control character or not UTF-8 (RFC 3629). */
size_t utf8_printable(const char *s, size_t len);
/* What was cut off behind a byte loses the rest of its last character. */
void utf8_clip(char *s);

#endif
