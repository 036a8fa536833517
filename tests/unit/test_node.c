/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "txn/node.h"

#include "tests/lib/test.h"
#include "txn/cache.h"

static struct node *sample(unsigned int n)
{
	struct node *node = node_new();
	uint8_t value[40];

	assert_non_null(node);
	for (unsigned int i = 0; i < n; i++) {
		struct key key = KEY(10 + i / 4, 2, i * 3);

		memset(value, (int)i, sizeof(value));
		node_insert(node, i, &key, value, i % sizeof(value), NULL);
	}
	return node;
}

static void test_what_is_encoded_is_decoded(void **state)
{
	struct node *node = sample(30), *got;
	size_t len = node_encoded_bytes(node);
	uint8_t buf[TREE_NODE_MAX];
	struct ptr ptr;

	node_encode(node, buf);
	ptr = node_seal(0x8001230, buf, len);
	assert_int_equal(ptr.pos, 0x8001230);
	assert_int_equal(ptr.len, len);
	assert_int_equal(node_decode(buf, len, &ptr, 0, &got), 0);
	assert_int_equal(got->n, 30);
	for (unsigned int i = 0; i < 30; i++) {
		struct key a = node_key(node, i), b = node_key(got, i);
		struct val v = node_val(got, i);

		assert_int_equal(key_cmp(&a, &b), 0);
		assert_int_equal(v.len, i % 40);
		for (size_t k = 0; k < v.len; k++)
			assert_int_equal(v.p[k], i);
	}
	clean_node_put(got);
	node_free_memory(node);
}

