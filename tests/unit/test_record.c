/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "txn/record.h"

#include "tests/lib/simdev.h"
#include "tests/lib/test.h"

static const uint8_t uuid[16] = "0123456789abcde";

static struct record sample(size_t nroots)
{
	struct record rec = { .seq = 7,
			      .pos = 2ULL << 26 | 8192,
			      .prev_pos = 2ULL << 26,
			      .prev_sum = 99,
			      .lineage = 5,
			      .small_flushed = 11,
			      .bulk_flushed = 12,
			      .next_obj = 13,
			      .next_view = 14,
			      .head_number = 15,
			      .time_ns = -16,
			      .flags = 1 };

	memcpy(rec.uuid, uuid, 16);
	for (size_t i = 0; i < nroots; i++) {
		struct ptr ptr = { .pos = 100 + i, .sum = 3, .len = 4 };

		assert_int_equal(record_add_root(&rec, ROOT_VIEW, i, &ptr), 0);
	}
	return rec;
}

static uint8_t *encode(struct record *rec, size_t *len)
{
	uint8_t *buf;

	*len = record_bytes(rec);
	buf = malloc(*len);
	assert_non_null(buf);
	record_encode(rec, buf);
	return buf;
}

static void test_what_is_encoded_is_decoded(void **state)
{
	static const size_t counts[] = { 0, 1, 3, 1000 };

	for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
		struct record a = sample(counts[i]), b;
		size_t len, need;
		uint8_t *buf = encode(&a, &len);

		assert_int_equal(
			record_decode(buf, len, a.pos, uuid, &b, &need), 0);
		assert_int_equal(a.seq, b.seq);
		assert_int_equal(a.sum, b.sum);
		assert_int_equal(a.time_ns, b.time_ns);
		assert_int_equal(a.small_flushed, b.small_flushed);
		assert_int_equal(a.bulk_flushed, b.bulk_flushed);
		assert_int_equal(a.next_obj, b.next_obj);
		assert_int_equal(a.next_view, b.next_view);
		assert_int_equal(a.head_number, b.head_number);
		assert_int_equal(a.lineage, b.lineage);
		assert_int_equal(a.prev_pos, b.prev_pos);
		assert_int_equal(a.prev_sum, b.prev_sum);
		assert_int_equal(a.flags, b.flags);
		assert_int_equal(a.nroots, b.nroots);
		if (counts[i])
			assert_int_equal(record_find_root(&b, ROOT_VIEW,
							  counts[i] - 1)
						 .pos,
					 100 + counts[i] - 1);
		assert_int_equal(record_find_root(&b, ROOT_HEAD, 0).pos, 0);
		record_release(&a);
		record_release(&b);
		free(buf);
	}
}

static void test_every_flipped_bit_is_found(void **state)
{
	struct record a = sample(3), b;
	size_t len, need;
	uint8_t *buf = encode(&a, &len);

	for (size_t bit = 0; bit < len * 8; bit++) {
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_not_equal(
			record_decode(buf, len, a.pos, uuid, &b, &need), 0);
		buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	record_release(&a);
	free(buf);
}

static void test_a_record_of_another_place_or_store_is_none(void **state)
{
	static const uint8_t other[16] = "another store..";
	struct record a = sample(1), b;
	size_t len, need;
	uint8_t *buf = encode(&a, &len);

	assert_int_equal(record_decode(buf, len, a.pos + 4096, uuid, &b, &need),
			 -EFSCORRUPTED);
	assert_int_equal(record_decode(buf, len, a.pos, other, &b, &need),
			 -EFSCORRUPTED);
	record_release(&a);
	free(buf);
}

static void test_a_long_record_asks_for_its_length(void **state)
{
	struct record a = sample(1000), b;
	size_t len, need = 0;
	uint8_t *buf = encode(&a, &len);

	assert_int_equal(record_decode(buf, 4096, a.pos, uuid, &b, &need),
			 -EAGAIN);
	assert_int_equal(need, len);
	record_release(&a);
	free(buf);
}

/* A segment may have been cut right behind its last record. */
static void test_the_last_record_of_a_cut_segment_is_found(void **state)
{
	static const char name[] = "log/0000000000000002.s";
	struct record a = sample(1), b;
	struct simdev *sim = simdev_new();
	struct dev *dev = simdev_dev(sim);
	struct log_params p = { .dev = dev };
	struct dev_iov iov;
	struct dev_file *f;
	struct log *log;
	struct env env;
	uint8_t *buf = encode(&a, &iov.len);

	env_init_host(&env);
	p.env = &env;
	iov.buf = buf;
	assert_int_equal(dev->ops->mkdir(dev, "log"), 0);
	assert_int_equal(dev->ops->create(dev, name, &f), 0);
	assert_int_equal(dev->ops->writev(f, 8192, &iov, 1), 0);
	dev->ops->close(f);
	assert_int_equal(log_open(&p, &log), 0);
	assert_int_equal(record_find_last(log, uuid, UINT64_MAX, &b), 0);
	assert_int_equal(b.seq, a.seq);
	log_close(log, false);
	simdev_free(sim);
	record_release(&a);
	record_release(&b);
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_encoded_is_decoded),
		cmocka_unit_test(test_every_flipped_bit_is_found),
		cmocka_unit_test(
			test_a_record_of_another_place_or_store_is_none),
		cmocka_unit_test(test_a_long_record_asks_for_its_length),
		cmocka_unit_test(
			test_the_last_record_of_a_cut_segment_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
