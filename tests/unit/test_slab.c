/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/slab.h"

#include "tests/lib/test.h"

struct thing {
	uint64_t number;
	char more[72]; /* blocks do not end with one */
};

enum { THINGS = 10000, ROUNDS = 200000 };

static void test_what_is_taken_is_told_apart_and_given_back(void **state)
{
	struct thing **t = calloc(THINGS, sizeof(*t));
	struct slab s = SLAB(struct thing);

	assert_non_null(t);
	for (size_t i = 0; i < THINGS; i++) {
		t[i] = slab_alloc(&s);
		assert_non_null(t[i]);
		memset(t[i], (int)i, sizeof(*t[i]));
		t[i]->number = i;
	}
	/* hardly more than they take themselves */
	assert_true(s.nblocks * SLAB_BLOCK_BYTES <
		    THINGS * sizeof(struct thing) * 104 / 100);
	for (size_t i = 0; i < THINGS; i++) {
		assert_int_equal(t[i]->number, i);
		assert_int_equal(t[i]->more[71], (char)i);
	}
	/* all of some blocks, then the rest */
	for (size_t i = 0; i < THINGS / 2; i++)
		slab_free(&s, t[i]);
	assert_in_range(s.nblocks * SLAB_BLOCK_BYTES, 1,
			THINGS * sizeof(struct thing) / 2 +
				3 * SLAB_BLOCK_BYTES);
	for (size_t i = THINGS; i-- > THINGS / 2;)
		slab_free(&s, t[i]);
	assert_int_equal(s.nblocks, 1); /* for the next */
	slab_release(&s);
	free(t);
}

static void test_any_order(void **state)
{
	struct thing **t = calloc(THINGS, sizeof(*t));
	struct slab s = SLAB(struct thing);
	uint64_t rng = 1;
	size_t n = 0;

	assert_non_null(t);
	for (size_t i = 0; i < ROUNDS; i++) {
		size_t k;

		rng = rng * 6364136223846793005ULL + 1442695040888963407ULL;
		k = (size_t)(rng >> 33) % THINGS;
		if (!t[k]) {
			t[k] = slab_alloc(&s);
			assert_non_null(t[k]);
			t[k]->number = k;
			n++;
		} else {
			assert_int_equal(t[k]->number, k);
			slab_free(&s, t[k]);
			t[k] = NULL;
			n--;
		}
	}
	assert_true(n > 0);
	for (size_t k = 0; k < THINGS; k++)
		if (t[k]) {
			assert_int_equal(t[k]->number, k);
			slab_free(&s, t[k]);
		}
	slab_release(&s);
	free(t);
}

/* A block that has room again is used before another is made; one object that
 * comes and goes makes none. */
static void test_room_is_used(void **state)
{
	struct slab s = SLAB(struct thing);
	struct thing *t[1000], *one;
	size_t blocks;

	for (size_t i = 0; i < 1000; i++) {
		t[i] = slab_alloc(&s);
		assert_non_null(t[i]);
	}
	blocks = s.nblocks;
	for (size_t i = 0; i < 1000; i += 2)
		slab_free(&s, t[i]);
	for (size_t i = 0; i < 1000; i += 2) {
		t[i] = slab_alloc(&s);
		assert_non_null(t[i]);
	}
	assert_int_equal(s.nblocks, blocks);
	for (size_t i = 0; i < 1000; i++)
		slab_free(&s, t[i]);
	one = slab_alloc(&s);
	slab_free(&s, one);
	assert_ptr_equal(slab_alloc(&s), one);
	slab_free(&s, one);
	slab_release(&s);
	assert_int_equal(s.nblocks, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_what_is_taken_is_told_apart_and_given_back),
		cmocka_unit_test(test_any_order),
		cmocka_unit_test(test_room_is_used),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
