/* SPDX-License-Identifier: GPL-2.0-or-later */
/* format_text.c - see format_text.h. FORMAT.md 1. */
#include "txn/format_text.h"

#include "txn/store.h"
#include "txn/sum.h"

static const char first_key[] = "txnfs-store";

/* The last line is a sum of all before it. */
#define SUM_KEY "sum "
enum { SUM_LINE_BYTES = sizeof(SUM_KEY) - 1 + 16 + 1 };

void uuid_to_text(const uint8_t uuid[16], char out[37])
{
	static const char hex[] = "0123456789abcdef";
	size_t n = 0;

	for (size_t i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			out[n++] = '-';
		out[n++] = hex[uuid[i] >> 4];
		out[n++] = hex[uuid[i] & 15];
	}
	out[n] = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int uuid_from_text(const char *text, uint8_t out[16])
{
	uint8_t uuid[16];

	if (strlen(text) != 36)
		return -EFSCORRUPTED;
	for (size_t i = 0; i < 16; i++) {
		int hi, lo;

		if (i == 4 || i == 6 || i == 8 || i == 10)
			if (*text++ != '-')
				return -EFSCORRUPTED;
		hi = hex_digit(text[0]);
		lo = hex_digit(text[1]);
		if (hi < 0 || lo < 0)
			return -EFSCORRUPTED;
		uuid[i] = (uint8_t)(hi << 4 | lo);
		text += 2;
	}
	memcpy(out, uuid, 16);
	return 0;
}

const char *format_text_get(const struct format_text *f, const char *key)
{
	size_t len = strlen(key);
	const char *p = f->text, *end = f->text + f->text_bytes;

	while (p < end) {
		if (!strncmp(p, key, len) && p[len] == ' ')
			return p + len + 1;
		p += strlen(p) + 1;
	}
	return NULL;
}

/* Decimal digits only. */
static int get_u64(const struct format_text *f, const char *key, uint64_t *out)
{
	const char *s = format_text_get(f, key);
	uint64_t v = 0;

	if (!s || !*s)
		return -EFSCORRUPTED;
	for (; *s; s++) {
		unsigned int d = (unsigned int)(*s - '0');

		if (d > 9 || v > (UINT64_MAX - d) / 10)
			return -EFSCORRUPTED;
		v = v * 10 + d;
	}
	*out = v;
	return 0;
}

/* Copy and cut into lines; the last one must end. */
static int cut_lines(const char *text, size_t len, struct format_text *f)
{
	size_t lines = 0;

	if (!len || len > FORMAT_TEXT_MAX_BYTES || text[len - 1] != '\n')
		return -EFSCORRUPTED;
	for (size_t i = 0; i < len; i++) {
		if (!text[i])
			return -EFSCORRUPTED;
		f->text[i] = text[i];
		if (text[i] == '\n') {
			f->text[i] = '\0';
			lines++;
		}
	}
	f->text[len] = '\0';
	f->text_bytes = len;
	return lines > FORMAT_TEXT_LINES ? -EFSCORRUPTED : 0;
}

static void write_sum_line(const char *text, size_t len,
			   char out[SUM_LINE_BYTES + 1])
{
	snprintf(out, SUM_LINE_BYTES + 1, SUM_KEY "%016llx\n",
		 (unsigned long long)sum64(text, len));
}

/* Where the line of the sum begins; len: there is none. A key that is this one
 * but for a bit is it, damaged. */
static size_t sum_line(const char *text, size_t len)
{
	size_t at = len > SUM_LINE_BYTES ? len - SUM_LINE_BYTES : len;

	return at < len && __builtin_popcount(get_le32(text + at) ^
					      get_le32(SUM_KEY)) <= 1
		       ? at
		       : len;
}

/* Stores that were made before there was one have none. */
static int check_sum(const char *text, size_t len)
{
	char line[SUM_LINE_BYTES + 1];
	size_t at = sum_line(text, len);

	if (at == len)
		return 0;
	write_sum_line(text, at, line);
	return memcmp(text + at, line, SUM_LINE_BYTES) ? -EFSBADCRC : 0;
}

int format_text_parse(const char *text, size_t len, struct format_text *out)
{
	struct format_text f = { 0 };
	uint8_t uuid[16];
	const char *s;
	uint64_t v;
	int err;

	err = cut_lines(text, len, &f);
	if (!err)
		err = check_sum(text, len);
	if (err)
		return err;
	if (strncmp(f.text, first_key, sizeof(first_key) - 1))
		return -EFSCORRUPTED;
	err = get_u64(&f, first_key, &v);
	if (err || v > UINT32_MAX)
		return -EFSCORRUPTED;
	f.version = (unsigned int)v;
	if (!f.version || f.version > STORE_FORMAT_VERSION) {
		*out = f;
		return -EPROTONOSUPPORT;
	}
	s = format_text_get(&f, "uuid");
	if (!s || uuid_from_text(s, uuid))
		return -EFSCORRUPTED;
	uuid_to_text(uuid, f.uuid);
	err = get_u64(&f, "small_segment_bytes", &f.small_segment_bytes);
	if (!err)
		err = get_u64(&f, "bulk_segment_bytes", &f.bulk_segment_bytes);
	if (!err)
		err = get_u64(&f, "reserve_bytes", &f.reserve_bytes);
	if (err)
		return err;
	*out = f;
	return 0;
}

int format_text_heal(char *text, size_t len, struct format_text *out)
{
	int err = format_text_parse(text, len, out);

	if (!err || err == -EPROTONOSUPPORT || len > FORMAT_TEXT_MAX_BYTES)
		return err;
	for (size_t bit = 0; bit < len * 8; bit++) {
		text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
		if (sum_line(text, len) < len &&
		    !format_text_parse(text, len, out))
			return 0;
		text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
	}
	return err;
}

void format_text_write(const struct format_text *f, char *out)
{
	int n = snprintf(out, FORMAT_TEXT_MAX_BYTES,
			 "%s %u\n"
			 "uuid %s\n"
			 "small_segment_bytes %llu\n"
			 "bulk_segment_bytes %llu\n"
			 "reserve_bytes %llu\n",
			 first_key, f->version, f->uuid,
			 (unsigned long long)f->small_segment_bytes,
			 (unsigned long long)f->bulk_segment_bytes,
			 (unsigned long long)f->reserve_bytes);

	ASSERT(n > 0 && n + SUM_LINE_BYTES < FORMAT_TEXT_MAX_BYTES);
	write_sum_line(out, (size_t)n, out + n);
}
