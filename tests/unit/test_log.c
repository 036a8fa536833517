/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "txn/log.h"

#include "tests/lib/simdev.h"
#include "tests/lib/test.h"

static struct log *open_log(struct simdev *sim, struct env *env)
{
	struct log_params p = { .dev = simdev_dev(sim), .env = env };
	struct log *log;

	assert_int_equal(log_open(&p, &log), 0);
	return log;
}

/* Whatever is cut off after a flush, the flushed bytes are there. */
static void test_flushed_bytes_survive_every_power_cut(void **state)
{
	struct simdev *sim = simdev_new();
	struct dev *dev = simdev_dev(sim);
	struct lbuf *b = lbuf_new(5000);
	struct log *log;
	struct env env;
	uint8_t got[5000];
	uint64_t pos;
	size_t done;

	env_init_host(&env);
	assert_int_equal(dev->ops->mkdir(dev, "log"), 0);
	assert_int_equal(dev->ops->sync_dir(dev, ""), 0);
	log = open_log(sim, &env);
	assert_int_equal(log_start(log), 0);
	memset(b->data, 0x5a, b->len);
	assert_int_equal(log_append(log, LOG_SMALL, 8, &b, 1, &pos), 0);
	assert_int_equal(log_read(log, pos, got, sizeof(got)), 0);
	assert_int_equal(got[4999], 0x5a);
	assert_int_equal(log_flush(log, LOG_SMALL, NULL), 0);
	done = simdev_ops(sim);
	log_close(log, false);
	for (int mode = 0; mode < SIM_MODES; mode++) {
		struct simdev *img = simdev_image(sim, done, mode, 7);
		struct log *l = open_log(img, &env);

		memset(got, 0, sizeof(got));
		assert_int_equal(log_read(l, pos, got, sizeof(got)), 0);
		for (size_t i = 0; i < sizeof(got); i++)
			assert_int_equal(got[i], 0x5a);
		log_close(l, false);
		simdev_free(img);
	}
	simdev_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flushed_bytes_survive_every_power_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
