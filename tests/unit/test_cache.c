/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "txn/cache.h"

#include "tests/lib/test.h"

static struct node *clean(uint64_t pos, struct ptr *ptr)
{
	struct node *node = node_new(), *got;
	struct key key = KEY(1, 1, pos);
	uint8_t buf[TREE_NODE_MAX], value[500] = { 0 };
	size_t len;

	node_insert(node, 0, &key, value, sizeof(value), NULL);
	len = node_encoded_bytes(node);
	node_encode(node, buf);
	*ptr = node_seal(pos, buf, len);
	node_free_memory(node);
	assert_int_equal(node_decode(buf, len, ptr, 0, &got), 0);
	return got;
}

static void test_found_by_the_whole_pointer(void **state)
{
	struct cache *c;
	struct ptr ptr, other;
	struct node *n;

	assert_int_equal(cache_new(1 << 20, &c), 0);
	n = clean(4096, &ptr);
	cache_add(c, n);
	clean_node_put(n);
	n = cache_find(c, &ptr);
	assert_non_null(n);
	clean_node_put(n);
	other = ptr;
	other.sum++;
	assert_null(cache_find(c, &other));
	cache_drop(c);
	assert_null(cache_find(c, &ptr));
	cache_free(c);
}

static void test_bytes_stay_bounded_and_used_ones_stay(void **state)
{
	enum { N = 2000, MAX = 256 << 10 };
	struct ptr first, ptr;
	struct cache *c;
	struct node *n;

	assert_int_equal(cache_new(MAX, &c), 0);
	n = clean(64, &first);
	cache_add(c, n);
	clean_node_put(n);
	for (uint64_t i = 1; i <= N; i++) {
		n = clean(4096 * i, &ptr);
		cache_add(c, n);
		clean_node_put(n);
		assert_true(cache_bytes(c) <= MAX + (64 << 10));
		n = cache_find(c, &first); /* used all the time */
		assert_non_null(n);
		clean_node_put(n);
	}
	cache_free(c);
}

static void test_a_held_node_outlives_the_cache(void **state)
{
	struct cache *c;
	struct ptr ptr;
	struct node *n;

	assert_int_equal(cache_new(1 << 20, &c), 0);
	n = clean(4096, &ptr);
	cache_add(c, n);
	cache_free(c);
	assert_int_equal(node_key(n, 0).off, 4096);
	clean_node_put(n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_found_by_the_whole_pointer),
		cmocka_unit_test(test_bytes_stay_bounded_and_used_ones_stay),
		cmocka_unit_test(test_a_held_node_outlives_the_cache)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
