/* SPDX-License-Identifier: GPL-2.0-or-later */
/* item.c: windows, whose blocks may be packed. */
#include "fs/item.h"

#include "tests/lib/test.h"
#include "txn/sum.h"

enum {
	PAGE = EXTENT_BLOCK_BYTES,
	BASE = 1 << 28, /* a place in the log */
	ANY = 1000 /* a length */
};

static void set(struct item_window *w, unsigned int i, uint64_t pos,
		unsigned int len)
{
	w->mask |= (uint64_t)1 << i;
	w->pos[i] = pos;
	w->sum[i] = pos * 31 + len;
	w->len[i] = (uint16_t)len;
}

static void assert_same(const struct item_window *a,
			const struct item_window *b)
{
	assert_true(a->mask == b->mask);
	for (unsigned int i = 0; i < EXTENT_BLOCKS_MAX; i++) {
		if (!(a->mask >> i & 1))
			continue;
		assert_int_equal(a->pos[i], b->pos[i]);
		assert_int_equal(a->sum[i], b->sum[i]);
		assert_int_equal(a->len[i], b->len[i]);
	}
}

/* Returns how long the item is. */
static size_t assert_comes_back(const struct item_window *w)
{
	uint8_t buf[ITEM_EXTENT_MAX];
	struct val v = { .p = buf,
			 .len = (uint16_t)item_window_encode(w, buf) };
	struct item_window got;

	assert_int_equal(item_window_decode(&v, 0, &got), 0);
	assert_same(w, &got);
	return v.len;
}

static void test_a_small_file_is_one_extent(void **state)
{
	struct item_window w = { .mask = 0 };
	unsigned int i = 0;

	set(&w, 0, BASE + EXTENT_UNIT_BYTES, PAGE);
	set(&w, 1, BASE + EXTENT_UNIT_BYTES + PAGE, ANY);
	assert_int_equal(item_window_extent(&w, &i), 2);
	assert_int_equal(item_window_bytes(&w, 0, 2), PAGE + ANY);
	assert_int_equal(assert_comes_back(&w),
			 EXTENT_HEADER_BYTES + EXTENT_PACKED_BYTES + 2 * 8);
	/* Nothing can follow a short block. */
	set(&w, 2, BASE + EXTENT_UNIT_BYTES + 2 * PAGE, PAGE);
	assert_int_equal(item_window_extent(&w, &i), 2);
	(void)assert_comes_back(&w);
}

static void test_whole_pages_are_as_in_format_1(void **state)
{
	struct item_window w = { .mask = 0 };

	for (unsigned int i = 0; i < EXTENT_BLOCKS_MAX; i++)
		set(&w, i, BASE + (uint64_t)i * PAGE, PAGE);
	assert_int_equal(assert_comes_back(&w), EXTENT_HEADER_BYTES +
							EXTENT_RUN_BYTES +
							8 * EXTENT_BLOCKS_MAX);
	/* What is left of a packed file, and begins with a page. */
	w.mask = 0xf;
	assert_int_equal(assert_comes_back(&w),
			 EXTENT_HEADER_BYTES + EXTENT_RUN_BYTES + 8 * 4);
}

/* As many pieces as there can be, packed as far as they may be. */
static void test_the_worst_window_fits(void **state)
{
	struct item_window w = { .mask = 0 };

	for (unsigned int i = 0; i < EXTENT_BLOCKS_MAX; i++)
		if (i < EXTENT_PACKED_MAX)
			set(&w, i, BASE + (uint64_t)i * 3 * PAGE, ANY + i);
		else
			set(&w, i, BASE + (uint64_t)i * 3 * PAGE, PAGE);
	assert_int_equal(assert_comes_back(&w), ITEM_EXTENT_MAX);
	assert_in_range(ITEM_EXTENT_MAX, 1, TREE_VALUE_MAX);
	/* The least and the most that lies there, and far away. */
	set(&w, 0, ((uint64_t)1 << 58) - EXTENT_UNIT_BYTES, 1);
	set(&w, 1, BASE + EXTENT_UNIT_BYTES, PAGE);
	(void)assert_comes_back(&w);
}

static int decode(const uint8_t *buf, size_t len, uint64_t off)
{
	struct val v = { .p = buf, .len = (uint16_t)len };
	struct item_window got;

	return item_window_decode(&v, off, &got);
}

static void test_what_is_no_window_is_refused(void **state)
{
	struct item_window w = { .mask = 0 };
	uint8_t buf[ITEM_EXTENT_MAX + 8], *run = buf + EXTENT_HEADER_BYTES;
	size_t len;

	set(&w, EXTENT_PACKED_MAX - 1, BASE, ANY);
	len = item_window_encode(&w, buf);
	assert_int_equal(decode(buf, len, 0), 0);
	/* Only in the first window of a file. */
	assert_int_equal(decode(buf, len, ITEM_WINDOW_BYTES), -EFSCORRUPTED);
	for (size_t n = 0; n < len; n++)
		assert_int_equal(decode(buf, n, 0), -EFSCORRUPTED);
	assert_int_equal(decode(buf, len + 8, 0), -EFSCORRUPTED);
	/* One block further. */
	put_le64(buf + EXTENT_OFF_MASK, w.mask << 1);
	assert_int_equal(decode(buf, len, 0), -EFSCORRUPTED);
	put_le64(buf + EXTENT_OFF_MASK, w.mask);
	run[0] = EXTENT_PACKED; /* no block */
	assert_int_equal(decode(buf, len, 0), -EFSCORRUPTED);
	run[0] = EXTENT_PACKED | 2;
	assert_int_equal(decode(buf, len, 0), -EFSCORRUPTED);
	run[0] = EXTENT_PACKED | 1;
	put_le64(run + 1, ANY); /* no position */
	assert_int_equal(decode(buf, len, 0), -EFSCORRUPTED);
}

/* A block that was longer on the disk is another one. */
static void test_what_follows_the_stored_bytes_counts(void **state)
{
	uint8_t block[PAGE] = { 1, 2, 3 };
	struct item_window w = { .mask = 0 };

	set(&w, 0, BASE, PAGE);
	w.sum[0] = item_block_sum(block);
	assert_true(item_block_matches(&w, 0, block));
	w.len[0] = 3;
	assert_false(item_block_matches(&w, 0, block));
	assert_false(item_stored_matches(&w, 0, block));
	w.sum[0] = sum64(block, 3);
	assert_true(item_block_matches(&w, 0, block));
	block[PAGE - 1] = 1;
	assert_true(item_stored_matches(&w, 0, block));
	assert_false(item_block_matches(&w, 0, block));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_small_file_is_one_extent),
		cmocka_unit_test(test_whole_pages_are_as_in_format_1),
		cmocka_unit_test(test_the_worst_window_fits),
		cmocka_unit_test(test_what_is_no_window_is_refused),
		cmocka_unit_test(test_what_follows_the_stored_bytes_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
