/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "txn/format_text.h"

#include "txn/store.h"

#include "tests/lib/test.h"

static const char good[] = "txnfs-store 1\n"
			   "uuid 01234567-89ab-cdef-0123-456789abcdef\n"
			   "small_segment_bytes 1048576\n"
			   "bulk_segment_bytes 8388608\n"
			   "reserve_bytes 1048576\n"
			   "colour blue\n";

static void test_fields_and_unknown_keys_are_read(void **state)
{
	struct format_text f;

	assert_int_equal(format_text_parse(good, sizeof(good) - 1, &f), 0);
	assert_int_equal(f.version, 1);
	assert_string_equal(f.uuid, "01234567-89ab-cdef-0123-456789abcdef");
	assert_int_equal(f.small_segment_bytes, 1048576);
	assert_int_equal(f.bulk_segment_bytes, 8388608);
	assert_int_equal(f.reserve_bytes, 1048576);
	assert_string_equal(format_text_get(&f, "colour"), "blue");
	assert_null(format_text_get(&f, "colou"));
	assert_null(format_text_get(&f, "blue"));
}

static void test_every_known_version_is_read(void **state)
{
	char text[FORMAT_TEXT_MAX_BYTES];
	struct format_text f, g;

	assert_int_equal(format_text_parse(good, sizeof(good) - 1, &f), 0);
	for (unsigned int v = 1; v <= STORE_FORMAT_VERSION + 1; v++) {
		f.version = v;
		format_text_write(&f, text);
		assert_int_equal(format_text_parse(text, strlen(text), &g),
				 v <= STORE_FORMAT_VERSION ? 0
							   : -EPROTONOSUPPORT);
		assert_int_equal(g.version, v);
	}
}

static void test_what_is_written_is_read(void **state)
{
	char text[FORMAT_TEXT_MAX_BYTES];
	struct format_text f, g;

	assert_int_equal(format_text_parse(good, sizeof(good) - 1, &f), 0);
	format_text_write(&f, text);
	assert_int_equal(format_text_parse(text, strlen(text), &g), 0);
	assert_string_equal(f.uuid, g.uuid);
	assert_int_equal(f.bulk_segment_bytes, g.bulk_segment_bytes);
}

static void test_other_versions_are_told_apart_from_damage(void **state)
{
	static const char newer[] = "txnfs-store 7\nwhatever\n";
	static const char zero[] = "txnfs-store 0\nwhatever\n";
	static const char other[] = "something else\n";
	static const char late[] =
		"uuid 01234567-89ab-cdef-0123-456789abcdef\n"
		"txnfs-store 1\n"
		"small_segment_bytes 1\nbulk_segment_bytes 1\n"
		"reserve_bytes 1\n";
	struct format_text f;

	assert_int_equal(format_text_parse(newer, sizeof(newer) - 1, &f),
			 -EPROTONOSUPPORT);
	assert_int_equal(f.version, 7);
	assert_int_equal(format_text_parse(zero, sizeof(zero) - 1, &f),
			 -EPROTONOSUPPORT);
	assert_int_equal(format_text_parse(other, sizeof(other) - 1, &f),
			 -EFSCORRUPTED);
	assert_int_equal(format_text_parse(late, sizeof(late) - 1, &f),
			 -EFSCORRUPTED);
}

static void test_every_truncation_is_damage(void **state)
{
	/* The unknown last line may go without harm. */
	size_t needed = strlen(good) - strlen("colour blue\n");
	struct format_text f;

	for (size_t len = 0; len < needed; len++)
		assert_int_not_equal(format_text_parse(good, len, &f), 0);
	assert_int_equal(format_text_parse(good, needed, &f), 0);
}

static void test_numbers_out_of_range_are_damage(void **state)
{
	static const char big[] = "txnfs-store 1\n"
				  "uuid 01234567-89ab-cdef-0123-456789abcdef\n"
				  "small_segment_bytes 18446744073709551616\n"
				  "bulk_segment_bytes 1\nreserve_bytes 1\n";
	static const char sign[] = "txnfs-store 1\n"
				   "uuid 01234567-89ab-cdef-0123-456789abcdef\n"
				   "small_segment_bytes -1\n"
				   "bulk_segment_bytes 1\nreserve_bytes 1\n";
	struct format_text f;

	assert_int_equal(format_text_parse(big, sizeof(big) - 1, &f),
			 -EFSCORRUPTED);
	assert_int_equal(format_text_parse(sign, sizeof(sign) - 1, &f),
			 -EFSCORRUPTED);
}

/* Each bit of what is written: found and turned back. */
static void test_every_flipped_bit_is_healed(void **state)
{
	char text[FORMAT_TEXT_MAX_BYTES], bad[FORMAT_TEXT_MAX_BYTES];
	struct format_text f;
	size_t len;

	assert_int_equal(format_text_parse(good, sizeof(good) - 1, &f), 0);
	format_text_write(&f, text);
	len = strlen(text);
	for (size_t bit = 0; bit < len * 8; bit++) {
		int err;

		memcpy(bad, text, len);
		bad[bit / 8] = (char)(bad[bit / 8] ^ 1 << bit % 8);
		err = format_text_parse(bad, len, &f);
		assert_true(err == -EFSBADCRC || err == -EFSCORRUPTED);
		assert_int_equal(format_text_heal(bad, len, &f), 0);
		assert_memory_equal(bad, text, len);
	}
}

static void test_what_is_not_healed_stays_as_it_is(void **state)
{
	char text[FORMAT_TEXT_MAX_BYTES], bad[FORMAT_TEXT_MAX_BYTES];
	struct format_text f;
	size_t len;

	/* Two bits; of a file without a sum, one. */
	assert_int_equal(format_text_parse(good, sizeof(good) - 1, &f), 0);
	format_text_write(&f, text);
	len = strlen(text);
	text[5] ^= 1;
	text[17] ^= 2;
	memcpy(bad, text, len);
	assert_int_equal(format_text_heal(bad, len, &f), -EFSBADCRC);
	assert_memory_equal(bad, text, len);
	memcpy(bad, good, sizeof(good));
	bad[0] ^= 1;
	assert_int_equal(format_text_heal(bad, sizeof(good) - 1, &f),
			 -EFSCORRUPTED);
	assert_int_equal(bad[0] ^ 1, good[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields_and_unknown_keys_are_read),
		cmocka_unit_test(test_every_known_version_is_read),
		cmocka_unit_test(test_what_is_written_is_read),
		cmocka_unit_test(
			test_other_versions_are_told_apart_from_damage),
		cmocka_unit_test(test_every_truncation_is_damage),
		cmocka_unit_test(test_numbers_out_of_range_are_damage),
		cmocka_unit_test(test_every_flipped_bit_is_healed),
		cmocka_unit_test(test_what_is_not_healed_stays_as_it_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
