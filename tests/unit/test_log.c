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

struct fixture {
	struct simdev *sim;
	struct env env;
	struct log *log;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct dev *dev;

	assert_non_null(f);
	*state = f;
	f->sim = simdev_new();
	dev = simdev_dev(f->sim);
	env_init_host(&f->env);
	assert_int_equal(dev->ops->mkdir(dev, "log"), 0);
	assert_int_equal(dev->ops->sync_dir(dev, ""), 0);
	f->log = open_log(f->sim, &f->env);
	assert_int_equal(log_start(f->log), 0);
	assert_int_equal(log_room(f->log, 65536, 0, false), 0);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	log_close(f->log, false);
	simdev_free(f->sim);
	free(f);
	return 0;
}

static uint64_t append(struct log *log, size_t len, int byte)
{
	struct lbuf *b = lbuf_new(len);
	uint64_t pos = 0;

	assert_non_null(b);
	memset(b->data, byte, len);
	assert_int_equal(log_append(log, LOG_SMALL, 1, &b, 1, &pos), 0);
	return pos;
}

static void assert_bytes(struct log *log, uint64_t pos, size_t len, int byte)
{
	uint8_t *got = calloc(1, len);

	assert_non_null(got);
	assert_int_equal(log_read(log, pos, got, len), 0);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(got[i], byte);
	free(got);
}

/* After the flush more is appended and written to the host: wherever the
 * power goes from the flush on, the flushed bytes are there. */
static void test_flushed_bytes_survive_a_power_cut(void **state)
{
	struct fixture *f = *state;
	uint64_t pos = append(f->log, 5000, 0x5a);
	size_t done, cut;

	assert_bytes(f->log, pos, 5000, 0x5a);
	assert_int_equal(log_flush(f->log, LOG_SMALL, NULL), 0);
	done = simdev_ops(f->sim);
	for (int i = 0; i < 4; i++) {
		(void)append(f->log, 3000, 0x11);
		assert_int_equal(log_write_out(f->log, LOG_SMALL), 0);
	}
	assert_true(simdev_ops(f->sim) >= done + 4);
	for (cut = done; cut <= simdev_ops(f->sim); cut++) {
		for (int mode = 0; mode < SIM_MODES; mode++) {
			struct simdev *img = simdev_image(f->sim, cut, mode, 7);
			struct log *l = open_log(img, &f->env);

			assert_bytes(l, pos, 5000, 0x5a);
			log_close(l, false);
			simdev_free(img);
		}
	}
}

/* Neighbours of which one was written out and the other waits in memory. */
static void test_a_read_joins_the_file_and_what_waits(void **state)
{
	struct fixture *f = *state;
	uint8_t got[300];
	struct log_range r[2] = { { .buf = got, .len = 100 },
				  { .buf = got + 100, .len = 200 } };

	r[0].pos = append(f->log, 100, 1);
	assert_int_equal(log_write_out(f->log, LOG_SMALL), 0);
	r[1].pos = append(f->log, 200, 2);
	assert_int_equal(r[1].pos, r[0].pos + 100);
	assert_int_equal(log_readv(f->log, r, 2), 0);
	assert_int_equal(got[99], 1);
	assert_int_equal(got[100], 2);
	assert_int_equal(got[299], 2);
}

static void test_a_failed_flush_stops_the_log(void **state)
{
	struct fixture *f = *state;
	uint64_t pos = append(f->log, 100, 1);
	uint64_t other;

	simdev_fail(f->sim, SIM_SYNC, 1, EIO, false);
	assert_int_equal(log_flush(f->log, LOG_SMALL, NULL), -EIO);
	assert_true(simdev_has_failed(f->sim));
	/* The device works again: still nothing is retried. */
	assert_int_equal(log_flush(f->log, LOG_SMALL, NULL), -EIO);
	assert_int_equal(log_room(f->log, 1, 0, true), -EROFS);
	/* In memory, to be looked at. */
	other = append(f->log, 10, 2);
	assert_bytes(f->log, other, 10, 2);
	assert_bytes(f->log, pos, 100, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_flushed_bytes_survive_a_power_cut, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_a_read_joins_the_file_and_what_waits, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_a_failed_flush_stops_the_log, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