static void test_every_flipped_bit_is_seen(void **state)
{
	struct node *node = sample(6), *got;
	size_t len = node_encoded_bytes(node);
	uint8_t buf[TREE_NODE_MAX];
	struct ptr ptr;

	node_encode(node, buf);
	ptr = node_seal(0x8001230, buf, len);
	for (size_t bit = 0; bit < len * 8; bit++) {
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(node_decode(buf, len, &ptr, 0, &got),
				 -EFSBADCRC);
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	node_free_memory(node);
}

static void test_an_intact_node_elsewhere_or_of_another_level(void **state)
{
	struct node *node = sample(6), *got;
	size_t len = node_encoded_bytes(node);
	uint8_t buf[TREE_NODE_MAX];
	struct ptr ptr;

	node_encode(node, buf);
	ptr = node_seal(0x8001230, buf, len);
	assert_int_equal(node_decode(buf, len, &ptr, 1, &got), -EFSCORRUPTED);
	ptr.pos += 8;
	assert_int_equal(node_decode(buf, len, &ptr, 0, &got), -EFSCORRUPTED);
	node_free_memory(node);
}

static void test_bounds_and_removal(void **state)
{
	struct node *node = sample(20);
	struct key key = KEY(12, 2, 25); /* between 24 and 27 */

	assert_int_equal(node_lower_bound(node, &key), 9);
	key.off = 27;
	assert_int_equal(node_lower_bound(node, &key), 9);
	node_remove(node, 9);
	assert_int_equal(node->n, 19);
	assert_int_equal(node_key(node, 9).off, 30);
	key = KEY(99, 0, 0);
	assert_int_equal(node_lower_bound(node, &key), 19);
	node_free_memory(node);
}

static void test_a_node_takes_no_more_than_fits(void **state)
{
	struct node *node = node_new();
	static const uint8_t value[TREE_VALUE_MAX];
	unsigned int n = 0;

	assert_non_null(node);
	while (node_fits(node, sizeof(value))) {
		struct key key = KEY(1, 1, n);

		node_insert(node, n++, &key, value, sizeof(value), NULL);
	}
	assert_true(n >= 3);
	assert_true(node_encoded_bytes(node) <= TREE_NODE_MAX);
	assert_true(node_encoded_bytes(node) + item_bytes(sizeof(value)) >
		    TREE_NODE_MAX);
	node_free_memory(node);
}

/* What is below the first separator of an internal node is the parent's affair.
 */
static void test_keys_lie_within_what_the_parents_give(void **state)
{
	struct node *node = sample(4); /* (10, 2, 0) to (10, 2, 9) */
	struct key lo = KEY(10, 2, 0), hi = KEY(10, 2, 9);
	struct key above = KEY(10, 2, 1), below = KEY(10, 2, 8);

	assert_true(node_in_bounds(node, &lo, &hi));
	assert_false(node_in_bounds(node, &above, &hi));
	assert_false(node_in_bounds(node, &lo, &below));
	node->level = 1;
	assert_true(node_in_bounds(node, &above, &hi));
	above = KEY(10, 2, 4);
	assert_false(node_in_bounds(node, &above, &hi));
	assert_false(node_in_bounds(node, &lo, &below));
	node->level = 0;
	node_free_memory(node);
}

static void check_same(const struct node *a, const struct node *b)
{
	assert_int_equal(a->n, b->n);
	assert_int_equal(a->level, b->level);
	assert_int_equal(a->live, b->live);
	for (unsigned int i = 0; i < a->n; i++) {
		struct key ka = node_key(a, i), kb = node_key(b, i);
		struct val va = node_val(a, i), vb = node_val(b, i);

		assert_int_equal(key_cmp(&ka, &kb), 0);
		assert_int_equal(va.len, vb.len);
		assert_memory_equal(va.p, vb.p, va.len);
	}
}

/* What is written is not read back: the node of it is made from the same bytes.
 */
static void test_the_node_of_what_was_encoded(void **state)
{
	struct node *node = sample(30), *got, *decoded;
	struct lbuf *buf;
	struct ptr ptr;

	node_remove(node, 7); /* a gap */
	buf = lbuf_new(node_encoded_bytes(node));
	assert_non_null(buf);
	node_encode(node, buf->data);
	ptr = node_seal(0x8001230, buf->data, buf->len);
	got = node_of_encoded(node, buf, &ptr);
	assert_non_null(got);
	assert_int_equal(node_decode(buf->data, buf->len, &ptr, 0, &decoded),
			 0);
	assert_int_equal(buf->refs, 2);
	lbuf_put(buf);
	assert_true(ptr_eq(&got->ptr, &ptr) && node_is_written(got));
	assert_false(got->dirty);
	assert_int_equal(got->cap, decoded->cap);
	assert_int_equal(got->used, decoded->used);
	check_same(got, node);
	check_same(got, decoded);
	clean_node_put(got);
	clean_node_put(decoded);
	node_free_memory(node);
}

static void test_a_copy_is_changed_alone(void **state)
{
	struct node *node = sample(30), *copy = node_new();
	uint8_t value[40];

	assert_non_null(copy);
	node_remove(node, 3);
	node_copy(copy, node);
	check_same(copy, node);
	memset(value, 0xee, sizeof(value));
	node_set_val(copy, 10, value); /* of 11 bytes */
	assert_memory_equal(node_val(copy, 10).p, value, 11);
	assert_int_equal(node_val(node, 10).p[0], 11);
	assert_int_equal(node_val(copy, 11).p[0], 12);
	node_remove(copy, 0);
	assert_int_equal(node->n, 29);
	node_free_memory(copy);
	node_free_memory(node);
}

static void test_a_copy_holds_the_children(void **state)
{
	struct node *node = node_new(), *copy = node_new(), *child = sample(3);
	struct key key = KEY(10, 2, 0);
	uint8_t ptr[PTR_BYTES] = { 1 };

	assert_true(node && copy);
	node_clear(node, 1);
	node_insert(node, 0, &key, NULL, PTR_BYTES, child);
	key.obj++;
	node_insert(node, 1, &key, ptr, PTR_BYTES, NULL);
	node_copy(copy, node);
	check_same(copy, node);
	assert_ptr_equal(copy->child[0], child);
	assert_null(copy->child[1]);
	assert_int_equal(child->refs, 2);
	node_free_memory(copy);
	node_free_memory(node);
	node_free_memory(child);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_encoded_is_decoded),
		cmocka_unit_test(test_every_flipped_bit_is_seen),
		cmocka_unit_test(test_the_node_of_what_was_encoded),
		cmocka_unit_test(test_a_copy_is_changed_alone),
		cmocka_unit_test(test_a_copy_holds_the_children),
		cmocka_unit_test(
			test_an_intact_node_elsewhere_or_of_another_level),
		cmocka_unit_test(test_bounds_and_removal),
		cmocka_unit_test(test_a_node_takes_no_more_than_fits),
		cmocka_unit_test(test_keys_lie_within_what_the_parents_give)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
