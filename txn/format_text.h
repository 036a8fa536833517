/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * format_text.h - the file .txn/format: lines "KEY VALUE", the first of which
 * is "txnfs-store VERSION". It names the store and holds the parameters that
 * were chosen when it was made. FORMAT.md 1.
 *
 * No locks, no I/O.
 */
#ifndef TXN_FORMAT_TEXT_H
#define TXN_FORMAT_TEXT_H

#include "txn/base.h"

enum {
	FORMAT_TEXT_MAX_BYTES = 4096,
	FORMAT_TEXT_LINES = 32 /* more is not a format file */
};

struct format_text {
	unsigned int version;
	char uuid[37]; /* 36 characters and a NUL */
	uint64_t small_segment_bytes;
	uint64_t bulk_segment_bytes;
	uint64_t reserve_bytes;
	char text[FORMAT_TEXT_MAX_BYTES + 1]; /* the file, lines cut by NUL */
	size_t text_bytes;
};

/*
 * Any bytes. 0; -EPROTONOSUPPORT: a format file of an unknown version (version
 * is set); -EFSBADCRC: its sum does not match; -EFSCORRUPTED: not a format
 * file. Lines with unknown keys are kept; without a sum none is looked at.
 */
int format_text_parse(const char *text, size_t len, struct format_text *out);

/*
 * Turn the one bit back that makes the sum match, in place. 0, or what parsing
 * says: no bit does, or it is no damage.
 */
int format_text_heal(char *text, size_t len, struct format_text *out);

/* The value of any key, NULL when there is none. Valid as long as f. */
const char *format_text_get(const struct format_text *f, const char *key);

/* The file's text from the named fields; out holds FORMAT_TEXT_MAX_BYTES. */
void format_text_write(const struct format_text *f, char *out);

/* 36 characters from 16 bytes, and back (-EFSCORRUPTED). */
void uuid_to_text(const uint8_t uuid[16], char out[37]);
int uuid_from_text(const char *text, uint8_t out[16]);

#endif
